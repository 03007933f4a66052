package mirror_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"berth/labs"
	"berth/runner/mirror"
)

const patience = 20 * time.Second // of a test's waits

// A clock is the time that a mirror sees.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A room is a mirror that is served on loopback, with its upstream.
type room struct {
	*mirror.Mirror
	t     testing.TB
	hub   *hub
	clock *clock
	addr  string // of the mirror
	cfg   mirror.Config
	leave func()
}

// enter opens a mirror. Its upstream is h, or nothing when h is nil.
func enter(t testing.TB, h *hub, change func(*mirror.Config)) *room {
	t.Helper()
	r := &room{t: t, hub: h, clock: &clock{now: time.Now()}}
	r.cfg = mirror.Config{
		Dir: filepath.Join(t.TempDir(), "mirror"), Upstream: "none", Patience: 10 * time.Second,
		Log: slog.New(slog.DiscardHandler), Now: r.clock.Now,
	}
	if h != nil {
		r.cfg.Upstream = h.URL
	}
	if change != nil {
		change(&r.cfg)
	}
	r.open()
	t.Cleanup(func() { r.leave() })
	return r
}

func (r *room) open() {
	r.t.Helper()
	m, err := mirror.Open(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx, ln) }()
	r.Mirror, r.addr = m, ln.Addr().String()
	r.leave = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("serve: %v", err)
		}
		if err := m.Close(); err != nil {
			r.t.Errorf("close: %v", err)
		}
	})
}

// restart closes the mirror and opens it again.
func (r *room) restart() {
	r.t.Helper()
	r.leave()
	r.open()
}

// pull pulls an image from the mirror as an engine does and reads all of it.
func (r *room) pull(ref string) (v1.Image, error) {
	parsed, err := name.ParseReference(r.addr+"/"+ref, name.Insecure)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	img, err := remote.Image(parsed, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
		remote.WithRetryStatusCodes(), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	if _, err := img.RawConfigFile(); err != nil {
		return nil, err
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, rc) // verifies the digest
		if err = errors.Join(err, rc.Close()); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// same expects that pulling ref gives img.
func (r *room) same(ref string, img v1.Image) {
	r.t.Helper()
	got, err := r.pull(ref)
	if err != nil {
		r.t.Fatalf("pull %s: %v", ref, err)
	}
	if digestOf(r.t, got) != digestOf(r.t, img) {
		r.t.Fatalf("pull %s gives %s, want %s", ref, digestOf(r.t, got), digestOf(r.t, img))
	}
}

func (r *room) source(ref string, want labs.ImageSource) {
	r.t.Helper()
	if got := r.Source(ref); got != want {
		r.t.Errorf("source of %s is %q, want %q", ref, got, want)
	}
}

// eventually waits for an outcome of something under way in the background.
func (r *room) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// get sends a request as it is, with a path that is not cleaned.
func (r *room) get(method, path string, header ...string) (*http.Response, []byte) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.addr, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.URL.Opaque = "//" + r.addr + path
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, body
}

func digestOf(t testing.TB, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func layerOf(t *testing.T, img v1.Image, i int) string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[i].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(2048, 3)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// docker writes img as older docker save does.
func docker(t *testing.T, images map[string]v1.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "saved.tar")
	byRef := make(map[name.Reference]v1.Image)
	for n, img := range images {
		tag, err := name.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		byRef[tag] = img
	}
	if err := tarball.MultiRefWriteToFile(path, byRef); err != nil {
		t.Fatal(err)
	}
	return path
}

func ociLayout(t *testing.T, img v1.Image, ref string) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	var opts []layout.Option
	if ref != "" {
		opts = append(opts, layout.WithAnnotations(map[string]string{"io.containerd.image.name": ref}))
	}
	if err := p.AppendImage(img, opts...); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPullThrough(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:3.2.11-alpine", 100_000, 4)
	r := enter(t, h, nil)
	r.same("library/redis:3.2.11-alpine", img)
	r.source("redis:3.2.11-alpine", labs.FromUpstream)
	first := h.count("")
	r.same("library/redis:3.2.11-alpine", img)
	r.same("redis:3.2.11-alpine", img) // without library/
	if again := h.count("") - first; again != 0 {
		t.Errorf("upstream was asked %d times for what is here", again)
	}
	r.same("library/redis@"+digestOf(t, img), img)
}

func TestPullByDigestFirst(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 1000, 2)
	r := enter(t, h, nil)
	r.same("library/redis@"+digestOf(t, img), img)
	h.stop()
	r.same("library/redis@"+digestOf(t, img), img)
}

