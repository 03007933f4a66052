package agent

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"berth/labs"
)

const (
	maxViewers  = 32  // of one terminal
	maxExits    = 16  // ends of shells that a terminal remembers
	maxCommands = 256 // ids that a terminal remembers

	drainSize  = 16 << 10         // bytes of output that are passed on together, at most
	floodSize  = 4095             // bytes of output at a time that look like a flood: a full read
	floodPause = time.Millisecond // how long output of a flood waits for more

	// stuckAfter is how long a viewer whose window is full may hold the shell
	// back without acknowledging anything.
	stuckAfter = 3 * time.Second
)

// defaultSize is that of a terminal that nobody has looked at.
var defaultSize = labs.Size{Rows: 24, Cols: 80}

var terminalName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// terminals are the learner's terminals. Methods may be called concurrently.
type terminals struct {
	cfg     Config
	log     *slog.Logger
	history *history
	reaper  *reaper

	mu     sync.Mutex
	made   []*terminal // in the order they were made
	spare  *terminal   // see prepare; nil when there is none
	closed bool
	shells sync.WaitGroup
}

func newTerminals(cfg Config, h *history, r *reaper) *terminals {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &terminals{cfg: cfg, log: log, history: h, reaper: r}
}

// open gives the named terminal, and makes it when it is not there.
func (ts *terminals) open(name string, size labs.Size) (*terminal, error) {
	if !terminalName.MatchString(name) {
		return nil, fmt.Errorf("terminal %q: a name is 1 to 32 letters, digits, - and _: %w", name[:min(len(name), 64)], labs.ErrInvalid)
	}
	if size.Rows == 0 || size.Cols == 0 {
		size = defaultSize
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return nil, fmt.Errorf("terminal %s: %w", name, labs.ErrGone)
	}
	for _, t := range ts.made {
		if t.name == name {
			return t, t.room()
		}
	}
	limit := ts.cfg.MaxTerminals
	if limit == 0 {
		limit = 8
	}
	if len(ts.made) >= limit {
		return nil, fmt.Errorf("there are %d terminals already: %w", len(ts.made), labs.ErrBusy)
	}
	var greeting []byte
	if len(ts.made) == 0 {
		greeting = ts.cfg.greeting()
	}
	t := ts.takeSpare(name, size, greeting)
	if t == nil {
		var err error
		if t, err = ts.begin(name, size, greeting...); err != nil {
			return nil, err
		}
	}
	ts.made = append(ts.made, t)
	return t, nil
}

// begin starts a terminal with a shell, behind what it is to show first. The
// caller holds mu.
func (ts *terminals) begin(name string, size labs.Size, first ...byte) (*terminal, error) {
	t := &terminal{
		name: name, size: size, log: ts.log.With("terminal", name),
		reading: make(chan struct{}, 1), ending: make(chan struct{}),
	}
	sh, err := startShell(ts.cfg, ts.reaper, name, size)
	if err != nil {
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	t.shell = sh
	t.typing.to(sh)
	t.ring.write(first)
	ts.shells.Go(func() { t.run(ts.cfg, ts.reaper, sh) })
	return t, nil
}

// names lists the terminals in the order they were made.
func (ts *terminals) names() []string {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	names := make([]string, len(ts.made))
	for i, t := range ts.made {
		names[i] = t.name
	}
	return names
}

// close ends all shells and what they started, and waits for them.
func (ts *terminals) close() {
	ts.mu.Lock()
	ts.closed = true
	made := ts.made
	if ts.spare != nil {
		made = append(made[:len(made):len(made)], ts.spare)
	}
	ts.mu.Unlock()
	for _, t := range made {
		t.close()
	}
	ts.shells.Wait()
}

// A terminal is a shell, or one shell after the other, whose output is
// numbered on and on. Three kinds of goroutine meet here: one reads the pty
// into the ring, one for each viewer writes from the ring to its connection,
// one for each viewer reads its frames. They share what mu guards and never
// wait for each other while they hold it.
type terminal struct {
	name string
	log  *slog.Logger

	typing typing

	// reading wakes the pty's reader when it may have room again. It holds one.
	reading chan struct{}

	mu      sync.Mutex
	ring    ring
	size    labs.Size
	resized int // how often
	viewers []*viewer
	exits   []exitMark // ends of shells, the last of them, oldest first
	exited  int        // how many there were
	ids     map[string]bool
	recent  []string // the ids, in a circle
	nextID  int
	shell   *shell // nil between two shells
	closed  bool

	left   int64     // first byte that the last of all viewers had not acknowledged
	leftAt time.Time // when it left; zero when somebody is there or it was long ago

	ending chan struct{} // closed with the terminal
}

// An exitMark says that a shell ended after so many bytes.
type exitMark struct {
	offset int64
	status int
}

// room tells whether one more viewer may come.
func (t *terminal) room() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.roomLocked()
}

