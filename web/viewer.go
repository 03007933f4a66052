package web

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"berth/labs"

	"github.com/gorilla/websocket"
)

const (
	writeWait  = 10 * time.Second // for a viewer to take a frame; a stuck one ends itself
	closeWait  = 2 * time.Second  // for a viewer to answer that it is closed
	pingEvery  = 25 * time.Second
	heardWait  = 70 * time.Second // without a sign of life the viewer is gone
	touchEvery = 10 * time.Second
	maxPing    = 64 // payload bytes of a FramePing

	// Frames that a viewer may send: paceFrames at once, and paceFrames in
	// every paceTime. A browser that draws all it can sends a fifth of that in
	// acknowledgements; whoever sends more is slowed down, not cut off.
	paceFrames = 4096
	paceTime   = 100 * time.Millisecond
)

// A viewer passes frames between a browser and a terminal, with one goroutine
// for each direction. It looks at what comes from the browser as far as it
// must to keep it from doing what it may not, and at nothing that goes there.
type viewer struct {
	learner, session string
	mayType          bool
	conn             *websocket.Conn
	att              labs.Attachment
	detach           sync.Once // closes att
	desk             Desk
	release          func()        // gives back what was counted
	floods           *atomic.Int32 // viewers of this server that make way now

	writing sync.Mutex // one message at a time; control frames need no lock

	mu      sync.Mutex
	stopped bool
	quit    chan struct{} // closed with stopped
	pinger  *time.Timer
	aside   sync.WaitGroup // pings and touches under way

	// Only the goroutine that reads from the browser uses these.
	heard   time.Time // when the read deadline was last moved
	touched time.Time
	frames  int       // read since paced
	paced   time.Time // when frames was last set to 0
	small   [512]byte // most of what people type fits in here
}

// big holds buffers for the frames that do not fit into viewer.small, in
// either direction.
var big = sync.Pool{New: func() any { b := make([]byte, 0, 32<<10); return &b }}

// run passes frames on until one end is gone, and returns when nothing of the
// viewer is left. ctx is the server's.
func (v *viewer) run(ctx context.Context) {
	v.hear(time.Now())
	v.conn.SetPongHandler(func(string) error { v.alive(); return nil })
	answer := v.conn.PingHandler()
	v.conn.SetPingHandler(func(data string) error {
		if !v.alive() {
			return nil
		}
		return answer(data)
	})
	v.mu.Lock()
	if !v.stopped {
		v.pinger = time.AfterFunc(pingEvery, v.ping)
	}
	v.mu.Unlock()

	var down sync.WaitGroup
	down.Go(func() { v.down(ctx) })
	v.up(ctx)
	v.end()
	v.conn.Close() // now every read and write on either side fails at once
	v.detach.Do(v.closeTerminal)
	down.Wait()
	v.aside.Wait()
	v.release()
}

// end marks the viewer as stopped and reports whether it was not before.
func (v *viewer) end() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stopped {
		return false
	}
	v.stopped = true
	close(v.quit)
	if v.pinger != nil {
		v.pinger.Stop()
	}
	return true
}

// stop closes the viewer with a close code: it lets go of the terminal, says
// so to the browser, and gives it closeWait to answer before up ends.
func (v *viewer) stop(code int, say string) {
	if !v.end() {
		return
	}
	v.detach.Do(v.closeTerminal)
	deadline := time.Now().Add(closeWait)
	if err := v.conn.WriteControl(websocket.CloseMessage, closeMessage(code, say), deadline); err != nil {
		v.conn.Close()
		return
	}
	v.conn.SetReadDeadline(deadline)
}

func (v *viewer) closeTerminal() { v.att.Close() }

// down passes what the terminal says on to the browser.
func (v *viewer) down(ctx context.Context) {
	for first := true; ; first = false {
		f, err := v.att.ReadFrame()
		if err != nil {
			v.stop(v.why(ctx, err))
			return
		}
		if err = v.send(f); err == nil && first {
			err = v.send(labs.RoleFrame(v.mayType))
		}
		if err != nil { // stuck for writeWait, or gone
			v.conn.Close()
			return
		}
		if len(f.Payload) >= floodFrame {
			v.makeWay()
		}
	}
}

// send writes a frame as one message.
func (v *viewer) send(f labs.Frame) error {
	b := big.Get().(*[]byte)
	*b = append(append((*b)[:0], f.Kind), f.Payload...)
	v.writing.Lock()
	v.conn.SetWriteDeadline(time.Now().Add(writeWait))
	err := v.conn.WriteMessage(websocket.BinaryMessage, *b)
	v.writing.Unlock()
	big.Put(b)
	return err
}

// Terminals that flood must not delay those in which somebody types.
const (
	floodFrame = 8 << 10               // a frame of so many bytes is part of a flood
	crowded    = 50 * time.Microsecond // waiting longer than this for a turn means a crowd
	maxPause   = 50 * time.Millisecond
)

// makeWay gives others a turn after a long frame, and when that takes long
// because many flood, stays away for forty times as long: then one in forty
// of them wants a turn at a time, and whoever types gets one soon. What is not
// read meanwhile stays with the shell, which prints more slowly. One or two
// floods are left alone, since it is not they who make a crowd.
func (v *viewer) makeWay() {
	flooding := v.floods.Add(1)
	defer v.floods.Add(-1)
	start := time.Now()
	runtime.Gosched()
	waited := time.Since(start)
	if waited < crowded || flooding <= 2 {
		return
	}
	t := time.NewTimer(min(40*waited, maxPause))
	defer t.Stop()
	select {
	case <-t.C:
	case <-v.quit:
	}
}

