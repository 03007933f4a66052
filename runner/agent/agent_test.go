package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"berth/labs"
)

// A rig is an agent that runs in the test, over this machine, in a folder of
// its own.
type rig struct {
	t      testing.TB
	cfg    Config
	dir    string
	socket string
	client *http.Client
	stop   func() // ends the agent and waits for it; once
}

func startAgent(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	noGoroutinesLeft(t)
	dir, err := os.MkdirTemp("", "berth-agent-") // short, for the paths of sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Home: home, RunDir: filepath.Join(dir, "run"), Socket: filepath.Join(dir, "docker.sock"), Dockerd: "/no/engine",
		DockerConfig: filepath.Join(dir, "daemon.json"), DockerLog: filepath.Join(dir, "docker.log"), EngineRun: filepath.Join(dir, "docker"), Version: "7"}
	for _, f := range change {
		f(&cfg)
	}
	r := &rig{t: t, cfg: cfg, dir: dir, socket: filepath.Join(dir, "agent.sock")}
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg, l) }()
	r.client = &http.Client{Timeout: within, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", r.socket)
		},
	}}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(within):
			buf := make([]byte, 1<<20)
			t.Fatalf("the agent does not end:\n%s", buf[:runtime.Stack(buf, true)])
		}
		r.client.CloseIdleConnections()
	}
	t.Cleanup(r.stop)
	return r
}

// noGoroutinesLeft fails the test when goroutines of this package outlive it.
func noGoroutinesLeft(t testing.TB) {
	t.Helper()
	ours := func() (all []string) {
		buf := make([]byte, 4<<20)
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "berth/runner/agent.") && !strings.Contains(g, "testing.tRunner") && !strings.Contains(g, "testing.(*T).Run") {
				all = append(all, g)
			}
		}
		return all
	}
	before := len(ours())
	t.Cleanup(func() {
		var after []string
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if after = ours(); len(after) <= before {
				return
			}
		}
		t.Errorf("%d goroutines are left, %d were there:\n%s", len(after), before, strings.Join(after, "\n\n"))
	})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// ask makes a request and gives the status and the answer.
func (r *rig) ask(method, path string, q url.Values, body io.Reader) (int, []byte) {
	r.t.Helper()
	req, err := http.NewRequest(method, "http://agent"+path+"?"+q.Encode(), body)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return res.StatusCode, b
}

// get decodes a JSON answer and gives the error of a Fault.
func (r *rig) get(path string, q url.Values, to any) error {
	r.t.Helper()
	status, b := r.ask("GET", path, q, nil)
	if status != http.StatusOK {
		var f Fault
		if err := json.Unmarshal(b, &f); err != nil {
			r.t.Fatalf("%s: status %d and %q", path, status, b)
		}
		return f.Err()
	}
	if err := json.Unmarshal(b, to); err != nil {
		r.t.Fatalf("%s: %v: %.200q", path, err, b)
	}
	return nil
}

// open asks for a stream.
func (r *rig) open(method, path string, q url.Values) (net.Conn, *bufio.Reader) {
	r.t.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		r.t.Fatal(err)
	}
	fmt.Fprintf(conn, "%s %s?%s HTTP/1.1\r\nHost: agent\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", method, path, q.Encode(), Upgrade)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("%s: %v, %v", path, res, err)
	}
	return conn, in
}

func TestHealth(t *testing.T) {
	r := startAgent(t)
	var h Health
	if err := r.get(PathHealth, nil, &h); err != nil {
		t.Fatal(err)
	}
	if h.Version != "7" || h.PID != os.Getpid() || h.Engine.Phase != "off" || h.Engine.Reason == "" {
		t.Errorf("health is %+v", h)
	}
}

func TestWrongRequests(t *testing.T) {
	r := startAgent(t)
	for _, c := range []struct {
		method, path string
		q            url.Values
		status       int
	}{
		{"GET", "/", nil, 404},
		{"GET", "/v1/nothing", nil, 404},
		{"GET", PathExec, nil, 405},
		{"POST", PathExec, nil, 400},
		{"GET", PathTerminals + "/1/attach", nil, 400}, // without Upgrade
		{"GET", PathDial, url.Values{"network": {"tcp"}, "address": {"127.0.0.1:1"}}, 400},
		{"GET", PathWatch, nil, 400},
		{"GET", PathWatch, url.Values{"after": {"x"}}, 400},
		{"GET", PathWatch, url.Values{"after": {"0"}, "path": make([]string, maxPatterns+1)}, 400},
		{"GET", PathWatch, url.Values{"after": {"0"}, "path": {"relative"}}, 400},
		{"GET", PathGlob, url.Values{"pattern": {"/*"}}, 400},
		{"GET", PathGlob, url.Values{"pattern": {"/*"}, "limit": {"0"}}, 400},
		{"GET", PathGlob, url.Values{"pattern": {"[/"}, "limit": {"1"}}, 400},
		{"GET", PathGlob, url.Values{"pattern": {"/[x"}, "limit": {"1"}}, 400},
		{"GET", PathFile, nil, 400},
		{"GET", PathFile, url.Values{"path": {"/no/such"}}, 404},
		{"GET", PathFile, url.Values{"path": {"/etc\x00/passwd"}}, 400},
		{"GET", PathTarNames, url.Values{"path": {"/no/such"}, "limit": {"1"}}, 404},
		{"POST", PathUnpack, url.Values{"dir": {"relative"}}, 400},
	} {
		if status, b := r.ask(c.method, c.path, c.q, nil); status != c.status {
			t.Errorf("%s %s %v: %d %s; want %d", c.method, c.path, c.q, status, b, c.status)
		}
	}
	var names []string
	if err := r.get(PathTerminals, nil, &names); err != nil || len(names) != 0 {
		t.Errorf("terminals after those: %q, %v", names, err)
	}
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(within))
	fmt.Fprintf(conn, "GET %s/1/attach?rows=70000&cols=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", PathTerminals, Upgrade)
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 400 {
		t.Errorf("a terminal with 70000 rows: %v, %v", res, err)
	}
}

