package jekyll

import (
	"fmt"
	"html"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/labs"
	"berth/labs/markdown"
)

const (
	maxTerms    = 6 // terminals of a Play with Docker post
	maxMistakes = 100
	maxSteps    = 500
	maxTitle    = 120
	maxSummary  = 300
)

// A post is one file on its way to a draft.
type post struct {
	file     string
	mistakes []labs.Mistake
	told     map[string]bool

	jekyll  bool // it has a front matter
	front   map[string]setting
	terms   int               // terminals, -1 when it does not say
	hosts   int               // sandboxes
	used    int               // the greatest number of a terminal in the text
	anchors map[string]string // names in the text, and the ids they get here
	out     []outLine
}

// A setting is a line of the front matter.
type setting struct {
	text string
	line int
}

// An outLine is a line of the translated text.
type outLine struct {
	text  string
	num   int // of its line in the file, from 1
	level int // of a heading, or 0
	title string
	id    string // of a heading, or ""
}

func (p *post) warn(line int, hint, what string, args ...any) {
	if len(p.mistakes) < maxMistakes {
		p.mistakes = append(p.mistakes, labs.Mistake{File: p.file, Line: line, What: fmt.Sprintf(what, args...), Hint: hint, Warn: true})
	}
}

// once warns the first time about something.
func (p *post) once(kind string, line int, hint, what string, args ...any) {
	if !p.told[kind] {
		p.told[kind] = true
		p.warn(line, hint, what, args...)
	}
}

// draft reads a file into a draft, which has no parts when that fails.
func draft(fsys fs.FS, file, id string) (markdown.Draft, []labs.Mistake) {
	if !fs.ValidPath(file) {
		return markdown.Draft{}, []labs.Mistake{{File: file, What: "it is no file below the folder that is loaded"}}
	}
	text, odd, err := readText(fsys, file, maxText)
	if err != nil {
		return markdown.Draft{}, []labs.Mistake{{File: file, What: "it cannot be read: " + err.Error()}}
	}
	p := newPost(file)
	if odd {
		p.warn(0, "save the file as UTF-8", "it is not UTF-8")
	}
	if strings.TrimSpace(text) == "" {
		return markdown.Draft{}, []labs.Mistake{{File: file, What: "it is empty"}}
	}
	d := p.translate(text)
	d.Lesson.ID, d.Lesson.Dir = id, fsys
	if len(d.Parts) == 0 {
		p.mistakes = append(p.mistakes, labs.Mistake{File: file, What: "it has no text"})
	}
	return d, p.mistakes
}

func newPost(file string) *post {
	return &post{file: file, told: map[string]bool{}, terms: -1, hosts: 1, anchors: map[string]string{}}
}

// translate makes a draft of the text of a file.
func (p *post) translate(text string) markdown.Draft {
	body, first := p.frontMatter(text)
	lines := strings.Split(strings.TrimRight(body, "\n"), "\n")
	d := markdown.Draft{Lenient: true}
	l := &d.Lesson
	l.Image, l.Egress, l.Source = "docker", labs.EgressInternet, p.file
	l.Format = labs.FormatMarkdown
	if p.terms >= 0 || dockerPost.MatchString(body) {
		l.Format = labs.FormatDockerPost
	}
	l.Layout = labs.LayoutTerminal
	if !p.jekyll && isTranscript(body) {
		p.transcript(lines, first)
	} else {
		if terms := max(p.terms, greatestTerm(body)); terms >= 2 && swarm.MatchString(body) {
			p.hosts = 2
		}
		p.findAnchors(lines)
		p.blocks(lines, first)
	}
	p.about(l)
	d.Parts = p.split(l)
	p.terminals(l)
	return d
}

var (
	dockerPost = regexp.MustCompile("(?m)^\\s*(?:```+|~~~+)\\s*\\{?\\.term[0-9]")
	termFence  = regexp.MustCompile("(?m)(?:```+|~~~+)\\s*\\{?\\.?term([0-9])\\b")
	swarm      = regexp.MustCompile(`docker swarm (init|join)|swarm join-token|docker node (ls|update|promote)`)
)

