package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"berth/labs"

	"github.com/gorilla/websocket"
)

const (
	maxSessionViewers = 16 // viewers of one session's terminals
	maxLearnerViewers = 48 // and of all sessions of a learner
	attachWait        = 15 * time.Second
)

// The buffers of an idle viewer are 1.5 KiB altogether. gorilla's
// WriteBufferPool would save 1 KiB of that and cost an allocation for every
// frame; a frame that is longer than the buffer is written from where it lies.
var upgrader = websocket.Upgrader{
	HandshakeTimeout: 10 * time.Second,
	ReadBufferSize:   512,
	WriteBufferSize:  1024,
	// CheckOrigin stays nil: only pages of this host may connect.
	// EnableCompression stays false: compressing keystrokes costs more than it saves.
}

// terminal attaches a viewer to a terminal of the session's sandbox. The
// browser cannot see why a handshake failed, so that all that a page should
// act on is told by a close code after it.
func (s *Server) terminal(w http.ResponseWriter, r *http.Request) error {
	if !websocket.IsWebSocketUpgrade(r) {
		return &refusal{http.StatusUpgradeRequired, "This address is for the terminal of the lab's page."}
	}
	name := r.PathValue("name")
	if !labs.ValidTerminal(name) {
		return invalid("A terminal's name has up to 16 lower-case letters, digits and dashes.")
	}
	want, watch, err := parseViewer(r.URL.Query())
	if err != nil {
		return err
	}
	v, err := s.attach(r, name, want)
	if err != nil {
		s.refuse(w, r, err)
		return nil
	}
	v.mayType = !watch
	if v.conn, err = upgrader.Upgrade(w, r, nil); err != nil {
		v.detach.Do(v.closeTerminal)
		v.release()
		s.Log.Debug("upgrade to a WebSocket", "err", err)
		return nil // the upgrader has answered
	}
	v.conn.SetReadLimit(labs.MaxFrame)
	if !s.start(v) {
		v.detach.Do(v.closeTerminal)
		v.conn.Close()
		v.release()
	}
	return nil
}

// attach finds the terminal and opens a viewer on it.
func (s *Server) attach(r *http.Request, name string, want labs.Viewer) (*viewer, error) {
	learner, id, err := s.session(r)
	if err != nil {
		return nil, err
	}
	if !s.viewing.take("session "+id, maxSessionViewers) {
		return nil, errViewers
	}
	if !s.viewing.take("learner "+learner, maxLearnerViewers) {
		s.viewing.give("session " + id)
		return nil, errViewers
	}
	v := &viewer{learner: learner, session: id, desk: s.Desk, floods: &s.floods, quit: make(chan struct{})}
	v.release = func() {
		s.viewing.give("session " + id)
		s.viewing.give("learner " + learner)
	}
	waiting, cancel := context.WithTimeout(r.Context(), startWait)
	defer cancel()
	sb, err := s.Desk.Sandbox(waiting, learner, id)
	if err != nil {
		v.release()
		return nil, sessionError(fmt.Errorf("find the sandbox: %w", err))
	}
	attaching, cancel := context.WithTimeout(r.Context(), attachWait)
	defer cancel()
	if v.att, err = sb.Attach(attaching, name, want); err != nil {
		v.release()
		return nil, fmt.Errorf("attach to terminal %q: %w", name, err)
	}
	return v, nil
}

var errViewers = &labs.Problem{Kind: labs.ErrBusy, Say: "This lab's terminals are open in very many tabs. Close some of them."}

// refuse completes the handshake only to say with a close code why nothing
// follows.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	code, say := closeCode(err)
	if code == websocket.CloseInternalServerErr && r.Context().Err() == nil {
		s.Log.Error("open a terminal", "err", err)
	} else {
		s.Log.Debug("open a terminal", "code", code, "err", err)
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.Log.Debug("upgrade to a WebSocket", "err", err)
		return
	}
	if !s.own(func() { hangUp(conn, code, say) }) {
		conn.Close()
	}
}

// hangUp sends a close frame on a connection that carries nothing else, waits
// a moment for the answer, so that the frame is not lost, and closes it.
func hangUp(conn *websocket.Conn, code int, say string) {
	defer conn.Close()
	conn.SetReadLimit(labs.MaxFrame)
	deadline := time.Now().Add(closeWait)
	if err := conn.WriteControl(websocket.CloseMessage, closeMessage(code, say), deadline); err != nil {
		return
	}
	conn.SetReadDeadline(deadline)
	for {
		if _, _, err := conn.NextReader(); err != nil {
			return
		}
	}
}

// closeCode gives the WebSocket close code and the sentence for an error.
func closeCode(err error) (code int, say string) {
	_, say = explain(err)
	switch {
	case errors.Is(err, labs.ErrNotFound):
		return labs.CloseNotFound, say
	case errors.Is(err, labs.ErrGone):
		return labs.CloseEnded, say
	case errors.Is(err, labs.ErrBusy):
		return labs.CloseBusy, say
	case errors.Is(err, context.DeadlineExceeded):
		return websocket.CloseTryAgainLater, say
	}
	return websocket.CloseInternalServerErr, say
}

// closeMessage gives a close frame's payload; a reason has 123 bytes at most.
func closeMessage(code int, say string) []byte {
	if len(say) > 123 {
		say = ""
	}
	return websocket.FormatCloseMessage(code, say)
}

// parseViewer reads how to attach from an address: from, rows and cols, and
// watch=1 for a viewer that may only read.
func parseViewer(q url.Values) (v labs.Viewer, watch bool, err error) {
	number := func(key string, low, high int64) (n int64) {
		text := q.Get(key)
		if text == "" || err != nil {
			return 0
		}
		if n, err = strconv.ParseInt(text, 10, 64); err == nil && (n < low || n > high) {
			err = strconv.ErrRange
		}
		if err != nil {
			err = &labs.Problem{Kind: labs.ErrInvalid, Say: "The terminal was asked for with a " + key + " that makes no sense.", Cause: err}
		}
		return n
	}
	v.From = number("from", -1, 1<<62)
	if q.Get("from") == "" {
		v.From = -1
	}
	v.Size.Rows = uint16(number("rows", 1, 1000))
	v.Size.Cols = uint16(number("cols", 1, 1000))
	if (v.Size.Rows == 0) != (v.Size.Cols == 0) {
		v.Size = labs.Size{}
	}
	return v, q.Get("watch") == "1", err
}
