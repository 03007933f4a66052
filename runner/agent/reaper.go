package agent

import (
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A reaper starts every process of the agent. In a sandbox the agent is PID 1:
// whatever loses its parent becomes its child, and stays a zombie until
// somebody asks how it ended. The reaper asks, for all but the processes that
// it started itself: how those ended is for their owners.
//
// Whoever starts a process waits for it at once: the kernel names dead
// children one after the other, and one that nobody collects hides the next.
type reaper struct {
	mu  sync.Mutex   // held from a fork until its pid is in own, and while reaping
	own map[int]bool // started and not yet waited for

	active bool
	died   chan os.Signal
	end    chan struct{}
	ended  sync.WaitGroup
}

func newReaper() *reaper {
	r := &reaper{own: map[int]bool{}, active: os.Getpid() == 1 || isSubreaper()}
	if !r.active {
		return r
	}
	r.died, r.end = make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(r.died, unix.SIGCHLD)
	r.ended.Go(func() {
		for {
			r.reap() // also those that died before anybody listened
			select {
			case <-r.died:
			case <-r.end:
				return
			}
		}
	})
	return r
}

// isSubreaper tells whether this process gets its descendants' orphans without
// being PID 1.
func isSubreaper() bool {
	var is int32
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&is)), 0)
	return errno == 0 && is != 0
}

// start starts cmd, whose exit status is the caller's to collect with wait.
func (r *reaper) start(cmd *exec.Cmd) error {
	if !r.active {
		return cmd.Start()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	r.own[cmd.Process.Pid] = true
	return nil
}

// wait is cmd.Wait.
func (r *reaper) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	if r.active {
		r.mu.Lock()
		delete(r.own, cmd.Process.Pid)
		r.mu.Unlock()
		select { // it may have hidden others
		case r.died <- unix.SIGCHLD:
		default:
		}
	}
	return err
}

// siginfoPID is where siginfo_t holds the pid of a child, on 64-bit machines.
const siginfoPID = 16

// reap collects dead children until there is none or the next is our own.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var info unix.Siginfo
		err := retry(func() error { return unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) })
		pid := int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), siginfoPID)))
		if err != nil || pid == 0 || r.own[pid] {
			return
		}
		if retry(func() error { return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG, nil) }) != nil {
			return
		}
	}
}

// close stops reaping. Processes that were started go on.
func (r *reaper) close() {
	if r.active {
		signal.Stop(r.died)
		close(r.end)
		r.ended.Wait()
	}
}

func retry(f func() error) error {
	for {
		if err := f(); err != syscall.EINTR {
			return err
		}
	}
}
