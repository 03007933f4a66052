// Package learner is a browser without a screen: it opens labs, reads their
// events and speaks the terminal protocol. The tests of the whole program and
// the measurements use it; it can be pointed at any address.
package learner

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"berth/labs"
)

// A Learner is a browser without a screen: it has a cookie, opens a lab and
// speaks the terminal protocol.
type Learner struct {
	base *url.URL
	http *http.Client
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// New gives a Learner at the server's address; dial may shape the line
// and is nil for a plain one.
func New(base string, dial func(context.Context, string, string) (net.Conn, error)) (*Learner, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", base, err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &Learner{base: u, http: &http.Client{Jar: jar, Timeout: 2 * time.Minute}, dial: dial}, nil
}

// Call uses the JSON API; out may be nil.
func (l *Learner) Call(ctx context.Context, method, path string, out any) error {
	return l.Send(ctx, method, path, "", out)
}

// Send is Call with a body in JSON.
func (l *Learner) Send(ctx context.Context, method, path, body string, out any) error {
	u, err := l.base.Parse(path)
	if err != nil {
		return fmt.Errorf("path %q: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Berth", "1")
	res, err := l.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, bytes.TrimSpace(answer))
	}
	if out == nil || res.StatusCode == http.StatusNoContent {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// Open opens a lab and returns when its sandbox is ready.
func (l *Learner) Open(ctx context.Context, lab string) (labs.State, error) {
	var s labs.State
	if err := l.Call(ctx, "POST", "/api/labs/"+lab+"/session", &s); err != nil {
		return s, err
	}
	if s.Phase == labs.PhaseReady {
		return s, nil
	}
	err := l.Events(ctx, s.Session, func(kind string, data []byte) bool {
		if kind == "state" {
			if json.Unmarshal(data, &s) == nil && s.Phase != labs.PhaseStarting && s.Phase != labs.PhaseWaiting {
				return false
			}
		}
		return true
	})
	if err == nil && s.Phase != labs.PhaseReady {
		err = fmt.Errorf("the session is %s: %s", s.Phase, s.Reason)
	}
	return s, err
}

// Events reads the session's events until each says false.
func (l *Learner) Events(ctx context.Context, session string, each func(kind string, data []byte) bool) error {
	req, err := http.NewRequestWithContext(ctx, "GET", l.base.JoinPath("/api/sessions", session, "events").String(), nil)
	if err != nil {
		return err
	}
	c := *l.http
	c.Timeout = 0
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("events of %s: %s", session, res.Status)
	}
	kind := ""
	in := bufio.NewScanner(res.Body)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		line := in.Text()
		if k, ok := strings.CutPrefix(line, "event: "); ok {
			kind = k
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && !each(kind, []byte(data)) {
			return nil
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
