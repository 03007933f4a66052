package web_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sort"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
)

// newDesk gives a real desk over a store in memory and sandboxes whose
// terminals are the terminal double of terminal_test.go.
func newDesk(t testing.TB, lessons ...*labs.Lesson) (*labs.Desk, *boxes) {
	t.Helper()
	bs := &boxes{}
	d := labs.NewDesk(labs.DeskConfig{
		Store: newStore(), Runner: bs, Verifier: verifier{}, Mirror: mirror{"redis:3.2.11-alpine": labs.FromStandin},
		Log: slog.New(slog.DiscardHandler), Life: time.Hour, ExtendBy: 30 * time.Minute, MaxLife: 3 * time.Hour,
		Idle: time.Hour, PerLearner: 3,
	})
	d.SetLessons(lessons)
	t.Cleanup(func() {
		d.Close()
		bs.Close()
	})
	return d, bs
}

// testLessons are two labs; the first has everything that a page shows.
func testLessons() []*labs.Lesson {
	return []*labs.Lesson{
		{
			ID: "images", Title: "What is a container image?", Summary: "Take an image apart.", Level: "beginner", Minutes: 25,
			Image: "shell", Pulls: []labs.Pull{{Ref: "redis:3.2.11-alpine", Standin: "redis"}},
			Intro: labs.Part{HTML: "<p>An image is a tar file of tar files.</p>"},
			Steps: []labs.Step{
				{
					ID: "pull", Title: "Pull & unpack", HTML: `<div class="block run" data-command="pull/1"><pre>docker pull</pre></div>`,
					Files:  []labs.FileBlock{{ID: "pull/file-1", Path: "~/app/Dockerfile", Text: "FROM scratch\n"}},
					Checks: []labs.Check{{ID: "pull/1", Name: "redis is in your engine", Script: "true"}, {ID: "pull/2", Name: "a bonus", Optional: true, Script: "true"}},
					Hints:  []string{"<p>first hint</p>", "<p>second hint</p>"}, Solution: labs.Solution{HTML: "<p>this is how</p>"},
				},
				{ID: "read", Title: "Read on", HTML: "<p>No checks here.</p>"},
				{ID: "build", Title: "Build", HTML: "<p>Build one.</p>", Checks: []labs.Check{{ID: "build/1", Name: "it is built", Script: "true"}}},
			},
			Finish: labs.Part{HTML: "<p>You took one apart.</p>"},
			Dir: fstest.MapFS{
				"lab.md":           {Data: []byte("secret solution")},
				"img/layers.png":   {Data: []byte("\x89PNG\r\n\x1a\n layers")},
				"img/evil.svg":     {Data: []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`)},
				"files/answer.txt": {Data: []byte("secret answer")},
			},
		},
		{ID: "volumes", Title: "Volumes", Image: "shell", Steps: []labs.Step{{ID: "one", Title: "One", Checks: []labs.Check{{ID: "one/1", Name: "one", Script: "true"}}}}},
	}
}

type mirror map[string]labs.ImageSource

func (m mirror) Source(ref string) labs.ImageSource { return m[ref] }

// verifier passes every check that it is asked about and watches nothing.
type verifier struct{}

func (verifier) Watch(ctx context.Context, _ *labs.Lesson, _ labs.Sandbox, _ func(labs.Result)) error {
	<-ctx.Done()
	return nil
}

func (verifier) Check(_ context.Context, _ *labs.Lesson, c *labs.Check, _ labs.Sandbox) labs.Result {
	return labs.Result{Check: c.ID, Status: labs.Passed, Expected: "it is so", At: time.Now()}
}

// store is a labs.Store in memory.
type store struct {
	mu       sync.Mutex
	learners map[string]labs.Learner // by token hash
	sessions map[string]labs.Session
	attempts []labs.Attempt
	entries  []labs.Entry
}

func newStore() *store {
	return &store{learners: make(map[string]labs.Learner), sessions: make(map[string]labs.Session)}
}

func (s *store) AddLearner(_ context.Context, l labs.Learner, hash []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learners[string(hash)] = l
	return nil
}

func (s *store) LearnerByToken(_ context.Context, hash []byte) (labs.Learner, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.learners[string(hash)]
	if !ok {
		return l, labs.ErrNotFound
	}
	return l, nil
}

func (s *store) AddSession(_ context.Context, se labs.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[se.ID] = se
	return nil
}

func (s *store) UpdateSession(_ context.Context, se labs.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[se.ID] = se
	return nil
}

func (s *store) Session(_ context.Context, id string) (labs.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	se, ok := s.sessions[id]
	if !ok {
		return se, labs.ErrNotFound
	}
	return se, nil
}

func (s *store) LastSession(_ context.Context, learner, lesson string) (last labs.Session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = labs.ErrNotFound
	for _, se := range s.sessions {
		if se.Learner == learner && se.Lesson == lesson && !se.Started.Before(last.Started) {
			last, err = se, nil
		}
	}
	return last, err
}

func (s *store) OpenSessions(context.Context) (open []labs.Session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, se := range s.sessions {
		if se.Open() {
			open = append(open, se)
		}
	}
	return open, nil
}

func (s *store) Record(_ context.Context, a labs.Attempt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, a)
	return nil
}

func (s *store) Note(_ context.Context, e labs.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, e)
	return nil
}

func (s *store) Progress(_ context.Context, learner, lesson string) (labs.Progress, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := labs.Progress{Lesson: lesson, Passed: make(map[string]time.Time)}
	var reset time.Time
	for _, e := range s.entries {
		if e.Learner == learner && e.Lesson == lesson {
			p.Last = e.At
			if e.Kind == "reset" {
				reset = e.At
			}
		}
	}
	for _, a := range s.attempts {
		if _, had := p.Passed[a.Result.Check]; !had && a.Learner == learner && a.Lesson == lesson && a.Result.Status == labs.Passed && a.Result.At.After(reset) {
			p.Passed[a.Result.Check] = a.Result.At
		}
	}
	return p, nil
}

func (s *store) Attempts(context.Context, string, string) ([]labs.Attempt, error) { return nil, nil }

func (s *store) Close() error { return nil }

// boxes is a labs.Runner whose sandboxes hold terminals and nothing else.
type boxes struct {
	mu   sync.Mutex
	made []*box
}

func (b *boxes) Start(context.Context, labs.Spec) (labs.Sandbox, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sb := &box{id: strconv.Itoa(len(b.made) + 1), terminals: make(map[string]*terminal)}
	b.made = append(b.made, sb)
	return sb, nil
}

func (b *boxes) Adopt(context.Context) ([]labs.Sandbox, error) { return nil, nil }

func (b *boxes) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, sb := range b.made {
		sb.Destroy()
	}
	return nil
}

// last gives the sandbox that was started last.
func (b *boxes) last() *box {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.made[len(b.made)-1]
}

type box struct {
	labs.Sandbox // what no test here calls

	id        string
	mu        sync.Mutex
	gone      bool
	terminals map[string]*terminal
	unpacked  []string // directories that something was unpacked to
}

var errNothing = errors.New("this sandbox has only terminals")

func (b *box) ReadFile(context.Context, string, int64) ([]byte, labs.Version, error) {
	return nil, "", labs.ErrNotFound
}
func (b *box) ID() string { return b.id }

func (b *box) Attach(_ context.Context, name string, v labs.Viewer) (labs.Attachment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return nil, labs.ErrGone
	}
	t := b.terminals[name]
	if t == nil {
		t = newTerminal(v.Size)
		b.terminals[name] = t
	}
	return t.attach(v.From), nil
}

func (b *box) Terminals(context.Context) (names []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.terminals {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, nil
}

func (b *box) terminal(name string) *terminal {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.terminals[name]
}

func (b *box) Destroy() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = true
	for _, t := range b.terminals {
		t.close()
	}
	return nil
}

func (b *box) Watch(ctx context.Context, _ labs.Watch) (<-chan labs.Change, error) {
	ch := make(chan labs.Change)
	context.AfterFunc(ctx, func() { close(ch) })
	return ch, nil
}

func (b *box) Unpack(_ context.Context, dir string, r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unpacked = append(b.unpacked, dir)
	return nil
}

func (b *box) Exec(context.Context, labs.Cmd) (int, error) { return 0, nil }
func (b *box) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errNothing
}
func (b *box) Glob(context.Context, string, int) ([]labs.FileInfo, error) { return nil, nil }
func (b *box) Open(context.Context, string) (io.ReadCloser, error)        { return nil, labs.ErrNotFound }
func (b *box) TarNames(context.Context, string, int) ([]string, error)    { return nil, labs.ErrNotFound }
func (b *box) WarmEngine(context.Context) error                           { return nil }
func (b *box) Usage(context.Context) (labs.Usage, error)                  { return labs.Usage{}, nil }
