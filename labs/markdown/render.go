package markdown

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// A renderer turns Markdown into HTML that is safe to show.
//
// The author's HTML must not be able to look like ours: a `<div class="block
// run">` of a stranger's would be a button that types what it likes. So our
// blocks are not in the HTML while it is sanitized. In their place stands a
// mark that holds the nonce, a word nobody can guess, and they are put in
// afterwards, only where a mark stands as text. Likewise the classes and ids
// that we give begin with the nonce until then; all others are dropped.
type pageRenderer struct {
	nonce  string
	md     goldmark.Markdown
	blocks []ourBlock
	tooBig func(offset int) // is told of paragraphs of more than maxText bytes

	notes   string // what ids of footnotes begin with at the moment
	lenient bool   // paragraphs that are too large are shown as they are written
}

// An ourBlock is HTML of ours that is put in after sanitizing.
type ourBlock struct {
	html string
	line int // of the fence it was made from
}

var (
	kindBlock   = ast.NewNodeKind("Block")
	kindCallout = ast.NewNodeKind("Callout")
)

// A blockNode stands for an ourBlock.
type blockNode struct {
	ast.BaseBlock
	index int
}

func (*blockNode) Kind() ast.NodeKind        { return kindBlock }
func (n *blockNode) Dump(src []byte, at int) { ast.DumpHelper(n, src, at, nil, nil) }

// A calloutNode is a quote that begins with [!NOTE] or one of its kind.
type calloutNode struct {
	ast.BaseBlock
	kind string // "note", …
}

func (*calloutNode) Kind() ast.NodeKind        { return kindCallout }
func (n *calloutNode) Dump(src []byte, at int) { ast.DumpHelper(n, src, at, nil, nil) }

// callouts are the kinds there are, and how they are called.
var callouts = []struct{ kind, title string }{
	{"note", "Note"}, {"tip", "Tip"}, {"important", "Important"}, {"warning", "Warning"}, {"caution", "Caution"},
}

func newPageRenderer() *pageRenderer {
	p := &pageRenderer{nonce: "berth" + strings.ToLower(rand.Text())}
	p.md = goldmark.New(
		goldmark.WithExtensions(
			extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
			extension.Strikethrough,
			extension.Linkify,
			extension.TaskList,
			extension.NewFootnote(extension.WithFootnoteIDPrefixFunction(func(ast.Node) []byte { return []byte(p.nonce + p.notes) })),
		),
		goldmark.WithParserOptions(
			parser.WithAttribute(),
			parser.WithInlineParsers(util.Prioritized(spanParser{parser.NewCodeSpanParser()}, 99)),
			parser.WithParagraphTransformers(util.Prioritized(paragraphLimit{p}, 1)),
		),
		goldmark.WithRendererOptions(
			html.WithUnsafe(), // what comes out is sanitized
			renderer.WithNodeRenderers(util.Prioritized(p, 1)),
		),
	)
	return p
}

// parse reads Markdown; tooBig is told where a paragraph was left out because
// it is too large.
func (p *pageRenderer) parse(src *source, tooBig func(offset int)) ast.Node {
	p.tooBig = tooBig
	return p.md.Parser().Parse(text.NewReader(src.text))
}

// block keeps HTML of ours for a fragment and gives the node to put in its
// place.
func (p *pageRenderer) block(f *fragment, html string, line int) ast.Node {
	p.blocks = append(p.blocks, ourBlock{html, line})
	f.blocks = append(f.blocks, len(p.blocks)-1)
	return &blockNode{index: len(p.blocks) - 1}
}

// mark is what stands for a block while the HTML is sanitized.
func (p *pageRenderer) mark(index int) string {
	return p.nonce + "x" + strconv.Itoa(index) + "x"
}

// RegisterFuncs is goldmark's way of asking what this renders.
func (p *pageRenderer) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(kindBlock, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			fmt.Fprintf(w, "\n%s\n", p.mark(n.(*blockNode).index))
		}
		return ast.WalkSkipChildren, nil
	})
	r.Register(kindInline, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			w.WriteString(p.mark(n.(*inlineNode).index))
		}
		return ast.WalkSkipChildren, nil
	})
	r.Register(extast.KindFootnoteList, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			w.WriteString("</ol>\n</div>\n")
			return ast.WalkContinue, nil
		}
		w.WriteString(`<div class="footnotes" role="doc-endnotes">` + "\n<hr>\n<ol")
		if first, ok := n.FirstChild().(*extast.Footnote); ok && first.Index > 1 {
			fmt.Fprintf(w, ` start="%d"`, first.Index)
		}
		w.WriteString(">\n")
		return ast.WalkContinue, nil
	})
	r.Register(kindCallout, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			w.WriteString("</aside>\n")
			return ast.WalkContinue, nil
		}
		for _, c := range callouts {
			if c.kind == n.(*calloutNode).kind {
				fmt.Fprintf(w, "<aside class=\"%s callout %s\">\n<p class=\"%s callout-title\">%s</p>\n", p.nonce, c.kind, p.nonce, c.title)
			}
		}
		return ast.WalkContinue, nil
	})
	r.Register(ast.KindHeading, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		level := max(3, n.(*ast.Heading).Level) // the page has the first two
		if !entering {
			fmt.Fprintf(w, "</h%d>\n", level)
			return ast.WalkContinue, nil
		}
		fmt.Fprintf(w, "<h%d", level)
		if id, ok := n.AttributeString("berth"); ok {
			fmt.Fprintf(w, ` id="%s%s"`, p.nonce, id)
		}
		w.WriteByte('>')
		return ast.WalkContinue, nil
	})
}

// html renders nodes of src.
func (p *pageRenderer) html(src *source, nodes ...ast.Node) string {
	doc := ast.NewDocument()
	for _, n := range nodes {
		doc.AppendChild(doc, n)
	}
	return p.render(src, doc)
}

func (p *pageRenderer) render(src *source, n ast.Node) string {
	var b bytes.Buffer
	if err := p.md.Renderer().Render(&b, src.text, n); err != nil {
		panic("render into memory: " + err.Error()) // a buffer never fails
	}
	return b.String()
}

// largeKey marks a block that was a paragraph.
const largeKey = "berth-large"

// paragraphLimit cuts paragraphs that are too large before their inline text is
// looked at, which takes more than linear time on text made to be slow.
type paragraphLimit struct{ p *pageRenderer }

func (l paragraphLimit) Transform(n *ast.Paragraph, r text.Reader, _ parser.Context) {
	lines, size := n.Lines(), 0
	for i := range lines.Len() {
		line := lines.At(i)
		if size += line.Len(); size > maxText {
			l.p.tooBig(n.Pos())
			if !l.p.lenient {
				n.Parent().RemoveChild(n.Parent(), n)
				return
			}
			shown := ast.NewCodeBlock()
			shown.SetAttributeString(largeKey, true)
			shown.SetLines(lines)
			n.Parent().ReplaceChild(n.Parent(), n, shown)
			return
		}
	}
}
