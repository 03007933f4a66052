package agent

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"berth/labs"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

const (
	// drainWait is how long the output of a shell that has ended may still be
	// on its way. Somebody else may hold its terminal open for ever.
	drainWait = 200 * time.Millisecond

	// hangUpWait is how long a shell has to end after it was hung up on.
	hangUpWait = 300 * time.Millisecond

	// writeRetry is after how long a write that waits for the shell looks
	// again by itself, should the kernel not have told that there is room.
	writeRetry = 100 * time.Millisecond
)

// drains are the buffers between a pty and the ring, so that a shell that
// prints nothing has none.
var drains = sync.Pool{New: func() any { return new([drainSize]byte) }}

// A shell is a login shell on a pty. One goroutine may read, one at a time may
// write.
type shell struct {
	cmd    *exec.Cmd
	reaper *reaper
	tty    *os.File // the master side, which is polled: a deadline or Close ends a read
	raw    syscall.RawConn
	exited chan struct{} // closed when the status is known
	status int
	killer *time.Timer // guarded by mu
	kills  sync.WaitGroup

	// What a read works with, here so that it allocates nothing.
	drain   func(fd uintptr) bool
	buf     *[drainSize]byte
	limit   int
	n       int
	readErr error

	// Likewise for a write.
	push   func(fd uintptr) bool
	out    []byte
	pushed int

	mu       sync.Mutex
	over     bool // the shell has exited
	deadline time.Time
}

// startShell starts a login shell on a new pty.
func startShell(cfg Config, r *reaper, terminal string, size labs.Size) (*shell, error) {
	if err := installPrompt(cfg.RunDir); err != nil {
		return nil, err
	}
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open a pty: %w", err)
	}
	defer master.Close()
	defer slave.Close()
	tty, err := pollable(master)
	if err != nil {
		return nil, err
	}
	s := &shell{reaper: r, tty: tty, exited: make(chan struct{})}
	s.drain, s.push = s.drainNow, s.pushNow
	if s.raw, err = tty.SyscallConn(); err != nil {
		tty.Close()
		return nil, fmt.Errorf("open a pty: %w", err)
	}
	s.resize(size)
	env := append(cfg.env(), "TERM=xterm-256color", "COLORTERM=truecolor")
	env = append(env, promptEnv(cfg.RunDir, terminal)...)
	argv := cfg.Shell
	if len(argv) == 0 {
		argv = []string{"bash", "-l"}
		if _, err := lookPath("bash", env); err != nil {
			argv = []string{"sh", "-l"}
		}
	}
	path, err := lookPath(argv[0], env)
	if err != nil {
		tty.Close()
		return nil, err
	}
	s.cmd = &exec.Cmd{
		Path: path, Args: argv, Env: env, Dir: cfg.Home,
		Stdin: slave, Stdout: slave, Stderr: slave,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true},
	}
	if _, err := os.Stat(cfg.Home); err != nil {
		s.cmd.Dir = "/" // a learner may have removed it
	}
	if err := r.start(s.cmd); err != nil {
		tty.Close()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	go s.collect()
	return s, nil
}

// pollable gives the same open file as f, but one whose reads wait in the
// runtime's poller and not in the kernel, so that they can be ended.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate a pty: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a pty non-blocking: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// collect waits for the shell's exit status. end waits for it in turn.
func (s *shell) collect() {
	s.reaper.wait(s.cmd) // what went wrong is in the state
	s.status = exitStatus(s.cmd.ProcessState)
	s.mu.Lock()
	s.over = true
	s.deadline = time.Unix(1, 0) // wakes the reader, who will see that it is over
	s.tty.SetReadDeadline(s.deadline)
	s.mu.Unlock()
	close(s.exited)
}

// exitStatus is the exit status as a shell has it.
func exitStatus(s *os.ProcessState) int {
	if s == nil {
		return 255
	}
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}

// read gives what the shell has printed, at most limit bytes: as many as there
// are without waiting, but at least one, or none when it is until (if that is
// set). The bytes are valid until release. io.EOF means that there will be no
// more.
func (s *shell) read(limit int, until time.Time) ([]byte, error) {
	s.mu.Lock()
	over := s.over
	deadline := until
	if over && until.IsZero() {
		deadline = time.Now().Add(drainWait)
	}
	if !deadline.Equal(s.deadline) {
		s.deadline = deadline
		s.tty.SetReadDeadline(deadline)
	}
	s.mu.Unlock()
	s.limit, s.n = min(limit, drainSize), 0
	err := s.raw.Read(s.drain)
	switch {
	case s.n > 0:
		return s.buf[:s.n], nil
	case s.readErr != nil:
		return nil, io.EOF // EIO is how a pty says that nobody holds the other side
	case errors.Is(err, os.ErrDeadlineExceeded) && !(over && until.IsZero()):
		return nil, nil
	default:
		return nil, io.EOF
	}
}

