package katacoda

import (
	"sort"
	"strings"
)

// A piece is a part of a paragraph's text with a meaning of its own; what lies
// between pieces is text that stays.
type piece struct {
	kind     pieceKind
	from, to int // in the text

	code   string // of code, with its newlines
	mark   mark
	gap    string // signs of emphasis between the code and its mark
	tag    tag
	at     traffic
	dest   string // of a link's end
	title  string // with the blank before it and its quotes
	image  bool
	linked bool // the bracket begins a link
	other  int  // of a link: the piece that ends it, or begins it
	word   string
}

type pieceKind int

const (
	codePiece     pieceKind = iota
	tagPiece                // of HTML
	angledPiece             // < that is text
	backtickPiece           // backticks that are text
	gonePiece               // a comment
	trafficPiece            // with the path that follows
	openPiece               // [ or ![
	closePiece              // ](address)
)

// A spanScanner finds the pieces of a paragraph's text.
type spanScanner struct {
	t      *translation
	s      string
	num    func(at int) int
	pieces []piece
	runs   map[int][]int // where backticks stand, by how many
	open   []int         // brackets that are not closed yet: places in pieces
	word   int           // where the word began
}

// maxOpen bounds brackets inside each other.
const maxOpen = 200

func (t *translation) scan(s string, num func(at int) int) []piece {
	if !strings.ContainsAny(s, "`<[{") {
		return nil
	}
	c := &spanScanner{t: t, s: s, num: num, runs: map[int][]int{}}
	for i := 0; i < len(s); i++ {
		if s[i] == '`' {
			n := run(s[i:], '`')
			c.runs[n] = append(c.runs[n], i)
			i += n - 1
		}
	}
	comments := strings.LastIndex(s, "-->")
	for i := 0; i < len(s); {
		i = c.piece(i, comments)
	}
	return c.pieces
}

// piece reads what begins at i, and gives where the next begins.
func (c *spanScanner) piece(i, comments int) int {
	s := c.s
	next := i + 1
	switch ch := s[i]; {
	case ch == '\\':
		next = min(i+2, len(s))
	case ch == '`':
		next = c.codeAt(i)
	case ch == '<':
		next = c.angle(i, comments)
	case ch == '[' || ch == '{':
		if strings.HasPrefix(s[i:], "[[") || strings.HasPrefix(s[i:], "{{") {
			if n := c.trafficAt(i); n > 0 {
				c.word = n
				return n
			}
		}
		if ch == '{' {
			return c.brace(i)
		}
		if len(c.open) < maxOpen {
			p := piece{kind: openPiece, from: i, to: i + 1}
			if i > 0 && s[i-1] == '!' && (i < 2 || s[i-2] != '\\') {
				p.from, p.image = i-1, true
			}
			c.open = append(c.open, len(c.pieces))
			c.pieces = append(c.pieces, p)
		}
	case ch == ']':
		next = c.bracket(i)
	case isNameByte(ch):
		if i-c.word > maxName {
			c.word = i
		}
		return next
	case ch == ':' && strings.HasPrefix(s[i:], "://"):
		if n := run4(s[c.word:i]); n > 0 {
			c.word = i - n
			return i + 3
		}
	}
	c.word = next
	return next
}

