package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"berth/labs"
)

const (
	chunk       = 128 << 10
	reserveStep = 8 << 20          // bytes by which room is reserved for a blob of unknown size
	stall       = 30 * time.Second // without a byte, after which a download is begun again
	maxTries    = 4                // in a row that brought nothing
	maxDuration = 2 * time.Hour    // of one download
)

var errTooBig = errors.New("it is bigger than the mirror accepts")

// A download is a blob on its way from upstream. All who want the blob read
// from the one file while it grows. What has arrived stays on the disk when
// the download fails, and the next one goes on from there.
//
// The last byte is held back until the whole has been verified: a reader gets
// all of a blob only if it is the right one.
type download struct {
	digest string
	from   *upstream
	repo   string
	stop   context.CancelFunc
	begun  chan struct{} // closed when size is known, or it has ended
	ended  chan struct{}

	mu      sync.Mutex
	readers int
	given   bool     // up: the last reader left
	file    *os.File // nil before it began; closed by the last to leave
	size    int64    // -1: not said
	written int64
	done    bool // ended; err says how
	err     error
	changed chan struct{} // closed and renewed when any of these change
}

// A fetched is a reader's end of a download. Close it.
type fetched struct {
	m   *Mirror
	d   *download
	ctx context.Context
	off int64
	one sync.Once
}

