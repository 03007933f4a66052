package labs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A visit is an open session with what only the running server knows of it.
type visit struct {
	ctx    context.Context // ends when the session ends or the server stops
	cancel context.CancelFunc
	poked  chan struct{} // Expires has moved
	done   chan struct{} // closed when the session is out of the desk's books

	settled chan struct{} // closed when the sandbox is prepared, or could not be started

	// recording is held by those who store something of the session, and taken
	// for good before its end is stored: nothing counts after that.
	recording sync.RWMutex

	saving  sync.Mutex
	unsaved []Attempt // that could not be recorded yet; guarded by saving

	arriving sync.Mutex
	arrived  map[string]bool // parts that the learner came to; guarded by arriving

	mu       sync.Mutex
	catalog  *Lesson       // as the catalogue has it
	lesson   *Lesson       // with the learner's values
	edited   chan struct{} // closed and renewed when the lesson was edited
	session  Session
	sandbox  Sandbox
	phase    Phase
	reason   string
	engine   EngineState
	now      map[string]Result    // what was last evaluated, by Check.ID
	passed   map[string]time.Time // first passed, by Check.ID
	reached  map[string]bool      // parts of a paged lesson whose checks count by now; nil: all do
	finished bool
	ending   bool   // somebody wants it to end
	wish     string // and this is why, "" for the reason there is
}

func (v *visit) get() Session {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.session
}

// current gives the lesson as it is now, and what is closed when it is edited.
func (v *visit) current() (l *Lesson, edited <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lesson, v.edited
}

func (v *visit) wake() {
	select {
	case v.poked <- struct{}{}:
	default:
	}
}

func (d *Desk) newVisit(ctx context.Context, s Session, l *Lesson) (*visit, error) {
	p, err := d.Store.Progress(ctx, s.Learner, s.Lesson)
	if err != nil {
		return nil, fmt.Errorf("progress of session %s: %w", s.ID, err)
	}
	v := &visit{
		catalog: l, lesson: d.personal(l, s.Learner), edited: make(chan struct{}), arrived: make(map[string]bool),
		session: s, phase: PhaseStarting, reason: s.Reason,
		settled: make(chan struct{}), poked: make(chan struct{}, 1), done: make(chan struct{}),
		engine: EngineState{Phase: "off"}, now: make(map[string]Result), passed: make(map[string]time.Time),
		finished: !p.Finished.IsZero(),
	}
	for id, at := range p.Passed {
		v.passed[id] = at
	}
	v.ctx, v.cancel = context.WithCancel(d.ctx)
	return v, nil
}

// run puts the visit into the books and owns it until its session ends or the
// server stops. It gives false, and does nothing, when the server stops already.
func (d *Desk) run(v *visit) bool {
	d.mu.Lock()
	d.visits[v.session.ID] = v
	d.mu.Unlock()
	if d.own(func() { d.attend(v) }) {
		return true
	}
	v.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.visits, v.session.ID)
	return false
}

func (d *Desk) attend(v *visit) {
	defer v.cancel()
	reason := d.live(v)
	v.mu.Lock()
	stops := !v.ending && reason == ""
	v.mu.Unlock()
	if stops { // it is the server that stops; the next one goes on with it
		close(v.done)
		return
	}
	v.recording.Lock()
	d.save(v)
	v.mu.Lock()
	switch {
	case v.ending && v.wish != "":
		v.reason = v.wish
	case reason != "":
		v.reason = reason
	}
	v.phase = PhaseEnded
	v.session.Ended, v.session.Reason = d.Now(), v.reason
	s, sb := v.session, v.sandbox
	v.mu.Unlock()
	ctx, cancel := stored(d.ctx)
	err := d.Store.UpdateSession(ctx, s)
	cancel()
	if err != nil { // opening the lab again, or the next server, puts it right
		d.Log.Error("store the end of a session", "session", s.ID, "err", err)
	}
	d.note(s, "ended", s.Reason)
	d.mu.Lock()
	delete(d.visits, s.ID)
	d.mu.Unlock()
	close(v.done)
	d.publishState(v)
	if sb != nil {
		d.destroy(sb)
	}
	d.roomAgain()
}

