package labs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// DeskConfig is what a Desk works with. All but Mirror, Log and Now are needed.
type DeskConfig struct {
	Store    Store
	Runner   Runner
	Verifier Verifier
	Mirror   Mirror
	Log      *slog.Logger
	Now      func() time.Time

	Life       time.Duration // of a sandbox, from when it was ready
	ExtendBy   time.Duration // what one extension adds
	MaxLife    time.Duration // and what they add up to at most, from the start
	Idle       time.Duration // a sandbox whose page is closed ends this long after it was last used or shown; an open page has three times as long
	PerLearner int           // open sessions of one learner
	Limits     Limits        // of every sandbox

	// PreviewURL gives the address of a preview of this name, without a final "/";
	// with port 0 the word PORT stands where the port belongs. nil: there are
	// no previews.
	PreviewURL func(name string, host, port int) string
}

// A Desk brings learners, lessons and sandboxes together: it opens sessions,
// starts their sandboxes, has their checks watched, records what they show and
// tells the pages. It owns every open session's goroutines. Methods may be
// called concurrently. Sessions of others are ErrNotFound.
type Desk struct {
	DeskConfig
	bus Bus

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	owned sync.WaitGroup

	mu      sync.Mutex
	closed  bool // nothing more may be owned
	lessons []*Lesson
	wrong   map[string][]Mistake     // by Lesson.ID, while lessons are being written
	visits  map[string]*visit        // open sessions by Session.ID
	opening map[string]chan struct{} // learners whose labs are being opened or reset; closed afterwards
	queue   []*visit                 // that wait for room, in order
	freed   chan struct{}            // closed and renewed when there may be room
}

// NewDesk gives a desk that holds no lessons yet. Call Resume before serving.
func NewDesk(c DeskConfig) *Desk {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Desk{
		DeskConfig: c, ctx: ctx, stop: stop,
		visits: make(map[string]*visit), opening: make(map[string]chan struct{}), freed: make(chan struct{}),
	}
}

// SetLessons replaces the catalogue. Open sessions keep the lesson they began.
func (d *Desk) SetLessons(ls []*Lesson) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lessons = ls
}

// Lessons gives the catalogue, in its order.
func (d *Desk) Lessons() []*Lesson {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lessons
}

// Lesson finds a lesson by its id.
func (d *Desk) Lesson(id string) (*Lesson, error) {
	for _, l := range d.Lessons() {
		if l.ID == id {
			return l, nil
		}
	}
	return nil, &Problem{Kind: ErrNotFound, Say: "There is no lab of that name here. The list of labs shows those there are."}
}

// personal gives the lesson with the values of one learner.
func (d *Desk) personal(l *Lesson, learner string) *Lesson {
	return l.For(learner, func(host, port int) string {
		if d.PreviewURL == nil {
			return fmt.Sprintf("http://localhost:%d", port)
		}
		return d.PreviewURL(PreviewName(learner, l.ID), host, port)
	})
}

// Personal gives the lesson as this learner sees it, with their values.
func (d *Desk) Personal(learner, lesson string) (*Lesson, error) {
	l, err := d.Lesson(lesson)
	if err != nil {
		return nil, err
	}
	return d.personal(l, learner), nil
}

// NewLearner makes a learner and the token that the browser keeps.
func (d *Desk) NewLearner(ctx context.Context) (l Learner, token string, err error) {
	token = rand.Text() + rand.Text()
	l = Learner{ID: newID(), Created: d.Now()}
	if err := d.Store.AddLearner(ctx, l, hashToken(token)); err != nil {
		return Learner{}, "", fmt.Errorf("add learner: %w", err)
	}
	return l, token, nil
}

// LearnerByToken finds who a browser's token belongs to.
func (d *Desk) LearnerByToken(ctx context.Context, token string) (Learner, error) {
	return d.Store.LearnerByToken(ctx, hashToken(token))
}

// Progress says how far a learner is in a lesson.
func (d *Desk) Progress(ctx context.Context, learner, lesson string) (Progress, error) {
	return d.Store.Progress(ctx, learner, lesson)
}

// LastSession is the newest session of a learner with a lesson.
func (d *Desk) LastSession(ctx context.Context, learner, lesson string) (Session, error) {
	return d.Store.LastSession(ctx, learner, lesson)
}

