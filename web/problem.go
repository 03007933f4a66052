package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"berth/labs"
)

// A handler answers a request or says why it could not; what it returns is
// turned into an answer in one place, fail.
type handler func(w http.ResponseWriter, r *http.Request) error

// A refusal is a problem that has no kind in labs, with its own status.
type refusal struct {
	status int
	say    string
}

func (e *refusal) Error() string { return e.say }

func notFound(say string) error { return &labs.Problem{Kind: labs.ErrNotFound, Say: say} }

func invalid(say string) error { return &labs.Problem{Kind: labs.ErrInvalid, Say: say} }

// noSession is what the learner reads about a session that is not there, and
// about somebody else's.
const noSession = "There is no such session, or it is not yours. Open the lab again to get a new one."

// sessionError gives an error about a session the sentence for a session that
// is not there, unless it brings its own.
func sessionError(err error) error {
	var p *labs.Problem
	if errors.Is(err, labs.ErrNotFound) && !errors.As(err, &p) {
		return &labs.Problem{Kind: labs.ErrNotFound, Say: noSession, Cause: err}
	}
	return err
}

// statuses maps the kinds of failure to a status and to what is said when the
// error brings no sentence of its own.
var statuses = []struct {
	kind   error
	status int
	say    string
}{
	{labs.ErrNotFound, http.StatusNotFound, "There is nothing here under this name."},
	{labs.ErrForbidden, http.StatusForbidden, "You may not do this."},
	{labs.ErrInvalid, http.StatusBadRequest, "The server did not understand this request."},
	{labs.ErrBusy, http.StatusTooManyRequests, "There is no room at the moment. Try again in a minute."},
	{labs.ErrGone, http.StatusGone, "This session has ended. Open the lab again to get a new sandbox."},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, "This took too long. Try again."},
}

// explain gives the status and the sentence for an error.
func explain(err error) (status int, say string) {
	var ref *refusal
	if errors.As(err, &ref) {
		return ref.status, ref.say
	}
	status, say = http.StatusInternalServerError, "Something went wrong on the server. Try again; if it happens again, tell whoever runs it."
	for _, k := range statuses {
		if errors.Is(err, k.kind) {
			status, say = k.status, k.say
			break
		}
	}
	var p *labs.Problem
	if errors.As(err, &p) && p.Say != "" {
		say = p.Say
	}
	return status, say
}

// fail answers a request that could not be served: a status for the machine, a
// sentence for the person, and the cause for the log.
func (s *Server) fail(w *response, r *http.Request, err error) {
	status, say := explain(err)
	if r.Context().Err() != nil && s.ctx.Err() == nil { // nobody listens any more
		s.Log.Debug("request abandoned", "route", r.Pattern, "err", err)
		w.status = 499
		return
	}
	if w.wrote { // too late for another answer: the browser went away in the middle of this one
		s.Log.Debug("answer broken off", "route", r.Pattern, "err", err)
		return
	}
	if status >= 500 {
		s.Log.Error("request failed", "route", r.Pattern, "status", status, "err", err)
	} else {
		s.Log.Debug("request refused", "route", r.Pattern, "status", status, "err", err)
	}
	h := w.Header()
	h.Del("Content-Encoding")
	h.Del("Etag")
	h.Del("Last-Modified")
	h.Set("Cache-Control", "no-store")
	if status == http.StatusTooManyRequests {
		h.Set("Retry-After", "10")
	}
	if strings.HasPrefix(r.URL.Path, "/api/") {
		writeJSON(w, status, problemBody{say})
		return
	}
	if err := s.page(w, r, status, "error", &errorPage{page: s.newPage(r, heading(status)), Heading: heading(status), Text: say}); err != nil {
		s.Log.Debug("write an error page", "err", err)
	}
}

type problemBody struct {
	Error string `json:"error"`
}

func heading(status int) string {
	switch status {
	case http.StatusNotFound:
		return "Not found"
	case http.StatusTooManyRequests:
		return "One moment"
	case http.StatusInternalServerError:
		return "Something went wrong"
	}
	return http.StatusText(status)
}

// writeJSON answers with v as JSON. It is never cached: what the API says is
// true only now.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err = w.Write(append(b, '\n'))
	return err
}

// handle makes an http.Handler of h: it guards it, bounds what it reads, turns
// its error into an answer and logs one line.
func (s *Server) handle(h handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := &response{ResponseWriter: rw, status: http.StatusOK}
		start := time.Now()
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.Log.Error("panic in a handler", "route", r.Pattern, "panic", p, "stack", string(debug.Stack()))
				s.fail(w, r, errors.New("panic"))
			}
			if s.Log.Enabled(r.Context(), slog.LevelDebug) {
				s.Log.Debug("request", "method", r.Method, "route", r.Pattern, "lab", r.PathValue("lab"),
					"status", w.status, "bytes", w.bytes, "took", time.Since(start))
			}
		}()
		secureHeaders(w.Header())
		if err := s.guard.check(r); err != nil {
			s.fail(w, r, err)
			return
		}
		if r.ContentLength != 0 {
			limit := int64(maxBody)
			if r.Pattern == "PUT "+textPattern {
				limit = maxSaved
			}
			r.Body = http.MaxBytesReader(w, r.Body, limit)
			http.NewResponseController(rw).SetReadDeadline(start.Add(bodyWait))
		}
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// What is read of a request's body, and for how long. A text that is saved may
// be larger and take longer.
const (
	maxBody  = 16 << 10
	bodyWait = 10 * time.Second
)

// A response remembers what was answered, for the log.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
	wrote  bool
}

func (w *response) WriteHeader(status int) {
	if !w.wrote {
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.wrote = true
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Hijack hands the connection over.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.status, w.wrote = http.StatusSwitchingProtocols, true
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController reach what is underneath.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