// drainNow reads until it would block and tells whether there was anything.
func (s *shell) drainNow(fd uintptr) bool {
	if s.buf == nil {
		s.buf = drains.Get().(*[drainSize]byte)
	}
	for s.n < s.limit {
		n, err := unix.Read(int(fd), s.buf[s.n:s.limit])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if s.n == 0 {
				s.release()
			}
			return s.n > 0
		case err != nil:
			s.readErr = err
			return true
		case n == 0:
			s.readErr = io.EOF
			return true
		}
		s.n += n
	}
	return true
}

// release gives back what read gave.
func (s *shell) release() {
	if s.buf != nil {
		drains.Put(s.buf)
		s.buf = nil
	}
}

// write gives the shell as much of b as it takes at once, and says how much.
func (s *shell) write(b []byte) int {
	s.out, s.pushed = b, 0
	s.raw.Write(s.push) // the rest is tried again
	s.out = nil
	return s.pushed
}

func (s *shell) pushNow(fd uintptr) bool {
	for s.pushed < len(s.out) {
		n, err := unix.Write(int(fd), s.out[s.pushed:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		s.pushed += n
	}
	return true
}

// writeAll gives the shell b, and waits as long as that takes or the shell
// lives.
func (s *shell) writeAll(b []byte) {
	for len(b) > 0 {
		s.tty.SetWriteDeadline(time.Now().Add(writeRetry))
		n, err := s.tty.Write(b)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		b = b[n:]
	}
	s.tty.SetWriteDeadline(time.Time{})
}

// resize tells the shell how big its terminal is.
func (s *shell) resize(size labs.Size) {
	ws := &unix.Winsize{Row: size.Rows, Col: size.Cols}
	s.raw.Control(func(fd uintptr) { // a shell that ends has no size
		unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, ws)
	})
}

// kill hangs up on the shell, and soon ends by force what is left of it and of
// what it started.
func (s *shell) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killer != nil {
		return
	}
	pid := s.cmd.Process.Pid
	if !s.over {
		unix.Kill(-pid, unix.SIGHUP)
		unix.Kill(-pid, unix.SIGCONT)
	}
	s.kills.Add(1)
	s.killer = time.AfterFunc(hangUpWait, func() {
		defer s.kills.Done()
		endFamily(pid, "")
	})
}

// end frees what the shell has, once it has exited, and gives its exit status.
func (s *shell) end() int {
	<-s.exited
	s.tty.Close()
	s.mu.Lock()
	if s.killer != nil && s.killer.Stop() {
		s.killer.Reset(0)
	}
	s.mu.Unlock()
	s.kills.Wait()
	return s.status
}

// lookPath finds a program as a shell with that environment would.
func lookPath(file string, env []string) (string, error) {
	if strings.Contains(file, "/") {
		return file, nil
	}
	var path string
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		name := filepath.Join(dir, file)
		if info, err := os.Stat(name); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s: there is no such program: %w", file, labs.ErrNotFound)
}

// promptScript is what bash runs before each prompt; @DIR@ is the run directory.
//
//go:embed prompt.bash
var promptScript string

// commandsFIFO is where shells tell about the commands that ended, in the run
// directory.
const commandsFIFO = "commands"

// installPrompt puts what promptEnv refers to into the run directory.
func installPrompt(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the run directory: %w", err)
	}
	if err := makeFIFO(filepath.Join(dir, commandsFIFO)); err != nil {
		return err
	}
	name := filepath.Join(dir, "prompt.bash")
	want := strings.ReplaceAll(promptScript, "@DIR@", quote(dir))
	if have, err := os.ReadFile(name); err == nil && string(have) == want {
		return nil
	}
	if err := os.WriteFile(name+".new", []byte(want), 0o644); err != nil {
		return fmt.Errorf("write the shell integration: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write the shell integration: %w", err)
	}
	return nil
}

// promptEnv is the environment by which bash (5.1 or later) tells about the
// commands that ended. It needs no file of the learner's: PROMPT_COMMAND loads
// the script at the first prompt. PS0 is inherited by a bash within bash, even
// one of another user; it notes when a command starts, and puts back what
// loads the script where it is missing. It expands to nothing.
func promptEnv(dir, terminal string) []string {
	load := "{ _berth_exit=$?; [[ ${_berth-} ]] || . " + quote(filepath.Join(dir, "prompt.bash")) + " && _berth_prompt; } 2>/dev/null"
	return []string{
		"BERTH_TERMINAL=" + terminal,
		"BERTH_PROMPT=" + load,
		"PROMPT_COMMAND=" + load,
		`PS0=${BERTH_PROMPT//"${PROMPT_COMMAND[99]:=$BERTH_PROMPT}"}` +
			`${PS0:0:(_berth_status[_berth_n]=$?,_berth_number[_berth_n]=HISTCMD,_berth_time[_berth_n++]=${EPOCHREALTIME//[!0-9]/},0)}`,
	}
}

// quote quotes s for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
