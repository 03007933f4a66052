package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"berth/labs"

	"golang.org/x/sys/unix"
)

// MaxText is the size in bytes of the largest file that is read and replaced
// as a whole.
const MaxText = 16 << 20

// readTime is how long a file may take to be read that can keep a reader waiting.
const readTime = 2 * time.Second

// maxLinks is how many links are followed to a file, as in the kernel.
const maxLinks = 40

// Version gives the version of a file with this content.
func Version(text []byte) labs.Version {
	sum := sha256.Sum256(text)
	return labs.Version(hex.EncodeToString(sum[:]))
}

// A ChangedError is a labs.ErrChanged that tells which version the file has
// now, "" when it is not there.
type ChangedError struct{ Now labs.Version }

func (e *ChangedError) Error() string { return labs.ErrChanged.Error() }
func (e *ChangedError) Unwrap() error { return labs.ErrChanged }

// A Saved is the answer to a PUT of a file.
type Saved struct {
	Version labs.Version `json:"version"`
}

// edits replace files, one at a time.
type edits struct{ mu sync.Mutex }

func (a *agent) save(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	// All of it is read before anything else, so that the answer is too.
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxText))
	if err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			err = tooLarge(MaxText)
		}
		return fmt.Errorf("save %.200q: %w", q.Get("path"), err)
	}
	name, err := a.absolute(q.Get("path"))
	if err == nil {
		if q.Get("path") != labs.GreetingFile && a.readAtStart(name) {
			a.terminals.spoil()
		}
		err = a.edits.replace(name, text, labs.Version(q.Get("was")))
	}
	if err != nil {
		return fmt.Errorf("save %.200q: %w", q.Get("path"), plainer(err))
	}
	return writeJSON(w, Saved{Version(text)})
}

func tooLarge(limit int64) error {
	return fmt.Errorf("it is larger than %s: %w", labs.Bytes(limit), labs.ErrInvalid)
}

// plainer says what the usual errors of a file system mean.
func plainer(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("the disk is full: %w", labs.ErrBusy)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR), errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %w", err, labs.ErrInvalid)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w", err, labs.ErrForbidden)
	}
	return err
}

// readText reads a regular file of at most limit bytes.
func readText(f *os.File, limit int64) ([]byte, error) {
	// Some that the kernel calls regular wait for something to read.
	if err := f.SetReadDeadline(time.Now().Add(readTime)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = tooLarge(limit)
	}
	return text, err
}

// replace writes a file in one step when it has the version was. Somebody who
// reads it sees the old or the new, and an error leaves the old.
func (e *edits) replace(name string, text []byte, was labs.Version) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	name, err := followLinks(name)
	if err != nil {
		return err
	}
	dir, err := os.Open(folder(name))
	if errors.Is(err, fs.ErrNotExist) {
		if was != "" {
			return &ChangedError{""}
		}
		if err = os.MkdirAll(folder(name), 0o755); err == nil {
			dir, err = os.Open(folder(name))
		}
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	// From here on it is this directory, whatever links lead to it meanwhile.
	_, file := path.Split(name)
	name = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), file)
	f, err := openRegular(name)
	if errors.Is(err, fs.ErrNotExist) {
		if was != "" {
			return &ChangedError{""}
		}
		return create(name, text)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := readText(f, MaxText)
	if err != nil {
		return err
	}
	if v := Version(now); v != was {
		return &ChangedError{v}
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	draft, err := writeDraft(folder(name), text, info)
	if err != nil {
		return err
	}
	if err := os.Rename(draft, name); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return nil
}

// create makes a file that must not be there.
func create(name string, text []byte) error {
	draft, err := writeDraft(folder(name), text, nil)
	if err != nil {
		return err
	}
	// The learner's programs may make it at this moment too.
	err = unix.Renameat2(unix.AT_FDCWD, draft, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
	if err == nil {
		return nil
	}
	undo := os.Remove(draft)
	if errors.Is(err, fs.ErrExist) {
		v, err := currentVersion(name)
		return errors.Join(undo, err, &ChangedError{v})
	}
	return errors.Join(&os.PathError{Op: "rename", Path: name, Err: err}, undo)
}

// currentVersion gives the version of a file, "" when it is not there.
func currentVersion(name string) (labs.Version, error) {
	f, err := openRegular(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := readText(f, MaxText)
	if err != nil {
		return "", err
	}
	return Version(text), nil
}

// writeDraft writes a hidden file with the mode and owner of like, or those of
// a new file. Nothing is left of it after an error.
func writeDraft(dir string, text []byte, like fs.FileInfo) (name string, err error) {
	f, err := os.OpenFile(dir+".saving-"+rand.Text(), os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(text); err != nil {
		return "", err
	}
	mode := fs.FileMode(0o644)
	if like != nil {
		mode = like.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
		if s, ok := like.Sys().(*syscall.Stat_t); ok && (int(s.Uid) != os.Geteuid() || int(s.Gid) != os.Getegid()) {
			if err := f.Chown(int(s.Uid), int(s.Gid)); err != nil {
				return "", err
			}
		}
	}
	return f.Name(), f.Chmod(mode)
}

// followLinks gives the path at the end of the links that name leads through.
// There need not be a file.
func followLinks(name string) (string, error) {
	for range maxLinks {
		to, err := os.Readlink(name)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			return name, nil // no link
		}
		if err != nil {
			return "", err
		}
		if !path.IsAbs(to) {
			to = folder(name) + to
		}
		name = to
	}
	return "", &os.PathError{Op: "follow", Path: name, Err: unix.ELOOP}
}

// folder gives the directory of a path, not cleaned: what ".." means is up to
// the links before it.
func folder(name string) string {
	dir, _ := path.Split(name)
	return dir
}
