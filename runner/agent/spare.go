package agent

import (
	"strings"

	"berth/labs"
)

// A shell takes a while to read what it begins with. So the first terminal can
// be made ahead of need: a spare, which nobody sees until somebody opens a
// terminal of its name. It is given away only while its shell is the very one
// that would be started then: whatever might make a difference to that ends it.

// spareName is the terminal that lessons begin with.
const spareName = "1"

// maxSpare is how many bytes a spare may have printed. A prompt is short.
const maxSpare = 4 << 10

// prepare makes the spare, unless there is a terminal already.
func (ts *terminals) prepare() error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed || ts.spare != nil || len(ts.made) > 0 {
		return nil
	}
	t, err := ts.begin(spareName, defaultSize)
	if err != nil {
		return err
	}
	ts.spare = t
	return nil
}

// spoil ends the spare.
func (ts *terminals) spoil() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.spare != nil {
		ts.spare.close()
		ts.spare = nil
	}
}

// takeSpare gives the spare when it can be the terminal of that name, and ends
// it otherwise. The caller holds mu.
func (ts *terminals) takeSpare(name string, size labs.Size, greeting []byte) *terminal {
	t := ts.spare
	ts.spare = nil
	if t == nil {
		return nil
	}
	if name != spareName || !t.handOver(size, greeting) {
		t.close()
		return nil
	}
	return t
}

// handOver makes a spare a terminal that begins with the greeting, and tells
// whether that can be.
func (t *terminal) handOver(size labs.Size, greeting []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.shell == nil || t.exited > 0 || t.ring.end > maxSpare {
		return false
	}
	if len(greeting) > 0 {
		printed := make([]byte, t.ring.end)
		t.ring.read(printed, 0, t.ring.end)
		t.ring = ring{}
		t.ring.write(greeting)
		t.ring.write(printed)
	}
	if size != t.size {
		t.size = size
		t.shell.resize(size)
	}
	return true
}

// readAtStart reports whether a shell that starts may read this file, given by
// its clean, absolute path. What it says to be harmless is in the home without
// being hidden there.
func (c Config) readAtStart(name string) bool {
	below, ok := strings.CutPrefix(name, strings.TrimSuffix(c.Home, "/")+"/")
	return !ok || strings.HasPrefix(below, ".")
}
