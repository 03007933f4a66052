package katacoda

import (
	"html"
	"path"
	"strings"
)

// beginOfPre gives where <pre begins in a line, outside of code, or -1. ticks
// is how many backticks code is open with at its beginning.
func beginOfPre(s string, ticks int) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && ticks == 0:
			i++
		case s[i] == '`':
			n := run(s[i:], '`')
			if ticks == 0 {
				ticks = n
			} else if ticks == n {
				ticks = 0
			}
			i += n - 1
		case s[i] == '<' && ticks == 0 && tagName(s[i+1:]) == "pre":
			return i
		}
	}
	return -1
}

// maxPreTag bounds the lines that the tag <pre …> may take.
const maxPreTag = 5

// pre reads the <pre> element that begins in the line t.at. It reports whether
// it is a whole one.
func (t *translation) pre(r string) bool {
	first := t.at + 1
	from := t.at
	g, ok := parseTag(r)
	for i := 1; !ok && i <= maxPreTag && from+1 < len(t.src); i++ {
		from++
		more, gone := t.content(t.src[from])
		if gone || isBlank(more) {
			return false
		}
		r += "\n" + more
		g, ok = parseTag(r)
	}
	if !ok {
		return false
	}
	var b block
	rest := r[g.length:]
	line, at := rest, from
	for {
		if end := endOfPre(line); end >= 0 {
			_, after, _ := strings.Cut(line[end:], ">")
			rest = after
			b.add(line[:end], at+1)
			break
		}
		b.add(line, at+1)
		var gone bool
		if at++; at < len(t.src) {
			line, gone = t.content(t.src[at])
		}
		if gone || at == len(t.src) {
			t.preless = at
			return false
		}
	}
	t.at = at
	var m mark
	if good, length, word, is := parseMark(strings.TrimLeft(rest, " \t")); is == goodMark {
		t.warnOfMark(good, word, at+1)
		m, rest = good, strings.TrimLeft(rest, " \t")[length:]
	}
	// HTML drops a newline behind <pre>; one before </pre> ends the last line.
	if len(b.lines) > 1 && isBlank(b.lines[0]) {
		b.lines, b.nums = b.lines[1:], b.nums[1:]
	}
	if n := len(b.lines); n > 1 && isBlank(b.lines[n-1]) {
		b.lines, b.nums = b.lines[:n-1], b.nums[:n-1]
	}
	t.again(rest)
	t.preBlock(g, b, m, first, at+1)
	return true
}

func endOfPre(line string) int {
	for from := 0; ; {
		at := strings.Index(line[from:], "</")
		if at < 0 {
			return -1
		}
		at += from
		if tagName(line[at+2:]) == "pre" {
			return at
		}
		from = at + 2
	}
}

// preBlock writes what a <pre> element stands for: a file, text to copy, or text.
func (t *translation) preBlock(g tag, b block, m mark, first, last int) {
	class, _ := g.attr("class")
	name, named := g.attr("data-filename")
	target, _ := g.attr("data-target")
	target = strings.ToLower(strings.TrimSpace(target))
	isFile := named
	for _, c := range strings.Fields(strings.ToLower(class)) {
		isFile = isFile || c == "file"
	}
	if !isFile && target == "" && t.holdsHTML(b) {
		t.rawPre(g, b, first, last)
		return
	}
	for i, line := range b.lines {
		b.lines[i] = html.UnescapeString(line)
	}
	if !isFile && target == "" {
		b.unwrapCode()
		t.code(b, "text", m, first, last)
		return
	}
	name = strings.TrimSpace(t.inCode(name, false))
	if target == "clipboard" || !named || name == "" {
		if m.action == unmarked {
			m.action = copies
		}
		t.code(b, "text", m, first, last)
		return
	}
	to, ok := t.inEditor(name)
	if !ok {
		t.warnAt(first, "", "the file %s cannot be written", quote(name))
		t.code(b, "text", mark{action: copies}, first, last)
		return
	}
	info := "file {path=" + attrValue(to)
	switch marker, has := g.attr("data-marker"); target {
	case "", "replace":
	case "append", "prepend":
		info += " mode=" + target
	case "insert":
		if !has || marker == "" {
			t.warnAt(first, "write `data-marker=\"…\"`", "the block does not say where it is inserted, and is appended")
			info += " mode=append"
		} else {
			info += " mode=insert marker=" + attrValue(marker)
		}
	default:
		t.warnAt(first, "there are replace, append, prepend, insert and clipboard", "%s is no target; the file is replaced", quote(target))
	}
	if m.host > 1 {
		info += " host=" + m.modifiers()[0][len("host="):]
	}
	for i := range b.lines {
		b.lines[i] = t.inCode(b.lines[i], false)
	}
	t.block(info+"}", b, first, last)
}

// attrValue writes the value of an attribute of our format.
func attrValue(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\"'{}\\") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ").Replace(s) + `"`
}

// inEditor gives the path of a file as our format writes it: what is not
// absolute is in the folder that the editor shows.
func (t *translation) inEditor(name string) (string, bool) {
	name = strings.TrimSpace(name)
	base := t.p.editor
	if base == "" {
		base = "~"
	}
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "~/") {
		if strings.HasPrefix(name, "../") {
			base = strings.Replace(base, "~", "/root", 1)
			name = path.Join(base, name)
		} else {
			name = base + "/" + name
		}
	}
	home, rest, ok := strings.Cut(name, "/")
	if !ok || home != "" && home != "~" || strings.HasSuffix(name, "/") {
		return "", false
	}
	for _, part := range strings.Split(rest, "/") {
		if part == ".." {
			return "", false
		}
	}
	rest = strings.TrimPrefix(path.Clean("/"+rest), "/")
	if rest == "" || strings.ContainsAny(rest, "*?\n\t") {
		return "", false
	}
	return home + "/" + rest, true
}

// unwrapCode takes <code> off what stands in <pre><code>…</code></pre>.
func (b *block) unwrapCode() {
	if len(b.lines) == 0 {
		return
	}
	g, ok := parseTag(b.lines[0])
	last := len(b.lines) - 1
	if !ok || g.name != "code" || !strings.HasSuffix(strings.TrimSpace(b.lines[last]), "</code>") {
		return
	}
	b.lines[0] = b.lines[0][g.length:]
	b.lines[last] = strings.TrimSuffix(strings.TrimRight(b.lines[last], " \t"), "</code>")
}

// holdsHTML reports whether tags stand in a <pre> element, beside a <code> around
// all of it.
func (t *translation) holdsHTML(b block) bool {
	for _, line := range b.lines {
		for i := 0; i < len(line); i++ {
			if line[i] != '<' {
				continue
			}
			if g, ok := parseTag(line[i:]); ok {
				if t.real(g) && g.name != "code" {
					return true
				}
				i += g.length - 1
			}
		}
	}
	return false
}

// rawPre writes a <pre> element as HTML.
func (t *translation) rawPre(g tag, b block, first, last int) {
	for i, line := range b.lines {
		text := t.tags(line, b.nums[i])
		if i == 0 {
			text = "<pre>" + text
		}
		if i == len(b.lines)-1 {
			text += "</pre>"
		}
		t.emit(text, b.nums[i])
	}
	if t.at < len(t.src) {
		t.emit("", last)
	}
}
