package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/labs"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		match   []string
		not     []string
		holds   []string // directories in which there can be matches
		empty   []string // and not
	}{
		{"/", []string{"/"}, []string{"/a"}, nil, []string{"/", "/a"}},
		{"/a", []string{"/a"}, []string{"/", "/b", "/a/b"}, []string{"/"}, []string{"/a", "/b"}},
		{"~/x/*.txt", []string{"/home/me/x/a.txt", "/home/me/x/.txt"}, []string{"/home/me/x/a/b.txt", "/home/me/x/a.txt/b"},
			[]string{"/", "/home", "/home/me", "/home/me/x"}, []string{"/home/me/x/a", "/home/you", "/x"}},
		{"/a/**/z", []string{"/a/z", "/a/b/z", "/a/b/c/d/e/f/g/h/i/z", "/a/z/z"}, []string{"/z", "/a", "/a/b", "/a/b/zz"},
			[]string{"/", "/a", "/a/b", "/a/b/c/d/e"}, []string{"/b"}},
		{"/a/**", []string{"/a", "/a/b", "/a/b/c"}, []string{"/", "/b"}, []string{"/a/b/c"}, []string{"/b"}},
		{"/**/a/**/b", []string{"/a/b", "/x/a/b", "/a/a/b/b", "/x/y/a/z/b"}, []string{"/a", "/b", "/b/a"}, []string{"/", "/x/y"}, nil},
		{"/a/?/[bc]", []string{"/a/é/b", "/a/x/c"}, []string{"/a/xx/b", "/a/x/d", "/a//b"}, []string{"/a/x"}, []string{"/a/xx"}},
		{"/**", []string{"/", "/a", "/a/b"}, nil, []string{"/", "/a/b"}, nil},
		{`/a\*`, []string{"/a*"}, []string{"/ab"}, []string{"/"}, nil},
		{"/x/../a", []string{"/a"}, []string{"/x/../a"}, nil, nil},
		{"/a**b", []string{"/ab", "/axb"}, []string{"/a/b"}, nil, nil}, // ** within a part is *
	} {
		p, err := Config{Home: "/home/me"}.pattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		for want, f := range map[string]func(string) bool{"match": p.match, "hold": p.holds} {
			yes, no := c.match, c.not
			if want == "hold" {
				yes, no = c.holds, c.empty
			}
			for _, name := range yes {
				if !f(name) {
					t.Errorf("%s does not %s %s", c.pattern, want, name)
				}
			}
			for _, name := range no {
				if f(name) {
					t.Errorf("%s does %s %s", c.pattern, want, name)
				}
			}
		}
	}
	for _, bad := range []string{"", "a", "~a", "../a", "/a\x00", "/" + strings.Repeat("a", 5000), "/a/[", "/" + strings.Repeat("a/", 64)} {
		if _, err := (Config{Home: "/h"}).pattern(bad); !errors.Is(err, labs.ErrInvalid) {
			t.Errorf("%.50q: %v", bad, err)
		}
	}
}

// slowMatch is what pattern.match means, said in the shortest way.
func slowMatch(pat, name []string) bool {
	switch {
	case len(pat) == 0:
		return len(name) == 0
	case pat[0] == "**":
		return slowMatch(pat[1:], name) || len(name) > 0 && slowMatch(pat, name[1:])
	case len(name) == 0:
		return false
	}
	ok, _ := path.Match(pat[0], name[0])
	return ok && slowMatch(pat[1:], name[1:])
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"/a/**/b\n/a/x/b", "/**/**/*\n/", "/[a-c]?/**\n/bx/y/z", "/**/a/**/a/**/a\n/a/a/a/a", "/\\*\n/*", "/a//b/..\n/a"} {
		pat, name, _ := strings.Cut(s, "\n")
		f.Add(pat, name)
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := Config{Home: "/h"}.pattern(text)
		if err != nil || len(name) > 4096 || !path.IsAbs(name) {
			return
		}
		name = path.Clean(name)
		got := p.match(name)
		if len(p.parts) <= 8 && strings.Count(name, "/") <= 8 {
			if want := slowMatch(p.parts, split(name)); got != want {
				t.Fatalf("%q matches %q: %t", text, name, got)
			}
		}
		if got && name != "/" && !p.holds(path.Dir(name)) {
			t.Fatalf("%q matches %q, but its directory is not looked into", text, name)
		}
		if got && name != "/" && !strings.HasPrefix(name+"/", strings.TrimSuffix(p.fixed(), "/")+"/") {
			t.Fatalf("%q matches %q outside %q", text, name, p.fixed())
		}
	})
}

