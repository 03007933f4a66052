package labs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"
)

// A visit is an open session with what only the running server knows of it.
type visit struct {
	lesson *Lesson
	ctx    context.Context // ends when the session ends or the server stops
	cancel context.CancelFunc
	ready  chan struct{} // closed when sandbox is set and prepared
	poked  chan struct{} // Expires has moved
	done   chan struct{} // closed when the session is out of the desk's books

	// recording is held by those who record a result, and taken for good
	// before the session's end is recorded: nothing counts after that.
	recording sync.RWMutex

	mu       sync.Mutex
	session  Session
	sandbox  Sandbox
	phase    Phase
	reason   string
	engine   EngineState
	now      map[string]Result    // what was last evaluated, by Check.ID
	passed   map[string]time.Time // first passed, by Check.ID
	finished bool
}

func (v *visit) get() Session {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.session
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
		lesson: l, session: s, phase: PhaseStarting, reason: s.Reason,
		ready: make(chan struct{}), poked: make(chan struct{}, 1), done: make(chan struct{}),
		engine: EngineState{Phase: "off"}, now: make(map[string]Result), passed: make(map[string]time.Time),
		finished: !p.Finished.IsZero(),
	}
	for id, at := range p.Passed {
		v.passed[id] = at
	}
	v.ctx, v.cancel = context.WithCancel(d.ctx)
	return v, nil
}

// run owns the visit until its session ends or the server stops.
func (d *Desk) run(v *visit) {
	d.owned.Go(func() {
		defer v.cancel()
		reason := d.live(v)
		if d.ctx.Err() != nil { // the server stops; the next one goes on with it
			close(v.done)
			return
		}
		v.recording.Lock()
		v.mu.Lock()
		if v.reason == "" {
			v.reason = reason
		}
		v.phase = PhaseEnded
		v.session.Ended, v.session.Reason = d.Now(), v.reason
		s, sb := v.session, v.sandbox
		v.mu.Unlock()
		if err := d.Store.UpdateSession(d.ctx, s); err != nil {
			d.Log.Error("store the end of a session", "session", s.ID, "err", err)
		}
		d.note(s, "ended", s.Reason)
		d.mu.Lock()
		delete(d.visits, s.ID)
		d.mu.Unlock()
		close(v.done)
		d.publishState(v)
		if sb != nil {
			if err := sb.Destroy(); err != nil {
				d.Log.Error("destroy a sandbox", "sandbox", sb.ID(), "err", err)
			}
		}
		d.roomAgain()
	})
}

// end ends the session for this reason and returns when it is out of the books.
func (d *Desk) end(v *visit, reason string) {
	v.mu.Lock()
	v.reason = reason
	v.mu.Unlock()
	v.cancel()
	<-v.done
}

// live takes a visit from its start to its end and gives the reason for it.
func (d *Desk) live(v *visit) (reason string) {
	if err := d.begin(v); err != nil {
		if v.ctx.Err() != nil {
			return ""
		}
		d.Log.Error("start a sandbox", "session", v.session.ID, "lesson", v.lesson.ID, "err", err)
		v.mu.Lock()
		v.phase, v.reason = PhaseFailed, "The sandbox could not be started. Try again; if it happens again, tell whoever runs this server."
		var p *Problem
		if errors.As(err, &p) {
			v.reason = p.Say
		}
		v.mu.Unlock()
		d.publishState(v)
		t := time.NewTimer(d.Idle)
		defer t.Stop()
		select {
		case <-v.ctx.Done():
		case <-t.C:
		}
		return ""
	}
	v.mu.Lock()
	v.phase = PhaseReady
	sb := v.sandbox
	v.mu.Unlock()
	close(v.ready)
	d.publishState(v)

	var watching sync.WaitGroup
	defer watching.Wait()
	defer v.cancel()
	watching.Go(func() {
		for v.ctx.Err() == nil {
			if err := d.Verifier.Watch(v.ctx, v.lesson, sb, func(r Result) { d.report(v, r) }); err != nil && v.ctx.Err() == nil {
				d.Log.Error("watch checks", "session", v.session.ID, "err", err)
			}
			wait(v.ctx, time.Second)
		}
	})
	watching.Go(func() { d.watchEngine(v, sb) })
	if v.lesson.NeedsEngine() {
		if err := sb.WarmEngine(v.ctx); err != nil && v.ctx.Err() == nil {
			d.Log.Error("start an engine ahead of need", "sandbox", sb.ID(), "err", err)
		}
	}
	return d.keep(v, sb)
}

