package markdown

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"berth/labs"
)

// FuzzLoad: whatever the text, loading ends without a panic, the page is safe,
// and every mistake can be printed.
func FuzzLoad(f *testing.F) {
	for _, text := range attacks {
		f.Add([]byte(inStep + text + "\n"))
		f.Add([]byte(inStep + text + "\n\n```sh\necho \"after\" onclick=x\n```\n"))
	}
	names, _ := filepath.Glob("testdata/golden/*.txt")
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	if b, err := os.ReadFile("../../content/container-image/lab.md"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("\xef\xbb\xbf---\r\ntitle: x\r\n---\r\n## a\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, mistakes := load1(string(text))
		failed := false
		for _, m := range mistakes {
			failed = failed || !m.Warn
			if s := m.Error(); strings.ContainsAny(s, "\n\x1b") || !utf8.ValidString(s) {
				t.Errorf("mistake %q", s)
			}
			if m.Line < 0 || m.Line > strings.Count(string(text), "\n")+strings.Count(string(text), "\r")+2 {
				t.Errorf("line %d of %d bytes: %s", m.Line, len(text), m.What)
			}
		}
		if failed != (l == nil) {
			t.Errorf("lesson: %v, mistakes: %v", l != nil, mistakes)
		}
		if l == nil {
			return
		}
		safe(t, l)
		seen := map[string]bool{}
		for _, s := range l.Steps {
			if seen[s.ID] || !stepID.MatchString(s.ID) {
				t.Errorf("step id %q", s.ID)
			}
			seen[s.ID] = true
			for _, c := range s.Commands {
				if c.Code == "" || c.Terminal == "" {
					t.Errorf("command %+v", c)
				}
			}
		}
	})
}

// FuzzCheck: the YAML of a check, which is parsed with a library's parser.
func FuzzCheck(f *testing.F) {
	a, err := txtar.ParseFile("testdata/golden/checks.txt")
	if err != nil {
		f.Fatal(err)
	}
	for i, part := range strings.Split(string(a.Files[0].Data), "```") {
		if i%2 == 1 {
			f.Add(strings.TrimPrefix(part, "check\n"))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := &report{file: "lab.md"}
		c := parseCheck(text, 1, nil, r)
		if (c == nil) != r.failed {
			t.Errorf("check %+v with mistakes %v", c, r.mistakes)
		}
	})
}

// FuzzSplitCommands: nothing but comments and blank lines is lost.
func FuzzSplitCommands(f *testing.F) {
	for _, c := range shellCases {
		f.Add(c.code)
	}
	f.Fuzz(func(t *testing.T, code string) {
		commands, _ := splitCommands(code)
		at := 0
		for _, c := range commands {
			i := strings.Index(code[at:], c)
			if i < 0 {
				t.Fatalf("command %q is not in %q", c, code)
			}
			at += i + len(c)
		}
	})
}

// FuzzBuild: whatever a translator hands over, there is a lesson, all mistakes
// are warnings, and what Write makes of it loads.
func FuzzBuild(f *testing.F) {
	for _, text := range broken {
		f.Add(text, "`x`", "```sh\nls\n```")
	}
	for _, text := range attacks {
		f.Add(text, text, text)
	}
	names, _ := filepath.Glob("testdata/golden/*.txt")
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(a.Files[0].Data), "hint", "solution")
	}
	f.Fuzz(func(t *testing.T, text, hint, solution string) {
		d := Draft{
			Lesson: labs.Lesson{ID: "lab", Title: "A lab", Hosts: 2, Dir: fstest.MapFS{}, Source: "index.json", Vars: []labs.Var{{Name: "port", Low: 1, High: 2}}},
			Parts: []DraftPart{
				{ID: labs.IntroID, Text: solution, File: "intro.md"},
				{Title: "One", Text: text, File: "a/1.md", Hints: []string{hint}, Solution: solution},
				{Title: "Two", Text: "`after`\n\n" + hint, File: "2.md"},
			},
			Lenient: true,
		}
		l, mistakes := Build(d)
		if l == nil {
			t.Fatalf("no lesson: %v", mistakes)
		}
		for _, m := range mistakes {
			if s := m.Error(); !m.Warn || strings.ContainsAny(s, "\n\x1b") || !utf8.ValidString(s) {
				t.Errorf("mistake %+v", m)
			}
		}
		safe(t, l)
		if n := len(l.Steps); n != 2 || len(l.Steps[1].Commands) == 0 || l.Steps[1].Commands[0].Code != "after" {
			t.Errorf("a step lost its command: %+v", l.Steps)
		}
		b, told := Write(d)
		got, ms := Load(fstest.MapFS{"lab/lab.md": {Data: b}}, "lab")
		if got == nil {
			t.Fatalf("what is written does not load: %s\n%s", errorsOf(ms), b)
		}
		for _, m := range told {
			if !m.Warn {
				t.Errorf("told %+v", m)
			}
		}
	})
}

