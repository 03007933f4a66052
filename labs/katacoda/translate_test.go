package katacoda

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"
)

// pieces are what pages are made of, for tests that put them together.
var pieces = []string{
	"a", " ", "  ", "    ", "\t", "\n", "\n\n", "`", "``", "```", "````", "~~~", "{{execute}}", "{{copy}}", "{{}}", "{{exec T2 HOST2}}", "{{exeute}}", "{{", "}}", "{", "}",
	"- ", "* ", "1. ", "2) ", "> ", ">", ">>", "<<", ">>Q<<", "(*) a", "( ) b", "[*] c", "=== d", "=~= e", "# ", "#", "##x", "---", "===", "***", "|", "|-|-|", "| a | b |",
	"<pre>", "</pre>", `<pre class="file" data-filename="a" data-target="insert" data-marker="x">`, "<b>", "</b>", "<name>", "<div>", "</div>", "<br>", "<!--", "-->", "<script>", "</script>", "<a href=\"", "\">", "<",
	"[", "]", "](", ")", "![", "[[HOST_IP]]", "https://[[HOST_SUBDOMAIN]]-80-[[KATACODA_HOST]].environments.katacoda.com", "{{TRAFFIC_HOST1_80}}", "{{TRAFFIC_HOST1_80/a}}", "{{TRAFFIC_SELECTOR}}", "[[HOST_SUBDOMAIN]]", "https://",
	"bash", "yaml", "\\", "\r\n", "\x00", "\xff", "é", "&lt;", "'", "\"", "*", "_", ".", "x.png", "{copy}", "{run}",
	"{{execute`}}", "{{{execute}}}", "{{execute}", "{execute}", "{{T2}}", "`{{execute}}`", "ls -l", "[[UUID_SUBDOMAIN]]-80-[[HOST]]", "[[HOST_SUBDOMAI]]-80-[[KATACODA_HOTS]]", "{TRAFFIC_HOST1_80}", "{{TRAFFIC_SELECTOR_HOST1_80}}",
	"```bash```bash", "markdown", "{{ .Values.a }}", "{% if a %}", "copy",
}

func checkTranslation(t *testing.T, src string, p page) {
	t.Helper()
	text, nums, mistakes := translate(src, p)
	lines := strings.Count(text, "\n")
	if text != "" && !strings.HasSuffix(text, "\n") || lines != len(nums) {
		t.Fatalf("%q became %q with places of %d lines", src, text, len(nums))
	}
	last := 1 + strings.Count(strings.ReplaceAll(src, "\r", "\n"), "\n")
	for i, n := range nums {
		if n < 1 || n > last {
			t.Fatalf("%q: line %d is of line %d of %d", src, i+1, n, last)
		}
	}
	for _, m := range mistakes {
		if !m.Warn || m.Line < 1 || m.Line > last || m.What == "" {
			t.Fatalf("%q: mistake %+v", src, m)
		}
	}
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\r\x1b") {
		t.Fatalf("%q became %q", src, text)
	}
	if len(text) > 2*maxGrowth*len(src)+1<<20 {
		t.Fatalf("%d bytes became %d", len(src), len(text))
	}
}

func FuzzTranslate(f *testing.F) {
	f.Add("1. a\n   ```bash\n   b\n   ```{{execute}}\n2. `c`{{exec T2}}\n", true)
	f.Add(">>Q<<\n(*) a\n( ) b\n\n<pre class=\"file\" data-filename=\"a\">x</pre>\n", false)
	f.Add("cd a`{{exec}}\n\n`pwd{{execute}}\nsee 'ls`{{copy}} {{execute}} `a{{execute`}} `b`{execute}`\n", true)
	f.Add("```\na{{execute}}\nb {{execute T2}}\n{{execute}}\n```copy\n\n    ls -l{{execute}}\n\n``{{execute T2}}\n", false)
	f.Add("| a |\n|---|\n| `x | y`{{execute}} |\n\n```bash```bash\nz\n```{{exec}}```{{exec}}\n", false)
	f.Add("[a]([[UUID_SUBDOMAIN]]-80-[[HOST]]/) https://[[HOST_SUBDOMAI]]-80-[[KATACODA_HOTS]].[[KATACODA_DOMIAN]] {{TRAFFIC_SELECTOR_HOST1_80}}\n", true)
	f.Add(strings.Join(pieces, ""), false)
	f.Add(strings.Join(pieces, "\n"), true)
	fsys := fstest.MapFS{"x.png": {}}
	f.Fuzz(func(t *testing.T, src string, killercoda bool) {
		if len(src) > 1<<16 {
			return
		}
		checkTranslation(t, src, page{file: "s/step.md", scenario: "s", root: fsys, killercoda: killercoda})
	})
}

