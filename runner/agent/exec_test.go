package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/labs"

	"golang.org/x/sys/unix"
)

// A run is the client's side of an exec.
type run struct {
	t    *testing.T
	conn net.Conn
	*FrameConn
	done chan error
	home string
}

func newRun(t *testing.T, ctx context.Context, spec ExecSpec) *run {
	t.Helper()
	cfg := Config{Home: t.TempDir(), RunDir: t.TempDir()}.complete()
	if err := os.Mkdir(cfg.Home+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Home+"/sub/tool", []byte("#!/bin/sh\necho tool\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, kv := range spec.Env {
		spec.Env[i] = strings.ReplaceAll(kv, "HOME", cfg.Home)
	}
	r := newReaper()
	here, there := connPair(t)
	x := &run{t: t, conn: here, FrameConn: NewFrameConn(here, nil), done: make(chan error, 1), home: cfg.Home}
	go func() { x.done <- serveExec(ctx, cfg, r, NewFrameConn(there, nil)) }()
	t.Cleanup(func() {
		x.Close()
		x.wait()
		r.close()
	})
	here.SetDeadline(time.Now().Add(within))
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.WriteFrame(labs.Frame{Kind: ExecStart, Payload: b}); err != nil {
		t.Fatal(err)
	}
	return x
}

// wait waits until the agent's side is done.
func (x *run) wait() error {
	x.t.Helper()
	select {
	case err := <-x.done:
		x.done <- err
		return err
	case <-time.After(within):
		x.t.Fatal("the agent's side did not end")
		return nil
	}
}

// end reads to the last frame.
func (x *run) end() (stdout, stderr string, exit int, failed string) {
	x.t.Helper()
	var out, err strings.Builder
	for {
		f, e := x.ReadFrame()
		if e != nil {
			x.t.Fatalf("%v; stdout %q, stderr %q", e, out.String(), err.String())
		}
		switch f.Kind {
		case ExecStdout:
			out.Write(f.Payload)
		case ExecStderr:
			err.Write(f.Payload)
		case ExecExit:
			return out.String(), err.String(), int(binary.BigEndian.Uint32(f.Payload)), ""
		case ExecFailed:
			return out.String(), err.String(), -1, string(f.Payload)
		default:
			x.t.Fatalf("frame %q", f.Kind)
		}
	}
}

func TestExec(t *testing.T) {
	sh := func(script string) []string { return []string{"sh", "-c", script} }
	for _, tt := range []struct {
		name           string
		spec           ExecSpec
		stdin          string
		stdout, stderr string
		exit           int
		failed         string
	}{
		{name: "nothing", spec: ExecSpec{Args: []string{"true"}}},
		{name: "streams apart", spec: ExecSpec{Args: sh("echo out; echo err >&2; exit 3")}, stdout: "out\n", stderr: "err\n", exit: 3},
		{name: "binary", spec: ExecSpec{Args: sh(`printf '\000\377\r\n'`)}, stdout: "\x00\xff\r\n"},
		{name: "signal", spec: ExecSpec{Args: sh("kill -TERM $$")}, exit: 128 + 15},
		{name: "home", spec: ExecSpec{Args: sh("pwd; echo $HOME")}, stdout: "HOME\nHOME\n"},
		{name: "directory", spec: ExecSpec{Args: []string{"pwd"}, Dir: "/usr"}, stdout: "/usr\n"},
		{name: "directory in the home", spec: ExecSpec{Args: []string{"pwd"}, Dir: "~/sub"}, stdout: "HOME/sub\n"},
		{name: "environment", spec: ExecSpec{Args: sh("echo $A $USER $LANG"), Env: []string{"A=b c", "USER=me"}}, stdout: "b c me C.UTF-8\n"},
		{name: "path of its own", spec: ExecSpec{Args: []string{"tool"}, Env: []string{"PATH=HOME/sub"}}, stdout: "tool\n"},
		{name: "no standard input", spec: ExecSpec{Args: []string{"cat"}}},
		{name: "standard input", spec: ExecSpec{Args: []string{"cat"}, Stdin: true}, stdin: "some\nlines\n", stdout: "some\nlines\n"},
		{name: "standard input that nobody wants", spec: ExecSpec{Args: []string{"true"}, Stdin: true}, stdin: strings.Repeat("x", 50_000)},
		{name: "no terminal", spec: ExecSpec{Args: sh("test -t 0 || test -t 1 || echo none")}, stdout: "none\n"},
		{name: "child keeps the output", spec: ExecSpec{Args: sh("sleep 2 & echo started")}, stdout: "started\n"},
		{name: "no such program", spec: ExecSpec{Args: []string{"no-such-program"}}, exit: -1, failed: "no-such-program: there is no such program: not found"},
		{name: "no such directory", spec: ExecSpec{Args: []string{"true"}, Dir: "/no/such"}, exit: -1, failed: "/no/such: there is no such directory: not found"},
		{name: "nothing to run", exit: -1, failed: "nothing to run: not valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newRun(t, context.Background(), tt.spec)
			if tt.spec.Stdin {
				x.WriteFrame(labs.Frame{Kind: ExecStdin, Payload: []byte(tt.stdin)})
				x.WriteFrame(labs.Frame{Kind: ExecEOF})
			}
			out, err, exit, failed := x.end()
			want := strings.ReplaceAll(tt.stdout, "HOME", x.home)
			if out != want || err != tt.stderr || exit != tt.exit || failed != tt.failed {
				t.Errorf("got %q, %q, exit %d, failed %q\nwant %q, %q, exit %d, failed %q", out, err, exit, failed, want, tt.stderr, tt.exit, tt.failed)
			}
		})
	}
}

