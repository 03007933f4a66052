package markdown

import (
	"bytes"
	"html"
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// inlineAttributes are those that inline code understands.
var inlineAttributes = []string{"run", "copy", "open", "keys", "terminal", "host", "interrupt", "once", "no-enter", ".norun"}

// attributesKey is where a code span keeps the attributes behind it.
const attributesKey = "berth"

// spanAttributes are attributes behind inline code, and their place.
type spanAttributes struct {
	attrs    []attribute
	from, to int
}

// A spanParser reads inline code as its base does, and attributes directly
// behind it.
type spanParser struct{ parser.InlineParser }

func (p spanParser) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	n := p.InlineParser.Parse(parent, block, pc)
	span, ok := n.(*ast.CodeSpan)
	if !ok {
		return n
	}
	line, _ := block.PeekLine()
	if end := attributesEnd(line); end > 0 {
		if attrs, ok := parseAttributes(string(line[:end])); ok && len(attrs) > 0 {
			_, segment := block.PeekLine()
			span.SetAttributeString(attributesKey, spanAttributes{attrs, segment.Start, segment.Start + end})
			block.Advance(end)
		}
	}
	return span
}

// attributesEnd gives the length of the braces that line begins with, or 0.
func attributesEnd(line []byte) int {
	if len(line) == 0 || line[0] != '{' {
		return 0
	}
	for i := 1; i < len(line); i++ {
		switch line[i] {
		case '}':
			return i + 1
		case '{', '\n':
			return 0
		case '"', '\'':
			n := quoted(string(line[i:]))
			if n == 0 {
				return 0
			}
			i += n - 1
		}
	}
	return 0
}

// spanFence gives what a code span with attributes asks for. nil after a
// mistake, and when it asks for nothing.
func (l *loader) spanFence(src *source, span *ast.CodeSpan, alone bool) *fence {
	value, marked := span.AttributeString(attributesKey)
	if !marked && !alone {
		return nil
	}
	b := &fence{line: spanLine(src, span), attrs: map[string]string{}, code: spanText(src, span, alone && !marked)}
	if strings.TrimSpace(b.code) == "" {
		return nil // a space between backticks
	}
	if !marked {
		return b
	}
	at, _ := value.(spanAttributes)
	before := l.added
	if !b.take(at.attrs, inlineAttributes, "inline code", l.report) && !l.lenient || !b.fits(l.report) || !l.hostFits(b) {
		return nil
	}
	if l.added > before {
		src.edit(at.from, at.to, attributesText(b.attrs))
	}
	if b.has(".norun") || alone {
		return b
	}
	for _, does := range []string{"run", "copy", "open", "keys"} {
		if b.has(does) {
			return b
		}
	}
	if len(b.attrs) > 0 {
		l.add(b.line, "write `{run …}`", "the attributes do not say that the code runs")
		src.edit(at.from, at.to, "")
	}
	return nil
}

// inline gives what stands in the page for a code span with attributes, or nil
// when it stays as it is.
func (l *loader) inline(src *source, span *ast.CodeSpan, f *fragment) ast.Node {
	b := l.spanFence(src, span, false)
	if b == nil || b.has(".norun") {
		return nil
	}
	before := l.added
	put := l.inlineCode(b, f)
	if l.added > before {
		l.dropAttributes(src, span)
	}
	return put
}

// dropAttributes leaves out what makes inline code do what it cannot.
func (l *loader) dropAttributes(src *source, span *ast.CodeSpan) {
	if value, ok := span.AttributeString(attributesKey); ok {
		if at, ok := value.(spanAttributes); ok {
			src.edits = slices.DeleteFunc(src.edits, func(e edit) bool { return e.from == at.from })
			src.edit(at.from, at.to, "{.norun}")
		}
	}
}

