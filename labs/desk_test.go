package labs_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
	"berth/labs/store"
)

// shelf is a Runner whose sandboxes are shelves in memory: they keep what was
// unpacked, say what was done to them, and can be told to misbehave.
type shelf struct {
	mu        sync.Mutex
	max       int // sandboxes at a time, 0 for any number
	broken    error
	stuck     chan struct{} // starts wait until it is closed or their time is over
	clings    int           // how often a sandbox refuses to be destroyed
	live      map[string]*box
	n         int
	connected []string
}

func (s *shelf) Start(ctx context.Context, spec labs.Spec) (labs.Sandbox, error) {
	s.mu.Lock()
	stuck := s.stuck
	s.mu.Unlock()
	if stuck != nil {
		select {
		case <-stuck:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	if s.max > 0 && len(s.live) >= s.max {
		return nil, labs.ErrBusy
	}
	s.n++
	b := &box{id: string(rune('a' + s.n - 1)), on: s, spec: spec}
	if s.live == nil {
		s.live = make(map[string]*box)
	}
	s.live[b.id] = b
	return b, nil
}

func (s *shelf) Adopt(context.Context) (all []labs.Sandbox, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.live {
		all = append(all, b)
	}
	return all, nil
}

func (s *shelf) Close() error { return nil }

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

type box struct {
	labs.Sandbox // what the desk never calls
	id           string
	on           *shelf
	spec         labs.Spec

	mu       sync.Mutex
	unpacked []string
	setups   []string // what Exec was given on its input, or its last argument
	typed    []string // "terminal: bytes"
	files    map[string]string
	usage    labs.Usage
	gone     bool
}

func (b *box) ID() string { return b.id }
func (b *box) Exec(_ context.Context, c labs.Cmd) (int, error) {
	said := c.Args[len(c.Args)-1]
	if c.Stdin != nil {
		p, err := io.ReadAll(c.Stdin)
		if err != nil {
			return 0, err
		}
		said += " < " + string(p)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setups = append(b.setups, said)
	return 0, nil
}
func (b *box) ReadFile(_ context.Context, name string, _ int64) ([]byte, labs.Version, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, ok := b.files[name]
	if !ok {
		return nil, "", labs.ErrNotFound
	}
	return []byte(text), labs.Version("v" + text), nil
}
func (b *box) WriteFile(_ context.Context, name string, text []byte, was labs.Version) (labs.Version, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.files[name]; ok && was != labs.Version("v"+old) || !ok && was != "" {
		return "", labs.ErrChanged
	}
	if b.files == nil {
		b.files = make(map[string]string)
	}
	b.files[name] = string(text)
	return labs.Version("v" + string(text)), nil
}
func (b *box) Attach(_ context.Context, name string, _ labs.Viewer) (labs.Attachment, error) {
	return &keyboard{box: b, name: name, gone: make(chan struct{})}, nil
}
func (b *box) Terminals(context.Context) ([]string, error) { return []string{"1"}, nil }

// keyboard is an attachment that keeps what is typed.
type keyboard struct {
	*box
	name string
	read int
	gone chan struct{}
	once sync.Once
}

func (k *keyboard) ReadFrame() (labs.Frame, error) {
	switch k.read++; k.read {
	case 1:
		return labs.StartFrame(0, labs.Size{Rows: 24, Cols: 80}), nil
	case 2:
		return labs.OutputFrame(0, []byte("\x1b[32mroot@lab\x1b[0m:~# ")), nil
	}
	<-k.gone
	return labs.Frame{}, io.EOF
}
func (k *keyboard) WriteFrame(f labs.Frame) error {
	id, text, err := f.Command()
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.typed = append(k.typed, k.name+" "+id+": "+string(text))
	return nil
}
func (k *keyboard) Close() error { k.once.Do(func() { close(k.gone) }); return nil }
func (b *box) Unpack(_ context.Context, dir string, r io.Reader) error {
	p, err := io.ReadAll(io.LimitReader(r, 100))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unpacked = append(b.unpacked, dir+" "+string(p))
	return err
}
func (b *box) Dial(context.Context, string, string) (net.Conn, error) { return nil, labs.ErrGone }
func (b *box) WarmEngine(context.Context) error                       { return nil }
func (b *box) Watch(ctx context.Context, _ labs.Watch) (<-chan labs.Change, error) {
	ch := make(chan labs.Change, 1)
	ch <- labs.Change{Engine: &labs.EngineState{Phase: "ready"}}
	go func() { <-ctx.Done(); close(ch) }()
	return ch, nil
}
func (b *box) Usage(context.Context) (labs.Usage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return labs.Usage{}, labs.ErrGone
	}
	return b.usage, nil
}
func (b *box) Destroy() error {
	b.on.mu.Lock()
	defer b.on.mu.Unlock()
	if b.on.clings > 0 {
		b.on.clings--
		return errors.New("still in use")
	}
	delete(b.on.live, b.id)
	return nil
}

// verdicts is a Verifier that reports what the test feeds it.
type verdicts chan labs.Result

func (v verdicts) Watch(ctx context.Context, _ *labs.Lesson, _ labs.Sandbox, report func(labs.Result)) error {
	for {
		select {
		case r := <-v:
			report(r)
		case <-ctx.Done():
			return nil
		}
	}
}
func (v verdicts) Check(_ context.Context, _ *labs.Lesson, c *labs.Check, _ labs.Sandbox) labs.Result {
	return labs.Result{Check: c.ID, Status: labs.Failed}
}

type fixture struct {
	*labs.Desk
	runner   *shelf
	store    labs.Store
	verdicts verdicts
	learner  string
}

var lesson = &labs.Lesson{
	ID: "tar", Title: "Tar", Image: "docker",
	Dir:    fstest.MapFS{"files/run.sh": {Data: []byte("#!/bin/sh\n")}},
	Assets: []labs.Asset{{From: "files/run.sh", To: "~/run.sh"}},
	Steps: []labs.Step{
		{ID: "one", Arrival: labs.Arrival{Setup: []labs.Setup{{Code: "mkdir x"}}}, Checks: []labs.Check{{ID: "one/1"}, {ID: "one/2", Optional: true}},
			Hints: []string{"look", "closer"}, Solution: labs.Solution{HTML: "<p>so"}, Files: []labs.FileBlock{{ID: "one/file-1", Path: "~/a/b", Text: "text"}}},
		{ID: "two", Checks: []labs.Check{{ID: "two/1"}}},
	},
}

func newFixture(t *testing.T, change func(*labs.DeskConfig)) *fixture {
	t.Helper()
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "berth.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{runner: &shelf{}, store: st, verdicts: make(verdicts)}
	f.Desk = f.desk(change)
	t.Cleanup(func() { f.Close(); st.Close() })
	l, _, err := f.NewLearner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.learner = l.ID
	return f
}

// desk gives another server over the same store and sandboxes.
func (f *fixture) desk(change func(*labs.DeskConfig)) *labs.Desk {
	c := labs.DeskConfig{Store: f.store, Runner: f.runner, Verifier: f.verdicts,
		Life: time.Hour, ExtendBy: 30 * time.Minute, MaxLife: 2 * time.Hour, Idle: time.Hour, PerLearner: 2}
	if change != nil {
		change(&c)
	}
	d := labs.NewDesk(c)
	d.SetLessons([]*labs.Lesson{lesson})
	return d
}

// until waits for a state of the session that is as wanted.
func (f *fixture) until(t *testing.T, session, what string, ok func(labs.State) bool) labs.State {
	t.Helper()
	events, cancel, err := f.Subscribe(t.Context(), f.learner, session)
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	deadline := time.After(10 * time.Second)
	for {
		s, err := f.State(t.Context(), f.learner, session)
		if err != nil {
			t.Fatal(err)
		}
		if ok(s) {
			return s
		}
		select {
		case <-events:
		case <-deadline:
			t.Fatalf("not within 10 s: %s; it is %+v", what, s)
		}
	}
}

func isReady(s labs.State) bool  { return s.Phase == labs.PhaseReady }
func hasEnded(s labs.State) bool { return s.Phase == labs.PhaseEnded }

func (f *fixture) open(t *testing.T) labs.State {
	t.Helper()
	s, err := f.Open(t.Context(), f.learner, "tar")
	if err != nil {
		t.Fatal(err)
	}
	return f.until(t, s.Session, "ready", isReady)
}

func (f *fixture) box(t *testing.T) *box {
	t.Helper()
	f.runner.mu.Lock()
	defer f.runner.mu.Unlock()
	for _, b := range f.runner.live {
		return b
	}
	t.Fatal("there is no sandbox")
	return nil
}

func TestOpenPreparesTheSandbox(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	b := f.box(t)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.setups) != 1 || !strings.HasSuffix(b.setups[0], " < mkdir x") {
		t.Errorf("setups run: %q", b.setups)
	}
	if len(b.unpacked) != 1 || b.unpacked[0][:9] != "~/ run.sh" {
		t.Errorf("unpacked: %q", b.unpacked)
	}
	again, err := f.Open(t.Context(), f.learner, "tar")
	if err != nil || again.Session != s.Session {
		t.Errorf("opening again gave session %s, %v; want the open one", again.Session, err)
	}
}

func TestTicksAreKeptAndRecorded(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	f.verdicts <- labs.Result{Check: "one/1", Status: labs.Passed, At: time.Now()}
	got := f.until(t, s.Session, "one ticked", func(s labs.State) bool { return s.Steps["one"].Done })
	if got.Done != 1 || got.Total != 2 || got.Steps["two"].Done {
		t.Errorf("after the first step: %+v", got)
	}
	f.verdicts <- labs.Result{Check: "one/1", Status: labs.Failed, Seen: "nothing", At: time.Now()}
	got = f.until(t, s.Session, "seen to fail", func(s labs.State) bool { return s.Checks["one/1"].Now.Status == labs.Failed })
	if !got.Checks["one/1"].Passed || !got.Steps["one"].Done {
		t.Error("a passed check did not stay passed for the learner")
	}
	if p, err := f.Progress(t.Context(), f.learner, "tar"); err != nil || len(p.Passed) != 1 {
		t.Errorf("progress %+v, %v", p, err)
	}
	f.verdicts <- labs.Result{Check: "two/1", Status: labs.Passed, At: time.Now()}
	f.until(t, s.Session, "all done", func(s labs.State) bool { return s.Done == 2 })

	got, err := f.End(t.Context(), f.learner, s.Session)
	if err != nil || got.Phase != labs.PhaseEnded || !got.Steps["one"].Done {
		t.Errorf("after the end: %+v, %v", got, err)
	}
	if s2 := f.open(t); s2.Session == s.Session || s2.Done != 2 {
		t.Errorf("a new session has %d steps done; want the ticks of before", s2.Done)
	}
}

func TestResetForgetsTicks(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	f.verdicts <- labs.Result{Check: "one/1", Status: labs.Passed, At: time.Now()}
	f.until(t, s.Session, "ticked", func(s labs.State) bool { return s.Done == 1 })
	again, err := f.Reset(t.Context(), f.learner, s.Session)
	if err != nil {
		t.Fatal(err)
	}
	if again.Session == s.Session || again.Done != 0 || len(again.Checks) != 3 || again.Checks["one/1"].Passed {
		t.Errorf("after a reset: %+v", again)
	}
	f.until(t, again.Session, "ready", isReady)
}

func TestAttackSomebodyElsesSession(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	thief, _, err := f.NewLearner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, try := range map[string]func() error{
		"state":     func() error { _, err := f.State(ctx, thief.ID, s.Session); return err },
		"sandbox":   func() error { _, err := f.Sandbox(ctx, thief.ID, s.Session); return err },
		"extend":    func() error { _, err := f.Extend(ctx, thief.ID, s.Session); return err },
		"reset":     func() error { _, err := f.Reset(ctx, thief.ID, s.Session); return err },
		"end":       func() error { _, err := f.End(ctx, thief.ID, s.Session); return err },
		"check":     func() error { _, err := f.Check(ctx, thief.ID, s.Session, "one/1"); return err },
		"file":      func() error { return f.WriteFile(ctx, thief.ID, s.Session, "one/file-1") },
		"hint":      func() error { _, _, err := f.Hint(ctx, thief.ID, s.Session, "one", 1); return err },
		"solution":  func() error { _, err := f.Solution(ctx, thief.ID, s.Session, "one"); return err },
		"subscribe": func() error { _, _, err := f.Subscribe(ctx, thief.ID, s.Session); return err },
	} {
		if err := try(); !errors.Is(err, labs.ErrNotFound) {
			t.Errorf("%s: %v; want not found", name, err)
		}
	}
	if got, err := f.State(ctx, f.learner, s.Session); err != nil || got.Phase != labs.PhaseReady {
		t.Errorf("after the attack the session is %v, %v", got.Phase, err)
	}
}

func TestHelpIsHandedOut(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	h, more, err := f.Hint(t.Context(), f.learner, s.Session, "one", 1)
	if h != "look" || !more || err != nil {
		t.Errorf("first hint: %q %v %v", h, more, err)
	}
	if _, more, _ := f.Hint(t.Context(), f.learner, s.Session, "one", 2); more {
		t.Error("there is more after the last hint")
	}
	for _, n := range []int{-1, 0, 3} {
		if _, _, err := f.Hint(t.Context(), f.learner, s.Session, "one", n); !errors.Is(err, labs.ErrNotFound) {
			t.Errorf("hint %d: %v", n, err)
		}
	}
	if html, err := f.Solution(t.Context(), f.learner, s.Session, "one"); html != "<p>so" || err != nil {
		t.Errorf("solution: %q %v", html, err)
	}
	if err := f.WriteFile(t.Context(), f.learner, s.Session, "one/file-1"); err != nil {
		t.Error(err)
	}
}

func TestTimeRunsOut(t *testing.T) {
	f := newFixture(t, func(c *labs.DeskConfig) { c.Life = 50 * time.Millisecond; c.MaxLife = 50 * time.Millisecond })
	s, err := f.Open(t.Context(), f.learner, "tar")
	if err != nil {
		t.Fatal(err)
	}
	got := f.until(t, s.Session, "ended", hasEnded)
	if got.Reason == "" {
		t.Error("no reason is given")
	}
	if _, err := f.Sandbox(t.Context(), f.learner, s.Session); !errors.Is(err, labs.ErrGone) {
		t.Errorf("sandbox of an ended session: %v; want gone", err)
	}
}

func TestExtendAsFarAsItGoes(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	for i := range 2 {
		if _, err := f.Extend(t.Context(), f.learner, s.Session); err != nil {
			t.Fatalf("extension %d: %v", i+1, err)
		}
	}
	if got, err := f.Extend(t.Context(), f.learner, s.Session); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("a third extension gave %+v, %v", got, err)
	}
	got, err := f.State(t.Context(), f.learner, s.Session)
	if err != nil || got.CanExtend || got.Expires.Sub(got.Started) != 2*time.Hour {
		t.Errorf("after all extensions: %+v, %v", got, err)
	}
}

