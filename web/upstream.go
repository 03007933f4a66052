package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth/labs"
)

// How much one sandbox's previews may use, and how long things may take.
const (
	maxPassing   = 64               // requests under way, WebSockets included
	maxQueued    = 256              // requests that wait for one of those to end
	queueWait    = 10 * time.Second // and how long
	maxIdleConns = 16
	idleConn     = time.Minute
	forgetAfter  = 10 * time.Minute // what is kept for a sandbox that nobody looks at
	firstByte    = time.Minute      // for a program to answer
	stallWait    = 30 * time.Second // for a browser to take or send more
	maxAppHeader = 64 << 10         // bytes of an answer's header
)

// An upstream is how requests reach the programs in one sandbox.
type upstream struct {
	transport *http.Transport
	passing   chan struct{} // holds one for each request under way
	queued    chan struct{}
	used      time.Time
}

// upstreams are those of all sandboxes, by id. Methods may be called
// concurrently.
type upstreams struct {
	mu    sync.Mutex
	by    map[string]*upstream
	swept time.Time
}

// of gives the upstream of a sandbox.
func (u *upstreams) of(sb labs.Sandbox) *upstream {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if now.Sub(u.swept) > time.Minute {
		u.swept = now
		for id, o := range u.by {
			if now.Sub(o.used) > forgetAfter && len(o.passing) == 0 {
				o.transport.CloseIdleConnections()
				delete(u.by, id)
			}
		}
	}
	o := u.by[sb.ID()]
	if o == nil {
		if u.by == nil {
			u.by = make(map[string]*upstream)
		}
		o = &upstream{transport: newTransport(sb), passing: make(chan struct{}, maxPassing), queued: make(chan struct{}, maxQueued)}
		u.by[sb.ID()] = o
	}
	o.used = now
	return o
}

// close closes the connections that nobody uses.
func (u *upstreams) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, o := range u.by {
		o.transport.CloseIdleConnections()
	}
}

// newTransport reaches ports of the sandbox: the host of a request's address is
// 127.0.0.1 as the sandbox sees it. Its connections break with the sandbox.
func newTransport(sb labs.Sandbox) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := sb.Dial(ctx, network, address)
			if !errors.Is(err, labs.ErrNotFound) {
				return conn, err
			}
			_, port, perr := net.SplitHostPort(address)
			if perr != nil {
				return nil, perr
			}
			// "localhost" is ::1 to some programs.
			if conn, err := sb.Dial(ctx, network, net.JoinHostPort("::1", port)); err == nil {
				return conn, nil
			}
			return nil, err
		},
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdleConns,
		IdleConnTimeout:        idleConn,
		ResponseHeaderTimeout:  firstByte,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAppHeader,
		DisableCompression:     true, // what the browser asked for is what it gets
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
}

// begin takes one of the requests that may be under way. end must be called.
func (o *upstream) begin(ctx context.Context) (end func(), err error) {
	end = func() { <-o.passing }
	select {
	case o.passing <- struct{}{}:
		return end, nil
	default:
	}
	select {
	case o.queued <- struct{}{}:
		defer func() { <-o.queued }()
	default:
		return nil, errCrowded
	}
	ctx, cancel := context.WithTimeout(ctx, queueWait)
	defer cancel()
	select {
	case o.passing <- struct{}{}:
		return end, nil
	case <-ctx.Done():
		return nil, errCrowded
	}
}

// pass passes a request on to the program that listens on the preview's port.
func (s *Server) pass(w *response, r *http.Request, p preview, main origin, sb labs.Sandbox, session string) error {
	if !s.join() {
		return errAway
	}
	defer s.owned.Done()
	o := s.upstreams.of(sb)
	end, err := o.begin(r.Context())
	if err != nil {
		return err
	}
	defer end()

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	pw := &pacedWriter{response: w, rc: http.NewResponseController(w.ResponseWriter)}
	defer pw.finish()
	// When the server closes, a browser that takes nothing must not hold it.
	defer context.AfterFunc(s.ctx, func() { cancel(); pw.abort() })()
	if err := pw.rc.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("read and write at the same time: %w", err)
	}
	r = r.WithContext(ctx)
	if r.ContentLength != 0 {
		r.Body = &pacedBody{r.Body, pw}
	}
	proxy := httputil.ReverseProxy{
		Transport:  o.transport,
		BufferPool: &s.copying,
		ErrorLog:   slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme = "http"
			pr.Out.URL.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port))
			pr.Out.URL.RawQuery = pr.In.URL.RawQuery // as it is, also what net/url does not understand
			cleanRequest(pr.Out.Header)
			pr.Out.Header.Set("X-Forwarded-Host", pr.In.Host)
			pr.Out.Header.Set("X-Forwarded-Proto", main.scheme)
		},
		ModifyResponse: func(res *http.Response) error {
			cleanAnswer(res.Header)
			s.Desk.Touch(session)
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, cause error) { err = appError(p, cause) },
	}
	proxy.ServeHTTP(pw, r)
	if err != nil && s.ctx.Err() != nil {
		return errAway
	}
	return err
}

