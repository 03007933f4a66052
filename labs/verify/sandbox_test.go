package verify

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/labs"
)

// saved makes what docker save writes: the old layout with <id>/layer.tar, or
// the one with blobs.
func saved(tb testing.TB, ref string, blobs bool, layers ...map[string]string) map[string]string {
	tb.Helper()
	files := make(map[string]string)
	m := savedImage{Config: "c.json", RepoTags: []string{ref}}
	for i, l := range layers {
		name := fmt.Sprintf("%064d/layer.tar", i)
		if blobs {
			name = fmt.Sprintf("blobs/sha256/%064d", i)
		}
		files[name] = string(rootfs(tb, l))
		m.Layers = append(m.Layers, name)
	}
	text, err := json.Marshal([]savedImage{m})
	if err != nil {
		tb.Fatal(err)
	}
	files["manifest.json"] = string(text)
	files["repositories"] = "{}"
	return files
}

func gzipped(tb testing.TB, b []byte) string {
	tb.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return z.String()
}

// layer has files in folders, as layers have.
var layer = map[string]string{
	"etc/": "/", "etc/redis.conf": "port 6379\n", "usr/local/bin/redis-server": "program", "usr/local/bin/start.sh": "#!/bin/sh\n",
	"usr/lib/.wh.old": "", "usr/local/bin/redis-cli": "program",
}

