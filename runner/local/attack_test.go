package local

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"berth/labs"
)

// answers reports whether the sandbox still works.
func (b *box) answers(t *testing.T) {
	t.Helper()
	if out := b.must(t, "echo well"); out != "well\n" {
		t.Errorf("sandbox %s says %q", b.ID(), out)
	}
}

func TestForkBombHitsItsOwnLimit(t *testing.T) {
	b := open(t, testConfig(t))
	x, neighbour := start(t, b, labs.Spec{Limits: labs.Limits{Processes: 64}}), start(t, b, labs.Spec{})
	x.must(t, "(b() { b | b & }; b; sleep 60) > /dev/null 2>&1 &")
	deadline := time.Now().Add(20 * time.Second)
	for {
		u, err := x.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if u.Processes > 64 {
			t.Fatalf("%d processes, the limit is 64", u.Processes)
		}
		if u.ForkFails > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no fork was refused: %+v", u)
		}
	}
	neighbour.answers(t)
	if err := x.Destroy(); err != nil {
		t.Error(err)
	}
}

func TestMemoryHogIsKilledInside(t *testing.T) {
	b := open(t, testConfig(t))
	x, neighbour := start(t, b, labs.Spec{Limits: labs.Limits{Memory: 64 << 20}}), start(t, b, labs.Spec{})
	out, exit, err := x.run(within(t, 60*time.Second), `awk 'BEGIN { x = "x"; while (1) x = x x }' > /dev/null 2>&1 & wait $!; echo exit $?`)
	if err != nil || !strings.HasSuffix(out, "exit 137\n") {
		t.Errorf("hog: exit %d, error %v, output %q, want it killed (137)", exit, err, out)
	}
	u, err := x.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if u.OOMKills == 0 || u.Memory > 64<<20 {
		t.Errorf("usage after it: %+v", u)
	}
	x.answers(t)
	neighbour.answers(t)
}

func TestDiskFillerGetsNoSpace(t *testing.T) {
	b := open(t, testConfig(t))
	x := start(t, b, labs.Spec{Limits: labs.Limits{Disk: 64 << 20}})
	for _, dir := range []string{"/root", "/var/lib/docker", "/tmp", "/run", "/dev/shm", "/dev"} {
		out, _, err := x.run(within(t, 60*time.Second), "dd if=/dev/zero of="+dir+"/fill bs=64k count=4000; rm "+dir+"/fill")
		if err != nil || !strings.Contains(out, "No space left on device") {
			t.Errorf("%s: %v, %q, want no space left", dir, err, out)
		}
	}
	// And with everything full the sandbox goes on, and so does its limit.
	x.run(within(t, 60*time.Second), "dd if=/dev/zero of=/fill bs=64k")
	var img unix.Stat_t
	if err := unix.Stat(x.at.image(), &img); err != nil {
		t.Fatal(err)
	}
	if used := img.Blocks * 512; used > 64<<20 {
		t.Errorf("its disk takes %d bytes of the machine, the limit is %d", used, 64<<20)
	}
	x.answers(t)
	u, err := x.Usage(t.Context())
	if err != nil || u.Disk < 55<<20 || u.Disk > 64<<20 {
		t.Errorf("usage %+v, %v", u, err)
	}
}

func TestAgentsLogCountsOnItsOwnDisk(t *testing.T) {
	b := open(t, testConfig(t))
	x := start(t, b, labs.Spec{Limits: labs.Limits{Disk: 64 << 20}})
	out, _, err := x.run(within(t, 60*time.Second), "dd if=/dev/zero of=/proc/1/fd/1 bs=64k count=4000")
	if err != nil || strings.Contains(out, "4000+0 records out") {
		t.Errorf("its log took 250 MiB: %v %q", err, out)
	}
	x.answers(t)
}

