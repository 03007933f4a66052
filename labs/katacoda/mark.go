package katacoda

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A mark is what stands in double braces behind code and says what a click on
// the code does.
type mark struct {
	action    action
	terminal  string // name of ours, "" for the first
	host      int    // from 1; 0 and 1 are the first
	interrupt bool
	keys      bool // the code is keys in caret notation
	noEnter   bool
	broken    bool // its braces are not right
}

type action int

const (
	unmarked action = iota // no mark stands there
	plain                  // {{}}: a click does nothing
	copies
	opens
	runs
)

// What parseMark found.
type found int

const (
	noMark   found = iota // braces of the author's, which are content
	typo                  // it was meant to be a mark
	goodMark              // one that is understood
)

// maxMark bounds the bytes between the braces of a mark.
const maxMark = 120

// parseMark reads the mark that s begins with, and gives its length. wrong is
// the word of a good mark that was not understood, or "".
func parseMark(s string) (m mark, length int, wrong string, f found) {
	if !strings.HasPrefix(s, "{{") {
		return mark{}, 0, "", noMark
	}
	if m, length, ok := brokenMark(s); ok {
		return m, length, "", goodMark
	}
	end := strings.Index(s[:min(len(s), maxMark)], "}}")
	if nl := strings.IndexByte(s[:min(len(s), maxMark)], '\n'); end < 0 || nl >= 0 && nl < end {
		return mark{}, 0, "", nearMark(s)
	}
	length = end + 2
	inside := s[2:end]
	if strings.TrimSpace(inside) == "" {
		return mark{action: plain}, length, "", goodMark
	}
	words, ok := markWords(inside)
	if !ok {
		return mark{}, 0, "", nearMark(s)
	}
	var names []string
	for _, word := range words {
		switch w := strings.ToLower(word); w {
		case "execute", "exec":
			m.action = runs
		case "copy":
			m.action = max(m.action, copies)
		case "open":
			m.action = max(m.action, opens)
		case "interrupt":
			m.interrupt = true
		case "ctrl-seq":
			m.keys = true
		case "no-newline":
			m.noEnter = true
		default:
			if n, is := numbered(w, "t", "terminal "); is {
				m.terminal = strconv.Itoa(n)
			} else if n, is := numbered(w, "host", "host ", "terminal host "); is && n <= 9 {
				m.host = n
			} else if !strings.HasPrefix(w, "test-") { // those are names for the author's own tests
				names = append(names, w)
			}
		}
	}
	if m.action == unmarked && len(words) == 1 && (m.terminal != "" || m.host > 0) {
		m.action, m.broken = runs, true // execute was forgotten
	}
	if m.action == unmarked {
		return mark{}, 0, "", nearMark(s)
	}
	for _, name := range names {
		if nearWord(name) {
			wrong = name
		} else {
			m.terminal = terminalName(name)
		}
	}
	if m.terminal == "1" {
		m.terminal = ""
	}
	return m, length, wrong, goodMark
}

// brokenMark reads a mark that s begins with, all of whose words are right, and
// whose braces are not: {{execute}, {{{execute}}}, {execute}, {{execute`}},
// {[exec]}. ok is false for one that is right.
func brokenMark(s string) (m mark, length int, ok bool) {
	s = s[:min(len(s), maxMark)]
	next := ""
	if at := strings.IndexByte(s, '\n'); at >= 0 {
		s, next = s[:at], s[at:]
	}
	inside := strings.TrimLeft(s, "{[(")
	opened := len(s) - len(inside)
	if opened == 0 || opened > 4 {
		return mark{}, 0, false
	}
	end := strings.IndexAny(inside, "{[()]}<>$|.`")
	if end < 0 {
		end = len(inside)
	}
	rest := inside[end:]
	if len(rest) > 1 && rest[0] == '`' && rest[1] == '}' {
		rest = rest[1:]
	}
	ends := "}"
	if strings.Contains(s[:opened], "[") {
		ends += "]"
	}
	if strings.Contains(s[:opened], "(") {
		ends += ")"
	}
	behind := strings.TrimLeft(rest, ends)
	closed := len(rest) - len(behind)
	length = len(s) - len(behind)
	brackets := s[:opened] + rest[:closed]
	switch {
	case closed > 4 || opened+closed < 2 || closed == 0 && strings.TrimSpace(behind) != "":
		return mark{}, 0, false
	case brackets == "{{}}" && length == opened+end+closed, strings.Trim(brackets, "{}") == brackets:
		return mark{}, 0, false
	case closed > opened && behind == "" && opened < 2:
		return mark{}, 0, false
	}
	words, fine := markWords(inside[:end])
	if !fine || len(words) == 0 {
		return mark{}, 0, false
	}
	for _, w := range words {
		w = strings.ToLower(w)
		if !slices.Contains(markNames, w) && !isNumbered(w) {
			return mark{}, 0, false
		}
	}
	m, _, _, is := parseMark("{{" + strings.TrimSpace(inside[:end]) + "}}")
	m.broken = true
	if ends := strings.TrimLeft(next, " \t\n"); closed == 0 && strings.HasPrefix(ends, "}}") {
		length = len(s) + len(next) - len(ends) + 2
	}
	return m, length, is == goodMark && m.action > plain
}

// roughMark reads what stands behind the marks of a closing fence, where
// nothing but a mark can: {execute}, ((exec)), copy.
func roughMark(s string) (mark, int, bool) {
	if m, n, ok := brokenMark(s); ok {
		return m, n, true
	}
	m, _, _, is := parseMark("{{" + strings.Trim(s, "{}()[] ") + "}}")
	m.broken = true
	return m, len(s), is == goodMark && m.action > plain
}

