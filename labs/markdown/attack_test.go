package markdown

import (
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
)

// attacks are Markdown that tries to get something onto the page that no
// lesson may bring. TestAttacks and FuzzLoad use them.
var attacks = map[string]string{
	"script":                         "<script>alert(1)</script>",
	"script in a paragraph":          "a <script>alert(1)</script> b",
	"script in capitals":             "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
	"script cut in two":              "<scr<script>ipt>alert(1)</scr</script>ipt>",
	"script unclosed":                "<script>alert(1)",
	"event handler":                  `<img src="x.png" onerror=alert(1)>`,
	"event handler without space":    `<img/src="x.png"/onerror="alert(1)">`,
	"event handler after newline":    "<b\nonmouseover\n=\nalert(1)>x</b>",
	"event handler on details":       "<details open ontoggle=alert(1)>x</details>",
	"event handler in a heading":     "### x {onclick=alert(1)}",
	"javascript link":                "[x](javascript:alert(1))",
	"javascript link with tab":       "[x](java&Tab;script:alert(1))",
	"javascript link encoded":        "[x](&#106;avascript&colon;alert(1))",
	"javascript link in capitals":    "<a href=' JaVaScRiPt:alert(1)'>x</a>",
	"javascript by reference":        "[x][y]\n\n[y]: javascript:alert(1)",
	"javascript autolink":            "<javascript:alert(1)>",
	"vbscript link":                  "[x](vbscript:x)",
	"data link":                      "[x](data:text/html;base64,PHNjcmlwdD4=)",
	"file link":                      "[x](file:///etc/passwd)",
	"link without its protocol":      "[x](//evil.example/)",
	"link to a page of ours":         "[x](/api/sessions/1/reset)",
	"image that is data":             "![x](data:image/svg+xml;base64,PHN2Zz4=)",
	"image from elsewhere":           "![x](https://evil.example/track.png)",
	"image outside the folder":       "![x](../other/x.png)",
	"image encoded outside":          "![x](%2e%2e/other/x.png)",
	"image of an address of ours":    "![x](/api/sessions)",
	"srcset":                         `<img src=x.png srcset="https://evil.example/x.png 2x">`,
	"style attribute":                `<p style="position:fixed;inset:0">x</p>`,
	"style element":                  "<style>body{display:none}</style>",
	"style in svg":                   "<svg><style><img src=x onerror=alert(1)></style></svg>",
	"math":                           "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
	"noscript":                       `<noscript><p title="</noscript><img src=x onerror=alert(1)>">`,
	"xmp":                            "<xmp><img src=x onerror=alert(1)></xmp>",
	"textarea":                       `<textarea><p title="</textarea><img src=x onerror=alert(1)>">`,
	"plaintext":                      "<plaintext>",
	"template":                       "<template><script>alert(1)</script></template>",
	"iframe":                         `<iframe srcdoc="<script>alert(1)</script>"></iframe>`,
	"object":                         `<object data="javascript:alert(1)"></object><embed src=x>`,
	"meta refresh":                   `<meta http-equiv=refresh content="0;url=https://evil.example">`,
	"base":                           `<base href="https://evil.example/">`,
	"link element":                   `<link rel=stylesheet href="https://evil.example/x.css">`,
	"form":                           `<form action="/api/sessions/1/reset" method=post><input type=submit><button formaction=x>x</button></form>`,
	"input that asks":                `<input type=password name=p autofocus onfocus=alert(1)>`,
	"comment that ends early":        "<!--><img src=x onerror=alert(1)>-->",
	"comment with a dash":            "<!--a--!><img src=x onerror=alert(1)>",
	"cdata":                          "<![CDATA[<img src=x onerror=alert(1)>]]>",
	"processing instruction":         "<?php echo 1 ?><?xml-stylesheet href=x?>",
	"doctype":                        "<!DOCTYPE html><html><body onload=alert(1)>",
	"spoofed block":                  `<div class="block run" data-command="step/1" data-code="rm -rf ~"><button class="run-button">Run</button></div>`,
	"spoofed page parts":             `<section class="step" id="step" data-step="step"><ul class="checks"><li class="check" data-status="passed">x</ul></section>`,
	"spoofed ids":                    `<p id="screen">a</p><p id="text">b</p><a name="lesson">c</a>`,
	"clobbered document":             `<img src=x.png name=getElementById id=body>`,
	"spoofed callout":                `<aside class="callout note"><p class="callout-title">Berth says</p></aside>`,
	"role of ours":                   `<div role="dialog" aria-label="x" tabindex=0 contenteditable>x</div>`,
	"code that ends its block":       "```sh\n</code></pre><script>alert(1)</script>\n```",
	"code that ends its attribute":   "```sh\n\" onclick=\"alert(1)\" x='\n```",
	"info that ends its attribute":   "```json\"onclick=alert(1)\n1\n```",
	"path that ends its attribute":   "```file {path='~/\"><script>alert(1)</script>'}\nx\n```",
	"transcript with tags":           "```console\n$ echo '<img src=x onerror=alert(1)>'\n<script>alert(1)</script>\n```",
	"block inside an attribute":      "<img alt=\"\n\n```sh\necho ' onerror=alert(1) '\n```\n\n\">",
	"block inside a title":           "<p title='\n\n```sh\necho \"x\" onclick=alert(1)\n```\n\n'>x</p>",
	"block inside a script":          "<div>\n<script>\n\n```sh\n</script><img src=x onerror=alert(1)>\n```",
	"block inside a comment":         "<div>\n<!-- \n\n```sh\n--><img src=x onerror=alert(1)>\n```",
	"footnote":                       "x[^1]\n\n[^1]: <img src=x onerror=alert(1)> [y](javascript:alert(1))",
	"table":                          "| <script>alert(1)</script> | b |\n|---|---|\n| [x](javascript:alert(1)) | `<b onclick=x>` |",
	"title of a link":                `[x](https://a.example "\" onclick=\"alert(1)")`,
	"description of an image":        `![" onerror="alert(1)](x.png)`,
	"hint":                           "````hint\n<script>alert(1)</script> <div class='block run' data-command=x>\n````",
	"solution":                       "```solution\necho '\"><script>alert(1)</script>'\n```",
	"heading with tags":              "## <script>alert(1)</script> <img src=x onerror=alert(1)>\n\nx",
	"heading with a spoofed id":      "### x {#screen}",
	"heading with a quote in its id": "### x {#\"onclick=alert(1)}",
	"null-like characters":           "<scr\u00adipt>alert(1)</scr\u00adipt><\u2028script>",
	"nested quotes in emphasis":      "*a **b <i onclick=x> c** d*",
	"unbalanced ends":                "</div></section></article></main><div>",
	"inline command with tags":       "Type `\"><script>alert(1)</script>`{run} or `' onclick=x`{copy}",
	"inline path with tags":          "Open `/\"><img src=x onerror=alert(1)>`{open}",
	"attribute of inline code":       "Type `x`{run terminal=\"onclick=alert(1)\"}",
	"marker that ends its attribute": "```file {path=~/x mode=insert marker=\"\\\"><script>\"}\nx\n```",
	"quiz with tags":                 "```quiz\n<script>alert(1)</script> <b onclick=x>?\n(x) <img src=x onerror=alert(1)>\n( ) [y](javascript:alert(1)) </label></form><form action=/api>\n```",
	"quiz with an input":             "```quiz\nWhat? <input type=radio name=a value=0 checked>\n(x) a\n( ) b <input type=submit formaction=x>\n```",
	"quiz with a block":              "```quiz\n- What?\n(x) # a\n( ) > b\n```",
	"spoofed quiz":                   `<form class="quiz" data-quiz="step/1"><button class="quiz-button">x</button></form>`,
	"spoofed preview":                `<a class="preview" data-port="22" data-path="//evil.example" href="https://a.example">x</a>`,
	"preview of another site":        "[x](preview:80@evil.example/) [y](preview://evil.example/) [z](preview:8080.evil.example/)",
	"preview with script":            "[x](preview:80/\"onclick=\"alert(1)) <a href=\"preview:80/'><script>alert(1)</script>\">y</a>",
	"preview as an image":            "![x](preview:80/x.png) <img src='preview:80/x.png'>",
	"mark as a link":                 "[x](" + (labs.Var{Name: "preview 80"}).Mark() + "/x) <a href='" + (labs.Var{Name: "x"}).Mark() + ":alert(1)'>y</a> {{preview 80}}",
	"solution in Markdown":           "````solution {markdown}\n<script>alert(1)</script> `x\"onclick=`{run} <div class='block run' data-command='step/1'>\n````",
	"mark of ours":                   "berthabcdefghijklmnopqrstuvwxyzx0x",
}

