package katacoda

import (
	"io/fs"
	"strings"

	"berth/labs"
)

// A page is one Markdown file of a scenario, and what its text must be read
// with.
type page struct {
	file       string // of the text, relative to root, slash-separated
	scenario   string // folder of the scenario, relative to root; "." is root itself
	root       fs.FS  // what the author's files are under, and nothing of them is outside
	killercoda bool   // inline code without a mark can be copied
	editor     string // folder that the editor shows, absolute or "~/…"; "" is the home
	hostname   string // of the first sandbox; "" is host01
	port       int    // whose preview stands for a choice of ports; 0 is 80
}

// translate turns the Markdown of one page into Markdown of our format, for
// the Text of a markdown.DraftPart that is built with Lenient; the Markdown of
// an answer for its Solution. Every line of text ends with a newline, and lines
// holds the line of src that it was made of, for DraftPart.Lines. Images get an
// address that is relative to the folder of p.file. Mistakes are warnings about
// what was not understood, and is shown as text or left out.
//
// It takes time in proportion to the length of src.
func translate(src string, p page) (text string, lines []int, mistakes []labs.Mistake) {
	t := newTranslation(src, p)
	for t.at < len(t.src) {
		t.step()
	}
	t.flush()
	if len(t.out) == 0 {
		return "", nil, t.mistakes
	}
	return strings.Join(t.out, "\n") + "\n", t.nums, t.mistakes
}

// A translation reads a page line by line, as Markdown is read: first what
// blocks the line belongs to, then the text of paragraphs by letters. What
// stands in quotes and lists is written with prefixes of its own, so that what
// authors indent by too little or too much stays where it was meant to be.
type translation struct {
	report
	p   page
	src []string
	at  int // the line being read

	length  int            // of src in bytes
	fences  fences         // where lines with fences are
	closed  map[string]int // for elements that are closed somewhere: 1 and the last line where
	comment int            // 1 and the last line where a comment ends

	stack     []container
	pending   string // prefix of the next line when a list item begins there
	para      []textLine
	table     bool // the paragraph is a table
	row       bool // a row of a table is written
	shown     int  // behind the last line of code that is one by its indentation
	ended     int  // behind the last line of the last block of code
	asked     bool // documents was
	explained bool // what it found

	ticks int  // length of the backticks that code in the paragraph is open with, or 0
	html  bool // a block of HTML goes on

	cuts    int // how often the line cutLine was divided
	cutLine int
	preless int               // up to this line, no <pre> that begins in the quote ends in it
	images  map[string]string // addresses of images that were looked for

	out  []string
	nums []int
	size int // of out
}

// Bounds on what a page becomes.
const (
	maxContainers = 50  // quotes and list items inside each other
	maxCuts       = 100 // blocks of HTML on one line
	maxImages     = 500 // that are looked for
	maxGrowth     = 8   // times the size of the source
)

// A textLine is a line of a paragraph.
type textLine struct {
	text string
	num  int // in the source, from 1
}

func newTranslation(src string, p page) *translation {
	src = strings.TrimPrefix(src, "\ufeff")
	if strings.Contains(src, "\r") {
		src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	}
	src = strings.TrimSuffix(cleanText(src), "\n")
	if p.hostname == "" {
		p.hostname = "host01"
	}
	if p.port == 0 {
		p.port = 80
	}
	t := &translation{p: p, closed: map[string]int{}, images: map[string]string{}}
	if t.length = len(src); src != "" {
		t.src = strings.Split(src, "\n")
	}
	for i, line := range t.src {
		// A fence that was written twice on its line.
		if half := line[:len(line)/2]; len(half) > 3 && strings.HasPrefix(half, "```") && half[3] != '`' && !strings.ContainsAny(half, " \t") && line == half+half {
			t.src[i] = half
		}
	}
	t.fences = findFences(t.src)
	for i, line := range t.src {
		if strings.Contains(line, "-->") {
			t.comment = i + 1
		}
		for rest := line; ; {
			_, after, ok := strings.Cut(rest, "</")
			if !ok {
				break
			}
			t.closed[tagName(after)] = i + 1
			rest = after
		}
	}
	return t
}

