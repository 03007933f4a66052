package markdown

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"berth/labs"
)

// safe parses everything of a lesson that reaches a page, as a browser would,
// and fails when it finds what no lesson may bring.
func safe(t testing.TB, l *labs.Lesson) {
	t.Helper()
	commands := map[string]string{}
	for _, s := range l.Steps {
		for _, c := range s.Commands {
			commands[c.ID] = c.Code
		}
		for _, c := range s.Solution.Commands {
			commands[c.ID] = c.Code
		}
	}
	check := func(name, text string) {
		for _, problem := range unsafeParts(text, commands) {
			t.Errorf("%s: %s\n%s", name, problem, text)
		}
	}
	check("intro", l.Intro.HTML)
	check("finish", l.Finish.HTML)
	for _, s := range l.Steps {
		check(s.ID, s.HTML)
		check(s.ID+" solution", s.Solution.HTML)
		for _, h := range s.Hints {
			check(s.ID+" hint", h)
		}
	}
}

// ourAttributes are those that only our blocks have.
var ourAttributes = []string{"data-command", "data-terminal", "data-interrupt", "data-once", "data-code", "data-file", "data-path", "data-keys", "data-no-enter", "data-mode", "data-host", "data-open", "data-quiz"}

func unsafeParts(text string, commands map[string]string) (problems []string) {
	body := &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body}
	nodes, err := html.ParseFragment(strings.NewReader(text), body)
	if err != nil {
		return []string{err.Error()}
	}
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var visit func(n *html.Node, ours bool)
	visit = func(n *html.Node, ours bool) {
		if n.Type == html.CommentNode || n.Type == html.DoctypeNode {
			report("a comment is left: %q", n.Data)
		}
		if n.Type == html.ElementNode {
			attrs := map[string]string{}
			for _, a := range n.Attr {
				attrs[a.Key] = a.Val
			}
			quiz := n.Data == "form" && attrs["class"] == "quiz"
			ours = ours || quiz || n.Data == "div" && strings.HasPrefix(attrs["class"], "block ") || n.Data == "span" && strings.HasPrefix(attrs["class"], "code ")
			if _, ok := elements[n.Data]; (!ok || n.Namespace != "") && !(ours && slices.Contains([]string{"button", "form", "fieldset", "legend", "label"}, n.Data)) {
				report("element <%s>", n.Data)
			}
			if code, runs := attrs["data-command"]; runs {
				if commands[code] != attrs["data-code"] {
					report("the page would run %q for %s, the lesson says %q", attrs["data-code"], code, commands[code])
				}
			}
			for _, a := range n.Attr {
				switch {
				case ours && slices.Contains(ourAttributes, a.Key):
				case ours && n.Data == "input" && slices.Contains([]string{"type", "name", "value", "maxlength", "autocomplete"}, a.Key):
				case attrs["class"] == "preview" && n.Data == "a" && (slices.Contains([]string{"data-port", "data-host", "data-path", "class"}, a.Key) || a.Key == "href" && strings.HasPrefix(a.Val, markBegin)):
				case ours && (a.Key == "class" || n.Data == "button" && (a.Key == "type" || a.Key == "disabled")):
				case strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(a.Key, "data-") || a.Key == "srcset" || a.Key == "srcdoc" || a.Key == "formaction":
					report("attribute %s=%q of <%s>", a.Key, a.Val, n.Data)
				case a.Key == "id":
					if !strings.HasPrefix(a.Val, "h.") && !strings.HasPrefix(a.Val, "fn") {
						report("id %q", a.Val)
					}
				case a.Key == "class":
					if a.Val != "footnotes" && a.Val != "callout-title" && !strings.HasPrefix(a.Val, "callout ") {
						report("class %q of <%s>", a.Val, n.Data)
					}
				case a.Key == "href":
					u, err := url.Parse(a.Val)
					if err != nil || !slices.Contains([]string{"", "http", "https", "mailto"}, u.Scheme) || u.Scheme == "" && !strings.HasPrefix(a.Val, "#") && !strings.HasPrefix(a.Val, "/labs/") {
						report("link to %q", a.Val)
					} else if u.Scheme != "" && u.Scheme != "mailto" && attrs["rel"] != "noopener noreferrer" {
						report("link to %q gives the page away", a.Val)
					}
				case a.Key == "src":
					if !strings.HasPrefix(a.Val, "/labs/") || strings.Contains(a.Val, "..") {
						report("image from %q", a.Val)
					}
				case a.Key == "target" && a.Val == "_blank", a.Key == "rel", a.Key == "loading", a.Key == "decoding":
				case slices.Contains(elements[n.Data], a.Key), slices.Contains(global, a.Key):
				default:
					report("attribute %s=%q of <%s>", a.Key, a.Val, n.Data)
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			visit(c, ours)
		}
	}
	for _, n := range nodes {
		visit(n, false)
	}
	// What a browser reads must be what was written: nothing left open.
	if depth := strings.Count(text, "<div"); depth != strings.Count(text, "</div>") {
		report("%d <div> and %d </div>", depth, strings.Count(text, "</div>"))
	}
	return problems
}
