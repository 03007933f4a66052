// Package verify evaluates the checks of lessons.
//
// A check is looked at from outside: through the API of the learner's Docker
// Engine, or through the sandbox's files, ports and command history. None of
// the learner's programs is asked what it thinks, and reading a file of an
// image runs nothing: a container is made of the image, never started, read
// and removed. Only a check that is a script runs inside.
//
// # When a check is looked at
//
// Each check says what can concern it: image, container, volume and network
// events of the engine, changes to files it names, the end of a command in a
// shell. Only checks that something can concern are looked at again, never the
// same check twice at a time; what happens meanwhile leads to one more look at
// the end, so that what is reported last is true. How often one check is
// looked at is limited, the more the longer a look takes (see pace), which
// bounds what a learner who floods events can cost. Some things happen without
// an event, such as a program that opens its port a moment after its command
// returned; such checks are looked at again after growing pauses while they
// fail.
//
// # The engine
//
// Connecting to the engine's socket starts the engine, so it is not connected
// to before the sandbox says that it is ready. An engine that does not answer
// makes checks Unknown, with the reason, and is asked again until it answers.
// Everything it says is under its learner's control and is read with a bound.
//
// Containers that remove themselves (docker run --rm) count: they are attached
// to when they are created, before they start, and what they printed and how
// they ended is kept for a while.
package verify

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"berth/labs"
)

// NotYet begins Seen in the result of a check with Not whose opposite has not
// been seen to be true so far. A recorded failure of such a check whose Seen
// begins otherwise means that it has: see Arm.
const NotYet = "nothing of it has been seen so far"

// A Verifier is a labs.Verifier. Its methods may be called concurrently, also
// for one sandbox.
type Verifier struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	watches map[string]*watch              // by sandbox, the newest
	armed   map[string]map[string]struct{} // by sandbox, ids of checks with Not whose opposite was seen
	looking map[string]struct{}            // containers in use for reading images: sandbox/name
}

var _ labs.Verifier = (*Verifier)(nil)

// New gives a Verifier that logs what is of interest to an operator.
func New(log *slog.Logger) *Verifier {
	return &Verifier{
		log:     log,
		now:     time.Now,
		watches: make(map[string]*watch),
		armed:   make(map[string]map[string]struct{}),
		looking: make(map[string]struct{}),
	}
}

// Watch implements labs.Verifier. It returns nil when ctx ended, and an error
// that wraps labs.ErrGone when the sandbox is gone; by then nothing it started
// is running any more, and no container of its is left in an engine that
// answers. report must return soon: nothing is looked at while it runs.
func (v *Verifier) Watch(ctx context.Context, lesson *labs.Lesson, sb labs.Sandbox, report func(labs.Result)) error {
	var checks []*labs.Check
	for i := range lesson.Steps {
		for j := range lesson.Steps[i].Checks {
			if c := &lesson.Steps[i].Checks[j]; c.Quiz == nil { // the learner answers those
				checks = append(checks, c)
			}
		}
	}
	w := newWatch(v, lesson, checks, sb, report)
	id := sb.ID()
	v.mu.Lock()
	v.watches[id] = w
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		if v.watches[id] == w {
			delete(v.watches, id)
		}
		v.mu.Unlock()
	}()
	if err := w.run(ctx); err != nil {
		v.mu.Lock()
		delete(v.armed, id)
		v.mu.Unlock()
		return fmt.Errorf("watch sandbox %s: %w", id, err)
	}
	return nil
}

// Check implements labs.Verifier. While the sandbox is being watched for the
// same lesson the watch does the looking, so that the check is not looked at
// twice at a time and what the watch remembers counts.
func (v *Verifier) Check(ctx context.Context, lesson *labs.Lesson, check *labs.Check, sb labs.Sandbox) labs.Result {
	if check.Quiz != nil {
		return labs.Result{Check: check.ID, Status: labs.Unknown, Expected: expected(check), Reason: "it is a question, which only the learner can answer", At: v.now()}
	}
	v.mu.Lock()
	w := v.watches[sb.ID()]
	v.mu.Unlock()
	if w != nil && w.lesson == lesson {
		if r, ok := w.ask(ctx, check.ID); ok {
			return r
		}
	}
	result := make(chan labs.Result, 1)
	alone, cancel := context.WithCancel(ctx)
	defer cancel()
	err := newWatch(v, lesson, []*labs.Check{check}, sb, func(r labs.Result) {
		select {
		case result <- r:
		default:
		}
		cancel()
	}).run(alone)
	select {
	case r := <-result:
		return r
	default:
	}
	reason := reasonUnasked
	if err != nil {
		reason = reasonGone
	}
	return labs.Result{Check: check.ID, Status: labs.Unknown, Expected: expected(check), Reason: reason, At: v.now()}
}

// Arm tells that the opposite of checks with Not was seen to be true in the
// sandbox, by an earlier process: from now on they pass as soon as they hold.
func (v *Verifier) Arm(sandbox string, checks ...string) {
	// Every sandbox that is watched to its end is forgotten then; the bound is
	// for those whose watch ended first.
	const most = 10_000
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.armed[sandbox] == nil {
		for id := range v.armed {
			if len(v.armed) < most {
				break
			}
			delete(v.armed, id)
		}
		v.armed[sandbox] = make(map[string]struct{})
	}
	for _, id := range checks {
		v.armed[sandbox][id] = struct{}{}
	}
}

func (v *Verifier) isArmed(sandbox, check string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.armed[sandbox][check]
	return ok
}
