package web_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/labs"
	"berth/web"

	"github.com/gorilla/websocket"
)

// machines is a labs.Runner whose sandboxes have programs that listen on
// ports, and files.
type machines struct {
	boxes
	mu   sync.Mutex
	made []*machine
}

func (m *machines) Start(ctx context.Context, spec labs.Spec) (labs.Sandbox, error) {
	sb, err := m.boxes.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &machine{box: sb.(*box), programs: make(map[string]string), conns: make(map[net.Conn]bool)}
	m.made = append(m.made, n)
	return n, nil
}

func (m *machines) Connect(_ context.Context, ids ...string) ([]netip.Addr, error) {
	return make([]netip.Addr, len(ids)), nil
}

// last gives the machine that was started last, or that so many before it.
func (m *machines) last(before int) *machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made[len(m.made)-1-before]
}

// A machine is a sandbox whose ports are ports of ours.
type machine struct {
	*box
	home string // directory that "~" and "/" stand for

	mu       sync.Mutex
	programs map[string]string // "127.0.0.1:8080" inside to an address of ours
	conns    map[net.Conn]bool
	over     bool
	dialled  atomic.Int32
}

// listen puts a program on an address inside.
func (m *machine) listen(t testing.TB, inside string, h http.Handler) *httptest.Server {
	t.Helper()
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	m.put(inside, ts.Listener.Addr().String())
	return ts
}

func (m *machine) put(inside, ours string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.programs[inside] = ours
}

func (m *machine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	to, over := m.programs[address], m.over
	m.mu.Unlock()
	switch {
	case over:
		return nil, fmt.Errorf("dial: %w", labs.ErrGone)
	case to == "" || network != "tcp":
		return nil, fmt.Errorf("nothing listens at %s: %w", address, labs.ErrNotFound)
	}
	m.dialled.Add(1)
	conn, err := (&net.Dialer{}).DialContext(ctx, network, to)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[conn] = true
	return &machineConn{conn, m}, nil
}

type machineConn struct {
	net.Conn
	m *machine
}

func (c *machineConn) Close() error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	delete(c.m.conns, c.Conn)
	return c.Conn.Close()
}

// open tells how many connections to its programs are open.
func (m *machine) open() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.conns)
}

func (m *machine) Destroy() error {
	m.mu.Lock()
	m.over = true
	for c := range m.conns {
		c.Close()
	}
	m.mu.Unlock()
	return m.box.Destroy()
}

func (m *machine) path(name string) string {
	return filepath.Join(m.home, filepath.Clean("/"+strings.TrimPrefix(name, "~")))
}

func (m *machine) ReadFile(_ context.Context, name string, limit int64) ([]byte, labs.Version, error) {
	if name == "/proc/net/tcp" {
		return m.table(), "", nil
	}
	info, err := os.Stat(m.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", labs.ErrNotFound
	case err != nil:
		return nil, "", err
	case !info.Mode().IsRegular() || info.Size() > limit:
		return nil, "", labs.ErrInvalid
	}
	b, err := os.ReadFile(m.path(name))
	return b, version(b), err
}

// table is what the kernel says about sockets.
func (m *machine) table() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := []byte("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:0050 0100007F:8A3C 01 00000000:00000000 00:00000000 00000000     0        0 1\n")
	for a := range m.programs {
		b = fmt.Appendf(b, "   1: 0100007F:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2\n", netip.MustParseAddrPort(a).Port())
	}
	return b
}

func version(b []byte) labs.Version {
	sum := sha256.Sum256(b)
	return labs.Version(hex.EncodeToString(sum[:]))
}

// A town is a server with machines, and how browsers reach it.
type town struct {
	t        testing.TB
	server   *web.Server
	http     *httptest.Server
	machines *machines
	port     string // ":12345"
	log      *safeBuffer
}

func newTown(t testing.TB, edit func(*web.Config), lessons ...*labs.Lesson) *town {
	t.Helper()
	return newHurriedTown(t, 0, edit, lessons...)
}

// newHurriedTown is one whose server gives every answer so long.
func newHurriedTown(t testing.TB, writeTimeout time.Duration, edit func(*web.Config), lessons ...*labs.Lesson) *town {
	t.Helper()
	if lessons == nil {
		lessons = testLessons()
	}
	ms := &machines{}
	log, text := debugLog()
	d := labs.NewDesk(labs.DeskConfig{
		Store: newStore(), Runner: ms, Verifier: verifier{}, Mirror: mirror{}, Log: slog.New(slog.DiscardHandler),
		Life: time.Hour, ExtendBy: time.Hour, MaxLife: 3 * time.Hour, Idle: time.Hour, PerLearner: 3,
	})
	d.SetLessons(lessons)
	t.Cleanup(d.Close)
	c := web.Config{Desk: d, Bundle: testBundle, Log: log, Hosts: []string{"labs.example.org"}}
	if edit != nil {
		edit(&c)
	}
	s, err := web.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(s)
	ts.Config.WriteTimeout = writeTimeout
	ts.Start()
	t.Cleanup(func() {
		s.Close()
		ts.Close()
	})
	_, port, err := net.SplitHostPort(ts.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return &town{t: t, server: s, http: ts, machines: ms, port: ":" + port, log: text}
}

// A surfer is a browser with a cookie jar that is as strict as needed here: a
// cookie goes to the very host that set it.
type surfer struct {
	*person
	town    *town
	main    string // host of the pages
	client  *http.Client
	cookies map[string]map[string]*http.Cookie // by host, by name
	session string
}

// surfer opens a lab in a browser of its own.
func (w *town) surfer(main string) *surfer {
	w.t.Helper()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, w.http.Listener.Addr().String())
	}
	tr := &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 100}
	w.t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr, Timeout: 60 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	u := &surfer{
		person: &person{t: w.t, base: "http://" + main, http: client, dial: dial},
		town:   w, main: main, client: client, cookies: make(map[string]map[string]*http.Cookie),
	}
	u.session = u.open("images")
	u.keep(main, u.person.cookie)
	return u
}

func (u *surfer) keep(host string, c *http.Cookie) {
	if u.cookies[host] == nil {
		u.cookies[host] = make(map[string]*http.Cookie)
	}
	u.cookies[host][c.Name] = c
}

// name gives the name of the surfer's previews, from the address that it is
// given for one.
func (u *surfer) name() string {
	s, err := u.town.learnerOf(u.session)
	if err != nil {
		u.t.Fatal(err)
	}
	return labs.PreviewName(s.Learner, s.Lesson)
}

func (w *town) learnerOf(session string) (labs.Session, error) {
	d, ok := w.server.Desk.(*labs.Desk)
	if !ok {
		return labs.Session{}, errors.New("no real desk")
	}
	return d.Store.Session(context.Background(), session)
}

// at gives the address of a preview of the surfer.
func (u *surfer) at(port, path string) string {
	return "http://" + port + "-" + u.name() + ".preview." + u.main + path
}

// request sends one request, with the cookies of its host. Headers come in
// pairs.
func (u *surfer) request(method, address string, body io.Reader, headers ...string) *http.Response {
	u.t.Helper()
	resp, err := u.try(method, address, body, headers...)
	if err != nil {
		u.t.Fatalf("%s %s: %v", method, address, err)
	}
	return resp
}

