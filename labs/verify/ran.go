package verify

import (
	"slices"
	"strconv"
	"sync"

	"berth/labs"
)

// maxHistory is how many commands are kept until they have been looked at.
// More can end between two looks at a check only when a learner floods them.
const maxHistory = 512

// exitWanted gives the exit status that a check asks for: 0 if it says nothing.
func exitWanted(c *labs.RanCheck) labs.Number {
	if c.Exit.IsZero() {
		return labs.Number{Op: '='}
	}
	return c.Exit
}

func expectRan(c *labs.RanCheck) string {
	s := "a command"
	if c.Pattern != nil {
		s += like(c.Pattern.String())
	}
	if n := exitWanted(c); n.Op != '=' || n.Value != 0 {
		return s + " ended with exit status " + n.String()
	}
	return s + " ended without an error"
}

// A history is the commands that ended in the learner's shells.
type history struct {
	mu   sync.Mutex
	cmds []labs.ShellCommand // the last ones, in order
	last int64               // greatest Seq
}

func (h *history) add(c labs.ShellCommand) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.Seq <= h.last {
		return
	}
	h.last = c.Seq
	if len(h.cmds) == maxHistory {
		h.cmds = slices.Delete(h.cmds, 0, maxHistory/4)
	}
	h.cmds = append(h.cmds, c)
}

func (h *history) seq() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// since gives the commands with a greater Seq.
func (h *history) since(seq int64) []labs.ShellCommand {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.cmds, func(c labs.ShellCommand) bool { return c.Seq > seq })
	if i < 0 {
		return nil
	}
	return slices.Clone(h.cmds[i:])
}

// A memory is what a check about commands remembers of the history.
type memory struct {
	seq    int64  // looked at up to here
	passed string // a command that did it
	near   string // what the last one that came near did
}

// lookRan looks at the commands that ended since the last look.
func (w *watch) lookRan(c *labs.RanCheck, m *memory) verdict {
	for _, cmd := range w.history.since(m.seq) {
		m.seq = cmd.Seq
		if c.Pattern == nil || !c.Pattern.MatchString(cmd.Text) {
			continue
		}
		if exitWanted(c).Test(int64(cmd.Exit)) {
			m.passed = cmd.Text
		} else {
			m.near = code(cmd.Text) + " ended with exit status " + strconv.Itoa(cmd.Exit)
		}
	}
	switch {
	case m.passed != "":
		return verdict{holds: true, seen: "you ran " + code(m.passed)}
	case m.near != "":
		return verdict{seen: m.near}
	}
	return verdict{seen: "no such command has ended yet"}
}