// begin gets the visit a sandbox, in its turn, and puts the lesson's files
// into it. A visit that was resumed has one.
func (d *Desk) begin(v *visit) error {
	if v.sandbox != nil {
		return nil
	}
	spec := Spec{Image: v.lesson.Image, Egress: v.lesson.Egress, Limits: d.Limits}
	sb, err := d.startInTurn(v, spec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(v.ctx, time.Minute)
	defer cancel()
	err = prepare(ctx, v.lesson, sb)
	v.mu.Lock()
	v.session.Sandbox = sb.ID()
	s := v.session
	v.mu.Unlock()
	if err == nil {
		err = d.Store.UpdateSession(ctx, s)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("prepare sandbox %s: %w", sb.ID(), err), sb.Destroy())
	}
	v.mu.Lock()
	v.sandbox = sb
	v.mu.Unlock()
	return nil
}

// startInTurn starts a sandbox; while there is no room the visit waits in the
// queue, where only the first tries again.
func (d *Desk) startInTurn(v *visit, spec Spec) (Sandbox, error) {
	queued := false
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
			sb, err := d.Runner.Start(ctx, spec)
			cancel()
			if err == nil || !errors.Is(err, ErrBusy) {
				return sb, err
			}
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

// keep watches over a ready sandbox: its time, its limits and its life.
func (d *Desk) keep(v *visit, sb Sandbox) (reason string) {
	const every = 3 * time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last Usage
	said := make(map[string]time.Time)
	say := func(kind, text string) {
		if now := d.Now(); now.Sub(said[kind]) > 30*time.Second {
			said[kind] = now
			d.bus.Publish(Event{Session: v.session.ID, Kind: "notice", Data: Notice{Kind: kind, Text: text}})
		}
	}
	lost := 0
	for first := true; ; first = false {
		s, now := v.get(), d.Now()
		if !now.Before(s.Expires) {
			return "The time of this sandbox is over. What you had ticked off is kept."
		}
		idle := d.Idle
		if d.bus.Watched(s.ID) {
			idle *= 3
		}
		if now.Sub(s.Active) > idle {
			return "This sandbox was not used for a while and has been cleared away. What you had ticked off is kept."
		}
		if left := s.Expires.Sub(now); left < 5*time.Minute && d.canExtend(s) {
			say("time", "Less than five minutes are left. Extend the time if you need more.")
		}
		ctx, cancel := context.WithTimeout(v.ctx, every)
		u, err := sb.Usage(ctx)
		cancel()
		switch {
		case err != nil && v.ctx.Err() == nil:
			if lost++; errors.Is(err, ErrGone) || lost >= 5 {
				d.Log.Error("a sandbox was lost", "sandbox", sb.ID(), "err", err)
				return "The sandbox ended unexpectedly. What you had ticked off is kept; start again to get a new one."
			}
		case err == nil:
			lost = 0
			if !first {
				limitNotices(last, u, say)
			}
			last = u
		}
		select {
		case <-v.ctx.Done():
			return ""
		case <-v.poked:
		case <-tick.C:
		}
	}
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
	c, step, ok := v.lesson.Check(r.Check)
	if !ok || !v.recording.TryRLock() {
		return
	}
	defer v.recording.RUnlock()
	if v.ctx.Err() != nil {
		return
	}
	v.mu.Lock()
	before := v.now[r.Check]
	v.now[r.Check] = r
	if _, had := v.passed[r.Check]; r.Status == Passed && !had {
		v.passed[r.Check] = r.At
	}
	s := v.session
	v.mu.Unlock()
	if before.Status != r.Status {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), 5*time.Second)
		err := d.Store.Record(ctx, Attempt{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Result: r})
		cancel()
		if err != nil {
			d.Log.Error("record a result", "session", s.ID, "check", r.Check, "err", err)
		}
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
		if first {
			d.note(s, "finished", "")
		}
	}
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
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.session
	st := State{
		Session: s.ID, Lesson: s.Lesson, Phase: v.phase, Reason: v.reason,
		Now: d.Now(), Started: s.Started, Expires: s.Expires, CanExtend: v.phase != PhaseEnded && d.canExtend(s),
		Ahead: ahead, Engine: v.engine,
		Steps: make(map[string]StepState), Checks: make(map[string]CheckState), Images: make(map[string]string),
	}
	p := Progress{Passed: v.passed}
	for i := range v.lesson.Steps {
		step := &v.lesson.Steps[i]
		if done, ok := p.StepDone(step); ok {
			st.Steps[step.ID] = StepState{Done: done}
		}
		for j := range step.Checks {
			id := step.Checks[j].ID
			_, passed := v.passed[id]
			st.Checks[id] = CheckState{Passed: passed, Now: v.now[id]}
		}
	}
	st.Done, st.Total = p.Count(v.lesson)
	if d.Mirror != nil {
		for _, pull := range v.lesson.Pulls {
			st.Images[pull.Ref] = string(d.Mirror.Source(pull.Ref))
		}
	}
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

