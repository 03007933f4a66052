// Package storetest is what every labs.Store must do, as tests.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"berth/labs"
)

// patience bounds every test of the suite.
const patience = 30 * time.Second

// Run tests the stores that open gives. Each call of open must give an empty
// store, which the suite closes.
func Run(t *testing.T, open func(t *testing.T) labs.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *room)
	}{
		{"learner by token", learnerByToken},
		{"a learner is known once", learnerOnce},
		{"session comes back as it was stored", sessionRoundTrip},
		{"one open session per learner and lesson", oneOpenSession},
		{"session updated", sessionUpdated},
		{"last session is the newest", lastSession},
		{"open sessions", openSessions},
		{"what is not there is not found", notFound},
		{"nothing recorded is no progress", noProgress},
		{"progress is what passed", progressPassed},
		{"progress since the last reset", progressSinceReset},
		{"progress whatever the clock says", progressClock},
		{"progress of others is theirs", progressOfOthers},
		{"finished", finished},
		{"attempts are the newest of each check", attempts},
		{"text is bounded", textBounded},
		{"hostile text", hostileText},
		{"ids are bounded", idsBounded},
		{"records of a foreign session are refused", foreignSession},
		{"a context that has ended", endedContext},
		{"concurrent writers and readers", concurrent},
		{"race for one session", sessionRace},
		{"closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			t.Cleanup(cancel)
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			c.test(t, &room{t: t, ctx: ctx, Store: s, now: time.Date(2026, 11, 22, 9, 0, 0, 123456000, time.UTC)})
		})
	}
}

// A room is a store with a clock that ticks whenever it is read.
type room struct {
	t   *testing.T
	ctx context.Context
	labs.Store
	now time.Time
}

func (r *room) tick() time.Time {
	r.now = r.now.Add(time.Second)
	return r.now
}

func (r *room) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) is(err, kind error) {
	r.t.Helper()
	if !errors.Is(err, kind) {
		r.t.Fatalf("error is %v, want %v", err, kind)
	}
}

func (r *room) learner(id string) labs.Learner {
	r.t.Helper()
	l := labs.Learner{ID: id, Created: r.tick()}
	r.ok(r.AddLearner(r.ctx, l, []byte("hash of "+id)))
	return l
}

// session opens a session of a learner, who is made when not there.
func (r *room) session(id, learner, lesson string) labs.Session {
	r.t.Helper()
	if _, err := r.LearnerByToken(r.ctx, []byte("hash of "+learner)); errors.Is(err, labs.ErrNotFound) {
		r.learner(learner)
	}
	now := r.tick()
	s := labs.Session{ID: id, Learner: learner, Lesson: lesson, Started: now, Active: now, Expires: now.Add(time.Hour)}
	r.ok(r.AddSession(r.ctx, s))
	return s
}

func (r *room) record(s labs.Session, check string, status labs.Status) labs.Attempt {
	r.t.Helper()
	a := labs.Attempt{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Result: labs.Result{
		Check: check, Status: status, Expected: "this", Seen: "that", Reason: "so", At: r.tick(),
	}}
	r.ok(r.Record(r.ctx, a))
	return a
}

func (r *room) note(s labs.Session, kind string) labs.Entry {
	r.t.Helper()
	e := labs.Entry{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Kind: kind, At: r.tick()}
	r.ok(r.Note(r.ctx, e))
	return e
}

func (r *room) progress(s labs.Session) labs.Progress {
	r.t.Helper()
	p, err := r.Progress(r.ctx, s.Learner, s.Lesson)
	r.ok(err)
	return p
}

// passed compares the checks that passed, and when.
func (r *room) passed(s labs.Session, want map[string]time.Time) {
	r.t.Helper()
	got := r.progress(s).Passed
	if len(got) != len(want) {
		r.t.Errorf("passed %v, want %v", got, want)
	}
	for check, at := range want {
		if !got[check].Equal(at) {
			r.t.Errorf("check %s passed at %v, want %v", check, got[check], at)
		}
	}
}

func learnerByToken(t *testing.T, r *room) {
	want := r.learner("ada")
	r.learner("bob")
	got, err := r.LearnerByToken(r.ctx, []byte("hash of ada"))
	r.ok(err)
	if got.ID != want.ID || !got.Created.Equal(want.Created) {
		t.Errorf("learner is %v, want %v", got, want)
	}
	_, err = r.LearnerByToken(r.ctx, []byte("hash of eve"))
	r.is(err, labs.ErrNotFound)
	_, err = r.LearnerByToken(r.ctx, nil)
	r.is(err, labs.ErrNotFound)
}

