package web

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"berth/labs"
)

// How a browser gets into a preview. A preview's origin never sees the cookie
// of the main site; it has one of its own, which is given for a ticket:
//
//	preview  GET /path                        no cookie: 302 to
//	main     GET /preview?to=ADDRESS          asks for the main cookie: 302 to
//	preview  GET /.berth/enter?ticket=…&to=…  sets the preview's cookie: 302 to
//	preview  GET /.berth/enter?to=…           sees that the browser kept it: 302 to
//	preview  GET /path
//
// Tickets and cookies are sealed with a key that is made at the start, for the
// one origin that they are given to. They say who somebody is; whether that
// person may see the sandbox is asked of the desk at every request.

const (
	ticketLife  = 60 * time.Second
	previewLife = 12 * time.Hour // of a preview's cookie
	maxPass     = 512            // bytes of a sealed pass
	maxUsed     = 1 << 16        // used tickets that are remembered
	maxTo       = 4096           // bytes of an address to go on to

	previewCookie = "berth-preview"
	enterPath     = "/.berth/enter"
)

// A pass says who may enter a preview, and until when.
type pass struct {
	learner string
	until   time.Time // whole seconds
	id      [16]byte  // of this pass alone
}

// A sealer makes and opens passes. Methods may be called concurrently.
type sealer struct {
	aead cipher.AEAD
	now  func() time.Time

	mu   sync.Mutex
	used map[[16]byte]time.Time // tickets until they are over
}

func newSealer() (*sealer, error) {
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("make the key of previews: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make the key of previews: %w", err)
	}
	return &sealer{aead: aead, now: time.Now, used: make(map[[16]byte]time.Time)}, nil
}

// seal gives a pass for a learner. It opens only as the same kind, "ticket" or
// "cookie", and on the same host. What is in it cannot be read: a page in the
// preview must not learn who looks at it.
func (s *sealer) seal(kind, host, learner string, life time.Duration) string {
	var id [16]byte
	rand.Read(id[:])
	b := binary.BigEndian.AppendUint64(nil, uint64(s.now().Add(life).Unix()))
	b = append(append(b, id[:]...), learner...)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, b, []byte(kind+"\x00"+host)))
}

var errPass = errors.New("no valid pass")

func (s *sealer) open(kind, host, sealed string) (pass, error) {
	if len(sealed) > maxPass {
		return pass{}, errPass
	}
	b, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return pass{}, errPass
	}
	if b, err = s.aead.Open(nil, nil, b, []byte(kind+"\x00"+host)); err != nil || len(b) <= 24 {
		return pass{}, errPass
	}
	p := pass{until: time.Unix(int64(binary.BigEndian.Uint64(b)), 0), id: [16]byte(b[8:24]), learner: string(b[24:])}
	if !s.now().Before(p.until) {
		return pass{}, errPass
	}
	return p, nil
}

// redeem opens a ticket, once.
func (s *sealer) redeem(host, ticket string) (pass, error) {
	p, err := s.open("ticket", host, ticket)
	if err != nil {
		return p, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, was := s.used[p.id]; was {
		return pass{}, errPass
	}
	if len(s.used) >= 1024 {
		for id, until := range s.used {
			if !s.now().Before(until) {
				delete(s.used, id)
			}
		}
	}
	if len(s.used) >= maxUsed {
		return pass{}, fmt.Errorf("remember a used ticket: %w", labs.ErrBusy)
	}
	s.used[p.id] = p.until
	return p, nil
}

// admit gives a browser that may see a preview a ticket to it.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	// The lesson page shows previews in frames, and what goes wrong with them.
	h.Set("Content-Security-Policy", strings.Replace(pagePolicy, "frame-ancestors 'none'", "frame-ancestors 'self'", 1))
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	p, to, err := s.target(r)
	if err != nil {
		return err
	}
	l, err := s.learner(r)
	if err != nil {
		return err
	}
	if l.ID == "" {
		return &refusal{http.StatusForbidden, "A preview can be seen only in the browser that opened its lab. Open the lab here, then the preview from its page."}
	}
	if !s.admits.allow(l.ID) {
		return errTooOften
	}
	if err := s.mayEnter(r, l.ID, p); err != nil {
		return err
	}
	q := url.Values{"ticket": {s.sealer.seal("ticket", to.Host, l.ID, ticketLife)}, "to": {onward(to)}}
	w.Header().Set("Location", origin{to.Scheme, to.Host}.String()+enterPath+"?"+q.Encode())
	w.WriteHeader(http.StatusFound)
	return nil
}

