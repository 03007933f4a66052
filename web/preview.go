package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"berth/labs"
)

// A preview shows what listens on a port of a sandbox, on an origin of its own:
//
//	http://PORT-NAME.preview.localhost:8080      the first sandbox
//	http://PORT-2-NAME.preview.localhost:8080    the second
//
// so that nothing a learner's program sends can act as Berth. These origins
// have no other routes. How a browser gets in is told in ticket.go, how
// requests reach the sandbox in upstream.go.
//
// Service workers are refused there: one would outlive its sandbox, and show
// the next one's viewer what it likes.

// A preview is a port of a learner's sandbox.
type preview struct {
	name string // labs.PreviewName
	host int    // sandbox, from 1
	port int
}

var previewLabel = regexp.MustCompile(`^([1-9][0-9]{0,4})-(?:([2-9])-)?([0-9a-f]{32})$`)

// parsePreview reads the first label of a preview's host.
func parsePreview(label string) (p preview, ok bool) {
	m := previewLabel.FindStringSubmatch(label)
	if m == nil {
		return p, false
	}
	p.name, p.host = m[3], 1
	p.port, _ = strconv.Atoi(m[1]) // at most five digits
	if m[2] != "" {
		p.host = int(m[2][0] - '0')
	}
	return p, p.port <= 65535
}

// label gives the first label of a preview's host. Port 0 gives the word PORT.
func label(name string, host, port int) string {
	l := "PORT-"
	if port > 0 {
		l = strconv.Itoa(port) + "-"
	}
	if host > 1 {
		l += strconv.Itoa(host) + "-"
	}
	return l + name
}

// An origin is where a site is: "http" and "localhost:8080".
type origin struct{ scheme, host string }

func (o origin) String() string { return o.scheme + "://" + o.host }

func scheme(secure bool) string {
	if secure {
		return "https"
	}
	return "http"
}

// parseOrigin reads an origin such as https://labs.example.org.
func parseOrigin(text string) (origin, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return origin{}, fmt.Errorf("%q is no address of a site such as https://labs.example.org", text)
	}
	return origin{u.Scheme, strings.ToLower(u.Host)}, nil
}

// splitPort takes a Host header apart; port has its colon, or is "".
func splitPort(host string) (name, port string) {
	name = strings.ToLower(host)
	if h, p, err := net.SplitHostPort(name); err == nil {
		name, port = h, ":"+p
	}
	return strings.Trim(strings.TrimSuffix(name, "."), "[]"), port
}

