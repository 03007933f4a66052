package markdown

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"
)

// Bounds on what one lesson may be, so that a lesson from a stranger costs
// bounded time and memory.
const (
	maxFile     = 2 << 20  // bytes of lab.md
	maxYAML     = 64 << 10 // bytes of a front matter, a check or course.yaml
	maxLine     = 64 << 10
	maxText     = 16 << 10 // bytes of one paragraph or table
	maxDepth    = 60       // quotes and list items inside each other
	maxSteps    = 500
	maxCommands = 2000    // of a lesson
	maxChecks   = 100     // of a step
	maxBlocks   = 5000    // fences and other blocks of a lesson
	maxNodes    = 200_000 // paragraphs, words in bold and so on of a lesson
)

// A source is a piece of Markdown and where it stands in its file.
type source struct {
	text   []byte
	first  int   // line number in the file of the first line
	starts []int // offset of each line
	edits  []edit
}

func newSource(text []byte, first int) *source {
	s := &source{text: text, first: first, starts: []int{0}}
	for i, c := range text {
		if c == '\n' {
			s.starts = append(s.starts, i+1)
		}
	}
	return s
}

// line gives the line number in the file of an offset in the text.
func (s *source) line(offset int) int {
	return s.first - 1 + sort.Search(len(s.starts), func(i int) bool { return s.starts[i] > offset })
}

// readFile reads a file of the author's: bounded, UTF-8, without byte order
// mark, lines ended by \n. nil when it could not, which is then reported.
func readFile(fsys fs.FS, name string, limit int64, r *report) []byte {
	f, err := fsys.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			r.add(0, "", "there is no such file")
		} else {
			r.add(0, "", "it cannot be read: %v", plain(err))
		}
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		r.add(0, "", "it is not a regular file")
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		r.add(0, "", "it cannot be read: %v", plain(err))
		return nil
	}
	return textOfFile(b, limit, r)
}

// textOfFile gives what a file holds as text with lines ended by \n. nil when it is
// none, which is then reported.
func textOfFile(b []byte, limit int64, r *report) []byte {
	if int64(len(b)) > limit {
		r.add(0, "split it", "it is larger than %s", bytesInWords(limit))
		return nil
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	b = bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))
	if bad := firstBad(b); bad >= 0 {
		line := 1 + bytes.Count(b[:bad], []byte("\n"))
		c, n := utf8.DecodeRune(b[bad:])
		if c == utf8.RuneError && n <= 1 {
			r.add(line, "save the file as UTF-8", "this is not UTF-8 text")
		} else {
			r.add(line, "remove it", "the control character U+%04X does not belong in a text", c)
		}
		return nil
	}
	line := 1
	for l := range bytes.SplitSeq(b, []byte("\n")) {
		if len(l) > maxLine {
			r.add(line, "break it", "the line is longer than %s", bytesInWords(maxLine))
			return nil
		}
		line++
	}
	if b == nil {
		b = []byte{}
	}
	return b
}

// firstBad gives the offset of the first byte that is not UTF-8 text, or -1.
func firstBad(b []byte) int {
	for i := 0; i < len(b); {
		c, n := utf8.DecodeRune(b[i:])
		if c == utf8.RuneError && n <= 1 || c < ' ' && c != '\n' && c != '\t' || c >= 0x7f && c < 0xa0 {
			return i
		}
		i += n
	}
	return -1
}

// isBidiControl reports the characters that make text be shown in another
// order than it is run in.
func isBidiControl(c rune) bool {
	return c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069
}

// plain takes the path out of a file error: the mistake names the file itself.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func bytesInWords(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// splitFrontMatter takes the YAML between the first line --- and the next one
// off the text, and gives the rest with its place in the file.
func splitFrontMatter(text []byte, r *report) (front string, body *source, ok bool) {
	rest, found := strings.CutPrefix(string(text), "---\n")
	if !found {
		r.add(1, "begin the file with a line `---`, settings such as `title: …`, and another line `---`", "there is no front matter")
		return "", nil, false
	}
	line := 2
	for at := 0; at < len(rest); line++ {
		end := strings.IndexByte(rest[at:], '\n')
		next := at + end + 1
		if end < 0 {
			end, next = len(rest)-at, len(rest)
		}
		if strings.TrimRight(rest[at:at+end], " \t") == "---" {
			return rest[:at], newSource([]byte(rest[next:]), line+1), true
		}
		at = next
	}
	r.add(1, "end it with a line `---`", "the front matter is not closed")
	return "", nil, false
}