func bomb(t testing.TB) (p pattern, name string) {
	t.Helper()
	p, err := Config{}.pattern("/" + strings.Repeat("**/*a*a*/", maxParts/2) + "b")
	if err != nil {
		t.Fatal(err)
	}
	return p, strings.Repeat("/"+strings.Repeat("a", 60), 66)
}

func TestAttackPatternWithManyStars(t *testing.T) {
	p, name := bomb(t)
	began := time.Now()
	for range 100 {
		if p.match(name) {
			t.Fatal("it matches")
		}
	}
	if each := time.Since(began) / 100; each > 20*time.Millisecond {
		t.Errorf("a match takes %v", each)
	}
}

func BenchmarkPatternBomb(b *testing.B) {
	p, name := bomb(b)
	for b.Loop() {
		p.match(name)
	}
}

func BenchmarkPatternUsual(b *testing.B) {
	p, _ := Config{Home: "/root"}.pattern("~/lab/**/*.txt")
	for b.Loop() {
		p.match("/root/lab/a/b/c.txt")
	}
}

func TestGlob(t *testing.T) {
	r := startAgent(t)
	for _, dir := range []string{"a/b/c/d/e/f/g/h", "a/x", "z"} {
		must(t, os.MkdirAll(filepath.Join(r.cfg.Home, dir), 0o755))
	}
	for _, name := range []string{"a/one.txt", "a/b/c/d/e/f/g/h/deep.txt", "a/x/two.txt", "z/b.md"} {
		must(t, os.WriteFile(filepath.Join(r.cfg.Home, name), []byte(name), 0o640))
	}
	must(t, os.Symlink("/nowhere", r.cfg.Home+"/broken.txt"))
	must(t, os.Symlink("a/one.txt", r.cfg.Home+"/link.txt"))
	must(t, os.Symlink(".", r.cfg.Home+"/loop"))
	must(t, syscall.Mkfifo(r.cfg.Home+"/fifo.txt", 0o600))
	for _, c := range []struct{ pattern, want string }{
		{"~/a/*.txt", "a/one.txt"},
		{"~/**/*.txt", "a/b/c/d/e/f/g/h/deep.txt a/one.txt a/x/two.txt broken.txt fifo.txt link.txt"},
		{"~/a", "a"},
		{"~/*/b", "a/b"},
		{"~/nothing", ""},
		{"~/nothing/*", ""},
		{"~/a/one.txt/*", ""},
		{"~/loop/loop/a/on?.txt", "loop/loop/a/one.txt"},
		{"~/a/[xy]/*", "a/x/two.txt"},
	} {
		var found []labs.FileInfo
		if err := r.get(PathGlob, url.Values{"pattern": {c.pattern}, "limit": {"10"}}, &found); err != nil {
			t.Errorf("%s: %v", c.pattern, err)
		}
		var names []string
		for _, f := range found {
			names = append(names, strings.TrimPrefix(f.Path, r.cfg.Home+"/"))
			if f.Path == r.cfg.Home+"/link.txt" && (!f.Mode.IsRegular() || f.Size != int64(len("a/one.txt"))) {
				t.Errorf("a link is told as %+v", f)
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: %s; want %s", c.pattern, got, c.want)
		}
	}
}

func TestAttackGlobOverManyFilesAndDirectories(t *testing.T) {
	r := startAgent(t)
	many := filepath.Join(r.cfg.Home, "many")
	must(t, os.Mkdir(many, 0o755))
	first := filepath.Join(many, "0")
	must(t, os.WriteFile(first, nil, 0o644))
	for i := range 100_000 {
		must(t, os.Link(first, fmt.Sprintf("%s/%d.x", many, i)))
		if i%40_000 == 39_999 { // a file has only so many names
			first = fmt.Sprintf("%s/next%d", many, i)
			must(t, os.WriteFile(first, nil, 0o644))
		}
	}
	deep := filepath.Join(r.cfg.Home, "deep")
	for at := deep; len(at) < 4000; at += "/d" {
		must(t, os.Mkdir(at, 0o755))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	for _, pattern := range []string{"~/**/no-such", "~/**/*/**/*/**/no-such", "~/many/*.y", "~/deep/**/no-such"} {
		var found []labs.FileInfo
		if err := r.get(PathGlob, url.Values{"pattern": {pattern}, "limit": {"10"}}, &found); err != nil || len(found) != 0 {
			t.Errorf("%s: %d, %v", pattern, len(found), err)
		}
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	t.Logf("four globs over 100,000 files took %v", took)
	if took > 15*time.Second {
		t.Errorf("four globs took %v", took)
	}
	var found []labs.FileInfo
	if err := r.get(PathGlob, url.Values{"pattern": {"~/many/*"}, "limit": {"1000000"}}, &found); err != nil || len(found) != maxMatches {
		t.Errorf("all: %d, %v", len(found), err)
	}
	// What is near is found however much there is elsewhere.
	must(t, os.MkdirAll(r.cfg.Home+"/zz/zz", 0o755))
	must(t, os.WriteFile(r.cfg.Home+"/zz/near", nil, 0o644))
	if err := r.get(PathGlob, url.Values{"pattern": {"~/zz/**/near"}, "limit": {"5"}}, &found); err != nil || len(found) != 1 {
		t.Errorf("near: %d, %v", len(found), err)
	}
	w := r.watch(labs.Watch{Paths: []string{"~/**/no-such"}})
	w.next()
	for !w.next().Lost { // not all of it can be followed, and the client is told
	}
}

func TestFile(t *testing.T) {
	r := startAgent(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	must(t, os.WriteFile(r.cfg.Home+"/big", big, 0o600))
	must(t, os.Symlink("big", r.cfg.Home+"/link"))
	for _, name := range []string{"~/big", "~/link", r.cfg.Home + "/big"} {
		if status, b := r.ask("GET", PathFile, url.Values{"path": {name}}, nil); status != 200 || !bytes.Equal(b, big) {
			t.Errorf("%s: %d, %d bytes", name, status, len(b))
		}
	}
	if status, _ := r.ask("GET", PathFile, url.Values{"path": {"~/big/x"}}, nil); status != 404 {
		t.Errorf("below a file: %d", status)
	}
}

func TestAttackFilesThatNeverEnd(t *testing.T) {
	r := startAgent(t)
	must(t, syscall.Mkfifo(r.cfg.Home+"/fifo", 0o600))
	must(t, os.Symlink("/dev/zero", r.cfg.Home+"/zero"))
	must(t, os.Symlink("self", r.cfg.Home+"/self"))
	l := listenUnix(t, r.cfg.Home+"/socket")
	defer l.Close()
	for _, name := range []string{"~/fifo", "~/zero", "~/socket", "~/self", "~", "/dev/tty", "/dev/ptmx"} {
		for _, at := range []string{PathFile, PathTarNames} {
			if status, b := r.ask("GET", at, url.Values{"path": {name}, "limit": {"1"}}, nil); status < 400 {
				t.Errorf("%s %s: %d, %d bytes", at, name, status, len(b))
			}
		}
	}
	// A file of /proc says that it is empty; nobody waits for the kernel.
	if status, b := r.ask("GET", PathFile, url.Values{"path": {"/proc/kmsg"}}, nil); status == 200 && len(b) > 0 {
		t.Errorf("/proc/kmsg gave %d bytes", len(b))
	}
	if err := func() error { // nobody was woken at the other end of the FIFO
		f, err := os.OpenFile(r.cfg.Home+"/fifo", os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			f.Close()
		}
		return err
	}(); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("the FIFO has a reader: %v", err)
	}
}

func TestFileThatShrinksWhileItIsRead(t *testing.T) {
	r := startAgent(t)
	name := r.cfg.Home + "/file"
	must(t, os.WriteFile(name, nil, 0o600))
	must(t, os.Truncate(name, 64<<20))
	res, err := r.client.Get("http://agent" + PathFile + "?path=" + url.QueryEscape(name))
	must(t, err)
	defer res.Body.Close()
	must(t, os.Truncate(name, 100))
	if n, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Errorf("%d bytes and no error", n)
	}
}

// tarball gives a tar stream with these entries; content is in Uname.
func tarball(t testing.TB, entries ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		body := h.Uname
		h.Uname = ""
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(body))
		}
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, body[:h.Size])
		must(t, err)
	}
	must(t, w.Close())
	return &b
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	must(t, errors.Join(err, w.Close()))
	return out.Bytes()
}

