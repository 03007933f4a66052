package katacoda

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds on one file of settings from a stranger.
const (
	maxNesting = 64
	maxValues  = 200_000
)

// A value is a piece of settings and where it stands. It comes from JSON or
// from YAML.
type value struct {
	kind    kind
	text    string // of a string as it means, of a number or boolean as it is written
	members []member
	items   []*value
	line    int
}

type member struct {
	key   string
	line  int
	value *value
}

type kind byte

const (
	isNull kind = iota
	isString
	isNumber
	isBool
	isList
	isObject
)

func (k kind) String() string {
	return [...]string{"null", "a text", "a number", "a boolean", "a list", "an object"}[k]
}

// parseJSON reads JSON as people write it: comments, commas that are missing
// at the end of a line or too many, single quotes, line breaks in texts and
// escapes that do not exist are told to warn and forgiven. err is a mistake that
// leaves no sense, at line.
func parseJSON(src string, warn func(line int, hint, what string)) (v *value, line int, err error) {
	p := &jsonParser{src: src, line: 1, warn: warn, warned: map[string]bool{}}
	p.blank()
	v = p.value(0)
	if p.err == nil {
		if p.blank(); p.at < len(src) && p.err == nil {
			p.once("rest", "delete it", "there is text behind the end of the settings")
		}
	}
	if p.err != nil {
		return nil, p.errLine, p.err
	}
	return v, 0, nil
}

type jsonParser struct {
	src     string
	at      int
	line    int
	values  int
	warn    func(line int, hint, what string)
	warned  map[string]bool
	err     error
	errLine int
}

// once warns the first time that something of its kind is forgiven.
func (p *jsonParser) once(kind, hint, what string) {
	if !p.warned[kind] {
		p.warned[kind] = true
		p.warn(p.line, hint, what)
	}
}

func (p *jsonParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err, p.errLine = fmt.Errorf(format, args...), p.line
		p.at = len(p.src)
	}
}

func (p *jsonParser) peek() byte {
	if p.at < len(p.src) {
		return p.src[p.at]
	}
	return 0
}

// blank goes past white space and comments, and reports whether a line ended.
func (p *jsonParser) blank() (newline bool) {
	for p.at < len(p.src) {
		rest := p.src[p.at:]
		switch c := rest[0]; {
		case c == '\n':
			p.line++
			newline = true
			p.at++
		case c == ' ' || c == '\t' || c == '\r':
			p.at++
		case strings.HasPrefix(rest, "\u00a0") || strings.HasPrefix(rest, "\ufeff"):
			_, n := utf8.DecodeRuneInString(rest)
			p.at += n
		case strings.HasPrefix(rest, "//"), c == '#':
			p.once("comment", "take it out", "JSON has no comments")
			if end := strings.IndexByte(rest, '\n'); end >= 0 {
				p.at += end
			} else {
				p.at = len(p.src)
			}
		case strings.HasPrefix(rest, "/*"):
			p.once("comment", "take it out", "JSON has no comments")
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				p.fail("a comment is not closed")
				return newline
			}
			p.line += strings.Count(rest[:end+4], "\n")
			p.at += end + 4
		default:
			return newline
		}
	}
	return newline
}

func (p *jsonParser) value(depth int) *value {
	v := &value{line: p.line}
	if p.values++; p.values > maxValues {
		p.fail("there are more than %d values", maxValues)
		return v
	}
	if depth > maxNesting {
		p.fail("lists and objects are nested deeper than %d", maxNesting)
		return v
	}
	switch c := p.peek(); {
	case c == '{':
		v.kind = isObject
		p.object(v, depth)
	case c == '[':
		v.kind = isList
		p.list(v, depth)
	case c == '"' || c == '\'' || strings.HasPrefix(p.src[p.at:], "“"):
		v.kind = isString
		v.text = p.text()
	case p.at >= len(p.src):
		p.fail("the settings end in the middle")
	default:
		v.kind, v.text = p.word()
	}
	return v
}

// word reads a number, true, false or null.
func (p *jsonParser) word() (kind, string) {
	end := p.at
	for end < len(p.src) && strings.IndexByte(" \t\r\n,:]}\"'{[", p.src[end]) < 0 {
		end++
	}
	w := p.src[p.at:end]
	k := isString
	switch {
	case w == "null":
		k = isNull
	case w == "true" || w == "false":
		k = isBool
	case isJSONNumber(w):
		k = isNumber
	case strings.EqualFold(w, "true") || strings.EqualFold(w, "false"):
		k, w = isBool, strings.ToLower(w)
		p.once("bool", "write `"+w+"`", "true and false are written small")
	default:
		if w == "" {
			w = p.src[p.at : p.at+1]
		}
		p.fail("a value was expected here, not %s", quote(w))
	}
	p.at = max(end, p.at)
	return k, w
}

func isJSONNumber(w string) bool {
	_, err := strconv.ParseFloat(w, 64)
	return err == nil && (w[0] == '-' || w[0] >= '0' && w[0] <= '9')
}