// tooDeep reports whether quotes, list items and footnotes are opened deeper
// inside each other than a parser should be asked to follow, and where. Code
// between fences may hold what it likes.
func tooDeep(text []byte) (offset int, deep bool) {
	fence := "" // that is open
	html := false
	var open [len(endless)]bool
	for at := 0; at < len(text); {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			end = len(text) - at
		}
		line := text[at : at+end]
		mark := fenceOf(line)
		switch {
		case fence != "":
			inner := bytes.TrimLeft(line, " ")
			if end := fenceOf(inner); len(line)-len(inner) < 4 && strings.HasPrefix(end, fence) && len(bytes.Trim(inner, end[:1]+" \t")) == 0 {
				fence = ""
			}
		case marks(line) > maxDepth || bytes.Count(line, []byte("]:")) > maxDepth:
			return at, true
		default:
			// In a block of HTML a fence is none. Some end with an empty line,
			// others only with a word of theirs.
			html = html && len(bytes.TrimSpace(line)) > 0 || bytes.IndexByte(line, '<') >= 0
			unsure := false
			for i, e := range endless {
				open[i] = (open[i] || e.begin.Match(line)) && !e.end.Match(line)
				unsure = unsure || open[i]
			}
			if !unsure && !html {
				fence = mark
			}
		}
		at += end + 1
	}
	return 0, false
}

// endless are the blocks of HTML that an empty line does not end.
var endless = [...]struct{ begin, end *regexp.Regexp }{
	{regexp.MustCompile(`(?i)<(script|pre|style|textarea)`), regexp.MustCompile(`(?i)</(script|pre|style|textarea)>`)},
	{regexp.MustCompile(`<!--`), regexp.MustCompile(`-->`)},
	{regexp.MustCompile(`<\?`), regexp.MustCompile(`\?>`)},
	{regexp.MustCompile(`<!\[CDATA\[`), regexp.MustCompile(`\]\]>`)},
	{regexp.MustCompile(`<![A-Za-z]`), regexp.MustCompile(`>`)},
}

// fenceOf gives the marks of the fence that a line begins with, where it stands
// at the line's begin and so in no list or quote; else "".
func fenceOf(line []byte) string {
	n := 0
	for n < len(line) && line[n] == line[0] {
		n++
	}
	if n < 3 || line[0] != '`' && line[0] != '~' || line[0] == '`' && bytes.IndexByte(line[n:], '`') >= 0 {
		return ""
	}
	return string(line[:n])
}

// shallow cuts the lines that open too much.
func shallow(text []byte) []byte {
	lines := bytes.Split(text, []byte("\n"))
	for i, line := range lines {
		if marks(line) > maxDepth || bytes.Count(line, []byte("]:")) > maxDepth {
			line = bytes.TrimSpace(line)
			lines[i] = []byte(strings.ToValidUTF8(string(line[:min(len(line), maxDepth/2)]), "") + "…")
		}
	}
	return bytes.Join(lines, []byte("\n"))
}

// marks counts the signs of quotes and list items that a line begins with, and
// those that its indentation stands for.
func marks(line []byte) int {
	n := 0
	if blank := len(line) - len(bytes.TrimLeft(line, " \t")); blank > 2*maxDepth {
		if rest := line[blank:]; len(rest) > 1 && bytes.IndexByte([]byte("-+*>0123456789"), rest[0]) >= 0 {
			n = blank / 2
		}
	}
	for i, c := range line {
		switch c {
		case ' ', '\t', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		case '>':
			n++
		case '-', '+', '*', '.', ')':
			if i+1 < len(line) && line[i+1] != ' ' && line[i+1] != '\t' {
				return n
			}
			n++
		default:
			return n
		}
	}
	return n
}
