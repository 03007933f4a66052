// Package local runs sandboxes on this machine.
//
// A sandbox has its own user, mount, process, network, IPC, UTS and control
// group namespaces, made by an OCI runtime; its root is an ordinary user
// outside, another range of 65,536 ids for every sandbox. Its root file system
// is a shared image, seen with shifted ids, under a writable layer on a disk
// of its own: an ext4 file system in a sparse file of fixed size. The agent
// runs as its first process and is reached through a socket that is kept
// outside.
//
// Everything that a sandbox is made of has a name that follows from its id or
// its slot, so that what is left of one can be removed by somebody who did not
// make it: by a later server, after a crash.
package local

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"berth/labs"
)

// Boxes starts sandboxes on this machine. Methods may be called concurrently.
type Boxes struct {
	cfg     Config
	log     *slog.Logger
	locks   []*lock
	slots   *slots
	disks   *disks
	groups  *cgroups
	network *network
	oci     oci
	agent   string // installed program
	tun     string // device node for sandboxes, or ""
	boot    string

	observe func(phase string, took time.Duration) // set by benchmarks

	mu       sync.Mutex
	closed   bool
	starting sync.WaitGroup
	found    []found         // sandboxes of an earlier server, until Adopt
	live     map[string]*box // by id: those that were handed out, until they are destroyed

	connecting sync.Mutex // held to connect, and for the Peers of records
}

// found is what an earlier server left under an id.
type found struct {
	rec record
	at  layout
	err error // why the record could not be read, or the sandbox not be adopted
}

var _ labs.Boxes = (*Boxes)(nil)

// New makes this machine ready for sandboxes: directories, control groups,
// network, firewall. Sandboxes of an earlier server go on running; call Adopt
// to get them. An error is a sentence for the operator.
func New(ctx context.Context, cfg Config) (_ *Boxes, err error) {
	cfg, err = cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("local sandboxes: %w", err)
	}
	b := &Boxes{
		cfg:   cfg,
		log:   cfg.Log,
		slots: newSlots(cfg.Max),
		disks: &disks{dir: filepath.Join(cfg.State, "disks")},
		oci:   oci{command: cfg.Runtime, root: filepath.Join(cfg.State, "runtime")},
		boot:  bootID(),
		live:  map[string]*box{},
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("local sandboxes: root is needed to make them; start berth as root")
	}
	for dir, mode := range map[string]os.FileMode{
		cfg.State: 0o711, b.sandboxes(): 0o711, b.agents(): 0o711, b.disks.dir: 0o700, b.oci.root: 0o700,
	} {
		if err := mkdir(dir, mode, 0, 0); err != nil {
			return nil, fmt.Errorf("local sandboxes: state directory: %w", err)
		}
	}
	if b.locks, err = takeLocks(ctx, cfg); err != nil {
		return nil, fmt.Errorf("local sandboxes: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("local sandboxes: %w", errors.Join(err, b.release()))
		}
	}()
	if err := b.disks.tidy(); err != nil {
		return nil, err
	}
	if err := shareMounts(b.sandboxes()); err != nil {
		return nil, err
	}
	if b.groups, err = findCgroups(cfg.Name); err != nil {
		return nil, err
	}
	if err := b.groups.open(); err != nil {
		return nil, err
	}
	if b.agent, err = installAgent(b.agents(), cfg.Binary); err != nil {
		return nil, err
	}
	if b.tun, err = makeTun(filepath.Join(b.agents(), "tun")); err != nil {
		// Few lessons need it, and some machines do not allow it.
		b.log.Info("sandboxes have no /dev/net/tun", "reason", err)
	}
	if err := b.look(); err != nil {
		return nil, err
	}
	var members []member
	ours := map[string]record{}
	for _, f := range b.found {
		if f.err == nil && f.rec.Boot == b.boot {
			members = append(members, f.rec.member())
			ours[f.rec.ID] = f.rec
		}
	}
	if b.network, err = openNetwork(cfg, members, recordedPairs(ours)); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Boxes) sandboxes() string       { return filepath.Join(b.cfg.State, "sandboxes") }
