package markdown

import (
	"bytes"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/ast"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/util"
	nethtml "golang.org/x/net/html"

	"berth/labs"
)

// A loader makes a lesson of Markdown.
type loader struct {
	*report
	highlighter
	lesson  *labs.Lesson
	page    *pageRenderer
	taken   map[string]int    // ids on the page, with the line of their heading
	anchors map[string]string // what an author links to, to the id on the page
	next    map[string]int    // the number to try behind an id that is taken
	n       int               // commands so far
	nodes   int               // paragraphs, words in bold and so on so far
	notes   int               // footnotes so far
	inners  int               // texts in hints and solutions so far
}

func newLoader(r *report, lesson *labs.Lesson) *loader {
	l := &loader{
		report: r, lesson: lesson, page: newPageRenderer(),
		taken: map[string]int{}, anchors: map[string]string{}, next: map[string]int{},
	}
	l.page.lenient = r.lenient
	l.nameMarks()
	return l
}

// A fragment is a part of the lesson that is rendered by itself.
type fragment struct {
	kind      fragmentKind
	step      *labs.Step // of a step, its hints and its solution
	part      *labs.Part // of an introduction or a finish
	src       *source
	file      string // where src stands
	lines     []int  // as in DraftPart
	base      string // folder of images
	line      int    // where it begins
	elsewhere bool   // it is shown on another page than the steps
	nodes     []ast.Node

	hints    []*source // that a Draft's part has beside its text
	solution *source
	checks   int
	solved   strings.Builder // the HTML of the solution

	notes   string            // what the ids of its footnotes begin with
	anchors map[string]string // of its own headings
	links   map[string]int    // lines of links and images, by address
	blocks  []int             // places in pageRenderer.blocks
}

type fragmentKind int

const (
	introFragment fragmentKind = iota
	stepFragment
	finishFragment
	hintFragment
	solutionFragment
	quizFragment
)

// where says where a fragment of the kind stands.
var where = map[fragmentKind]string{
	introFragment: "before the first step", finishFragment: "in the finish",
	hintFragment: "in a hint", solutionFragment: "in a solution", quizFragment: "in a quiz",
}

// runs reports whether commands of the fragment run.
func (f *fragment) runs() bool { return f.kind == stepFragment || f.kind == solutionFragment }

// arrival is what happens where the fragment is shown; nil in hints and the like.
func (f *fragment) arrival() *labs.Arrival {
	switch {
	case f.part != nil:
		return &f.part.Arrival
	case f.kind == stepFragment:
		return &f.step.Arrival
	}
	return nil
}

// id is what ids of the fragment's things begin with.
func (f *fragment) id() string {
	switch f.kind {
	case introFragment:
		return labs.IntroID
	case finishFragment:
		return labs.FinishID
	}
	return f.step.ID
}

func (f *fragment) lineOf(address string) int {
	if line, ok := f.links[address]; ok {
		return line
	}
	return f.line
}

// reserved are ids that the page uses itself.
var reserved = []string{"text", "screen", "intro", "finish", "lesson", "labs", "terminal", "terminals", "main", "top"}

var stepID = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// body reads everything behind the front matter.
func (l *loader) body(src *source) {
	doc := l.parse(src)
	if doc == nil {
		return
	}
	l.show(l.split(src, doc))
}

// parse reads Markdown; nil when it is more than a page can hold.
func (l *loader) parse(src *source) ast.Node {
	if at, deep := tooDeep(src.text); deep {
		l.add(src.line(at), "", "quotes, lists or footnotes stand inside each other more than %d deep", maxDepth)
		return nil
	}
	doc := l.page.parse(src, func(offset int) {
		l.add(src.line(offset), "divide it with an empty line", "the paragraph is longer than %s", bytesInWords(maxText))
	})
	if walk(doc, func(ast.Node) { l.nodes++ }); l.nodes > maxNodes {
		l.add(src.first, "divide the lesson", "the lesson is made of more than %d parts", maxNodes)
		return nil
	}
	return doc
}

// show makes the pages of fragments.
func (l *loader) show(fragments []fragment) {
	for i := range fragments {
		f := &fragments[i]
		l.in(f.file, f.lines)
		l.nameHeadings(f)
	}
	for i := range fragments {
		f := &fragments[i]
		l.in(f.file, f.lines)
		l.transform(f)
		if f.kind == stepFragment {
			f.step.Solution.HTML = f.solved.String()
		}
		if len(l.page.blocks) > maxBlocks && !l.lenient {
			l.add(f.line, "divide the lesson", "the lesson has more than %d blocks", maxBlocks)
			return
		}
	}
	if l.failed { // there will be no page to make
		return
	}
	for i := range fragments {
		f := &fragments[i]
		l.in(f.file, f.lines)
		html := l.shown(f)
		if f.part != nil {
			f.part.HTML = html
		} else {
			f.step.HTML = html
		}
	}
}

