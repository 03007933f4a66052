package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/cmd/learner"
	"berth/labs"
)

// shell is what the bare pty and a terminal have in common.
type shell interface {
	Keys(string) error
	Until(mark string, within time.Duration) (int64, error)
}

// ready makes a shell quiet and waits for it.
func ready(s shell) error {
	if err := s.Keys("PS1='$ ' PS0=; unset PROMPT_COMMAND; echo re''ady\r"); err != nil {
		return err
	}
	if _, err := s.Until("ready", 20*time.Second); err != nil {
		return err
	}
	_, err := s.Until("$ ", 20*time.Second)
	return err
}

// echoes times n keystrokes from key to echo, with the shell's own line
// editor out of the way, as `cat` leaves echoing to the tty.
func echoes(s shell, n int) ([]time.Duration, error) {
	if err := s.Keys("cat\r"); err != nil {
		return nil, err
	}
	if _, err := s.Until("cat\r\n", 20*time.Second); err != nil {
		return nil, err
	}
	var all []time.Duration
	for i := range n {
		key := string(rune('a' + i%26))
		began := time.Now()
		if err := s.Keys(key); err != nil {
			return nil, err
		}
		if _, err := s.Until(key, 20*time.Second); err != nil {
			return nil, err
		}
		all = append(all, time.Since(began))
		if i%60 == 59 {
			if err := s.Keys("\r"); err != nil {
				return nil, err
			}
			if _, err := s.Until("\r\n", 20*time.Second); err != nil {
				return nil, err
			}
			if _, err := s.Until("\r\n", 20*time.Second); err != nil {
				return nil, err
			}
		}
	}
	if err := s.Keys("\x03"); err != nil {
		return nil, err
	}
	_, err := s.Until("$ ", 20*time.Second)
	return all, err
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Clone(d)
	slices.Sort(s)
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }

// newTerminal gives a learner with a fresh, quiet terminal.
func (b *bench) newTerminal(ctx context.Context) (*learner.Learner, labs.State, *learner.Terminal, error) {
	l, err := learner.New(b.url, nil)
	if err != nil {
		return nil, labs.State{}, nil, err
	}
	s, err := l.Open(ctx, b.lab)
	if err != nil {
		return nil, s, nil, err
	}
	t, err := l.Attach(ctx, s.Session, "1", -1)
	if err != nil {
		return nil, s, nil, err
	}
	return l, s, t, ready(t)
}

// end ends a session, so that its sandbox makes room.
func end(l *learner.Learner, session string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l.Call(ctx, "POST", "/api/sessions/"+session+"/end", nil)
}

// start times the way from opening a lab to a shell prompt and to an engine
// that answers.
func (b *bench) start(ctx context.Context) error {
	var opens, prompts, engines []time.Duration
	for range b.runs {
		l, err := learner.New(b.url, nil)
		if err != nil {
			return err
		}
		if err := l.Call(ctx, "GET", "/healthz", new(any)); err != nil && !errors.As(err, new(*json.SyntaxError)) {
			return err
		}
		began := time.Now()
		s, err := l.Open(ctx, b.lab)
		if err != nil {
			return err
		}
		opens = append(opens, time.Since(began))
		t, err := l.Attach(ctx, s.Session, "1", -1)
		if err != nil {
			return err
		}
		if _, err := t.Until("#", 20*time.Second); err != nil {
			return err
		}
		prompts = append(prompts, time.Since(began))
		if err := t.Keys("docker version -f 'up {{.Server.Version}}'\r"); err != nil {
			return err
		}
		if _, err := t.Until("up 2", 30*time.Second); err != nil {
			return err
		}
		engines = append(engines, time.Since(began))
		t.Close()
		end(l, s.Session)
		time.Sleep(2 * time.Second) // the pool fills again
	}
	b.add("open a lab to sandbox ready (warm pool)", ms(quantile(opens, .5)), "", "")
	b.add("open a lab to shell prompt (warm pool, bash included)", ms(quantile(prompts, .5)), "", "under 20 ms")
	b.add("open a lab to `docker version` answered, typed at once", ms(quantile(engines, .5)), "", "under 1,500 ms")
	return nil
}

