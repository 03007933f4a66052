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

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"berth/labs"
)

const (
	engineDeadline = 3 * time.Second // of one call to an engine
	engineRetryMin = 250 * time.Millisecond
	engineRetryMax = 4 * time.Second
	pingEvery      = time.Second // at most, because a command ended
)

const (
	reasonSlow    = "your Docker Engine did not answer within 3 seconds"
	reasonNoReach = "your Docker Engine cannot be reached"
	reasonOff     = "your Docker Engine is not running at the moment"
)

// errUnused is what asking an engine gives that was not used yet: whatever a
// check wants of it is not there.
var errUnused = errors.New("the engine has not been used")

// An unseen error says that something could not be looked at, in a sentence
// for the learner; err is for the log.
type unseen struct {
	reason string
	err    error
}

func (u *unseen) Error() string {
	if u.err == nil {
		return u.reason
	}
	return u.reason + ": " + u.err.Error()
}

func (u *unseen) Unwrap() error { return u.err }

// An engine is the sandbox's Docker Engine as checks see it: asked when it is
// up, listened to all the time.
type engine struct {
	sb       labs.Sandbox
	log      *slog.Logger
	cli      *client.Client
	idle     func() // closes idle connections
	looking  *lookers
	recorder *recorder
	notify   func(trigger)

	wake  chan struct{} // state changed
	doubt chan struct{} // does it still answer?
	owed  atomic.Bool   // a container could not be removed

	mu    sync.Mutex
	state labs.EngineState // as the sandbox tells
	used  bool             // it was ready at some time
	err   *unseen          // why it cannot be asked; nil when it answers
	up    bool             // it answers and is listened to
}

func newEngine(sb labs.Sandbox, log *slog.Logger, looking *lookers, rec *recorder, notify func(trigger)) (*engine, error) {
	cli, idle, err := newClient(sb)
	if err != nil {
		return nil, err
	}
	return &engine{
		sb: sb, log: log, cli: cli, idle: idle, looking: looking, recorder: rec, notify: notify,
		wake:  make(chan struct{}, 1),
		doubt: make(chan struct{}, 1),
		state: labs.EngineState{Phase: "off"},
	}, nil
}

// set takes what the sandbox tells about its engine.
func (e *engine) set(s labs.EngineState) {
	e.mu.Lock()
	changed := e.state != s
	e.state = s
	if s.Phase == "ready" {
		e.used = true
	} else {
		e.up = false
	}
	e.mu.Unlock()
	if changed {
		poke(e.wake)
		if s.Phase != "ready" {
			e.notify(onEngine)
		}
	}
}

// question gives a nil error when the engine may be asked.
func (e *engine) question() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.state.Phase == "failed":
		reason := "your Docker Engine did not start"
		if e.state.Reason != "" {
			reason += ": " + e.state.Reason
		}
		return &unseen{reason: clean(reason, maxSeen)}
	case e.state.Phase != "ready" && !e.used:
		return errUnused
	case e.state.Phase != "ready":
		return &unseen{reason: reasonOff}
	case e.up:
		return nil
	case e.err != nil:
		return e.err
	}
	return errConnecting
}

// errConnecting says that the engine is just being connected to; whoever asked
// is told when that is done.
var errConnecting = &unseen{reason: "your Docker Engine is being connected to"}

// ask makes one call to the engine. Its errors are errUnused, an *unseen, the
// engine's own that something is not found (errdefs.IsNotFound), and that of ctx.
func ask[T any](ctx context.Context, e *engine, what string, call func(context.Context, *client.Client) (T, error)) (T, error) {
	var none T
	if err := e.question(); err != nil {
		return none, err
	}
	limited, cancel := context.WithTimeout(ctx, engineDeadline)
	defer cancel()
	t, err := call(limited, e.cli)
	switch {
	case err == nil:
		return t, nil
	case ctx.Err() != nil:
		return none, ctx.Err()
	case errdefs.IsNotFound(err):
		return none, err
	}
	return none, e.trouble(limited, what, err)
}

// trouble says for the learner what went wrong with a call.
func (e *engine) trouble(limited context.Context, what string, err error) *unseen {
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		poke(e.doubt)
		return &unseen{reasonSlow, err}
	case errors.Is(err, errTooLong):
		return &unseen{"your Docker Engine answered with too much", err}
	case errors.Is(err, errNoOutput):
		return &unseen{"your Docker Engine does not keep what the container printed", err}
	case answered(err):
		return &unseen{clean("your Docker Engine answered with an error: "+err.Error(), maxSeen), err}
	}
	poke(e.doubt)
	return &unseen{reasonNoReach, err}
}

// answered reports whether an error is the engine's answer rather than the
// lack of one.
func answered(err error) bool {
	return errdefs.IsConflict(err) || errdefs.IsInvalidArgument(err) || errdefs.IsInternal(err) ||
		errdefs.IsNotImplemented(err) || errdefs.IsPermissionDenied(err) || errdefs.IsUnauthorized(err) || errdefs.IsUnavailable(err)
}

