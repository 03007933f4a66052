// Package rehearsal plays lessons as a learner would and tells what does not
// hold: it opens each in a fresh sandbox, comes to its parts in their order,
// types their commands into real terminals, writes their files, answers their
// questions and watches their checks.
//
// A check is worth something only when it can fail. So each is looked at when
// its step begins, and has to be red; then the step is done, and it has to turn
// green. What a step's solution says is typed; of a step that has none, what
// its page offers to run.
//
// A lesson without checks passes when its commands end with exit status 0. A
// foreign step that says in words alone what to do is skipped.
package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"berth/labs"
)

// A Rehearsal plays lessons of a desk's catalogue. The zero times mean the
// defaults. Run may be called concurrently.
type Rehearsal struct {
	Desk *labs.Desk
	Log  *slog.Logger

	Only     string // id of the one step that is tested; those before it are only done
	Thorough bool   // have every step with checks left out once, in a run of its own
	Keep     bool   // leave the sandbox of a run that failed

	CommandTime time.Duration // for a command to end, 5 minutes
	CheckTime   time.Duration // for checks to turn green after their step was done, 20 s
}

const (
	readyTime   = 3 * time.Minute  // for a sandbox to be ready
	lookTime    = time.Minute      // for a check to be looked at for the first time: the engine starts
	setupTime   = 5 * time.Minute  // for the hidden set-up of a part to end
	settleTime  = 3 * time.Second  // for a step that was left out to show nothing
	discouraged = 5 * time.Second  // CheckTime after a step has failed: others build on it
	lookPause   = time.Second      // between looks at a check that is not green yet
	endTime     = 30 * time.Second // for a session to be ended
)

// Run plays one lesson, which has to be in the desk's catalogue.
func (r *Rehearsal) Run(ctx context.Context, l *labs.Lesson) (rep Report) {
	began := time.Now()
	rep = Report{Lesson: l.ID, Title: l.Title, Format: l.Format, Source: l.Source, Outcome: Passed}
	defer func() { rep.Seconds = seconds(time.Since(began)) }()
	if l.Cannot != "" {
		rep.Outcome, rep.Why = Skipped, l.Cannot
		return rep
	}
	if r.Only != "" {
		if _, ok := l.Step(r.Only); !ok {
			rep.Outcome, rep.Why = Skipped, fmt.Sprintf("it has no step %s", r.Only)
			return rep
		}
	}
	if err := r.play(ctx, l, &rep); err != nil {
		rep.Outcome, rep.Why = Failed, explain(err)
	}
	for i := range rep.Steps {
		if rep.Steps[i].Outcome == Failed {
			rep.Outcome = Failed
		}
	}
	if len(rep.Steps) > 0 && !slices.ContainsFunc(rep.Steps, func(s Step) bool { return s.Outcome != Skipped }) {
		rep.Outcome, rep.Why = Skipped, "its steps say in words alone what to do, so that nothing could be typed"
	}
	if r.Thorough {
		r.leaveOut(ctx, l, &rep)
	}
	return rep
}

// explain gives the sentence for whoever runs the rehearsal.
func explain(err error) string {
	var p *labs.Problem
	switch {
	case errors.As(err, &p):
		return p.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "the time was over: " + err.Error()
	case errors.Is(err, context.Canceled):
		return "it was interrupted"
	}
	return err.Error()
}

// play goes through the whole lesson, or up to the one step that is wanted.
func (r *Rehearsal) play(ctx context.Context, l *labs.Lesson, rep *Report) (err error) {
	p, err := r.open(ctx, l)
	if err != nil {
		return err
	}
	defer func() {
		failed := err != nil || slices.ContainsFunc(rep.Steps, func(s Step) bool { return s.Outcome == Failed })
		if r.Keep && failed && p.sandbox != nil {
			rep.Sandbox = p.sandbox.ID()
			p.leave()
			return
		}
		p.leave()
		p.end()
	}()
	checked := false
	for i := range p.lesson.Steps {
		checked = checked || len(p.lesson.Steps[i].Checks) > 0
	}
	if err := p.arrive(ctx, labs.IntroID, nil); err != nil {
		return err
	}
	patience := cmp.Or(r.CheckTime, 20*time.Second)
	for i := range p.lesson.Steps {
		st := &p.lesson.Steps[i]
		if r.Only != "" && st.ID != r.Only {
			if err := p.do(ctx, st); err != nil {
				return err
			}
			continue
		}
		s := Step{ID: st.ID, Title: st.Title, Outcome: Passed}
		began := time.Now()
		err := p.step(ctx, st, &s, patience, checked)
		s.Seconds = seconds(time.Since(began))
		if err != nil {
			s.defect("%s", explain(err))
		}
		if s.Outcome == Failed {
			patience = min(patience, discouraged)
		}
		rep.Steps = append(rep.Steps, s)
		if ctx.Err() != nil {
			return fmt.Errorf("step %s: %w", st.ID, ctx.Err())
		}
		if st.ID == r.Only {
			return nil
		}
	}
	return p.arrive(ctx, labs.FinishID, nil)
}

