package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"berth/labs"
)

func TestStartAndDestroyLeavesNothing(t *testing.T) {
	b := open(t, testConfig(t))
	idle := machine(t, b.cfg)
	for _, egress := range []labs.Egress{labs.EgressNone, labs.EgressMirror} {
		x := start(t, b, labs.Spec{Egress: egress})
		// Data that was not written yet when the sandbox ends.
		x.must(t, "dd if=/dev/zero of=/dirty bs=1M count=40; dd if=/dev/zero of=/var/lib/docker/dirty bs=1M count=40; sleep 1000 >/dev/null 2>&1 & mkdir -p /mnt; mount -t tmpfs tmpfs /mnt")
		if err := x.Destroy(); err != nil {
			t.Fatal(err)
		}
		if err := x.Destroy(); err != nil {
			t.Errorf("second time: %v", err)
		}
		if after := machine(t, b.cfg); !slices.Equal(idle, after) {
			t.Errorf("egress %s, left behind:\n%s", egress, diff(idle, after))
		}
		if _, err := x.Dial(t.Context()); !errors.Is(err, labs.ErrGone) {
			t.Errorf("dial after destroy: %v, want ErrGone", err)
		}
		if _, err := x.Usage(t.Context()); !errors.Is(err, labs.ErrGone) {
			t.Errorf("usage after destroy: %v, want ErrGone", err)
		}
	}
}

func TestDestroyConcurrently(t *testing.T) {
	b := open(t, testConfig(t))
	idle := machine(t, b.cfg)
	x := start(t, b, labs.Spec{})
	var all errgroup.Group
	for range 8 {
		all.Go(x.Destroy)
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	if after := machine(t, b.cfg); !slices.Equal(idle, after) {
		t.Errorf("left behind:\n%s", diff(idle, after))
	}
}

func TestInside(t *testing.T) {
	cfg := testConfig(t)
	b := open(t, cfg)
	x := start(t, b, labs.Spec{Egress: labs.EgressMirror})
	addr := b.cfg.address(x.rec.Slot)
	for _, c := range []struct{ script, want string }{
		{"id -u", "0"},
		{"hostname", "lab"},
		{"cat /proc/1/cmdline | tr '\\0' ' '", "/run/berth/berth agent "},
		{"stat -c %u:%g:%a / /root /bin/busybox", "0:0:755\n0:0:755\n0:0:755"},
		{"stat -c %a /tmp", "1777"},
		{"ip -4 -o addr show eth0 | awk '{print $4}'", addr.String() + "/32"},
		{"ip route", "default via " + b.Gateway().String() + " dev eth0 onlink"},
		{"ip -6 addr show eth0", ""},
		{"grep lab /etc/hosts", addr.String() + "\tlab"},
		{"echo $BERTH_MIRROR", "http://" + b.Gateway().String() + ":5000"},
		{"echo $BERTH_SANDBOX", x.ID()},
		{"echo kept > /var/lib/docker/f && cat /var/lib/docker/f", "kept"},
		{"echo changed > /etc/passwd && cat /etc/passwd", "changed"},
		{"cd /sys/fs/cgroup; [ -e cgroup.procs ] && mkdir mine || mkdir memory/mine pids/mine cpu/mine && echo made", "made"},
		{"[ -c /dev/net/tun ] && : < /dev/net/tun && echo opened", "opened"},
		{"mkdir -p /mnt && mount -t proc proc /mnt && echo mounted", "mounted"},
		{"unshare -m -p -n -f echo nested", "nested"},
		{"cat /proc/self/cgroup | cut -d: -f3 | grep -v '^/$' | grep -v '^/init$'; true", ""},
	} {
		if got := strings.TrimSpace(x.must(t, c.script)); got != strings.TrimSpace(c.want) {
			t.Errorf("%s: %q, want %q", c.script, got, c.want)
		}
	}
	if data, err := os.ReadFile(filepath.Join(imageDir, "etc/passwd")); err != nil || !bytes.HasPrefix(data, []byte("root:")) {
		t.Errorf("the shared image was changed: %q, %v", data, err)
	}
}

func TestUsage(t *testing.T) {
	b := open(t, testConfig(t))
	x := start(t, b, labs.Spec{Limits: labs.Limits{Processes: 50}})
	before, err := x.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (labs.Limits{Memory: 128 << 20, CPU: 1, Processes: 50, Disk: 128 << 20}); before.Limits != want {
		t.Errorf("limits %+v, want %+v", before.Limits, want)
	}
	x.must(t, "dd if=/dev/zero of=/a bs=1M count=20; dd if=/dev/zero of=/dev/shm/b bs=1M count=20; sync; (sleep 100 & sleep 100 &) >/dev/null 2>&1; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")
	var after labs.Usage
	// The kernel gathers what it counts every two seconds only.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if after, err = x.Usage(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := after.Memory - before.Memory; d >= 20<<20 && d <= 40<<20 || time.Now().After(deadline) {
			break
		}
	}
	if d := after.Disk - before.Disk; d < 20<<20 || d > 24<<20 {
		t.Errorf("disk use grew by %d, 20 MiB were written", d)
	}
	if d := after.Memory - before.Memory; d < 20<<20 || d > 40<<20 {
		t.Errorf("memory use grew by %d, 20 MiB were taken", d)
	}
	if after.Processes < before.Processes+2 || after.Processes > before.Processes+10 {
		t.Errorf("%d processes, before %d, two were started", after.Processes, before.Processes)
	}
	if after.CPU <= before.CPU {
		t.Errorf("CPU time %v after %v", after.CPU, before.CPU)
	}
	if after.OOMKills != 0 || after.ForkFails != 0 {
		t.Errorf("nothing was refused, but %+v", after)
	}
}

