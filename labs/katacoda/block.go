package katacoda

import "strings"

// A container is a quote or a list item that lines stand in.
type container struct {
	quote   bool
	width   int // columns that the text of a list item is indented by
	accepts int // columns that are enough, after something stood there; 0 is width
	marker  int // columns that the item's sign is indented by
}

// inside gives the prefix of lines in the quotes and lists that are open.
func (t *translation) inside() string {
	if len(t.stack) == 0 {
		return ""
	}
	var b strings.Builder
	for _, c := range t.stack {
		if c.quote {
			b.WriteString("> ")
		} else {
			b.WriteString(strings.Repeat(" ", c.width))
		}
	}
	return b.String()
}

// leave ends all but the first n of the quotes and list items that are open.
func (t *translation) leave(n int) {
	if t.pending != "" {
		t.emit("", t.at)
	}
	t.stack = t.stack[:n]
}

// match takes the prefixes of the open quotes and list items off a line. m is
// how many of them it stands in; col the column where rest begins.
func (t *translation) match(line string) (rest string, col, m int) {
	rest = line
	for i, c := range t.stack {
		indent, n := indentation(rest, col)
		switch {
		case c.quote:
			if indent > 3 || n == len(rest) || rest[n] != '>' {
				return rest, col, i
			}
			rest, col = strip(rest[n+1:], col+indent+1, 1)
		case n == len(rest):
			rest = ""
		case indent >= c.width:
			rest, col = strip(rest, col, c.width)
		case c.accepts > 0 && indent >= c.accepts:
			rest, col = rest[n:], col+indent
		default:
			return rest, col, i
		}
	}
	return rest, col, len(t.stack)
}

// indentation measures the blanks that s, which begins in a column, begins
// with: in columns and in bytes.
func indentation(s string, col int) (columns, n int) {
	at := col
	for ; n < len(s); n++ {
		if s[n] == '\t' {
			at += 4 - at%4
		} else if s[n] == ' ' {
			at++
		} else {
			break
		}
	}
	return at - col, n
}

// strip takes at most n columns of blanks off s. What is left of a tab becomes
// spaces.
func strip(s string, col, n int) (string, int) {
	end := col + n
	for i := 0; ; i++ {
		switch {
		case i == len(s) || col == end || s[i] != ' ' && s[i] != '\t':
			return s[i:], col
		case s[i] == ' ':
			col++
		default:
			next := col + 4 - col%4
			if next > end {
				return strings.Repeat(" ", next-end) + s[i+1:], end
			}
			col = next
		}
	}
}

func isBlank(s string) bool { return strings.Trim(s, " \t") == "" }

// step reads the line t.at, and more where a block goes on.
func (t *translation) step() {
	if t.grown() && len(t.stack) > 0 {
		t.flush()
		t.leave(0)
	}
	rest, col, m := t.match(t.src[t.at])
	if isBlank(rest) {
		t.flush()
		t.html = false
		if m < len(t.stack) {
			t.leave(m)
		}
		t.emit("", t.at+1)
		t.at++
		return
	}
	if m < len(t.stack) && t.adopt(rest, col, m) {
		rest, col, m = t.match(t.src[t.at])
	}
	if m < len(t.stack) {
		if len(t.para) > 0 && !t.table && !t.interrupts(rest, col) {
			t.text(rest) // a paragraph goes on without the signs
			return
		}
		t.flush()
		t.html = false
		t.leave(m)
	}
	for !t.html && !t.grown() && len(t.stack) < maxContainers {
		indent, n := indentation(rest, col)
		if indent > 3 || n == len(rest) {
			break
		}
		r := rest[n:]
		if r[0] == '>' && !t.asks(r) {
			t.flush()
			t.pending = t.prefix() + "> "
			t.stack = append(t.stack, container{quote: true})
			rest, col = strip(r[1:], col+indent+1, 1)
			continue
		}
		sign := listSign(r, len(t.para) > 0)
		if sign == 0 {
			break
		}
		t.flush()
		col += indent + sign
		pad, _ := indentation(r[sign:], col)
		if pad > 4 || isBlank(r[sign:]) {
			pad = 1
		}
		t.pending = t.prefix() + strings.Repeat(" ", indent) + r[:sign] + strings.Repeat(" ", pad)
		t.stack = append(t.stack, container{width: indent + sign + pad, marker: indent})
		rest, col = strip(r[sign:], col, pad)
	}
	t.leaf(rest, col)
}