func greatestTerm(body string) int {
	n := 0
	for _, m := range termFence.FindAllStringSubmatch(body, 1000) {
		n = max(n, int(m[1][0]-'0'))
	}
	return n
}

var settingLine = regexp.MustCompile(`^([A-Za-z_][\w-]*)\s*:\s*(.*)$`)

// frontMatter takes the settings between the first lines --- off the text, and
// gives the rest and the number of its first line. It reads plain lines: a value
// over several lines is read as far as it stands on the first.
func (p *post) frontMatter(text string) (body string, first int) {
	p.front = map[string]setting{}
	lead := 0
	for strings.HasPrefix(text[lead:], "\n") {
		lead++
	}
	rest, ok := strings.CutPrefix(text[lead:], "---\n")
	if !ok {
		return text, 1
	}
	line := lead + 2
	for at := 0; at < len(rest); line++ {
		l, _, more := strings.Cut(rest[at:], "\n")
		next := at + len(l) + 1
		if t := strings.TrimRight(l, " \t"); t == "---" || t == "..." {
			p.jekyll = true
			p.readTerms()
			return rest[min(len(rest), next):], line + 1
		}
		if m := settingLine.FindStringSubmatch(l); m != nil {
			p.front[strings.ToLower(m[1])] = setting{unquote(m[2]), line}
		} else if strings.TrimSpace(l) != "" && !strings.HasPrefix(l, " ") && !strings.HasPrefix(l, "-") && !strings.HasPrefix(l, "#") {
			break // no settings: a rule, and text below it
		}
		if !more {
			break
		}
		at = next
	}
	p.front = map[string]setting{}
	return text, 1
}

// unquote reads a plain value of YAML.
func unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && s[0] == '"' {
		if end := strings.LastIndexByte(s, '"'); end > 0 {
			if t, err := strconv.Unquote(s[:end+1]); err == nil {
				return t
			}
			return s[1:end]
		}
	}
	if len(s) >= 2 && s[0] == '\'' {
		if end := strings.LastIndexByte(s, '\''); end > 0 {
			return strings.ReplaceAll(s[1:end], "''", "'")
		}
	}
	if at := strings.Index(s, " #"); at >= 0 {
		s = strings.TrimSpace(s[:at])
	}
	return s
}

// readTerms reads how many terminals a post of Play with Docker wants.
func (p *post) readTerms() {
	s, ok := p.front["terms"]
	if !ok || s.text == "" {
		return
	}
	n, err := strconv.Atoi(s.text)
	if err != nil || n < 0 || n > maxTerms {
		p.warn(s.line, fmt.Sprintf("write a number from 0 to %d", maxTerms), "`terms` cannot be %s", quote(s.text))
		return
	}
	p.terms = n
}

var timeNeeded = regexp.MustCompile(`(?i)\btime\b\W{0,8}(?:approximately|about|approx\.?|ca\.?|around)?\s*(\d{1,3})(?:\s*(?:-|–|to)\s*(\d{1,3}))?\s*(min|hour)`)

// about fills in what the lesson says of itself.
func (p *post) about(l *labs.Lesson) {
	l.Title = cut(plainText(p.front["title"].text), maxTitle)
	for _, key := range []string{"description", "summary", "excerpt", "subtitle"} {
		if s := plainText(p.front[key].text); s != "" && s != ">" && s != "|" && l.Summary == "" {
			l.Summary = cut(s, maxSummary)
		}
	}
	for _, key := range []string{"level", "difficulty", "categories", "category", "tags"} {
		for _, level := range []string{"beginner", "intermediate", "advanced"} {
			if l.Level == "" && strings.Contains(strings.ToLower(p.front[key].text), level) {
				l.Level = level
			}
		}
	}
	for i, line := range p.out {
		if i > 60 || l.Minutes > 0 {
			break
		}
		if m := timeNeeded.FindStringSubmatch(line.text); m != nil {
			n := m[1]
			if m[2] != "" {
				n = m[2]
			}
			l.Minutes, _ = strconv.Atoi(n)
			if strings.EqualFold(m[3], "hour") {
				l.Minutes = min(1000, 60*l.Minutes)
			}
		}
	}
	if p.terms == 0 {
		l.Cannot = "This lab was written to be read, or followed on a machine of your own: it has no terminal."
	}
	l.Hosts = p.hosts
	if p.hosts > 1 {
		l.Hostname = "node1"
	}
}