func (b *Boxes) agents() string          { return filepath.Join(b.cfg.State, "agent") }
func (b *Boxes) layout(id string) layout { return layout{filepath.Join(b.sandboxes(), id)} }

// Gateway is this machine as sandboxes see it; the mirror listens there.
func (b *Boxes) Gateway() netip.Addr { return b.cfg.Gateway() }

// look finds what an earlier server left, and keeps its slots.
func (b *Boxes) look() error {
	entries, err := os.ReadDir(b.sandboxes())
	if err != nil {
		return fmt.Errorf("look for sandboxes: %w", err)
	}
	for _, e := range entries {
		f := found{at: b.layout(e.Name())}
		f.rec, f.err = readRecord(f.at.record(), e.Name())
		if f.err == nil && (int(f.rec.Slot) >= maxBoxes || !b.slots.claim(f.rec.Slot)) {
			f.err = fmt.Errorf("read %s: its slot %d cannot be used", f.at.record(), f.rec.Slot)
		}
		if f.err != nil {
			f.rec = record{ID: e.Name(), Slot: -1}
		}
		b.found = append(b.found, f)
	}
	return nil
}

// Start makes a sandbox and returns when its agent answers. When it fails,
// nothing is left. ErrBusy when there is no room, ErrNotFound when there is no
// such image, ErrInvalid when the spec cannot work.
func (b *Boxes) Start(ctx context.Context, spec labs.Spec) (labs.Box, error) {
	spec, err := b.cfg.spec(spec)
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, fmt.Errorf("start sandbox: the server is stopping: %w", labs.ErrGone)
	}
	b.starting.Add(1)
	b.mu.Unlock()
	defer b.starting.Done()

	image, err := b.cfg.Image(spec.Image)
	if err != nil {
		return nil, fmt.Errorf("start sandbox: image %s: %w", spec.Image, err)
	}
	n, err := b.slots.take()
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	x := &box{boxes: b, rec: record{
		ID: newID(), Slot: n, First: b.cfg.firstID(n), Address: b.cfg.address(n), Image: spec.Image, Egress: spec.Egress, Limits: spec.Limits,
		Agent: b.agent, Boot: b.boot, Created: time.Now().UTC(),
	}}
	x.at = b.layout(x.rec.ID)
	if err := b.launch(ctx, x, image); err != nil {
		if undo := x.Destroy(); undo != nil {
			// Its slot stays taken; the next server sweeps it.
			b.log.Error("what is left of a sandbox that did not start", "sandbox", x.rec.ID, "error", undo)
		}
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	b.know(x)
	return x, nil
}

// know lets Connect find a sandbox.
func (b *Boxes) know(x *box) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live[x.rec.ID] = x
}

// phase measures a part of a start.
func (b *Boxes) phase(name string, f func() error) error {
	start := time.Now()
	err := f()
	took := time.Since(start)
	if b.observe != nil {
		b.observe(name, took)
	}
	return err
}

