package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"berth/labs"
)

var catRelease = labs.Check{ID: "cat", Container: &labs.ContainerCheck{
	Image: "busybox", Command: `^(/bin/)?cat /release$`, Exit: labs.Number{Op: '='},
	Logs: labs.TextRule{Equals: ptr("KatacodaPrivateBuild\n")},
}}

var releaseReads = labs.Check{ID: "release", Image: &labs.ImageCheck{
	Ref: "busybox", Path: "/release", Text: labs.TextRule{Equals: ptr("KatacodaPrivateBuild")},
}}

// TestEngineThatHangsOrDies stops the engine in every way, and has checks
// recover.
func TestEngineThatHangsOrDies(t *testing.T) {
	e := startEngine(t)
	e.load(t, "busybox", shell(map[string]string{"release": "KatacodaPrivateBuild\n"}))
	b := newBox(t, e.socket)
	v := verifier(t)
	cats := catRelease
	o, _ := watching(t, v, b, releaseReads, cats, labs.Check{ID: "file", File: &labs.FileCheck{Path: "~/x"}})
	o.untilStatus("release", labs.Passed)
	o.untilStatus("cat", labs.Failed)

	t.Log("hangs")
	e.signal(t, syscall.SIGSTOP)
	start := time.Now()
	b.ran("docker images", 130)
	for _, id := range []string{"release", "cat"} {
		if r := o.untilStatus(id, labs.Unknown); r.Reason != reasonSlow || r.Seen != "" {
			t.Errorf("hanging engine: %+v", r)
		}
	}
	t.Logf("noticed after %v", time.Since(start).Round(time.Millisecond))
	b.write(t, "x", "", 0o644)
	o.untilStatus("file", labs.Passed)
	start = time.Now()
	lesson := lessonOf(releaseReads)
	if r := v.Check(t.Context(), lesson, &lesson.Steps[0].Checks[0], b); r.Status != labs.Unknown || r.Reason != reasonSlow {
		t.Errorf("Check against a hanging engine: %+v", r)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("Check against a hanging engine took %v", took)
	}
	e.signal(t, syscall.SIGCONT)
	o.untilStatus("release", labs.Passed)
	o.untilStatus("cat", labs.Failed)

	t.Log("dies")
	e.kill()
	for _, id := range []string{"release", "cat"} {
		if r := o.untilStatus(id, labs.Unknown); r.Reason != reasonNoReach {
			t.Errorf("dead engine: %+v", r)
		}
	}
	t.Log("is said to have failed")
	b.engine("failed", "there is no space left")
	for _, id := range []string{"release", "cat"} {
		o.until(id, 5*time.Second, func(r labs.Result) bool {
			return r.Status == labs.Unknown && r.Reason == "your Docker Engine did not start: there is no space left"
		})
	}
	b.engine("off", "")
	o.until("release", 5*time.Second, func(r labs.Result) bool { return r.Reason == reasonOff })
	e.start(t)
	b.engine("ready", "")
	o.untilStatus("release", labs.Passed)
	o.untilStatus("cat", labs.Failed)
	e.must(t, "run", "--rm", "--network", "none", "busybox", "cat", "/release")
	o.untilStatus("cat", labs.Passed)
	if left := e.left(t); len(left) > 0 {
		t.Errorf("containers left: %v", left)
	}
}

// TestEngineIsNotStarted makes sure that watching does not connect to an
// engine that is off, which would start it.
func TestEngineIsNotStarted(t *testing.T) {
	e := startEngine(t)
	e.load(t, "busybox", map[string]string{"release": "KatacodaPrivateBuild\n"})
	b := newBox(t, e.socket)
	b.state.Phase = "off"
	v := verifier(t)
	o, _ := watching(t, v, b, releaseReads, catRelease, labs.Check{ID: "v", Volume: "v"}, labs.Check{ID: "n", Network: "n"},
		labs.Check{ID: "not", Not: true, Volume: "v"})
	for _, id := range []string{"release", "cat", "v", "n", "not"} {
		if r := o.untilStatus(id, labs.Failed); !strings.HasSuffix(r.Seen, seenUnused) {
			t.Errorf("%s: seen %q", id, r.Seen)
		}
	}
	b.ran("ls", 0)
	b.engine("starting", "")
	lesson := lessonOf(releaseReads)
	if r := v.Check(t.Context(), lesson, &lesson.Steps[0].Checks[0], b); r.Status != labs.Failed || r.Seen != seenUnused {
		t.Errorf("Check: %+v", r)
	}
	if n := b.dials.Load(); n > 0 {
		t.Errorf("%d connections to an engine that is off", n)
	}
	b.engine("ready", "")
	o.untilStatus("release", labs.Passed)
}

