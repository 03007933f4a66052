package local

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// newUserNamespace makes a user namespace in which ids 0 to 65,535 are first
// and up outside, and returns a handle on it. The caller closes it.
//
// The namespace is owned by first, not by root: the kernel counts inotify
// instances, namespaces and the like against the owner too, and 128 inotify
// instances shared by all sandboxes and root would let one sandbox starve the
// others.
func newUserNamespace(first int) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread's credentials change, so it is not given back.
		runtime.LockOSThread()
		f, err := cloneUserNamespace(first)
		done <- result{f, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("make user namespace: %w", r.err)
	}
	return r.file, nil
}

// cloneUserNamespace must run on a locked thread that ends afterwards.
func cloneUserNamespace(first int) (*os.File, error) {
	cat, err := exec.LookPath("cat") // something that waits for the end of its input
	if err != nil {
		return nil, err
	}
	hold, stop, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stop.Close()
	defer hold.Close()

	// Keep the capabilities while the effective user changes: where ordinary
	// users may not make user namespaces, this thread still may.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return nil, fmt.Errorf("read capabilities: %w", err)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(first), ^uintptr(0)); e != 0 {
		return nil, fmt.Errorf("become user %d: %w", first, e)
	}
	if err := unix.Capset(&header, &caps[0]); err != nil {
		return nil, fmt.Errorf("keep capabilities: %w", err)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: idsPerBox}}
	cmd := &exec.Cmd{Path: cat, Args: []string{"cat"}, Dir: "/", Stdin: hold, SysProcAttr: &syscall.SysProcAttr{
		Cloneflags:                 syscall.CLONE_NEWUSER,
		UidMappings:                ids,
		GidMappings:                ids,
		GidMappingsEnableSetgroups: true,
	}}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	cmd.Process.Kill()
	cmd.Wait()
	return f, err
}