// launch makes everything a sandbox consists of. On an error the caller tears
// down what is there.
func (b *Boxes) launch(ctx context.Context, x *box, image string) error {
	first := b.cfg.firstID(x.rec.Slot)
	// Only root and the sandbox's own root get through this directory, to
	// whom the runtime must be able to hand things; neither can be reached
	// from inside.
	if err := mkdir(x.at.dir, 0o710, 0, first); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := x.rec.write(x.at.record()); err != nil {
		return err
	}
	for _, dir := range []string{x.at.bundle(), x.at.disk(), x.at.lower(), x.at.rootfs()} {
		if err := os.Mkdir(dir, 0o711); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}

	// What does not depend on one another is made at the same time.
	var users *os.File
	defer func() {
		if users != nil {
			users.Close()
		}
	}()
	var admitted errgroup.Group
	admitted.Go(func() error {
		return b.phase("firewall", func() error { return b.network.join(x.rec.member()) })
	})
	prepared, prepCtx := errgroup.WithContext(ctx)
	prepared.Go(func() error {
		return b.phase("disk", func() error {
			if err := b.disks.create(prepCtx, x.at.image(), x.rec.Limits.Disk); err != nil {
				return err
			}
			return mountDisk(x.at.image(), x.at.disk())
		})
	})
	prepared.Go(func() error {
		return b.phase("user namespace", func() (err error) {
			users, err = newUserNamespace(first)
			return err
		})
	})
	prepared.Go(func() error {
		return b.phase("control groups", func() error { return b.groups.create(x.rec.ID, x.rec.Limits) })
	})
	err := prepared.Wait()
	if err == nil {
		err = b.phase("root file system", func() error { return b.furnish(x, image, users) })
	}
	var pid int
	if err == nil {
		err = b.phase("runtime create", func() (err error) {
			pid, err = b.create(ctx, x, users)
			return err
		})
	}
	if err := errors.Join(err, admitted.Wait()); err != nil {
		return err
	}
	x.rec.PID, x.rec.Started = pid, startTime(pid)
	if err := x.rec.write(x.at.record()); err != nil {
		return err
	}

	var wired errgroup.Group
	wired.Go(func() error {
		return b.phase("link", func() error { return b.network.connect(x.rec.Slot, pid) })
	})
	wired.Go(func() error {
		return b.phase("hand over groups", func() error { return b.groups.delegate(x.rec.ID, first) })
	})
	if err := wired.Wait(); err != nil {
		return err
	}
	if err := b.phase("runtime start", func() error { return b.oci.start(ctx, x.rec.ID, x.at) }); err != nil {
		return err
	}
	if err := b.phase("agent", func() error { return awaitAgent(ctx, x.at.socket()) }); err != nil {
		if said := logTail(x.at.agentLog()); said != "" {
			err = fmt.Errorf("%w; the last it printed is %q", err, said)
		}
		return err
	}
	x.rec.Ready = true
	return x.rec.write(x.at.record())
}

// furnish lays out the disk and mounts the root file system.
func (b *Boxes) furnish(x *box, image string, users *os.File) error {
	first := b.cfg.firstID(x.rec.Slot)
	for _, d := range []struct {
		path  string
		mode  os.FileMode
		owner int
	}{{x.at.disk(), 0o711, 0}, {x.at.upper(), 0o755, first}, {x.at.work(), 0o700, 0}, {x.at.docker(), 0o710, first}} {
		if err := mkdir(d.path, d.mode, d.owner, d.owner); err != nil {
			return fmt.Errorf("lay out disk: %w", err)
		}
	}
	if err := mountRootfs(image, x.at.lower(), x.at.upper(), x.at.work(), x.at.rootfs(), users); err != nil {
		return err
	}
	err := writeNames(x.at.rootfs(), first, hostname, b.cfg.address(x.rec.Slot), b.network.resolvers(x.rec.Egress))
	if err != nil {
		return fmt.Errorf("write names in /etc: %w", err)
	}
	return nil
}

// create has the runtime make the namespaces and the first process.
func (b *Boxes) create(ctx context.Context, x *box, users *os.File) (int, error) {
	bundle := bundle{
		id: x.rec.ID, at: x.at, agent: b.agent, tun: b.tun, users: users,
		first: b.cfg.firstID(x.rec.Slot), group: b.groups.runtimePath(x.rec.ID), limits: x.rec.Limits,
	}
	if x.rec.Egress != labs.EgressNone && b.cfg.Mirror != 0 {
		bundle.mirror = "http://" + net.JoinHostPort(b.Gateway().String(), strconv.Itoa(int(b.cfg.Mirror)))
	}
	if err := bundle.write(); err != nil {
		return 0, err
	}
	listener, err := listenAgent(x.at.socket())
	if err != nil {
		return 0, err
	}
	// From here on only the sandbox holds it: it closes when the agent ends.
	defer listener.Close()
	// On the sandbox's own disk: what is written to it counts there.
	out, err := os.OpenFile(x.at.agentLog(), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return 0, fmt.Errorf("make the agent's log: %w", err)
	}
	defer out.Close()
	return b.oci.create(ctx, x.rec.ID, x.at, listener, out)
}

