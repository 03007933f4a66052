package main

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/labs"
	"berth/labs/rehearsal"
	"berth/labs/store"
	"berth/runner/local"

	"github.com/spf13/cobra"
)

// A tester is what the flags of berth test say.
type tester struct {
	config
	rehearsal rehearsal.Rehearsal
	lab       []string
	engines   []string
	parallel  int
	asJSON    bool
	junit     string
	own       bool
}

func newTest() *cobra.Command {
	var t tester
	cmd := &cobra.Command{
		Use:   "test [DIR…]",
		Short: "Play lessons as a learner would, and say which checks do not hold",
		Long: `Play the lessons in the directories that are given (this one, if none is), of all
formats, each in a fresh sandbox. Its parts are come to in their order, its
files written, its questions answered, and its commands typed into real
terminals: those of a step's solution or, of a step without one, those that its
page offers to run.

Every check must be red before its step's commands and green after them: a check
that cannot fail is a defect. --thorough also plays the lesson once for every
step with that step's commands left out, and its checks have to stay red. A
lesson without checks passes when its commands end with exit status 0. Lessons
that cannot run here are skipped, and it is said why.

Exit status: 0 when all that was played passed, 1 when something failed, 2 when
nothing could be played.

--json prints one object: lessons (list), mistakes (as 'berth lint' has them),
passed, failed, skipped (numbers), seconds. A lesson has: lesson (id), title,
format, source, engine, outcome ("passed", "failed" or "skipped"), why, seconds,
sandbox (that was kept), steps (list of: id, title, outcome, seconds, commands,
checks, defects, remarks).`,
		Example: "  berth test ./my-lab\n  berth test --step build --keep ./my-lab\n  berth test --engine 20.10,26.1 --junit report.xml ./labs",
		RunE: t.runs(func(ctx context.Context, log *slog.Logger, out io.Writer, dirs []string) error {
			return t.test(ctx, log, out, dirs)
		}),
	}
	f := cmd.Flags()
	t.placeFlags(f)
	f.Lookup("log-level").DefValue, t.logLevel = "error", "error"
	t.runnerFlags(f, testerIdentity)
	t.limitFlags(f)
	f.StringSliceVar(&t.engines, "engine", nil, "engines to play lessons with that ask for 'docker', one after the other: versions (20.10, 26.1) or sandbox images")
	f.StringSliceVar(&t.lab, "lab", nil, "ids of the lessons to play (default: all)")
	f.StringVar(&t.rehearsal.Only, "step", "", "id of the one step to test; those before it are only done")
	f.BoolVar(&t.rehearsal.Thorough, "thorough", false, "play each lesson once more for every step, with that step's commands left out")
	f.BoolVar(&t.rehearsal.Keep, "keep", false, "leave the sandbox of a lesson that failed, to look around in it")
	f.DurationVar(&t.rehearsal.CommandTime, "command-time", 5*time.Minute, "time for one command to end")
	f.DurationVar(&t.rehearsal.CheckTime, "check-time", 20*time.Second, "time for a step's checks to turn green after its commands")
	f.IntVar(&t.parallel, "parallel", min(4, runtime.NumCPU()), "lessons that are played at the same time")
	f.BoolVar(&t.own, "shipped", false, "play the lessons that are shipped too")
	f.BoolVar(&t.asJSON, "json", false, "print JSON")
	f.StringVar(&t.junit, "junit", "", "file to write a report in JUnit's XML to")
	return cmd
}

// engineImages are the sandbox images of engines that have been named by their
// version.
var engineImages = map[string]string{"20.10": "docker-20", "26.1": "docker"}

// A testReport is what berth test says, as JSON.
type testReport struct {
	Lessons  []rehearsal.Report `json:"lessons"`
	Mistakes []lintMistake      `json:"mistakes"`
	Passed   int                `json:"passed"`
	Failed   int                `json:"failed"`
	Skipped  int                `json:"skipped"`
	Seconds  float64            `json:"seconds"`
}

