package local

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Finding is whether one thing that sandboxes need is there.
type Finding struct {
	Name     string // what it is about: "user namespaces"
	OK       bool
	Detail   string // what was found, one sentence
	Fix      string // how to get it, one sentence; "" when OK
	Optional bool   // sandboxes work without it, with the drawback in Detail
}

// Check looks at what New and Start will need on this machine, by trying it
// where that leaves nothing behind. It neither needs nor disturbs a server.
func Check(ctx context.Context, cfg Config) []Finding {
	if cfg.Image == nil {
		cfg.Image = func(string) (string, error) { return "", os.ErrNotExist }
	}
	if cfg.Binary == "" {
		cfg.Binary = "/proc/self/exe"
	}
	cfg, err := cfg.complete()
	d := &doctor{cfg: cfg}
	d.note("settings", err, "they fit together", "Correct the setting that is named.")
	root := os.Geteuid() == 0
	var rootErr error
	if !root {
		rootErr = fmt.Errorf("this is user %d; making namespaces for others, disks and firewall rules takes root", os.Geteuid())
	}
	d.note("root", rootErr, "running as root", "Run it with sudo, or as a system service.")
	d.kernel()
	d.program("OCI runtime", cfg.Runtime, "apt-get install runc", "--version")
	d.program("disk formatter", "mkfs.ext4", "apt-get install e2fsprogs", "-V")
	d.agent()
	d.groups()
	if err == nil && root {
		d.try(ctx)
	}
	d.device("/dev/net/tun", true, "VPN programs in sandboxes do not work")
	d.forwarding()
	d.overlap()
	d.space()
	d.memory()
	d.ids()
	return d.findings
}

type doctor struct {
	cfg      Config
	findings []Finding
}

// note records what came of looking at something.
func (d *doctor) note(name string, err error, found, fix string) {
	if err != nil {
		d.findings = append(d.findings, Finding{Name: name, Detail: err.Error(), Fix: fix})
		return
	}
	d.findings = append(d.findings, Finding{Name: name, OK: true, Detail: found})
}

// optional is note for what sandboxes work without.
func (d *doctor) optional(name string, err error, found, fix string) {
	d.note(name, err, found, fix)
	d.findings[len(d.findings)-1].Optional = true
}

func (d *doctor) kernel() {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		d.note("kernel", err, "", "")
		return
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	fmt.Sscanf(release, "%d.%d", &major, &minor)
	var err error
	if major < 5 || major == 5 && minor < 19 {
		err = fmt.Errorf("this is Linux %s; images are shared through shifted ids, which overlays have had since 5.19", release)
	}
	d.note("kernel", err, "Linux "+release, "Install a newer kernel: Debian 12 has 6.1 (apt-get install linux-image-amd64).")
}

func (d *doctor) program(what, name, install, versionFlag string) {
	path, err := findProgram(name)
	if err != nil {
		d.note(what, fmt.Errorf("%s is not installed", name), "", "On Debian: "+install+".")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, versionFlag).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s does not run: %w", path, err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	d.note(what, err, first+" ("+path+")", "On Debian: "+install+".")
}

// agent checks that the agent's program runs without libraries, which an image
// need not have.
func (d *doctor) agent() {
	f, err := elf.Open(d.cfg.Binary)
	if err == nil {
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				err = errors.New("it needs shared libraries, which an image may lack or have in another version")
			}
		}
	}
	d.note("agent program", err, "needs nothing of an image", "Build berth with CGO_ENABLED=0.")
}

func (d *doctor) groups() {
	c, err := findCgroups(d.cfg.Name)
	if err != nil {
		d.note("control groups", err, "", "Boot with control groups mounted at /sys/fs/cgroup; on version 1 the kernel parameter cgroup_enable=memory may be missing.")
		return
	}
	version := "version 1"
	if c.v2 {
		version = "version 2"
	}
	d.note("control groups", nil, version+" with cpu, memory and pids", "")
	swaps, _ := os.ReadFile("/proc/swaps")
	if strings.Count(string(swaps), "\n") < 2 {
		return
	}
	// v1 has the file in its root too, v2 in every group but the root.
	if _, missing := os.Stat(filepath.Join(c.roots["memory"], "memory.memsw.limit_in_bytes")); !c.v2 && missing != nil {
		d.optional("swap limit", errors.New("swap is on and not accounted: a sandbox that runs out of memory swaps instead of stopping"), "",
			"Boot with the kernel parameter swapaccount=1, or turn swap off.")
	}
}

