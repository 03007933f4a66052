package markdown

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"

	"berth/labs"
)

// Write gives the text of a lab.md that reads like the lesson that Build makes
// of the Draft, with all its mistakes mended. It needs the files of Lesson.Dir
// at the same places beside it: the assets, and Images of the lesson. What the
// format cannot say, and what reads otherwise, is told; the text is nil when
// there is no lesson in the Draft.
func Write(d Draft) ([]byte, []labs.Mistake) {
	d.Lenient = true
	quiet := &report{lenient: true}
	quiet.in(d.Lesson.Source, nil)
	want, parts, fragments := buildParts(d, quiet)
	if quiet.failed {
		return nil, quiet.sorted()
	}
	w := &writer{report: &report{lenient: true}, want: want, marks: quiet.marks}
	w.in(d.Lesson.Source, nil)
	w.parts = make([]writtenPart, len(parts))
	for i := range parts {
		w.in(parts[i].File, []int{})
		w.part(&parts[i], &fragments[i], &w.parts[i])
	}
	w.in(d.Lesson.Source, nil)
	front := w.frontMatter()
	w.separate()
	text := w.assemble(front)
	for range w.parts {
		if !w.mend(text) {
			break
		}
		text = w.assemble(front)
	}
	w.compare(text)
	return []byte(text), w.sorted()
}