func (t *tester) test(ctx context.Context, log *slog.Logger, out io.Writer, dirs []string) error {
	began := time.Now()
	if len(dirs) == 0 && !t.own {
		dirs = []string{"."}
	}
	places, err := openPlaces(dirs)
	if err != nil {
		return unable{err}
	}
	defer closePlaces(places)
	if t.own {
		places = append([]*place{shipped()}, places...)
	}
	lib := readLibrary(places)
	r := &testReport{Lessons: []rehearsal.Report{}, Mistakes: []lintMistake{}}
	for _, s := range lib.shelves {
		for _, m := range reported(s.name, s.mistakes) {
			if m.Severity == "error" && len(t.lab) == 0 {
				r.Mistakes = append(r.Mistakes, m)
			}
		}
	}
	w := &testWriter{out: out}
	if t.asJSON {
		w.out = io.Discard
	}
	w.mistakes(r.Mistakes)
	played, err := t.play(ctx, log, lib, func(p rehearsal.Report) {
		r.Lessons = append(r.Lessons, p)
		switch p.Outcome {
		case rehearsal.Passed:
			r.Passed++
		case rehearsal.Failed:
			r.Failed++
		case rehearsal.Skipped:
			r.Skipped++
		}
		w.lesson(p)
		if p.Sandbox != "" {
			w.printf("  The sandbox was kept: berth shell %s%s\n", p.Sandbox, t.identityFlags())
		}
	})
	if err != nil {
		return unable{err}
	}
	r.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
	slices.SortStableFunc(r.Lessons, func(a, b rehearsal.Report) int {
		return cmp.Or(cmp.Compare(a.Lesson, b.Lesson), cmp.Compare(a.Engine, b.Engine))
	})
	if t.junit != "" {
		if err := r.writeJUnit(t.junit); err != nil {
			return unable{err}
		}
	}
	if t.asJSON {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		w.printf("\n%d passed, %d failed, %d skipped, in %.1f s\n", r.Passed, r.Failed+len(r.Mistakes), r.Skipped, r.Seconds)
		err = w.err
	}
	switch {
	case err != nil:
		return unable{err}
	case r.Failed > 0 || len(r.Mistakes) > 0:
		return exitStatus(1)
	case !played && r.Skipped == 0:
		return unable{&labs.Problem{Kind: labs.ErrNotFound, Say: "There is no such lesson. 'berth lint' lists those there are."}}
	}
	return nil
}

// identityFlags are those that another command needs to find the sandboxes of
// this one.
func (t *tester) identityFlags() string {
	var b strings.Builder
	for _, f := range []struct{ name, value, usual string }{
		{"state", t.testState(), filepath.Join("/var/lib/berth", "test")},
		{"name", t.name, testerIdentity.name},
		{"network", t.network, testerIdentity.network},
		{"first-id", fmt.Sprint(t.firstID), fmt.Sprint(testerIdentity.firstID)},
	} {
		if f.value != f.usual {
			fmt.Fprintf(&b, " --%s %s", f.name, f.value)
		}
	}
	return b.String()
}

// testState is where the sandboxes of tests are kept, apart from a server's.
func (c *config) testState() string { return filepath.Join(c.state, "test") }

// A job is one lesson to be played with one engine.
type job struct {
	lesson *labs.Lesson
	desk   *labs.Desk
	engine string
}

// play plays the lessons of the library and gives each report to each, one at a
// time. played says whether there was one to play.
func (t *tester) play(ctx context.Context, log *slog.Logger, lib *library, each func(rehearsal.Report)) (played bool, err error) {
	lessons := lib.lessons()
	if len(t.lab) > 0 {
		lessons = slices.DeleteFunc(lessons, func(l *labs.Lesson) bool { return !slices.Contains(t.lab, l.ID) })
	}
	if t.rehearsal.Only != "" {
		lessons = slices.DeleteFunc(lessons, func(l *labs.Lesson) bool { _, ok := l.Step(t.rehearsal.Only); return !ok })
	}
	editions, missing := t.editions(log, lessons)
	runs := 0
	for _, e := range editions {
		for _, l := range e.lessons {
			if l.Cannot == "" {
				runs++
			}
		}
	}
	if runs == 0 {
		if missing != nil {
			return false, missing
		}
		for _, e := range editions {
			for _, l := range e.lessons {
				rep := t.rehearsal.Run(ctx, l) // which only says why not
				rep.Engine = e.engine
				each(rep)
			}
		}
		return false, nil
	}
	if err := needRoot("Sandboxes are made of namespaces, mounts and control groups, which needs root."); err != nil {
		return false, err
	}
	return true, t.playAll(ctx, log, editions, each)
}

// An edition is lessons to be played with one engine.
type edition struct {
	engine  string
	lessons []*labs.Lesson
}

// editions gives the lessons for each engine that was asked for. missing is why
// a sandbox image is not there.
func (t *tester) editions(log *slog.Logger, lessons []*labs.Lesson) (all []edition, missing error) {
	engines := t.engines
	if len(engines) == 0 {
		engines = []string{""}
	}
	for n, engine := range engines {
		e := edition{engine: engine}
		for _, l := range lessons {
			if n > 0 && l.Image != "docker" {
				continue // it has its own image with every engine
			}
			one := *l
			if one.Image == "docker" && engine != "" {
				one.Image = cmp.Or(engineImages[engine], engine)
			}
			e.lessons = append(e.lessons, &one)
		}
		if _, first := (ground{images: t.imageStore(log)}).mark(e.lessons); first != nil {
			missing = first
		}
		all = append(all, e)
	}
	return all, missing
}