func TestALostSandboxEndsTheSession(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	b := f.box(t)
	b.mu.Lock()
	b.gone = true
	b.mu.Unlock()
	if got := f.until(t, s.Session, "ended", hasEnded); got.Reason == "" {
		t.Error("no reason is given")
	}
}

func TestLimitsAreTold(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	events, cancel, err := f.Subscribe(t.Context(), f.learner, s.Session)
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	b := f.box(t)
	deadline := time.After(15 * time.Second)
	change := time.AfterFunc(500*time.Millisecond, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.usage = labs.Usage{Limits: labs.Limits{Memory: 1 << 30, Processes: 9, Disk: 100}, OOMKills: 1, ForkFails: 2, Disk: 99}
	})
	defer change.Stop()
	told := make(map[string]string)
	for len(told) < 3 {
		select {
		case e := <-events:
			if n, ok := e.Data.(labs.Notice); ok {
				told[n.Kind] = n.Text
			}
		case <-deadline:
			t.Fatalf("told only %v", told)
		}
	}
}

func TestWaitingForRoomKeepsTheOrder(t *testing.T) {
	f := newFixture(t, nil)
	f.runner.max = 1
	first := f.open(t)
	var waiting []labs.State
	for range 2 {
		l, _, err := f.NewLearner(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.learner = l.ID
		s, err := f.Open(t.Context(), l.ID, "tar")
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, f.until(t, s.Session, "waiting", func(s labs.State) bool { return s.Phase == labs.PhaseWaiting && s.Ahead == len(waiting) }))
	}
	last := f.learner
	owner, err := f.store.Session(t.Context(), first.Session)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.End(t.Context(), owner.Learner, first.Session); err != nil {
		t.Fatal(err)
	}
	f.learner = last
	f.until(t, waiting[1].Session, "next in the queue", func(s labs.State) bool { return s.Phase == labs.PhaseWaiting && s.Ahead == 0 })
}