func learnerOnce(t *testing.T, r *room) {
	l := r.learner("ada")
	r.is(r.AddLearner(r.ctx, l, []byte("another")), labs.ErrInvalid)
	r.is(r.AddLearner(r.ctx, labs.Learner{ID: "eve"}, []byte("hash of ada")), labs.ErrInvalid)
	r.is(r.AddLearner(r.ctx, labs.Learner{ID: "eve"}, nil), labs.ErrInvalid)
	got, err := r.LearnerByToken(r.ctx, []byte("hash of ada"))
	r.ok(err)
	if got.ID != "ada" {
		t.Errorf("the token belongs to %s now", got.ID)
	}
}

func sameSession(a, b labs.Session) bool {
	return a.ID == b.ID && a.Learner == b.Learner && a.Lesson == b.Lesson && a.Sandbox == b.Sandbox && a.Others == b.Others && a.Reason == b.Reason &&
		a.Started.Equal(b.Started) && a.Expires.Equal(b.Expires) && a.Active.Equal(b.Active) && a.Ended.Equal(b.Ended) && a.Open() == b.Open()
}

func sessionRoundTrip(t *testing.T, r *room) {
	want := r.session("s1", "ada", "container-image")
	got, err := r.Session(r.ctx, "s1")
	r.ok(err)
	if !sameSession(got, want) {
		t.Errorf("session is %+v, want %+v", got, want)
	}
	bare := labs.Session{ID: "s2", Learner: "ada", Lesson: "volumes"}
	r.ok(r.AddSession(r.ctx, bare))
	got, err = r.Session(r.ctx, "s2")
	r.ok(err)
	if !sameSession(got, bare) || !got.Started.IsZero() {
		t.Errorf("session with zero times is %+v", got)
	}
	r.is(r.AddSession(r.ctx, labs.Session{ID: "s1", Learner: "ada", Lesson: "networks"}), labs.ErrInvalid)
}

func oneOpenSession(t *testing.T, r *room) {
	first := r.session("s1", "ada", "container-image")
	again := labs.Session{ID: "s2", Learner: "ada", Lesson: "container-image", Started: r.tick()}
	r.is(r.AddSession(r.ctx, again), labs.ErrBusy)
	r.session("s3", "ada", "volumes")
	r.session("s4", "bob", "container-image")
	first.Ended = r.tick()
	r.ok(r.UpdateSession(r.ctx, first))
	r.ok(r.AddSession(r.ctx, again))
	// The ended one cannot be opened again beside it.
	first.Ended = time.Time{}
	r.is(r.UpdateSession(r.ctx, first), labs.ErrBusy)
	_, err := r.Session(r.ctx, "s2")
	r.ok(err)
}

func sessionUpdated(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	other := r.session("s2", "bob", "container-image")
	s.Sandbox, s.Others, s.Expires, s.Active = "b-1", "b-2 b-3", r.tick(), r.tick()
	r.ok(r.UpdateSession(r.ctx, s))
	got, err := r.Session(r.ctx, "s1")
	r.ok(err)
	if !sameSession(got, s) || !got.Open() {
		t.Errorf("session is %+v, want %+v", got, s)
	}
	s.Ended, s.Reason = r.tick(), "You ended this session."
	r.ok(r.UpdateSession(r.ctx, s))
	if got, err = r.Session(r.ctx, "s1"); err != nil || !sameSession(got, s) {
		t.Errorf("session is %+v (%v), want %+v", got, err, s)
	}
	if got, err = r.Session(r.ctx, "s2"); err != nil || !sameSession(got, other) {
		t.Errorf("the other session is %+v (%v), want %+v", got, err, other)
	}
	r.is(r.UpdateSession(r.ctx, labs.Session{ID: "s9"}), labs.ErrNotFound)
}

func lastSession(t *testing.T, r *room) {
	for i := range 3 {
		s := r.session(fmt.Sprintf("s%d", 3-i), "ada", "container-image") // ids against the order
		s.Ended = r.tick()
		r.ok(r.UpdateSession(r.ctx, s))
	}
	r.session("s8", "ada", "volumes")
	r.session("s9", "bob", "container-image")
	got, err := r.LastSession(r.ctx, "ada", "container-image")
	r.ok(err)
	if got.ID != "s1" {
		t.Errorf("last session is %s, want s1", got.ID)
	}
}