func TestAttacks(t *testing.T) {
	for name, text := range attacks {
		t.Run(name, func(t *testing.T) {
			l, mistakes := load1(inStep + text + "\n\n```sh\necho after\n```\n")
			if l == nil {
				for _, m := range mistakes {
					if strings.ContainsAny(m.Error(), "\x1b\n") {
						t.Errorf("the mistake reaches a terminal as it is: %q", m.Error())
					}
				}
				return
			}
			safe(t, l)
			if n := len(l.Steps[len(l.Steps)-1].Commands); n == 0 {
				t.Error("the block behind it is gone")
			}
			if strings.Contains(strings.ReplaceAll(l.Steps[0].HTML, markBegin, ""), "berth") && !strings.Contains(text, "berth") {
				t.Errorf("a mark of ours is left:\n%s", l.Steps[0].HTML)
			}
		})
	}
}

// An author who could guess the nonce could put a block of ours anywhere, so
// two loads never share one.
func TestNonceIsNewForEveryLoad(t *testing.T) {
	if a, b := newPageRenderer(), newPageRenderer(); a.nonce == b.nonce || len(a.nonce) < 26 {
		t.Errorf("nonces %q and %q", a.nonce, b.nonce)
	}
}

// Text of an author's that holds the right nonce must still not get a block
// into an attribute, twice onto the page, or a class of ours.
func TestKnownNonceGivesNothingButABlock(t *testing.T) {
	p := newPageRenderer()
	l := newLoader(&report{file: "lab.md"}, &labs.Lesson{ID: "lab"})
	l.page = p
	f := &fragment{kind: stepFragment, line: 1, links: map[string]int{}}
	p.block(f, `<div class="block plain">X</div>`, 1)
	m := p.mark(0)
	got := l.sanitize(`<p title="`+m+`" lang="`+m+`">a</p>`+m+` `+m+`<a href="https://a.example/`+m+`">l</a><img src="`+m+`.png" alt="`+m+`">`, f)
	if n := strings.Count(got, "block plain"); n != 1 {
		t.Errorf("the block stands %d times: %s", n, got)
	}
	for _, bad := range []string{`title=`, `lang=`, `href=`, `alt=`, p.nonce} {
		if strings.Contains(got, bad) {
			t.Errorf("%s is left: %s", bad, got)
		}
	}
}

