package agent

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"berth/labs"
)

func TestRingKeepsTheLastBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var r ring
	var all []byte // everything from offset 0
	for len(all) < 5*labs.RingSize {
		n := random.IntN(1 << random.IntN(18))
		if random.IntN(200) == 0 {
			n = labs.RingSize + random.IntN(1000)
		}
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		r.write(b)
		all = append(all, b...)
		if r.end != int64(len(all)) {
			t.Fatalf("the end is %d, not %d", r.end, len(all))
		}
		if want := max(0, r.end-labs.RingSize); r.start > want {
			t.Fatalf("kept from %d, not %d, of %d", r.start, want, r.end)
		}
		if len(r.buf) > ringMin && len(r.buf) > 2*int(r.end-r.start) {
			t.Fatalf("%d bytes of memory for %d", len(r.buf), r.end-r.start)
		}
		at := r.start + random.Int64N(r.end-r.start+1)
		got := make([]byte, random.IntN(64<<10))
		got = got[:r.read(got, at, r.end)]
		if !bytes.Equal(got, all[at:int(at)+len(got)]) {
			t.Fatalf("other bytes at %d", at)
		}
	}
}

func TestRingSafe(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		at, want   int
	}{
		{"start", "abc\ndef", 0, 0},
		{"newline", "abc\r\ndef", 1, 5},
		{"escape sequence", "abc\x1b[31mred", 1, 3},
		{"end of a string", "abc\x1b\\def", 1, 5},
		{"newline before escape sequence", "ab\x1b[31mred\nx", 1, 11},
		{"character", "ä€😀x", 1, 2},
		{"character of four bytes", "ä€😀x", 6, 9},
		{"not UTF-8", "\x80\x80\x80\x80\x80\x80", 1, 1},
		{"far newline", "a" + strings.Repeat("b", safeWithin) + "\n", 1, 1},
		{"end", "abc", 3, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r ring
			r.write([]byte(tt.text))
			if got := r.safe(int64(tt.at)); got != int64(tt.want) {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
	t.Run("never within a character", func(t *testing.T) {
		var r ring
		text := strings.Repeat("ä€😀", 500_000)
		r.write([]byte(text))
		for at := r.start; at < r.start+1000; at++ {
			b := make([]byte, 100)
			r.read(b, r.safe(at), r.end)
			if first, _ := utf8.DecodeRune(b); first == utf8.RuneError {
				t.Fatalf("from %d within a character", at)
			}
		}
	})
}
