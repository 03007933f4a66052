package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"berth/labs"
)

const (
	maxStreams  = 24               // event streams of one learner
	heartbeat   = 15 * time.Second // between signs of life
	streamWrite = 10 * time.Second // for a page to take what is sent
)

// events tells a page what happens in a session, as server-sent events. The
// whole state comes first, whatever the page had seen before: a page that was
// away does not have to ask what it missed. A page that is too slow is
// dropped; its browser connects again and gets the state.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	l, id, err := s.session(r)
	if err != nil {
		return err
	}
	if !s.streams.take(l, maxStreams) {
		return &labs.Problem{Kind: labs.ErrBusy, Say: "You have this server open in very many tabs. Close some of them."}
	}
	defer s.streams.give(l)
	// First subscribe, then look: nothing falls between the two.
	events, cancel, err := s.Desk.Subscribe(r.Context(), l, id)
	if err != nil {
		return sessionError(err)
	}
	defer cancel()
	state, err := s.Desk.State(r.Context(), l, id)
	if err != nil {
		return sessionError(err)
	}
	var edits <-chan labs.Event
	if s.Watch { // on the same stream: a browser has only six for one host
		changes, cancel := s.Desk.Changes(state.Lesson)
		defer cancel()
		edits = changes
	}
	return s.follow(w, r, events, edits, labs.Event{Kind: "state", Data: state})
}

// changes tells a page of a lesson that has no session that the lesson's files
// were read again, while lessons are being written.
func (s *Server) changes(w http.ResponseWriter, r *http.Request) error {
	lesson, err := s.Desk.Lesson(r.PathValue("lab"))
	if err != nil {
		return err
	}
	if !s.Watch {
		return notFound("The labs of this server are not being written.")
	}
	addr, _ := s.client(r)
	from := "changes " + network(addr)
	if !s.streams.take(from, maxStreams) {
		return &labs.Problem{Kind: labs.ErrBusy, Say: "You have this server open in very many tabs. Close some of them."}
	}
	defer s.streams.give(from)
	events, cancel := s.Desk.Changes(lesson.ID)
	defer cancel()
	return s.follow(w, r, events, nil)
}

// follow sends events until the page or the server goes away. edits may be nil.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, events, edits <-chan labs.Event, first ...labs.Event) error {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy in front must not collect what is sent
	st := stream{w: w, rc: http.NewResponseController(w)}
	st.buf = append(st.buf, "retry: 1000\n"...)
	for _, e := range first {
		if err := st.send(e.Kind, e.Data); err != nil {
			return err
		}
	}
	if len(first) == 0 { // the page learns that it is connected
		st.buf = append(st.buf, ":\n\n"...)
		if err := st.flush(); err != nil {
			return err
		}
	}
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	tell := func(e labs.Event, ok bool) error {
		if !ok {
			return io.EOF
		}
		return st.send(e.Kind, e.Data)
	}
	for {
		select {
		case e, ok := <-events:
			if err := tell(e, ok); err != nil {
				return ended(err)
			}
		case e, ok := <-edits:
			if err := tell(e, ok); err != nil {
				return ended(err)
			}
		case <-alive.C:
			st.buf = append(st.buf, ":\n\n"...)
			if err := st.flush(); err != nil {
				return err
			}
		case <-r.Context().Done():
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
}

// ended gives nil when it was we who ended the stream.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// A stream writes server-sent events.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf []byte
}

func (st *stream) send(kind string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("event %s: %w", kind, err)
	}
	st.buf = append(st.buf, "event: "...)
	st.buf = append(st.buf, kind...)
	st.buf = append(st.buf, "\ndata: "...)
	st.buf = append(st.buf, b...) // JSON holds no newline
	st.buf = append(st.buf, "\n\n"...)
	return st.flush()
}

func (st *stream) flush() error {
	if err := st.rc.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return fmt.Errorf("bound the time of an event: %w", err)
	}
	if _, err := st.w.Write(st.buf); err != nil {
		return fmt.Errorf("send an event: %w", err)
	}
	st.buf = st.buf[:0]
	if err := st.rc.Flush(); err != nil {
		return fmt.Errorf("send an event: %w", err)
	}
	return nil
}