// shown renders a fragment; "" when it has no text.
func (l *loader) shown(f *fragment) string {
	l.page.notes = f.notes
	html := l.sanitize(l.page.html(f.src, f.nodes...), f)
	if html == "\n" {
		return ""
	}
	return html
}

// split takes the document apart at its headings of the second level.
func (l *loader) split(src *source, doc ast.Node) []fragment {
	var notes *extast.FootnoteList
	fragments := []fragment{{kind: introFragment, line: src.first, part: &l.lesson.Intro}}
	var headings []*ast.Heading // one for each fragment but the first
	for n := doc.FirstChild(); n != nil; {
		next := n.NextSibling()
		doc.RemoveChild(doc, n)
		if list, ok := n.(*extast.FootnoteList); ok {
			notes = list
		} else if h, ok := n.(*ast.Heading); ok && h.Level == 2 {
			fragments = append(fragments, fragment{kind: stepFragment, line: src.line(h.Pos())})
			headings = append(headings, h)
		} else {
			f := &fragments[len(fragments)-1]
			f.nodes = append(f.nodes, n)
		}
		n = next
	}
	if len(headings) > maxSteps {
		l.add(fragments[maxSteps+1].line, "divide the lesson", "the lesson has more than %d steps", maxSteps)
		return nil
	}
	taken := l.taken
	titles, ids := make([]string, len(headings)), make([]string, len(headings))
	for i, h := range headings {
		f := &fragments[i+1]
		titles[i] = l.plainText(src, h)
		walk(h, func(n ast.Node) {
			if _, ok := n.AttributeString(attributesKey); ok && n.Kind() == ast.KindCodeSpan {
				l.add(f.line, "write it in the step's text", "a command cannot stand in the heading of a step")
			}
		})
		id, finish := l.headingAttributes(h, f.line, titles[i])
		switch line, again := taken[id]; {
		case finish:
			if i != len(headings)-1 {
				l.add(f.line, "move it to the end", "a step follows the finish")
			}
			f.kind, f.elsewhere, f.part = finishFragment, true, &l.lesson.Finish
		case titles[i] == "":
			l.add(f.line, "write `## Title`", "the step has no title")
		case id != "" && again:
			l.add(f.line, "choose another", "the id %s is taken by the step in line %d", quote(id), line)
		case id != "":
			taken[id], ids[i] = f.line, id
		}
	}
	l.lesson.Steps = make([]labs.Step, 0, len(headings))
	for i := range headings {
		f := &fragments[i+1]
		if f.kind == finishFragment {
			continue
		}
		id := ids[i]
		if id == "" {
			id = l.unused(slug(l.unmark(titles[i]), "step-"+strconv.Itoa(i+1)))
			taken[id] = f.line
		}
		l.lesson.Steps = append(l.lesson.Steps, labs.Step{ID: id, Title: titles[i]})
		f.step = &l.lesson.Steps[len(l.lesson.Steps)-1]
		l.anchors[id] = id
	}
	if len(l.lesson.Steps) == 0 {
		l.add(src.first, "begin one with `## Title`", "the lesson has no step")
	}
	l.shareNotes(fragments, notes)
	for i := range fragments {
		fragments[i].src, fragments[i].file = src, l.file
	}
	return fragments
}