func (u *surfer) try(method, address string, body io.Reader, headers ...string) (*http.Response, error) {
	req, err := http.NewRequest(method, address, body)
	if err != nil {
		return nil, err
	}
	for _, c := range u.cookies[req.URL.Host] {
		req.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return nil, err
	}
	for _, c := range resp.Cookies() {
		u.keep(req.URL.Host, c)
	}
	return resp, nil
}

// visit navigates to an address, through redirects, and gives the last answer
// and the addresses on the way.
func (u *surfer) visit(address string) (resp *http.Response, body string, way []string) {
	u.t.Helper()
	for range 8 {
		way = append(way, address)
		resp = u.request("GET", address, nil, "Sec-Fetch-Mode", "navigate", "Accept", "text/html")
		b := u.body(resp)
		to := resp.Header.Get("Location")
		if to == "" {
			return resp, b, way
		}
		from, err := url.Parse(address)
		if err != nil {
			u.t.Fatal(err)
		}
		next, err := from.Parse(to)
		if err != nil {
			u.t.Fatal(err)
		}
		address = next.String()
	}
	u.t.Fatalf("too many redirects: %s", way)
	return nil, "", nil
}

func (u *surfer) body(resp *http.Response) string {
	u.t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	return string(b)
}

// inside goes to a preview and checks that it is shown.
func (u *surfer) inside(port string) {
	u.t.Helper()
	if resp, body, _ := u.visit(u.at(port, "/")); resp.StatusCode != 200 {
		u.t.Fatalf("preview of port %s: %s\n%s", port, resp.Status, body)
	}
}

// echo tells the request that reached it.
func echo() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		json.NewEncoder(w).Encode(map[string]any{"method": r.Method, "host": r.Host, "uri": r.RequestURI, "header": r.Header, "body": string(b)})
	})
}

func TestPreview(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	w.machines.last(0).listen(t, "127.0.0.1:8080", echo())
	at := u.at("8080", "//a%2Fb/?x=%31;y&z=a%20b")
	resp, body, way := u.visit(at)
	if resp.StatusCode != 200 || len(way) != 5 {
		t.Fatalf("%s after %d requests %s\n%s", resp.Status, len(way), way, body)
	}
	if way[4] != at {
		t.Errorf("arrived at %s, not at %s", way[4], at)
	}
	var got struct {
		Host, URI string
		Header    http.Header
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	host := "8080-" + u.name() + ".preview." + u.main
	if got.Host != host || got.URI != "//a%2Fb/?x=%31;y&z=a%20b" {
		t.Errorf("the program was asked for %s %s", got.Host, got.URI)
	}
	if h := got.Header; h.Get("X-Forwarded-Host") != host || h.Get("X-Forwarded-Proto") != "http" || h.Get("X-Forwarded-For") != "" || h.Get("Cookie") != "" {
		t.Errorf("the program got the header %v", h)
	}
	c := u.cookies[host]["berth-preview"]
	if c == nil || !c.HttpOnly || !c.Secure || !c.Partitioned || c.SameSite != http.SameSiteNoneMode || c.Domain != "" || c.Path != "/" || c.MaxAge != 12*60*60 {
		t.Errorf("the preview's cookie is %+v", c)
	}
	// From now on it is one request, of any kind.
	for _, m := range []string{"GET", "POST", "DELETE", "OPTIONS", "PUT", "HEAD", "REPORT"} {
		resp := u.request(m, u.at("8080", "/"), strings.NewReader("hello"))
		if b := u.body(resp); resp.StatusCode != 200 || m != "HEAD" && !strings.Contains(b, `"method":"`+m+`"`) {
			t.Errorf("%s: %s %s", m, resp.Status, b)
		}
	}
	if n := w.machines.last(0).dialled.Load(); n != 1 {
		t.Errorf("%d connections to the program, want 1 that is used again", n)
	}
}

// TestPreviewLoopbackOf6: some programs listen on ::1 alone.
func TestPreviewLoopbackOf6(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	w.machines.last(0).listen(t, "[::1]:5173", echo())
	u.inside("5173")
}

func TestPreviewSecondSandbox(t *testing.T) {
	t.Parallel()
	lessons := testLessons()
	lessons[0].Hosts = 2
	w := newTown(t, nil, lessons...)
	u := w.surfer("localhost" + w.port)
	for i, m := range []*machine{w.machines.last(1), w.machines.last(0)} {
		m.listen(t, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "sandbox %d", i+1) }))
	}
	for port, want := range map[string]string{"80": "sandbox 1", "80-2": "sandbox 2", "80-3": "no sandbox number 3"} {
		if _, body, _ := u.visit(u.at(port, "/")); !strings.Contains(body, want) {
			t.Errorf("%s: %s; want %s", port, body, want)
		}
	}
}

