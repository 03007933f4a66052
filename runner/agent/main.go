package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenFD is the descriptor on which the agent finds its listening socket.
// The runner makes the socket outside, where nobody inside can reach its name.
const listenFD = 3

// Main is the program "berth agent": the agent as PID 1 of a sandbox. It gives
// the exit status.
func Main(version string, args []string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if len(args) > 0 {
		fmt.Fprintln(os.Stderr, "berth agent runs inside sandboxes; it is started by the runner, without arguments")
		return 2
	}
	// Most of its life it waits: a small heap is worth more than speed.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(64 << 20)

	l, err := inherited()
	if err != nil {
		fmt.Fprintln(os.Stderr, "berth agent runs inside sandboxes and is started by the runner:", err)
		return 2
	}
	if err := delegateCgroup("/sys/fs/cgroup"); err != nil {
		log.Error("prepare control groups for containers", "err", err)
	}
	name, err := os.Hostname()
	if err == nil {
		err = nameHost("/etc/hosts", name)
	}
	if err != nil {
		log.Error("name the host", "err", err)
	}
	// A learner's kill is no reason to end, SIGTERM apart. Signals are taken
	// and dropped, because those that are ignored are ignored in every shell too.
	signal.Notify(make(chan os.Signal, 1), unheeded...)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := Config{Version: version, Mirror: os.Getenv("BERTH_MIRROR"), Log: log}
	if err := Run(ctx, cfg, l); err != nil {
		log.Error("run the agent", "err", err)
		return 1
	}
	return 0
}

// unheeded are the signals by which a Go program would end.
var unheeded = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS,
	syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGPIPE, syscall.SIGSTKFLT, syscall.SIGSYS,
}

// inherited gives the listening socket that the runner passed.
func inherited() (net.Listener, error) {
	unix.CloseOnExec(listenFD)
	f := os.NewFile(listenFD, "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor 3: %w", err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l, nil
}

// delegateCgroup lets the engine make groups of its own on cgroup v2, where a
// group that has processes cannot pass controllers on: all that runs moves to
// a leaf. On v1 there is nothing to do.
func delegateCgroup(root string) error {
	controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	leaf := filepath.Join(root, "init")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	procs, err := os.ReadFile(filepath.Join(root, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(procs)) {
		// One that has ended meanwhile is no problem; one that cannot be
		// moved shows in the next write.
		os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(pid), 0o644)
	}
	var errs []error
	for _, c := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+c), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("pass on %s: %w", c, err))
		}
	}
	return errors.Join(errs...)
}

// nameHost makes the sandbox's own name resolve, without a name server.
func nameHost(hosts, name string) error {
	b, err := os.ReadFile(hosts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := string(b)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 && slices.Contains(f[1:], name) {
			return nil
		}
	}
	if text == "" {
		text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return os.WriteFile(hosts, []byte(text+"127.0.1.1\t"+name+"\n"), 0o644)
}