// Resume takes over from the server before: sessions whose sandboxes are still
// there go on, the others are ended with a reason, and sandboxes that belong
// to nobody are destroyed. Call it once, after SetLessons.
func (d *Desk) Resume(ctx context.Context) error {
	boxes, err := d.Runner.Adopt(ctx)
	if err != nil {
		return fmt.Errorf("adopt sandboxes: %w", err)
	}
	open, err := d.Store.OpenSessions(ctx)
	if err != nil {
		return fmt.Errorf("list open sessions: %w", err)
	}
	byID := make(map[string]Sandbox, len(boxes))
	for _, b := range boxes {
		byID[b.ID()] = b
	}
	now := d.Now()
	for _, s := range open {
		sb := adopted(byID, s)
		lesson, lerr := d.Lesson(s.Lesson)
		lost := ""
		switch {
		case lerr != nil:
			lost = "This lab is no longer offered here. What you had ticked off is kept."
		case s.Sandbox == "" && (!now.Before(s.Expires) || now.Sub(s.Active) > d.Idle):
			lost = "The server was away for a while before this session had a sandbox. Open the lab again to get one."
		case s.Sandbox != "" && sb == nil:
			lost = "The server was restarted and this sandbox did not survive it. What you had ticked off is kept."
		}
		if lost != "" {
			s.Ended, s.Reason = now, lost
			if err := d.Store.UpdateSession(ctx, s); err != nil {
				return fmt.Errorf("end session %s: %w", s.ID, err)
			}
			continue
		}
		for _, id := range s.sandboxes() {
			delete(byID, id)
		}
		v, err := d.newVisit(ctx, s, lesson)
		if err != nil {
			return err
		}
		v.sandbox = sb // nil when the session was still waiting for one: it does so again
		if !d.run(v) {
			return errRestarting
		}
	}
	var destroyed sync.WaitGroup
	atATime := make(chan struct{}, 8)
	for _, sb := range byID {
		atATime <- struct{}{}
		destroyed.Go(func() {
			defer func() { <-atATime }()
			if err := sb.Destroy(); err != nil {
				d.Log.Error("destroy a sandbox that belongs to nobody", "sandbox", sb.ID(), "err", err)
				d.own(func() { d.destroy(sb) })
			}
		})
	}
	destroyed.Wait()
	return nil
}

// adopted gives the sandboxes of a session, or nil when one is missing.
func adopted(byID map[string]Sandbox, s Session) Sandbox {
	var all []Sandbox
	for _, id := range s.sandboxes() {
		sb := byID[id]
		if sb == nil {
			return nil
		}
		all = append(all, sb)
	}
	return together(all)
}

var errRestarting = &Problem{Kind: ErrBusy, Say: "The server is restarting. Try again in a moment."}

// storeTime bounds what is stored although whoever asked for it may be gone.
const storeTime = 5 * time.Second

func stored(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), storeTime)
}

// Open begins a session with a lesson, or gives the open one. It returns at
// once; the sandbox is started behind it.
func (d *Desk) Open(ctx context.Context, learner, lesson string) (State, error) {
	l, err := d.Lesson(lesson)
	if err != nil {
		return State{}, err
	}
	if l.Cannot != "" {
		return State{}, &Problem{Kind: ErrInvalid, Say: l.Cannot}
	}
	leave, err := d.enter(ctx, learner)
	if err != nil {
		return State{}, err
	}
	defer leave()
	return d.open(ctx, learner, l)
}

// enter waits until nothing else opens or resets labs for the learner, so that
// two tabs do not do it at the same time. leave must be called.
func (d *Desk) enter(ctx context.Context, learner string) (leave func(), err error) {
	for {
		d.mu.Lock()
		other := d.opening[learner]
		if other == nil {
			over := make(chan struct{})
			d.opening[learner] = over
			d.mu.Unlock()
			return func() {
				d.mu.Lock()
				delete(d.opening, learner)
				d.mu.Unlock()
				close(over)
			}, nil
		}
		d.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, &Problem{Kind: ErrBusy, Say: "This lab is being opened already. Wait a moment and reload.", Cause: ctx.Err()}
		}
	}
}

