package verify

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"berth/labs"
)

const portDeadline = 3 * time.Second

func asksHTTP(c *labs.PortCheck) bool {
	return c.Path != "" || !c.Status.IsZero() || !c.Body.IsZero()
}

func expectPort(c *labs.PortCheck) string {
	s := "something listens on port " + strconv.Itoa(c.Port)
	if !asksHTTP(c) {
		return s
	}
	s += " and answers " + code("GET "+cmp.Or(c.Path, "/"))
	if !c.Status.IsZero() {
		s += " with status " + c.Status.String()
	}
	if words := reads(c.Body); words != "" {
		s += " with a text that " + words
	}
	return s
}

// lookPort connects to a port inside the sandbox.
func (w *watch) lookPort(ctx context.Context, c *labs.PortCheck) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, portDeadline)
	defer cancel()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port))
	port := "port " + strconv.Itoa(c.Port)
	slow := &unseen{reason: port + " did not answer within 3 seconds"}
	conn, err := w.sb.Dial(ctx, "tcp", address)
	switch {
	case errors.Is(err, labs.ErrGone):
		return verdict{}, w.trouble(ctx, "connect to port", err)
	case err != nil && ctx.Err() != nil:
		return verdict{}, slow
	case err != nil:
		return verdict{seen: "nothing listens on " + port, patience: steady}, nil
	case !asksHTTP(c):
		conn.Close()
		return verdict{holds: true, seen: "something listens on " + port}, nil
	}
	used := false
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if used {
				return nil, net.ErrClosed
			}
			used = true
			return conn, nil
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	defer conn.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/"+strings.TrimPrefix(c.Path, "/"), nil)
	if err != nil {
		return verdict{}, &unseen{reason: "the lesson's path is not valid", err: err}
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return verdict{}, slow
		}
		return verdict{seen: "what listens on " + port + " does not speak HTTP", patience: steady}, nil
	}
	defer resp.Body.Close()
	status := "it answers with status " + strconv.Itoa(resp.StatusCode)
	if c.Status.IsZero() && resp.StatusCode >= 400 || !c.Status.Test(int64(resp.StatusCode)) {
		return verdict{seen: status, patience: steady}, nil
	}
	if !hasText(c.Body) {
		return verdict{holds: true, seen: status}, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxText+1))
	if ctx.Err() != nil {
		return verdict{}, slow
	}
	if err != nil {
		return verdict{seen: "its answer broke off", patience: steady}, nil
	}
	text := string(body[:min(len(body), maxText)])
	if !holdsText(c.Body, text, len(body) > maxText) {
		return verdict{seen: status + " and a text that " + reading(text), patience: steady}, nil
	}
	return verdict{holds: true, seen: status + " and the expected text"}, nil
}