func TestIndex(t *testing.T) {
	h := newHub(t)
	idx, img := h.pushIndex("library/redis:7", runtime.GOARCH)
	r := enter(t, h, nil)
	r.Prefetch(t.Context(), []string{"redis:7"})
	r.source("redis:7", labs.FromUpstream)
	h.stop()
	r.same("library/redis:7", img)
	want, err := idx.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	resp, body := r.get("GET", "/v2/library/redis/manifests/7")
	if resp.StatusCode != 200 || !bytes.Equal(body, want) || resp.Header.Get("Content-Type") != "application/vnd.docker.distribution.manifest.list.v2+json" {
		t.Errorf("index: %s %s", resp.Status, resp.Header)
	}
	// Nothing was fetched for other machines.
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if n := h.count(m.Manifests[0].Digest.String()); n != 0 {
		t.Errorf("the image for %s was fetched", m.Manifests[0].Platform)
	}
}

// TestOneDownload: learners who pull the same image at the same time cause one
// download of each part, and get it while it arrives.
func TestOneDownload(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:3", 300_000, 5)
	r := enter(t, h, nil)
	gate := make(chan struct{})
	h.misbehave(slowly(gate))
	const learners = 50
	var wg sync.WaitGroup
	errs := make([]error, learners)
	for i := range learners {
		wg.Go(func() {
			// Learners have addresses of their own.
			errs[i] = pullFrom(r.Mirror, fmt.Sprintf("10.213.1.%d:4000", i), img)
		})
	}
	r.eventually("downloads begin", func() bool { return h.count("/blobs/") >= 6 })
	close(gate)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, n := range h.counts {
		if n > 1 && strings.Contains(k, "GET") && !strings.HasSuffix(k, "/v2/") {
			t.Errorf("%s: %d times", k, n)
		}
	}
}

