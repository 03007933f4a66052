package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"berth/content"
	"berth/labs"
	"berth/labs/markdown"
	"berth/labs/store"
	"berth/labs/verify"
	"berth/runner"
	"berth/runner/local"
	"berth/runner/mirror"
	"berth/web"

	"github.com/spf13/cobra"
)

func newServe() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "serve [DIR…]",
		Short: "Serve the labs",
		Long: `Serve the labs that are shipped, and those in the directories that are given:
every folder with a lab.md is one.

Stopping the server ends nobody's shell: sandboxes go on, and the next server
takes them over. 'berth sweep' ends them all.`,
		RunE: func(cmd *cobra.Command, dirs []string) error {
			log, err := newLog(c.logLevel)
			if err != nil {
				return err
			}
			return c.serve(cmd.Context(), log, cmd.OutOrStdout().(*os.File), dirs)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.listen, "listen", "localhost:8080", "address to serve on; port 0 takes a free one")
	f.StringSliceVar(&c.hosts, "host", nil, "names, besides localhost and bare addresses, under which the server may be asked for")
	f.StringSliceVar(&c.proxies, "proxy", nil, "addresses of reverse proxies whose X-Forwarded headers are believed")
	c.placeFlags(f)
	c.runnerFlags(f)
	f.StringVar(&c.engine, "engine", "", "sandbox image to use for lessons that ask for 'docker', such as docker-20")
	f.StringVar(&c.agent, "agent", "", "program that runs inside sandboxes (default: this one)")
	f.IntVar(&c.pool, "pool", 2, "sandboxes kept ready ahead of need")
	f.IntVar(&c.max, "max", 100, "sandboxes at a time")
	f.IntVar(&c.perLearner, "per-learner", 3, "open labs of one learner at a time")
	f.IntVar(&c.rate, "rate", 20, "labs that one learner may open in quick succession")
	f.StringVar(&c.memory, "memory", "1Gi", "memory of a sandbox")
	f.StringVar(&c.disk, "disk", "4Gi", "disk of a sandbox")
	f.Float64Var(&c.cpu, "cpu", 2, "processor cores of a sandbox")
	f.IntVar(&c.processes, "processes", 1024, "processes and threads of a sandbox")
	f.DurationVar(&c.life, "life", time.Hour, "time that a sandbox is given")
	f.DurationVar(&c.extend, "extend", 30*time.Minute, "time that one extension adds")
	f.DurationVar(&c.maxLife, "max-life", 4*time.Hour, "time of a sandbox with all extensions")
	f.DurationVar(&c.idle, "idle", 30*time.Minute, "time after which a sandbox that nobody uses is cleared away (three times as long while its page is open)")
	f.StringVar(&c.upstream, "mirror-upstream", "", "registry that the built-in mirror fetches from (default: Docker Hub)")
	f.Uint16Var(&c.mirrored, "mirror-port", 5000, "port of the built-in mirror, for sandboxes only")
	return cmd
}

