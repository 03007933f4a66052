package markdown

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"berth/labs"
)

// readBack writes a Draft, and loads what was written from a folder that holds
// it with the Draft's assets and images.
func readBack(t testing.TB, d Draft) (text string, want, got *labs.Lesson, told []labs.Mistake) {
	t.Helper()
	d.Lenient = true
	want, mistakes := Build(d)
	b, told := Write(d)
	if want == nil {
		if b != nil {
			t.Errorf("a text of no lesson: %s", errorsOf(mistakes))
		}
		return "", nil, nil, told
	}
	id := want.ID
	fsys := fstest.MapFS{id + "/lab.md": {Data: b}}
	add := func(name string) {
		if data, err := fs.ReadFile(d.Lesson.Dir, name); err == nil {
			fsys[id+"/"+name] = &fstest.MapFile{Data: data}
		}
	}
	for _, a := range want.Assets {
		add(a.From)
	}
	for _, name := range Images(want) {
		add(name)
	}
	got, ms := Load(fsys, id)
	if got == nil {
		t.Fatalf("what is written does not load: %s\n%s", errorsOf(ms), b)
	}
	safe(t, got)
	return string(b), want, got, told
}

var blankRuns = regexp.MustCompile(`\s+`)

// likeness gives what has to be alike, a line each.
func likeness(l *labs.Lesson) string {
	n := *l
	n.Dir, n.Source, n.Format, n.Course = nil, "", "", ""
	n.Assets = slices.Clone(l.Assets)
	slices.SortFunc(n.Assets, func(a, b labs.Asset) int { return strings.Compare(a.From+a.To, b.From+b.To) })
	n.Vars = slices.Clone(l.Vars)
	slices.SortFunc(n.Vars, func(a, b labs.Var) int { return strings.Compare(a.Name, b.Name) })
	html := func(s *string) {
		*s = strings.TrimSpace(blankRuns.ReplaceAllString(pageIDs.ReplaceAllString(*s, ""), " "))
		*s = strings.ReplaceAll(*s, " </", "</") // what was not closed holds more of them
	}
	html(&n.Intro.HTML)
	html(&n.Finish.HTML)
	n.Steps = slices.Clone(l.Steps)
	for i := range n.Steps {
		html(&n.Steps[i].HTML)
		html(&n.Steps[i].Solution.HTML)
		n.Steps[i].Hints = slices.Clone(n.Steps[i].Hints)
		for j := range n.Steps[i].Hints {
			html(&n.Steps[i].Hints[j])
		}
	}
	var b strings.Builder
	dump(&b, "", reflect.ValueOf(n))
	return b.String()
}

func sameLesson(t testing.TB, text string, want, got *labs.Lesson) {
	t.Helper()
	if w, g := likeness(want), likeness(got); w != g {
		t.Errorf("it reads otherwise: %s\n%s", diff(w, g), text)
	}
}