// headingAttributes reads `{#id .finish}` of a step's heading.
func (l *loader) headingAttributes(h *ast.Heading, line int, title string) (id string, finish bool) {
	for _, a := range h.Attributes() {
		value := ""
		if b, ok := a.Value.([]byte); ok {
			value = string(b)
		}
		switch string(a.Name) {
		case "id":
			id = value
			if !stepID.MatchString(id) || slices.Contains(reserved, id) {
				l.add(line, "use small letters, digits and `-`, and not a word of the page such as "+list(reserved[:3], "or"), "a step cannot have the id %s", quote(id))
			}
		case "class":
			for _, c := range strings.Fields(value) {
				if c == "finish" {
					finish = true
				} else {
					l.add(line, didYouMean(c, []string{"finish"}), "unknown class %s of a heading", quote(c))
				}
			}
		default:
			l.add(line, "there are `#id` and `.finish`", "unknown attribute %s of a heading", quote(string(a.Name)))
		}
	}
	plain := len(h.Attributes()) == 0
	h.RemoveAttributes()
	// What is no list of attributes stays in the title: {finish} without its dot.
	if i := strings.LastIndexByte(title, '{'); i >= 0 && plain && strings.HasSuffix(title, "}") {
		if attrs, ok := parseAttributes(title[i:]); ok && len(attrs) == 1 && nearest(attrs[0].name, []string{".finish", "finish"}) != "" {
			l.add(line, "did you mean `{.finish}`?", "%s is not an attribute of a heading", quote(title[i:]))
		}
	}
	return id, finish
}

// nameHeadings gives an id to every heading inside a fragment, and keeps those
// that authors may link to: of two that are alike, a link means the one in its
// own fragment.
func (l *loader) nameHeadings(f *fragment) {
	f.anchors = map[string]string{}
	f.walk(func(n ast.Node) {
		h, ok := n.(*ast.Heading)
		if !ok {
			return
		}
		if h.Level == 1 {
			l.warn(f.src.line(h.Pos()), "the title stands in the front matter, and `##` begins a step", "this heading is shown as one of the third level")
		}
		name := ""
		if b, ok := h.AttributeString("id"); ok {
			if b, ok := b.([]byte); ok && stepID.Match(b) {
				name = string(b)
			}
		}
		h.RemoveAttributes()
		if name == "" {
			name = slug(l.unmark(l.plainText(f.src, h)), "heading")
		}
		id := l.unused(name)
		l.taken[id] = f.src.line(h.Pos())
		// A dot keeps them apart from the ids of steps and of the page.
		l.anchors[id] = "h." + id
		if f.anchors[name] == "" {
			f.anchors[name] = "h." + id
		}
		h.SetAttributeString("berth", "h."+id)
	})
}

// shareNotes gives each footnote to the first fragment that refers to it.
func (l *loader) shareNotes(fragments []fragment, all *extast.FootnoteList) {
	if all == nil {
		return
	}
	byIndex := map[int]ast.Node{}
	for n := all.FirstChild(); n != nil; {
		next := n.NextSibling()
		if note, ok := n.(*extast.Footnote); ok {
			all.RemoveChild(all, n)
			byIndex[note.Index] = n
		}
		n = next
	}
	for i := range fragments {
		f := &fragments[i]
		var own []ast.Node
		find := func(n ast.Node) {
			if link, ok := n.(*extast.FootnoteLink); ok && byIndex[link.Index] != nil {
				own = append(own, byIndex[link.Index])
				delete(byIndex, link.Index)
			}
		}
		f.walk(find)
		for j := 0; j < len(own); j++ { // notes refer to notes
			walk(own[j], find)
		}
		if own == nil {
			continue
		}
		list := extast.NewFootnoteList()
		for _, n := range own {
			list.AppendChild(list, n)
		}
		f.nodes = append(f.nodes, list)
	}
}

// numberNotes counts a fragment's footnotes on from those before it, so that no
// two of a page have one number.
func (l *loader) numberNotes(f *fragment) {
	most := 0
	f.walk(func(n ast.Node) {
		switch n := n.(type) {
		case *extast.FootnoteLink:
			most = max(most, n.Index)
			n.Index += l.notes
		case *extast.FootnoteBacklink:
			n.Index += l.notes
		case *extast.Footnote:
			n.Index += l.notes
		}
	})
	l.notes += most
}

