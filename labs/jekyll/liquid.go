package jekyll

import (
	"path"
	"regexp"
	"strings"
)

// A liquidText takes Liquid, the language of Jekyll's templates, out of the
// text of a post. It goes through the post once, line by line.
type liquidText struct {
	post  *post
	first int
	raw   bool // between {% raw %} and {% endraw %}
	skip  bool // between {% comment %} and {% endcomment %}
}

var (
	tagName   = regexp.MustCompile(`^\{%-?\s*([a-z_]+)`)
	highlight = regexp.MustCompile(`^\s*\{%-?\s*highlight\s+([\w+#.-]+)[^%]*%\}\s*$`)
	endBlock  = regexp.MustCompile(`\{%-?\s*endhighlight\s*-?%\}`)
	literal   = regexp.MustCompile(`^\s*(?:"([^"]*)"|'([^']*)')\s*(?:\|[^}]*)?$`)
	ofSite    = regexp.MustCompile(`^\s*(?:site|page|layout|include|post|content|paginator)\b`)
)

// hidden reports whether a line belongs to a comment.
func (q *liquidText) hidden(line string, num int) bool {
	if !q.skip && !q.raw && strings.Contains(line, "{%") {
		if m := tagName.FindStringSubmatch(strings.TrimSpace(line)); m != nil && m[1] == "comment" && !strings.Contains(line, "endcomment") {
			q.skip = true
			return true
		}
	}
	if q.skip && strings.Contains(line, "endcomment") {
		q.skip = false
		return true
	}
	return q.skip
}

// A highlighted block is code between {% highlight %} and {% endhighlight %}.
type highlighted struct {
	language string
	lines    []string
	last     int
}

func (q *liquidText) highlight(lines []string, i, num int) (highlighted, bool) {
	m := highlight.FindStringSubmatch(lines[i])
	if m == nil || q.raw {
		return highlighted{}, false
	}
	h := highlighted{language: m[1], last: len(lines) - 1}
	for j := i + 1; j < len(lines); j++ {
		if endBlock.MatchString(lines[j]) {
			h.last = j
			return h, true
		}
		h.lines = append(h.lines, lines[j])
	}
	q.post.warn(num, "add a line `{% endhighlight %}`", "the block of code is not closed")
	return h, true
}

// line takes Liquid out of a line of text, but for code in it.
func (q *liquidText) line(s string, num int) string {
	if !strings.Contains(s, "{%") && !strings.Contains(s, "{{") {
		return s
	}
	if q.raw || tagName.MatchString(strings.TrimSpace(s)) {
		return q.replace(s, num, false)
	}
	return outsideCode(s, func(text string) string { return q.replace(text, num, false) }, func(code string) string { return q.replace(code, num, true) })
}

// code takes Liquid out of a line of code: other templates stay.
func (q *liquidText) code(s string, num int) string {
	if !strings.Contains(s, "{%") && !strings.Contains(s, "{{") {
		return s
	}
	return q.replace(s, num, true)
}

