package web_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/labs"
	"berth/web"
)

// A sse is one server-sent event.
type sse struct{ event, data, comment string }

// nextEvent reads one event.
func nextEvent(t testing.TB, r *bufio.Reader) (e sse) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("read an event: %v", err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch k, v, _ := strings.Cut(line, ":"); {
		case line == "":
			return e
		case k == "":
			e.comment = line
		case k == "event":
			e.event = strings.TrimSpace(v)
		case k == "data":
			e.data += strings.TrimSpace(v)
		case k == "retry" && v == " 1000":
		default:
			t.Fatalf("odd line %q", line)
		}
	}
}

func (p *person) stream(session string) (*http.Response, *bufio.Reader) {
	p.t.Helper()
	resp := p.do("GET", "/api/sessions/"+session+"/events")
	p.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		p.t.Fatalf("event stream: %s %v", resp.Status, resp.Header)
	}
	return resp, bufio.NewReader(resp.Body)
}

func TestEvents(t *testing.T) {
	ts, _, _ := newServer(t, nil)
	p := newPerson(t, ts)
	id := p.open("images")
	resp, r := p.stream(id)
	if cc := resp.Header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control: %s", cc)
	}
	var st labs.State
	if e := nextEvent(t, r); e.event != "state" || json.Unmarshal([]byte(e.data), &st) != nil || st.Session != id || st.Total != 2 {
		t.Fatalf("first event: %+v", e)
	}
	p.must("POST", "/api/sessions/"+id+"/checks/pull/1")
	var res labs.ResultEvent
	e := nextEvent(t, r)
	for e.event == "state" { // the sandbox became ready in between
		e = nextEvent(t, r)
	}
	if e.event != "result" || json.Unmarshal([]byte(e.data), &res) != nil {
		t.Fatalf("after a check: %+v", e)
	}
	if res.Check != "pull/1" || res.Step != "pull" || !res.StepDone || !res.Passed || res.Done != 1 || res.Total != 2 || res.Now.Status != labs.Passed {
		t.Fatalf("result: %+v", res)
	}
	// Whoever comes later, from wherever, gets it all at once.
	_, late := p.stream(id)
	if e := nextEvent(t, late); e.event != "state" || json.Unmarshal([]byte(e.data), &st) != nil || !st.Checks["pull/1"].Passed || !st.Steps["pull"].Done {
		t.Fatalf("state for a page that comes later: %+v", e)
	}
	p.must("POST", "/api/sessions/"+id+"/end")
	for e = nextEvent(t, late); !strings.Contains(e.data, `"phase":"ended"`); e = nextEvent(t, late) {
	}
}

func TestEventsHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T, p *person, s *web.Server, _ *boxes) {
		id := p.open("images")
		_, r := p.stream(id)
		nextEvent(t, r)
		start := time.Now()
		for beats := 0; beats < 10; {
			switch e := nextEvent(t, r); {
			case e.comment != "":
				beats++
			case e.event != "state": // that the sandbox is ready may be told after the first
				t.Fatalf("got %+v, want a sign of life", e)
			}
		}
		if d := time.Since(start); d != 150*time.Second {
			t.Errorf("ten signs of life came in %v, want 150 s", d)
		}
		// The stream ends with the server.
		s.Close()
		if _, err := io.ReadAll(r); err != nil {
			t.Error(err)
		}
	})
}

// TestStuckEventStream: a page that takes nothing is dropped.
func TestStuckEventStream(t *testing.T) {
	bubble(t, func(t *testing.T, p *person, _ *web.Server, _ *boxes) {
		id := p.open("images")
		var conn net.Conn
		conn, err := p.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /api/sessions/"+id+"/events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: berth="+p.cookie.Value+"\r\n\r\n")
		r := bufio.NewReader(conn)
		for line := ""; line != "\r\n"; {
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.Contains(stacks(), "berth/web.(*Server).events") {
			t.Fatal("the stacks do not show the stream")
		}
		time.Sleep(time.Minute) // nobody reads
		synctest.Wait()
		if strings.Contains(stacks(), "berth/web.(*Server).events") {
			t.Error("the stream is still there after a minute")
		}
	})
}

func TestAttackManyEventStreams(t *testing.T) {
	ts, _, _ := newServer(t, nil)
	p := newPerson(t, ts)
	id := p.open("images")
	var last *http.Response
	for range 24 {
		last, _ = p.stream(id)
	}
	resp := p.do("GET", "/api/sessions/"+id+"/events")
	resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests {
		t.Fatalf("the 25th stream: %s", resp.Status)
	}
	last.Body.Close()
	within(t, "there is room for another stream", func() bool {
		resp := p.do("GET", "/api/sessions/"+id+"/events")
		resp.Body.Close()
		return resp.StatusCode == 200
	})
}