// pullFrom pulls library/redis:3 through the handler, all parts at once.
func pullFrom(h http.Handler, client string, want v1.Image) error {
	get := func(path string) ([]byte, error) {
		req := httptest.NewRequest("GET", path, nil)
		req.RemoteAddr = client
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != http.StatusOK {
			return nil, fmt.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
		return rec.Body.Bytes(), nil
	}
	raw, err := get("/v2/library/redis/manifests/3")
	if err != nil {
		return err
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	descs := append(m.Layers, m.Config)
	errs := make([]error, len(descs))
	for i, d := range descs {
		wg.Go(func() {
			b, err := get("/v2/library/redis/blobs/" + d.Digest.String())
			if err == nil && int64(len(b)) != d.Size {
				err = fmt.Errorf("blob of %d bytes, want %d", len(b), d.Size)
			}
			if sum := sha256.Sum256(b); err == nil && hex.EncodeToString(sum[:]) != d.Digest.Hex {
				err = errors.New("blob is another")
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// TestStreamed: a client gets the first bytes before upstream gave the last.
func TestStreamed(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:3", 500_000, 1)
	r := enter(t, h, nil)
	gate := make(chan struct{})
	h.misbehave(slowly(gate))
	digest := layerOf(t, img, 0)
	resp, err := http.Get("http://" + r.addr + "/v2/library/redis/blobs/" + digest)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	early := make([]byte, 100_000)
	if _, err := io.ReadFull(resp.Body, early); err != nil {
		t.Fatal(err)
	}
	close(gate)
	rest, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append(early, rest...))
	if "sha256:"+hex.EncodeToString(sum[:]) != digest {
		t.Error("the blob is another")
	}
}

func TestUpstreamDown(t *testing.T) {
	h := newHub(t)
	fetched := h.push("library/fetched:1", 1000, 2)
	h.push("library/redis:1", 1000, 2)
	r := enter(t, h, nil)
	r.same("library/fetched:1", fetched)
	stocked, standin := randomImage(t), randomImage(t)
	if _, err := r.Add(t.Context(), docker(t, map[string]v1.Image{"redis:1": stocked}), ""); err != nil {
		t.Fatal(err)
	}
	if err := r.SetStandin(t.Context(), "redis:1", standin); err != nil {
		t.Fatal(err)
	}
	if err := r.SetStandin(t.Context(), "nginx:1", standin); err != nil {
		t.Fatal(err)
	}
	h.stop()
	r.clock.pass(2 * time.Hour) // nothing is fresh any more
	r.same("library/fetched:1", fetched)
	r.source("fetched:1", labs.FromUpstream)
	got, err := r.pull("library/redis:1")
	if err != nil {
		t.Fatal(err)
	}
	if layerDiff(t, got) != layerDiff(t, stocked) {
		t.Error("the stocked image was not served")
	}
	r.source("redis:1", labs.FromStock)
	r.same("library/nginx:1", standin)
	r.source("nginx:1", labs.FromStandin)
	if _, err := r.pull("library/missing:1"); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("an image that cannot be had: %v", err)
	}
	r.source("missing:1", labs.FromNowhere)
}

// layerDiff tells images apart whose manifests differ by compression.
func layerDiff(t testing.TB, img v1.Image) string {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(c.RootFS.DiffIDs)
}

// TestOfflineRoomDoesNotWait: an upstream that swallows everything costs the
// first request its patience, and later ones nothing.
func TestOfflineRoomDoesNotWait(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := enter(t, nil, func(c *mirror.Config) {
		c.Upstream, c.Patience = "http://"+ln.Addr().String(), 200*time.Millisecond
	})
	img := randomImage(t)
	if err := r.SetStandin(t.Context(), "redis:1", img); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.same("library/redis:1", img)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the first pull took %v", took)
	}
	for i := range 5 {
		if i == 3 {
			r.clock.pass(2 * time.Minute) // a new try is due: it is made behind the request
		}
		began = time.Now()
		r.same("library/redis:1", img)
		if took := time.Since(began); took > 150*time.Millisecond {
			t.Errorf("pull %d took %v", i, took)
		}
	}
}

func TestUpstreamRecovers(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 1000, 2)
	h.stop()
	r := enter(t, h, nil)
	standin := randomImage(t)
	if err := r.SetStandin(t.Context(), "redis:1", standin); err != nil {
		t.Fatal(err)
	}
	r.same("library/redis:1", standin)
	r.source("redis:1", labs.FromStandin)
	h.start()
	r.same("library/redis:1", standin) // left alone for a while
	r.clock.pass(2 * time.Minute)
	r.eventually("the real image", func() bool {
		got, err := r.pull("library/redis:1")
		return err == nil && digestOf(t, got) == digestOf(t, img)
	})
	r.source("redis:1", labs.FromUpstream)
}

func TestTagMoves(t *testing.T) {
	h := newHub(t)
	old := h.push("library/redis:latest", 1000, 2)
	r := enter(t, h, nil)
	r.same("library/redis", old)
	moved := h.push("library/redis:latest", 1000, 2)
	r.same("library/redis", old) // fresh
	r.clock.pass(2 * time.Hour)
	r.same("library/redis", moved)
	h.forget()
	r.clock.pass(2 * time.Hour)
	r.same("library/redis", moved)
	if n := h.count("GET /v2/library/redis/manifests"); n != 0 || h.count("HEAD") != 1 {
		t.Errorf("an unmoved tag was fetched %d times", n)
	}
}

// TestRealBeforeStock: the real image when upstream has it, unless the
// operator says otherwise; the stock when upstream has not.
func TestRealBeforeStock(t *testing.T) {
	for _, stockFirst := range []bool{false, true} {
		h := newHub(t)
		img := h.push("library/redis:1", 1000, 2)
		r := enter(t, h, func(c *mirror.Config) { c.StockFirst = stockFirst })
		stocked := randomImage(t)
		for _, ref := range []string{"redis:1", "own:1"} {
			if _, err := r.Add(t.Context(), ociLayout(t, stocked, ""), ref); err != nil {
				t.Fatal(err)
			}
		}
		if stockFirst {
			r.same("library/redis:1", stocked)
			r.source("redis:1", labs.FromStock)
		} else {
			r.same("library/redis:1", img)
			r.source("redis:1", labs.FromUpstream)
		}
		r.same("library/own:1", stocked)
		r.source("own:1", labs.FromStock)
	}
}

func TestUnknownUntilAsked(t *testing.T) {
	h := newHub(t)
	h.push("library/redis:1", 1000, 2)
	r := enter(t, h, nil)
	r.source("redis:1", labs.FromUnknown)
	r.source("no such : thing", labs.FromNowhere)
	r.Prefetch(t.Context(), []string{"redis:1", "missing:1"})
	r.source("redis:1", labs.FromUpstream)
	r.source("missing:1", labs.FromNowhere)
}

// TestMissingIsRemembered: asking again and again for what upstream does not
// have is not passed on.
func TestMissingIsRemembered(t *testing.T) {
	h := newHub(t)
	r := enter(t, h, nil)
	for range 20 {
		if resp, body := r.get("GET", "/v2/library/missing/manifests/1"); resp.StatusCode != 404 || !bytes.Contains(body, []byte("MANIFEST_UNKNOWN")) {
			t.Fatalf("%s %s", resp.Status, body)
		}
	}
	if n := h.count("library/missing"); n != 1 {
		t.Errorf("upstream was asked %d times", n)
	}
	img := h.push("library/missing:1", 1000, 1)
	r.clock.pass(2 * time.Minute)
	r.same("library/missing:1", img)
}

func TestUpstreamFaults(t *testing.T) {
	manifests := func(do http.HandlerFunc) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				do(w, r)
				return
			}
			next.ServeHTTP(w, r)
		}
	}
	giant := bytes.Repeat([]byte(" "), 64<<20)
	for _, c := range []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request, http.Handler)
	}{
		{"server error", manifests(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 500) })},
		{"too many pulls", manifests(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "toomanyrequests", http.StatusTooManyRequests)
		})},
		{"captive portal", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html>Accept our terms</html>")
		}},
		{"captive portal by redirect", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, "http://127.0.0.1:1/sign-in", http.StatusFound)
		}},
		{"giant manifest", manifests(func(w http.ResponseWriter, r *http.Request) { w.Write(giant) })},
		{"truncated manifest", manifests(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5000")
			io.WriteString(w, `{"schemaVersion": 2`)
		})},
		{"no JSON", manifests(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "oops") })},
		{"old schema", manifests(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"schemaVersion": 1}`) })},
		{"digests that climb", manifests(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"schemaVersion": 2, "config": {"digest": "sha256:../../../../etc/passwd"}, "layers": []}`)
		})},
		{"digest of another manifest", manifests(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 64))
			io.WriteString(w, `{"schemaVersion": 2, "config": {"digest": "sha256:`+strings.Repeat("b", 64)+`"}}`)
		})},
		{"hangs up", manifests(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t)
			img := h.push("library/redis:1", 1000, 2)
			h.misbehave(c.fault)
			r := enter(t, h, nil)
			standin := randomImage(t)
			if err := r.SetStandin(t.Context(), "redis:1", standin); err != nil {
				t.Fatal(err)
			}
			r.same("library/redis:1", standin)
			r.source("redis:1", labs.FromStandin)
			resp, body := r.get("GET", "/v2/library/other/manifests/1")
			var said struct {
				Errors []struct{ Code, Message string }
			}
			if err := json.Unmarshal(body, &said); err != nil || resp.StatusCode != 404 || len(said.Errors) != 1 || said.Errors[0].Message == "" {
				t.Errorf("an image without a stand-in: %s %s", resp.Status, body)
			}
			h.misbehave(nil)
			r.clock.pass(2 * time.Minute)
			r.eventually("the real image", func() bool {
				got, err := r.pull("library/redis:1")
				return err == nil && digestOf(t, got) == digestOf(t, img)
			})
		})
	}
}

