// Package mirror is the registry inside the server. The engines in the
// sandboxes use it as their mirror of Docker Hub: what Docker Hub has is
// fetched once and kept, what an operator put in stock is there without a
// network, and where an image can be had in no way a stand-in takes its place,
// which the page says.
//
// Clients are learners' machines and not trusted. They may only read; names
// and digests are matched as a whole before use; the only hosts this server
// ever connects to for them are the registries that it was opened with and
// those that these send it on to; requests, downloads and what is kept are
// bounded.
package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"berth/labs"
)

var errClosed = errors.New("the mirror is closed")

const (
	maxDownloads = 16   // from upstream at the same time
	maxRefusals  = 4096 // references that are remembered as not to be had
	maxEntries   = 4096 // references that are remembered as fetched
	askTimeout   = 30 * time.Second

	prefetchImages = 3 // at the same time
	prefetchBlobs  = 3 // of one image
)

// Config is what a Mirror works with. Only Dir is needed.
type Config struct {
	Dir string // of its own, made when not there; several processes may share it

	// Upstream is the URL of the registry that docker.io names are fetched
	// from, http or https: Docker Hub when empty, nothing when "none".
	// Registries gives those of others, by the name in references: "ghcr.io".
	Upstream   string
	Registries map[string]string

	// StockFirst gives the stock precedence over upstream.
	StockFirst bool

	CacheSize int64         // bytes of fetched content that are kept, 10 GiB by default; stock is not counted
	MaxBlob   int64         // bytes of the biggest layer accepted from upstream, 4 GiB by default
	Fresh     time.Duration // how long a tag is believed without asking again, an hour by default
	Retry     time.Duration // how long an upstream is left alone after it could not be reached, a minute by default
	Patience  time.Duration // to connect to upstream, 3 s by default; three times as long for an answer to begin

	Log *slog.Logger
	Now func() time.Time
}

// A Mirror is a labs.Mirror and an http.Handler that speaks the registry
// protocol. Methods may be called concurrently. What it keeps is there after a
// restart, and after the end of the process at any moment. Close it.
type Mirror struct {
	Config
	log       *slog.Logger
	content   *content
	entries   *entries
	upstreams map[string]*upstream // by registry name
	clients   clients
	asking    singleflight.Group
	slots     chan struct{} // one for each download

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	life  sync.Mutex // held to start a goroutine, and to close
	owned sync.WaitGroup

	mu        sync.Mutex
	downloads map[string]*download // under way, by digest
	refusals  map[string]refusal   // by reference: upstream does not have it
}

// A refusal is what upstream said of a reference, until it is asked again.
type refusal struct {
	err   error
	until time.Time
}

var _ labs.Mirror = (*Mirror)(nil)

// Open opens the mirror that is kept in c.Dir and begins to find out whether
// its upstream can be reached.
func Open(c Config) (*Mirror, error) {
	m, err := open(c)
	if err != nil {
		return nil, err
	}
	for _, u := range m.upstreams {
		m.spawn(func(ctx context.Context) { _ = u.reach(ctx, true) }) // remembers the outcome
	}
	return m, nil
}

