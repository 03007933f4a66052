package markdown

import (
	"fmt"
	"strings"
	"testing"

	"berth/labs"
)

const withVars = `---
title: A lab
hosts: 2
vars:
  port: {random: 8000-8999}
  colour: {pick: [red, green]}
  evil: {value: "\"><script>alert(1)</script>javascript:"}
---
`

func previewOf(host, port int) string {
	return fmt.Sprintf("http://%d-%d-x.preview.localhost", port, host)
}

func TestValuesAreFilledIn(t *testing.T) {
	l, ms := load1(withVars + "## Step {{colour}}\n\nSee {{port}}, {{.Port}} and {{nothing}}.\n\n```sh\nrun -p {{port}}:80 --format '{{.ID}}' {{preview 2:80}}/x\n```\n\n[x](preview:{{port}}/y) [z](preview:80)\n\n" +
		"```check\nname: on {{port}}\nport: \"{{port}}\"\nbody: {matches: '^{{evil}}$'}\n```\n")
	if l == nil || len(ms) != 1 || !strings.Contains(ms[0].What, "preview:{{port}}/y") {
		t.Fatal(errorsOf(ms))
	}
	ports := map[string]bool{}
	for n := range 20 {
		for range 2 {
			m := l.For(fmt.Sprint("learner ", n), previewOf)
			safeFilled(t, m)
			s := m.Steps[0]
			port := fmt.Sprint(s.Checks[0].Port.Port)
			ports[port] = true
			if want := "run -p " + port + ":80 --format '{{.ID}}' http://80-2-x.preview.localhost/x"; s.Commands[0].Code != want {
				t.Errorf("the command is %q, want %q", s.Commands[0].Code, want)
			}
			if s.Title != "Step red" && s.Title != "Step green" {
				t.Errorf("the title is %q", s.Title)
			}
			if !strings.Contains(s.HTML, "See "+port+", {{.Port}} and {{nothing}}.") || !strings.Contains(s.HTML, `href="http://80-1-x.preview.localhost/"`) {
				t.Error(s.HTML)
			}
			if re := s.Checks[0].Port.Body.Matches; !re.MatchString(`"><script>alert(1)</script>javascript:`) {
				t.Errorf("the pattern is %s", re)
			}
		}
	}
	if len(ports) < 10 {
		t.Errorf("20 learners share %d ports", len(ports))
	}
}

// safeFilled holds a lesson to what safe does, when its values are in it.
func safeFilled(t testing.TB, l *labs.Lesson) {
	t.Helper()
	for _, html := range append([]string{l.Intro.HTML, l.Finish.HTML}, pagesOf(l)...) {
		if strings.Contains(html, "<script") || strings.Contains(html, `"javascript:`) || strings.Contains(html, markBegin) {
			t.Errorf("not safe:\n%s", html)
		}
	}
	for _, s := range l.Steps {
		for _, c := range s.Commands {
			if strings.Contains(c.Code, markBegin) {
				t.Errorf("a mark is left in %q", c.Code)
			}
		}
	}
}

func pagesOf(l *labs.Lesson) (all []string) {
	for _, s := range l.Steps {
		all = append(all, s.HTML, s.Solution.HTML)
		all = append(all, s.Hints...)
	}
	return all
}

// A stranger's lesson can hold what stands for a value, and a value can hold
// what it likes: neither gets anything onto the page.
func TestSpoofedMarks(t *testing.T) {
	evil := labs.Var{Name: "evil"}.Mark()
	preview := labs.Var{Name: "preview 80"}.Mark()
	for name, text := range map[string]string{
		"text":             evil + " zqb&#101;rth" + strings.TrimPrefix(evil, "zqberth"),
		"scheme":           "[x](" + evil + "alert(1)) <a href=\"" + evil + "alert(1)\">y</a> [z](" + evil + ":alert(1))",
		"attribute":        `<p title="` + evil + `" lang="` + evil + `">x</p> <img src="x.png" alt="` + evil + `">`,
		"heading":          "### " + evil + " {#" + evil + "}\n\n[x](#" + evil + ")",
		"code":             "`" + evil + "`{run} `" + evil + "`{copy} `/" + evil + "`{open}",
		"image":            "![x](" + evil + ".png) ![y](" + preview + "/x.png)",
		"file":             "```file {path=~/" + evil + "}\n" + evil + "\n```",
		"terminal":         "```sh {terminal=" + evil + "}\nx\n```",
		"quiz":             "```quiz\n" + evil + "\n(x) " + evil + "\n( ) b\n```",
		"escaped":          "```sh\necho \\{{evil}} \"\\{{evil}}\" $'{{evil}}'\n```",
		"preview is told":  "[x](https://evil.example/?" + preview + ") [y](mailto:x@" + preview + ") {{preview 80}}",
		"preview and more": "[x](" + preview + ".evil.example/) [y](" + preview + "@evil.example/) {{preview 80}}",
	} {
		t.Run(name, func(t *testing.T) {
			l, ms := load1(withVars + "## Step\n\n" + text + "\n")
			if l == nil {
				t.Log(errorsOf(ms))
				return
			}
			safe(t, l)
			m := l.For("learner", previewOf)
			safeFilled(t, m)
			for _, html := range pagesOf(m) {
				if strings.Contains(html, "evil.example") && strings.Contains(html, "href=") && strings.Contains(name, "preview") {
					t.Errorf("a link tells the preview's address:\n%s", html)
				}
			}
		})
	}
}
