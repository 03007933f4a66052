package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/labs"
	"berth/web"

	"github.com/gorilla/websocket"
)

// A person is somebody's browser: a cookie, and how it reaches the server.
type person struct {
	t      testing.TB
	base   string // http://host
	http   *http.Client
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	cookie *http.Cookie
}

func newPerson(t testing.TB, ts *httptest.Server) *person {
	return &person{t: t, base: ts.URL, http: ts.Client()}
}

// do sends a request as one of our pages does. The caller closes the body.
func (p *person) do(method, path string) *http.Response {
	p.t.Helper()
	req, err := http.NewRequest(method, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("X-Berth", "1")
	if p.cookie != nil {
		req.AddCookie(p.cookie)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	for _, c := range resp.Cookies() {
		if c.Name == "berth" {
			p.cookie = c
		}
	}
	return resp
}

// must does a request that has to succeed and gives the body.
func (p *person) must(method, path string) []byte {
	p.t.Helper()
	resp := p.do(method, path)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode > 299 {
		p.t.Fatalf("%s %s: %s %v\n%s", method, path, resp.Status, err, b)
	}
	return b
}

// open opens the lab and waits for its sandbox.
func (p *person) open(lab string) (session string) {
	p.t.Helper()
	var st labs.State
	if err := json.Unmarshal(p.must("POST", "/api/labs/"+lab+"/session"), &st); err != nil {
		p.t.Fatal(err)
	}
	p.must("GET", "/api/sessions/"+st.Session+"/terminals")
	return st.Session
}

// connect opens a WebSocket to a terminal.
func (p *person) connect(session, rest string, header http.Header) (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{NetDialContext: p.dial, HandshakeTimeout: 20 * time.Second}
	if header == nil {
		header = http.Header{"Origin": {p.base}}
	}
	if p.cookie != nil {
		header.Set("Cookie", p.cookie.Name+"="+p.cookie.Value)
	}
	return d.Dial("ws"+strings.TrimPrefix(p.base, "http")+"/api/sessions/"+session+"/terminals/"+rest, header)
}

// screen is a browser's end of a terminal: it reads, acknowledges, and
// remembers.
type screen struct {
	t    testing.TB
	conn *websocket.Conn
	next int64 // offset after what was read
	out  bytes.Buffer
}

// view attaches and checks how a viewer is greeted.
func (p *person) view(session, rest string, role byte) *screen {
	p.t.Helper()
	conn, _, err := p.connect(session, rest, nil)
	if err != nil {
		p.t.Fatalf("connect to terminal %s: %v", rest, err)
	}
	s := &screen{t: p.t, conn: conn}
	p.t.Cleanup(func() { conn.Close() })
	start := s.read()
	if s.next, _, err = start.Start(); err != nil {
		p.t.Fatalf("first frame is %q, want a start: %v", start.Kind, err)
	}
	if f := s.read(); f.Kind != labs.FrameRole || string(f.Payload) != string(role) {
		p.t.Fatalf("second frame is %q %q, want the role %q", f.Kind, f.Payload, role)
	}
	return s
}

func (s *screen) send(f labs.Frame) {
	s.t.Helper()
	if err := s.conn.WriteMessage(websocket.BinaryMessage, append([]byte{f.Kind}, f.Payload...)); err != nil {
		s.t.Fatalf("send a frame %q: %v", f.Kind, err)
	}
}

func (s *screen) typed(text string) {
	s.t.Helper()
	s.send(labs.Frame{Kind: labs.FrameInput, Payload: []byte(text)})
}

// read gives the next frame within 20 s.
func (s *screen) read() labs.Frame {
	s.t.Helper()
	f, err := s.tryRead()
	if err != nil {
		s.t.Fatalf("read a frame: %v", err)
	}
	return f
}

func (s *screen) tryRead() (labs.Frame, error) {
	s.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	kind, b, err := s.conn.ReadMessage()
	if err != nil {
		return labs.Frame{}, err
	}
	if kind != websocket.BinaryMessage || len(b) == 0 {
		return labs.Frame{}, fmt.Errorf("message of kind %d with %d bytes", kind, len(b))
	}
	return labs.Frame{Kind: b[0], Payload: b[1:]}, nil
}

// until reads, draws and acknowledges until the output holds text.
func (s *screen) until(text string) {
	s.t.Helper()
	for !bytes.Contains(s.out.Bytes(), []byte(text)) {
		f := s.read()
		if f.Kind != labs.FrameOutput {
			continue
		}
		off, b, err := f.Output()
		if err != nil || off != s.next {
			s.t.Fatalf("output from offset %d, want %d: %v", off, s.next, err)
		}
		s.next += int64(len(b))
		s.out.Write(b)
		s.send(labs.AckFrame(s.next))
	}
}

// closed reads until the connection is closed and gives the code.
func (s *screen) closed() int {
	s.t.Helper()
	return closeCode(s.t, s.conn)
}

func closeCode(t testing.TB, conn *websocket.Conn) int {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		_, _, err := conn.ReadMessage()
		var ce *websocket.CloseError
		switch {
		case errors.As(err, &ce):
			return ce.Code
		case err != nil:
			t.Fatalf("the connection ended without a close code: %v", err)
		}
	}
}

// within waits until ok, for ten seconds at most.
func within(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestViewer(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	p := newPerson(t, ts)
	id := p.open("images")
	s := p.view(id, "1?from=0&rows=30&cols=100", 'w')
	term := bs.last().terminal("1")
	if _, _, size, _ := term.state(); size != (labs.Size{Rows: 30, Cols: 100}) {
		t.Fatalf("a terminal made for 30 rows and 100 columns has %v", size)
	}

	s.typed("hello, wörld\r")
	s.until("hello, wörld\r")
	s.send(labs.Frame{Kind: labs.FramePing, Payload: []byte("are you there")})
	if f := s.read(); f.Kind != labs.FramePing || string(f.Payload) != "are you there" {
		t.Fatalf("ping was answered with %q %q", f.Kind, f.Payload)
	}
	// A click runs once, however often its frame arrives.
	s.send(labs.CommandFrame("pull/1#1", []byte("docker pull\r")))
	s.send(labs.CommandFrame("pull/1#1", []byte("docker pull\r")))
	s.typed("end")
	s.until("end")
	if n := strings.Count(s.out.String(), "docker pull"); n != 1 {
		t.Fatalf("a command that was sent twice ran %d times", n)
	}
	s.send(labs.ResizeFrame(labs.Size{Rows: 50, Cols: 132}))
	for {
		f := s.read()
		if f.Kind != labs.FrameResize {
			continue
		}
		if size, err := f.Resize(); err != nil || size != (labs.Size{Rows: 50, Cols: 132}) {
			t.Fatalf("told of size %v: %v", size, err)
		}
		break
	}

	// Coming back from an offset gives exactly what is missing.
	part := s.out.String()[:20]
	late := p.view(id, "1?from=20", 'w')
	if late.next != 20 {
		t.Fatalf("asked from offset 20, starts at %d", late.next)
	}
	late.until("end")
	if got, want := part+late.out.String(), s.out.String(); got != want {
		t.Fatalf("after a reconnect the output is %q, want %q", got, want)
	}
	if names := string(p.must("GET", "/api/sessions/"+id+"/terminals")); strings.TrimSpace(names) != `["1"]` {
		t.Fatalf("terminals: %s", names)
	}
	late.conn.Close()
	within(t, "the server lets go of a viewer whose connection broke", func() bool { return term.watched() == 1 })
}

func TestViewerLargePaste(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	p := newPerson(t, ts)
	s := p.view(p.open("images"), "1", 'w')
	sizes := []int{1, 511, 512, 513, 4096, labs.MaxInput - 1, labs.MaxInput}
	var want strings.Builder
	for i, n := range sizes {
		b := strings.Repeat(string(rune('a'+i)), n)
		want.WriteString(b)
		s.typed(b)
	}
	s.typed("END")
	s.until("END")
	_, typed, _, _ := bs.last().terminal("1").state()
	if typed != want.String()+"END" {
		t.Fatalf("pasted %d bytes, %d arrived, or others", want.Len()+3, len(typed))
	}
}

// The frames of the protocol that make no sense, and those that only a server
// may send, are dropped; the viewer goes on.
func TestViewerMalformedFrames(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	p := newPerson(t, ts)
	s := p.view(p.open("images"), "1", 'w')
	for _, f := range []labs.Frame{
		{Kind: labs.FrameInput},
		{Kind: labs.FrameCommand},
		{Kind: labs.FrameCommand, Payload: []byte{200, 'x'}},
		{Kind: labs.FrameResize, Payload: []byte{0, 1}},
		labs.ResizeFrame(labs.Size{Rows: 0, Cols: 80}),
		labs.ResizeFrame(labs.Size{Rows: 60000, Cols: 60000}),
		{Kind: labs.FrameAck, Payload: []byte{1, 2, 3}},
		{Kind: labs.FramePing, Payload: make([]byte, 65)},
		labs.OutputFrame(0, []byte("forged")),
		labs.StartFrame(0, labs.Size{}),
		labs.ExitFrame(0),
		labs.RoleFrame(true),
		{Kind: 0}, {Kind: 0xff, Payload: []byte("??")},
	} {
		s.send(f)
	}
	if err := s.conn.WriteMessage(websocket.BinaryMessage, nil); err != nil {
		t.Fatal(err)
	}
	s.typed("still here")
	s.until("still here")
	inputs, typed, size, resized := bs.last().terminal("1").state()
	if inputs != 1 || typed != "still here" || resized != 0 {
		t.Fatalf("the terminal got %d inputs, %q, %d resizes, size %v", inputs, typed, resized, size)
	}
}

func TestViewerProtocolMistakes(t *testing.T) {
	for _, c := range []struct {
		name string
		kind int
		data []byte
		code int
	}{
		{"text message", websocket.TextMessage, []byte("ihello"), websocket.CloseUnsupportedData},
		{"oversized frame", websocket.BinaryMessage, append([]byte{labs.FrameInput}, make([]byte, labs.MaxFrame)...), websocket.CloseMessageTooBig},
		{"oversized input", websocket.BinaryMessage, append([]byte{labs.FrameInput}, make([]byte, labs.MaxInput+1)...), websocket.CloseMessageTooBig},
		{"oversized command", websocket.BinaryMessage, append([]byte{labs.FrameCommand, 1, 'x'}, make([]byte, labs.MaxInput+1)...), websocket.CloseMessageTooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ts, _, bs := newServer(t, nil)
			p := newPerson(t, ts)
			s := p.view(p.open("images"), "1", 'w')
			if err := s.conn.WriteMessage(c.kind, c.data); err != nil {
				t.Fatal(err)
			}
			if code := s.closed(); code != c.code {
				t.Fatalf("closed with %d, want %d", code, c.code)
			}
			term := bs.last().terminal("1")
			within(t, "the viewer is gone", func() bool { return term.watched() == 0 })
			if n, _, _, _ := term.state(); n != 0 {
				t.Fatal("the terminal got input")
			}
		})
	}
}

// TestAttackEndlessMessage sends one message in fragments that never end.
func TestAttackEndlessMessage(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	p := newPerson(t, ts)
	s := p.view(p.open("images"), "1", 'w')
	w, err := s.conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 32<<10)
		b[0] = labs.FrameInput
		for {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}()
	if _, err := s.tryRead(); err == nil {
		t.Fatal("the server answered")
	}
	s.conn.Close()
	term := bs.last().terminal("1")
	within(t, "the viewer is gone", func() bool { return term.watched() == 0 })
	if n, _, _, _ := term.state(); n != 0 {
		t.Fatal("the terminal got input")
	}
}