// TestDockerHubsBusybox does what a learner does who takes the image of that
// name from a registry.
func TestDockerHubsBusybox(t *testing.T) {
	e := startEngine(t)
	o, _ := watching(t, verifier(t), newBox(t, e.socket), releaseReads, catRelease)
	o.untilStatus("release", labs.Failed)
	e.load(t, "busybox", shell(nil), `CMD ["sh"]`)
	o.until("release", 5*time.Second, func(r labs.Result) bool {
		return r.Status == labs.Failed && strings.Contains(r.Seen, "there is no `/release` in the image `busybox:latest`")
	})
	if out, exit := e.docker(t, nil, "run", "--rm", "--network", "none", "busybox", "cat", "/release"); exit != 1 {
		t.Fatal(out)
	}
	o.until("cat", 5*time.Second, func(r labs.Result) bool {
		return r.Status == labs.Failed && strings.Contains(r.Seen, "ended with exit status 1") && strings.Contains(r.Seen, "No such file")
	})
	e.must(t, "run", "--network", "none", "busybox", "echo", "KatacodaPrivateBuild")
	if r := o.now("cat"); r.Status != labs.Failed {
		t.Errorf("echo passes for cat: %+v", r)
	}
}

// TestRemovedContainers takes containers that remove themselves in through
// many ways to run them.
func TestRemovedContainers(t *testing.T) {
	e := startEngine(t)
	e.load(t, "busybox", shell(map[string]string{"release": "KatacodaPrivateBuild\n"}))
	for _, args := range [][]string{
		{"run", "--rm", "busybox", "cat", "/release"},
		{"run", "--rm", "-d", "busybox", "cat", "/release"},
		{"run", "--rm", "-t", "busybox", "/bin/cat", "/release"},
		{"run", "--rm", "-i", "docker.io/library/busybox:latest", "cat", "/release"},
		{"run", "--rm", "--log-driver", "local", "busybox", "cat", "/release"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			o, _ := watching(t, verifier(t), newBox(t, e.socket), catRelease)
			o.untilStatus("cat", labs.Failed)
			args := slices.Insert(slices.Clone(args), 1, "--network", "none")
			e.must(t, args...)
			o.untilStatus("cat", labs.Passed)
		})
	}
	t.Run("one that prints without end is not held up", func(t *testing.T) {
		b := newBox(t, e.socket)
		o, _ := watching(t, verifier(t), b, labs.Check{ID: "c", Container: &labs.ContainerCheck{
			Image: "busybox", Command: "yes", State: "exited", Exit: labs.Number{Op: '='}, Logs: labs.TextRule{Contains: "y\n"}}})
		o.untilStatus("c", labs.Failed)
		start := time.Now()
		e.must(t, "run", "--rm", "--network", "none", "--log-driver", "none", "busybox", "sh", "-c", "yes | busybox head -c 50000000; true")
		t.Logf("50 MB in %v", time.Since(start).Round(time.Millisecond))
		o.untilStatus("c", labs.Passed)
	})
	t.Run("more than are remembered", func(t *testing.T) {
		b := newBox(t, e.socket)
		o, _ := watching(t, verifier(t), b, catRelease)
		o.untilStatus("cat", labs.Failed)
		for i := range maxAttached + 8 { // attached to, but never started
			e.must(t, "create", "--network", "none", "--name", fmt.Sprint("idle", i), "busybox", "true")
		}
		e.must(t, "run", "--rm", "--network", "none", "busybox", "cat", "/release")
		o.untilStatus("cat", labs.Passed)
	})
}