// notResting refuses to play under the name of a server that was stopped while
// its sandboxes go on: what has the name and is not of the test is cleared away.
func (c config) notResting(log *slog.Logger) error {
	cfg, err := c.looking(log)
	if err != nil {
		return err
	}
	resting, err := local.List(cfg)
	if err != nil || len(resting) == 0 {
		return err
	}
	return unable{&labs.Problem{Kind: labs.ErrBusy, Say: fmt.Sprintf(
		"%d sandbox%s of a server named %s still run%s, which learners may come back to. Give the test another --name, --network and --first-id, or end them with 'berth sweep'.",
		len(resting), map[bool]string{true: "", false: "es"}[len(resting) == 1], c.name, map[bool]string{true: "s", false: ""}[len(resting) == 1])}}
}

// playAll plays the lessons in sandboxes of this machine.
func (t *tester) playAll(ctx context.Context, log *slog.Logger, editions []edition, each func(rehearsal.Report)) (err error) {
	c := t.config
	if err := c.notResting(log); err != nil {
		return err
	}
	c.mirrorAt = c.mirrorDir()
	if c.images == "" {
		c.images = c.state
	}
	c.state = c.testState()
	c.pool, c.max, c.perLearner = 0, 16+16*t.parallel, 10
	c.life, c.maxLife, c.extend, c.idle = 24*time.Hour, 24*time.Hour, time.Hour, 24*time.Hour
	if err := os.MkdirAll(c.state, 0o711); err != nil {
		return &labs.Problem{Kind: labs.ErrInvalid, Say: "The state directory cannot be made. Choose another with --state.", Cause: err}
	}
	var all []*labs.Lesson
	for _, e := range editions {
		all = append(all, e.lessons...)
	}
	on, err := c.openStage(ctx, log, all)
	if err != nil {
		return err
	}
	kept := false
	defer func() {
		err = errors.Join(err, on.close())
		if !kept && err == nil {
			err = os.RemoveAll(c.state)
		}
	}()
	left, err := on.runner.Adopt(ctx)
	if err != nil {
		return err
	}
	for _, sb := range left { // that an earlier test kept
		if err := sb.Destroy(); err != nil {
			return err
		}
	}
	books, err := os.MkdirTemp(c.state, "books-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(books)
	var jobs []job
	for i, e := range editions {
		st, err := store.Open(ctx, filepath.Join(books, fmt.Sprintf("%d.db", i)), log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		desk := labs.NewDesk(on.desk(&c, st))
		defer desk.Close()
		desk.SetLessons(e.lessons)
		for _, l := range e.lessons {
			jobs = append(jobs, job{l, desk, e.engine})
		}
	}
	var playing sync.WaitGroup
	var mu sync.Mutex
	places := make(chan struct{}, max(1, t.parallel))
	for _, j := range jobs {
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		playing.Go(func() {
			defer func() { <-places }()
			r := t.rehearsal
			r.Desk, r.Log = j.desk, log
			rep := r.Run(ctx, j.lesson)
			rep.Engine = j.engine
			mu.Lock()
			defer mu.Unlock()
			kept = kept || rep.Sandbox != ""
			each(rep)
		})
	}
	playing.Wait()
	return nil
}

// A testWriter prints reports for people.
type testWriter struct {
	out io.Writer
	err error // the first
}

func (w *testWriter) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(w.out, format, args...); err != nil && w.err == nil {
		w.err = err
	}
}

func (w *testWriter) mistakes(all []lintMistake) {
	for _, m := range all {
		w.printf("FAIL  %s\n", m)
	}
}

// sentence is the mistake with its line, for a report that names the file.
func (m lintMistake) sentence() string {
	s := m.What
	if m.Hint != "" {
		s += "; " + m.Hint
	}
	if m.Line > 0 {
		s = fmt.Sprintf("line %d: %s", m.Line, s)
	}
	return s
}

var outcomeSigns = map[rehearsal.Outcome]string{rehearsal.Passed: "ok  ", rehearsal.Failed: "FAIL", rehearsal.Skipped: "skip"}

func (w *testWriter) lesson(r rehearsal.Report) {
	name := r.Lesson
	if r.Engine != "" {
		name += " with engine " + r.Engine
	}
	w.printf("%s  %s  %.1f s\n", outcomeSigns[r.Outcome], shown(name), r.Seconds)
	if r.Why != "" {
		w.printf("      %s\n", shown(r.Why))
	}
	wide := 0
	for _, s := range r.Steps {
		wide = max(wide, len(s.ID))
	}
	for _, s := range r.Steps {
		w.printf("  %s  %-*s  %6.1f s  %s\n", outcomeSigns[s.Outcome], wide, shown(s.ID), s.Seconds, ticks(s))
		for _, d := range s.Defects {
			w.printf("          %s\n", shown(d))
		}
		if s.Outcome == rehearsal.Failed {
			w.commands(s.Commands)
		}
		for _, m := range s.Remarks {
			w.printf("          note: %s\n", shown(m))
		}
	}
}

// ticks says how the checks of a step did.
func ticks(s rehearsal.Step) string {
	if len(s.Checks) == 0 {
		return fmt.Sprintf("%d command%s, no checks", len(s.Commands), plural(len(s.Commands)))
	}
	green, slowest := 0, 0.0
	for _, c := range s.Checks {
		if c.After == labs.Passed {
			green++
		}
		slowest = max(slowest, c.Seconds)
	}
	text := fmt.Sprintf("%d of %d green", green, len(s.Checks))
	if green > 0 {
		text += fmt.Sprintf(" after %.0f ms", slowest*1000)
	}
	return text
}

// commands shows what was typed in a step that failed, and how the last of it
// came out.
func (w *testWriter) commands(all []rehearsal.Command) {
	for i, c := range all {
		exit := "exit status not known"
		if c.Exit != nil {
			exit = fmt.Sprintf("exit status %d", *c.Exit)
		}
		line, _, _ := strings.Cut(c.Code, "\n")
		w.printf("          $ %s   (%s)\n", shown(cutAt(line, 100)), exit)
		if i < len(all)-1 || c.Output == "" {
			continue
		}
		lines := strings.Split(c.Output, "\n")
		for _, l := range lines[max(0, len(lines)-8):] {
			w.printf("            %s\n", shown(cutAt(l, 120)))
		}
	}
}

// A JUnit report, as continuous integration reads it.
type junitSuites struct {
	XMLName xml.Name `xml:"testsuites"`
	junitCounts
	Suites []junitSuite `xml:"testsuite"`
}

type junitCounts struct {
	Tests    int     `xml:"tests,attr"`
	Failures int     `xml:"failures,attr"`
	Errors   int     `xml:"errors,attr"`
	Skipped  int     `xml:"skipped,attr"`
	Time     float64 `xml:"time,attr"`
}

type junitSuite struct {
	Name string `xml:"name,attr"`
	junitCounts
	Cases []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    float64       `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func (s *junitSuite) add(name string, took float64, failure, skipped *junitMessage, out string) {
	s.Cases = append(s.Cases, junitCase{s.Name, name, took, failure, skipped, out})
	s.Tests++
	if failure != nil {
		s.Failures++
	}
	if skipped != nil {
		s.Skipped++
	}
	s.Time += took
}

// junit gives the report as test suites: a lesson with an engine is one, with a
// case for each step.
func (r *testReport) junitSuites() junitSuites {
	var all junitSuites
	for _, m := range r.Mistakes {
		s := junitSuite{Name: path.Join(m.In, m.File)}
		s.add("reads", 0, &junitMessage{m.sentence(), ""}, nil, "")
		all.Suites = append(all.Suites, s)
	}
	for _, l := range r.Lessons {
		s := junitSuite{Name: l.Lesson}
		if l.Engine != "" {
			s.Name += " with engine " + l.Engine
		}
		for _, st := range l.Steps {
			var failure *junitMessage
			if st.Outcome == rehearsal.Failed {
				failure = &junitMessage{cmp.Or(strings.Join(st.Defects, "; "), "failed"), strings.Join(st.Defects, "\n")}
			}
			var out strings.Builder
			for _, c := range st.Commands {
				fmt.Fprintf(&out, "$ %s\n%s\n", c.Code, c.Output)
			}
			for _, m := range st.Remarks {
				fmt.Fprintf(&out, "note: %s\n", m)
			}
			var skipped *junitMessage
			if st.Outcome == rehearsal.Skipped {
				skipped = &junitMessage{strings.Join(st.Remarks, "; "), ""}
			}
			s.add(st.ID, st.Seconds, failure, skipped, out.String())
		}
		switch {
		case l.Outcome == rehearsal.Skipped:
			s.add("plays", 0, nil, &junitMessage{l.Why, ""}, "")
		case l.Why != "":
			s.add("plays", l.Seconds, &junitMessage{l.Why, ""}, nil, "")
		}
		all.Suites = append(all.Suites, s)
	}
	for _, s := range all.Suites {
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Skipped += s.Skipped
		all.Time += s.Time
	}
	return all
}

func (r *testReport) writeJUnit(file string) error {
	b, err := xml.MarshalIndent(r.junitSuites(), "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file, append([]byte(xml.Header), append(b, '\n')...), 0o644); err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("The report cannot be written to %s.", file), Cause: err}
	}
	return nil
}
