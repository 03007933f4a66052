package katacoda

import (
	"html"
	"strings"
)

// elements are those of HTML. Everything else between < and > is text that an
// author did not escape, such as <name>.
var elements = setOf(`
	a abbr acronym address applet area article aside audio b base basefont bdi bdo bgsound big blink blockquote body br
	button canvas caption center cite code col colgroup command content data datalist dd del details dfn dialog dir div
	dl dt element em embed fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup
	hr html i iframe image img input ins isindex kbd keygen label legend li link listing main map mark marquee menu
	menuitem meta meter multicol nav nobr noembed noframes noscript object ol optgroup option output p param
	picture plaintext portal pre progress q rb rp rt rtc ruby s samp script search section select shadow slot small source
	spacer span strike strong style sub summary sup svg table tbody td template textarea tfoot th thead time title tr
	track tt u ul var video wbr xmp circle g line path polygon polyline rect text
`)

// doubtful are elements that authors mean as placeholders when they are not
// closed and have no attributes, and those that no text uses.
var doubtful = setOf(`
	address applet area article audio base basefont bgsound body button canvas caption code col command content data datalist dialog dir
	element embed fieldset font footer form frame head header html iframe image input isindex keygen label legend link
	listing main map mark menu menuitem meta meter nav noembed object option output param picture plaintext portal progress q
	s samp script search section select shadow slot small source spacer style summary svg table template text textarea time title track tt u
	var video xmp circle g line path polygon polyline rect
`)

// blockElements begin a block of HTML that goes on to the next empty line.
var blockElements = setOf(`
	address article aside base basefont blockquote body caption center col colgroup dd details dialog dir div dl dt
	fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html iframe legend li link
	main menu menuitem nav noframes ol optgroup option p param search section summary table tbody td tfoot th thead title
	tr track ul
`)

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// tagName gives the name, in small letters, that s begins with behind a < or
// </.
func tagName(s string) string {
	n := 0
	for n < len(s) && n < 40 && (s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z' || n > 0 && (s[n] >= '0' && s[n] <= '9' || s[n] == '-')) {
		n++
	}
	if n < len(s) && strings.IndexByte(" \t\n/>", s[n]) < 0 {
		return ""
	}
	return strings.ToLower(s[:n])
}

// maxTag bounds the bytes of one tag.
const maxTag = 4096

// A tag is one tag of HTML as it stands in the text.
type tag struct {
	name   string
	closes bool
	attrs  []tagAttr
	length int // bytes, with < and >
}

// A tagAttr is an attribute and where its value stands in the tag.
type tagAttr struct {
	name     string
	value    string // as a browser reads it
	valued   bool
	from, to int // of the value with its quotes
}

// parseTag reads the tag that s begins with; ok is false when there is no whole
// one.
func parseTag(s string) (g tag, ok bool) {
	s = s[:min(len(s), maxTag)]
	if len(s) < 3 || s[0] != '<' {
		return tag{}, false
	}
	i := 1
	if s[i] == '/' {
		g.closes = true
		i++
	}
	g.name = tagName(s[i:])
	if g.name == "" {
		return tag{}, false
	}
	i += len(g.name)
	for {
		blank := i
		for i < len(s) && strings.IndexByte(" \t\n", s[i]) >= 0 {
			i++
		}
		if i == len(s) {
			return tag{}, false
		}
		if s[i] == '>' {
			g.length = i + 1
			return g, true
		}
		if s[i] == '/' && i+1 < len(s) && s[i+1] == '>' {
			g.length = i + 2
			return g, true
		}
		if g.closes || i == blank || len(g.attrs) == 50 {
			return tag{}, false
		}
		from := i
		for i < len(s) && strings.IndexByte(" \t\n\"'<>/=`", s[i]) < 0 {
			i++
		}
		if i == from {
			return tag{}, false
		}
		a := tagAttr{name: strings.ToLower(s[from:i])}
		j := i
		for j < len(s) && strings.IndexByte(" \t\n", s[j]) >= 0 {
			j++
		}
		if j < len(s) && s[j] == '=' {
			j++
			for j < len(s) && strings.IndexByte(" \t\n", s[j]) >= 0 {
				j++
			}
			if j == len(s) {
				return tag{}, false
			}
			a.valued, a.from = true, j
			if s[j] == '"' || s[j] == '\'' {
				end := strings.IndexByte(s[j+1:], s[j])
				if end < 0 {
					return tag{}, false
				}
				a.value, a.to = html.UnescapeString(s[j+1:j+1+end]), j+end+2
			} else {
				k := j
				for k < len(s) && strings.IndexByte(" \t\n\"'=<>`", s[k]) < 0 {
					k++
				}
				if k == j {
					return tag{}, false
				}
				a.value, a.to = html.UnescapeString(s[j:k]), k
			}
			i = a.to
		}
		g.attrs = append(g.attrs, a)
	}
}