// isNumbered reports whether a word is the number of a terminal or host.
func isNumbered(w string) bool {
	_, is := numbered(w, "t", "terminal ", "host", "host ", "terminal host ")
	return is
}

// markWords takes what stands between the braces apart. Words in quotes may
// hold blanks.
func markWords(s string) ([]string, bool) {
	const quotes = "\"'`“”‘’"
	var words []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeftFunc(s, unicode.IsSpace) {
		c, n := utf8.DecodeRuneInString(s)
		if strings.ContainsRune("\"'“‘", c) {
			end := strings.IndexAny(s[n:], quotes)
			if end < 0 {
				return nil, false
			}
			if w := strings.Join(strings.Fields(s[n:n+end]), " "); w != "" {
				words = append(words, w)
			}
			_, last := utf8.DecodeRuneInString(s[n+end:])
			s = s[n+end+last:]
			continue
		}
		end := strings.IndexFunc(s, func(c rune) bool { return unicode.IsSpace(c) || strings.ContainsRune(quotes, c) })
		if end == 0 || strings.ContainsAny(s[:max(end, 0)], "{}.|$()<>") {
			return nil, false
		}
		if end < 0 {
			end = len(s)
		}
		words = append(words, s[:end])
		s = s[end:]
	}
	return words, true
}

// numbered reads a word such as t2 or "terminal 2".
func numbered(w string, before ...string) (int, bool) {
	for _, b := range before {
		if rest, ok := strings.CutPrefix(w, b); ok && len(rest) <= 2 {
			if n, err := strconv.Atoi(rest); err == nil && n > 0 {
				return n, true
			}
		}
	}
	return 0, false
}

// terminalName makes a name of ours of the author's name for a terminal.
func terminalName(w string) string {
	if w == "terminal" {
		return ""
	}
	var b strings.Builder
	for _, c := range w {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteRune(c)
		} else if s := b.String(); s != "" && !strings.HasSuffix(s, "-") {
			b.WriteByte('-')
		}
		if b.Len() == 16 {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}

// markNames are the words that a typo is measured against.
var markNames = []string{"execute", "exec", "copy", "open", "interrupt", "ctrl-seq", "no-newline"}

// nearMark reports whether braces that are no mark were meant to be one.
func nearMark(s string) found {
	s = s[2:min(len(s), maxMark)]
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i]
	}
	if i := strings.IndexByte(s, '}'); i >= 0 {
		s = s[:i]
	}
	for _, w := range strings.Fields(s) {
		w = strings.ToLower(strings.Trim(w, "`\"'{}()[]"))
		if w == "" {
			continue
		}
		for _, name := range markNames {
			if w == name {
				return typo
			}
		}
		if nearWord(w) {
			return typo
		}
		break
	}
	return noMark
}

// nearWord reports whether w is one of the words of marks with a slip in it.
func nearWord(w string) bool {
	for _, name := range markNames {
		allowed := 1
		if len(name) > 5 {
			allowed = 2
		}
		if w != name && len(w) >= 3 && distance(w, name, allowed) <= allowed {
			return true
		}
	}
	return false
}

// distance counts the letters to insert, drop, change or swap to make b of a;
// it is not exact beyond limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// isTypoMark reports whether what stands behind the marks of a closing fence
// was meant as a mark: {execute}, ((exec)), exec.
func isTypoMark(s string) bool {
	w := strings.ToLower(strings.Trim(strings.TrimSpace(s), "`\"'{}()[] "))
	if w == "" || len(w) > maxMark {
		return false
	}
	w, _, _ = strings.Cut(w, " ")
	for _, name := range markNames[:4] {
		if w == name {
			return true
		}
	}
	return strings.ContainsAny(s, "{([") && nearWord(w)
}

// and puts two marks behind the same code together.
func (m mark) and(o mark) mark {
	o.action = max(m.action, o.action)
	if o.terminal == "" {
		o.terminal = m.terminal
	}
	o.host = max(o.host, m.host)
	o.broken = o.broken || m.broken
	o.interrupt, o.keys, o.noEnter = o.interrupt || m.interrupt, o.keys || m.keys, o.noEnter || m.noEnter
	return o
}

// modifiers gives the attributes of our format that say how a command is
// typed.
func (m mark) modifiers() []string {
	var a []string
	if m.keys {
		a = append(a, "keys")
	}
	if m.terminal != "" {
		a = append(a, "terminal="+m.terminal)
	}
	if m.host > 1 {
		a = append(a, "host="+strconv.Itoa(m.host))
	}
	if m.interrupt {
		a = append(a, "interrupt")
	}
	if m.noEnter && !m.keys {
		a = append(a, "no-enter")
	}
	return a
}

// caret gives keys in the notation of our format: ^ESC is ^[ and letters are
// capital.
func caret(code string) string {
	var b strings.Builder
	for i := 0; i < len(code); i++ {
		c := code[i]
		if c != '^' || i+1 == len(code) {
			b.WriteByte(c)
			continue
		}
		if len(code) >= i+4 && strings.EqualFold(code[i+1:i+4], "esc") {
			b.WriteString("^[")
			i += 3
			continue
		}
		i++
		next := code[i]
		if next >= 'a' && next <= 'z' {
			next -= 'a' - 'A'
		}
		b.WriteByte('^')
		b.WriteByte(next)
	}
	return b.String()
}