func TestWriteReadsBack(t *testing.T) {
	yes := true
	text := "a: b\n"
	everything := Draft{
		Lesson: labs.Lesson{
			ID: "lab", Title: "Yes: \"no\" # & more", Summary: "It's a: summary", Level: "advanced", Minutes: 3, Image: "debian:13", Egress: labs.EgressInternet,
			Pulls: []labs.Pull{{Ref: "redis:7", Standin: "redis"}, {Ref: "alpine"}}, Hosts: 2, Hostname: "host01",
			Vars:  []labs.Var{{Name: "port", Low: 0, High: 99}, {Name: "c", Pick: []string{"a b", "yes"}}, {Name: "v", Value: ": \\ \"x\""}},
			Paged: true, Layout: labs.LayoutEditor, Open: "~/{{v}}", Greeting: "\x1b[1mHi {{c}}\x1b[0m\n  you\n",
			Terminals: []labs.TerminalTab{{Name: "1", Title: "Shell"}, {Name: "2@2", Command: "ssh {{c}} # x: y"}},
			Tabs:      []labs.Tab{{Title: "A", Port: 80}, {Title: "B", Port: 8080, Host: 2, Path: "/x?y"}, {Title: "C", URL: "https://example.com/#a"}},
			Assets: []labs.Asset{
				{From: "assets/a.sh", To: "/root/a.sh", Mode: 0o755}, {From: "assets/b.sh", To: "/root/b.sh", Mode: 0o755},
				{From: "tree/x", To: "/srv/x"}, {From: "tree/y/z", To: "/srv/y/z"}, {From: "one/only", To: "~/only", Host: 2},
				{From: "files/home", To: "~/home"}, {From: "odd/[a]*", To: "/odd/[a]*"},
			},
			Dir: fstest.MapFS{
				"assets/a.sh": {}, "assets/b.sh": {}, "tree/x": {}, "tree/y/z": {}, "one/only": {}, "one/other": {}, "files/home": {}, "files/not": {},
				"text/x.png": {}, "pics/y z.png": {}, "odd/[a]*": {},
			},
			Source: "index.json",
		},
		Parts: []DraftPart{
			{ID: labs.IntroID, Text: "# Hello\n\n[^1] ![x](x.png \"t\") ![x.png](<../pics/y z.png>) <img src='x.png'>\n\n[^1]: intro\n", File: "text/intro.md",
				Arrival: labs.Arrival{Setup: []labs.Setup{{Code: "a\n\n```\nb"}, {Code: "x", Host: 2}}, Type: []labs.Command{{Code: "one\n two", Terminal: "t@2", Interrupt: true, NoEnter: true}, {Code: "^C", Keys: true}}}},
			{ID: "given", Title: "A *title* {#no} with `code` & <b> #", File: "text/1.md",
				Text: "Text\n====\n\n- item\n\n  Under\n  line\n  ---\n\n## Second ##\n\n[ref] and [text][ref], [ref][], [^n] [^1] `[ref]`\n\n```sh {terminal=2 host=2}\necho '{{port}}' {{.Go}}\n```\n\n[ref]: https://one.example\n[^n]: *note*\n[^1]: one\n"},
			{Title: "Second", File: "text/2.md", Text: "### Third\n\n[ref] [other] [^n] [^1]\n\n[REF]: https://two.example\n[^n]: two\n\n```sh\nunclosed {{preview 2:80}}",
				Hints: []string{"Hint ```` x\n\n```frob\nx\n```\n", "two"}, Solution: "Do *this*\n\n```sh\n./x\n```\n\n`ls`\n\n````sh\ncat <<E\n```\nE\n````\n",
				Checks: []labs.Check{
					{Name: "script", Hint: "x: y", Optional: true, Not: true, Script: "#!/bin/bash\n\n  if true; then\n\techo \"{{c}}\"\n  fi\n", Prints: "done"},
					{Name: "image", Image: &labs.ImageCheck{Ref: "a:1", Layers: labs.Number{Op: '>', Value: 3}, Size: labs.Number{Op: '<', Value: 20e6}, Entrypoint: []string{"sh", "-c"}, Cmd: []string{}, Env: []string{"A=1: 2"}, Label: []string{"x"}, Path: "/x", Text: labs.TextRule{Equals: &text}}},
					{Name: "container", Container: &labs.ContainerCheck{Image: "a", Command: "^x [0-9]+$", State: "running", Exit: labs.Number{Op: '=', Value: 0}, Logs: labs.TextRule{Contains: "x", Matches: regexp.MustCompile(`^\d "q"$`)}, Health: "healthy", Publishes: []string{"8080:80"}, Mounts: []string{"/data"}, Memory: labs.Number{Op: '=', Value: 1}}},
					{Name: "named", Container: &labs.ContainerCheck{Name: "web"}},
					{Name: "volume", Volume: "v"}, {Name: "network", Network: "n"},
					{Name: "file", File: &labs.FileCheck{Path: "~/**/x", Text: labs.TextRule{Exists: &yes}, Mode: "0755", Dir: &yes, TarHas: []string{"a"}}},
					{Name: "archive", File: &labs.FileCheck{Path: "~/*.tar", Archive: "a:1"}},
					{Name: "layer", Layer: &labs.LayerCheck{Ref: "a", Under: "~"}},
					{Name: "ran", Ran: &labs.RanCheck{Pattern: regexp.MustCompile(`docker\s+run '`), Exit: labs.Number{Op: '=', Value: 1}}},
					{Name: "port", Port: &labs.PortCheck{Port: 80, Path: "/x", Status: labs.Number{Op: '=', Value: 200}, Body: labs.TextRule{Contains: "ok: {{v}}"}}},
				}},
			{Title: "Third", File: "text/3.md", Text: "```quiz\nIt?\n(x) yes\n( ) no\n```\n\n```check\nname: behind\nfile: ~/x\n```\n\n<!-- unclosed\n", Checks: []labs.Check{{Name: "before", Script: "true"}}},
			{ID: labs.FinishID, Text: "Bye\n\n    indented\n", Arrival: labs.Arrival{Type: []labs.Command{{Code: "exit"}}}},
		},
	}
	written, want, got, told := readBack(t, everything)
	sameLesson(t, written, want, got)
	for _, m := range told {
		t.Errorf("told: %s", m.Error())
	}
	if t.Failed() {
		t.Log(written)
	}
}

