package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/labs"
)

// agentBinary is the stand-in agent, imageDir a small root file system with
// busybox; both are made once.
var agentBinary, imageDir string

func TestMain(m *testing.M) {
	if args := os.Getenv("BERTH_TEST_SERVER"); args != "" {
		fmt.Fprintln(os.Stderr, serveUntilKilled(args))
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "berth-local")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err == nil {
		err = makeFixtures(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare tests:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func makeFixtures(dir string) error {
	agentBinary = filepath.Join(dir, "agent")
	build := exec.Command("go", "build", "-o", agentBinary, "./testdata/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // it runs without a C library
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the agent: %w: %s", err, out)
	}
	imageDir = filepath.Join(dir, "image")
	return makeImage(imageDir)
}

// makeImage makes a root file system from busybox-static.
func makeImage(dir string) error {
	for _, d := range []string{"bin", "etc", "root", "proc", "sys", "dev", "run", "tmp", "var/lib/docker", "usr/bin", "sbin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o777|fs.ModeSticky); err != nil {
		return err
	}
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("busybox-static is needed: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), box, 0o755); err != nil {
		return err
	}
	names, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(names)) {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644)
}

// next keeps the configurations of tests apart.
var next atomic.Int32

// testConfig gives a configuration of its own: nothing is shared with a server
// or another test on this machine.
func testConfig(t testing.TB) Config {
	n := int(next.Add(1))
	state, err := os.MkdirTemp("", "berth-state")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := mountsBelow(state); err != nil || len(left) > 0 {
			t.Errorf("mounts left: %q %v", left, err)
			return
		}
		if err := os.RemoveAll(state); err != nil {
			t.Errorf("remove state: %v", err)
		}
	})
	return Config{
		State:    state,
		Name:     fmt.Sprintf("t%x", (os.Getpid()%4096)*64+n),
		Binary:   agentBinary,
		Image:    testImage,
		Network:  netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 250, byte(os.Getpid()%32*8 + n/32), byte(n % 32 * 8)}), 29),
		FirstID:  2<<30 + uint32(os.Getpid()%256*64+n)<<20,
		Mirror:   5000,
		Defaults: labs.Limits{Memory: 128 << 20, CPU: 1, Processes: 100, Disk: 128 << 20},
		Max:      5,
		Log:      slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func testImage(name string) (string, error) {
	if name != "test" {
		return "", labs.ErrNotFound
	}
	return imageDir, nil
}

// within bounds everything a test waits for.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// open makes Boxes; at the end of the test they are closed, and nothing of
// theirs may be left on the machine.
func open(t testing.TB, cfg Config) *Boxes {
	t.Helper()
	before := machine(t, cfg)
	b, err := New(within(t, 30*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if after := machine(t, cfg); !slices.Equal(before, after) {
			t.Errorf("left on the machine:\n%s", diff(before, after))
		}
	})
	return b
}

func start(t testing.TB, b *Boxes, spec labs.Spec) *box {
	t.Helper()
	if spec.Image == "" {
		spec.Image = "test"
	}
	x, err := b.Start(within(t, 30*time.Second), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Destroy(); err != nil {
			t.Error(err)
		}
	})
	return x.(*box)
}

// machine lists everything that a sandbox could leave behind and that carries
// the configuration's names.
func machine(t testing.TB, cfg Config) []string {
	t.Helper()
	cfg, err := cfg.complete()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	mounts, err := mountsBelow(cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		all = append(all, "mount "+m)
	}
	loops, err := loopFiles(cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	for file, dev := range loops {
		all = append(all, "loop "+dev+" "+file)
	}
	groups, err := findCgroups(cfg.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range groups.all {
		filepath.WalkDir(groups.path(root), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, "group "+path)
			}
			return nil
		})
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == cfg.gatewayLink() || strings.HasPrefix(l.Name, cfg.linkPrefix()) {
			all = append(all, "link "+l.Name)
		}
	}
	out, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, " "+cfg.Name+"\n") {
			all = append(all, "nftables "+strings.TrimSpace(line))
		}
	}
	entries, _ := os.ReadDir(filepath.Join(cfg.State, "sandboxes"))
	for _, e := range entries {
		all = append(all, "directory "+e.Name())
	}
	entries, _ = os.ReadDir(filepath.Join(cfg.State, "runtime"))
	for _, e := range entries {
		all = append(all, "runtime "+e.Name())
	}
	locks, _ := filepath.Glob(runDir + "/*-" + cfg.Name)
	all = append(all, locks...)
	forward, err := os.ReadFile(ipForward)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, "ip_forward "+strings.TrimSpace(string(forward)))
	slices.Sort(all)
	return all
}

func diff(before, after []string) string {
	var b strings.Builder
	for _, s := range before {
		if !slices.Contains(after, s) {
			b.WriteString("- " + s + "\n")
		}
	}
	for _, s := range after {
		if !slices.Contains(before, s) {
			b.WriteString("+ " + s + "\n")
		}
	}
	return b.String()
}

// run runs a shell script as root inside, and gives what it printed and its
// exit status.
func (b *box) run(ctx context.Context, script string) (string, int, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return b.Dial(ctx) }}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/run", strings.NewReader(script))
	if err != nil {
		return "", 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	var reply struct {
		Output string
		Exit   int
		Error  string
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return "", 0, err
	}
	if reply.Error != "" {
		return "", 0, errors.New(reply.Error)
	}
	return reply.Output, reply.Exit, nil
}

// must runs a script that is expected to succeed.
func (b *box) must(t testing.TB, script string) string {
	t.Helper()
	out, exit, err := b.run(within(t, 30*time.Second), script)
	if err != nil || exit != 0 {
		t.Fatalf("%s\nexit %d, error %v, output:\n%s", script, exit, err, out)
	}
	return out
}