// why gives the close code for a terminal that ended with err.
func (v *viewer) why(ctx context.Context, err error) (code int, say string) {
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	st, serr := v.desk.State(ctx, v.learner, v.session)
	switch {
	case errors.Is(serr, labs.ErrNotFound):
		return labs.CloseNotFound, noSession
	case serr == nil && st.Phase == labs.PhaseEnded:
		return labs.CloseEnded, st.Reason
	case ctx.Err() != nil:
		return goingAway()
	case errors.Is(err, io.EOF):
		return websocket.CloseInternalServerErr, "The terminal has gone."
	}
	return websocket.CloseInternalServerErr, "The connection to the sandbox broke."
}

// up passes what the browser sends on to the terminal, until the connection
// ends.
func (v *viewer) up(ctx context.Context) {
	v.paced = time.Now()
	for {
		kind, r, err := v.conn.NextReader()
		if err != nil {
			v.part(err)
			return
		}
		if !v.alive() {
			continue // stopped: only the answer to our close frame is of interest
		}
		if kind != websocket.BinaryMessage {
			v.stop(websocket.CloseUnsupportedData, "Frames are binary messages.")
			continue
		}
		b, spare, err := v.read(r)
		if err != nil {
			v.part(err)
			return
		}
		if len(b) > 0 {
			err = v.pass(labs.Frame{Kind: b[0], Payload: b[1:]})
		}
		if spare != nil {
			big.Put(spare)
		}
		if err != nil && !v.over() {
			if errors.Is(err, errTooBig) {
				v.stop(websocket.CloseMessageTooBig, "A frame of input was too long.")
			} else {
				v.stop(v.why(ctx, err))
			}
		}
	}
}

// part takes what is still coming after a message that was too long, as far
// as it is within reason: closing a socket with bytes unread takes back the
// close code that was just sent.
func (v *viewer) part(err error) {
	if !errors.Is(err, websocket.ErrReadLimit) || !v.end() {
		return
	}
	v.conn.SetReadDeadline(time.Now().Add(closeWait))
	io.CopyN(io.Discard, v.conn.NetConn(), 4*labs.MaxFrame)
}

// read reads a message whole. spare, if any, goes back to the pool when the
// message is done with.
func (v *viewer) read(r io.Reader) (b []byte, spare *[]byte, err error) {
	n, err := io.ReadFull(r, v.small[:])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return v.small[:n], nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	spare = big.Get().(*[]byte)
	b = append((*spare)[:0], v.small[:]...)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err = r.Read(b[len(b):cap(b)]) // the connection's read limit bounds this
		b = b[:len(b)+n]
		if err != nil {
			*spare = b
			if err == io.EOF {
				return b, spare, nil
			}
			big.Put(spare)
			return nil, nil, err
		}
	}
}

var errTooBig = errors.New("input frame too long")

// pass gives a frame from the browser to the terminal, or answers it. Frames
// that the viewer may not send, and those that make no sense, are dropped.
func (v *viewer) pass(f labs.Frame) error {
	switch f.Kind {
	case labs.FramePing:
		if len(f.Payload) > maxPing {
			return nil
		}
		return v.send(f)
	case labs.FrameAck:
		if len(f.Payload) != 8 {
			return nil
		}
		return v.att.WriteFrame(f)
	case labs.FrameResize:
		if _, err := f.Resize(); err != nil || !v.mayType {
			return nil
		}
		return v.att.WriteFrame(f)
	case labs.FrameInput:
		if !v.mayType || len(f.Payload) == 0 {
			return nil
		}
		if len(f.Payload) > labs.MaxInput {
			return errTooBig
		}
	case labs.FrameCommand:
		if !v.mayType || len(f.Payload) == 0 || len(f.Payload) < 1+int(f.Payload[0]) {
			return nil
		}
		if len(f.Payload)-1-int(f.Payload[0]) > labs.MaxInput {
			return errTooBig
		}
	default:
		return nil
	}
	if err := v.att.WriteFrame(f); err != nil {
		return err
	}
	if now := time.Now(); now.Sub(v.touched) >= touchEvery {
		v.touched = now
		v.aside.Go(func() { v.desk.Touch(v.session) }) // it may write to a disk; keys do not wait for that
	}
	return nil
}

// alive notes that the browser sent something, and holds it back when it sends
// too much. It gives false when the viewer has been stopped.
func (v *viewer) alive() bool {
	if v.over() {
		return false
	}
	now := time.Now()
	v.hear(now)
	if v.frames++; v.frames < paceFrames {
		return true
	}
	v.frames = 0
	if rest := paceTime - now.Sub(v.paced); rest > 0 {
		t := time.NewTimer(rest)
		defer t.Stop()
		select {
		case <-t.C:
		case <-v.quit:
			return false
		}
	}
	v.paced = time.Now()
	return true
}

// hear moves the time by which the browser must give a sign of life again.
func (v *viewer) hear(now time.Time) {
	if now.Sub(v.heard) < 5*time.Second {
		return
	}
	v.heard = now
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.stopped { // stop has set another deadline
		v.conn.SetReadDeadline(now.Add(heardWait))
	}
}

func (v *viewer) over() bool {
	select {
	case <-v.quit:
		return true
	default:
		return false
	}
}

// ping asks a browser that may have nothing to say for a sign of life.
func (v *viewer) ping() {
	v.mu.Lock()
	if v.stopped {
		v.mu.Unlock()
		return
	}
	v.aside.Add(1)
	v.mu.Unlock()
	defer v.aside.Done()
	if err := v.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeWait)); err != nil {
		v.conn.Close()
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.stopped {
		v.pinger.Reset(pingEvery)
	}
}
