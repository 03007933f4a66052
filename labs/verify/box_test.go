package verify

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"berth/labs"
)

// A box is a sandbox over this machine: its files are those of a folder, its
// engine listens on a socket, and what happens in it is what a test says.
type box struct {
	labs.Sandbox // what is never called here

	id     string
	home   string
	socket atomic.Value // string: where the engine listens

	globs, dials atomic.Int64

	mu       sync.Mutex
	watchers []chan labs.Change
	state    labs.EngineState
	commands []labs.ShellCommand
	broken   error // of Watch
	deaf     bool  // Glob does not answer
	seq      int64
}

var _ labs.Sandbox = (*box)(nil)

var boxes atomic.Int64

func newBox(tb testing.TB, socket string) *box {
	tb.Helper()
	b := &box{id: fmt.Sprint("box-", boxes.Add(1)), home: tb.TempDir(), state: labs.EngineState{Phase: "off"}}
	b.socket.Store(socket)
	if socket != "" {
		b.state.Phase = "ready"
	}
	return b
}

func (b *box) ID() string { return b.id }

func (b *box) abs(path string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok {
		return b.home + rest
	}
	return path
}

// write writes a file below the home and tells of it.
func (b *box) write(tb testing.TB, name, text string, mode fs.FileMode) {
	tb.Helper()
	path := filepath.Join(b.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		tb.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		tb.Fatal(err)
	}
	b.tell(labs.Change{File: path})
}

// ran tells of a command that ended.
func (b *box) ran(text string, exit int) {
	b.mu.Lock()
	b.seq++
	c := labs.ShellCommand{Seq: b.seq, Terminal: "1", Text: text, Exit: exit, Started: time.Now(), Ended: time.Now()}
	b.commands = append(b.commands, c)
	b.mu.Unlock()
	b.tell(labs.Change{Command: &c})
}

func (b *box) engine(phase, reason string) {
	b.mu.Lock()
	b.state = labs.EngineState{Phase: phase, Reason: reason}
	s := b.state
	b.mu.Unlock()
	b.tell(labs.Change{Engine: &s})
}

func (b *box) tell(c labs.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.watchers {
		w <- c
	}
}

// interrupt breaks all watches; later ones give err, nil to let them work.
func (b *box) interrupt(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.watchers {
		close(w)
	}
	b.watchers, b.broken = nil, err
}

func (b *box) Watch(ctx context.Context, w labs.Watch) (<-chan labs.Change, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken != nil {
		return nil, b.broken
	}
	c := make(chan labs.Change, 100_000)
	s := b.state
	c <- labs.Change{Engine: &s}
	for _, cmd := range b.commands {
		if cmd.Seq > w.After {
			c <- labs.Change{Command: &cmd}
		}
	}
	b.watchers = append(b.watchers, c)
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if i := slices.Index(b.watchers, c); i >= 0 {
			b.watchers = slices.Delete(b.watchers, i, i+1)
			close(c)
		}
	})
	return c, nil
}

func (b *box) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	if network == "unix" {
		if address != labs.EngineSocket {
			return nil, fmt.Errorf("dial %s: %w", address, labs.ErrInvalid)
		}
		b.dials.Add(1)
		return d.DialContext(ctx, "unix", b.socket.Load().(string))
	}
	return d.DialContext(ctx, network, address)
}

func (b *box) Exec(ctx context.Context, cmd labs.Cmd) (int, error) {
	c := exec.CommandContext(ctx, cmd.Args[0], cmd.Args[1:]...)
	c.Dir, c.Env = b.home, append(os.Environ(), "HOME="+b.home)
	c.Stdin, c.Stdout, c.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	err := c.Run()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return 0, err
	}
	return c.ProcessState.ExitCode(), nil
}

func (b *box) Glob(ctx context.Context, pattern string, limit int) ([]labs.FileInfo, error) {
	b.globs.Add(1)
	b.mu.Lock()
	deaf := b.deaf
	b.mu.Unlock()
	if deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	pattern = b.abs(pattern)
	var found []labs.FileInfo
	add := func(p string) error {
		info, err := os.Stat(p)
		if err != nil {
			return nil
		}
		found = append(found, labs.FileInfo{Path: p, Size: info.Size(), Mode: info.Mode(), MTime: info.ModTime()})
		if len(found) == limit {
			return fs.SkipAll
		}
		return nil
	}
	if !strings.Contains(pattern, "**") {
		paths, err := filepath.Glob(pattern)
		for _, p := range paths {
			if add(p) != nil {
				break
			}
		}
		return found, err
	}
	err := filepath.WalkDir(b.home, func(p string, d fs.DirEntry, err error) error {
		if err == nil && matchPath(pattern, p) {
			return add(p)
		}
		return nil
	})
	return found, err
}

