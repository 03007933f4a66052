// Package web is the HTTP server that learners meet: pages that are complete
// before any script has loaded, a small JSON API for commands, server-sent
// events for what happens in a session, and one WebSocket for each viewer of a
// terminal, which passes the frames of labs' terminal protocol on as they are.
//
// A learner is whoever holds the token in the cookie "berth"; every request
// about a session is answered for that learner alone. What may reach the
// handlers at all is decided in origin.go, and how errors become a status, a
// sentence and a log line in problem.go.
package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"berth/labs"

	"github.com/gorilla/websocket"
)

// Config says what a Server serves and how. Only Desk is needed.
type Config struct {
	Desk   Desk
	Images labs.Mirror // where the images that lessons name come from; nil: nothing is said about it
	Bundle fs.FS       // the browser bundle, app.js and app.css at its root; the built-in one by default
	Log    *slog.Logger

	// Watch says that lessons are being written: their pages follow the files
	// and show what is wrong in them.
	Watch bool

	// Hosts are the names, besides loopback names and bare addresses, under
	// which the server may be asked for: "labs.example.org", "*.example.org",
	// or "*" for any. Others are refused, because a foreign page that resolves
	// its own name to this server would otherwise share its origin.
	Hosts []string

	// Site is where browsers find the pages, such as https://labs.example.org.
	// By default it is wherever they were asked for.
	//
	// PreviewDomain is below what previews are found, with its port unless it
	// is the site's: each is PORT-NAME.domain. By default it is "preview."
	// before the site's host. A domain that shares nothing with the site's
	// keeps learners' pages away from its cookies altogether.
	Site          string
	PreviewDomain string

	// Proxies are the addresses of reverse proxies whose X-Forwarded-For and
	// X-Forwarded-Proto are believed.
	Proxies []netip.Prefix

	// NewLearners bounds how many learners one address (IPv6: one /64) makes,
	// Opens how often one learner opens or resets labs.
	NewLearners Rate // 400 at once and one more a second by default: a class behind one address
	Opens       Rate // 20 at once and one more every 6 seconds by default
}

// A Server is an http.Handler. Methods may be called concurrently.
type Server struct {
	Config
	mux     *http.ServeMux
	assets  *assets
	pages   *pages
	guard   *guard
	newcome *limiter // by address
	opens   *limiter // by learner
	answers *limiter // by learner
	viewing quota    // terminal viewers, by session and by learner
	streams quota    // event streams, by learner
	editing quota    // texts that are read or saved, by session
	floods  atomic.Int32

	site      origin   // of Config.Site
	sealer    *sealer  // of what lets browsers into previews
	admits    *limiter // by learner
	upstreams upstreams
	copying   buffers

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	owned sync.WaitGroup // goroutines that outlive their request

	mu      sync.Mutex
	closed  bool // nothing more may be owned
	viewers map[*viewer]struct{}
}