// codeAt reads code between backticks, with its mark.
func (c *spanScanner) codeAt(i int) int {
	s := c.s
	n := run(s[i:], '`')
	if end := c.endWithoutBegin(i, n); end > 0 {
		return end
	}
	same := c.runs[n]
	for len(same) > 0 && same[0] < i+n {
		same = same[1:]
	}
	c.runs[n] = same
	ends, closing := -1, n
	if len(same) > 0 {
		ends = same[0]
	}
	if ends < 0 || strings.Contains(s[i+n:ends], "\n") {
		line, _, _ := strings.Cut(s[i+n:], "\n")
		switch at, m := c.unevenEnd(i + n); {
		case at >= 0:
			ends, closing = at, m
		case (n == 1 || ends < 0) && endsWithMark(line) && !strings.Contains(line, "`"):
			return c.beginWithoutEnd(i, n, line)
		case ends < 0:
			return c.literal(i, n)
		}
	}
	p := piece{kind: codePiece, from: i, to: ends + closing, code: inner(s[i+n : ends])}
	at := p.to
	rest := s[at:]
	gap := len(rest) - len(strings.TrimLeft(rest, "*_"))
	if gap > 3 || gap > 0 && !strings.HasPrefix(rest[gap:], "{{") {
		gap = 0
	}
	blank := 0
	if gap == 0 {
		blank = blanks(rest)
	}
	m, length, word, is := parseMark(rest[gap+blank:])
	switch {
	case is == goodMark && (blank == 0 || m.action != plain):
		p.gap = rest[:gap]
		at += gap + blank + length
		p.mark, p.word = m, word
		for { // a second one
			b := blanks(s[at:])
			m, length, word, is := parseMark(s[at+b:])
			if is != goodMark || m.action == plain {
				break
			}
			p.mark, at = p.mark.and(m), at+b+length
			if word != "" {
				p.word = word
			}
		}
		p.to = at
	case is == typo:
		c.t.warnAt(c.num(at), "", "%s is not understood, and is shown as text", quote(firstPart(rest[gap+blank:])))
	case strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, "{{"):
		if m, length, ok := brokenMark(rest); ok {
			p.mark, p.to = m, at+length
		}
	}
	c.markInside(&p, i+n)
	c.pieces = append(c.pieces, p)
	return p.to
}

// markInside takes the mark out of code that ends, or begins, with it. from is
// where the code begins.
func (c *spanScanner) markInside(p *piece, from int) {
	if !strings.Contains(p.code, "{{") || c.t.documents() {
		return
	}
	if m, length, _, is := parseMark(p.code); p.mark.action > plain && is == goodMark && m.action > plain && length < len(p.code) && p.code[length] > ' ' && p.code[length] != '`' {
		p.code = p.code[length:]
		return
	}
	at := strings.LastIndex(p.code, "{{")
	if at <= 0 {
		return
	}
	code := strings.TrimRight(p.code[:at], " \t")
	if isBlank(code) || strings.HasSuffix(code, "`") {
		return // that is how marks are written
	}
	m, length, _, is := parseMark(p.code[at:])
	if broken := strings.LastIndex(c.s[from:p.to], "{{"); broken > 0 && p.mark.action == unmarked {
		// The last backtick stands between the braces.
		if late, n, ok := brokenMark(c.s[from+broken:]); ok && from+broken+n > p.to {
			p.mark, p.to, p.code = late, from+broken+n, code
			return
		}
	}
	if is != goodMark || m.action <= plain || strings.TrimSpace(p.code[at+length:]) != "" {
		return
	}
	c.t.warnAt(c.num(p.from), "write it behind the last backtick", "the mark %s stands inside the code", quote(p.code[at:]))
	p.code, p.mark = code, m.and(p.mark)
}

// endWithoutBegin reads a backtick with a mark behind it that ends code whose
// first backtick was forgotten. It gives 0 when that is not what stands at i.
func (c *spanScanner) endWithoutBegin(i, n int) int {
	s := c.s
	m, length, _, is := parseMark(s[i+n:])
	end := i + n + length
	if is != goodMark || m.action <= plain || end < len(s) && strings.IndexByte(" \t\n.,;:!?)*_|", s[end]) < 0 {
		return 0
	}
	begin, atBegin := 0, true
	if last := len(c.pieces) - 1; last >= 0 {
		begin, atBegin = c.pieces[last].to, false
	}
	if at := strings.LastIndexByte(s[begin:i], '\n'); at >= 0 {
		begin, atBegin = begin+at+1, true
	}
	before := s[begin:i]
	if isBlank(before) || strings.IndexByte(" \t(\"", s[i-1]) >= 0 {
		if c.hasRun(n, end) && (atBegin || before != "") {
			return 0 // code that begins with a mark is about marks
		}
		c.gone(i, end, s[i+n:end])
		return end
	}
	if at := strings.LastIndexByte(before, '\''); at >= 0 && (at == 0 || before[at-1] == ' ') && before[at+1:] != "" && before[at+1] != ' ' {
		c.pieces = append(c.pieces, piece{kind: codePiece, from: begin + at, to: end, code: before[at+1:], mark: m})
	} else if atBegin && looksLikeCommand(before) {
		c.pieces = append(c.pieces, piece{kind: codePiece, from: begin, to: end, code: strings.TrimSpace(before), mark: m})
	} else {
		c.gone(i, end, s[i+n:end])
		return end
	}
	c.t.warnAt(c.num(i), "write it", "the backtick before the code with the mark %s is missing", quote(s[i+n:end]))
	return end
}

