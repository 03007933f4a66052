package agent

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"berth/labs"
)

const (
	maxVisited  = 50_000 // directory entries that one glob looks at
	maxMatches  = 10_000 // and gives
	maxParts    = 63     // of a pattern: directories and a name
	maxDepth    = 32     // of the directories that are looked into
	maxNames    = 100_000
	maxNameSize = 4 << 20          // bytes of those
	tarTime     = 20 * time.Second // for listing one archive
	maxUnpacked = 100_000          // entries of one unpacked stream
	maxRest     = 64 << 20         // bytes of a stream that are read after an error
	maxListed   = 1 << 20          // bytes of the paths that one list gives
)

// absolute gives the absolute, clean form of a path that may begin with "~/".
func (c Config) absolute(name string) (string, error) {
	switch name {
	case "~":
		return c.Home, nil
	case labs.GreetingFile:
		return filepath.Join(c.RunDir, greetingFile), nil
	}
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		name = path.Join(c.Home, rest)
	}
	if !path.IsAbs(name) || strings.IndexByte(name, 0) >= 0 || len(name) > 4096 {
		return "", fmt.Errorf("path %.100q: absolute or ~/…: %w", name, labs.ErrInvalid)
	}
	return path.Clean(name), nil
}

// A pattern is a path whose parts may hold *, ? and [], and ** for any number
// of directories.
type pattern struct{ parts []string }

func (c Config) pattern(text string) (pattern, error) {
	name, err := c.absolute(text)
	if err != nil {
		return pattern{}, err
	}
	parts := split(name)
	for _, p := range parts {
		if _, err := path.Match(p, ""); err != nil {
			return pattern{}, fmt.Errorf("pattern %.100q: %w", text, labs.ErrInvalid)
		}
	}
	if len(parts) > maxParts {
		return pattern{}, fmt.Errorf("pattern with %d parts: %w", len(parts), labs.ErrInvalid)
	}
	return pattern{parts}, nil
}

