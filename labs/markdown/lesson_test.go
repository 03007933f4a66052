package markdown

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
)

func labFile(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func errorsOf[M error](ms []M) string {
	var b strings.Builder
	for _, m := range ms {
		b.WriteString(m.Error() + "\n")
	}
	return b.String()
}

func TestLoadAll(t *testing.T) {
	good := "---\ntitle: Good\n---\n## Step\n"
	for _, c := range []struct {
		name  string
		files fstest.MapFS
		want  string // ids
		says  string
	}{
		{"by name", fstest.MapFS{"b/lab.md": labFile(good), "a/lab.md": labFile(good), "readme.md": labFile("x"), "c/other.md": labFile("x"), ".git/lab.md": labFile("x")}, "a b", ""},
		{"in order", fstest.MapFS{"b/lab.md": labFile(good), "a/lab.md": labFile(good), "c/lab.md": labFile(good), "course.yaml": labFile("title: All\norder: [c, a]\n")}, "c a b", ""},
		{"one lab", fstest.MapFS{"lab.md": labFile("---\ntitle: What is it?\n---\n## Step\n"), "a/lab.md": labFile(good)}, "what-is-it", ""},
		{"one is wrong", fstest.MapFS{"a/lab.md": labFile(good), "b/lab.md": labFile("x"), "c/lab.md": labFile(good + "\n```bash\nls\n```\n")}, "a c",
			"b/lab.md:1: there is no front matter; begin the file with a line `---`, settings such as `title: …`, and another line `---`\n" +
				"c/lab.md:6: a `bash` block does not run; write `sh` for a block that runs, `sh {.norun}` for one that is only shown\n"},
		{"order names none", fstest.MapFS{"alpha/lab.md": labFile(good), "b/lab.md": labFile(good), "course.yaml": labFile("order:\n  - b\n  - alpa\n  - b\n")}, "b alpha",
			"course.yaml:3: there is no lab `alpa`; did you mean `alpha`?\ncourse.yaml:4: the lab `b` comes twice\n"},
		{"course unknown key", fstest.MapFS{"a/lab.md": labFile(good), "course.yaml": labFile("ordr: [a]\n")}, "a", "course.yaml:1: unknown key `ordr`; did you mean `order`?\n"},
		{"folder name", fstest.MapFS{"My Lab/lab.md": labFile(good)}, "", "My Lab/lab.md: the folder `My Lab` cannot be part of an address; rename it with small letters, digits and `-`\n"},
		{"a folder called lab.md", fstest.MapFS{"a/lab.md/x": labFile("x"), "b/lab.md": labFile(good)}, "b", ""},
		{"nothing", fstest.MapFS{}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			lessons, mistakes := LoadAll(c.files)
			var ids []string
			for _, l := range lessons {
				ids = append(ids, l.ID)
				if _, err := fs.Stat(l.Dir, "lab.md"); err != nil {
					t.Errorf("%s: its folder: %v", l.ID, err)
				}
			}
			if got := strings.Join(ids, " "); got != c.want {
				t.Errorf("labs %q, want %q", got, c.want)
			}
			if got := errorsOf(mistakes); got != c.says {
				t.Errorf("mistakes\n%swant\n%s", got, c.says)
			}
		})
	}
}

func TestCourseTitle(t *testing.T) {
	good := "---\ntitle: Good\n---\n## Step\n"
	lessons, ms := LoadAll(fstest.MapFS{"a/lab.md": labFile(good), "course.yaml": labFile("title: From the   ground up\n")})
	if len(lessons) != 1 || lessons[0].Course != "From the ground up" || lessons[0].Format != labs.FormatBerth {
		t.Errorf("%+v %s", lessons, errorsOf(ms))
	}
}

// What the manual shows is what loads.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("markdown.go")
	if err != nil {
		t.Fatal(err)
	}
	var examples []string
	for line := range strings.SplitSeq(string(text), "\n") {
		code, ok := strings.CutPrefix(line, "//\t")
		switch {
		case !ok && line == "//" && len(examples) > 0 && examples[len(examples)-1] != "":
			examples[len(examples)-1] += "\n" // a blank line, or the end
		case !ok:
			examples = append(examples, "")
		case len(examples) == 0:
			examples = append(examples, code+"\n")
		default:
			examples[len(examples)-1] += code + "\n"
		}
	}
	front, body, shown := "", "", 0
	for _, e := range examples {
		switch {
		case strings.HasPrefix(e, "---\n"):
			front = strings.TrimRight(e, "\n") + "\n"
		case strings.HasPrefix(e, "```"), strings.HasPrefix(e, "Type `"), strings.HasPrefix(e, "> [!"):
			body += e + "\n"
			shown++
		}
	}
	if shown < 8 {
		t.Errorf("only %d examples were found", shown)
	}
	lab := front + "## Step\n\n" + body
	l, ms := Load(fstest.MapFS{"lab/lab.md": labFile(lab), "lab/assets/setup.sh": {}, "lab/conf/a/b.conf": {}}, "lab")
	if l == nil || len(ms) > 0 {
		t.Fatalf("%s\n%s", errorsOf(ms), lab)
	}
	if a := l.Assets[1]; a.To != "/etc/app/a/b.conf" || a.Host != 2 {
		t.Errorf("%+v", a)
	}
	for _, key := range frontKeys {
		if !strings.Contains(front, "\n"+key+":") {
			t.Errorf("the manual does not show the setting %s", key)
		}
	}
	for _, word := range ourWords {
		if !strings.Contains(body, "```"+word) {
			t.Errorf("the manual shows no %s block", word)
		}
	}
}