// hasRun reports whether exactly n backticks stand on the rest of the line.
func (c *spanScanner) hasRun(n, from int) bool {
	all := c.runs[n]
	k := sort.SearchInts(all, from)
	return k < len(all) && !strings.Contains(c.s[from:all[k]], "\n")
}

// beginWithoutEnd reads a line of code whose last backtick was forgotten before
// its mark.
func (c *spanScanner) beginWithoutEnd(i, n int, line string) int {
	at := strings.LastIndex(line, "{{")
	m, _, _, _ := parseMark(line[at:])
	code := strings.TrimSpace(line[:at])
	if strings.Count(code, "'")%2 == 1 {
		code = strings.TrimSuffix(code, "'")
	}
	c.t.warnAt(c.num(i), "write it", "the backtick before the mark %s is missing", quote(strings.TrimSpace(line[at:])))
	c.pieces = append(c.pieces, piece{kind: codePiece, from: i, to: i + n + len(line), code: code, mark: m})
	return i + n + len(line)
}

// gone drops a mark that belongs to no code.
func (c *spanScanner) gone(from, to int, text string) {
	c.t.warnAt(c.num(from), "write backticks around the code before it", "the mark %s stands behind no code, and is left out", quote(strings.TrimSpace(text)))
	c.pieces = append(c.pieces, piece{kind: gonePiece, from: from, to: to})
}

// literal reads backticks that are text.
func (c *spanScanner) literal(i, n int) int {
	begin := strings.LastIndexByte(c.s[:i], '\n') + 1
	behind, _, _ := strings.Cut(c.s[i+n:], "\n")
	last := len(c.pieces) - 1
	marked := last >= 0 && c.pieces[last].kind == codePiece && c.pieces[last].to == i && c.pieces[last].mark.action > plain
	if marked && (behind == "" || strings.IndexByte(" .,;:", behind[0]) >= 0) || n < 3 && isBlank(c.s[begin:i]+behind) {
		c.t.warnAt(c.num(i), "", "a backtick belongs to no code, and is left out")
		c.pieces = append(c.pieces, piece{kind: gonePiece, from: i, to: i + n})
		return i + n
	}
	c.pieces = append(c.pieces, piece{kind: backtickPiece, from: i, to: i + n})
	return i + n
}

// unevenEnd finds backticks on the same line that are more or fewer than those
// before the code, and have a mark behind them.
func (c *spanScanner) unevenEnd(from int) (at, n int) {
	line, _, _ := strings.Cut(c.s[from:], "\n")
	at = strings.IndexByte(line, '`')
	if at < 0 {
		return -1, 0
	}
	n = run(line[at:], '`')
	if m, _, _, is := parseMark(line[at+n:]); is != goodMark || m.action == plain {
		return -1, 0
	}
	return from + at, n
}

// endsWithMark reports whether a line ends with a mark that makes code run or
// be copied.
func endsWithMark(line string) bool {
	line = strings.TrimRight(line, " \t")
	at := strings.LastIndex(line, "{{")
	for at > 0 && line[at-1] == '{' {
		at--
	}
	if at <= 0 {
		return false
	}
	m, length, _, is := parseMark(line[at:])
	return is == goodMark && m.action > plain && at+length == len(line)
}

