package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"berth/labs"

	"golang.org/x/sys/unix"
)

const (
	// outputWait is how long the output of a command that has ended may still
	// come: a child of it may hold it open for ever.
	outputWait = 200 * time.Millisecond

	// stdinProbe is how often the connection is tried while the command does
	// not take its standard input, when nothing is read from the connection.
	stdinProbe = time.Second

	// execMark is the name of an environment variable by which the processes
	// of one exec are found, also those that left its process group.
	execMark = "BERTH_EXEC"

	pipeSize = 16 << 10 // bytes of output in a frame, at most
	maxPipe  = 1 << 20  // bytes that a pipe holds, at most

	// goodbyeWait is how long the client has to close the connection first.
	goodbyeWait = 250 * time.Millisecond
)

// serveExec runs the command that the client asks for first. When the client
// leaves or ctx ends, the command and all that it started are killed.
func serveExec(ctx context.Context, cfg Config, r *reaper, conn *FrameConn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	f, err := conn.ReadFrame()
	if err != nil {
		return fmt.Errorf("read what to run: %w", err)
	}
	var spec ExecSpec
	if f.Kind != ExecStart {
		err = fmt.Errorf("a frame %q came first: %w", f.Kind, labs.ErrInvalid)
	} else if err = json.Unmarshal(f.Payload, &spec); err != nil {
		err = fmt.Errorf("read what to run: %v: %w", err, labs.ErrInvalid)
	}
	var c *command
	if err == nil {
		c, err = startCommand(cfg, r, spec)
	}
	if err != nil {
		text := err.Error()
		return conn.WriteFrame(labs.Frame{Kind: ExecFailed, Payload: []byte(text[:min(len(text), 1<<10)])})
	}
	return c.serve(conn)
}

// A command is one that was started for an exec.
type command struct {
	cmd    *exec.Cmd
	reaper *reaper
	mark   string
	stdin  *os.File // nil when it gets none
	stdout *os.File
	stderr *os.File
}

func startCommand(cfg Config, r *reaper, spec ExecSpec) (c *command, err error) {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return nil, fmt.Errorf("nothing to run: %w", labs.ErrInvalid)
	}
	c = &command{reaper: r, mark: execMark + "=" + rand.Text()}
	env := append(append(cfg.env(), spec.Env...), c.mark)
	dir := inHome(cfg, spec.Dir)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s: there is no such directory: %w", dir, labs.ErrNotFound)
	}
	path, err := lookPath(spec.Args[0], env)
	if err != nil {
		return nil, err
	}
	c.cmd = &exec.Cmd{
		Path: path, Args: spec.Args, Env: env, Dir: dir,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	made := c // c itself is nil when this fails
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			made.close()
		}
	}()
	for _, p := range []struct {
		use    bool
		ours   **os.File
		theirs func(*os.File)
		in     bool
	}{
		{spec.Stdin, &c.stdin, func(f *os.File) { c.cmd.Stdin = f }, true},
		{true, &c.stdout, func(f *os.File) { c.cmd.Stdout = f }, false},
		{true, &c.stderr, func(f *os.File) { c.cmd.Stderr = f }, false},
	} {
		if !p.use {
			continue
		}
		read, write, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("open a pipe: %w", err)
		}
		if p.in {
			read, write = write, read
		}
		*p.ours = read
		theirs = append(theirs, write)
		p.theirs(write)
	}
	if err := r.start(c.cmd); err != nil {
		return nil, fmt.Errorf("run %s: %w", spec.Args[0], err)
	}
	return c, nil
}

// inHome gives the directory that is meant: the home by default.
func inHome(cfg Config, dir string) string {
	rest, home := strings.CutPrefix(dir, "~")
	if home && (rest == "" || rest[0] == '/') || !filepath.IsAbs(dir) {
		if !home {
			rest = dir
		}
		return filepath.Join(cfg.Home, rest)
	}
	return dir
}