func TestLoadReadsWhatEditorsWrite(t *testing.T) {
	unix := "---\ntitle: A lab\n---\n## Step\n\n```sh\ncat <<E\na\nE\n```\n\n```check\nname: x\nimage: y\n```\n"
	want, mistakes := load1(unix)
	if want == nil {
		t.Fatal(errorsOf(mistakes))
	}
	for name, text := range map[string]string{
		"byte order mark":   "\ufeff" + unix,
		"CRLF":              strings.ReplaceAll(unix, "\n", "\r\n"),
		"both":              "\ufeff" + strings.ReplaceAll(unix, "\n", "\r\n"),
		"CR":                strings.ReplaceAll(unix, "\n", "\r"),
		"no last newline":   strings.TrimSuffix(unix, "\n"),
		"blanks behind ---": strings.Replace(unix, "A lab\n---\n", "A lab\n---  \n", 1),
	} {
		got, mistakes := load1(text)
		if got == nil {
			t.Errorf("%s: %s", name, errorsOf(mistakes))
			continue
		}
		if got.Steps[0].HTML != want.Steps[0].HTML || got.Steps[0].Commands[0].Code != "cat <<E\na\nE" || len(got.Steps[0].Checks) != 1 {
			t.Errorf("%s: %+v", name, got.Steps[0])
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"Latin-1", "---\ntitle: x\n---\n## Stra\xdfe\n", "lab/lab.md:4: this is not UTF-8 text; save the file as UTF-8\n"},
		{"UTF-16", "\xff\xfe-\x00-\x00", "lab/lab.md:1: this is not UTF-8 text; save the file as UTF-8\n"},
		{"NUL", "---\ntitle: x\n---\n## S\x00\n", "lab/lab.md:4: the control character U+0000 does not belong in a text; remove it\n"},
		{"too large", inStep + strings.Repeat("text\n", maxFile/5), "lab/lab.md: it is larger than 2 MiB; split it\n"},
		{"line too long", inStep + strings.Repeat("x", maxLine+1), "lab/lab.md:6: the line is longer than 64 KiB; break it\n"},
		{"paragraph too long", inStep + strings.Repeat("word word word\n", maxText/15+1), "lab/lab.md:6: the paragraph is longer than 16 KiB; divide it with an empty line\n"},
		{"too many steps", inLab + strings.Repeat("## Step\n\n", maxSteps+1), "lab/lab.md:1004: the lesson has more than 500 steps; divide the lesson\n"},
		{"too many commands", inStep + strings.Repeat("`a`\n\n", maxCommands+2), "lab/lab.md:4006: the lesson has more than 2000 commands; divide the lesson\n"},
		{"large check", inCheck("name: x\nscript: |\n" + strings.Repeat("  "+strings.Repeat("x", 60)+"\n", 2000)), "lab/lab.md:7: the check is larger than 64 KiB\n"},
		{"deep HTML", inStep + strings.Repeat("<div>", 600) + "\n", "lab/lab.md:4: the text nests deeper than a page can\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, mistakes := load1(c.text)
			if l != nil {
				t.Error("it loads")
			}
			got := errorsOf(mistakes)
			if got != c.want {
				t.Errorf("got %.300q, want %q", got, c.want)
			}
		})
	}
	_, mistakes := Load(os.DirFS(t.TempDir()), "gone")
	if got := errorsOf(mistakes); got != "gone/lab.md: there is no such file\n" {
		t.Error(got)
	}
	_, mistakes = Load(fstest.MapFS{}, "../x")
	if len(mistakes) != 1 {
		t.Error(errorsOf(mistakes))
	}
}

