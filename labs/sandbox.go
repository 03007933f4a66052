package labs

import (
	"context"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"time"
)

// A Spec says what sandbox to start. Two equal Specs give interchangeable
// sandboxes, which is what lets a pool start them ahead of need.
type Spec struct {
	Image  string // name of a sandbox image that has been built: "docker"
	Egress Egress
	Limits Limits
}

// Limits bound one sandbox. A zero field means the runner's default, never
// "without limit".
type Limits struct {
	Memory    int64   // bytes, everything inside: shells, engine, containers
	CPU       float64 // cores
	Processes int     // processes and threads
	Disk      int64   // bytes, everything written inside, images included
}

// A Runner starts sandboxes. Methods may be called concurrently.
type Runner interface {
	// Start gives a sandbox that is ready for Exec and Attach. ctx bounds the
	// start only. ErrBusy when there is no room.
	Start(ctx context.Context, spec Spec) (Sandbox, error)
	// Adopt gives the sandboxes that outlived the last server, and sweeps away
	// what is left of those that did not. It is called once, before Start.
	Adopt(ctx context.Context) ([]Sandbox, error)
	// Close stops starting sandboxes and waits for what is under way. It
	// leaves running sandboxes alone: the next server adopts them.
	Close() error
}

// A Sandbox is a small machine with shells and a Docker Engine of its own,
// whose root is nobody outside. Methods may be called concurrently. What comes
// out of a sandbox is under the control of its learner: bound it.
//
// Paths are absolute or begin with "~/", the home of the learner.
type Sandbox interface {
	ID() string

	// Exec runs a command to its end. A non-zero exit is not an error; an
	// error means that it could not be run or that ctx ended (the command and
	// all its children are then killed).
	Exec(ctx context.Context, cmd Cmd) (exit int, err error)

	// Attach opens a viewer on the named terminal, which is made (a login
	// shell) when it is not there. ctx bounds the opening only; the caller
	// closes the Attachment. ErrBusy when there are too many terminals.
	Attach(ctx context.Context, name string, v Viewer) (Attachment, error)

	// Terminals lists the terminals that are open, in the order they were made.
	Terminals(ctx context.Context) ([]string, error)

	// Dial connects to something inside: "unix" with a path (the engine is at
	// EngineSocket, and starts when dialled) or "tcp" with host:port.
	Dial(ctx context.Context, network, address string) (net.Conn, error)

	// Watch tells what happens inside until ctx ends or the connection breaks;
	// then the channel is closed. A receiver that is too slow loses file
	// changes (never command ends): on Lost look again at everything.
	Watch(ctx context.Context, w Watch) (<-chan Change, error)

	// Glob lists the files that match a pattern with *, ? and ** (any depth),
	// at most limit of them. No match is not an error.
	Glob(ctx context.Context, pattern string, limit int) ([]FileInfo, error)
	// Open reads a regular file. ErrNotFound when there is none.
	Open(ctx context.Context, path string) (io.ReadCloser, error)
	// TarNames lists the names of a tar file's regular files (gzip is
	// understood), at most limit of them. ErrInvalid when it is no tar file.
	TarNames(ctx context.Context, path string, limit int) ([]string, error)
	// List gives what a directory holds, by name, at most limit entries.
	// ErrNotFound when there is no such directory.
	List(ctx context.Context, dir string, limit int) ([]FileInfo, error)
	// ReadFile reads a regular file of at most limit bytes and tells its
	// version. ErrNotFound, or ErrInvalid when it is no regular file or larger.
	ReadFile(ctx context.Context, path string, limit int64) (text []byte, v Version, err error)
	// WriteFile replaces a file in one step, keeping its mode and owner, when it
	// still has the version was ("": it must not be there; its directories are
	// made). ErrChanged when it has another one.
	WriteFile(ctx context.Context, path string, text []byte, was Version) (Version, error)
	// Unpack writes the entries of a tar stream below dir, as the learner.
	Unpack(ctx context.Context, dir string, tar io.Reader) error

	// WarmEngine starts the engine if it is not running and returns at once.
	WarmEngine(ctx context.Context) error

	// Usage measures the sandbox from outside.
	Usage(ctx context.Context) (Usage, error)

	// Destroy ends everything inside and removes every trace. Idempotent.
	Destroy() error
}