// of gives the learner's open session with a lesson, or nil, and the titles of
// the lessons that are open beside it.
func (d *Desk) of(learner, lesson string) (v *visit, others []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.visits {
		switch {
		case x.session.Learner != learner:
		case x.session.Lesson == lesson:
			v = x
		default:
			l, _ := x.current()
			others = append(others, "“"+l.Title+"”")
		}
	}
	return v, others
}

// open is Open for a caller that has entered.
func (d *Desk) open(ctx context.Context, learner string, l *Lesson) (State, error) {
	for {
		if d.ctx.Err() != nil {
			return State{}, errRestarting
		}
		v, others := d.of(learner, l.ID)
		if v == nil {
			if n := len(others); n >= d.PerLearner {
				slices.Sort(others)
				return State{}, &Problem{Kind: ErrBusy, Say: fmt.Sprintf("You have %d labs open, which is as many as one person can have: %s. End one of them first.", n, strings.Join(others, ", "))}
			}
			break
		}
		st := d.stateOf(v)
		if st.Phase != PhaseFailed && st.Phase != PhaseEnded {
			return st, nil
		}
		if err := d.end(ctx, v, ""); err != nil {
			return State{}, err
		}
	}
	now := d.Now()
	s := Session{ID: newID(), Learner: learner, Lesson: l.ID, Started: now, Active: now, Expires: now.Add(d.Life)}
	v, err := d.newVisit(ctx, s, l)
	if err != nil {
		return State{}, err
	}
	v.reached = make(map[string]bool) // the page of a session that is resumed says nothing again
	if err := d.add(ctx, s); err != nil {
		v.cancel()
		return State{}, fmt.Errorf("open a session with %s: %w", l.ID, err)
	}
	d.note(s, "opened", "")
	if !d.run(v) {
		return State{}, errRestarting
	}
	return d.stateOf(v), nil
}

// add stores a new session. When the store has an open one that is not open
// here, the end of that one could not be stored when it came: it is now.
func (d *Desk) add(ctx context.Context, s Session) error {
	ctx, cancel := stored(ctx)
	defer cancel()
	err := d.Store.AddSession(ctx, s)
	if !errors.Is(err, ErrBusy) {
		return err
	}
	left, lerr := d.Store.LastSession(ctx, s.Learner, s.Lesson)
	if lerr != nil || !left.Open() {
		return err
	}
	left.Ended, left.Reason = d.Now(), "This session ended while the server could not store it."
	if uerr := d.Store.UpdateSession(ctx, left); uerr != nil {
		return errors.Join(uerr, err)
	}
	return d.Store.AddSession(ctx, s)
}

// State gives a session of the learner as it is now, open or ended.
func (d *Desk) State(ctx context.Context, learner, session string) (State, error) {
	if v, err := d.visit(learner, session); err == nil {
		return d.stateOf(v), nil
	}
	s, err := d.Store.Session(ctx, session)
	if err != nil {
		return State{}, err
	}
	if s.Learner != learner {
		return State{}, fmt.Errorf("session of another learner: %w", ErrNotFound)
	}
	l, err := d.Lesson(s.Lesson)
	if err != nil {
		return State{}, err
	}
	v, err := d.newVisit(ctx, s, l)
	if err != nil {
		return State{}, err
	}
	defer v.cancel() // it is only looked at
	v.phase = PhaseEnded
	if v.reason == "" {
		v.reason = "This session has ended."
	}
	return d.stateOf(v), nil
}

// Sandbox gives the session's sandbox, waiting until it has started or ctx
// ends. ErrGone when the session has ended or its sandbox could not be started.
func (d *Desk) Sandbox(ctx context.Context, learner, session string) (Sandbox, error) {
	gone := &Problem{Kind: ErrGone, Say: "This session has ended. Start the lab again to get a new sandbox."}
	v, err := d.visit(learner, session)
	if err != nil {
		if s, serr := d.Store.Session(ctx, session); serr == nil && s.Learner == learner {
			return nil, gone
		}
		return nil, err
	}
	select {
	case <-v.settled:
	case <-v.ctx.Done():
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the sandbox: %w", ctx.Err())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case d.ctx.Err() != nil:
		return nil, errRestarting
	case v.ctx.Err() != nil:
		return nil, gone
	case v.phase == PhaseFailed:
		return nil, &Problem{Kind: ErrGone, Say: v.reason}
	}
	return v.sandbox, nil
}