// TestPreviewSites: where previews are found, for all ways to say it.
func TestPreviewSites(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		site, domain string
		main         string // where the lab is opened
		host         string // domain of its previews; "": there are none
		scheme       string
		frames       string
	}{
		{"", "", "localhost:1", "preview.localhost:1", "http", "http://*.preview.localhost:1"},
		{"", "", "127.0.0.1:1", "preview.localhost:1", "http", "http://*.preview.localhost:1"},
		{"", "", "[::1]:1", "preview.localhost:1", "http", "http://*.preview.localhost:1"},
		{"", "", "192.168.1.7:1", "", "http", ""},
		{"", "", "labs.example.org", "preview.labs.example.org", "http", "http://*.preview.labs.example.org"},
		{"", "", "https://labs.example.org", "preview.labs.example.org", "https", "https://*.preview.labs.example.org"},
		{"", "preview.labs.example.org", "https://labs.example.org:444", "preview.labs.example.org:444", "https", "https://*.preview.labs.example.org:444"},
		{"https://labs.example.org", "", "labs.example.org", "preview.labs.example.org", "https", "https://*.preview.labs.example.org http://*.preview.labs.example.org"},
		{"https://labs.example.org", "views.example.net", "https://labs.example.org", "views.example.net", "https", "https://*.views.example.net"},
		{"https://labs.example.org", "views.example.net:8443", "labs.example.org", "views.example.net:8443", "https", "https://*.views.example.net:8443"},
		{"https://labs.example.org", "example.org", "https://labs.example.org", "example.org", "https", "https://*.example.org"},
		{"http://192.168.1.7:80", "views.example.net", "192.168.1.7:80", "views.example.net:80", "http", "http://*.views.example.net:80"},
	} {
		w := newTown(t, func(cfg *web.Config) {
			cfg.Site, cfg.PreviewDomain = c.site, c.domain
			cfg.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		})
		u := w.surfer("localhost" + w.port)
		w.machines.last(0).listen(t, "127.0.0.1:80", echo())
		scheme, main := "http", c.main
		if rest, ok := strings.CutPrefix(c.main, "https://"); ok {
			scheme, main = "https", rest
		}
		token := u.cookies[u.main]["berth"].Value
		ask := func(proto, host, path string, cookies ...string) *http.Response {
			t.Helper()
			return u.request("GET", "http://nowhere"+path, nil, "Host", host, "X-Forwarded-Proto", proto, "Sec-Fetch-Mode", "navigate", "Cookie", strings.Join(cookies, "; "))
		}
		resp := ask(scheme, main, "/labs/images")
		resp.Body.Close()
		csp := resp.Header.Get("Content-Security-Policy")
		if want := strings.TrimSpace("frame-src 'self' " + c.frames); !strings.HasSuffix(csp, "; "+want) {
			t.Errorf("%+v: the page may hold frames of: %s", c, csp)
		}
		if c.host == "" {
			continue
		}
		host := "80-" + u.name() + "." + c.host
		tokenName := map[string]string{"http": "berth=", "https": "__Host-berth="}
		resp = ask(scheme, main, "/preview?to="+url.QueryEscape(c.scheme+"://"+host+"/x"), tokenName[scheme]+token)
		b := u.body(resp)
		to, err := url.Parse(resp.Header.Get("Location"))
		if err != nil || resp.StatusCode != 302 || to.Host != host || to.Scheme != c.scheme {
			t.Errorf("%+v: admitted to %s %v\n%s", c, to, err, b)
			continue
		}
		resp = ask(c.scheme, host, to.RequestURI())
		resp.Body.Close()
		if len(resp.Cookies()) != 1 {
			t.Errorf("%+v: entered: %s %v", c, resp.Status, resp.Header)
			continue
		}
		cookie := resp.Cookies()[0]
		if good := c.scheme == "https" || strings.Contains(host, "localhost"); cookie.Secure != good || cookie.Partitioned != good {
			t.Errorf("%+v: cookie %v", c, cookie)
		}
		resp = ask(c.scheme, host, "/", cookie.Name+"="+cookie.Value)
		if b := u.body(resp); resp.StatusCode != 200 || !strings.Contains(b, `"X-Forwarded-Proto":["`+c.scheme+`"]`) {
			t.Errorf("%+v: seen: %s %s", c, resp.Status, b)
		}
		// And without a cookie back to the pages.
		delete(u.cookies, "nowhere")
		resp = ask(c.scheme, host, "/y")
		resp.Body.Close()
		site := c.site
		if site == "" {
			site = scheme + "://" + main
			if ip, err := netip.ParseAddrPort(main); err == nil && ip.Addr().IsLoopback() {
				site = "http://localhost:1"
			}
		}
		if got := resp.Header.Get("Location"); got != site+"/preview?to="+url.QueryEscape(c.scheme+"://"+host+"/y") {
			t.Errorf("%+v: without a cookie to %s", c, got)
		}
	}
}

func TestPreviewURL(t *testing.T) {
	for _, c := range []struct{ site, domain, want string }{
		{"http://localhost:8080", "", "http://80-2-abc.preview.localhost:8080 http://PORT-abc.preview.localhost:8080"},
		{"https://labs.example.org", "", "https://80-2-abc.preview.labs.example.org https://PORT-abc.preview.labs.example.org"},
		{"https://labs.example.org", "views.net", "https://80-2-abc.views.net https://PORT-abc.views.net"},
		{"https://10.0.0.1", "", ""},
		{"labs.example.org", "", "error"},
		{"https://labs.example.org/berth", "", "error"},
		{"https://labs.example.org", "*.example.org", "error"},
		{"https://labs.example.org", "10.0.0.1", "error"},
	} {
		f, err := web.PreviewURL(c.site, c.domain)
		got := ""
		switch {
		case err != nil:
			got = "error"
		case f != nil:
			got = f("abc", 2, 80) + " " + f("abc", 1, 0)
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q (%v)", c.site, c.domain, got, c.want, err)
		}
	}
	d, _ := newDesk(t)
	for _, c := range []web.Config{
		{Desk: d, Site: "labs.example.org"},
		{Desk: d, PreviewDomain: "views.example.net"},
		{Desk: d, Site: "https://labs.example.org", PreviewDomain: "https://x"},
	} {
		if _, err := web.New(c); err == nil {
			t.Errorf("New accepted Site %q and PreviewDomain %q", c.Site, c.PreviewDomain)
		}
	}
}

// TestPreviewOriginsHaveNoPages: nothing of the server is served below the
// domain of previews.
func TestPreviewOriginsHaveNoPages(t *testing.T) {
	t.Parallel()
	w := newTown(t, func(c *web.Config) { c.Hosts = append(c.Hosts, "*.example.net", "preview.example.com") })
	u := w.surfer("localhost" + w.port)
	token := "berth=" + u.cookies[u.main]["berth"].Value
	for _, host := range []string{
		"preview.localhost", "x.preview.localhost", "x.y.preview.localhost", "PREVIEW.localhost.", "preview.labs.example.org", "a.preview.b.example.net",
		"0-" + u.name() + ".preview.localhost", "08-" + u.name() + ".preview.localhost", "65536-" + u.name() + ".preview.localhost",
		"80-1-" + u.name() + ".preview.localhost", "80-" + u.name()[1:] + ".preview.localhost", "80-" + u.name() + ".x.preview.localhost",
		"80-2-3-" + u.name() + ".preview.localhost", "-" + u.name() + ".preview.localhost", "80-" + u.name() + ".preview.127.0.0.1",
		"PORT-" + u.name() + ".preview.localhost", "80-" + u.name() + "-.preview.localhost", "x.preview.preview.example.com",
	} {
		for _, path := range []string{"/", "/labs/images", "/healthz", "/assets/app.js", "/preview?to=x", "/api/sessions/" + u.session, "/.berth/ready", "/.berth/enter"} {
			resp := u.request("GET", "http://nowhere"+path, nil, "Host", host, "Cookie", token, "Sec-Fetch-Mode", "navigate")
			if b := u.body(resp); resp.StatusCode != 404 || !strings.Contains(b, "no such preview") || strings.Contains(b, u.name()) {
				t.Errorf("%s%s: %s %.200s", host, path, resp.Status, b)
			}
		}
	}
	for _, path := range []string{"/healthz", "/assets/app.js", "/api/sessions/" + u.session, "/.berth/ready", "/.berth/other"} {
		resp := u.request("GET", u.at("80", path), nil, "Cookie", token)
		if b := u.body(resp); resp.StatusCode != 403 && resp.StatusCode != 404 || strings.Contains(b, "phase") {
			t.Errorf("%s: %s %.200s", path, resp.Status, b)
		}
	}
	// The names of other sites are no previews.
	resp := u.request("GET", "http://nowhere/", nil, "Host", "80-"+u.name()+".preview.evil.example")
	if b := u.body(resp); resp.StatusCode != 403 || !strings.Contains(b, "does not answer to the name") {
		t.Errorf("another site: %s", resp.Status)
	}
	resp = u.request("GET", "http://nowhere/healthz", nil, "Host", "preview.example.com")
	if resp.Body.Close(); resp.StatusCode != 200 {
		t.Errorf("a site whose name begins with preview: %s", resp.Status)
	}
}

// ticket gives the address that a browser is sent to with a ticket.
func (u *surfer) ticket(port string) string {
	u.t.Helper()
	resp := u.request("GET", "http://"+u.main+"/preview?to="+url.QueryEscape(u.at(port, "/")), nil)
	u.body(resp)
	to := resp.Header.Get("Location")
	if !strings.Contains(to, "ticket=") {
		u.t.Fatalf("no ticket: %s %s", resp.Status, to)
	}
	return to
}

