package labs

import "time"

// Progress is how far a learner has come in a lesson. It is always computed
// from what was recorded, never stored beside it.
type Progress struct {
	Lesson   string
	Passed   map[string]time.Time // Check.ID to when it first passed, since the last reset
	Last     time.Time            // last thing recorded
	Finished time.Time            // when the finish page was reached, or zero
}

// StepDone reports whether every check of the step that is not optional has
// passed. A step without checks is not done or undone: ok is false.
func (p Progress) StepDone(s *Step) (done, ok bool) {
	done = true
	for i := range s.Checks {
		if s.Checks[i].Optional {
			continue
		}
		ok = true
		if _, passed := p.Passed[s.Checks[i].ID]; !passed {
			done = false
		}
	}
	return done && ok, ok
}

// Count gives how many of the lesson's steps with checks are done.
func (p Progress) Count(l *Lesson) (done, total int) {
	for i := range l.Steps {
		d, ok := p.StepDone(&l.Steps[i])
		if ok {
			total++
		}
		if d {
			done++
		}
	}
	return done, total
}
