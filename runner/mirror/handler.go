package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"berth/labs"
)

const (
	clientRequests = 32 // of one address at the same time
	clientFetches  = 6  // of those that may wait for upstream
	clientConns    = 64
	allConns       = 8192

	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	writeTimeout  = 2 * time.Minute // for writeStep bytes
	writeStep     = 4 << 20
	bodyTimeout   = 2 * time.Second // to take in the body of a request that is refused
)

// pathRE takes a request's path apart: repository, kind, tag or digest. The
// parts are checked by newRef.
var pathRE = regexp.MustCompile(`^/v2/([a-z0-9._/-]{1,255})/(manifests|blobs)/([A-Za-z0-9._:-]{1,128})$`)

// A refusedError is an answer in the form that the registry protocol has for
// errors.
type refusedError struct {
	status int
	code   string // of the protocol's list
	say    string // shown by docker to the learner
	cause  error  // for the log
}

func (e *refusedError) Error() string { return e.say }

func (e *refusedError) Unwrap() error { return e.cause }

// ServeHTTP answers the read-only half of the registry protocol: /v2/,
// manifests and blobs.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := m.serve(w, r)
	if err == nil || r.Context().Err() != nil {
		return
	}
	var e *refusedError
	if !errors.As(err, &e) {
		e = m.refusal(err)
	}
	if e.status >= 500 {
		m.log.Warn("request", "client", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "status", e.status, "err", errors.Join(err, e.cause))
	}
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body, err := json.Marshal(map[string][]item{"errors": {{e.code, e.say}}})
	if err != nil {
		panic(err) // strings always marshal
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if e.status == http.StatusMethodNotAllowed {
		h.Set("Allow", "GET, HEAD")
	}
	if e.status == http.StatusTooManyRequests {
		h.Set("Retry-After", "1")
	}
	if r.ContentLength != 0 {
		// What is pushed is not waited for.
		h.Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	w.WriteHeader(e.status)
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

// refusal gives the answer for an error of the mirror.
func (m *Mirror) refusal(err error) *refusedError {
	say := "The mirror could not do this; its log says why."
	var p *labs.Problem
	if errors.As(err, &p) {
		say = p.Say
	}
	switch {
	case errors.Is(err, labs.ErrNotFound):
		return &refusedError{http.StatusNotFound, "MANIFEST_UNKNOWN", say, nil}
	case errors.Is(err, errAbsent):
		return &refusedError{http.StatusNotFound, "BLOB_UNKNOWN", "The registry does not have this part of the image.", nil}
	case errors.Is(err, errAway):
		return &refusedError{http.StatusServiceUnavailable, "UNAVAILABLE", "The registry that this image comes from cannot be reached.", nil}
	case errors.Is(err, errTooBig):
		return &refusedError{http.StatusForbidden, "DENIED", "This image has a layer that is bigger than the mirror accepts.", nil}
	case errors.Is(err, errNoRoom):
		return &refusedError{http.StatusServiceUnavailable, "UNAVAILABLE", "The mirror has no room for this image.", nil}
	}
	return &refusedError{http.StatusInternalServerError, "UNKNOWN", say, nil}
}

func (m *Mirror) serve(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return &refusedError{http.StatusMethodNotAllowed, "UNSUPPORTED", "This mirror can only be read.", nil}
	}
	client, free, err := m.clients.enter(r.RemoteAddr)
	if err != nil {
		return err
	}
	defer free()
	if r.URL.Path == "/v2/" || r.URL.Path == "/v2" {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "2")
		if r.Method == http.MethodGet {
			io.WriteString(w, "{}")
		}
		return nil
	}
	parts := pathRE.FindStringSubmatch(r.URL.Path)
	if parts == nil || r.URL.RawPath != "" {
		return &refusedError{http.StatusNotFound, "UNSUPPORTED", "This mirror gives manifests and blobs of images, nothing else.", nil}
	}
	registry := hub
	if ns := r.URL.Query().Get("ns"); ns != "" {
		registry = ns
	}
	if m.upstreams[registry] == nil && registry != hub {
		return &refusedError{http.StatusNotFound, "NAME_UNKNOWN", "This mirror does not stand for that registry.", nil}
	}
	x, err := newRef(registry, parts[1], parts[3])
	if err != nil {
		return &refusedError{http.StatusNotFound, "NAME_INVALID", "That is no name of an image.", err}
	}
	if parts[2] == "manifests" {
		return m.serveManifest(w, r, client, x)
	}
	if !x.byDigest() {
		return &refusedError{http.StatusBadRequest, "DIGEST_INVALID", "Blobs are named by a sha256 digest.", nil}
	}
	return m.serveBlob(w, r, client, x)
}

func (m *Mirror) serveManifest(w http.ResponseWriter, r *http.Request, c *client, x ref) error {
	free, err := c.fetch(r.Context())
	if err != nil {
		return err
	}
	f, err := m.resolve(r.Context(), x)
	free()
	if err != nil {
		return err
	}
	raw, mf, err := m.content.manifest(f.digest)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", mf.mediaType)
	h.Set("Docker-Content-Digest", f.digest)
	h.Set("Etag", `"`+f.digest+`"`)
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	if r.Method == http.MethodHead {
		return nil
	}
	_, err = (&pacedWriter{ResponseWriter: w}).Write(raw)
	return cut(err)
}