// A Version names the content of a file: another content has another version.
type Version string

// A Networker is a Runner whose sandboxes can be put onto one private network.
// It is found by type assertion.
type Networker interface {
	// Connect lets the sandboxes of these ids, and nobody else, reach each
	// other on all ports until they are destroyed, also over a restart of the
	// server. It gives their addresses, in the same order. Connecting them
	// again is not an error.
	Connect(ctx context.Context, ids ...string) ([]netip.Addr, error)
}

// A PortLister is a Sandbox that tells on which TCP ports something inside
// listens. It is found by type assertion.
type PortLister interface {
	// Ports gives the ports that answer at localhost, sorted; not very many.
	Ports(ctx context.Context) ([]int, error)
}

// EngineSocket is where a sandbox's Docker Engine listens.
const EngineSocket = "/var/run/docker.sock"

// A Cmd is a command to run inside a sandbox, as root unless the image says
// otherwise, with the environment of a login shell.
type Cmd struct {
	Args   []string
	Dir    string   // the home by default
	Env    []string // "KEY=VALUE", added to the environment
	Stdin  io.Reader
	Stdout io.Writer // nil discards
	Stderr io.Writer
}

// FileInfo describes a file in a sandbox.
type FileInfo struct {
	Path  string // absolute
	Size  int64  // bytes
	Mode  fs.FileMode
	MTime time.Time
}

// A Watch says what to tell about.
type Watch struct {
	Paths []string // patterns as in Glob: changes to files that match
	After int64    // tell first about the commands with a greater Seq; 0 for all that are remembered
}

// A Change is something that happened in a sandbox. One field is set.
type Change struct {
	File    string        `json:"file,omitempty"`    // absolute path that was made, changed or removed
	Command *ShellCommand `json:"command,omitempty"` // a command ended in a shell
	Engine  *EngineState  `json:"engine,omitempty"`  // the engine changed state
	Lost    bool          `json:"lost,omitempty"`    // changes were lost; look again
}

// A ShellCommand is a command line that ended in one of the learner's shells.
type ShellCommand struct {
	Seq      int64     `json:"seq"` // from 1, in the order they ended
	Terminal string    `json:"terminal"`
	Text     string    `json:"text"` // as typed, at most 3 KiB
	Dir      string    `json:"dir"`  // where it ended
	Exit     int       `json:"exit"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
}

// EngineState is the state of a sandbox's engine.
type EngineState struct {
	Phase  string `json:"phase"`            // "off", "starting", "ready", "failed"
	Reason string `json:"reason,omitempty"` // why it failed, one sentence
}

// Usage is what a sandbox uses and may use; the counters only grow.
type Usage struct {
	Limits    Limits
	Memory    int64 // bytes in use, without page cache that can be dropped
	Processes int
	Disk      int64         // bytes in use
	CPU       time.Duration // used so far
	OOMKills  int64         // programs ended because memory ran out
	ForkFails int64         // forks refused because of the process limit
}

// A Box is what a kind of runner gives: a place where the agent runs as PID 1,
// and a connection to it. Package runner makes a Sandbox of it. Methods may be
// called concurrently.
type Box interface {
	ID() string
	Dial(ctx context.Context) (net.Conn, error) // to the agent; as many as needed
	Usage(ctx context.Context) (Usage, error)
	Destroy() error // idempotent
}

// Boxes starts boxes; the contract is that of Runner.
type Boxes interface {
	Start(ctx context.Context, spec Spec) (Box, error)
	Adopt(ctx context.Context) ([]Box, error)
	Close() error
}
