package katacoda

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds on one file of a scenario.
const (
	maxIndex  = 1 << 20   // bytes of index.json, or of what lists a course
	maxText   = 1 << 20   // bytes of the Markdown of one page
	maxScript = 256 << 10 // bytes of one script
)

// errLarge is a file that is larger than it may be.
var errLarge = errors.New("it is too large")

// readText reads a text file: at most so many bytes, without byte order mark,
// lines ended by \n. What is not UTF-8 is read as Windows-1252, as UTF-16 when
// it begins with that mark; odd says so. An error is a sentence about the file
// without its name.
func readText(fsys fs.FS, name string, limit int64) (text string, odd bool, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", false, reason(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", false, reason(err)
	}
	if info.IsDir() {
		return "", false, errors.New("it is a folder")
	}
	if !info.Mode().IsRegular() {
		return "", false, errors.New("it is not a regular file")
	}
	if info.Size() > limit {
		return "", false, fmt.Errorf("%w: at most %d KiB are read", errLarge, limit>>10)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", false, reason(err)
	}
	if int64(len(b)) > limit {
		return "", false, fmt.Errorf("%w: at most %d KiB are read", errLarge, limit>>10)
	}
	text, odd = decode(b)
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return strings.ReplaceAll(text, "\r", "\n"), odd, nil
}

// decode gives the text of a file and whether it was not UTF-8.
func decode(b []byte) (text string, odd bool) {
	switch s := string(b); {
	case strings.HasPrefix(s, "\xff\xfe"), strings.HasPrefix(s, "\xfe\xff"):
		units := make([]uint16, 0, len(b)/2)
		for i := 2; i+1 < len(b); i += 2 {
			lo, hi := b[i], b[i+1]
			if s[0] == '\xfe' {
				lo, hi = hi, lo
			}
			units = append(units, uint16(hi)<<8|uint16(lo))
		}
		return string(utf16.Decode(units)), true
	case utf8.Valid(b):
		return strings.TrimPrefix(s, "\ufeff"), false
	}
	const upper = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ"
	windows := []rune(upper)
	var t strings.Builder
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		switch c := b[i]; {
		case r != utf8.RuneError || n > 1:
			t.WriteRune(r)
		case c < 0xa0:
			t.WriteRune(windows[c-0x80])
		default:
			t.WriteRune(rune(c))
		}
		i += n
	}
	return strings.TrimPrefix(t.String(), "\ufeff"), true
}

// reason says what is the matter with a file without naming it: whoever tells it
// does.
func reason(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no such file")
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	if strings.Contains(err.Error(), "path escapes") {
		return errors.New("it is a link that leads out of the folder")
	}
	return err
}