func TestAttackOtherLearner(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	alice := w.surfer("localhost" + w.port)
	secret := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "secret of alice") })
	w.machines.last(0).listen(t, "127.0.0.1:80", secret)
	alice.inside("80")
	host := strings.TrimPrefix(alice.at("80", ""), "http://")
	mallory := w.surfer("localhost" + w.port)
	w.machines.last(0).listen(t, "127.0.0.1:80", secret)
	mallory.inside("80")

	refused := func(what string, resp *http.Response, body string, want int) {
		t.Helper()
		if resp.StatusCode != want || strings.Contains(body, "secret") || strings.Contains(body, "alice") || len(resp.Cookies()) > 0 {
			t.Errorf("%s: %s %v\n%s", what, resp.Status, resp.Cookies(), body)
		}
	}
	resp, body, _ := mallory.visit(alice.at("80", "/"))
	refused("as mallory", resp, body, 404)
	nobody := w.surfer("localhost" + w.port)
	delete(nobody.cookies, nobody.main)
	resp, body, _ = nobody.visit(alice.at("80", "/"))
	refused("as nobody", resp, body, 403)

	// Mallory's own cookie, renamed to alice's host, and others.
	own := mallory.cookies[strings.TrimPrefix(mallory.at("80", ""), "http://")]["berth-preview"].Value
	hers := alice.cookies[host]["berth-preview"].Value
	for what, value := range map[string]string{
		"mallory's cookie": own, "no cookie": "", "garbage": "AAAA", "a flipped bit": "A" + hers[1:], "half": hers[:len(hers)/2],
		"long": strings.Repeat("A", 600), "a ticket": regexp.MustCompile(`ticket=([^&]+)`).FindStringSubmatch(alice.ticket("80"))[1],
	} {
		for _, method := range []string{"GET", "POST"} {
			resp := mallory.request(method, alice.at("80", "/"), nil, "Cookie", "berth-preview="+value)
			refused(what, resp, mallory.body(resp), 403)
		}
	}
	// Alice's cookie of one port on another, and of her other lab.
	for _, port := range []string{"81", "80-2"} {
		resp := mallory.request("GET", alice.at(port, "/"), nil, "Cookie", "berth-preview="+hers)
		refused("port "+port, resp, mallory.body(resp), 403)
	}
	// A valid cookie among others that a page has put before it still counts.
	resp = mallory.request("GET", alice.at("80", "/"), nil, "Cookie", "berth-preview=tossed; berth-preview="+own+"; berth-preview="+hers)
	if b := mallory.body(resp); b != "secret of alice" {
		t.Errorf("among tossed cookies: %s", resp.Status)
	}
}

func TestAttackTickets(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	alice, mallory := w.surfer("localhost"+w.port), w.surfer("localhost"+w.port)
	bare := func(address string) (int, string, []*http.Cookie) {
		t.Helper()
		req, err := http.NewRequest("GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := mallory.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, mallory.body(resp), resp.Cookies()
	}
	good := alice.ticket("80")
	if strings.Contains(good, w.mustLearner(alice)) {
		t.Error("the ticket tells who looks")
	}
	q := good[strings.Index(good, "/.berth/"):]
	for what, address := range map[string]string{
		"another port":            alice.at("81", q),
		"another sandbox":         alice.at("80-2", q),
		"another learner":         mallory.at("80", q),
		"the same on another":     strings.Replace(alice.at("80", q), "localhost", "other.localhost", 1),
		"a flipped bit":           strings.Replace(good, "ticket=", "ticket=A", 1),
		"an empty one":            alice.at("80", "/.berth/enter?ticket="),
		"none":                    alice.at("80", "/.berth/enter"),
		"a cookie for one":        alice.at("80", "/.berth/enter?ticket="+"x"),
		"mallory's own":           alice.at("80", func() string { m := mallory.ticket("80"); return m[strings.Index(m, "/.berth/"):] }()),
		"a very long one":         alice.at("80", "/.berth/enter?ticket="+strings.Repeat("A", 5000)),
		"one among two":           alice.at("80", "/.berth/enter?ticket=x&"+strings.SplitN(q, "?", 2)[1]),
		"another port's domain":   strings.Replace(good, w.port, ":1", 1),
		"not where tickets go in": alice.at("80", "/.berth/enter/x?"+strings.SplitN(q, "?", 2)[1]),
	} {
		if code, body, cookies := bare(address); code != 403 && code != 404 || len(cookies) > 0 || strings.Contains(body, "ticket") {
			t.Errorf("%s: %d %v %s", what, code, cookies, body)
		}
	}
	// All of that did not use it up; using it does.
	if code, _, cookies := bare(good); code != 302 || len(cookies) != 1 {
		t.Errorf("the right way: %d %v", code, cookies)
	}
	if code, _, cookies := bare(good); code != 403 || len(cookies) > 0 {
		t.Errorf("replay: %d %v", code, cookies)
	}
}

func (w *town) mustLearner(u *surfer) string {
	w.t.Helper()
	s, err := w.learnerOf(u.session)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Learner
}

// TestTicketsAge: a ticket is good for a minute, a cookie for 12 hours.
func TestTicketsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{box: &box{id: "1"}, programs: map[string]string{}, conns: map[net.Conn]bool{}}
		s, err := web.New(web.Config{Desk: oneDesk{sb: m}, Bundle: testBundle})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		const host = "80-0123456789abcdef0123456789abcdef.preview.localhost"
		ask := func(host, path, cookie string) *http.Response {
			req := httptest.NewRequest("GET", "http://"+host+path, nil)
			req.Header.Set("Cookie", cookie)
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, req)
			return rec.Result()
		}
		ticket := func() string {
			u, err := url.Parse(ask("localhost", "/preview?to=http://"+host, "berth=x").Header.Get("Location"))
			if err != nil || u.Query().Get("ticket") == "" {
				t.Fatalf("no ticket: %v", err)
			}
			return u.RequestURI()
		}
		old := ticket()
		time.Sleep(61 * time.Second)
		if resp := ask(host, old, ""); resp.StatusCode != 403 {
			t.Errorf("a ticket of 61 seconds: %s", resp.Status)
		}
		fresh := ticket()
		time.Sleep(58 * time.Second)
		resp := ask(host, fresh, "")
		if len(resp.Cookies()) != 1 {
			t.Fatalf("a ticket of 58 seconds: %s", resp.Status)
		}
		cookie := "berth-preview=" + resp.Cookies()[0].Value
		for d, want := range map[time.Duration]int{0: 502} {
			time.Sleep(d)
			if resp := ask(host, "/", cookie); resp.StatusCode != want {
				t.Errorf("a new cookie: %s", resp.Status)
			}
		}
		time.Sleep(12*time.Hour - time.Minute)
		if resp := ask(host, "/", cookie); resp.StatusCode != 502 {
			t.Errorf("a cookie of nearly 12 hours: %s", resp.Status)
		}
		time.Sleep(2 * time.Minute)
		if resp := ask(host, "/", cookie); resp.StatusCode != 403 {
			t.Errorf("a cookie of 12 hours: %s", resp.Status)
		}
		// The last place that is asked is the desk.
		if n := s.Desk.(oneDesk); n.sb != m {
			t.Error("another desk")
		}
	})
}

