package web

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"berth/labs"
)

// A sink is a connection that takes everything and has nothing to say.
type sink struct{ net.Conn }

func (sink) Write(b []byte) (int, error)      { return len(b), nil }
func (sink) Read([]byte) (int, error)         { select {} }
func (sink) Close() error                     { return nil }
func (sink) SetDeadline(time.Time) error      { return nil }
func (sink) SetReadDeadline(time.Time) error  { return nil }
func (sink) SetWriteDeadline(time.Time) error { return nil }

// A sinkWriter gives a sink to whoever hijacks it.
type sinkWriter struct{ *httptest.ResponseRecorder }

func (sinkWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return sink{}, bufio.NewReadWriter(bufio.NewReader(sink{}), bufio.NewWriter(sink{})), nil
}

// A deaf attachment takes every frame.
type deaf struct{ labs.Attachment }

func (deaf) WriteFrame(labs.Frame) error { return nil }

func newSinkViewer(t *testing.T) *viewer {
	r := httptest.NewRequest("GET", "http://localhost/", nil)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
		r.Header.Set(k, v)
	}
	conn, err := upgrader.Upgrade(sinkWriter{httptest.NewRecorder()}, r, http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	return &viewer{conn: conn, att: deaf{}, mayType: true, touched: time.Now(), quit: make(chan struct{}), floods: new(atomic.Int32)}
}

// TestFramesAllocateNothing: what a terminal prints and what people type
// passes through without garbage. A frame that is longer than the write buffer
// costs the two small headers of a vectored write.
func TestFramesAllocateNothing(t *testing.T) {
	v, long := newSinkViewer(t), make([]byte, 16<<10)
	for _, c := range []struct {
		name string
		most float64
		do   func() error
	}{
		{"echo", 0, func() error { return v.send(labs.Frame{Kind: labs.FrameOutput, Payload: v.small[:9]}) }},
		{"line", 0, func() error { return v.send(labs.Frame{Kind: labs.FrameOutput, Payload: v.small[:]}) }},
		{"flood", 2, func() error { return v.send(labs.Frame{Kind: labs.FrameOutput, Payload: long}) }},
		{"key", 0, func() error { return v.pass(labs.Frame{Kind: labs.FrameInput, Payload: v.small[:1]}) }},
		{"acknowledgement", 0, func() error { return v.pass(labs.Frame{Kind: labs.FrameAck, Payload: v.small[:8]}) }},
		{"ping", 0, func() error { return v.pass(labs.Frame{Kind: labs.FramePing, Payload: v.small[:16]}) }},
	} {
		if n := testing.AllocsPerRun(1000, func() {
			if err := c.do(); err != nil {
				t.Fatal(err)
			}
		}); n > c.most {
			t.Errorf("%s: %v allocations a frame, want %v", c.name, n, c.most)
		}
	}
}
