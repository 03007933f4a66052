package jekyll

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	fenceLine = regexp.MustCompile("^((?:[ \\t]|>|(?:[-*+]|\\d{1,9}[.)])[ \\t])*)(`{3,}|~{3,})[ \\t]*(.*?)[ \\t]*$")
	atx       = regexp.MustCompile(`^ {0,3}(#{1,6})([ \t]*)(.*?)[ \t]*#*[ \t]*$`)
	underline = regexp.MustCompile(`^ {0,3}(=+|-{2,})[ \t]*$`)
	listItem  = regexp.MustCompile(`^\s*(?:[-*+]|\d{1,9}[.)])(?:\s|$)`)
	blockIAL  = regexp.MustCompile(`^\s*\{::?/?[^{}]*\}\s*$`)
	quizIAL   = regexp.MustCompile(`^\s*\{:[^{}]*\.quiz\b[^{}]*\}\s*$`)
	tocIAL    = regexp.MustCompile(`^\s*\{:\s*[^{}]*\btoc\b[^{}]*\}\s*$`)
	choice    = regexp.MustCompile(`^\s*[-*+]\s+([(\[])([ xX]?)([)\]])\s+(.*\S)\s*$`)
	anchorTag = regexp.MustCompile(`(?i)<a\s+(?:name|id)\s*=\s*["']?([^"'\s>]+)["']?\s*/?>`)
	headingID = regexp.MustCompile(`\{:?\s*#([A-Za-z][\w-]*)[^{}]*\}\s*$`)
	bareTag   = regexp.MustCompile(`(?i)^\s*(<a\s+(?:name|id)\s*=\s*["']?[^"'\s>]+["']?\s*/?>\s*(</a>)?\s*)+$`)
)

// blocks translates the lines of a post.
func (p *post) blocks(lines []string, first int) {
	lq := &liquidText{post: p, first: first}
	anchor, inList, blank := "", false, true
	for i := 0; i < len(lines); i++ {
		num := first + i
		line := lines[i]
		if lq.hidden(line, num) {
			continue
		}
		if m := fenceLine.FindStringSubmatch(line); m != nil && !(m[2][0] == '`' && strings.Contains(m[3], "`")) {
			i = p.fence(lq, lines, i, first, m, inList)
			blank = false
			continue
		}
		if code, ok := lq.highlight(lines, i, num); ok {
			p.code(lq, code.lines, num, "", "```", code.language, 0)
			i = code.last
			blank = false
			continue
		}
		if line = lq.line(line, num); strings.TrimSpace(line) == "" && strings.TrimSpace(lines[i]) != "" {
			continue // it was nothing but Liquid
		}
		switch {
		case strings.TrimSpace(line) == "":
			blank = true
			p.add(line, num)
			continue
		case quizIAL.MatchString(line):
			i = p.quiz(lines, i, first)
			continue
		case tocIAL.MatchString(line):
			p.dropListItem()
			continue
		case blockIAL.MatchString(line):
			if m := headingID.FindStringSubmatch(line); m != nil {
				p.nameLast(m[1])
			}
			continue
		case bareTag.MatchString(line):
			anchor = anchorTag.FindStringSubmatch(line)[1]
			continue
		}
		indented := strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")
		switch {
		case listItem.MatchString(line):
			inList = true
		case blank && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t"):
			inList = false
		}
		if indented && blank && !inList {
			i = p.indented(lq, lines, i, first)
			blank = false
			continue
		}
		if m := atx.FindStringSubmatch(line); m != nil && m[3] != "" && (m[2] != "" || p.jekyll || len(m[1]) > 1) && !strings.HasPrefix(m[3], "!") {
			p.heading(len(m[1]), m[3], anchor, num)
			anchor, inList, blank = "", false, true
			continue
		}
		if blank && i+1 < len(lines) && !inList && !indented && !strings.HasPrefix(strings.TrimSpace(line), ">") && !strings.HasPrefix(line, "|") {
			if m := underline.FindStringSubmatch(lines[i+1]); m != nil {
				level := 2
				if m[1][0] == '=' {
					level = 1
				}
				p.heading(level, line, anchor, num)
				p.add("", num+1)
				anchor, blank = "", true
				i++
				continue
			}
		}
		blank = false
		p.add(p.inline(line, num), num)
	}
}

func (p *post) add(text string, num int) {
	p.out = append(p.out, outLine{text: text, num: num})
}

// heading adds a heading. An anchor in it, or before it, or an id of kramdown's
// becomes its id.
func (p *post) heading(level int, text, anchor string, num int) {
	id := ""
	if m := anchorTag.FindStringSubmatch(text); m != nil {
		anchor = m[1]
	}
	if m := headingID.FindStringSubmatch(text); m != nil {
		anchor = m[1]
	}
	if anchor != "" {
		id = p.anchors[anchor]
	}
	title := plainText(text)
	if title == "" {
		return
	}
	shown := strings.TrimSpace(ials.ReplaceAllString(tags.ReplaceAllString(text, ""), ""))
	line := strings.Repeat("#", level) + " " + shown
	if id != "" {
		line += " {#" + id + "}"
	}
	p.out = append(p.out, outLine{text: line, num: num, level: level, title: title, id: id})
}