// step plays one step: red, then done, then green.
func (p *play) step(ctx context.Context, st *labs.Step, s *Step, patience time.Duration, checked bool) error {
	if err := p.arrive(ctx, st.ID, s); err != nil {
		return err
	}
	s.Checks = make([]Check, len(st.Checks))
	for i := range st.Checks {
		c := &st.Checks[i]
		s.Checks[i] = Check{ID: c.ID, Name: c.Name, Optional: c.Optional}
		if err := p.red(ctx, c, &s.Checks[i], s); err != nil {
			return err
		}
	}
	if p.mute(st) {
		if p.lesson.Format == labs.FormatBerth {
			s.defect("the step has checks, but neither commands nor a solution that could be typed")
		} else if s.Outcome == Passed {
			s.Outcome = Skipped
			s.remark("the step says in words alone what to do, so that nothing could be typed")
		}
		return nil
	}
	if err := p.acts(ctx, st, s); err != nil {
		return err
	}
	if !checked {
		for _, c := range s.Commands {
			if c.Exit != nil && *c.Exit != 0 && !c.interrupted {
				s.defect("`%s` ended with exit status %d", short(c.Code), *c.Exit)
			}
		}
	}
	done := time.Now()
	for i := range st.Checks {
		c := &st.Checks[i]
		if c.Quiz != nil {
			p.quiz(ctx, c, &s.Checks[i], s)
		}
	}
	for i := range st.Checks {
		c := &st.Checks[i]
		if c.Quiz != nil {
			continue
		}
		wait := patience - time.Since(done)
		if c.Optional {
			wait = 0
		}
		if err := p.green(ctx, c, &s.Checks[i], s, done, wait); err != nil {
			return err
		}
	}
	return nil
}

// mute reports whether a step wants something done and does not say how.
func (p *play) mute(st *labs.Step) bool {
	wants := slices.ContainsFunc(st.Checks, func(c labs.Check) bool { return c.Quiz == nil && !c.Optional })
	return wants && len(actsOf(st)) == 0
}

// do does a step without testing it.
func (p *play) do(ctx context.Context, st *labs.Step) error {
	if err := p.arrive(ctx, st.ID, nil); err != nil {
		return err
	}
	var s Step
	if err := p.acts(ctx, st, &s); err != nil {
		return fmt.Errorf("step %s: %w", st.ID, err)
	}
	return nil
}