// What is under way when the agent ends ends with it.
func TestRunWaitsForAllItStarted(t *testing.T) {
	r := startAgent(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	attached, in := r.open("GET", PathTerminals+"/1/attach", nil)
	if _, err := NewFrameConn(attached, in).ReadFrame(); err != nil {
		t.Fatal(err)
	}
	exec, in := r.open("POST", PathExec, nil)
	frames := NewFrameConn(exec, in)
	if err := frames.WriteFrame(labs.Frame{Kind: ExecStart, Payload: []byte(`{"args":["sh","-c","echo began; exec sleep 1000"]}`)}); err != nil {
		t.Fatal(err)
	}
	if f, err := frames.ReadFrame(); err != nil || string(f.Payload) != "began\n" {
		t.Fatalf("exec: %q, %v", f.Payload, err)
	}
	r.open("GET", PathDial, url.Values{"network": {"tcp"}, "address": {silent.Addr().String()}})
	w := r.watch(labs.Watch{Paths: []string{"~/**"}})
	w.next()
	body, pipe := io.Pipe()
	defer pipe.Close()
	unpacking := make(chan error, 1)
	go func() {
		req, err := http.NewRequest("POST", "http://agent"+PathUnpack+"?dir="+url.QueryEscape("~/in"), body)
		if err == nil {
			var res *http.Response
			if res, err = r.client.Do(req); err == nil {
				res.Body.Close()
			}
		}
		unpacking <- err
	}()
	if _, err := pipe.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %v", took)
	}
	for name, in := range map[string]io.Reader{"terminal": attached, "exec": exec} {
		if _, err := io.Copy(io.Discard, in); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	pipe.CloseWithError(io.ErrClosedPipe)
	if err := <-unpacking; err == nil {
		t.Error("half a stream was unpacked")
	}
}

func TestAttackMoreConnectionsThanAllowed(t *testing.T) {
	r := startAgent(t)
	var idle []net.Conn
	for range maxConns + 50 {
		c, err := net.Dial("unix", r.socket)
		if err != nil {
			break // the backlog is full
		}
		idle = append(idle, c)
	}
	for _, c := range idle {
		c.Close()
	}
	var h Health
	if err := r.get(PathHealth, nil, &h); err != nil {
		t.Error(err)
	}
}

func TestAttackEndlessHeader(t *testing.T) {
	r := startAgent(t)
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(within))
	io.WriteString(conn, "GET /v1/health HTTP/1.1\r\nHost: a\r\n")
	sent := 0
	for line := []byte("X: " + strings.Repeat("x", 1000) + "\r\n"); sent < 64<<20; sent += len(line) {
		if _, err := conn.Write(line); err != nil {
			break
		}
	}
	if sent > 4<<20 {
		t.Errorf("%d bytes of header were taken", sent)
	}
}

// A watching is a client of a watch.
type watching struct {
	t    testing.TB
	body io.ReadCloser
	in   *json.Decoder
}

func (r *rig) watch(w labs.Watch) *watching {
	r.t.Helper()
	q := url.Values{"path": w.Paths, "after": {fmt.Sprint(w.After)}}
	res, err := r.client.Get("http://agent" + PathWatch + "?" + q.Encode())
	if err != nil {
		r.t.Fatal(err)
	}
	if res.StatusCode != 200 {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		r.t.Fatalf("watch: %d %s", res.StatusCode, b)
	}
	r.t.Cleanup(func() { res.Body.Close() })
	return &watching{t: r.t, body: res.Body, in: json.NewDecoder(res.Body)}
}

// next gives the next change; the client's timeout bounds it.
func (w *watching) next() labs.Change {
	w.t.Helper()
	var c labs.Change
	if err := w.in.Decode(&c); err != nil {
		w.t.Fatalf("wait for a change: %v", err)
	}
	return c
}

// files reads until all these were told, or Lost, and fails at others.
func (w *watching) files(names ...string) {
	w.t.Helper()
	want := make(map[string]bool)
	for _, n := range names {
		want[n] = true
	}
	seen := make(map[string]bool)
	for len(seen) < len(want) {
		c := w.next()
		switch {
		case c.Lost:
			w.t.Fatal("changes were lost")
		case c.File == "":
		case !want[c.File]:
			w.t.Errorf("%s was told", c.File)
		default:
			seen[c.File] = true
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEnvironment(t *testing.T) {
	plainly := Config{}.complete().env()
	if bytes.Contains([]byte(strings.Join(plainly, " ")), []byte("DOCKER_HOST")) {
		t.Errorf("DOCKER_HOST is set without need: %q", plainly)
	}
	elsewhere := strings.Join(Config{Socket: "/x/d.sock", Home: "/h"}.complete().env(), " ")
	for _, want := range []string{"DOCKER_HOST=unix:///x/d.sock", "HOME=/h"} {
		if !strings.Contains(elsewhere, want) {
			t.Errorf("%s is missing in %s", want, elsewhere)
		}
	}
}