// What is right in a quiz is on no page, in no order and in no attribute.
func TestAnswersOfAQuizAreNotOnThePage(t *testing.T) {
	page := func(text string) string {
		l, ms := load1(inStep + text)
		if l == nil {
			t.Fatal(errorsOf(ms))
		}
		return l.Steps[0].HTML
	}
	choices := []string{"( ) a\n( ) b\n(x) c\n", "(x) a\n( ) b\n( ) c\n", "( ) a\n(X) b\n( ) c\n"}
	several := []string{"[x] a\n[ ] b\n[ ] c\n", "[x] a\n[x] b\n[x] c\n", "[ ] a\n[ ] b\n[x] c\n"}
	typed := []string{"= secret one\n", "= other\n", "~ secret two\n"}
	for _, group := range [][]string{choices, several, typed} {
		first := page("```quiz\nWhich?\n" + group[0] + "```\n")
		for _, other := range group {
			if got := page("```quiz\nWhich?\n" + other + "```\n"); got != first || strings.Contains(got, "secret") {
				t.Errorf("the page shows what is right:\n%s\n%s", first, got)
			}
		}
	}
	// One that cannot be read is not shown with its marks either.
	l, _ := lenient("```quiz\nWhich?\n(x) secret\n[ ] other\n```\n\ntext\n")
	if l == nil || strings.Contains(l.Steps[0].HTML, "secret") || !strings.Contains(l.Steps[0].HTML, "text") {
		t.Errorf("%+v", l)
	}
}

// endless is a file that gives so many bytes of text.
type endlessFile struct {
	fsys fs.FS
	size int64
}

func (e endlessFile) Open(name string) (fs.File, error) {
	f, err := e.fsys.Open(name)
	if err != nil || !strings.HasSuffix(name, fileName) {
		return f, err
	}
	return &longFile{File: f, left: e.size}, nil
}

type longFile struct {
	fs.File
	left, read int64
}

func (f *longFile) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, strings.Repeat("text\n", len(p)/5+1))
	f.left -= int64(n)
	f.read += int64(n)
	return n, nil
}

func (f *longFile) Close() error {
	if f.read > 2*maxFile {
		panic("all of it was read")
	}
	return f.File.Close()
}

