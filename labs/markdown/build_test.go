package markdown

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
)

// lenient builds a lesson of one step with this text.
func lenient(text string) (*labs.Lesson, []labs.Mistake) {
	return Build(Draft{
		Lesson:  labs.Lesson{ID: "lab", Title: "A lab", Source: "index.json", Dir: fstest.MapFS{}},
		Parts:   []DraftPart{{Title: "Step", Text: text, File: "step1.md"}},
		Lenient: true,
	})
}

func TestBuildReadsEachPartByItself(t *testing.T) {
	fsys := fstest.MapFS{"a/one/x.png": {Data: []byte("x")}, "a/assets/y.png": {Data: []byte("y")}, "z.png": {Data: []byte("z")}}
	d := Draft{
		Lesson: labs.Lesson{
			ID: "lab", Title: "A lab", Format: labs.FormatKatacoda, Dir: fsys, Source: "a/index.json", Hosts: 2,
			Terminals: []labs.TerminalTab{{Name: "1", Command: "curl {{preview 80}}"}},
		},
		Parts: []DraftPart{
			{ID: labs.IntroID, Text: "# Hello\n\n[x][ref] and ![z](../../z.png)\n\n[ref]: https://intro.example\n", File: "a/one/intro.md",
				Arrival: labs.Arrival{Setup: []labs.Setup{{Code: "prepare {{preview 8080}}\n", Host: 2}}, Type: []labs.Command{{Code: "./wait.sh\n"}}}},
			{Title: "First  `step`", Text: "Text[^1] [x][ref]\n\n## Notes\n\n[n](#notes)\n\n`one`\n\n[ref]: https://first.example\n\n[^1]: A\n\n```sh\nunclosed\n", File: "a/one/1.md"},
			{Title: "First step", Text: "## Notes\n\nText[^1] [x][ref] [n](#notes) ![x](x.png) ![y](../assets/y.png)\n\n```check\nname: text\nfile: ~/x\n```\n\n[^1]: B\n", File: "a/one/2.md",
				Checks: []labs.Check{{Name: "script", Script: "test {{preview 80}}"}}, Hints: []string{"Look at *it*."}, Solution: "Do\n\n```sh {terminal=2}\nls\n```\n"},
			{ID: "gone-42", Title: "Last", Text: "1", File: "a/one/3.md"},
			{ID: labs.FinishID, Text: "[up](#notes)", File: "a/one/finish.md"},
		},
		Lenient: true,
	}
	l, mistakes := Build(d)
	if l == nil {
		t.Fatal(errorsOf(mistakes))
	}
	safe(t, l)
	got := errorsOf(mistakes)
	if want := "a/one/1.md:13: the block is not closed; end it with a line of the same marks\n"; got != want {
		t.Errorf("mistakes\n%swant\n%s", got, want)
	}
	var b strings.Builder
	fmt.Fprintln(&b, l.Format, l.Layout, l.Image, l.Terminals[0].Command)
	fmt.Fprintln(&b, l.Intro.HTML, l.Intro.Arrival)
	for _, s := range l.Steps {
		fmt.Fprintln(&b, s.ID, s.Title, s.HTML, s.Commands, s.Hints, s.Solution.Commands)
		for _, c := range s.Checks {
			fmt.Fprintln(&b, c.ID, c.Name, c.Script)
		}
	}
	fmt.Fprintln(&b, l.Finish.HTML)
	p80, p8080 := labs.Var{Name: "preview 80"}.Mark(), labs.Var{Name: "preview 8080"}.Mark()
	want := `katacoda terminal docker curl ` + p80 + `
<h3 id="h.hello">Hello</h3>
<p><a href="https://intro.example" target="_blank" rel="noopener noreferrer">x</a> and <img alt="z" src="/labs/lab/files/z.png" loading="lazy" decoding="async"/></p>
 {[{prepare ` + p8080 + `
 2}] [{intro/start-1 ./wait.sh 1 false false false false}]}
first-step First ` + "`step`" + ` <p>Text<sup id="fnref:1"><a role="doc-noteref" href="#fn:1">1</a></sup> <a href="https://first.example" target="_blank" rel="noopener noreferrer">x</a></p>
<h3 id="h.notes">Notes</h3>
<p><a href="#h.notes">n</a></p>

<div class="block run" data-command="first-step/1" data-terminal="1" data-code="one"><pre class="chroma"><code>one</code></pre><div class="tools"><button type="button" class="run-button" disabled>Run</button><button type="button" class="copy-button" disabled>Copy</button></div></div>

<div class="block run" data-command="first-step/2" data-terminal="1" data-code="unclosed"><pre class="chroma"><code>unclosed</code></pre><div class="tools"><button type="button" class="run-button" disabled>Run</button><button type="button" class="copy-button" disabled>Copy</button></div></div>
<div class="footnotes" role="doc-endnotes">
<hr/>
<ol>
<li id="fn:1">
<p>A <a role="doc-backlink" href="#fnref:1">↩︎</a></p>
</li>
</ol>
</div>
 [{first-step/1 one 1 false false false false} {first-step/2 unclosed 1 false false false false}] [] []
first-step-2 First step <h3 id="h.notes-2">Notes</h3>
<p>Text<sup id="fnref:2"><a role="doc-noteref" href="#fn:2">2</a></sup> [x][ref] <a href="#h.notes-2">n</a> <img alt="x" src="/labs/lab/files/a/one/x.png" loading="lazy" decoding="async"/> <img alt="y" src="/labs/lab/files/a/assets/y.png" loading="lazy" decoding="async"/></p>
<div class="footnotes" role="doc-endnotes">
<hr/>
<ol start="2">
<li id="fn:2">
<p>B <a role="doc-backlink" href="#fnref:2">↩︎</a></p>
</li>
</ol>
</div>
 [] [<p>Look at <em>it</em>.</p>
] [{first-step-2/solution-1 ls 2 false false false false}]
first-step-2/1 script test ` + p80 + `
first-step-2/2 text 
gone-42 Last <p>1</p>
 [] [] []
<p><a href="/labs/lab#h.notes">up</a></p>

`
	if b.String() != want {
		t.Errorf("%s\n%s", diff(want, b.String()), b.String())
	}
}

