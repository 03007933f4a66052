package local

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A groupTree walks a control group and all groups in it. Whoever owns groups
// inside a sandbox chooses how many there are, how deep they nest and what they
// are called: a path can be longer than any call takes, and a descriptor for
// every level more than a process may hold. So it goes down and up one level at
// a time with a single descriptor.
//
// Groups that vanish meanwhile are left out.
type groupTree struct {
	enter func(group int) error               // a descriptor of the directory, for the call only; nil for nothing
	leave func(parent int, name string) error // after everything in the group has been left; nil for nothing
}

// walk begins at dir. enter is called for dir too, leave is not. fs.SkipAll
// ends the walk without an error.
func (t groupTree) walk(dir string) error {
	err := t.descend(dir)
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func (t groupTree) descend(dir string) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	type level struct {
		name string
		left []string // groups in it that are still to be walked
	}
	fd, err := unix.Open(dir, flags, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer func() { unix.Close(fd) }()
	var levels []level
	arrive := func(name string) error {
		if t.enter != nil {
			if err := t.enter(fd); err != nil {
				return err
			}
		}
		left, err := groupsIn(fd)
		levels = append(levels, level{name, left})
		return err
	}
	if err := arrive(""); err != nil {
		return err
	}
	for {
		last := &levels[len(levels)-1]
		name := ""
		if n := len(last.left); n > 0 {
			name, last.left = last.left[n-1], last.left[:n-1]
		} else if len(levels) == 1 {
			return nil
		}
		to := name
		if name == "" {
			to = ".."
		}
		next, err := unix.Openat(fd, to, flags, 0)
		if errors.Is(err, unix.ENOENT) && name != "" {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: to, Err: err}
		}
		unix.Close(fd)
		fd = next
		if name != "" {
			if err := arrive(name); err != nil {
				return err
			}
			continue
		}
		name, levels = last.name, levels[:len(levels)-1]
		if t.leave != nil {
			if err := t.leave(fd, name); err != nil {
				return err
			}
		}
	}
}

// groupsIn lists the groups directly in one.
func groupsIn(group int) ([]string, error) {
	again, err := unix.Openat(group, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: ".", Err: err}
	}
	dir := os.NewFile(uintptr(again), "control group")
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		err = nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// readAt reads a control file of a group. What is not there is empty.
func readAt(group int, file string) (string, error) {
	fd, err := unix.Openat(group, file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	var data []byte
	if err == nil {
		f := os.NewFile(uintptr(fd), file)
		defer f.Close()
		data, err = io.ReadAll(f)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return "", nil
	}
	return string(data), err
}

// writeAt writes a control file of a group, if there is one.
func writeAt(group int, file, value string) error {
	fd, err := unix.Openat(group, file, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(value))
		unix.Close(fd)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "write", Path: file, Err: err}
	}
	return nil
}

// fieldIn gives the number after a word at the start of a line, 0 when there is
// none.
func fieldIn(text, field string) (int64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, field+" "); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, nil
}