func TestAFailedStartCanBeTriedAgain(t *testing.T) {
	f := newFixture(t, nil)
	f.runner.broken = &labs.Problem{Kind: labs.ErrInvalid, Say: "There is no image."}
	s, err := f.Open(t.Context(), f.learner, "tar")
	if err != nil {
		t.Fatal(err)
	}
	got := f.until(t, s.Session, "failed", func(s labs.State) bool { return s.Phase == labs.PhaseFailed })
	if got.Reason != "There is no image." {
		t.Errorf("reason: %q", got.Reason)
	}
	f.runner.mu.Lock()
	f.runner.broken = nil
	f.runner.mu.Unlock()
	f.open(t)
}

func TestResumeGoesOnWithTheSameSandbox(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	f.verdicts <- labs.Result{Check: "one/1", Status: labs.Passed, At: time.Now()}
	f.until(t, s.Session, "ticked", func(s labs.State) bool { return s.Done == 1 })
	f.Close() // the server stops; nothing is destroyed
	if f.runner.count() != 1 {
		t.Fatal("stopping the server destroyed the sandbox")
	}
	stray, err := f.runner.Start(t.Context(), labs.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	f.Desk = f.desk(nil)
	if err := f.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := f.until(t, s.Session, "ready again", isReady)
	if got.Done != 1 {
		t.Errorf("%d steps done after the restart; want 1", got.Done)
	}
	if _, ok := f.runner.live[stray.ID()]; ok || f.runner.count() != 1 {
		t.Error("a sandbox that belongs to nobody was kept")
	}
}

func TestResumeEndsWhatWasLost(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	f.Close()
	f.runner.mu.Lock()
	f.runner.live = nil
	f.runner.mu.Unlock()
	f.Desk = f.desk(nil)
	if err := f.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := f.State(t.Context(), f.learner, s.Session)
	if err != nil || got.Phase != labs.PhaseEnded || got.Reason == "" {
		t.Errorf("a session whose sandbox is lost is %+v, %v", got, err)
	}
}

func TestOnlySoManySessionsAtATime(t *testing.T) {
	f := newFixture(t, func(c *labs.DeskConfig) { c.PerLearner = 1 })
	other := *lesson
	other.ID = "other"
	f.SetLessons([]*labs.Lesson{lesson, &other})
	f.open(t)
	if _, err := f.Open(t.Context(), f.learner, "other"); !errors.Is(err, labs.ErrBusy) {
		t.Errorf("a second session: %v; want busy", err)
	}
}

// frail is a Store that fails while it is told to.
type frail struct {
	labs.Store
	mu  sync.Mutex
	err error
}

func (s *frail) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *frail) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *frail) UpdateSession(ctx context.Context, x labs.Session) error {
	if err := s.broken(); err != nil {
		return err
	}
	return s.Store.UpdateSession(ctx, x)
}

