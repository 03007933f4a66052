package labs

import (
	"fmt"
	"io/fs"
	"strings"
)

// A Lesson is one lab, ready to be shown and run. It is read-only once loaded
// and may be used concurrently.
type Lesson struct {
	ID      string // unique in a catalogue: lower-case letters, digits and '-'
	Title   string
	Summary string // one sentence, plain text
	Level   string // "beginner", "intermediate", "advanced" or ""
	Minutes int    // how long it takes, 0 if not said

	Image  string // sandbox image: the name of a recipe, "docker" by default
	Pulls  []Pull // container images to have ready before the lesson starts
	Egress Egress // what the sandbox may reach

	Intro  string // HTML before the first step, sanitized
	Steps  []Step
	Finish string // HTML of the finish page, sanitized

	Dir    fs.FS  // the lab's folder; its files/ go to the learner's home, images are shown
	Source string // the file it was read from, for messages
}

// A Pull is a container image that a lesson names.
type Pull struct {
	Ref     string // as the learner types it: redis:3.2.11-alpine
	Standin string // recipe of an image to use when Ref cannot be had, or ""
}

// A Step is one section of a lesson.
type Step struct {
	ID       string // slug of its heading, unique in the lesson
	Title    string // plain text
	HTML     string // sanitized; its runnable blocks carry data-command attributes
	Commands []Command
	Files    []FileBlock
	Checks   []Check
	Hints    []string // HTML, shown on request, one after the other
	Solution Solution // not sent to the page until asked for
	Setup    []string // bash, run hidden before the step is first shown
}

// A Command is something a click types into a terminal.
type Command struct {
	ID        string // "step/n", unique in the lesson
	Code      string // exact bytes, without a final newline
	Terminal  string // "1" unless the lesson says otherwise
	Interrupt bool   // send Ctrl-C first
	Once      bool   // offer it once only
}

// A FileBlock is a file that a click writes.
type FileBlock struct {
	ID   string // "step/file-n"
	Path string // "~/…" or absolute
	Text string
}

// A Solution shows how a step is done; Commands are what berth test types.
type Solution struct {
	HTML     string
	Commands []string
}

// Egress says what a sandbox may reach outside itself.
type Egress string

const (
	EgressNone     Egress = "none"     // nothing
	EgressMirror   Egress = "mirror"   // the built-in registry only
	EgressInternet Egress = "internet" // public addresses, never private ranges
)

// Step returns the step with this id.
func (l *Lesson) Step(id string) (*Step, bool) {
	for i := range l.Steps {
		if l.Steps[i].ID == id {
			return &l.Steps[i], true
		}
	}
	return nil, false
}

// Check returns the check with this id and the step it belongs to.
func (l *Lesson) Check(id string) (*Check, *Step, bool) {
	for i := range l.Steps {
		for j := range l.Steps[i].Checks {
			if l.Steps[i].Checks[j].ID == id {
				return &l.Steps[i].Checks[j], &l.Steps[i], true
			}
		}
	}
	return nil, nil, false
}

// A Mistake is something wrong in a lesson's source, told to its author.
type Mistake struct {
	File string // relative to the folder that was loaded
	Line int    // from 1; 0 when it concerns the whole file
	What string // what is wrong, one sentence without a final dot
	Hint string // what to do about it, or ""
	Warn bool   // the lesson still works
}

// Error gives "file:line: what; hint".
func (m Mistake) Error() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d", m.Line)
	}
	b.WriteString(": " + m.What)
	if m.Hint != "" {
		b.WriteString("; " + m.Hint)
	}
	return b.String()
}
