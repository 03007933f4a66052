package markdown

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"berth/labs"
)

// A setting is one `key: value` of the author's YAML.
type setting struct {
	key   string
	line  int // of the key, in the file
	value ast.Node
}

// A yamlReader turns YAML into values, and what does not fit into mistakes with
// the line where it stands. It reads plain data: no anchors, aliases, tags or
// merges, which nobody misses in so few lines and which can be made to explode.
type yamlReader struct {
	*report
	first int // line in the file of the YAML's first line

	vars []labs.Var // values that it may hold marks of
}

// parse reads a document that should be a mapping. nil after a mistake.
func (y *yamlReader) parse(text, what string) []setting {
	if len(text) > maxYAML {
		y.add(y.first, "", "%s is larger than %s", what, bytesInWords(maxYAML))
		return nil
	}
	if deepYAML(text) {
		y.add(y.first, "", "%s nests values too deep", what)
		return nil
	}
	file, err := parseYAML(text)
	if err != nil {
		var ye yaml.Error
		line, says := y.first, err.Error()
		if errors.As(err, &ye) {
			says = ye.GetMessage()
			if t := ye.GetToken(); t != nil && t.Position != nil {
				line = y.first + t.Position.Line - 1
			}
		}
		says, _, _ = strings.Cut(says, "\n")
		says = strings.ReplaceAll(says, "\t", "tab")
		if m := duplicateKey.FindStringSubmatch(says); m != nil {
			before, _ := strconv.Atoi(m[2])
			y.add(line, fmt.Sprintf("it is set in line %d already", y.first+before-1), "`%s` is set twice", m[1])
			return nil
		}
		hint := "indent with spaces, and put text in quotes that holds a colon and a space or begins with a sign"
		y.add(line, hint, "this is not YAML: %s", says)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); comment {
			continue
		}
		if body != nil {
			y.add(y.line(doc.Body), "remove the line `---`", "%s holds two YAML documents", what)
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		y.add(y.first, "", "%s is empty", what)
		return nil
	}
	return y.mapping(body, what)
}

var duplicateKey = regexp.MustCompile(`mapping key "([^"]*)" already defined at \[(\d+):`)

// parseYAML is the library's parser, whose panics are errors here.
func parseYAML(text string) (f *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, errors.New("it cannot be understood")
		}
	}()
	return parser.ParseBytes([]byte(text), 0)
}

// deepYAML reports values nested deeper than anything an author needs; the
// parser recurses once for every level.
func deepYAML(text string) bool {
	open, dashes := 0, 0
	for i, c := range []byte(text) {
		switch c {
		case '[', '{':
			open++
		case ']', '}':
			open = max(0, open-1)
		case '-', '?', ':':
			if i+1 < len(text) && (text[i+1] == ' ' || text[i+1] == '\t') {
				dashes++
			}
			continue
		case ' ', '\t':
			continue
		}
		if c != '[' && c != '{' {
			dashes = 0
		}
		if open > 100 || dashes > 20 {
			return true
		}
	}
	return dashes > 20
}

func (y *yamlReader) line(n ast.Node) int {
	if n == nil {
		return y.first
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return y.first + t.Position.Line - 1
	}
	return y.first
}

// mapping gives the settings of a node that should be a mapping.
func (y *yamlReader) mapping(n ast.Node, what string) []setting {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	case *ast.SequenceNode:
		y.add(y.line(n), "", "%s is a list, not lines of `key: value`", what)
		return nil
	default:
		y.add(y.line(n), "", "%s is not made of lines of `key: value`", what)
		return nil
	}
	out := make([]setting, 0, len(pairs))
	seen := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		key, ok := p.Key.(*ast.StringNode)
		if !ok {
			y.add(y.line(p.Key), "", "%s has a key that is not a word", what)
			return nil
		}
		if seen[key.Value] {
			y.add(y.line(p.Key), "", "%s is set twice", quote(key.Value))
			return nil
		}
		seen[key.Value] = true
		out = append(out, setting{key.Value, y.line(p.Key), p.Value})
	}
	return out
}