func TestParallelStartsShareNothing(t *testing.T) {
	b := open(t, testConfig(t))
	idle := machine(t, b.cfg)
	var mu sync.Mutex
	slots, ids := map[slot]bool{}, map[string]bool{}
	var all errgroup.Group
	for range b.cfg.Max {
		all.Go(func() error {
			x, err := b.Start(within(t, 60*time.Second), labs.Spec{Image: "test"})
			if err != nil {
				return err
			}
			t.Cleanup(func() { x.Destroy() })
			mu.Lock()
			defer mu.Unlock()
			slots[x.(*box).rec.Slot], ids[x.ID()] = true, true
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(slots) != b.cfg.Max || len(ids) != b.cfg.Max {
		t.Errorf("%d sandboxes have %d slots and %d ids", b.cfg.Max, len(slots), len(ids))
	}
	busy := machine(t, b.cfg)
	if _, err := b.Start(within(t, 10*time.Second), labs.Spec{Image: "test"}); !errors.Is(err, labs.ErrBusy) {
		t.Errorf("one too many: %v, want ErrBusy", err)
	}
	if after := machine(t, b.cfg); !slices.Equal(busy, after) || slices.Equal(busy, idle) {
		t.Errorf("left behind:\n%s", diff(busy, after))
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	dies := filepath.Join(filepath.Dir(imageDir), "dies")
	if err := makeImage(dies); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dies, "etc/agent-dies"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	scripts := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(scripts, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	image := func(dir string) func(string) (string, error) {
		return func(string) (string, error) { return dir, nil }
	}
	for _, c := range []struct {
		name   string
		change func(*Config, *labs.Spec)
		is     error
		says   string
	}{
		{"no such image", func(c *Config, s *labs.Spec) { s.Image = "none" }, labs.ErrNotFound, "image none"},
		{"image's directory is missing", func(c *Config, s *labs.Spec) { c.Image = image("/nowhere") }, os.ErrNotExist, "/nowhere"},
		{"image is a file", func(c *Config, s *labs.Spec) { c.Image = image(agentBinary) }, nil, "image"},
		{"runtime is missing", func(c *Config, s *labs.Spec) { c.Runtime = "no-such-runtime" }, exec.ErrNotFound, "no-such-runtime"},
		{"runtime fails", func(c *Config, s *labs.Spec) { c.Runtime = "false" }, nil, "create with false"},
		{"runtime fails at start", func(c *Config, s *labs.Spec) {
			c.Runtime = script("late", `case "$*" in *" start "*) exit 3;; esac; exec runc "$@"`)
		}, nil, "start with"},
		{"runtime gives no process id", func(c *Config, s *labs.Spec) { c.Runtime = "true" }, nil, "create with true"},
		{"agent ends", func(c *Config, s *labs.Spec) { c.Image = image(dies) }, nil, "this image cannot work"},
		{"agent is no program", func(c *Config, s *labs.Spec) { c.Binary = script("empty", "") }, nil, "start sandbox"},
		{"disk larger than the machine's", func(c *Config, s *labs.Spec) { s.Limits.Disk = 1 << 50 }, labs.ErrBusy, "free"},
		{"too little memory", func(c *Config, s *labs.Spec) { s.Limits.Memory = 1 << 20 }, labs.ErrInvalid, "memory"},
		{"negative processes", func(c *Config, s *labs.Spec) { s.Limits.Processes = -1 }, labs.ErrInvalid, "processes"},
		{"unknown egress", func(c *Config, s *labs.Spec) { s.Egress = "all" }, labs.ErrInvalid, "egress"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, spec := testConfig(t), labs.Spec{Image: "test"}
			c.change(&cfg, &spec)
			b := open(t, cfg)
			idle := machine(t, b.cfg)
			x, err := b.Start(within(t, 30*time.Second), spec)
			if err == nil {
				x.Destroy()
				t.Fatal("it started")
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q, want %v and %q in it", err, c.is, c.says)
			}
			t.Log(err)
			if after := machine(t, b.cfg); !slices.Equal(idle, after) {
				t.Errorf("left behind:\n%s", diff(idle, after))
			}
			// The slot is free again.
			if n := len(b.slots.used); n != 0 {
				t.Errorf("%d slots are still taken", n)
			}
		})
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	b := open(t, testConfig(t))
	start(t, b, labs.Spec{}).Destroy()
	idle := machine(t, b.cfg)
	for _, after := range []time.Duration{0, 3, 10, 20, 30, 40, 50, 60} {
		ctx, cancel := context.WithTimeout(t.Context(), after*time.Millisecond)
		x, err := b.Start(ctx, labs.Spec{Image: "test"})
		cancel()
		if err == nil {
			x.Destroy()
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %d ms: %v, want the context's error", after, err)
		}
		if left := machine(t, b.cfg); !slices.Equal(idle, left) {
			t.Errorf("cancelled after %d ms, left behind:\n%s", after, diff(idle, left))
		}
	}
}

func TestStartAfterClose(t *testing.T) {
	b := open(t, testConfig(t))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Start(t.Context(), labs.Spec{Image: "test"}); !errors.Is(err, labs.ErrGone) {
		t.Errorf("%v, want ErrGone", err)
	}
}

// crash lets go of everything that the kernel would take from a server that
// was killed.
func (b *Boxes) crash() {
	for _, l := range b.locks {
		l.file.Close()
	}
}

func TestAdoptAfterCrash(t *testing.T) {
	cfg := testConfig(t)
	b := open(t, cfg)
	idle := machine(t, b.cfg)
	lives, dies := start(t, b, labs.Spec{Egress: labs.EgressMirror}), start(t, b, labs.Spec{})
	lives.must(t, "echo before > /root/note")
	if err := unix.Kill(dies.rec.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	half := &box{boxes: b, rec: record{ID: newID(), Slot: 4, Limits: b.cfg.Defaults, Boot: b.boot}}
	half.at = b.layout(half.rec.ID)
	halfStarted(t, b, half)
	// What not even a directory is left of.
	if err := b.groups.create("stray", b.cfg.Defaults); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: b.cfg.link(3)}}); err != nil {
		veth := netlink.NewVeth(netlink.LinkAttrs{Name: b.cfg.link(3)})
		veth.PeerName = b.cfg.Name + "peer"
		if err := netlink.LinkAdd(veth); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(b.sandboxes(), "nothing", "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.sandboxes(), "nothing", "state.json"), []byte(`{"id":"other"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.crash()

	next, err := New(within(t, 30*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	adopted, err := next.Adopt(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if len(adopted) != 1 || adopted[0].ID() != lives.ID() {
		t.Fatalf("adopted %v, want %s alone", adopted, lives.ID())
	}
	x := adopted[0].(*box)
	if got := x.must(t, "cat /root/note"); got != "before\n" {
		t.Errorf("note %q", got)
	}
	if u, err := x.Usage(t.Context()); err != nil || u.Limits != lives.rec.Limits {
		t.Errorf("usage %+v, %v", u, err)
	}
	// A new one gets another place.
	y, err := next.Start(within(t, 30*time.Second), labs.Spec{Image: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if y.(*box).rec.Slot == x.rec.Slot {
		t.Errorf("both have slot %d", x.rec.Slot)
	}
	if err := errors.Join(x.Destroy(), y.Destroy()); err != nil {
		t.Error(err)
	}
	if after := machine(t, next.cfg); !slices.Equal(idle, after) {
		t.Errorf("left behind:\n%s", diff(idle, after))
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}

func TestAdoptAfterSettingsChanged(t *testing.T) {
	cfg := testConfig(t)
	b := open(t, cfg)
	idle := machine(t, b.cfg)
	start(t, b, labs.Spec{})
	b.crash()
	other := testConfig(t)
	changed := cfg
	changed.Network, changed.FirstID = other.Network, other.FirstID
	next, err := New(within(t, 30*time.Second), changed)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	adopted, err := next.Adopt(within(t, 30*time.Second))
	if err != nil || len(adopted) != 0 {
		t.Errorf("adopted %d, %v", len(adopted), err)
	}
	if after := machine(t, next.cfg); !slices.Equal(idle, after) {
		t.Errorf("left behind:\n%s", diff(idle, after))
	}
}

// halfStarted makes what a server leaves that is killed while it starts x:
// mounts, groups and a process that waits.
func halfStarted(t *testing.T, b *Boxes, x *box) {
	t.Helper()
	first := b.cfg.firstID(x.rec.Slot)
	for _, dir := range []string{x.at.dir, x.at.bundle(), x.at.disk(), x.at.lower(), x.at.rootfs()} {
		if err := mkdir(dir, 0o711, 0, first); err != nil {
			t.Fatal(err)
		}
	}
	users, err := newUserNamespace(first)
	if err != nil {
		t.Fatal(err)
	}
	defer users.Close()
	err = errors.Join(
		x.rec.write(x.at.record()),
		b.network.join(x.rec.member()),
		b.disks.create(t.Context(), x.at.image(), x.rec.Limits.Disk),
		mountDisk(x.at.image(), x.at.disk()),
		b.groups.create(x.rec.ID, x.rec.Limits),
		b.furnish(x, imageDir, users))
	if err == nil {
		_, err = b.create(within(t, 30*time.Second), x, users)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestKilledServer kills real servers at arbitrary moments while they start
// and destroy sandboxes.
func TestKilledServer(t *testing.T) {
	cfg := testConfig(t)
	idle := machine(t, cfg)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		cmd := exec.CommandContext(within(t, 60*time.Second), self)
		cmd.Env = append(os.Environ(), "BERTH_TEST_SERVER="+cfg.State+" "+cfg.Name+" "+cfg.Network.String()+" "+strconv.FormatUint(uint64(cfg.FirstID), 10),
			"BERTH_TEST_AGENT="+agentBinary, "BERTH_TEST_IMAGE="+imageDir)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // it has begun
			cmd.Wait()
			t.Fatalf("server: %v: %s", err, &said)
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	b, err := New(within(t, 30*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	adopted, err := b.Adopt(within(t, 60*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range adopted {
		if out := x.(*box).must(t, "echo alive"); out != "alive\n" {
			t.Errorf("adopted %s says %q", x.ID(), out)
		}
		if err := x.Destroy(); err != nil {
			t.Error(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if after := machine(t, cfg); !slices.Equal(idle, after) {
		t.Errorf("left behind:\n%s", diff(idle, after))
	}
}

// serveUntilKilled is the server that TestKilledServer kills.
func serveUntilKilled(args string) error {
	var cfg Config
	var network string
	if _, err := fmt.Sscan(args, &cfg.State, &cfg.Name, &network, &cfg.FirstID); err != nil {
		return err
	}
	cfg.Network = netip.MustParsePrefix(network)
	cfg.Binary = os.Getenv("BERTH_TEST_AGENT")
	cfg.Image = func(string) (string, error) { return os.Getenv("BERTH_TEST_IMAGE"), nil }
	cfg.Max = 5
	cfg.Defaults = labs.Limits{Memory: 64 << 20, Processes: 64, Disk: 128 << 20}
	ctx := context.Background()
	b, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	boxes, err := b.Adopt(ctx)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		if len(boxes) >= 3 {
			if err := boxes[0].Destroy(); err != nil {
				return err
			}
			boxes = boxes[1:]
		}
		x, err := b.Start(ctx, labs.Spec{Image: "test"})
		if err != nil {
			return err
		}
		boxes = append(boxes, x)
	}
}

func TestTwoServers(t *testing.T) {
	cfg := testConfig(t)
	open(t, cfg)
	other := testConfig(t)
	for _, c := range []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"same state", func(c *Config) { c.State = cfg.State }, "state directory"},
		{"same name", func(c *Config) { c.Name = cfg.Name }, "choose another name"},
		{"same ids", func(c *Config) { c.FirstID = cfg.FirstID }, "choose another first id"},
		{"same network", func(c *Config) { c.Network = cfg.Network }, "choose another network"},
	} {
		second := other
		c.change(&second)
		if b, err := New(t.Context(), second); err == nil {
			b.Close()
			t.Errorf("%s: two servers", c.name)
		} else if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, want %q in it", c.name, err, c.says)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
	}{
		{"colon in state", func(c *Config) { c.State = "/tmp/a:b" }},
		{"long name", func(c *Config) { c.Name = "toolongname" }},
		{"name with a dash", func(c *Config) { c.Name = "a-b" }},
		{"no image source", func(c *Config) { c.Image = nil }},
		{"no program", func(c *Config) { c.Binary = "" }},
		{"small network", func(c *Config) { c.Network = netip.MustParsePrefix("10.1.0.0/31") }},
		{"IPv6", func(c *Config) { c.Network = netip.MustParsePrefix("fd00::/64") }},
		{"more than the network holds", func(c *Config) { c.Max = 6 }},
		{"ids of the machine's users", func(c *Config) { c.FirstID = 1000 }},
		{"ids that end too early", func(c *Config) { c.FirstID = 1<<32 - 1<<17 }},
	} {
		cfg := testConfig(t)
		c.change(&cfg)
		if b, err := New(t.Context(), cfg); !errors.Is(err, labs.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", c.name, err)
			if err == nil {
				b.Close()
			}
		}
	}
}
