package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"berth/content"
	"berth/labs"
	"berth/runner/image"
	"berth/runner/local"

	"github.com/spf13/pflag"
)

// config is what the flags of the commands say.
type config struct {
	listen   string
	state    string
	images   string
	engine   string
	agent    string
	name     string
	network  string
	firstID  uint32
	upstream string
	mirrored uint16
	hosts    []string
	proxies  []string
	logLevel string

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

// placeFlags are those of every command that looks at the state directory.
func (c *config) placeFlags(f *pflag.FlagSet) {
	f.StringVar(&c.state, "state", "/var/lib/berth", "directory that keeps everything: images, sandboxes, the mirror, progress")
	f.StringVar(&c.images, "images", "", "directory that keeps the sandbox images (default: the state directory)")
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
}

// runnerFlags are those of every command that looks at sandboxes.
func (c *config) runnerFlags(f *pflag.FlagSet) {
	f.StringVar(&c.name, "name", "berth", "names the cgroup, the firewall table and the network interfaces; for several servers on one machine")
	f.StringVar(&c.network, "network", "10.213.0.0/16", "addresses of the sandboxes")
	f.Uint32Var(&c.firstID, "first-id", 1<<30, "first user id for the sandboxes, 65,536 each")
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
			if name == "docker" && c.engine != "" {
				name = c.engine
			}
			img, err := store.Find(name)
			return img.Rootfs, err
		},
	}, nil
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

func (c *config) mirrorDir() string { return filepath.Join(c.state, "mirror") }
