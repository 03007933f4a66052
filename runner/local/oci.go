package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// runtimePatience bounds one call of the OCI runtime.
const runtimePatience = 30 * time.Second

// oci calls the OCI runtime.
type oci struct {
	command string
	root    string // where the runtime keeps its state
}

// client calls the runtime. A call does not outlive the server: the next one
// must find a sandbox as it was left, not in the making.
func (r oci) client(log string) *runc.Runc {
	return &runc.Runc{Command: r.command, Root: r.root, Log: log, LogFormat: runc.JSON, PdeathSignal: unix.SIGKILL}
}

// create makes a sandbox's namespaces and its first process, which waits for
// start, and returns its process id. It inherits out as its output and
// listener as descriptor 3, where the agent looks for it.
func (r oci) create(ctx context.Context, id string, at layout, listener, out *os.File) (int, error) {
	err := r.client(at.runlog()).Create(ctx, id, at.bundle(), &runc.CreateOpts{
		IO:         output{out},
		PidFile:    at.pid(),
		ExtraFiles: []*os.File{listener},
	})
	if err != nil {
		return 0, fmt.Errorf("create with %s: %w", r.command, explain(ctx, err, at.runlog()))
	}
	text, err := os.ReadFile(at.pid())
	if err != nil {
		return 0, fmt.Errorf("create with %s: %w", r.command, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("create with %s: process id: %w", r.command, err)
	}
	return pid, nil
}

// start lets the first process run.
func (r oci) start(ctx context.Context, id string, at layout) error {
	if err := r.client(at.runlog()).Start(ctx, id); err != nil {
		return fmt.Errorf("start with %s: %w", r.command, explain(ctx, err, at.runlog()))
	}
	return nil
}

// remove makes the runtime forget a sandbox, whose processes have ended.
func (r oci) remove(id string) error {
	home := filepath.Join(r.root, id)
	if _, err := os.Stat(home); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), runtimePatience)
	defer cancel()
	// It may never have got far enough to be known, or the runtime may be
	// gone: what counts is that nothing is left.
	_ = r.client("").Delete(ctx, id, &runc.DeleteOpts{Force: true})
	if err := os.RemoveAll(home); err != nil {
		return fmt.Errorf("remove what %s kept: %w", r.command, err)
	}
	return nil
}

// list gives the ids that the runtime keeps something of.
func (r oci) list() []string {
	entries, _ := os.ReadDir(r.root)
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

// explain prefers what the runtime wrote to its log over its exit status.
func explain(ctx context.Context, err error, log string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	data, readErr := os.ReadFile(log)
	if readErr != nil {
		return err
	}
	var said string
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			said = entry.Msg
		}
	}
	if said == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, lastLine([]byte(said)))
}

// output gives a process nothing to read and a file to write to.
type output struct{ file *os.File }

func (o output) Set(cmd *exec.Cmd)     { cmd.Stdout, cmd.Stderr = o.file, o.file }
func (o output) Close() error          { return nil }
func (o output) Stdin() io.WriteCloser { return nil }
func (o output) Stdout() io.ReadCloser { return nil }
func (o output) Stderr() io.ReadCloser { return nil }

// startTime tells a process from a later one with the same id: when it
// started, in clock ticks since boot. 0 when there is no such process.
func startTime(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The program's name is in parentheses and may hold anything.
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0
	}
	fields := bytes.Fields(data[end+1:])
	if len(fields) < 20 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return 0
	}
	t, _ := strconv.ParseUint(string(fields[19]), 10, 64)
	return t
}

// endProcess kills a process, the first one of its process namespace and with
// it all others in there, and waits until they are gone. started guards
// against killing another process with the same id.
func endProcess(pid int, started uint64) error {
	if pid <= 1 || started == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if startTime(pid) != started {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("process %d does not end", pid)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if n > 0 {
			return nil
		}
	}
}
