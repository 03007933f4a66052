package markdown

import (
	"bytes"
	"io/fs"
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

// A loader makes a lesson of the body of one lab.md.
type loader struct {
	*report
	highlighter
	lesson  *labs.Lesson
	page    *pageRenderer
	anchors map[string]string // what an author links to, to the id on the page
	next    map[string]int    // the number to try behind an id that is taken
	n       int               // commands so far
}

// A fragment is a part of the lesson that is rendered by itself.
type fragment struct {
	kind      fragmentKind
	step      *labs.Step // of a step and its hints
	line      int        // where it begins
	elsewhere bool       // it is shown on another page than the steps
	nodes     []ast.Node

	links  map[string]int // lines of links and images, by address
	blocks []int          // places in pageRenderer.blocks
}

type fragmentKind int

const (
	introFragment fragmentKind = iota
	stepFragment
	finishFragment
	hintFragment
)

func (f fragment) lineOf(address string) int {
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
	if at, deep := tooDeep(src.text); deep {
		l.add(src.line(at), "", "quotes, lists or footnotes stand inside each other more than %d deep", maxDepth)
		return
	}
	doc := l.page.parse(src, func(offset int) {
		l.add(src.line(offset), "divide it with an empty line", "the paragraph is longer than %s", bytesInWords(maxText))
	})
	nodes := 0
	if walk(doc, func(ast.Node) { nodes++ }); nodes > maxNodes {
		l.add(src.first, "divide the lesson", "the lesson is made of more than %d parts", maxNodes)
		return
	}
	fragments := l.split(src, doc)
	for i := range fragments {
		f := &fragments[i]
		l.transform(src, f)
		if len(l.page.blocks) > maxBlocks {
			l.add(f.line, "divide the lesson", "the lesson has more than %d blocks", maxBlocks)
			return
		}
	}
	if l.failed { // there will be no page to make
		return
	}
	for _, f := range fragments {
		html := l.sanitize(l.page.html(src, f.nodes...), f)
		if html == "\n" {
			html = ""
		}
		switch f.kind {
		case introFragment:
			l.lesson.Intro = html
		case stepFragment:
			f.step.HTML = html
		case finishFragment:
			l.lesson.Finish = html
		}
	}
}

// split takes the document apart at its headings of the second level.
func (l *loader) split(src *source, doc ast.Node) []fragment {
	var notes *extast.FootnoteList
	fragments := []fragment{{kind: introFragment, line: src.first}}
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
	taken := map[string]int{} // id to the line of its heading
	titles, ids := make([]string, len(headings)), make([]string, len(headings))
	for i, h := range headings {
		f := &fragments[i+1]
		titles[i] = l.plainText(src, h)
		id, finish := l.headingAttributes(h, f.line, titles[i])
		switch line, again := taken[id]; {
		case finish:
			if i != len(headings)-1 {
				l.add(f.line, "move it to the end", "a step follows the finish")
			}
			f.kind, f.elsewhere = finishFragment, true
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
			id = l.unused(slug(titles[i], "step-"+strconv.Itoa(i+1)), taken)
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
		l.nameHeadings(src, &fragments[i], taken)
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
	h.RemoveAttributes()
	// What is no list of attributes stays in the title: {finish} without its dot.
	if i := strings.LastIndexByte(title, '{'); i >= 0 && strings.HasSuffix(title, "}") {
		if attrs, ok := parseAttributes(title[i:]); ok && len(attrs) == 1 && nearest(attrs[0].name, []string{".finish", "finish"}) != "" {
			l.add(line, "did you mean `{.finish}`?", "%s is not an attribute of a heading", quote(title[i:]))
		}
	}
	return id, finish
}

// nameHeadings gives an id to every heading inside a fragment, and keeps those
// that authors may link to.
func (l *loader) nameHeadings(src *source, f *fragment, taken map[string]int) {
	f.walk(func(n ast.Node) {
		h, ok := n.(*ast.Heading)
		if !ok {
			return
		}
		if h.Level == 1 {
			l.warn(src.line(h.Pos()), "the title stands in the front matter, and `##` begins a step", "this heading is shown as one of the third level")
		}
		id := ""
		if b, ok := h.AttributeString("id"); ok {
			if b, ok := b.([]byte); ok && stepID.Match(b) {
				id = string(b)
			}
		}
		h.RemoveAttributes()
		if id == "" {
			id = slug(l.plainText(src, h), "heading")
		}
		id = l.unused(id, taken)
		taken[id] = src.line(h.Pos())
		// A dot keeps them apart from the ids of steps and of the page.
		l.anchors[id] = "h." + id
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

// transform replaces what has a meaning of its own in a fragment: fences,
// paragraphs that are a command, callouts.
func (l *loader) transform(src *source, f *fragment) {
	// The nodes get a parent, so that each can be replaced in the same way.
	root := ast.NewDocument()
	for _, n := range f.nodes {
		root.AppendChild(root, n)
	}
	f.links = map[string]int{}
	var found []ast.Node
	walk(root, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.FencedCodeBlock, *ast.CodeBlock, *ast.Blockquote, *ast.Paragraph:
			found = append(found, n)
		case *ast.Link:
			to := string(util.URLEscape(n.Destination, true))
			f.links[to] = src.line(max(0, n.Pos()))
			if u, err := url.Parse(to); to == "" || err != nil || !slices.Contains([]string{"", "http", "https", "mailto"}, u.Scheme) {
				l.warn(f.links[to], linkHint, "the link %s is shown as text", quote(to))
			}
		case *ast.Image:
			f.links[string(util.URLEscape(n.Destination, true))] = src.line(max(0, n.Pos()))
		case *ast.HTMLBlock:
			raw := string(n.Lines().Value(src.text))
			if n.HasClosure() {
				raw += string(n.ClosureLine.Value(src.text))
			}
			line := src.line(max(0, n.Pos()))
			if end := htmlEnds[n.HTMLBlockType]; end != nil && !end.MatchString(raw) {
				l.add(line, "end it", "the HTML that begins here does not end, and hides all that follows")
			}
			l.rawHTML(f, raw, line)
		case *ast.RawHTML:
			if n.Segments.Len() > 0 {
				l.rawHTML(f, string(n.Segments.Value(src.text)), src.line(n.Segments.At(0).Start))
			}
		}
	})
	for _, n := range found {
		if len(l.page.blocks) > maxBlocks {
			return // which is reported
		}
		if l.failed && len(l.mistakes) >= maxMistakes {
			return // nobody reads more
		}
		var put ast.Node
		switch n := n.(type) {
		case *ast.FencedCodeBlock:
			put = l.fence(src, n, f)
		case *ast.CodeBlock:
			code := strings.TrimSuffix(string(n.Lines().Value(src.text)), "\n")
			put = l.page.block(f, l.plainBlock(code, nil), src.line(n.Lines().At(0).Start))
		case *ast.Paragraph:
			span, ok := n.FirstChild().(*ast.CodeSpan)
			if !ok || n.ChildCount() != 1 || f.kind != stepFragment {
				continue
			}
			line := src.line(n.Lines().At(0).Start)
			put = l.run(&fence{word: "sh", line: line, code: spanText(src, span)}, f)
		case *ast.Blockquote:
			l.callout(src, n)
			continue
		}
		parent := n.Parent()
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

func (l *loader) rawHTML(f *fragment, raw string, line int) {
	l.warnOfHTML(raw, line)
	z := nethtml.NewTokenizer(strings.NewReader(raw))
	for z.Next() != nethtml.ErrorToken {
		for _, a := range z.Token().Attr {
			if a.Key == "src" || a.Key == "href" {
				f.links[a.Val] = line
			}
		}
	}
}

// fence gives what stands in the page for a fence, or nil for nothing.
func (l *loader) fence(src *source, n *ast.FencedCodeBlock, f *fragment) ast.Node {
	info := ""
	if n.Info != nil {
		info = string(n.Info.Segment.Value(src.text))
	}
	line := src.line(max(0, n.Pos()))
	code := string(n.Lines().Value(src.text))
	if !closed(src, n) {
		l.add(line, "end it with a line of the same marks", "the block is not closed")
		return nil
	}
	b, ok := parseFence(info, line, code, l.report)
	if !ok {
		return nil
	}
	if slices.Contains(ourWords[2:], b.word) && f.kind != stepFragment {
		where := map[fragmentKind]string{introFragment: "before the first step", finishFragment: "in the finish", hintFragment: "in a hint"}[f.kind]
		l.add(line, "move it into a step", "a `%s` block cannot stand %s", b.word, where)
		return nil
	}
	if b.word != "sh" && b.word != "console" && slices.Contains(ourWords, b.word) && strings.TrimSpace(b.code) == "" && b.word != "file" {
		l.add(line, "", "the `%s` block is empty", b.word)
		return nil
	}
	step := f.step
	switch b.word {
	case "sh":
		switch {
		case b.has(".norun"):
			return l.page.block(f, l.plainBlock(b.code, b.lexer), line)
		case b.has("copy") || f.kind != stepFragment:
			return l.page.block(f, l.copyBlock(b.code, b.lexer), line)
		}
		return l.run(b, f)
	case "console":
		return l.console(b, f)
	case "file":
		block := labs.FileBlock{ID: nth(step.ID, "file-", len(step.Files)+1), Path: b.attrs["path"], Text: strings.TrimSuffix(code, "\n")}
		if block.Text != "" {
			block.Text += "\n"
		}
		step.Files = append(step.Files, block)
		return l.page.block(f, l.fileBlock(block), line)
	case "hint":
		l.hint(b, f)
	case "solution":
		l.solution(b, f)
	case "setup":
		step.Setup = append(step.Setup, b.code+"\n")
	case "check":
		if c := parseCheck(b.code, line+1, l.report); c != nil {
			c.ID = nth(step.ID, "", len(step.Checks)+1)
			step.Checks = append(step.Checks, *c)
		}
	default:
		if b.has("copy") {
			return l.page.block(f, l.copyBlock(b.code, b.lexer), line)
		}
		return l.page.block(f, l.plainBlock(b.code, b.lexer), line)
	}
	return nil
}

// command adds a command to the step.
func (l *loader) command(b *fence, f *fragment, code string, line int) (labs.Command, bool) {
	if strings.ContainsFunc(code, isBidiControl) {
		l.add(line, "remove it", "the command holds a character that makes it look different from what it does")
		return labs.Command{}, false
	}
	if l.n++; l.n > maxCommands {
		if l.n == maxCommands+1 {
			l.add(line, "divide the lesson", "the lesson has more than %d commands", maxCommands)
		}
		return labs.Command{}, false
	}
	c := labs.Command{
		ID: nth(f.step.ID, "", len(f.step.Commands)+1), Code: code,
		Terminal: b.terminal(), Interrupt: b.has("interrupt"), Once: b.has("once"),
	}
	f.step.Commands = append(f.step.Commands, c)
	return c, true
}

// run gives the block that runs a fence's code.
func (l *loader) run(b *fence, f *fragment) ast.Node {
	if strings.TrimSpace(b.code) == "" {
		l.add(b.line, "", "the `sh` block is empty")
		return nil
	}
	if b.lexer == nil {
		b.known(l.report)
	}
	c, ok := l.command(b, f, b.code, b.line)
	if !ok {
		return nil
	}
	return l.page.block(f, l.runBlock(c, b.lexer), b.line)
}

// console gives the block of a transcript.
func (l *loader) console(b *fence, f *fragment) ast.Node {
	parts, ok := parseTranscript(b.code, b.line+1, l.report)
	if !ok {
		return nil
	}
	var s strings.Builder
	for _, p := range parts {
		switch {
		case p.prompt == "":
			s.WriteString(outputLines(p))
		case f.kind != stepFragment || b.has(".norun"):
			s.WriteString(l.consoleLine(p, b, "", ""))
		default:
			c, ok := l.command(b, f, p.text, p.line)
			if !ok {
				return nil
			}
			s.WriteString(l.consoleLine(p, b, runData(c), runTool))
		}
	}
	return l.page.block(f, blockHTML("console", "", s.String(), ""), b.line)
}

// hint adds a hint, which is Markdown itself, to the step.
func (l *loader) hint(b *fence, f *fragment) {
	src := newSource([]byte(b.code+"\n"), b.line+1)
	if at, deep := tooDeep(src.text); deep {
		l.add(src.line(at), "", "quotes, lists or footnotes stand inside each other more than %d deep", maxDepth)
		return
	}
	doc := l.page.parse(src, func(offset int) {
		l.add(src.line(offset), "divide it with an empty line", "the paragraph is longer than %s", bytesInWords(maxText))
	})
	h := fragment{kind: hintFragment, step: f.step, line: b.line}
	for n := doc.FirstChild(); n != nil; {
		next := n.NextSibling()
		doc.RemoveChild(doc, n)
		if _, ok := n.(*extast.FootnoteList); ok {
			l.add(b.line, "write it into the sentence", "a hint cannot have footnotes")
		} else {
			h.nodes = append(h.nodes, n)
		}
		n = next
	}
	h.walk(func(n ast.Node) {
		if h, ok := n.(*ast.Heading); ok {
			h.RemoveAttributes()
		}
	})
	l.transform(src, &h)
	if !l.failed {
		f.step.Hints = append(f.step.Hints, l.sanitize(l.page.html(src, h.nodes...), h))
	}
}

// solution adds commands to the step's solution.
func (l *loader) solution(b *fence, f *fragment) {
	commands, whole := splitCommands(b.code)
	if !whole {
		l.add(b.line, "close its quote, bracket, loop or here-document", "the last command of the solution does not end")
		return
	}
	if len(commands) == 0 {
		l.add(b.line, "", "the solution holds no command")
		return
	}
	shell := &fence{word: "sh"}
	shell.known(l.report)
	s := &f.step.Solution
	for _, code := range commands {
		if strings.ContainsFunc(code, isBidiControl) {
			l.add(b.line, "remove it", "the solution holds a character that makes it look different from what it does")
			return
		}
		if l.n++; l.n > maxCommands {
			l.add(b.line, "divide the lesson", "the lesson has more than %d commands", maxCommands)
			return
		}
		s.Commands = append(s.Commands, code)
		c := labs.Command{ID: nth(f.step.ID, "solution-", len(s.Commands)), Code: code, Terminal: "1"}
		s.HTML += l.runBlock(c, shell.lexer) + "\n"
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
		return
	}
	if len(m[2]) > 0 {
		l.add(line, "begin the text on the next line", "text stands beside `[!%s]`", word)
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

// spanText gives the text of inline code; its line breaks are spaces.
func spanText(src *source, span *ast.CodeSpan) string {
	var b strings.Builder
	for n := span.FirstChild(); n != nil; n = n.NextSibling() {
		if t, ok := n.(*ast.Text); ok {
			b.Write(bytes.ReplaceAll(t.Segment.Value(src.text), []byte("\n"), []byte(" ")))
		}
	}
	return b.String()
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
func (l *loader) unused(id string, taken map[string]int) string {
	if slices.Contains(reserved, id) || strings.HasSuffix(id, "-title") {
		id += "-step"
	}
	if _, ok := taken[id]; !ok {
		return id
	}
	// Begin where the last search ended: a thousand headings may be alike.
	n := max(2, l.next[id])
	for ; ; n++ {
		if other := id + "-" + strconv.Itoa(n); taken[other] == 0 {
			l.next[id] = n + 1
			return other
		}
	}
}

// isFile reports whether the lab's folder holds a regular file of this name.
func (l *loader) isFile(name string) bool {
	if !fs.ValidPath(name) {
		return false
	}
	info, err := fs.Stat(l.lesson.Dir, name)
	return err == nil && info.Mode().IsRegular()
}