// run connects to the engine whenever it is ready, and listens to it, until
// ctx ends.
func (e *engine) run(ctx context.Context) {
	defer e.idle()
	pause := engineRetryMin
	for {
		for !e.ready() {
			select {
			case <-e.wake:
				pause = engineRetryMin
			case <-ctx.Done():
				return
			}
		}
		heard, err := e.listen(ctx)
		e.idle()
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause = engineRetryMin
		}
		if err != nil {
			e.down(err)
		}
		timer := time.NewTimer(pause)
		pause = min(2*pause, engineRetryMax)
		select {
		case <-timer.C:
		case <-e.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (e *engine) ready() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.Phase == "ready"
}

// down notes that the engine does not answer.
func (e *engine) down(err *unseen) {
	e.mu.Lock()
	news := e.up || e.err == nil || e.err.reason != err.reason
	e.up, e.err = false, err
	e.mu.Unlock()
	if news {
		e.log.Info("engine does not answer", "sandbox", e.sb.ID(), "err", err.Unwrap())
		e.notify(onEngine)
	}
}

// listen connects and passes on what the engine tells until that breaks or the
// engine stops. heard reports whether it had connected.
func (e *engine) listen(parent context.Context) (heard bool, broken *unseen) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	if err := e.ping(ctx); err != nil {
		return false, err
	}
	// The engine answers before it listens for us; what happens in between
	// comes because of since.
	since := e.recorder.last()
	if since == 0 {
		since = time.Now().Add(-time.Second).UnixNano()
	}
	late := time.AfterFunc(engineDeadline, cancel)
	messages, errs := e.cli.Events(ctx, events.ListOptions{
		Since:   fmt.Sprintf("%d.%09d", since/1e9, since%1e9),
		Filters: interesting(),
	})
	if !late.Stop() {
		return false, &unseen{reasonSlow, errors.New("listen to events: deadline exceeded")}
	}
	e.mu.Lock()
	ready := e.state.Phase == "ready"
	e.up, e.err = ready, nil
	e.mu.Unlock()
	if !ready {
		return true, nil
	}
	e.notify(onEngine)
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	sweeping.Go(func() { e.sweep(ctx) })

	var pinged time.Time
	var later <-chan time.Time
	for {
		select {
		case m := <-messages:
			e.hear(ctx, &sweeping, m)
		case err := <-errs:
			if parent.Err() != nil {
				return true, nil
			}
			return true, &unseen{reasonNoReach, fmt.Errorf("listen to events: %w", err)}
		case <-e.doubt:
			if later == nil {
				later = time.After(time.Until(pinged.Add(pingEvery)))
			}
		case <-later:
			later = nil
			if err := e.ping(ctx); err != nil {
				return true, err
			}
			pinged = time.Now()
			if e.owed.Swap(false) {
				sweeping.Go(func() { e.sweep(ctx) })
			}
		case <-e.wake:
			if e.question() != nil {
				return true, nil
			}
		case <-parent.Done():
			return true, nil
		}
	}
}

// ping asks the engine for a sign of life.
func (e *engine) ping(ctx context.Context) *unseen {
	limited, cancel := context.WithTimeout(ctx, engineDeadline)
	defer cancel()
	// Negotiating first would swallow the error.
	p, err := e.cli.Ping(limited)
	if err == nil {
		e.cli.NegotiateAPIVersionPing(p)
		return nil
	}
	if errors.Is(limited.Err(), context.DeadlineExceeded) {
		return &unseen{reasonSlow, fmt.Errorf("ping: %w", err)}
	}
	return &unseen{reasonNoReach, fmt.Errorf("ping: %w", err)}
}

// what each event can concern.
var concerns = map[events.Type]map[events.Action]trigger{
	events.ImageEventType: {
		events.ActionPull: onImage, events.ActionImport: onImage, events.ActionLoad: onImage,
		events.ActionTag: onImage, events.ActionUnTag: onImage, events.ActionDelete: onImage,
		events.ActionCreate: onImage, events.ActionPrune: onImage,
	},
	events.ContainerEventType: {
		events.ActionCreate: onContainer, events.ActionStart: onContainer, events.ActionRestart: onContainer,
		events.ActionPause: onContainer, events.ActionUnPause: onContainer, events.ActionOOM: onContainer,
		events.ActionDie: onContainer, events.ActionDestroy: onContainer, events.ActionRename: onContainer,
		events.ActionUpdate: onContainer, "health_status": onContainer, events.ActionCommit: onImage,
	},
	events.VolumeEventType:  {events.ActionCreate: onVolume, events.ActionDestroy: onVolume},
	events.NetworkEventType: {events.ActionCreate: onNetwork, events.ActionDestroy: onNetwork, events.ActionRemove: onNetwork},
}

// interesting selects the events of concerns, in the engine, so that others
// (of docker exec, for one) cost nothing here.
func interesting() filters.Args {
	f := filters.NewArgs()
	for typ, actions := range concerns {
		f.Add("type", string(typ))
		for action := range actions {
			f.Add("event", string(action))
		}
	}
	return f
}

// hear takes an event in.
func (e *engine) hear(ctx context.Context, wg *sync.WaitGroup, m events.Message) {
	action, _, _ := strings.Cut(string(m.Action), ":")
	t := concerns[m.Type][events.Action(action)]
	if t == 0 {
		return
	}
	if m.Type == events.ContainerEventType {
		name := m.Actor.Attributes["name"]
		if _, ours := m.Actor.Attributes[lookLabel]; ours && strings.HasPrefix(name, lookName) {
			// One that a look which had to give up left behind.
			if m.Action == events.ActionCreate && !e.looking.has(e.sb.ID(), name) {
				id := clean(m.Actor.ID, 64)
				wg.Go(func() { e.remove(ctx, id) })
			}
			return
		}
		e.recorder.hear(ctx, e.cli, m)
	} else {
		e.recorder.heard(m)
	}
	e.notify(t)
}