// transform replaces what has a meaning of its own in a fragment: fences, code
// that runs, callouts.
func (l *loader) transform(f *fragment) {
	src := f.src
	// The nodes get a parent, so that each can be replaced in the same way.
	root := ast.NewDocument()
	for _, n := range f.nodes {
		root.AppendChild(root, n)
	}
	f.links = map[string]int{}
	var found []ast.Node
	walk(root, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.FencedCodeBlock, *ast.CodeBlock, *ast.Blockquote, *ast.Paragraph, *ast.CodeSpan:
			found = append(found, n)
		case *ast.Link:
			to := string(util.URLEscape(n.Destination, true))
			f.links[to] = src.line(max(0, n.Pos()))
			if u, err := url.Parse(to); to == "" || err != nil || !slices.Contains(schemes, u.Scheme) {
				l.warn(f.links[to], linkHint, "the link %s is shown as text", quote(to))
			}
		case *ast.Image:
			f.links[string(util.URLEscape(n.Destination, true))] = src.line(max(0, n.Pos()))
			l.moveImage(f, string(n.Destination), max(0, n.Pos()))
		case *ast.HTMLBlock:
			raw := string(n.Lines().Value(src.text))
			if n.HasClosure() {
				raw += string(n.ClosureLine.Value(src.text))
			}
			line := src.line(max(0, n.Pos()))
			if end := htmlEnds[n.HTMLBlockType]; end != nil && !end.MatchString(raw) {
				l.add(line, "end it", "the HTML that begins here does not end, and hides all that follows")
				src.edit(len(bytes.TrimRight(src.text, " \t\n")), len(src.text), htmlEnd(n.HTMLBlockType, raw)+"\n")
			}
			l.rawHTML(f, raw, max(0, n.Pos()))
		case *ast.RawHTML:
			if n.Segments.Len() > 0 {
				l.rawHTML(f, string(n.Segments.Value(src.text)), n.Segments.At(0).Start)
			}
		}
	})
	for _, n := range found {
		if len(l.page.blocks) > maxBlocks {
			if l.lenient && len(l.page.blocks) == maxBlocks+1 {
				l.page.blocks = append(l.page.blocks, ourBlock{})
				l.add(f.line, "divide the lesson", "the lesson has more than %d blocks", maxBlocks)
			}
			break // which is reported, or by our caller
		}
		if l.failed && len(l.mistakes) >= maxMistakes {
			break // nobody reads more
		}
		parent := n.Parent()
		if parent == nil {
			continue // it stood in something that was replaced
		}
		var put ast.Node
		switch n := n.(type) {
		case *ast.FencedCodeBlock:
			put = l.fence(n, f)
		case *ast.CodeBlock:
			code := strings.TrimSuffix(string(n.Lines().Value(src.text)), "\n")
			if _, ok := n.AttributeString(largeKey); ok {
				src.edit(n.Lines().At(0).Start, n.Lines().At(n.Lines().Len()-1).Stop, Fence("", code)+"\n")
			}
			put = l.page.block(f, l.plainBlock(code, nil), src.line(n.Lines().At(0).Start))
		case *ast.Paragraph:
			if put = l.paragraph(src, n, f); put == nil {
				continue
			}
			n.RemoveChildren(n) // the code in it is done
		case *ast.CodeSpan:
			put = l.inline(src, n, f)
			n.RemoveAttributes()
			if put == nil {
				continue
			}
		case *ast.Blockquote:
			l.callout(src, n)
			continue
		}
		if put == nil {
			parent.RemoveChild(parent, n)
		} else {
			parent.ReplaceChild(parent, n, put)
		}
	}
	f.nodes = nil
	for n := root.FirstChild(); n != nil; n = n.NextSibling() {
		f.nodes = append(f.nodes, n)
	}
}

// htmlEnds are what ends the blocks of HTML that an empty line does not end.
var htmlEnds = map[ast.HTMLBlockType]*regexp.Regexp{
	ast.HTMLBlockType1: regexp.MustCompile(`(?i)</(script|pre|style|textarea)>`),
	ast.HTMLBlockType2: regexp.MustCompile(`-->`),
	ast.HTMLBlockType3: regexp.MustCompile(`\?>`),
	ast.HTMLBlockType4: regexp.MustCompile(`>`),
	ast.HTMLBlockType5: regexp.MustCompile(`\]\]>`),
}

// rawHTML looks at HTML of the author's that begins at an offset.
func (l *loader) rawHTML(f *fragment, raw string, at int) {
	line := f.src.line(at)
	l.warnOfHTML(raw, line)
	z := nethtml.NewTokenizer(strings.NewReader(raw))
	for z.Next() != nethtml.ErrorToken {
		t := z.Token()
		for _, a := range t.Attr {
			if a.Key == "src" || a.Key == "href" {
				f.links[a.Val] = line
			}
			if a.Key == "src" && t.Data == "img" {
				l.moveImage(f, a.Val, at)
			}
		}
	}
}