func TestTarNames(t *testing.T) {
	r := startAgent(t)
	good := tarball(t, tar.Header{Typeflag: tar.TypeDir, Name: "dir/"}, tar.Header{Typeflag: tar.TypeReg, Name: "dir/a", Uname: "x"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "dir/a"}, tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("long/", 60) + "b", Uname: "y"}).Bytes()
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"plain":      {good, "dir/a " + strings.Repeat("long/", 60) + "b"},
		"gzip":       {gz(t, good), "dir/a " + strings.Repeat("long/", 60) + "b"},
		"empty tar":  {tarball(t).Bytes(), ""},
		"empty":      {nil, "not valid"},
		"one byte":   {[]byte{0x1f}, "not valid"},
		"text":       {bytes.Repeat([]byte("no tar file\n"), 1000), "not valid"},
		"cut":        {good[:700], "not valid"},
		"gzip, cut":  {gz(t, good)[:40], "not valid"},
		"gzip, text": {gz(t, bytes.Repeat([]byte("text"), 1000)), "not valid"},
	} {
		must(t, os.WriteFile(r.cfg.Home+"/t", c.file, 0o600))
		var names []string
		err := r.get(PathTarNames, url.Values{"path": {"~/t"}, "limit": {"10"}}, &names)
		got := strings.Join(names, " ")
		if errors.Is(err, labs.ErrInvalid) {
			got, err = "not valid", nil
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	must(t, os.WriteFile(r.cfg.Home+"/t", good, 0o600))
	var names []string
	if err := r.get(PathTarNames, url.Values{"path": {"~/t"}, "limit": {"1"}}, &names); err != nil || len(names) != 1 {
		t.Errorf("with a limit of 1: %q, %v", names, err)
	}
}

func TestAttackTarThatInflatesWithoutEnd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bomb.tar.gz")
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	// A member of a terabyte, of which the first gigabytes are there.
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	must(t, err)
	must(t, tar.NewWriter(z).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: 1 << 40}))
	zeros := make([]byte, 1<<20)
	for range 4 << 10 {
		_, err := z.Write(zeros)
		must(t, err)
	}
	must(t, z.Close())
	_, err = f.Seek(0, io.SeekStart)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if names, err := tarNames(ctx, f, 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", names, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("its time was over after 100 ms, it took %v", took)
	}
}