func (g tag) attr(name string) (string, bool) {
	for _, a := range g.attrs {
		if a.name == name {
			return a.value, true
		}
	}
	return "", false
}

// real reports whether a tag is meant as HTML.
func (t *translation) real(g tag) bool {
	if !elements[g.name] {
		return false
	}
	if g.closes || !doubtful[g.name] {
		return true
	}
	if len(g.attrs) == 0 {
		return t.closed[g.name] > 0
	}
	for _, a := range g.attrs {
		if a.valued {
			return true
		}
	}
	return t.closed[g.name] > 0
}

// swallows reports the tags that make what follows no text of the page, up to
// their end.
func swallows(g tag) bool {
	return !g.closes && (g.name == "pre" || g.name == "script" || g.name == "style" || g.name == "textarea" || g.name == "title" || g.name == "xmp" || g.name == "plaintext")
}

// tagText gives a tag as it is written into our Markdown: HTML with addresses
// of ours, or text.
func (t *translation) tagText(s string, g tag, num int) string {
	raw := s[:g.length]
	if !t.real(g) {
		return "&lt;" + strings.TrimPrefix(raw, "<")
	}
	if g.name == "iframe" {
		if src, _ := g.attr("src"); strings.HasPrefix(src, "https://") || strings.HasPrefix(src, "http://") || mayBeTraffic(src) {
			src = html.EscapeString(t.address(src, false, num))
			return `<a href="` + src + `">` + html.EscapeString(linkText(src)) + `</a>`
		}
		return ""
	}
	var b strings.Builder
	done := 0
	for _, a := range g.attrs {
		if !a.valued || a.name != "src" && a.name != "href" {
			continue
		}
		to := t.address(a.value, a.name == "src" && g.name == "img", num)
		if to == a.value {
			continue
		}
		b.WriteString(raw[done:a.from] + `"` + html.EscapeString(to) + `"`)
		done = a.to
	}
	return b.String() + raw[done:]
}

// linkText gives the text of a link that has none: without what would make a
// link of it once more.
func linkText(to string) string {
	_, rest, ok := strings.Cut(to, "://")
	if !ok {
		return to
	}
	return strings.TrimPrefix(rest, "www.")
}

// beginsHTML reports whether a line begins a block of HTML.
func (t *translation) beginsHTML(r string, paragraph bool) bool {
	if r[0] != '<' {
		return false
	}
	name := tagName(strings.TrimPrefix(r[1:], "/"))
	switch {
	case strings.HasPrefix(r, "<!--"):
		return t.closesComment(r)
	case name == "":
		return false
	}
	g, whole := parseTag(r)
	if whole && !t.real(g) || !elements[name] {
		return false
	}
	if blockElements[name] {
		return whole || !doubtful[name] || t.closed[name] > 0
	}
	switch name {
	case "script", "style", "textarea":
		return whole && t.closed[name] > t.at
	}
	return !paragraph && whole && isBlank(r[g.length:])
}

// closesComment reports whether the comment that begins in the line t.at ends.
func (t *translation) closesComment(r string) bool {
	return t.comment > t.at+1 || strings.Contains(r[4:], "-->")
}

// htmlLine writes a line of a block of HTML.
func (t *translation) htmlLine(rest string) {
	num := t.at + 1
	r := strings.TrimLeft(rest, " \t")
	if strings.HasPrefix(r, "<!--") {
		t.dropComment(r)
		return
	}
	name := ""
	if r[0] == '<' {
		name = tagName(r[1:])
	}
	switch name {
	case "pre":
		if t.closed["pre"] > t.at && t.at >= t.preless {
			t.html = false
			t.emit("", num)
			if t.pre(r) {
				return
			}
		}
		if g, ok := parseTag(r); ok {
			t.warnAt(num, "end it with `</pre>`", "`<pre>` does not end, and is left out")
			rest = r[g.length:]
			if r = strings.TrimLeft(rest, " \t"); r == "" {
				t.html = false
				t.at++
				return
			}
		}
	case "script", "style", "textarea":
		if t.closed[name] > t.at && t.skip(r, name) {
			return
		}
	}
	t.at++
	if needsMarkdown(r) {
		t.unwrap(r, num)
		return
	}
	t.emit(t.tags(rest, num), num)
	if g, ok := parseTag(r); ok && isBlank(r[g.length:]) && (g.name == "br" || g.name == "img" || g.name == "hr" || g.name == "wbr") {
		// What follows is text again, as it was meant to be.
		t.html = false
		if t.at < len(t.src) {
			t.emit("", num)
		}
	}
}

