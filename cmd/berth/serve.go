package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"berth/labs"
	"berth/labs/store"
	"berth/web"

	"github.com/spf13/cobra"
)

func newServe() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "serve [DIR…]",
		Short: "Serve the labs",
		Long: `Serve the labs that are shipped, and those in the directories that are given:
every folder with a lab.md is one, and so is every Katacoda, O'Reilly or
Killercoda scenario, and every Markdown file where there is neither.

With --watch every edit of a lab shows in the pages that have it open, without
touching their terminals. A mistake shows there too, while the last good version
of the lab stays.

Stopping the server ends nobody's shell: sandboxes go on, and the next server
takes them over. 'berth sweep' ends them all.`,
		RunE: c.runs(c.serve),
	}
	f := cmd.Flags()
	f.StringVar(&c.listen, "listen", "localhost:8080", "address to serve on; port 0 takes a free one")
	f.StringSliceVar(&c.hosts, "host", nil, "names, besides localhost and bare addresses, under which the server may be asked for")
	f.StringSliceVar(&c.proxies, "proxy", nil, "addresses of reverse proxies whose X-Forwarded headers are believed")
	f.StringVar(&c.site, "site", "", "where browsers find the pages, such as https://labs.example.org (default: http:// and the listening address)")
	f.StringVar(&c.previewDomain, "preview-domain", "", "domain of the previews of learners' ports; *.DOMAIN has to lead here (default: preview. and the site's name)")
	c.placeFlags(f)
	c.runnerFlags(f, serverIdentity)
	c.limitFlags(f)
	f.StringVar(&c.engine, "engine", "", "sandbox image to use for lessons that ask for 'docker', such as docker-20")
	f.BoolVar(&c.watch, "watch", false, "while writing labs: follow their files, and show every edit in the open pages")
	f.IntVar(&c.pool, "pool", 2, "sandboxes kept ready ahead of need")
	f.IntVar(&c.max, "max", 100, "sandboxes at a time")
	f.IntVar(&c.perLearner, "per-learner", 3, "open labs of one learner at a time")
	f.IntVar(&c.rate, "rate", 20, "labs that one learner may open in quick succession")
	f.DurationVar(&c.life, "life", time.Hour, "time that a sandbox is given")
	f.DurationVar(&c.extend, "extend", 30*time.Minute, "time that one extension adds")
	f.DurationVar(&c.maxLife, "max-life", 4*time.Hour, "time of a sandbox with all extensions")
	f.DurationVar(&c.idle, "idle", 30*time.Minute, "time after which a sandbox that nobody uses is cleared away (three times as long while its page is open)")
	return cmd
}

// serve runs the server until ctx ends.
func (c *config) serve(ctx context.Context, log *slog.Logger, out io.Writer, dirs []string) (err error) {
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
	places, err := openPlaces(dirs)
	if err != nil {
		return err
	}
	defer closePlaces(places)
	library := readLibrary(append([]*place{shipped()}, places...))
	library.tell(log)
	lessons := library.lessons()
	if run, first := c.ground(log).mark(lessons); run == 0 && first != nil {
		return fmt.Errorf("no lab can be served: %w", first)
	} else if first != nil {
		log.Error("some labs can only be read, because their sandbox images are missing", "why", say(first))
	}
	st, err := store.Open(ctx, filepath.Join(c.state, "berth.db"), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	on, err := c.openStage(ctx, log, lessons)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, on.close()) }()
	address := c.site
	if address == "" {
		address = "http://" + shownAddress(c.listen, listener)
	}
	about := on.desk(c, st)
	if about.PreviewURL, err = web.PreviewURL(address, c.previewDomain); err != nil {
		return &labs.Problem{Kind: labs.ErrInvalid, Say: "Previews cannot be served: --site has to be like https://labs.example.org and --preview-domain like preview.example.org.", Cause: err}
	}
	if about.PreviewURL == nil {
		log.Warn("there are no previews of learners' ports: give the pages a name with --site, or a domain for previews with --preview-domain")
	}
	desk := labs.NewDesk(about)
	defer desk.Close()
	desk.SetLessons(lessons)
	if err := desk.Resume(ctx); err != nil {
		return err
	}
	if c.watch {
		w, err := newWatcher(library, c.ground(log), log)
		if err != nil {
			return err
		}
		stop := w.start(ctx, desk.Edit)
		defer stop()
	}
	site, err := web.New(web.Config{
		Desk: desk, Images: on.mirror, Log: log, Watch: c.watch, Hosts: c.hosts, Proxies: proxies,
		Site: c.site, PreviewDomain: c.previewDomain,
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
