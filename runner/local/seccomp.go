package local

import (
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// seccomp is a second line of defence: parts of the kernel that neither an
// engine nor a lesson needs and that have a history of holes, or that know no
// namespaces. Everything else is left to the user namespace, since an engine
// needs mounts, namespaces and filters of its own.
func seccomp() *specs.LinuxSeccomp {
	eperm, enosys, noFamily := uint(unix.EPERM), uint(unix.ENOSYS), uint(unix.EAFNOSUPPORT)
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	switch runtime.GOARCH {
	case "amd64":
		s.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86}
	case "arm64":
		s.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	}
	s.Syscalls = []specs.LinuxSyscall{
		{
			// For root of the machine only; they would be refused anyway.
			Names: []string{
				"acct", "bpf", "delete_module", "finit_module", "init_module", "ioperm", "iopl",
				"kexec_file_load", "kexec_load", "lookup_dcookie", "nfsservctl", "open_by_handle_at",
				"perf_event_open", "quotactl", "quotactl_fd", "swapoff", "swapon", "syslog",
				"userfaultfd", "vm86", "vm86old",
			},
			Action: specs.ActErrno, ErrnoRet: &eperm,
		},
		{
			// Programs go another way when the kernel does not have these;
			// runc does without a keyring only after ENOSYS. socketcall would
			// hide the family of a socket from the rules below.
			Names: []string{
				"add_key", "keyctl", "request_key", "socketcall",
				"io_uring_enter", "io_uring_register", "io_uring_setup",
			},
			Action: specs.ActErrno, ErrnoRet: &enosys,
		},
	}
	// Sockets: unix, IPv4, IPv6, netlink, packet. In particular not vsock,
	// which leads past network namespaces to a hypervisor.
	family := func(op specs.LinuxSeccompOperator, n uint64) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"socket", "socketpair"}, Action: specs.ActErrno, ErrnoRet: &noFamily,
			Args: []specs.LinuxSeccompArg{{Index: 0, Value: n, Op: op}}}
	}
	for n := uint64(unix.AF_AX25); n < unix.AF_NETLINK; n++ {
		if n != unix.AF_INET6 {
			s.Syscalls = append(s.Syscalls, family(specs.OpEqualTo, n))
		}
	}
	s.Syscalls = append(s.Syscalls, family(specs.OpGreaterThan, unix.AF_PACKET))
	return s
}
