package local

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/labs"
)

// reserve is the space on the machine's own disk that sandboxes leave alone.
const reserve = 1 << 30

// disks makes the sandboxes' disks: files of a fixed size, formatted with ext4
// and attached as loop devices, so that a full disk is full for one sandbox
// only. Formatting is done once for every size; a disk is a sparse copy.
type disks struct {
	dir string // where formatted templates are kept
	mu  sync.Mutex
}

// create makes a disk of size bytes in the new file path. ErrBusy when the
// machine would run out of space if it were filled.
func (d *disks) create(ctx context.Context, path string, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(d.dir, &fs); err != nil {
		return fmt.Errorf("measure free space: %w", err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < size+reserve {
		return fmt.Errorf("%d MiB free on the disk of %s, %d MiB needed: %w", free>>20, d.dir, (size+reserve)>>20, labs.ErrBusy)
	}
	template, err := d.template(ctx, size)
	if err != nil {
		return err
	}
	if err := copySparse(path, template, size); err != nil {
		return fmt.Errorf("copy formatted disk: %w", err)
	}
	return nil
}

// template gives a formatted file of this size.
func (d *disks) template(ctx context.Context, size int64) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := filepath.Join(d.dir, strconv.FormatInt(size>>20, 10)+".ext4")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// A name of its own: a formatter can outlive a server that was killed.
	f, err := os.CreateTemp(d.dir, draftPrefix)
	if err != nil {
		return "", fmt.Errorf("make disk template: %w", err)
	}
	draft := f.Name()
	defer os.Remove(draft)
	err = f.Truncate(size)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("make disk template: %w", err)
	}
	// No journal: a disk does not outlive the machine's run.
	cmd := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-I", "256",
		"-O", "^has_journal,^resize_inode,^metadata_csum,uninit_bg,^orphan_file",
		"-E", "lazy_itable_init=1,nodiscard,packed_meta_blocks=1,root_owner=0:0", draft)
	// Tools for disks are often not in the PATH of a service.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if cmd.Err != nil {
		if p, err := findProgram("mkfs.ext4"); err == nil {
			cmd.Path, cmd.Err = p, nil
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("format disk template with mkfs.ext4: %w: %s", err, lastLine(out))
	}
	if err := os.Rename(draft, path); err != nil {
		return "", fmt.Errorf("make disk template: %w", err)
	}
	return path, nil
}

// draftPrefix begins the names of templates that are not ready.
const draftPrefix = "draft-"

// tidy removes templates that an earlier server did not finish.
func (d *disks) tidy() error {
	drafts, err := filepath.Glob(filepath.Join(d.dir, draftPrefix+"*"))
	for _, f := range drafts {
		err = errors.Join(err, os.Remove(f))
	}
	if err != nil {
		return fmt.Errorf("remove unfinished disk templates: %w", err)
	}
	return nil
}

// findProgram looks for a program in PATH and in the places of system tools.
func findProgram(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", err
}

// copySparse copies only what is not a hole.
func copySparse(to, from string, size int64) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil
	}
	if err := dst.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(src.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(src.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, start), io.NewSectionReader(src, start, end-start)); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// mountDisk attaches the file as a loop device and mounts it at dir. The
// device goes away by itself with the mount.
func mountDisk(file, dir string) error {
	img, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer img.Close()
	dev, err := attachLoop(img)
	if err != nil {
		return fmt.Errorf("attach loop device: %w", err)
	}
	// Held until mounted; afterwards the mount is the last user.
	defer dev.Close()
	// No barriers: nothing needs to survive a crash of the machine. No discard:
	// it makes removing many files take ten times as long, and the space comes
	// back with the sandbox's end.
	err = unix.Mount(dev.Name(), dir, "ext4", unix.MS_NODEV|unix.MS_NOATIME, "barrier=0,noinit_itable")
	if err != nil {
		return fmt.Errorf("mount %s as ext4: %w", dev.Name(), err)
	}
	return nil
}

func attachLoop(img *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	// Through the page cache: much of what a learner writes is removed again
	// before it ever needs to reach the disk.
	conf := unix.LoopConfig{Fd: uint32(img.Fd())}
	conf.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	copy(conf.Info.File_name[:len(conf.Info.File_name)-1], img.Name())
	// Between asking for a free device and taking it another process may be
	// quicker; each round is one lost race.
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free one: %w", err)
		}
		path := "/dev/loop" + strconv.Itoa(n)
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s is missing although the kernel has it: %w", path, err)
		}
		if err != nil {
			continue
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &conf)
		if err == nil {
			return dev, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil, fmt.Errorf("none could be had: %w", unix.EBUSY)
}

