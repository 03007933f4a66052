package runner_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/labs"
	"berth/runner"
	"berth/runner/agent"
)

// hostile is a kind of box whose agent is in the hands of somebody who wishes
// us ill: what it does with a request is up to a test.
type hostile struct {
	at     string
	l      net.Listener
	answer func(conn net.Conn, r *http.Request)
	conns  sync.Map
	busy   sync.WaitGroup
}

// newHostile gives a sandbox with such an agent. Health it answers honestly.
func newHostile(t *testing.T, answer func(net.Conn, *http.Request)) labs.Sandbox {
	t.Helper()
	h := &hostile{at: filepath.Join(t.TempDir(), "s"), answer: answer}
	var err error
	if h.l, err = net.Listen("unix", h.at); err != nil {
		t.Fatal(err)
	}
	h.busy.Go(func() {
		for {
			c, err := h.l.Accept()
			if err != nil {
				return
			}
			h.conns.Store(c, true)
			h.busy.Go(func() { h.serve(c) })
		}
	})
	sb, err := runner.New(h).Start(t.Context(), labs.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sb.Destroy(); err != nil {
			t.Error(err)
		}
	})
	return sb
}

func (h *hostile) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if r.URL.Path != agent.PathHealth {
			h.answer(c, r)
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	}
}

func (h *hostile) Start(context.Context, labs.Spec) (labs.Box, error) { return h, nil }
func (h *hostile) Adopt(context.Context) ([]labs.Box, error)          { return nil, nil }
func (h *hostile) Close() error                                       { return nil }
func (h *hostile) ID() string                                         { return "hostile" }
func (h *hostile) Usage(context.Context) (labs.Usage, error)          { return labs.Usage{}, nil }
func (h *hostile) Dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", h.at)
}
func (h *hostile) Destroy() error {
	h.l.Close()
	h.conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
	h.busy.Wait()
	return nil
}

