package local

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/labs"
)

// cgroups keeps the sandboxes' control groups, of version 2 or 1:
//
//	NAME            all sandboxes
//	NAME/ID         one sandbox: its limits, out of reach from inside
//	NAME/ID/inner   what the sandbox sees as its root and owns
//
// Methods may be called concurrently for different sandboxes.
type cgroups struct {
	name  string
	v2    bool
	all   []string          // where hierarchies are mounted
	roots map[string]string // controller to hierarchy, v1
}

// cpuPeriod is the time over which CPU limits are enforced, in microseconds.
const cpuPeriod = 100_000

// needed are the controllers without which limits do not hold.
var needed = []string{"cpu", "memory", "pids"}

// findCgroups looks at how control groups are mounted here.
func findCgroups(name string) (*cgroups, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	defer f.Close()
	return parseCgroups(f, name, "/sys/fs/cgroup")
}

// parseCgroups finds the hierarchies below base in a list of mounts.
func parseCgroups(mounts io.Reader, name, base string) (*cgroups, error) {
	c := &cgroups{name: name, roots: map[string]string{}}
	var unified string
	lines := bufio.NewScanner(mounts)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		point := unescapeMount(left[4])
		if left[3] != "/" || !strings.HasPrefix(point, base) {
			continue
		}
		switch right[0] {
		case "cgroup2":
			if unified == "" {
				unified = point
				c.all = append(c.all, point)
			}
		case "cgroup":
			news := false
			for _, option := range strings.Split(right[2], ",") {
				if _, ok := c.roots[option]; !ok && option != "rw" && option != "ro" && option != "xattr" {
					c.roots[option] = point
					news = true
				}
			}
			if news {
				c.all = append(c.all, point)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	if unified == base {
		c.v2 = true
		c.all = []string{unified}
		have, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers"))
		if err != nil {
			return nil, fmt.Errorf("find control groups: %w", err)
		}
		for _, controller := range strings.Fields(string(have)) {
			c.roots[controller] = unified
		}
	}
	for _, controller := range needed {
		if c.roots[controller] == "" {
			return nil, fmt.Errorf("the control group controller %q is not available under %s", controller, base)
		}
	}
	return c, nil
}

// path is a directory of sandbox id, or of all with id "", in a hierarchy.
func (c *cgroups) path(root string, parts ...string) string {
	return filepath.Join(append([]string{root, c.name}, parts...)...)
}

// runtimePath is the group that the OCI runtime is told to use.
func (c *cgroups) runtimePath(id string) string { return "/" + c.name + "/" + id + "/inner" }

// open makes the group of all sandboxes.
func (c *cgroups) open() error {
	for _, root := range c.all {
		if c.v2 {
			if err := enableControllers(root); err != nil {
				return err
			}
		}
		if err := c.makeGroup(root); err != nil {
			return err
		}
	}
	// All sandboxes together weigh half of any other service.
	if c.v2 {
		_ = writeControl(c.path(c.all[0]), "cpu.weight", "50")
	} else {
		_ = writeControl(c.path(c.roots["cpu"]), "cpu.shares", "512")
	}
	return nil
}

// makeGroup makes a group that can have children with limits.
func (c *cgroups) makeGroup(root string, parts ...string) error {
	dir := c.path(root, parts...)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make control group: %w", err)
	}
	switch {
	case c.v2:
		return enableControllers(dir)
	case root == c.roots["cpuset"]:
		return inheritCpuset(dir)
	}
	return nil
}

// create makes the group of a sandbox and sets its limits.
func (c *cgroups) create(id string, l labs.Limits) error {
	for _, root := range c.all {
		if err := c.makeGroup(root, id); err != nil {
			return err
		}
	}
	quota := strconv.FormatInt(max(int64(l.CPU*cpuPeriod), 1000), 10)
	memory := strconv.FormatInt(l.Memory, 10)
	processes := strconv.Itoa(l.Processes)
	cpu, mem, pids := c.path(c.roots["cpu"], id), c.path(c.roots["memory"], id), c.path(c.roots["pids"], id)
	// Where the kernel accounts no swap there is no file for it; a v1 limit
	// on both comes after that on memory.
	optional := func(dir, file, value string) error {
		if err := writeControl(dir, file, value); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if c.v2 {
		return errors.Join(
			writeControl(mem, "memory.max", memory),
			optional(mem, "memory.swap.max", "0"),
			writeControl(cpu, "cpu.max", quota+" "+strconv.Itoa(cpuPeriod)),
			writeControl(pids, "pids.max", processes),
			writeControl(mem, "cgroup.max.descendants", strconv.Itoa(maxGroups)))
	}
	return errors.Join(
		writeControl(mem, "memory.limit_in_bytes", memory),
		optional(mem, "memory.memsw.limit_in_bytes", memory),
		writeControl(cpu, "cpu.cfs_period_us", strconv.Itoa(cpuPeriod)),
		writeControl(cpu, "cpu.cfs_quota_us", quota),
		writeControl(pids, "pids.max", processes))
}

// enableControllers hands all controllers of a v2 group on to its children.
func enableControllers(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read controllers: %w", err)
	}
	for _, controller := range strings.Fields(string(have)) {
		err := writeControl(dir, "cgroup.subtree_control", "+"+controller)
		if err != nil && slices.Contains(needed, controller) {
			return err
		}
	}
	return nil
}

// inheritCpuset fills in a new v1 cpuset, which is unusable while it is empty.
func inheritCpuset(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(own)) > 0 {
			continue
		}
		above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := writeControl(dir, name, string(bytes.TrimSpace(above))); err != nil {
			return err
		}
	}
	return nil
}