// prefix is what the line that begins here has before it.
func (t *translation) prefix() string {
	if t.pending != "" {
		return t.pending
	}
	return t.inside()
}

// listSign gives the length of the sign of a list item that s begins with, or
// 0. Only some interrupt a paragraph.
func listSign(s string, paragraph bool) int {
	n := 0
	switch {
	case s == "" || isRule(s):
		return 0
	case s[0] == '-' || s[0] == '+' || s[0] == '*':
		n = 1
	default:
		for n < len(s) && n < 9 && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		if n == 0 || n == len(s) || s[n] != '.' && s[n] != ')' || paragraph && s[:n] != "1" {
			return 0
		}
		n++
	}
	if n < len(s) && s[n] != ' ' && s[n] != '\t' || paragraph && isBlank(s[n:]) {
		return 0
	}
	return n
}

// isRule reports a line of ***, --- or ___.
func isRule(s string) bool {
	n := 0
	for i := range len(s) {
		switch s[i] {
		case ' ', '\t':
		case s[0]:
			n++
		default:
			return false
		}
	}
	return n >= 3 && (s[0] == '*' || s[0] == '-' || s[0] == '_')
}

// adopt lets a list item go on where a fence in it is not indented as far as
// the item's text is.
func (t *translation) adopt(rest string, col, m int) bool {
	c := &t.stack[m]
	indent, n := indentation(rest, col)
	if c.quote || indent <= c.marker {
		return false
	}
	if _, ok := openingFence(rest[n:]); !ok {
		return false
	}
	t.flush()
	c.accepts = indent
	return true
}

// interrupts reports whether a line begins a block, rather than going on with
// the paragraph of a quote or list item that it does not stand in.
func (t *translation) interrupts(rest string, col int) bool {
	indent, n := indentation(rest, col)
	r := rest[n:]
	if _, ok := openingFence(r); ok {
		return true
	}
	if indent > 3 {
		return false
	}
	if r[0] == '<' && tagName(r[1:]) == "pre" && t.closed["pre"] > t.at && t.at >= t.preless {
		return true
	}
	return r[0] == '>' || isRule(r) || listSign(r, false) > 0 || headingSign(r, true) > 0 || t.beginsHTML(r, true)
}