func openSessions(t *testing.T, r *room) {
	if all, err := r.OpenSessions(r.ctx); err != nil || len(all) != 0 {
		t.Fatalf("open sessions of an empty store: %v, %v", all, err)
	}
	a := r.session("s1", "ada", "container-image")
	b := r.session("s2", "ada", "volumes")
	c := r.session("s3", "bob", "container-image")
	b.Ended = r.tick()
	r.ok(r.UpdateSession(r.ctx, b))
	all, err := r.OpenSessions(r.ctx)
	r.ok(err)
	if len(all) != 2 || !sameSession(all[0], a) || !sameSession(all[1], c) {
		t.Errorf("open sessions are %+v", all)
	}
}

func notFound(t *testing.T, r *room) {
	r.learner("ada")
	_, err := r.Session(r.ctx, "s1")
	r.is(err, labs.ErrNotFound)
	_, err = r.LastSession(r.ctx, "ada", "container-image")
	r.is(err, labs.ErrNotFound)
	r.is(r.AddSession(r.ctx, labs.Session{ID: "s1", Learner: "eve", Lesson: "container-image"}), labs.ErrNotFound)
}

func noProgress(t *testing.T, r *room) {
	p, err := r.Progress(r.ctx, "nobody", "nothing")
	r.ok(err)
	if p.Lesson != "nothing" || p.Passed == nil || len(p.Passed) != 0 || !p.Last.IsZero() || !p.Finished.IsZero() {
		t.Errorf("progress is %+v", p)
	}
	all, err := r.Attempts(r.ctx, "nobody", "nothing")
	r.ok(err)
	if len(all) != 0 {
		t.Errorf("attempts are %+v", all)
	}
}

func progressPassed(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	r.record(s, "pull/1", labs.Failed)
	first := r.record(s, "pull/1", labs.Passed)
	r.record(s, "pull/2", labs.Unknown)
	r.record(s, "pull/1", labs.Failed) // stays passed
	r.record(s, "pull/1", labs.Passed) // when it first passed counts
	save := r.record(s, "save/1", labs.Passed)
	last := r.record(s, "save/2", labs.Failed)
	r.passed(s, map[string]time.Time{"pull/1": first.Result.At, "save/1": save.Result.At})
	if p := r.progress(s); !p.Last.Equal(last.Result.At) || !p.Finished.IsZero() {
		t.Errorf("progress is %+v, last should be %v", p, last.Result.At)
	}
	e := r.note(s, "hint")
	if p := r.progress(s); !p.Last.Equal(e.At) {
		t.Errorf("last is %v, want that of the entry, %v", p.Last, e.At)
	}
}

func progressSinceReset(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	r.record(s, "pull/1", labs.Passed)
	r.record(s, "save/1", labs.Passed)
	r.note(s, "finished")
	reset := r.note(s, "reset")
	r.passed(s, nil)
	if p := r.progress(s); !p.Finished.IsZero() || !p.Last.Equal(reset.At) {
		t.Errorf("progress after a reset is %+v", p)
	}
	if all, err := r.Attempts(r.ctx, "ada", "container-image"); err != nil || len(all) != 0 {
		t.Errorf("attempts after a reset: %+v, %v", all, err)
	}
	s.Ended = r.tick()
	r.ok(r.UpdateSession(r.ctx, s))
	again := r.session("s2", "ada", "container-image")
	pull := r.record(again, "pull/1", labs.Passed)
	r.passed(again, map[string]time.Time{"pull/1": pull.Result.At})
	r.note(again, "reset")
	r.note(again, "reset") // and one on nothing
	r.passed(again, nil)
	pull = r.record(again, "pull/1", labs.Passed)
	r.passed(again, map[string]time.Time{"pull/1": pull.Result.At})
}

// progressClock: what counts is the order in which things were recorded, not
// their times: a result may have been seen before a reset and clocks are set.
func progressClock(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	r.record(s, "pull/1", labs.Passed)
	r.note(s, "reset")
	r.now = r.now.Add(-time.Hour)
	early := r.record(s, "save/1", labs.Passed)
	r.passed(s, map[string]time.Time{"save/1": early.Result.At})
	r.note(s, "reset")
	r.passed(s, nil)
}

func progressOfOthers(t *testing.T, r *room) {
	a := r.session("s1", "ada", "container-image")
	b := r.session("s2", "bob", "container-image")
	v := r.session("s3", "ada", "volumes")
	pull := r.record(a, "pull/1", labs.Passed)
	save := r.record(b, "save/1", labs.Passed)
	r.note(a, "finished")
	r.note(v, "reset")
	r.passed(a, map[string]time.Time{"pull/1": pull.Result.At})
	r.passed(b, map[string]time.Time{"save/1": save.Result.At})
	r.passed(v, nil)
	if !r.progress(b).Finished.IsZero() || !r.progress(v).Finished.IsZero() {
		t.Error("finished for somebody else")
	}
}

