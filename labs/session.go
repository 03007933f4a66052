package labs

import (
	"strings"
	"time"
)

// A Learner is somebody who learns here. No account is needed: the browser
// keeps a token, the store only its hash.
type Learner struct {
	ID      string
	Created time.Time
}

// A Session is a learner's time with one lesson in one sandbox.
type Session struct {
	ID      string // unguessable
	Learner string
	Lesson  string // Lesson.ID
	Sandbox string // Sandbox.ID, "" until it was started
	Others  string // those of the second sandbox, the third …, of a lesson with several, with spaces between
	Started time.Time
	Expires time.Time // hard end, moved by Extend
	Active  time.Time // when the learner last did something
	Ended   time.Time // zero while open
	Reason  string    // why it ended, one sentence for the learner
}

// sandboxes gives the ids of all of the session's sandboxes.
func (s *Session) sandboxes() []string {
	return append([]string{s.Sandbox}, strings.Fields(s.Others)...)
}

// Open reports whether the session has not ended.
func (s *Session) Open() bool { return s.Ended.IsZero() }

// An Attempt is a result that was recorded: a check's status changed.
type Attempt struct {
	Session string
	Learner string
	Lesson  string
	Result  Result
}

// An Entry is something else that was recorded about a learner and a lesson:
// "opened", "reset", "extended", "finished", "hint", "solution", "ended".
type Entry struct {
	Session string
	Learner string
	Lesson  string
	Kind    string
	Detail  string // at most 1 KiB
	At      time.Time
}