// slow are texts that have made Markdown, HTML or YAML parsers slow or deep.
func slow() map[string]string {
	const n = 200 << 10
	lines := func(line string) string { // in paragraphs of a good size
		var b strings.Builder
		size := 0
		for b.Len() < n {
			b.WriteString(line + "\n")
			if size += len(line); size > 8<<10 {
				b.WriteString("\n")
				size = 0
			}
		}
		return b.String()
	}
	long := func(unit string) string { return lines(strings.Repeat(unit, 7<<10/len(unit))) }
	return map[string]string{
		"nested quotes":      strings.Repeat(strings.Repeat(">", 55)+" x\n", n/60),
		"1,000 quotes":       strings.Repeat(">", 1000) + " x\n",
		"nested lists":       nestedLists(1000),
		"lists on a line":    strings.Repeat(strings.Repeat("- ", 50)+"x\n\n", n/110),
		"brackets":           long("["),
		"brackets closed":    long("[]"),
		"link openers":       long("[a](<b"),
		"image openers":      long("![["),
		"references":         long("[a]: b\n"),
		"emphasis":           long("*a **b "),
		"emphasis closers":   long("a** b* "),
		"underscores":        long("_a __b "),
		"stars":              long("*"),
		"tildes":             long("~~a "),
		"backticks":          lines(backticks()),
		"angle brackets":     long("<"),
		"tags unclosed":      long("<a href='"),
		"comments":           long("<!-- "),
		"instructions":       long("<? "),
		"entities":           long("&amp"),
		"backslashes":        long(`\`),
		"web addresses":      long("http://a."),
		"mail addresses":     long("a@b"),
		"footnotes":          long("[^1]"),
		"footnotes defined":  strings.Repeat("[^1]: x\n\n", n/20),
		"tables":             lines("|" + strings.Repeat("a|", 200) + "\n|" + strings.Repeat("-|", 200) + "\n"),
		"table rows":         "|a|\n|-|\n" + strings.Repeat("|"+strings.Repeat("a|", 100)+"\n", 200),
		"headings":           strings.Repeat("### a\n", n/7),
		"the same heading":   strings.Repeat("### same\n\n", 20000),
		"setext":             strings.Repeat("a\n---\n\n", 400),
		"html blocks":        strings.Repeat("<div>\n\n", 500),
		"html inline":        long("<b>"),
		"callouts":           strings.Repeat("> [!NOTE]\n> x\n\n", n/20),
		"attributes":         "### a {" + strings.Repeat("a=b ", 8000) + "}\n",
		"info":               "```sh {" + strings.Repeat("a=b ", 8000) + "}\nx\n```\n",
		"fences":             strings.Repeat("```sh {copy}\nfor a in b; do c; done\n```\n\n", 4000),
		"files":              strings.Repeat("```file {path=~/a.b.c.d}\nx\n```\n\n", 4000),
		"unknown words":      strings.Repeat("```"+strings.Repeat("j", 2000)+"\n```\n\n", 150),
		"large code":         "```json\n" + strings.Repeat("[[[[[[[[[[[[[[\n", n/16) + "```\n",
		"slow code":          "```sh {copy}\n" + strings.Repeat("$(`\"'${\n", 7000) + "```\n",
		"transcript":         "```console {.norun}\n" + strings.Repeat("$ a \\\n> b\nout\n", n/30) + "```\n",
		"heredocs":           "```solution\n" + strings.Repeat("cat <<A <<B <<C\n", 2000) + "```\n",
		"yaml flow":          "```check\nname: " + strings.Repeat("[", 60000) + "\n```\n",
		"yaml dashes":        "```check\n" + strings.Repeat("- ", 30000) + "\n```\n",
		"yaml indent":        "```check\n" + indented(300) + "\n```\n",
		"yaml quotes":        "```check\nname: " + strings.Repeat(`"`, 60000) + "\n```\n",
		"yaml anchors":       "```check\na: &a [x]\n" + strings.Repeat("b: &a [*a,*a]\n", 2000) + "```\n",
		"yaml keys":          "```check\n" + manyKeys(6000) + "```\n",
		"links to nowhere":   long("[a](#b) "),
		"images of nothing":  long("![a](b.png) "),
		"mistakes":           strings.Repeat("```x1\n```\n\n", n/20),
		"definition indents": strings.Repeat("   - a\n      - b\n", n/20),
	}
}

func backticks() string {
	var b strings.Builder
	for i := 1; b.Len() < 7<<10; i++ {
		b.WriteString("a" + strings.Repeat("`", i))
	}
	return b.String()
}

func nestedLists(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat("  ", i) + "- x\n")
	}
	return b.String()
}

func indented(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	return b.String()
}

// A stranger's lesson may be wrong but not slow.
func TestLoadTakesBoundedTime(t *testing.T) {
	// Of the processor's time, since others may use the machine; many times what
	// it takes, since the race detector may watch.
	const limit = 15 * time.Second
	for name, text := range slow() {
		t.Run(name, func(t *testing.T) {
			begin := processorTime(t)
			l, _ := load1(inStep + text)
			took := processorTime(t) - begin
			t.Logf("%d kB in %v, loads: %v", len(text)/1000, took.Round(time.Millisecond), l != nil)
			if took > limit {
				t.Errorf("%d kB took %v", len(text)/1000, took)
			}
		})
	}
}

func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkLoad(b *testing.B) {
	text, err := os.ReadFile("../../content/container-image/lab.md")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if l, ms := load1(string(text)); l == nil {
			b.Fatal(errorsOf(ms))
		}
	}
}
