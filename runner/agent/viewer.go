package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"berth/labs"
)

const (
	chunkSize = 28 << 10 // bytes of output in one frame, at most

	// typingStuckAfter is stuckAfter for a viewer whose own input waits for
	// the shell: its acknowledgements may be behind that input.
	typingStuckAfter = 100 * time.Millisecond

	rateInterval = 20 * time.Millisecond // at least, to measure a rate over
	rttMemory    = 10 * time.Second      // how long the smallest round trip counts, and up to twice that
)

// chunks are the buffers between ring and connection, so that a viewer who
// waits has none.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// A viewer is an offset into a terminal's output, and what may be on the way
// to it. Its fields are the terminal's to guard, but for conn and woken.
type viewer struct {
	conn  *FrameConn
	woken chan struct{} // holds one

	begun   bool  // FrameStart was sent
	sent    int64 // first byte not sent yet
	acked   int64 // first byte not acknowledged yet
	resized int   // of the terminal, as far as the viewer was told
	exits   int   // how many ends of shells it was told or need not be

	full   time.Time // since when it holds the shell back
	stuck  bool      // and it did so for too long
	typing bool      // its input waits for the shell

	window    int64
	rate      [2]float64 // acknowledged bytes a second, in the last two intervals
	rateSince time.Time
	rateBytes int64
	rtt       [2]time.Duration // smallest of the current and of the last rttMemory; 0 unknown
	rttSince  time.Time
	probe     int64 // when this offset is acknowledged a round trip is over; 0: none is measured
	probed    time.Time
}

// limit is the offset up to which output may be on the way.
func (v *viewer) limit() int64 { return v.acked + v.window }

func (v *viewer) wake() {
	select {
	case v.woken <- struct{}{}:
	default:
	}
}

// serve serves a viewer over conn until it leaves, the terminal is closed or
// ctx ends. It closes conn.
func (t *terminal) serve(ctx context.Context, want labs.Viewer, conn *FrameConn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	v := &viewer{conn: conn, woken: make(chan struct{}, 1), window: labs.WindowMin}
	if err := t.join(v, want.From); err != nil {
		return err
	}
	defer t.leave(v)
	var writing sync.WaitGroup
	defer writing.Wait()
	left := make(chan struct{})
	defer close(left)
	defer conn.Close()
	writing.Go(func() {
		defer conn.Close()
		for v.write(t) == nil {
			select {
			case <-v.woken:
			case <-left:
				return
			}
		}
	})
	for {
		f, err := conn.ReadFrame()
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		if err := t.take(v, f); err != nil {
			return err
		}
	}
}

// join lets a viewer begin at the offset it wants, or near it.
func (t *terminal) join(v *viewer, from int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.roomLocked(); err != nil {
		return err
	}
	if from < t.ring.start || from > t.ring.end {
		from = t.ring.safe(t.ring.start)
	}
	v.sent, v.acked = from, from
	v.exits = t.exited
	for i := len(t.exits) - 1; i >= 0 && t.exits[i].offset > from; i-- {
		v.exits--
	}
	v.resized = t.resized
	t.viewers = append(t.viewers, v)
	t.leftAt = time.Time{}
	t.poke()
	return nil
}

func (t *terminal) leave(v *viewer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, o := range t.viewers {
		if o == v {
			t.viewers = append(t.viewers[:i], t.viewers[i+1:]...)
			break
		}
	}
	if len(t.viewers) == 0 && !v.stuck {
		t.left, t.leftAt = v.acked, time.Now()
	}
	t.poke()
}

// take does what a viewer's frame asks for.
func (t *terminal) take(v *viewer, f labs.Frame) error {
	switch f.Kind {
	case labs.FrameInput:
		if len(f.Payload) > labs.MaxInput {
			return fmt.Errorf("input of %d bytes: %w", len(f.Payload), labs.ErrInvalid)
		}
		t.enter(v, f.Payload)
	case labs.FrameCommand:
		id, b, err := f.Command()
		if err != nil {
			return err
		}
		if t.first(id) {
			t.enter(v, b)
		}
	case labs.FrameResize:
		s, err := f.Resize()
		if err != nil {
			return err
		}
		t.resize(s)
	case labs.FrameAck:
		offset, err := f.Ack()
		if err != nil {
			return err
		}
		t.mu.Lock()
		if v.ack(offset, time.Now()) {
			t.poke()
			if v.sent < t.ring.end {
				v.wake()
			}
		}
		t.mu.Unlock()
	}
	return nil // a kind that is not known is for somebody else
}