// TestNoContainerIsLeft gives looks up at any moment.
func TestNoContainerIsLeft(t *testing.T) {
	e := startEngine(t)
	e.load(t, "busybox", map[string]string{"release": "KatacodaPrivateBuild\n"})
	v := verifier(t)
	b := newBox(t, e.socket)
	for i := range 40 {
		_, stop := watching(t, v, b, releaseReads)
		time.Sleep(time.Duration(i) * 3 * time.Millisecond) // the moment
		stop()
		if left := e.left(t); len(left) > 0 {
			t.Fatalf("given up after %d ms: containers left: %v", 3*i, left)
		}
	}
	if n := e.must(t, "volume", "ls", "-q"); n != "" {
		t.Errorf("volumes left: %s", n)
	}
}

// TestContainersOfACrashedServerAreRemoved leaves containers as a server does
// that ends while it looks.
func TestContainersOfACrashedServerAreRemoved(t *testing.T) {
	e := startEngine(t)
	e.load(t, "busybox", shell(map[string]string{"release": "KatacodaPrivateBuild\n"}))
	cli := e.client(t)
	leave := func(name string) {
		if _, err := cli.ContainerCreate(t.Context(), &container.Config{Image: "busybox", Cmd: []string{"-"}, Labels: map[string]string{lookLabel: "1"}},
			&container.HostConfig{NetworkMode: "none"}, nil, nil, name); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(what string) {
		t.Helper()
		eventually(t, 5*time.Second, what, func() error {
			if left := e.left(t); len(left) > 0 {
				return fmt.Errorf("%v", left)
			}
			return nil
		})
	}
	leave(lookName + "before")
	e.must(t, "run", "-d", "--network", "none", "--name", "mine", "--label", lookLabel+"=1", "busybox", "sleep", "60")
	o, _ := watching(t, verifier(t), newBox(t, e.socket), releaseReads)
	gone("the container from before is removed")
	o.untilStatus("release", labs.Passed)
	leave(lookName + "after")
	gone("the container that came later is removed")
	if out := e.must(t, "ps", "-q"); out == "" {
		t.Error("the learner's container was removed")
	}
}

// TestContainerMadeLateIsRemoved has the engine make a container after the
// look that asked for it has given up.
func TestContainerMadeLateIsRemoved(t *testing.T) {
	e := startEngine(t)
	e.load(t, "busybox", map[string]string{"release": "KatacodaPrivateBuild\n"})
	var slow atomic.Bool
	slow.Store(true)
	made := make(chan struct{}, 16)
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", e.socket)
		}},
	}
	b := newBox(t, sham(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/containers/create") && slow.Swap(false) {
			body, _ := io.ReadAll(r.Body)
			r = r.WithContext(context.WithoutCancel(r.Context())) // an engine goes on when its client left
			r.Body = io.NopCloser(bytes.NewReader(body))
			time.Sleep(engineDeadline + 500*time.Millisecond)
			defer func() { made <- struct{}{} }()
		}
		proxy.ServeHTTP(w, r)
	})))
	o, _ := watching(t, verifier(t), b, releaseReads)
	if r := o.untilStatus("release", labs.Unknown); r.Reason != reasonSlow {
		t.Errorf("%+v", r)
	}
	o.untilStatus("release", labs.Passed)
	select {
	case <-made:
	case <-time.After(10 * time.Second):
		t.Fatal("the late container was not made")
	}
	eventually(t, 5*time.Second, "the late container is removed", func() error {
		if left := e.left(t); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// hostile answers as a real engine would up to the point of interest.
func hostile(tb testing.TB, at string, h http.HandlerFunc) *box {
	events := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	return newBox(tb, sham(tb, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, at):
			h(w, r)
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("Api-Version", "1.41")
		case strings.HasSuffix(r.URL.Path, "/events"):
			events(w, r)
		default:
			http.Error(w, `{"message":"not here"}`, http.StatusNotFound)
		}
	})))
}

