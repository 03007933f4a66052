package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/singleflight"
)

// What an upstream's answers come down to. Anything else is a fault of this
// one answer.
var (
	errAbsent = errors.New("the registry does not have it")
	errAway   = errors.New("the registry cannot be reached")
	errRange  = errors.New("the registry does not give the range it was asked for")
)

const (
	maxRedirects = 5
	maxRepos     = 256 // repositories whose tokens are kept
)

// An upstream is a registry that images are fetched from. It remembers when
// the registry could not be reached, so that an offline room does not wait.
// Methods may be called concurrently.
type upstream struct {
	registry string // as references name it: docker.io
	base     *url.URL
	reg      name.Registry
	auth     authn.Keychain
	retry    time.Duration // how long unreachable is believed
	patience time.Duration // to connect; three times as long for the answer to begin
	now      func() time.Time
	log      *slog.Logger
	spawn    func(func(context.Context)) bool // runs a goroutine that its owner waits for

	http    *http.Transport
	private atomic.Bool // the registry itself is at a private address

	signing singleflight.Group

	mu      sync.Mutex
	repos   map[string]http.RoundTripper // by repository: adds the token
	known   bool                         // it was tried at least once
	away    error                        // why it cannot be reached, or nil
	until   time.Time                    // when to try again
	probing chan struct{}                // closed when the probe under way is done
}

// prepare sets up connections. Registries send their clients on to other hosts,
// to sign in and to download; an upstream at a public address must not send
// this server into the network it stands in.
func (u *upstream) prepare() {
	allowed := map[string]bool{hostPort(u.base): true}
	if p, err := http.ProxyFromEnvironment(&http.Request{URL: u.base}); err == nil && p != nil {
		allowed[hostPort(p)] = true
	}
	plain := &net.Dialer{Timeout: u.patience, KeepAlive: 30 * time.Second}
	guarded := &net.Dialer{Timeout: u.patience, KeepAlive: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		if a, err := netip.ParseAddrPort(address); err != nil || isPrivate(a.Addr()) {
			return fmt.Errorf("%s sends on to the private address %s", u.registry, address)
		}
		return nil
	}}
	u.http = &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if !allowed[address] && !u.private.Load() {
				return guarded.DialContext(ctx, network, address)
			}
			c, err := plain.DialContext(ctx, network, address)
			if err == nil && address == hostPort(u.base) {
				if a, perr := netip.ParseAddrPort(c.RemoteAddr().String()); perr == nil {
					u.private.Store(isPrivate(a.Addr()))
				}
			}
			return c, err
		},
		TLSHandshakeTimeout:    u.patience,
		ResponseHeaderTimeout:  3 * u.patience,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        time.Minute,
		DisableCompression:     true, // digests are of the bytes as they are
		ForceAttemptHTTP2:      true,
	}
	u.repos = make(map[string]http.RoundTripper)
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func isPrivate(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsGlobalUnicast() || a.IsPrivate() || netip.MustParsePrefix("100.64.0.0/10").Contains(a)
}

// reach returns nil when the registry was reached last, and otherwise why not.
// When it is time to try again it does so, and waits for the outcome if wait
// is set or nothing is known yet.
func (u *upstream) reach(ctx context.Context, wait bool) error {
	u.mu.Lock()
	if u.known && u.away == nil {
		u.mu.Unlock()
		return nil
	}
	if u.probing == nil {
		if u.known && u.now().Before(u.until) {
			defer u.mu.Unlock()
			return u.away
		}
		done := make(chan struct{})
		if !u.spawn(func(ctx context.Context) { u.probe(ctx, done) }) {
			u.mu.Unlock()
			return errClosed
		}
		u.probing = done
	}
	done, away, known := u.probing, u.away, u.known
	u.mu.Unlock()
	if known && !wait {
		return away
	}
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.away
}

// state gives what is known without waiting.
func (u *upstream) state() (away error, known bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.away, u.known
}

// probe asks the registry for a sign of life.
func (u *upstream) probe(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, 4*u.patience)
	defer cancel()
	err := u.ping(ctx)
	u.mu.Lock()
	u.probing = nil
	u.mu.Unlock()
	u.mark(err)
	close(done)
}

