package katacoda

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// indexNames are what a scenario's settings are called, the best known first.
var indexNames = []string{"index.json", "index.yaml", "index.yml"}

// findIndex gives the settings of the scenario in dir, or "".
func findIndex(fsys fs.FS, dir string) string {
	for _, name := range indexNames {
		if info, err := fs.Stat(fsys, path.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			return path.Join(dir, name)
		}
	}
	return ""
}

// readSettings reads JSON or YAML. nil after a mistake, which is told.
func readSettings(fsys fs.FS, name string, r *report) *value {
	text, odd, err := readText(fsys, name, maxIndex)
	if err != nil {
		r.add(name, 0, "", "it cannot be read: %v", err)
		return nil
	}
	if odd {
		r.warn(name, 0, "save the file as UTF-8", "it is not UTF-8")
	}
	if !strings.HasSuffix(name, ".json") {
		v, line, err := parseYAML(text)
		if err != nil {
			r.add(name, line, "", "this is not YAML: %v", err)
			return nil
		}
		return v
	}
	v, line, err := parseJSON(text, func(line int, hint, what string) { r.warn(name, line, hint, "%s", what) })
	if err != nil {
		r.add(name, line, "", "this is not JSON: %v", err)
		return nil
	}
	return v
}

// isScenario reports whether settings are a scenario's: many other files are
// called index.json.
func isScenario(v *value) bool {
	return v != nil && v.kind == isObject && slices.ContainsFunc(v.members, func(m member) bool {
		return strings.EqualFold(m.key, "details") && m.value.kind == isObject
	})
}

// looksLikeScenario reports whether settings that cannot be read were meant to
// be a scenario's.
func looksLikeScenario(text string) bool {
	return strings.Contains(text, "details") && (strings.Contains(text, "steps") || strings.Contains(text, "imageid"))
}

// parseYAML reads plain data of YAML, without anchors, aliases, tags and merges,
// which can be made to explode.
func parseYAML(text string) (v *value, line int, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, line, err = nil, 0, errors.New("it cannot be understood")
		}
	}()
	if at, deep := deepYAML(text); deep {
		return nil, at, fmt.Errorf("lists and objects are nested deeper than %d", maxNesting)
	}
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		var ye yaml.Error
		says := err.Error()
		if errors.As(err, &ye) {
			says = ye.GetMessage()
			if t := ye.GetToken(); t != nil && t.Position != nil {
				line = t.Position.Line
			}
		}
		says, _, _ = strings.Cut(says, "\n")
		return nil, line, errors.New(strings.ReplaceAll(says, "\t", " "))
	}
	for _, doc := range file.Docs {
		if _, comment := doc.Body.(*ast.CommentGroupNode); doc.Body != nil && !comment {
			n := 0
			return valueOf(doc.Body, 0, &n), 0, nil
		}
	}
	return nil, 1, errors.New("it is empty")
}

// deepYAML reports values nested deeper than the parser should follow, which
// recurses for every level.
func deepYAML(text string) (line int, deep bool) {
	open := 0
	line = 1
	for l := range strings.SplitSeq(text, "\n") {
		if blank := len(l) - len(strings.TrimLeft(l, " \t-?")); blank > 4*maxNesting {
			return line, true
		}
		open += strings.Count(l, "{") + strings.Count(l, "[") - strings.Count(l, "}") - strings.Count(l, "]")
		if open = max(0, open); open > maxNesting || strings.Count(l, "{")+strings.Count(l, "[") > 40*maxNesting {
			return line, true
		}
		line++
	}
	return 0, false
}

func valueOf(n ast.Node, depth int, count *int) *value {
	v := &value{line: 1}
	if n == nil {
		return v
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		v.line = t.Position.Line
	}
	if *count++; *count > maxValues || depth > maxNesting {
		return v
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		v.kind = isObject
		for _, m := range n.Values {
			v.members = append(v.members, memberOf(m, depth, count))
		}
	case *ast.MappingValueNode:
		v.kind = isObject
		v.members = append(v.members, memberOf(n, depth, count))
	case *ast.SequenceNode:
		v.kind = isList
		for _, item := range n.Values {
			v.items = append(v.items, valueOf(item, depth+1, count))
		}
	case *ast.StringNode:
		v.kind, v.text = isString, n.Value
	case *ast.LiteralNode:
		v.kind = isString
		if n.Value != nil {
			v.text = n.Value.Value
		}
	case *ast.IntegerNode:
		v.kind, v.text = isNumber, n.GetToken().Value
	case *ast.FloatNode:
		v.kind, v.text = isNumber, n.GetToken().Value
	case *ast.BoolNode:
		v.kind, v.text = isBool, strconv.FormatBool(n.Value)
	}
	return v
}