// TestSandboxChecks takes every kind of check that asks the sandbox alone from
// red to green.
func TestSandboxChecks(t *testing.T) {
	// unpack writes files below a folder of the home.
	unpack := func(t *testing.T, b *box, dir string, files map[string]string) {
		for name, text := range files {
			if text != "/" && !strings.HasPrefix(filepath.Base(name), ".wh.") {
				b.write(t, filepath.Join(dir, name), text, 0o644)
			}
		}
	}
	tests := []struct {
		name   string
		check  labs.Check
		before func(t *testing.T, b *box) // does not do it
		do     func(t *testing.T, b *box)
		seen   string // in what is seen before
	}{
		{
			name:  "file is there",
			check: labs.Check{File: &labs.FileCheck{Path: "~/notes/a.txt"}},
			do:    func(t *testing.T, b *box) { b.write(t, "notes/a.txt", "", 0o644) },
			seen:  "there is no `~/notes/a.txt`",
		},
		{
			name:   "file reads",
			check:  labs.Check{File: &labs.FileCheck{Path: "~/busybox/release", Text: labs.TextRule{Equals: ptr("KatacodaPrivateBuild")}}},
			before: func(t *testing.T, b *box) { b.write(t, "busybox/release", "\x1b[31mno\u202e", 0o644) },
			do:     func(t *testing.T, b *box) { b.write(t, "busybox/release", "KatacodaPrivateBuild\n", 0o644) },
			seen:   `release` + "` reads \"\\x1b[31mno\\u202e\"",
		},
		{
			name:   "one of several files",
			check:  labs.Check{File: &labs.FileCheck{Path: "~/**/*.txt", Text: labs.TextRule{Matches: regexp.MustCompile("^yes")}}},
			before: func(t *testing.T, b *box) { b.write(t, "a/1.txt", "no", 0o644) },
			do:     func(t *testing.T, b *box) { b.write(t, "b/c/2.txt", "yes", 0o644) },
		},
		{
			name:   "file is gone",
			check:  labs.Check{File: &labs.FileCheck{Path: "~/old", Text: labs.TextRule{Exists: ptr(false)}}},
			before: func(t *testing.T, b *box) { b.write(t, "old", "", 0o644) },
			do: func(t *testing.T, b *box) {
				os.Remove(filepath.Join(b.home, "old"))
				b.tell(labs.Change{File: filepath.Join(b.home, "old")})
			},
		},
		{
			name:   "mode",
			check:  labs.Check{File: &labs.FileCheck{Path: "~/run", Mode: "0750", Dir: ptr(false)}},
			before: func(t *testing.T, b *box) { b.write(t, "run", "", 0o644) },
			do:     func(t *testing.T, b *box) { b.write(t, "run", "", 0o750) },
			seen:   "has the mode 0644",
		},
		{
			name:   "may be executed",
			check:  labs.Check{File: &labs.FileCheck{Path: "~/run", Mode: "+x"}},
			before: func(t *testing.T, b *box) { b.write(t, "run", "", 0o644) },
			do:     func(t *testing.T, b *box) { b.write(t, "run", "", 0o755) },
		},
		{
			name:   "folder",
			check:  labs.Check{File: &labs.FileCheck{Path: "~/rootfs", Dir: ptr(true)}},
			before: func(t *testing.T, b *box) { b.write(t, "rootfs", "", 0o644) },
			do: func(t *testing.T, b *box) {
				os.Remove(filepath.Join(b.home, "rootfs"))
				b.write(t, "rootfs/x", "", 0o644)
				b.ran("mkdir rootfs", 0)
			},
			seen: "is no folder",
		},
		{
			name:  "tar file",
			check: labs.Check{File: &labs.FileCheck{Path: "~/x.tar", TarHas: []string{"release", "/bin/cat"}}},
			before: func(t *testing.T, b *box) {
				b.write(t, "x.tar", string(rootfs(t, map[string]string{"release": "x"})), 0o644)
			},
			do: func(t *testing.T, b *box) {
				b.write(t, "x.tar", gzipped(t, rootfs(t, map[string]string{"./release": "x", "./bin/cat": "y"})), 0o644)
			},
			seen: "without `/bin/cat`",
		},
		{
			name:  "image archive, old layout",
			check: labs.Check{File: &labs.FileCheck{Path: "~/redis.tar", Archive: "redis:3.2.11-alpine"}},
			before: func(t *testing.T, b *box) {
				b.write(t, "redis.tar", string(rootfs(t, saved(t, "redis:latest", false, layer))), 0o644)
			},
			do: func(t *testing.T, b *box) {
				b.write(t, "redis.tar", string(rootfs(t, saved(t, "redis:3.2.11-alpine", false, layer))), 0o644)
			},
			seen: "is an image archive of `redis:latest`",
		},
		{
			name:   "image archive, new layout, compressed",
			check:  labs.Check{File: &labs.FileCheck{Path: "~/*.tgz", Archive: "redis"}},
			before: func(t *testing.T, b *box) { b.write(t, "a.tgz", gzipped(t, rootfs(t, layer)), 0o644) },
			do: func(t *testing.T, b *box) {
				b.write(t, "b.tgz", gzipped(t, rootfs(t, saved(t, "docker.io/library/redis:latest", true, layer))), 0o644)
			},
			seen: "is a tar file, but no image archive",
		},
		{
			name:  "half an image archive",
			check: labs.Check{File: &labs.FileCheck{Path: "~/redis.tar", Archive: "redis"}},
			before: func(t *testing.T, b *box) {
				b.write(t, "redis.tar", string(rootfs(t, saved(t, "redis:latest", false, layer))[:3000]), 0o644)
			},
			do: func(t *testing.T, b *box) {
				b.write(t, "redis.tar", string(rootfs(t, saved(t, "redis:latest", false, layer))), 0o644)
			},
			seen: "is no image archive, or not a complete one",
		},
		{
			name:   "layer beside the archive, old layout",
			check:  labs.Check{Layer: &labs.LayerCheck{Ref: "redis"}},
			before: func(t *testing.T, b *box) { unpack(t, b, "redis", saved(t, "redis:latest", false, layer)) },
			do: func(t *testing.T, b *box) {
				unpack(t, b, fmt.Sprintf("redis/%064d", 0), layer)
				b.ran("tar xf layer.tar", 0)
			},
			seen: "no layer of the archive in",
		},
		{
			name:  "layer elsewhere, new layout, second of two",
			check: labs.Check{Layer: &labs.LayerCheck{Ref: "redis:latest", Under: "~/"}},
			before: func(t *testing.T, b *box) {
				unpack(t, b, ".", saved(t, "redis:latest", true, map[string]string{"only": "one", "another": "two"}, layer))
				unpack(t, b, "half", map[string]string{"usr/local/bin/redis-server": "program"}) // not all of it
			},
			do: func(t *testing.T, b *box) {
				unpack(t, b, "my/own/folder/for/it", layer)
				b.ran("tar -C my/own/folder/for/it -xf x", 0)
			},
		},
		{
			name:  "layer of which the archive's files are not there",
			check: labs.Check{Layer: &labs.LayerCheck{Ref: "redis:latest"}},
			before: func(t *testing.T, b *box) {
				files := saved(t, "redis:latest", false, layer)
				b.write(t, "lone/manifest.json", files["manifest.json"], 0o644)
				unpack(t, b, "out", layer)
			},
			do: func(t *testing.T, b *box) {
				unpack(t, b, "lone", saved(t, "redis:latest", false, layer))
				b.ran("tar xf redis.tar", 0)
			},
			seen: "are not there",
		},
		{
			name:   "command",
			check:  labs.Check{Ran: &labs.RanCheck{Pattern: regexp.MustCompile(`^cat .*manifest\.json`)}},
			before: func(t *testing.T, b *box) { b.ran("cat nowhere/manifest.json", 1) },
			do:     func(t *testing.T, b *box) { b.ran("cat redis/manifest.json | jq", 0) },
			seen:   "`cat nowhere/manifest.json` ended with exit status 1",
		},
		{
			name:   "command that fails",
			check:  labs.Check{Ran: &labs.RanCheck{Pattern: regexp.MustCompile(`docker run empty`), Exit: labs.Number{Op: '>'}}},
			before: func(t *testing.T, b *box) { b.ran("ls", 0) },
			do:     func(t *testing.T, b *box) { b.ran("docker run empty", 125) },
			seen:   "no such command",
		},
		{
			name:  "script",
			check: labs.Check{Script: "test -e done || { echo $'\\e[1mnot yet'; exit 3; }"},
			do: func(t *testing.T, b *box) {
				os.WriteFile(filepath.Join(b.home, "done"), nil, 0o644)
				b.ran("touch done", 0)
			},
			seen: "ended with exit status 3: \uFFFD[1mnot yet",
		},
		{
			name:  "attack: a script read from the list of processes",
			check: labs.Check{Script: "sleep 0.05; test -e done && ! tr '\\0' ' ' </proc/$$/cmdline | grep the-answer"},
			do: func(t *testing.T, b *box) {
				os.WriteFile(filepath.Join(b.home, "done"), nil, 0o644)
				b.ran("touch done", 0)
			},
			seen: "ended with exit status 1",
		},
		{
			name:  "script that must print",
			check: labs.Check{Script: "test -e done && echo checked && echo ' done '; echo more", Prints: "done"},
			do: func(t *testing.T, b *box) {
				os.WriteFile(filepath.Join(b.home, "done"), nil, 0o644)
				b.ran("touch done", 0)
			},
			seen: "ended without printing `done`",
		},
		{
			name:  "no longer a file",
			check: labs.Check{File: &labs.FileCheck{Path: "~/trash"}, Not: true},
			do: func(t *testing.T, b *box) {
				b.write(t, "trash", "", 0o644)
				time.Sleep(200 * time.Millisecond) // nothing tells that the opposite was seen
				os.Remove(filepath.Join(b.home, "trash"))
				b.tell(labs.Change{File: filepath.Join(b.home, "trash")})
			},
			seen: NotYet,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, "")
			if test.before != nil {
				test.before(t, b)
			}
			test.check.ID = "c"
			o, _ := watching(t, verifier(t), b, test.check)
			r := o.until("c", 8*time.Second, func(labs.Result) bool { return true })
			if r.Status != labs.Failed || !strings.Contains(r.Seen, test.seen) {
				t.Fatalf("before: %+v, want failed and %q", r, test.seen)
			}
			test.do(t, b)
			r = o.untilStatus("c", labs.Passed)
			t.Logf("expected %s; seen %s", r.Expected, r.Seen)
			if b.dials.Load() > 0 {
				t.Error("the engine was connected to")
			}
		})
	}
}

