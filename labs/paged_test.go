package labs_test

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
)

// paged is a lesson that uses what lessons can have beside text and checks.
var paged = &labs.Lesson{
	ID: "paged", Title: "Paged", Image: "docker", Paged: true, Hosts: 2, Hostname: "host01", Greeting: "Welcome",
	Terminals: []labs.TerminalTab{{Name: "1"}, {Name: "top", Command: "top"}},
	Dir:       fstest.MapFS{"assets/a.sh": {Data: []byte("echo a\n")}},
	Assets:    []labs.Asset{{From: "assets/a.sh", To: "/usr/local/bin/a.sh", Mode: 0o700, Host: 2}},
	Vars:      []labs.Var{{Name: "colour", Pick: []string{"a<b"}}, {Name: "preview 80", Preview: 80}},
	Intro:     labs.Part{Arrival: labs.Arrival{Setup: []labs.Setup{{Code: "sleep 1\n"}, {Code: "touch there\n", Host: 2}}, Type: []labs.Command{{Code: "wait.sh", Terminal: "1"}}}},
	Steps: []labs.Step{{
		ID: "ask", HTML: "<b>" + labs.Var{Name: "colour"}.Mark() + "</b>",
		Commands: []labs.Command{{ID: "ask/1", Code: "echo " + labs.Var{Name: "colour"}.Mark(), Terminal: "1"}},
		Checks: []labs.Check{
			{ID: "ask/1", Quiz: &labs.Quiz{Choices: []labs.Choice{{Text: "no"}, {Text: "yes", Right: true}}}},
			{ID: "ask/2", Ran: &labs.RanCheck{Pattern: regexp.MustCompile("^echo " + labs.Var{Name: "colour"}.Mark() + "$")}},
		},
		Files: []labs.FileBlock{
			{ID: "ask/file-1", Path: "~/a", Text: "new\n"},
			{ID: "ask/file-2", Path: "~/a", Text: "end\n", Mode: labs.FileAppend},
			{ID: "ask/file-3", Path: "~/a", Text: "first\n", Mode: labs.FilePrepend},
			{ID: "ask/file-4", Path: "~/a", Text: "put\n", Mode: labs.FileInsert, Marker: "MARK"},
		},
	}},
}

func (s *shelf) Connect(_ context.Context, ids ...string) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected = append(s.connected, strings.Join(ids, " "))
	var addrs []netip.Addr
	for i := range ids {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}))
	}
	return addrs, nil
}

func openPaged(t *testing.T, change func(*labs.DeskConfig)) (*fixture, labs.State) {
	t.Helper()
	f := newFixture(t, func(c *labs.DeskConfig) {
		c.PreviewURL = func(name string, host, port int) string { return "http://p." + name }
		if change != nil {
			change(c)
		}
	})
	f.SetLessons([]*labs.Lesson{paged})
	s, err := f.Open(t.Context(), f.learner, "paged")
	if err != nil {
		t.Fatal(err)
	}
	return f, f.until(t, s.Session, "ready", isReady)
}

func (f *fixture) boxOf(t *testing.T, session string, host int) *box {
	t.Helper()
	sb, err := f.SandboxOn(t.Context(), f.learner, session, host)
	if err != nil {
		t.Fatal(err)
	}
	return sb.(*box)
}

