package markdown

import (
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"berth/labs"
)

var frontKeys = []string{"title", "summary", "level", "minutes", "image", "pulls", "egress"}

// imageRef is the shape of an image reference; whether there is such an image
// only a registry knows.
var imageRef = regexp.MustCompile(`^[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

// recipeName is what a recipe's folder is called.
var recipeName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// frontMatter reads the settings of a lesson into l.
func frontMatter(text string, r *report, l *labs.Lesson) {
	y := &yamlReader{r, 2}
	l.Image, l.Egress = "docker", labs.EgressMirror
	settings := y.parse(text, "the front matter")
	if settings == nil {
		if !r.failed {
			r.add(1, "write `title: …`", "the front matter is empty")
		}
		return
	}
	titled := false
	for _, s := range settings {
		switch s.key {
		case "title":
			titled = true
			l.Title = y.sentence(s, 120)
		case "summary":
			l.Summary = y.sentence(s, 300)
		case "level":
			l.Level = y.oneOf(s, "beginner", "intermediate", "advanced")
		case "minutes":
			l.Minutes = y.integer(s, 1, 1000)
		case "image":
			if t, ok := y.word(s); ok && !imageRef.MatchString(t) {
				y.add(s.line, "name a recipe such as `docker`, or a reference such as `debian:13`", "`image` cannot be %s", quote(t))
			} else if ok {
				l.Image = t
			}
		case "egress":
			if e := y.oneOf(s, string(labs.EgressNone), string(labs.EgressMirror), string(labs.EgressInternet)); e != "" {
				l.Egress = labs.Egress(e)
			}
		case "pulls":
			for _, n := range y.items(s) {
				if p, ok := y.pull(n); ok {
					l.Pulls = append(l.Pulls, p)
				}
			}
		case "vars":
			y.add(s.line, "write the values themselves", "`vars` is not supported yet")
		default:
			y.unknown(s, frontKeys)
		}
	}
	if !titled {
		r.add(1, "write `title: …`", "the front matter has no title")
	}
}

// sentence gives one line of text of at most so many characters.
func (y *yamlReader) sentence(s setting, most int) string {
	t, ok := y.word(s)
	if !ok {
		return ""
	}
	t = strings.Join(strings.Fields(t), " ")
	if n := len([]rune(t)); n > most {
		y.add(s.line, "", "`%s` has %d characters; at most %d fit", s.key, n, most)
		return ""
	}
	return t
}

// pull gives an item of `pulls`: a reference, or one with its stand-in.
func (y *yamlReader) pull(n ast.Node) (labs.Pull, bool) {
	var p labs.Pull
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		for _, s := range y.mapping(n, "an item of `pulls`") {
			switch s.key {
			case "image":
				p.Ref, _ = y.word(s)
			case "standin":
				if p.Standin, _ = y.word(s); p.Standin != "" && !recipeName.MatchString(p.Standin) {
					y.add(s.line, "name a recipe", "`standin` cannot be %s", quote(p.Standin))
				}
			default:
				y.unknown(s, []string{"image", "standin"})
			}
		}
		if p.Ref == "" {
			y.add(y.line(n), "write `{image: redis:7, standin: redis}`", "an item of `pulls` names no image")
			return p, false
		}
	default:
		t, ok := y.scalar(n, "pulls", y.line(n))
		if !ok {
			return p, false
		}
		p.Ref = t
	}
	if !imageRef.MatchString(p.Ref) {
		y.add(y.line(n), "write it as `docker pull` takes it", "`pulls` cannot hold %s", quote(p.Ref))
		return p, false
	}
	return p, true
}