// firstPart cuts text for a message behind its first closing brace.
func firstPart(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if at := strings.Index(s, "}}"); at >= 0 {
		return s[:at+2]
	}
	return s[:min(len(s), 40)]
}

// blanks counts the blanks, with one newline at most, that s begins with.
func blanks(s string) int {
	n, lines := 0, 0
	for n < len(s) && n < 100 {
		if s[n] == '\n' {
			if lines++; lines > 1 {
				return 0
			}
		} else if s[n] != ' ' && s[n] != '\t' {
			break
		}
		n++
	}
	return n
}

// inner gives the code between backticks: one blank at each end does not
// belong to it.
func inner(s string) string {
	if len(s) > 1 && strings.IndexByte(" \n", s[0]) >= 0 && strings.IndexByte(" \n", s[len(s)-1]) >= 0 && strings.TrimSpace(s) != "" {
		return s[1 : len(s)-1]
	}
	return s
}

// angle reads what begins with <.
func (c *spanScanner) angle(i, comments int) int {
	s := c.s
	if strings.HasPrefix(s[i:], "<!--") {
		if i+4 <= comments {
			end := i + 4 + strings.Index(s[i+4:], "-->") + 3
			c.pieces = append(c.pieces, piece{kind: gonePiece, from: i, to: end})
			return end
		}
	} else if n := c.autolink(i); n > 0 {
		return n
	} else if g, ok := parseTag(s[i:]); ok {
		c.pieces = append(c.pieces, piece{kind: tagPiece, from: i, to: i + g.length, tag: g})
		return i + g.length
	} else if i+1 < len(s) && strings.IndexByte(" \t\n=<-0123456789", s[i+1]) >= 0 {
		return i + 1
	}
	c.pieces = append(c.pieces, piece{kind: angledPiece, from: i, to: i + 1})
	return i + 1
}

// autolink reads <https://…> and <name@example.com>.
func (c *spanScanner) autolink(i int) int {
	s := c.s[i:min(len(c.s), i+2000)]
	end := strings.IndexAny(s[1:], " \t\n<>") + 1
	if end < 4 || s[end] != '>' {
		return 0
	}
	to := s[1:end]
	scheme, _, hasScheme := strings.Cut(to, ":")
	switch strings.ToLower(scheme) {
	case "http", "https":
		a, n, ok := c.t.parseTraffic(to)
		if !ok {
			return i + end + 1
		}
		a.path += to[n:]
		c.pieces = append(c.pieces, piece{kind: trafficPiece, from: i, to: i + end + 1, at: a})
		return i + end + 1
	case "mailto", "ftp":
		if hasScheme {
			return i + end + 1
		}
	}
	if name, host, ok := strings.Cut(to, "@"); ok && name != "" && strings.Contains(strings.Trim(host, "."), ".") && !strings.ContainsAny(to, "/:\"'()[]{}=`") {
		return i + end + 1
	}
	return 0
}

// trafficAt reads an address with a placeholder at i, which may have begun
// before.
func (c *spanScanner) trafficAt(i int) int {
	from := c.word
	if n := len(c.pieces); n > 0 {
		from = max(from, c.pieces[n-1].to)
	}
	a, n, ok := c.t.parseTraffic(c.s[from:])
	if !ok || from+n <= i {
		from = i
		if a, n, ok = c.t.parseTraffic(c.s[from:]); !ok {
			return 0
		}
	}
	end := from + n
	if a.scheme != "" || !a.named && a.alone == "" {
		more := pathLength(c.s[end:])
		a.path += c.s[end : end+more]
		end += more
	}
	if a.choice {
		c.t.warnAt(c.num(i), "say which port it is", "a page where a port is chosen is not there; this leads to port %d", c.t.p.port)
	}
	c.pieces = append(c.pieces, piece{kind: trafficPiece, from: from, to: end, at: a})
	return end
}