// forever sends the same again and again until nobody takes it.
func forever(c net.Conn, text string) {
	b := bytes.Repeat([]byte(text), 64<<10/len(text)+1)
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

const (
	ok       = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
	switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + agent.Upgrade + "\r\n\r\n"
)

func frame(n uint32, kind byte, payload string) string {
	return string(binary.BigEndian.AppendUint32(nil, n)) + string(kind) + payload
}

// every uses all that reads from a sandbox. Each must come to an end.
func every(t *testing.T, sb labs.Sandbox, patience time.Duration, mayWork bool) {
	t.Helper()
	for name, f := range map[string]func(context.Context) error{
		"exec": func(ctx context.Context) error {
			_, err := sb.Exec(ctx, labs.Cmd{Args: []string{"true"}, Stdin: strings.NewReader(strings.Repeat("x", 1<<20))})
			return err
		},
		"attach": func(ctx context.Context) error {
			a, err := sb.Attach(ctx, "1", labs.Viewer{From: -1})
			if err != nil {
				return err
			}
			defer a.Close()
			defer time.AfterFunc(patience, func() { a.Close() }).Stop()
			for {
				if _, err := a.ReadFrame(); err != nil {
					return err
				}
			}
		},
		"terminals": func(ctx context.Context) error { _, err := sb.Terminals(ctx); return err },
		"dial": func(ctx context.Context) error {
			c, err := sb.Dial(ctx, "tcp", "127.0.0.1:1")
			if err == nil {
				c.Close()
			}
			return err
		},
		"watch": func(ctx context.Context) error {
			changes, err := sb.Watch(ctx, labs.Watch{})
			if err != nil {
				return err
			}
			for range changes {
			}
			return io.EOF
		},
		"glob": func(ctx context.Context) error {
			all, err := sb.Glob(ctx, "/*", 10)
			if len(all) > 10 {
				t.Errorf("glob gave %d", len(all))
			}
			return err
		},
		"open": func(ctx context.Context) error {
			r, err := sb.Open(ctx, "/x")
			if err != nil {
				return err
			}
			defer r.Close()
			n, err := io.Copy(io.Discard, r)
			if n > 1<<30 {
				t.Errorf("open gave %d bytes", n)
			}
			return err
		},
		"tar names": func(ctx context.Context) error {
			all, err := sb.TarNames(ctx, "/x", 10)
			if len(all) > 10 {
				t.Errorf("tar names gave %d", len(all))
			}
			return err
		},
		"list": func(ctx context.Context) error {
			all, err := sb.List(ctx, "/", 10)
			if len(all) > 10 {
				t.Errorf("list gave %d", len(all))
			}
			return err
		},
		"read file": func(ctx context.Context) error {
			text, _, err := sb.ReadFile(ctx, "/x", 1<<20)
			if len(text) > 1<<20 {
				t.Errorf("read file gave %d bytes", len(text))
			}
			return err
		},
		"write file": func(ctx context.Context) error {
			v, err := sb.WriteFile(ctx, "/x", make([]byte, 1<<20), "")
			if len(v) > 64 {
				t.Errorf("a version has %d bytes", len(v))
			}
			return err
		},
		"ports": func(ctx context.Context) error {
			all, err := sb.(labs.PortLister).Ports(ctx)
			for i, p := range all {
				if p < 1 || p > 65535 || i > 0 && all[i-1] >= p || i >= agent.MaxPorts {
					t.Errorf("port %d is %d", i, p)
					break
				}
			}
			return err
		},
		"unpack": func(ctx context.Context) error {
			return sb.Unpack(ctx, "/x", strings.NewReader(strings.Repeat("x", 8<<20)))
		},
		"warm engine": sb.WarmEngine,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		began := time.Now()
		err := f(ctx)
		took := time.Since(began)
		cancel()
		runtime.ReadMemStats(&after)
		if err == nil && !mayWork {
			t.Errorf("%s worked", name)
		}
		if took > patience+5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if used := int64(after.HeapSys) - int64(before.HeapSys); used > 96<<20 {
			t.Errorf("%s took %d MB of memory", name, used>>20)
		}
	}
}

func TestAttackAgent(t *testing.T) {
	for _, c := range []struct {
		name    string
		mayWork bool
		answer  func(net.Conn, *http.Request)
	}{
		{"hangs up", false, func(net.Conn, *http.Request) {}},
		{"never answers", false, func(c net.Conn, _ *http.Request) { io.Copy(io.Discard, c) }},
		{"never reads", false, func(c net.Conn, _ *http.Request) { time.Sleep(time.Second) }},
		{"is no HTTP server", false, func(c net.Conn, _ *http.Request) { forever(c, "SSH-2.0-x\r\n") }},
		{"a status line without end", false, func(c net.Conn, _ *http.Request) { io.WriteString(c, "HTTP/1.1 200 "); forever(c, "O") }},
		{"headers without end", false, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			forever(c, "X: "+strings.Repeat("x", 1000)+"\r\n")
		}},
		{"headers of an upgrade without end", false, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: "+agent.Upgrade+"\r\n")
			forever(c, "X: x\r\n")
		}},
		{"100 Continue without end", false, func(c net.Conn, _ *http.Request) { forever(c, "HTTP/1.1 100 Continue\r\n\r\n") }},
		{"redirects", false, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 307 Temporary\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
		}},
		{"an error without end", false, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 500 No\r\n\r\n{\"error\": \"")
			forever(c, "x")
		}},
		{"switches where nobody asked for", true, func(c net.Conn, _ *http.Request) { io.WriteString(c, switched); forever(c, "x") }},
		{"speaks another protocol", false, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
			forever(c, "x")
		}},
		{"a string without end", true, func(c net.Conn, _ *http.Request) { io.WriteString(c, ok+`["`); forever(c, "x") }},
		{"a list without end", true, func(c net.Conn, _ *http.Request) { io.WriteString(c, ok+"["); forever(c, `{},`) }},
		{"brackets without end", true, func(c net.Conn, _ *http.Request) { io.WriteString(c, ok); forever(c, "[") }},
		{"numbers without end", true, func(c net.Conn, _ *http.Request) { io.WriteString(c, ok+"[80,80,-1,0,65536,22"); forever(c, `,1`) }},
		{"a conflict with a long version", false, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 409 No\r\n\r\n"+`{"kind":"changed","error":"x","version":"`+strings.Repeat("x", 1000)+`"}`)
		}},
		{"spaces without end", true, func(c net.Conn, _ *http.Request) { io.WriteString(c, ok); forever(c, " ") }},
		{"changes without end", true, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, ok)
			forever(c, `{"command":{"seq":1,"text":"x"}}`+"\n")
		}},
		{"a byte a second", true, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, ok+"[")
			for range 5 {
				if _, err := c.Write([]byte(" ")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
		{"a frame of 4 GB", true, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, switched+frame(1<<32-1, agent.ExecStdout, ""))
			forever(c, "x")
		}},
		{"an empty frame", true, func(c net.Conn, _ *http.Request) { io.WriteString(c, switched); forever(c, "\x00\x00\x00\x00x") }},
		{"frames without end", true, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, switched)
			forever(c, frame(9, agent.ExecStdout, "01234567"))
		}},
		{"an exit status of 3 bytes", true, func(c net.Conn, _ *http.Request) { io.WriteString(c, switched+frame(4, agent.ExecExit, "abc")) }},
		{"half a frame", true, func(c net.Conn, _ *http.Request) { io.WriteString(c, switched+frame(100, agent.ExecStdout, "abc")) }},
		{"a length that is not true", true, func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n[]")
		}},
	} {
		t.Run(c.name, func(t *testing.T) { every(t, newHostile(t, c.answer), 300*time.Millisecond, c.mayWork) })
	}
}

