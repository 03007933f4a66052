package rehearsal

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/labs"
)

// A wire is an attachment whose other end is the test.
type wire struct {
	frames chan labs.Frame // to the terminal
	once   sync.Once
	closed chan struct{}

	mu    sync.Mutex
	typed []byte
	acked int64
}

func (w *wire) ReadFrame() (labs.Frame, error) {
	select {
	case f := <-w.frames:
		return f, nil
	case <-w.closed:
		return labs.Frame{}, io.EOF
	}
}

func (w *wire) WriteFrame(f labs.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch f.Kind {
	case labs.FrameInput:
		if len(f.Payload) > labs.MaxInput {
			return errors.New("too much at once")
		}
		w.typed = append(w.typed, f.Payload...)
	case labs.FrameAck:
		at, err := f.Ack()
		w.acked = at
		return err
	}
	return nil
}

func (w *wire) Close() error { w.once.Do(func() { close(w.closed) }); return nil }

func (w *wire) taken() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.typed)
}

// wired gives a terminal and its other end.
func wired(t *testing.T) (*terminal, *wire) {
	w := &wire{frames: make(chan labs.Frame), closed: make(chan struct{})}
	term := &terminal{name: "1", inside: "1", att: w, done: make(chan struct{}), heard: make(chan struct{})}
	go term.read()
	t.Cleanup(term.close)
	return term, w
}

func TestTerminalNotesWhenALineIsRead(t *testing.T) {
	for name, pieces := range map[string][]string{
		"whole":      {"\x1b[?2004h$ ", "\x1b[?2004lout\r\n", "\x1b[?2004h$ "},
		"in pieces":  {"\x1b[?20", "04h$ \x1b", "[?2004", "lout\r\n\x1b[?2004h", "$ "},
		"all at one": {"\x1b[?2004h$ \x1b[?2004lout\r\n\x1b[?2004h$ "},
	} {
		t.Run(name, func(t *testing.T) {
			term, w := wired(t)
			at := int64(0)
			for _, p := range pieces {
				w.frames <- labs.OutputFrame(at, []byte(p))
				at += int64(len(p))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if !term.until(ctx, func(p progress) bool { return p.reads && p.asked == 2 }) {
				t.Fatalf("it came only so far: %+v", term.progress())
			}
			w.Close()
			if !term.until(ctx, func(p progress) bool { return p.gone }) {
				t.Error("it does not see that it is gone")
			}
			if got := term.output(); got != "out" {
				t.Errorf("output %q", got)
			}
			if w.acked != at {
				t.Errorf("acknowledged %d of %d bytes", w.acked, at)
			}
		})
	}
}

func TestTerminalTypesAsAClickDoes(t *testing.T) {
	long := strings.Repeat("x", labs.MaxInput+10)
	for _, c := range []struct {
		command labs.Command
		reads   bool
		want    string
	}{
		{labs.Command{Code: "ls"}, true, "ls\r"},
		{labs.Command{Code: "cat <<E\na\nE"}, true, "\x1b[200~cat <<E\ra\rE\x1b[201~\r"},
		{labs.Command{Code: "a\r\nb"}, false, "a\rb\r"},
		{labs.Command{Code: "y", NoEnter: true}, true, "y"},
		{labs.Command{Code: "^C", Keys: true}, true, "\x03"},
		{labs.Command{Code: "^C", Keys: true, Interrupt: true}, true, "\x03"},
		{labs.Command{Code: long}, true, long + "\r"},
	} {
		term, w := wired(t)
		term.change(func() { term.now.reads = c.reads })
		if err := term.enter(&c.command); err != nil {
			t.Error(err)
		}
		if got := w.taken(); got != c.want {
			t.Errorf("%.40q was typed as %.60q, want %.60q", c.command.Code, got, c.want)
		}
	}
}

func TestPrompt(t *testing.T) {
	for out, want := range map[string]bool{
		"/ # ":                         true,
		"\r\n\x1b[1m>>> \x1b[0m":       true,
		"127.0.0.1:6379> ":             true,
		"mysql> ":                      true,
		"Password: ":                   true,
		"working\r\n":                  false,
		"Serving HTTP on 0.0.0.0 ":     false,
		strings.Repeat("=", 150) + ">": false,
		"":                             false,
	} {
		term := &terminal{out: []byte(out)}
		if got := term.prompt(); got != want {
			t.Errorf("%q is a prompt: %v, want %v", out, got, want)
		}
	}
}

func TestFloodOfOutputIsBounded(t *testing.T) {
	term := &terminal{heard: make(chan struct{})}
	for range 10_000 {
		term.change(func() { term.take([]byte(strings.Repeat("line\r\n", 200))) })
	}
	if len(term.out) > 64<<10 || cap(term.out) > 128<<10 {
		t.Errorf("%d bytes are kept, in %d", len(term.out), cap(term.out))
	}
	if out := term.output(); len(out) > maxOutput+10 || !strings.HasPrefix(out, "…\nline\n") {
		t.Errorf("%d bytes of output: %.20q", len(out), out)
	}
}

func TestOutputHoldsNothingThatDisturbsATerminal(t *testing.T) {
	term := &terminal{out: []byte("a\x1b[31mred\x1b[0m\x1b]0;title\ab\x00\x07\x9b31m\xff\x1b[2J\x1b(Bc")}
	for _, c := range term.output() {
		if c < ' ' && c != '\n' || c >= 0x7f && c < 0xa0 {
			t.Errorf("output %q holds %U", term.output(), c)
		}
	}
	if got := term.output(); !strings.HasPrefix(got, "aredb") {
		t.Errorf("output %q", got)
	}
}

func TestExitOfSeveralCommands(t *testing.T) {
	h := newHistory()
	h.add("1", 7)
	m := h.mark("1")
	if e := h.exit(t.Context(), m); e != nil {
		t.Errorf("exit %d, and nothing has ended", *e)
	}
	h.add("2", 9)
	for _, status := range []int{0, 3, 4} {
		h.add("1", status)
	}
	if e := h.exit(t.Context(), m); e == nil || *e != 3 {
		t.Errorf("exit %v, want the first that is not 0", e)
	}
}