// terminals opens as many as the post wants from the start.
func (p *post) terminals(l *labs.Lesson) {
	n := min(maxTerms, max(p.terms, p.used))
	if n < 2 {
		return
	}
	for i := 1; i <= n; i++ {
		l.Terminals = append(l.Terminals, labs.TerminalTab{Name: p.terminal(i)})
	}
	switch {
	case p.hosts > 1 && n > 2:
		p.warn(p.front["terms"].line, "", "the lab was written for %d machines; here are two, and terminals 3 and up are on the first", n)
	case p.hosts == 1:
		p.warn(p.front["terms"].line, "", "the terminals of the lab were machines of their own; here they are on one")
	}
}

// terminal names the terminal of a number.
func (p *post) terminal(n int) string {
	if n == 2 && p.hosts > 1 {
		return "1@2"
	}
	return strconv.Itoa(n)
}

// split makes parts of the text: an introduction, and a step for each heading
// of the level that divides it.
func (p *post) split(l *labs.Lesson) []markdown.DraftPart {
	p.takeTitle(l)
	level := p.level()
	var parts []markdown.DraftPart
	part := &markdown.DraftPart{ID: labs.IntroID, File: p.file}
	var text strings.Builder
	end := func() {
		part.Text = text.String()
		if part.ID != labs.IntroID || strings.TrimSpace(part.Text) != "" {
			parts = append(parts, *part)
		}
		text.Reset()
	}
	ids := map[string]bool{labs.IntroID: true, labs.FinishID: true}
	steps := 0
	for _, line := range p.out {
		if line.level > 0 && line.level <= level {
			if steps++; steps == maxSteps+1 {
				p.warn(line.num, "divide the file", "there are more than %d steps; what follows belongs to the last", maxSteps)
			}
			if steps <= maxSteps {
				end()
				part = &markdown.DraftPart{Title: cut(line.title, maxTitle), File: p.file}
				if line.id != "" && !ids[line.id] {
					part.ID = line.id
					ids[line.id] = true
				}
				continue
			}
		}
		text.WriteString(line.text)
		text.WriteByte('\n')
		part.Lines = append(part.Lines, line.num)
	}
	end()
	if len(parts) > 0 && parts[0].ID == labs.IntroID && (len(parts) == 1 || hasCommands(parts[0].Text)) {
		// Nothing runs in an introduction.
		parts[0].ID, parts[0].Title = "", "Introduction"
		if len(parts) == 1 {
			parts[0].Title = l.Title
		}
	}
	return parts
}

// takeTitle finds the lesson's title when the front matter has none, and takes
// a heading that only repeats it off the text.
func (p *post) takeTitle(l *labs.Lesson) {
	tops, first := 0, -1
	for i, line := range p.out {
		if line.level == 1 {
			tops++
		}
		if line.level > 0 && first < 0 {
			first = i
		}
	}
	before := first >= 0 && !slices.ContainsFunc(p.out[:first], func(o outLine) bool { return strings.TrimSpace(o.text) != "" && !picture.MatchString(o.text) })
	if first >= 0 && before {
		h := p.out[first]
		lowest := p.level()
		switch {
		case l.Title != "" && alike(l.Title, h.title),
			l.Title == "" && h.level == 1 && tops == 1,
			l.Title == "" && h.level < lowest:
			if l.Title == "" {
				l.Title = cut(h.title, maxTitle)
			}
			p.out[first] = outLine{num: h.num}
		}
	}
	if l.Title == "" {
		name := path.Base(p.file)
		l.Title = titleOf(dated.ReplaceAllString(strings.TrimSuffix(name, path.Ext(name)), ""))
	}
}