// An answer of a size that is allowed can still be a list that takes a lot of
// memory.
func TestAttackListThatGrowsInMemory(t *testing.T) {
	sb := newHostile(t, func(c net.Conn, _ *http.Request) {
		io.WriteString(c, ok+"["+strings.Repeat("{},", 2_000_000)+"{}]")
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	all, err := sb.Glob(t.Context(), "/*", 100)
	runtime.ReadMemStats(&after)
	if err != nil || len(all) != 100 {
		t.Errorf("%d, %v", len(all), err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
	for _, limit := range []int{0, -1} {
		if all, err := sb.Glob(t.Context(), "/*", limit); err == nil && len(all) > 0 {
			t.Errorf("with limit %d: %d", limit, len(all))
		}
	}
}

func TestAttackErrorTextIsCut(t *testing.T) {
	sb := newHostile(t, func(c net.Conn, _ *http.Request) {
		io.WriteString(c, "HTTP/1.1 404 No\r\n\r\n{\"kind\":\"not found\",\"error\":\""+strings.Repeat("€", 3000)+"\"}")
	})
	_, err := sb.Terminals(t.Context())
	if !errors.Is(err, labs.ErrNotFound) || len(err.Error()) > 2<<10 {
		t.Errorf("%d bytes: %.100v", len(err.Error()), err)
	}
}

// A receiver that does not receive loses file changes, and is told so, however
// quiet the agent is afterwards. Commands wait.
func TestWatchTellsASlowReceiverThatChangesWereLost(t *testing.T) {
	const files, commands = 1000, 50
	written := make(chan struct{})
	sb := newHostile(t, func(c net.Conn, _ *http.Request) {
		var b bytes.Buffer
		b.WriteString("HTTP/1.1 200 OK\r\n\r\n")
		for i := range files {
			fmt.Fprintf(&b, `{"file":"/%d"}`+"\n", i)
			if i%(files/commands) == 0 {
				fmt.Fprintf(&b, `{"command":{"seq":%d}}`+"\n", i/(files/commands)+1)
			}
		}
		c.Write(b.Bytes())
		close(written)
		io.Copy(io.Discard, c)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	changes, err := sb.Watch(ctx, labs.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	<-written
	eventually(t, "all has been read", func() bool { n := len(changes); time.Sleep(100 * time.Millisecond); return n == len(changes) })
	told, lost, last := 0, 0, int64(0)
	for last < commands || lost == 0 {
		c, open := <-changes
		if !open {
			t.Fatalf("it ended: %d files, %d commands, %d times Lost", told, last, lost)
		}
		switch {
		case c.Command != nil:
			if c.Command.Seq != last+1 {
				t.Fatalf("command %d after %d", c.Command.Seq, last)
			}
			last++
		case c.Lost:
			lost++
		default:
			told++
		}
	}
	if told == 0 || told >= files || lost > 2 {
		t.Errorf("%d files told, %d times Lost", told, lost)
	}
}

func TestWatchDropsWhatIsNoChange(t *testing.T) {
	sb := newHostile(t, func(c net.Conn, _ *http.Request) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n{}\n{\"x\":1}\n{\"file\":\"/a\",\"engine\":{\"phase\":\"ready\"}}\nnull\n{\"file\":\"/b\"}\nno JSON\n{\"file\":\"/c\"}\n")
	})
	changes, err := sb.Watch(t.Context(), labs.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for c := range changes {
		got = append(got, fmt.Sprint(c.File, c.Engine != nil))
	}
	if s := strings.Join(got, " "); s != "true /bfalse" {
		t.Error(s)
	}
}

// Standard input is not closed and an open file is not either.
func TestUnpackLeavesTheStreamOpen(t *testing.T) {
	sb := newHostile(t, func(c net.Conn, _ *http.Request) {
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	s := &closed{Reader: strings.NewReader("x")}
	if err := sb.Unpack(t.Context(), "/x", s); err != nil {
		t.Fatal(err)
	}
	if s.was {
		t.Error("it was closed")
	}
}

type closed struct {
	io.Reader
	was bool
}

func (c *closed) Close() error { c.was = true; return nil }
