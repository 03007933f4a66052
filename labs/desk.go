package labs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
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

	Life       time.Duration // of a sandbox, from its start
	ExtendBy   time.Duration // what one extension adds
	MaxLife    time.Duration // and what they add up to at most, from the start
	Idle       time.Duration // a sandbox whose page is closed ends after this; an open page has three times as long
	PerLearner int           // open sessions of one learner
	Limits     Limits        // of every sandbox
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
	lessons []*Lesson
	visits  map[string]*visit // open sessions by Session.ID
	opening map[string]bool   // learner and lesson of sessions being opened
	queue   []*visit          // that wait for room, in order
	freed   chan struct{}     // closed and renewed when there may be room
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
		visits: make(map[string]*visit), opening: make(map[string]bool), freed: make(chan struct{}),
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
	for _, s := range open {
		sb := byID[s.Sandbox]
		lesson, lerr := d.Lesson(s.Lesson)
		if sb == nil || lerr != nil {
			s.Ended, s.Reason = d.Now(), "The server was restarted and this sandbox did not survive it. What you had ticked off is kept."
			if err := d.Store.UpdateSession(ctx, s); err != nil {
				return fmt.Errorf("end session %s: %w", s.ID, err)
			}
			continue
		}
		delete(byID, s.Sandbox)
		v, err := d.newVisit(ctx, s, lesson)
		if err != nil {
			return err
		}
		v.sandbox = sb
		d.mu.Lock()
		d.visits[s.ID] = v
		d.mu.Unlock()
		d.run(v)
	}
	for _, sb := range byID {
		if err := sb.Destroy(); err != nil {
			d.Log.Error("destroy a sandbox that belongs to nobody", "sandbox", sb.ID(), "err", err)
		}
	}
	return nil
}

// Open begins a session with a lesson, or gives the open one. It returns at
// once; the sandbox is started behind it.
func (d *Desk) Open(ctx context.Context, learner, lesson string) (State, error) {
	l, err := d.Lesson(lesson)
	if err != nil {
		return State{}, err
	}
	key := learner + " " + lesson
	d.mu.Lock()
	n := 0
	for _, v := range d.visits {
		if v.session.Learner != learner {
			continue
		}
		if v.session.Lesson == lesson {
			d.mu.Unlock()
			if st := d.stateOf(v); st.Phase != PhaseFailed {
				return st, nil
			}
			d.end(v, "The sandbox could not be started.")
			return d.Open(ctx, learner, lesson)
		}
		n++
	}
	if d.opening[key] || d.ctx.Err() != nil {
		d.mu.Unlock()
		return State{}, &Problem{Kind: ErrBusy, Say: "This lab is being opened already. Wait a moment and reload."}
	}
	if n >= d.PerLearner {
		d.mu.Unlock()
		return State{}, &Problem{Kind: ErrBusy, Say: fmt.Sprintf("You have %d labs open, which is as many as one person can have. End one of them first.", n)}
	}
	d.opening[key] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.opening, key)
		d.mu.Unlock()
	}()

	now := d.Now()
	s := Session{ID: newID(), Learner: learner, Lesson: lesson, Started: now, Active: now, Expires: now.Add(d.Life)}
	if err := d.Store.AddSession(ctx, s); err != nil {
		return State{}, fmt.Errorf("open a session with %s: %w", lesson, err)
	}
	d.note(s, "opened", "")
	v, err := d.newVisit(ctx, s, l)
	if err != nil {
		return State{}, err
	}
	d.mu.Lock()
	d.visits[s.ID] = v
	d.mu.Unlock()
	d.run(v)
	return d.stateOf(v), nil
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
	return d.stateOf(v), nil
}

// Sandbox gives the session's sandbox, waiting until it has started or ctx
// ends. ErrGone when the session has ended.
func (d *Desk) Sandbox(ctx context.Context, learner, session string) (Sandbox, error) {
	v, err := d.visit(learner, session)
	if err != nil {
		if s, serr := d.Store.Session(ctx, session); serr == nil && s.Learner == learner {
			return nil, &Problem{Kind: ErrGone, Say: "This session has ended. Start the lab again to get a new sandbox."}
		}
		return nil, err
	}
	select {
	case <-v.ready:
	case <-v.ctx.Done():
		return nil, &Problem{Kind: ErrGone, Say: "This session has ended. Start the lab again to get a new sandbox."}
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the sandbox: %w", ctx.Err())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sandbox, nil
}

// Extend moves the session's end by ExtendBy, as far as MaxLife allows.
func (d *Desk) Extend(ctx context.Context, learner, session string) (State, error) {
	v, err := d.visit(learner, session)
	if err != nil {
		return State{}, err
	}
	v.mu.Lock()
	limit := v.session.Started.Add(d.MaxLife)
	expires := v.session.Expires.Add(d.ExtendBy)
	if expires.After(limit) {
		expires = limit
	}
	if !expires.After(v.session.Expires) {
		v.mu.Unlock()
		return State{}, &Problem{Kind: ErrInvalid, Say: "This sandbox has been extended as far as it can be."}
	}
	v.session.Expires = expires
	s := v.session
	v.mu.Unlock()
	if err := d.Store.UpdateSession(ctx, s); err != nil {
		return State{}, fmt.Errorf("extend session %s: %w", s.ID, err)
	}
	d.note(s, "extended", "")
	v.wake()
	d.publishState(v)
	return d.stateOf(v), nil
}

// Reset ends the session, forgets its ticks and opens a new one.
func (d *Desk) Reset(ctx context.Context, learner, session string) (State, error) {
	s, err := d.Store.Session(ctx, session)
	if err != nil {
		return State{}, err
	}
	if s.Learner != learner {
		return State{}, fmt.Errorf("session of another learner: %w", ErrNotFound)
	}
	if v, err := d.visit(learner, session); err == nil {
		d.end(v, "You started this lab afresh.")
	}
	d.note(s, "reset", "")
	return d.Open(ctx, learner, s.Lesson)
}

// End ends the session; its sandbox is destroyed, its ticks are kept.
func (d *Desk) End(ctx context.Context, learner, session string) (State, error) {
	if v, err := d.visit(learner, session); err == nil {
		d.end(v, "You ended this session.")
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
	c, _, ok := v.lesson.Check(check)
	if !ok {
		return Result{}, fmt.Errorf("check %q: %w", check, ErrNotFound)
	}
	r := d.Verifier.Check(ctx, v.lesson, c, sb)
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
	for i := range v.lesson.Steps {
		for _, f := range v.lesson.Steps[i].Files {
			if f.ID == block {
				return writeFile(ctx, sb, f.Path, f.Text)
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
	st, ok := v.lesson.Step(step)
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
	st, ok := v.lesson.Step(step)
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
	v.mu.Lock()
	if now.Sub(v.session.Active) < 10*time.Second {
		v.mu.Unlock()
		return
	}
	v.session.Active = now
	s := v.session
	v.mu.Unlock()
	if err := d.Store.UpdateSession(d.ctx, s); err != nil && d.ctx.Err() == nil {
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
	d.stop()
	d.owned.Wait()
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
	e := Entry{Session: s.ID, Learner: s.Learner, Lesson: s.Lesson, Kind: kind, Detail: detail, At: d.Now()}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), 5*time.Second)
	defer cancel()
	if err := d.Store.Note(ctx, e); err != nil {
		d.Log.Error("record an entry", "kind", kind, "session", s.ID, "err", err)
	}
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