func TestInotifyExhaustionStaysInside(t *testing.T) {
	b := open(t, testConfig(t))
	x, neighbour := start(t, b, labs.Spec{}), start(t, b, labs.Spec{})
	x.must(t, "mkfifo /hold; (/run/berth/berth inotify < /hold > /made 2>&1) & exec 3> /hold; i=0; while [ ! -s /made ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; sleep 1000 >/dev/null 2>&1 <&3 3>&3 &")
	n, err := strconv.Atoi(strings.TrimSpace(x.must(t, "cat /made")))
	if err != nil || n == 0 {
		t.Fatalf("made %d instances, %v", n, err)
	}
	if got := neighbour.must(t, "/run/berth/berth inotify < /dev/null"); strings.TrimSpace(got) == "0" {
		t.Errorf("with %d instances in one sandbox, there is none for its neighbour", n)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatalf("with %d instances in a sandbox, there is none for the machine: %v", n, err)
	}
	unix.Close(fd)
}

func TestRootIsNobodyOutside(t *testing.T) {
	b := open(t, testConfig(t))
	x, y := start(t, b, labs.Spec{}), start(t, b, labs.Spec{})
	for _, box := range []*box{x, y} {
		first := b.cfg.firstID(box.rec.Slot)
		proc := "/proc/" + strconv.Itoa(box.rec.PID)
		status, err := os.ReadFile(proc + "/status")
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"Uid", "Gid"} {
			want := fmt.Sprintf("%s:\t%d\t%d\t%d\t%d\n", field, first, first, first, first)
			if !bytes.Contains(status, []byte(want)) {
				t.Errorf("%s/status has no %q", proc, want)
			}
		}
		for _, file := range []string{"/uid_map", "/gid_map"} {
			data, err := os.ReadFile(proc + file)
			if got := strings.Join(strings.Fields(string(data)), " "); err != nil || got != fmt.Sprintf("0 %d 65536", first) {
				t.Errorf("%s%s: %q %v", proc, file, got, err)
			}
		}
		for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
			inside, err := os.Readlink(proc + "/ns/" + ns)
			outside, err2 := os.Readlink("/proc/self/ns/" + ns)
			if err != nil || err2 != nil || inside == outside {
				t.Errorf("namespace %s is shared: %s %s", ns, inside, outside)
			}
		}
	}
	x.must(t, "echo mine > /root/secret; chmod 4755 /root/secret")
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(x.at.rootfs(), "root/secret"), &st); err != nil || int(st.Uid) != b.cfg.firstID(x.rec.Slot) {
		t.Errorf("a file that root made inside belongs to %d outside, %v", st.Uid, err)
	}
	// Other users of the machine do not get at it.
	if st, err := os.Stat(x.at.dir); err != nil || st.Mode().Perm()&0o007 != 0 {
		t.Errorf("%s is open to everybody: %v %v", x.at.dir, st.Mode(), err)
	}
}