func (t *terminal) roomLocked() error {
	if t.closed {
		return fmt.Errorf("terminal %s: %w", t.name, labs.ErrGone)
	}
	if len(t.viewers) >= maxViewers {
		return fmt.Errorf("terminal %s has %d viewers already: %w", t.name, maxViewers, labs.ErrBusy)
	}
	return nil
}

// run keeps a shell in the terminal until it is closed.
func (t *terminal) run(cfg Config, r *reaper, sh *shell) {
	defer t.typing.flushes.Wait()
	backoff := time.Duration(0)
	for {
		began := time.Now()
		if sh != nil {
			t.pump(sh)
			t.typing.to(nil)
			status := sh.end()
			t.mu.Lock()
			t.shell = nil
			t.exited++
			t.exits = append(t.exits, exitMark{t.ring.end, status})
			if over := len(t.exits) - maxExits; over > 0 {
				t.exits = append(t.exits[:0], t.exits[over:]...)
			}
			t.wake()
			t.mu.Unlock()
		}
		// A shell that ends at once would otherwise come back without end.
		switch {
		case sh != nil && time.Since(began) > time.Second:
			backoff = 0
		case backoff == 0:
			backoff = 100 * time.Millisecond
		default:
			backoff = min(2*backoff, 5*time.Second)
		}
		if !t.pause(backoff) {
			return
		}
		t.mu.Lock()
		size := t.size
		t.mu.Unlock()
		next, err := startShell(cfg, r, t.name, size)
		if err != nil {
			t.log.Warn("start a shell again", "err", err)
			if sh != nil || backoff == 5*time.Second {
				t.say(fmt.Sprintf("\r\nA new shell could not be started: %v. It is tried again.\r\n", err))
			}
			sh = nil
			continue
		}
		sh = next
		t.mu.Lock()
		closed := t.closed
		if !closed {
			t.shell = sh
			t.typing.to(sh)
			if t.size != size {
				sh.resize(t.size)
			}
		}
		t.mu.Unlock()
		if closed {
			sh.kill()
			sh.end()
			return
		}
	}
}

// pump reads what the shell prints until there will be no more. What comes
// first is passed on at once, and what follows close on a lot waits for more
// of it: a keystroke's echo never waits, a flood makes few and big frames.
func (t *terminal) pump(sh *shell) {
	var last time.Time // when something was passed on
	var size, held int // how much that was; what has come since
	for {
		room := t.admit()
		if room == 0 {
			return
		}
		var until time.Time
		if held > 0 {
			until = last.Add(floodPause)
		}
		b, err := sh.read(min(room, drainSize-held), until)
		held += len(b)
		now := time.Now()
		pass := held > 0 && (err != nil || len(b) == 0 || held >= drainSize || held >= room || size < floodSize || now.Sub(last) >= floodPause)
		t.print(b, pass)
		if pass {
			last, size, held = now, held, 0
		}
		sh.release()
		if err != nil {
			return
		}
	}
}

