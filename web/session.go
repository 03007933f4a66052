package web

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"berth/labs"
)

// How long the API waits for a sandbox and what goes on in it.
const (
	startWait = 75 * time.Second // for a sandbox that is being started
	checkWait = 60 * time.Second // for a check or a file to be written
)

// open begins a session with a lab, or gives the open one.
func (s *Server) open(w http.ResponseWriter, r *http.Request) error {
	lesson, err := s.Desk.Lesson(r.PathValue("lab"))
	if err != nil {
		return err
	}
	l, err := s.signIn(w, r)
	if err != nil {
		return err
	}
	if !s.opens.allow(l.ID) {
		return errTooOften
	}
	st, err := s.Desk.Open(r.Context(), l.ID, lesson.ID)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, st)
}

var errTooOften = &labs.Problem{Kind: labs.ErrBusy, Say: "That was often in a short time. Wait a few seconds and try again."}

func (s *Server) state(w http.ResponseWriter, r *http.Request) error {
	return s.change(w, r, s.Desk.State)
}

func (s *Server) extend(w http.ResponseWriter, r *http.Request) error {
	return s.change(w, r, s.Desk.Extend)
}

func (s *Server) reset(w http.ResponseWriter, r *http.Request) error {
	l, _, err := s.session(r)
	if err != nil {
		return err
	}
	if !s.opens.allow(l) {
		return errTooOften
	}
	return s.change(w, r, s.Desk.Reset)
}

func (s *Server) end(w http.ResponseWriter, r *http.Request) error {
	return s.change(w, r, s.Desk.End)
}

// change does something with a session that gives its new state.
func (s *Server) change(w http.ResponseWriter, r *http.Request, do func(ctx context.Context, learner, session string) (labs.State, error)) error {
	l, id, err := s.session(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkWait)
	defer cancel()
	st, err := do(ctx, l, id)
	if err != nil {
		return sessionError(err)
	}
	return writeJSON(w, http.StatusOK, st)
}

// terminals lists the terminals that are open.
func (s *Server) terminals(w http.ResponseWriter, r *http.Request) error {
	l, id, err := s.session(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), startWait)
	defer cancel()
	sb, err := s.Desk.Sandbox(ctx, l, id)
	if err != nil {
		return sessionError(err)
	}
	names, err := sb.Terminals(ctx)
	if err != nil {
		return err
	}
	if names == nil {
		names = []string{}
	}
	return writeJSON(w, http.StatusOK, names)
}

// writeFile writes a file block of the lesson into the sandbox.
func (s *Server) writeFile(w http.ResponseWriter, r *http.Request) error {
	l, id, err := s.session(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkWait)
	defer cancel()
	if err := s.Desk.WriteFile(ctx, l, id, r.PathValue("block")); err != nil {
		return sessionError(err)
	}
	s.Desk.Touch(id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// check evaluates a check now.
func (s *Server) check(w http.ResponseWriter, r *http.Request) error {
	l, id, err := s.session(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkWait)
	defer cancel()
	res, err := s.Desk.Check(ctx, l, id, r.PathValue("check"))
	if err != nil {
		return sessionError(err)
	}
	s.Desk.Touch(id)
	return writeJSON(w, http.StatusOK, res)
}

// answer takes an answer to a question of the lesson.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) error {
	l, id, err := s.session(r)
	if err != nil {
		return err
	}
	var a labs.Answer
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&a); err != nil {
		return invalid("The answer could not be read.")
	}
	if !s.answers.allow(l) {
		return errTooOften
	}
	res, err := s.Desk.Answer(r.Context(), l, id, r.PathValue("check"), a)
	if err != nil {
		return sessionError(err)
	}
	s.Desk.Touch(id)
	return writeJSON(w, http.StatusOK, res)
}

// arrive says that the learner has come to a part of the lesson.
func (s *Server) arrive(w http.ResponseWriter, r *http.Request) error {
	l, id, err := s.session(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), startWait)
	defer cancel()
	if err := s.Desk.Arrive(ctx, l, id, r.PathValue("part")); err != nil {
		return sessionError(err)
	}
	s.Desk.Touch(id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

type helpBody struct {
	HTML string `json:"html"`
	More bool   `json:"more,omitempty"`
}

func (s *Server) hint(w http.ResponseWriter, r *http.Request) error {
	l, id, err := s.session(r)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		return invalid("Hints are numbered from 1.")
	}
	html, more, err := s.Desk.Hint(r.Context(), l, id, r.PathValue("step"), n)
	if err != nil {
		return sessionError(err)
	}
	s.Desk.Touch(id)
	return writeJSON(w, http.StatusOK, helpBody{html, more})
}

func (s *Server) solution(w http.ResponseWriter, r *http.Request) error {
	l, id, err := s.session(r)
	if err != nil {
		return err
	}
	html, err := s.Desk.Solution(r.Context(), l, id, r.PathValue("step"))
	if err != nil {
		return sessionError(err)
	}
	s.Desk.Touch(id)
	return writeJSON(w, http.StatusOK, helpBody{HTML: html})
}
