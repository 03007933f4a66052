package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountRootfs lays a sandbox's own writable layer over the shared image.
//
// The image belongs to root and is seen through a mount that shifts its ids
// into the sandbox's range, so that nothing of it is copied or changed. upper
// and work are on the sandbox's disk.
func mountRootfs(image, lower, upper, work, target string, users *os.File) error {
	if err := mountShifted(image, lower, users); err != nil {
		return fmt.Errorf("mount image with shifted ids: %w", err)
	}
	// The overlay holds on to its layers without the mount point. Volatile:
	// a sync inside need not reach the disk, see mountDisk.
	err := unix.Mount("overlay", target, "overlay", unix.MS_NODEV,
		"volatile,lowerdir="+lower+",upperdir="+upper+",workdir="+work)
	if err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return unmount(lower)
}

// mountShifted mounts the directory from at to, read-only, with its ids mapped
// by the user namespace.
func mountShifted(from, to string, users *os.File) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open %s: %w", from, err)
	}
	defer unix.Close(fd)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV,
		Propagation: unix.MS_PRIVATE,
		Userns_fd:   uint64(users.Fd()),
	})
	if err != nil {
		return fmt.Errorf("map ids: %w", err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", to, err)
	}
	return nil
}

// writeNames writes the files in /etc that say who and where the sandbox is.
// root is its root file system; no link in it leads out.
func writeNames(root string, owner int, hostname string, addr netip.Addr, dns []netip.Addr) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer r.Close()
	var resolv strings.Builder
	for _, d := range dns {
		fmt.Fprintf(&resolv, "nameserver %s\n", d)
	}
	if len(dns) == 0 {
		resolv.WriteString("# this sandbox reaches no name server\n")
	}
	hosts := "127.0.0.1\tlocalhost\n" + addr.String() + "\t" + hostname + "\n"
	if err := r.Mkdir("etc", 0o755); err == nil {
		if err := r.Lchown("etc", owner, owner); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, f := range []struct{ name, text string }{
		{"etc/hostname", hostname + "\n"},
		{"etc/hosts", hosts},
		{"etc/resolv.conf", resolv.String()},
	} {
		// Often a link into /run; a file of its own takes its place.
		if err := r.Remove(f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := r.WriteFile(f.name, []byte(f.text), 0o644); err != nil {
			return err
		}
		if err := r.Lchown(f.name, owner, owner); err != nil {
			return err
		}
	}
	return nil
}

// layout names the files and directories of one sandbox.
type layout struct{ dir string }

func (l layout) record() string   { return filepath.Join(l.dir, "state.json") }
func (l layout) image() string    { return filepath.Join(l.dir, "disk.img") }
func (l layout) disk() string     { return filepath.Join(l.dir, "disk") }
func (l layout) lower() string    { return filepath.Join(l.dir, "lower") }
func (l layout) rootfs() string   { return filepath.Join(l.dir, "rootfs") }
func (l layout) bundle() string   { return filepath.Join(l.dir, "bundle") }
func (l layout) pid() string      { return filepath.Join(l.dir, "pid") }
func (l layout) runlog() string   { return filepath.Join(l.dir, "runtime.log") }
func (l layout) socket() string   { return filepath.Join(l.dir, "agent.sock") }
func (l layout) upper() string    { return filepath.Join(l.disk(), "upper") }
func (l layout) work() string     { return filepath.Join(l.disk(), "work") }
func (l layout) docker() string   { return filepath.Join(l.disk(), "docker") }
func (l layout) agentLog() string { return filepath.Join(l.disk(), "agent.log") }