func (s *frail) Record(ctx context.Context, a labs.Attempt) error {
	if err := s.broken(); err != nil {
		return err
	}
	return s.Store.Record(ctx, a)
}

var errFull = &labs.Problem{Kind: labs.ErrBusy, Say: "There is no space left."}

func frailFixture(t *testing.T) (*fixture, *frail) {
	t.Helper()
	var st *frail
	f := newFixture(t, func(c *labs.DeskConfig) {
		st = &frail{Store: c.Store}
		c.Store = st
	})
	return f, st
}

// soon waits until ok, which nothing tells of, holds.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestTicksOutliveAFullDisk(t *testing.T) {
	f, st := frailFixture(t)
	s := f.open(t)
	events, cancel, err := f.Subscribe(t.Context(), f.learner, s.Session)
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	st.fail(errFull)
	f.verdicts <- labs.Result{Check: "one/1", Status: labs.Passed, At: time.Now()}
	f.verdicts <- labs.Result{Check: "one/1", Status: labs.Failed, At: time.Now()}
	deadline := time.After(10 * time.Second)
	for told := false; !told; {
		select {
		case e := <-events:
			n, ok := e.Data.(labs.Notice)
			told = ok && n.Kind == "progress"
		case <-deadline:
			t.Fatal("the learner is not told that nothing is stored")
		}
	}
	if p, err := f.Progress(t.Context(), f.learner, "tar"); err != nil || len(p.Passed) != 0 {
		t.Fatalf("progress on a full disk: %+v, %v", p, err)
	}
	st.fail(nil)
	soon(t, "the tick is stored", func() bool {
		p, err := f.Progress(t.Context(), f.learner, "tar")
		return err == nil && len(p.Passed) == 1
	})
}