func TestAttackTarHeadersWithoutEnd(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, b []byte) *os.File {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		f, err := os.Open(filepath.Join(dir, name))
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	measure := func(what string, f *os.File, most uint64) (names []string, err error) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ctx, cancel := context.WithTimeout(t.Context(), tarTime)
		defer cancel()
		names, err = tarNames(ctx, f, maxNames)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > most {
			t.Errorf("%s: %d bytes were allocated", what, used)
		}
		return names, err
	}
	// An extended header that says that it has 8 GiB.
	head := tarball(t, tar.Header{Typeflag: tar.TypeReg, Name: "x"}).Bytes()[:512]
	head[156] = tar.TypeXHeader
	copy(head[124:136], "77777777777\x00")
	copy(head[148:156], "        ")
	sum := 0
	for _, b := range head {
		sum += int(b)
	}
	copy(head[148:156], fmt.Sprintf("%06o\x00 ", sum))
	f := open("giant", head)
	must(t, os.Truncate(f.Name(), 8<<30))
	if names, err := measure("giant header", f, 16<<20); err == nil {
		t.Errorf("giant header: %q", names)
	}
	// Many names, each of a megabyte.
	var long bytes.Buffer
	w := tar.NewWriter(&long)
	for i := range 40 {
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(strings.Repeat("n", 1<<20-100), i), Format: tar.FormatPAX}))
	}
	must(t, w.Close())
	names, err := measure("long names", open("long", long.Bytes()), 128<<20)
	if err != nil || len(names) > maxNameSize>>20+1 {
		t.Errorf("long names: %d, %v", len(names), err)
	}
	// A directory entry costs nothing to say and something to read.
	empty := tarball(t, tar.Header{Typeflag: tar.TypeDir, Name: "d/"}).Bytes()[:512]
	if names, err := measure("directories", open("dirs", bytes.Repeat(empty, 100_000)), 1<<30); err != nil || len(names) != 0 {
		t.Errorf("directories: %d, %v", len(names), err)
	}
}

