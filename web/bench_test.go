package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/labs"
	"berth/web"
)

// largeLesson has 20 steps and about 100 kB of highlighted HTML.
func largeLesson(id string) *labs.Lesson {
	l := &labs.Lesson{ID: id, Title: "A large lab", Summary: "It has all there is.", Level: "advanced", Minutes: 90, Image: "shell"}
	block := strings.Repeat(`<div class="block run" data-command="x/1" data-terminal="1" data-code="docker run --rm busybox echo hello"><pre class="chroma"><code><span class="line"><span class="cl">docker run --rm busybox <span class="nb">echo</span> hello</span></span></code></pre></div><p>What it prints, and why it does so, is explained here at some length.</p>`, 16)
	for i := range 20 {
		step := fmt.Sprintf("step-%d", i)
		l.Steps = append(l.Steps, labs.Step{
			ID: step, Title: "Step " + step, HTML: block, Hints: []string{"a", "b"}, Solution: labs.Solution{HTML: "c"},
			Checks: []labs.Check{{ID: step + "/1", Name: "something is so", Script: "true"}, {ID: step + "/2", Name: "something else is so", Script: "true"}},
		})
	}
	return l
}

func benchPage(b *testing.B, path string) {
	var lessons []*labs.Lesson
	for i := range 30 {
		lessons = append(lessons, largeLesson(fmt.Sprintf("lab-%d", i)))
	}
	ts, s, _ := newServer(b, nil, lessons...)
	p := newPerson(b, ts)
	p.open("lab-0")
	req := httptest.NewRequest("GET", "http://localhost"+path, nil)
	req.Header.Set("Accept-Encoding", "gzip")
	req.AddCookie(p.cookie)
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, req)
		if rec.Code != 200 {
			b.Fatal(rec.Code)
		}
		size = rec.Body.Len()
	}
	b.ReportMetric(float64(size), "wire-B")
}

func BenchmarkHomePage(b *testing.B)   { benchPage(b, "/") }
func BenchmarkLessonPage(b *testing.B) { benchPage(b, "/labs/lab-0") }

// TestPageWeight: what a browser fetches for a lesson page, before the
// terminal opens, is under 250 kB.
func TestPageWeight(t *testing.T) {
	ts, _, _ := newServer(t, func(c *web.Config) { c.Bundle = nil }, largeLesson("large"))
	total := 0
	for _, path := range []string{"/labs/large", "/assets/app.js", "/assets/app.css"} {
		req, err := http.NewRequest("GET", ts.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := ts.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 {
			continue // the bundle was not built; its own tests weigh it too
		}
		t.Logf("%s: %d bytes", path, n)
		total += int(n)
	}
	if total > 250_000 {
		t.Errorf("%d bytes over the wire, more than 250 kB", total)
	}
}

// BenchmarkEcho is a keystroke's way to the terminal and back.
func BenchmarkEcho(b *testing.B) { benchEcho(b, 0) }

// BenchmarkEchoBesideFloods is the same while 50 other terminals print all
// they can to viewers that read all they can, in the same process.
func BenchmarkEchoBesideFloods(b *testing.B) { benchEcho(b, 50) }

func benchEcho(b *testing.B, floods int) {
	ts, _, _ := newServer(b, nil)
	var running sync.WaitGroup
	var views []*screen
	for range floods {
		p := newPerson(b, ts)
		s := p.view(p.open("images"), "1", 'w')
		s.typed("F")
		views = append(views, s)
		running.Go(func() { s.drain() })
	}
	p := newPerson(b, ts)
	s := p.view(p.open("images"), "1", 'w')
	var times []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		s.typed("x")
		for {
			f := s.read()
			if f.Kind == labs.FrameOutput {
				break
			}
		}
		times = append(times, time.Since(start))
		s.next++
		s.send(labs.AckFrame(s.next))
		if floods > 0 {
			b.StopTimer()
			time.Sleep(2 * time.Millisecond) // somebody types, they do not flood too
			b.StartTimer()
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
	total := int64(0)
	for _, v := range views {
		v.conn.Close()
	}
	running.Wait()
	for _, v := range views {
		total += v.next
	}
	if floods > 0 {
		b.ReportMetric(float64(total)/1e6/b.Elapsed().Seconds(), "flood-MB/s")
	}
}

// drain reads and acknowledges until the connection ends.
func (s *screen) drain() {
	for {
		f, err := s.tryRead()
		if err != nil {
			return
		}
		if f.Kind != labs.FrameOutput {
			continue
		}
		off, out, err := f.Output()
		if err != nil {
			return
		}
		s.next = off + int64(len(out))
		if s.conn.WriteMessage(2, append([]byte{labs.FrameAck}, labs.AckFrame(s.next).Payload...)) != nil {
			return
		}
	}
}

// BenchmarkOutput is a flood to one viewer that reads all it can.
func BenchmarkOutput(b *testing.B) {
	ts, _, _ := newServer(b, nil)
	p := newPerson(b, ts)
	s := p.view(p.open("images"), "1", 'w')
	s.typed("F")
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	done := int64(0)
	for b.Loop() {
		for done += 16 << 10; s.next < done; {
			f := s.read()
			if f.Kind != labs.FrameOutput {
				continue
			}
			off, out, err := f.Output()
			if err != nil {
				b.Fatal(err)
			}
			s.next = off + int64(len(out))
			s.send(labs.AckFrame(s.next))
		}
	}
}