// A oneDesk has one learner and one sandbox.
type oneDesk struct {
	web.Desk
	sb  labs.Sandbox
	err error
}

func (d oneDesk) LearnerByToken(context.Context, string) (labs.Learner, error) {
	return labs.Learner{ID: "alice"}, nil
}
func (d oneDesk) Lessons() []*labs.Lesson { return nil }
func (d oneDesk) Touch(string)            {}
func (d oneDesk) Preview(ctx context.Context, learner, _ string, _ int) (labs.Sandbox, string, error) {
	if d.sb == nil && d.err == nil {
		<-ctx.Done()
		return nil, "", ctx.Err()
	}
	return d.sb, "1", d.err
}

func TestAttackOpenRedirect(t *testing.T) {
	t.Parallel()
	w := newTown(t, func(c *web.Config) { c.Hosts = []string{"*"} })
	u := w.surfer("localhost" + w.port)
	w.machines.last(0).listen(t, "127.0.0.1:80", echo())
	label := "80-" + u.name()
	for _, to := range []string{
		"", "/", "//evil.example", "https://evil.example/", "http://" + label + ".preview.evil.example/", "http://" + label + ".preview." + u.main + ".evil.example/",
		"http://" + label + ".preview.localhost:1/", "https://" + label + ".preview." + u.main + "/", "javascript:alert(1)", "data:text/html,x",
		"http://evil.example@" + label + ".preview." + u.main + "/", "http://" + label + ".preview." + u.main + "@evil.example/",
		"http://" + u.main + "/", "http://preview." + u.main + "/", "http:" + label + ".preview." + u.main, "http:///" + label + ".preview." + u.main + "/",
		"http://evil.example\\@" + label + ".preview." + u.main + "/", "http://" + label + ".preview." + u.main + "\\.evil.example/", "http://" + label + "%2eevil.preview." + u.main + "/",
		"ftp://" + label + ".preview." + u.main + "/", "http://" + label + ".preview." + u.main + "/" + strings.Repeat("a", 9000),
		"http://" + label + ".preview.x.localhost" + w.port + "/",
	} {
		resp := u.request("GET", "http://"+u.main+"/preview?to="+url.QueryEscape(to), nil)
		if b := u.body(resp); resp.StatusCode != 404 || resp.Header.Get("Location") != "" {
			t.Errorf("to %q: %s %s %.100s", to, resp.Status, resp.Header.Get("Location"), b)
		}
	}
	here := u.at("80", "")
	for _, to := range []string{
		"//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example", "@evil.example", ".evil.example", ":80@evil.example/",
		"javascript:alert(1)", "", "/.berth/enter?to=/x", "/a\r\nSet-Cookie: x=y", "/a\tb", "/\x00", "/ü",
	} {
		enter := u.ticket("80")
		address := enter[:strings.Index(enter, "&to=")] + "&to=" + url.QueryEscape(to)
		for range 2 { // with the ticket, then without
			resp := u.request("GET", address, nil)
			u.body(resp)
			got, err := url.Parse(resp.Header.Get("Location"))
			if err != nil || resp.StatusCode != 302 || got.Scheme+"://"+got.Host != here || resp.Header.Get("X") != "" {
				t.Errorf("on to %q: %s %q %v", to, resp.Status, resp.Header.Get("Location"), err)
				break
			}
			address = got.String()
		}
	}
}