// target reads which preview is asked for. Nothing but an address of a preview
// of this very site will do.
func (s *Server) target(r *http.Request) (preview, *url.URL, error) {
	nowhere := notFound("There is no such preview.")
	text := r.URL.Query().Get("to")
	if len(text) > 2*maxTo {
		return preview{}, nil, nowhere
	}
	to, err := url.Parse(text)
	if err != nil || to.Opaque != "" || to.User != nil {
		return preview{}, nil, nowhere
	}
	to.Host = strings.ToLower(to.Host)
	label, domain, _ := strings.Cut(to.Host, ".")
	p, ok := parsePreview(label)
	if !ok {
		return preview{}, nil, nowhere
	}
	for _, d := range s.previewDomains(r) {
		if d == (origin{to.Scheme, domain}) {
			return p, to, nil
		}
	}
	return preview{}, nil, nowhere
}

// mayEnter asks the desk whether a learner may see a preview. A sandbox that
// is still being started is no obstacle.
func (s *Server) mayEnter(r *http.Request, learner string, p preview) error {
	_, _, err := s.look(r.Context(), learner, p)
	switch said := new(labs.Problem); {
	case err == nil || errors.Is(err, errStarting):
		return nil
	case errors.As(err, &said) || !errors.Is(err, labs.ErrNotFound) && !errors.Is(err, labs.ErrGone):
		return err
	}
	for _, l := range s.Desk.Lessons() {
		if labs.PreviewName(learner, l.ID) == p.name {
			return &labs.Problem{Kind: labs.ErrGone, Say: "The lab “" + l.Title + "” is not open now, so that there is nothing to show. Open it again to get a new sandbox."}
		}
	}
	return &labs.Problem{Kind: labs.ErrNotFound, Say: "There is no such preview.", Cause: err}
}

// onward gives the path, query and fragment of an address, for the parameter
// "to".
func onward(u *url.URL) string {
	to := u.RequestURI()
	if u.Fragment != "" {
		to += "#" + u.EscapedFragment()
	}
	if !isOnward(to) {
		return "/"
	}
	return to
}

// isOnward reports whether to can follow the host in an address and stays on
// it. Our own paths are no place to go on to.
func isOnward(to string) bool {
	return strings.HasPrefix(to, "/") && len(to) <= maxTo && !strings.HasPrefix(to, ownPaths) &&
		!strings.ContainsFunc(to, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '\\' || c > 0x7e })
}

// enter takes a ticket and gives the preview's cookie for it.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, main origin) error {
	q := r.URL.Query()
	to := q.Get("to")
	if !isOnward(to) {
		to = "/"
	}
	host := strings.ToLower(r.Host)
	here := origin{main.scheme, host}.String()
	goOn := func(where string) error {
		w.Header().Set("Location", here+where)
		w.WriteHeader(http.StatusFound)
		return nil
	}
	_, known := s.entered(r)
	if !q.Has("ticket") {
		if known {
			return goOn(to)
		}
		return &refusal{http.StatusForbidden, "Your browser does not keep what lets you into this preview. Open it in a tab of its own, or allow its cookies."}
	}
	ps, err := s.sealer.redeem(host, q.Get("ticket"))
	if err != nil && known {
		return goOn(to) // it went back in its history
	}
	if errors.Is(err, labs.ErrBusy) {
		return err
	}
	if err != nil {
		return &refusal{http.StatusForbidden, "This way into the preview is used up. Reload the preview, or open it again from its lab's page."}
	}
	c := &http.Cookie{
		Name: previewCookie, Value: s.sealer.seal("cookie", host, ps.learner, previewLife),
		Path: "/", MaxAge: int(previewLife.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	// In a frame of the lesson page the preview may be of another site: it is
	// on localhost, where browsers take Secure cookies without TLS.
	if main.scheme == "https" || isLocalhost(host) {
		c.Secure, c.SameSite, c.Partitioned = true, http.SameSiteNoneMode, true
	}
	http.SetCookie(w, c)
	return goOn(enterPath + "?" + url.Values{"to": {to}}.Encode())
}

// entered gives the learner whose browser asks, as the preview's cookie says.
// Other pages of the same domain can add cookies of the same name, but none
// that opens here.
func (s *Server) entered(r *http.Request) (learner string, ok bool) {
	host := strings.ToLower(r.Host)
	for _, c := range r.CookiesNamed(previewCookie) {
		if p, err := s.sealer.open("cookie", host, c.Value); err == nil {
			return p.learner, true
		}
	}
	return "", false
}
