package agent

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"berth/labs"

	"github.com/creack/pty"
)

// Each benchmark measures the agent and a bare pty in turns in the same run,
// so that the machine's mood is in both.

// A bench is somewhere to type and to see.
type bench interface {
	keys(string)
	// until reads until mark has come, and gives how many bytes it read.
	until(mark []byte) int
}

type barePTY struct {
	b   *testing.B
	tty interface {
		Read([]byte) (int, error)
		Write([]byte) (int, error)
	}
	buf  []byte
	kept []byte
}

func newBarePTY(b *testing.B, argv ...string) *barePTY {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(Config{}.complete().env(), "TERM=xterm-256color", "HOME="+b.TempDir())
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		tty.Close()
	})
	return &barePTY{b: b, tty: tty, buf: make([]byte, 64<<10)}
}

func (p *barePTY) keys(s string) {
	if _, err := p.tty.Write([]byte(s)); err != nil {
		p.b.Fatal(err)
	}
}

func (p *barePTY) until(mark []byte) (n int) {
	p.kept = p.kept[:0]
	for !bytes.Contains(p.kept, mark) {
		c, err := p.tty.Read(p.buf)
		if err != nil {
			p.b.Fatal(err)
		}
		n += c
		p.kept = append(p.kept[max(0, len(p.kept)-len(mark)):], p.buf[:c]...)
	}
	return n
}

// keep is a viewer that acknowledges every 16 KiB.
type keep struct {
	*seat
	kept  []byte
	acked int64
}

func (k *keep) until(mark []byte) (n int) {
	k.kept = k.kept[:0]
	for !bytes.Contains(k.kept, mark) {
		f, err := k.ReadFrame()
		if err != nil {
			k.t.Fatal(err)
		}
		at, b, err := f.Output()
		if err != nil {
			continue
		}
		k.next = at + int64(len(b))
		if k.next-k.acked >= 16<<10 {
			k.acked = k.next
			if err := k.WriteFrame(labs.AckFrame(k.next)); err != nil {
				k.t.Fatal(err)
			}
		}
		n += len(b)
		k.kept = append(k.kept[max(0, len(k.kept)-len(mark)):], b...)
	}
	return n
}

func benches(b *testing.B, argv ...string) map[string]bench {
	ts := newTestTerminals(b, func(c *Config) { c.Shell = argv })
	return map[string]bench{
		"bare":  newBarePTY(b, argv...),
		"agent": &keep{seat: sit(b, ts, "1", labs.Viewer{From: -1})},
	}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkEcho is a keystroke and its echo by the terminal.
func BenchmarkEcho(b *testing.B) {
	took := map[string][]time.Duration{}
	both := benches(b, "sh", "-c", "stty -icanon; echo ready; exec cat >/dev/null")
	for _, t := range both {
		t.until([]byte("ready\r\n"))
	}
	for b.Loop() {
		for name, t := range both {
			began := time.Now()
			t.keys("x")
			t.until([]byte("x"))
			took[name] = append(took[name], time.Since(began))
		}
	}
	for name, all := range took {
		b.ReportMetric(float64(median(all).Microseconds()), name+"-p50-us")
	}
	b.ReportMetric(float64(median(took["agent"]))/float64(median(took["bare"])), "agent/bare")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkThroughput is a flood to one viewer.
func BenchmarkThroughput(b *testing.B) {
	rate := map[string][]time.Duration{}
	both := benches(b, "bash", "--norc", "--noprofile")
	const size = 32 << 20
	for _, t := range both {
		t.keys("stty -echo; PS1=\n")
	}
	for b.Loop() {
		for name, t := range both {
			began := time.Now()
			t.keys(fmt.Sprintf("yes 'a line of sixty characters or so, as programs print them ..' | head -c %d; echo e''nd\n", size))
			t.until([]byte("end\r\n"))
			rate[name] = append(rate[name], time.Since(began))
		}
	}
	for name, all := range rate {
		b.ReportMetric(size/median(all).Seconds()/1e6, name+"-MB/s")
	}
	b.ReportMetric(float64(median(rate["bare"]))/float64(median(rate["agent"])), "agent/bare")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkAttach is from a wish to see an existing terminal to its first byte.
func BenchmarkAttach(b *testing.B) {
	ts := newTestTerminals(b, plain())
	sit(b, ts, "1", labs.Viewer{From: -1}).see("# ")
	for b.Loop() {
		s := sit(b, ts, "1", labs.Viewer{From: -1})
		s.see("# ")
		s.leave()
	}
}

// BenchmarkIdleTerminal is the memory of a terminal at its prompt, with one
// viewer.
func BenchmarkIdleTerminal(b *testing.B) {
	const n = 64
	for b.Loop() {
		ts := newTestTerminals(b, plain(), func(c *Config) { c.MaxTerminals = n })
		var before, after runtime.MemStats
		for i := range n {
			if i == 4 { // pools are warm
				runtime.GC()
				runtime.ReadMemStats(&before)
			}
			sit(b, ts, fmt.Sprint(i), labs.Viewer{From: -1}).see("# ")
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/(n-4), "bytes/terminal")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFrames is the path from the pty to a viewer without either: it
// shows what is allocated for a frame.
func BenchmarkFrames(b *testing.B) {
	t := &terminal{reading: make(chan struct{}, 1), ending: make(chan struct{})}
	here, there := connPair(b)
	defer here.Close()
	defer there.Close()
	v := &viewer{conn: NewFrameConn(there, nil), woken: make(chan struct{}, 1), window: labs.WindowMax}
	if err := t.join(v, -1); err != nil {
		b.Fatal(err)
	}
	if err := v.write(t); err != nil {
		b.Fatal(err)
	}
	in := NewFrameConn(here, nil)
	if _, err := in.ReadFrame(); err != nil {
		b.Fatal(err)
	}
	text := bytes.Repeat([]byte("x"), 4095)
	t.ring.write(make([]byte, labs.RingSize)) // has grown
	v.sent, v.acked = t.ring.end, t.ring.end
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		t.print(text, true)
		if err := v.write(t); err != nil {
			b.Fatal(err)
		}
		f, err := in.ReadFrame()
		if err != nil {
			b.Fatal(err)
		}
		at, p, err := f.Output()
		if err != nil {
			b.Fatal(err)
		}
		t.mu.Lock()
		v.ack(at+int64(len(p)), time.Now())
		t.mu.Unlock()
	}
}