// destroy ends a sandbox. When that does not work it is tried again until it
// does or the server stops: the next one destroys what belongs to nobody.
func (d *Desk) destroy(sb Sandbox) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := sb.Destroy()
		if err == nil {
			return
		}
		d.Log.Error("destroy a sandbox; it will be tried again", "sandbox", sb.ID(), "err", err)
		if wait(d.ctx, pause); d.ctx.Err() != nil {
			return
		}
	}
}

// end ends the session, for this reason unless there is one already, and
// returns when it is out of the books or ctx ends.
func (d *Desk) end(ctx context.Context, v *visit, reason string) error {
	v.mu.Lock()
	if !v.ending {
		v.ending, v.wish = true, reason
	}
	v.mu.Unlock()
	v.cancel()
	select {
	case <-v.done:
		return nil
	case <-ctx.Done():
		return &Problem{Kind: ErrBusy, Say: "This session is being ended, which takes unusually long. Try again in a minute.", Cause: ctx.Err()}
	}
}

// live takes a visit from its start to its end and gives the reason for it,
// or "" when it was told to end.
func (d *Desk) live(v *visit) (reason string) {
	if err := d.begin(v); err != nil {
		if v.ctx.Err() != nil {
			return ""
		}
		if errors.Is(err, errLeft) {
			return "You were away while you waited for a sandbox, and your place went to the next. Open the lab again to wait anew."
		}
		return d.failed(v, err)
	}
	looked, clock := time.Now(), d.Now() // before anybody can know that it is ready
	v.mu.Lock()
	v.phase = PhaseReady
	sb := v.sandbox
	v.mu.Unlock()
	close(v.settled)
	d.publishState(v)

	var watching sync.WaitGroup
	defer watching.Wait()
	defer v.cancel()
	watching.Go(func() {
		for v.ctx.Err() == nil {
			d.watchChecks(v, sb)
		}
	})
	watching.Go(func() { d.watchEngine(v, sb) })
	lesson, _ := v.current()
	watching.Go(func() { d.typeAtStart(v, lesson, sb) })
	if lesson.NeedsEngine() {
		watching.Go(func() {
			if err := sb.WarmEngine(v.ctx); err != nil && v.ctx.Err() == nil {
				d.Log.Error("start an engine ahead of need", "sandbox", sb.ID(), "err", err)
			}
		})
	}
	return d.keep(v, sb, looked, clock)
}

// watchChecks watches the lesson's checks until the lesson is edited, and a
// moment longer when that does not work.
func (d *Desk) watchChecks(v *visit, sb Sandbox) {
	lesson, edited := v.current()
	ctx, cancel := context.WithCancel(v.ctx)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	waiting.Go(func() {
		defer cancel()
		select {
		case <-edited:
		case <-ctx.Done():
		}
	})
	err := d.Verifier.Watch(ctx, lesson, sb, func(r Result) { d.report(v, r) })
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		d.Log.Error("watch checks", "session", v.session.ID, "err", err)
	}
	wait(ctx, time.Second)
}

// failed tells that the sandbox could not be started, and keeps the session
// for a while so that its page can say so.
func (d *Desk) failed(v *visit, err error) (reason string) {
	d.Log.Error("start a sandbox", "session", v.session.ID, "lesson", v.session.Lesson, "err", err)
	reason = "The sandbox could not be started. Try again; if it happens again, tell whoever runs this server."
	var p *Problem
	if errors.As(err, &p) {
		reason = p.Say
	}
	v.mu.Lock()
	v.phase, v.reason = PhaseFailed, reason
	v.mu.Unlock()
	close(v.settled)
	d.publishState(v)
	if wait(v.ctx, d.Idle); v.ctx.Err() != nil {
		return ""
	}
	return reason
}