// nameLast gives an id to the heading that a line of attributes follows.
func (p *post) nameLast(name string) {
	if n := len(p.out); n > 0 && p.out[n-1].level > 0 && p.out[n-1].id == "" {
		h := &p.out[n-1]
		if h.id = p.anchors[name]; h.id != "" {
			h.text += " {#" + h.id + "}"
		}
	}
}

// findAnchors collects the names that links in the text may lead to.
func (p *post) findAnchors(lines []string) {
	for _, line := range lines {
		if len(p.anchors) > 2000 {
			return
		}
		for _, find := range []*regexp.Regexp{anchorTag, headingID} {
			for _, m := range find.FindAllStringSubmatch(line, 10) {
				id := slug(m[1])
				if id == "" || id[0] >= '0' && id[0] <= '9' {
					id = strings.Trim("part-"+id, "-")
				}
				if _, known := p.anchors[m[1]]; !known {
					p.anchors[m[1]] = id
				}
			}
		}
	}
}

// dropListItem takes the list item back that {:toc} is about.
func (p *post) dropListItem() {
	for n := len(p.out) - 1; n >= 0 && n >= len(p.out)-3; n-- {
		if listItem.MatchString(p.out[n].text) {
			p.out[n].text = ""
			return
		}
		if strings.TrimSpace(p.out[n].text) != "" {
			return
		}
	}
}

// fence translates the block of code that begins in line i, and gives the line
// that it ends in. One that is never closed goes on to the end.
func (p *post) fence(lq *liquidText, lines []string, i, first int, m []string, inList bool) int {
	prefix, fence, info := m[1], m[2], m[3]
	last := len(lines)
	for j := i + 1; j < len(lines); j++ {
		t := strings.TrimLeft(lines[j], " \t>")
		if rest := strings.TrimLeft(t, fence[:1]); len(t)-len(rest) >= len(fence) && strings.TrimSpace(rest) == "" {
			last = j
			break
		}
	}
	if last == len(lines) {
		p.warn(first+i, "add a line "+quote(fence), "the block of code is not closed")
		fence = strings.Repeat(fence[:1], 3)
		last = len(lines)
	}
	code := append([]string(nil), lines[i+1:last]...)
	if !inList && strings.TrimLeft(prefix, " \t") == "" && len(prefix) > 3 {
		prefix = "" // it would be read as an indented block, with its fences
	}
	p.code(lq, code, first+i, prefix, fence, info, columns(m[1]))
	return min(last, len(lines)-1)
}

// ours are the words that mean something else in a fence of ours.
var ours = map[string]bool{"check": true, "quiz": true, "hint": true, "solution": true, "setup": true, "start": true, "file": true}

var term = regexp.MustCompile(`^\{?\s*\.?term([0-9])\b`)

// code writes a block of code that began in the line num with fences of ours.
// indent is how many columns its own fence was indented by.
func (p *post) code(lq *liquidText, code []string, num int, prefix, fence, info string, indent int) {
	for i := range code {
		code[i] = lq.code(code[i], num+1+i)
	}
	info = strings.TrimSpace(info)
	word := strings.ToLower(strings.TrimLeft(info, "{. "))
	if at := strings.IndexAny(word, " \t{},:;="); at >= 0 {
		word = word[:at]
	}
	m := term.FindStringSubmatch(info)
	stands, closing := columns(prefix), strings.Repeat(" ", columns(prefix))
	if strings.Contains(prefix, ">") {
		closing = quotePrefix(prefix)
	} else if m != nil || isShell(word) {
		code = shift(code, -1, stands)
	} else {
		code = shift(code, indent, stands)
	}
	prompts := false
	for _, line := range code {
		prompts = prompts || strings.HasPrefix(strings.TrimPrefix(line, closing), "$ ")
	}
	switch {
	case m != nil:
		n := max(1, int(m[1][0]-'0'))
		if n > maxTerms {
			p.warn(num, "", "there are at most %d terminals", maxTerms)
			n = maxTerms
		}
		p.used = max(p.used, n)
		word = "sh"
		switch name := p.terminal(n); {
		case prompts:
			word = "console"
		case name == "1@2":
			word = "sh {host=2}"
		case n > 1:
			word = "sh {terminal=" + strconv.Itoa(n) + "}"
		}
	case prompts && isShell(word):
		word = "console"
	case word == "sh" || word == "bash" || word == "shell" || word == "zsh":
		word = "sh"
	case word == "":
	case isShell(word) || ours[word]: // what a shell showed, or a word that has another meaning here
		word = "text"
	case !plainWord.MatchString(word):
		word = ""
	}
	p.add(prefix+fence+word, num)
	for i, line := range code {
		if word == "console" && stands == 0 {
			line = noRoot(line)
		}
		p.add(line, num+1+i)
	}
	p.add(closing+fence, num+1+len(code))
}