func TestAttackForeignOrigin(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	p := newPerson(t, ts)
	id := p.open("images")
	for _, h := range []http.Header{
		{"Origin": {"https://evil.example"}},
		{"Origin": {"null"}},
		{"Origin": {p.base, "https://evil.example"}},
		{"Origin": {strings.Replace(p.base, "127.0.0.1", "localhost", 1)}},
		{"Origin": {"http://127.0.0.1:1"}},
		{"Sec-Fetch-Site": {"cross-site"}},
		{"Sec-Fetch-Site": {"same-site"}, "Origin": {p.base}},
	} {
		conn, resp, err := p.connect(id, "1", h)
		if err == nil {
			conn.Close()
			t.Fatalf("a page with %v opened a terminal", h)
		}
		if resp == nil || resp.StatusCode != http.StatusForbidden {
			t.Fatalf("with %v: %v, %v", h, resp, err)
		}
	}
	if bs.last().terminal("1") != nil {
		t.Fatal("a terminal was made for a foreign page")
	}
}

func TestAttackOtherSessionTerminal(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	alice, mallory, nobody := newPerson(t, ts), newPerson(t, ts), newPerson(t, ts)
	id := alice.open("images")
	victim := bs.last()
	s := alice.view(id, "1", 'w')
	s.typed("secret")
	s.until("secret")
	mallory.open("images")
	for _, p := range []*person{mallory, nobody} {
		conn, _, err := p.connect(id, "1?from=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, b, err := conn.ReadMessage()
		if !websocket.IsCloseError(err, labs.CloseNotFound) {
			t.Fatalf("somebody else's terminal gave %q, %v; want close code %d", b, err, labs.CloseNotFound)
		}
	}
	if n := victim.terminal("1").watched(); n != 1 {
		t.Fatalf("the terminal has %d viewers", n)
	}
}

func TestAttackReadOnlyViewerTypes(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	p := newPerson(t, ts)
	id := p.open("images")
	owner := p.view(id, "1", 'w')
	watcher := p.view(id, "1?watch=1", 'r')
	watcher.typed("rm -rf ~\r")
	watcher.send(labs.CommandFrame("x", []byte("rm -rf ~\r")))
	watcher.send(labs.ResizeFrame(labs.Size{Rows: 2, Cols: 2}))
	watcher.send(labs.Frame{Kind: labs.FramePing, Payload: []byte("done")})
	if f := watcher.read(); f.Kind != labs.FramePing {
		t.Fatalf("got %q, want the ping", f.Kind)
	}
	owner.typed("mine")
	owner.until("mine")
	watcher.until("mine") // it sees, and its acknowledgements count
	inputs, typed, _, resized := bs.last().terminal("1").state()
	if inputs != 1 || typed != "mine" || resized != 0 {
		t.Fatalf("the terminal got %d inputs, %q, %d resizes", inputs, typed, resized)
	}
}

// TestAttackTinyFrames floods the server with the smallest frames there are,
// data and control, while somebody else types.
func TestAttackTinyFrames(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	mallory, alice := newPerson(t, ts), newPerson(t, ts)
	bad := mallory.view(mallory.open("images"), "1", 'w')
	victim := bs.last()
	good := alice.view(alice.open("images"), "1", 'w')
	stop := make(chan struct{})
	var flood sync.WaitGroup
	flood.Go(func() {
		frames := [][]byte{append([]byte{labs.FrameAck}, make([]byte, 8)...), {labs.FrameInput, 'x'}, {labs.FrameInput}, {'?'}}
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			err := bad.conn.WriteMessage(websocket.BinaryMessage, frames[i%len(frames)])
			if err == nil && i%16 == 0 {
				err = bad.conn.WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Second))
			}
			if err != nil {
				return
			}
		}
	})
	flood.Go(func() {
		for {
			if _, _, err := bad.conn.ReadMessage(); err != nil {
				return
			}
		}
	})
	var worst time.Duration
	start := time.Now()
	for i := range 50 {
		text := fmt.Sprintf("<%d>", i)
		sent := time.Now()
		good.typed(text)
		good.until(text)
		worst = max(worst, time.Since(sent))
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(start)
	close(stop)
	bad.conn.Close()
	flood.Wait()
	if worst > time.Second {
		t.Errorf("a neighbour of a flood of tiny frames waited %v for an echo", worst)
	}
	// 4,096 frames at once and 4,096 in every 100 ms: a quarter of them type.
	inputs, _, _, _ := victim.terminal("1").state()
	if most := int(took.Seconds()*10+3) * 4096; inputs > most {
		t.Errorf("%d frames got through in %v, more than %d", inputs, took, most)
	}
	t.Logf("worst echo %v; %d inputs got through in %v", worst, inputs, took)
}

