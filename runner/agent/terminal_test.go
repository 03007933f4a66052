package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/labs"

	"golang.org/x/sys/unix"
)

// within is how long anything in a test may take.
const within = 20 * time.Second

// newTestTerminals gives terminals with a home and a run directory of their
// own, whose shells end with the test.
func newTestTerminals(t testing.TB, change ...func(*Config)) *terminals {
	t.Helper()
	cfg := Config{Home: t.TempDir(), RunDir: t.TempDir()}
	for _, f := range change {
		f(&cfg)
	}
	r, h := newReaper(), newHistory()
	ts := newTerminals(cfg.complete(), h, r)
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	listening.Go(func() {
		if err := h.listen(ctx, cfg.RunDir+"/"+commandsFIFO); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		ts.close()
		cancel()
		listening.Wait()
		r.close()
	})
	return ts
}

// plain makes the shell one whose output a test can foretell.
func plain(script ...string) func(*Config) {
	return func(c *Config) {
		c.Shell = []string{"bash", "--norc", "--noprofile"}
		if len(script) > 0 {
			c.Shell = []string{"bash", "-c", strings.Join(script, "\n")}
		}
	}
}

// connPair gives both ends of a stream.
func connPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		conns[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return conns[0], conns[1]
}

// A seat is where a test watches and types. It acknowledges what it reads.
type seat struct {
	t    testing.TB
	conn net.Conn
	*FrameConn
	next  int64 // offset of the next byte
	start int64 // offset in the last FrameStart
	size  labs.Size
	exits []int
	noAck atomic.Bool
	done  chan error
}

// sit attaches to a terminal.
func sit(t testing.TB, ts *terminals, name string, v labs.Viewer) *seat {
	t.Helper()
	here, there := connPair(t)
	s := &seat{t: t, conn: here, FrameConn: NewFrameConn(here, nil), next: -1, done: make(chan error, 1)}
	go func() {
		term, err := ts.open(name, v.Size)
		if err == nil {
			err = term.serve(context.Background(), v, NewFrameConn(there, nil))
		} else {
			there.Close()
		}
		s.done <- err
	}()
	t.Cleanup(func() { s.leave() })
	return s
}

// leave goes away and waits until the agent has noticed.
func (s *seat) leave() error {
	s.Close()
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(within):
		s.t.Error("the agent did not notice that its viewer left")
		return nil
	}
}

// frame gives the next frame, and checks the offsets of output.
func (s *seat) frame() (labs.Frame, error) {
	s.conn.SetReadDeadline(time.Now().Add(within))
	f, err := s.ReadFrame()
	if err != nil {
		return f, err
	}
	switch f.Kind {
	case labs.FrameStart:
		s.start, s.size, err = f.Start()
		s.next = s.start
	case labs.FrameOutput:
		var at int64
		var b []byte
		at, b, err = f.Output()
		if err == nil && at != s.next {
			err = fmt.Errorf("output at %d where %d was expected", at, s.next)
		}
		s.next += int64(len(b))
		if err == nil && !s.noAck.Load() {
			err = s.WriteFrame(labs.AckFrame(s.next))
		}
	case labs.FrameExit:
		var status int
		status, err = f.Exit()
		s.exits = append(s.exits, status)
	case labs.FrameResize:
		s.size, err = f.Resize()
	}
	return f, err
}

