package learner

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"berth/labs"

	"github.com/gorilla/websocket"
)

// A Terminal is a viewer that draws nothing. One goroutine may use it.
type Terminal struct {
	ws    *websocket.Conn
	next  int64 // offset of the next byte
	acked int64
	drawn int64   // bytes since it was attached
	Rate  float64 // bytes a second that it draws, 0 for as fast as they come
	began time.Time
	rest  []byte // read, and not yet looked at by Until
}

// Attach opens a terminal from an offset; below 0 for all that is kept.
func (l *Learner) Attach(ctx context.Context, session, name string, from int64) (*Terminal, error) {
	u := *l.base
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	u.Path = "/api/sessions/" + session + "/terminals/" + name
	u.RawQuery = fmt.Sprintf("from=%d&rows=40&cols=120", from)
	d := websocket.Dialer{NetDialContext: l.dial, Jar: l.http.Jar, HandshakeTimeout: 20 * time.Second, ReadBufferSize: 64 << 10, WriteBufferSize: 4 << 10}
	ws, res, err := d.DialContext(ctx, u.String(), http.Header{"Origin": {l.base.Scheme + "://" + l.base.Host}})
	if err != nil {
		if res != nil {
			err = fmt.Errorf("%w: %s", err, res.Status)
		}
		return nil, fmt.Errorf("attach to terminal %s: %w", name, err)
	}
	return &Terminal{ws: ws}, nil
}

// Close leaves the terminal; its shell goes on.
func (t *Terminal) Close() error { return t.ws.Close() }

// Send sends any frame.
func (t *Terminal) Send(f labs.Frame) error {
	return t.ws.WriteMessage(websocket.BinaryMessage, append([]byte{f.Kind}, f.Payload...))
}

// Keys sends keystrokes.
func (t *Terminal) Keys(s string) error {
	return t.Send(labs.Frame{Kind: labs.FrameInput, Payload: []byte(s)})
}

// Read gives the next piece of output, acknowledging as a browser would: when
// it has drawn it.
func (t *Terminal) Read(deadline time.Time) ([]byte, error) {
	for {
		if err := t.ws.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
		_, m, err := t.ws.ReadMessage()
		if err != nil {
			return nil, err
		}
		if len(m) == 0 {
			continue
		}
		f := labs.Frame{Kind: m[0], Payload: m[1:]}
		switch f.Kind {
		case labs.FrameStart:
			at, _, err := f.Start()
			if err != nil {
				return nil, err
			}
			t.next, t.acked = at, at
		case labs.FrameOutput:
			at, b, err := f.Output()
			if err != nil {
				return nil, err
			}
			if at != t.next {
				return nil, fmt.Errorf("output at %d where %d was expected: bytes lost or doubled", at, t.next)
			}
			t.next += int64(len(b))
			t.draw(len(b))
			if t.next-t.acked >= 16<<10 || t.Rate > 0 {
				t.acked = t.next
				if err := t.Send(labs.AckFrame(t.next)); err != nil {
					return nil, err
				}
			}
			return b, nil
		}
	}
}

// draw takes as long as a viewer of that rate would.
func (t *Terminal) draw(n int) {
	if t.Rate == 0 {
		return
	}
	now := time.Now()
	if t.began.IsZero() || now.Sub(t.began).Seconds() > float64(t.drawn)/t.Rate+0.01 {
		t.began, t.drawn = now, 0 // it was idle: it does not catch up
	}
	t.drawn += int64(n)
	if d := time.Duration(float64(t.drawn)/t.Rate*1e9) - now.Sub(t.began); d > 0 {
		time.Sleep(d)
	}
}

// Until reads until the output holds mark and gives how many bytes it took,
// the mark included. What came after it is kept for the next Until.
func (t *Terminal) Until(mark string, within time.Duration) (n int64, err error) {
	deadline := time.Now().Add(within)
	kept := t.rest
	for {
		if i := bytes.Index(kept, []byte(mark)); i >= 0 {
			i += len(mark)
			t.rest = append([]byte(nil), kept[i:]...)
			return n + int64(i), nil
		}
		if drop := len(kept) - len(mark); drop > 0 {
			n += int64(drop)
			kept = append(kept[:0], kept[drop:]...)
		}
		b, err := t.Read(deadline)
		if err != nil {
			t.rest = nil
			return n, fmt.Errorf("wait for %q after %.200q: %w", mark, kept, err)
		}
		kept = append(kept, b...)
	}
}
