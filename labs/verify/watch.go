package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/labs"
)

// A trigger is a set of things that can concern a check.
type trigger uint32

const (
	onImage     trigger = 1 << iota
	onContainer         // a container's life
	onOutput            // a container printed something
	onVolume
	onNetwork
	onEngine  // the engine came, went or fell silent
	onCommand // a command ended in a shell
	onFile    // a file changed that one of the check's patterns matches
)

// weak triggers come in floods during normal work and are followed by others
// that do not.
const weak = onOutput | onFile

// concern says what can concern a check.
func concern(c *labs.Check) trigger {
	switch {
	case c.Image != nil:
		return onImage | onEngine
	case c.Container != nil:
		t := onContainer | onEngine
		if c.Container.Image != "" {
			t |= onImage
		}
		if !c.Container.Logs.IsZero() {
			t |= onOutput
		}
		return t
	case c.Volume != "":
		return onVolume | onEngine
	case c.Network != "":
		return onNetwork | onEngine
	case c.File != nil:
		return onFile | onCommand
	case c.Port != nil:
		return onCommand | onContainer
	}
	return onCommand
}

// asksEngine reports whether looking at a check asks the engine.
func asksEngine(c *labs.Check) bool { return concern(c)&onEngine != 0 }

// patience says whether a check is worth another look although nothing told
// that something happened.
type patience int

const (
	none   patience = iota
	brief           // a few times within seconds
	steady          // as long as it fails, every few seconds
)

const (
	againMin   = 150 * time.Millisecond
	againMax   = 2 * time.Second
	againBrief = 5 // looks
)

// A verdict is what a look found.
type verdict struct {
	holds    bool
	seen     string
	patience patience
}

const (
	reasonUnasked  = "the check was given up before it was looked at"
	reasonGone     = "the sandbox is gone"
	reasonNoBox    = "your sandbox cannot be reached at the moment"
	reasonSlowBox  = "your sandbox did not answer within 10 seconds"
	lookDeadline   = 20 * time.Second // of one look, whatever it asks
	lookersEngine  = 4                // looks at a time that ask the engine
	lookersSandbox = 4                // other looks at a time
	engineWait     = time.Second      // for the sandbox to tell about its engine
	historyQuiet   = 50 * time.Millisecond
	historyWait    = time.Second
	followMin      = 100 * time.Millisecond
	followMax      = 5 * time.Second
)

// An item is a check that is being watched. It belongs to the goroutine that
// runs the watch; a look that is under way owns memory.
type item struct {
	check *labs.Check
	on    trigger
	pace  pace

	dirty   bool // to be looked at
	urgent  bool
	since   time.Time // dirty since
	running bool
	again   time.Time // look again then, zero: no need
	looks   int       // looks without a reason since the last one with
	last    *labs.Result
	memory  memory
	asking  []chan labs.Result // wait for the next look
	asked   []chan labs.Result // wait for the one under way
}

// A watch evaluates the checks of a lesson against one sandbox.
type watch struct {
	v      *Verifier
	log    *slog.Logger
	lesson *labs.Lesson
	sb     labs.Sandbox
	report func(labs.Result)
	items  []*item

	engine   *engine
	recorder *recorder
	history  history
	images   imageFiles
	archives archives
	layers   layerFiles

	told    atomic.Uint32 // triggers since the last turn
	poked   chan struct{}
	changes chan turn
	done    chan outcome
	asks    chan question
	ended   chan struct{} // closed when run returns

	// Of the goroutine that runs the watch.
	looking       [2]int    // looks under way: of the sandbox, of the engine
	begun         bool      // the sandbox tells what happens; nothing is missed from now on
	engineKnown   bool      // the sandbox told about its engine
	historyKnown  bool      // the commands that are remembered have been told
	engineAt      time.Time // begun and engineKnown at the latest
	historyAt     time.Time // historyKnown when it has been quiet until then…
	historyLatest time.Time // …or now is later
	lost          atomic.Bool
}

// A turn is something the follower tells.
type turn struct {
	change labs.Change
	opened bool  // the sandbox tells again; anything may have happened
	lost   bool  // it does not
	gone   error // it never will
}

type outcome struct {
	item       *item
	verdict    verdict
	err        error
	start, end time.Time
}

type question struct {
	check  string
	answer chan labs.Result
	ok     chan bool
}

