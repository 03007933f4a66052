package katacoda

import (
	"slices"
	"strings"
)

// A fence is the line that opens a block of code.
type fence struct {
	char   byte // '`' or '~'
	length int
	info   string // behind its signs
	indent int    // columns
}

// openingFence reads the line that opens a block of code.
func openingFence(r string) (fence, bool) {
	if len(r) < 3 || r[0] != '`' && r[0] != '~' {
		return fence{}, false
	}
	f := fence{char: r[0], length: run(r, r[0])}
	if f.length < 3 {
		return fence{}, false
	}
	f.info = strings.TrimSpace(r[f.length:])
	if f.char == '`' && strings.Contains(f.info, "`") && !strings.HasPrefix(f.info, "{{exec") {
		return fence{}, false // code between backticks, on one line
	}
	return f, true
}

// fences tells for each line which line with a fence comes next.
type fences struct {
	next  [2][]int // of backticks and of tildes: the next line from here that may open or close, or -1
	most  [2][]int // the longest fence from that line on
	glued []int    // the next line from here with an end and its mark behind code, or -1
}

func kindOf(char byte) int {
	if char == '~' {
		return 1
	}
	return 0
}

// bare takes the signs of quotes and lists off a line, whatever is open.
func bare(line string) string {
	return strings.TrimLeft(line, " \t>")
}

func findFences(lines []string) fences {
	var f fences
	for k := range f.next {
		f.next[k], f.most[k] = make([]int, len(lines)+1), make([]int, len(lines)+1)
		f.next[k][len(lines)] = -1
	}
	f.glued = make([]int, len(lines)+1)
	f.glued[len(lines)] = -1
	for i := len(lines) - 1; i >= 0; i-- {
		f.glued[i] = f.glued[i+1]
		if at := strings.Index(lines[i], "```{{"); at > 0 && !isBlank(bare(lines[i][:at])) {
			f.glued[i] = i
		}
		for k := range f.next {
			f.next[k][i], f.most[k][i] = f.next[k][i+1], f.most[k][i+1]
		}
		if o, ok := openingFence(bare(lines[i])); ok {
			k := kindOf(o.char)
			f.next[k][i] = i
			f.most[k][i] = max(f.most[k][i], o.length)
		}
	}
	return f
}

// What a line in a block of code is.
type ending int

const (
	codeLine  ending = iota
	closes           // it ends the block
	reopens          // it opens another block, so the one before was not closed
	glued            // code, with the end of the block behind it
	shortened        // it would end the block if it were longer
)

// An end is how a block ends, and what stands behind its signs.
type end struct {
	kind ending
	code string // of a glued end: what stands before
	mark mark
	slip string // the text of a mark that is none, behind the signs
	tail string // other text behind them
	is   found
	word string // in a good mark, that was not understood
}

// endOf reads a line of the block that f opened. s is the line without the
// signs of quotes and lists, and without indentation.
func (f fence) endOf(s string) end {
	if s == "" || s[0] != f.char && s[0] != '\'' {
		return end{}
	}
	n := run(s, f.char)
	if n < 3 {
		return f.slipped(s)
	}
	rest := strings.TrimSpace(s[n:])
	e := end{kind: closes}
	if n < f.length {
		e.kind = shortened
	}
	switch {
	case rest == "":
		return e
	case strings.HasPrefix(rest, "{{"):
		m, length, word, is := parseMark(rest)
		e.mark, e.word, e.is = m, word, is
		if is != goodMark {
			e.slip = rest
			return e
		}
		e.tail = e.more(rest[length:])
		return e
	case isTypoMark(rest):
		if m, n, ok := roughMark(rest); ok {
			e.mark, e.is = m, goodMark
			e.tail = strings.TrimSpace(rest[n:])
			return e
		}
		e.slip, e.is = rest, typo
		return e
	case f.char == '`' && strings.Contains(rest, "`"):
		return end{}
	}
	e.kind = reopens
	return e
}