// needsMarkdown reports whether a line of HTML holds what only Markdown shows.
func needsMarkdown(r string) bool {
	return holdsMark(r) || strings.Contains(r, "]({{TRAFFIC_") || strings.Contains(r, "](https://[[HOST")
}

// unwrap writes a line of HTML so that what stands between its tags is read as
// Markdown.
func (t *translation) unwrap(r string, num int) {
	lead := 0
	for {
		at := lead + len(r[lead:]) - len(strings.TrimLeft(r[lead:], " \t"))
		g, ok := parseTag(r[at:])
		if !ok || !t.real(g) || g.name == "kbd" || g.name == "b" || g.name == "a" || g.name == "code" {
			break
		}
		lead = at + g.length
	}
	tail := strings.TrimRight(r, " \t")
	from := len(tail)
	for from > lead {
		at := strings.LastIndexByte(tail[:from], '<')
		if at < lead {
			break
		}
		g, ok := parseTag(tail[at:])
		if !ok || at+g.length != from || !t.real(g) || !g.closes && g.name != "br" || g.name == "kbd" || g.name == "b" || g.name == "a" || g.name == "code" {
			break
		}
		from = at
	}
	if lead > 0 {
		t.emit(t.tags(r[:lead], num), num)
	}
	t.emit("", num)
	t.ticks, t.table = 0, false
	t.paragraph([]textLine{{startOfText(strings.TrimSpace(tail[lead:from])), num}})
	t.emit("", num)
	if from < len(tail) {
		t.emit(t.tags(tail[from:], num), num)
	}
}

// tags writes the text of a line in a block of HTML.
func (t *translation) tags(s string, num int) string {
	var b strings.Builder
	done := 0
	text := func(to int) {
		b.WriteString(t.inHTML(s[done:to]))
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '<' {
			continue
		}
		name := tagName(strings.TrimPrefix(s[i+1:], "/"))
		g, ok := parseTag(s[i:])
		switch {
		case ok:
			text(i)
			b.WriteString(t.tagText(s[i:], g, num))
			i += g.length - 1
			done = i + 1
		case !elements[name] && !strings.HasPrefix(s[i:], "<!--"):
			text(i)
			b.WriteString("&lt;")
			done = i + 1
		}
	}
	text(len(s))
	return b.String()
}

// inHTML puts addresses in the place of the placeholders of text in HTML.
func (t *translation) inHTML(s string) string {
	if !mayBeTraffic(s) {
		return s
	}
	return t.replaceTraffic(s, func(a traffic) string {
		of := t.preview(a)
		if of == "" || a.named && a.scheme == "" {
			return t.local(a, a.scheme) + html.EscapeString(a.path)
		}
		path := html.EscapeString(a.path)
		return `<a href="preview:` + of + path + `">{{preview ` + of + `}}` + path + `</a>`
	})
}

// dropComment drops a comment.
func (t *translation) dropComment(r string) {
	line := r[4:]
	for first := t.at; t.at < len(t.src); t.at++ {
		if t.at > first {
			line, _ = t.content(t.src[t.at])
		}
		if _, rest, ok := strings.Cut(line, "-->"); ok {
			t.html = false
			t.again(rest)
			return
		}
	}
}

// again reads what is left of the line t.at, if there is anything.
func (t *translation) again(rest string) {
	if t.cutLine != t.at {
		t.cutLine, t.cuts = t.at, 0
	}
	switch t.cuts++; {
	case isBlank(rest):
		t.at++
	case t.cuts > maxCuts:
		t.warnAt(t.at+1, "divide it", "the line holds too much HTML; the rest is left out")
		t.at++
	default:
		t.src[t.at] = t.inside() + strings.TrimLeft(rest, " \t")
	}
}

// skip drops an element whose content is no text of the page. It reports
// whether it ends.
func (t *translation) skip(r, name string) bool {
	num, line := t.at+1, r
	for i := t.at; i < t.closed[name]; i++ {
		if i >= num {
			line, _ = t.content(t.src[i])
		}
		at := strings.Index(strings.ToLower(line), "</"+name)
		if at < 0 {
			continue
		}
		t.warnAt(num, "", "`<%s>` is left out", name)
		_, rest, _ := strings.Cut(line[at:], ">")
		t.at, t.html = i, false
		t.again(rest)
		return true
	}
	return false
}