// teardown removes everything that a sandbox consists of, as far as it is
// there. It goes on after an error, so that as little as possible is left.
func (b *Boxes) teardown(rec record, at layout) error {
	var errs []error
	try := func(err error) { errs = append(errs, err) }
	phase := func(name string, f func() error) { try(b.phase(name, f)) }

	// The group first: what is in it may be unable to end, see unstick, and the
	// first process ends after all others.
	phase("kill group", func() error { return b.groups.kill(rec.ID) })
	if rec.Boot == b.boot {
		phase("end processes", func() error { return endProcess(rec.PID, rec.Started) })
	}
	var rest errgroup.Group
	rest.Go(func() error {
		return b.phase("runtime delete", func() error {
			return errors.Join(b.oci.remove(rec.ID), b.groups.remove(rec.ID))
		})
	})
	if rec.Slot >= 0 {
		rest.Go(func() error {
			return b.phase("leave network", func() error { return b.network.leave(rec.member()) })
		})
	}
	phase("unmount", func() error { return b.unmountAll(at) })
	try(rest.Wait())
	// The record goes last: while it is there, the next server tries again.
	if errors.Join(errs...) == nil {
		phase("remove files", func() error { return os.RemoveAll(at.dir) })
	}
	return errors.Join(errs...)
}

// unmountAll takes away a sandbox's mounts and its loop device.
func (b *Boxes) unmountAll(at layout) error {
	dropDisk(at.disk())
	if err := errors.Join(unmount(at.rootfs()), unmount(at.lower()), unmount(at.disk())); err != nil {
		return err
	}
	if err := detachLoops(at.dir); err != nil {
		// Somebody else on this machine holds on to the mount, in a mount
		// namespace that nothing here reaches. The device goes with its last
		// user; the space need not wait for that.
		b.log.Warn("the loop device of a sandbox is still in use by another program", "directory", at.dir, "error", err)
	}
	if err := os.Truncate(at.image(), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("give back disk space: %w", err)
	}
	return nil
}

// Adopt returns the sandboxes of an earlier server that still run, and removes
// what is left of all others.
func (b *Boxes) Adopt(ctx context.Context) ([]labs.Box, error) {
	b.mu.Lock()
	left := b.found
	b.found = nil
	b.mu.Unlock()

	var adopted []labs.Box
	live, agents := map[string]bool{}, map[string]bool{b.agent: true}
	links := map[string]bool{}
	var errs []error
	// Together: an agent whose learner keeps it from answering costs the
	// server's start its patience, a hundred of them no more than that.
	var asked sync.WaitGroup
	for i := range left {
		asked.Go(func() {
			if left[i].err == nil {
				left[i].err = b.alive(ctx, &box{boxes: b, rec: left[i].rec, at: left[i].at})
			}
		})
	}
	asked.Wait()
	for _, f := range left {
		x := &box{boxes: b, rec: f.rec, at: f.at}
		why := f.err
		if ctx.Err() != nil {
			return adopted, fmt.Errorf("adopt sandboxes: %w", context.Cause(ctx))
		}
		if why == nil {
			adopted = append(adopted, x)
			b.know(x)
			live[x.rec.ID], agents[x.rec.Agent], links[b.cfg.link(x.rec.Slot)] = true, true, true
			continue
		}
		b.log.Info("sweeping a sandbox that did not outlive the last server", "sandbox", f.rec.ID, "reason", why)
		if err := b.teardown(f.rec, f.at); err != nil {
			errs = append(errs, fmt.Errorf("sweep sandbox %s: %w", f.rec.ID, err))
		} else if f.rec.Slot >= 0 {
			b.slots.free(f.rec.Slot)
		}
	}
	errs = append(errs, b.sweep(live, links), pruneAgents(b.agents(), agents))
	if err := errors.Join(errs...); err != nil {
		// What runs is worth more than what could not be cleaned.
		b.log.Error("something of earlier sandboxes could not be removed", "error", err)
	}
	return adopted, nil
}