// slipped reads an end with a mark whose signs are wrong: too few of them, or
// apostrophes.
func (f fence) slipped(s string) end {
	rest := strings.TrimLeft(s, "`'")
	if n := len(s) - len(rest); n > 5 || !strings.HasPrefix(rest, "{{") {
		return end{}
	}
	m, length, word, is := parseMark(rest)
	if is != goodMark {
		return end{}
	}
	e := end{kind: closes, mark: m, is: is, word: word}
	e.tail = e.more(rest[length:])
	return e
}

// more reads further marks behind the first one, and gives what follows.
func (e *end) more(s string) string {
	for {
		m, length, _, is := parseMark(strings.TrimLeft(s, " \t"))
		if is != goodMark {
			return strings.TrimSpace(s)
		}
		e.mark = e.mark.and(m)
		s = strings.TrimLeft(s, " \t")[length:]
	}
}

// glue looks for an end behind code on the same line.
func (f fence) glue(s string) end {
	signs := strings.Repeat(string(f.char), 3)
	at := strings.Index(s, signs)
	if at <= 0 {
		return end{}
	}
	n := run(s[at:], f.char)
	if n < f.length || strings.Contains(s[at+n:], signs) {
		return end{}
	}
	e := end{kind: glued, code: s[:at]}
	rest := strings.TrimSpace(s[at+n:])
	if rest == "" {
		return e
	}
	m, length, word, is := parseMark(rest)
	if is == noMark {
		return end{}
	}
	e.mark, e.word, e.is = m, word, is
	if is == typo {
		e.slip = rest
	} else {
		e.tail = e.more(rest[length:])
	}
	return e
}

// endsWithMark reports whether the next fence closes the block that f opens,
// with a mark.
func (t *translation) endsWithMark(f fence) bool {
	next := t.fences.next[kindOf(f.char)][t.at+1]
	if next < 0 {
		return false
	}
	e := f.endOf(bare(t.src[next]))
	return e.kind == closes && e.is == goodMark
}

// A block is code that was taken out of the page.
type block struct {
	lines []string
	nums  []int
}

func (b *block) add(line string, num int) {
	b.lines, b.nums = append(b.lines, line), append(b.nums, num)
}

// fence reads the block that f opens in the line t.at, and writes it.
func (t *translation) fence(f fence) {
	first := t.at + 1
	if t.isStray(f) {
		t.warnAt(first, "write ``` before the code too", "the block that ends here does not begin")
		t.at++
		return
	}
	t.flush()
	var b block
	start := t.at
	e := t.blockLines(f, &b)
	if e.kind == codeLine {
		if f.info == "" && (b.isBlank() || t.endedBefore(start) && isBlank(b.lines[0])) {
			t.warnAt(first, "write ``` before the code too", "the block that ends here does not begin")
			t.at = start + 1
			return
		}
		t.warnAt(first, "end it with a line of the same marks", "the block is not closed")
		t.giveBack(&b)
	} else if e.kind == closes && e.is == noMark && e.slip == "" {
		t.lateMark(f, &e)
	}
	t.ended = t.at
	m, lang := e.mark, f.info
	if at := strings.Index(f.info, "{{"); at >= 0 {
		if opening, length, word, is := parseMark(f.info[at:]); is == goodMark {
			m = opening.and(m)
			e.word = max(e.word, word)
			lang = strings.TrimSpace(f.info[:at])
			if code := strings.TrimSpace(f.info[at+length:]); code != "" {
				b.lines, b.nums = slices.Insert(b.lines, 0, code), slices.Insert(b.nums, 0, first)
			}
		} else if is == typo {
			t.warnAt(first, "", "%s is not understood", quote(f.info[at:]))
			lang = strings.TrimSpace(f.info[:at])
		}
	} else if f.info != "" && !isLanguage(f.info) && (e.kind == glued || m.action == runs && isCommand(f.info) || strings.Join(b.lines, "") == "") {
		b.lines, b.nums = slices.Insert(b.lines, 0, f.info), slices.Insert(b.nums, 0, first)
		lang = ""
	}
	if e.kind == glued {
		b.add(e.code, t.at)
	}
	m = t.marksInside(&b, lang, m)
	t.warnOfMark(m, e.word, t.at)
	if m.action > plain && b.isBlank() {
		return
	}
	t.code(b, lang, m, first, t.at)
	if e.slip != "" {
		if e.is == typo {
			t.warnAt(t.at, "", "%s is not understood, and is shown as text", quote(e.slip))
		}
		e.tail = e.slip
	}
	if strings.Trim(e.tail, ".,;:!)* ") != "" {
		t.ticks, t.table = 0, false
		t.para = []textLine{{startOfText(e.tail), t.at}}
	}
}

