package markdown

import (
	"html"
	"strings"
	"time"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
)

// Colours are a nicety: code that is too large, or that comes when the lesson's
// lexers have already taken too long, is shown without.
const (
	maxHighlight  = 64 << 10 // bytes of one block
	highlightTime = 3 * time.Second
)

// markBegin is what the marks of a lesson's values begin with.
const markBegin = "zqberth"

// A highlighter colours the code of one lesson.
type highlighter struct {
	spent time.Duration
}

// html gives code as HTML with the highlighter's standard classes. What a
// reader sees and copies is exactly code, whatever the lexer does.
func (h *highlighter) html(lexer chroma.Lexer, code string) string {
	plain := html.EscapeString(code)
	if lexer == nil || len(code) > maxHighlight || h.spent > highlightTime {
		return plain
	}
	begin := time.Now()
	defer func() { h.spent += time.Since(begin) }()
	tokens, err := chroma.Coalesce(lexer).Tokenise(nil, code)
	if err != nil {
		return plain
	}
	var out, seen strings.Builder
	for t := tokens(); t != chroma.EOF; t = tokens() {
		if h.spent+time.Since(begin) > highlightTime {
			return plain
		}
		if seen.Len()+len(t.Value) > len(code) { // a newline that the lexer added
			t.Value = t.Value[:len(code)-seen.Len()]
		}
		seen.WriteString(t.Value)
		class := chroma.StandardTypes[t.Type]
		if class == "" || t.Value == "" {
			out.WriteString(html.EscapeString(t.Value))
			continue
		}
		out.WriteString(`<span class="` + class + `">` + html.EscapeString(t.Value) + `</span>`)
	}
	if seen.String() != code || strings.Count(out.String(), markBegin) != strings.Count(code, markBegin) {
		return plain // what stands for a value must stay whole
	}
	return out.String()
}

// lexerOf finds the lexer for a file by its name, which takes milliseconds.
func (h *highlighter) lexerOf(path string) chroma.Lexer {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if len(name) > 60 || h.spent > highlightTime {
		return nil
	}
	begin := time.Now()
	defer func() { h.spent += time.Since(begin) }()
	return lexers.Match(name)
}