func TestSandboxesOfOneSessionKnowEachOther(t *testing.T) {
	f, s := openPaged(t, nil)
	first, second := f.boxOf(t, s.Session, 1), f.boxOf(t, s.Session, 2)
	if f.runner.count() != 2 || first == second {
		t.Fatalf("%d sandboxes", f.runner.count())
	}
	if len(f.runner.connected) != 1 {
		t.Errorf("connected %q", f.runner.connected)
	}
	want := " < 10.0.0.1 host01\n10.0.0.2 host02\n"
	if len(first.setups) != 1 || first.setups[0] != "host01"+want || len(second.setups) != 1 || second.setups[0] != "host02"+want {
		t.Errorf("named %q and %q", first.setups, second.setups)
	}
	if len(second.unpacked) != 1 || !strings.HasPrefix(second.unpacked[0], "/ usr/local/bin/a.sh") || len(first.unpacked) != 0 {
		t.Errorf("unpacked %q and %q", first.unpacked, second.unpacked)
	}
	if first.files[labs.GreetingFile] != "Welcome" {
		t.Errorf("files %q", first.files)
	}
	sb, err := f.Sandbox(t.Context(), f.learner, s.Session)
	if err != nil {
		t.Fatal(err)
	}
	names, err := sb.Terminals(t.Context())
	if err != nil || !slices.Equal(names, []string{"1", "1@2"}) {
		t.Errorf("terminals %q, %v", names, err)
	}
	if _, err := f.SandboxOn(t.Context(), f.learner, s.Session, 3); !errors.Is(err, labs.ErrNotFound) {
		t.Errorf("a third sandbox: %v", err)
	}

	// The next server takes over both, and ends both.
	f.Close()
	next := f.desk(nil)
	next.SetLessons([]*labs.Lesson{paged})
	defer next.Close()
	if err := next.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.runner.count() != 2 {
		t.Fatalf("after a restart there are %d sandboxes", f.runner.count())
	}
	if _, err := next.SandboxOn(t.Context(), f.learner, s.Session, 2); err != nil {
		t.Error(err)
	}
	if _, err := next.End(t.Context(), f.learner, s.Session); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for f.runner.count() > 0 {
		select {
		case <-deadline:
			t.Fatalf("%d sandboxes are left", f.runner.count())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestASessionWithTwoSandboxesWaitsForRoomForBoth(t *testing.T) {
	f := newFixture(t, nil)
	f.runner.max = 1
	f.SetLessons([]*labs.Lesson{paged})
	s, err := f.Open(t.Context(), f.learner, "paged")
	if err != nil {
		t.Fatal(err)
	}
	f.until(t, s.Session, "waiting", func(s labs.State) bool { return s.Phase == labs.PhaseWaiting })
	if f.runner.count() != 0 {
		t.Error("the first sandbox is kept while the second is waited for")
	}
}

func TestArrivingHappensOnce(t *testing.T) {
	f, s := openPaged(t, nil)
	for range 2 {
		if err := f.Arrive(t.Context(), f.learner, s.Session, labs.IntroID); err != nil {
			t.Fatal(err)
		}
	}
	first, second := f.boxOf(t, s.Session, 1), f.boxOf(t, s.Session, 2)
	if len(first.setups) != 2 || first.setups[1] != "intro-1 < sleep 1\n" {
		t.Errorf("on the first: %q", first.setups)
	}
	if len(second.setups) != 2 || second.setups[1] != "intro-2 < touch there\n" {
		t.Errorf("on the second: %q", second.setups)
	}
	deadline := time.After(10 * time.Second)
	typed := func() []string {
		first.mu.Lock()
		defer first.mu.Unlock()
		return slices.Sorted(slices.Values(first.typed))
	}
	for want := []string{"1 arrival/intro/1/0: wait.sh\n", "top terminal/top/0: top\n"}; !slices.Equal(typed(), want); {
		select {
		case <-deadline:
			t.Fatalf("typed %q, want %q", typed(), want)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := f.Arrive(t.Context(), f.learner, s.Session, "nowhere"); !errors.Is(err, labs.ErrNotFound) {
		t.Errorf("arriving nowhere: %v", err)
	}
	thief, _, err := f.NewLearner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Arrive(t.Context(), thief.ID, s.Session, "ask"); !errors.Is(err, labs.ErrNotFound) {
		t.Errorf("attack: arriving in somebody else's session: %v", err)
	}
}

func TestAnswersTick(t *testing.T) {
	f, s := openPaged(t, nil)
	if err := f.Arrive(t.Context(), f.learner, s.Session, "ask"); err != nil {
		t.Fatal(err)
	}
	answer := func(a labs.Answer) labs.Result {
		t.Helper()
		r, err := f.Answer(t.Context(), f.learner, s.Session, "ask/1", a)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, wrong := range []labs.Answer{{}, {Picked: []int{0}}, {Picked: []int{0, 1}}, {Picked: []int{7}}, {Picked: []int{-1}}, {Text: "yes"}} {
		if r := answer(wrong); r.Status != labs.Failed || strings.Contains(r.Expected+r.Seen, "yes") {
			t.Errorf("%+v gives %+v", wrong, r)
		}
	}
	if r := answer(labs.Answer{Picked: []int{1}}); r.Status != labs.Passed {
		t.Errorf("the right answer gives %+v", r)
	}
	st := f.until(t, s.Session, "answered", func(s labs.State) bool { return s.Checks["ask/1"].Passed })
	if st.Checks["ask/2"].Passed {
		t.Error("the other check passed as well")
	}
	if _, err := f.Answer(t.Context(), f.learner, s.Session, "ask/2", labs.Answer{}); !errors.Is(err, labs.ErrNotFound) {
		t.Errorf("answering what is no question: %v", err)
	}
	if _, err := f.Answer(t.Context(), f.learner, s.Session, "ask/1", labs.Answer{Text: strings.Repeat("x", 2000)}); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("attack: a huge answer: %v", err)
	}
	if _, err := f.Check(t.Context(), f.learner, s.Session, "ask/1"); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("checking a question: %v", err)
	}
}

func TestAPageNobodyReachedDoesNotTick(t *testing.T) {
	f, s := openPaged(t, nil)
	pass := func() {
		t.Helper()
		select {
		case f.verdicts <- labs.Result{Check: "ask/2", Status: labs.Passed, At: time.Now()}:
		case <-time.After(10 * time.Second):
			t.Fatal("nobody watches")
		}
	}
	pass()
	pass() // the first has been taken by now
	if st, err := f.State(t.Context(), f.learner, s.Session); err != nil || st.Checks["ask/2"].Passed {
		t.Errorf("it ticked before anybody was there: %v", err)
	}
	if err := f.Arrive(t.Context(), f.learner, s.Session, "ask"); err != nil {
		t.Fatal(err)
	}
	pass()
	f.until(t, s.Session, "a tick", func(s labs.State) bool { return s.Checks["ask/2"].Passed })
}

func TestFileBlocksGetIntoFiles(t *testing.T) {
	f, s := openPaged(t, nil)
	b := f.boxOf(t, s.Session, 1)
	for _, c := range []struct{ before, block, after string }{
		{"old", "ask/file-1", "new\n"},
		{"old", "ask/file-2", "old\nend\n"},
		{"old\n", "ask/file-3", "first\nold\n"},
		{"a\nx MARK y\nb\n", "ask/file-4", "a\nput\nb\n"},
	} {
		b.mu.Lock()
		b.files = map[string]string{"~/a": c.before}
		b.mu.Unlock()
		if err := f.WriteFile(t.Context(), f.learner, s.Session, c.block); err != nil {
			t.Fatal(err)
		}
		if got := b.files["~/a"]; got != c.after {
			t.Errorf("%s of %q gives %q, want %q", c.block, c.before, got, c.after)
		}
	}
	if err := f.WriteFile(t.Context(), f.learner, s.Session, "ask/file-4"); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("inserting twice: %v", err)
	}
}

func TestValuesAreTheLearnersOwn(t *testing.T) {
	f, s := openPaged(t, nil)
	l, err := f.Personal(f.learner, "paged")
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Steps[0].HTML; got != "<b>a&lt;b</b>" {
		t.Errorf("HTML %q", got)
	}
	if got := l.Steps[0].Commands[0].Code; got != "echo a<b" {
		t.Errorf("command %q", got)
	}
	if got := l.Steps[0].Checks[1].Ran.Pattern.String(); got != "^echo a<b$" {
		t.Errorf("pattern %q", got)
	}
	if paged.Steps[0].HTML == l.Steps[0].HTML {
		t.Error("the catalogue's lesson was changed")
	}
	if !strings.HasPrefix(s.Preview, "http://p."+labs.PreviewName(f.learner, "paged")) {
		t.Errorf("preview %q", s.Preview)
	}
	number := labs.Var{Name: "port", Low: 8000, High: 8009}
	seen := make(map[string]bool)
	for _, learner := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		v := (&labs.Lesson{ID: "x", Intro: labs.Part{HTML: number.Mark()}, Vars: []labs.Var{number}}).For(learner, nil).Intro.HTML
		if len(v) != 4 || v < "8000" || v > "8009" {
			t.Fatalf("value %q", v)
		}
		seen[v] = true
	}
	if len(seen) < 5 {
		t.Errorf("26 learners have only %d values of 10", len(seen))
	}
}

func TestPreviewsAreTheLearnersOwn(t *testing.T) {
	f, s := openPaged(t, nil)
	name := labs.PreviewName(f.learner, "paged")
	sb, session, err := f.Preview(t.Context(), f.learner, name, 2)
	if err != nil || session != s.Session || sb != labs.Sandbox(f.boxOf(t, s.Session, 2)) {
		t.Errorf("session %s, %v", session, err)
	}
	thief, _, err := f.NewLearner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Preview(t.Context(), thief.ID, name, 1); !errors.Is(err, labs.ErrNotFound) {
		t.Errorf("attack: somebody else's preview: %v", err)
	}
}

func TestAnEditReachesOpenSessions(t *testing.T) {
	f, s := openPaged(t, nil)
	changes, cancel := f.Changes("paged")
	defer cancel()
	wait := func() labs.LessonEvent {
		t.Helper()
		select {
		case e := <-changes:
			return e.Data.(labs.LessonEvent)
		case <-time.After(10 * time.Second):
			t.Fatal("no page was told")
			return labs.LessonEvent{}
		}
	}
	edited := *paged
	edited.Paged = false
	edited.Steps = []labs.Step{{ID: "other", Checks: []labs.Check{{ID: "other/1"}}}}
	f.Edit([]*labs.Lesson{&edited}, nil)
	if e := wait(); len(e.Mistakes) != 0 {
		t.Errorf("mistakes %v", e.Mistakes)
	}
	st := f.until(t, s.Session, "the new check", func(s labs.State) bool { _, ok := s.Checks["other/1"]; return ok })
	if _, old := st.Checks["ask/1"]; old || st.Phase != labs.PhaseReady {
		t.Errorf("state %+v", st)
	}
	select { // the checks of the new text are watched
	case f.verdicts <- labs.Result{Check: "other/1", Status: labs.Passed, At: time.Now()}:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody watches")
	}
	f.until(t, s.Session, "a tick", func(s labs.State) bool { return s.Checks["other/1"].Passed })

	// With a mistake the last good version stays.
	wrong := []labs.Mistake{{File: "lab.md", Line: 3, What: "bad"}}
	f.Edit(nil, map[string][]labs.Mistake{"paged": wrong})
	if e := wait(); !slices.Equal(e.Mistakes, wrong) {
		t.Errorf("mistakes %v", e.Mistakes)
	}
	if l, err := f.Lesson("paged"); err != nil || l != &edited {
		t.Errorf("the lesson is %p, %v", l, err)
	}
	f.Edit(nil, map[string][]labs.Mistake{"paged": wrong})
	select {
	case <-changes:
		t.Error("a page was told of nothing")
	default:
	}
}

func TestALessonThatCannotRunIsRead(t *testing.T) {
	f := newFixture(t, nil)
	cannot := *paged
	cannot.Cannot = "It needs a cluster."
	f.SetLessons([]*labs.Lesson{&cannot})
	_, err := f.Open(t.Context(), f.learner, "paged")
	var p *labs.Problem
	if !errors.As(err, &p) || p.Say != cannot.Cannot {
		t.Errorf("opening it: %v", err)
	}
}

func TestTypedKeys(t *testing.T) {
	for _, c := range []struct {
		labs.Command
		want string
	}{
		{labs.Command{Code: "ls"}, "ls\n"},
		{labs.Command{Code: "ls", Interrupt: true}, "\x03ls\n"},
		{labs.Command{Code: "y", NoEnter: true}, "y"},
		{labs.Command{Code: "^C", Keys: true}, "\x03"},
		{labs.Command{Code: "^c^[:q^M^?", Keys: true}, "\x03\x1b:q\r\x7f"},
		{labs.Command{Code: "^", Keys: true}, "^"},
		{labs.Command{Code: "^1", Keys: true}, "^1"},
	} {
		if got := string(c.Typed()); got != c.want {
			t.Errorf("%+v types %q, want %q", c.Command, got, c.want)
		}
	}
}

func TestTerminalNames(t *testing.T) {
	for name, ok := range map[string]bool{"1": true, "web-1": true, "1@2": true, "": false, "1@": false, "1@1": false, "1@22": false, "A": false, "a b": false, "../1": false} {
		if labs.ValidTerminal(name) != ok {
			t.Errorf("ValidTerminal(%q) is %v", name, !ok)
		}
	}
	if inside, host := labs.SplitTerminal("top@2"); inside != "top" || host != 2 {
		t.Errorf("%q on %d", inside, host)
	}
}