func (b *block) isBlank() bool {
	return !slices.ContainsFunc(b.lines, func(s string) bool { return !isBlank(s) })
}

// endedBefore reports whether nothing but empty lines stand between the end of
// the last block and a line.
func (t *translation) endedBefore(line int) bool {
	for line > 0 && line > t.ended && isBlank(t.src[line-1]) {
		line--
	}
	return line > 0 && line == t.ended
}

// lateMark reads the mark of a block that stands on the line behind its end.
func (t *translation) lateMark(f fence, e *end) {
	if t.at == len(t.src) {
		return
	}
	line, gone := t.content(t.src[t.at])
	line = strings.TrimSpace(line)
	if gone || !strings.HasSuffix(line, "}}") {
		return
	}
	if strings.HasPrefix(line, "{{") {
		line = strings.Repeat(string(f.char), f.length) + line
	}
	if late := f.endOf(line); late.kind == closes && late.is == goodMark && late.tail == "" {
		*e = late
		t.at++
	}
}

// giveBack ends a block that is not closed before what cannot be part of it:
// at an empty line, when code with a mark follows.
func (t *translation) giveBack(b *block) {
	blank := -1
	for i, line := range b.lines {
		if isBlank(line) && blank < 0 {
			blank = i
		}
		if !holdsMark(line) {
			continue
		}
		if blank < 0 {
			blank = i
		}
		if blank > 0 {
			t.at = b.nums[blank] - 1
			b.lines, b.nums = b.lines[:blank], b.nums[:blank]
		}
		return
	}
}

func (t *translation) warnOfMark(m mark, word string, line int) {
	if m.broken {
		t.warnAt(line, "write it with two braces on each side, as in `{{execute}}`", "the braces of the mark are not right")
	}
	if word != "" {
		t.warnAt(line, "did you mean `"+nearest(word, markNames)+"`?", "%s in the mark is not understood", quote(word))
	}
}

// isStray reports whether a fence with a mark, which none was opened for, ends
// a block that never began.
func (t *translation) isStray(f fence) bool {
	if !strings.HasPrefix(f.info, "{{") || t.at == 0 || isBlank(t.src[t.at-1]) {
		return false
	}
	next := t.fences.next[kindOf(f.char)][t.at+1]
	if next < 0 {
		return true
	}
	e := f.endOf(bare(t.src[next]))
	if e.kind == reopens {
		return true
	}
	if e.kind != closes || e.is != noMark {
		return false
	}
	// A fence without mark follows: it ends this block, or begins the next one.
	for i := range t.fences.between(kindOf(f.char), next+1) {
		e := f.endOf(bare(t.src[i]))
		return e.kind == closes && e.is == goodMark && t.fences.count(kindOf(f.char), i)%2 == 1
	}
	return false
}

// between yields the lines with fences from a line on.
func (f fences) between(k, from int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := f.next[k][min(from, len(f.next[k])-1)]; i >= 0; i = f.next[k][i+1] {
			if !yield(i) {
				return
			}
		}
	}
}

// maxParity bounds how far is looked to tell openings from ends.
const maxParity = 60

// count tells how many lines with fences there are from a line on.
func (f fences) count(k, from int) int {
	n := 0
	for range f.between(k, from) {
		if n++; n == maxParity {
			break
		}
	}
	return n
}