// FuzzPieces puts together pages out of what has a meaning.
func FuzzPieces(f *testing.F) {
	f.Add([]byte{9, 0, 5, 12}, false)
	f.Add([]byte("some bytes to choose by"), true)
	fsys := fstest.MapFS{"x.png": {}}
	f.Fuzz(func(t *testing.T, choice []byte, build bool) {
		if len(choice) > 4000 {
			return
		}
		var b strings.Builder
		for _, c := range choice {
			b.WriteString(pieces[int(c)%len(pieces)])
		}
		p := page{file: "s/step.md", scenario: "s", root: fsys}
		checkTranslation(t, b.String(), p)
		if build && strings.TrimSpace(cleanText(b.String())) != "" {
			if text, _, _ := translate(b.String(), p); strings.TrimSpace(text) != "" {
				built(t, b.String(), p)
			}
		}
	})
}

// Pages that are made to be slow take time in proportion to their length.
func TestAttackSlowPages(t *testing.T) {
	const size = 1 << 18
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	ticks := func(sep string) string {
		var b strings.Builder
		for n := 1; b.Len() < size; n = n%1200 + 1 {
			b.WriteString(strings.Repeat("`", n) + sep)
		}
		return b.String()
	}
	attacks := map[string]string{
		"backticks":             fill("`"),
		"backticks of lengths":  ticks("a"),
		"lines of backticks":    ticks("\n"),
		"code and marks":        fill("`a`{{execute}}"),
		"open code":             fill("`a\n"),
		"open code, then marks": fill("`a\n\n") + "`{{execute}}",
		"here-documents":        fill("`a\n\nb`{{execute}}\n"),
		"braces":                fill("{{"),
		"brackets":              fill("["),
		"placeholders":          fill("[["),
		"ends without begins":   fill("x`{{execute}} "),
		"begins without ends":   fill("`ls{{execute}}\n"),
		"marks behind no code":  fill("{{execute}} "),
		"broken marks":          fill("{{execute`}"),
		"marks inside code":     fill("`a{{execute}}` "),
		"marks inside a block":  "```\n" + fill("a{{execute}}\n") + "```\n",
		"code about marks":      fill("``a`{{execute "),
		"names":                 fill("a."),
		"schemes":               fill("https://"),
		"half addresses":        fill("https://[[HOST_SUBDOMAIN]]-"),
		"addresses":             fill("https://[[HOST_SUBDOMAIN]]-80-[[KATACODA_HOST]].environments.katacoda.com/ "),
		"traffic":               fill("{{TRAFFIC_HOST1_80"),
		"links":                 fill("]("),
		"open links":            fill("[a]("),
		"images":                fill("![a](b.png)"),
		"missing images": func() string {
			var b strings.Builder
			for n := 0; b.Len() < size; n++ {
				b.WriteString("![](/a/b/c/d/e/f/g/" + strings.Repeat("x", n%97) + string(rune('a'+n%26)) + ".png) ")
			}
			return b.String()
		}(),
		"angles":           fill("<"),
		"tags":             fill("<a "),
		"tags with quotes": fill(`<a b="`),
		"attributes":       fill("a=b "),
		"elements":         fill("<b>"),
		"pre":              fill("<pre>"),
		"pre on one line":  fill("<pre>a</pre>"),
		"pre in a quote":   fill("> <pre>\n") + "\n</pre>",
		"pre on lines":     fill("<pre>\n"),
		"comments":         fill("<!--"),
		"comments on line": fill("<!---->"),
		"comment lines":    fill("<!--\n"),
		"scripts":          fill("<script>\n") + "</script>",
		"fences":           fill("```\n"),
		"marked fences":    fill("```{{execute}}\n"),
		"text and fences":  fill("a\n```{{execute}}\n"),
		"languages":        fill("```bash\n"),
		"both fences":      fill("~~~\n```\n"),
		"unclosed":         fill("````\n```{{execute}}\n"),
		"fences in lists":  fill("- ```\na\n"),
		"glued":            fill("```\na```\n"),
		"glued marks":      fill("- ```\nb\nb```{{execute}}\n"),
		"quotes":           fill(">"),
		"quotes on lines":  fill("> > > > > > > > > > > > > > > >\n"),
		"lists":            fill("- "),
		"deep lists":       strings.Repeat("123456789.    ", 50) + "a\n" + fill("a\n"),
		"list lines":       fill("- a\n"),
		"quizzes":          fill(">>Q<<\n"),
		"open quizzes":     fill(">>Q\n"),
		"answers":          ">>Q<<\n" + fill("(*) a\n"),
		"tables":           "|a|b|\n|-|-|\n" + fill("|`a`{{execute}}|b|\n"),
		"headings":         fill("#a\n"),
		"blanks":           fill("\n"),
		"HTML":             fill("<div>\n`a`{{execute}}\n"),
		"definitions":      fill("[a]: b\n"),
		"control":          fill("\x00"),
		"not UTF-8":        fill("\xff"),
	}
	for name, src := range attacks {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			checkTranslation(t, src, page{file: "s/step.md", scenario: "s", root: fstest.MapFS{"x.png": {}}})
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("%d bytes took %v", len(src), took)
			}
		})
	}
}

