package local

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/labs"
)

// agentPath is where the agent's program is inside; nothing inside can write it.
const agentPath = "/run/berth/berth"

// searchPath is the PATH of the agent.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// hostname is the name of every sandbox, which learners see in their prompt.
const hostname = "lab"

// A bundle is what the OCI runtime is told about a sandbox.
type bundle struct {
	id     string
	at     layout
	agent  string // program outside
	tun    string // device node outside, or ""
	users  *os.File
	first  int
	group  string
	limits labs.Limits
	mirror string // URL, or ""
}

// write writes the bundle's configuration.
func (b bundle) write() error {
	data, err := json.Marshal(b.spec())
	if err == nil {
		err = os.WriteFile(filepath.Join(b.at.bundle(), "config.json"), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

func (b bundle) spec() *specs.Spec {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(b.first), Size: idsPerBox}}
	// When memory runs out on the whole machine, sandboxes' programs go before
	// the machine's own.
	adjust := 200
	return &specs.Spec{
		Version:  "1.0.2",
		Hostname: hostname,
		Root:     &specs.Root{Path: b.at.rootfs()},
		Process: &specs.Process{
			User: specs.User{UID: 0, GID: 0},
			Args: []string{agentPath, "agent"},
			Cwd:  "/",
			Env: []string{
				"PATH=" + searchPath, "HOME=/root", "LANG=C.UTF-8",
				"BERTH_SANDBOX=" + b.id, "BERTH_MIRROR=" + b.mirror,
			},
			// They mean something inside the user namespace only. An engine
			// needs most of them.
			Capabilities: &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities},
			Rlimits:      rlimits(),
			OOMScoreAdj:  &adjust,
		},
		Mounts: b.mounts(),
		Linux: &specs.Linux{
			UIDMappings: ids,
			GIDMappings: ids,
			CgroupsPath: b.group,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.UserNamespace, Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.users.Fd())},
				{Type: specs.MountNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.CgroupNamespace},
			},
			Resources: &specs.LinuxResources{Devices: devices()},
			Sysctl:    sysctls(),
			Seccomp:   seccomp(),
			// Masked paths would keep an engine from mounting /proc for its
			// containers; the user namespace guards what is under them.
			MaskedPaths:   []string{},
			ReadonlyPaths: []string{},
		},
	}
}

func (b bundle) mounts() []specs.Mount {
	shm := strconv.FormatInt(max(b.limits.Memory/4, 16<<20), 10)
	run := strconv.FormatInt(max(b.limits.Memory/8, 8<<20), 10)
	m := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "dev", Options: []string{"nosuid", "strictatime", "mode=755", "size=64k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "nodev", "noexec", "mode=1777", "size=" + shm}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime"}},
		{Destination: "/run", Type: "tmpfs", Source: "run", Options: []string{"nosuid", "nodev", "mode=755", "size=" + run}},
		{Destination: agentPath, Type: "bind", Source: b.agent, Options: []string{"bind", "ro", "nosuid", "nodev"}},
		{Destination: "/var/lib/docker", Type: "bind", Source: b.at.docker(), Options: []string{"bind", "nodev"}},
	}
	if b.tun != "" {
		m = append(m, specs.Mount{Destination: "/dev/net/tun", Type: "bind", Source: b.tun, Options: []string{"bind", "nosuid", "noexec"}})
	}
	return m
}

// devices is what may be opened: what the runtime allows by default, and tun.
func devices() []specs.LinuxDeviceCgroup {
	major, minor := int64(10), int64(200)
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "rw"},
	}
}

// capabilities are those that Linux has had since 5.9, in the order of their
// numbers.
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// rlimits are those of the first process, which all others inherit. The runtime
// needs a capability to set them for a process of another user; without it the
// sandbox inherits the server's.
func rlimits() []specs.POSIXRlimit {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil || caps[0].Effective&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		return nil
	}
	return []specs.POSIXRlimit{
		{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 1 << 19},
		{Type: "RLIMIT_CORE"},
		{Type: "RLIMIT_MEMLOCK", Soft: 8 << 20, Hard: 8 << 20},
	}
}

// sysctls keep IPv6 off the interface to the outside, where it leads nowhere.
func sysctls() map[string]string {
	if _, err := os.Stat("/proc/sys/net/ipv6/conf/default/disable_ipv6"); err != nil {
		return nil
	}
	return map[string]string{"net.ipv6.conf.default.disable_ipv6": "1"}
}