func TestViewerLimits(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	p := newPerson(t, ts)
	id := p.open("images")
	var views []*screen
	for i := range 16 {
		views = append(views, p.view(id, fmt.Sprintf("%d", i%3+1), 'w'))
	}
	conn, _, err := p.connect(id, "1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if code := closeCode(t, conn); code != labs.CloseBusy {
		t.Fatalf("the 17th viewer was closed with %d, want %d", code, labs.CloseBusy)
	}
	views[0].conn.Close()
	term := bs.last().terminal("1")
	within(t, "the server lets go of a viewer", func() bool { return term.watched() == 5 })
	within(t, "there is room for another", func() bool {
		conn, _, err := p.connect(id, "1", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, b, err := conn.ReadMessage()
		return err == nil && b[0] == labs.FrameStart
	})
}

func TestViewerBadAddresses(t *testing.T) {
	ts, _, _ := newServer(t, nil)
	p := newPerson(t, ts)
	id := p.open("images")
	for _, rest := range []string{"UPPER", "a_b", "seventeen-letters", "%2e%2e", "a%00b", "1?from=x", "1?from=-2", "1?rows=0&cols=80", "1?rows=1&cols=70000"} {
		conn, resp, err := p.connect(id, rest, nil)
		if err == nil {
			conn.Close()
			t.Errorf("%s was attached", rest)
		} else if resp == nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v %v, want status 400", rest, resp, err)
		}
	}
}