// cleanText drops what no text holds: control characters, and bytes that are
// not UTF-8.
func cleanText(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c >= 0x7f && c < 0xa0 {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// warnAt notes a warning about a line of the source, from 1.
func (t *translation) warnAt(line int, hint, what string, args ...any) {
	t.warn(t.p.file, line, hint, what, args...)
}

// grown reports whether the page has become too large for further quotes and
// lists.
func (t *translation) grown() bool { return t.size > maxGrowth*t.length+1<<16 }

// emit writes a line, in the quotes and lists that are open.
func (t *translation) emit(line string, num int) {
	prefix := t.pending
	switch {
	case t.grown():
		prefix = ""
	case prefix == "":
		prefix = t.inside()
	}
	t.pending = ""
	if line == "" {
		line = strings.TrimRight(prefix, " ")
	} else {
		line = prefix + line
	}
	t.size += len(line) + 1
	t.out = append(t.out, line)
	t.nums = append(t.nums, num)
}

// text adds a line to the paragraph.
func (t *translation) text(rest string) {
	num := t.at + 1
	if len(t.para) == 0 {
		t.ticks, t.table = 0, false
		rest = strings.TrimLeft(rest, " \t")
	}
	if len(t.para) == 1 && isTableRule(rest) && strings.Contains(t.para[0].text, "|") {
		t.table = true
	}
	t.para = append(t.para, textLine{rest, num})
	t.at++
	if t.table || !strings.Contains(rest, "`") {
		return
	}
	t.ticks = openTicks(rest, t.ticks)
	switch {
	case t.ticks >= 3 && t.opensBlock(rest):
	case t.ticks > 0:
		t.absorb()
	}
}

// opensBlock reads a block whose opening fence stands behind text, at the end of
// the line that was added last.
func (t *translation) opensBlock(rest string) bool {
	rest = strings.TrimRight(rest, " \t")
	next := t.fences.next[0][t.at]
	if !strings.HasSuffix(rest, strings.Repeat("`", t.ticks)) || next < 0 {
		return false
	}
	f := fence{char: '`', length: t.ticks}
	if f.endOf(bare(t.src[next])).kind != closes {
		return false
	}
	t.para[len(t.para)-1].text = strings.TrimRight(rest, "` \t")
	t.at--
	t.fence(f)
	return true
}

// isTableRule reports the line between the head and the body of a table.
func isTableRule(s string) bool {
	return strings.Contains(s, "-") && strings.Trim(s, " \t|:-") == "" && (strings.Contains(s, "|") || strings.Contains(s, ":"))
}

// openTicks follows the backticks of a line: open is the length of those that
// code is open with, or 0.
func openTicks(s string, open int) int {
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && open == 0 {
			i++
			continue
		}
		if s[i] != '`' {
			continue
		}
		n := run(s[i:], '`')
		if m, length, _, is := parseMark(s[i+n:]); open == 0 && is == goodMark && m.action > plain && isBlank(s[i+n+length:]) {
			// It ends code that did not begin.
		} else if open == 0 {
			open = n
		} else if open == n {
			open = 0
		}
		i += n - 1
	}
	return open
}

// run counts how often c stands at the beginning of s.
func run(s string, c byte) int {
	n := 0
	for n < len(s) && s[n] == c {
		n++
	}
	return n
}

// absorb takes further lines into the paragraph when code that is open in it
// ends there with a mark: a here-document may hold empty lines and signs of
// headings and lists.
func (t *translation) absorb() {
	for i := t.at; i < len(t.src); i++ {
		at := strings.IndexByte(t.src[i], '`')
		if at < 0 {
			continue
		}
		n := run(t.src[i][at:], '`')
		if n != t.ticks {
			return
		}
		if _, _, _, f := parseMark(strings.TrimLeft(t.src[i][at+n:], " \t")); f != goodMark {
			return
		}
		var more []textLine
		for j := t.at; j <= i; j++ {
			rest, gone := t.content(t.src[j])
			if gone {
				return
			}
			more = append(more, textLine{rest, j + 1})
		}
		t.para = append(t.para, more...)
		t.at = i + 1
		t.ticks = openTicks(more[len(more)-1].text, t.ticks)
		if t.ticks == 0 {
			return
		}
	}
}

// flush writes the paragraph.
func (t *translation) flush() {
	para := t.para
	t.para, t.ticks = nil, 0
	if len(para) == 0 {
		return
	}
	if t.table {
		t.table, t.row = false, true
		for _, l := range para {
			t.emit(t.sentence(l.text, l.num), l.num)
		}
		t.row = false
		return
	}
	t.paragraph(para)
}