func TestBlobFaults(t *testing.T) {
	// next gives a blob's bytes as the hub has them.
	whole := func(r *http.Request, next http.Handler) []byte {
		rec := httptest.NewRecorder()
		plain := r.Clone(r.Context())
		plain.Header.Del("Range")
		next.ServeHTTP(rec, plain)
		return rec.Body.Bytes()
	}
	for _, c := range []struct {
		name    string
		good    bool // the mirror gets it in the end
		retried bool
		fault   func(n int, w http.ResponseWriter, r *http.Request, next http.Handler)
	}{
		{"cut off once, resumed", true, true, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			if n == 1 {
				b := whole(r, next)
				w.Header().Set("Content-Length", fmt.Sprint(len(b)))
				w.Write(b[:len(b)/2])
				panic(http.ErrAbortHandler)
			}
			if r.Header.Get("Range") == "" {
				http.Error(w, "want a range", 500)
				return
			}
			ranges(w, r, next)
		}},
		{"cut off thrice, ranges unknown", true, true, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			b := whole(r, next)
			if n <= 3 {
				w.Header().Set("Content-Length", fmt.Sprint(len(b)))
				w.Write(b[:len(b)*n/4])
				panic(http.ErrAbortHandler)
			}
			w.Write(b)
		}},
		{"another blob", false, false, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			b := whole(r, next)
			b[len(b)/2] ^= 1
			w.Write(b)
		}},
		{"always short", false, true, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			b := whole(r, next)
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.Write(b[:10])
			panic(http.ErrAbortHandler)
		}},
		{"wrong range, then the whole", true, true, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			b := whole(r, next)
			if n == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(b)))
				w.Write(b[:len(b)/2])
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(b)-1, len(b)))
			w.WriteHeader(206)
			w.Write(b)
		}},
		{"without end", false, false, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}},
		{"gone", false, false, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) { http.NotFound(w, r) }},
		{"redirected to a file", false, true, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusTemporaryRedirect)
		}},
		{"redirected in circles", false, true, func(n int, w http.ResponseWriter, r *http.Request, next http.Handler) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t)
			img := h.push("library/redis:1", 200_000, 1)
			digest := layerOf(t, img, 0)
			var mu sync.Mutex
			n := 0
			h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if !strings.Contains(r.URL.Path, digest) {
					next.ServeHTTP(w, r)
					return
				}
				mu.Lock()
				n++
				now := n
				mu.Unlock()
				c.fault(now, w, r, next)
			})
			r := enter(t, h, func(c *mirror.Config) { c.MaxBlob = 1 << 20 })
			got, err := r.pull("library/redis:1")
			if c.good {
				if err != nil || digestOf(t, got) != digestOf(t, img) {
					t.Fatalf("pull: %v", err)
				}
			} else if err == nil {
				t.Fatal("the pull went well")
			}
			mu.Lock()
			tries := n
			mu.Unlock()
			// The client may have asked a second time by itself.
			if c.retried && tries < 2 || !c.retried && tries > 2 {
				t.Errorf("upstream was asked %d times", tries)
			}
			// A good upstream is all that is needed afterwards.
			h.misbehave(nil)
			r.clock.pass(2 * time.Minute)
			r.same("library/redis:1", img)
			r.leave()
			files, err := os.ReadDir(filepath.Join(r.cfg.Dir, "partial"))
			if err != nil || len(files) != 0 {
				t.Errorf("left behind: %v %v", files, err)
			}
		})
	}
}