func newWatch(v *Verifier, lesson *labs.Lesson, checks []*labs.Check, sb labs.Sandbox, report func(labs.Result)) *watch {
	w := &watch{
		v: v, log: v.log, lesson: lesson, sb: sb, report: report,
		poked:   make(chan struct{}, 1),
		changes: make(chan turn),
		done:    make(chan outcome),
		asks:    make(chan question),
		ended:   make(chan struct{}),
	}
	for _, c := range checks {
		w.items = append(w.items, &item{check: c, on: concern(c)})
	}
	w.recorder = newRecorder(v.log, sb.ID(), checks, w.tell)
	return w
}

// poke wakes the receiver of a channel with room for one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// tell notes that something happened. It never waits.
func (w *watch) tell(t trigger) {
	w.told.Or(uint32(t))
	poke(w.poked)
}

// run evaluates until ctx ends (nil) or the sandbox is gone (an error). All
// that it started has ended when it returns.
func (w *watch) run(parent context.Context) error {
	defer close(w.ended)
	var err error
	looking := &lookers{mu: &w.v.mu, names: w.v.looking}
	w.engine, err = newEngine(w.sb, w.log, looking, w.recorder, w.tell)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(parent)
	var others, looks sync.WaitGroup
	defer func() {
		cancel()
		// Looks hand over what they found; nobody wants it any more.
		finished := make(chan struct{})
		go func() {
			looks.Wait()
			others.Wait()
			w.recorder.close()
			w.engine.idle()
			close(finished)
		}()
		for {
			select {
			case <-w.done:
			case <-finished:
				return
			}
		}
	}()

	if w.wantsEngine() {
		others.Go(func() { w.engine.run(ctx) })
	}
	others.Go(func() { w.follow(ctx) })

	now := time.Now()
	w.engineAt = now.Add(engineWait)
	w.historyAt, w.historyLatest = now.Add(historyWait), now.Add(historyWait)
	for _, it := range w.items {
		it.mark(now, true)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now = time.Now()
		if t := trigger(w.told.Swap(0)); t != 0 {
			w.mark(now, t)
		}
		timer.Reset(time.Until(w.start(ctx, &looks, now)))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-w.poked:
		case t := <-w.changes:
			if t.gone != nil {
				return t.gone
			}
			w.turn(time.Now(), t)
		case o := <-w.done:
			w.finish(ctx, o)
		case q := <-w.asks:
			q.ok <- w.take(q)
		}
	}
}

func (w *watch) wantsEngine() bool {
	for _, it := range w.items {
		if asksEngine(it.check) || it.on&(onContainer|onImage) != 0 {
			return true
		}
	}
	return false
}

// mark notes that an item is to be looked at.
func (it *item) mark(now time.Time, urgent bool) {
	if !it.dirty {
		it.dirty, it.since = true, now
	}
	it.urgent = it.urgent || urgent
	it.looks = 0
	it.again = time.Time{}
}

// mark notes that something happened that can concern some items.
func (w *watch) mark(now time.Time, t trigger) {
	for _, it := range w.items {
		if hit := it.on & t; hit != 0 {
			it.mark(now, hit&^weak != 0)
		}
	}
}

// turn takes in what the sandbox tells.
func (w *watch) turn(now time.Time, t turn) {
	if !w.historyKnown {
		w.historyAt = now.Add(historyQuiet)
	}
	switch {
	case t.lost:
		if !w.lost.Swap(true) {
			w.markAll(now)
		}
	case t.opened:
		if w.lost.Swap(false) || w.begun {
			w.markAll(now)
		}
		w.begun = true
	case t.change.Engine != nil:
		w.engineKnown = true
		w.engine.set(*t.change.Engine)
	case t.change.Command != nil:
		w.history.add(*t.change.Command)
		w.mark(now, onCommand)
		// A silent engine is noticed when its learner does something. And what
		// the engine does not tell is, when its learner talks to it.
		poke(w.engine.doubt)
		if strings.Contains(t.change.Command.Text, "docker") {
			for _, it := range w.items {
				if asksEngine(it.check) && it.last != nil && it.last.Status != labs.Passed {
					it.mark(now, true)
				}
			}
		}
	case t.change.Lost:
		w.mark(now, onFile)
	case t.change.File != "":
		for _, it := range w.items {
			if it.on&onFile != 0 && matchPath(it.check.File.Path, t.change.File) {
				it.mark(now, false)
			}
		}
	}
}

func (w *watch) markAll(now time.Time) {
	for _, it := range w.items {
		it.mark(now, true)
	}
}