// prepare puts the lab's files/ into the learner's home and runs the setups of
// its steps, in their order.
func prepare(ctx context.Context, l *Lesson, sb Sandbox) error {
	if l.Dir != nil {
		b, err := tarFiles(l.Dir, "files")
		if err != nil {
			return err
		}
		if b.Len() > 0 {
			if err := sb.Unpack(ctx, "~/", b); err != nil {
				return fmt.Errorf("put the lab's files into the home: %w", err)
			}
		}
	}
	for i := range l.Steps {
		for _, code := range l.Steps[i].Setup {
			var out bytes.Buffer
			exit, err := sb.Exec(ctx, Cmd{Args: []string{"bash", "-c", code}, Stdout: &head{b: &out}, Stderr: &head{b: &out}})
			if err != nil {
				return fmt.Errorf("setup of step %s: %w", l.Steps[i].ID, err)
			}
			if exit != 0 {
				return fmt.Errorf("setup of step %s: exit %d: %s", l.Steps[i].ID, exit, out.String())
			}
		}
	}
	return nil
}

// maxLabFiles is how many bytes of files one lab may bring, 64 MiB.
const maxLabFiles = 64 << 20

// tarFiles packs the folder dir of fsys, with names relative to it; nothing
// when there is no such folder. Embedded files have no execute bits, so a file
// that begins with #! gets them.
func tarFiles(fsys fs.FS, dir string) (*bytes.Buffer, error) {
	var b bytes.Buffer
	if _, err := fs.Stat(fsys, dir); errors.Is(err, fs.ErrNotExist) {
		return &b, nil
	}
	w := tar.NewWriter(&b)
	err := fs.WalkDir(fsys, dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel := strings.TrimPrefix(name, dir+"/")
		if e.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: rel + "/", Mode: 0o755})
		}
		if !e.Type().IsRegular() {
			return nil
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		if b.Len()+len(data) > maxLabFiles {
			return fmt.Errorf("files of more than %s: %w", Bytes(maxLabFiles), ErrInvalid)
		}
		return writeTar(w, rel, data)
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pack the lab's files: %w", err)
	}
	return &b, nil
}

func writeTar(w *tar.Writer, name string, data []byte) error {
	mode := int64(0o644)
	if bytes.HasPrefix(data, []byte("#!")) {
		mode = 0o755
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: time.Now()}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// writeFile writes one file; name is absolute or begins with "~/".
func writeFile(ctx context.Context, sb Sandbox, name, text string) error {
	root, rel := "/", strings.TrimPrefix(path.Clean(name), "/")
	if home, ok := strings.CutPrefix(name, "~/"); ok {
		root, rel = "~/", path.Clean(home)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(writeTar(w, rel, []byte(text)), w.Close()); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	if err := sb.Unpack(ctx, root, &b); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// A head keeps the first 4 KiB of what is written and discards the rest.
type head struct{ b *bytes.Buffer }

func (t *head) Write(p []byte) (int, error) {
	if room := 4096 - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