// TestPort takes checks of a port from red to green and back.
func TestPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	b := newBox(t, "")
	o, _ := watching(t, verifier(t), b,
		labs.Check{ID: "open", Port: &labs.PortCheck{Port: port}},
		labs.Check{ID: "page", Port: &labs.PortCheck{Port: port, Path: "/page", Status: labs.Number{Op: '=', Value: 200}, Body: labs.TextRule{Contains: "hello"}}},
		labs.Check{ID: "wrong", Port: &labs.PortCheck{Port: port, Status: labs.Number{Op: '=', Value: 201}}},
	)
	for _, id := range []string{"open", "page", "wrong"} {
		if r := o.untilStatus(id, labs.Failed); !strings.Contains(r.Seen, "nothing listens") {
			t.Errorf("%s: seen %q", id, r.Seen)
		}
	}
	// No command ends: a server in the foreground.
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello", r.URL.Path) })}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	o.untilStatus("open", labs.Passed)
	o.untilStatus("page", labs.Passed)
	o.until("wrong", 5*time.Second, func(r labs.Result) bool { return strings.Contains(r.Seen, "status 200") })
	s.Close()
	b.ran("python3 -m http.server", 130)
	o.untilStatus("open", labs.Failed)
}

// TestPortThatSendsWithoutEnd bounds what a learner's server can cost.
func TestPortThatSendsWithoutEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	o, _ := watching(t, verifier(t), newBox(t, ""),
		labs.Check{ID: "c", Port: &labs.PortCheck{Port: l.Addr().(*net.TCPAddr).Port, Body: labs.TextRule{Contains: "never"}}})
	o.untilStatus("c", labs.Failed)
}

func TestHostileTarHeader(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg, Size: 1 << 40})
	if _, err := readArchive(&b); err == nil {
		t.Error("an archive that claims a manifest of 1 TiB was read")
	}
}