// delegate gives the inner group to the sandbox's root, so that an engine
// inside can make groups of its own.
func (c *cgroups) delegate(id string, owner int) error {
	give := func(dir string, files ...string) error {
		if err := os.Chown(dir, owner, owner); err != nil {
			return fmt.Errorf("hand over control group: %w", err)
		}
		for _, f := range files {
			if err := os.Chown(filepath.Join(dir, f), owner, owner); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("hand over control group: %w", err)
			}
		}
		return nil
	}
	for _, root := range c.all {
		if !c.counted(root) {
			continue
		}
		inner := c.path(root, id, "inner")
		if _, err := os.Stat(inner); errors.Is(err, fs.ErrNotExist) {
			continue // the runtime does not use this hierarchy
		}
		// Those that version 2 names for it, and tasks of version 1. Limits of
		// this group stay root's, and those above are out of sight.
		if err := give(inner, "cgroup.procs", "tasks", "cgroup.threads", "cgroup.subtree_control", "memory.oom.group"); err != nil {
			return err
		}
	}
	return nil
}

// counted reports whether a hierarchy has a controller. Engines do without the
// others, and the kernel tells of nobody's number of groups in them.
func (c *cgroups) counted(root string) bool {
	for controller, at := range c.roots {
		if at == root && !strings.HasPrefix(controller, "name=") {
			return true
		}
	}
	return false
}

// processes lists the processes of a sandbox.
func (c *cgroups) processes(id string) ([]int, error) {
	var pids []int
	err := groupTree{enter: func(group int) error {
		text, err := readAt(group, "cgroup.procs")
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil // threads of processes that a group above lists
		}
		for _, line := range strings.Fields(text) {
			if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return err
	}}.walk(c.path(c.roots["pids"], id))
	return pids, err
}

// kill ends every process of a sandbox and waits until they are gone.
func (c *cgroups) kill(id string) error {
	deadline := time.Now().Add(10 * time.Second)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		pids, err := c.processes(id)
		if err == nil && len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			if err != nil {
				return fmt.Errorf("list processes: %w", err)
			}
			return fmt.Errorf("%d processes do not end, the first is %d", len(pids), pids[0])
		}
		if c.v2 {
			_ = writeControl(c.path(c.all[0], id), "cgroup.kill", "1")
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(wait)
		c.unstick(id)
	}
}

// unstick lifts what a sandbox's groups impose on their processes and what even
// a killed process waits for: version 1 freezes it for good, a disk limit of a
// byte a second keeps it in a write for years, and with a processor limit of a
// thousandth it takes as long to end. Errors are left to the wait for the
// processes.
func (c *cgroups) unstick(id string) {
	for _, root := range c.all {
		if !c.v2 && root != c.roots["freezer"] && root != c.roots["cpu"] && root != c.roots["blkio"] {
			continue
		}
		_ = groupTree{enter: func(group int) error {
			_ = writeAt(group, "freezer.state", "THAWED")
			_ = writeAt(group, "cgroup.freeze", "0")
			for _, limit := range []struct{ file, none string }{
				{"blkio.throttle.read_bps_device", "0"}, {"blkio.throttle.read_iops_device", "0"},
				{"blkio.throttle.write_bps_device", "0"}, {"blkio.throttle.write_iops_device", "0"},
				{"io.max", "rbps=max wbps=max riops=max wiops=max"},
			} {
				text, _ := readAt(group, limit.file)
				for line := range strings.Lines(text) {
					if device, _, ok := strings.Cut(line, " "); ok {
						_ = writeAt(group, limit.file, device+" "+limit.none)
					}
				}
			}
			_ = writeAt(group, "cpu.cfs_quota_us", "-1")
			_ = writeAt(group, "cpu.max", "max")
			return nil
		}}.walk(c.path(root, id, "inner"))
	}
}

// remove takes away the groups of a sandbox, or what is left of them.
func (c *cgroups) remove(id string) error {
	var errs []error
	for _, root := range c.all {
		errs = append(errs, removeGroups(c.path(root, id)))
	}
	return errors.Join(errs...)
}

// removeGroups removes a group and all groups in it. A group whose last
// process ended just now can stay busy for a moment.
func removeGroups(dir string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := rmdirTree(dir)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || wait > time.Second {
			return fmt.Errorf("remove control group: %w", err)
		}
		time.Sleep(wait)
	}
}

