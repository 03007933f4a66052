package web_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
	"berth/web"
)

// A safeBuffer is a log that may be written and read at the same time.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func debugLog() (*slog.Logger, *safeBuffer) {
	b := new(safeBuffer)
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b
}

func TestMissingBundle(t *testing.T) {
	log, text := debugLog()
	ts, _, _ := newServer(t, func(c *web.Config) { c.Bundle, c.Log = fstest.MapFS{".keep": {}}, log })
	page := string(newPerson(t, ts).must("GET", "/labs/images"))
	const say = "run make build"
	if !strings.Contains(page, say) || strings.Contains(page, "<script src") {
		t.Errorf("the page does not say that the bundle is missing:\n%s", page)
	}
	if !strings.Contains(text.String(), say) {
		t.Errorf("the log does not say that the bundle is missing:\n%s", text)
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	d, _ := newDesk(t)
	for _, c := range []web.Config{
		{},
		{Desk: d, Hosts: []string{"http://labs.example.org"}},
		{Desk: d, Hosts: []string{"labs.example.org:80"}},
		{Desk: d, Hosts: []string{"a.*.example.org"}},
		{Desk: d, Hosts: []string{""}},
	} {
		if _, err := web.New(c); err == nil {
			t.Errorf("New accepted %+v", c)
		}
	}
}

// A brokenDesk has a store that fails, or worse.
type brokenDesk struct {
	web.Desk
	fail func()
}

func (d brokenDesk) Lessons() []*labs.Lesson {
	d.fail()
	return nil
}

func (d brokenDesk) Lesson(string) (*labs.Lesson, error) {
	return nil, fmt.Errorf("read the store: %w", errors.New("disk /dev/sda7 is on fire"))
}

// TestFailure: the person reads a sentence, the log has the cause, and neither
// has the other's.
func TestFailure(t *testing.T) {
	log, text := debugLog()
	d, _ := newDesk(t)
	ts, _, _ := newServer(t, func(c *web.Config) {
		c.Log, c.Desk = log, brokenDesk{d, func() { panic("a mistake in the program") }}
	})
	p := newPerson(t, ts)
	for _, path := range []string{"/", "/labs/images"} {
		resp := p.do("GET", path)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 500 {
			t.Fatalf("%s: %s %v", path, resp.Status, err)
		}
		if page := string(b); !strings.Contains(page, "Something went wrong on the server") || strings.Contains(page, "sda7") || strings.Contains(page, "mistake") || strings.Contains(page, "goroutine") {
			t.Errorf("%s: the page reads\n%s", path, page)
		}
	}
	for _, want := range []string{"sda7 is on fire", "a mistake in the program", "status=500"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, text)
		}
	}
}

func TestLogHoldsNoSecrets(t *testing.T) {
	log, text := debugLog()
	ts, _, _ := newServer(t, func(c *web.Config) { c.Log = log })
	p := newPerson(t, ts)
	id := p.open("images")
	s := p.view(id, "1", 'w')
	s.typed("my password")
	s.until("my password")
	resp := p.do("GET", "/api/sessions/"+id+"/hints/pull/9")
	resp.Body.Close()
	s.conn.Close()
	got := text.String()
	if !strings.Contains(got, `route="POST /api/labs/{lab}/session"`) {
		t.Errorf("the log does not show requests:\n%s", got)
	}
	if strings.Contains(got, p.cookie.Value) || strings.Contains(got, id) || strings.Contains(got, "password") {
		t.Errorf("the log has a token, a session's id or what was typed:\n%s", got)
	}
}

