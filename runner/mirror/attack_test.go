package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/runner/mirror"
)

func TestPushIsRefused(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 1000, 1)
	r := enter(t, h, nil)
	r.same("library/redis:1", img)
	for _, c := range []struct{ method, path string }{
		{"POST", "/v2/library/redis/blobs/uploads/"},
		{"PUT", "/v2/library/redis/manifests/1"},
		{"PATCH", "/v2/library/redis/blobs/uploads/1"},
		{"DELETE", "/v2/library/redis/manifests/1"},
		{"DELETE", "/v2/library/redis/blobs/" + layerOf(t, img, 0)},
		{"OPTIONS", "/v2/"},
		{"CONNECT", "/v2/"},
		{"TRACE", "/v2/"},
		{"BREW", "/v2/"},
	} {
		if resp, _ := r.get(c.method, c.path); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: %s", c.method, c.path, resp.Status)
		}
	}
	if n := h.count("POST") + h.count("PUT") + h.count("DELETE") + h.count("PATCH"); n != 0 {
		t.Errorf("%d of them reached upstream", n)
	}
	r.same("library/redis:1", img)
}

// TestEndlessPush: the body of a refused request is not taken in.
func TestEndlessPush(t *testing.T) {
	r := enter(t, nil, nil)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "PUT /v2/library/redis/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
	var sent int64
	junk := make([]byte, 64<<10)
	for sent < 64<<20 {
		n, err := c.Write(junk)
		sent += int64(n)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection stays open")
			}
			return // it was closed
		}
	}
	t.Errorf("%d bytes were taken in", sent)
}

// TestManyConnections: connections that never finish a request are closed, and
// those of one address are bounded meanwhile.
func TestManyConnections(t *testing.T) {
	r := enter(t, nil, nil)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	refused := 0
	for range 100 {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		fmt.Fprint(c, "GET /v2/ HTTP/1.1\r\nHo") // and never the rest
	}
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			refused++
		}
	}
	if refused < 30 {
		t.Errorf("%d of 100 connections were refused", refused)
	}
	// Those that are held open end by themselves, and leave room.
	deadline := time.Now().Add(patience)
	for _, c := range conns {
		c.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a connection without a request stays open")
		}
	}
	if resp, _ := r.get("GET", "/v2/"); resp.StatusCode != 200 {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

func TestPathTraversal(t *testing.T) {
	h := newHub(t)
	r := enter(t, h, nil)
	secret := filepath.Join(r.cfg.Dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.forget()
	for _, path := range []string{
		"/v2/library/redis/blobs/../../../secret",
		"/v2/library/redis/blobs/..%2f..%2f..%2fsecret",
		"/v2/library/redis/blobs/sha256:../../secret",
		"/v2/library/redis/blobs/sha256:%2e%2e%2f%2e%2e%2fsecret",
		"/v2/library/redis/blobs/sha256:" + strings.Repeat("A", 64),
		"/v2/library/redis/blobs/sha256:" + strings.Repeat("a", 63),
		"/v2/library/redis/blobs/sha512:" + strings.Repeat("a", 128),
		"/v2/library/redis/blobs/uploads/",
		"/v2/../secret",
		"/v2/..%2fsecret/manifests/1",
		"/v2/../../etc/manifests/passwd",
		"/v2/./x/manifests/1",
		"/v2/a//b/manifests/1",
		"/v2//etc/manifests/1",
		"/v2/library/redis/manifests/..",
		"/v2/library/redis/manifests/.hidden",
		"/v2/library/redis/manifests/1%00",
		"/v2/library/redis/manifests/1%0d%0aX-Evil:%201",
		"/v2/library/redis%2fmanifests/manifests/1",
		"/v2/LIBRARY/redis/manifests/1",
		"/v2/library/redis/manifests/" + strings.Repeat("a", 129),
		"/v2/" + strings.Repeat("a/", 200) + "a/manifests/1",
		"/v2/_catalog",
		"/v2/library/redis/tags/list",
		"/v2/library/redis/referrers/sha256:" + strings.Repeat("a", 64),
		"/", "/v3/", "/healthz", "/v2/library/redis", "/etc/passwd",
		"/v2/library/redis/manifests/",
		"/v2/manifests/1",
	} {
		resp, body := r.get("GET", path)
		if resp.StatusCode != 404 && resp.StatusCode != 400 {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if bytes.Contains(body, []byte("secret\n")) || string(body) == "secret" || resp.Header.Get("X-Evil") != "" {
			t.Errorf("%s gives %q", path, body)
		}
	}
	if n := h.count(".."); n != 0 {
		t.Errorf("%d of them reached upstream", n)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.counts {
		if !strings.HasSuffix(k, "/v2/") {
			t.Errorf("upstream was asked for %s", k)
		}
	}
}

// TestFetchOfOtherHosts: nothing that a client names makes the server connect
// to a host other than its upstream.
func TestFetchOfOtherHosts(t *testing.T) {
	reached := make(chan string, 100)
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reached <- r.URL.Path }))
	defer inside.Close()
	host := strings.TrimPrefix(inside.URL, "http://")
	ip, port, _ := strings.Cut(host, ":")
	h := newHub(t)
	r := enter(t, h, nil)
	for _, path := range []string{
		"/v2/evil.example/x/manifests/latest",
		"/v2/" + ip + "/x/manifests/latest",
		"/v2/" + host + "/x/manifests/latest",
		"/v2/localhost/x/manifests/latest",
		"/v2/library/redis/manifests/1?ns=" + host,
		"/v2/library/redis/manifests/1?ns=evil.example",
		"/v2/library/redis/manifests/1?ns=" + ip + "%3A" + port,
		"/v2/library/redis/manifests/1?ns=docker.io&ns=" + host,
		"/v2/library/redis/blobs/sha256:" + strings.Repeat("a", 64) + "?ns=" + host,
		"/v2/library/redis/manifests/1?ns=docker.io/../" + host,
	} {
		if resp, _ := r.get("GET", path, "X-Forwarded-Host", host, "Forwarded", "host="+host); resp.StatusCode != 404 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if resp, _ := r.get("GET", "/v2/library/redis/manifests/1", "Host", host); resp.StatusCode != 404 {
		t.Errorf("by host header: %s", resp.Status)
	}
	h.mu.Lock()
	for k := range h.counts {
		if strings.Contains(k, "evil") || strings.Contains(k, ip) {
			t.Errorf("upstream was asked for %s", k)
		}
	}
	h.mu.Unlock()
	select {
	case p := <-reached:
		t.Errorf("the server fetched %s from another host", p)
	default:
	}
}

// TestRequestsAreBounded: one address cannot hold all of the server, and the
// others do not notice.
func TestRequestsAreBounded(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:3", 100_000, 3)
	r := enter(t, h, nil)
	if err := pullFrom(r.Mirror, "10.213.0.9:1", img); err != nil {
		t.Fatal(err)
	}
	stuck := make(chan struct{})
	h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-stuck:
		case <-r.Context().Done():
		}
		next.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	refused := make(chan int, 200)
	for i := range 100 {
		wg.Go(func() {
			req := httptest.NewRequestWithContext(ctx, "GET", fmt.Sprintf("/v2/library/many/manifests/%d", i), nil)
			req.RemoteAddr = "10.213.0.66:1234"
			rec := httptest.NewRecorder()
			r.ServeHTTP(rec, req)
			if rec.Code == http.StatusTooManyRequests {
				refused <- i
			}
		})
	}
	r.eventually("requests are refused", func() bool { return len(refused) >= 60 })
	if n := h.count("/many/manifests/"); n > 10 {
		t.Errorf("%d of one address's requests went to upstream at the same time", n)
	}
	if err := pullFrom(r.Mirror, "10.213.0.9:1", img); err != nil {
		t.Errorf("another learner: %v", err)
	}
	cancel()
	close(stuck)
	wg.Wait()
}

// TestReaderThatStops: a client that does not read what it asked for holds
// nobody else back.
func TestReaderThatStops(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:3", 8_000_000, 1)
	r := enter(t, h, nil)
	gate := make(chan struct{})
	h.misbehave(slowly(gate))
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /v2/library/redis/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", layerOf(t, img, 0))
	r.eventually("the download begins", func() bool { return h.count("/blobs/") == 1 })
	close(gate)
	if err := pullFrom(r.Mirror, "10.213.0.9:1", img); err != nil {
		t.Error(err)
	}
}

// TestRedirectElsewhere: an upstream may send the server to other hosts for
// its blobs; credentials stay behind.
func TestRedirectElsewhere(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 10_000, 1)
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the account was sent on")
		}
		h.real.ServeHTTP(w, r)
	}))
	defer cdn.Close()
	h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, cdn.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		next.ServeHTTP(w, r)
	})
	r := enter(t, h, nil)
	r.same("library/redis:1", img)
}