// begin gets the visit a sandbox, in its turn, and puts the lesson's files
// into it. A visit that was resumed has one.
func (d *Desk) begin(v *visit) error {
	if v.sandbox != nil {
		return nil
	}
	lesson, _ := v.current()
	spec := Spec{Image: lesson.Image, Egress: lesson.Egress, Limits: d.Limits}
	sb, err := d.startInTurn(v, spec, max(1, lesson.Hosts))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(v.ctx, time.Minute)
	defer cancel()
	err = d.prepare(ctx, lesson, sb)
	now := d.Now()
	s := v.get()
	s.Sandbox, s.Active, s.Expires = sb.ID(), now, now.Add(d.Life) // waiting costs no time
	var others []string
	for _, other := range each(sb)[1:] {
		others = append(others, other.ID())
	}
	s.Others = strings.Join(others, " ")
	if err == nil {
		err = d.Store.UpdateSession(ctx, s)
	}
	if err != nil {
		if derr := sb.Destroy(); derr != nil {
			d.Log.Error("destroy a sandbox that was not prepared", "sandbox", sb.ID(), "err", derr)
			d.own(func() { d.destroy(sb) })
		}
		return fmt.Errorf("prepare sandbox %s: %w", sb.ID(), err)
	}
	v.mu.Lock()
	v.session.Sandbox, v.session.Others, v.session.Active, v.session.Expires = s.Sandbox, s.Others, s.Active, s.Expires
	v.sandbox = sb
	v.mu.Unlock()
	return nil
}

// errLeft says that nobody waits for the sandbox any more.
var errLeft = errors.New("the learner has left the queue")

// patience is how long a place in the queue is kept for somebody whose page is
// closed.
const patience = 2 * time.Minute

// start starts so many sandboxes, or none.
func (d *Desk) start(ctx context.Context, spec Spec, n int) (Sandbox, error) {
	var all []Sandbox
	for range n {
		sb, err := d.Runner.Start(ctx, spec)
		if err != nil {
			for _, sb := range all {
				if derr := sb.Destroy(); derr != nil {
					d.Log.Error("destroy a sandbox whose neighbour could not be started", "sandbox", sb.ID(), "err", derr)
					d.own(func() { d.destroy(sb) })
				}
			}
			return nil, err
		}
		all = append(all, sb)
	}
	return together(all), nil
}

// startInTurn starts so many sandboxes; while there is no room the visit waits
// in the queue, where only the first tries again.
func (d *Desk) startInTurn(v *visit, spec Spec, n int) (Sandbox, error) {
	queued, seen := false, time.Now()
	defer func() {
		if queued {
			d.mu.Lock()
			for i := range d.queue {
				if d.queue[i] == v {
					d.queue = append(d.queue[:i:i], d.queue[i+1:]...)
					break
				}
			}
			d.mu.Unlock()
			d.roomAgain()
		}
	}()
	for {
		d.mu.Lock()
		turn := len(d.queue) == 0 || d.queue[0] == v
		freed := d.freed
		d.mu.Unlock()
		if turn {
			ctx, cancel := context.WithTimeout(v.ctx, time.Minute)
			sb, err := d.start(ctx, spec, n)
			cancel()
			if err == nil || !errors.Is(err, ErrBusy) {
				v.mu.Lock()
				v.phase = PhaseStarting
				v.mu.Unlock()
				return sb, err
			}
		}
		if d.bus.Watched(v.session.ID) {
			seen = time.Now()
		} else if time.Since(seen) > min(patience, d.Idle) {
			return nil, errLeft
		}
		if !queued {
			queued = true
			d.mu.Lock()
			d.queue = append(d.queue, v)
			d.mu.Unlock()
			v.mu.Lock()
			v.phase = PhaseWaiting
			v.mu.Unlock()
		}
		d.publishState(v)
		t := time.NewTimer(5 * time.Second) // room may also come from outside the desk
		select {
		case <-freed:
		case <-t.C:
		case <-v.ctx.Done():
			t.Stop()
			return nil, v.ctx.Err()
		}
		t.Stop()
	}
}