// serve runs the server until ctx ends.
func (c *config) serve(ctx context.Context, log *slog.Logger, out *os.File, dirs []string) (err error) {
	if err := needRoot("Sandboxes are made of namespaces, mounts and control groups, which needs root."); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	proxies, err := prefixes(c.proxies)
	if err != nil {
		return err
	}
	listener, err := listen(c.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := os.MkdirAll(c.state, 0o711); err != nil {
		return &labs.Problem{Kind: labs.ErrInvalid, Say: "The state directory cannot be made. Choose another with --state.", Cause: err}
	}
	lessons, err := loadLessons(log, dirs)
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, filepath.Join(c.state, "berth.db"), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()

	cfg, err := c.local(log)
	if err != nil {
		return err
	}
	if lessons, err = withImages(log, cfg, lessons); err != nil {
		return err
	}
	boxes, err := local.New(ctx, cfg)
	if err != nil {
		return err
	}
	spec := labs.Spec{Image: "docker", Egress: labs.EgressMirror, Limits: cfg.Defaults}
	pool := runner.NewPool(runner.New(boxes), spec, c.pool, log)
	defer func() { err = errors.Join(err, pool.Close()) }()

	var owned sync.WaitGroup
	background, stop := context.WithCancel(ctx)
	defer stop()
	images, err := c.mirror(background, log, &owned, cfg, lessons)
	if err != nil {
		return err
	}
	defer func() { stop(); owned.Wait(); err = errors.Join(err, images.Close()) }()

	desk := labs.NewDesk(labs.DeskConfig{
		Store: st, Runner: pool, Verifier: verify.New(log), Mirror: images, Log: log,
		Life: c.life, ExtendBy: c.extend, MaxLife: c.maxLife, Idle: c.idle, PerLearner: c.perLearner, Limits: cfg.Defaults,
	})
	defer desk.Close()
	desk.SetLessons(lessons)
	if err := desk.Resume(ctx); err != nil {
		return err
	}
	site, err := web.New(web.Config{
		Desk: desk, Images: images, Log: log, Hosts: c.hosts, Proxies: proxies,
		Opens: web.Rate{Burst: c.rate, Every: 6 * time.Second}, NewLearners: web.Rate{Burst: max(400, c.rate), Every: time.Second},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Berth serves %d lab%s at http://%s\n", len(lessons), plural(len(lessons)), shownAddress(c.listen, listener))
	if err := site.Serve(ctx, listener); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// listen takes the address, or says in words why it cannot.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("Something else listens on %s already. Stop it, or choose another address with --listen (port 0 takes a free one).", address)}
	case errors.Is(err, syscall.EACCES):
		return nil, &labs.Problem{Kind: labs.ErrForbidden, Say: fmt.Sprintf("You may not listen on %s. Choose a port above 1023 with --listen.", address)}
	case err != nil:
		return nil, &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("The address %s cannot be listened on. Choose another with --listen, such as localhost:8080.", address), Cause: err}
	}
	return l, nil
}

// shownAddress is what to type into a browser.
func shownAddress(asked string, l net.Listener) string {
	host, _, err := net.SplitHostPort(asked)
	at, ok := l.Addr().(*net.TCPAddr)
	if err != nil || !ok {
		return l.Addr().String()
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, fmt.Sprint(at.Port))
}

// loadLessons reads the shipped labs and those in dirs. A mistake in one is
// told to its author and leaves the others alone.
func loadLessons(log *slog.Logger, dirs []string) ([]*labs.Lesson, error) {
	sources := []struct {
		name string
		fsys fs.FS
	}{{"shipped labs", content.Labs()}}
	for _, dir := range dirs {
		root, err := os.OpenRoot(dir) // links cannot lead out of it
		if err != nil {
			return nil, &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("The labs in %s cannot be read. Name a directory that is a lab, with a lab.md, or that holds some.", dir), Cause: err}
		}
		sources = append(sources, struct {
			name string
			fsys fs.FS
		}{dir, folder{root}})
	}
	var all []*labs.Lesson
	from := make(map[string]string)
	for _, s := range sources {
		lessons, mistakes := markdown.LoadAll(s.fsys)
		if len(lessons) == 0 && len(mistakes) == 0 {
			log.Warn("there are no labs here: a lab is a folder with a lab.md", "in", s.name)
		}
		for _, m := range mistakes {
			level := slog.LevelError
			if m.Warn {
				level = slog.LevelWarn
			}
			log.Log(context.Background(), level, "a mistake in a lab", "in", s.name, "mistake", m.Error())
		}
		for _, l := range lessons {
			if other, taken := from[l.ID]; taken {
				log.Error("two labs have the same name; the second is left out", "lab", l.ID, "first", other, "second", s.name)
				continue
			}
			from[l.ID] = s.name
			all = append(all, l)
		}
	}
	return all, nil
}

// withImages leaves out the labs whose sandbox image is missing, and says how
// to get it. With none left there is nothing to serve.
func withImages(log *slog.Logger, cfg local.Config, lessons []*labs.Lesson) (served []*labs.Lesson, err error) {
	var first error
	var missing []string
	for _, l := range lessons {
		_, err := cfg.Image(l.Image)
		if err == nil {
			served = append(served, l)
			continue
		}
		missing = append(missing, l.ID)
		if first == nil {
			first = err
		}
	}
	if len(served) == 0 && first != nil {
		return nil, fmt.Errorf("no lab can be served: %w", first)
	}
	if first != nil {
		log.Error("labs are left out, because their sandbox images are missing", "labs", missing, "why", say(first))
	}
	return served, nil
}

// mirror starts the built-in registry for the sandboxes and begins to fetch
// what lessons name.
func (c *config) mirror(ctx context.Context, log *slog.Logger, owned *sync.WaitGroup, cfg local.Config, lessons []*labs.Lesson) (*mirror.Mirror, error) {
	m, err := mirror.Open(mirror.Config{Dir: c.mirrorDir(), Upstream: c.upstream, Log: log})
	if err != nil {
		return nil, err
	}
	store := c.imageStore(log)
	var refs []string
	for _, l := range lessons {
		for _, p := range l.Pulls {
			refs = append(refs, p.Ref)
			if p.Standin == "" {
				continue
			}
			img, err := store.Find(p.Standin)
			if err == nil {
				err = m.SetStandinPath(ctx, p.Ref, img.Layout)
			}
			if err != nil {
				log.Warn("a stand-in is missing; build it with: berth image build "+p.Standin, "for", p.Ref, "err", err)
			}
		}
	}
	at := netip.AddrPortFrom(cfg.Gateway(), cfg.Mirror)
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return nil, errors.Join(&labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("The mirror cannot listen on %s. Choose another port with --mirror-port.", at), Cause: err}, m.Close())
	}
	owned.Go(func() {
		if err := m.Serve(ctx, l); err != nil {
			log.Error("serve the mirror", "err", err)
		}
	})
	owned.Go(func() { m.Prefetch(ctx, refs) })
	return m, nil
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			a, aerr := netip.ParseAddr(t)
			if aerr != nil {
				return nil, &labs.Problem{Kind: labs.ErrInvalid, Say: "--proxy " + t + " is no address such as 127.0.0.1 or 10.0.0.0/8."}
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		all = append(all, p)
	}
	return all, nil
}