// cold times the way from opening a lab to its first prompt when nothing was
// started ahead of need.
func (b *bench) cold(ctx context.Context) error {
	own, err := b.serve(ctx, 0)
	if err != nil {
		return err
	}
	defer own.stop()
	var opens, prompts []time.Duration
	for range 2 * b.runs {
		l, err := learner.New(own.url, nil)
		if err != nil {
			return err
		}
		began := time.Now()
		s, err := l.Open(ctx, b.lab)
		if err != nil {
			return err
		}
		opens = append(opens, time.Since(began))
		t, err := l.Attach(ctx, s.Session, "1", -1)
		if err != nil {
			return err
		}
		if _, err := t.Until("#", 20*time.Second); err != nil {
			return err
		}
		prompts = append(prompts, time.Since(began))
		t.Close()
		end(l, s.Session)
	}
	b.add("open a lab to sandbox ready / shell prompt, from nothing", ms(quantile(opens, .5))+" / "+ms(quantile(prompts, .5)), "", "prompt under 100 ms")
	return nil
}

// memory says what a sandbox takes that nobody has used yet.
func (b *bench) memory(ctx context.Context) error {
	if b.own == nil {
		return nil
	}
	var all []struct{ Usage labs.Usage }
	for deadline := time.Now().Add(30 * time.Second); len(all) == 0; time.Sleep(time.Second) { // the pool may be filling
		out, err := exec.CommandContext(ctx, b.berth, append([]string{"ps", "--json"}, b.own.own...)...).Output()
		if err != nil {
			return fmt.Errorf("berth ps: %w", err)
		}
		if err := json.Unmarshal(out, &all); err != nil {
			return err
		}
		if len(all) == 0 && time.Now().After(deadline) {
			return errors.New("no sandbox is running")
		}
	}
	least := all[0].Usage.Memory
	for _, s := range all {
		least = min(least, s.Usage.Memory)
	}
	b.add("memory of a sandbox without a started engine", labs.Bytes(least), "", "under 15 MB")
	return nil
}

func (b *bench) echo(ctx context.Context) error {
	l, s, t, err := b.newTerminal(ctx)
	if err != nil {
		return err
	}
	defer end(l, s.Session)
	defer t.Close()
	p, err := newBare()
	if err != nil {
		return err
	}
	defer p.Close()
	if err := ready(p); err != nil {
		return err
	}
	var ours, theirs []time.Duration
	for range b.runs { // in turn, so that both see the same machine
		a, err := echoes(t, 300)
		if err != nil {
			return err
		}
		c, err := echoes(p, 300)
		if err != nil {
			return err
		}
		ours, theirs = append(ours, a...), append(theirs, c...)
	}
	b.add("keystroke to echo, p50 / p99", ms(quantile(ours, .5))+" / "+ms(quantile(ours, .99)),
		"bare pty "+ms(quantile(theirs, .5))+" / "+ms(quantile(theirs, .99)), "p50 under 0.25 ms")
	return nil
}

// flood opens n terminals that print without end, five to a sandbox, and draw
// as a browser does.
func (b *bench) flood(ctx context.Context, n int) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	var ends []func()
	stop = func() {
		cancel()
		for _, e := range ends {
			e()
		}
		running.Wait()
	}
	for i := 0; i < n; {
		l, err := learner.New(b.url, nil)
		if err != nil {
			stop()
			return nil, err
		}
		s, err := l.Open(ctx, b.lab)
		if err != nil {
			stop()
			return nil, err
		}
		ends = append(ends, func() { end(l, s.Session) })
		for k := 0; k < 5 && i < n; i, k = i+1, k+1 {
			t, err := l.Attach(ctx, s.Session, fmt.Sprint(k+1), -1)
			if err != nil {
				stop()
				return nil, err
			}
			t.Rate = 6e6
			if err := t.Keys("yes 0123456789012345678901234567890123456789\r"); err != nil {
				stop()
				return nil, err
			}
			running.Go(func() {
				defer t.Close()
				for ctx.Err() == nil {
					if _, err := t.Read(time.Now().Add(time.Minute)); err != nil {
						return
					}
				}
			})
		}
	}
	return stop, nil
}

func (b *bench) echoAmongFloods(ctx context.Context) error {
	l, s, t, err := b.newTerminal(ctx)
	if err != nil {
		return err
	}
	defer end(l, s.Session)
	defer t.Close()
	p, err := newBare()
	if err != nil {
		return err
	}
	defer p.Close()
	if err := ready(p); err != nil {
		return err
	}
	stop, err := b.flood(ctx, b.floods)
	if err != nil {
		return err
	}
	defer stop()
	var ours, theirs []time.Duration
	for range b.runs {
		a, err := echoes(t, 100)
		if err != nil {
			return err
		}
		c, err := echoes(p, 100)
		if err != nil {
			return err
		}
		ours, theirs = append(ours, a...), append(theirs, c...)
	}
	b.add(fmt.Sprintf("the same with %d terminals flooding, p50 / p99", b.floods), ms(quantile(ours, .5))+" / "+ms(quantile(ours, .99)),
		"bare pty "+ms(quantile(theirs, .5))+" / "+ms(quantile(theirs, .99)), "p50 under 2 ms, p99 under 50 ms")
	return nil
}