func isLocalhost(host string) bool {
	name, _ := splitPort(host)
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// previewSite gives where the previews of a site are. domain is a host with or
// without a port, or "" for "preview." before the site's. A site that is asked
// for by an address has no previews, except on this machine.
func previewSite(site origin, domain string) (o origin, ok bool) {
	name, port := splitPort(site.host)
	if domain != "" {
		d, p := splitPort(domain)
		if p == "" {
			p = port
		}
		return origin{site.scheme, d + p}, true
	}
	if a, err := netip.ParseAddr(name); err == nil {
		if !a.IsLoopback() {
			return origin{}, false
		}
		name = "localhost"
	}
	return origin{site.scheme, "preview." + name + port}, true
}

// PreviewURL gives the function that labs.DeskConfig.PreviewURL asks for, for
// the Config's Site and PreviewDomain. It is nil when there can be no previews:
// the site is an address and no domain is given.
func PreviewURL(site, domain string) (func(name string, host, port int) string, error) {
	s, err := parseOrigin(site)
	if err != nil {
		return nil, err
	}
	if err := checkDomain(domain); err != nil {
		return nil, err
	}
	o, ok := previewSite(s, domain)
	if !ok {
		return nil, nil
	}
	return func(name string, host, port int) string {
		return o.scheme + "://" + label(name, host, port) + "." + o.host
	}, nil
}

func checkDomain(domain string) error {
	if domain == "" {
		return nil
	}
	name, port := splitPort(domain)
	_, ip := netip.ParseAddr(name)
	_, number := strconv.ParseUint(strings.TrimPrefix(port, ":"), 10, 16)
	if ip == nil || name == "" || strings.ContainsAny(name, "*/:@? ") || port != "" && number != nil {
		return fmt.Errorf("%q is no domain for previews such as preview.example.org", domain)
	}
	return nil
}

// setPreviews reads what the Config says about previews.
func (s *Server) setPreviews() (err error) {
	if s.Site != "" {
		if s.site, err = parseOrigin(s.Site); err != nil {
			return err
		}
	}
	if err := checkDomain(s.PreviewDomain); err != nil {
		return err
	}
	if s.PreviewDomain != "" && s.Site == "" && !strings.HasPrefix(s.PreviewDomain, "preview.") {
		return fmt.Errorf("previews at %s: say with Site where the pages are", s.PreviewDomain)
	}
	s.sealer, err = newSealer()
	return err
}

// previewDomains gives where previews may be for a page that was asked for
// like this: as it is configured, and below the name that was asked for.
func (s *Server) previewDomains(r *http.Request) (list []origin) {
	_, secure := s.client(r)
	asked := origin{scheme(secure), r.Host}
	if s.Site != "" {
		if o, ok := previewSite(s.site, s.PreviewDomain); ok {
			list = append(list, o)
		}
		if s.PreviewDomain != "" {
			return list
		}
	}
	if o, ok := previewSite(asked, s.PreviewDomain); ok && (len(list) == 0 || list[0] != o) {
		list = append(list, o)
	}
	return list
}

// allowPreviews lets the page that is being answered hold frames of previews.
func (s *Server) allowPreviews(w http.ResponseWriter, r *http.Request) {
	sources := "; frame-src 'self'"
	for _, o := range s.previewDomains(r) {
		sources += " " + o.scheme + "://*." + o.host
	}
	w.Header().Set("Content-Security-Policy", pagePolicy+sources)
}

// inPreviews reports whether a request is to the domain of previews, where
// there are no pages. label is what stands before it, and main where the pages
// are, which have the same scheme.
func (s *Server) inPreviews(r *http.Request) (label string, main origin, ok bool) {
	name, port := splitPort(r.Host)
	if s.guard.names[name] {
		return "", origin{}, false
	}
	rest := ""
	if s.PreviewDomain != "" {
		domain, _ := splitPort(s.PreviewDomain)
		if name != domain && !strings.HasSuffix(name, "."+domain) {
			return "", origin{}, false
		}
		label, rest = strings.TrimSuffix(strings.TrimSuffix(name, domain), "."), strings.TrimPrefix(domain, "preview.")
	} else {
		before, after, found := strings.Cut("."+name, ".preview.")
		if !found || !s.guard.knows(after) {
			return "", origin{}, false
		}
		label, rest = strings.TrimPrefix(before, "."), after
		if _, err := netip.ParseAddr(rest); err == nil {
			label = "" // nothing is found below an address
		}
	}
	if s.Site != "" {
		if siteName, _ := splitPort(s.site.host); s.PreviewDomain != "" || rest == siteName {
			return label, s.site, true
		}
	}
	_, secure := s.client(r)
	return label, origin{scheme(secure), rest + port}, true
}

// A failure is what somebody who looks at a preview gets to see instead.
type failure struct {
	status  int
	heading string
	say     string
	waits   bool // it may be over soon: the page looks, and loads again
	cause   error
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.say + " (" + f.cause.Error() + ")"
	}
	return f.say
}

func (f *failure) Unwrap() error { return f.cause }

var (
	errNowhere  = &failure{status: http.StatusNotFound, heading: "Not found", say: "There is no such preview."}
	errOutside  = &failure{status: http.StatusForbidden, heading: "Not for you", say: "This preview can be seen only by those who may see its sandbox. Open it in the browser that has the lab open, in a tab."}
	errWorker   = &failure{status: http.StatusForbidden, heading: "No service workers", say: "Service workers are not allowed in previews: they would outlive the sandbox."}
	errMethod   = &failure{status: http.StatusMethodNotAllowed, heading: "Not allowed", say: "This kind of request cannot be sent to a preview."}
	errOver     = &failure{status: http.StatusGone, heading: "This sandbox has ended", say: "What was to be seen here went with its sandbox. Open the lab again to get a new one."}
	errStarting = &failure{status: http.StatusServiceUnavailable, heading: "The sandbox is starting", say: "Your sandbox is not ready yet. This takes a few seconds.", waits: true}
	errAway     = &failure{status: http.StatusServiceUnavailable, heading: "The server is restarting", say: "Your sandbox goes on. This takes a few seconds.", waits: true}
	errCrowded  = &failure{status: http.StatusTooManyRequests, heading: "One moment", say: "Very many requests to this sandbox are under way. Close some tabs and try again."}
)

