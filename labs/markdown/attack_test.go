package markdown

import (
	"strings"
	"testing"

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
			if strings.Contains(l.Steps[0].HTML, "berth") && !strings.Contains(text, "berth") {
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
	r := &report{file: "lab.md"}
	l := &loader{report: r, lesson: &labs.Lesson{ID: "lab"}, page: p, anchors: map[string]string{}}
	f := &fragment{kind: stepFragment, line: 1, links: map[string]int{}}
	p.block(f, `<div class="block plain">X</div>`, 1)
	m := p.mark(0)
	got := l.sanitize(`<p title="`+m+`" lang="`+m+`">a</p>`+m+` `+m+`<a href="https://a.example/`+m+`">l</a><img src="`+m+`.png" alt="`+m+`">`, *f)
	if n := strings.Count(got, "block plain"); n != 1 {
		t.Errorf("the block stands %d times: %s", n, got)
	}
	for _, bad := range []string{`title=`, `lang=`, `href=`, `alt=`, p.nonce} {
		if strings.Contains(got, bad) {
			t.Errorf("%s is left: %s", bad, got)
		}
	}
}