func finished(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	first := r.note(s, "finished")
	r.note(s, "finished")
	if p := r.progress(s); !p.Finished.Equal(first.At) {
		t.Errorf("finished at %v, want the first time, %v", p.Finished, first.At)
	}
}

func attempts(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	r.record(s, "pull/1", labs.Failed)
	pull := r.record(s, "pull/1", labs.Passed)
	r.record(s, "save/1", labs.Unknown)
	again := r.record(s, "save/1", labs.Failed)
	ran := r.record(s, "a/1", labs.Passed)
	got, err := r.Attempts(r.ctx, "ada", "container-image")
	r.ok(err)
	same := func(a, b labs.Attempt) bool {
		at := a.Result.At.Equal(b.Result.At)
		a.Result.At, b.Result.At = time.Time{}, time.Time{}
		return at && a == b
	}
	if !slices.EqualFunc(got, []labs.Attempt{pull, again, ran}, same) {
		t.Errorf("attempts are %+v", got)
	}
}

func textBounded(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	long := strings.Repeat("é", 10_000) // two bytes each: a cut in the middle shows
	r.ok(r.Record(r.ctx, labs.Attempt{Session: "s1", Learner: "ada", Lesson: "container-image", Result: labs.Result{
		Check: "pull/1", Status: labs.Failed, Expected: "x" + long, Seen: long, Reason: "x" + long, At: r.tick(),
	}}))
	r.ok(r.Note(r.ctx, labs.Entry{Session: "s1", Learner: "ada", Lesson: "container-image", Kind: "hint", Detail: long, At: r.tick()}))
	got, err := r.Attempts(r.ctx, "ada", "container-image")
	r.ok(err)
	for _, text := range []string{got[0].Result.Expected, got[0].Result.Seen, got[0].Result.Reason} {
		if len(text) > 500 || len(text) < 490 || !utf8.ValidString(text) {
			t.Errorf("text of %d bytes, valid %v", len(text), utf8.ValidString(text))
		}
	}
	s.Reason, s.Ended = long, r.tick()
	r.ok(r.UpdateSession(r.ctx, s))
	if s, err = r.Session(r.ctx, "s1"); err != nil || len(s.Reason) > 500 || !utf8.ValidString(s.Reason) {
		t.Errorf("reason of %d bytes, %v", len(s.Reason), err)
	}
}

// hostileText: what checks have seen comes from learners' sandboxes.
func hostileText(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	for i, text := range []string{
		"'; DROP TABLE sessions; --", "\x00\x00", "\xff\xfe\xed\xa0\x80", "a\x00b", "\u202eright to left", "%s%n", "",
	} {
		check := fmt.Sprintf("c/%d", i)
		r.ok(r.Record(r.ctx, labs.Attempt{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Result: labs.Result{
			Check: check, Status: labs.Failed, Seen: text, At: r.tick(),
		}}))
		got, err := r.Attempts(r.ctx, s.Learner, s.Lesson)
		r.ok(err)
		seen := got[len(got)-1].Result.Seen
		if !utf8.ValidString(seen) || strings.ContainsRune(seen, 0) || len(seen) > len(text) {
			t.Errorf("%q came back as %q", text, seen)
		}
		if utf8.ValidString(text) && !strings.ContainsRune(text, 0) && seen != text {
			t.Errorf("%q came back as %q", text, seen)
		}
	}
}

func idsBounded(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	long := strings.Repeat("x", 100_000)
	for _, bad := range []string{"", long, "a\x00b", "\xff"} {
		r.is(r.AddLearner(r.ctx, labs.Learner{ID: bad}, []byte("h")), labs.ErrInvalid)
		r.is(r.AddSession(r.ctx, labs.Session{ID: bad, Learner: "ada", Lesson: "l"}), labs.ErrInvalid)
		r.is(r.AddSession(r.ctx, labs.Session{ID: "s2", Learner: "ada", Lesson: bad}), labs.ErrInvalid)
		r.is(r.Record(r.ctx, labs.Attempt{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Result: labs.Result{Check: bad, Status: labs.Passed}}), labs.ErrInvalid)
		r.is(r.Record(r.ctx, labs.Attempt{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Result: labs.Result{Check: "c", Status: labs.Status(bad)}}), labs.ErrInvalid)
		r.is(r.Note(r.ctx, labs.Entry{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Kind: bad}), labs.ErrInvalid)
	}
	r.is(r.AddLearner(r.ctx, labs.Learner{ID: "eve"}, bytes.Repeat([]byte{1}, 100_000)), labs.ErrInvalid)
	s.Sandbox = long
	r.is(r.UpdateSession(r.ctx, s), labs.ErrInvalid)
}

