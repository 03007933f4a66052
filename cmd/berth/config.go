package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"berth/content"
	"berth/labs"
	"berth/runner/image"
	"berth/runner/local"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// config is what the flags of the commands say.
type config struct {
	listen        string
	state         string
	images        string
	engine        string
	agent         string
	name          string
	network       string
	firstID       uint32
	upstream      string
	site          string
	previewDomain string
	mirrored      uint16
	mirrorAt      string // the mirror's directory, "" for that of the state directory
	hosts         []string
	proxies       []string
	logLevel      string
	watch         bool

	pool       int
	max        int
	perLearner int
	rate       int
	memory     string
	disk       string
	cpu        float64
	processes  int
	life       time.Duration
	extend     time.Duration
	maxLife    time.Duration
	idle       time.Duration
}

// runs makes what a command does of f, which gets the log that the flags ask
// for.
func (c *config) runs(f func(ctx context.Context, log *slog.Logger, out io.Writer, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		log, err := newLog(c.logLevel)
		if err != nil {
			return err
		}
		return f(cmd.Context(), log, cmd.OutOrStdout(), args)
	}
}

// placeFlags are those of every command that looks at the state directory.
func (c *config) placeFlags(f *pflag.FlagSet) {
	f.StringVar(&c.state, "state", "/var/lib/berth", "directory that keeps everything: images, sandboxes, the mirror, progress")
	f.StringVar(&c.images, "images", "", "directory that keeps the sandbox images (default: the state directory)")
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
}

// An identity keeps the sandboxes of one server apart from those of others on
// the same machine.
type identity struct {
	name    string
	network string
	firstID uint32
}

var (
	serverIdentity = identity{"berth", "10.213.0.0/16", 1 << 30}
	testerIdentity = identity{"btest", "10.214.0.0/16", 1<<30 + 4096<<16}
)

// runnerFlags are those of every command that looks at sandboxes.
func (c *config) runnerFlags(f *pflag.FlagSet, i identity) {
	f.StringVar(&c.name, "name", i.name, "names the cgroup, the firewall table and the network interfaces; for several servers on one machine")
	f.StringVar(&c.network, "network", i.network, "addresses of the sandboxes")
	f.Uint32Var(&c.firstID, "first-id", i.firstID, "first user id for the sandboxes, 65,536 each")
}

// limitFlags are those of every command that starts sandboxes.
func (c *config) limitFlags(f *pflag.FlagSet) {
	f.StringVar(&c.agent, "agent", "", "program that runs inside sandboxes (default: this one)")
	f.StringVar(&c.memory, "memory", "1Gi", "memory of a sandbox")
	f.StringVar(&c.disk, "disk", "4Gi", "disk of a sandbox")
	f.Float64Var(&c.cpu, "cpu", 2, "processor cores of a sandbox")
	f.IntVar(&c.processes, "processes", 1024, "processes and threads of a sandbox")
	f.StringVar(&c.upstream, "mirror-upstream", "", "registry that the built-in mirror fetches from (default: Docker Hub)")
	f.Uint16Var(&c.mirrored, "mirror-port", 5000, "port of the built-in mirror, for sandboxes only")
}

// imageStore is where the sandbox images are.
func (c *config) imageStore(log *slog.Logger) *image.Store {
	dir := c.images
	if dir == "" {
		dir = c.state
	}
	return &image.Store{Dir: dir, Recipes: content.Images(), Log: log}
}

// local is how sandboxes are made on this machine.
func (c *config) local(log *slog.Logger) (local.Config, error) {
	network, err := netip.ParsePrefix(c.network)
	if err != nil {
		return local.Config{}, &labs.Problem{Kind: labs.ErrInvalid, Say: "--network " + c.network + " is no network such as 10.213.0.0/16."}
	}
	limits, err := c.limits()
	if err != nil {
		return local.Config{}, err
	}
	agent := c.agent
	if agent == "" {
		if agent, err = agentProgram(c.state); err != nil {
			return local.Config{}, err
		}
	}
	store := c.imageStore(log)
	return local.Config{
		State: c.state, Name: c.name, Binary: agent, Network: network, FirstID: c.firstID,
		Mirror: c.mirrored, Defaults: limits, Max: c.max, Log: log,
		Image: func(name string) (string, error) {
			img, err := store.Find(c.ground(log).name(name))
			return img.Rootfs, err
		},
	}, nil
}

// looking is for commands that look at sandboxes and start none: it needs no
// files of ours.
func (c *config) looking(log *slog.Logger) (local.Config, error) {
	agent, err := os.Executable()
	if err != nil {
		return local.Config{}, err
	}
	c.agent = agent
	return c.local(log)
}

// limits are those of every sandbox; what no flag says is the runner's choice.
func (c *config) limits() (labs.Limits, error) {
	l := labs.Limits{CPU: c.cpu, Processes: c.processes}
	for _, size := range []struct {
		flag, text string
		to         *int64
	}{{"memory", c.memory, &l.Memory}, {"disk", c.disk, &l.Disk}} {
		if size.text == "" {
			continue
		}
		n, err := labs.ParseNumber(size.text)
		if err != nil || n.Op != '=' || n.Value <= 0 {
			return l, &labs.Problem{Kind: labs.ErrInvalid, Say: "--" + size.flag + " " + size.text + " is no size such as 512Mi or 4Gi."}
		}
		*size.to = n.Value
	}
	return l, nil
}

// check says which settings of the server cannot work.
func (c *config) check() error {
	for _, f := range []struct {
		ok  bool
		say string
	}{
		{c.life > 0, "--life must be more than nothing, such as 1h."},
		{c.maxLife >= c.life, fmt.Sprintf("--max-life %v is less than --life %v; it is the time with all extensions.", c.maxLife, c.life)},
		{c.extend > 0, "--extend must be more than nothing, such as 30m."},
		{c.idle > 0, "--idle must be more than nothing, such as 30m."},
		{c.pool >= 0, "--pool must be 0 or more."},
		{c.max > 0, "--max must be 1 or more."},
		{c.perLearner > 0, "--per-learner must be 1 or more."},
		{c.rate > 0, "--rate must be 1 or more."},
	} {
		if !f.ok {
			return &labs.Problem{Kind: labs.ErrInvalid, Say: f.say}
		}
	}
	return nil
}

// needRoot says what for, to those who are not.
func needRoot(what string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &labs.Problem{Kind: labs.ErrForbidden, Say: what + " Run it with sudo; what the sandboxes themselves get is root nowhere outside. 'berth doctor' shows what else is needed."}
}

func (c *config) mirrorDir() string {
	if c.mirrorAt != "" {
		return c.mirrorAt
	}
	return filepath.Join(c.state, "mirror")
}