func TestASessionWhoseEndWasNotStoredDoesNotBlockTheLab(t *testing.T) {
	f, st := frailFixture(t)
	s := f.open(t)
	st.fail(errFull)
	if _, err := f.End(t.Context(), f.learner, s.Session); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Open(t.Context(), f.learner, "tar"); !errors.Is(err, labs.ErrBusy) {
		t.Errorf("opening on a full disk: %+v, %v", got, err)
	}
	st.fail(nil)
	if again := f.open(t); again.Session == s.Session {
		t.Error("the session that ended was opened again")
	}
	if open, err := f.store.OpenSessions(t.Context()); err != nil || len(open) != 1 {
		t.Errorf("open in the store: %+v, %v", open, err)
	}
}

func TestTwoTabsAtOnce(t *testing.T) {
	f := newFixture(t, nil)
	at := func(do func() (labs.State, error)) map[string]bool {
		t.Helper()
		var tabs sync.WaitGroup
		var mu sync.Mutex
		got := make(map[string]bool)
		for range 8 {
			tabs.Go(func() {
				s, err := do()
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				got[s.Session] = true
			})
		}
		tabs.Wait()
		return got
	}
	if got := at(func() (labs.State, error) { return f.Open(t.Context(), f.learner, "tar") }); len(got) != 1 {
		t.Errorf("opening gave %d sessions", len(got))
	}
	first := f.open(t)
	got := at(func() (labs.State, error) { return f.Reset(t.Context(), f.learner, first.Session) })
	if len(got) != 1 || got[first.Session] {
		t.Errorf("resetting gave sessions %v instead of %s", got, first.Session)
	}
	second := f.open(t)
	if got := at(func() (labs.State, error) { return f.End(t.Context(), f.learner, second.Session) }); len(got) != 1 {
		t.Errorf("ending gave %v", got)
	}
	// All of it at the same time: nothing may hang, and one session at most is left.
	var tabs sync.WaitGroup
	for range 4 {
		tabs.Go(func() {
			for range 5 {
				s, err := f.Open(t.Context(), f.learner, "tar")
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := f.Reset(t.Context(), f.learner, s.Session); err != nil {
					t.Error(err)
				}
			}
		})
		tabs.Go(func() {
			for range 5 {
				s, err := f.Open(t.Context(), f.learner, "tar")
				if err != nil {
					t.Error(err)
					return
				}
				f.Touch(s.Session)
				if _, err := f.End(t.Context(), f.learner, s.Session); err != nil {
					t.Error(err)
				}
			}
		})
	}
	tabs.Wait()
	if n := f.OpenCount(); n > 1 {
		t.Errorf("%d sessions are open", n)
	}
	soon(t, "as many sandboxes as open sessions", func() bool { return f.runner.count() == f.OpenCount() })
}