// callout makes a callout of a quote that begins with [!NOTE] or another kind.
func (l *loader) callout(src *source, quoted *ast.Blockquote) {
	p, ok := quoted.FirstChild().(*ast.Paragraph)
	if !ok || p.Lines().Len() == 0 {
		return
	}
	first := p.Lines().At(0)
	m := calloutMark.FindSubmatch(first.Value(src.text))
	if m == nil {
		return
	}
	word := string(m[1])
	kind := ""
	words := make([]string, len(callouts))
	for i, c := range callouts {
		words[i] = strings.ToUpper(c.kind)
		if words[i] == word {
			kind = c.kind
		}
	}
	line := src.line(first.Start)
	if kind == "" {
		l.add(line, didYouMean(word, words), "unknown callout %s", quote("[!"+word+"]"))
		src.escapeCallout(first.Start)
		return
	}
	if len(m[2]) > 0 {
		l.add(line, "begin the text on the next line", "text stands beside `[!%s]`", word)
		src.escapeCallout(first.Start)
		return
	}
	for n := p.FirstChild(); n != nil; {
		next := n.NextSibling()
		at := n.Pos()
		if t, ok := n.(*ast.Text); ok {
			at = t.Segment.Start
		}
		if at < first.Start || at >= first.Stop {
			break
		}
		p.RemoveChild(p, n)
		n = next
	}
	if !p.HasChildren() {
		quoted.RemoveChild(quoted, p)
	}
	box := &calloutNode{kind: kind}
	for n := quoted.FirstChild(); n != nil; {
		next := n.NextSibling()
		box.AppendChild(box, n)
		n = next
	}
	parent := quoted.Parent()
	parent.ReplaceChild(parent, quoted, box)
}

var calloutMark = regexp.MustCompile(`^\s*\[!([A-Za-z]+)\][ \t]*([^\n]*)`)

// walk calls visit for the fragment's nodes, each before those inside it.
func (f *fragment) walk(visit func(ast.Node)) {
	for _, n := range f.nodes {
		walk(n, visit)
	}
}

func walk(root ast.Node, visit func(ast.Node)) {
	// The visitor gives no error, so there is none to look at.
	_ = ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			visit(n)
		}
		return ast.WalkContinue, nil
	})
}

// plainText gives what a heading reads like, without its marks.
func (l *loader) plainText(src *source, h *ast.Heading) string {
	var notes []ast.Node
	walk(h, func(n ast.Node) {
		if _, ok := n.(*extast.FootnoteLink); ok {
			notes = append(notes, n)
		}
	})
	for _, n := range notes { // they would read as a number
		n.Parent().RemoveChild(n.Parent(), n)
	}
	z := nethtml.NewTokenizer(strings.NewReader(l.page.render(src, h)))
	var b strings.Builder
	for {
		switch z.Next() {
		case nethtml.ErrorToken:
			return strings.Join(strings.Fields(b.String()), " ")
		case nethtml.TextToken:
			b.WriteString(z.Token().Data)
		}
	}
}

// closed reports whether a fence has its end: the line behind its code.
func closed(src *source, n *ast.FencedCodeBlock) bool {
	open := max(0, n.Pos())
	at := src.starts[src.line(open)-src.first] // of the fence's own line
	lines := 1 + n.Lines().Len()
	i := src.line(at) - src.first + lines
	if i >= len(src.starts) {
		return false
	}
	end := len(src.text)
	if i+1 < len(src.starts) {
		end = src.starts[i+1]
	}
	mark := src.text[open]
	line := bytes.TrimRight(src.text[src.starts[i]:end], " \t\n")
	return bytes.HasSuffix(line, bytes.Repeat([]byte{mark}, 3))
}

// slug makes an id of a title: small letters and digits, and - for the rest.
func slug(title, otherwise string) string {
	var b strings.Builder
	gap := false
	for _, c := range strings.ToLower(title) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			if gap && b.Len() > 0 {
				b.WriteByte('-')
			}
			gap = false
			b.WriteRune(c)
		case c == '\'' || c == '’':
		default:
			gap = true
		}
		if b.Len() >= 60 {
			break
		}
	}
	s := strings.Trim(b.String(), "-")
	if s == "" {
		return otherwise
	}
	return s
}

// unused gives the id, or one like it that is not taken.
func (l *loader) unused(id string) string {
	if slices.Contains(reserved, id) || strings.HasSuffix(id, "-title") {
		id += "-step"
	}
	if _, ok := l.taken[id]; !ok {
		return id
	}
	// Begin where the last search ended: a thousand headings may be alike.
	n := max(2, l.next[id])
	for ; ; n++ {
		if other := id + "-" + strconv.Itoa(n); l.taken[other] == 0 {
			l.next[id] = n + 1
			return other
		}
	}
}