// FuzzFence: the info of a fence, and attributes written again.
func FuzzFence(f *testing.F) {
	for _, info := range []string{"sh", "sh {terminal=2}", `file {path="a \" b" mode=insert marker='x'}`, "sh {copy once}", "json {copy", "{a=b}", "quiz", "solution {markdown}", "sh {a=\"\\", "sh\t{host=2 host=3}"} {
		f.Add(info)
	}
	f.Fuzz(func(t *testing.T, info string) {
		strict, lenient := &report{}, &report{lenient: true}
		b, ok := parseFence(info, 1, "x\n", strict)
		if ok == strict.failed {
			t.Errorf("%q: %v with %v", info, ok, strict.mistakes)
		}
		c, _ := parseFence(info, 1, "x\n", lenient)
		if lenient.failed || c == nil {
			t.Errorf("%q: %+v with %v", info, c, lenient.mistakes)
		}
		if !ok {
			return
		}
		again := &report{}
		d, ok := parseFence(b.info(), 1, "x\n", again)
		if !ok || !maps.Equal(b.attrs, d.attrs) || b.word != d.word {
			t.Errorf("%q is written %q: %+v, %v", info, b.info(), d, again.mistakes)
		}
	})
}

// FuzzInline: attributes behind inline code; the code runs as it is written.
func FuzzInline(f *testing.F) {
	for _, attrs := range []string{"{run}", "{copy}", "{open}", "{keys}", "{run terminal=2 host=2 interrupt once no-enter}", "{.norun}", "{run", "{{run}}", `{run terminal="}"}`, "{run}{copy}"} {
		f.Add("ls -l", attrs)
		f.Add("cat <<E\n a\nE", attrs)
		f.Add("`a` `", attrs)
	}
	f.Fuzz(func(t *testing.T, code, attrs string) {
		if firstBad([]byte(code)) >= 0 || strings.TrimSpace(code) == "" || strings.Contains(attrs, "\n") {
			return
		}
		l, _ := lenient("Type " + Span(code, attrs) + ".\n")
		if l == nil {
			t.Fatal("no lesson")
		}
		safe(t, l)
		plain := !strings.ContainsAny(code, "\n\t") && !strings.HasPrefix(code, " ") && !strings.Contains(code, "{{") && len(code) < 1000 && !strings.ContainsFunc(code, isBidiControl)
		if attrs == "{run}" && plain && (len(l.Steps[0].Commands) != 1 || l.Steps[0].Commands[0].Code != code) {
			t.Errorf("%q runs as %+v", code, l.Steps[0].Commands)
		}
	})
}

// FuzzQuiz: nothing that is right is in what is shown.
func FuzzQuiz(f *testing.F) {
	for _, q := range []string{"What?\n(x) a\n( ) b", "What?\n[x] a\n[ ] b", "What?\n= a", "What?\n~ a b", "", "(x)", "a\n(x] b", "= a\n~ b", "a\n\n( ) *b\n(x) `c` <b>"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := &report{}
		q := parseQuiz(text, 1, r)
		if (q == nil) != r.failed {
			t.Errorf("%+v with %v", q, r.mistakes)
		}
		l, _ := lenient(Fence("quiz", text) + "\n\ntext\n")
		if l == nil {
			t.Fatal("no lesson")
		}
		safe(t, l)
		for _, c := range l.Steps[0].Checks {
			if c.Quiz == nil || c.Name == "" && c.Quiz.Question != "" {
				t.Errorf("%+v", c)
			}
		}
	})
}

// FuzzVars: the front matter, and values in the text.
func FuzzVars(f *testing.F) {
	for _, vars := range []string{"{a: {value: x}}", "{a: {pick: [x, y]}}", "{a: {random: 1-9}}", "{a: {value: \"\\\"><script>\"}}", "{preview: {value: x}}", "[a]", "{a: {random: 9-1}}"} {
		f.Add(vars, "{{a}} {{preview 80}} {{.a}} {{preview 2:80}} [x]({{a}}) [y](https://{{a}}/) `{{a}}`{run}")
	}
	f.Fuzz(func(t *testing.T, vars, text string) {
		l, _ := load1("---\ntitle: x\nhosts: 2\nvars: " + vars + "\n---\n## Step\n\n" + text + "\n")
		if l == nil {
			return
		}
		safe(t, l)
		m := l.For("learner", previewOf)
		for _, html := range pagesOf(m) {
			for _, problem := range unsafeParts(html, nil) {
				if !strings.Contains(problem, "the page would run") && !strings.Contains(problem, "link to \"http") && !strings.Contains(problem, "attribute data-") && !strings.Contains(problem, "attribute class") && !strings.Contains(problem, "attribute href") && !strings.Contains(problem, "class \"preview\"") && !strings.Contains(problem, "id \"") {
					t.Errorf("%s\n%s", problem, html)
				}
			}
		}
	})
}