// fetch begins to download a blob or joins the download under way. It returns
// when the size is known.
func (m *Mirror) fetch(ctx context.Context, u *upstream, repo, digest string) (*fetched, error) {
	for {
		d, wait, err := m.join(u, repo, digest)
		if err != nil {
			return nil, err
		}
		if d == nil {
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		f := &fetched{m: m, d: d, ctx: ctx}
		select {
		case <-d.begun:
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
		d.mu.Lock()
		failed := d.done && d.err != nil
		err = d.err
		d.mu.Unlock()
		if failed {
			f.Close()
			return nil, err
		}
		return f, nil
	}
}

// join counts the caller as a reader of the download of digest. When one that
// was given up is just ending, it gives what to wait for instead.
func (m *Mirror) join(u *upstream, repo, digest string) (d *download, wait <-chan struct{}, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.downloads[digest]; d != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.given || d.done {
			return nil, d.ended, nil
		}
		d.readers++
		return d, nil, nil
	}
	d = &download{
		digest: digest, from: u, repo: repo, readers: 1, size: -1,
		begun: make(chan struct{}), ended: make(chan struct{}), changed: make(chan struct{}),
	}
	ctx, stop := context.WithTimeout(m.ctx, maxDuration)
	d.stop = stop
	if !m.spawn(func(context.Context) { m.download(ctx, d) }) {
		stop()
		return nil, nil, errClosed
	}
	m.downloads[digest] = d
	return d, nil, nil
}

// Size gives the blob's size, or -1 when upstream does not say.
func (f *fetched) Size() int64 {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.d.size
}

// Read waits for bytes. io.EOF comes only after the blob was verified.
func (f *fetched) Read(p []byte) (int, error) {
	d := f.d
	for {
		d.mu.Lock()
		ready, done, err, changed, file := d.written, d.done, d.err, d.changed, d.file
		d.mu.Unlock()
		if done && err != nil {
			return 0, err
		}
		if !done {
			ready--
		}
		if n := min(int64(len(p)), ready-f.off); n > 0 {
			got, err := file.ReadAt(p[:n], f.off)
			f.off += int64(got)
			if got > 0 {
				err = nil
			}
			return got, err
		}
		if done {
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return 0, f.ctx.Err()
		}
	}
}

// wait returns when the blob is in the content.
func (f *fetched) wait() error {
	select {
	case <-f.d.ended:
		f.d.mu.Lock()
		defer f.d.mu.Unlock()
		return f.d.err
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// Close leaves the download. It is given up when nobody is left.
func (f *fetched) Close() error {
	f.one.Do(func() {
		d := f.d
		d.mu.Lock()
		defer d.mu.Unlock()
		d.readers--
		if d.readers > 0 {
			return
		}
		if d.done {
			d.close()
			return
		}
		d.given = true
		d.stop()
	})
	return nil
}

// close closes the file. The caller holds mu.
func (d *download) close() {
	if d.file != nil {
		d.file.Close()
		d.file = nil
	}
}

// notify wakes those who read. The caller holds mu.
func (d *download) notify() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// download runs d to its end.
func (m *Mirror) download(ctx context.Context, d *download) {
	defer d.stop()
	var err error
	select {
	case m.slots <- struct{}{}:
		err = m.transfer(ctx, d)
		<-m.slots
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil && ctx.Err() == nil {
		m.log.Warn("download", "blob", d.digest, "of", d.repo, "err", err)
	}
	m.mu.Lock()
	delete(m.downloads, d.digest)
	m.mu.Unlock()
	d.mu.Lock()
	d.done, d.err = true, err
	if d.readers == 0 {
		d.close()
	}
	d.notify()
	d.mu.Unlock()
	select {
	case <-d.begun:
	default:
		close(d.begun)
	}
	close(d.ended)
}

// transfer brings the blob into the content. It goes on where an earlier one
// ended, and begins again where the connection broke.
func (m *Mirror) transfer(ctx context.Context, d *download) error {
	if m.content.has(d.digest) { // it was finished just before this one began
		f, size, err := m.content.open(d.digest)
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.file, d.size, d.written = f, size, size
		d.mu.Unlock()
		return nil
	}
	f, err := m.openPartial(d.digest)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.file = f
	d.mu.Unlock()
	h := sha256.New()
	have, err := io.Copy(h, &contextReader{ctx, f})
	if err != nil {
		return fmt.Errorf("read what has arrived: %w", err)
	}
	t := &transfer{m: m, d: d, file: f, hash: h, have: have, room: have}
	for tries := 1; ; tries++ {
		before := t.have
		if err = t.once(ctx); err == nil {
			break
		}
		if t.have > before {
			tries = 1
		}
		if errors.Is(err, errMismatch) && t.reset() {
			continue
		}
		if ctx.Err() != nil || tries >= maxTries || errors.Is(err, errMismatch) || errors.Is(err, errAbsent) || errors.Is(err, errTooBig) || errors.Is(err, errNoRoom) || errors.Is(err, unix.ENOSPC) {
			return t.failed(err)
		}
		select {
		case <-time.After(100 * time.Millisecond << tries):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != d.digest {
		os.Remove(f.Name()) // of no use to the next one
		m.content.release(t.room)
		return fmt.Errorf("fetch blob %s of %s: %w", d.digest, d.repo, errMismatch)
	}
	return m.content.commit(f, d.digest)
}

// A transfer is what one download's goroutine alone knows.
type transfer struct {
	m    *Mirror
	d    *download
	file *os.File
	hash hash.Hash
	have int64 // bytes in file and hash
	room int64 // bytes reserved

	whole bool // upstream answers requests for a range wrongly
}

// reset forgets what an earlier download left, unless readers have got some of
// it. It reports whether there was something to forget.
func (t *transfer) reset() bool {
	select {
	case <-t.d.begun:
		return false
	default:
	}
	if t.have == 0 || t.file.Truncate(0) != nil {
		return false
	}
	t.hash.Reset()
	t.have = 0
	return true
}

// failed removes what has arrived when it would only be in the way.
func (t *transfer) failed(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, errMismatch) || errors.Is(err, errTooBig) || errors.Is(err, errNoRoom) || t.have == 0 {
		os.Remove(t.file.Name())
		t.m.content.release(t.room)
	}
	return err
}

// once fetches from where the file ends to the blob's end.
func (t *transfer) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	from := t.have
	if t.whole {
		from = 0
	}
	body, start, total, err := t.d.from.blob(ctx, t.d.repo, t.d.digest, from)
	if errors.Is(err, errRange) {
		t.whole = true
	}
	if err != nil {
		return err
	}
	defer body.Close()
	watch := time.AfterFunc(stall, func() { cancel(errors.New("the connection stalled")) })
	defer watch.Stop()
	limit := t.m.MaxBlob
	if total > limit || t.have > limit {
		return fmt.Errorf("blob of %d MiB, at most %d: %w", max(total, t.have)>>20, limit>>20, errTooBig)
	}
	if total >= 0 && t.have > total {
		return fmt.Errorf("%d bytes have arrived of a blob of %d: %w", t.have, total, errMismatch)
	}
	if total > t.room { // before readers are told that it comes
		if err := t.m.content.reserve(total - t.room); err != nil {
			return err
		}
		t.room = total
	}
	t.begin(total)
	skip := t.have - start // upstream may not know ranges
	buf := make([]byte, chunk)
	for {
		n, err := body.Read(buf)
		watch.Reset(stall)
		if n > 0 {
			b := buf[:n]
			if cut := min(skip, int64(n)); cut > 0 {
				b, skip = b[cut:], skip-cut
			}
			if werr := t.write(b, limit); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("receive blob %s: %w", t.d.digest, errors.Join(err, context.Cause(ctx)))
		}
	}
	if skip > 0 || total >= 0 && t.have < total {
		return fmt.Errorf("receive blob %s: it ended after %d of %d bytes", t.d.digest, t.have, total)
	}
	return nil
}

// begin lets readers start.
func (t *transfer) begin(total int64) {
	d := t.d
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.begun:
	default:
		d.size, d.written = total, t.have
		close(d.begun)
	}
}

func (t *transfer) write(b []byte, limit int64) error {
	if len(b) == 0 {
		return nil
	}
	if t.have+int64(len(b)) > limit {
		return fmt.Errorf("blob of more than %d MiB: %w", limit>>20, errTooBig)
	}
	if t.have+int64(len(b)) > t.room {
		step := max(reserveStep, t.have+int64(len(b))-t.room) // upstream did not say the size
		if err := t.m.content.reserve(step); err != nil {
			return err
		}
		t.room += step
	}
	if _, err := t.file.WriteAt(b, t.have); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	t.hash.Write(b)
	t.have += int64(len(b))
	t.d.mu.Lock()
	t.d.written = t.have
	t.d.notify()
	t.d.mu.Unlock()
	return nil
}

// openPartial opens and locks the file that a blob arrives in. When another
// process is fetching the same blob, this one uses a file of its own.
func (m *Mirror) openPartial(digest string) (*os.File, error) {
	path := m.content.partial(digest)
	for range 10 {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("store blob: %w", err)
		}
		if err := lock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			path = fmt.Sprintf("%s.%d", m.content.partial(digest), os.Getpid())
			continue
		}
		// It may have been swept or renamed before it was locked.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("store blob %s: others use its file: %w", digest, labs.ErrBusy)
}
