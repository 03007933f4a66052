package rehearsal

import (
	"fmt"
	"math"
	"strings"
	"time"

	"berth/labs"
)

// An Outcome is how a lesson, or a step of it, came out.
type Outcome string

const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // a lesson that cannot run here, a step that cannot be done; not a failure
)

// A Report tells how one lesson came out.
type Report struct {
	Lesson  string      `json:"lesson"`
	Title   string      `json:"title"`
	Format  labs.Format `json:"format"`
	Source  string      `json:"source"`
	Engine  string      `json:"engine,omitempty"` // set by whoever plays a lesson on several
	Outcome Outcome     `json:"outcome"`
	Why     string      `json:"why,omitempty"` // of a lesson that was skipped, or failed outside its steps
	Seconds float64     `json:"seconds"`
	Steps   []Step      `json:"steps"`
	Sandbox string      `json:"sandbox,omitempty"` // that was left, when it was to be kept
}

// A Step tells how one step came out.
type Step struct {
	ID       string    `json:"id"`
	Title    string    `json:"title"`
	Outcome  Outcome   `json:"outcome"`
	Seconds  float64   `json:"seconds"`
	Commands []Command `json:"commands,omitempty"`
	Checks   []Check   `json:"checks,omitempty"`
	Defects  []string  `json:"defects,omitempty"` // why it failed, in sentences
	Remarks  []string  `json:"remarks,omitempty"` // what an author may want to know
}

// A Command tells how one command came out.
type Command struct {
	Code     string  `json:"code"`
	Terminal string  `json:"terminal"`
	Exit     *int    `json:"exit,omitempty"` // not known of what runs on, or was typed to another program than the shell
	Seconds  float64 `json:"seconds"`
	Output   string  `json:"output,omitempty"` // the last of it, at most 4 KiB

	interrupted bool // by the rehearsal
}

// A Check tells how one check came out.
type Check struct {
	ID       string      `json:"id"`
	Name     string      `json:"name"`
	Optional bool        `json:"optional,omitempty"`
	Before   labs.Status `json:"before"`            // before the step was done
	After    labs.Status `json:"after,omitempty"`   // afterwards
	Seconds  float64     `json:"seconds,omitempty"` // from the end of the step's last command until it turned green
	Expected string      `json:"expected,omitempty"`
	Seen     string      `json:"seen,omitempty"`
	Reason   string      `json:"reason,omitempty"`
}

// maxOutput is how much of what a command printed is reported, in bytes.
const maxOutput = 4 << 10

// maxSaid bounds the defects and remarks of one step, each.
const maxSaid = 100

func (s *Step) defect(format string, args ...any) {
	s.Outcome = Failed
	if len(s.Defects) < maxSaid {
		s.Defects = append(s.Defects, fmt.Sprintf(format, args...))
	}
}

func (s *Step) remark(format string, args ...any) {
	if len(s.Remarks) < maxSaid {
		s.Remarks = append(s.Remarks, fmt.Sprintf(format, args...))
	}
}

func (c *Check) take(r labs.Result) {
	c.Expected, c.Seen, c.Reason = r.Expected, r.Seen, r.Reason
}

// quiz reports whether the check is a question of the lesson.
func (c *Check) quiz(l *labs.Lesson) bool {
	check, _, ok := l.Check(c.ID)
	return ok && check.Quiz != nil
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// short gives a command in one line of at most 60 characters.
func short(code string) string {
	line, _, more := strings.Cut(strings.TrimSpace(code), "\n")
	if r := []rune(line); len(r) > 60 {
		line, more = string(r[:59]), true
	}
	if more {
		line += "…"
	}
	return line
}