// start starts the looks that may start, those first that wait longest, and
// gives the time of the next turn.
func (w *watch) start(ctx context.Context, looks *sync.WaitGroup, now time.Time) time.Time {
	next := now.Add(time.Hour)
	w.begun = w.begun || w.lost.Load() || !now.Before(w.engineAt)
	w.engineKnown = w.engineKnown || w.lost.Load() || !now.Before(w.engineAt)
	w.historyKnown = w.historyKnown || w.lost.Load() || !now.Before(w.historyAt) || !now.Before(w.historyLatest)
	if !w.engineKnown {
		next = earlier(next, w.engineAt)
	}
	if !w.historyKnown {
		next = earlier(next, earlier(w.historyAt, w.historyLatest))
	}
	for {
		var first *item
		for _, it := range w.items {
			if !it.again.IsZero() && !it.dirty {
				if now.Before(it.again) {
					next = earlier(next, it.again)
				} else {
					it.dirty, it.since, it.again = true, now, time.Time{}
				}
			}
			if !it.dirty || it.running || w.held(it) {
				continue
			}
			if wait := it.pace.wait(now, it.urgent); wait > 0 {
				next = earlier(next, now.Add(wait))
				continue
			}
			if first == nil || it.since.Before(first.since) {
				first = it
			}
		}
		if first == nil {
			return next
		}
		it := first
		it.dirty, it.urgent, it.running = false, false, true
		it.asked, it.asking = it.asking, nil
		w.looking[lane(it.check)]++
		looks.Go(func() {
			o := outcome{item: it, start: time.Now()}
			limited, cancel := context.WithTimeout(ctx, lookDeadline)
			defer cancel()
			o.verdict, o.err = w.look(limited, it)
			o.end = time.Now()
			w.done <- o
		})
	}
}

// held reports whether an item has to wait for something other than its pace.
func (w *watch) held(it *item) bool {
	if !w.begun {
		return true
	}
	if asksEngine(it.check) {
		return !w.engineKnown || w.looking[1] >= lookersEngine
	}
	return it.check.Ran != nil && !w.historyKnown || w.looking[0] >= lookersSandbox
}

// lane tells looks that ask the engine from the others, so that a hanging
// engine does not hold these up.
func lane(c *labs.Check) int {
	if asksEngine(c) {
		return 1
	}
	return 0
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// look looks at one check.
func (w *watch) look(ctx context.Context, it *item) (verdict, error) {
	if w.lost.Load() {
		return verdict{}, &unseen{reason: reasonNoBox}
	}
	c := it.check
	var v verdict
	var err error
	switch {
	case c.Image != nil:
		v, err = w.lookImage(ctx, c.Image)
	case c.Container != nil:
		v, err = w.lookContainer(ctx, c.Container)
	case c.Volume != "":
		v, err = w.lookVolume(ctx, c.Volume)
	case c.Network != "":
		v, err = w.lookNetwork(ctx, c.Network)
	case c.File != nil:
		v, err = w.lookFile(ctx, c.File)
	case c.Layer != nil:
		v, err = w.lookLayer(ctx, c.Layer)
	case c.Ran != nil:
		v = w.lookRan(c.Ran, &it.memory)
	case c.Port != nil:
		v, err = w.lookPort(ctx, c.Port)
	case c.Script != "":
		v, err = w.lookScript(ctx, c.Script, c.Prints)
	default:
		err = &unseen{reason: "the check does not say what to look at"}
	}
	if errors.Is(err, errUnused) {
		return verdict{seen: seenUnused}, nil
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err() // it may have been cut short; a time-out never passes
	}
	return v, err
}

// finish takes in what a look found.
func (w *watch) finish(ctx context.Context, o outcome) {
	it := o.item
	it.running = false
	w.looking[lane(it.check)]--
	it.pace.spent(o.start, o.end)
	if ctx.Err() != nil {
		return
	}
	if errors.Is(o.err, errConnecting) && !w.lost.Load() {
		// The engine tells as soon as that is decided.
		it.asking = append(it.asked, it.asking...)
		it.asked = nil
		if it.last == nil || it.last.Status != labs.Unknown {
			return
		}
		it.again = time.Now().Add(againMax)
		return
	}
	r := w.result(it, o)
	for _, a := range it.asked {
		a <- r
	}
	it.asked = nil
	w.schedule(it, o, r)
	if l := it.last; l == nil || l.Status != r.Status || l.Expected != r.Expected || l.Seen != r.Seen || l.Reason != r.Reason {
		it.last = &r
		w.report(r)
	}
}

// result makes a result of what a look found.
func (w *watch) result(it *item, o outcome) labs.Result {
	c := it.check
	r := labs.Result{Check: c.ID, Expected: expected(c), At: w.v.now()}
	if o.err != nil {
		r.Status, r.Reason = labs.Unknown, w.reason(o.err)
		w.log.Debug("check could not be looked at", "sandbox", w.sb.ID(), "check", c.ID, "err", o.err)
		return r
	}
	holds, seen := o.verdict.holds, o.verdict.seen
	if c.Not {
		switch {
		case holds:
			w.v.Arm(w.sb.ID(), c.ID)
			holds = false
		case w.v.isArmed(w.sb.ID(), c.ID):
			holds = true
		default:
			seen = NotYet + ": " + seen
		}
	}
	r.Status, r.Seen = labs.Failed, clean(seen, maxSeen)
	if holds {
		r.Status = labs.Passed
	}
	return r
}

// reason says for the learner why something could not be looked at.
func (w *watch) reason(err error) string {
	var u *unseen
	switch {
	case errors.As(err, &u):
		return clean(u.reason, maxSeen)
	case errors.Is(err, labs.ErrGone):
		return reasonGone
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("looking took longer than %d seconds", int(lookDeadline.Seconds()))
	}
	w.log.Warn("check could not be looked at", "sandbox", w.sb.ID(), "err", err)
	return "it could not be looked at: " + clean(err.Error(), maxQuote)
}

// trouble says for the learner what went wrong with the sandbox.
func (w *watch) trouble(ctx context.Context, what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &unseen{reasonSlowBox, err}
	case errors.Is(err, labs.ErrGone):
		return &unseen{reasonGone, err}
	case errors.Is(err, labs.ErrInvalid):
		return &unseen{"your sandbox refused: " + clean(err.Error(), maxQuote), err}
	}
	return &unseen{reasonNoBox, err}
}