const (
	ownPaths  = "/.berth/" // paths of preview origins that are ours
	readyPath = "/.berth/ready"

	lookWait  = 5 * time.Second        // for a sandbox that is being started
	readyWait = 20 * time.Second       // for a port to be listened on
	readyLook = 500 * time.Millisecond // how often that is looked at
	maxReady  = 8                      // pages of a session that wait for that
)

// look gives the sandbox of a preview that the learner may see.
func (s *Server) look(ctx context.Context, learner string, p preview) (labs.Sandbox, string, error) {
	waiting, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	sb, session, err := s.Desk.Preview(waiting, learner, p.name, p.host)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return nil, "", errStarting
	}
	return sb, session, err
}

// servePreview answers a request to the domain of previews.
func (s *Server) servePreview(rw http.ResponseWriter, r *http.Request, label string, main origin) {
	w := &response{ResponseWriter: rw, status: http.StatusOK}
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.Log.Error("panic in a preview", "panic", p, "stack", string(debug.Stack()))
			s.failPreview(w, r, errors.New("panic"))
		}
		if s.Log.Enabled(r.Context(), slog.LevelDebug) {
			s.Log.Debug("preview", "method", r.Method, "status", w.status, "bytes", w.bytes, "took", time.Since(start))
		}
	}()
	if err := s.preview(w, r, label, main); err != nil {
		s.failPreview(w, r, err)
	}
}

func (s *Server) preview(w *response, r *http.Request, label string, main origin) error {
	p, ok := parsePreview(label)
	if !ok {
		return errNowhere
	}
	if own := strings.HasPrefix(r.URL.Path, ownPaths); own || r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		switch {
		case own && r.URL.Path == enterPath && r.Method == http.MethodGet:
			ownHeaders(w.Header())
			return s.enter(w, r, main)
		case own && r.URL.Path == readyPath && r.Method == http.MethodGet:
			return s.ready(w, r, p)
		case own:
			return errNowhere
		}
		return errMethod
	}
	if r.Header.Get("Service-Worker") != "" {
		return errWorker
	}
	learner, ok := s.entered(r)
	if !ok && navigates(r) && r.Method == http.MethodGet {
		here := url.URL{Scheme: main.scheme, Host: strings.ToLower(r.Host), Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
		if to := here.RequestURI(); !isOnward(to) {
			here.Path, here.RawPath, here.RawQuery = "/", "", ""
		}
		ownHeaders(w.Header())
		w.Header().Set("Location", main.String()+"/preview?to="+url.QueryEscape(here.String()))
		w.WriteHeader(http.StatusFound)
		return nil
	}
	if !ok || !navigates(r) && !s.ofSame(r, p) {
		return errOutside
	}
	sb, session, err := s.look(r.Context(), learner, p)
	if err != nil {
		return err
	}
	return s.pass(w, r, p, main, sb, session)
}