// print takes output into the ring. Unless more is about to follow it wakes
// the viewers.
func (t *terminal) print(b []byte, pass bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring.write(b)
	if pass {
		t.wake()
	}
}

// admit waits until the shell may print and gives how many bytes. 0 means
// that the terminal ends.
//
// The shell may print as far as the viewer who is furthest ahead has room. One
// that has long not acknowledged anything holds nobody back, and where nobody
// looks the shell is free once it has been waited a little for the viewer who
// left last.
func (t *terminal) admit() int {
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return 0
		}
		room, wait := t.roomToPrint(time.Now)
		t.mu.Unlock()
		if room > 0 {
			return room
		}
		timer := time.NewTimer(wait)
		select {
		case <-t.reading:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// roomToPrint gives how many bytes the shell may print now or, when that is 0,
// how long the viewers may still hold it back. The caller holds mu.
func (t *terminal) roomToPrint(now func() time.Time) (room int, wait time.Duration) {
	held := false
	for _, v := range t.viewers {
		if v.stuck {
			continue
		}
		if n := v.limit() - t.ring.end; n > 0 {
			v.full = time.Time{}
			room = max(room, int(n))
		}
		held = true
	}
	if room > 0 {
		return room, 0
	}
	if len(t.viewers) == 0 && !t.leftAt.IsZero() {
		// Whoever left may be back at once and want what it missed.
		if wait := stuckAfter - now().Sub(t.leftAt); wait > 0 {
			return int(max(0, t.left+labs.RingSize-t.ring.end)), wait
		}
		t.leftAt = time.Time{}
	}
	if !held {
		return drainSize, 0
	}
	at := now()
	held = false
	for _, v := range t.viewers {
		if v.stuck {
			continue
		}
		if v.full.IsZero() {
			v.full = at
			v.wake() // it may not know of the last bytes yet
		}
		patience := stuckAfter
		if v.typing {
			patience = typingStuckAfter
		}
		left := patience - at.Sub(v.full)
		if left <= 0 {
			v.stuck = true
			continue
		}
		held = true
		wait = max(wait, left)
	}
	if !held {
		return drainSize, 0
	}
	return 0, wait
}

// pause waits and tells whether the terminal goes on.
func (t *terminal) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ending:
	}
	select {
	case <-t.ending:
		return false
	default:
		return true
	}
}

// say prints the agent's own words on the terminal.
func (t *terminal) say(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring.write([]byte(strings.ToValidUTF8(text, "?")))
	t.wake()
}

// wake tells all viewers to look. The caller holds mu.
func (t *terminal) wake() {
	for _, v := range t.viewers {
		v.wake()
	}
}

// close ends the terminal, its shell and what that started.
func (t *terminal) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	close(t.ending)
	if t.shell != nil {
		t.shell.kill()
	}
	for _, v := range t.viewers {
		v.conn.Close()
	}
	t.poke()
}

// poke lets the pty's reader look again whether there is room.
func (t *terminal) poke() {
	select {
	case t.reading <- struct{}{}:
	default:
	}
}

// resize makes the terminal that big and tells all viewers.
func (t *terminal) resize(s labs.Size) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s == t.size {
		return
	}
	t.size = s
	t.resized++
	if t.shell != nil {
		t.shell.resize(s)
	}
	t.wake()
}

// first tells whether a command with that id comes for the first time, as far
// as the terminal remembers.
func (t *terminal) first(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids[id] {
		return false
	}
	if t.ids == nil {
		t.ids = make(map[string]bool)
	}
	t.ids[id] = true
	if len(t.recent) < maxCommands {
		t.recent = append(t.recent, id)
		return true
	}
	delete(t.ids, t.recent[t.nextID])
	t.recent[t.nextID] = id
	t.nextID = (t.nextID + 1) % maxCommands
	return true
}