func (p *jsonParser) object(v *value, depth int) {
	p.at++
	p.blank()
	for p.err == nil {
		switch c := p.peek(); {
		case p.at >= len(p.src):
			p.fail("the object that begins in line %d is not closed", v.line)
			return
		case c == '}':
			p.at++
			return
		case c == ',':
			p.once("comma", "take it out", "there is a comma too many")
			p.at++
			p.blank()
			continue
		}
		m := member{line: p.line}
		if c := p.peek(); c == '"' || c == '\'' || strings.HasPrefix(p.src[p.at:], "“") {
			m.key = p.text()
		} else {
			end := p.at
			for end < len(p.src) && isWordByte(p.src[end]) {
				end++
			}
			if end == p.at {
				r, _ := utf8.DecodeRuneInString(p.src[p.at:])
				p.fail("the name of a setting was expected here, not %s", quote(string(r)))
				return
			}
			m.key, p.at = p.src[p.at:end], end
			p.once("key", "write `\""+m.key+"\"`", "the name of a setting stands without quotes")
		}
		p.blank()
		if p.peek() != ':' {
			p.fail("a colon is missing behind %s", quote(m.key))
			return
		}
		p.at++
		p.blank()
		m.value = p.value(depth + 1)
		v.members = append(v.members, m)
		p.next('}')
	}
}

func (p *jsonParser) list(v *value, depth int) {
	p.at++
	p.blank()
	for p.err == nil {
		switch c := p.peek(); {
		case p.at >= len(p.src):
			p.fail("the list that begins in line %d is not closed", v.line)
			return
		case c == ']':
			p.at++
			return
		case c == ',':
			p.once("comma", "take it out", "there is a comma too many")
			p.at++
			p.blank()
			continue
		}
		v.items = append(v.items, p.value(depth+1))
		p.next(']')
	}
}

// next goes to the next member, or to the end that closes an object or a list.
func (p *jsonParser) next(end byte) {
	line := p.line
	newline := p.blank()
	switch c := p.peek(); {
	case p.err != nil || c == end || p.at >= len(p.src):
	case c == ',':
		p.at++
		p.blank()
		if p.peek() == end {
			p.once("comma", "take it out", "there is a comma too many")
		}
	case newline || c == '{' || c == '"':
		now := p.line
		p.line = line
		p.once("missing", "add it", "a comma is missing at the end of the line")
		p.line = now
	default:
		r, _ := utf8.DecodeRuneInString(p.src[p.at:])
		p.fail("a comma was expected here, not %s", quote(string(r)))
	}
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '$'
}

// text reads a text between quotes.
func (p *jsonParser) text() string {
	closing := string(p.src[p.at])
	switch {
	case closing == "'":
		p.once("quotes", "write `\"`", "a text stands between single quotes")
		p.at++
	case closing != `"`:
		p.once("quotes", "write `\"`", "a text stands between typographic quotes")
		closing = "”"
		p.at += len("“")
	default:
		p.at++
	}
	first := p.line
	var b strings.Builder
	for p.at < len(p.src) {
		rest := p.src[p.at:]
		if strings.HasPrefix(rest, closing) {
			p.at += len(closing)
			return b.String()
		}
		switch c := rest[0]; {
		case c == '\\':
			p.escape(&b)
		case c == '\n':
			p.once("break", "write `\\n`", "a text goes over the end of its line")
			p.line++
			b.WriteByte(c)
			p.at++
		case c < ' ':
			if c != '\r' {
				p.once("control", `write it as an escape such as \t`, "a text holds a control character")
				b.WriteByte(c)
			}
			p.at++
		default:
			b.WriteByte(c)
			p.at++
		}
	}
	p.line = first
	p.fail("the text that begins here is not closed")
	return ""
}

func (p *jsonParser) escape(b *strings.Builder) {
	rest := p.src[p.at:]
	if len(rest) < 2 {
		p.at = len(p.src)
		return
	}
	switch c := rest[1]; c {
	case '"', '\\', '/':
		b.WriteByte(c)
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'u':
		r, ok := hex4(rest[2:])
		if !ok {
			p.once("escape", `write \\`, "a text holds an escape that does not exist")
			b.WriteString(`\u`)
			break
		}
		n := 6
		if utf16.IsSurrogate(r) {
			low, ok := rune(0), false
			if strings.HasPrefix(rest[6:], `\u`) {
				low, ok = hex4(rest[8:])
			}
			if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
				n = 12
			}
		}
		b.WriteRune(r)
		p.at += n
		return
	default:
		p.once("escape", `write \\`, "a text holds an escape that does not exist")
		b.WriteByte('\\')
		if c >= ' ' && c < utf8.RuneSelf {
			b.WriteByte(c)
		} else { // it is looked at by itself
			p.at++
			return
		}
	}
	p.at += 2
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:4], 16, 16)
	return rune(n), err == nil
}