// Extend moves the session's end by ExtendBy, as far as MaxLife allows.
func (d *Desk) Extend(ctx context.Context, learner, session string) (State, error) {
	v, err := d.visit(learner, session)
	if err != nil {
		return State{}, err
	}
	if err := d.extend(ctx, v); err != nil {
		return State{}, err
	}
	d.note(v.get(), "extended", "")
	v.wake()
	d.publishState(v)
	return d.stateOf(v), nil
}

func (d *Desk) extend(ctx context.Context, v *visit) error {
	if !v.recording.TryRLock() {
		return &Problem{Kind: ErrGone, Say: "This session has ended. Start the lab again to get a new sandbox."}
	}
	defer v.recording.RUnlock()
	v.mu.Lock()
	before := v.session.Expires
	limit := v.session.Started.Add(d.MaxLife)
	expires := before.Add(d.ExtendBy)
	if expires.After(limit) {
		expires = limit
	}
	if !expires.After(before) {
		v.mu.Unlock()
		return &Problem{Kind: ErrInvalid, Say: "This sandbox has been extended as far as it can be."}
	}
	v.session.Expires = expires
	s := v.session
	v.mu.Unlock()
	ctx, cancel := stored(ctx)
	defer cancel()
	if err := d.Store.UpdateSession(ctx, s); err != nil {
		v.mu.Lock()
		if v.session.Expires.Equal(expires) {
			v.session.Expires = before
		}
		v.mu.Unlock()
		return fmt.Errorf("extend session %s: %w", s.ID, err)
	}
	return nil
}

// startedAfresh is why a session that was reset has ended.
const startedAfresh = "You started this lab afresh."

// Reset ends the learner's open session with the lesson, forgets its ticks and
// opens a new one. Resetting a session again that was reset gives the new one.
func (d *Desk) Reset(ctx context.Context, learner, session string) (State, error) {
	leave, err := d.enter(ctx, learner)
	if err != nil {
		return State{}, err
	}
	defer leave()
	s, err := d.Store.Session(ctx, session)
	if err != nil {
		return State{}, err
	}
	if s.Learner != learner {
		return State{}, fmt.Errorf("session of another learner: %w", ErrNotFound)
	}
	l, err := d.Lesson(s.Lesson)
	if err != nil {
		return State{}, err
	}
	if s.Reason == startedAfresh { // by another tab
		return d.open(ctx, learner, l)
	}
	if v, _ := d.of(learner, s.Lesson); v != nil {
		if err := d.end(ctx, v, startedAfresh); err != nil {
			return State{}, err
		}
	}
	if err := d.record(s, "reset", ""); err != nil {
		return State{}, err
	}
	return d.open(ctx, learner, l)
}

// End ends the session; its sandbox is destroyed, its ticks are kept.
func (d *Desk) End(ctx context.Context, learner, session string) (State, error) {
	if v, err := d.visit(learner, session); err == nil {
		if err := d.end(ctx, v, "You ended this session."); err != nil {
			return State{}, err
		}
	}
	return d.State(ctx, learner, session)
}

// Check evaluates one check now.
func (d *Desk) Check(ctx context.Context, learner, session, check string) (Result, error) {
	sb, err := d.Sandbox(ctx, learner, session)
	if err != nil {
		return Result{}, err
	}
	v, err := d.visit(learner, session)
	if err != nil {
		return Result{}, err
	}
	l, _ := v.current()
	c, _, ok := l.Check(check)
	if !ok {
		return Result{}, fmt.Errorf("check %q: %w", check, ErrNotFound)
	}
	if c.Quiz != nil {
		return Result{}, &Problem{Kind: ErrInvalid, Say: "This is a question: answer it in the text."}
	}
	r := d.Verifier.Check(ctx, l, c, sb)
	d.report(v, r)
	return r, nil
}