// text gives a scalar as it was written: `mode: 0755` is "0755".
func (y *yamlReader) text(s setting) (string, bool) {
	return y.scalar(s.value, s.key, s.line)
}

func (y *yamlReader) scalar(n ast.Node, key string, line int) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.NullNode, nil:
		y.add(line, "", "`%s` has no value", key)
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		y.add(line, "write the value itself", "`%s` uses a YAML anchor, alias or tag, which lessons do not have", key)
	default:
		y.add(line, "", "`%s` is not a single value", key)
	}
	return "", false
}

// word gives text that may not be empty.
func (y *yamlReader) word(s setting) (string, bool) {
	t, ok := y.text(s)
	if ok && strings.TrimSpace(t) == "" {
		y.add(s.line, "", "`%s` has no value", s.key)
		return "", false
	}
	return strings.TrimSpace(t), ok
}

// oneOf gives text that is one of a few words.
func (y *yamlReader) oneOf(s setting, valid ...string) string {
	t, ok := y.word(s)
	if !ok {
		return ""
	}
	for _, v := range valid {
		if t == v {
			return t
		}
	}
	y.add(s.line, didYouMean(t, valid), "`%s` cannot be %s", s.key, quote(t))
	return ""
}

// items gives the nodes of a list.
func (y *yamlReader) items(s setting) []ast.Node { return y.list(s, 100) }

func (y *yamlReader) list(s setting, most int) []ast.Node {
	seq, ok := s.value.(*ast.SequenceNode)
	if !ok {
		y.add(s.line, fmt.Sprintf("write `%s: [one, two]`", s.key), "`%s` is not a list", s.key)
		return nil
	}
	if len(seq.Values) > most {
		y.add(s.line, "", "`%s` has more than %d items", s.key, most)
		return nil
	}
	return seq.Values
}

// texts gives a list of text.
func (y *yamlReader) texts(s setting) []string {
	out := []string{}
	for _, n := range y.items(s) {
		if t, ok := y.scalar(n, s.key, y.line(n)); ok {
			out = append(out, t)
		}
	}
	return out
}

// boolean gives true or false, in these words.
func (y *yamlReader) boolean(s setting) bool {
	if b, ok := s.value.(*ast.BoolNode); ok {
		return b.Value
	}
	y.add(s.line, "", "`%s` is neither true nor false", s.key)
	return false
}

// number gives a condition on a number.
func (y *yamlReader) number(s setting) labs.Number {
	t, ok := y.word(s)
	if !ok {
		return labs.Number{}
	}
	n, err := labs.ParseNumber(t)
	if err != nil {
		y.add(s.line, "write a number, or one with a sign in quotes: `\">3\"`, `\"<20M\"`", "`%s` cannot be %s", s.key, quote(t))
	}
	return n
}

// integer gives a whole number within bounds.
func (y *yamlReader) integer(s setting, least, most int) int {
	t, ok := y.word(s)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(t)
	if err != nil || n < least || n > most {
		y.add(s.line, fmt.Sprintf("write a whole number from %d to %d", least, most), "`%s` cannot be %s", s.key, quote(t))
		return 0
	}
	return n
}

// regexp gives a regular expression.
func (y *yamlReader) regexp(s setting) *regexp.Regexp {
	t, ok := y.text(s)
	if !ok {
		return nil
	}
	if t == "" {
		y.add(s.line, "", "`%s` has no value", s.key)
		return nil
	}
	re, err := regexp.Compile(t)
	if err != nil {
		says := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		y.add(s.line, "it is written in Go's syntax; in YAML single quotes keep backslashes as they are", "`%s` is not a regular expression: %s", s.key, says)
		return nil
	}
	return re
}

// unknown reports a key that does not exist here.
func (y *yamlReader) unknown(s setting, valid []string) {
	y.add(s.line, didYouMean(s.key, valid), "unknown key %s", quote(s.key))
}