// TestHostileEngine puts something else in the engine's place.
func TestHostileEngine(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"Id":"`)
		for {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 64<<10)); err != nil {
				return
			}
		}
	}
	reset := func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	refuse := func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, `{"message":"`+strings.Repeat("no \u001b[2J", 10_000)+`"}`, http.StatusInternalServerError)
	}
	for _, test := range []struct {
		name   string
		at     string
		do     http.HandlerFunc
		reason string
	}{
		{"ping resets", "/_ping", reset, reasonNoReach},
		{"ping hangs", "/_ping", hang, reasonSlow},
		{"events reset", "/events", reset, reasonNoReach},
		{"events hang", "/events", hang, reasonSlow},
		{"events without end in one line", "/events", endless, ""},
		{"answer resets", "/images/", reset, reasonNoReach},
		{"answer hangs", "/images/", hang, reasonSlow},
		{"answer without end", "/images/", endless, "your Docker Engine answered with too much"},
		{"answer is an error", "/images/", refuse, "your Docker Engine answered with an error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b := hostile(t, test.at, test.do)
			o, stop := watching(t, verifier(t), b, labs.Check{ID: "c", Image: &labs.ImageCheck{Ref: "busybox"}})
			if test.reason != "" {
				r := o.untilStatus("c", labs.Unknown)
				if !strings.HasPrefix(r.Reason, test.reason) || len(r.Reason) > maxSeen || strings.ContainsRune(r.Reason, 0x1b) {
					t.Errorf("reason %q, want %q", r.Reason, test.reason)
				}
			} else {
				time.Sleep(500 * time.Millisecond)
			}
			stop()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 256<<20 {
				t.Errorf("the heap grew by %d MB", grown>>20)
			}
		})
	}
}