// TestRefusedInside lists what root inside must not be able to do. A script
// prints "refused" when it was.
func TestRefusedInside(t *testing.T) {
	b := open(t, testConfig(t))
	x := start(t, b, labs.Spec{})
	program, err := os.ReadFile(b.agent)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ attack, script string }{
		{"write to the agent's program", "echo x > /run/berth/berth || echo refused"},
		{"make the agent's program writable", "chmod 777 /run/berth/berth || echo refused"},
		{"remount the agent's program to write to it", "mount -o remount,bind,rw /run/berth/berth; echo x > /run/berth/berth || echo refused"},
		{"write to the agent's program through its process", "echo x > /proc/1/exe || echo refused"},
		{"own the agent's program", "chown 0:0 /run/berth/berth || echo refused"},
		{"make the machine's disk as a device", "mknod /tmp/d b 254 0 || echo refused"},
		{"make a SCSI disk as a device", "mknod /tmp/e b 8 0 || echo refused"},
		{"make a loop device", "mknod /tmp/f b 7 0 || echo refused"},
		{"make the memory device", "mknod /tmp/g c 1 1 || echo refused"},
		{"use loop devices", "[ -e /dev/loop-control ] || [ -e /dev/loop0 ] || echo refused"},
		{"mount an image", "dd if=/dev/zero of=/img bs=1M count=2 2>/dev/null; mkfs.ext2 /img >/dev/null 2>&1; mount -o loop /img /tmp || echo refused"},
		{"mount kernel debugging", "mount -t debugfs d /tmp || mount -t tracefs d /tmp || echo refused"},
		{"mount device files", "mount -t devtmpfs d /tmp && ls /tmp/vda /tmp/loop0 || echo refused"},
		{"raise its memory limit", "[ -d /sys/fs/cgroup/memory ] && f=memory/memory.limit_in_bytes || f=memory.max; echo 1000000000 > /sys/fs/cgroup/$f || echo refused"},
		{"raise its process limit", "[ -d /sys/fs/cgroup/pids ] && f=pids/pids.max || f=pids.max; echo max > /sys/fs/cgroup/$f || echo refused"},
		{"raise its CPU limit", "[ -d /sys/fs/cgroup/cpu ] && f=cpu/cpu.cfs_quota_us || f=cpu.max; echo 90000 > /sys/fs/cgroup/$f || echo refused"},
		{"mount control groups to see those above", "mkdir -p /g; mount -t cgroup -o pids c /g || mount -t cgroup2 c /g; cd /g; ls ../*/pids.max /g/" + b.cfg.Name + " 2>/dev/null || echo refused"},
		{"leave its control groups", "mkdir -p /h; mount -t cgroup -o memory c /h || mount -t cgroup2 c /h; cd /h; ls .. | grep -x " + strconv.Quote(b.cfg.Name) + " || echo refused"},
		{"set a release agent", "mount -t cgroup -o pids c /g 2>/dev/null; echo /bin/sh > /g/release_agent || echo refused"},
		{"write a global sysctl", "echo 1 > /proc/sys/kernel/panic || echo refused"},
		{"set what handles core dumps", "echo '|/bin/sh' > /proc/sys/kernel/core_pattern || echo refused"},
		{"reboot the machine", "echo b > /proc/sysrq-trigger || echo refused"},
		{"read kernel memory", "head -c1 /proc/kcore || echo refused"},
		{"read the kernel's log", "dmesg | grep . || echo refused"},
		{"load a firmware path", "echo -n /tmp > /sys/module/firmware_class/parameters/path || echo refused"},
		{"write to sysfs", "for f in /sys/kernel/mm/transparent_hugepage/enabled /sys/kernel/uevent_helper /sys/block/vda/queue/nr_requests; do echo 1 > $f; done && echo written || echo refused"},
		{"find its own socket", "find / -name agent.sock -o -name state.json -o -name disk.img 2>/dev/null | grep . || echo refused"},
		{"see the machine's processes", "ls -d /proc/[0-9]* | wc -l | awk '$1 > 20 { print \"seen\" } $1 <= 20 { print \"refused\" }'"},
		{"raise its priority", "nice -n -20 true 2>&1 | grep -q . && echo refused; true"},
	} {
		out, _, err := x.run(within(t, 30*time.Second), "{ "+c.script+"; } 2>/tmp/err")
		if err != nil || !strings.HasSuffix(strings.TrimSpace(out), "refused") {
			t.Errorf("%s: %v, %q", c.attack, err, out)
		}
	}
	now, err := os.ReadFile(b.agent)
	if err != nil || sha256.Sum256(now) != sha256.Sum256(program) {
		t.Errorf("the agent's program changed, %v", err)
	}
	// What it may do with its own groups never lifts the limits above.
	x.run(within(t, 30*time.Second), "for d in /sys/fs/cgroup/pids /sys/fs/cgroup/memory /sys/fs/cgroup; do [ -d $d ] && mkdir $d/own 2>/dev/null; echo max > $d/own/pids.max; echo 999999999999 > $d/own/memory.limit_in_bytes; echo max > $d/own/memory.max; done 2>/dev/null; true")
	out, _, err := x.run(within(t, 30*time.Second), "d=/sys/fs/cgroup/pids; [ -d $d ] || d=/sys/fs/cgroup; echo $$ > $d/own/cgroup.procs; i=0; while [ $i -lt 150 ]; do sleep 5 >/dev/null 2>&1 & i=$((i+1)); done 2>&1")
	if err != nil || !strings.Contains(out, "can't fork") {
		t.Errorf("in a group of its own with no limit: %v %q", err, out)
	}
	if u, err := x.Usage(t.Context()); err != nil || u.Processes > 100 || u.ForkFails == 0 {
		t.Errorf("in a group of its own with no limit: %+v %v\n%.300s", u, err, out)
	}
}