func rmdirTree(dir string) error {
	err := groupTree{leave: func(parent int, name string) error {
		if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "rmdir", Path: name, Err: err}
		}
		return nil
	}}.walk(dir)
	if err != nil {
		return err
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// list gives the ids of the sandboxes that have a group.
func (c *cgroups) list() []string {
	var ids []string
	for _, root := range c.all {
		children, _ := os.ReadDir(c.path(root))
		for _, child := range children {
			if child.IsDir() && !slices.Contains(ids, child.Name()) {
				ids = append(ids, child.Name())
			}
		}
	}
	return ids
}

// close removes the group of all sandboxes, which must be empty.
func (c *cgroups) close() error {
	var errs []error
	for _, root := range c.all {
		if err := unix.Rmdir(c.path(root)); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, &os.PathError{Op: "rmdir", Path: c.path(root), Err: err})
		}
	}
	return errors.Join(errs...)
}

// crowded gives an error when a sandbox has made more than maxGroups groups.
// The kernel charges them to nobody, so that a sandbox that goes on making them
// would use up the machine's memory. Version 2 has a limit; in version 1 all that
// can be done is to look, and only when there are enough groups on the whole
// machine.
func (c *cgroups) crowded(id string) error {
	if c.v2 {
		return nil
	}
	if many, err := crowdedMachine(); !many {
		return err
	}
	for _, root := range c.all {
		n := 0
		err := groupTree{enter: func(int) error {
			if n++; n > maxGroups {
				return &labs.Problem{Kind: labs.ErrGone, Say: fmt.Sprintf("The sandbox made more than %d control groups and was ended. What you had ticked off is kept.", maxGroups)}
			}
			return nil
		}}.walk(c.path(root, id))
		if err != nil {
			return err
		}
	}
	return nil
}

// crowdedMachine reports whether some hierarchy has more than maxGroups groups.
func crowdedMachine() (bool, error) {
	text, err := os.ReadFile("/proc/cgroups")
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // kernels without it have to be looked at
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // name, hierarchy, groups, enabled
		if len(fields) < 3 {
			continue
		}
		if n, err := strconv.Atoi(fields[2]); err == nil && n > maxGroups {
			return true, nil
		}
	}
	return false, err
}

// usage measures a sandbox. Counters of groups that were removed inside are
// missing from oomKills and forkFails.
func (c *cgroups) usage(id string) (u labs.Usage, err error) {
	if err := c.crowded(id); err != nil {
		return u, err
	}
	mem, pids := c.path(c.roots["memory"], id), c.path(c.roots["pids"], id)
	if c.v2 {
		dir := c.path(c.all[0], id)
		micros, err := readField(dir, "cpu.stat", "usage_usec")
		if err != nil {
			return u, err
		}
		u.CPU = time.Duration(micros) * time.Microsecond
		total, err := readNumber(dir, "memory.current")
		if err != nil {
			return u, err
		}
		if u.Memory, err = withoutCache(dir, total, "file", "shmem"); err != nil {
			return u, err
		}
		if u.OOMKills, err = readField(dir, "memory.events", "oom_kill"); err != nil {
			return u, err
		}
	} else {
		nanos, err := readNumber(c.path(c.roots["cpuacct"], id), "cpuacct.usage")
		if err != nil {
			return u, err
		}
		u.CPU = time.Duration(nanos)
		total, err := readNumber(mem, "memory.usage_in_bytes")
		if err != nil {
			return u, err
		}
		if u.Memory, err = withoutCache(mem, total, "total_cache", "total_shmem"); err != nil {
			return u, err
		}
		// Version 1 counts a kill in the group of the process only.
		if u.OOMKills, err = sumField(mem, "memory.oom_control", "oom_kill"); err != nil {
			return u, err
		}
	}
	n, err := readNumber(pids, "pids.current")
	if err != nil {
		return u, err
	}
	u.Processes = int(n)
	// Newer kernels count refused forks where the limit is, older ones where
	// the process is.
	if u.ForkFails, err = readField(pids, "pids.events", "max"); err == nil && u.ForkFails == 0 {
		u.ForkFails, err = sumField(pids, "pids.events", "max")
	}
	return u, err
}

// withoutCache takes the page cache off a group's memory use, but not files in
// memory file systems, which the kernel counts as cache too.
func withoutCache(dir string, total int64, cache, shmem string) (int64, error) {
	c, err := readField(dir, "memory.stat", cache)
	if err != nil {
		return 0, err
	}
	s, err := readField(dir, "memory.stat", shmem)
	return max(0, total-max(0, c-s)), err
}

// maxGroups bounds how many groups a sandbox has in a hierarchy.
const maxGroups = 1000

// sumField adds up a field over a group and the groups in it.
func sumField(dir, file, field string) (sum int64, err error) {
	n := 0
	err = groupTree{enter: func(group int) error {
		if n++; n > maxGroups {
			return fs.SkipAll
		}
		text, err := readAt(group, file)
		if err != nil {
			return err
		}
		v, err := fieldIn(text, field)
		sum += v
		return err
	}}.walk(dir)
	return sum, err
}

// readField reads the number after a word at the start of a line.
func readField(dir, file, field string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	return fieldIn(string(data), field)
}

func readNumber(dir, file string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

// writeControl writes a control file, which is never created.
func writeControl(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