func TestViewerOfEndedSession(t *testing.T) {
	ts, _, bs := newServer(t, nil)
	p := newPerson(t, ts)
	id := p.open("images")
	s := p.view(id, "1", 'w')
	first := bs.last()
	p.must("POST", "/api/sessions/"+id+"/end")
	if code := s.closed(); code != labs.CloseEnded {
		t.Fatalf("a viewer of a session that ended was closed with %d, want %d", code, labs.CloseEnded)
	}
	conn, _, err := p.connect(id, "1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if code := closeCode(t, conn); code != labs.CloseEnded {
		t.Fatalf("attaching to a session that ended was closed with %d, want %d", code, labs.CloseEnded)
	}

	// A sandbox that breaks under an open session is worth another try.
	id = p.open("images")
	s = p.view(id, "1", 'w')
	if bs.last() == first {
		t.Fatal("the sandbox of the ended session was given again")
	}
	bs.last().Destroy()
	if code := s.closed(); code != websocket.CloseInternalServerErr {
		t.Fatalf("a viewer of a broken sandbox was closed with %d, want %d", code, websocket.CloseInternalServerErr)
	}
}

// A pipes is a network of net.Pipes, for tests in which time is not real.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// pipeEnd is a net.Pipe's end that has a TCP address, as r.RemoteAddr must be.
type pipeEnd struct{ net.Conn }

