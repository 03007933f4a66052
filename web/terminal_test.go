package web_test

import (
	"bytes"
	"io"
	"sync"

	"berth/labs"
)

// A terminal is a small one that speaks the terminal protocol: it numbers its
// output, keeps the last labs.RingSize bytes, and sends a viewer no more than
// labs.WindowMin bytes that the viewer has not acknowledged. What is typed is
// printed; the letter F starts a flood of output, Ctrl-C ends it.
type terminal struct {
	mu      sync.Mutex
	changed *sync.Cond
	gone    bool
	kept    []byte
	end     int64 // offset after the last byte of kept
	size    labs.Size
	resized int // how often
	flood   bool
	inputs  int    // frames of input that arrived
	typed   []byte // the first 1 MiB of what was typed
	seen    map[string]bool
	viewers map[*attachment]struct{}
	printer sync.WaitGroup
}

func newTerminal(size labs.Size) *terminal {
	if size.Rows == 0 {
		size = labs.Size{Rows: 24, Cols: 80}
	}
	t := &terminal{size: size, seen: make(map[string]bool), viewers: make(map[*attachment]struct{})}
	t.changed = sync.NewCond(&t.mu)
	t.printer.Go(t.print)
	return t
}

// print prints lines while there is a flood and a viewer that takes them.
func (t *terminal) print() {
	line := bytes.Repeat([]byte("0123456789abcdef0123456789abcde\n"), 512) // 16 KiB
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.gone {
		if !t.flood || !t.wanted() {
			t.changed.Wait()
			continue
		}
		t.write(line)
	}
}

// wanted reports whether some viewer has room for more. The caller holds mu.
func (t *terminal) wanted() bool {
	for a := range t.viewers {
		if t.end-a.acked < labs.WindowMin {
			return true
		}
	}
	return false
}

// write prints. The caller holds mu.
func (t *terminal) write(b []byte) {
	t.kept = append(t.kept, b...)
	t.end += int64(len(b))
	if over := len(t.kept) - labs.RingSize; over > 64<<10 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	t.changed.Broadcast()
}

func (t *terminal) attach(from int64) *attachment {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &attachment{t: t, size: t.size}
	if first := t.end - int64(len(t.kept)); from < first || from > t.end {
		from = first
	}
	a.next, a.acked = from, from
	t.viewers[a] = struct{}{}
	t.changed.Broadcast()
	return a
}

func (t *terminal) close() {
	t.mu.Lock()
	t.gone = true
	t.changed.Broadcast()
	t.mu.Unlock()
	t.printer.Wait()
}

// state gives what arrived so far.
func (t *terminal) state() (inputs int, typed string, size labs.Size, resized int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inputs, string(t.typed), t.size, t.resized
}

// watched is the number of viewers.
func (t *terminal) watched() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.viewers)
}

// An attachment is one viewer's end.
type attachment struct {
	t       *terminal
	started bool
	closed  bool
	next    int64
	acked   int64
	size    labs.Size
	buf     [8 + 16<<10]byte
}

func (a *attachment) ReadFrame() (labs.Frame, error) {
	t := a.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if !a.started {
		a.started = true
		return labs.StartFrame(a.next, t.size), nil
	}
	for {
		switch room := a.acked + labs.WindowMin - a.next; {
		case a.closed || t.gone:
			return labs.Frame{}, io.EOF
		case a.size != t.size:
			a.size = t.size
			return labs.ResizeFrame(t.size), nil
		case a.next < t.end && room > 0:
			first := t.end - int64(len(t.kept))
			a.next = max(a.next, first)
			f := labs.Frame{Kind: labs.FrameOutput, Payload: a.buf[:8]}
			copy(f.Payload, labs.AckFrame(a.next).Payload)
			n := copy(a.buf[8:8+min(room, 16<<10)], t.kept[a.next-first:])
			f.Payload = a.buf[:8+n]
			a.next += int64(n)
			return f, nil
		}
		t.changed.Wait()
	}
}

func (a *attachment) WriteFrame(f labs.Frame) error {
	t := a.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.closed || t.gone {
		return io.ErrClosedPipe
	}
	switch f.Kind {
	case labs.FrameAck:
		off, err := f.Ack()
		if err != nil {
			return err
		}
		a.acked = max(a.acked, min(off, a.next))
		t.changed.Broadcast()
	case labs.FrameResize:
		size, err := f.Resize()
		if err != nil {
			return err
		}
		t.size = size
		t.resized++
		t.changed.Broadcast()
	case labs.FrameCommand:
		id, b, err := f.Command()
		if err != nil {
			return err
		}
		if !t.seen[id] {
			t.seen[id] = true
			t.input(b)
		}
	case labs.FrameInput:
		t.input(f.Payload)
	default:
		t.inputs += 1 << 20 // nothing else may arrive; a test that counts sees it
	}
	return nil
}

// input is typing. The caller holds mu.
func (t *terminal) input(b []byte) {
	t.inputs++
	if len(t.typed) < 1<<20 {
		t.typed = append(t.typed, b...)
	}
	if len(b) == 1 && b[0] == 'F' {
		t.flood = true
		t.changed.Broadcast()
		return
	}
	if bytes.IndexByte(b, 3) >= 0 {
		t.flood = false
	}
	t.write(b)
}

func (a *attachment) Close() error {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.closed = true
	delete(a.t.viewers, a)
	a.t.changed.Broadcast()
	return nil
}