// TestSignIn: pulls for learners carry no account, but a token when the
// registry wants one, as Docker Hub does.
func TestSignIn(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 1000, 1)
	h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == "/token" {
			if _, _, ok := r.BasicAuth(); ok {
				t.Error("an account was used")
			}
			fmt.Fprintf(w, `{"token": "t-%s"}`, strings.ReplaceAll(r.URL.Query().Get("scope"), ":", "."))
			return
		}
		if auth := r.Header.Get("Authorization"); auth != "Bearer t-repository.library/redis.pull" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+h.URL+`/token",service="hub"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
	r := enter(t, h, nil)
	r.same("library/redis:1", img)
	if _, err := r.pull("library/private:1"); err == nil || !strings.Contains(err.Error(), "not public") {
		t.Errorf("an image that needs an account: %v", err)
	}
}

// TestManyChildren: an index with ten thousand children is refused once, and
// not looked at again.
func TestManyChildren(t *testing.T) {
	h := newHub(t)
	var b strings.Builder
	b.WriteString(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`)
	for i := range 10_000 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"mediaType":"application/vnd.oci.image.index.v1+json","size":1,"digest":"sha256:%064x"}`, i)
	}
	b.WriteString("]}")
	h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			io.WriteString(w, b.String())
			return
		}
		next.ServeHTTP(w, r)
	})
	r := enter(t, h, nil)
	r.Prefetch(t.Context(), []string{"bomb:1"})
	for range 20 {
		if resp, _ := r.get("GET", "/v2/library/bomb/manifests/1"); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s", resp.Status)
		}
	}
	if n := h.count("/manifests/"); n != 1 {
		t.Errorf("upstream was asked %d times", n)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []mirror.Config{
		{},
		{Dir: t.TempDir(), Upstream: "file:///etc"},
		{Dir: t.TempDir(), Upstream: "https://user:secret@example.org"},
		{Dir: t.TempDir(), Upstream: "https://example.org/path"},
		{Dir: t.TempDir(), Upstream: "example.org"},
		{Dir: t.TempDir(), Upstream: "none", Registries: map[string]string{"ghcr.io": "gopher://x"}},
		{Dir: "/proc/mirror", Upstream: "none"},
	} {
		if m, err := mirror.Open(c); err == nil {
			m.Close()
			t.Errorf("%+v was accepted", c)
		}
	}
}
