package markdown

import (
	"net/url"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"

	"berth/labs"
)

// maxDraft bounds the text of a Draft, with its scripts.
const maxDraft = 8 << 20

// Build makes a lesson of a Draft. Every part is read by itself: links by
// reference, footnotes and headings are its own, and what is not closed ends
// with it. Images are relative to the part's File, and can be anywhere in
// Lesson.Dir. The lesson is nil when there is a mistake that is not a warning;
// in a lenient Draft that is only when no part has any content, or when its
// values would make it too long.
//
// {{name}} and {{preview 8080}} are understood everywhere in the parts, and in
// the greeting and the commands of terminals.
func Build(d Draft) (*labs.Lesson, []labs.Mistake) {
	r := &report{lenient: d.Lenient}
	r.in(d.Lesson.Source, nil)
	l := build(d, r)
	if r.failed {
		l = nil
	}
	return l, r.sorted()
}

func build(d Draft, r *report) *labs.Lesson {
	l, _, _ := buildParts(d, r)
	return l
}

// buildParts also gives the parts as they were used, and what was made of each.
func buildParts(d Draft, r *report) (*labs.Lesson, []DraftPart, []fragment) {
	lesson := d.Lesson
	lesson.Intro, lesson.Steps, lesson.Finish = labs.Part{}, nil, labs.Part{}
	lesson.Vars = slices.Clone(lesson.Vars)
	if !stepID.MatchString(lesson.ID) {
		lesson.ID = slug(lesson.ID, "lab")
	}
	settle(&lesson, r)
	defaults(&lesson)
	l := newLoader(r, &lesson)
	l.fillSettings()
	parts := l.parts(d.Parts)
	if parts == nil {
		return nil, nil, nil
	}
	fragments := make([]fragment, len(parts))
	for i := range parts {
		l.part(&parts[i], &fragments[i])
	}
	l.show(fragments)
	l.weigh()
	return &lesson, parts, fragments
}

// settle makes the settings of a Draft such that a front matter can say them.
func settle(l *labs.Lesson, r *report) {
	cut := func(what, text string, most int) string {
		if n := len([]rune(text)); n > most {
			r.add(0, "", "the %s has %d characters; at most %d fit", what, n, most)
		}
		return sentence(text, most)
	}
	l.Title, l.Summary = cut("title", l.Title, 120), cut("summary", l.Summary, 300)
	if l.Title == "" {
		l.Title = l.ID
	}
	if l.Level != "" && !slices.Contains(levels, l.Level) {
		r.add(0, didYouMean(l.Level, levels), "the level cannot be %s", quote(l.Level))
		l.Level = ""
	}
	if l.Minutes < 0 || l.Minutes > 1000 {
		r.add(0, "", "the lesson cannot take %d minutes", l.Minutes)
		l.Minutes = 0
	}
	if l.Image != "" && !imageRef.MatchString(l.Image) {
		r.add(0, "", "there is no sandbox image %s", quote(l.Image))
		l.Image = ""
	}
	if l.Hosts < 0 || l.Hosts > maxHosts {
		r.add(0, "", "a lesson cannot have %d sandboxes", l.Hosts)
		l.Hosts = maxHosts
	}
	if l.Hostname != "" && !hostName.MatchString(l.Hostname) {
		r.add(0, "", "a sandbox cannot have the name %s", quote(l.Hostname))
		l.Hostname = ""
	}
	if l.Open != "" && !validPath(l.Open) {
		r.add(0, "write it from `/` or `~/`, without `..`", "the editor cannot open %s", quote(l.Open))
		l.Open = ""
	}
	l.Greeting = strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' && c != 0x1b || c >= 0x7f && c < 0xa0 {
			return -1
		}
		return c
	}, strings.ToValidUTF8(l.Greeting, "\ufffd"))
	if len(l.Greeting) > maxGreeting {
		r.add(0, "", "the greeting is longer than %s", bytesInWords(maxGreeting))
		l.Greeting = strings.ToValidUTF8(l.Greeting[:maxGreeting], "")
	}
	line := func(text string) bool {
		return len(text) <= maxValue && clean(text) == text && !strings.Contains(text, "\n")
	}
	var terminals []labs.TerminalTab
	for _, t := range l.Terminals {
		_, host := labs.SplitTerminal(t.Name)
		again := slices.ContainsFunc(terminals, func(o labs.TerminalTab) bool { return o.Name == t.Name })
		if again || !labs.ValidTerminal(t.Name) || host > max(1, l.Hosts) || !line(t.Command) {
			r.add(0, "", "the lesson cannot have the terminal %s", quote(t.Name))
			continue
		}
		t.Title = cut("title of a terminal", t.Title, 60)
		terminals = append(terminals, t)
	}
	var tabs []labs.Tab
	for _, t := range l.Tabs {
		t.Title = cut("title of a tab", t.Title, 60)
		u, err := url.Parse(t.URL)
		isPage := t.Port == 0 && t.Host == 0 && t.Path == "" && err == nil && u.Scheme == "https" && u.Host != "" && line(t.URL)
		isPort := t.URL == "" && t.Port > 0 && t.Port <= 65535 && t.Host <= max(1, l.Hosts) && line(t.Path) && (t.Path == "" || t.Path[0] == '/')
		if t.Title == "" || !isPage && !isPort {
			r.add(0, "", "the tab %s shows neither a port nor an https address", quote(t.Title))
			continue
		}
		tabs = append(tabs, t)
	}
	l.Terminals, l.Tabs = terminals, tabs
}

