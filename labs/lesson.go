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
	Course  string // title of the course it belongs to, or ""
	Format  Format // what it was written in

	Image    string // sandbox image: the name of a recipe, "docker" by default
	Pulls    []Pull // container images to have ready before the lesson starts
	Egress   Egress // what the sandbox may reach
	Hosts    int    // sandboxes on one private network; 0 and 1 are one
	Hostname string // of the first sandbox, "" for whatever it has; then host02 and so on
	Assets   []Asset
	Vars     []Var  // values that differ per learner
	Cannot   string // why it can be read here but not run, one sentence, or ""

	Paged     bool // one step is shown at a time, and what happens on arriving at it waits until then
	Layout    Layout
	Open      string // file or folder that the editor opens first, "" for the home
	Greeting  string // shown once in the first terminal; may hold ANSI sequences
	Terminals []TerminalTab
	Tabs      []Tab

	Intro  Part // before the first step
	Steps  []Step
	Finish Part // of the finish page

	Dir    fs.FS  // the folder that Assets and images are read from
	Source string // the file it was read from, for messages
}

// A Format is what a lesson was written in.
type Format string

const (
	FormatBerth      Format = "berth"
	FormatKatacoda   Format = "katacoda"
	FormatOReilly    Format = "oreilly"
	FormatKillercoda Format = "killercoda"
	FormatDockerPost Format = "play-with-docker"
	FormatMarkdown   Format = "markdown" // plain Markdown, or a Jekyll post
)

// A Layout says what stands beside the text.
type Layout string

const (
	LayoutTerminal Layout = "terminal" // the default
	LayoutEditor   Layout = "editor"   // the editor above the terminal
)

// A Part is text of a lesson that is not a step.
type Part struct {
	HTML    string // sanitized
	Arrival Arrival
}

// A Pull is a container image that a lesson names.
type Pull struct {
	Ref     string // as the learner types it: redis:3.2.11-alpine
	Standin string // recipe of an image to use when Ref cannot be had, or ""
}

// An Asset is a file or directory that is put into the sandbox before the
// lesson begins.
type Asset struct {
	From string      // regular file in Lesson.Dir; "" makes an empty directory
	To   string      // path in the sandbox: absolute or "~/…"
	Mode fs.FileMode // 0: executable when the file begins with #!
	Host int         // the sandbox, from 1; 0 is the first
}

// A TerminalTab is a terminal that is open from the start.
type TerminalTab struct {
	Name    string // of the terminal, such as "1" or "1@2": see ValidTerminal
	Title   string // on its tab, or ""
	Command string // typed when it opens, or ""
}

// A Tab shows a page beside the terminals: a preview of a port, or an address.
type Tab struct {
	Title string
	Port  int    // 0: URL
	Host  int    // the sandbox whose port it is, from 1; 0 is the first
	Path  string // of the preview, begins with "/" or is ""
	URL   string // https address that is opened in a window of its own
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
	Arrival  Arrival
}

// A Command is something a click types into a terminal.
type Command struct {
	ID        string // "step/n", unique in the lesson
	Code      string // exact bytes, without a final newline
	Terminal  string // "1" unless the lesson says otherwise: see ValidTerminal
	Interrupt bool   // send Ctrl-C first
	Once      bool   // offer it once only
	Keys      bool   // Code is keys in caret notation, such as ^C, sent without Enter
	NoEnter   bool   // Code is typed without Enter
}

// A FileBlock is a file that a click writes.
type FileBlock struct {
	ID     string // "step/file-n"
	Path   string // "~/…" or absolute
	Text   string
	Mode   FileMode
	Marker string // of FileInsert: the first line that holds it is replaced by Text
	Host   int    // the sandbox, from 1; 0 is the first
}

// A FileMode says how a FileBlock gets into a file that is there already.
type FileMode string

const (
	FileReplace FileMode = "" // the whole file becomes Text
	FileAppend  FileMode = "append"
	FilePrepend FileMode = "prepend"
	FileInsert  FileMode = "insert"
)

// A Solution shows how a step is done; Commands are what berth test types.
type Solution struct {
	HTML     string
	Commands []Command
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

// MaxTexts bounds what the lessons of one folder may hold together, in bytes of
// Lesson.Size: few files of a stranger's can be the text of very many lessons.
const MaxTexts = 256 << 20

// Size counts the bytes of what the lesson shows, types and runs.
func (l *Lesson) Size() int {
	n := len(l.Intro.HTML) + len(l.Finish.HTML) + l.Intro.Arrival.size() + l.Finish.Arrival.size()
	for i := range l.Steps {
		st := &l.Steps[i]
		n += len(st.HTML) + len(st.Solution.HTML) + st.Arrival.size() + sizeOf(st.Commands) + sizeOf(st.Solution.Commands)
		for _, h := range st.Hints {
			n += len(h)
		}
		for _, f := range st.Files {
			n += len(f.Text)
		}
		for _, c := range st.Checks {
			n += len(c.Script)
		}
	}
	return n
}

func (a *Arrival) size() int {
	n := sizeOf(a.Type)
	for _, st := range a.Setup {
		n += len(st.Code)
	}
	return n
}

func sizeOf(commands []Command) int {
	n := 0
	for _, c := range commands {
		n += len(c.Code)
	}
	return n
}

// TooManyTexts is the mistake of the lesson that would exceed MaxTexts.
func TooManyTexts(l *Lesson) Mistake {
	return Mistake{File: l.Source, What: "with this lab the folder has more text than can be held; it and those after it are left out", Hint: "divide the folder"}
}

// A Mistake is something wrong in a lesson's source, told to its author.
type Mistake struct {
	File string `json:"file"`           // relative to the folder that was loaded
	Line int    `json:"line,omitempty"` // from 1; 0 when it concerns the whole file
	What string `json:"what"`           // what is wrong, one sentence without a final dot
	Hint string `json:"hint,omitempty"` // what to do about it, or ""
	Warn bool   `json:"warn,omitempty"` // the lesson still works
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