// roomAgain wakes those who wait for room.
func (d *Desk) roomAgain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.freed)
	d.freed = make(chan struct{})
}

// How long a notice is not said again, 30 s for those that are not listed.
var noticePauses = map[string]time.Duration{"disk": 5 * time.Minute, "time": 2 * time.Minute, "idle": 5 * time.Minute}

// keep watches over a ready sandbox: its time, its limits and its life. At
// looked, on the machine's own clock, the desk's clock was clock.
func (d *Desk) keep(v *visit, sb Sandbox, looked, clock time.Time) (reason string) {
	const every = 3 * time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := make(map[string]time.Time)
	watched := false
	say := func(kind, text string) {
		if !watched { // it would be lost; it is still true when somebody looks
			return
		}
		pause := 30 * time.Second
		if p, ok := noticePauses[kind]; ok {
			pause = p
		}
		if at, ok := said[kind]; !ok || time.Since(at) > pause {
			said[kind] = time.Now()
			d.bus.Publish(Event{Session: v.session.ID, Kind: "notice", Data: Notice{Kind: kind, Text: text}})
		}
	}
	var last Usage
	trouble := false
	shown := clock // when its page was last seen to be open
	for first := true; ; first = false {
		now, ran := d.Now(), time.Since(looked)
		looked = looked.Add(ran)
		// A clock that was set, or a machine that slept, is not time that the
		// learner had.
		if jump := now.Round(0).Sub(clock.Round(0)) - ran; jump.Abs() > 30*time.Second {
			d.Log.Info("the clock jumped; the session's times are moved", "session", v.session.ID, "by", jump)
			shown = shown.Round(0).Add(jump)
			d.shift(v, jump)
		}
		clock = now
		if watched = d.bus.Watched(v.session.ID); watched {
			shown = now
		}
		if reason := d.over(v.get(), now, shown, say); reason != "" {
			return reason
		}
		if d.save(v) {
			say("progress", "What you tick off cannot be stored at the moment. It is tried again; tell whoever runs this server.")
		}
		ctx, cancel := context.WithTimeout(v.ctx, every)
		u, err := sb.Usage(ctx)
		cancel()
		switch {
		case errors.Is(err, ErrGone):
			d.Log.Error("a sandbox was lost", "sandbox", sb.ID(), "err", err)
			if p := (*Problem)(nil); errors.As(err, &p) {
				return p.Say
			}
			return "The sandbox ended unexpectedly. What you had ticked off is kept; start again to get a new one."
		case err != nil && v.ctx.Err() == nil && !trouble:
			// What cannot be measured may still be somebody's work.
			d.Log.Error("measure a sandbox", "sandbox", sb.ID(), "err", err)
		case err == nil && first:
			last = u
		case err == nil && watched: // who was away is told afterwards
			limitNotices(last, u, say)
			last = u
		}
		trouble = err != nil
		select {
		case <-v.ctx.Done():
			return ""
		case <-v.poked:
		case <-tick.C:
		}
	}
}

// over gives the reason why a ready session is over, or "", and says so a
// little ahead.
func (d *Desk) over(s Session, now, shown time.Time, say func(kind, text string)) (reason string) {
	if !now.Before(s.Expires) {
		return "The time of this sandbox is over. What you had ticked off is kept."
	}
	// A page that is closed or loaded again after long reading gets the whole
	// time for it anew.
	open := shown.Equal(now)
	left := max(s.Active.Sub(now), shown.Sub(now)) + d.Idle
	if open {
		left = s.Active.Sub(now) + 3*d.Idle
	}
	if left < 0 {
		return "This sandbox was not used for a while and has been cleared away. What you had ticked off is kept."
	}
	switch soon := s.Expires.Sub(now) < 5*time.Minute; {
	case soon && d.canExtend(s):
		say("time", "Less than five minutes are left. Extend the time if you need more.")
	case soon:
		say("time", "Less than five minutes are left, and the time has been extended as far as it can be.")
	}
	if open && left < min(2*time.Minute, d.Idle) {
		say("idle", "This sandbox has not been used for a while and will soon be cleared away. Type something to keep it.")
	}
	return ""
}