// flow times size bytes from a shell.
func flow(s shell, size int64) (bytesPerSecond float64, err error) {
	if err := s.Keys(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo; echo en''d\r", size)); err != nil {
		return 0, err
	}
	if _, err := s.Until("d\r\n", 20*time.Second); err != nil {
		return 0, err
	}
	began := time.Now()
	n, err := s.Until("end\r\n", 2*time.Minute)
	if err != nil {
		return 0, err
	}
	took := time.Since(began)
	_, err = s.Until("$ ", 20*time.Second)
	return float64(n) / took.Seconds(), err
}

func (b *bench) output(ctx context.Context) error {
	l, s, t, err := b.newTerminal(ctx)
	if err != nil {
		return err
	}
	defer end(l, s.Session)
	defer t.Close()
	p, err := newBare()
	if err != nil {
		return err
	}
	defer p.Close()
	if err := ready(p); err != nil {
		return err
	}
	var ours, theirs, ratio []float64
	for range b.runs {
		a, err := flow(t, 50<<20)
		if err != nil {
			return err
		}
		c, err := flow(p, 50<<20)
		if err != nil {
			return err
		}
		ours, theirs, ratio = append(ours, a), append(theirs, c), append(ratio, a/c)
	}
	b.add("output to one viewer", fmt.Sprintf("%.1f MB/s, %.2f × bare", median(ours)/1e6, median(ratio)),
		fmt.Sprintf("bare pty %.1f MB/s", median(theirs)/1e6), "at least 0.9 × bare")
	return nil
}

func median(f []float64) float64 {
	s := slices.Clone(f)
	slices.Sort(s)
	return s[len(s)/2]
}

// stopFlood times Ctrl-C to the prompt while `yes` floods the viewer.
func stopFlood(t *learner.Terminal, runs int) ([]time.Duration, error) {
	var all []time.Duration
	for range runs {
		if err := t.Keys("yes 0123456789012345678901234567890123456789\r"); err != nil {
			return nil, err
		}
		for began := time.Now(); time.Since(began) < 1500*time.Millisecond; {
			if _, err := t.Read(time.Now().Add(20 * time.Second)); err != nil {
				return nil, err
			}
		}
		began := time.Now()
		if err := t.Keys("\x03"); err != nil {
			return nil, err
		}
		if _, err := t.Until("^C", 30*time.Second); err != nil {
			return nil, err
		}
		if _, err := t.Until("$ ", 30*time.Second); err != nil {
			return nil, err
		}
		all = append(all, time.Since(began))
	}
	return all, nil
}

func (b *bench) interrupt(ctx context.Context) error {
	l, s, t, err := b.newTerminal(ctx)
	if err != nil {
		return err
	}
	defer end(l, s.Session)
	defer t.Close()
	t.Rate = 6e6
	d, err := stopFlood(t, b.runs)
	if err != nil {
		return err
	}
	b.add("Ctrl-C while output floods a viewer that draws 6 MB/s", ms(quantile(d, .5)), "", "under 50 ms")
	return nil
}

func (b *bench) interruptOverLine(ctx context.Context) error {
	l, err := learner.New(b.url, learner.SlowLine(3e6, 15*time.Millisecond))
	if err != nil {
		return err
	}
	s, err := l.Open(ctx, b.lab)
	if err != nil {
		return err
	}
	defer end(l, s.Session)
	t, err := l.Attach(ctx, s.Session, "1", -1)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := ready(t); err != nil {
		return err
	}
	d, err := stopFlood(t, b.runs)
	if err != nil {
		return err
	}
	b.add("Ctrl-C over a line of 3 MB/s and 30 ms", ms(quantile(d, .5)), "", "under 100 ms")
	return nil
}