func foreignSession(t *testing.T, r *room) {
	a := r.session("s1", "ada", "container-image")
	r.session("s2", "eve", "container-image")
	forged := []labs.Session{
		{ID: a.ID, Learner: "eve", Lesson: a.Lesson},
		{ID: a.ID, Learner: a.Learner, Lesson: "volumes"},
		{ID: "s9", Learner: a.Learner, Lesson: a.Lesson},
		{ID: a.ID, Learner: "nobody", Lesson: a.Lesson},
	}
	for _, f := range forged {
		r.is(r.Record(r.ctx, labs.Attempt{Session: f.ID, Learner: f.Learner, Lesson: f.Lesson,
			Result: labs.Result{Check: "pull/1", Status: labs.Passed, At: r.tick()}}), labs.ErrNotFound)
		r.is(r.Note(r.ctx, labs.Entry{Session: f.ID, Learner: f.Learner, Lesson: f.Lesson, Kind: "reset", At: r.tick()}), labs.ErrNotFound)
	}
	r.is(r.Record(r.ctx, labs.Attempt{Learner: a.Learner, Lesson: a.Lesson, Result: labs.Result{Check: "pull/1", Status: labs.Passed}}), labs.ErrNotFound)
	r.passed(a, nil)
	// An entry may belong to no session.
	e := labs.Entry{Learner: "ada", Lesson: "container-image", Kind: "opened", At: r.tick()}
	r.ok(r.Note(r.ctx, e))
	if p := r.progress(a); !p.Last.Equal(e.At) {
		t.Errorf("last is %v, want %v", p.Last, e.At)
	}
}

func endedContext(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	a := labs.Attempt{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Result: labs.Result{Check: "pull/1", Status: labs.Passed, At: r.tick()}}
	r.is(r.Record(ctx, a), context.Canceled)
	_, err := r.Progress(ctx, s.Learner, s.Lesson)
	r.is(err, context.Canceled)
	// The store works on.
	r.record(s, "pull/2", labs.Passed)
	if _, ok := r.progress(s).Passed["pull/2"]; !ok {
		t.Error("a check that passed later is not there")
	}
}

func concurrent(t *testing.T, r *room) {
	const learners, each = 20, 25
	sessions := make([]labs.Session, learners)
	for i := range sessions {
		sessions[i] = r.session(fmt.Sprintf("s%d", i), fmt.Sprintf("learner %d", i), "container-image")
	}
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() {
			for i := range each {
				a := labs.Attempt{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Result: labs.Result{
					Check: fmt.Sprintf("c/%d", i), Status: labs.Passed, At: s.Started.Add(time.Duration(i) * time.Second)}}
				if err := r.Record(r.ctx, a); err != nil {
					t.Errorf("record: %v", err)
					return
				}
				// One's own writes are seen at once.
				p, err := r.Progress(r.ctx, s.Learner, s.Lesson)
				if err != nil || len(p.Passed) != i+1 {
					t.Errorf("%s has %d passed after %d (%v)", s.Learner, len(p.Passed), i+1, err)
					return
				}
			}
		})
		wg.Go(func() {
			for range each {
				s.Active = s.Active.Add(time.Second)
				if err := r.UpdateSession(r.ctx, s); err != nil {
					t.Errorf("update: %v", err)
					return
				}
				if _, err := r.OpenSessions(r.ctx); err != nil {
					t.Errorf("open sessions: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, s := range sessions {
		if got := len(r.progress(s).Passed); got != each {
			t.Errorf("%s has %d passed, want %d", s.Learner, got, each)
		}
	}
}

func sessionRace(t *testing.T, r *room) {
	r.learner("ada")
	const racers = 16
	errs := make([]error, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			errs[i] = r.AddSession(r.ctx, labs.Session{ID: fmt.Sprintf("s%d", i), Learner: "ada", Lesson: "container-image"})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			r.is(err, labs.ErrBusy)
		}
	}
	if won != 1 {
		t.Errorf("%d sessions were opened", won)
	}
}

func closed(t *testing.T, r *room) {
	s := r.session("s1", "ada", "container-image")
	r.ok(r.Close())
	r.ok(r.Close())
	if _, err := r.Session(r.ctx, s.ID); err == nil {
		t.Error("reads after it was closed")
	}
	if err := r.Note(r.ctx, labs.Entry{Learner: "ada", Lesson: "x", Kind: "opened"}); err == nil {
		t.Error("writes after it was closed")
	}
}
