package runner_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/labs"
	"berth/runner"
	"berth/runner/agent"
	"berth/runner/runnertest"
)

// here is a kind of box without walls: the agent runs in this process, over
// this machine, with a home of its own.
type here struct {
	broken atomic.Pointer[error]
	max    int // sandboxes at a time, when not 0
	live   atomic.Int32
	made   atomic.Int32
	tries  atomic.Int32
}

func (h *here) Start(ctx context.Context, spec labs.Spec) (labs.Box, error) {
	h.tries.Add(1)
	if err := h.broken.Load(); err != nil {
		return nil, *err
	}
	if n := h.live.Add(1); h.max > 0 && int(n) > h.max {
		h.live.Add(-1)
		return nil, labs.ErrBusy
	}
	dir, err := os.MkdirTemp("", "berth-box-")
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", filepath.Join(dir, "agent.sock"))
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	b := &box{id: filepath.Base(dir), at: l.Addr().String(), done: make(chan error, 1)}
	b.destroy = sync.OnceValue(func() error {
		stop()
		err := <-b.done
		h.live.Add(-1)
		return errors.Join(err, os.RemoveAll(dir))
	})
	go func() {
		b.done <- agent.Run(run, agent.Config{Home: home, RunDir: filepath.Join(dir, "run"), Socket: filepath.Join(dir, "docker.sock"),
			DockerLog: filepath.Join(dir, "docker.log"), Dockerd: "/no/engine", Log: slog.New(slog.DiscardHandler)}, l)
	}()
	h.made.Add(1)
	return b, nil
}

func (h *here) Adopt(context.Context) ([]labs.Box, error) { return nil, nil }
func (h *here) Close() error                              { return nil }

type box struct {
	id, at  string
	done    chan error
	destroy func() error
}

func (b *box) ID() string { return b.id }
func (b *box) Dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", b.at)
}
func (b *box) Usage(context.Context) (labs.Usage, error) { return labs.Usage{}, nil }
func (b *box) Destroy() error                            { return b.destroy() }

func TestSandbox(t *testing.T) {
	r := runner.New(&here{})
	runnertest.Run(t, func(t *testing.T) labs.Sandbox {
		sb, err := r.Start(t.Context(), labs.Spec{})
		if err != nil {
			t.Fatal(err)
		}
		return sb
	})
}

// TestPooledSandbox: one that was kept ready is like any other.
func TestPooledSandbox(t *testing.T) {
	h := &here{}
	p := newPool(t, h, h, 1, t.Output())
	runnertest.Run(t, func(t *testing.T) labs.Sandbox {
		eventually(t, "one is warm", func() bool { return h.live.Load() == 1 })
		return start(t, p, warm)
	})
}