func TestSystemCallsThatAreNotThere(t *testing.T) {
	b := open(t, testConfig(t))
	x := start(t, b, labs.Spec{})
	want := `socket vsock EAFNOSUPPORT
socket alg EAFNOSUPPORT
socket can EAFNOSUPPORT
socket vsock with high bits EAFNOSUPPORT
socket unix allowed
socket inet6 allowed
keyctl ENOSYS
bpf EPERM
kexec_load EPERM
init_module EPERM
perf_event_open EPERM
userfaultfd EPERM
io_uring_setup ENOSYS
syslog EPERM
settimeofday EPERM
reboot EINVAL
`
	if got := x.must(t, "/run/berth/berth probe"); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestKillingEverythingInsideLeavesTheAgent(t *testing.T) {
	b := open(t, testConfig(t))
	x := start(t, b, labs.Spec{})
	x.run(within(t, 10*time.Second), "kill -9 1; kill -9 -1")
	x.answers(t)
}

func TestLinksInTheRootFileSystemLeadNowhereOutside(t *testing.T) {
	b := open(t, testConfig(t))
	x := start(t, b, labs.Spec{})
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o666); err != nil {
		t.Fatal(err)
	}
	x.must(t, "rm -rf /etc /root /tmp/*; ln -s "+filepath.Dir(victim)+" /etc; ln -s "+filepath.Dir(victim)+" /root; ln -s "+filepath.Dir(victim)+" /var/lib/docker/x; chmod 777 /; chattr +i /bin 2>/dev/null; true")
	if err := x.Destroy(); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "untouched" {
		t.Errorf("%q %v", data, err)
	}
}

// outside is a machine beyond this one, in a network namespace: a public
// address that answers, and a private one.
type outside struct {
	public, private, uplink netip.Addr
	heard                   chan string // what datagrams said
}

// makeOutside makes it. It is reached through a link of its own.
func makeOutside(t *testing.T) *outside {
	t.Helper()
	n := byte(os.Getpid()%200 + 1)
	o := &outside{
		public:  netip.AddrFrom4([4]byte{192, 88, 99, n}), // no longer assigned to anybody
		private: netip.AddrFrom4([4]byte{172, 30, n, 1}),
		uplink:  netip.AddrFrom4([4]byte{172, 30, n, 2}),
		heard:   make(chan string, 100),
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	far, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	defer netns.Set(home)

	// In the far namespace now; sockets made here stay here.
	fail := func(what string, err error) {
		if err != nil {
			netns.Set(home)
			t.Fatalf("%s: %v", what, err)
		}
	}
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: "far0"})
	pair.PeerName = fmt.Sprintf("up%x", os.Getpid()%65536)
	pair.PeerNamespace = netlink.NsFd(home)
	fail("make link", netlink.LinkAdd(pair))
	link, err := netlink.LinkByName("far0")
	fail("find link", err)
	lo, err := netlink.LinkByName("lo")
	fail("find lo", err)
	fail("set address", netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: o.private.AsSlice(), Mask: net.CIDRMask(30, 32)}}))
	fail("set address", netlink.AddrAdd(lo, &netlink.Addr{IPNet: single(o.public)}))
	fail("set up", netlink.LinkSetUp(lo))
	fail("set up", netlink.LinkSetUp(link))
	for _, p := range []int{53, 80} {
		l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", p))
		fail("listen", err)
		t.Cleanup(func() { l.Close() })
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			io.WriteString(w, "from "+host+"\n")
		}))
	}
	pc, err := net.ListenPacket("udp4", "0.0.0.0:9")
	fail("listen", err)
	t.Cleanup(func() { pc.Close() })
	go func() {
		for {
			buf := make([]byte, 100)
			n, _, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			select {
			case o.heard <- string(buf[:n]):
			default:
			}
		}
	}()

	netns.Set(home)
	up, err := netlink.LinkByName(pair.PeerName)
	fail("find link", err)
	t.Cleanup(func() { netlink.LinkDel(up) })
	fail("set address", netlink.AddrAdd(up, &netlink.Addr{IPNet: &net.IPNet{IP: o.uplink.AsSlice(), Mask: net.CIDRMask(30, 32)}}))
	fail("set up", netlink.LinkSetUp(up))
	fail("route", netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: single(o.public), Gw: o.private.AsSlice()}))
	return o
}

