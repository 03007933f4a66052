package markdown

import (
	"bytes"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"
)

// While a lenient loader goes on after a mistake, it notes how the text can be
// mended so that a strict one reads the same. Write uses that.

// An edit puts text in the place of a piece of a source.
type edit struct {
	from, to int
	with     string
}

func (s *source) edit(from, to int, with string) { s.edits = append(s.edits, edit{from, to, with}) }

// mended gives the text with its edits. Of two in one place the first counts.
func (s *source) mended() string {
	edits := slices.Clone(s.edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for _, e := range edits {
		if e.from < at {
			continue
		}
		b.Write(s.text[at:e.from])
		b.WriteString(e.with)
		at = e.to
	}
	b.Write(s.text[at:])
	return strings.TrimSuffix(b.String(), "\n")
}

// lineEnd gives the offset of the end of the line that an offset is in, without
// its newline.
func (s *source) lineEnd(offset int) int {
	if i := bytes.IndexByte(s.text[offset:], '\n'); i >= 0 {
		return offset + i
	}
	return len(s.text)
}

// fenceMark gives the marks that a fence begins with.
func (s *source) fenceMark(n *ast.FencedCodeBlock) string {
	open := max(0, n.Pos())
	end := open
	for end < len(s.text) && s.text[end] == s.text[open] {
		end++
	}
	return string(s.text[open:end])
}

// fenceEnd gives the offset behind a fence's code, and behind its last line.
func (s *source) fenceEnd(n *ast.FencedCodeBlock) (code, end int) {
	code = s.lineEnd(max(0, n.Pos()))
	if k := n.Lines().Len(); k > 0 {
		if code = n.Lines().At(k - 1).Stop; code > 0 && s.text[code-1] == '\n' {
			code--
		}
	}
	if end = code; closed(s, n) && code+1 < len(s.text) {
		end = s.lineEnd(code + 1)
	}
	return code, end
}

// linePrefix gives what a line has to begin with to belong to the quotes and
// lists that the text at an offset is in.
func (s *source) linePrefix(offset int) string {
	start := bytes.LastIndexByte(s.text[:offset], '\n') + 1
	return strings.Map(func(c rune) rune {
		if c == '>' || c == '\t' {
			return c
		}
		return ' '
	}, string(s.text[start:offset]))
}

// closeFence ends a fence that is not closed.
func (s *source) closeFence(n *ast.FencedCodeBlock) {
	code, _ := s.fenceEnd(n)
	s.edit(code, code, "\n"+s.linePrefix(max(0, n.Pos()))+s.fenceMark(n))
}

// mendFence writes a fence again without its mistakes.
func (s *source) mendFence(n *ast.FencedCodeBlock, b *fence) {
	open := max(0, n.Pos())
	_, end := s.fenceEnd(n)
	if inner := b.word == "hint" || b.has("markdown"); inner && strings.TrimSpace(b.code) == "" {
		b.fate = dropped
	}
	switch {
	case b.fate == dropped:
		s.edits = slices.DeleteFunc(s.edits, func(e edit) bool { return e.from >= open && e.from <= end })
		s.edit(open, end, "")
	case b.fate == used && (b.word == "hint" || b.has("markdown")) && s.linePrefix(open) == "":
		s.edits = slices.DeleteFunc(s.edits, func(e edit) bool { return e.from >= open && e.from <= end })
		s.edit(open, end, Fence(b.info(), b.code))
	default:
		info := b.info()
		if b.fate == plainly {
			info = b.plainInfo()
		}
		s.edit(open+len(s.fenceMark(n)), s.lineEnd(open), info)
	}
}

// info gives the fence's word with its attributes.
func (f *fence) info() string {
	if text := attributesText(f.attrs); text != "" {
		return f.word + " " + text
	}
	return f.word
}

// plainInfo gives what a fence says that only shows the code.
func (f *fence) plainInfo() string {
	switch {
	case f.lexer == nil:
		return ""
	case f.word == "sh" || f.word == "console":
		return "sh {.norun}"
	}
	return f.word
}

var plainValue = regexp.MustCompile(`^[A-Za-z0-9_./~:@+-]+$`)

// attributesText writes attributes as they stand behind a word.
func attributesText(attrs map[string]string) string {
	var names, items []string
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch value := attrs[name]; {
		case !slices.Contains(valued, name):
			items = append(items, name)
		case plainValue.MatchString(value):
			items = append(items, name+"="+value)
		default:
			items = append(items, name+`="`+escape.Replace(value)+`"`)
		}
	}
	if items == nil {
		return ""
	}
	return "{" + strings.Join(items, " ") + "}"
}

