package image

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/labs"

	"golang.org/x/sys/unix"
)

// tiny is a sandbox recipe that is built in about ten seconds.
var tiny = map[string]string{
	"base/recipe.yaml": `
kind: sandbox
about: A base
suite: trixie
packages: [busybox-static, iputils-ping]
prune: [/usr/share/doc/*, "!/usr/share/doc/*/copyright", /usr/share/man/*, /usr/share/locale/*]
`,
	"base/files/etc/motd":           "base\n",
	"base/files/opt/new/dir/script": "#!/bin/sh\necho it runs\n",
	"tiny/recipe.yaml": `
extends: base
about: A tiny image
engine: busybox-static
customize:
  - echo "it's $(id -u) in $(pwd)" > /opt/customized
  - touch /usr/share/man/made-by-a-script
`,
	"tiny/files/etc/motd": "tiny\n",
}

func mustBeRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("images are built as root; run the tests as root")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Fatal("images are built with mmdebstrap: ", err)
	}
}

func TestBuild(t *testing.T) {
	mustBeRoot(t)
	// The umask of whoever builds changes nothing.
	old := unix.Umask(0o077)
	defer unix.Umask(old)

	s := testStore(t, tiny)
	s.Dir = filepath.Join(s.Dir, "state")
	var mu sync.Mutex
	var doing []string
	s.Progress = func(st Step) {
		mu.Lock()
		defer mu.Unlock()
		if st.Image != "tiny" || (st.Total > 0 && st.Done > st.Total) {
			t.Errorf("step %+v", st)
		}
		if len(doing) == 0 || doing[len(doing)-1] != st.Doing {
			doing = append(doing, st.Doing)
		}
	}

	// Two that build at once get the one image that one of them made.
	start := time.Now()
	var wg sync.WaitGroup
	var images [2]Image
	for i := range images {
		wg.Go(func() {
			var err error
			if images[i], err = s.Build(t.Context(), "tiny"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	img := images[0]
	if img != images[1] {
		t.Errorf("two images: %+v, %+v", images[0], images[1])
	}
	t.Logf("built in %v, %d MB", time.Since(start).Round(100*time.Millisecond), img.Size>>20)
	for _, want := range []string{"waiting for another build", "reading the lists of packages", "downloading packages", "installing packages", "writing it to disk"} {
		if !slices.Contains(doing, want) {
			t.Errorf("no step %q in %q", want, doing)
		}
	}
	if img.Name != "tiny" || img.Kind != Sandbox || img.About != "A tiny image" || !strings.HasPrefix(img.Engine, "1.") || img.Size < 10<<20 {
		t.Errorf("image %+v", img)
	}

	for name, want := range map[string]string{
		"etc/motd":         "tiny\n",
		"etc/hostname":     "lab\n",
		"etc/resolv.conf":  "",
		"etc/machine-id":   "",
		"opt/customized":   "it's 0 in /\n",
		"etc/../root/none": "",
	} {
		got, err := os.ReadFile(filepath.Join(img.Rootfs, name))
		if name == "etc/../root/none" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	for _, gone := range []string{"usr/share/man/made-by-a-script", "usr/share/man/man1", "etc/apt/apt.conf.d/99mmdebstrap", "dev/null"} {
		if _, err := os.Lstat(filepath.Join(img.Rootfs, gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", gone, err)
		}
	}
	out, err := exec.Command("chroot", img.Rootfs, "/opt/new/dir/script").CombinedOutput()
	if err != nil || string(out) != "it runs\n" {
		t.Errorf("script: %q, %v", out, err)
	}
	checkModes(t, s.Dir, img.Rootfs)

	start = time.Now()
	again, err := s.Build(t.Context(), "tiny")
	if took := time.Since(start); err != nil || again != img || took > 100*time.Millisecond {
		t.Errorf("a second build: %+v, %v, took %v", again, err, took)
	}
	found, err := s.Find("tiny")
	if err != nil || found != img {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, err := s.Standin(t.Context(), "tiny"); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("a sandbox image as a stand-in: %v", err)
	}
	left(t, s, "images/.lock", "images/tiny-"+img.ID, "standins")

	// The recipe changes: the old image is listed, and goes when nobody uses it.
	changed := maps.Clone(tiny)
	changed["tiny/files/etc/motd"] = "changed\n"
	s.Recipes = recipes(changed)
	if _, err := s.Find("tiny"); !errors.Is(err, labs.ErrNotFound) || !strings.Contains(err.Error(), "has changed since it was built") {
		t.Errorf("after a change: %v", err)
	}
	if all, err := s.List(); err != nil || len(all) != 1 || all[0] != img {
		t.Errorf("list %+v, %v", all, err)
	}
	used := func(dir string) bool { return dir == img.Dir }
	if removed, err := s.Prune(t.Context(), used); err != nil || len(removed) != 0 {
		t.Errorf("pruned what is in use: %+v, %v", removed, err)
	}
	if removed, err := s.Prune(t.Context(), func(string) bool { return false }); err != nil || len(removed) != 1 {
		t.Errorf("pruned %+v, %v", removed, err)
	}
	left(t, s, "images/.lock", "standins")
}

// checkModes walks an image: it belongs to root, nothing in it runs with more
// rights than its caller's, others can write only to the temporary
// directories, and can get to it but not list what is above it.
func checkModes(t *testing.T, state, rootfs string) {
	t.Helper()
	for dir := filepath.Dir(rootfs); strings.HasPrefix(dir, state); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o711 {
			t.Errorf("%s: %v, %v; want 0711", dir, info.Mode(), err)
		}
	}
	if info, err := os.Stat(rootfs); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("rootfs: %v, %v; want 0755", info.Mode(), err)
	}
	for _, dir := range []string{"opt/new", "opt/new/dir", "etc", "usr/bin"} {
		if info, err := os.Stat(filepath.Join(rootfs, dir)); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v; want 0755", dir, info.Mode(), err)
		}
	}
	err := filepath.WalkDir(rootfs, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		inside := strings.TrimPrefix(name, rootfs)
		kind := st.Mode & unix.S_IFMT
		if st.Uid != 0 {
			t.Errorf("%s belongs to %d", inside, st.Uid)
		}
		if kind == unix.S_IFREG && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
			t.Errorf("%s has mode %o", inside, st.Mode)
		}
		if kind == unix.S_IFREG {
			if n, err := unix.Lgetxattr(name, "security.capability", nil); err == nil {
				t.Errorf("%s has %d bytes of capabilities", inside, n)
			}
		}
		if kind != unix.S_IFLNK && st.Mode&0o002 != 0 && inside != "/tmp" && inside != "/var/tmp" {
			t.Errorf("%s can be written by everyone: %o", inside, st.Mode)
		}
		if kind == unix.S_IFBLK || kind == unix.S_IFCHR {
			t.Errorf("%s is a device", inside)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// left checks what is in a store's directories.
func left(t *testing.T, s *Store, want ...string) {
	t.Helper()
	var got []string
	for _, dir := range []string{"images", "standins"} {
		entries, err := os.ReadDir(filepath.Join(s.Dir, dir))
		if err != nil {
			t.Error(err)
		}
		if len(entries) == 0 {
			got = append(got, dir)
		}
		for _, e := range entries {
			got = append(got, dir+"/"+e.Name())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	mustBeRoot(t)
	for _, tc := range []struct {
		name, recipe string
		kind         error
		say          string
	}{
		{"unknown package", "kind: sandbox\nsuite: trixie\npackages: [no-such-package-here]\n", labs.ErrInvalid, "names a package that Debian trixie does not have (Unable to locate package no-such-package-here)"},
		{"unknown package of a stand-in", "kind: standin\nfor: a:1\ncreated: 2025-01-01T00:00:00Z\nsuite: trixie\npackages: [no-such-package-here]\nlayers: [{by: a, take: {/bin: [/bin/a]}}]\n",
			labs.ErrInvalid, "names a package that Debian trixie does not have"},
		{"unknown release", "kind: sandbox\nsuite: nosuchrelease\n", labs.ErrBusy, "has no Debian nosuchrelease"},
		{"file that is not there", "kind: standin\nfor: a:1\ncreated: 2025-01-01T00:00:00Z\nsuite: trixie\npackages: [busybox-static]\nlayers: [{by: a, take: {/bin: [/bin/no-such-file]}}]\n",
			labs.ErrInvalid, "layer 1 (a): the packages have no file /bin/no-such-file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := testStore(t, map[string]string{"bad/recipe.yaml": tc.recipe})
			_, err := s.Build(t.Context(), "bad")
			if err == nil || !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("got  %v\nwant %s (%v)", err, tc.say, tc.kind)
			}
			left(t, s, "images/.lock", "images/bad.log", "standins")
			if _, err := s.Find("bad"); !errors.Is(err, labs.ErrNotFound) {
				t.Errorf("found: %v", err)
			}
		})
	}
}

func TestBuildWithoutNetwork(t *testing.T) {
	mustBeRoot(t)
	// A proxy that is not there is the end of every connection.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := "http://" + l.Addr().String()
	l.Close()
	t.Setenv("http_proxy", proxy)
	t.Setenv("https_proxy", proxy)
	s := testStore(t, tiny)
	_, err = s.Build(t.Context(), "tiny")
	if !errors.Is(err, labs.ErrBusy) || !strings.Contains(err.Error(), "Look at the network") {
		t.Errorf("without network: %v", err)
	}
	left(t, s, "images/.lock", "images/tiny.log", "standins")
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	mustBeRoot(t)
	s := testStore(t, tiny)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Progress = func(st Step) {
		if st.Doing == "setting up the base system" {
			cancel()
		}
	}
	start := time.Now()
	if _, err := s.Build(ctx, "tiny"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v after %v", err, time.Since(start))
	}
	nobody(t, s.Dir)
	left(t, s, "images/.lock", "images/tiny.log", "standins")
}

func TestKilledBuilderLeavesNothingThatRuns(t *testing.T) {
	mustBeRoot(t)
	s := testStore(t, tiny)
	builder, lines := second(t, s.Dir, "build")
	await(t, lines, "setting up the base system")
	if err := builder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	nobody(t, s.Dir)
	if _, err := os.Stat(s.building()); err != nil {
		t.Fatalf("the build had not begun: %v", err)
	}
	if _, err := s.Find("tiny"); !errors.Is(err, labs.ErrNotFound) {
		t.Errorf("half an image is found: %v", err)
	}
	// Whatever takes the lock next sweeps.
	if _, err := s.Prune(t.Context(), func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	left(t, s, "images/.lock", "images/tiny.log", "standins")
}

// nobody waits until no process works below dir, and checks that nothing is
// mounted there.
func nobody(t *testing.T, dir string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		var there []string
		procs, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range procs {
			cmdline, _ := os.ReadFile(p + "/cmdline") // it may have ended
			root, _ := os.Readlink(p + "/root")
			if strings.Contains(string(cmdline), dir) || strings.HasPrefix(root, dir) {
				there = append(there, strings.ReplaceAll(string(cmdline), "\x00", " "))
			}
		}
		if len(there) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("still running: %q", there)
			break
		}
		time.Sleep(5 * time.Millisecond) // processes of others end without an event
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dir) {
		t.Errorf("something is mounted below %s", dir)
	}
}