// split gives the parts of an absolute path; the root has none.
func split(name string) []string {
	if name = strings.Trim(name, "/"); name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

// after gives the places in the pattern that can be reached by the directories
// and the name in parts, a bit for each. All are followed at once, so the time
// is that of len(parts) times len(p.parts), however many ** there are.
func (p pattern) after(parts []string) uint64 {
	at := p.skip(1)
	for _, part := range parts {
		var next uint64
		for left := at; left != 0; left &= left - 1 {
			i := bits.TrailingZeros64(left)
			if i == len(p.parts) {
				continue
			}
			if p.parts[i] == "**" {
				next |= 1 << i
			} else if ok, _ := path.Match(p.parts[i], part); ok {
				next |= 1 << (i + 1)
			}
		}
		if at = p.skip(next); at == 0 {
			break
		}
	}
	return at
}

// skip adds the places behind ** for no directory.
func (p pattern) skip(at uint64) uint64 {
	for i, part := range p.parts {
		if part == "**" && at&(1<<i) != 0 {
			at |= 1 << (i + 1)
		}
	}
	return at
}

// match reports whether the pattern matches the absolute path name.
func (p pattern) match(name string) bool {
	return p.after(split(name))&(1<<len(p.parts)) != 0
}

// holds reports whether matches can be in the directory or below it.
func (p pattern) holds(dir string) bool {
	return p.after(split(dir))&(1<<len(p.parts)-1) != 0
}

// fixed is the longest leading directory without wildcards.
func (p pattern) fixed() string {
	dir := "/"
	for _, part := range p.parts[:max(0, len(p.parts)-1)] {
		if wild(part) {
			break
		}
		dir = path.Join(dir, part)
	}
	return dir
}

func wild(part string) bool { return strings.ContainsAny(part, `*?[\`) }

// unwatched are folders that hold what the kernel and the engine keep: no
// learner works there and they are without end.
func unwatched(dir string) bool {
	switch dir {
	case "/proc", "/sys", "/dev", "/var/lib/docker", "/run/docker", "/run/containerd", "/var/lib/containerd":
		return true
	}
	return false
}

// walk calls each for the files that match, the nearest first, until it says
// false. It looks at maxVisited entries at most.
func (p pattern) walk(ctx context.Context, each func(labs.FileInfo) bool) {
	if !slices.ContainsFunc(p.parts, wild) {
		name := "/" + strings.Join(p.parts, "/")
		if info, err := os.Stat(name); err == nil {
			each(fileInfo(name, info))
		}
		return
	}
	visited := 0
	for dirs := []string{p.fixed()}; len(dirs) > 0; dirs = dirs[1:] {
		dir := dirs[0]
		if unwatched(dir) || strings.Count(dir, "/") > maxDepth {
			continue
		}
		more := eachEntry(dir, func(e fs.DirEntry) bool {
			if visited++; visited > maxVisited || ctx.Err() != nil {
				return false
			}
			name := path.Join(dir, e.Name())
			if e.IsDir() && p.holds(name) {
				dirs = append(dirs, name)
			}
			if !p.match(name) {
				return true
			}
			info, err := os.Stat(name)
			if err != nil {
				info, err = e.Info() // a link to nowhere
			}
			return err != nil || each(fileInfo(name, info))
		})
		if !more {
			return
		}
	}
}

func fileInfo(name string, info fs.FileInfo) labs.FileInfo {
	return labs.FileInfo{Path: name, Size: info.Size(), Mode: info.Mode(), MTime: info.ModTime()}
}

// eachEntry calls f for what is in the directory, never holding much of it,
// until f says false, which it gives back. What cannot be read is empty.
func eachEntry(dir string, f func(fs.DirEntry) bool) bool {
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return true
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if !f(e) {
				return false
			}
		}
		if err != nil {
			return true
		}
	}
}

// limit reads the parameter "limit".
func limit(q url.Values, most int) (int, error) {
	n, err := strconv.Atoi(q.Get("limit"))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("limit=%.100q: %w", q.Get("limit"), labs.ErrInvalid)
	}
	return min(n, most), nil
}

func (a *agent) glob(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, err := limit(q, maxMatches)
	if err != nil {
		return err
	}
	p, err := a.pattern(q.Get("pattern"))
	if err != nil {
		return err
	}
	all := make([]labs.FileInfo, 0, 8)
	p.walk(r.Context(), func(f labs.FileInfo) bool {
		all = append(all, f)
		return len(all) < n
	})
	slices.SortFunc(all, func(a, b labs.FileInfo) int { return strings.Compare(a.Path, b.Path) })
	return writeJSON(w, all)
}

// list gives what a directory holds, by name. Links are what they lead to.
func (a *agent) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, err := limit(q, maxMatches)
	if err != nil {
		return err
	}
	dir, err := a.absolute(q.Get("dir"))
	if err != nil {
		return err
	}
	names, err := namesIn(r.Context(), dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("there is no directory %s: %w", dir, labs.ErrNotFound)
	}
	if err != nil {
		return plainer(err)
	}
	all, size := make([]labs.FileInfo, 0, min(n, len(names))), 0
	for _, name := range names {
		name = path.Join(dir, name)
		info, err := os.Stat(name)
		if err != nil {
			info, err = os.Lstat(name) // a link to nowhere
		}
		if err != nil {
			continue // it went away
		}
		if size += len(name); len(all) == n || size > maxListed {
			break
		}
		all = append(all, fileInfo(name, info))
	}
	return writeJSON(w, all)
}

// namesIn gives the sorted names of what is in a directory, of maxVisited
// entries at most.
func namesIn(ctx context.Context, dir string) ([]string, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var names []string
	for len(names) < maxVisited {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		more, err := d.Readdirnames(256)
		names = append(names, more...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	return names, nil
}

func (a *agent) open(name string) (*os.File, error) {
	abs, err := a.absolute(name)
	if err != nil {
		return nil, err
	}
	f, err := openRegular(abs)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("%s: %w", abs, labs.ErrNotFound)
	}
	return f, plainer(err)
}

// openRegular opens a regular file. It never waits, as opening a FIFO would,
// and does not touch devices.
func openRegular(name string) (*os.File, error) {
	regular := func(info fs.FileInfo, err error) error {
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is not a regular file: %w", name, labs.ErrInvalid)
		}
		return err
	}
	if err := regular(os.Stat(name)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := regular(f.Stat()); err != nil { // it may be another by now
		f.Close()
		return nil, err
	}
	return f, nil
}

func (a *agent) file(w http.ResponseWriter, r *http.Request) error {
	f, err := a.open(r.URL.Query().Get("path"))
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if q := r.URL.Query(); q.Has("limit") {
		n, err := limit(q, MaxText)
		if err != nil {
			return err
		}
		text, err := readText(f, int64(n))
		if err != nil {
			return fmt.Errorf("read %.200q: %w", q.Get("path"), err)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		w.Write(text) // the client may leave
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	io.CopyN(w, f, info.Size()) // the client may leave, the file may shrink
	return nil
}

func (a *agent) tarNames(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, err := limit(q, maxNames)
	if err != nil {
		return err
	}
	f, err := a.open(q.Get("path"))
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(r.Context(), tarTime)
	defer cancel()
	names, err := tarNames(ctx, f, n)
	if err != nil {
		return fmt.Errorf("list %s: %w: %w", q.Get("path"), labs.ErrInvalid, err)
	}
	return writeJSON(w, names)
}

// tarNames lists the regular files of a tar file until ctx ends. It seeks over
// their contents where they are not compressed.
func tarNames(ctx context.Context, f *os.File, most int) ([]string, error) {
	magic := make([]byte, 2)
	if _, err := f.ReadAt(magic, 0); err != nil {
		return nil, errors.New("it is too short for a tar file")
	}
	var in io.Reader = f
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			return nil, err
		}
		in = whileReader{ctx, z} // one small file may be without end inside
	}
	names, size := make([]string, 0, 16), 0
	for t := tar.NewReader(in); len(names) < most && size < maxNameSize; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg {
			names = append(names, h.Name)
			size += len(h.Name)
		}
	}
	return names, nil
}

// A whileReader reads while its context lasts.
type whileReader struct {
	ctx context.Context
	r   io.Reader
}

func (r whileReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// unpack writes a tar stream below a directory. Nothing is ever written
// outside it, whatever the names in the stream and the links on the disk say.
func (a *agent) unpack(w http.ResponseWriter, r *http.Request) error {
	dir, err := a.absolute(r.URL.Query().Get("dir"))
	if err == nil {
		err = unpack(dir, r.Body, func(name string, link bool) {
			if link || a.readAtStart(name) {
				a.terminals.spoil()
			}
		})
	}
	if err != nil {
		// The client reads the answer when all is sent.
		io.CopyN(io.Discard, r.Body, maxRest)
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// unpack tells before it writes an entry, where it goes and whether it is a link.
func unpack(dir string, stream io.Reader, before func(name string, link bool)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	in := tar.NewReader(stream)
	for n := 0; ; n++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the tar stream: %w: %w", labs.ErrInvalid, err)
		}
		if n >= maxUnpacked {
			return fmt.Errorf("more than %d entries: %w", maxUnpacked, labs.ErrInvalid)
		}
		before(path.Join(dir, h.Name), h.Typeflag == tar.TypeSymlink)
		if err := unpackEntry(root, h, in); err != nil {
			return fmt.Errorf("unpack %.200q: %w", h.Name, err)
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, in io.Reader) error {
	name := path.Clean(h.Name)
	if !filepath.IsLocal(name) {
		return fmt.Errorf("name leads out of the folder: %w", labs.ErrInvalid)
	}
	if name == "." {
		return nil
	}
	mode := fs.FileMode(h.Mode) & fs.ModePerm
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o700); err != nil {
			return err
		}
		return root.Chmod(name, mode)
	case tar.TypeReg, tar.TypeSymlink:
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		// What was there is replaced, not written through: it may be a link.
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	default:
		return fmt.Errorf("entry of type %q: %w", h.Typeflag, labs.ErrInvalid)
	}
	if h.Typeflag == tar.TypeSymlink {
		return root.Symlink(h.Linkname, name)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Chmod(mode), f.Close())
}