// shift moves the session's times.
func (d *Desk) shift(v *visit, by time.Duration) {
	v.mu.Lock()
	for _, t := range []*time.Time{&v.session.Started, &v.session.Expires, &v.session.Active} {
		*t = t.Round(0).Add(by)
	}
	s := v.session
	v.mu.Unlock()
	ctx, cancel := stored(d.ctx)
	defer cancel()
	if err := d.Store.UpdateSession(ctx, s); err != nil {
		d.Log.Error("store a session's times", "session", s.ID, "err", err)
	}
	d.publishState(v)
}

// limitNotices says in words which limits were reached between two looks.
func limitNotices(before, now Usage, say func(kind, text string)) {
	if now.OOMKills > before.OOMKills {
		say("memory", fmt.Sprintf("The sandbox reached its memory limit of %s, and a program in it was ended.", Bytes(now.Limits.Memory)))
	}
	if now.ForkFails > before.ForkFails {
		say("processes", fmt.Sprintf("The sandbox reached its limit of %d processes: no more can be started until some end.", now.Limits.Processes))
	}
	if now.Limits.Disk > 0 && now.Disk > now.Limits.Disk/100*97 {
		say("disk", fmt.Sprintf("The disk of the sandbox is full (%s). Remove files or images (`docker image prune`, `docker rm`) to go on.", Bytes(now.Limits.Disk)))
	}
}

// Bytes says a size in words: "512 MiB", "1.5 GiB".
func Bytes(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			s := fmt.Sprintf("%.1f", float64(n)/float64(u.size))
			return strings.TrimSuffix(s, ".0") + " " + u.name
		}
	}
	return fmt.Sprintf("%d B", n)
}

// watchEngine passes the engine's state on to the page.
func (d *Desk) watchEngine(v *visit, sb Sandbox) {
	for v.ctx.Err() == nil {
		changes, err := sb.Watch(v.ctx, Watch{After: 1<<63 - 1})
		if err == nil {
			for c := range changes {
				if c.Engine == nil {
					continue
				}
				v.mu.Lock()
				same := v.engine == *c.Engine
				v.engine = *c.Engine
				v.mu.Unlock()
				if !same {
					d.publishState(v)
				}
			}
		}
		wait(v.ctx, time.Second)
	}
}

// report records a result that differs from the last one and tells the page.
func (d *Desk) report(v *visit, r Result) {
	lesson, _ := v.current()
	c, step, ok := lesson.Check(r.Check)
	if !ok || !v.recording.TryRLock() {
		return
	}
	defer v.recording.RUnlock()
	if v.ctx.Err() != nil {
		return
	}
	v.mu.Lock()
	if lesson.Paged && v.reached != nil && !v.reached[step.ID] {
		// Nobody has been there: what it asks for may hold only because its
		// set-up has not run yet.
		v.mu.Unlock()
		return
	}
	before := v.now[r.Check]
	v.now[r.Check] = r
	if _, had := v.passed[r.Check]; r.Status == Passed && !had {
		v.passed[r.Check] = r.At
	}
	s := v.session
	v.mu.Unlock()
	if before.Status != r.Status {
		d.save(v, Attempt{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Result: r})
	}
	st := d.stateOf(v)
	d.bus.Publish(Event{Session: s.ID, Kind: "result", Data: ResultEvent{
		Check: c.ID, Step: step.ID, StepDone: st.Steps[step.ID].Done, Done: st.Done, Total: st.Total, CheckState: st.Checks[c.ID],
	}})
	if st.Total > 0 && st.Done == st.Total {
		v.mu.Lock()
		first := !v.finished
		v.finished = true
		v.mu.Unlock()
		if !first {
			return
		}
		if err := d.record(s, "finished", ""); err != nil {
			d.Log.Error("record that a lesson was finished", "session", s.ID, "err", err)
			v.mu.Lock()
			v.finished = false // the next result tries again
			v.mu.Unlock()
		}
	}
}

