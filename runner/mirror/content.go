package mirror

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

var (
	errNoRoom   = errors.New("the mirror's cache has no room for it")
	errMismatch = errors.New("the content does not match its digest")
)

const (
	touchAfter  = time.Minute // a blob's time of last use is this exact
	partialLife = 7 * 24 * time.Hour
	// While another process adds stock, blobs that were used lately may belong
	// to it although no entry names them yet.
	addGrace = 6 * time.Hour
)

// A content holds blobs by their digest, in files that appear whole and
// verified or not at all. Several processes may use a folder: a server, and
// the command that adds stock. A blob's modification time is when it was last
// used.
type content struct {
	dir   string
	limit int64                           // bytes of what is not pinned
	pins  func() (map[string]bool, error) // digests that are never evicted

	mu   sync.Mutex
	used int64 // bytes not pinned, downloads included; measured, then counted
}

func (c *content) init() error {
	for _, d := range []string{"blobs/sha256", "partial", "tmp"} {
		if err := os.MkdirAll(filepath.Join(c.dir, d), 0o700); err != nil {
			return fmt.Errorf("make the mirror's folder: %w", err)
		}
	}
	// What a process that was killed left behind.
	for dir, age := range map[string]time.Duration{"tmp": time.Minute, "partial": partialLife} {
		if err := c.sweep(filepath.Join(c.dir, dir), age); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.measure()
	return err
}

// path is where a blob is. The digest has been matched against digestRE.
func (c *content) path(digest string) string {
	return filepath.Join(c.dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

func (c *content) partial(digest string) string {
	return filepath.Join(c.dir, "partial", strings.TrimPrefix(digest, "sha256:"))
}

// size gives a blob's size, and whether it is here.
func (c *content) size(digest string) (int64, bool) {
	info, err := os.Stat(c.path(digest))
	if err != nil || !info.Mode().IsRegular() {
		return 0, false
	}
	return info.Size(), true
}

func (c *content) has(digest string) bool {
	_, ok := c.size(digest)
	return ok
}

// open opens a blob and remembers that it was used.
func (c *content) open(digest string) (*os.File, int64, error) {
	f, err := os.Open(c.path(digest))
	if err != nil {
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	if now := time.Now(); now.Sub(info.ModTime()) > touchAfter {
		// A failure makes it a candidate for eviction sooner, no more.
		_ = os.Chtimes(f.Name(), now, now)
	}
	return f, info.Size(), nil
}

// manifest reads and parses a blob as a manifest.
func (c *content) manifest(digest string) (raw []byte, m manifest, err error) {
	f, size, err := c.open(digest)
	if err != nil {
		return nil, manifest{}, err
	}
	defer f.Close()
	if size > maxManifest {
		return nil, manifest{}, fmt.Errorf("blob %s of %d bytes is no manifest", digest, size)
	}
	raw = make([]byte, size)
	if _, err := io.ReadFull(f, raw); err != nil {
		return nil, manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	m, err = parseManifest(raw)
	return raw, m, err
}

// hasManifest reports whether a blob is here and is a manifest.
func (c *content) hasManifest(digest string) bool {
	_, _, err := c.manifest(digest)
	return err == nil
}

// remove forgets a blob. Those who are reading it keep their open file.
func (c *content) remove(digest string) error {
	if err := os.Remove(c.path(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// put stores what r gives under its digest, which must be want unless that is
// empty. Nothing is stored on an error.
func (c *content) put(ctx context.Context, r io.Reader, want string) (digest string, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(c.dir, "tmp"), "put-*")
	if err != nil {
		return "", 0, fmt.Errorf("store blob: %w", err)
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := lock(f, unix.LOCK_EX); err != nil { // in use: not swept by another process
		return "", 0, err
	}
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, h), &contextReader{ctx, r})
	if err != nil {
		return "", 0, fmt.Errorf("store blob: %w", err)
	}
	digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	if want != "" && digest != want {
		return "", 0, fmt.Errorf("store blob: got %s for %s: %w", digest, want, errMismatch)
	}
	if err := c.commit(f, digest); err != nil {
		return "", 0, err
	}
	c.mu.Lock()
	c.used += size // an estimate until the next measure: it may be pinned, or have been here
	c.mu.Unlock()
	return digest, size, nil
}

func (c *content) putBytes(ctx context.Context, b []byte) (digest string, err error) {
	digest, _, err = c.put(ctx, bytes.NewReader(b), "")
	return digest, err
}

// commit makes a file that has been written and verified a blob. Its bytes are
// on the disk before its name is.
func (c *content) commit(f *os.File, digest string) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	if err := os.Chmod(f.Name(), 0o600); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	now := time.Now()
	if err := os.Chtimes(f.Name(), now, now); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	if err := os.Rename(f.Name(), c.path(digest)); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	return nil
}

// reserve makes room for n more bytes of a download by evicting what was not
// used for longest. errNoRoom when pins and downloads leave none.
func (c *content) reserve(n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used+n <= c.limit {
		c.used += n
		return nil
	}
	if err := c.evict(n); err != nil {
		return err
	}
	if c.used+n > c.limit {
		return fmt.Errorf("%d MiB are allowed: %w", c.limit>>20, errNoRoom)
	}
	c.used += n
	return nil
}

// release takes back what was reserved.
func (c *content) release(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = max(0, c.used-n)
}

// A blob is a file of the content.
type blob struct {
	digest string
	size   int64
	used   time.Time
}

// measure lists what may be evicted and sets used. The caller holds mu.
func (c *content) measure() ([]blob, error) {
	pinned, err := c.pins()
	if err != nil {
		return nil, err
	}
	var blobs []blob
	var used int64
	err = eachFile(filepath.Join(c.dir, "blobs", "sha256"), func(info fs.FileInfo) {
		d := "sha256:" + info.Name()
		if digestRE.MatchString(d) && !pinned[d] {
			blobs = append(blobs, blob{d, info.Size(), info.ModTime()})
			used += info.Size()
		}
	})
	if err != nil {
		return nil, err
	}
	if err := eachFile(filepath.Join(c.dir, "partial"), func(info fs.FileInfo) { used += info.Size() }); err != nil {
		return nil, err
	}
	c.used = used
	return blobs, nil
}

// evict removes blobs until n bytes and a tenth of the limit are free. The
// caller holds mu.
func (c *content) evict(n int64) error {
	oldest := time.Time{}
	free, err := c.exclusive()
	if err != nil {
		return err
	}
	if free == nil {
		oldest = time.Now().Add(-addGrace)
	} else {
		defer free()
	}
	// After the lock was taken: entries that were added before it are pinned.
	blobs, err := c.measure()
	if err != nil {
		return err
	}
	goal := max(0, c.limit-max(n, c.limit/10))
	slices.SortFunc(blobs, func(a, b blob) int {
		return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.digest, b.digest))
	})
	for _, b := range blobs {
		if c.used <= goal {
			break
		}
		if free == nil && b.used.After(oldest) {
			continue
		}
		if err := c.remove(b.digest); err != nil {
			return err
		}
		c.used -= b.size
	}
	if c.used <= goal {
		return nil
	}
	// What is left are downloads; some may have been given up.
	if err := c.sweep(filepath.Join(c.dir, "partial"), 0); err != nil {
		return err
	}
	_, err = c.measure()
	return err
}

// shared keeps blobs that no entry names yet from being evicted by any
// process, until free is called.
func (c *content) shared() (free func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the mirror: %w", err)
	}
	if err := lock(f, unix.LOCK_SH); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// exclusive waits for nobody: free is nil when somebody holds it.
func (c *content) exclusive() (free func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the mirror: %w", err)
	}
	if err := lock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// sweep removes files of dir that are older than age and that no process has
// locked.
func (c *content) sweep(dir string, age time.Duration) error {
	return eachFile(dir, func(info fs.FileInfo) {
		if time.Since(info.ModTime()) < age {
			return
		}
		path := filepath.Join(dir, info.Name())
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		if lock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(path)
		}
	})
}

// eachFile calls fn for the regular files of dir; one that goes away meanwhile
// is passed over.
func eachFile(dir string, fn func(fs.FileInfo)) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the mirror's files: %w", err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() {
			fn(info)
		}
	}
	return nil
}

// lock takes a lock on an open file that ends with it, also when the process
// is killed.
func lock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return nil
	}
}

// A contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