// picture is a line that only shows something: badges and the like.
var picture = regexp.MustCompile(`^\s*(\[?!\[[^\]]*\]\([^)]*\)\]?(\([^)]*\))?\s*|<img\b[^>]*>\s*|<!--.*-->\s*|</?(p|div|center|br|h1)\b[^>]*>\s*)+$`)

// level gives the level of headings that divides the text: the first that
// occurs more than once, or else that of the first heading.
func (p *post) level() int {
	var count [7]int
	first := 0
	for _, line := range p.out {
		if line.level > 0 {
			count[line.level]++
			if first == 0 {
				first = line.level
			}
		}
	}
	for level := 1; level <= 6; level++ {
		if count[level] > 1 {
			return level
		}
	}
	return first
}

var runnable = regexp.MustCompile("(?m)^[ \\t>]*(?:(?:[-*+]|\\d+[.)])[ \\t]+)*(?:```+|~~~+)(?:sh|console)\\b|^`[^`\\n]+`[ \\t]*$")

// hasCommands reports whether a translated text has commands.
func hasCommands(text string) bool { return runnable.MatchString(text) }

var (
	tags   = regexp.MustCompile(`(?i)<!--.*?-->|</?(?:a|b|i|u|em|strong|code|br|p|span|img|div|font|h[1-6]|sup|sub|kbd|small|center|pre|tt)\b[^<>]*>`)
	link   = regexp.MustCompile(`!?\[([^\]]*)\]\([^()]*\)`)
	signs  = regexp.MustCompile("[`*]+")
	ials   = regexp.MustCompile(`\{[:#][^{}]*\}`)
	liquid = regexp.MustCompile(`\{\{.*?\}\}|\{%.*?%\}`)
)

// plainText gives a title or a sentence without the marks of Markdown and HTML.
func plainText(s string) string {
	s = cutBytes(s, 4<<10)
	s = liquid.ReplaceAllString(tags.ReplaceAllString(s, ""), "")
	s = link.ReplaceAllString(ials.ReplaceAllString(s, ""), "$1")
	s = html.UnescapeString(signs.ReplaceAllString(s, ""))
	s = strings.Map(func(c rune) rune {
		switch {
		case c < ' ' || c >= 0x7f && c < 0xa0:
			return ' '
		case c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069:
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "\ufffd"))
	return strings.Join(strings.Fields(s), " ")
}

// cut shortens a text to so many characters, at the end of a word.
func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	short := string(r[:most-1])
	if at := strings.LastIndexByte(short, ' '); at > len(short)/2 {
		short = short[:at]
	}
	return strings.TrimRight(short, " ,;:.") + "…"
}

// titleOf makes a title of the name of a file.
func titleOf(name string) string {
	t := strings.Join(strings.FieldsFunc(name, func(c rune) bool { return c == '-' || c == '_' || c == ' ' }), " ")
	if t == "" {
		return "A lab"
	}
	first, n := utf8.DecodeRuneInString(t)
	return string(unicode.ToUpper(first)) + t[n:]
}

// alike reports whether two titles say the same.
func alike(a, b string) bool {
	same := func(s string) string { return strings.ToLower(strings.Trim(plainText(s), " .:!")) }
	return same(a) == same(b)
}

// quote puts a word of the author's between backticks, cut and without
// anything that could disturb a terminal.
func quote(s string) string {
	s = strings.ReplaceAll(plainControl(s), "`", "'")
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "…"
	}
	return "`" + s + "`"
}

func plainControl(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return '?'
		}
		return c
	}, s)
}