// TestAttackGuessing: names of previews cannot be tried out in numbers, and
// the answer tells nothing.
func TestAttackGuessing(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	other := w.surfer("localhost" + w.port)
	try := func(name string) (int, string) {
		resp := u.request("GET", "http://"+u.main+"/preview?to="+url.QueryEscape("http://80-"+name+".preview."+u.main), nil)
		return resp.StatusCode, u.body(resp)
	}
	code1, there := try(other.name())
	code2, not := try(strings.Repeat("0", 32))
	if code1 != 404 || code2 != 404 || there != not {
		t.Errorf("a preview of somebody else is told from one that is not there: %d %d\n%s\n%s", code1, code2, there, not)
	}
	limited := 0
	for range 100 {
		if code, _ := try(strings.Repeat("0", 32)); code == 429 {
			limited++
		}
	}
	if limited < 30 {
		t.Errorf("of 100 guesses %d were refused for being too many", limited)
	}
	// Without a cookie a preview's origin says the same about every name.
	for _, name := range []string{u.name(), other.name(), strings.Repeat("0", 32)} {
		for mode, want := range map[string]int{"navigate": 302, "cors": 403, "no-cors": 403, "websocket": 403} {
			req, err := http.NewRequest("GET", "http://80-"+name+".preview."+u.main+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Sec-Fetch-Mode", mode)
			resp, err := u.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if u.body(resp); resp.StatusCode != want {
				t.Errorf("%s %s: %s", name, mode, resp.Status)
			}
		}
	}
	if text := w.log.String(); strings.Contains(text, u.name()) || strings.Contains(text, "ticket=") {
		t.Error("the log has names or tickets of previews")
	}
}

// TestAttackRequestHeaders: a program in the sandbox learns nothing about
// Berth or the viewer, and is not lied to about where a request comes from.
func TestAttackRequestHeaders(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	w.machines.last(0).listen(t, "127.0.0.1:80", echo())
	u.inside("80")
	cookie := u.cookies[strings.TrimPrefix(u.at("80", ""), "http://")]["berth-preview"].Value
	resp := u.request("GET", u.at("80", "/"), nil,
		"Cookie", "a=1; berth=token;  b=2;BERTH=token", "Cookie", "__Host-berth=token; berth-preview="+cookie+"; c=\"3 4\"; berth-other=5; d",
		"X-Forwarded-For", "203.0.113.9", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "gopher", "X-Forwarded-Port", "1", "X-Forwarded-User", "root",
		"Forwarded", "for=203.0.113.9", "X-Real-Ip", "203.0.113.9", "True-Client-Ip", "203.0.113.9", "Cf-Connecting-Ip", "203.0.113.9", "Via", "1.1 inner",
		"Connection", "close, X-Own", "X-Own", "hop", "Proxy-Authorization", "Basic x", "Authorization", "Bearer own", "Range", "bytes=0-", "Accept-Encoding", "br")
	var got struct{ Header http.Header }
	if err := json.Unmarshal([]byte(u.body(resp)), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Cookie": `a=1; b=2; c="3 4"; berth-other=5; d`, "X-Forwarded-Host": strings.TrimPrefix(u.at("80", ""), "http://"), "X-Forwarded-Proto": "http",
		"Authorization": "Bearer own", "Range": "bytes=0-", "Accept-Encoding": "br", "User-Agent": "Go-http-client/1.1",
	}
	for name, values := range got.Header {
		if v := strings.Join(values, "|"); v != want[name] {
			t.Errorf("%s: %s", name, v)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("these did not arrive: %v", want)
	}
}

// TestAttackAnswerHeaders: a program in the sandbox cannot reach further than
// its own origin.
func TestAttackAnswerHeaders(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	w.machines.last(0).listen(t, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Set-Cookie"] = []string{
			"berth=mallory; Path=/", "berth=mallory; Domain=localhost", " Berth =x", "__Host-berth=x; Secure; Path=/", "berth-preview=x", "BERTH-PREVIEW=y",
			"own=1; Path=/a; domain=preview.localhost; HttpOnly; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "other=a=b;c ;DOMAIN = .localhost;Secure", "plain",
		}
		for _, name := range []string{
			"Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "Nel", "Report-To", "X-Accel-Redirect", "X-Accel-Buffering", "X-Sendfile",
			"X-Sendfile-Type", "X-Lighttpd-Send-File", "Service-Worker-Allowed",
		} {
			h.Set(name, "evil")
		}
		h.Set("Content-Security-Policy", "default-src 'self'")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Server", "own")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	}))
	resp, _, _ := u.visit(u.at("80", "/"))
	want := map[string]string{
		"Set-Cookie":              "own=1; Path=/a; HttpOnly; Expires=Wed, 21 Oct 2026 07:28:00 GMT|other=a=b;c ;Secure|plain",
		"Content-Security-Policy": "default-src 'self'", "X-Frame-Options": "DENY", "Access-Control-Allow-Origin": "*", "Server": "own", "Content-Length": "0",
	}
	for name, values := range resp.Header {
		if v := strings.Join(values, "|"); v != want[name] && name != "Date" {
			t.Errorf("%s: %s", name, v)
		}
		delete(want, name)
	}
	if len(want) > 0 || resp.StatusCode != http.StatusTeapot {
		t.Errorf("%s: these did not arrive: %v", resp.Status, want)
	}
}

// TestAttackOtherOrigins: pages of others do not reach a program through its
// viewer's browser, and no page stays there when the sandbox is gone.
func TestAttackOtherOrigins(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	w.machines.last(0).listen(t, "127.0.0.1:80", echo())
	u.inside("80")
	for origin, want := range map[string]int{
		"": 200, u.at("80", ""): 200, u.at("3000", ""): 200, strings.ToUpper(u.at("80-2", "")): 200,
		"null": 403, "https://evil.example": 403, "http://" + u.main: 403, "http://80-" + strings.Repeat("0", 32) + ".preview." + u.main: 403,
		u.at("80", ".evil.example"): 403, strings.Replace(u.at("80", ""), "preview.", "", 1): 403,
	} {
		headers := []string{"Sec-Fetch-Mode", "cors", "Origin", origin}
		if origin == "" {
			headers = headers[:2]
		}
		resp := u.request("POST", u.at("80", "/"), nil, headers...)
		if b := u.body(resp); resp.StatusCode != want {
			t.Errorf("from %q: %s %s", origin, resp.Status, b)
		}
	}
	resp := u.request("GET", u.at("80", "/worker.js"), nil, "Service-Worker", "script", "Sec-Fetch-Mode", "same-origin")
	if b := u.body(resp); resp.StatusCode != 403 || !strings.Contains(b, "Service workers are not allowed") {
		t.Errorf("a service worker: %s %s", resp.Status, b)
	}
	for _, method := range []string{"TRACE", "CONNECT"} {
		if resp, err := u.try(method, u.at("80", "/"), nil); err == nil {
			if u.body(resp); resp.StatusCode != 405 {
				t.Errorf("%s: %s", method, resp.Status)
			}
		}
	}
}

func TestPreviewWaits(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	m := w.machines.last(0)
	resp, body, _ := u.visit(u.at("80", "/"))
	if resp.StatusCode != 502 || !strings.Contains(body, "Nothing listens on port 80 in your sandbox yet. Start it there.") || !strings.Contains(body, "/.berth/ready") {
		t.Fatalf("%s\n%s", resp.Status, body)
	}
	script := regexp.MustCompile(`(?s)<script type="module">(.*)</script>`).FindStringSubmatch(body)
	if sum := sha256.Sum256([]byte(script[1])); !strings.Contains(resp.Header.Get("Content-Security-Policy"), base64.StdEncoding.EncodeToString(sum[:])) {
		t.Errorf("the page may not run its script: %s", resp.Header.Get("Content-Security-Policy"))
	}
	resp = u.request("POST", u.at("80", "/"), nil)
	if b := u.body(resp); resp.StatusCode != 502 || !strings.HasPrefix(b, "Nothing listens") {
		t.Errorf("for a program: %s %s", resp.Status, b)
	}
	ready := make(chan int, 1)
	go func() {
		resp, err := u.client.Do(u.build("GET", u.at("80", "/.berth/ready")))
		if err != nil {
			ready <- 0
			return
		}
		resp.Body.Close()
		ready <- resp.StatusCode
	}()
	select {
	case code := <-ready:
		t.Fatalf("ready before something listens: %d", code)
	case <-time.After(200 * time.Millisecond):
	}
	m.listen(t, "127.0.0.1:80", echo())
	if code := <-ready; code != 204 {
		t.Errorf("ready: %d", code)
	}
	if m.dialled.Load() > 0 {
		t.Error("looking whether a port is listened on has connected to it")
	}
	u.inside("80")

	// Programs that are no web servers.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	go func() {
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("220 mail.example ESMTP\r\n"))
			c.Close()
		}
	}()
	m.put("127.0.0.1:25", mute.Addr().String())
	if resp, body, _ := u.visit(u.at("25", "/")); resp.StatusCode != 502 || !strings.Contains(body, "does not speak HTTP") {
		t.Errorf("no HTTP: %s %s", resp.Status, body)
	}

	// The sandbox ends.
	u.must("POST", "/api/sessions/"+u.session+"/end")
	resp, body, _ = u.visit(u.at("80", "/"))
	if resp.StatusCode != 410 || !strings.Contains(body, "This sandbox has ended") || strings.Contains(body, "/.berth/ready") {
		t.Errorf("it has ended: %s %s", resp.Status, body)
	}
	resp, body, _ = u.visit("http://" + u.main + "/preview?to=" + url.QueryEscape(u.at("81", "/")))
	if resp.StatusCode != 410 || !strings.Contains(body, "What is a container image?") || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "frame-ancestors 'self'") {
		t.Errorf("a preview of a lab that is not open: %s %s", resp.Status, body)
	}
}

// build gives a request with the cookies of its host.
func (u *surfer) build(method, address string) *http.Request {
	req, err := http.NewRequest(method, address, nil)
	if err != nil {
		u.t.Fatal(err)
	}
	for _, c := range u.cookies[req.URL.Host] {
		req.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	}
	return req
}