func TestNetworkReach(t *testing.T) {
	out := makeOutside(t)
	cfg := testConfig(t)
	cfg.DNS = []netip.Addr{out.private}
	b := open(t, cfg)
	var served atomic.Int64
	serve := func(address string) {
		t.Helper()
		l, err := net.Listen("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			io.WriteString(w, "from here\n")
		}))
	}
	gateway := b.Gateway().String()
	serve(gateway + ":5000")
	serve("0.0.0.0:5001")

	boxes := map[labs.Egress]*box{}
	for _, e := range []labs.Egress{labs.EgressNone, labs.EgressMirror, labs.EgressInternet} {
		boxes[e] = start(t, b, labs.Spec{Egress: e})
	}
	neighbour := start(t, b, labs.Spec{Egress: labs.EgressInternet})
	neighbour.must(t, "/run/berth/berth serve :80 > /dev/null 2>&1 & i=0; until /run/berth/berth get http://127.0.0.1/; do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done")
	all := []labs.Egress{labs.EgressNone, labs.EgressMirror, labs.EgressInternet}
	for _, c := range []struct {
		what, url string
		allowed   []labs.Egress
	}{
		{"the mirror", "http://" + gateway + ":5000/", all[1:]},
		{"another service at the gateway", "http://" + gateway + ":5001/", nil},
		{"a service at the machine's own address", "http://" + out.uplink.String() + ":5001/", nil},
		{"a neighbour", "http://" + b.cfg.address(neighbour.rec.Slot).String() + "/", nil},
		{"a metadata service", "http://169.254.169.254/", nil},
		{"a private address", "http://" + out.private.String() + "/", nil},
		{"a public address", "http://" + out.public.String() + "/", all[2:]},
		{"a name server at a private address", "http://" + out.private.String() + ":53/", all[2:]},
		{"another private network", "http://192.168.1.1/", nil},
		{"carrier-grade NAT", "http://100.100.100.200/", nil},
	} {
		for _, e := range all {
			allowed := false
			for _, a := range c.allowed {
				allowed = allowed || a == e
			}
			began := time.Now()
			got, exit, err := boxes[e].run(within(t, 20*time.Second), "/run/berth/berth get "+c.url)
			if err != nil {
				t.Fatal(err)
			}
			if (exit == 0) != allowed {
				t.Errorf("egress %s, %s: exit %d, %q, allowed: %v", e, c.what, exit, got, allowed)
			}
			// Refused at once, not after a time-out.
			if took := time.Since(began); !allowed && took > 3*time.Second {
				t.Errorf("egress %s, %s: it took %v to be refused", e, c.what, took)
			}
		}
	}
	// Outside, a sandbox's address is never seen.
	if got := boxes[labs.EgressInternet].must(t, "/run/berth/berth get http://"+out.public.String()); got != "from "+out.uplink.String()+"\n" {
		t.Errorf("seen outside: %q", got)
	}
	if got := boxes[labs.EgressInternet].must(t, "cat /etc/resolv.conf"); got != "nameserver "+out.private.String()+"\n" {
		t.Errorf("resolv.conf: %q", got)
	}
	// The mirror's answers reach those who may ask, and nobody else did.
	if n := served.Load(); n != 2 {
		t.Errorf("services of this machine answered %d times, 2 were allowed", n)
	}
}