// Images gives the files of the lesson's folder that its pages show, by name.
func Images(l *labs.Lesson) []string {
	var all []string
	find := func(html string) {
		for _, m := range imageSource.FindAllStringSubmatch(html, -1) {
			if name, ok := strings.CutPrefix(m[1], "/labs/"+l.ID+"/files/"); ok {
				if name, err := url.PathUnescape(name); err == nil {
					all = append(all, name)
				}
			}
		}
	}
	find(l.Intro.HTML)
	find(l.Finish.HTML)
	for i := range l.Steps {
		s := &l.Steps[i]
		find(s.HTML)
		find(s.Solution.HTML)
		for _, h := range s.Hints {
			find(h)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// A writer makes the text of a lab.md.
type writer struct {
	*report
	marks *strings.Replacer // names for the marks of values
	want  *labs.Lesson
	parts []writtenPart
	first []int // line of each part in the assembled text
}

// A writtenPart is a part as it will stand in the text.
type writtenPart struct {
	file     string
	heading  string // "" for the introduction
	text     string // Markdown
	before   string // blocks before the text, and behind it
	behind   string
	asText   bool // text is shown as it is written, since it cannot be mended
	step     *labs.Step
	original string
}

func (w *writer) unmark(text string) string {
	if w.marks == nil {
		return text
	}
	return w.marks.Replace(text)
}

// part writes one part.
func (w *writer) part(p *DraftPart, f *fragment, out *writtenPart) {
	*out = writtenPart{file: p.File, step: f.step, original: w.unmark(string(f.src.text))}
	switch f.kind {
	case stepFragment:
		out.heading = "## " + w.unmark(escapeTitle(f.step.Title)) + " {#" + f.step.ID + "}"
	case finishFragment:
		out.heading = "## Finish {.finish}"
	}
	out.text = strings.Trim(w.unmark(f.src.mended()), "\n")
	if strings.TrimSpace(out.text) == "" {
		out.text = ""
	}
	blocks := w.blocks(p, f)
	// Where it makes no difference the text comes first.
	if orderedBlock.MatchString(out.text) {
		out.before = blocks
	} else {
		out.behind = blocks
	}
}

// orderedBlock finds fences whose order counts.
var orderedBlock = regexp.MustCompile("(?m)^[ \t>]*(```+|~~~+)[ \t]*(check|quiz|hint|solution|setup|start)\\b")

// blocks writes what a part has beside its text.
func (w *writer) blocks(p *DraftPart, f *fragment) string {
	var all []string
	block := func(info, code, what string) {
		if strings.TrimSpace(code) == "" {
			return
		}
		if firstBad([]byte(code)) >= 0 {
			w.warn(0, "", "the control characters of %s cannot be written", what)
			code = clean(code)
		}
		all = append(all, Fence(info, strings.TrimSuffix(code, "\n")))
	}
	for _, s := range p.Arrival.Setup {
		if s.Code = script(s.Code); strings.TrimSpace(s.Code) != "" && s.Host <= max(1, w.want.Hosts) {
			block((&fence{word: "setup", attrs: hostAttribute(s.Host)}).info(), s.Code, "a script")
		}
	}
	for _, c := range p.Arrival.Type {
		inside, host := labs.SplitTerminal(c.Terminal)
		if c.Code = script(c.Code); strings.TrimSpace(c.Code) == "" || host > max(1, w.want.Hosts) {
			continue
		}
		b := &fence{word: "start", attrs: hostAttribute(host)}
		if inside != "" && inside != "1" {
			b.attrs["terminal"] = inside
		}
		for name, set := range map[string]bool{"interrupt": c.Interrupt, "keys": c.Keys, "no-enter": c.NoEnter} {
			if set {
				b.attrs[name] = ""
			}
		}
		block(b.info(), c.Code, "a command")
	}
	if f.step == nil {
		return strings.Join(all, "\n\n")
	}
	for _, c := range f.step.Checks[:f.checks] {
		if text, ok := w.check(c); ok {
			block("check", w.unmark(text), "a check")
		}
	}
	for i, src := range f.hints {
		if i < len(f.step.Hints) && strings.TrimSpace(string(src.text)) != "" {
			block("hint", w.inner(DraftPart{Hints: []string{w.unmark(src.mended())}}, src), "a hint")
		}
	}
	if f.solution != nil && strings.TrimSpace(string(f.solution.text)) != "" {
		block("solution {markdown}", w.inner(DraftPart{Solution: w.unmark(f.solution.mended())}, f.solution), "the solution")
	}
	return strings.Join(all, "\n\n")
}

// inner gives the Markdown of a hint or a solution, or its text as it is written
// where that cannot be mended.
func (w *writer) inner(p DraftPart, src *source) string {
	md := p.Solution
	if p.Hints != nil {
		md = p.Hints[0]
	}
	p.Title, p.Text = "Step", "Text.\n"
	lesson := labs.Lesson{ID: w.want.ID, Hosts: w.want.Hosts, Vars: w.want.Vars, Dir: w.want.Dir}
	if l, _ := Build(Draft{Lesson: lesson, Parts: []DraftPart{p}}); l != nil {
		return md
	}
	return Fence("", strings.Trim(w.unmark(string(src.text)), "\n"))
}

func hostAttribute(n int) map[string]string {
	if n > 1 {
		return map[string]string{"host": strconv.Itoa(n)}
	}
	return map[string]string{}
}

// escapeTitle writes plain text as it stands in a heading.
func escapeTitle(s string) string {
	var b strings.Builder
	for _, c := range s {
		if strings.ContainsRune("\\`*_[]<>&~{}#!|", c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// assemble puts the text together.
func (w *writer) assemble(front string) string {
	var b strings.Builder
	b.WriteString(front)
	w.first = w.first[:0]
	for i := range w.parts {
		p := &w.parts[i]
		body := p.text
		if p.asText {
			body = Fence("", strings.Trim(p.original, "\n"))
		}
		w.first = append(w.first, 2+strings.Count(b.String(), "\n"))
		for _, s := range []string{p.heading, p.before, body, p.behind} {
			if s != "" {
				b.WriteString("\n" + s + "\n")
			}
		}
	}
	return b.String()
}

// load reads the text as it will be read.
func (w *writer) load(text string) (*labs.Lesson, *report) {
	r := &report{}
	r.in(fileName, nil)
	got := &labs.Lesson{ID: w.want.ID, Format: labs.FormatBerth, Dir: w.want.Dir, Source: fileName}
	if b := textOfFile([]byte(text), maxFile, r); b != nil {
		read(b, got, nil, r)
	}
	return got, r
}

// mend shows as it is written what has mistakes all the same. It reports
// whether anything is left to try.
func (w *writer) mend(text string) bool {
	_, r := w.load(text)
	again := false
	for _, m := range r.mistakes {
		if m.Warn {
			continue
		}
		i := sort.SearchInts(w.first, m.Line+1) - 1
		if i >= 0 && !w.parts[i].asText && w.parts[i].text != "" {
			w.parts[i].asText, again = true, true
			w.in(w.parts[i].file, []int{})
			w.warn(0, "", "a part cannot be written and is shown as text: %s", m.What)
		}
	}
	return again
}

// compare tells what is read otherwise than it was meant.
func (w *writer) compare(text string) {
	w.in(w.want.Source, nil)
	got, r := w.load(text)
	for _, m := range r.mistakes {
		if !m.Warn {
			w.fail(0, "", "what is written has a mistake in line %d: %s", m.Line, m.What)
		}
	}
	if r.failed {
		return
	}
	tell := func(what string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			w.warn(0, "", "%s reads otherwise than before", what)
		}
	}
	want := w.want
	tell("the front matter", settings(want), settings(got))
	tell("the introduction", comparablePart(want.Intro), comparablePart(got.Intro))
	tell("the finish", comparablePart(want.Finish), comparablePart(got.Finish))
	if len(want.Steps) != len(got.Steps) {
		w.warn(0, "", "it has %d steps and not %d", len(got.Steps), len(want.Steps))
		return
	}
	for i := range want.Steps {
		a, b := comparableStep(want.Steps[i]), comparableStep(got.Steps[i])
		w.in(w.partOf(i), []int{})
		for j := range a {
			tell(fmt.Sprintf("%s of step %s", a[j].name, quote(want.Steps[i].ID)), a[j].value, b[j].value)
		}
	}
}

// partOf gives the file of a step.
func (w *writer) partOf(step int) string {
	for i := range w.parts {
		if w.parts[i].step == &w.want.Steps[step] {
			return w.parts[i].file
		}
	}
	return w.want.Source
}

// settings gives what a front matter says.
func settings(l *labs.Lesson) labs.Lesson {
	s := *l
	s.Dir, s.Source, s.Format, s.Course, s.Steps, s.Intro, s.Finish = nil, "", "", "", nil, labs.Part{}, labs.Part{}
	s.Assets = slices.Clone(l.Assets)
	for i := range s.Assets {
		if s.Assets[i].Host == 1 {
			s.Assets[i].Host = 0
		}
	}
	s.Assets = slices.DeleteFunc(s.Assets, func(a labs.Asset) bool { return a.From == "" || isHome(a) })
	slices.SortFunc(s.Assets, func(a, b labs.Asset) int {
		return strings.Compare(a.From+"\x00"+a.To+"\x00"+strconv.Itoa(a.Host), b.From+"\x00"+b.To+"\x00"+strconv.Itoa(b.Host))
	})
	s.Vars = slices.Clone(l.Vars)
	slices.SortFunc(s.Vars, func(a, b labs.Var) int { return strings.Compare(a.Name, b.Name) })
	if s.Hosts == 1 {
		s.Hosts = 0
	}
	if len(s.Assets) == 0 {
		s.Assets = nil
	}
	if len(s.Vars) == 0 {
		s.Vars = nil
	}
	if len(s.Pulls) == 0 {
		s.Pulls = nil
	}
	s.Tabs = slices.Clone(l.Tabs)
	for i := range s.Tabs {
		if s.Tabs[i].Host == 1 {
			s.Tabs[i].Host = 0
		}
	}
	return s
}

type named struct {
	name  string
	value any
}

func comparableStep(s labs.Step) []named {
	for i := range s.Files {
		if s.Files[i].Host == 1 {
			s.Files[i].Host = 0
		}
	}
	var hints []string
	for _, h := range s.Hints {
		hints = append(hints, comparableHTML(h))
	}
	return []named{
		{"the title", s.Title}, {"the text", comparableHTML(s.HTML)}, {"a command", append([]labs.Command{}, s.Commands...)},
		{"a file", append([]labs.FileBlock{}, s.Files...)}, {"a check", append([]labs.Check{}, s.Checks...)}, {"a hint", hints},
		{"the solution", comparableHTML(s.Solution.HTML)}, {"the solution", append([]labs.Command{}, s.Solution.Commands...)},
		{"what happens at the beginning", comparableArrival(s.Arrival)},
	}
}

func comparablePart(p labs.Part) any {
	return []any{comparableHTML(p.HTML), comparableArrival(p.Arrival)}
}

func comparableArrival(a labs.Arrival) labs.Arrival {
	a.Setup, a.Type = append([]labs.Setup{}, a.Setup...), append([]labs.Command{}, a.Type...)
	for i := range a.Setup {
		if a.Setup[i].Host == 1 {
			a.Setup[i].Host = 0
		}
	}
	for i := range a.Type {
		a.Type[i].Once = false // nothing is offered
	}
	return a
}

var (
	pageIDs     = regexp.MustCompile(` (id|href)="(#|/labs/[a-z0-9-]+#)?(h\.|fn)[^"]*"`)
	imageSource = regexp.MustCompile(`<img [^>]*src="([^"]*)"`)
)

// comparableHTML gives HTML up to ids and blanks.
func comparableHTML(s string) string {
	s = strings.Join(strings.Fields(pageIDs.ReplaceAllString(s, "")), " ")
	return strings.ReplaceAll(s, " </", "</") // what was not closed holds more of them
}

// separate renames references and footnotes that mean something in one part and
// are written in another.
func (w *writer) separate() {
	defined := make([]map[string]bool, len(w.parts))
	plain := make([]string, len(w.parts)) // without code
	page := newPageRenderer()
	page.lenient = true
	for i := range w.parts {
		defined[i], plain[i] = definitions(page, w.parts[i].text)
	}
	for i := range w.parts {
		var labels []string
		for label := range defined[i] {
			for j := range w.parts {
				if j != i && mentions(plain[j], label) {
					labels = append(labels, label)
					break
				}
			}
		}
		slices.Sort(labels)
		for _, label := range labels {
			name := strings.TrimPrefix(label, "^") + "-" + strconv.Itoa(i+1)
			if strings.HasPrefix(label, "^") {
				name = "^" + name
			}
			w.parts[i].text = rename(page, w.parts[i].text, label, name)
		}
	}
}

// definitions gives the labels that a text defines, in small letters, footnotes
// with their ^, and the text with blanks for its code.
func definitions(page *pageRenderer, md string) (map[string]bool, string) {
	labels := map[string]bool{}
	plain := withoutCode(page, md)
	if !strings.Contains(md, "]:") {
		return labels, plain
	}
	pc := parser.NewContext()
	page.md.Parser().Parse(text.NewReader([]byte(md)), parser.WithContext(pc))
	for _, ref := range pc.References() {
		labels[labelKey(string(ref.Label()))] = true
	}
	for _, m := range noteBegin.FindAllStringSubmatch(plain, -1) { // also those that nothing refers to
		labels[labelKey(m[1])] = true
	}
	return labels, plain
}

var noteBegin = regexp.MustCompile(`(?m)^[ >]*\[(\^[^\]\n]+)\]:`)

func labelKey(label string) string {
	return strings.ToLower(strings.Join(strings.Fields(label), " "))
}

// withoutCode puts blanks in the place of code, byte for byte.
func withoutCode(page *pageRenderer, md string) string {
	b := []byte(md)
	blank := func(from, to int) {
		for i := max(0, from); i < min(to, len(b)); i++ {
			if b[i] != '\n' {
				b[i] = ' '
			}
		}
	}
	page.tooBig = func(int) {}
	doc := page.md.Parser().Parse(text.NewReader([]byte(md)))
	walk(doc, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.FencedCodeBlock, *ast.CodeBlock, *ast.HTMLBlock:
			for i := range n.Lines().Len() {
				line := n.Lines().At(i)
				blank(line.Start, line.Stop)
			}
		case *ast.CodeSpan:
			for c := n.FirstChild(); c != nil; c = c.NextSibling() {
				if t, ok := c.(*ast.Text); ok {
					blank(t.Segment.Start, t.Segment.Stop)
				}
			}
		}
	})
	return string(b)
}

var bracketed = regexp.MustCompile(`\[((?:[^\[\]\\]|\\.)+)\]`)

// mentions reports whether text has the label between brackets.
func mentions(plain, label string) bool {
	for _, m := range bracketed.FindAllStringSubmatch(plain, -1) {
		if labelKey(m[1]) == label {
			return true
		}
	}
	return false
}

// rename gives a label another name.
func rename(page *pageRenderer, md, label, name string) string {
	plain := withoutCode(page, md)
	var b strings.Builder
	at := 0
	for _, m := range bracketed.FindAllStringSubmatchIndex(plain, -1) {
		if labelKey(plain[m[2]:m[3]]) != label {
			continue
		}
		rest := plain[m[1]:]
		b.WriteString(md[at:m[0]])
		at = m[1]
		switch before := m[0] > 0 && plain[m[0]-1] == ']'; {
		case before, strings.HasPrefix(label, "^"), strings.HasPrefix(rest, ":"):
			b.WriteString("[" + name + "]")
		case strings.HasPrefix(rest, "[]"):
			b.WriteString(md[m[0]:m[1]] + "[" + name + "]")
			at += 2
		case strings.HasPrefix(rest, "[") || strings.HasPrefix(rest, "("):
			b.WriteString(md[m[0]:m[1]])
		default:
			b.WriteString(md[m[0]:m[1]] + "[" + name + "]")
		}
	}
	b.WriteString(md[at:])
	return b.String()
}

// isHome reports whether an asset is what files/ gives by itself.
func isHome(a labs.Asset) bool {
	rel, ok := strings.CutPrefix(a.From, homeFiles+"/")
	return ok && a.To == "~/"+rel && a.Mode == 0 && a.Host <= 1
}

// assetRules gives rules that name the lesson's assets.
func (w *writer) assetRules() []assetRule {
	l := w.want
	type place struct {
		dir, to string
		mode    fs.FileMode
		host    int
	}
	t := newTree(l.Dir)
	groups := map[place][]string{}
	goes := map[labs.Asset]bool{}
	empty := 0
	for _, a := range l.Assets {
		if a.Host == 1 {
			a.Host = 0
		}
		switch {
		case a.From == "":
			empty++
		case isHome(a):
		case path.Base(a.From) != path.Base(a.To):
			w.warn(0, "", "an asset cannot change its name: %s becomes %s", quote(a.From), quote(a.To))
		default:
			a.To = path.Clean(a.To)
			p := place{path.Dir(a.From), path.Dir(a.To), a.Mode, a.Host}
			groups[p] = append(groups[p], a.From)
			goes[a] = true
		}
	}
	if empty > 0 {
		w.warn(0, "", "%d empty folders cannot be written", empty)
	}
	places := make([]place, 0, len(groups))
	for p := range groups {
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int {
		return strings.Compare(a.dir+"\x00"+a.to+fmt.Sprint(a.host, a.mode), b.dir+"\x00"+b.to+fmt.Sprint(b.host, b.mode))
	})
	var rules []assetRule
	covered := map[labs.Asset]bool{}
	for _, p := range places {
		asset := func(from string) labs.Asset {
			return labs.Asset{From: from, To: path.Join(p.to, strings.TrimPrefix(from, p.dir+"/")), Mode: p.mode, Host: p.host}
		}
		if p.dir == "." {
			asset = func(from string) labs.Asset {
				return labs.Asset{From: from, To: path.Join(p.to, from), Mode: p.mode, Host: p.host}
			}
		}
		left := slices.DeleteFunc(groups[p], func(from string) bool { return covered[asset(from)] })
		if len(left) == 0 {
			continue
		}
		rule := assetRule{to: p.to, mode: p.mode, host: p.host}
		all, err := t.below(p.dir, 0)
		direct := 0
		wholly, flatly := err == nil && p.dir != ".", err == nil && p.dir != "."
		for _, f := range all {
			ok := f.from != "" && goes[asset(f.name)]
			wholly = wholly && ok
			if path.Dir(f.name) == p.dir {
				direct++
				flatly = flatly && ok
			}
		}
		switch {
		case wholly && len(all) > direct:
			rule.file = escapeGlob(p.dir) + "/**"
			rules = append(rules, rule)
			for _, f := range all {
				covered[asset(f.name)] = true
			}
		case flatly && direct > 1:
			rule.file = escapeGlob(p.dir) + "/*"
			rules = append(rules, rule)
		default:
			slices.Sort(left)
			for _, from := range slices.Compact(left) {
				rule.file = escapeGlob(from)
				rules = append(rules, rule)
			}
		}
	}
	return rules
}

var globSigns = regexp.MustCompile(`[*?\[\\]`)

func escapeGlob(name string) string { return globSigns.ReplaceAllString(name, `\$0`) }