func (b *bench) connect(ctx context.Context) error {
	l, s, t, err := b.newTerminal(ctx)
	if err != nil {
		return err
	}
	defer end(l, s.Session)
	defer t.Close()
	var all []time.Duration
	for range 10 * b.runs {
		began := time.Now()
		v, err := l.Attach(ctx, s.Session, "1", -1)
		if err != nil {
			return err
		}
		if _, err := v.Read(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		all = append(all, time.Since(began))
		v.Close()
	}
	b.add("connect to an existing terminal, to its first byte", ms(quantile(all, .5)), "", "under 5 ms")
	return nil
}

// tick times a check: from the end of the command that makes it true to the
// event that the page ticks on.
func (b *bench) tick(ctx context.Context) error {
	var all []time.Duration
	for range b.runs {
		took, err := b.tickOnce(ctx)
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	b.add("tick after the command's end", ms(quantile(all, .5)), "", "under 300 ms")
	return nil
}

func (b *bench) tickOnce(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	l, s, t, err := b.newTerminal(ctx)
	if err != nil {
		return 0, err
	}
	defer end(l, s.Session)
	defer t.Close()
	if err := t.Keys("docker version >/dev/null; echo go''od\r"); err != nil {
		return 0, err
	}
	if _, err := t.Until("good", 30*time.Second); err != nil {
		return 0, err
	}
	ticked, listening := make(chan time.Time, 1), make(chan struct{})
	watch.Go(func() {
		var once sync.Once
		l.Events(ctx, s.Session, func(kind string, data []byte) bool {
			once.Do(func() { close(listening) })
			var r labs.ResultEvent
			if kind == "result" && json.Unmarshal(data, &r) == nil && r.Passed && strings.Contains(r.Check, "empty") {
				ticked <- time.Now()
				return false
			}
			return true
		})
	})
	select {
	case <-listening:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	time.Sleep(500 * time.Millisecond) // until what the start set off has come to rest
	if err := t.Keys("tar c --files-from /dev/null | docker import - empty >/dev/null; echo im''ported\r"); err != nil {
		return 0, err
	}
	if _, err := t.Until("imported", 30*time.Second); err != nil {
		return 0, err
	}
	ended := time.Now()
	select {
	case at := <-ticked:
		return max(0, at.Sub(ended)), nil
	case <-ctx.Done():
		return 0, errors.New("the check was not ticked in time")
	}
}

// page times the lesson page and weighs all that a first visit loads.
func (b *bench) page(ctx context.Context) error {
	get := func(url string) (body string, wire int64, took time.Duration, err error) {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			return "", 0, 0, err
		}
		req.Header.Set("Accept-Encoding", "gzip")
		began := time.Now()
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return "", 0, 0, err
		}
		defer res.Body.Close()
		raw := &counter{r: res.Body}
		var in io.Reader = raw
		if res.Header.Get("Content-Encoding") == "gzip" {
			if in, err = gzip.NewReader(raw); err != nil {
				return "", 0, 0, err
			}
		}
		all, err := io.ReadAll(in)
		if err == nil && res.StatusCode != http.StatusOK {
			err = errors.New(url + ": " + res.Status)
		}
		return string(all), raw.n, time.Since(began), err
	}
	var times []time.Duration
	var wire int64
	for i := range 10 * b.runs {
		body, n, took, err := get(b.url + "/labs/" + b.lab)
		if err != nil {
			return err
		}
		times = append(times, took)
		if i > 0 {
			continue
		}
		wire = n
		for _, m := range regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(body, -1) {
			_, n, _, err := get(b.url + m[1])
			if err != nil {
				return err
			}
			wire += n
		}
	}
	b.add("lesson page", fmt.Sprintf("%s, %d kB over the wire with all it loads", ms(quantile(times, .5)), wire/1000), "", "under 5 ms, under 250 kB")
	return nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// many opens labs for many learners at once, first without and then with an
// engine each, and says what one of them costs.
func (b *bench) many(ctx context.Context) error {
	if b.learners == 0 {
		return nil
	}
	type open struct {
		l *learner.Learner
		s labs.State
		t *learner.Terminal
	}
	var all []open
	defer func() {
		for _, o := range all {
			o.t.Close()
			end(o.l, o.s.Session)
		}
	}()
	before := available()
	began := time.Now()
	for range b.learners {
		l, s, t, err := b.newTerminal(ctx)
		if err != nil {
			return fmt.Errorf("learner %d: %w", len(all)+1, err)
		}
		all = append(all, open{l, s, t})
	}
	for i, o := range all {
		if err := o.t.Keys("docker run --rm x 2>/dev/null; docker version -f 'up {{.Server.Version}}'\r"); err != nil {
			return err
		}
		if _, err := o.t.Until("up 2", 2*time.Minute); err != nil {
			return fmt.Errorf("engine of learner %d: %w", i+1, err)
		}
	}
	took := time.Since(began)
	used := before - available()
	b.add(fmt.Sprintf("%d learners with an engine each", b.learners),
		fmt.Sprintf("all up after %.0f s, %.0f MB each", took.Seconds(), float64(used)/float64(b.learners)/1e6), "", "100 on 2 cores and 24 GB")
	return nil
}

// available is the machine's memory that programs can still have, in bytes.
func available() int64 {
	out, err := exec.Command("awk", "/MemAvailable/ {print $2}", "/proc/meminfo").Output()
	if err != nil {
		return 0
	}
	var kb int64
	fmt.Sscan(string(out), &kb)
	return kb << 10
}