// TestFloodOfEvents counts the looks that a flood of every kind of event leads to.
func TestFloodOfEvents(t *testing.T) {
	const flood = 2 * time.Second
	// Looks that may be made at once and then in that time.
	most := int64((paceBurst+flood)/paceGap) + 20

	t.Run("of the engine", func(t *testing.T) {
		t.Parallel()
		var inspected, sent atomic.Int64
		var now, peak atomic.Int64
		image := map[string]any{"Id": "sha256:" + strings.Repeat("a", 64)}
		b := newBox(t, sham(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/_ping"):
				w.Header().Set("Api-Version", "1.41")
			case strings.HasSuffix(r.URL.Path, "/events"):
				w.WriteHeader(http.StatusOK)
				end := time.Now().Add(flood)
				for i := 0; r.Context().Err() == nil && time.Now().Before(end); i++ {
					fmt.Fprintf(w, `{"Type":"image","Action":"tag","Actor":{"ID":"x"},"timeNano":%d}`+"\n", time.Now().UnixNano())
					fmt.Fprintf(w, `{"Type":"container","Action":"create","Actor":{"ID":"%d","Attributes":{"name":"n%d","image":"busybox"}},"timeNano":%d}`+"\n", i, i, time.Now().UnixNano())
					sent.Add(2)
				}
				<-r.Context().Done()
			case strings.Contains(r.URL.Path, "/images/busybox") || strings.Contains(r.URL.Path, "/images/docker.io"):
				inspected.Add(1)
				peak.Store(max(peak.Load(), now.Add(1)))
				defer now.Add(-1)
				json.NewEncoder(w).Encode(image)
			default:
				if strings.Contains(r.URL.Path, "/containers/") {
					inspected.Add(1)
				}
				http.Error(w, `{"message":"not here"}`, http.StatusNotFound)
			}
		})))
		o, _ := watching(t, verifier(t), b, labs.Check{ID: "c", Image: &labs.ImageCheck{Ref: "busybox"}})
		o.untilStatus("c", labs.Passed)
		time.Sleep(flood + 500*time.Millisecond)
		t.Logf("%d events led to %d looks", sent.Load(), inspected.Load())
		if n := inspected.Load(); n > most {
			t.Errorf("%d looks, at most %d should have been made", n, most)
		}
		if peak.Load() > 1 {
			t.Errorf("%d looks at one check at a time", peak.Load())
		}
		if n := o.reported("c"); n != 1 {
			t.Errorf("the same result was reported %d times", n)
		}
	})
	t.Run("of containers", func(t *testing.T) {
		t.Parallel()
		var asked, sent atomic.Int64
		b := newBox(t, sham(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/_ping"):
				w.Header().Set("Api-Version", "1.41")
			case strings.HasSuffix(r.URL.Path, "/events"):
				w.WriteHeader(http.StatusOK)
				end := time.Now().Add(flood)
				for i := 0; r.Context().Err() == nil && time.Now().Before(end); i++ {
					fmt.Fprintf(w, `{"Type":"container","Action":"create","Actor":{"ID":"%d","Attributes":{"name":"n%d","image":"busybox"}},"timeNano":%d}`+"\n", i, i, time.Now().UnixNano())
					sent.Add(1)
				}
				<-r.Context().Done()
			case strings.HasSuffix(r.URL.Path, "/containers/json"):
				asked.Add(1)
				io.WriteString(w, "[]")
			case strings.Contains(r.URL.Path, "/containers/"):
				asked.Add(1)
				id := strings.Split(r.URL.Path, "/")[3]
				fmt.Fprintf(w, `{"Id":%q,"Name":"/x","Path":"cat","Args":["/release"],"State":{"Status":"created"},"Config":{"Image":"busybox"},"HostConfig":{}}`, id)
			default:
				http.Error(w, `{"message":"not here"}`, http.StatusNotFound)
			}
		})))
		o, _ := watching(t, verifier(t), b, catRelease)
		o.untilStatus("cat", labs.Failed)
		time.Sleep(flood + time.Second)
		// Each container that is taken in is inspected and attached to.
		taken := int64(2 * (createBurst + int(flood/createEvery) + 20))
		t.Logf("%d containers led to %d requests", sent.Load(), asked.Load())
		if n := asked.Load(); n > most+taken {
			t.Errorf("%d requests, at most %d should have been made", n, most+taken)
		}
	})
	t.Run("of files and commands", func(t *testing.T) {
		t.Parallel()
		b := newBox(t, "")
		o, _ := watching(t, verifier(t), b, labs.Check{ID: "c", File: &labs.FileCheck{Path: "~/x"}})
		o.untilStatus("c", labs.Failed)
		sent := 0
		for end := time.Now().Add(flood); time.Now().Before(end); sent += 2 {
			b.tell(labs.Change{File: b.home + "/x"})
			b.ran("true", 0)
		}
		b.write(t, "x", "", 0o644)
		o.untilStatus("c", labs.Passed) // what is true at the end
		t.Logf("%d changes led to %d looks", sent, b.globs.Load())
		if n := b.globs.Load(); n > most+20 {
			t.Errorf("%d looks, at most %d should have been made", n, most+20)
		}
	})
	t.Run("of commands that a check is about", func(t *testing.T) {
		t.Parallel()
		b := newBox(t, "")
		o, _ := watching(t, verifier(t), b, labs.Check{ID: "c", Ran: &labs.RanCheck{Pattern: regexp.MustCompile("^last$")}})
		o.untilStatus("c", labs.Failed)
		for range 20_000 {
			b.ran("true", 0)
		}
		b.ran("last", 0)
		o.untilStatus("c", labs.Passed)
	})
}

