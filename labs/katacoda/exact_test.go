package katacoda

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"

	"berth/labs"
	"berth/labs/markdown"
)

// built gives the step that a page becomes.
func built(t testing.TB, text string, p page) labs.Step {
	t.Helper()
	md, nums, _ := translate(text, p)
	lesson, mistakes := markdown.Build(markdown.Draft{
		Lesson:  labs.Lesson{ID: "lab", Title: "Lab", Dir: fstest.MapFS{}, Source: "index.json", Hosts: 2},
		Parts:   []markdown.DraftPart{{ID: "step", Title: "Step", Text: md, Lines: nums, File: p.file}},
		Lenient: true,
	})
	if lesson == nil {
		t.Fatalf("no lesson of %q: %v", text, mistakes)
	}
	return lesson.Steps[0]
}

// A shell is a source of code that is hard to carry through Markdown.
type shell struct{ *rand.Rand }

func (r shell) line() string {
	words := []string{
		"echo", "\"$(date)\"", "'{{.Names}}'", "{{ range . }}", "<name>", "&lt;", "&amp;", "|", "||", "\\", "\\|", "\\n", "*", "_a_", "**b**", "~", "[[", "]]",
		"[a](b)", "![a](b)", "#", "# x", "-", "- x", "1. x", ">", ">>", "<<EOF", "EOF", "===", "---", "$", "${A:-b}", "{copy}", "{run}", "{.norun}", "%",
		"<b>", "</pre>", "<!--", "-->", "ä", "日本", "{{", "}}", "{{name}}", "\"", "'", ";", "<pre>", "(*)", ">>Q<<", "~~~", ":", "^C", "\t", "  ", "TRAFFIC", "zq",
	}
	var b strings.Builder
	for range 1 + r.IntN(6) {
		b.WriteString(words[r.IntN(len(words))])
		if r.IntN(4) > 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func (r shell) lines(most int) []string {
	out := []string{"x" + r.line()}
	for range r.IntN(most) {
		switch r.IntN(6) {
		case 0:
			out = append(out, "")
		case 1:
			out = append(out, strings.Repeat(" ", r.IntN(9))+"y"+r.line())
		case 2:
			out = append(out, "\t"+r.line()+"z")
		default:
			out = append(out, r.line()+"z")
		}
	}
	return append(out, r.line()+"w")
}

func TestFencedCodeIsExact(t *testing.T) {
	for seed := range uint64(500) {
		r := shell{rand.New(rand.NewPCG(seed, 1))}
		code := r.lines(8)
		signs := []string{"```", "````", "~~~"}[r.IntN(3)]
		if signs[0] == '~' && strings.Contains(strings.Join(code, "\n"), "~~~") {
			signs = "```"
		}
		var before, first, rest, after string
		switch r.IntN(6) {
		case 0:
		case 1:
			before, first, rest, after = "1. item\n", "   ", "   ", "2. item\n"
		case 2:
			before, first, rest, after = "> text\n", "> ", "> ", "\ntext\n"
		case 3:
			before, first, rest = "text\n", "  ", "  "
		case 4:
			first, rest, after = "- ", "  ", "- item\n"
		case 5:
			before, first, rest = "* a\n  * b\n\n", "    ", "    "
		}
		var src strings.Builder
		src.WriteString(before + first + signs + []string{"", "bash", "yaml"}[r.IntN(3)] + "\n")
		for _, line := range code {
			if line == "" && !strings.Contains(rest, ">") {
				src.WriteString("\n")
			} else {
				src.WriteString(rest + line + "\n")
			}
		}
		src.WriteString(rest + signs + "{{execute}}\n" + after)
		want := strings.Join(code, "\n")
		step := built(t, src.String(), page{file: "step.md"})
		if len(step.Commands) != 1 || step.Commands[0].Code != want {
			text, _, _ := translate(src.String(), page{file: "step.md"})
			t.Fatalf("seed %d:\n%s--- translated\n%s--- commands %+v\nwant %q", seed, src.String(), text, step.Commands, want)
		}
	}
}

func TestInlineCodeIsExact(t *testing.T) {
	for seed := range uint64(500) {
		r := shell{rand.New(rand.NewPCG(seed, 2))}
		var want []string
		var text strings.Builder
		for range 1 + r.IntN(4) {
			code := "a" + r.line() + "b"
			signs := []string{"`", "``", "```"}[r.IntN(3)]
			if r.IntN(3) == 0 {
				signs, code = "``", code+"`x`"+code
			}
			want = append(want, code)
			if signs == "``" && r.IntN(2) == 0 {
				code = " " + code + " "
			}
			fmt.Fprintf(&text, "%s %s%s%s{{execute}} %s\n", []string{"text", "- item", "*", "## head", "> q"}[r.IntN(5)], signs, code, signs, "more")
			if r.IntN(2) == 0 {
				text.WriteByte('\n')
			}
		}
		step := built(t, text.String(), page{file: "step.md"})
		var got []string
		for _, c := range step.Commands {
			got = append(got, c.Code)
		}
		if strings.Join(got, "\x00") != strings.Join(want, "\x00") {
			md, _, _ := translate(text.String(), page{file: "step.md"})
			t.Fatalf("seed %d:\n%s--- translated\n%s--- got %q\nwant %q", seed, text.String(), md, got, want)
		}
	}
}

func TestCodeOfSeveralLinesIsExact(t *testing.T) {
	for seed := range uint64(500) {
		r := shell{rand.New(rand.NewPCG(seed, 3))}
		code := r.lines(6)
		for i := range code {
			code[i] = strings.ReplaceAll(code[i], "`", "'")
		}
		before, indent := []string{"", "text ", "- ", "1. text "}[r.IntN(4)], ""
		switch before {
		case "- ":
			indent = "  "
		case "1. text ":
			indent = "   "
		}
		var text strings.Builder
		text.WriteString(before + "`" + code[0])
		for _, line := range code[1:] {
			text.WriteString("\n")
			if line != "" {
				text.WriteString(indent + line)
			}
		}
		text.WriteString("`{{execute}} text\n")
		step := built(t, text.String(), page{file: "step.md"})
		if want := strings.Join(code, "\n"); len(step.Commands) != 1 || step.Commands[0].Code != want {
			md, _, _ := translate(text.String(), page{file: "step.md"})
			t.Fatalf("seed %d:\n%s--- translated\n%s--- got %+v\nwant %q", seed, text.String(), md, step.Commands, want)
		}
	}
}

func TestFilesAreExact(t *testing.T) {
	for seed := range uint64(60) {
		r := shell{rand.New(rand.NewPCG(seed, 4))}
		code := r.lines(8)
		escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
		var text strings.Builder
		text.WriteString("text\n" + `<pre class="file" data-filename="dir/a file" data-target="replace">` + "\n")
		for _, line := range code {
			text.WriteString(escape.Replace(line) + "\n")
		}
		text.WriteString("</pre>\ntext\n")
		step := built(t, text.String(), page{file: "step.md", editor: "/root/app"})
		if want := strings.Join(code, "\n") + "\n"; len(step.Files) != 1 || step.Files[0].Text != want || step.Files[0].Path != "/root/app/dir/a file" {
			t.Fatalf("seed %d:\n%s--- got %+v\nwant %q", seed, text.String(), step.Files, want)
		}
	}
}

func TestPipesInTables(t *testing.T) {
	l, said := loaded(t, map[string]string{
		"lab/index.json": `{"title": "T", "details": {"steps": [{"text": "a.md"}]}, "backend": {"imageid": "ubuntu"}}`,
		"lab/a.md":       "| a | b |\n|---|---|\n| `ls | wc -l`{{execute}} | `ps \\| cat || true`{{execute T2}} |\n| `x` | y |\n",
	}, "lab")
	st := l.Steps[0]
	if len(st.Commands) != 2 || st.Commands[0].Code != "ls | wc -l" || st.Commands[1].Code != "ps | cat || true" {
		t.Errorf("%+v\n%s\n%s", st.Commands, st.HTML, said)
	}
	if strings.Count(st.HTML, "<td") != 4 || strings.Contains(st.HTML, `\|`) {
		t.Error(st.HTML)
	}
}
