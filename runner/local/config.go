package local

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"

	"berth/labs"
)

// idsPerBox is how many user and group ids a sandbox has.
const idsPerBox = 1 << 16

// maxBoxes bounds Config.Max: more than one machine carries.
const maxBoxes = 4096

// Smallest limits with which a sandbox can start at all.
const (
	minMemory    = 32 << 20
	minProcesses = 32
	minDisk      = 64 << 20
)

// Config says how sandboxes are made on this machine. Two servers on one
// machine need different State, Name, Network and FirstID; New says so when
// they do not have them.
type Config struct {
	State   string // directory that keeps everything, "/var/lib/berth" by default
	Name    string // names the cgroup, the table and the interfaces; "berth" by default, at most 8 letters and digits
	Binary  string // program that runs inside as "berth agent"
	Runtime string // OCI runtime, "runc" by default

	// Image gives the root file system of a sandbox image, a directory that
	// is only read. An error that wraps labs.ErrNotFound when there is none.
	Image func(name string) (rootfs string, err error)

	Network netip.Prefix // the sandboxes' addresses, 10.213.0.0/16 by default
	FirstID uint32       // first user id of the first sandbox, 1<<30 by default; 65,536 each
	Mirror  uint16       // TCP port of the mirror at Gateway; 0 when there is none
	DNS     []netip.Addr // name servers for egress "internet"; the machine's own by default

	Defaults labs.Limits // for limits that a Spec leaves at zero
	Max      int         // sandboxes at a time, 100 by default

	Log *slog.Logger
}

// Gateway is the address of this machine as sandboxes see it, the first one of
// Network. It can be listened on as soon as New has returned.
func (c Config) Gateway() netip.Addr {
	if !c.Network.IsValid() {
		c.Network = defaultNetwork
	}
	return c.Network.Masked().Addr().Next()
}

var defaultNetwork = netip.MustParsePrefix("10.213.0.0/16")

// defaultLimits suit a lesson with a Docker Engine and a few small containers.
var defaultLimits = labs.Limits{Memory: 1 << 30, CPU: 2, Processes: 1024, Disk: 4 << 30}

var nameRule = regexp.MustCompile(`^[a-z][a-z0-9]{0,7}$`)

// complete fills in defaults and reports the first setting that cannot work.
func (c Config) complete() (Config, error) {
	if c.State == "" {
		c.State = "/var/lib/berth"
	}
	if c.Name == "" {
		c.Name = "berth"
	}
	if c.Runtime == "" {
		c.Runtime = "runc"
	}
	if !c.Network.IsValid() {
		c.Network = defaultNetwork
	}
	c.Network = c.Network.Masked()
	if c.FirstID == 0 {
		c.FirstID = 1 << 30
	}
	if c.Max == 0 {
		c.Max = 100
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Defaults = orLimits(c.Defaults, defaultLimits)
	state, err := filepath.Abs(c.State)
	if err != nil {
		return c, fmt.Errorf("state directory %s: %w", c.State, err)
	}
	c.State = state
	switch {
	case strings.ContainsAny(c.State, ":,\\\"\n"):
		err = fmt.Errorf("state directory %q: a colon, comma, quote or backslash cannot be part of its path", c.State)
	case !nameRule.MatchString(c.Name):
		err = fmt.Errorf("name %q: one to eight lower-case letters and digits, a letter first", c.Name)
	case c.Image == nil:
		err = errors.New("no image source")
	case c.Binary == "":
		err = errors.New("no program to run as the agent")
	case !c.Network.Addr().Is4() || c.Network.Bits() > 29:
		err = fmt.Errorf("network %s: an IPv4 prefix of at most /29 is needed", c.Network)
	case c.Max < 0 || c.Max > maxBoxes:
		err = fmt.Errorf("%d sandboxes: 1 to %d are possible", c.Max, maxBoxes)
	case c.FirstID < idsPerBox:
		err = fmt.Errorf("first user id %d: ids below %d belong to the machine's own users", c.FirstID, idsPerBox)
	case uint64(c.FirstID)+uint64(c.Max)*idsPerBox >= 1<<32-2:
		err = fmt.Errorf("user ids: %d sandboxes from id %d on need more ids than there are", c.Max, c.FirstID)
	case c.Max > 1<<(32-c.Network.Bits())-3:
		err = fmt.Errorf("network %s has no room for %d sandboxes", c.Network, c.Max)
	}
	if err != nil {
		return c, fmt.Errorf("%w: %w", err, labs.ErrInvalid)
	}
	return c, nil
}

// spec fills in the limits of s and reports what cannot work.
func (c Config) spec(s labs.Spec) (labs.Spec, error) {
	s.Limits = orLimits(s.Limits, c.Defaults)
	// Whole mebibytes, so that few different disks are ever formatted.
	s.Limits.Disk = (s.Limits.Disk + 1<<20 - 1) &^ (1<<20 - 1)
	if s.Egress == "" {
		s.Egress = labs.EgressNone
	}
	var err error
	switch l := s.Limits; {
	case l.Memory < minMemory:
		err = fmt.Errorf("memory of %d bytes: at least %d are needed", l.Memory, minMemory)
	case l.CPU < 0.01:
		err = fmt.Errorf("%g cores: at least 0.01 is needed", l.CPU)
	case l.Processes < minProcesses:
		err = fmt.Errorf("%d processes: at least %d are needed", l.Processes, minProcesses)
	case l.Disk < minDisk:
		err = fmt.Errorf("disk of %d bytes: at least %d are needed", l.Disk, minDisk)
	case s.Egress != labs.EgressNone && s.Egress != labs.EgressMirror && s.Egress != labs.EgressInternet:
		err = fmt.Errorf("egress %q: none, mirror or internet", s.Egress)
	}
	if err != nil {
		return s, fmt.Errorf("%w: %w", err, labs.ErrInvalid)
	}
	return s, nil
}

// orLimits gives l with its zero fields taken from d.
func orLimits(l, d labs.Limits) labs.Limits {
	if l.Memory == 0 {
		l.Memory = d.Memory
	}
	if l.CPU == 0 {
		l.CPU = d.CPU
	}
	if l.Processes == 0 {
		l.Processes = d.Processes
	}
	if l.Disk == 0 {
		l.Disk = d.Disk
	}
	return l
}