// defaults fills in what a lesson does not say.
func defaults(l *labs.Lesson) {
	if l.Format == "" {
		l.Format = labs.FormatBerth
	}
	if l.Image == "" {
		l.Image = "docker"
	}
	if l.Egress == "" {
		l.Egress = labs.EgressMirror
	}
	if l.Layout == "" {
		l.Layout = labs.LayoutTerminal
	}
}

// sentence gives one line of text of at most so many characters.
func sentence(text string, most int) string {
	text = strings.Join(strings.Fields(clean(text)), " ")
	if all := []rune(text); len(all) > most {
		return string(all[:most-1]) + "…"
	}
	return text
}

// parts gives the parts of a Draft that are used, with ids, and makes the
// lesson's steps. nil when nothing is left.
func (l *loader) parts(all []DraftPart) []DraftPart {
	var parts []DraftPart
	steps, size, content := 0, 0, false
	for i, p := range all {
		l.in(p.File, []int{})
		isStep := p.ID != labs.IntroID && p.ID != labs.FinishID
		if p.ID == labs.IntroID && i != 0 || p.ID == labs.FinishID && i != len(all)-1 {
			l.add(1, "", "the part %s stands between steps", quote(p.ID))
			isStep = true
		}
		if isStep {
			if steps++; steps > maxSteps {
				l.add(1, "divide the lesson", "the lesson has more than %d steps", maxSteps)
				continue
			}
		}
		if size += partSize(&p); size > maxDraft {
			l.add(1, "divide the lesson", "the lesson has more than %s of text; this part is left out", bytesInWords(maxDraft))
			size -= partSize(&p)
			p = DraftPart{ID: p.ID, Title: p.Title, File: p.File}
		}
		content = content || partSize(&p) > 0
		if isStep && (p.ID == labs.IntroID || p.ID == labs.FinishID) {
			p.ID = ""
		}
		parts = append(parts, p)
	}
	if !content {
		l.in(l.lesson.Source, nil)
		l.fail(0, "", "the lesson has no text")
		return nil
	}
	if steps == 0 { // what there is is the step
		p := &parts[len(parts)-1]
		p.ID, p.Title = "", l.lesson.Title
	}
	l.lesson.Steps = make([]labs.Step, 0, len(parts))
	for i := range parts {
		p := &parts[i]
		if p.ID == labs.IntroID || p.ID == labs.FinishID {
			continue
		}
		n := len(l.lesson.Steps) + 1
		p.Title = strings.Join(strings.Fields(clean(p.Title)), " ")
		if p.Title == "" {
			p.Title = "Step " + strconv.Itoa(n)
		}
		if _, taken := l.taken[p.ID]; p.ID == "" || taken || !stepID.MatchString(p.ID) || slices.Contains(reserved, p.ID) {
			p.ID = l.unused(slug(p.Title, "step-"+strconv.Itoa(n)))
		}
		l.taken[p.ID] = 1
		l.anchors[p.ID] = p.ID
		l.lesson.Steps = append(l.lesson.Steps, labs.Step{ID: p.ID, Title: l.fill(p.Title, 0)})
	}
	return parts
}

// partSize counts the bytes of a part.
func partSize(p *DraftPart) int {
	n := len(p.Text) + len(p.Title) + len(p.Solution)
	for _, h := range p.Hints {
		n += len(h)
	}
	for _, s := range p.Arrival.Setup {
		n += len(s.Code)
	}
	for _, c := range p.Arrival.Type {
		n += len(c.Code)
	}
	for _, c := range p.Checks {
		n += len(c.Name) + len(c.Hint) + len(c.Script)
	}
	return n
}

// part reads one part into a fragment.
func (l *loader) part(p *DraftPart, f *fragment) {
	*f = fragment{file: p.File, lines: p.Lines, base: path.Dir(p.File), line: 1}
	switch p.ID {
	case labs.IntroID:
		f.kind, f.part = introFragment, &l.lesson.Intro
	case labs.FinishID:
		f.kind, f.part, f.elsewhere = finishFragment, &l.lesson.Finish, true
	default:
		f.kind = stepFragment
		f.step, _ = l.lesson.Step(p.ID)
	}
	l.in(f.file, []int{})
	l.extras(p, f)
	l.in(f.file, f.lines)
	text := l.readable(p.Text)
	f.src = newSource([]byte(l.fill(text, 1)), 1)
	if !l.shortLines(f.src) {
		f.nodes = []ast.Node{l.asWritten(f)}
		return
	}
	doc := l.parse(f.src)
	if doc == nil {
		f.nodes = []ast.Node{l.asWritten(f)}
		return
	}
	level := 3 // of the largest heading
	walk(doc, func(n ast.Node) {
		if h, ok := n.(*ast.Heading); ok {
			level = min(level, h.Level)
		}
	})
	walk(doc, func(n ast.Node) {
		if h, ok := n.(*ast.Heading); ok {
			if level < 3 {
				h.Level = min(6, h.Level+3-level)
				f.src.moveHeading(h)
			}
		}
	})
	for n := doc.FirstChild(); n != nil; {
		next := n.NextSibling()
		doc.RemoveChild(doc, n)
		f.nodes = append(f.nodes, n)
		n = next
	}
	l.numberNotes(f)
}