// Ends an ext4 file system at once: what was not written yet never will be.
const (
	ext4Shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
	ext4NoLogFlush = 2
)

// dropDisk ends the file system mounted at dir, if it is one of ours, so that
// taking it down does not first write out what nobody will read.
func dropDisk(dir string) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if mounted, err := isMountPoint(dir); err != nil || !mounted {
		return
	}
	// When the kernel cannot, unmounting only takes longer.
	_ = unix.IoctlSetPointerInt(fd, ext4Shutdown, ext4NoLogFlush)
}

// isMountPoint reports whether something is mounted at dir.
func isMountPoint(dir string) (bool, error) {
	var own, parent unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &own); err != nil {
		return false, err
	}
	if err := unix.Statx(unix.AT_FDCWD, filepath.Dir(dir), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &parent); err != nil {
		return false, err
	}
	return own.Mnt_id != parent.Mnt_id, nil
}

// shareMounts makes dir a mount point of its own under which mounting and
// unmounting is passed on to other mount namespaces. Otherwise any program
// that is started in a mount namespace of its own while a sandbox runs would
// keep that sandbox's mounts, and its disk, for as long as it runs itself.
func shareMounts(dir string) error {
	mounted, err := isMountPoint(dir)
	if err == nil && !mounted {
		err = unix.Mount(dir, dir, "", unix.MS_BIND, "")
	}
	if err == nil {
		err = unix.Mount("", dir, "", unix.MS_SHARED, "")
	}
	if err != nil {
		return fmt.Errorf("share mounts in %s: %w", dir, err)
	}
	return nil
}

// unmount takes away everything that is mounted at dir.
func unmount(dir string) error {
	for range 64 {
		err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, os.ErrNotExist):
			return nil // not a mount point any more
		case err != nil:
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	return fmt.Errorf("unmount %s: too many mounts on one another", dir)
}

// mountsBelow lists the mount points at and below dir, the latest first.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if p := unescapeMount(fields[4]); p == dir || strings.HasPrefix(p, dir+"/") {
			found = append(found, p)
		}
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	return found, lines.Err()
}

// unescapeMount turns \040 and the like in a mountinfo field into characters.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// loopFiles lists the files below dir that are attached, with their devices.
func loopFiles(dir string) (devices map[string]string, err error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	devices = map[string]string{}
	for _, f := range files {
		backing, err := os.ReadFile(f)
		if err != nil {
			continue // detached in between
		}
		// A file that was removed is marked so.
		name := strings.TrimSuffix(strings.TrimSpace(string(backing)), " (deleted)")
		if strings.HasPrefix(name, dir+"/") {
			devices[name] = "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(f)))
		}
	}
	return devices, nil
}

// detachLoops detaches the loop devices whose file is below dir. They go by
// themselves with the last user, usually before this looks.
func detachLoops(dir string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		loops, err := loopFiles(dir)
		if err != nil {
			return fmt.Errorf("list loop devices: %w", err)
		}
		if len(loops) == 0 {
			return nil
		}
		for _, dev := range loops {
			f, err := os.Open(dev)
			if err != nil {
				continue
			}
			_ = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
			f.Close()
		}
		if wait > time.Second {
			return fmt.Errorf("loop devices are still attached: %s", strings.Join(slices.Sorted(maps.Values(loops)), " "))
		}
		time.Sleep(wait)
	}
}

// usedBytes measures how much of a disk of size bytes, mounted at dir, is in
// use. What the file system keeps for itself is spread over all that can be
// written: a disk on which nothing can be written any more is in use whole.
func usedBytes(dir string, size int64) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("measure disk: %w", err)
	}
	if fs.Blocks == 0 {
		return 0, nil
	}
	return int64(float64(size) * float64(fs.Blocks-fs.Bavail) / float64(fs.Blocks)), nil
}

// lastLine gives the last line of a program's output, for messages.
func lastLine(out []byte) string {
	out = bytes.TrimSpace(out)
	if i := bytes.LastIndexByte(out, '\n'); i >= 0 {
		out = out[i+1:]
	}
	if len(out) > 500 {
		out = out[:500]
	}
	return string(out)
}