func (m *Mirror) serveBlob(w http.ResponseWriter, r *http.Request, c *client, x ref) error {
	if f, _, err := m.content.open(x.id); err == nil {
		defer f.Close()
		serveFile(w, r, f, x.id)
		return nil
	}
	u := m.upstreams[x.registry]
	if u == nil {
		return &refusedError{http.StatusNotFound, "BLOB_UNKNOWN", "This part of the image is not in the mirror.", nil}
	}
	free, err := c.fetch(r.Context())
	if err != nil {
		return err
	}
	defer free()
	if err := u.reach(r.Context(), true); err != nil {
		return err
	}
	h := w.Header()
	if r.Method == http.MethodHead {
		size, err := u.blobSize(r.Context(), x.repo, x.id)
		if err != nil {
			return err
		}
		if size >= 0 {
			h.Set("Content-Length", strconv.FormatInt(size, 10))
		}
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Docker-Content-Digest", x.id)
		return nil
	}
	f, err := m.fetch(r.Context(), u, x.repo, x.id)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.Header.Get("Range") != "" {
		// A part can be given when the whole is known to be right.
		if err := f.wait(); err != nil {
			return err
		}
		file, _, err := m.content.open(x.id)
		if err != nil {
			return err
		}
		defer file.Close()
		serveFile(w, r, file, x.id)
		return nil
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", x.id)
	h.Set("Etag", `"`+x.id+`"`)
	if size := f.Size(); size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	_, err = io.CopyBuffer(&pacedWriter{ResponseWriter: w}, f, make([]byte, chunk))
	return cut(err)
}

// serveFile serves a blob that is here, or a range of it.
func serveFile(w http.ResponseWriter, r *http.Request, f io.ReadSeeker, digest string) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", digest)
	h.Set("Etag", `"`+digest+`"`)
	http.ServeContent(&pacedWriter{ResponseWriter: w}, r, "", time.Time{}, f)
}

// cut breaks the connection off when an answer that has begun cannot be
// finished: the client must not take what it got for the whole.
func cut(err error) error {
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// A pacedWriter gives every writeStep bytes a deadline of their own: a slow
// client may take long, one that stopped reading is let go.
type pacedWriter struct {
	http.ResponseWriter
}

func (p *pacedWriter) pace() {
	// Writers that know no deadlines, such as those of tests, go without.
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout))
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	p.pace()
	return p.ResponseWriter.Write(b)
}

// ReadFrom keeps the way open for sendfile, which needs the bare file or one
// limit around it.
func (p *pacedWriter) ReadFrom(r io.Reader) (n int64, err error) {
	left := int64(-1)
	lr, limited := r.(*io.LimitedReader)
	if limited {
		r, left = lr.R, lr.N
	}
	for left != 0 {
		step := int64(writeStep)
		if limited {
			step = min(step, left)
		}
		p.pace()
		got, err := io.CopyN(p.ResponseWriter, r, step)
		n += got
		if limited {
			left -= got
			lr.N = left
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// A clients bounds what one address may do at the same time.
type clients struct {
	mu sync.Mutex
	by map[string]*client
}

// A client is an address with requests under way.
type client struct {
	requests int
	fetches  chan struct{}
}

// enter counts a request. free must be called when it is done.
func (cs *clients) enter(remote string) (c *client, free func(), err error) {
	host := hostOf(remote)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.by == nil {
		cs.by = make(map[string]*client)
	}
	c = cs.by[host]
	if c == nil {
		c = &client{fetches: make(chan struct{}, clientFetches)}
		cs.by[host] = c
	}
	if c.requests >= clientRequests {
		return nil, nil, &refusedError{http.StatusTooManyRequests, "TOOMANYREQUESTS", "Too many requests at the same time.", nil}
	}
	c.requests++
	return c, func() {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		c.requests--
		if c.requests == 0 {
			delete(cs.by, host)
		}
	}, nil
}

// fetch waits until the client may make the server ask upstream.
func (c *client) fetch(ctx context.Context) (free func(), err error) {
	select {
	case c.fetches <- struct{}{}:
		return func() { <-c.fetches }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// Serve serves the mirror on ln until ctx ends, and closes ln. Requests that
// are under way then have a few seconds to end.
func (m *Mirror) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           m,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(&boundedListener{Listener: ln, by: make(map[string]int)}) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the mirror: %w", err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if srv.Shutdown(bounded) != nil {
		srv.Close()
	}
	<-ended
	return nil
}

// A boundedListener drops connections beyond what an address may have.
type boundedListener struct {
	net.Listener
	mu  sync.Mutex
	by  map[string]int
	all int
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := hostOf(c.RemoteAddr().String())
		l.mu.Lock()
		ok := l.by[host] < clientConns && l.all < allConns
		if ok {
			l.by[host]++
			l.all++
		}
		l.mu.Unlock()
		if !ok {
			c.Close()
			continue
		}
		return &boundedConn{Conn: c, leave: sync.OnceFunc(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.all--
			if l.by[host]--; l.by[host] == 0 {
				delete(l.by, host)
			}
		})}, nil
	}
}

// A boundedConn is counted until it is closed.
type boundedConn struct {
	net.Conn
	leave func()
}

func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// ReadFrom keeps the way to sendfile open.
func (c *boundedConn) ReadFrom(r io.Reader) (int64, error) {
	if rf, ok := c.Conn.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}