// blockLines reads the code of a block up to its end, which is consumed. An end
// of kind codeLine is that there is none.
func (t *translation) blockLines(f fence, b *block) end {
	k := kindOf(f.char)
	ends := -1 // the line of the next fence, once it was looked at
	closing, within := false, false
	for t.at++; t.at < len(t.src); t.at++ {
		rest, col, outside, gone := t.contentAt(t.src[t.at])
		if gone {
			return end{}
		}
		indent, n := indentation(rest, col)
		e := f.endOf(rest[n:])
		switch {
		case e.kind == closes && t.opensAgain(f, e):
			return end{}
		case e.kind == closes && (e.is != noMark || e.slip != "" || indent <= 3 || indent <= f.indent+3):
			t.at++
			return e
		case e.kind == shortened && (t.fences.most[k][t.at+1] < f.length || !within && e.is == goodMark):
			t.at++
			return e
		case e.kind == shortened:
			within = !within
		case e.kind == reopens && !outside && f.holds(rest[n:]):
		case e.kind == reopens && (outside || isLanguage(strings.TrimSpace(strings.TrimLeft(rest[n:], string(f.char))))):
			return end{}
		}
		if e := f.glue(rest); e.kind == glued && (e.is != noMark || t.endsHere(f)) {
			e.code, _ = strip(e.code, col, f.indent)
			t.at++
			return e
		}
		if outside && !isBlank(rest) {
			next := t.fences.next[k][t.at]
			if glued := t.fences.glued[t.at]; f.char == '`' && glued >= 0 && (next < 0 || glued < next) {
				next, ends, closing = glued, glued, true
			}
			if next < 0 {
				return end{}
			} else if next != ends {
				ends = next
				closing = f.endOf(bare(t.src[next])).kind == closes
			}
			if !closing {
				return end{}
			}
		}
		line, _ := strip(rest, col, f.indent)
		b.add(line, t.at+1)
	}
	return end{}
}

// opensAgain reports whether a fence without mark, in the line t.at, opens the
// next block, since the end of this one was forgotten: text stands before it,
// code behind it, and the fence that follows has a mark.
func (t *translation) opensAgain(f fence, e end) bool {
	if e.is != noMark || e.slip != "" || !isBlank(t.src[t.at-1]) || t.at+1 == len(t.src) || isBlank(t.src[t.at+1]) {
		return false
	}
	next := t.fences.next[kindOf(f.char)][t.at+1]
	if next <= t.at+1 {
		return false
	}
	after := f.endOf(bare(t.src[next]))
	return after.kind == closes && after.is == goodMark && after.mark.action > plain
}

// holds reports whether blocks may stand inside the block, as in Markdown.
func (f fence) holds(line string) bool {
	lang, _, _ := strings.Cut(strings.ToLower(f.info), " ")
	return lang == "markdown" || lang == "md" || run(line, f.char) < f.length
}

// endsHere reports whether an end without mark, glued to the code of the line
// t.at, is the end of the block: a blank line follows, or a block that opens, or
// no other fence.
func (t *translation) endsHere(f fence) bool {
	if t.at+1 == len(t.src) || isBlank(t.src[t.at+1]) {
		return true
	}
	next := t.fences.next[kindOf(f.char)][t.at+1]
	return next < 0 || f.endOf(bare(t.src[next])).kind == reopens
}

// code writes a block of code with its mark.
func (t *translation) code(b block, lang string, m mark, first, last int) {
	if m.action == runs || m.action == opens {
		for len(b.lines) > 0 && b.lines[len(b.lines)-1] == "" && m.action == opens {
			b.lines, b.nums = b.lines[:len(b.lines)-1], b.nums[:len(b.nums)-1]
		}
	}
	text := strings.Join(b.lines, "\n")
	fetched := m.action == runs && fetches(text)
	for i := range b.lines {
		b.lines[i] = t.inCode(b.lines[i], fetched)
	}
	blank := strings.TrimSpace(text) == ""
	word := language(lang)
	switch {
	case m.action == runs && !blank:
		info := "sh"
		if m.keys {
			for i := range b.lines {
				b.lines[i] = caret(b.lines[i])
			}
		}
		if a := m.modifiers(); a != nil {
			info += " {" + strings.Join(a, " ") + "}"
		}
		t.block(info, b, first, last)
	case m.action == opens && len(b.lines) == 1 && !blank:
		t.emit("", first)
		t.emit(t.openSpan(strings.TrimSpace(b.lines[0]), first), first)
		t.emit("", last)
	case m.action == copies && !blank:
		if word == "" {
			word = "text"
		}
		t.block(word+" {copy}", b, first, last)
	default:
		if word == "sh" {
			word = "sh {.norun}"
		}
		t.block(word, b, first, last)
	}
}