// leaf reads what stands in the innermost quote or list item.
func (t *translation) leaf(rest string, col int) {
	num := t.at + 1
	if isBlank(rest) {
		t.emit("", num)
		t.at++
		return
	}
	indent, n := indentation(rest, col)
	r := rest[n:]
	if f, ok := openingFence(r); ok && (indent <= 3 || len(t.para) > 0 || len(t.stack) > 0 || t.endsWithMark(f)) {
		f.indent = indent
		if t.html {
			t.html = false
			t.emit("", num)
		}
		t.fence(f)
		return
	}
	if t.html {
		t.htmlLine(rest)
		return
	}
	if indent > 3 && len(t.para) == 0 {
		if g, ok := parseTag(r); ok && g.closes && t.real(g) && t.shown != t.at {
			t.html = true // a table that is indented, with an empty line in it
			t.htmlLine(r)
			return
		}
		if code := strings.TrimRight(r, " \t"); endsWithMark(code) && !holdsMark(r) && !t.documents() {
			at := strings.LastIndex(code, "{{")
			r = quoteCode(strings.TrimSpace(code[:at])) + code[at:]
		}
		if !holdsMark(r) {
			t.emit(t.inCode(rest, false), num)
			t.at++
			t.shown = t.at
			return
		}
		rest = r // code with a mark is not meant to be shown with its backticks
	}
	if indent <= 3 {
		switch {
		case t.asks(r):
			t.flush()
			t.quiz(r)
			return
		case len(t.para) > 0 && isUnderline(r):
			t.flush()
			t.emit(r, num)
			t.at++
			return
		case isRule(r):
			t.flush()
			t.emit("***", num)
			t.at++
			return
		}
		if n := headingSign(r, len(t.para) > 0); n > 0 {
			t.flush()
			t.heading(r, n)
			return
		}
		if name := tagName(strings.TrimPrefix(r, "<")); r[0] == '<' && name == "pre" && t.closed["pre"] > t.at && t.at >= t.preless {
			t.flush()
			if t.pre(r) {
				return
			}
		}
		if t.beginsHTML(r, len(t.para) > 0) {
			t.flush()
			t.html = true
			t.htmlLine(rest)
			return
		}
	}
	if t.closed["pre"] > t.at && t.at >= t.preless && (t.cutLine != t.at || t.cuts < maxCuts) {
		if i := beginOfPre(rest, t.ticks); i > 0 {
			// The rest of the line is read again, as a line of its own.
			if len(t.para) == 0 {
				t.table = false
			}
			t.para = append(t.para, textLine{strings.TrimLeft(rest[:i], " \t"), num})
			t.flush()
			t.again(rest[i:])
			return
		}
	}
	t.text(rest)
}

// isUnderline reports the line that makes a heading of the paragraph before.
func isUnderline(s string) bool {
	s = strings.TrimRight(s, " \t")
	return s != "" && (strings.Trim(s, "=") == "" || strings.Trim(s, "-") == "")
}

// headingSign gives how many # a heading begins with, or 0. There a blank need
// not follow them.
func headingSign(s string, paragraph bool) int {
	n := 0
	for n < len(s) && s[n] == '#' {
		n++
	}
	if n == 0 || n > 6 {
		return 0
	}
	if n == len(s) || s[n] == ' ' || s[n] == '\t' {
		return n
	}
	letter := s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= 0x80
	if paragraph && !letter || strings.IndexByte("!?/.,:;}])=", s[n]) >= 0 {
		return 0
	}
	return n
}

// heading writes a heading with n signs.
func (t *translation) heading(r string, n int) {
	num := t.at + 1
	t.at++
	body := strings.TrimSpace(r[n:])
	if cut := strings.TrimRight(body, "#"); cut == "" || strings.HasSuffix(cut, " ") || strings.HasSuffix(cut, "\t") {
		body = strings.TrimRight(cut, " \t")
	}
	if body == "" {
		return // nothing to show
	}
	t.emit(r[:n]+" "+t.sentence(body, num), num)
}

// content takes the prefixes of the open quotes and list items off a line that
// need not have all of them. It is gone when a quote ends before it.
func (t *translation) content(line string) (rest string, gone bool) {
	rest, _, _, gone = t.contentAt(line)
	return rest, gone
}

// contentAt also tells the column where rest begins, and whether the line is
// indented by less than a list item that is open.
func (t *translation) contentAt(line string) (rest string, col int, outside, gone bool) {
	rest = line
	for _, c := range t.stack {
		if c.quote {
			indent, n := indentation(rest, col)
			if n == len(rest) || rest[n] != '>' || indent > 3 {
				return rest, col, outside, true
			}
			rest, col = strip(rest[n+1:], col+indent+1, 1)
			continue
		}
		if isBlank(rest) {
			continue
		}
		indent, _ := indentation(rest, col)
		outside = outside || indent < c.width && (c.accepts == 0 || indent < c.accepts)
		rest, col = strip(rest, col, c.width)
	}
	return rest, col, outside, false
}