func TestEndWhileTheSandboxStarts(t *testing.T) {
	f := newFixture(t, nil)
	f.runner.stuck = make(chan struct{})
	s, err := f.Open(t.Context(), f.learner, "tar")
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := f.Sandbox(t.Context(), f.learner, s.Session); waiting <- err }()
	if got, err := f.End(t.Context(), f.learner, s.Session); err != nil || got.Phase != labs.PhaseEnded {
		t.Errorf("%+v, %v", got, err)
	}
	if err := <-waiting; !errors.Is(err, labs.ErrGone) {
		t.Errorf("who waited for the sandbox got %v; want gone", err)
	}
	if f.runner.count() != 0 {
		t.Error("a sandbox is left")
	}
}

func TestAFailedStartIsToldToWhoWaits(t *testing.T) {
	f := newFixture(t, nil)
	f.runner.stuck = make(chan struct{})
	f.runner.broken = &labs.Problem{Kind: labs.ErrInvalid, Say: "There is no image."}
	s, err := f.Open(t.Context(), f.learner, "tar")
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := f.Sandbox(t.Context(), f.learner, s.Session); waiting <- err }()
	close(f.runner.stuck)
	var p *labs.Problem
	if err := <-waiting; !errors.As(err, &p) || p.Say != "There is no image." {
		t.Errorf("who waited for the sandbox got %v", err)
	}
}