func newPool(t *testing.T, boxes labs.Boxes, h *here, size int, log io.Writer) *runner.Pool {
	t.Helper()
	p := runner.NewPool(runner.New(boxes), warm, size, slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if n := h.live.Load(); n != 0 {
			t.Errorf("%d sandboxes are left", n)
		}
	})
	for range 2 { // the second time begins nothing
		if _, err := p.Adopt(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

var (
	warm  = labs.Spec{Image: "warm"}
	other = labs.Spec{Image: "other"}
)

func start(t *testing.T, p *runner.Pool, spec labs.Spec) labs.Sandbox {
	t.Helper()
	sb, err := p.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sb.Destroy(); err != nil {
			t.Error(err)
		}
	})
	return sb
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestPoolHandsOutWarmOnesAndRefills(t *testing.T) {
	h := &here{}
	p := newPool(t, h, h, 2, io.Discard)
	eventually(t, "two are warm", func() bool { return h.made.Load() == 2 })
	start(t, p, warm)
	eventually(t, "a third is started", func() bool { return h.made.Load() == 3 })
	start(t, p, other)
	if h.made.Load() != 4 {
		t.Errorf("a sandbox of another kind was not started but taken from the pool")
	}
}

func TestPoolDoesNotHandOutTheDead(t *testing.T) {
	grab := &recording{here: &here{}}
	p := newPool(t, grab, grab.here, 1, io.Discard)
	var first *box
	eventually(t, "one is warm", func() bool { first = grab.first.Load(); return first != nil })
	if err := first.destroy(); err != nil { // behind the pool's back
		t.Fatal(err)
	}
	if sb := start(t, p, warm); sb.ID() == first.id {
		t.Error("a dead sandbox was handed out")
	}
}

// recording remembers the first box that it started.
type recording struct {
	*here
	first atomic.Pointer[box]
}

func (r *recording) Start(ctx context.Context, spec labs.Spec) (labs.Box, error) {
	b, err := r.here.Start(ctx, spec)
	if err == nil {
		r.first.CompareAndSwap(nil, b.(*box))
	}
	return b, err
}

func TestPoolMakesRoomForThoseWhoWait(t *testing.T) {
	for range 5 { // what it refills must not take the room again
		h := &here{max: 2}
		p := newPool(t, h, h, 2, io.Discard)
		eventually(t, "two are warm", func() bool { return h.made.Load() == 2 })
		time.Sleep(50 * time.Millisecond) // until they can be taken
		start(t, p, other)
		start(t, p, other)
		if sb, err := p.Start(t.Context(), other); !errors.Is(err, labs.ErrBusy) {
			t.Errorf("with no room: %v, %v", sb, err)
		}
	}
}

func TestPoolTriesQuietlyWhileNothingStarts(t *testing.T) {
	h := &here{}
	broken := errors.New("no image")
	h.broken.Store(&broken)
	var log lines
	p := newPool(t, h, h, 3, &log)
	if _, err := p.Start(t.Context(), warm); !errors.Is(err, broken) {
		t.Errorf("start: %v", err)
	}
	eventually(t, "it tries again", func() bool { return h.tries.Load() > 5 })
	if n := h.tries.Load(); n > 10 {
		t.Errorf("%d tries at once", n)
	}
	h.broken.Store(nil)
	eventually(t, "all are warm", func() bool { return h.made.Load() == 3 })
	if n := log.count(); n != 2 {
		t.Errorf("%d lines in the log; want one when it began and one when it was over", n)
	}
}

// lines counts what is written.
type lines struct{ n atomic.Int32 }

func (l *lines) Write(p []byte) (int, error) { l.n.Add(1); return len(p), nil }
func (l *lines) count() int32                { return l.n.Load() }

func TestPoolCancelledStartCostsOneWarmSandboxAtMost(t *testing.T) {
	h := &here{}
	p := newPool(t, h, h, 3, io.Discard)
	eventually(t, "three are warm", func() bool { return h.made.Load() == 3 })
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Start(ctx, warm); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	eventually(t, "three are warm again", func() bool { return h.live.Load() == 3 })
	if n := h.made.Load(); n > 4 {
		t.Errorf("%d were given up", n-3)
	}
}

func TestPoolCloseWhileManyStart(t *testing.T) {
	h := &here{}
	p := newPool(t, h, h, 2, io.Discard)
	var starting sync.WaitGroup
	for range 8 {
		starting.Go(func() {
			for {
				sb, err := p.Start(context.Background(), warm)
				if err != nil {
					return // closed
				}
				if err := sb.Destroy(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	eventually(t, "they start", func() bool { return h.made.Load() > 20 })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	starting.Wait()
	if _, err := p.Start(t.Context(), warm); err == nil {
		t.Error("a closed pool starts sandboxes")
	}
}

func TestStartGivesUpABoxWhoseAgentDoesNotAnswer(t *testing.T) {
	m := &mute{t: t}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := runner.New(m).Start(ctx, labs.Spec{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("start: %v", err)
	}
	if m.destroyed != 1 {
		t.Errorf("the box was destroyed %d times", m.destroyed)
	}
}

// mute is a box in which nobody answers.
type mute struct {
	t         *testing.T
	destroyed int
}

func (m *mute) Start(context.Context, labs.Spec) (labs.Box, error) { return m, nil }
func (m *mute) Adopt(context.Context) ([]labs.Box, error)          { return nil, nil }
func (m *mute) Close() error                                       { return nil }
func (m *mute) ID() string                                         { return "mute" }
func (m *mute) Usage(context.Context) (labs.Usage, error)          { return labs.Usage{}, nil }
func (m *mute) Destroy() error                                     { m.destroyed++; return nil }
func (m *mute) Dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	m.t.Cleanup(func() { theirs.Close() })
	return ours, nil
}

// connectable are boxes that can be connected, as far as anybody sees.
type connectable struct {
	labs.Boxes
	ids []string
}

func (c *connectable) Connect(_ context.Context, ids ...string) ([]netip.Addr, error) {
	c.ids = ids
	return make([]netip.Addr, len(ids)), nil
}

func TestConnectIsPassedOn(t *testing.T) {
	boxes := &connectable{Boxes: new(mute)}
	for _, r := range []labs.Runner{runner.New(boxes), runner.NewPool(runner.New(boxes), labs.Spec{}, 0, slog.New(slog.DiscardHandler))} {
		boxes.ids = nil
		n, ok := r.(labs.Networker)
		if !ok {
			t.Fatalf("%T is no Networker", r)
		}
		if addrs, err := n.Connect(t.Context(), "a", "b"); err != nil || len(addrs) != 2 || !slices.Equal(boxes.ids, []string{"a", "b"}) {
			t.Errorf("%T: %v, %v, asked for %q", r, addrs, err, boxes.ids)
		}
	}
	plain := runner.New(new(mute))
	if _, ok := plain.(labs.Networker); ok {
		t.Error("boxes that cannot be connected make a Networker")
	}
	if _, err := runner.NewPool(plain, labs.Spec{}, 0, slog.New(slog.DiscardHandler)).Connect(t.Context(), "a"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a pool of them: %v", err)
	}
}