// alive reports why a sandbox cannot be adopted, or nil.
func (b *Boxes) alive(ctx context.Context, x *box) error {
	switch {
	case x.rec.Boot != b.boot:
		return errors.New("the machine was restarted")
	case !x.rec.Ready:
		return errors.New("it had not finished starting")
	case x.rec.First != b.cfg.firstID(x.rec.Slot) || x.rec.Address != b.cfg.address(x.rec.Slot):
		return errors.New("the server's network or user ids were changed")
	case x.rec.PID <= 1 || startTime(x.rec.PID) != x.rec.Started:
		return errors.New("its first process has ended")
	}
	return awaitAgent(ctx, x.at.socket())
}

// sweep removes what belongs to none of the live sandboxes: groups, links,
// mounts and loop devices of which not even a directory is left.
func (b *Boxes) sweep(live, links map[string]bool) error {
	var errs []error
	for _, id := range b.groups.list() {
		if !live[id] {
			errs = append(errs, b.groups.kill(id), b.groups.remove(id))
		}
	}
	for _, id := range b.oci.list() {
		if !live[id] {
			errs = append(errs, b.oci.remove(id))
		}
	}
	names, err := b.network.links()
	errs = append(errs, err)
	for _, name := range names {
		if !links[name] {
			errs = append(errs, b.network.removeLink(name))
		}
	}
	belongs := func(path string) bool {
		id, _, _ := strings.Cut(strings.TrimPrefix(path, b.sandboxes()+"/"), "/")
		return live[id]
	}
	mounts, err := mountsBelow(b.sandboxes())
	errs = append(errs, err)
	for _, m := range mounts {
		if m != b.sandboxes() && !belongs(m) {
			errs = append(errs, unmount(m))
		}
	}
	for _, id := range b.strayLoops(live) {
		errs = append(errs, detachLoops(filepath.Join(b.sandboxes(), id)))
	}
	return errors.Join(errs...)
}

// strayLoops lists the ids of dead sandboxes whose disks are still attached.
func (b *Boxes) strayLoops(live map[string]bool) []string {
	files, _ := loopFiles(b.sandboxes())
	var ids []string
	for file := range files {
		id, _, _ := strings.Cut(strings.TrimPrefix(file, b.sandboxes()+"/"), "/")
		if !live[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// Close waits for starts that are under way. Running sandboxes go on; when
// there is none, everything that New made for them is removed.
func (b *Boxes) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()
	b.starting.Wait()

	if err := b.release(); err != nil {
		return fmt.Errorf("local sandboxes: %w", err)
	}
	return nil
}

// release lets go of what New took, and removes it when no sandbox is left.
func (b *Boxes) release() error {
	defer dropLocks(b.locks)
	entries, err := os.ReadDir(b.sandboxes())
	if err != nil || len(entries) > 0 {
		return err
	}
	var errs []error
	if b.network != nil {
		errs = append(errs, b.network.close())
	}
	if b.groups != nil {
		errs = append(errs, b.groups.close())
	}
	return errors.Join(append(errs, unmount(b.sandboxes()))...)
}

// makeTun makes a node of the tun device that sandboxes may open: the
// machine's own is often for root only.
func makeTun(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
			return "", fmt.Errorf("make device node: %w", err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			return "", fmt.Errorf("make device node: %w", err)
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return "", fmt.Errorf("open device node: %w", err)
	}
	return path, f.Close()
}

// newID names a sandbox: 80 random bits, so that nobody guesses its directory.
func newID() string {
	var raw [10]byte
	rand.Read(raw[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw[:]))
}