// WriteFile writes a file block of the lesson into the sandbox.
func (d *Desk) WriteFile(ctx context.Context, learner, session, block string) error {
	sb, err := d.Sandbox(ctx, learner, session)
	if err != nil {
		return err
	}
	v, err := d.visit(learner, session)
	if err != nil {
		return err
	}
	l, _ := v.current()
	for i := range l.Steps {
		for j := range l.Steps[i].Files {
			if f := &l.Steps[i].Files[j]; f.ID == block {
				return f.Write(ctx, sb)
			}
		}
	}
	return fmt.Errorf("file block %q: %w", block, ErrNotFound)
}

// Hint gives the n-th hint of a step, from 1, and whether there are more.
func (d *Desk) Hint(_ context.Context, learner, session, step string, n int) (html string, more bool, err error) {
	v, err := d.visit(learner, session)
	if err != nil {
		return "", false, err
	}
	l, _ := v.current()
	st, ok := l.Step(step)
	if !ok || n < 1 || n > len(st.Hints) {
		return "", false, fmt.Errorf("hint %d of step %q: %w", n, step, ErrNotFound)
	}
	d.note(v.get(), "hint", fmt.Sprintf("%s/%d", step, n))
	return st.Hints[n-1], n < len(st.Hints), nil
}

// Solution gives a step's solution.
func (d *Desk) Solution(_ context.Context, learner, session, step string) (html string, err error) {
	v, err := d.visit(learner, session)
	if err != nil {
		return "", err
	}
	l, _ := v.current()
	st, ok := l.Step(step)
	if !ok || st.Solution.HTML == "" {
		return "", fmt.Errorf("solution of step %q: %w", step, ErrNotFound)
	}
	d.note(v.get(), "solution", step)
	return st.Solution.HTML, nil
}

// Touch says that the learner did something. It is cheap enough for every
// keystroke.
func (d *Desk) Touch(session string) {
	d.mu.Lock()
	v := d.visits[session]
	d.mu.Unlock()
	if v == nil {
		return
	}
	now := d.Now()
	if !v.recording.TryRLock() { // it has ended, and must not be opened again in the store
		return
	}
	defer v.recording.RUnlock()
	v.mu.Lock()
	if now.Sub(v.session.Active).Abs() < 10*time.Second {
		v.mu.Unlock()
		return
	}
	v.session.Active = now
	s := v.session
	v.mu.Unlock()
	ctx, cancel := stored(d.ctx)
	defer cancel()
	if err := d.Store.UpdateSession(ctx, s); err != nil {
		d.Log.Error("store when a learner was last active", "session", s.ID, "err", err)
	}
}

// Subscribe gives the events of a session of the learner.
func (d *Desk) Subscribe(ctx context.Context, learner, session string) (<-chan Event, func(), error) {
	if _, err := d.State(ctx, learner, session); err != nil {
		return nil, nil, err
	}
	ch, cancel := d.bus.Subscribe(session)
	return ch, cancel, nil
}

// OpenCount is the number of open sessions.
func (d *Desk) OpenCount() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.visits)
}

// Close stops watching and waits for what is under way. Sessions stay open and
// sandboxes go on: the next server resumes them.
func (d *Desk) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
	d.owned.Wait()
}

// own runs f in a goroutine that Close waits for, or gives false when the desk
// has been closed.
func (d *Desk) own(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.owned.Go(f)
	}
	return !d.closed
}

// visit finds an open session of the learner.
func (d *Desk) visit(learner, session string) (*visit, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.visits[session]
	if v == nil || v.session.Learner != learner {
		return nil, fmt.Errorf("open session %q: %w", session, ErrNotFound)
	}
	return v, nil
}

// note records an entry. Losing one is not worth failing a request for.
func (d *Desk) note(s Session, kind, detail string) {
	if err := d.record(s, kind, detail); err != nil {
		d.Log.Error("record an entry", "kind", kind, "session", s.ID, "err", err)
	}
}

func (d *Desk) record(s Session, kind, detail string) error {
	e := Entry{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Kind: kind, Detail: detail, At: d.Now()}
	ctx, cancel := stored(d.ctx)
	defer cancel()
	if err := d.Store.Note(ctx, e); err != nil {
		return fmt.Errorf("record %q of session %s: %w", kind, s.ID, err)
	}
	return nil
}

func hashToken(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// newID gives 128 random bits as 32 hexadecimal digits.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
