package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/docker/docker/client"

	"berth/labs"
)

const (
	maxAnswer = 8 << 20   // bytes of any answer of an engine
	maxEvent  = 1 << 20   // bytes of one event
	maxAttach = 512 << 10 // bytes read from an attached container, framing included
)

var errTooLong = errors.New("the answer is too long")

// newClient gives a client of the sandbox's engine. It connects when it is
// first used. The engine may be anything that its learner put there, so every
// answer is read with a bound.
func newClient(sb labs.Sandbox) (*client.Client, func(), error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return sb.Dial(ctx, "unix", labs.EngineSocket)
	}
	requests := &http.Transport{
		DialContext:            dial,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	// The client takes the dialer for attaching from a transport of exactly
	// this type, and would otherwise connect to this machine's own engine.
	outer := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// Nothing else ends an attachment that hangs.
		context.AfterFunc(ctx, func() { conn.Close() })
		return &boundedConn{Conn: conn, left: maxAttach}, nil
	}}
	outer.RegisterProtocol("http", boundedTransport{requests})
	cli, err := client.NewClientWithOpts(
		client.WithHTTPClient(&http.Client{Transport: outer, CheckRedirect: client.CheckRedirect}),
		client.WithHost("http://engine"),
		client.WithDialContext(outer.DialContext),
		client.WithAPIVersionNegotiation(),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("make engine client: %w", err)
	}
	return cli, requests.CloseIdleConnections, nil
}

// boundedTransport bounds the bodies of answers.
type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body := &boundedBody{ReadCloser: resp.Body, left: maxAnswer}
	if strings.HasSuffix(req.URL.Path, "/events") {
		body.left, body.line = maxEvent, true
	}
	resp.Body = body
	return resp, nil
}

// A boundedBody fails when it gets longer than left, or with line when one of
// its lines does.
type boundedBody struct {
	io.ReadCloser
	left int
	line bool
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	if b.line {
		if i := bytes.LastIndexByte(p[:n], '\n'); i >= 0 {
			b.left = maxEvent - (n - i - 1)
		}
	}
	return n, err
}

// A boundedConn ends after left bytes.
type boundedConn struct {
	net.Conn
	left int
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