func (s *seat) mustFrame() labs.Frame {
	s.t.Helper()
	f, err := s.frame()
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// see reads until the output holds what, and gives the output.
func (s *seat) see(what string) string {
	s.t.Helper()
	var seen []byte
	for !bytes.Contains(seen, []byte(what)) {
		f, err := s.frame()
		if err != nil {
			s.t.Fatalf("waiting for %q: %v; saw %q", what, err, tail(seen))
		}
		if f.Kind == labs.FrameOutput {
			seen = append(seen, f.Payload[8:]...)
		}
	}
	return string(seen)
}

// seeExit reads until a shell ends, and gives its status.
func (s *seat) seeExit() int {
	s.t.Helper()
	for n := len(s.exits); len(s.exits) == n; {
		s.mustFrame()
	}
	return s.exits[len(s.exits)-1]
}

func (s *seat) keys(text string) {
	s.t.Helper()
	if err := s.WriteFrame(labs.Frame{Kind: labs.FrameInput, Payload: []byte(text)}); err != nil {
		s.t.Fatal(err)
	}
}

func tail(b []byte) string { return string(b[max(0, len(b)-500):]) }

func TestTerminal(t *testing.T) {
	ts := newTestTerminals(t, plain())
	s := sit(t, ts, "1", labs.Viewer{From: -1, Size: labs.Size{Rows: 30, Cols: 100}})
	if f := s.mustFrame(); f.Kind != labs.FrameStart || s.start != 0 || s.size != (labs.Size{Rows: 30, Cols: 100}) {
		t.Fatalf("first frame %q at %d, size %v", f.Kind, s.start, s.size)
	}
	s.keys("echo a$((1+1))c; pwd; tty; stty size\n")
	if got := s.see("30 100"); !strings.Contains(got, "a2c") || !strings.Contains(got, "/dev/pts/") || !strings.Contains(got, ts.cfg.Home) {
		t.Errorf("saw %q", got)
	}
	s.keys("echo $TERM $HOME $LANG\n")
	s.see("xterm-256color " + ts.cfg.Home + " C.UTF-8")
}

func TestTerminalResizeReachesSttyAndAllViewers(t *testing.T) {
	ts := newTestTerminals(t, plain())
	a := sit(t, ts, "1", labs.Viewer{From: -1})
	a.mustFrame()
	if a.size != (labs.Size{Rows: 24, Cols: 80}) {
		t.Errorf("a terminal has %v at first", a.size)
	}
	b := sit(t, ts, "1", labs.Viewer{From: -1, Size: labs.Size{Rows: 10, Cols: 10}})
	b.mustFrame()
	if b.size != a.size {
		t.Errorf("a second viewer changed the size to %v", b.size)
	}
	want := labs.Size{Rows: 50, Cols: 132}
	if err := a.WriteFrame(labs.ResizeFrame(want)); err != nil {
		t.Fatal(err)
	}
	a.keys("stty size\n")
	for _, s := range []*seat{a, b} {
		s.see("50 132")
		if s.size != want {
			t.Errorf("a viewer was told %v, not %v", s.size, want)
		}
	}
	for _, bad := range []labs.Size{{Rows: 0, Cols: 80}, {Rows: 24, Cols: 1001}} {
		c := sit(t, ts, "1", labs.Viewer{From: -1})
		if err := c.WriteFrame(labs.ResizeFrame(bad)); err != nil {
			t.Fatal(err)
		}
		if err := <-c.done; !errors.Is(err, labs.ErrInvalid) {
			t.Errorf("size %v: %v", bad, err)
		}
		c.done <- nil
	}
}

func TestTerminalShellThatEndsIsFollowedByANewOne(t *testing.T) {
	ts := newTestTerminals(t, plain())
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	s.keys("echo one; exit 3\n")
	if status := s.seeExit(); status != 3 {
		t.Errorf("the shell ended with %d", status)
	}
	at := s.next
	s.keys("") // a frame without anything is no harm
	for {      // what is typed between two shells is lost
		s.keys("kill -KILL $$\n")
		if f := s.mustFrame(); f.Kind == labs.FrameExit {
			break
		}
	}
	if got := s.exits[1]; got != 128+9 {
		t.Errorf("a killed shell ended with %d", got)
	}
	if s.next <= at {
		t.Errorf("offsets did not go on: %d after %d", s.next, at)
	}
	late := sit(t, ts, "1", labs.Viewer{From: at})
	if f := late.mustFrame(); f.Kind != labs.FrameStart || late.start != at {
		t.Errorf("attached at %d, wanted %d", late.start, at)
	}
	if status := late.seeExit(); status != 128+9 {
		t.Errorf("a viewer who was away was told of status %d", status)
	}
}

func TestTerminalShellThatCannotStayIsNotStartedWithoutEnd(t *testing.T) {
	ts := newTestTerminals(t, plain("exit 7"))
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	began := time.Now()
	for range 4 {
		if status := s.seeExit(); status != 7 {
			t.Errorf("status %d", status)
		}
	}
	if d := time.Since(began); d < 500*time.Millisecond || d > 5*time.Second {
		t.Errorf("four shells ended within %v", d)
	}
}

func TestTerminalOutputOfAShellThatEndsIsWhole(t *testing.T) {
	// Somebody keeps the terminal open, so its end does not show on the pty.
	ts := newTestTerminals(t, plain("setsid sleep 5 & seq 1 100000; echo the end"))
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	s.see("100000\r\nthe end\r\n")
	s.seeExit()
}

func TestTerminalCommandRunsAtMostOnce(t *testing.T) {
	ts := newTestTerminals(t, plain())
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	s.keys("n=0\n")
	send := func(id string) {
		t.Helper()
		if err := s.WriteFrame(labs.CommandFrame(id, []byte("n=$((n+1))\n"))); err != nil {
			t.Fatal(err)
		}
	}
	send("a")
	send("a")
	s.leave()
	s = sit(t, ts, "1", labs.Viewer{From: -1})
	send("a")
	send("b")
	s.keys("echo n is $n.\n")
	s.see("n is 2.")
	for i := range maxCommands - 1 {
		send(fmt.Sprint("other", i))
	}
	send("b") // still remembered
	send("a") // not any more
	s.keys("echo n is $n.\n")
	s.see(fmt.Sprintf("n is %d.", 2+maxCommands-1+1))
}

func TestTerminalLimits(t *testing.T) {
	ts := newTestTerminals(t, plain(), func(c *Config) { c.MaxTerminals = 2 })
	for _, name := range []string{"", "../x", "a b", strings.Repeat("x", 33), "ä"} {
		if _, err := ts.open(name, labs.Size{}); !errors.Is(err, labs.ErrInvalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for _, name := range []string{"2", "1", "2"} {
		if _, err := ts.open(name, labs.Size{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ts.open("3", labs.Size{}); !errors.Is(err, labs.ErrBusy) {
		t.Errorf("one terminal too many: %v", err)
	}
	if got := fmt.Sprint(ts.names()); got != "[2 1]" {
		t.Errorf("terminals %s", got)
	}
	seats := make([]*seat, maxViewers)
	for i := range seats {
		seats[i] = sit(t, ts, "1", labs.Viewer{From: -1})
		seats[i].mustFrame()
	}
	if _, err := ts.open("1", labs.Size{}); !errors.Is(err, labs.ErrBusy) {
		t.Errorf("one viewer too many: %v", err)
	}
	seats[0].leave()
	if _, err := ts.open("1", labs.Size{}); err != nil {
		t.Errorf("after one left: %v", err)
	}
	ts.close()
	if _, err := ts.open("1", labs.Size{}); !errors.Is(err, labs.ErrGone) {
		t.Errorf("after close: %v", err)
	}
}

func TestTerminalCloseEndsWhatTheShellStarted(t *testing.T) {
	ts := newTestTerminals(t, plain())
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	s.keys("(trap '' HUP; exec sleep 1000) & (trap '' HUP TERM INT; exec sleep 1001) & echo pids $! $$ end\n")
	var job, shell int
	for job == 0 {
		out := s.see(" end\r\n")
		fmt.Sscanf(out[strings.LastIndex(out, "pids "):], "pids %d %d", &job, &shell)
	}
	ts.close()
	for _, pid := range []int{job, shell} {
		if err := unix.Kill(pid, 0); err != unix.ESRCH && !isZombie(pid) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
	for {
		if _, err := s.frame(); err != nil {
			return
		}
	}
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

// lines is a command whose output is numbered lines, and that output.
func lines(n int) (command string, output []byte) {
	for i := 1; i <= n; i++ {
		output = fmt.Appendf(output, "line %d äöü€😀\r\n", i)
	}
	return fmt.Sprintf("stty -echo; PS1=; for ((i = 1; i <= %d; i++)); do echo line $i äöü€😀; done\n", n), output
}

func TestTerminalNothingIsLostThrough1000Reconnects(t *testing.T) {
	for _, tt := range []struct {
		name, command string
		lines, quota  int
	}{
		{"paced", "for ((i = 1; i <= %d; i++)); do echo line $i äöü€😀; done", 300_000, 1 << 10},
		{"flood", "seq -f 'line %%.0f äöü€😀' 1 %d", 1_000_000, 32 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts := newTestTerminals(t, plain())
			_, want := lines(tt.lines)
			s := sit(t, ts, "1", labs.Viewer{From: -1})
			s.keys("stty -echo; PS1=\n")
			s.keys("echo ready to go; sleep 0.1; " + fmt.Sprintf(tt.command, tt.lines) + "\n")
			s.see("\nready to go\r\n")
			began := s.next
			var got []byte
			random := rand.New(rand.NewPCG(1, 2))
			reconnects := 0
			for len(got) < len(want) {
				// The connection breaks anywhere, also before anything came.
				for quota := random.IntN(tt.quota); len(got) < len(want) && quota > 0; {
					f := s.mustFrame()
					if f.Kind == labs.FrameStart && s.start != began+int64(len(got)) {
						t.Fatalf("after %d reconnects: started at %d, wanted %d", reconnects, s.start, began+int64(len(got)))
					}
					if f.Kind == labs.FrameOutput {
						got = append(got, f.Payload[8:]...)
						quota -= len(f.Payload) - 8
					}
				}
				s.leave()
				s = sit(t, ts, "1", labs.Viewer{From: began + int64(len(got))})
				reconnects++
			}
			if reconnects < 1000 {
				t.Errorf("only %d reconnects", reconnects)
			}
			got = got[:len(want)] // a prompt may follow
			if !bytes.Equal(got, want) {
				i := 0
				for i < min(len(got), len(want)) && got[i] == want[i] {
					i++
				}
				t.Errorf("the output is not what was printed: at %d of %d, %q instead of %q", i, len(want), got[i:min(i+60, len(got))], want[i:min(i+60, len(want))])
			}
		})
	}
}

// flood is a command that prints at least that many bytes, as fast as it can,
// and then its last line.
func flood(n int) string {
	return fmt.Sprintf("seq -f 'flood %%0.f of something to see' 1 %d; echo the la''st line\n", n/30)
}

// numbered checks that the numbers in lines of a flood follow each other.
func numbered(t *testing.T, out string) {
	t.Helper()
	last := 0
	for line := range strings.Lines(out) {
		number, ok := strings.CutSuffix(strings.TrimSpace(line), " of something to see")
		number, begins := strings.CutPrefix(number, "flood ")
		if !ok || !begins {
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("line %q", line)
		}
		if last != 0 && n != last+1 {
			t.Fatalf("line %d after line %d", n, last)
		}
		last = n
	}
}

func TestTerminalAStuckViewerStopsNobody(t *testing.T) {
	ts := newTestTerminals(t, plain())
	deaf := sit(t, ts, "1", labs.Viewer{From: -1}) // never reads
	mute := sit(t, ts, "1", labs.Viewer{From: -1}) // reads and never acknowledges
	mute.noAck.Store(true)
	heard := make(chan int64, 1)
	stop := make(chan struct{})
	go func() {
		for mute.next < labs.WindowMin {
			if _, err := mute.frame(); err != nil {
				t.Error(err)
				break
			}
		}
		mute.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if f, err := mute.ReadFrame(); err == nil {
			t.Errorf("a viewer that acknowledges nothing got %q behind its window", f.Kind)
		}
		heard <- mute.next
		<-stop
	}()
	defer close(stop)
	live := sit(t, ts, "1", labs.Viewer{From: -1})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	live.keys(flood(16 << 20))
	began := time.Now()
	var out strings.Builder
	for !strings.Contains(out.String()[max(0, out.Len()-200):], "the last line") {
		if f := live.mustFrame(); f.Kind == labs.FrameOutput {
			out.Write(f.Payload[8:])
		} else if f.Kind == labs.FrameStart && live.start > 0 {
			t.Fatalf("the live viewer jumped to %d", live.start)
		}
	}
	t.Logf("%d bytes in %v beside two stuck viewers", out.Len(), time.Since(began))
	numbered(t, out.String())
	if got := <-heard; got != labs.WindowMin {
		t.Errorf("a viewer that acknowledges nothing got %d bytes", got)
	}
	out.Reset()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > labs.RingSize+3*chunkSize+1<<20 {
		t.Errorf("%d bytes more are held", grown)
	}
	// When the deaf one hears again it gets what was on the way, and then it
	// jumps to what is still kept.
	var last string
	starts := 0
	for !strings.Contains(last, "the last line") {
		f := deaf.mustFrame()
		switch f.Kind {
		case labs.FrameStart:
			starts++
			if starts == 2 && deaf.start < live.next-labs.RingSize {
				t.Errorf("it jumped to %d, which is not kept at %d", deaf.start, live.next)
			}
			last = ""
		case labs.FrameOutput:
			last += string(f.Payload[8:])
		}
	}
	if starts != 2 {
		t.Errorf("it began %d times, not 2", starts)
	}
	numbered(t, last)
	if !strings.HasPrefix(last, "flood ") {
		t.Errorf("it did not jump to the beginning of a line: %q", last[:40])
	}
}

func TestTerminalAStuckViewerHoldsTheShellForSecondsOnly(t *testing.T) {
	ts := newTestTerminals(t, plain())
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	s.noAck.Store(true)
	done := filepath.Join(t.TempDir(), "done")
	began := time.Now()
	s.keys("seq 1 1000000; touch " + done + "\n")
	waitFor(t, done)
	if d := time.Since(began); d < stuckAfter-100*time.Millisecond {
		t.Errorf("the shell waited only %v", d)
	}
}

// waitFor waits until a file is there.
func waitFor(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", name)
		}
	}
}

func TestTerminalWithoutViewersRunsOn(t *testing.T) {
	ts := newTestTerminals(t, plain())
	if _, err := ts.open("1", labs.Size{}); err != nil {
		t.Fatal(err)
	}
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	s.mustFrame()
	done := filepath.Join(t.TempDir(), "done")
	s.keys("sleep 0.2; " + strings.TrimSpace(flood(4<<20)) + "; touch " + done + "\n")
	s.leave()
	waitFor(t, done)
	late := sit(t, ts, "1", labs.Viewer{From: 0})
	out := late.see("the last line")
	if late.start == 0 || late.start < late.next-labs.RingSize-64<<10 { // what the tty held came in between
		t.Errorf("started at %d of %d", late.start, late.next)
	}
	if !strings.HasPrefix(out, "flood ") {
		t.Errorf("did not start at the beginning of a line: %q", out[:40])
	}
	numbered(t, out)
	future := sit(t, ts, "1", labs.Viewer{From: 1 << 40})
	if future.mustFrame(); future.start > late.next {
		t.Errorf("one who wants a later life's output started at %d", future.start)
	}
	exact := sit(t, ts, "1", labs.Viewer{From: late.start + 100_001})
	if exact.mustFrame(); exact.start != late.start+100_001 {
		t.Errorf("one who wants what is kept started at %d, not %d", exact.start, late.start+100_001)
	}
}

func TestTerminalCtrlCActsDuringAFlood(t *testing.T) {
	ts := newTestTerminals(t, plain())
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	s.keys("trap 'echo caught' INT\n")
	var took []time.Duration
	for range 5 {
		s.keys("yes 'a line of sixty characters or so, as programs print them'\n")
		// A browser draws about 6 MB/s, and acknowledges what it has drawn.
		const rate = 6 << 20
		began, drawn := time.Now(), 0
		var pressed time.Time
		var end []byte
		for {
			f := s.mustFrame()
			if f.Kind != labs.FrameOutput {
				continue
			}
			drawn += len(f.Payload) - 8
			if d := time.Duration(float64(drawn)/rate*1e9) - time.Since(began); d > 0 {
				time.Sleep(d)
			}
			if pressed.IsZero() && time.Since(began) > 300*time.Millisecond {
				pressed = time.Now()
				s.keys("\x03")
			}
			end = append(end[max(0, len(end)-100):], f.Payload[8:]...)
			if !pressed.IsZero() && bytes.Contains(end, []byte("^C")) {
				break
			}
		}
		took = append(took, time.Since(pressed))
		s.keys("echo 'ag''ain'\n")
		s.see("again\r\n")
	}
	slices.Sort(took)
	t.Logf("%v", took)
	if took[2] > 100*time.Millisecond {
		t.Errorf("Ctrl-C took %v", took)
	}
}

func TestTerminalPasteOf10MB(t *testing.T) {
	paste := strings.Repeat(strings.Repeat("pasted ", 9)+"\n", 10<<20/64)
	for _, tt := range []struct {
		name, setup string
		acksLast    bool // the viewer's acknowledgements are behind its paste
	}{
		{"raw", "stty raw -echo", false},
		{"echo", "true", false},
		{"echo, acknowledgements behind", "true", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts := newTestTerminals(t, plain())
			s := sit(t, ts, "1", labs.Viewer{From: -1})
			s.noAck.Store(tt.acksLast)
			file := filepath.Join(t.TempDir(), "pasted")
			s.keys(fmt.Sprintf("%s; echo re''ady; head -c %d >%s; stty sane; echo do''ne\n", tt.setup, len(paste), file))
			s.see("ready")
			var before, most runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			pasted := make(chan error, 1)
			go func() {
				var err error
				for rest := paste; rest != "" && err == nil; {
					n := min(len(rest), 32<<10)
					err = s.WriteFrame(labs.Frame{Kind: labs.FrameInput, Payload: []byte(rest[:n])})
					rest = rest[n:]
				}
				if tt.acksLast && err == nil {
					err = s.WriteFrame(labs.AckFrame(1 << 40)) // all that it was sent
				}
				s.noAck.Store(false)
				pasted <- err
			}()
			sampled := make(chan struct{})
			stop := make(chan struct{})
			go func() {
				defer close(sampled)
				for {
					var now runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&now)
					if now.HeapAlloc > most.HeapAlloc {
						most = now
					}
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Millisecond):
					}
				}
			}()
			var seen []byte
			for !bytes.Contains(seen, []byte("done\r\n")) {
				if f := s.mustFrame(); f.Kind == labs.FrameOutput {
					seen = append(seen[max(0, len(seen)-20):], f.Payload[8:]...)
				}
			}
			close(stop)
			<-sampled
			if err := <-pasted; err != nil {
				t.Error(err)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != paste {
				t.Errorf("%d bytes arrived of %d, or others", len(got), len(paste))
			}
			if grown := int64(most.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
				t.Errorf("%d bytes more were held", grown)
			}
		})
	}
}

func TestTerminalTypingStaysInOrder(t *testing.T) {
	ts := newTestTerminals(t, plain())
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	file := filepath.Join(t.TempDir(), "typed")
	var want strings.Builder
	s.keys("stty raw -echo; echo re''ady; head -c 20000 >" + file + "; stty sane; echo do''ne\n")
	s.see("ready")
	for i := range 4000 { // single keystrokes, faster than anybody reads them
		key := fmt.Sprintf("%05d", i)
		want.WriteString(key)
		for _, k := range key {
			s.keys(string(k))
		}
	}
	s.see("done")
	if got, err := os.ReadFile(file); err != nil || string(got) != want.String() {
		t.Errorf("typed keys arrived in another order, or not all: %d bytes, %v", len(got), err)
	}
}