// navigates reports whether a browser asks for a document to show.
func navigates(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// ofSame reports whether a request comes from a page of the same learner's
// previews of the same lab, as far as the browser says. Their own programs may
// talk to each other, those of others may not.
func (s *Server) ofSame(r *http.Request, p preview) bool {
	o := r.Header.Get("Origin")
	if o == "" {
		return true
	}
	u, err := url.Parse(o)
	if err != nil {
		return false
	}
	theirs, domain, _ := strings.Cut(strings.ToLower(u.Host), ".")
	_, ours, _ := strings.Cut(strings.ToLower(r.Host), ".")
	from, ok := parsePreview(theirs)
	return ok && from.name == p.name && domain == ours
}

// ready tells the page that waits for a port when something listens there.
func (s *Server) ready(w *response, r *http.Request, p preview) error {
	learner, ok := s.entered(r)
	if !ok || !s.ofSame(r, p) {
		return errOutside
	}
	sb, session, err := s.look(r.Context(), learner, p)
	if err != nil && !errors.Is(err, errStarting) {
		return err
	}
	ownHeaders(w.Header())
	if sb == nil {
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	if !s.viewing.take("ready "+session, maxReady) {
		return errCrowded
	}
	defer s.viewing.give("ready " + session)
	ctx, cancel := context.WithTimeout(r.Context(), readyWait)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	again := time.NewTicker(readyLook)
	defer again.Stop()
	for {
		up, err := listens(ctx, sb, p.port)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if up {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			w.WriteHeader(http.StatusAccepted)
			return nil
		}
	}
}

// listens reports whether something in the sandbox listens on a TCP port. It
// looks at the kernel's tables: to connect would use up what answers only once.
func listens(ctx context.Context, sb labs.Sandbox, port int) (bool, error) {
	local := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _, err := sb.ReadFile(ctx, table, 1<<20)
		switch {
		case errors.Is(err, labs.ErrInvalid): // very many connections; to load again does no harm
			return true, nil
		case errors.Is(err, labs.ErrNotFound): // no IPv6
			continue
		case err != nil:
			return false, fmt.Errorf("see what listens: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line) // number, local address, remote address, state
			if len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], local) {
				return true, nil
			}
		}
	}
	return false, nil
}

// ownHeaders sets what our own answers on the origin of a preview carry.
func ownHeaders(h http.Header) {
	h.Set("Content-Security-Policy", ownPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// failPreview answers a request to a preview that could not be passed on.
func (s *Server) failPreview(w *response, r *http.Request, err error) {
	if w.wrote || r.Context().Err() != nil && s.ctx.Err() == nil {
		s.Log.Debug("preview broken off", "err", err)
		return
	}
	f := new(failure)
	if !errors.As(err, &f) {
		f = new(failure)
		f.status, f.say = explain(err)
		f.heading = heading(f.status)
		if p := new(labs.Problem); errors.Is(err, labs.ErrGone) || errors.Is(err, labs.ErrNotFound) && !errors.As(err, &p) {
			*f = *errOver
		}
	}
	if f.status == http.StatusInternalServerError {
		s.Log.Error("preview failed", "err", err)
	} else {
		s.Log.Debug("preview refused", "status", f.status, "err", err)
	}
	h := w.Header()
	clear(h)
	ownHeaders(h)
	if f.status == http.StatusTooManyRequests || f.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	if !navigates(r) {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(f.status)
		fmt.Fprintln(w, f.say)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(f.status)
	data := struct {
		Heading, Say string
		Script       template.JS
	}{f.heading, f.say, ""}
	if f.waits && r.Method == http.MethodGet {
		data.Script = readyScript
	}
	if err := failurePage.Execute(w, data); err != nil {
		s.Log.Debug("write a preview's page", "err", err)
	}
}

// readyScript loads the page again when the port is listened on. While nobody
// sees the page it does nothing.
const readyScript = `
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
for (let ms = 1000; ; ) {
	await pause(ms);
	if (document.hidden) continue;
	try {
		const answer = await fetch("` + readyPath + `", {cache: "no-store"});
		if (answer.status !== 202) location.reload();
	} catch {
		ms = 5000;
	}
}
`

var ownPolicy = "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; script-src '" + hashOf(readyScript) + "'"

func hashOf(script string) string {
	sum := sha256.Sum256([]byte(script))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// The page stands alone: the origin that it is shown on has no style sheet.
var failurePage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Heading}} · Berth</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1.5rem }
h1 { font-size: 1.4rem }
</style>
</head>
<body>
<main role="status">
<h1>{{.Heading}}</h1>
<p>{{.Say}}</p>
{{with .Script}}<p>This page loads again by itself as soon as it can.</p>{{end}}
</main>
{{with .Script}}<script type="module">{{.}}</script>{{end}}
</body>
</html>
`))