// try makes one of everything in a scratch directory and a scratch network
// namespace.
func (d *doctor) try(ctx context.Context) {
	const modules = "Use a distribution kernel with user namespaces (sysctl user.max_user_namespaces above 0)."
	users, err := newUserNamespace(int(d.cfg.FirstID))
	d.note("user namespaces", err, "made one for 65,536 ids", modules)
	if err == nil {
		defer users.Close()
	}
	dir, err := scratch(d.cfg.State)
	if err != nil {
		d.note("state directory", err, "", "Choose a state directory on a writable disk.")
		return
	}
	at := layout{dir}
	defer os.RemoveAll(dir)
	defer func() {
		for _, m := range []string{at.rootfs(), at.lower(), at.disk()} {
			if unmount(m) != nil {
				return
			}
		}
		_ = detachLoops(dir)
	}()
	for _, sub := range []string{at.disk(), at.lower(), at.rootfs(), filepath.Join(dir, "image")} {
		if err == nil {
			err = os.Mkdir(sub, 0o711)
		}
	}
	if err == nil {
		err = (&disks{dir: dir}).create(ctx, at.image(), minDisk)
	}
	if err == nil {
		err = mountDisk(at.image(), at.disk())
	}
	d.note("disks", err, "ext4 in a loop device can be mounted", "Loop devices and ext4 are needed (modprobe loop ext4); in a container, they must be passed in.")
	if err == nil && users != nil {
		for _, sub := range []string{at.upper(), at.work()} {
			err = errors.Join(err, os.Mkdir(sub, 0o755))
		}
		if err == nil {
			err = mountRootfs(filepath.Join(dir, "image"), at.lower(), at.upper(), at.work(), at.rootfs(), users)
		}
		d.note("shared images", err, "an overlay with shifted ids can be mounted", "Linux 5.19 with overlayfs is needed, and a state directory on ext4, xfs or btrfs.")
	}
	err = d.tryNetwork()
	d.note("firewall and links", err, "nftables, bridges and veth work", "Use a distribution kernel with nf_tables, bridge and veth (modprobe nf_tables bridge veth).")
}

// tryNetwork sets up the real firewall where it filters nothing.
func (d *doctor) tryNetwork() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	ns, err := netns.New()
	if err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	defer ns.Close()
	if err := netns.Set(home); err != nil {
		// The thread is of no use to anybody else; leave it locked.
		runtime.LockOSThread()
		return fmt.Errorf("return to network namespace: %w", err)
	}
	f := &firewall{cfg: d.cfg, options: []nftables.ConnOption{nftables.WithNetNSFd(int(ns))}}
	if err := f.open(nil, nil); err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: d.cfg.gatewayLink()}}); err != nil {
		return fmt.Errorf("make bridge: %w", err)
	}
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: d.cfg.link(0)})
	pair.PeerName = "eth0"
	if err := h.LinkAdd(pair); err != nil {
		return fmt.Errorf("make veth: %w", err)
	}
	return nil
}

// scratch makes a directory on the disk that the state directory is or will
// be on.
func scratch(state string) (string, error) {
	return os.MkdirTemp(existing(state), ".doctor")
}

