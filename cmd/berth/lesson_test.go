package main

import (
	"encoding/json"
	"slices"
	"testing"

	"berth/labs/rehearsal"
)

// TestLessons plays every lesson that is shipped as a learner would, with every
// engine that they promise to work with: each check must be red before its
// step's commands and green after them.
func TestLessons(t *testing.T) {
	p := newProgram(t)
	out, err := p.run("test", append(p.own(), "--shipped", "--engine", "20.10,26.1", "--json")...)
	var r testReport
	if jerr := json.Unmarshal([]byte(out), &r); jerr != nil || len(r.Lessons) == 0 {
		t.Fatalf("%v: %v: %s", jerr, err, out)
	}
	if err != nil {
		t.Error(err)
	}
	for _, m := range r.Mistakes {
		t.Errorf("%s: %s", m.File, m.sentence())
	}
	for _, l := range r.Lessons {
		if l.Outcome != rehearsal.Passed {
			t.Errorf("%s with engine %s: %s: %s", l.Lesson, l.Engine, l.Outcome, l.Why)
		}
		slowest := 0.0
		for _, s := range l.Steps {
			for _, d := range slices.Concat(s.Defects, s.Remarks) {
				t.Errorf("%s with engine %s: step %s: %s", l.Lesson, l.Engine, s.ID, d)
			}
			for _, c := range s.Checks {
				slowest = max(slowest, c.Seconds)
			}
		}
		t.Logf("%s with engine %s: %.1f s; slowest tick after a step's last command: %.0f ms (goal: under 300 ms)", l.Lesson, l.Engine, l.Seconds, slowest*1000)
	}
}