// TestPreviewErrors: what is said when the desk has no sandbox to show.
func TestPreviewErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		desk oneDesk
		code int
		say  string
		wait bool
	}{
		{oneDesk{err: labs.ErrNotFound}, 410, "This sandbox has ended", false},
		{oneDesk{err: labs.ErrGone}, 410, "This sandbox has ended", false},
		{oneDesk{err: &labs.Problem{Kind: labs.ErrNotFound, Say: "no sandbox number 2"}}, 404, "no sandbox number 2", false},
		{oneDesk{err: labs.ErrBusy}, 429, "no room", false},
		{oneDesk{err: errors.New("disk /dev/sda7")}, 500, "Something went wrong", false},
		{oneDesk{}, 503, "The sandbox is starting", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := &machine{box: &box{id: "1"}, programs: map[string]string{}, conns: map[net.Conn]bool{}}
			d := &swapDesk{Desk: oneDesk{sb: m}}
			s, err := web.New(web.Config{Desk: d, Bundle: testBundle})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			const host = "80-2-0123456789abcdef0123456789abcdef.preview.localhost"
			ask := func(host, path, cookie string) (*http.Response, string) {
				req := httptest.NewRequest("GET", "http://"+host+path, nil)
				req.Header.Set("Cookie", cookie)
				req.Header.Set("Sec-Fetch-Mode", "navigate")
				rec := httptest.NewRecorder()
				s.ServeHTTP(rec, req)
				return rec.Result(), rec.Body.String()
			}
			resp, _ := ask("localhost", "/preview?to=http://"+host, "berth=x")
			u, err := url.Parse(resp.Header.Get("Location"))
			if err != nil {
				t.Fatal(err)
			}
			resp, _ = ask(host, u.RequestURI(), "")
			cookie := "berth-preview=" + resp.Cookies()[0].Value
			d.Desk = c.desk
			resp, body := ask(host, "/", cookie)
			if resp.StatusCode != c.code || !strings.Contains(body, c.say) || strings.Contains(body, "sda7") || strings.Contains(body, "loads again") != c.wait {
				t.Errorf("%+v: %s\n%s", c, resp.Status, body)
			}
		})
	}
}

type swapDesk struct{ web.Desk }

// TestPreviewSlowProgram: a program has a minute to answer.
func TestPreviewSlowProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		go io.Copy(io.Discard, there)
		s, err := web.New(web.Config{Desk: oneDesk{sb: &pipeBox{box: &box{id: "1"}, conn: here}}, Bundle: testBundle})
		if err != nil {
			t.Fatal(err)
		}
		const host = "80-0123456789abcdef0123456789abcdef.preview.localhost"
		ask := func(host, path, cookie string) *http.Response {
			req := httptest.NewRequest("GET", "http://"+host+path, nil)
			req.Header.Set("Cookie", cookie)
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, req)
			return rec.Result()
		}
		u, err := url.Parse(ask("localhost", "/preview?to=http://"+host, "berth=x").Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		cookie := "berth-preview=" + ask(host, u.RequestURI(), "").Cookies()[0].Value
		start := time.Now()
		resp := ask(host, "/", cookie)
		b, err := io.ReadAll(resp.Body)
		if took := time.Since(start); err != nil || resp.StatusCode != 504 || took != time.Minute || !strings.Contains(string(b), "did not answer in time") {
			t.Errorf("%s after %v: %s %v", resp.Status, took, b, err)
		}
		s.Close()
	})
}

type pipeBox struct {
	*box
	conn net.Conn
}

func (p *pipeBox) Dial(context.Context, string, string) (net.Conn, error) { return p.conn, nil }

// TestPreviewStreams: what a program sends arrives when it sends it, for as
// long as it likes.
func TestPreviewStreams(t *testing.T) {
	t.Parallel()
	w := newHurriedTown(t, time.Second, nil)
	u := w.surfer("localhost" + w.port)
	lines := map[string]chan string{"/": make(chan string), "/events": make(chan string), "/plain": make(chan string)}
	close(lines["/"])
	w.machines.last(0).listen(t, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" { // the other has no length, but no type that says so
			w.Header().Set("Content-Type", "text/event-stream")
		}
		http.NewResponseController(w).Flush()
		for text := range lines[r.URL.Path] {
			io.WriteString(w, text)
			http.NewResponseController(w).Flush()
		}
	}))
	u.inside("80")
	for _, path := range []string{"/events", "/plain"} {
		resp := u.request("GET", u.at("80", path), nil)
		in := bufio.NewReader(resp.Body)
		for i := range 4 {
			if i == 3 {
				<-time.After(1500 * time.Millisecond) // longer than the server's own limit
			}
			lines[path] <- fmt.Sprintf("data: %d\n", i)
			if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("%s: %q %v", path, line, err)
			}
		}
		close(lines[path])
		if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
			t.Errorf("%s: the end: %q %v", path, rest, err)
		}
		resp.Body.Close()
	}
}

// pattern is a stream of bytes that differ.
type pattern struct{ at, size int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at >= p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.size-p.at))
	for i := range b[:n] {
		b[i] = byte((p.at + int64(i)) * 7 >> 3)
	}
	p.at += int64(n)
	return n, nil
}

func TestPreviewLargeBodies(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	const size = 64 << 20
	w.machines.last(0).listen(t, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case "GET":
			if r.URL.Path == "/large" {
				io.Copy(w, &pattern{size: size})
			}
		case "PUT":
			h := sha256.New()
			n, err := io.Copy(h, r.Body)
			fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
		}
	}))
	u.inside("80")
	h := sha256.New()
	io.Copy(h, &pattern{size: size})
	sum := fmt.Sprintf("%x", h.Sum(nil))

	resp := u.request("GET", u.at("80", "/large"), nil)
	h.Reset()
	n, err := io.Copy(h, resp.Body)
	resp.Body.Close()
	if err != nil || n != size || fmt.Sprintf("%x", h.Sum(nil)) != sum {
		t.Errorf("downloaded %d bytes: %v", n, err)
	}
	resp = u.request("PUT", u.at("80", "/"), &pattern{size: size})
	if got := u.body(resp); got != fmt.Sprintf("%d %s <nil>", size, sum) {
		t.Errorf("uploaded: %s", got)
	}
}

// TestPreviewBackPressure: what a browser does not take is not gathered.
func TestPreviewBackPressure(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	var sent atomic.Int64
	over := make(chan struct{})
	w.machines.last(0).listen(t, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/flood" {
			return
		}
		defer close(over)
		for b := make([]byte, 64<<10); ; sent.Add(int64(len(b))) {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}))
	u.inside("80")
	resp := u.request("GET", u.at("80", "/flood"), nil)
	last, same := int64(-1), 0
	for deadline := time.Now().Add(20 * time.Second); same < 10; time.Sleep(50 * time.Millisecond) { // until it stands still
		if now := sent.Load(); now == last {
			same++
		} else {
			last, same = now, 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d bytes it still sends", last)
		}
	}
	if last > 64<<20 {
		t.Errorf("%d bytes were taken from the program for a browser that reads nothing", last)
	}
	t.Logf("%d bytes were under way", last)
	resp.Body.Close()
	select {
	case <-over:
	case <-time.After(10 * time.Second):
		t.Error("the program was not told that the browser has gone")
	}
}