func TestAttackManyLearners(t *testing.T) {
	ts, _, _ := newServer(t, func(c *web.Config) {
		c.NewLearners = web.Rate{Burst: 5, Every: time.Hour}
		c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	ask := func(from string, cookie *http.Cookie) *http.Response {
		req, err := http.NewRequest("POST", ts.URL+"/api/labs/images/session", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Berth", "1")
		req.Header.Set("X-Forwarded-For", from)
		req.Header.Set("X-Forwarded-Proto", "https")
		if cookie != nil {
			req.AddCookie(cookie)
		}
		resp, err := ts.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	var known *http.Cookie
	for range 5 {
		resp := ask("2001:db8:1:2::1", nil)
		if resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
		known = resp.Cookies()[0]
		if !known.Secure {
			t.Error("behind a proxy that speaks https the cookie is not Secure")
		}
	}
	for from, want := range map[string]int{
		"2001:db8:1:2::1":                      429,
		"2001:db8:1:2:3:4:5:6":                 429, // the same /64
		"203.0.113.9, 2001:db8:1:2::9":         429, // what the client wrote before is not believed
		"2001:db8:1:2::9, 127.0.0.1":           429, // a chain of proxies
		"2001:db8:1:3::1":                      200,
		"203.0.113.9":                          200,
		"2001:db8:1:2::1, garbage, 203.0.113.": 200, // then the proxy itself is who asks
	} {
		if resp := ask(from, nil); resp.StatusCode != want {
			t.Errorf("from %s: %s, want %d", from, resp.Status, want)
		} else if want == 429 && (resp.Header.Get("Retry-After") == "" || len(resp.Cookies()) > 0) {
			t.Errorf("from %s: %v", from, resp.Header)
		}
	}
	if resp := ask("2001:db8:1:2::1", known); resp.StatusCode != 200 {
		t.Errorf("a learner who is known already: %s", resp.Status)
	}
}

func TestAttackManyOpens(t *testing.T) {
	ts, _, _ := newServer(t, func(c *web.Config) { c.Opens = web.Rate{Burst: 3, Every: time.Hour} })
	p := newPerson(t, ts)
	id := p.open("images")
	p.must("POST", "/api/sessions/"+id+"/reset")
	p.open("images")
	for _, path := range []string{"/api/labs/images/session", "/api/sessions/" + id + "/reset"} {
		resp := p.do("POST", path)
		resp.Body.Close()
		if resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%s for the fourth time: %s", path, resp.Status)
		}
	}
}

// TestAttackLargeBody: what is sent as a body is not read, and does not keep
// the server busy.
func TestAttackLargeBody(t *testing.T) {
	ts, _, _ := newServer(t, nil)
	p := newPerson(t, ts)
	p.open("images")
	req, err := http.NewRequest("POST", ts.URL+"/api/labs/images/session", io.LimitReader(zeros{}, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Berth", "1")
	req.AddCookie(p.cookie)
	start := time.Now()
	if resp, err := ts.Client().Do(req); err == nil {
		resp.Body.Close()
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestAttackSymbolicLink: a folder of labs from a stranger has links to files
// of the server.
func TestAttackSymbolicLink(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(outside, "secret.png"), []byte("secret"), 0o600),
		os.WriteFile(filepath.Join(dir, "real.png"), []byte("picture"), 0o600),
		os.Symlink(filepath.Join(outside, "secret.png"), filepath.Join(dir, "link.png")),
		os.Symlink(outside, filepath.Join(dir, "folder")),
		os.Symlink("real.png", filepath.Join(dir, "inside.png")),
		os.Mkdir(filepath.Join(dir, "dir.png"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	lessons := testLessons()
	lessons[0].Dir = os.DirFS(dir)
	ts, _, _ := newServer(t, nil, lessons...)
	p := newPerson(t, ts)
	if b := string(p.must("GET", "/labs/images/files/real.png")); b != "picture" {
		t.Errorf("real.png: %q", b)
	}
	for _, name := range []string{"link.png", "folder/secret.png", "inside.png", "dir.png", "missing.png"} {
		resp := p.do("GET", "/labs/images/files/"+name)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 404 || bytes.Contains(b, []byte("secret")) && name != "folder/secret.png" {
			t.Errorf("%s: %s %q", name, resp.Status, b)
		}
	}
}

// TestAttackImagesTakenSlowly: whoever takes an image slowly must not keep the
// whole of it in the server's memory.
func TestAttackImagesTakenSlowly(t *testing.T) {
	const size, takers = 12 << 20, 40
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large.png"), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "larger.png"), make([]byte, 16<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	lessons := testLessons()
	lessons[0].Dir = os.DirFS(dir)
	ts, _, _ := newServer(t, nil, lessons...)
	p := newPerson(t, ts)
	if n := len(p.must("GET", "/labs/images/files/large.png")); n != size {
		t.Fatalf("%d bytes", n)
	}
	resp := p.do("GET", "/labs/images/files/larger.png")
	resp.Body.Close()
	if resp.StatusCode != 500 {
		t.Errorf("larger than allowed: %s", resp.Status)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range takers {
		conn, err := net.Dial("tcp", ts.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "GET /labs/images/files/large.png HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if _, err := io.ReadFull(conn, make([]byte, 1000)); err != nil { // it is under way
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > takers*size/4 {
		t.Errorf("%d of them keep %d MiB", takers, used>>20)
	}
}