// Fence writes a block of code in Markdown, without a final newline, between
// marks that the code does not hold. info is the word behind the marks with its
// attributes, such as `sh {terminal=2}`, or "".
func Fence(info, code string) string {
	most := 2
	for line := range strings.SplitSeq(code, "\n") {
		t := strings.TrimLeft(line, " \t")
		most = max(most, len(t)-len(strings.TrimLeft(t, "`")))
	}
	mark := strings.Repeat("`", most+1)
	if strings.Contains(info, "`") {
		most = 2
		for line := range strings.SplitSeq(code, "\n") {
			t := strings.TrimLeft(line, " \t")
			most = max(most, len(t)-len(strings.TrimLeft(t, "~")))
		}
		mark = strings.Repeat("~", most+1)
	}
	if code != "" {
		code += "\n"
	}
	return mark + info + "\n" + code + mark
}

// Span writes code as inline code of Markdown, with attributes such as
// `{run terminal=2}` behind it, or "". The code must not be empty, hold an empty
// line or be all blanks: a Fence can.
func Span(code, attributes string) string {
	marks := "`"
	for strings.Contains(code, marks) {
		marks += "`"
	}
	if code[0] == '`' || code[len(code)-1] == '`' || isBlank(code[0]) && isBlank(code[len(code)-1]) {
		code = " " + code + " "
	}
	return marks + code + marks + attributes
}

func isBlank(c byte) bool { return c == ' ' || c == '\n' }

// escapeCallout keeps the mark of a callout from being one.
func (s *source) escapeCallout(line int) {
	if i := bytes.IndexByte(s.text[line:], '['); i >= 0 {
		s.edit(line+i, line+i, `\`)
	}
}

// htmlEnd gives what ends a block of HTML that begins with raw.
func htmlEnd(kind ast.HTMLBlockType, raw string) string {
	switch kind {
	case ast.HTMLBlockType2:
		return "-->"
	case ast.HTMLBlockType3:
		return "?>"
	case ast.HTMLBlockType4:
		return ">"
	case ast.HTMLBlockType5:
		return "]]>"
	}
	for _, name := range []string{"script", "style", "textarea"} {
		if strings.HasPrefix(strings.ToLower(strings.TrimSpace(raw)), "<"+name) {
			return "</" + name + ">"
		}
	}
	return "</pre>"
}

// moveImage writes the place of an image as it is seen from the lab's folder.
func (l *loader) moveImage(f *fragment, to string, at int) {
	if f.base == "" || f.base == "." || !l.lenient {
		return
	}
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Path == "" || strings.HasPrefix(to, "/") {
		return
	}
	text := f.src.text
	for {
		i := bytes.Index(text[at:], []byte(to))
		if i < 0 {
			return
		}
		at += i
		if before := bytes.TrimRight(text[max(0, at-200):at], " <\n"); len(before) > 0 && strings.IndexByte(`(:="'`, before[len(before)-1]) >= 0 {
			u.Path, u.RawPath = path.Join(f.base, u.Path), ""
			f.src.edit(at, at+len(to), u.String())
			return
		}
		at += len(to) // it is the description
	}
}

// moveHeading writes a heading with its level.
func (s *source) moveHeading(h *ast.Heading) {
	if h.Lines().Len() == 0 && s.text[max(0, h.Pos())] != '#' {
		return
	}
	at, marks := max(0, h.Pos()), strings.Repeat("#", h.Level)
	if s.text[at] == '#' && (h.Lines().Len() == 0 || h.Lines().At(0).Start > at) {
		end := at
		for end < len(s.text) && s.text[end] == '#' {
			end++
		}
		s.edit(at, end, marks)
		return
	}
	// One that is underlined becomes one line.
	lines := h.Lines()
	var words []string
	for i := range lines.Len() {
		line := lines.At(i)
		words = append(words, strings.TrimSpace(string(s.text[line.Start:s.lineEnd(max(line.Start, line.Stop-1))])))
	}
	text := strings.Join(words, " ")
	if strings.HasSuffix(text, "#") {
		text = strings.TrimSuffix(text, "#") + `\#`
	}
	last := lines.At(lines.Len() - 1)
	under := s.lineEnd(max(last.Start, last.Stop-1)) + 1
	s.edit(lines.At(0).Start, s.lineEnd(min(under, len(s.text))), marks+" "+text)
}