var plainWord = regexp.MustCompile(`^[a-z0-9+#_.-]{1,30}$`)

// isShell reports whether a block of this language may hold what a shell shows.
func isShell(word string) bool {
	switch word {
	case "", "sh", "bash", "shell", "zsh", "console", "shell-session", "shellsession", "sh-session", "bash-session", "terminal", "session", "text", "txt", "plaintext", "plain", "output", "none", "cmd":
		return true
	}
	return false
}

// columns counts what the lines of a block are indented by.
func columns(prefix string) int {
	n := 0
	for _, c := range prefix {
		if c == '\t' {
			n += 4 - n%4
		} else {
			n++
		}
	}
	return n
}

// quotePrefix gives the prefix for further lines of a block in a quote.
func quotePrefix(prefix string) string {
	return strings.Map(func(c rune) rune {
		if c == '>' || c == '\t' {
			return c
		}
		return ' '
	}, prefix)
}

// shift moves code that is indented by so many columns to others; below 0 takes
// off all that its lines have in common.
func shift(code []string, from, to int) []string {
	if from < 0 {
		for _, line := range code {
			if rest := strings.TrimLeft(line, " \t"); rest != "" {
				if n := columns(line[:len(line)-len(rest)]); from < 0 || n < from {
					from = n
				}
			}
		}
	}
	out := make([]string, len(code))
	for i, line := range code {
		if strings.TrimSpace(line) != "" {
			out[i] = strings.Repeat(" ", to) + cutColumns(line, from)
		}
	}
	return out
}

// cutColumns takes so many columns of white space off a line, or what it has.
func cutColumns(line string, n int) string {
	at, i := 0, 0
	for ; i < len(line) && at < n; i++ {
		switch line[i] {
		case '\t':
			at += 4 - at%4
		case ' ':
			at++
		default:
			return line[i:]
		}
	}
	return strings.Repeat(" ", max(0, at-n)) + line[i:]
}

// indented translates a block that is indented instead of fenced: one with
// prompts is a transcript.
func (p *post) indented(lq *liquidText, lines []string, i, first int) int {
	last := i
	for j := i; j < len(lines); j++ {
		if strings.TrimSpace(lines[j]) == "" {
			continue
		}
		if !strings.HasPrefix(lines[j], "    ") && !strings.HasPrefix(lines[j], "\t") {
			break
		}
		last = j
	}
	code := append([]string(nil), lines[i:last+1]...)
	for n := range code {
		code[n] = cutColumns(code[n], 4)
	}
	prompts := false
	for _, line := range code {
		prompts = prompts || strings.HasPrefix(line, "$ ")
	}
	if !prompts {
		for n := i; n <= last; n++ {
			p.add(lq.code(lines[n], first+n), first+n)
		}
		return last
	}
	p.add(fenceFor(code)+"console", first+i)
	for n, line := range code {
		p.add(noRoot(lq.code(line, first+i+n)), first+i+n)
	}
	p.add(fenceFor(code), first+last)
	return last
}

// fenceFor gives a fence that no line of the code closes.
func fenceFor(code []string) string {
	fence := "```"
	for _, line := range code {
		for strings.HasPrefix(strings.TrimSpace(line), fence) {
			fence += "`"
		}
	}
	return fence
}

// quiz translates the question and the choices below {:.quiz} in line i.
func (p *post) quiz(lines []string, i, first int) int {
	var question, choices []string
	const most = 30 // lines of a question
	from := i + 1
	for from < len(lines) && from < i+3 && strings.TrimSpace(lines[from]) == "" {
		from++
	}
	j := from
	for ; j < len(lines); j++ {
		line := lines[j]
		var m []string
		if strings.ContainsAny(line, "([") {
			m = choice.FindStringSubmatch(line)
		}
		if m != nil {
			mark := m[2]
			if mark == "" {
				mark = " "
			}
			choices = append(choices, fmt.Sprintf("%s%s%s %s", m[1], strings.ToLower(mark), m[3], m[4]))
			continue
		}
		if len(choices) > 0 && strings.HasPrefix(line, "  ") && strings.TrimSpace(line) != "" {
			choices[len(choices)-1] += " " + strings.TrimSpace(line)
			continue
		}
		if strings.TrimSpace(line) == "" && len(choices) == 0 && len(question) > 0 && j+1 < len(lines) && choice.MatchString(lines[j+1]) {
			continue
		}
		if strings.TrimSpace(line) == "" || len(choices) > 0 || len(question) >= most {
			break
		}
		question = append(question, strings.TrimSpace(line))
	}
	if len(choices) == 0 {
		p.warn(first+i, "write them as `- (x) right` and `- ( ) wrong`", "the quiz has no choices")
		return i
	}
	p.add("", first+i)
	p.add("```quiz", first+i)
	for n, q := range question {
		p.add(q, first+from+n)
	}
	for n, c := range choices {
		p.add(c, first+min(j-1, from+len(question)+n))
	}
	p.add("```", first+j-1)
	return j - 1
}