func (pipeEnd) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1234} }

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- pipeEnd{server}:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bubble runs f with a server and a person where time is not real: whatever
// waits only for time does not take any.
func bubble(t *testing.T, f func(t *testing.T, p *person, s *web.Server, bs *boxes)) {
	synctest.Test(t, func(t *testing.T) {
		d, bs := newDesk(t, testLessons()...)
		s, err := web.New(web.Config{Desk: d, Bundle: testBundle})
		if err != nil {
			t.Fatal(err)
		}
		network := pipes{make(chan net.Conn), make(chan struct{})}
		hs := &http.Server{Handler: s}
		go hs.Serve(network)
		tr := &http.Transport{DialContext: network.dial}
		p := &person{t: t, base: "http://127.0.0.1", http: &http.Client{Transport: tr}, dial: network.dial}
		t.Cleanup(func() {
			s.Close()
			tr.CloseIdleConnections()
			hs.Close()
		})
		f(t, p, s, bs)
	})
}

// TestStuckViewer: a viewer that stops reading ends itself after ten seconds
// and disturbs nobody.
func TestStuckViewer(t *testing.T) {
	bubble(t, func(t *testing.T, p *person, _ *web.Server, bs *boxes) {
		id := p.open("images")
		p.view(id, "1", 'w') // and never reads again
		good := p.view(id, "1", 'w')
		term := bs.last().terminal("1")
		start := time.Now()
		good.typed("first")
		good.until("first")
		if d := time.Since(start); d > 0 {
			t.Errorf("the viewer beside a stuck one waited %v", d)
		}
		synctest.Wait()
		if n := term.watched(); n != 2 {
			t.Fatalf("%d viewers at first, want 2", n)
		}
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if n := term.watched(); n != 2 {
			t.Errorf("%d viewers after 9 s, want 2", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := term.watched(); n != 1 {
			t.Errorf("%d viewers after 11 s, want 1", n)
		}
		good.typed("second")
		good.until("second")
		good.conn.Close()
	})
}

// TestSilentViewer: a viewer whose line was cut without a word is noticed.
func TestSilentViewer(t *testing.T) {
	bubble(t, func(t *testing.T, p *person, _ *web.Server, bs *boxes) {
		id := p.open("images")
		silent := p.view(id, "1", 'w')
		alive := p.view(id, "1", 'w')
		pings := 0
		answer := alive.conn.PingHandler()
		alive.conn.SetPingHandler(func(data string) error { pings++; return answer(data) })
		silent.conn.SetPingHandler(func(string) error { return nil }) // the line takes it, nobody answers
		for _, s := range []*screen{silent, alive} {
			s.conn.SetReadDeadline(time.Time{})
			go func() {
				for {
					if _, _, err := s.conn.ReadMessage(); err != nil {
						return
					}
				}
			}()
		}
		term := bs.last().terminal("1")
		time.Sleep(69 * time.Second)
		synctest.Wait()
		if n := term.watched(); n != 2 {
			t.Errorf("%d viewers after 69 s, want 2", n)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := term.watched(); n != 1 {
			t.Errorf("%d viewers after 11 min, want the one that answers", n)
		}
		if pings < 20 {
			t.Errorf("%d pings in 11 min", pings)
		}
		alive.conn.Close()
	})
}

// TestAttackLyingAcknowledgements: a viewer acknowledges everything and reads
// nothing, over a real socket. It must not make the server keep what it does
// not read, nor hold back the other viewer of the same terminal.
func TestAttackLyingAcknowledgements(t *testing.T) { // not parallel: it measures the heap
	ts, _, bs := newServer(t, nil)
	p := newPerson(t, ts)
	id := p.open("images")
	p.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(4096)
		}
		return c, err
	}
	liar := p.view(id, "1", 'w')
	p.dial = nil
	good := p.view(id, "1", 'w')
	term := bs.last().terminal("1")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	stop := make(chan struct{})
	var lying sync.WaitGroup
	lying.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if liar.conn.WriteMessage(websocket.BinaryMessage, append([]byte{labs.FrameAck}, labs.AckFrame(1<<60).Payload...)) != nil {
				return
			}
		}
	})
	good.typed("F")
	start := time.Now()
	read := 0
	for term.watched() == 2 {
		if time.Since(start) > 30*time.Second {
			t.Fatal("the liar is still there after 30 s")
		}
		f := good.read()
		if f.Kind != labs.FrameOutput {
			continue
		}
		off, b, err := f.Output()
		if err != nil {
			t.Fatal(err)
		}
		read += len(b)
		good.next = off + int64(len(b))
		good.send(labs.AckFrame(good.next))
	}
	took := time.Since(start)
	good.typed("\x03stopped")
	good.until("stopped")
	runtime.GC()
	runtime.ReadMemStats(&after)
	close(stop)
	liar.conn.Close()
	lying.Wait()
	if took < 9*time.Second {
		t.Errorf("the liar was cut off after %v already", took)
	}
	if read < 20<<20 { // held back it would get 1 MiB
		t.Errorf("the good viewer got only %d bytes in %v", read, took)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	t.Logf("the liar was cut off after %v; the good viewer read %.0f MB/s", took, float64(read)/1e6/took.Seconds())
}