// What an author leaves open ends with the page, and nothing of it runs.
func TestAttackNothingRunsUnasked(t *testing.T) {
	for _, src := range []string{
		"```sh\nrm -rf /\n```", "```sh {run}\nrm -rf /\n```", "`rm -rf /`", "`rm -rf /`{run}", "`rm -rf /` {run}", "```console\n$ rm -rf /\n```",
		"```setup\nrm -rf /\n```", "```start\nrm -rf /\n```", "```solution\nrm -rf /\n```", "```file {path=~/.bashrc}\nrm\n```", "```check\nscript: rm\n```",
		"<div class=\"block run\" data-command=\"1\" data-code=\"rm\">rm</div>", "- `rm`{keys}\n", "## `rm`{run}", "~~~setup\nrm\n~~~", "> ```setup\n> rm\n> ```", "- ```start\n  rm\n  ```",
		"\\`rm\\`{run}", "`a\nrm`{run}", "``rm`{run}", "<pre>```setup\nrm\n```</pre>", "```\n```\n```setup\nrm\n```", "| a |\n|-|\n| `rm`{run} |",
		"    ```setup\n    rm\n    ```", "<!--\n```setup\n-->\nrm\n```", ">>Q `rm`{run}<<\n(*) `rm`{run}\n", "````md\n```setup\nrm\n```\n````",
	} {
		for _, killercoda := range []bool{false, true} {
			step := built(t, src+"\n\ntext\n", page{file: "step.md", killercoda: killercoda})
			if len(step.Commands)+len(step.Files)+len(step.Arrival.Setup)+len(step.Arrival.Type)+len(step.Solution.Commands) > 0 {
				text, _, _ := translate(src, page{file: "step.md", killercoda: killercoda})
				t.Errorf("%q became %q: %+v", src, text, step)
			}
			if strings.Contains(step.HTML, "data-command") {
				t.Errorf("%q became %s", src, step.HTML)
			}
		}
	}
}