func (c *command) close() {
	for _, f := range []*os.File{c.stdin, c.stdout, c.stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// serve passes the streams on until the command has ended or the client left.
func (c *command) serve(conn *FrameConn) error {
	defer c.close()
	var all sync.WaitGroup
	defer all.Wait()
	defer conn.Close() // ends the reader

	// Output first, so that a command that waits for that goes on.
	written := make(chan error, 2)
	for _, s := range []struct {
		kind byte
		from *os.File
	}{{ExecStdout, c.stdout}, {ExecStderr, c.stderr}} {
		all.Go(func() { written <- passOutput(conn, s.kind, s.from) })
	}
	left := make(chan error, 1)
	all.Go(func() { left <- c.readInput(conn) })
	ended := make(chan int, 1)
	all.Go(func() {
		c.reaper.wait(c.cmd) // what went wrong is in the state
		ended <- exitStatus(c.cmd.ProcessState)
	})

	kill := func(cause error) error {
		endFamily(c.cmd.Process.Pid, c.mark)
		c.close()
		if errors.Is(cause, io.EOF) {
			return nil // the client changed its mind
		}
		return cause
	}
	status, over := 0, false
	var patience <-chan time.Time
	for open := 2; open > 0 || !over; {
		select {
		case err := <-written:
			if err != nil {
				return kill(err)
			}
			open--
		case err := <-left:
			return kill(err)
		case status = <-ended:
			over = true
			patience = time.After(outputWait)
		case <-patience:
			c.stdout.SetReadDeadline(time.Now())
			c.stderr.SetReadDeadline(time.Now())
		}
	}
	if err := conn.WriteFrame(labs.Frame{Kind: ExecExit, Payload: binary.BigEndian.AppendUint32(nil, uint32(status))}); err != nil {
		return err
	}
	if c.stdin != nil {
		c.stdin.Close()
	}
	select { // input that nobody read would make the close a reset
	case <-left:
	case <-time.After(goodbyeWait):
	}
	return nil
}

// passOutput sends what comes from a pipe until it ends or, at its deadline,
// what is in it by then.
func passOutput(conn *FrameConn, kind byte, from *os.File) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return fmt.Errorf("read output: %w", err)
	}
	b := make([]byte, pipeSize)
	for rest := -1; rest != 0; {
		var n int
		if rest < 0 {
			n, err = from.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				from.SetReadDeadline(time.Time{})
				rest = maxPipe
				continue
			}
		} else if e := raw.Read(func(fd uintptr) bool { n, err = unix.Read(int(fd), b[:min(len(b), rest)]); return true }); e != nil {
			err = e
		}
		if n <= 0 || err != nil {
			return nil // an end, or nothing is left
		}
		if rest > 0 {
			rest -= n
		}
		if err := conn.WriteFrame(labs.Frame{Kind: kind, Payload: b[:n]}); err != nil {
			return err
		}
	}
	return nil
}

// readInput passes standard input on until the client leaves. It never gives nil.
func (c *command) readInput(conn *FrameConn) error {
	for {
		f, err := conn.ReadFrame()
		if err != nil {
			return err
		}
		switch {
		case f.Kind == ExecStdin && c.stdin != nil:
			if err := c.writeInput(conn, f.Payload); err != nil {
				return err
			}
		case f.Kind == ExecEOF && c.stdin != nil:
			c.stdin.Close()
		case f.Kind != ExecStdin && f.Kind != ExecEOF:
			return fmt.Errorf("exec frame %q: %w", f.Kind, labs.ErrInvalid)
		}
	}
}

// writeInput gives the command b, however long it takes. Meanwhile nobody
// reads from the connection, so an empty frame finds out whether the client is
// still there. A command that does not want its input is not at fault.
func (c *command) writeInput(conn *FrameConn, b []byte) error {
	for len(b) > 0 {
		c.stdin.SetWriteDeadline(time.Now().Add(stdinProbe))
		n, err := c.stdin.Write(b)
		b = b[n:]
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if err := conn.WriteFrame(labs.Frame{Kind: ExecStdout}); err != nil {
				return err
			}
		} else if err != nil {
			return nil
		}
	}
	return nil
}

// endFamily kills the process root and what it started: its descendants, the
// members of its session and, when mark is not empty, whoever has that in its
// environment.
func endFamily(root int, mark string) {
	for range 50 { // those that fork while they are killed are found again
		family := findFamily(root, mark)
		if len(family) == 0 {
			return
		}
		for _, pid := range family {
			unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// findFamily gives the members of a family that are alive.
func findFamily(root int, mark string) []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what could be read is better than nothing
	type process struct{ pid, parent, session int }
	var all []process
	in := map[int]bool{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() || pid == 1 {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		// The name, in brackets, may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 4 || fields[0] == "Z" || fields[0] == "X" {
			continue
		}
		p := process{pid: pid}
		p.parent, _ = strconv.Atoi(fields[1])
		p.session, _ = strconv.Atoi(fields[3])
		all = append(all, p)
		if pid == root || p.session == root || mark != "" && hasEnv(name, mark) {
			in[pid] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !in[p.pid] && in[p.parent] {
				in[p.pid], grown = true, true
			}
		}
	}
	family := make([]int, 0, len(in))
	for pid := range in {
		family = append(family, pid)
	}
	return family
}

func hasEnv(pid, kv string) bool {
	env, err := os.ReadFile("/proc/" + pid + "/environ")
	return err == nil && (bytes.HasPrefix(env, []byte(kv+"\x00")) || bytes.Contains(env, []byte("\x00"+kv+"\x00")))
}