// schedule plans another look at a check that may change without an event.
func (w *watch) schedule(it *item, o outcome, r labs.Result) {
	p := o.verdict.patience
	if r.Status == labs.Unknown && o.err != nil {
		p = steady
		if asksEngine(it.check) && w.engine.question() != nil {
			p = none // the engine tells when it is back
		}
	}
	if p == none || p == brief && it.looks >= againBrief {
		return
	}
	pause := min(againMin<<min(it.looks, 10), againMax)
	it.looks++
	it.again = time.Now().Add(pause)
}

// take adds a question to its item.
func (w *watch) take(q question) bool {
	for _, it := range w.items {
		if it.check.ID == q.check {
			it.asking = append(it.asking, q.answer)
			it.mark(time.Now(), true)
			return true
		}
	}
	return false
}

// ask has a check looked at now. ok is false when the watch does not know the
// check or has ended.
func (w *watch) ask(ctx context.Context, check string) (r labs.Result, ok bool) {
	q := question{check: check, answer: make(chan labs.Result, 1), ok: make(chan bool, 1)}
	select {
	case w.asks <- q:
	case <-w.ended:
		return r, false
	case <-ctx.Done():
		return r, false
	}
	if !<-q.ok {
		return r, false
	}
	select {
	case r = <-q.answer:
		return r, true
	case <-w.ended:
	case <-ctx.Done():
	}
	return r, false
}

// follow passes on what the sandbox tells, connecting again when that breaks,
// until ctx ends or the sandbox is gone.
func (w *watch) follow(ctx context.Context) {
	send := func(t turn) bool {
		select {
		case w.changes <- t:
			return true
		case <-ctx.Done():
			return false
		}
	}
	var paths []string
	for _, it := range w.items {
		if it.check.File != nil {
			paths = append(paths, it.check.File.Path)
		}
	}
	pause := followMin
	for ctx.Err() == nil {
		limited, cancel := context.WithCancel(ctx)
		late := time.AfterFunc(fileDeadline, cancel)
		changes, err := w.sb.Watch(limited, labs.Watch{Paths: paths, After: w.history.seq()})
		opened := late.Stop()
		if err == nil && opened {
			if !send(turn{opened: true}) {
				cancel()
				return
			}
			for c := range changes {
				pause = followMin
				if !send(turn{change: c}) {
					cancel()
					return
				}
			}
			cancel()
		} else {
			cancel()
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, labs.ErrGone) {
				send(turn{gone: err})
				return
			}
			w.log.Info("sandbox does not tell what happens", "sandbox", w.sb.ID(), "err", err)
			if !send(turn{lost: true}) {
				return
			}
		}
		timer := time.NewTimer(pause)
		pause = min(2*pause, followMax)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