// pathLength gives the length of the path behind an address in a sentence.
func pathLength(s string) int {
	if s == "" || strings.IndexByte("/?#", s[0]) < 0 {
		return 0
	}
	n, depth := 0, 0
	for n < len(s) && n < 2000 && s[n] > ' ' && strings.IndexByte("<>`\"'*[]{}|\\", s[n]) < 0 {
		if s[n] == '(' {
			depth++
		} else if s[n] == ')' {
			if depth--; depth < 0 {
				break
			}
		}
		n++
	}
	return len(strings.TrimRight(s[:n], ".,:;!?_~"))
}

// brace reads { in a sentence: a mark that stands behind no code is told.
func (c *spanScanner) brace(i int) int {
	m, length, _, is := parseMark(c.s[i:])
	c.word = i + 1
	if is == goodMark && m.action > plain {
		c.word = i + length
		if strings.HasSuffix(c.s[:i], "\\`") {
			return i + length // that is how marks are written
		}
		c.gone(i, i+length, c.s[i:i+length])
		return i + length
	}
	return i + 1
}

// bracket reads ] and the address of the link or image that it ends.
func (c *spanScanner) bracket(i int) int {
	if len(c.open) == 0 {
		return i + 1
	}
	opens := c.open[len(c.open)-1]
	c.open = c.open[:len(c.open)-1]
	rest := c.s[i+1:]
	switch {
	case strings.HasPrefix(rest, "["):
		c.pieces[opens].linked = true // by reference
	case strings.HasPrefix(rest, "("):
		dest, title, n, ok := linkTarget(rest)
		if !ok {
			break
		}
		c.pieces[opens].linked, c.pieces[opens].other = true, len(c.pieces)
		c.pieces = append(c.pieces, piece{kind: closePiece, from: i, to: i + 1 + n, dest: dest, title: title, image: c.pieces[opens].image, other: opens})
		return i + 1 + n
	}
	return i + 1
}

// A spanWriter writes a paragraph's text in our format.
type spanWriter struct {
	t     *translation
	s     string
	nums  []int
	line  int // of the text, in nums
	cur   strings.Builder
	free  bool // blocks can stand between the sentences
	fresh bool // the paragraph was divided by a block here
	alone bool // it is nothing but code
	links int  // links that are open
	table bool // it is a row of one

	starts []int          // offsets of lines, once they were asked for
	last   map[string]int // where elements are closed for the last time
}

// sentence gives text of one line in our format.
func (t *translation) sentence(s string, num int) string {
	w := &spanWriter{t: t, s: s, nums: []int{num}, table: t.row}
	w.write()
	return w.cur.String()
}

// paragraph writes a paragraph.
func (t *translation) paragraph(lines []textLine) {
	for len(lines) > 0 {
		def, ok := t.definition(lines[0])
		if !ok {
			break
		}
		t.emit(def, lines[0].num)
		lines = lines[1:]
	}
	if len(lines) == 0 {
		return
	}
	w := &spanWriter{t: t, free: true}
	texts := make([]string, len(lines))
	for i, l := range lines {
		texts[i] = l.text
		w.nums = append(w.nums, l.num)
	}
	w.s = strings.Join(texts, "\n")
	w.write()
	w.endLine()
}

// num gives the line in the source of what is being written.
func (w *spanWriter) num() int { return w.nums[min(w.line, len(w.nums)-1)] }

// numAt gives the line in the source of an offset in the text.
func (w *spanWriter) numAt(at int) int {
	if w.starts == nil {
		w.starts = []int{0}
		for i := range len(w.s) {
			if w.s[i] == '\n' {
				w.starts = append(w.starts, i+1)
			}
		}
	}
	line := sort.Search(len(w.starts), func(i int) bool { return w.starts[i] > at }) - 1
	return w.nums[min(line, len(w.nums)-1)]
}