func TestUnpack(t *testing.T) {
	r := startAgent(t)
	unpack := func(entries ...tar.Header) int {
		t.Helper()
		status, b := r.ask("POST", PathUnpack, url.Values{"dir": {"~/in"}}, tarball(t, entries...))
		if status >= 400 {
			t.Logf("%s", bytes.TrimSpace(b))
		}
		return status
	}
	reg := func(name, text string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Uname: text}
	}
	for name, c := range map[string]struct {
		entries []tar.Header
		status  int
		file    string // below the folder
		text    string
	}{
		"file":                 {[]tar.Header{reg("a", "1")}, 204, "a", "1"},
		"file again":           {[]tar.Header{reg("b", "1"), reg("b", "2")}, 204, "b", "2"},
		"directories":          {[]tar.Header{{Typeflag: tar.TypeDir, Name: "./c/d/", Mode: 0o755}, reg("c/d/e", "1"), reg("f/g/h", "2")}, 204, "f/g/h", "2"},
		"the folder itself":    {[]tar.Header{{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, reg("./i", "1")}, 204, "i", "1"},
		"link inside":          {[]tar.Header{reg("j", "1"), {Typeflag: tar.TypeSymlink, Name: "k", Linkname: "j"}}, 204, "k", "1"},
		"link again":           {[]tar.Header{reg("l", "1"), reg("m", "2"), {Typeflag: tar.TypeSymlink, Name: "l", Linkname: "m"}}, 204, "l", "2"},
		"file through link":    {[]tar.Header{{Typeflag: tar.TypeDir, Name: "n", Mode: 0o755}, {Typeflag: tar.TypeSymlink, Name: "o", Linkname: "n"}, reg("o/p", "1")}, 204, "n/p", "1"},
		"file over directory":  {[]tar.Header{reg("q/r", "1"), reg("q", "2")}, 500, "q/r", "1"},
		"directory over file":  {[]tar.Header{reg("s", "1"), {Typeflag: tar.TypeDir, Name: "s", Mode: 0o755}}, 500, "s", "1"},
		"a name that is empty": {[]tar.Header{reg("x/..", "1")}, 204, "a", "1"},
	} {
		if status := unpack(c.entries...); status != c.status {
			t.Errorf("%s: %d", name, status)
		}
		if c.file == "a" {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(r.cfg.Home, "in", c.file)); err != nil || string(b) != c.text {
			t.Errorf("%s: %s holds %q, %v", name, c.file, b, err)
		}
	}
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	if status := unpack(tar.Header{Typeflag: tar.TypeReg, Name: "mode", Mode: 0o4755, Uname: "x"}); status != 204 {
		t.Errorf("mode: %d", status)
	}
	if info, err := os.Stat(r.cfg.Home + "/in/mode"); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
}