// TestCloseLeavesNothing: closing the server tells every viewer and leaves no
// goroutine of this package behind.
func TestCloseLeavesNothing(t *testing.T) {
	d, bs := newDesk(t, testLessons()...)
	s, err := web.New(web.Config{Desk: d, Bundle: testBundle})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	tr := &http.Transport{}
	p := &person{t: t, base: "http://" + l.Addr().String(), http: &http.Client{Transport: tr}}
	id := p.open("images")
	var views []*screen
	for range 8 {
		views = append(views, p.view(id, "1", 'w'))
	}
	p.view(id, "1", 'w') // one that does not read, and so does not answer
	var streams []*http.Response
	for range 3 {
		streams = append(streams, p.do("GET", "/api/sessions/"+id+"/events"))
	}
	views[0].typed("F") // a flood is under way
	if !strings.Contains(stacks(), "berth/web.(*viewer)") {
		t.Fatal("the stacks do not show the viewers")
	}
	start := time.Now()
	cancel()
	for i, v := range views {
		if code := v.closed(); code != websocket.CloseServiceRestart {
			t.Errorf("viewer %d was closed with %d, want %d", i, code, websocket.CloseServiceRestart)
		}
	}
	for _, st := range streams {
		if _, err := io.ReadAll(st.Body); err != nil {
			t.Errorf("an event stream broke: %v", err)
		}
		st.Body.Close()
	}
	select {
	case err := <-served:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(15 * time.Second):
		t.Fatalf("the server did not stop\n%s", stacks())
	}
	t.Logf("stopped in %v", time.Since(start))
	tr.CloseIdleConnections()
	if n := bs.last().terminal("1").watched(); n != 0 {
		t.Errorf("%d viewers are left on the terminal", n)
	}
	if left := stacks(); strings.Contains(left, "berth/web.(*") {
		t.Errorf("goroutines are left:\n%s", left)
	}
	// What comes too late is refused.
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost/", nil))
	if rec.Code != http.StatusOK {
		t.Errorf("a page after the end: %d", rec.Code)
	}
	s.Close() // again
}

func stacks() string {
	b := make([]byte, 4<<20)
	return string(b[:runtime.Stack(b, true)])
}