// asWritten gives the block that shows a part's text as it is written.
func (l *loader) asWritten(f *fragment) ast.Node {
	code := strings.TrimRight(string(shallow(f.src.text)), "\n")
	f.src.edits = []edit{{0, len(f.src.text), Fence("", code)}}
	return l.page.block(f, l.plainBlock(code, nil), 1)
}

// extras takes over what a part brings beside its text.
func (l *loader) extras(p *DraftPart, f *fragment) {
	arrival := p.Arrival
	l.fillAll(reflect.ValueOf(&arrival).Elem())
	for _, s := range arrival.Setup {
		if s.Code = script(s.Code); l.hasHost(s.Host) && strings.TrimSpace(s.Code) != "" {
			s.Code = strings.TrimSuffix(s.Code, "\n") + "\n"
			a := f.arrival()
			a.Setup = append(a.Setup, s)
		}
	}
	for _, c := range arrival.Type {
		l.startWith(c, f)
	}
	if f.step == nil {
		if p.Checks != nil || p.Hints != nil || p.Solution != "" {
			l.add(1, "", "there are no checks, hints and solutions %s", where[f.kind])
		}
		return
	}
	for _, c := range p.Checks {
		if c.Quiz != nil {
			l.add(1, "", "a quiz has to stand in the text")
			continue
		}
		l.fillAll(reflect.ValueOf(&c).Elem())
		c.Name, c.Hint = sentence(c.Name, 200), sentence(c.Hint, 500)
		if c.Name == "" {
			c.Name = f.step.Title
		}
		l.check(c, 1, f)
	}
	f.checks = len(f.step.Checks)
	for _, h := range p.Hints {
		if src := newSource([]byte(l.fill(l.readable(h), 0)), 1); l.shortLines(src) {
			l.hint(src, f)
			f.hints = append(f.hints, src)
		}
	}
	if p.Solution != "" {
		if src := newSource([]byte(l.fill(l.readable(p.Solution), 0)), 1); l.shortLines(src) {
			l.solution(src, f)
			f.solution = src
		}
	}
}

// startWith adds a command that is typed when the learner comes to the part.
func (l *loader) startWith(c labs.Command, f *fragment) {
	if c.Terminal == "" {
		c.Terminal = "1"
	}
	if _, host := labs.SplitTerminal(c.Terminal); !labs.ValidTerminal(c.Terminal) || !l.hasHost(host) {
		l.add(1, "", "the lesson has no terminal %s", quote(c.Terminal))
		return
	}
	if c.Code = strings.TrimSuffix(script(c.Code), "\n"); strings.TrimSpace(c.Code) == "" || !l.mayRun(c, 1) {
		return
	}
	a := f.arrival()
	c.ID = nth(f.id(), "start-", len(a.Type)+1)
	a.Type = append(a.Type, c)
}

// script gives code as it is, with the line ends that a shell understands.
func script(code string) string {
	return strings.ReplaceAll(strings.ReplaceAll(code, "\r\n", "\n"), "\x00", "")
}

func (l *loader) hasHost(n int) bool {
	if n <= max(1, l.lesson.Hosts) {
		return true
	}
	l.add(1, "", "the lesson has no sandbox %d", n)
	return false
}

// readable gives text without what does not belong in one, which is reported.
func (l *loader) readable(text string) string {
	text = strings.TrimPrefix(text, "\ufeff")
	if strings.Contains(text, "\r") {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	}
	bad := firstBad([]byte(text))
	if bad < 0 {
		return text
	}
	line := 1 + strings.Count(text[:bad], "\n")
	if c, n := utf8.DecodeRuneInString(text[bad:]); c == utf8.RuneError && n <= 1 {
		l.add(line, "save the file as UTF-8", "this is not UTF-8 text")
	} else {
		l.add(line, "remove it", "the control character U+%04X does not belong in a text", c)
	}
	return clean(text)
}

// clean drops control characters, and puts U+FFFD where text is not UTF-8.
func clean(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c >= 0x7f && c < 0xa0 {
			return -1
		}
		return c
	}, strings.ToValidUTF8(text, "\ufffd"))
}

// shortLines reports whether no line is too long to be read as Markdown.
func (l *loader) shortLines(src *source) bool {
	for i := range src.starts {
		end := len(src.text)
		if i+1 < len(src.starts) {
			end = src.starts[i+1]
		}
		if end-src.starts[i] > maxLine {
			l.add(src.first+i, "break it", "the line is longer than %s", bytesInWords(maxLine))
			return false
		}
	}
	return true
}