func (u *upstream) ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.base.String()+"/v2/", nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	resp, err := u.http.RoundTrip(req) // follows nothing: a room's sign-in page redirects
	if err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized ||
		strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return fmt.Errorf("%w: %s answers %s, not as a registry does", errAway, u.base.Host, resp.Status)
	}
	return nil
}

// mark remembers whether the registry can be reached.
func (u *upstream) mark(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	was, known := u.away, u.known
	u.away, u.known, u.until = err, true, u.now().Add(u.retry)
	switch {
	case err != nil && (was == nil || !known):
		u.log.Warn("registry cannot be reached; images come from the cache, the stock and stand-ins", "registry", u.registry, "err", err)
	case err == nil && known && was != nil:
		u.log.Info("registry can be reached again", "registry", u.registry)
	}
}

// client gives an HTTP client that signs in for pulls from a repository. All
// who need the same at the same time share the signing in.
func (u *upstream) client(ctx context.Context, repo string) (*http.Client, error) {
	u.mu.Lock()
	rt := u.repos[repo]
	u.mu.Unlock()
	if rt == nil {
		var err error
		rt, err = shared(ctx, &u.signing, repo, u.spawn, 4*u.patience, func(ctx context.Context) (http.RoundTripper, error) {
			return u.signIn(ctx, repo)
		})
		if err != nil {
			return nil, err
		}
	}
	return &http.Client{Transport: rt, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return fmt.Errorf("redirect from https to %s", req.URL.Scheme)
		}
		return nil
	}}, nil
}

