package agent

import (
	"bytes"
	"unicode/utf8"

	"berth/labs"
)

const ringMin = 4 << 10 // bytes of a ring at first; a power of two, like labs.RingSize

// A ring keeps the last bytes of a stream whose bytes are numbered from 0. It
// grows as needed, so that an idle terminal stays small. It is not safe for
// concurrent use.
type ring struct {
	buf   []byte // byte n of the stream is at n modulo the length, a power of two
	start int64  // first byte that is kept
	end   int64  // first byte that has not come yet
}

// write appends b and drops the oldest bytes when more than labs.RingSize are kept.
func (r *ring) write(b []byte) {
	if over := len(b) - labs.RingSize; over > 0 {
		r.end += int64(over)
		r.start = r.end
		b = b[over:]
	}
	r.grow(int(r.end-r.start) + len(b))
	at := int(r.end) & (len(r.buf) - 1)
	n := copy(r.buf[at:], b)
	copy(r.buf, b[n:])
	r.end += int64(len(b))
	r.start = max(r.start, r.end-int64(len(r.buf)))
}

func (r *ring) grow(need int) {
	size := max(len(r.buf), ringMin)
	for size < need && size < labs.RingSize {
		size *= 2
	}
	if size == len(r.buf) {
		return
	}
	old := *r
	r.buf = make([]byte, size)
	for at := old.start; at < old.end; {
		b := old.from(at, old.end)
		n := copy(r.buf[int(at)&(size-1):], b)
		at += int64(n)
	}
}

// from gives bytes from offset at, which is kept, up to offset to: as many as
// lie together. They are valid until the next write.
func (r *ring) from(at, to int64) []byte {
	i := int(at) & (len(r.buf) - 1)
	n := min(int(to-at), len(r.buf)-i)
	return r.buf[i : i+n]
}

// read copies what is kept from offset at up to offset to into b.
func (r *ring) read(b []byte, at, to int64) int {
	to = min(to, r.end, at+int64(len(b)))
	n := 0
	for at < to {
		c := copy(b[n:], r.from(at, to))
		n += c
		at += int64(c)
	}
	return n
}

// safeWithin is how far safe looks, bytes.
const safeWithin = 4 << 10

// safe gives the first offset from at on where a terminal that knows nothing
// of what came before can begin: after a newline, else where an escape
// sequence begins, else at least between two characters.
func (r *ring) safe(at int64) int64 {
	if at <= 0 || at >= r.end {
		return at
	}
	b := make([]byte, min(safeWithin, int(r.end-at)))
	r.read(b, at, r.end)
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return at + int64(i) + 1
	}
	if i := bytes.IndexByte(b, 0x1b); i >= 0 && i+1 < len(b) {
		if b[i+1] == '\\' { // the end of a string, not the beginning of a sequence
			i += 2
		}
		return at + int64(i)
	}
	for i := range min(len(b), utf8.UTFMax) {
		if utf8.RuneStart(b[i]) {
			return at + int64(i)
		}
	}
	return at
}