// appError says why there is no answer.
func appError(p preview, err error) error {
	port := strconv.Itoa(p.port)
	switch timeout := net.Error(nil); {
	case errors.Is(err, labs.ErrNotFound):
		where := "in your sandbox"
		if p.host > 1 {
			where = "in sandbox " + strconv.Itoa(p.host)
		}
		return &failure{http.StatusBadGateway, "Nothing to see yet", "Nothing listens on port " + port + " " + where + " yet. Start it there.", true, err}
	case errors.Is(err, labs.ErrGone):
		return err
	case errors.As(err, &timeout) && timeout.Timeout():
		return &failure{http.StatusGatewayTimeout, "No answer", "What listens on port " + port + " did not answer in time. Look at it in the terminal, then reload.", false, err}
	}
	return &failure{http.StatusBadGateway, "No answer", "What listens on port " + port + " broke off, or does not speak HTTP. Look at it in the terminal, then reload.", false, err}
}

// cleanRequest takes out of a request's header what is not for programs in a
// sandbox: our cookies, and what proxies before us say about the viewer.
func cleanRequest(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Cf-") {
			delete(h, name)
		}
	}
	for _, name := range []string{"X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Via"} {
		delete(h, name)
	}
	lines := h["Cookie"]
	delete(h, "Cookie")
	var kept []string
	for _, line := range lines {
		for c := range strings.SplitSeq(line, ";") {
			c = strings.TrimSpace(c)
			if name, _, _ := strings.Cut(c, "="); c != "" && !ourCookie(name) {
				kept = append(kept, c)
			}
		}
	}
	if len(kept) > 0 {
		h.Set("Cookie", strings.Join(kept, "; "))
	}
}

func ourCookie(name string) bool {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case tokenCookie, strings.ToLower(secureTokenCookie), previewCookie:
		return true
	}
	return false
}

// cleanAnswer takes out of an answer's header what would reach further than
// the preview's own origin, or stay when the sandbox is gone.
func cleanAnswer(h http.Header) {
	for name := range h {
		// Proxies before us follow these to files of their own.
		if strings.HasPrefix(name, "X-Accel-") || strings.HasPrefix(name, "X-Sendfile") {
			delete(h, name)
		}
	}
	for _, name := range []string{
		"X-Lighttpd-Send-File", "X-Reproxy-Url",
		"Clear-Site-Data",                        // its "cookies" are those of the main site too
		"Strict-Transport-Security", "Expect-Ct", // for names that are not the sandbox's
		"Alt-Svc", "Nel", "Report-To", "Service-Worker-Allowed", // they outlive it
	} {
		delete(h, name)
	}
	set := h["Set-Cookie"]
	delete(h, "Set-Cookie")
	for _, c := range set {
		parts := strings.Split(c, ";")
		if name, _, _ := strings.Cut(parts[0], "="); ourCookie(name) {
			continue
		}
		kept := parts[:1]
		for _, attribute := range parts[1:] {
			if name, _, _ := strings.Cut(attribute, "="); !strings.EqualFold(strings.TrimSpace(name), "Domain") {
				kept = append(kept, attribute)
			}
		}
		h.Add("Set-Cookie", strings.Join(kept, ";"))
	}
}

// A pacedWriter gives every write its time, however long the whole answer
// takes, and sends no interim answers.
type pacedWriter struct {
	*response
	rc *http.ResponseController

	mu   sync.Mutex
	over bool     // deadlines stay as they are
	conn net.Conn // after Hijack
}

func (w *pacedWriter) extend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.rc.SetWriteDeadline(time.Now().Add(stallWait)) // a write on a broken connection fails by itself
	}
}

func (w *pacedWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	w.extend()
	w.response.WriteHeader(status)
}

func (w *pacedWriter) Write(b []byte) (int, error) {
	w.extend()
	return w.response.Write(b)
}

// Hijack hands the connection over.
func (w *pacedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.response.Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = conn
	if w.over {
		conn.Close()
	}
	return conn, rw, nil
}

// finish leaves time for the end of the answer.
func (w *pacedWriter) finish() {
	w.extend()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// abort breaks the connection off.
func (w *pacedWriter) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.over = true
	if w.conn != nil {
		w.conn.Close()
		return
	}
	soon := time.Now().Add(time.Second)
	w.rc.SetWriteDeadline(soon)
	w.rc.SetReadDeadline(soon)
}

// A pacedBody gives every read its time, however long the whole body takes.
type pacedBody struct {
	io.ReadCloser
	w *pacedWriter
}

func (b *pacedBody) Read(p []byte) (int, error) {
	b.deadline(time.Now().Add(stallWait))
	n, err := b.ReadCloser.Read(p)
	// While nothing is read there is no deadline: net/http would take it for
	// the end of the connection.
	b.deadline(time.Time{})
	return n, err
}

func (b *pacedBody) deadline(t time.Time) {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	if !b.w.over {
		b.w.rc.SetReadDeadline(t)
	}
}

// buffers are what answers are copied through.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