// draftOf takes a lab.md apart as somebody who translates it would.
func draftOf(t testing.TB, name string) Draft {
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	text := ""
	for _, f := range a.Files {
		switch f.Name {
		case "want":
		case "lab.md":
			text = string(f.Data)
			fallthrough
		default:
			fsys[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	d := Draft{Lesson: labs.Lesson{ID: "lab", Title: "A lab", Hosts: 3, Dir: fsys, Source: "lab.md", Vars: []labs.Var{{Name: "port", Low: 1, High: 2}, {Name: "colour", Value: "red"}, {Name: "app", Value: "x"}}}}
	if _, body, ok := strings.Cut(strings.TrimPrefix(text, "---\n"), "\n---\n"); ok {
		text = body
	}
	for i, part := range regexp.MustCompile(`(?m)^## `).Split(text, -1) {
		p := DraftPart{File: fmt.Sprintf("part%d.md", i), ID: labs.IntroID, Text: part}
		if i > 0 {
			p.ID = ""
			p.Title, p.Text, _ = strings.Cut(part, "\n")
		}
		d.Parts = append(d.Parts, p)
	}
	return d
}

func TestWriteReadsBackOurOwn(t *testing.T) {
	names, _ := filepath.Glob("testdata/golden/*.txt")
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			written, want, got, told := readBack(t, draftOf(t, name))
			if want == nil {
				t.Fatal(errorsOf(told))
			}
			if len(told) > 0 {
				t.Errorf("told: %s", errorsOf(told))
			}
			sameLesson(t, written, want, got)
		})
	}
}

// broken are texts with mistakes that Write mends without a loss.
var broken = []string{
	"", "`ls`\n", "# A\n\nB\n===\n", "[a]\n\n[a]: https://a.example\n", "[a] x[^1]\n\n[^1]: b\n", "```sh\nunclosed", "> ```frob {x}\n> a\n", "- `a`{frob} `b`{copy once}\n",
	"> [!FROB] x\n> y\n", "> [!NOTE]\n> y `x`{open}\n", "```check\nbroken\n```\n", "```quiz\nx\n```\nafter\n", "```file\nx\n```\n", "```solution\ncat <<E\n```\n", "```hint\n```\n",
	"````hint\n```frob\nx\n```\n````\n", "~~~sh {host=9}\nx\n", strings.Repeat(">", 90) + "\n", strings.Repeat("word ", maxText/4) + "\n", "{{preview 80}} [x]({{preview 80}}/y) {{port}}\n",
	"text\n---\n", "<pre>\n", "  1. a\n\n     ```sh\n     x", "\tindented\n", "```sh\n```\n", "```console\n$ echo \"\n```\n", "~~~console\n$ a\nb\n~~~\n", "a\n\n<!-- x", "`a`{keys}\n", "`x`{terminal=2}\n",
	"Title #\n---\n\nx", "## {#a}\n", "a<br>b  \nc\\\nd", "```solution\nls\n```\n", "| a |\n|---|\n| `b`{run} |\n", "[x]: y\n[a]\n", "***\n", "http://a.example/ <b@c.example>",
	"~~~sh {frob=\"`\"}\nx\n~~~\n", "* * *\n- a\n- b\n", "&amp; &lt;b&gt; \\*x\\*", "x\u200by \u2028", "![a](b.png)\n", "<details>\n\n```sh\nls\n```\n",
}