func open(c Config) (*Mirror, error) {
	c.Upstream = cmp.Or(c.Upstream, "https://"+name.DefaultRegistry)
	c.CacheSize = cmp.Or(c.CacheSize, 10<<30)
	c.MaxBlob = cmp.Or(c.MaxBlob, 4<<30)
	c.Fresh = cmp.Or(c.Fresh, time.Hour)
	c.Retry = cmp.Or(c.Retry, time.Minute)
	c.Patience = cmp.Or(c.Patience, 3*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil || c.Dir == "" {
		return nil, fmt.Errorf("the mirror needs a folder: %w", errors.Join(err, labs.ErrInvalid))
	}
	m := &Mirror{
		Config: c, log: c.Log,
		content: &content{dir: dir, limit: c.CacheSize}, entries: &entries{dir: dir},
		upstreams: make(map[string]*upstream), slots: make(chan struct{}, maxDownloads),
		downloads: make(map[string]*download), refusals: make(map[string]refusal),
	}
	m.content.pins = m.pinned
	m.ctx, m.stop = context.WithCancel(context.Background())
	if err := m.entries.init(); err != nil {
		return nil, err
	}
	if err := m.content.init(); err != nil {
		return nil, err
	}
	if c.Upstream != "none" {
		if m.upstreams[hub], err = m.newUpstream(hub, c.Upstream, anonymous{}); err != nil {
			return nil, err
		}
	}
	for registry, address := range c.Registries {
		if m.upstreams[registry], err = m.newUpstream(registry, address, anonymous{}); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// anonymous signs in with no account. Whatever an account can pull, every
// learner could: so pulls for them have none.
type anonymous struct{}

func (anonymous) Resolve(authn.Resource) (authn.Authenticator, error) { return authn.Anonymous, nil }

func (m *Mirror) newUpstream(registry, address string, auth authn.Keychain) (*upstream, error) {
	base, err := url.Parse(strings.TrimSuffix(address, "/"))
	if err != nil || base.Host == "" || base.Path != "" || base.User != nil || (base.Scheme != "https" && base.Scheme != "http") {
		return nil, fmt.Errorf("upstream registry %q is no address such as https://mirror.example.org: %w", address, labs.ErrInvalid)
	}
	var opts []name.Option
	if base.Scheme == "http" {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(base.Host, opts...)
	if err != nil {
		return nil, fmt.Errorf("upstream registry %q: %w: %w", address, labs.ErrInvalid, err)
	}
	u := &upstream{
		registry: registry, base: base, reg: reg, auth: auth,
		retry: m.Retry, patience: m.Patience, now: m.Now, log: m.log, spawn: m.spawn,
	}
	u.prepare()
	return u, nil
}

// Close ends what is under way and waits for it. Close servers of the handler
// first.
func (m *Mirror) Close() error {
	m.life.Lock()
	m.stop()
	m.life.Unlock()
	m.owned.Wait()
	for _, u := range m.upstreams {
		u.close()
	}
	return nil
}

// spawn runs fn in a goroutine that Close waits for. It reports false when the
// mirror is closed.
func (m *Mirror) spawn(fn func(context.Context)) bool {
	m.life.Lock()
	defer m.life.Unlock()
	if m.ctx.Err() != nil {
		return false
	}
	m.owned.Go(func() { fn(m.ctx) })
	return true
}

// A found is what a reference resolved to.
type found struct {
	digest string
	source labs.ImageSource
}

// resolve decides what a reference stands for: what upstream has, when it can
// be asked; else what was fetched before, if all of it is here; else the
// stock; else the stand-in. The error wraps labs.ErrNotFound and says why.
func (m *Mirror) resolve(ctx context.Context, r ref) (found, error) {
	if r.byDigest() {
		return m.resolveDigest(ctx, r)
	}
	stock, inStock := m.entries.find(labs.FromStock, r)
	if m.StockFirst && inStock {
		return found{stock.Digest, labs.FromStock}, nil
	}
	u := m.upstreams[r.registry]
	cached, have := m.entries.find(labs.FromUpstream, r)
	have = have && m.content.hasManifest(cached.Digest)
	if age := m.Now().Sub(cached.At); have && age >= 0 && age < m.Fresh {
		if u != nil && u.reach(ctx, false) == nil || m.complete(cached.Digest) {
			return found{cached.Digest, labs.FromUpstream}, nil
		}
	}
	fallback, ok := m.fallback(r)
	why := error(nil)
	if u != nil {
		if why = m.refused(r); why == nil {
			why = u.reach(ctx, !ok)
		}
		if why == nil {
			var digest string
			if digest, why = m.ask(ctx, u, r); why == nil {
				return found{digest, labs.FromUpstream}, nil
			}
		}
		if err := ctx.Err(); err != nil {
			return found{}, err
		}
	}
	if ok {
		return fallback, nil
	}
	return found{}, m.nowhere(r, why)
}

// fallback gives what a reference stands for without upstream.
func (m *Mirror) fallback(r ref) (found, bool) {
	for _, k := range kinds {
		if e, ok := m.entries.find(k, r); ok && m.complete(e.Digest) {
			return found{e.Digest, k}, true
		}
	}
	return found{}, false
}

func (m *Mirror) resolveDigest(ctx context.Context, r ref) (found, error) {
	if m.content.hasManifest(r.id) {
		return found{r.id, labs.FromUpstream}, nil
	}
	u := m.upstreams[r.registry]
	if u == nil {
		return found{}, m.nowhere(r, nil)
	}
	why := m.refused(r)
	if why == nil {
		why = u.reach(ctx, true)
	}
	if why == nil {
		if _, why = m.ask(ctx, u, r); why == nil {
			return found{r.id, labs.FromUpstream}, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return found{}, err
	}
	return found{}, m.nowhere(r, why)
}

// nowhere is the error for an image that cannot be had, in words that a
// learner may read.
func (m *Mirror) nowhere(r ref, why error) error {
	p := &labs.Problem{Kind: labs.ErrNotFound, Cause: why}
	switch {
	case why == nil:
		p.Say = fmt.Sprintf("The image %s is not in this mirror, which has no registry to fetch it from.", r.short())
	case errors.Is(why, errAbsent):
		p.Say = fmt.Sprintf("There is no image %s in %s, or it is not public.", r.short(), r.registry)
	case errors.Is(why, errAway):
		p.Say = fmt.Sprintf("The image %s is not in this mirror, and %s cannot be reached to fetch it.", r.short(), r.registry)
	default:
		p.Say = fmt.Sprintf("The image %s is not in this mirror, and fetching it from %s went wrong.", r.short(), r.registry)
	}
	return p
}

// ask fetches the manifest of a reference, unless upstream says that it is the
// one that is here. All who ask for the same at the same time share the answer.
func (m *Mirror) ask(ctx context.Context, u *upstream, r ref) (digest string, err error) {
	return shared(ctx, &m.asking, r.String(), m.spawn, askTimeout, func(ctx context.Context) (string, error) {
		return m.refresh(ctx, u, r)
	})
}

func (m *Mirror) refresh(ctx context.Context, u *upstream, r ref) (digest string, err error) {
	defer func() {
		if err != nil && m.ctx.Err() == nil {
			m.refuse(r, err)
		}
	}()
	if !r.byDigest() {
		if e, ok := m.entries.find(labs.FromUpstream, r); ok && m.content.hasManifest(e.Digest) {
			// Asking for the digest alone does not count as a pull.
			if d, err := u.head(ctx, r.repo, r.id); err == nil && d == e.Digest {
				e.At = m.Now()
				return d, m.entries.set(labs.FromUpstream, e)
			}
		}
	}
	raw, digest, err := u.manifest(ctx, r.repo, r.id)
	if err != nil {
		return "", err
	}
	if err := m.content.reserve(int64(len(raw))); err != nil {
		return "", err
	}
	if _, err := m.content.putBytes(ctx, raw); err != nil {
		return "", err
	}
	m.content.release(int64(len(raw))) // put has counted it
	if r.byDigest() {
		return digest, nil
	}
	if err := m.trim(); err != nil {
		return "", err
	}
	return digest, m.entries.set(labs.FromUpstream, entry{Ref: r.String(), Digest: digest, At: m.Now()})
}

// trim keeps the number of fetched references bounded: those whose manifest
// was evicted go, and then those that were not asked for longest.
func (m *Mirror) trim() error {
	n, err := m.entries.count(labs.FromUpstream)
	if err != nil || n < maxEntries {
		return err
	}
	all, err := m.entries.all(labs.FromUpstream)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b entry) int { return a.At.Compare(b.At) })
	for i, e := range all {
		if i < len(all)/10 || !m.content.has(e.Digest) {
			if err := m.entries.remove(labs.FromUpstream, e.Ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse remembers that upstream does not give a reference, for as long as an
// unreachable upstream is left alone.
func (m *Mirror) refuse(r ref, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.refusals) >= maxRefusals {
		clear(m.refusals)
	}
	m.refusals[r.String()] = refusal{err, m.Now().Add(m.Retry)}
}

func (m *Mirror) refused(r ref) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	x, ok := m.refusals[r.String()]
	if ok && !m.Now().Before(x.until) {
		delete(m.refusals, r.String())
		return nil
	}
	return x.err
}

// complete reports whether an image is here with all that engines on this
// machine need of it.
func (m *Mirror) complete(digest string) bool {
	_, ok := m.needs(digest, 0)
	return ok
}

// needs lists what an engine on this machine fetches for an image, and reports
// whether all of it is here.
func (m *Mirror) needs(digest string, depth int) (digests []string, ok bool) {
	_, x, err := m.content.manifest(digest)
	if err != nil || depth > maxDepth {
		return nil, false
	}
	digests = []string{digest}
	if x.isIndex() {
		child, found := x.here()
		if !found {
			return digests, false
		}
		more, ok := m.needs(child.Digest.String(), depth+1)
		return append(digests, more...), ok
	}
	ok = true
	for _, b := range x.blobs {
		size, here := m.content.size(b.Digest.String())
		ok = ok && here && size == b.Size
		digests = append(digests, b.Digest.String())
	}
	return digests, ok
}

// pinned lists the digests that stock and stand-ins are made of.
func (m *Mirror) pinned() (map[string]bool, error) {
	pins := make(map[string]bool)
	for _, k := range []labs.ImageSource{labs.FromStock, labs.FromStandin} {
		all, err := m.entries.all(k)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			m.reach(e.Digest, pins, 0)
		}
	}
	return pins, nil
}

// reach adds to set all that a manifest leads to.
func (m *Mirror) reach(digest string, set map[string]bool, depth int) {
	if set[digest] || depth > maxDepth {
		return
	}
	set[digest] = true
	_, x, err := m.content.manifest(digest)
	if err != nil {
		return
	}
	for _, d := range x.blobs {
		set[d.Digest.String()] = true
	}
	for _, d := range x.children {
		m.reach(d.Digest.String(), set, depth+1)
	}
}

// Source says where the image comes from when it is pulled now. It waits for
// no network: FromUnknown when upstream has not been asked for it yet.
func (m *Mirror) Source(reference string) labs.ImageSource {
	r, err := parseRef(reference)
	if err != nil {
		return labs.FromNowhere
	}
	if r.byDigest() {
		if m.complete(r.id) {
			return labs.FromUpstream
		}
	}
	if _, ok := m.entries.find(labs.FromStock, r); ok && m.StockFirst {
		return labs.FromStock
	}
	if u := m.upstreams[r.registry]; u != nil {
		away, known := u.state()
		if e, ok := m.entries.find(labs.FromUpstream, r); ok && (known && away == nil && m.content.has(e.Digest) || m.complete(e.Digest)) {
			return labs.FromUpstream
		}
		if !known || away == nil && m.refused(r) == nil {
			return labs.FromUnknown
		}
	}
	if f, ok := m.fallback(r); ok {
		return f.source
	}
	return labs.FromNowhere
}

// An Image is a reference that the mirror can serve without a network.
type Image struct {
	Ref      string // docker.io/library/redis:3.2.11-alpine
	Source   labs.ImageSource
	Digest   string
	Size     int64     // bytes of all its parts that are here
	Complete bool      // all that engines on this machine need is here
	At       time.Time // when it was added, or last found to be so upstream
}

// List lists what is here, by reference.
func (m *Mirror) List() ([]Image, error) {
	var images []Image
	for _, k := range kinds {
		all, err := m.entries.all(k)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			parts := make(map[string]bool)
			m.reach(e.Digest, parts, 0)
			x := Image{Ref: e.Ref, Source: k, Digest: e.Digest, At: e.At, Complete: m.complete(e.Digest)}
			for d := range parts {
				size, _ := m.content.size(d)
				x.Size += size
			}
			images = append(images, x)
		}
	}
	slices.SortStableFunc(images, func(a, b Image) int { return strings.Compare(a.Ref, b.Ref) })
	return images, nil
}

// Prefetch makes the images ready that lessons name, as far as they can be
// had, and logs a line for each. It returns when it is done or ctx ends.
func (m *Mirror) Prefetch(ctx context.Context, refs []string) {
	var g errgroup.Group
	g.SetLimit(prefetchImages)
	for _, reference := range refs {
		g.Go(func() error {
			began := time.Now()
			source, err := m.prefetch(ctx, reference)
			log := m.log.With("image", reference, "took", time.Since(began).Round(time.Millisecond))
			switch {
			case ctx.Err() != nil:
			case source == labs.FromNowhere || source == labs.FromUnknown:
				log.Warn("image cannot be had; learners who pull it will fail", "err", err)
			case err != nil:
				log.Warn("image could not be fetched ahead", "source", source, "err", err)
			default:
				log.Info("image is ready", "source", source)
			}
			return nil
		})
	}
	_ = g.Wait() // its functions return none
}

func (m *Mirror) prefetch(ctx context.Context, reference string) (labs.ImageSource, error) {
	r, err := parseRef(reference)
	if err != nil {
		return labs.FromNowhere, err
	}
	f, err := m.resolve(ctx, r)
	if err != nil {
		return labs.FromNowhere, err
	}
	if u := m.upstreams[r.registry]; u != nil && f.source == labs.FromUpstream {
		if err := m.fetchImage(ctx, u, r.with(f.digest)); err != nil {
			return m.Source(reference), err
		}
	}
	return f.source, nil
}

// fetchImage brings what engines on this machine need of an image into the
// content. The reference is by digest.
func (m *Mirror) fetchImage(ctx context.Context, u *upstream, r ref) error {
	var x manifest
	for depth := 0; ; depth++ {
		if !m.content.hasManifest(r.id) {
			if _, err := m.ask(ctx, u, r); err != nil {
				return err
			}
		}
		var err error
		if _, x, err = m.content.manifest(r.id); err != nil {
			return err
		}
		if !x.isIndex() {
			break
		}
		child, ok := x.here()
		if !ok || depth >= maxDepth {
			return fmt.Errorf("%s: %w", r.short(), errPlatform)
		}
		r = r.with(child.Digest.String())
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(prefetchBlobs)
	for _, b := range x.blobs {
		digest := b.Digest.String()
		if size, here := m.content.size(digest); here && size == b.Size {
			continue
		} else if here { // a disk that lost it
			if err := m.content.remove(digest); err != nil {
				return err
			}
		}
		g.Go(func() error {
			f, err := m.fetch(ctx, u, r.repo, digest)
			if err != nil {
				return err
			}
			defer f.Close()
			return f.wait()
		})
	}
	return g.Wait()
}