func (l *loader) inlineCode(b *fence, f *fragment) ast.Node {
	code := `<code>` + html.EscapeString(b.code) + `</code>`
	switch {
	case b.has("open"):
		if !validPath(b.code) || strings.ContainsAny(b.code, "*?\n") {
			l.add(b.line, "write it from `/` or `~/`, without `..`", "the editor cannot open %s", quote(b.code))
			return nil
		}
		return l.page.inline(f, `<span class="code open"`+attr("data-open", b.code)+`>`+code+openTool+`</span>`, b.line)
	case b.has("keys") && !f.runs():
		return nil
	case b.has("copy"), !f.runs():
		return l.page.inline(f, `<span class="code copy"`+attr("data-code", b.code)+`>`+code+copyTool+`</span>`, b.line)
	}
	c, ok := l.command(b, f, b.code, b.line)
	if !ok {
		return nil
	}
	return l.page.inline(f, `<span class="code run"`+runData(c)+`>`+code+runTool+`</span>`, b.line)
}

// paragraph gives what stands in the page for a paragraph that is nothing but
// inline code, or nil when it stays.
func (l *loader) paragraph(src *source, p *ast.Paragraph, f *fragment) ast.Node {
	span, ok := p.FirstChild().(*ast.CodeSpan)
	if !ok || p.ChildCount() != 1 || !f.runs() {
		return nil
	}
	before := l.added
	b := l.spanFence(src, span, true)
	if b == nil || b.has(".norun") || l.added > before && !b.has("run") {
		l.dropAttributes(src, span)
		span.RemoveAttributes()
		return nil
	}
	if b.has("copy") || b.has("open") || b.has("keys") {
		return nil // as in a sentence
	}
	b.word = "sh"
	return l.run(b, f)
}

func spanLine(src *source, span *ast.CodeSpan) int {
	if t, ok := span.FirstChild().(*ast.Text); ok {
		return src.line(t.Segment.Start)
	}
	return src.line(max(0, span.Pos()))
}

// spanText gives the text of inline code. Markdown makes spaces of its line
// breaks and drops what lines are indented by; where code is run or copied they
// are kept, unless folded.
func spanText(src *source, span *ast.CodeSpan, folded bool) string {
	var b strings.Builder
	for n := span.FirstChild(); n != nil; n = n.NextSibling() {
		t, ok := n.(*ast.Text)
		if !ok {
			continue
		}
		part := t.Segment.Value(src.text)
		if folded {
			part = bytes.ReplaceAll(part, []byte("\n"), []byte(" "))
		} else if n != span.FirstChild() {
			b.WriteString(indentation(src, span, t.Segment.Start))
		}
		b.Write(part)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// indentation gives the blanks before an offset that do not belong to the quote
// or list around the span.
func indentation(src *source, span *ast.CodeSpan, at int) string {
	i := at
	for i > 0 && (src.text[i-1] == ' ' || src.text[i-1] == '\t') {
		i--
	}
	blanks := string(src.text[i:at])
	var block ast.Node = span
	for block.Type() == ast.TypeInline {
		block = block.Parent()
	}
	if block.Parent() == nil || block.Lines().Len() == 0 {
		return blanks
	}
	if i > 0 && src.text[i-1] == '>' {
		return strings.TrimPrefix(blanks, " ")
	}
	// The text of a list item begins where its first line does.
	for up := block.Parent(); up != nil; up = up.Parent() {
		if item, ok := up.(*ast.ListItem); ok {
			for n := item.Offset; n > 0 && blanks != ""; n-- {
				blanks = blanks[1:]
			}
		}
	}
	return blanks
}

// inline keeps HTML of ours that stands in a sentence, and gives its node.
func (p *pageRenderer) inline(f *fragment, html string, line int) ast.Node {
	p.blocks = append(p.blocks, ourBlock{html, line})
	f.blocks = append(f.blocks, len(p.blocks)-1)
	return &inlineNode{index: len(p.blocks) - 1}
}

var kindInline = ast.NewNodeKind("OurInline")

// An inlineNode stands for an ourBlock in a sentence.
type inlineNode struct {
	ast.BaseInline
	index int
}

func (*inlineNode) Kind() ast.NodeKind        { return kindInline }
func (n *inlineNode) Dump(src []byte, at int) { ast.DumpHelper(n, src, at, nil, nil) }

// hostFits checks that the lesson has the sandbox that a fence names.
func (l *loader) hostFits(b *fence) bool {
	if h, most := b.host(), max(1, l.lesson.Hosts); h > most {
		l.add(b.line, "write `hosts: "+b.attrs["host"]+"` in the front matter", "the lesson has no sandbox %d", h)
		delete(b.attrs, "host")
		return l.lenient
	}
	return true
}