// TestSandboxThatBreaks interrupts what the sandbox tells.
func TestSandboxThatBreaks(t *testing.T) {
	b := newBox(t, "")
	b.write(t, "x", "", 0o644)
	v := verifier(t)
	o, _ := watching(t, v, b, labs.Check{ID: "file", File: &labs.FileCheck{Path: "~/x"}},
		labs.Check{ID: "ran", Ran: &labs.RanCheck{Pattern: regexp.MustCompile("^one$")}},
		labs.Check{ID: "later", Ran: &labs.RanCheck{Pattern: regexp.MustCompile("^two$")}})
	o.untilStatus("file", labs.Passed)
	b.ran("one", 0)
	o.untilStatus("ran", labs.Passed)
	b.interrupt(fmt.Errorf("no route"))
	for _, id := range []string{"file", "ran", "later"} {
		if r := o.untilStatus(id, labs.Unknown); r.Reason != reasonNoBox {
			t.Errorf("%+v", r)
		}
	}
	b.ran("two", 0) // while nobody listens
	b.interrupt(nil)
	for _, id := range []string{"file", "ran", "later"} {
		o.untilStatus(id, labs.Passed)
	}
}

func TestSandboxThatIsGone(t *testing.T) {
	b := newBox(t, "")
	b.interrupt(fmt.Errorf("sandbox: %w", labs.ErrGone))
	ended := make(chan error, 1)
	go func() {
		ended <- verifier(t).Watch(t.Context(), lessonOf(labs.Check{File: &labs.FileCheck{Path: "~/x"}}), b, func(labs.Result) {})
	}()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "gone") {
			t.Errorf("Watch: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Watch goes on")
	}
}

// TestNothingGoesOn counts goroutines after watches of a real engine ended.
func TestNothingGoesOn(t *testing.T) {
	e := startEngine(t)
	e.load(t, "busybox", shell(map[string]string{"release": "KatacodaPrivateBuild\n"}))
	v, b := verifier(t), newBox(t, e.socket)
	once := func() {
		o, stop := watching(t, v, b, releaseReads, catRelease)
		o.untilStatus("release", labs.Passed)
		e.must(t, "create", "--network", "none", "busybox", "true")
		stop()
	}
	once()
	before := runtime.NumGoroutine()
	for range 5 {
		once()
	}
	eventually(t, 5*time.Second, "goroutines end", func() error {
		if n := runtime.NumGoroutine(); n > before {
			return fmt.Errorf("%d goroutines, %d before", n, before)
		}
		return nil
	})
}

// TestCheck evaluates single checks, with and without a watch.
func TestCheck(t *testing.T) {
	b := newBox(t, "")
	b.ran("one", 0)
	v := verifier(t)
	lesson := lessonOf(
		labs.Check{ID: "file", File: &labs.FileCheck{Path: "~/x"}},
		labs.Check{ID: "ran", Ran: &labs.RanCheck{Pattern: regexp.MustCompile("one")}},
		labs.Check{ID: "not", Not: true, File: &labs.FileCheck{Path: "~/x"}},
		labs.Check{ID: "nothing"},
	)
	check := func(id string) labs.Result {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, _, _ := lesson.Check(id)
		return v.Check(ctx, lesson, c, b)
	}
	alone := func() {
		t.Helper()
		for id, want := range map[string]labs.Status{"file": labs.Failed, "ran": labs.Passed, "not": labs.Failed, "nothing": labs.Unknown} {
			if r := check(id); r.Check != id || r.Status != want {
				t.Errorf("%s: %+v, want %s", id, r, want)
			}
		}
	}
	alone()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	began := make(chan labs.Result, 100)
	go func() { ended <- v.Watch(ctx, lesson, b, func(r labs.Result) { began <- r }) }()
	<-began
	alone()
	b.write(t, "x", "", 0o644)
	if r := check("file"); r.Status != labs.Passed {
		t.Errorf("%+v", r)
	}
	if r := check("not"); r.Status != labs.Failed || strings.HasPrefix(r.Seen, NotYet) {
		t.Errorf("%+v", r)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// That the opposite was seen outlives the watch.
	c, _, _ := lesson.Check("not")
	c.File.Path = "~/y"
	if r := check("not"); r.Status != labs.Passed {
		t.Errorf("%+v", r)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if r := v.Check(gone, lesson, c, b); r.Status != labs.Unknown || r.Reason == "" {
		t.Errorf("given up: %+v", r)
	}
}