func TestExecOutputIsWholeThoughTheClientIsSlow(t *testing.T) {
	// More than fits on the way, and the command is long gone when it is read.
	x := newRun(t, context.Background(), ExecSpec{Args: []string{"sh", "-c", "sleep 3 & seq 1 100000"}})
	time.Sleep(2 * outputWait)
	out, _, exit, _ := x.end()
	if want := 588895; len(out) != want || !strings.HasSuffix(out, "\n100000\n") || exit != 0 {
		t.Errorf("%d bytes of %d came, exit %d", len(out), want, exit)
	}
}

func TestExecBigInputAndOutput(t *testing.T) {
	x := newRun(t, context.Background(), ExecSpec{Args: []string{"cat"}, Stdin: true})
	want := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20)
	sent := make(chan error, 1)
	go func() {
		var err error
		for rest := want; len(rest) > 0 && err == nil; {
			n := min(len(rest), 50_000)
			err = x.WriteFrame(labs.Frame{Kind: ExecStdin, Payload: rest[:n]})
			rest = rest[n:]
		}
		if err == nil {
			err = x.WriteFrame(labs.Frame{Kind: ExecEOF})
		}
		sent <- err
	}()
	out, _, exit, _ := x.end()
	if err := <-sent; err != nil || exit != 0 || out != string(want) {
		t.Errorf("%d bytes of %d came back, exit %d, %v", len(out), len(want), exit, err)
	}
}

// alive tells which of the processes whose numbers are in a file are alive.
func alive(t *testing.T, file string) (pids []int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		if unix.Kill(pid, 0) == nil && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestExecIsKilledWithAllItsChildren(t *testing.T) {
	// A child, one in another group and session, an orphan of another session
	// that ignores signals, and one that forks all the time.
	const script = `
		sleep 1000 & echo $! >>pids
		setsid sh -c 'echo $$ >>pids; exec sleep 1001' &
		setsid sh -c 'trap "" HUP TERM INT; (trap "" HUP TERM INT; sh -c "echo \$PPID" >>pids; while :; do sleep 0.01; done) & '
		echo $$ >>pids
		while [ $(wc -l <pids) -lt 4 ]; do sleep 0.01; done
		echo ready; cat; sleep 1002`
	for _, tt := range []struct {
		name  string
		stdin bool
		end   func(x *run, cancel func())
	}{
		{"the client leaves", true, func(x *run, _ func()) { x.Close() }},
		{"the context ends", true, func(x *run, cancel func()) { cancel() }},
		{"the client leaves and its input waits", true, func(x *run, _ func()) {
			x.conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			for x.WriteFrame(labs.Frame{Kind: ExecStdin, Payload: make([]byte, 50_000)}) == nil {
			}
			x.Close()
		}},
		{"the client makes no sense", true, func(x *run, _ func()) { x.WriteFrame(labs.Frame{Kind: '?'}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s := script
			if strings.Contains(tt.name, "waits") {
				s = strings.Replace(s, "cat;", "", 1)
			}
			x := newRun(t, ctx, ExecSpec{Args: []string{"sh", "-c", s}, Stdin: tt.stdin})
			for ready := ""; !strings.Contains(ready, "ready"); {
				f, err := x.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				ready += string(f.Payload)
			}
			pids := filepath.Join(x.home, "pids")
			if got := alive(t, pids); len(got) != 4 {
				t.Fatalf("%d processes are alive before", len(got))
			}
			tt.end(x, cancel)
			x.wait()
			if got := alive(t, pids); len(got) != 0 {
				t.Errorf("still alive: %v", got)
			}
		})
	}
}

func TestExecFirstFrame(t *testing.T) {
	for _, f := range []labs.Frame{{Kind: ExecStdin, Payload: []byte("x")}, {Kind: ExecStart, Payload: []byte("{")}, {Kind: ExecStart, Payload: []byte(`{"args":[""]}`)}} {
		here, there := connPair(t)
		done := make(chan error, 1)
		go func() {
			done <- serveExec(context.Background(), Config{}.complete(), newReaper(), NewFrameConn(there, nil))
		}()
		here.SetDeadline(time.Now().Add(within))
		c := NewFrameConn(here, nil)
		if err := c.WriteFrame(f); err != nil {
			t.Fatal(err)
		}
		if got, err := c.ReadFrame(); err != nil || got.Kind != ExecFailed {
			t.Errorf("frame %q: answered %q, %v", f.Kind, got.Kind, err)
		}
		if _, err := c.ReadFrame(); !errors.Is(err, io.EOF) {
			t.Errorf("frame %q: then %v", f.Kind, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		here.Close()
	}
}

func BenchmarkExecTrue(b *testing.B) {
	cfg := Config{Home: b.TempDir(), RunDir: b.TempDir()}.complete()
	r := newReaper()
	defer r.close()
	spec := fmt.Appendf(nil, `{"args":["true"]}`)
	for b.Loop() {
		here, there := connPair(b)
		done := make(chan error, 1)
		go func() { done <- serveExec(context.Background(), cfg, r, NewFrameConn(there, nil)) }()
		c := NewFrameConn(here, nil)
		c.WriteFrame(labs.Frame{Kind: ExecStart, Payload: spec})
		for {
			f, err := c.ReadFrame()
			if err != nil {
				b.Fatal(err)
			}
			if f.Kind == ExecExit {
				break
			}
		}
		here.Close()
		<-done
	}
}