func (u *upstream) signIn(ctx context.Context, repo string) (http.RoundTripper, error) {
	auth, err := u.auth.Resolve(u.reg)
	if err != nil {
		return nil, fmt.Errorf("find the account for %s: %w", u.registry, err)
	}
	scope := "repository:" + repo + ":" + transport.PullScope
	rt, err := transport.NewWithContext(ctx, u.reg, auth, u.http, []string{scope})
	if err != nil {
		return nil, fmt.Errorf("sign in to %s: %w", u.registry, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.repos) >= maxRepos {
		clear(u.repos)
	}
	u.repos[repo] = rt
	return rt, nil
}

// shared runs fn for all who ask for the same key at the same time, in a
// goroutine of spawn's owner: one who goes away does not end it for the
// others.
func shared[T any](ctx context.Context, g *singleflight.Group, key string, spawn func(func(context.Context)) bool, limit time.Duration, fn func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	ch := g.DoChan(key, func() (any, error) {
		answers := make(chan answer, 1)
		if !spawn(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			v, err := fn(ctx)
			answers <- answer{v, err}
		}) {
			return answer{err: errClosed}, nil
		}
		return <-answers, nil
	})
	select {
	case res := <-ch:
		a := res.Val.(answer)
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// do sends a request. Whether the registry was reached is remembered, unless
// ctx was cancelled. The caller closes the response's body.
func (u *upstream) do(ctx context.Context, method, repo, path string, header http.Header, ok ...int) (*http.Response, error) {
	resp, err := u.send(ctx, method, repo, path, header, ok)
	err = classify(err)
	if ctx.Err() == context.Canceled {
		return resp, err
	}
	var op *net.OpError
	var te *transport.Error
	switch {
	case !errors.Is(err, errAway):
		u.mark(nil)
	case errors.As(err, &op) && op.Op == "dial", errors.As(err, &te):
		u.mark(err)
	default:
		u.doubt() // one answer that did not come does not mean that none will
	}
	return resp, err
}

// doubt finds out in the background whether the registry can be reached.
func (u *upstream) doubt() {
	u.mu.Lock()
	defer u.mu.Unlock()
	done := make(chan struct{})
	if u.probing == nil && u.spawn(func(ctx context.Context) { u.probe(ctx, done) }) {
		u.probing = done
	}
}

func (u *upstream) send(ctx context.Context, method, repo, path string, header http.Header, ok []int) (*http.Response, error) {
	c, err := u.client(ctx, repo)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.base.String()+"/v2/"+repo+path, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, ok...); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// classify tells what an error of a request means.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var te *transport.Error
	if !errors.As(err, &te) {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	switch te.StatusCode {
	case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden:
		// Docker Hub says "unauthorized" of what does not exist.
		return fmt.Errorf("%w: %w", errAbsent, err)
	case http.StatusTooManyRequests:
		return fmt.Errorf("%w: it allows no more pulls from this address for now: %w", errAway, err)
	}
	return err
}

// head asks for the digest that a tag stands for.
func (u *upstream) head(ctx context.Context, repo, tag string) (digest string, err error) {
	resp, err := u.do(ctx, http.MethodHead, repo, "/manifests/"+tag, http.Header{"Accept": accepted}, http.StatusOK)
	if err != nil {
		return "", fmt.Errorf("ask %s for %s:%s: %w", u.registry, repo, tag, err)
	}
	resp.Body.Close()
	digest = resp.Header.Get("Docker-Content-Digest")
	if !digestRE.MatchString(digest) {
		return "", fmt.Errorf("ask %s for %s:%s: it gives no digest", u.registry, repo, tag)
	}
	return digest, nil
}

// manifest fetches a manifest by tag or digest. It is well-formed and has the
// digest that was asked for, or that the registry said it has.
func (u *upstream) manifest(ctx context.Context, repo, id string) (raw []byte, digest string, err error) {
	fail := func(err error) ([]byte, string, error) {
		return nil, "", fmt.Errorf("fetch manifest %s of %s from %s: %w", id, repo, u.registry, err)
	}
	resp, err := u.do(ctx, http.MethodGet, repo, "/manifests/"+id, http.Header{"Accept": accepted}, http.StatusOK)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return fail(err)
	}
	if _, err := parseManifest(raw); err != nil {
		return fail(err)
	}
	sum := sha256.Sum256(raw)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	want := id
	if !digestRE.MatchString(id) {
		want = resp.Header.Get("Docker-Content-Digest")
	}
	if digestRE.MatchString(want) && want != digest {
		return fail(fmt.Errorf("got %s: %w", digest, errMismatch))
	}
	return raw, digest, nil
}

// blob begins to fetch a blob at an offset. start is where it really begins,
// total the blob's size or -1. The caller closes body.
func (u *upstream) blob(ctx context.Context, repo, digest string, from int64) (body io.ReadCloser, start, total int64, err error) {
	h := http.Header{}
	if from > 0 {
		h.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := u.do(ctx, http.MethodGet, repo, "/blobs/"+digest, h, http.StatusOK, http.StatusPartialContent)
	var te *transport.Error
	if from > 0 && errors.As(err, &te) && (te.StatusCode == http.StatusRequestedRangeNotSatisfiable || te.StatusCode == http.StatusBadRequest) {
		err = fmt.Errorf("%w: %w", errRange, err)
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("fetch blob %s of %s from %s: %w", digest, repo, u.registry, err)
	}
	total = resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		if start, total, err = contentRange(resp.Header.Get("Content-Range")); err != nil || start != from {
			resp.Body.Close()
			return nil, 0, 0, fmt.Errorf("fetch blob %s of %s from %s: bytes from %d, got %q: %w", digest, repo, u.registry, from, resp.Header.Get("Content-Range"), errRange)
		}
	}
	return resp.Body, start, total, nil
}

// blobSize asks for a blob's size.
func (u *upstream) blobSize(ctx context.Context, repo, digest string) (int64, error) {
	resp, err := u.do(ctx, http.MethodHead, repo, "/blobs/"+digest, nil, http.StatusOK)
	if err != nil {
		return 0, fmt.Errorf("ask %s for blob %s of %s: %w", u.registry, digest, repo, err)
	}
	resp.Body.Close()
	return resp.ContentLength, nil
}

// contentRange reads "bytes 10-99/100"; the total is -1 when it is "*".
func contentRange(s string) (start, total int64, err error) {
	span, size, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	first, _, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, fmt.Errorf("content range %.40q", s)
	}
	if start, err = strconv.ParseInt(first, 10, 64); err != nil || start < 0 {
		return 0, 0, fmt.Errorf("content range %.40q", s)
	}
	if size == "*" {
		return start, -1, nil
	}
	if total, err = strconv.ParseInt(size, 10, 64); err != nil || total < start {
		return 0, 0, fmt.Errorf("content range %.40q", s)
	}
	return start, total, nil
}

func (u *upstream) close() { u.http.CloseIdleConnections() }
