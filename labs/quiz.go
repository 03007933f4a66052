package labs

import (
	"context"
	"fmt"
	"strings"
)

// A Quiz is a question to the learner. It has Choices, or a text that is typed
// in and compared with Equals or Contains, without regard to case and to space
// at its ends. What is right never reaches the page.
type Quiz struct {
	Question string // plain text, for messages
	Choices  []Choice
	Several  bool // any number of choices may be picked, instead of one
	Equals   string
	Contains string
}

// A Choice is one answer to pick.
type Choice struct {
	Text  string // plain text, for messages
	Right bool
}

// An Answer is what a learner answered to a Quiz.
type Answer struct {
	Picked []int  `json:"picked,omitempty"` // of Choices, from 0
	Text   string `json:"text,omitempty"`   // at most 1 KiB
}

// Test reports whether the answer is right.
func (q *Quiz) Test(a Answer) bool {
	if len(q.Choices) == 0 {
		said := strings.ToLower(strings.Join(strings.Fields(a.Text), " "))
		if q.Contains != "" {
			return strings.Contains(said, strings.ToLower(strings.Join(strings.Fields(q.Contains), " ")))
		}
		return said == strings.ToLower(strings.Join(strings.Fields(q.Equals), " "))
	}
	picked := make([]bool, len(q.Choices))
	for _, i := range a.Picked {
		if i < 0 || i >= len(picked) {
			return false
		}
		picked[i] = true
	}
	for i, c := range q.Choices {
		if c.Right != picked[i] {
			return false
		}
	}
	return true
}

// maxAnswer bounds the text of an answer, in bytes.
const maxAnswer = 1 << 10

// Answer takes a learner's answer to a question.
func (d *Desk) Answer(_ context.Context, learner, session, check string, a Answer) (Result, error) {
	v, err := d.visit(learner, session)
	if err != nil {
		return Result{}, err
	}
	l, _ := v.current()
	c, _, ok := l.Check(check)
	if !ok || c.Quiz == nil {
		return Result{}, fmt.Errorf("question %q: %w", check, ErrNotFound)
	}
	if len(a.Text) > maxAnswer || len(a.Picked) > len(c.Quiz.Choices) {
		return Result{}, &Problem{Kind: ErrInvalid, Say: "This is longer than an answer can be."}
	}
	r := Result{Check: c.ID, Status: Failed, Expected: "the right answer", Seen: "another answer", At: d.Now()}
	if c.Quiz.Test(a) {
		r.Status, r.Seen = Passed, "the right answer"
	}
	d.report(v, r)
	return r, nil
}