// save records attempts, after those that could not be recorded before. What
// cannot be recorded now is kept for the next time; behind says so.
func (d *Desk) save(v *visit, more ...Attempt) (behind bool) {
	v.saving.Lock()
	defer v.saving.Unlock()
	had := len(v.unsaved) > 0
	for _, a := range more {
		// One of each kind for each check: that bounds it.
		v.unsaved = slices.DeleteFunc(v.unsaved, func(b Attempt) bool {
			return a.Result.Check == b.Result.Check && a.Result.Status == b.Result.Status
		})
		v.unsaved = append(v.unsaved, a)
	}
	for len(v.unsaved) > 0 {
		a := v.unsaved[0]
		ctx, cancel := stored(d.ctx)
		err := d.Store.Record(ctx, a)
		cancel()
		if err != nil && !had {
			d.Log.Error("record a result", "session", a.Session, "check", a.Result.Check, "err", err)
		}
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrInvalid) {
			return true
		}
		v.unsaved = v.unsaved[1:]
	}
	return false
}

func (d *Desk) publishState(v *visit) {
	d.bus.Publish(Event{Session: v.session.ID, Kind: "state", Data: d.stateOf(v)})
}

// stateOf gives the visit as its page shows it.
func (d *Desk) stateOf(v *visit) State {
	ahead := 0
	d.mu.Lock()
	for i := range d.queue {
		if d.queue[i] == v {
			ahead = i
		}
	}
	d.mu.Unlock()
	images := make(map[string]string)
	lesson, _ := v.current()
	if d.Mirror != nil {
		for _, pull := range lesson.Pulls {
			images[pull.Ref] = string(d.Mirror.Source(pull.Ref))
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.session
	st := State{
		Session: s.ID, Lesson: s.Lesson, Phase: v.phase, Reason: v.reason,
		Now: d.Now(), Started: s.Started, Expires: s.Expires, CanExtend: v.phase == PhaseReady && d.canExtend(s),
		Ahead: ahead, Engine: v.engine,
		Steps: make(map[string]StepState), Checks: make(map[string]CheckState), Images: images,
	}
	p := Progress{Passed: v.passed}
	if d.PreviewURL != nil {
		st.Preview = d.PreviewURL(PreviewName(s.Learner, s.Lesson), 1, 0)
	}
	for i := range lesson.Steps {
		step := &lesson.Steps[i]
		if done, ok := p.StepDone(step); ok {
			st.Steps[step.ID] = StepState{Done: done}
		}
		for j := range step.Checks {
			id := step.Checks[j].ID
			_, passed := v.passed[id]
			st.Checks[id] = CheckState{Passed: passed, Now: v.now[id]}
		}
	}
	st.Done, st.Total = p.Count(lesson)
	return st
}

func (d *Desk) canExtend(s Session) bool {
	return s.Expires.Before(s.Started.Add(d.MaxLife))
}

// wait returns after t or when ctx ends.
func wait(ctx context.Context, t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// NeedsEngine reports whether the lesson uses the Docker Engine, so that it is
// worth starting ahead of need.
func (l *Lesson) NeedsEngine() bool {
	if len(l.Pulls) > 0 || strings.HasPrefix(l.Image, "docker") {
		return true
	}
	for i := range l.Steps {
		for _, c := range l.Steps[i].Checks {
			if c.Image != nil || c.Container != nil || c.Volume != "" || c.Network != "" {
				return true
			}
		}
	}
	return false
}