func TestAttackUnpackOutsideTheFolder(t *testing.T) {
	r := startAgent(t)
	out := filepath.Join(r.dir, "out")
	must(t, os.MkdirAll(out+"/sub", 0o755))
	must(t, os.WriteFile(out+"/keep", []byte("kept"), 0o644))
	in := filepath.Join(r.cfg.Home, "in")
	must(t, os.Mkdir(in, 0o755))
	must(t, os.Symlink(out, in+"/way"))
	must(t, os.Symlink("../../out", in+"/back"))
	must(t, os.Symlink(out+"/keep", in+"/keep"))
	must(t, syscall.Mkfifo(in+"/fifo", 0o600))
	reg := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Uname: "x"}
	}
	for _, entries := range [][]tar.Header{
		{reg("../x")}, {reg("../../out/x")}, {reg("/x")}, {reg(out + "/x")}, {reg("a/../../x")}, {reg("..")},
		{reg("way/x")}, {reg("back/x")}, {reg("way/sub/x")},
		{{Typeflag: tar.TypeDir, Name: "way/x", Mode: 0o755}}, {{Typeflag: tar.TypeDir, Name: "back/sub", Mode: 0o700}},
		{{Typeflag: tar.TypeSymlink, Name: "way/x", Linkname: "y"}},
		{{Typeflag: tar.TypeSymlink, Name: "new", Linkname: out}, reg("new/x")},
		{{Typeflag: tar.TypeSymlink, Name: "up", Linkname: ".."}, {Typeflag: tar.TypeSymlink, Name: "up2", Linkname: "up/.."}, reg("up2/out/x")},
		{{Typeflag: tar.TypeLink, Name: "hard", Linkname: out + "/keep"}},
		{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}, {{Typeflag: tar.TypeFifo, Name: "f"}},
	} {
		if status, _ := r.ask("POST", PathUnpack, url.Values{"dir": {"~/in"}}, tarball(t, entries...)); status < 400 {
			t.Errorf("%q: %d", entries[len(entries)-1].Name, status)
		}
	}
	// What stands where a file goes is replaced and not written to.
	for _, name := range []string{"keep", "fifo"} {
		if status, b := r.ask("POST", PathUnpack, url.Values{"dir": {"~/in"}}, tarball(t, reg(name))); status != 204 {
			t.Errorf("%s: %d %s", name, status, b)
		}
	}
	var found []string
	must(t, filepath.Walk(out, func(name string, info os.FileInfo, err error) error {
		found = append(found, strings.TrimPrefix(name, out)+" "+info.Mode().String())
		return err
	}))
	if got := strings.Join(found, ", "); got != " drwxr-xr-x, /keep -rw-r--r--, /sub drwxr-xr-x" {
		t.Errorf("outside there is %s", got)
	}
	if b, err := os.ReadFile(out + "/keep"); err != nil || string(b) != "kept" {
		t.Errorf("outside was written: %q, %v", b, err)
	}
}

// The answer reaches a client that is still sending.
func TestUnpackErrorDuringALongStream(t *testing.T) {
	r := startAgent(t)
	stream := io.MultiReader(bytes.NewReader(tarball(t, tar.Header{Typeflag: tar.TypeReg, Name: "../x"}).Bytes()[:512]), io.LimitReader(zeroReader{}, 32<<20))
	if status, b := r.ask("POST", PathUnpack, url.Values{"dir": {"~/in"}}, stream); status != 400 {
		t.Errorf("%d %s", status, b)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAttackUnpackMoreEntriesThanAllowed(t *testing.T) {
	one := tarball(t, tar.Header{Typeflag: tar.TypeDir, Name: ".", Mode: 0o755}).Bytes()[:512]
	err := unpack(t.TempDir(), bytes.NewReader(bytes.Repeat(one, maxUnpacked+1)), func(string, bool) {})
	if !errors.Is(err, labs.ErrInvalid) {
		t.Error(err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(tarball(f, tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Mode: 0o644, Uname: "x"}, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."}, tar.Header{Typeflag: tar.TypeReg, Name: "l/x", Uname: "y"}).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		base := t.TempDir()
		in := filepath.Join(base, "in")
		unpack(in, bytes.NewReader(b), func(string, bool) {}) // an error is fine
		entries, err := os.ReadDir(base)
		must(t, err)
		for _, e := range entries {
			if e.Name() != "in" {
				t.Fatalf("%s was written outside the folder", e.Name())
			}
		}
		os.Chmod(in, 0o700) // so that it can be removed
	})
}