func TestSpoofedSourceAddress(t *testing.T) {
	out := makeOutside(t)
	b := open(t, testConfig(t))
	victim := start(t, b, labs.Spec{Egress: labs.EgressInternet})
	spoofer := start(t, b, labs.Spec{Egress: labs.EgressNone})
	send := func(x *box, from netip.Addr) {
		x.run(within(t, 10*time.Second), fmt.Sprintf("/run/berth/berth send %s:9 %s", out.public, from))
	}
	stolen := b.cfg.address(victim.rec.Slot)
	spoofer.must(t, "ip addr add "+stolen.String()+"/32 dev eth0")
	send(spoofer, stolen)
	// The same from its owner arrives, and would arrive second.
	send(victim, stolen)
	select {
	case who := <-out.heard:
		if who != victim.ID() {
			t.Error("a datagram with a stolen address got out")
		}
	case <-time.After(5 * time.Second):
		t.Error("the owner's own datagram did not arrive")
	}
}

// tracked gives how many connections from an address the machine remembers.
func tracked(t *testing.T, from netip.Addr) (n int) {
	t.Helper()
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(unix.AF_INET))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		if f.Forward.SrcIP.Equal(from.AsSlice()) {
			n++
		}
	}
	return n
}

// TestConnectionFloodLeavesRoomInTheMachinesTable has sandboxes make connections
// and forget them, which the machine's own table of them remembers for minutes.
func TestConnectionFloodLeavesRoomInTheMachinesTable(t *testing.T) {
	out := makeOutside(t)
	cfg := testConfig(t)
	cfg.DNS = []netip.Addr{out.private}
	b := open(t, cfg)
	l, err := net.Listen("tcp4", netip.AddrPortFrom(b.Gateway(), cfg.Mirror).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	x := start(t, b, labs.Spec{Egress: labs.EgressInternet})
	entries := func() int { return tracked(t, x.rec.Address) }
	for _, c := range []struct {
		network, address string
		most             int // beyond maxRate a second
	}{
		{"tcp", l.Addr().String(), 0},
		{"udp", out.private.String() + ":53", 10 * maxRate},
		{"udp", out.public.String() + ":9", 10 * maxRate},
	} {
		before, began := entries(), time.Now()
		x.run(within(t, 30*time.Second), "/run/berth/berth flood "+c.network+" "+c.address)
		most := c.most
		if most > 0 {
			most += maxRate * int(time.Since(began)/time.Second+1)
		}
		if n := entries() - before; n > most {
			t.Errorf("%s to %s: one sandbox has %d connections in the machine's table, at most %d were expected", c.network, c.address, n, most)
		}
	}
	x.answers(t)
}

func TestForwardingIsUndone(t *testing.T) {
	before, err := os.ReadFile(ipForward)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	b := open(t, cfg)
	x := start(t, b, labs.Spec{Egress: labs.EgressInternet})
	now, err := os.ReadFile(ipForward)
	if err != nil || strings.TrimSpace(string(now)) != "1" {
		t.Errorf("ip_forward is %q with a sandbox that may reach the internet, %v", now, err)
	}
	nft, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	guarded, err := nft.GetSetElements(b.network.firewall.guarded)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.HasPrefix(string(before), "0") && len(defaultLinks()) > 0; (len(guarded) > 0) != want {
		t.Errorf("%d uplinks are guarded, want some: %v", len(guarded), want)
	}
	if err := x.Destroy(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(ipForward); err != nil || !bytes.Equal(before, after) {
		t.Errorf("ip_forward was %q and is %q, %v", before, after, err)
	}
}