// TestResumedAfterRestart: what has arrived is not fetched again, also when
// the server was killed meanwhile.
func TestResumedAfterRestart(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 400_000, 1)
	digest := layerOf(t, img, 0)
	r := enter(t, h, nil)
	h.misbehave(slowly(nil)) // half of it, and then nothing
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+r.addr+"/v2/library/redis/blobs/"+digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 150_000); err != nil {
		t.Fatal(err)
	}
	cancel()
	resp.Body.Close()
	r.restart()
	got := make(chan string, 10)
	h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, digest) {
			got <- r.Header.Get("Range")
		}
		ranges(w, r, next)
	})
	r.same("library/redis:1", img)
	if rng := <-got; !strings.HasPrefix(rng, "bytes=") || rng == "bytes=0-" {
		t.Errorf("asked for range %q", rng)
	}
}

// TestGivenUp: a download ends when nobody waits for it any more.
func TestGivenUp(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 400_000, 1)
	digest := layerOf(t, img, 0)
	r := enter(t, h, nil)
	ended := make(chan struct{})
	h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.URL.Path, digest) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", "400000")
		w.Write(make([]byte, 1000))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+r.addr+"/v2/library/redis/blobs/"+digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the download goes on")
	}
	h.misbehave(nil)
	// The thousand zeros are not what the blob begins with: whoever pulls now
	// is cut off (and may ask again by itself), and the next one gets it all.
	if got, err := r.pull("library/redis:1"); err == nil && digestOf(t, got) != digestOf(t, img) {
		t.Error("a wrong beginning was not noticed")
	}
	r.same("library/redis:1", img)
}