func TestASandboxThatClingsIsDestroyedLater(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	f.runner.mu.Lock()
	f.runner.clings = 1
	f.runner.mu.Unlock()
	if _, err := f.End(t.Context(), f.learner, s.Session); err != nil {
		t.Fatal(err)
	}
	soon(t, "it is destroyed at the second attempt", func() bool { return f.runner.count() == 0 })
}

func TestResumeStartsWhatWasStarting(t *testing.T) {
	f := newFixture(t, nil)
	f.runner.stuck = make(chan struct{})
	s, err := f.Open(t.Context(), f.learner, "tar")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := f.Open(t.Context(), f.learner, "tar"); !errors.Is(err, labs.ErrBusy) {
		t.Errorf("opening while the server stops: %v; want busy", err)
	}
	f.runner.stuck = nil
	f.Desk = f.desk(nil)
	if err := f.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.until(t, s.Session, "ready", isReady)
	if f.runner.count() != 1 {
		t.Errorf("%d sandboxes", f.runner.count())
	}
}

func TestAPlaceInTheQueueIsNotKeptForever(t *testing.T) {
	f := newFixture(t, func(c *labs.DeskConfig) { c.Idle = time.Second })
	f.runner.max = 1
	if _, err := f.runner.Start(t.Context(), labs.Spec{}); err != nil { // somebody else's
		t.Fatal(err)
	}
	s, err := f.Open(t.Context(), f.learner, "tar")
	if err != nil {
		t.Fatal(err)
	}
	soon(t, "the session ends, as nobody looks", func() bool {
		got, err := f.State(t.Context(), f.learner, s.Session)
		return err == nil && hasEnded(got) && got.Reason != ""
	})
	soon(t, "it is out of the books", func() bool { return f.OpenCount() == 0 })
}

func TestAJumpOfTheClockCostsNoTime(t *testing.T) {
	var mu sync.Mutex
	var jump time.Duration
	f := newFixture(t, func(c *labs.DeskConfig) {
		c.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Round(0).Add(jump)
		}
	})
	s := f.open(t)
	for _, j := range []time.Duration{48 * time.Hour, -48 * time.Hour} {
		before, err := f.State(t.Context(), f.learner, s.Session)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		jump += j
		mu.Unlock()
		got := f.until(t, s.Session, "moved", func(s labs.State) bool { return !s.Expires.Equal(before.Expires) })
		left, want := got.Expires.Sub(got.Now), before.Expires.Sub(before.Now)
		if got.Phase != labs.PhaseReady || (left-want).Abs() > 20*time.Second {
			t.Errorf("after a jump of %v: %s, %v left; want %v", j, got.Phase, left, want)
		}
	}
}

func TestAnUnusedSandboxIsClearedAway(t *testing.T) {
	f := newFixture(t, func(c *labs.DeskConfig) { c.Idle = time.Second })
	s := f.open(t) // its page is closed from here on
	soon(t, "cleared away", func() bool {
		got, err := f.State(t.Context(), f.learner, s.Session)
		return err == nil && hasEnded(got)
	})
	soon(t, "destroyed", func() bool { return f.runner.count() == 0 })
}