func (w *spanWriter) write() {
	pieces := w.t.scan(w.s, w.numAt)
	if len(pieces) == 1 && pieces[0].kind == codePiece {
		w.alone = strings.TrimSpace(w.s[:pieces[0].from]+w.s[pieces[0].to:]) == "" && w.free
	}
	done := 0
	for i := range pieces {
		p := &pieces[i]
		if p.from < done {
			continue
		}
		w.text(w.s[done:p.from])
		w.piece(pieces, p)
		done = p.to
	}
	w.text(w.s[done:])
}

// text writes text that stays.
func (w *spanWriter) text(s string) {
	for {
		before, after, ok := strings.Cut(s, "\n")
		w.cur.WriteString(before)
		if !ok {
			return
		}
		w.endLine()
		w.line++
		s = after
	}
}

// endLine ends a line of a paragraph.
func (w *spanWriter) endLine() {
	s := w.cur.String()
	w.cur.Reset()
	if w.fresh || isBlank(s) {
		if strings.Trim(s, " \t.,;:!") == "" {
			return
		}
		s = startOfText(strings.TrimLeft(s, " \t"))
	}
	w.fresh = false
	w.t.emit(s, w.num())
}

func (w *spanWriter) piece(pieces []piece, p *piece) {
	raw := w.s[p.from:p.to]
	lines := strings.Count(raw, "\n")
	switch p.kind {
	case codePiece:
		w.code(p, lines)
		return
	case tagPiece:
		switch {
		case w.t.real(p.tag) && swallows(p.tag) && !w.closedBehind(p.tag.name, p.to):
			w.t.warnAt(w.num(), "end it", "`<%s>` does not end, and is left out", p.tag.name)
			raw = ""
		default:
			raw = w.t.tagText(raw, p.tag, w.num())
		}
	case angledPiece:
		raw = "&lt;"
	case backtickPiece:
		raw = strings.Repeat("\\`", len(raw))
	case gonePiece:
		raw = ""
	case trafficPiece:
		inAddress := p.from > 0 && strings.IndexByte("=/?&%#", w.s[p.from-1]) >= 0
		raw = w.t.trafficText(p.at, w.links > 0 || inAddress)
	case openPiece:
		if p.linked && !p.image {
			w.links++
		}
		if p.image && p.linked && w.links == 0 && isOutside(pieces[p.other].dest) {
			raw = "["
		}
	case closePiece:
		if !p.image {
			w.links = max(0, w.links-1)
		}
		raw = "](" + w.t.address(p.dest, p.image, w.num()) + p.title + ")"
		if p.image && w.links == 0 && isOutside(p.dest) && p.from == pieces[p.other].to {
			raw = "an image" + raw // the link has no text otherwise
		}
	}
	if strings.Contains(raw, "\n") {
		w.text(raw)
		return
	}
	w.cur.WriteString(raw)
	w.line += lines
}

// closedBehind reports whether an element is closed behind an offset.
func (w *spanWriter) closedBehind(name string, at int) bool {
	last, ok := w.last[name]
	if !ok {
		if w.last == nil {
			w.last = map[string]int{}
		}
		last = strings.LastIndex(w.s, "</"+name)
		w.last[name] = last
	}
	return last >= at
}