// red looks at a check before its step is done.
func (p *play) red(ctx context.Context, c *labs.Check, rep *Check, s *Step) error {
	if passed, _ := p.passed(c.ID); passed {
		rep.Before = labs.Passed
		s.defect("the check %q is green before the step's commands", c.Name)
		return nil
	}
	if c.Quiz != nil {
		rep.Before = labs.Failed
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	for {
		res, err := p.Desk.Check(ctx, p.learner, p.session, c.ID)
		if err != nil {
			return fmt.Errorf("look at check %s: %w", c.ID, err)
		}
		rep.take(res)
		rep.Before = res.Status
		switch res.Status {
		case labs.Passed:
			s.defect("the check %q is green before the step's commands", c.Name)
			return nil
		case labs.Failed:
			return nil
		}
		if !pause(ctx, lookPause) {
			s.defect("the check %q cannot be looked at: %s", c.Name, res.Reason)
			return nil
		}
	}
}

// green waits until a check has turned green.
func (p *play) green(ctx context.Context, c *labs.Check, rep *Check, s *Step, done time.Time, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		told := p.news()
		if passed, at := p.passed(c.ID); passed {
			rep.After, rep.Seconds = labs.Passed, seconds(max(0, at.Sub(done)))
			rep.Seen, rep.Reason = p.seen(c.ID), ""
			return nil
		}
		res, err := p.Desk.Check(ctx, p.learner, p.session, c.ID)
		if err != nil {
			return fmt.Errorf("look at check %s: %w", c.ID, err)
		}
		rep.take(res)
		rep.After = res.Status
		if res.Status == labs.Passed {
			rep.Seconds = seconds(time.Since(done))
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		timer := time.NewTimer(min(left, lookPause))
		select {
		case <-told:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if c.Optional {
		s.remark("the optional check %q stays red", c.Name)
		return nil
	}
	why := rep.Reason
	if rep.After == labs.Failed {
		why = fmt.Sprintf("expected: %s; seen: %s", rep.Expected, rep.Seen)
	}
	s.defect("the check %q is red after the step's commands: %s", c.Name, why)
	return nil
}

// quiz answers a question, first wrong and then right.
func (p *play) quiz(ctx context.Context, c *labs.Check, rep *Check, s *Step) {
	wrong, right, ok := answers(c.Quiz)
	if !ok {
		s.defect("no answer to %q is right", c.Quiz.Question)
		return
	}
	res, err := p.Desk.Answer(ctx, p.learner, p.session, c.ID, wrong)
	if err != nil {
		s.defect("the question %q could not be answered: %s", c.Quiz.Question, explain(err))
		return
	}
	if res.Status == labs.Passed {
		s.defect("a wrong answer to %q is taken", c.Quiz.Question)
	}
	if res, err = p.Desk.Answer(ctx, p.learner, p.session, c.ID, right); err != nil {
		s.defect("the question %q could not be answered: %s", c.Quiz.Question, explain(err))
		return
	}
	rep.take(res)
	rep.After = res.Status
	if res.Status != labs.Passed {
		s.defect("the right answer to %q is not taken", c.Quiz.Question)
	}
}

// answers gives a wrong and a right answer.
func answers(q *labs.Quiz) (wrong, right labs.Answer, ok bool) {
	if len(q.Choices) == 0 {
		right.Text = cmp.Or(q.Contains, q.Equals)
		for _, text := range []string{"no idea", "pqr", "-"} {
			if wrong.Text = text; !q.Test(wrong) {
				break
			}
		}
		return wrong, right, strings.TrimSpace(right.Text) != ""
	}
	for i, c := range q.Choices {
		if c.Right {
			right.Picked = append(right.Picked, i)
		} else if len(wrong.Picked) == 0 {
			wrong.Picked = []int{i}
		}
	}
	return wrong, right, q.Test(right)
}

// leaveOut plays the lesson once for every step with checks, up to that step,
// and leaves out its commands: its checks have to stay red.
func (r *Rehearsal) leaveOut(ctx context.Context, l *labs.Lesson, rep *Report) {
	for i := range rep.Steps {
		s := &rep.Steps[i]
		if !slices.ContainsFunc(s.Checks, func(c Check) bool { return c.Before == labs.Failed && !c.quiz(l) }) {
			continue
		}
		began := time.Now()
		if err := r.leaveOutStep(ctx, l, s); err != nil {
			s.defect("leaving out the step's commands could not be tried: %s", explain(err))
		}
		s.Seconds += seconds(time.Since(began))
		if s.Outcome == Failed {
			rep.Outcome = Failed
		}
	}
}

func (r *Rehearsal) leaveOutStep(ctx context.Context, l *labs.Lesson, s *Step) error {
	p, err := r.open(ctx, l)
	if err != nil {
		return err
	}
	defer p.end()
	defer p.leave()
	if err := p.arrive(ctx, labs.IntroID, nil); err != nil {
		return err
	}
	for i := range p.lesson.Steps {
		st := &p.lesson.Steps[i]
		if st.ID != s.ID {
			if err := p.do(ctx, st); err != nil {
				return err
			}
			continue
		}
		if err := p.arrive(ctx, st.ID, nil); err != nil {
			return err
		}
		if !pause(ctx, settleTime) {
			return ctx.Err()
		}
		for j := range st.Checks {
			c := &st.Checks[j]
			if c.Quiz != nil || s.Checks[j].Before != labs.Failed {
				continue
			}
			passed, _ := p.passed(c.ID)
			if !passed {
				res, err := p.Desk.Check(ctx, p.learner, p.session, c.ID)
				if err != nil {
					return fmt.Errorf("look at check %s: %w", c.ID, err)
				}
				passed = res.Status == labs.Passed
			}
			if passed {
				s.defect("the check %q is green although the step's commands were left out", c.Name)
			}
		}
		return nil
	}
	return nil
}

// pause waits and gives false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
