package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// A guard decides which requests may reach the handlers at all: those that
// name this server, and of those that change something only the ones that
// this server's own pages made.
type guard struct {
	names    map[string]bool // exact names, lower case
	suffixes []string        // ".example.org"
	any      bool
	foreign  *http.CrossOriginProtection
}

func newGuard(hosts []string) (*guard, error) {
	g := &guard{names: make(map[string]bool), foreign: http.NewCrossOriginProtection()}
	for _, h := range hosts {
		h = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(h), "."))
		switch rest, wild := strings.CutPrefix(h, "*."); {
		case h == "*":
			g.any = true
		case h == "" || strings.ContainsAny(rest, "*/:@ "):
			return nil, fmt.Errorf("%q is no host name such as labs.example.org or *.example.org", h)
		case wild:
			g.suffixes = append(g.suffixes, "."+rest)
		default:
			g.names[h] = true
		}
	}
	return g, nil
}

// check refuses requests that do not name this server, and those that another
// site's page made a browser send.
func (g *guard) check(r *http.Request) error {
	if !g.knows(r.Host) {
		return &refusal{http.StatusForbidden, "This server does not answer to the name it was asked for by. Whoever runs it can allow the name."}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if r.Header.Get("X-Berth") != "1" || g.foreign.Check(r) != nil {
			return errForeign
		}
		return nil
	}
	if strings.HasPrefix(r.URL.Path, "/api/") && !sameOrigin(r) {
		return errForeign
	}
	return nil
}

var errForeign = &refusal{http.StatusForbidden, "This request did not come from a page of this server, so it was refused."}

// sameOrigin reports whether a request under /api/ comes from our own pages or
// from no page at all. Reading there can be recorded (a hint, a solution) or
// open a shell, so that other sites must not make browsers do it.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && strings.EqualFold(u.Host, r.Host)
}

// knows reports whether the server may be asked for under this Host header.
// Bare addresses are fine: only names can be made to resolve to somewhere else.
func (g *guard) knows(host string) bool {
	if g.any {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || g.names[name] {
		return true
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	for _, s := range g.suffixes {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// secureHeaders sets what every answer carries.
func secureHeaders(h http.Header) {
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// client gives the address a request comes from, looking through the proxies
// that are believed, and whether it came over TLS.
func (s *Server) client(r *http.Request) (addr netip.Addr, secure bool) {
	secure = r.TLS != nil
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, secure
	}
	addr = ap.Addr().Unmap()
	if !s.believed(addr) {
		return addr, secure
	}
	if p := r.Header.Values("X-Forwarded-Proto"); len(p) > 0 {
		secure = strings.EqualFold(strings.TrimSpace(p[len(p)-1]), "https")
	}
	// The last address that is not itself a proxy of ours: those before it
	// were written by whoever sent the request.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		a, err := parseHop(hops[i])
		if err != nil {
			break
		}
		addr = a
		if !s.believed(a) {
			break
		}
	}
	return addr, secure
}

func (s *Server) believed(a netip.Addr) bool {
	for _, p := range s.Proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func parseHop(s string) (netip.Addr, error) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.Unmap(), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}, errors.New("no address")
	}
	return ap.Addr().Unmap(), nil
}