// code writes inline code, or a block when it has several lines.
func (w *spanWriter) code(p *piece, lines int) {
	w.t.warnOfMark(p.mark, p.word, w.num())
	m := p.mark
	if m.action == unmarked && w.t.p.killercoda {
		m.action = copies
	}
	if w.free && w.links == 0 && strings.Contains(p.code, "\n") && (p.mark.action > plain || w.alone) {
		first, last := w.num(), w.nums[min(w.line+lines, len(w.nums)-1)]
		s := strings.TrimRight(w.cur.String(), " \t")
		w.cur.Reset()
		w.cur.WriteString(s)
		w.endLine()
		var b block
		from := w.line
		if w.s[p.from:][run(w.s[p.from:], '`')] == '\n' && !strings.HasPrefix(p.code, "\n") {
			from++
		}
		for i, line := range strings.Split(strings.TrimSuffix(p.code, "\n"), "\n") {
			b.add(line, w.nums[min(from+i, len(w.nums)-1)])
		}
		w.t.code(b, "", m, first, last)
		w.line += lines
		w.fresh = true
		return
	}
	text := w.t.spanText(p.code, m, w.alone, w.links > 0, w.num())
	if w.table {
		text = escapePipes(text)
	}
	w.cur.WriteString(text)
	w.cur.WriteString(p.gap)
	w.line += lines
	if strings.HasPrefix(w.s[p.to:], "{") {
		w.cur.WriteString(`\`) // or it would be read as attributes
	}
}

// escapePipes keeps code from being divided into cells of a table.
func escapePipes(s string) string {
	if !strings.Contains(s, "|") {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, `\|`, "|"), "|", `\|`)
}

// spanText gives inline code with its attributes.
func (t *translation) spanText(code string, m mark, alone, linked bool, num int) string {
	code = strings.ReplaceAll(code, "\n", " ")
	if strings.TrimSpace(code) == "" {
		if m.action == runs || m.action == opens {
			return ""
		}
		return quoteCode(code)
	}
	if m.action == opens && !linked {
		return t.openSpan(code, num)
	}
	code = t.inCode(code, m.action == runs && fetches(code))
	attrs := ""
	switch {
	case linked:
	case m.action == runs && m.keys:
		code = caret(code)
		attrs = strings.Join(m.modifiers(), " ")
	case m.action == runs:
		attrs = strings.Join(append([]string{"run"}, m.modifiers()...), " ")
	case m.action == copies:
		attrs = "copy"
	case alone:
		attrs = ".norun"
	}
	if attrs == "" {
		return quoteCode(code)
	}
	return quoteCode(code) + "{" + attrs + "}"
}

// openSpan gives inline code that opens a file in the editor.
func (t *translation) openSpan(code string, num int) string {
	name, ok := t.inEditor(t.inCode(code, false))
	if !ok {
		t.warnAt(num, "", "%s cannot be opened in the editor", quote(code))
		return quoteCode(code)
	}
	return quoteCode(name) + "{open}"
}

// quoteCode puts as many backticks around code as it takes.
func quoteCode(code string) string {
	if code == "" {
		return ""
	}
	has := map[int]bool{}
	for i := 0; i < len(code); i++ {
		if code[i] == '`' {
			n := run(code[i:], '`')
			has[n] = true
			i += n - 1
		}
	}
	n := 1
	for has[n] {
		n++
	}
	signs := strings.Repeat("`", n)
	if code[0] == '`' || code[len(code)-1] == '`' || code[0] == ' ' && code[len(code)-1] == ' ' && strings.TrimSpace(code) != "" {
		code = " " + code + " "
	}
	return signs + code + signs
}

// holdsMark reports whether code with a mark stands in a line.
func holdsMark(s string) bool {
	for from := 0; ; {
		at := strings.Index(s[from:], "{{")
		if at < 0 {
			return false
		}
		at += from
		from = at + 2
		if !strings.HasSuffix(strings.TrimRight(s[:at], " \t"), "`") {
			continue
		}
		if _, _, _, is := parseMark(s[at:]); is == goodMark {
			return true
		}
	}
}

// startOfText keeps text from being read as the sign of a block.
func startOfText(s string) string {
	if s == "" {
		return s
	}
	n := 0
	for n < len(s) && n < 10 && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n > 0 {
		if n < len(s) && (s[n] == '.' || s[n] == ')') {
			return s[:n] + `\` + s[n:]
		}
		return s
	}
	if _, ok := openingFence(s); ok || strings.IndexByte("#>|-+*=_", s[0]) >= 0 && (s[0] != '*' && s[0] != '_' || isRule(s) || listSign(s, false) > 0) {
		return `\` + s
	}
	return s
}