func (q *liquidText) replace(s string, num int, code bool) string {
	var b strings.Builder
	// Behind the last end of its kind nothing begins.
	tagEnd, outputEnd := strings.LastIndex(s, "%}"), strings.LastIndex(s, "}}")
	whole := len(s)
	for s != "" {
		at := strings.Index(s, "{")
		if at < 0 || at+1 >= len(s) {
			break
		}
		b.WriteString(s[:at])
		s = s[at:]
		here := whole - len(s)
		switch {
		case strings.HasPrefix(s, "{%") && here+2 <= tagEnd:
			end := 2 + strings.Index(s[2:], "%}")
			b.WriteString(q.tag(s[:end+2], num, code))
			s = s[end+2:]
		case strings.HasPrefix(s, "{{") && !q.raw && here+2 <= outputEnd:
			end := 2 + strings.Index(s[2:], "}}")
			b.WriteString(q.output(s[:end+2], num, code))
			s = s[end+2:]
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return b.String() + s
}

// tag gives what stands for {% … %}.
func (q *liquidText) tag(s string, num int, code bool) string {
	name := ""
	if m := tagName.FindStringSubmatch(s); m != nil {
		name = m[1]
	}
	switch {
	case name == "endraw":
		q.raw = false
		return ""
	case q.raw:
		return s
	case name == "raw":
		q.raw = true
		return ""
	case name == "" || code && !q.post.jekyll: // some other template
		return s
	case name == "comment" || name == "endcomment":
		return ""
	}
	q.post.once("tag "+name, num, "write out what it stands for", "%s is Liquid, and is left out", quote(s))
	return ""
}

// output gives what stands for {{ … }}.
func (q *liquidText) output(s string, num int, code bool) string {
	inside := strings.Trim(s[2:len(s)-2], "-")
	if m := literal.FindStringSubmatch(inside); m != nil && (q.post.jekyll || !code) {
		return m[1] + m[2]
	}
	switch name := strings.TrimSpace(inside); name {
	case "site.baseurl", "site.url", "site.github.url", "base_path":
		return ""
	case "page.title":
		if t := q.post.front["title"].text; t != "" {
			return t
		}
	case "page.author", "page.date", "page.description":
		return q.post.front[strings.TrimPrefix(name, "page.")].text
	}
	if !ofSite.MatchString(inside) && (code || !q.post.jekyll) {
		return s
	}
	q.post.once("output "+inside, num, "write out what it stands for", "%s is Liquid, and is left out", quote(s))
	return ""
}

// outsideCode calls text for the parts of a line that are text, and code for
// those that are code between backticks.
func outsideCode(s string, text, code func(string) string) string {
	var b strings.Builder
	lonely := map[int]bool{} // numbers of backticks that close nothing further on
	for s != "" {
		at := strings.IndexByte(s, '`')
		if at < 0 {
			break
		}
		n := len(s[at:]) - len(strings.TrimLeft(s[at:], "`"))
		ticks := s[at : at+n]
		end := -1
		for from := at + n; from < len(s) && !lonely[n]; {
			i := strings.Index(s[from:], ticks)
			if i < 0 {
				break
			}
			run := len(s[from+i:]) - len(strings.TrimLeft(s[from+i:], "`"))
			if run == n {
				end = from + i
				break
			}
			from += i + run
		}
		if end < 0 {
			lonely[n] = true
			b.WriteString(text(s[:at+n]))
			s = s[at+n:]
			continue
		}
		b.WriteString(text(s[:at]))
		b.WriteString(ticks + code(s[at+n:end]) + ticks)
		s = s[end+n:]
	}
	if s != "" {
		b.WriteString(text(s))
	}
	return b.String()
}

var (
	portLink   = regexp.MustCompile(`\[([^\]\n]*)\]\(([^()\s]*)\)((?:\{:[^{}\n]*\})+)`)
	dataPort   = regexp.MustCompile(`data-port\s*=\s*["']?(\d{1,5})`)
	dataTerm   = regexp.MustCompile(`data-term\s*=\s*["']?\.?term([0-9])`)
	inlineIAL  = regexp.MustCompile(`\{:[^{}\n]*\}`)
	anchorLink = regexp.MustCompile(`\]\(#([^()\s]+)\)`)
	rootImage  = regexp.MustCompile(`(!\[[^\]\n]*\]\(|<img\b[^>]*?\bsrc\s*=\s*["'])/([^/\s)"'][^\s)"']*)`)
)

// inline translates what stands within a line of text.
func (p *post) inline(s string, num int) string {
	if !strings.ContainsAny(s, "{(<") {
		return s
	}
	return outsideCode(s, func(t string) string {
		if strings.Contains(t, "{:") {
			t = portLink.ReplaceAllStringFunc(t, func(whole string) string {
				m := portLink.FindStringSubmatch(whole)
				port := dataPort.FindStringSubmatch(m[3])
				if port == nil {
					return "[" + m[1] + "](" + m[2] + ")"
				}
				return "[" + m[1] + "](preview:" + p.hostOf(m[3]) + port[1] + pathOf(m[2]) + ")"
			})
			t = inlineIAL.ReplaceAllString(t, "")
		}
		t = anchorLink.ReplaceAllStringFunc(t, func(whole string) string {
			if id := p.anchors[whole[3:len(whole)-1]]; id != "" {
				return "](#" + id + ")"
			}
			return whole
		})
		return rootImage.ReplaceAllString(t, "${1}"+p.toRoot()+"${2}")
	}, func(code string) string { return code })
}

// hostOf gives the sandbox that the attributes of a link name, "2:" or "".
func (p *post) hostOf(attributes string) string {
	if m := dataTerm.FindStringSubmatch(attributes); m != nil && m[1] == "2" && p.hosts > 1 {
		return "2:"
	}
	return ""
}

// pathOf gives the path of a link to a port.
func pathOf(href string) string {
	if !strings.HasPrefix(href, "/") || href == "/" {
		return ""
	}
	return href
}

// toRoot leads from the folder of the post to that of the site.
func (p *post) toRoot() string {
	dir := path.Dir(p.file)
	if before, _, ok := strings.Cut("/"+dir+"/", "/_posts/"); ok {
		dir = strings.TrimPrefix(strings.TrimPrefix("/"+dir, before), "/")
	}
	if dir == "." || dir == "" {
		return ""
	}
	return strings.Repeat("../", strings.Count(dir, "/")+1)
}