func TestPreviewWebSocket(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	gone := make(chan struct{}, 4)
	app := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }, Subprotocols: []string{"vite-hmr"}}
	w.machines.last(0).listen(t, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !websocket.IsWebSocketUpgrade(r) {
			return
		}
		conn, err := app.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		defer func() { gone <- struct{}{} }()
		for {
			kind, b, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, bytes.ToUpper(b)) != nil {
				return
			}
		}
	}))
	u.inside("80")
	host := strings.TrimPrefix(u.at("80", ""), "http://")
	connect := func(origin string) (*websocket.Conn, *http.Response, error) {
		d := websocket.Dialer{NetDialContext: u.dial, HandshakeTimeout: 10 * time.Second, Subprotocols: []string{"vite-hmr"}}
		return d.Dial("ws://"+host+"/", http.Header{"Origin": {origin}, "Cookie": {"berth-preview=" + u.cookies[host]["berth-preview"].Value}})
	}
	if _, resp, err := connect("https://evil.example"); err == nil || resp == nil || resp.StatusCode != 403 {
		t.Errorf("from another site: %v", err)
	}
	talk := func() *websocket.Conn {
		conn, _, err := connect("http://" + host)
		if err != nil {
			t.Fatal(err)
		}
		if conn.Subprotocol() != "vite-hmr" {
			t.Errorf("subprotocol %q", conn.Subprotocol())
		}
		for _, text := range []string{"hello", strings.Repeat("long ", 100_000)} {
			if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if _, b, err := conn.ReadMessage(); err != nil || string(b) != strings.ToUpper(text) {
				t.Fatalf("%.20q %v", b, err)
			}
		}
		return conn
	}
	ended := func(what string) {
		t.Helper()
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the program was not told", what)
		}
	}
	talk().Close()
	ended("the browser leaves")
	conn := talk()
	u.must("POST", "/api/sessions/"+u.session+"/end")
	if _, _, err := conn.ReadMessage(); err == nil {
		t.Error("the sandbox ended, but not the WebSocket")
	}
	conn.Close()
	ended("the sandbox ends")
	u.session = u.open("images")
	w.machines.last(0).put("127.0.0.1:80", func() string {
		ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, err := app.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			defer conn.Close()
			for b := make([]byte, 64<<10); conn.WriteMessage(websocket.BinaryMessage, b) == nil; {
			}
			gone <- struct{}{}
		}))
		t.Cleanup(ts.Close)
		return ts.Listener.Addr().String()
	}())
	conn, _, err := connect("http://" + host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // it takes nothing of the flood
	start := time.Now()
	w.server.Close()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	ended("the server closes")
}

// TestPreviewCloses: the server closes although a browser takes nothing.
func TestPreviewCloses(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	w.machines.last(0).listen(t, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/flood" {
			for b := make([]byte, 64<<10); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}
		if r.URL.Path == "/quiet" {
			w.Header().Set("Content-Type", "text/event-stream")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}))
	u.inside("80")
	for _, path := range []string{"/flood", "/quiet"} {
		resp := u.request("GET", u.at("80", path), nil)
		defer resp.Body.Close()
	}
	start := time.Now()
	w.server.Close()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if resp, err := u.try("GET", u.at("80", "/"), nil); err == nil {
		if u.body(resp); resp.StatusCode != 503 {
			t.Errorf("after Close: %s", resp.Status)
		}
	}
}

// TestPreviewConnections: connections to programs are used again, are few, and
// end with the sandbox.
func TestPreviewConnections(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	m := w.machines.last(0)
	var busy, most atomic.Int32
	hold := make(chan struct{})
	m.listen(t, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hold" {
			return
		}
		for n := busy.Add(1); ; {
			if o := most.Load(); n <= o || most.CompareAndSwap(o, n) {
				break
			}
		}
		defer busy.Add(-1)
		<-hold
	}))
	u.inside("80")
	address, cookies := u.at("80", "/hold"), u.cookies[strings.TrimPrefix(u.at("80", ""), "http://")]
	ask := func() int {
		req, err := http.NewRequest("GET", address, nil)
		if err != nil {
			return 0
		}
		for _, c := range cookies {
			req.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
		}
		resp, err := u.client.Do(req)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	codes := make(chan int)
	for range 400 {
		go func() { codes <- ask() }()
	}
	got := map[int]int{}
	for range 400 - 64 - 256 {
		got[<-codes]++
	}
	if got[429] != 400-64-256 {
		t.Errorf("refused at once: %v", got)
	}
	deadline := time.Now().Add(20 * time.Second)
	for busy.Load() < 64 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	close(hold)
	for range 64 + 256 {
		got[<-codes]++
	}
	if got[200] != 64+256 || most.Load() != 64 {
		t.Errorf("%d at a time, answers %v", most.Load(), got)
	}
	for m.open() > 16 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := m.open(); n < 1 || n > 16 {
		t.Errorf("%d connections are kept", n)
	}
	m.mu.Lock()
	for c := range m.conns {
		c.Close()
	}
	m.mu.Unlock()
	for m.open() > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := m.open(); n > 0 {
		t.Errorf("%d connections are kept to a sandbox that has ended", n)
	}
}

func TestAttackLargeAnswerHeader(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	u := w.surfer("localhost" + w.port)
	w.machines.last(0).listen(t, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := range 100 {
			w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 10_000))
		}
	}))
	if resp, body, _ := u.visit(u.at("80", "/")); resp.StatusCode != 502 {
		t.Errorf("%s %.300s", resp.Status, body)
	}
}

// TestAttackTokenTossing: over TLS a page of a preview cannot slip its viewer
// another learner's token, because the cookie has a name that only the site's
// own host can set.
func TestAttackTokenTossing(t *testing.T) {
	t.Parallel()
	w := newTown(t, func(c *web.Config) { c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	u := w.surfer("localhost" + w.port)
	tossed := u.cookies[u.main]["berth"].Value
	resp := u.request("GET", "http://"+u.main+"/api/sessions/"+u.session, nil, "X-Forwarded-Proto", "https", "Cookie", "berth="+tossed)
	if u.body(resp); resp.StatusCode != 404 {
		t.Errorf("a token under the name that every page of the domain can set: %s", resp.Status)
	}
	resp = u.request("POST", "http://"+u.main+"/api/labs/images/session", nil, "X-Forwarded-Proto", "https", "X-Berth", "1", "Cookie", "berth="+tossed)
	u.body(resp)
	if c := resp.Cookies(); len(c) != 1 || c[0].Name != "__Host-berth" || !c[0].Secure || c[0].Path != "/" || c[0].Domain != "" || c[0].Value == tossed {
		t.Errorf("the cookie over TLS: %v", c)
	}
}

func BenchmarkPreview(b *testing.B) {
	for _, c := range []struct {
		name string
		size int64
	}{{"small", 100}, {"16MiB", 16 << 20}} {
		w := newTown(b, nil)
		u := w.surfer("localhost" + w.port)
		direct := w.machines.last(0).listen(b, "127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/file" {
				w.Header().Set("Content-Length", fmt.Sprint(c.size))
				chunk := make([]byte, 64<<10)
				for left := c.size; left > 0; left -= int64(len(chunk)) {
					w.Write(chunk[:min(left, int64(len(chunk)))])
				}
			}
		}))
		u.inside("80")
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		run := func(b *testing.B, client *http.Client, req *http.Request) {
			b.SetBytes(c.size)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || n != c.size {
					b.Fatal(n, err)
				}
			}
		}
		b.Run(c.name+"/direct", func(b *testing.B) {
			req, err := http.NewRequest("GET", direct.URL+"/file", nil)
			if err != nil {
				b.Fatal(err)
			}
			run(b, &http.Client{Transport: tr}, req)
		})
		b.Run(c.name+"/preview", func(b *testing.B) { run(b, u.client, u.build("GET", u.at("80", "/file"))) })
	}
}
