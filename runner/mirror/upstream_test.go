package mirror_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A hub is a real registry on loopback that counts what it is asked for and
// misbehaves on request.
type hub struct {
	t    *testing.T
	URL  string
	addr string
	real http.Handler

	mu     sync.Mutex
	srv    *httptest.Server
	counts map[string]int // by method and path
	fault  func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t, counts: make(map[string]int), real: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	h.start()
	t.Cleanup(h.stop)
	return h
}

// start begins to listen, at the same address as before.
func (h *hub) start() {
	h.t.Helper()
	ln, err := net.Listen("tcp", cmpOr(h.addr, "127.0.0.1:0"))
	if err != nil {
		h.t.Fatalf("listen: %v", err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = ln
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.srv, h.addr, h.URL = srv, ln.Addr().String(), srv.URL
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (h *hub) stop() {
	h.mu.Lock()
	srv := h.srv
	h.srv = nil
	h.mu.Unlock()
	if srv != nil {
		srv.CloseClientConnections()
		srv.Close()
	}
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.counts[r.Method+" "+r.URL.Path]++
	fault := h.fault
	h.mu.Unlock()
	if fault != nil {
		fault(w, r, h.real)
		return
	}
	h.real.ServeHTTP(w, r)
}

// misbehave sets what happens to requests; nil for a good registry.
func (h *hub) misbehave(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

// count gives how many requests there were whose method and path contain s,
// and forgets none.
func (h *hub) count(s string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for k, c := range h.counts {
		if strings.Contains(k, s) {
			n += c
		}
	}
	return n
}

func (h *hub) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.counts)
}

func (h *hub) ref(s string) name.Reference {
	h.t.Helper()
	r, err := name.ParseReference(h.addr+"/"+s, name.Insecure)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// push puts a random image into the hub: "library/redis:1".
func (h *hub) push(ref string, size int64, layers int64) v1.Image {
	h.t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := remote.Write(h.ref(ref), img); err != nil {
		h.t.Fatal(err)
	}
	h.forget()
	return img
}

// pushIndex puts an image for this machine and one for another into the hub.
func (h *hub) pushIndex(ref, arch string) (v1.ImageIndex, v1.Image) {
	h.t.Helper()
	var adds []mutate.IndexAddendum
	var here v1.Image
	for _, a := range []string{"s390x", arch} {
		img, err := random.Image(4096, 2)
		if err != nil {
			h.t.Fatal(err)
		}
		here = img
		adds = append(adds, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: a}}})
	}
	idx := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, adds...), types.DockerManifestList)
	if err := remote.WriteIndex(h.ref(ref), idx); err != nil {
		h.t.Fatal(err)
	}
	h.forget()
	return idx, here
}

// ranges serves a blob's ranges, which the registry behind does not.
func ranges(w http.ResponseWriter, r *http.Request, next http.Handler) {
	rec := httptest.NewRecorder()
	plain := r.Clone(r.Context())
	plain.Header.Del("Range")
	next.ServeHTTP(rec, plain)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	from, _, _ = strings.Cut(from, "-")
	start, err := strconv.Atoi(from)
	if !ok || err != nil || rec.Code != http.StatusOK {
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
		return
	}
	body := rec.Body.Bytes()
	w.Header().Set("Content-Range", "bytes "+from+"-"+strconv.Itoa(len(body)-1)+"/"+strconv.Itoa(len(body)))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)-start))
	w.WriteHeader(http.StatusPartialContent)
	w.Write(body[start:])
}

// slowly writes a response's body in pieces with pauses until gate is closed.
func slowly(gate <-chan struct{}) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		b := rec.Body.Bytes()
		half := len(b) / 2
		w.Write(b[:half])
		w.(http.Flusher).Flush()
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		case <-time.After(30 * time.Second):
		}
		w.Write(b[half:])
	}
}
