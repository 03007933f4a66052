package main

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probe tries system calls that a shell cannot, and prints what came of each.
func probe() {
	try := func(name string, errno unix.Errno) {
		if errno == 0 {
			fmt.Println(name, "allowed")
		} else {
			fmt.Println(name, unix.ErrnoName(errno))
		}
	}
	call := func(name string, trap uintptr, args ...uintptr) {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := unix.Syscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5])
		try(name, errno)
	}
	for _, f := range []struct {
		name   string
		family uintptr
	}{{"vsock", unix.AF_VSOCK}, {"alg", unix.AF_ALG}, {"can", unix.AF_CAN}, {"vsock with high bits", unix.AF_VSOCK | 1<<32}, {"unix", unix.AF_UNIX}, {"inet6", unix.AF_INET6}} {
		call("socket "+f.name, unix.SYS_SOCKET, f.family, unix.SOCK_DGRAM, 0)
	}
	var zero [128]byte
	p := uintptr(unsafe.Pointer(&zero))
	call("keyctl", unix.SYS_KEYCTL, 0, 0, 0)
	call("bpf", unix.SYS_BPF, 0, p, 128)
	call("kexec_load", unix.SYS_KEXEC_LOAD)
	call("init_module", unix.SYS_INIT_MODULE, p, 0, p)
	call("perf_event_open", unix.SYS_PERF_EVENT_OPEN, p, 0, 0, 0)
	call("userfaultfd", unix.SYS_USERFAULTFD)
	call("io_uring_setup", unix.SYS_IO_URING_SETUP, 1, p)
	call("syslog", unix.SYS_SYSLOG, 3, p, 128)
	call("settimeofday", unix.SYS_SETTIMEOFDAY, p, 0)
	call("reboot", unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_CAD_ON, 0)
}

// inotify makes as many inotify instances as it can, prints how many, and
// holds them until its input ends.
func inotify() {
	n := 0
	for ; n < 100_000; n++ {
		if _, err := unix.InotifyInit1(0); err != nil {
			break
		}
	}
	fmt.Println(n)
	os.Stdin.Read(make([]byte, 1))
}
