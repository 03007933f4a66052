package rehearsal

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"sync"
	"time"

	"berth/labs"
)

// A terminal is a viewer that draws nothing: it notes what is printed and when
// a program asks for a line. Methods but close may be called concurrently.
type terminal struct {
	name   string
	inside string // as its sandbox calls it
	att    labs.Attachment
	done   chan struct{} // closed when nothing is read any more
	busy   *running      // what was left running in it, of the goroutine that types

	writing sync.Mutex

	mu    sync.Mutex
	now   progress
	tail  []byte // of what is printed, for signs that come in two pieces
	out   []byte // what was printed since clear, the last of it
	heard chan struct{}
}

// A running command was left in the foreground.
type running struct {
	code  string
	began time.Time
	was   progress
}

// A progress is how far a terminal has come.
type progress struct {
	at    time.Time // when this was asked
	asked int       // how often a program said that it reads a line now
	reads bool      // one does
	last  time.Time // when something was printed last
	gone  bool      // the terminal is
}

// What readline prints when it begins and ends to read a line, where brackets
// around what is pasted are on.
var (
	readsLine = []byte("\x1b[?2004h")
	tookLine  = []byte("\x1b[?2004l")
)

func attach(ctx context.Context, sb labs.Sandbox, name string) (*terminal, error) {
	att, err := sb.Attach(ctx, name, labs.Viewer{From: -1, Size: labs.Size{Rows: 40, Cols: 120}})
	if err != nil {
		return nil, err
	}
	inside, _ := labs.SplitTerminal(name)
	t := &terminal{name: name, inside: inside, att: att, done: make(chan struct{}), heard: make(chan struct{})}
	t.now.last = time.Now()
	go t.read()
	return t, nil
}

// close leaves the terminal; its shell goes on.
func (t *terminal) close() {
	t.att.Close()
	<-t.done
}

func (t *terminal) read() {
	defer close(t.done)
	for {
		f, err := t.att.ReadFrame()
		if err != nil {
			t.change(func() { t.now.gone = true })
			return
		}
		if f.Kind != labs.FrameOutput {
			continue
		}
		at, b, err := f.Output()
		if err != nil {
			continue
		}
		t.change(func() { t.take(b) })
		t.writing.Lock()
		err = t.att.WriteFrame(labs.AckFrame(at + int64(len(b))))
		t.writing.Unlock()
		if err != nil {
			t.change(func() { t.now.gone = true })
			return
		}
	}
}

func (t *terminal) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	close(t.heard)
	t.heard = make(chan struct{})
}

// take notes what was printed. mu is held.
func (t *terminal) take(b []byte) {
	t.now.last = time.Now()
	t.out = append(t.out, b...)
	if over := len(t.out) - 4*maxOutput; over > 4*maxOutput {
		t.out = append(t.out[:0], t.out[over:]...)
	}
	text := append(t.tail, b...)
	for {
		on, off := bytes.Index(text, readsLine), bytes.Index(text, tookLine)
		if on < 0 && off < 0 {
			break
		}
		if on >= 0 && (off < 0 || on < off) {
			t.now.asked++
			t.now.reads = true
			text = text[on+len(readsLine):]
		} else {
			t.now.reads = false
			text = text[off+len(tookLine):]
		}
	}
	t.tail = append([]byte(nil), text[max(0, len(text)-len(readsLine)+1):]...)
}

func (t *terminal) progress() progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now
	now.at = time.Now()
	return now
}

// until waits until the terminal has come so far, or gives false when ctx ends
// or the terminal is gone.
func (t *terminal) until(ctx context.Context, far func(progress) bool) bool {
	for {
		t.mu.Lock()
		now, heard := t.now, t.heard
		t.mu.Unlock()
		switch {
		case far(now):
			return true
		case now.gone:
			return false
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return far(t.progress())
		}
	}
}

// quiet waits until nothing has been printed for a while, at most so long.
func (t *terminal) quiet(ctx context.Context, calm, most time.Duration) {
	began := time.Now()
	for time.Since(began) < most {
		since := began
		if last := t.progress().last; last.After(since) {
			since = last
		}
		left := calm - time.Since(since)
		if left <= 0 || !pause(ctx, left) {
			return
		}
	}
}

// clear forgets what was printed so far.
func (t *terminal) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out = t.out[:0]
}

// enter types a command as a click does: several lines go in as one paste where
// the shell allows it.
func (t *terminal) enter(c *labs.Command) error {
	if c.Keys || c.NoEnter {
		plain := *c
		plain.Interrupt = false // that was done before
		return t.keys(plain.Typed())
	}
	text := strings.ReplaceAll(strings.ReplaceAll(c.Code, "\r\n", "\r"), "\n", "\r")
	if strings.Contains(text, "\r") && t.progress().reads {
		text = "\x1b[200~" + text + "\x1b[201~"
	}
	return t.keys([]byte(text + "\r"))
}

// keys types bytes.
func (t *terminal) keys(b []byte) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	for len(b) > 0 {
		n := min(len(b), labs.MaxInput)
		if err := t.att.WriteFrame(labs.Frame{Kind: labs.FrameInput, Payload: b[:n]}); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

var (
	// ansi is what moves the cursor and colours text.
	ansi = regexp.MustCompile("\x1b(\\[[0-9;:?<=>]*[ -/]*[@-~]|\\][^\a\x1b]*(\a|\x1b\\\\)?|[PX^_][^\x1b]*(\x1b\\\\)?|[ -/]*[0-~])")
	// promptEnd is how the prompts of programs that read lines end.
	promptEnd = regexp.MustCompile(`[#$>%:?] ?$`)
)

// plainText takes out of terminal output what is not text.
func plainText(b []byte) string {
	s := ansi.ReplaceAllString(strings.ToValidUTF8(string(b), "\uFFFD"), "")
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || c >= ' ' && c != 0x7f && (c < 0x80 || c >= 0xa0) {
			return c
		}
		return -1
	}, s)
}

// prompt reports whether the last line looks as if a program waits for input.
func (t *terminal) prompt() bool {
	t.mu.Lock()
	end := plainText(t.out[max(0, len(t.out)-512):])
	t.mu.Unlock()
	line := end[strings.LastIndexByte(end, '\n')+1:]
	return len(line) < 120 && promptEnd.MatchString(line)
}

// output gives the last of what was printed since clear, as text, without the
// line that was typed and the prompt behind it.
func (t *terminal) output() string {
	t.mu.Lock()
	b := t.out
	if i := bytes.Index(b, tookLine); i >= 0 {
		b = b[i:]
	}
	if i := bytes.LastIndex(b, readsLine); i >= 0 {
		b = b[:i]
	}
	text := plainText(b)
	t.mu.Unlock()
	if len(text) <= maxOutput {
		return strings.TrimSpace(text)
	}
	text = strings.ToValidUTF8(text[len(text)-maxOutput:], "")
	if _, rest, ok := strings.Cut(text, "\n"); ok {
		text = rest
	}
	return "…\n" + strings.TrimSpace(text)
}