func TestRestart(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 1000, 2)
	r := enter(t, h, nil)
	r.same("library/redis:1", img)
	stocked := randomImage(t)
	if _, err := r.Add(t.Context(), ociLayout(t, stocked, "docker.io/library/own:1"), ""); err != nil {
		t.Fatal(err)
	}
	before, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	h.stop()
	r.restart()
	after, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != 2 || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the list was\n%v and is\n%v", before, after)
	}
	r.same("library/redis:1", img)
	r.same("library/own:1", stocked)
}

// TestDamagedFiles: what a crash of the machine can leave behind is as good as
// not there.
func TestDamagedFiles(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 1000, 2)
	r := enter(t, h, nil)
	r.same("library/redis:1", img)
	refs, err := filepath.Glob(filepath.Join(r.cfg.Dir, "refs", "*", "*.json"))
	if err != nil || len(refs) != 1 {
		t.Fatal(refs, err)
	}
	for _, text := range []string{"", "{", `{"ref":"docker.io/library/redis:1","digest":"../../x"}`} {
		if err := os.WriteFile(refs[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.restart()
		r.same("library/redis:1", img)
	}
	hexes := strings.TrimPrefix(digestOf(t, img), "sha256:")
	if err := os.WriteFile(filepath.Join(r.cfg.Dir, "blobs", "sha256", hexes), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.same("library/redis:1", img)
}

// TestEviction: what was not used for longest goes first, and the stock never.
func TestEviction(t *testing.T) {
	h := newHub(t)
	var images []v1.Image
	for i := range 6 {
		images = append(images, h.push(fmt.Sprintf("library/image:%d", i), 300_000, 1))
	}
	r := enter(t, h, func(c *mirror.Config) { c.CacheSize = 1_200_000 })
	stocked, err := random.Image(500_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(t.Context(), ociLayout(t, stocked, "docker.io/library/own:1"), ""); err != nil {
		t.Fatal(err)
	}
	age := func(img v1.Image, d time.Duration) {
		t.Helper()
		for _, digest := range []string{layerOf(t, img, 0), digestOf(t, img)} {
			path := filepath.Join(r.cfg.Dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
			if err := os.Chtimes(path, time.Now().Add(-d), time.Now().Add(-d)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, img := range images[:3] {
		r.same(fmt.Sprintf("library/image:%d", i), img)
		age(img, time.Duration(3-i)*time.Hour)
	}
	age(stocked, 100*time.Hour)
	r.same("library/image:0", images[0]) // used again: the second is the oldest now
	h.forget()
	r.same("library/image:3", images[3])
	r.same("library/image:4", images[4])
	h.forget()
	r.same("library/image:0", images[0])
	if n := h.count("/blobs/"); n != 0 {
		t.Errorf("%d parts of an image in use were evicted", n)
	}
	r.same("library/image:1", images[1])
	if h.count(layerOf(t, images[1], 0)) == 0 {
		t.Error("the oldest image was not evicted")
	}
	h.stop()
	r.same("library/own:1", stocked)
	var total int64
	filepath.Walk(filepath.Join(r.cfg.Dir, "blobs"), func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	if total > 1_200_000+1_010_000 {
		t.Errorf("%d bytes are kept", total)
	}
	// An image of which a part was evicted is not offered without upstream.
	r.clock.pass(2 * time.Hour)
	if _, err := r.pull("library/image:2"); err == nil {
		t.Error("half an image was served")
	}
	r.source("image:2", labs.FromNowhere)
}

// TestNoRoom: an image that does not fit is refused, and the cache goes on.
func TestNoRoom(t *testing.T) {
	h := newHub(t)
	h.push("library/big:1", 2_000_000, 1)
	img := h.push("library/redis:1", 100_000, 1)
	r := enter(t, h, func(c *mirror.Config) { c.CacheSize = 1_000_000 })
	if _, err := r.pull("library/big:1"); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("pull of what does not fit: %v", err)
	}
	r.same("library/redis:1", img)
}

func TestAdd(t *testing.T) {
	h := newHub(t)
	a, b := randomImage(t), randomImage(t)
	pushed := h.push("library/redis:1", 1000, 3)
	_, here := h.pushIndex("library/multi:1", runtime.GOARCH)
	h.pushIndex("library/foreign:1", "riscv64")
	saved := docker(t, map[string]v1.Image{"one:1": a, "two:2": b})
	single := docker(t, map[string]v1.Image{"one:1": a})
	for _, c := range []struct {
		name   string
		source string
		as     string
		want   map[string]v1.Image
		fails  string
	}{
		{name: "reference", source: "redis:1", want: map[string]v1.Image{"library/redis:1": pushed}},
		{name: "reference by another name", source: "redis:1", as: "valkey:9", want: map[string]v1.Image{"library/valkey:9": pushed}},
		{name: "index", source: "multi:1", want: map[string]v1.Image{"library/multi:1": here}},
		{name: "no image for this machine", source: "foreign:1", fails: "processor"},
		{name: "reference that is not there", source: "missing:1", fails: "no image"},
		{name: "two images", source: saved, want: map[string]v1.Image{"library/one:1": a, "library/two:2": b}},
		{name: "two images, one name", source: saved, as: "x:1", fails: "2 images"},
		{name: "one image by another name", source: single, as: "x:1", want: map[string]v1.Image{"library/x:1": a}},
		{name: "layout", source: ociLayout(t, a, "docker.io/library/lay:1"), want: map[string]v1.Image{"library/lay:1": a}},
		{name: "layout without a name", source: ociLayout(t, a, ""), fails: "no name"},
		{name: "layout in an archive", source: tarOf(t, ociLayout(t, a, "docker.io/library/lay:1"), false), want: map[string]v1.Image{"library/lay:1": a}},
		{name: "gzipped archive", source: tarOf(t, ociLayout(t, b, "lay:2"), true), want: map[string]v1.Image{"library/lay:2": b}},
		{name: "another registry's name", source: ociLayout(t, a, "ghcr.io/owner/x:1"), fails: "cannot ask|Docker Hub's names"},
		{name: "no file", source: "./nothing.tar", fails: "no such file"},
		{name: "no archive", source: write(t, "x.tar", "just some text, not an archive at all"), fails: "archive"},
		{name: "empty file", source: write(t, "x.tar", ""), fails: "archive"},
		{name: "archive of something else", source: tarOf(t, filepath.Dir(write(t, "hello", "hello")), false), fails: "docker save"},
		{name: "damaged layout", source: damaged(t, ociLayout(t, a, "lay:1"), layerOf(t, a, 1)), fails: "digest"},
		{name: "layout with a missing part", source: lacking(t, ociLayout(t, a, "lay:1"), layerOf(t, a, 1)), fails: "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := enter(t, nil, func(cfg *mirror.Config) { cfg.Upstream = h.URL })
			images, err := r.Add(t.Context(), c.source, c.as)
			if c.fails != "" {
				if err == nil || !containsAny(err.Error(), strings.Split(c.fails, "|")) {
					t.Fatalf("error is %v, want one that says %q", err, c.fails)
				}
				if list, err := r.List(); err != nil || len(list) != 0 {
					t.Errorf("stock after a mistake: %v, %v", list, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(images) != len(c.want) {
				t.Errorf("%d images were added: %v", len(images), images)
			}
			for _, x := range images {
				if x.Source != labs.FromStock || !x.Complete || x.Size == 0 {
					t.Errorf("added %+v", x)
				}
			}
			// Another mirror of the same folder, without a network, serves it.
			other := enter(t, nil, func(cfg *mirror.Config) { cfg.Dir = r.cfg.Dir })
			for ref, img := range c.want {
				got, err := other.pull(ref)
				if err != nil {
					t.Fatal(err)
				}
				if layerDiff(t, got) != layerDiff(t, img) {
					t.Errorf("%s is another image", ref)
				}
				other.source(strings.TrimPrefix(ref, "library/"), labs.FromStock)
			}
		})
	}
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// TestAddWhileServing: what another process adds is served at once.
func TestAddWhileServing(t *testing.T) {
	server := enter(t, nil, nil)
	if _, err := server.pull("library/own:1"); err == nil {
		t.Fatal("it is there already")
	}
	img := randomImage(t)
	command := enter(t, nil, func(c *mirror.Config) { c.Dir = server.cfg.Dir })
	if _, err := command.Add(t.Context(), ociLayout(t, img, "own:1"), ""); err != nil {
		t.Fatal(err)
	}
	server.same("library/own:1", img)
}

func TestStandinPath(t *testing.T) {
	r := enter(t, nil, nil)
	old, img := randomImage(t), randomImage(t)
	for _, x := range []v1.Image{old, img} {
		if err := r.SetStandinPath(t.Context(), "redis:3.2.11-alpine", ociLayout(t, x, "")); err != nil {
			t.Fatal(err)
		}
		r.same("library/redis:3.2.11-alpine", x)
	}
	r.source("redis:3.2.11-alpine", labs.FromStandin)
	list, err := r.List()
	if err != nil || len(list) != 1 || list[0].Source != labs.FromStandin || !list[0].Complete {
		t.Errorf("list is %v, %v", list, err)
	}
}

func TestOtherRegistries(t *testing.T) {
	h := newHub(t)
	img := h.push("owner/app:1", 1000, 2)
	r := enter(t, nil, func(c *mirror.Config) { c.Registries = map[string]string{"ghcr.io": h.URL} })
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	if resp, body := r.get("GET", "/v2/owner/app/manifests/1?ns=ghcr.io"); resp.StatusCode != 200 || !bytes.Equal(body, raw) {
		t.Errorf("%s %s", resp.Status, body)
	}
	if resp, _ := r.get("GET", "/v2/owner/app/manifests/1?ns=docker.io"); resp.StatusCode != 404 {
		t.Errorf("docker.io: %s", resp.Status)
	}
	r.source("ghcr.io/owner/app:1", labs.FromUpstream)
}

func TestProtocol(t *testing.T) {
	h := newHub(t)
	img := h.push("library/redis:1", 50_000, 1)
	r := enter(t, h, nil)
	layer := "/v2/library/redis/blobs/" + layerOf(t, img, 0)
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	if resp, body := r.get("GET", "/v2/"); resp.StatusCode != 200 || resp.Header.Get("Docker-Distribution-Api-Version") != "registry/2.0" || string(body) != "{}" {
		t.Errorf("/v2/: %s %s", resp.Status, body)
	}
	if resp, body := r.get("HEAD", "/v2/library/redis/manifests/1"); resp.StatusCode != 200 || len(body) != 0 ||
		resp.Header.Get("Docker-Content-Digest") != digestOf(t, img) || resp.ContentLength != int64(len(raw)) {
		t.Errorf("head of a manifest: %s %v", resp.Status, resp.Header)
	}
	if resp, _ := r.get("HEAD", layer); resp.StatusCode != 200 || resp.ContentLength <= 50_000 {
		t.Errorf("head of a blob upstream: %s %v", resp.Status, resp.Header)
	}
	if n := h.count("GET " + layer); n != 0 {
		t.Error("a head fetched the blob")
	}
	resp, part := r.get("GET", layer, "Range", "bytes=100-199")
	if resp.StatusCode != 206 || len(part) != 100 {
		t.Errorf("a range of what is not here yet: %s, %d bytes", resp.Status, len(part))
	}
	resp, all := r.get("GET", layer)
	if resp.StatusCode != 200 || !bytes.Equal(all[100:200], part) {
		t.Errorf("the whole: %s, %d bytes", resp.Status, len(all))
	}
	resp, part = r.get("GET", layer, "Range", "bytes=40000-")
	if resp.StatusCode != 206 || !bytes.Equal(all[40000:], part) {
		t.Errorf("the end: %s, %d bytes", resp.Status, len(part))
	}
	if resp, body := r.get("GET", "/v2/library/redis/blobs/sha256:"+strings.Repeat("0", 64)); resp.StatusCode != 404 || !bytes.Contains(body, []byte("BLOB_UNKNOWN")) {
		t.Errorf("a blob that is nowhere: %s %s", resp.Status, body)
	}
	// A layer is not a manifest.
	if resp, _ := r.get("GET", "/v2/library/redis/manifests/"+layerOf(t, img, 0)); resp.StatusCode != 404 {
		t.Errorf("a layer as a manifest: %s", resp.Status)
	}
}