// What our own authors would have to mend is shown as text, and nothing that
// follows is lost.
func TestBuildLenient(t *testing.T) {
	for _, c := range []struct{ name, text, has, says string }{
		{"unknown fence word", "```frob\nx <y>\n```\n", `<div class="block plain"><pre class="chroma"><code>x &lt;y&gt;</code>`, "step1.md:1: unknown fence word `frob`; there are `sh`, `console`, `file`, `hint`, `solution`, `setup`, `start`, `check` and `quiz`, and the names of languages\n"},
		{"unclosed fence", "```sh\nls\n", `data-code="ls"`, "step1.md:1: the block is not closed; end it with a line of the same marks\n"},
		{"unknown attribute", "```sh {frob once}\nls\n```\n", `data-once data-code="ls"`, "step1.md:1: unknown attribute `frob` of a `sh` block; there are `copy`, `.norun`, `terminal`, `host`, `interrupt`, `once`, `keys` and `no-enter`\n"},
		{"no attributes", "```sh frob\nls\n```\n", `data-code="ls"`, "step1.md:1: `frob` is not a list of attributes; write them in braces: `{terminal=2}`\n"},
		{"bad terminal", "```sh {terminal=T_2}\nls\n```\n", `data-terminal="1" data-code="ls"`, "step1.md:1: `terminal` cannot be `T_2`; use a number, or at most 16 small letters, digits and `-`\n"},
		{"no such host", "```sh {host=2}\nls\n```\n", `data-terminal="1" data-code="ls"`, "step1.md:1: the lesson has no sandbox 2; write `hosts: 2` in the front matter\n"},
		{"runs and does not", "```sh {copy once}\nls\n```\n", `<div class="block copy" data-code="ls">`, "step1.md:1: `once` does not go with `copy`, since the block does not run\n"},
		{"bash is a language", "```bash\nls\n```\n", `<div class="block plain">`, ""},
		{"file without path", "```file\nx\n```\n", `<div class="block plain"><pre class="chroma"><code>x</code>`, "step1.md:1: the file block does not say where the file goes; write `file {path=~/name}`\n"},
		{"inline attribute", "a `b`{frob} c\n", "<code>b</code> c", "step1.md:1: unknown attribute `frob` of inline code; there are `run`, `copy`, `open`, `keys`, `terminal`, `host`, `interrupt`, `once`, `no-enter` and `.norun`\n"},
		{"inline open", "a `../x`{open} c\n", "<code>../x</code> c", "step1.md:1: the editor cannot open `../x`; write it from `/` or `~/`, without `..`\n"},
		{"keys that are none", "a `abc`{keys} c\n", "<code>abc</code> c", "step1.md:1: `abc` are not keys; write a key with Ctrl as `^C`, Enter as `^M`\n"},
		{"large paragraph", strings.Repeat("word *x* word\n", maxText/13) + "\n`ls`\n", "word *x* word\nword *x*", "step1.md:1: the paragraph is longer than 16 KiB; divide it with an empty line\n"},
		{"deep quotes", strings.Repeat(">", 100) + " x\n\n`ls`\n", "&gt;&gt;…", "step1.md:1: quotes, lists or footnotes stand inside each other more than 60 deep\n"},
		{"deep HTML", strings.Repeat("<div>", 600) + "\n", "&lt;div&gt;", "step1.md:1: the text nests deeper than a page can\n"},
		{"long line", "a\n" + strings.Repeat("x", maxLine+1) + "\n", "xxxx", "step1.md:2: the line is longer than 64 KiB; break it\n"},
		{"swallowed block", "<div title=\"\n\n```sh\nls\n```\n\n\">\n", `data-code="ls"`, "step1.md:3: the HTML around this block swallows it; close the HTML before the block, and leave an empty line between them\n"},
		{"missing image", "![a *b*](x.png) c\n", "<p>a b c</p>", "step1.md:1: there is no image `x.png`; names are relative to the lab's folder\n"},
		{"image outside", "![a](../../x.png) c\n", "<p>a c</p>", "step1.md:1: the image `../../x.png` is not in the lab's folder and is not shown; put it into the lab's folder\n"},
		{"bad link", "[a](foo/bar.md) c\n", "<p><a>a</a> c</p>", "step1.md:1: the link `foo/bar.md` is shown as text; link to `https://…`, `mailto:…`, `#heading` or `preview:PORT/path`\n"},
		{"broken check", "```check\nname: [\n```\n\ntext", "<p>text</p>", "step1.md:2: this is not YAML: sequence end token ']' not found; indent with spaces, and put text in quotes that holds a colon and a space or begins with a sign\n"},
		{"broken quiz", "```quiz\nWhich?\n( ) a\n```\n\ntext", "<p>text</p>", "step1.md:2: no choice of the quiz is right; mark it with `(x)` or `[x]`\n"},
		{"radio with two", "```quiz\nWhich?\n(x) a\n(x) b\n```\n", `type="checkbox"`, "step1.md:2: 2 choices of the quiz are right; use `[ ]` and `[x]` where several may be right\n"},
		{"callout", "> [!FROB]\n> x\n", "[!FROB]\nx", "step1.md:1: unknown callout `[!FROB]`; there are `NOTE`, `TIP`, `IMPORTANT`, `WARNING` and `CAUTION`\n"},
		{"bidi", "```sh\necho \u202eabc\n```\n", `<div class="block plain">`, "step1.md:1: the command holds a character that makes it look different from what it does; remove it\n"},
		{"Latin-1", "Stra\xdfe\n", "Stra\ufffde", "step1.md:1: this is not UTF-8 text; save the file as UTF-8\n"},
		{"control character", "a\n\nb\x1b[31mc\n", "b[31mc", "step1.md:3: the control character U+001B does not belong in a text; remove it\n"},
		{"comment unclosed", "text\n\n<!-- a\n\nb\n", "<p>text</p>", "step1.md:3: the HTML that begins here does not end, and hides all that follows; end it\n"},
		{"transcript", "```console\n$ echo \"a\nb\n```\n", "echo", "step1.md:2: the command does not end; close its quote, bracket, loop or here-document; lines that go on begin with `> `\n"},
		{"solution unended", "```solution\ncat <<E\nx\n```\n\nx", "<p>x</p>", "step1.md:1: the last command of the solution does not end; close its quote, bracket, loop or here-document\n"},
		{"port", "{{preview 99999}} x", "{{preview 99999}} x", "step1.md:1: there is no port 99999; ports go from 1 to 65535\n"},
		{"preview of another sandbox", "[x](preview:2:80/y)", `data-port="80" data-host="1" data-path="/y"`, "step1.md:1: the lesson has no sandbox 2; write `hosts: 2` in the front matter\n"},
		{"headings", "# a\n\n### c\n\nb\n---\n", "<h3 id=\"h.a\">a</h3>\n<h5 id=\"h.c\">c</h5>\n<h4 id=\"h.b\">b</h4>", ""},
		{"Windows", "\ufeff```sh\r\nls\r\npwd\r\n```\r\n", `data-code="ls&#10;pwd"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, mistakes := lenient(c.text)
			if l == nil {
				t.Fatal(errorsOf(mistakes))
			}
			safe(t, l)
			if got := errorsOf(mistakes); got != c.says {
				t.Errorf("mistakes\n%swant\n%s", got, c.says)
			}
			for _, m := range mistakes {
				if !m.Warn {
					t.Errorf("no warning: %+v", m)
				}
			}
			if !strings.Contains(l.Steps[0].HTML, c.has) {
				t.Errorf("%.2000s\nhas no\n%s", l.Steps[0].HTML, c.has)
			}
		})
	}
}

// Lines of messages are those of the file that a part was translated from.
func TestBuildMapsLines(t *testing.T) {
	part := DraftPart{Title: "S", File: "post.md", Text: "a\n\n[x](y)\n\n```frobnicate\nx\n```\n", Lines: []int{40, 0, 0, 43, 50}}
	_, mistakes := Build(Draft{Lesson: labs.Lesson{ID: "lab", Source: "post.md"}, Parts: []DraftPart{part}, Lenient: true})
	got := errorsOf(mistakes)
	if !strings.HasPrefix(got, "post.md:40: the link") || !strings.Contains(got, "post.md:50: unknown fence word") {
		t.Error(got)
	}
}

// A Draft that is not lenient is held to what our own authors are.
func TestBuildStrict(t *testing.T) {
	d := Draft{Lesson: labs.Lesson{ID: "lab"}, Parts: []DraftPart{{Title: "S", File: "a.md", Text: "```frobnicate\nx\n```\n"}}}
	l, mistakes := Build(d)
	if l != nil || len(mistakes) != 1 || mistakes[0].Warn {
		t.Errorf("%v %v", l, mistakes)
	}
}

func TestBuildOfNothing(t *testing.T) {
	for name, parts := range map[string][]DraftPart{
		"no parts": nil,
		"empty":    {{}},
		"10,000":   make([]DraftPart, 10_000),
	} {
		l, mistakes := Build(Draft{Lesson: labs.Lesson{Source: "index.json"}, Parts: parts, Lenient: true})
		if n := len(mistakes); l != nil || n == 0 || mistakes[n-1].Warn && mistakes[0].Warn {
			t.Errorf("%s: %v %s", name, l != nil, errorsOf(mistakes))
		}
	}
}

func TestBuildIsBounded(t *testing.T) {
	many := make([]DraftPart, 10_000)
	for i := range many {
		many[i] = DraftPart{Title: "Step", Text: "`ls`\n\n`pwd`\n\n`id`\n\n`w`\n\n`who`\n", File: "a.md"}
	}
	large := []DraftPart{{Title: "A", Text: "a"}, {Title: "B", Text: strings.Repeat("100 MB of text\n", 7<<20)}}
	scripts := []DraftPart{{Title: "A", Text: "a", Arrival: labs.Arrival{Setup: []labs.Setup{{Code: strings.Repeat("x", maxDraft)}}}}}
	blocks := []DraftPart{{Title: "A", Text: strings.Repeat("```\nx\n```\n\n", maxBlocks+100)}}
	nodes := []DraftPart{{Title: "A", Text: strings.Repeat("*a* ", 2000) + "\n"}, {Title: "B", Text: strings.Repeat("*a*\n\n", 150_000)}, {Title: "C", Text: "c"}}
	for name, parts := range map[string][]DraftPart{"steps": many, "text": large, "scripts": scripts, "blocks": blocks, "nodes": nodes} {
		t.Run(name, func(t *testing.T) {
			begin := processorTime(t)
			l, mistakes := Build(Draft{Lesson: labs.Lesson{ID: "lab", Source: "index.json"}, Parts: parts, Lenient: true})
			if took := processorTime(t) - begin; took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
			if len(mistakes) == 0 {
				t.Error("nothing is said about it")
			}
			if l == nil {
				if name != "scripts" {
					t.Error(errorsOf(mistakes))
				}
				return
			}
			safe(t, l)
			commands, size := 0, 0
			for _, s := range l.Steps {
				commands += len(s.Commands)
				size += len(s.HTML)
			}
			if len(l.Steps) > maxSteps || commands > maxCommands || size > 64<<20 {
				t.Errorf("%d steps, %d commands, %d bytes", len(l.Steps), commands, size)
			}
		})
	}
}