// New gives a server that is ready to handle requests. Close it when it has
// handled the last.
func New(c Config) (*Server, error) {
	if c.Desk == nil {
		return nil, errors.New("a web server needs a desk")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Bundle == nil {
		c.Bundle = Bundle()
	}
	if c.NewLearners == (Rate{}) {
		c.NewLearners = Rate{Burst: 400, Every: time.Second}
	}
	if c.Opens == (Rate{}) {
		c.Opens = Rate{Burst: 20, Every: 6 * time.Second}
	}
	s := &Server{Config: c, newcome: newLimiter(c.NewLearners), opens: newLimiter(c.Opens), answers: newLimiter(Rate{Burst: 30, Every: 2 * time.Second}), viewers: make(map[*viewer]struct{})}
	s.admits = newLimiter(Rate{Burst: 60, Every: time.Second})
	s.ctx, s.stop = context.WithCancel(context.Background())
	var err error
	if err = s.setPreviews(); err != nil {
		return nil, err
	}
	if s.assets, err = loadAssets(c.Bundle); err != nil {
		return nil, fmt.Errorf("load the browser bundle: %w", err)
	}
	if s.pages, err = parsePages(templateFiles); err != nil {
		return nil, fmt.Errorf("parse the page templates: %w", err)
	}
	if s.guard, err = newGuard(c.Hosts); err != nil {
		return nil, err
	}
	if s.assets.url("app.js") == "" {
		c.Log.Warn(noBundle)
	}
	s.mux = http.NewServeMux()
	for _, rt := range s.routes() {
		s.mux.Handle(rt.pattern, s.handle(rt.handler))
	}
	return s, nil
}

// A route is one line of the list below.
type route struct {
	pattern string
	handler handler
}

func (s *Server) routes() []route {
	return []route{
		{"GET /{$}", s.home},
		{"GET /labs/{lab}", s.lesson},
		{"GET /labs/{lab}/finish", s.finish},
		{"GET /labs/{lab}/files/{path...}", s.lessonFile},
		{"GET /assets/{name...}", s.asset},
		{"GET /healthz", s.healthz},
		{"GET /preview", s.admit},

		{"POST /api/labs/{lab}/session", s.open},
		{"GET /api/labs/{lab}/changes", s.changes},
		{"GET /api/sessions/{id}", s.state},
		{"GET /api/sessions/{id}/events", s.events},
		{"POST /api/sessions/{id}/extend", s.extend},
		{"POST /api/sessions/{id}/reset", s.reset},
		{"POST /api/sessions/{id}/end", s.end},
		{"GET /api/sessions/{id}/terminals", s.terminals},
		{"GET /api/sessions/{id}/terminals/{name}", s.terminal},
		{"POST /api/sessions/{id}/files/{block...}", s.writeFile},
		{"GET /api/sessions/{id}/files", s.entries},
		{"GET " + textPattern, s.readText},
		{"PUT " + textPattern, s.saveText},
		{"POST /api/sessions/{id}/checks/{check...}", s.check},
		{"POST /api/sessions/{id}/answers/{check...}", s.answer},
		{"POST /api/sessions/{id}/arrivals/{part}", s.arrive},
		{"GET /api/sessions/{id}/solution/{step}", s.solution},
		{"GET /api/sessions/{id}/hints/{step}/{n}", s.hint},

		{"/", s.nowhere},
	}
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if label, main, ok := s.inPreviews(r); ok {
		s.servePreview(w, r, label, main)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) healthz(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, err := w.Write([]byte("ok\n"))
	return err
}

func (s *Server) nowhere(w http.ResponseWriter, r *http.Request) error {
	return notFound("There is no such page here.")
}

// Serve answers requests on l until ctx ends, then closes the server and gives
// requests under way five seconds. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	hs := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second, // handle bounds the reading of bodies
		WriteTimeout:      90 * time.Second, // event streams and viewers set their own
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(l) }()
	var err error
	select {
	case err = <-served:
		served <- nil
	case <-ctx.Done():
	}
	s.Close()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if hs.Shutdown(grace) != nil {
		hs.Close()
	}
	<-served
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// own runs f in a goroutine that Close waits for, or gives false when the
// server has been closed.
func (s *Server) own(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.owned.Go(f)
	}
	return !s.closed
}

// join makes Close wait for the caller, who calls s.owned.Done, or gives false
// when the server has been closed.
func (s *Server) join() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.owned.Add(1)
	}
	return !s.closed
}

// start runs a viewer until one of its ends is gone, or gives false when the
// server has been closed.
func (s *Server) start(v *viewer) bool {
	return s.own(func() {
		s.mu.Lock()
		s.viewers[v] = struct{}{}
		late := s.closed
		s.mu.Unlock()
		if late {
			v.stop(goingAway())
		}
		v.run(s.ctx)
		s.mu.Lock()
		delete(s.viewers, v)
		s.mu.Unlock()
	})
}

// Close ends every viewer, with a word that the server goes away, and waits for
// them. What is under way in previews breaks off. Event streams end too; whoever serves them waits for their requests.
// Sandboxes and sessions are not touched.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	s.closed = true
	for v := range s.viewers {
		s.owned.Go(func() { v.stop(goingAway()) })
	}
	s.mu.Unlock()
	s.owned.Wait()
	s.upstreams.close()
	return nil
}

func goingAway() (code int, say string) {
	return websocket.CloseServiceRestart, "The server is restarting. Your shell goes on."
}
