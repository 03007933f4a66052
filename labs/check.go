package labs

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Check says what must be true of a sandbox for its step to be done. It is
// data: exactly one of the subjects (Image … Script) is set, and labs/verify
// knows how to look at each.
type Check struct {
	ID       string // "step/n", unique in the lesson
	Name     string // what the learner reads: "redis is in your engine"
	Hint     string // where to look, never the command; plain text
	Optional bool   // shown, but the step is done without it
	Not      bool   // inverted; passes only after the opposite was seen to be true

	Image     *ImageCheck
	Container *ContainerCheck
	Volume    string // a volume of this name exists
	Network   string // a network of this name exists
	File      *FileCheck
	Layer     *LayerCheck
	Ran       *RanCheck
	Port      *PortCheck
	Script    string // bash inside the sandbox, as root, exit 0; the last resort
	Prints    string // with Script: it must also print this as a line of its own
	Quiz      *Quiz  // the learner's answer; no sandbox is looked at
}

// An ImageCheck is about an image in the learner's engine. Empty fields are
// not looked at.
type ImageCheck struct {
	Ref        string // reference, tag defaults to latest
	Layers     Number
	Size       Number   // bytes
	Entrypoint []string // whole, in order
	Cmd        []string
	Env        []string // each "KEY=VALUE" or "KEY" must be there
	Label      []string // likewise
	Path       string   // a file in the image, read without running anything
	Text       TextRule // of the file at Path; with no rule the file must exist
}

// A ContainerCheck is about a container in the learner's engine: by Name, or
// the newest that fits Image and Command. Containers that have been removed
// count when the verifier saw them run.
type ContainerCheck struct {
	Name      string
	Image     string // matches by reference or by the image id it resolves to now
	Command   string // regular expression on the arguments joined by single spaces
	State     string // "created", "running", "exited", …
	Exit      Number
	Logs      TextRule // stdout and stderr, the first 64 KiB
	Health    string
	Publishes []string // "8080:80" or "80"
	Mounts    []string // destination paths
	Memory    Number   // limit in bytes
}

// A FileCheck is about files in the sandbox. It passes when one file that Path
// matches satisfies everything.
type FileCheck struct {
	Path    string // absolute or "~/…"; may hold *, ? and ** (any depth)
	Text    TextRule
	Mode    string // octal "0755", or "+x"
	Dir     *bool  // it must be a directory (true) or a regular file (false)
	TarHas  []string
	Archive string // it is what `docker save` writes for this reference
}

// A LayerCheck passes when a layer of a saved and unpacked image was itself
// unpacked: under Under there is a manifest.json that names Ref, one of the
// layers it lists can be read, and the regular files of that layer stand in
// some folder under Under.
type LayerCheck struct {
	Ref   string
	Under string // "~" by default
}

// A RanCheck is about a command that finished in one of the learner's shells.
type RanCheck struct {
	Pattern *regexp.Regexp // of the command line as typed
	Exit    Number         // default: 0
}

// A PortCheck is about a TCP port that something in the sandbox listens on.
type PortCheck struct {
	Port   int
	Var    string // mark of the value that the port is, until Lesson.For has put it into Port
	Path   string // HTTP path, "/" by default when Status or Body is set
	Status Number
	Body   TextRule
}

// A TextRule is a condition on text. The zero rule accepts everything. One
// final newline is not compared by Equals.
type TextRule struct {
	Equals   *string
	Contains string
	Matches  *regexp.Regexp
	Exists   *bool // false: it must not be there
}

// IsZero reports whether the rule asks for nothing.
func (r TextRule) IsZero() bool {
	return r.Equals == nil && r.Contains == "" && r.Matches == nil && r.Exists == nil
}

// Test reports whether text, which is there, satisfies the rule.
func (r TextRule) Test(text string) bool {
	if r.Exists != nil && !*r.Exists {
		return false
	}
	if r.Equals != nil && strings.TrimSuffix(text, "\n") != strings.TrimSuffix(*r.Equals, "\n") {
		return false
	}
	if !strings.Contains(text, r.Contains) {
		return false
	}
	return r.Matches == nil || r.Matches.MatchString(text)
}

// String says in words what the rule asks for.
func (r TextRule) String() string {
	var parts []string
	if r.Equals != nil {
		parts = append(parts, strconv.Quote(strings.TrimSuffix(*r.Equals, "\n")))
	}
	if r.Contains != "" {
		parts = append(parts, "contains "+strconv.Quote(r.Contains))
	}
	if r.Matches != nil {
		parts = append(parts, "matches /"+r.Matches.String()+"/")
	}
	if r.Exists != nil && !*r.Exists {
		parts = append(parts, "is not there")
	}
	return strings.Join(parts, " and ")
}

// A Number is a condition on a number: "=0", ">3", "<100". The zero Number
// accepts everything.
type Number struct {
	Op    byte // '=', '<', '>' or 0
	Value int64
}

// ParseNumber reads "5", "=5", "> 5" or "<5". Sizes may end in k, M or G
// (powers of 1,000) or Ki, Mi, Gi.
func ParseNumber(s string) (Number, error) {
	t := strings.TrimSpace(s)
	n := Number{Op: '='}
	if t != "" && strings.IndexByte("=<>", t[0]) >= 0 {
		n.Op, t = t[0], strings.TrimSpace(t[1:])
	}
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		size   int64
	}{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}} {
		if rest, ok := strings.CutSuffix(t, u.suffix); ok {
			t, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	v, err := strconv.ParseInt(t, 10, 64)
	if err != nil || (v != 0 && (v*unit)/unit != v) {
		return Number{}, fmt.Errorf("%q is no number such as 0, >3 or <20M: %w", s, ErrInvalid)
	}
	n.Value = v * unit
	return n, nil
}

// IsZero reports whether the number asks for nothing.
func (n Number) IsZero() bool { return n.Op == 0 }

// Test reports whether v satisfies the condition.
func (n Number) Test(v int64) bool {
	switch n.Op {
	case '=':
		return v == n.Value
	case '<':
		return v < n.Value
	case '>':
		return v > n.Value
	}
	return true
}

// String says the condition in words.
func (n Number) String() string {
	switch n.Op {
	case '<':
		return "less than " + strconv.FormatInt(n.Value, 10)
	case '>':
		return "more than " + strconv.FormatInt(n.Value, 10)
	case '=':
		return strconv.FormatInt(n.Value, 10)
	}
	return "anything"
}

// Status is what an evaluation of a check found.
type Status string

const (
	Passed  Status = "passed"
	Failed  Status = "failed"  // it was looked at and does not hold (yet)
	Unknown Status = "unknown" // it could not be looked at; Reason says why
)

// A Result is one evaluation of one check. That a check does not hold is a
// Result, not an error.
type Result struct {
	Check    string    `json:"check"` // Check.ID
	Status   Status    `json:"status"`
	Expected string    `json:"expected,omitempty"` // in words
	Seen     string    `json:"seen,omitempty"`     // in words, at most 500 bytes
	Reason   string    `json:"reason,omitempty"`   // why Unknown, one sentence
	At       time.Time `json:"at"`
}