// Whatever parts a Draft is made of, what is written loads, and is the same or
// is said not to be.
func TestWriteReadsBackWhatIsWrong(t *testing.T) {
	t.Run("mistakes", func(t *testing.T) { writeParts(t, broken, 100, true) })
	texts := slices.Clone(broken)
	for _, a := range attacks {
		texts = append(texts, a)
	}
	slices.Sort(texts)
	t.Run("attacks", func(t *testing.T) { writeParts(t, texts, 60, false) })
}

func writeParts(t *testing.T, texts []string, times int, wholly bool) {
	r := rand.New(rand.NewPCG(1, 2))
	for range times {
		d := Draft{Lesson: labs.Lesson{ID: "lab", Title: "T", Dir: fstest.MapFS{}, Source: "index.json"}}
		for i := range 1 + r.IntN(4) {
			p := DraftPart{File: fmt.Sprintf("%d.md", i), Title: texts[r.IntN(len(texts))]}
			if len(p.Title) > 80 {
				p.Title = ""
			}
			for range 1 + r.IntN(3) {
				p.Text += texts[r.IntN(len(texts))] + "\n\n"
			}
			if r.IntN(3) == 0 {
				p.Hints = []string{texts[r.IntN(len(texts))]}
				p.Solution = texts[r.IntN(len(texts))]
			}
			d.Parts = append(d.Parts, p)
		}
		written, want, got, told := readBack(t, d)
		switch {
		case want == nil:
			continue
		case len(told) == 0:
			sameLesson(t, written, want, got)
		case wholly:
			t.Errorf("%s\n%s\n%+v\n%s", errorsOf(told), diff(likeness(want), likeness(got)), d.Parts, written)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

func TestFenceAndSpan(t *testing.T) {
	for _, code := range []string{"ls", "a\nb", "", "```", "````\n```sh\nx\n```\n````", " `a` ", "`", "``", "a``b`c", " x ", "  indented\n\ttab", "x\n", "a ```` b", "~~~\n```"} {
		for _, info := range []string{"sh", "text", "file {path=~/x marker=\"`\" mode=insert}"} {
			l, ms := lenient(Fence(info, code) + "\n")
			if l == nil || len(ms) > 0 && strings.TrimSpace(code) != "" {
				t.Errorf("%q %q: %s", info, code, errorsOf(ms))
				continue
			}
			s := l.Steps[0]
			switch {
			case info == "sh" && strings.TrimSpace(code) != "" && s.Commands[0].Code != code:
				t.Errorf("%q: the command is %q", code, s.Commands[0].Code)
			case strings.HasPrefix(info, "file") && s.Files[0].Text != code+"\n" && code != "":
				t.Errorf("%q: the file is %q", code, s.Files[0].Text)
			}
		}
		if strings.TrimSpace(code) == "" || strings.Contains(code, "\n\n") || strings.Contains(code, "~") || strings.HasSuffix(code, "\n") || strings.Contains(code, "```sh") {
			continue
		}
		l, ms := lenient("Type " + Span(code, "{run}") + ".\n")
		if l == nil || len(ms) > 0 || len(l.Steps[0].Commands) != 1 || l.Steps[0].Commands[0].Code != code {
			t.Errorf("%q as inline code: %s %+v", code, errorsOf(ms), l.Steps[0].Commands)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	text, err := os.ReadFile("../../content/container-image/lab.md")
	if err != nil {
		b.Fatal(err)
	}
	_, body, _ := strings.Cut(strings.TrimPrefix(string(text), "---\n"), "\n---\n")
	d := Draft{Lesson: labs.Lesson{ID: "lab", Title: "A lab", Dir: os.DirFS("../../content/container-image"), Source: "lab.md"}, Lenient: true}
	for i, part := range regexp.MustCompile(`(?m)^## `).Split(body, -1) {
		p := DraftPart{File: "lab.md", ID: labs.IntroID, Text: part}
		if i > 0 {
			p.ID = ""
			p.Title, p.Text, _ = strings.Cut(part, "\n")
		}
		d.Parts = append(d.Parts, p)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if text, _ := Write(d); text == nil {
			b.Fatal("nothing is written")
		}
	}
}
