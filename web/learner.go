package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"berth/labs"
)

// tokenCookie holds a learner's token: whoever has it is that learner. Over TLS
// it has a name that browsers let no other host set: pages of previews may be
// of the same site, and could slip their viewer another learner's token.
const (
	tokenCookie       = "berth"
	secureTokenCookie = "__Host-berth"
)

func (s *Server) tokenCookie(r *http.Request) (name string, secure bool) {
	if _, secure = s.client(r); secure {
		return secureTokenCookie, true
	}
	return tokenCookie, false
}

// learner gives who asks, or an empty Learner when nobody we know does. Only a
// store that does not work is an error.
func (s *Server) learner(r *http.Request) (labs.Learner, error) {
	name, _ := s.tokenCookie(r)
	c, err := r.Cookie(name)
	if err != nil || c.Value == "" || len(c.Value) > 256 {
		return labs.Learner{}, nil
	}
	l, err := s.Desk.LearnerByToken(r.Context(), c.Value)
	if errors.Is(err, labs.ErrNotFound) {
		return labs.Learner{}, nil
	}
	if err != nil {
		return labs.Learner{}, fmt.Errorf("find the learner: %w", err)
	}
	return l, nil
}

// session gives who asks and which session they ask about. It does not say
// whether the session is theirs; the desk does.
func (s *Server) session(r *http.Request) (learner, session string, err error) {
	l, err := s.learner(r)
	if err != nil {
		return "", "", err
	}
	id := r.PathValue("id")
	if l.ID == "" || id == "" || len(id) > 64 {
		return "", "", notFound(noSession)
	}
	return l.ID, id, nil
}

// signIn gives who asks, or makes a learner of them, and renews the cookie.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) (labs.Learner, error) {
	addr, _ := s.client(r)
	name, secure := s.tokenCookie(r)
	l, err := s.learner(r)
	if err != nil {
		return labs.Learner{}, err
	}
	var token string
	if l.ID != "" {
		c, err := r.Cookie(name)
		if err != nil {
			return labs.Learner{}, err
		}
		token = c.Value
	} else {
		if !s.newcome.allow(network(addr)) {
			return labs.Learner{}, &labs.Problem{Kind: labs.ErrBusy, Say: "Many new learners came from your network just now. Try again in a minute."}
		}
		if l, token, err = s.Desk.NewLearner(r.Context()); err != nil {
			return labs.Learner{}, fmt.Errorf("make a learner: %w", err)
		}
	}
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: token, Path: "/", MaxAge: int((365 * 24 * time.Hour).Seconds()),
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	})
	return l, nil
}

// network gives what an address is counted under: itself, or its /64.
func network(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