// existing is dir, or the nearest directory above it that is there.
func existing(dir string) string {
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

func (d *doctor) device(path string, optional bool, without string) {
	_, err := os.Stat(path)
	if err != nil {
		err = fmt.Errorf("%s is missing: %s", path, without)
	}
	d.optional(path, err, "is there", "modprobe tun.")
	d.findings[len(d.findings)-1].Optional = optional
}

// forwarding looks for what keeps sandboxes from the internet when a lesson
// allows it.
func (d *doctor) forwarding() {
	text, err := os.ReadFile(ipForward)
	if err != nil {
		d.optional("routing", fmt.Errorf("lessons cannot reach the internet: %w", err), "", "IPv4 is needed.")
		return
	}
	detail := "on"
	if strings.HasPrefix(string(text), "0") {
		detail = "off; it is turned on while a lesson may reach the internet, for sandboxes only"
	}
	d.optional("routing", nil, detail, "")
	nft, err := nftables.New()
	if err != nil {
		return
	}
	chains, err := nft.ListChains()
	if err != nil {
		return
	}
	for _, c := range chains {
		if c.Table.Name == d.cfg.Name || c.Hooknum == nil || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		switch {
		case c.Table.Family != nftables.TableFamilyIPv4 && c.Table.Family != nftables.TableFamilyINet:
		case *c.Hooknum == *nftables.ChainHookForward:
			d.optional("other firewalls", fmt.Errorf("chain %s of table %s drops what it does not know: lessons cannot reach the internet", c.Name, c.Table.Name), "",
				fmt.Sprintf("Allow forwarding from and to the interfaces %s*.", d.cfg.linkPrefix()))
		case *c.Hooknum == *nftables.ChainHookInput && d.cfg.Mirror != 0:
			d.optional("other firewalls", fmt.Errorf("chain %s of table %s drops what it does not know: sandboxes cannot reach the mirror", c.Name, c.Table.Name), "",
				fmt.Sprintf("Allow TCP port %d from the interfaces %s*.", d.cfg.Mirror, d.cfg.linkPrefix()))
		}
	}
}

func (d *doctor) overlap() {
	n := &network{cfg: d.cfg}
	d.note("addresses", n.checkOverlap(), d.cfg.Network.String()+" is free", "Choose a network for sandboxes that this machine does not use.")
	if len(d.cfg.DNS) == 0 && len(machineResolvers()) == 0 {
		d.optional("name servers", errors.New("this machine has none that sandboxes can reach: lessons with internet access cannot look up names"), "",
			"Name the name servers that sandboxes shall use.")
	}
}

func (d *doctor) space() {
	var fs unix.Statfs_t
	err := unix.Statfs(existing(d.cfg.State), &fs)
	free, want := int64(fs.Bavail)*fs.Bsize, d.cfg.Defaults.Disk+reserve
	if err == nil && free < want {
		err = fmt.Errorf("%d MiB free for %s, one sandbox may take %d MiB", free>>20, d.cfg.State, want>>20)
	}
	d.note("disk space", err, fmt.Sprintf("%d GiB free", free>>30), "Free some, choose another state directory, or lower the disk limit.")
}

func (d *doctor) memory() {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		d.note("memory", err, "", "")
		return
	}
	defer f.Close()
	var available int64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			available = kib << 10
		}
	}
	if available < d.cfg.Defaults.Memory {
		err = fmt.Errorf("%d MiB free, one sandbox may take %d MiB", available>>20, d.cfg.Defaults.Memory>>20)
	}
	d.note("memory", err, fmt.Sprintf("%d MiB free", available>>20), "Add memory, or lower the memory limit.")
}

// ids looks whether somebody else has the sandboxes' user ids.
func (d *doctor) ids() {
	first, last := uint64(d.cfg.FirstID), uint64(d.cfg.FirstID)+uint64(d.cfg.Max)*idsPerBox-1
	d.note("user ids", checkIDs("/etc", first, last), fmt.Sprintf("%d to %d are free", first, last), "Choose another first id for sandboxes.")
}

// checkIDs reports who has ids from first to last by the files in etc.
func checkIDs(etc string, first, last uint64) error {
	for _, file := range []struct {
		name  string
		first int // the field with the first id
		count int // the field with how many, or -1
	}{{"passwd", 2, -1}, {"group", 2, -1}, {"subuid", 1, 2}, {"subgid", 1, 2}} {
		text, err := os.ReadFile(filepath.Join(etc, file.name))
		if err != nil {
			continue // not every machine has them all
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Split(strings.TrimSpace(line), ":")
			if len(fields) <= max(file.first, file.count) {
				continue
			}
			from, err := strconv.ParseUint(fields[file.first], 10, 32)
			count := uint64(1)
			if file.count >= 0 && err == nil {
				count, err = strconv.ParseUint(fields[file.count], 10, 32)
			}
			if err == nil && count > 0 && from <= last && from+count-1 >= first {
				return fmt.Errorf("%s/%s gives ids from %d on to %s, sandboxes have %d to %d", etc, file.name, from, fields[0], first, last)
			}
		}
	}
	return nil
}