// block writes a block of our format.
func (t *translation) block(info string, b block, first, last int) {
	char, n := "`", 3
	if strings.Contains(info, "`") {
		char = "~"
	}
	for _, line := range b.lines {
		n = max(n, 1+run(strings.TrimLeft(line, " \t"), char[0]))
	}
	signs := strings.Repeat(char, n)
	t.emit(signs+info, first)
	for i, line := range b.lines {
		t.emit(line, b.nums[i])
	}
	t.emit(signs, last)
}

// languages are words that follow an opening fence, rather than commands.
var languages = strings.Fields(`
	alloy apache apacheconf asm awk bash bat batch bicep c c# c++ cfg clike clojure cmake cmd conf config console cpp cs csharp cshtml css csv
	cypher dart diff docker dockerfile dockerignore dotenv ebnf editorconfig elixir env erb erlang fish flux fortran fsharp
	git gitignore go golang gotemplate gradle graphql groovy handlebars haskell hcl helm html html+erb http ignore ini
	java javascript j2 jinja jinja2 jq js json json5 jsonc jsonnet jsx julia kotlin kusto latex less linux log logql logs lua macos
	make makefile markdown mathml matlab md mdx mermaid mysql nginx nix none objc objective-c ocaml output pascal patch perl php
	plain plaintext plsql postgres postgresql powershell promql properties proto protobuf ps1 puppet py py3 python python3 r razor
	rb regex rego rs ruby rust sas sass scala scheme scss sed sh shell shell-session shellsession sparql sql ssh-config stan swift systemd
	tcl terminal terraform text tf toml traceql ts tsx txt typescript vb vbnet vim vue wasm windows xml yaml yml zig zsh
`)

// isLanguage reports whether what follows an opening fence names a language,
// with attributes perhaps.
func isLanguage(info string) bool {
	word, rest := firstWord(info)
	return slices.Contains(languages, strings.ToLower(word)) &&
		(rest == "" || rest == "script" || rest[0] == '{' || strings.Contains(rest, "=") || slices.Contains(languages, strings.ToLower(rest)))
}

// isCommand reports whether what follows an opening fence is code, as far as
// its looks tell.
func isCommand(info string) bool {
	_, rest := firstWord(info)
	return rest != "" && rest[0] != '{'
}

func firstWord(info string) (word, rest string) {
	at := strings.IndexAny(info, " \t{")
	if at < 0 {
		return info, ""
	}
	return info[:at], strings.TrimSpace(info[at:])
}

// language gives the word of our format for what follows an opening fence.
func language(info string) string {
	word, _ := firstWord(info)
	switch word = strings.ToLower(word); word {
	case "":
		return ""
	case "bash", "sh", "shell", "zsh", "ksh", "cmd", "linux", "macos", "terminal":
		return "sh"
	case "console", "session", "shellsession":
		return "shell-session"
	case "file", "hint", "solution", "setup", "check", "quiz", "start", "plain", "plaintext", "none", "txt", "output", "log", "logs", "env", "alloy", "flux", "mermaid":
		return "text"
	case "jinja2", "j2":
		return "jinja"
	case "cs", "cshtml", "razor":
		return "csharp"
	case "dockerignore", "gitignore", "ignore", "conf", "cfg", "config":
		return "ini"
	}
	for i := range len(word) {
		if c := word[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("+#-_.", c) >= 0) {
			return "text"
		}
	}
	if !slices.Contains(languages, word) {
		return "text"
	}
	return word
}