func (b *box) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	f, err := os.Open(b.abs(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, labs.ErrNotFound)
	}
	return f, err
}

func (b *box) TarNames(ctx context.Context, path string, limit int) ([]string, error) {
	f, err := b.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	buffered := bufio.NewReader(f)
	if magic, _ := buffered.Peek(2); string(magic) == "\x1f\x8b" {
		if r, err = gzip.NewReader(buffered); err != nil {
			return nil, fmt.Errorf("%v: %w", err, labs.ErrInvalid)
		}
	} else {
		r = buffered
	}
	var names []string
	t := tar.NewReader(r)
	for len(names) < limit {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%v: %w", err, labs.ErrInvalid)
		}
		if h.Typeflag == tar.TypeReg {
			names = append(names, h.Name)
		}
	}
	return names, nil
}

// Checks use none of these.
func (b *box) Attach(context.Context, string, labs.Viewer) (labs.Attachment, error) {
	return nil, labs.ErrInvalid
}
func (b *box) Terminals(context.Context) ([]string, error)     { return nil, nil }
func (b *box) Unpack(context.Context, string, io.Reader) error { return labs.ErrInvalid }
func (b *box) WarmEngine(context.Context) error                { return nil }
func (b *box) Usage(context.Context) (labs.Usage, error)       { return labs.Usage{}, nil }
func (b *box) Destroy() error                                  { return nil }

// A board shows the newest result of every check of a watch.
type board struct {
	tb testing.TB

	mu      sync.Mutex
	cond    *sync.Cond
	results map[string]labs.Result
	reports map[string]int
}

// watching runs Watch until the test ends, or stop is called.
func watching(tb testing.TB, v *Verifier, b *box, checks ...labs.Check) (*board, func()) {
	tb.Helper()
	o := &board{tb: tb, results: make(map[string]labs.Result), reports: make(map[string]int)}
	o.cond = sync.NewCond(&o.mu)
	lesson := lessonOf(checks...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- v.Watch(ctx, lesson, b, func(r labs.Result) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.results[r.Check] = r
			o.reports[r.Check]++
			o.cond.Broadcast()
		})
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				tb.Errorf("Watch: %v", err)
			}
		case <-time.After(15 * time.Second):
			tb.Errorf("Watch did not return")
		}
	})
	tb.Cleanup(stop)
	return o, stop
}

func lessonOf(checks ...labs.Check) *labs.Lesson {
	for i := range checks {
		if checks[i].ID == "" {
			checks[i].ID = fmt.Sprint("step/", i+1)
		}
	}
	return &labs.Lesson{ID: "lesson", Steps: []labs.Step{{ID: "step", Checks: checks}}}
}

// until waits for a result of a check.
func (o *board) until(id string, limit time.Duration, want func(labs.Result) bool) labs.Result {
	o.tb.Helper()
	timer := time.AfterFunc(limit, o.cond.Broadcast)
	defer timer.Stop()
	end := time.Now().Add(limit)
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if r, ok := o.results[id]; ok && want(r) {
			if len(r.Seen) > maxSeen || r.Expected == "" || (r.Status == labs.Unknown) != (r.Reason != "") {
				o.tb.Errorf("result is not well-formed: %+v", r)
			}
			return r
		}
		if !time.Now().Before(end) {
			o.tb.Fatalf("check %s: not within %v; it is %+v", id, limit, o.results[id])
		}
		o.cond.Wait()
	}
}

func (o *board) untilStatus(id string, s labs.Status) labs.Result {
	o.tb.Helper()
	return o.until(id, 8*time.Second, func(r labs.Result) bool { return r.Status == s })
}

func (o *board) now(id string) labs.Result {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.results[id]
}

func (o *board) reported(id string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reports[id]
}

func verifier(tb testing.TB) *Verifier {
	return New(slog.New(slog.NewTextHandler(writer{tb}, &slog.HandlerOptions{Level: slog.LevelInfo})))
}

type writer struct{ tb testing.TB }

func (w writer) Write(p []byte) (int, error) {
	w.tb.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func ptr[T any](v T) *T { return &v }