func memberOf(n *ast.MappingValueNode, depth int, count *int) member {
	m := member{value: valueOf(n.Value, depth+1, count), line: 1}
	if t := n.Key.GetToken(); t != nil {
		m.key = t.Value
		if t.Position != nil {
			m.line = t.Position.Line
		}
	}
	return m
}

// A settings reader turns the values of one file into what they mean. What
// does not fit is told and left out.
type settings struct {
	*report
	file string
}

// keys of an object: those that mean something here, and those that have a
// meaning elsewhere and are passed over.
type keys struct{ known, passed []string }

// members gives the members of an object by their keys. The last of several
// with one key counts.
func (s settings) members(v *value, what string, k keys) map[string]member {
	found := map[string]member{}
	if v == nil || v.kind == isNull {
		return found
	}
	if v.kind != isObject {
		s.warn(s.file, v.line, "write it between { and }", "%s must be an object, not %s", what, v.kind)
		return found
	}
	for _, m := range v.members {
		key := m.key
		if !slices.Contains(k.known, key) {
			i := slices.IndexFunc(k.known, func(known string) bool { return strings.EqualFold(known, strings.TrimSpace(key)) })
			switch {
			case i >= 0:
				s.warn(s.file, m.line, "write "+quote(k.known[i]), "%s stands for %s", quote(key), quote(k.known[i]))
				key = k.known[i]
			case slices.Contains(k.passed, key):
				continue
			default:
				hint := ""
				if near := nearest(key, k.known); near != "" {
					hint = "did you mean " + quote(near) + "?"
				}
				s.warn(s.file, m.line, hint, "%s is not known in %s", quote(key), what)
				continue
			}
		}
		if before, twice := found[key]; twice {
			s.warn(s.file, m.line, fmt.Sprintf("it is set in line %d already", before.line), "%s is set twice", quote(key))
		}
		found[key] = m
	}
	return found
}

// text gives a text; a number is one too.
func (s settings) text(m member) string {
	switch v := m.value; {
	case v == nil, v.kind == isNull:
		return ""
	case v.kind == isString || v.kind == isNumber:
		return v.text
	default:
		s.warn(s.file, m.line, "write it between quotes", "%s must be a text, not %s", quote(m.key), v.kind)
		return ""
	}
}

// line gives a text on one line.
func (s settings) lineOf(m member) string {
	return strings.Join(strings.Fields(s.text(m)), " ")
}

// number gives a whole number from 0 to most, or 0.
func (s settings) number(m member, most int) int {
	v := m.value
	if v == nil || v.kind == isNull || v.text == "" && v.kind == isString {
		return 0
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(v.text), 64)
	if err != nil || v.kind != isNumber && v.kind != isString || n != float64(int(n)) || n < 0 || n > float64(most) {
		s.warn(s.file, m.line, fmt.Sprintf("write a number from 0 to %d", most), "%s cannot be %s", quote(m.key), v)
		return 0
	}
	if v.kind == isString {
		s.warn(s.file, m.line, "write it without quotes", "%s should be a number, not a text", quote(m.key))
	}
	return int(n)
}

// yes gives a boolean.
func (s settings) yes(m member) bool {
	v := m.value
	if v == nil || v.kind == isNull {
		return false
	}
	switch word := strings.ToLower(strings.TrimSpace(v.text)); {
	case v.kind == isBool:
		return word == "true"
	case v.kind == isString && (word == "true" || word == "yes" || word == "1"), v.kind == isNumber && word == "1":
		s.warn(s.file, m.line, "write `true` without quotes", "%s should be a boolean, not %s", quote(m.key), v.kind)
		return true
	case v.kind == isString && (word == "false" || word == "no" || word == "0" || word == ""), v.kind == isNumber && word == "0":
		s.warn(s.file, m.line, "write `false` without quotes", "%s should be a boolean, not %s", quote(m.key), v.kind)
		return false
	}
	s.warn(s.file, m.line, "write `true` or `false`", "%s cannot be %s", quote(m.key), v)
	return false
}

// list gives the items of a list; one thing that is not a list is a list of
// one.
func (s settings) list(m member) []*value {
	switch v := m.value; {
	case v == nil, v.kind == isNull:
		return nil
	case v.kind == isList:
		return v.items
	default:
		s.warn(s.file, m.line, "write it between [ and ]", "%s must be a list, not %s", quote(m.key), v.kind)
		return []*value{v}
	}
}

// String shows a value in a message.
func (v *value) String() string {
	switch v.kind {
	case isString, isNumber, isBool:
		return quote(v.text)
	}
	return v.kind.String()
}