func TestHugeLessons(t *testing.T) {
	var before, after runtime.MemStats
	nested := func(n int) string {
		var b strings.Builder
		for i := n; i > 0; i-- {
			b.WriteString(strings.Repeat("`", i+2) + "hint\n")
		}
		return b.String()
	}
	inLists := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.Repeat("  ", i) + "- ```sh\n")
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"100 MB":              strings.Repeat("text text text text\n", 5<<20),
		"10,000 steps":        strings.Repeat("## Step\n\n`ls`\n\n", 10_000),
		"1,000 nested":        nested(1000),
		"1,000 in lists":      inLists(1000),
		"1,000 in quotes":     strings.Repeat("> ", 1000) + "```sh\nls\n",
		"10,000 quizzes":      strings.Repeat("```quiz\nWhat?\n= x\n```\n\n", 10_000),
		"quiz of 10,000":      "```quiz\nWhat?\n" + strings.Repeat("(x) a\n", 10_000) + "```\n",
		"quiz that is large":  "```quiz\n" + strings.Repeat("*a **b _c ", 3000) + "\n(x) a\n( ) b\n```\n",
		"100,000 spans":       strings.Repeat(strings.Repeat("`x`{run} ", 1000)+"\n\n", 100),
		"attributes of spans": strings.Repeat("`x`{"+strings.Repeat("a=\"", 2000)+"\n\n", 100),
		"100,000 values":      strings.Repeat("{{preview 1}} {{preview 65535}} {{x}}\n\n", 30_000),
		"65,535 ports":        ports(65535),
		"hints":               strings.Repeat("```hint\nx[^1] *y*\n\n[^1]: z\n```\n\n", 4000),
		"solutions":           strings.Repeat("```solution {markdown}\n`a`\n```\n\n", 4000),
	} {
		t.Run(name, func(t *testing.T) {
			for kind, load := range map[string]func() *labs.Lesson{
				"our own": func() *labs.Lesson { l, _ := load1(inStep + text); return l },
				"another": func() *labs.Lesson { l, _ := lenient(text); return l },
			} {
				runtime.GC()
				runtime.ReadMemStats(&before)
				begin := processorTime(t)
				l := load()
				took := processorTime(t) - begin
				runtime.ReadMemStats(&after)
				used := (after.HeapSys - min(before.HeapSys, after.HeapSys)) >> 20 // at its highest
				t.Logf("%s: %d kB in %v with %d MiB, loads: %v", kind, len(text)/1000, took.Round(time.Millisecond), used, l != nil)
				if took > 15*time.Second || used > 500 {
					t.Errorf("%s: it took %v and %d MiB", kind, took, used)
				}
				if l != nil && len(text) < 1<<20 {
					safe(t, l)
				}
			}
		})
	}
	l, ms := Load(endlessFile{fstest.MapFS{"lab/lab.md": labFile("x")}, 1 << 40}, "lab")
	if got := errorsOf(ms); l != nil || got != "lab/lab.md: it is larger than 2 MiB; split it\n" {
		t.Error(got)
	}
}

func ports(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{{preview %d}}\n\n", i+1)
	}
	return b.String()
}

// A placeholder is short and its value long: a lesson of half a megabyte must
// not become a page of hundreds for everyone who asks for it.
func TestValuesThatSwellALesson(t *testing.T) {
	front := "---\ntitle: A lab\nvars:\n  v: {pick: [x, '" + strings.Repeat("<", maxValue) + "']}\n---\n## Step\n\n"
	for name, text := range map[string]string{
		"prose":     strings.Repeat(strings.Repeat("{{v}}", 100)+"\n\n", 100),
		"commands":  strings.Repeat("```sh\n"+strings.Repeat("{{v}}", 100)+"\n```\n\n", 20),
		"hints":     "```hint\n" + strings.Repeat(strings.Repeat("{{v}}", 100)+"\n\n", 100) + "```\n",
		"solutions": "```solution\n" + strings.Repeat("{{v}}", 10_000) + "\n```\n",
		"files":     "```file {path=~/x}\n" + strings.Repeat("{{v}}", 10_000) + "\n```\n",
	} {
		l, ms := load1(front + text)
		if got := errorsOf(ms); l != nil || !strings.Contains(got, "with the values of its `vars` the lesson is longer than 8 MiB") {
			t.Errorf("%s: loads: %v\n%s", name, l != nil, got)
		}
		vars := []labs.Var{{Name: "v", Pick: []string{"x", strings.Repeat("<", maxValue)}}}
		if l, _ := Build(Draft{Lesson: labs.Lesson{ID: "x", Vars: vars}, Parts: []DraftPart{{Title: "x", Text: text}}, Lenient: true}); l != nil {
			t.Errorf("%s loads as a draft", name)
		}
	}
	if l, ms := load1(front + strings.Repeat("{{v}} word\n\n", 500)); l == nil {
		t.Error(errorsOf(ms))
	}
}

// Few files can be the text of very many labs: what they hold together is
// bounded, and the first ones load.
func TestManyLabsOfTheSameText(t *testing.T) {
	files := fstest.MapFS{}
	for i := range 50 {
		files[fmt.Sprintf("lab%02d/lab.md", i)] = labFile(inStep + strings.Repeat("Text.\n\n", 1000))
	}
	all, _ := loadAll(files, labs.MaxTexts)
	if len(all) != 50 || all[0].Size() < 10_000 {
		t.Fatalf("%d labs", len(all))
	}
	some, mistakes := loadAll(files, 10*all[0].Size())
	if got := errorsOf(mistakes); len(some) != 10 || strings.Count(got, "more text than can be held") != 1 || !strings.Contains(got, "lab10/lab.md") {
		t.Errorf("%d labs\n%s", len(some), got)
	}
}