// enter types b, waiting for the shell if need be.
func (t *terminal) enter(v *viewer, b []byte) {
	if t.typing.enter(b, false) {
		return
	}
	t.setTyping(v, true)
	t.typing.enter(b, true)
	t.setTyping(v, false)
}

func (t *terminal) setTyping(v *viewer, is bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v.typing = is
	t.poke()
}

// ack notes what the viewer has drawn and tells whether that is news.
func (v *viewer) ack(offset int64, now time.Time) bool {
	offset = min(offset, v.sent)
	if offset <= v.acked {
		return false
	}
	v.rateBytes += offset - v.acked
	v.acked = offset
	v.stuck, v.full = false, time.Time{}
	if v.probe > 0 && offset >= v.probe {
		v.probe = 0
		if now.Sub(v.rttSince) > rttMemory {
			v.rtt[1], v.rtt[0], v.rttSince = v.rtt[0], 0, now
		}
		if d := max(now.Sub(v.probed), 1); v.rtt[0] == 0 || d < v.rtt[0] {
			v.rtt[0] = d
		}
	}
	rtt := v.rtt[0]
	if v.rtt[1] > 0 && (rtt == 0 || v.rtt[1] < rtt) {
		rtt = v.rtt[1]
	}
	if d := now.Sub(v.rateSince); d >= max(rateInterval, rtt) {
		v.rate[1], v.rate[0] = v.rate[0], float64(v.rateBytes)/d.Seconds()
		v.rateSince, v.rateBytes = now, 0
	}
	// What is on the way when the viewer is kept busy, and some slack. More
	// would only have to be drawn before a Ctrl-C is seen.
	v.window = int64(1.25*max(v.rate[0], v.rate[1])*rtt.Seconds()) + 64<<10
	v.window = min(max(v.window, labs.WindowMin), labs.WindowMax)
	return true
}

// write sends the viewer all that it may get now.
func (v *viewer) write(t *terminal) error {
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return net.ErrClosed
		}
		f, offset, chunk, n := v.next(t)
		t.mu.Unlock()
		var err error
		switch {
		case chunk != nil:
			err = v.conn.WriteOutput(offset, chunk[:n])
			chunks.Put(chunk)
		case f.Kind != 0:
			err = v.conn.WriteFrame(f)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// next gives what the viewer gets next: a frame, or n bytes of output in
// chunk, or nothing. The caller holds the terminal's mu.
func (v *viewer) next(t *terminal) (f labs.Frame, offset int64, chunk *[chunkSize]byte, n int) {
	limit := v.limit()
	if v.sent < t.ring.start && v.sent < limit {
		// The ring has passed it. Some distance, so that it is not passed again at once.
		to := t.ring.safe(min(t.ring.start+labs.RingSize/8, t.ring.end))
		v.sent, v.acked, v.probe, v.begun = to, to, 0, false
		limit = v.limit()
	}
	if !v.begun {
		v.begun = true
		v.resized = t.resized
		return labs.StartFrame(v.sent, t.size), 0, nil, 0
	}
	if v.resized != t.resized {
		v.resized = t.resized
		return labs.ResizeFrame(t.size), 0, nil, 0
	}
	to := min(t.ring.end, limit)
	if untold := min(t.exited-v.exits, len(t.exits)); untold > 0 {
		e := t.exits[len(t.exits)-untold]
		if e.offset <= v.sent {
			v.exits = t.exited - untold + 1
			return labs.ExitFrame(e.status), 0, nil, 0
		}
		to = min(to, e.offset)
	}
	if to <= v.sent || v.sent < t.ring.start {
		return labs.Frame{}, 0, nil, 0
	}
	chunk = chunks.Get().(*[chunkSize]byte)
	n = t.ring.read(chunk[:], v.sent, to)
	offset = v.sent
	now := time.Now()
	if v.acked == v.sent { // it was idle
		v.rateSince, v.rateBytes = now, 0
	}
	v.sent += int64(n)
	if v.probe == 0 {
		v.probe, v.probed = v.sent, now
	}
	return labs.Frame{}, offset, chunk, n
}
