package katacoda

import (
	"strings"
	"testing"
	"testing/fstest"
)

// lines joins lines of a page.
func lines(s ...string) string { return strings.Join(s, "\n") + "\n" }

func TestTranslate(t *testing.T) {
	const (
		host = "https://[[HOST_SUBDOMAIN]]-8080-[[KATACODA_HOST]].environments.katacoda.com"
	)
	cases := []struct {
		name, in, want string
	}{
		// Marks behind inline code.
		{"run", "Do `ls`{{execute}}.", "Do `ls`{run}."},
		{"exec", "Do `ls`{{exec}}.", "Do `ls`{run}."},
		{"terminal", "`ls`{{execute T2}}", "`ls`{run terminal=2}"},
		{"host", "`ls`{{HOST2 execute}}", "`ls`{run host=2}"},
		{"all modifiers", "`ls`{{interrupt T3 execute HOST2 no-newline}}", "`ls`{run terminal=3 host=2 interrupt no-enter}"},
		{"keys", "Press `^C`{{execute ctrl-seq}} or `^ESC`{{execute ctrl-seq T2}}", "Press `^C`{keys} or `^[`{keys terminal=2}"},
		{"copy", "`ls`{{copy}}", "`ls`{copy}"},
		{"two marks", "`ls`{{copy}}{{execute}}", "`ls`{run}"},
		{"blank before", "`ls` {{execute}} now", "`ls`{run} now"},
		{"line before", "`ls`\n{{execute}} now", "`ls`{run} now"},
		{"in bold", "**`ls`{{execute}}** and **`ls`**{{execute}}", "**`ls`{run}** and **`ls`{run}**"},
		{"double backticks", "``echo `date` ``{{execute}}", "``echo `date` ``{run}"},
		{"one line of three", "```ls -l```{{exec}}", "`ls -l`{run}"},
		{"one line of three in a sentence", "Use ```ls -l```{{exec}} here", "Use `ls -l`{run} here"},
		{"uneven backticks", "``ls`{{exec}}", "`ls`{run}"},
		{"blanks in code", "` ls  `{{execute}}", "`ls `{run}"},
		{"not in katacoda", "a `b` c", "a `b` c"},
		{"alone", "`ls`", "`ls`{.norun}"},
		{"no copy", "`ls`{{}} and `ls`{{ }}", "`ls` and `ls`"},
		{"braces of code", "`docker ps --format '{{.Names}}'`{{execute}}", "`docker ps --format '{{.Names}}'`{run}"},
		{"braces behind code", "`a`{{.Values.b}} `c`{d}", "`a`\\{{.Values.b}} `c`\\{d}"},
		{"braces of prose", "Helm writes {{ .Values.a }} there", "Helm writes {{ .Values.a }} there"},
		{"slip", "`ls`{{exeucte}}", "`ls`\\{{exeucte}}"},
		{"no code", "just {{execute}} and ls -l{{exec T2}}.", "just  and ls -l."},
		{"no code, broken", "just {{{execute}}} and {{copy", "just  and "},
		{"mark on a line of its own", lines("a", "", "{{execute}}", "", "b"), lines("a", "", "", "b")},
		{"mark in code", "Use `ls{{execute}}`, ```pwd -P {{exec T2}}``` or `x{{copy}}`", "Use `ls`{run}, `pwd -P`{run terminal=2} or `x`{copy}"},
		{"mark in code and behind it", "`ls{{execute}}`{{execute T2}}", "`ls`{run terminal=2}"},
		{"mark before code", "`{{copy}}guest`{{copy}} is", "`guest`{copy} is"},
		{"backtick within the braces", "First `ls`{{execute`}} and `pwd{{execute`}} and `id`{{execute}}", "First `ls`{run} and `pwd`{run} and `id`{run}"},
		{"broken braces", "`a`{{execute} `b`{{{execute}}} `c`{execute} `d`{[exec]} `e`{{copy}}}", "`a`{run} `b`{run} `c`{run} `d`{run} `e`{copy}"},
		{"braces over two lines", lines("`a`{{execute", "}} b"), "`a`{run} b\n"},
		{"forgotten first backtick", lines("npm install --save left`{{exec}}", "`two`{{execute}}"), lines("`npm install --save left`{run}", "`two`{run}")},
		{"forgotten first backticks", lines("cd a`{{exec}}", "", "ls`{{execute T2}}"), lines("`cd a`{run}", "", "`ls`{run terminal=2}")},
		{"forgotten first backtick in a sentence", "It shows what is there. The rest`{{execute}} now", "It shows what is there. The rest now"},
		{"apostrophe for a backtick", "Begin: 'jshell`{{exec}}", "Begin: `jshell`{run}"},
		{"apostrophes for backticks", "use 'top'{{exec}}", "use 'top'"},
		{"forgotten last backtick", lines("`one'{{execute}}", "`two`{{execute}}"), lines("`one`{run}", "`two`{run}")},
		{"forgotten last backtick with quotes", "`echo \"a\"{{execute}}", "`echo \"a\"`{run}"},
		{"one backtick too many", "`ls`{{execute}}`{{execute}}", "`ls`{run}"},
		{"backtick behind the mark", lines("`ls`{{execute}}`", "", "`", "", "a ` b"), lines("`ls`{run}", "", "", "a \\` b")},
		{"terminal alone", "`ls`{{T2}}", "`ls`{run terminal=2}"},
		{"pipes in a table", lines("| a | b |", "|---|---|", "| `ls | wc`{{execute}} | `x \\| y` |"), lines("| a | b |", "|---|---|", "| `ls \\| wc`{run} | `x \\| y` |")},
		{"nothing to run", "``{{execute T2}} a ` `{{execute}} b", " a  b"},
		{"page about marks", lines("Write `{{execute}}` behind code: `` `ls`{{execute}} `` or `pwd{{execute}}`"), lines("Write `{{execute}}` behind code: `` `ls`{{execute}} `` or `pwd{{execute}}`")},
		{"templates are not marks", "`{{ .Copy }}` `{{copy .}}` `{{range .Exec}}{{.}}{{end}}`{{copy}} {{ open.door }}", "`{{ .Copy }}` `{{copy .}}` `{{range .Exec}}{{.}}{{end}}`{copy} {{ open.door }}"},
		{"escaped backtick", "\\`ls\\`{{execute}}", "\\`ls\\`{{execute}}"},
		{"in a heading", "## Run `ls`{{execute}}", "## Run `ls`{run}"},
		{"in a table", lines("| a | b |", "|---|---|", "| `ls`{{execute}} | `x` |"), lines("| a | b |", "|---|---|", "| `ls`{run} | `x` |")},

		// Code of several lines between backticks.
		{"here-document", lines("First `cat <<E > f", "a", "E`{{execute}} done"), lines("First", "```sh", "cat <<E > f", "a", "E", "```", "done")},
		{"here-document with everything", lines("`cat <<E > f", "# a", "", "- b", "> c", "E`{{execute T2}}"), lines("```sh {terminal=2}", "cat <<E > f", "# a", "", "- b", "> c", "E", "```")},
		{"several lines to copy", lines("`a", "  b`{{copy}}"), lines("```text {copy}", "a", "  b", "```")},
		{"wrapped code", lines("see `docker", "run` there"), "see `docker run` there\n"},
		{"only code", lines("`a", "b`"), lines("```", "a", "b", "```")},
		{"in a list", lines("- `a", "  b`{{execute}}", "- c"), lines("- ```sh", "  a", "  b", "  ```", "- c")},
		{"rest is no list", lines("`a", "b`{{execute}} 1. c"), lines("```sh", "a", "b", "```", "1\\. c")},

		// Fences.
		{"mark on the closing fence", lines("```", "ls", "```{{execute}}", "text"), lines("```sh", "ls", "```", "text")},
		{"language", lines("```bash", "ls", "```{{exec}}"), lines("```sh", "ls", "```")},
		{"copy of a language", lines("```yaml", "a: b", "```{{copy}}"), lines("```yaml {copy}", "a: b", "```")},
		{"blank before the mark", lines("```", "ls", "``` {{execute}}"), lines("```sh", "ls", "```")},
		{"mark on the next line", lines("```", "ls", "```", "{{execute}}"), lines("```sh", "ls", "```")},
		{"fence with mark on the next line", lines("```", "ls", "```", "```{{execute}}"), lines("```sh", "ls", "```")},
		{"text behind the mark", lines("```", "ls", "```{{execute}} lists", "files"), lines("```sh", "ls", "```", "lists", "files")},
		{"mark on the opening fence", lines("```{{execute}}", "ls", "```"), lines("```sh", "ls", "```")},
		{"mark behind the language", lines("```bash{{execute T2}}", "ls", "```"), lines("```sh {terminal=2}", "ls", "```")},
		{"glued", lines("```", "a", "b```{{execute}}", "c"), lines("```sh", "a", "b", "```", "c")},
		{"glued without mark", lines("```text", "a", "b```", "", "c"), lines("```text", "a", "b", "```", "", "c")},
		{"code on the opening fence", lines("```cat <<E", "a", "E```{{execute}}"), lines("```sh", "cat <<E", "a", "E", "```")},
		{"command on the opening fence", lines("```docker ps", "```{{execute}}"), lines("```sh", "docker ps", "```")},
		{"fence behind text", lines("Run: ```", "ls", "```{{execute}}"), lines("Run:", "```sh", "ls", "```")},
		{"tildes", lines("~~~", "ls", "~~~{{execute}}"), lines("```sh", "ls", "```")},
		{"longer end", lines("```", "ls", "````{{execute}}"), lines("```sh", "ls", "```")},
		{"shorter end", lines("````", "ls", "```{{execute}}", "text"), lines("```sh", "ls", "```", "text")},
		{"fence in a fence", lines("````", "```", "a", "```{{execute}}", "````"), lines("````", "```", "a", "```{{execute}}", "````")},
		{"marks in a fence", lines("```", "echo '`a`{{execute}}'", "```{{execute}}"), lines("```sh", "echo '`a`{{execute}}'", "```")},
		{"slip in an end", lines("```", "ls", "```{execute}", "text"), lines("```sh", "ls", "```", "text")},
		{"slip in the mark", lines("```", "ls", "```{{exeute}}"), lines("```", "ls", "```", "{{exeute}}")},
		{"slip in the signs", lines("```", "ls", "``{{execute}}"), lines("```sh", "ls", "```")},
		{"not closed", lines("```", "ls"), lines("```", "ls", "```")},
		{"not closed before another", lines("```bash", "a", "", "```bash", "b", "```{{exec}}"), lines("```sh {.norun}", "a", "", "```", "```sh", "b", "```")},
		{"not closed before marks", lines("```bash", "a", "", "Text.", "`b`{{execute}}"), lines("```sh {.norun}", "a", "```", "", "Text.", "`b`{run}")},
		{"never opened", lines("ls", "```{{execute}}", "", "```bash", "b", "```{{exec}}"), lines("ls", "", "```sh", "b", "```")},
		{"indented in a list", lines("1. a", "   ```", "   b", "     c", "   ```{{execute}}", "2. d"), lines("1. a", "   ```sh", "   b", "     c", "   ```", "2. d")},
		{"indented too little", lines("1. a", "  ```", "  b", "  ```{{execute}}", "2. c"), lines("1. a", "   ```sh", "   b", "   ```", "2. c")},
		{"indented too much", lines("* a", "", "       ```", "       b", "       ```{{execute}}", "* c"), lines("* a", "", "  ```sh", "  b", "  ```", "* c")},
		{"code outside of its list", lines("1. a", "   ```", "   cat <<E", "b", "E", "   ```{{execute}}", "2. c"), lines("1. a", "   ```sh", "   cat <<E", "   b", "   E", "   ```", "2. c")},
		{"end outside of its list", lines("1. a", "   ```", "   b", "```{{execute}}", "2. c"), lines("1. a", "   ```sh", "   b", "   ```", "2. c")},
		{"glued outside of its list", lines("1. a", "   ```", "   cat <<E", "b", "E```{{execute}}", "2. c"), lines("1. a", "   ```sh", "   cat <<E", "   b", "   E", "   ```", "2. c")},
		{"behind the sign of a list", lines("- ```", "  a", "  ```{{execute}}"), lines("- ```sh", "  a", "  ```")},
		{"in a quote", lines("> a", "> ```", "> b", "> ```{{execute}}", "> c"), lines("> a", "> ```sh", "> b", "> ```", "> c")},
		{"in a quote that ends", lines("> ```", "> b", "", "c"), lines("> ```", "> b", "> ```", "", "c")},
		{"open", lines("```", "app.js", "```{{open}}"), lines("", "`~/app.js`{open}", "")},
		{"empty", lines("a", "```", "```{{execute}}", "b"), lines("a", "b")},
		{"fences written twice", lines("```bash```bash", "ls", "```{{exec}}```{{exec}}", "a"), lines("```sh", "ls", "```", "a")},
		{"template language", lines("```jinja2", "{% if a %}{{ b }}{% endif %}", "```"), lines("```jinja", "{% if a %}{{ b }}{% endif %}", "```")},
		{"bare word behind an end", lines("```", "ls", "```copy", "text"), lines("```text {copy}", "ls", "```", "text")},
		{"mark in the last line", lines("```", "a", "ls{{execute}}", "```"), lines("```sh", "a", "ls", "```")},
		{"mark as the last line", lines("```bash", "ls", "{{execute T2}}", "", "```", "b"), lines("```sh {terminal=2}", "ls", "", "```", "b")},
		{"mark in every line", lines("```", "a{{execute}}", "b {{execute}}", "```{{execute}}"), lines("```sh", "a", "b", "```")},
		{"mark in a here-document", lines("```", "cat <<E > a.md", "ls{{execute}}", "E", "```{{execute}}"), lines("```sh", "cat <<E > a.md", "ls{{execute}}", "E", "```")},
		{"mark in a template", lines("```yaml", "a: {{ copy }}", "b: {{ execute }}", "c: {{ open }}", "```{{copy}}"), lines("```yaml {copy}", "a: {{ copy }}", "b: {{ execute }}", "c: {{ open }}", "```")},
		{"marks in Markdown", lines("```markdown", "`ls`{{execute}}", "pwd{{execute}}", "```"), lines("```markdown", "`ls`{{execute}}", "pwd{{execute}}", "```")},
		{"indented with a mark inside", "    ls -l{{execute}}", "`ls -l`{run}"},
		{"indented with a mark", "    `ls`{{execute}}", "`ls`{run}"},
		{"indented", "    `ls` {{.A}}", "    `ls` {{.A}}"},
		{"our words", lines("```check", "a", "```", "", "```quiz", "b", "```"), lines("```text", "a", "```", "", "```text", "b", "```")},
		{"highlighted lines", lines("```yaml{2,5}", "a: b", "```"), lines("```yaml", "a: b", "```")},
		{"in details", lines("<details>", "<summary>Tip</summary>", "```", "ls", "```{{exec}}", "</details>"), lines("<details>", "<summary>Tip</summary>", "", "```sh", "ls", "```", "</details>")},
		{"marks in HTML", "<li>run `ls`{{execute}} now</li>", lines("<li>", "", "run `ls`{run} now", "", "</li>")},

		// Headings.
		{"heading", "#Title", "# Title"},
		{"heading with signs", "##Title ##", "## Title"},
		{"no heading", "#!/bin/sh", "#!/bin/sh"},
		{"number in a paragraph", lines("see", "#12"), lines("see", "#12")},
		{"rule", lines("a", "", "---", "b"), lines("a", "", "***", "b")},

		// Addresses.
		{"address", "Go to " + host + "/a.", "Go to [{{preview 8080}}/a](preview:8080/a)."},
		{"address in brackets", "(" + host + ")", "([{{preview 8080}}](preview:8080))"},
		{"address in angles", "<" + host + "/a>", "[{{preview 8080}}/a](preview:8080/a)"},
		{"link", "[a](" + host + "/b)", "[a](preview:8080/b)"},
		{"link with its own text", "[" + host + "](" + host + ")", "[{{preview 8080}}](preview:8080)"},
		{"traffic", "[a]({{TRAFFIC_HOST1_80}}) {{TRAFFIC_HOST2_9000}}", "[a](preview:80) [{{preview 2:9000}}](preview:2:9000)"},
		{"path inside the braces", "[a]({{TRAFFIC_HOST1_80/b/c}})", "[a](preview:80/b/c)"},
		{"path behind the braces", "{{TRAFFIC_HOST1_80}}/b", "[{{preview 80}}/b](preview:80/b)"},
		{"selector", "[a]({{TRAFFIC_SELECTOR}})", "[a](preview:80)"},
		{"client", "http://[[CLIENT_SUBDOMAIN]]-8000-[[KATACODA_HOST]].environments.katacoda.com", "[{{preview 8000}}](preview:8000)"},
		{"second host", "https://[[HOST2_SUBDOMAIN]]-80-[[KATACODA_HOST]].environments.katacoda.com", "[{{preview 2:80}}](preview:2:80)"},
		{"other domain", "https://[[HOST_SUBDOMAIN]]-80-[[KATACODA_HOST]].[[KATACODA_DOMAIN]]/a", "[{{preview 80}}/a](preview:80/a)"},
		{"route", "http://shop-web.[[HOST_SUBDOMAIN]]-80-[[KATACODA_HOST]].environments.katacoda.com", "[{{preview 80}}](preview:80)"},
		{"no port", "https://[[HOST_SUBDOMAIN]]-[[KATACODA_HOST]].environments.katacoda.com/", "[{{preview 80}}/](preview:80/)"},
		{"address of the machine", "[[HOST_IP]] and [[HOST2_IP]]:81", "host01 and host02:81"},
		{"page of the machine", "http://[[HOST_IP]]:81/a", "[{{preview 81}}/a](preview:81/a)"},
		{"in code", "`A=" + host + "/b`{{execute}}", "`A={{preview 8080}}/b`{run}"},
		{"fetched", "`curl " + host + "/b`{{execute}}", "`curl http://host01:8080/b`{run}"},
		{"name in code", "`A=[[HOST_SUBDOMAIN]]-81-[[KATACODA_HOST]].environments.katacoda.com`{{execute}}", "`A=host01:81`{run}"},
		{"machine in code", "`ping [[HOST2_IP]]`{{execute HOST1}}", "`ping host02`{run}"},
		{"traffic in code", lines("```", "A={{TRAFFIC_HOST1_80}}/b", "```{{exec}}"), lines("```sh", "A={{preview 80}}/b", "```")},
		{"slips in placeholders", "https://[[HOST_SUBDOMAI]]-80-[[KATACODA_HOST]].environments.katacoda.com/a https://[[HOST_SUDOMAIN]]-81-[[KATACODA_HOTS]].environments.katacoda.com [[KATACODA_HOS]] [[HOST_NAME_OF_MINE]]", "[{{preview 80}}/a](preview:80/a) [{{preview 81}}](preview:81) host01 [[HOST_NAME_OF_MINE]]"},
		{"another name of it", "[a]([[UUID_SUBDOMAIN]]-8000-[[HOST]]/b)", "[a](preview:8000/b)"},
		{"selector with a port", "[a]({{TRAFFIC_SELECTOR_HOST1_7777}})", "[a](preview:7777)"},
		{"single braces", "[a]({TRAFFIC_HOST1_8080}) {TRAFFIC}", "[a](preview:8080) {TRAFFIC}"},
		{"variable port", "`echo {{TRAFFIC_HOST1_$PORT}}`{{exec}}", "`echo http://host01:$PORT`{run}"},
		{"bash", "`[[ -f a ]] && echo [[B]]`{{execute}}", "`[[ -f a ]] && echo [[B]]`{run}"},
		{"in HTML", `<a href="{{TRAFFIC_HOST1_80}}/b">c</a>`, `<a href="preview:80/b">c</a>`},
		{"definition", lines("[a]: "+host+"/b", "", "[a]"), lines("[a]: preview:8080/b", "", "[a]")},

		// Files.
		{"file", lines(`<pre class="file" data-filename="a.js" data-target="replace">`, "x &lt; 1 &amp;&amp; y", "</pre>"), lines("```file {path=~/a.js}", "x < 1 && y", "```")},
		{"file on one line", `<pre class="file" data-filename="a.js" data-target="append">x</pre>`, lines("```file {path=~/a.js mode=append}", "x", "```")},
		{"file behind an item", lines("1. a", `<pre class="file" data-filename="a.js">`, "x", "</pre>", "", "2. b"), lines("1. a", "```file {path=~/a.js}", "x", "```", "", "2. b")},
		{"prepend", lines(`<pre class="file" data-filename="/etc/a" data-target="prepend">x`, "</pre>"), lines("```file {path=/etc/a mode=prepend}", "x", "```")},
		{"insert", lines(`<pre class="file" data-filename="a" data-target="insert" data-marker="# &quot;here&quot;">`, "x", "</pre>"), lines("```file {path=~/a mode=insert marker=\"# \\\"here\\\"\"}", "x", "```")},
		{"clipboard", lines(`<pre class="file" data-target="clipboard">`, "x", "", "y", "</pre>", "z"), lines("```text {copy}", "x", "", "y", "```", "z")},
		{"file without quotes", lines("<pre class=file>", "x", "</pre>"), lines("```text {copy}", "x", "```")},
		{"file that leaves", lines(`<pre class="file" data-filename="../../../a">`, "x", "</pre>"), lines("```file {path=/a}", "x", "```")},
		{"pre", lines("<pre>", "a &lt;b&gt; <c>", "", "`d`{{execute}}", "</pre>"), lines("```text", "a <b> <c>", "", "`d`{{execute}}", "```")},
		{"pre behind text", "a: <pre>b</pre> c", lines("a: ", "```text", "b", "```", "c")},
		{"pre with HTML", lines("<pre>", "<b>a</b> <name>", "</pre>"), lines("<pre><b>a</b> &lt;name></pre>")},
		{"pre that does not end", "<pre> a", " a"},

		// Quizzes.
		{"one right", lines(">>Q?<<", "(*) a", "( ) b", "text"), lines("```quiz", "Q?", "(x) a", "( ) b", "```", "text")},
		{"several right", lines(">> Q? <<", "[*] a", "[ ] b", "[*] c"), lines("```quiz", "Q?", "[x] a", "[ ] b", "[x] c", "```")},
		{"two right of one", lines(">>Q?<<", "(*) a", "(*) b", "() c"), lines("```quiz", "Q?", "[x] a", "[x] b", "[ ] c", "```")},
		{"exact", lines(">>Q?<<", "=== a b"), lines("```quiz", "Q?", "= a b", "```")},
		{"contains", lines(">>Q?<<", "", "=~= a"), lines("```quiz", "Q?", "~ a", "```")},
		{"numbered", lines(">>1. Q?<<", "(*) 2. a"), lines("```quiz", "1\\. Q?", "(x) 2\\. a", "```")},
		{"code in a quiz", lines(">>Is `a`{{execute}} <b>it</b>?<<", "(*) <name>"), lines("```quiz", "Is `a` <b>it</b>?", "(x) &lt;name>", "```")},
		{"no answers", lines(">>Q?<<", "text"), lines("Q?", "", "text")},
		{"quote", lines(">> a", "> b"), lines("> > a", "> > b")},

		// Tags.
		{"pseudo-tags", "kubectl get <name> in <my-space> <b>now</b>", "kubectl get &lt;name> in &lt;my-space> <b>now</b>"},
		{"pseudo-tag at the beginning", "<name> is yours", "&lt;name> is yours"},
		{"names of elements", "a <title> or <label>", "a &lt;title> or &lt;label>"},
		{"elements", "<label>a</label>", "<label>a</label>"},
		{"tags in code", "`<name>`{{copy}}", "`<name>`{copy}"},
		{"tags in HTML", lines("<div>", "a <name>", "</div>"), lines("<div>", "a &lt;name>", "</div>")},
		{"mail", "<a@example.org> <pass@word>", "<a@example.org> &lt;pass@word>"},
		{"autolink", "<https://example.org/a> <app:tag>", "<https://example.org/a> &lt;app:tag>"},
		{"less than", "1 < 2 <3", "1 < 2 <3"},
		{"here-document in prose", "cat <<EOF", "cat <&lt;EOF"},
		{"comment", "a <!-- `b`{{execute}} --> c", "a  c"},
		{"long comment", lines("<!-- a", "", "`b`{{execute}} -->", "c"), lines("c")},
		{"comment that does not end", "<!-- a", "&lt;!-- a"},
		{"indented table", lines("<table>", "<td>", "", "    </td><td>", "    a", "</table>"), lines("<table>", "<td>", "", "</td><td>", "    a", "</table>")},
		{"break", lines("<br>", "`ls`{{execute}}"), lines("<br>", "", "`ls`{run}")},
		{"video", `<iframe src="https://example.org/v"></iframe>`, `<a href="https://example.org/v">example.org/v</a>`},
		{"style", lines("<style>", "a {}", "</style>", "b"), lines("b")},

		// The rest.
		{"mark of order", "\ufeffa\r\nb\r\n", "a\nb\n"},
		{"control characters", "a\x1b[1mb\x00", "a[1mb"},
		{"nothing", "", ""},
		{"two lists", lines("* a", "  * b", "", "    c", "* d"), lines("* a", "  * b", "", "    c", "* d")},
		{"list without blanks", lines("1. a", "2. b", "3. c", "d", "- e", "- f"), lines("1. a", "2. b", "3. c", "   d", "- e", "- f")},
		{"list in a list", lines("1. a", "   - b", "   - c", "2. d"), lines("1. a", "   - b", "   - c", "2. d")},
		{"quote, then list", lines("> a", "2. b"), lines("> a", "2. b")},
		{"comment of Markdown", "[comment]: <> (`a`{{execute}})", "[comment]: <> (`a`{{execute}})"},
		{"tabs in a list", lines("1.\ta", "", "\t```", "\tb", "\t```{{execute}}"), lines("1.  a", "", "    ```sh", "    b", "    ```")},
		{"image of another site", "![a](https://example.org/a.png)", "[a](https://example.org/a.png)"},
		{"badge", "[![a](https://example.org/a.png)](https://example.org)", "[![a](https://example.org/a.png)](https://example.org)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, nums, _ := translate(c.in, page{file: "step1.md", scenario: "."})
			if strings.TrimSuffix(got, "\n") != strings.TrimSuffix(c.want, "\n") {
				t.Errorf("%s\n--- became\n%s--- want\n%s", c.in, got, c.want)
			}
			if n := strings.Count(got, "\n"); n != len(nums) {
				t.Errorf("%d lines, and places of %d", n, len(nums))
			}
		})
	}
}

func TestTranslateKillercoda(t *testing.T) {
	for in, want := range map[string]string{
		"a `b` c":                        "a `b`{copy} c",
		"`b`":                            "`b`{copy}",
		"a `b`{{}} c":                    "a `b` c",
		"`b`{{}}":                        "`b`{.norun}",
		"`b`{{exec}}":                    "`b`{run}",
		"[`b`](https://example.org)":     "[`b`](https://example.org)",
		lines("```", "a", "```"):         lines("```", "a", "```"),
		lines("`a", "b`"):                lines("```text {copy}", "a", "b", "```"),
		lines(">>`a`?<<", "(*) `b`"):     lines("```quiz", "`a`?", "(x) `b`", "```"),
		lines("|`a`|b|", "|-|-|", "|c|"): lines("|`a`{copy}|b|", "|-|-|", "|c|"),
	} {
		got, _, _ := translate(in, page{file: "step1.md", killercoda: true})
		if strings.TrimSuffix(got, "\n") != strings.TrimSuffix(want, "\n") {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestLinesOfSource(t *testing.T) {
	in := lines("# A", "", "text `cat <<E", "b", "E`{{execute}} more", "", "1. x", "  ```", "  y", "  ```{{execute}}", "", ">>Q?<<", "(*) a")
	text, nums, _ := translate(in, page{file: "step1.md"})
	want := []struct {
		text string
		num  int
	}{
		{"# A", 1}, {"", 2}, {"text", 3}, {"```sh", 3}, {"cat <<E", 3}, {"b", 4}, {"E", 5}, {"```", 5}, {"more", 5}, {"", 6},
		{"1. x", 7}, {"   ```sh", 8}, {"   y", 9}, {"   ```", 10}, {"", 11},
		{"```quiz", 12}, {"Q?", 12}, {"(x) a", 13}, {"```", 13},
	}
	got := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(got) != len(want) || len(nums) != len(want) {
		t.Fatalf("%d lines:\n%s", len(got), text)
	}
	for i, w := range want {
		if got[i] != w.text || nums[i] != w.num {
			t.Errorf("line %d: %q of line %d, want %q of line %d", i+1, got[i], nums[i], w.text, w.num)
		}
	}
}

func TestMistakesOfText(t *testing.T) {
	cases := []struct {
		in   string
		line int
		what string
	}{
		{lines("a", "`b`{{exeucte}}"), 2, "`{{exeucte}}` is not understood, and is shown as text"},
		{lines("a", "", "`b`{execute}"), 3, "the braces of the mark are not right"},
		{lines("a", "", "ls -l`{{execute}}"), 3, "the backtick before the code with the mark `{{execute}}` is missing"},
		{lines("a", "", "`ls -l{{execute}}"), 3, "the backtick before the mark `{{execute}}` is missing"},
		{lines("```", "a{{execute}}", "```"), 2, "the mark `{{execute}}` stands inside the code"},
		{"`b`{{execute interupt}}", 1, "`interupt` in the mark is not understood"},
		{lines("a", "ls{{execute}}"), 2, "the mark `{{execute}}` stands behind no code, and is left out"},
		{"`ls{{execute}}`", 1, "the mark `{{execute}}` stands inside the code"},
		{lines("```", "a"), 1, "the block is not closed"},
		{lines("```", "a", "```{{exeute}}"), 3, "`{{exeute}}` is not understood, and is shown as text"},
		{lines("a", "```{{execute}}"), 2, "the block that ends here does not begin"},
		{lines(">>Q?<<", "( ) a"), 1, "no answer of the quiz is right, and is shown as text"},
		{lines(">>Q?<<", "=== a", "=== b"), 2, "the quiz has more than one answer; only `a` is right here"},
		{"<pre>", 1, "`<pre>` does not end, and is left out"},
		{`<pre class="file" data-filename="a" data-target="insert">b</pre>`, 1, "the block does not say where it is inserted, and is appended"},
		{"{{TRAFFIC_SELECTOR}}", 1, "a page where a port is chosen is not there; this leads to port 80"},
	}
	for _, c := range cases {
		_, _, mistakes := translate(c.in, page{file: "a/step1.md"})
		if len(mistakes) != 1 {
			t.Errorf("%q: %v", c.in, mistakes)
			continue
		}
		if m := mistakes[0]; m.File != "a/step1.md" || m.Line != c.line || m.What != c.what || !m.Warn {
			t.Errorf("%q: %+v, want line %d: %s", c.in, m, c.line, c.what)
		}
	}
}

func TestImages(t *testing.T) {
	fsys := fstest.MapFS{
		"logo.png":                     {},
		"assets/top.png":               {},
		"course/one/assets/a.png":      {},
		"course/one/step1/b.png":       {},
		"course/one/assets/c d.png":    {},
		"course/assets/shared.png":     {},
		"course/one/step1/assets/a.gg": {},
	}
	cases := []struct{ in, want string }{
		{"![x](b.png)", "![x](b.png)"},
		{"![x](./b.png)", "![x](b.png)"},
		{"![x](./assets/a.png)", "![x](../assets/a.png)"},
		{"![x](assets/a.png?raw=true)", "![x](../assets/a.png)"},
		{"![x](a.png)", "![x](../assets/a.png)"},
		{"![x](../assets/a.png \"title\")", "![x](../assets/a.png \"title\")"},
		{"![x](../../assets/shared.png)", "![x](../../assets/shared.png)"},
		{"![x](../../../../assets/top.png)", "![x](../../../assets/top.png)"},
		{"![x](./assets/c d.png)", "![x](../assets/c%20d.png)"},
		{"![x](/someone/courses/course/one/assets/a.png)", "![x](../assets/a.png)"},
		{"![x](/someone/scenarios/one/assets/a.png)", "![x](../assets/a.png)"},
		{"![x](/someone/assets/top.png)", "![x](../../../assets/top.png)"},
		{"![x](/logo.png)", "![x](../../../logo.png)"},
		{"![x](../../../../../../etc/passwd.png)", "![x](../../../../../../etc/passwd.png)"},
		{"![x](one/assets/a.png)", "![x](../assets/a.png)"},
		{"![x](old-name/assets/a.png)", "![x](../assets/a.png)"},
		{"![x](course/old-name/step1/b.png)", "![x](b.png)"},
		{"![x](old-name/missing.png)", "![x](old-name/missing.png)"},
		{"![x](missing.png)", "![x](missing.png)"},
		{`<img src="./assets/a.png" width="3">`, `<img src="../assets/a.png" width="3">`},
		{"[x][y]\n\n[y]: ./assets/a.png", "[x][y]\n\n[y]: ../assets/a.png"},
		{"[x](assets/a.png)", "[x](assets/a.png)"},
	}
	for _, c := range cases {
		got, _, _ := translate(c.in, page{file: "course/one/step1/text.md", scenario: "course/one", root: fsys})
		if strings.TrimSuffix(got, "\n") != c.want {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
}

func TestEditorFolder(t *testing.T) {
	for in, want := range map[string]string{
		"a/b.js": "/root/app/a/b.js", "/etc/a": "/etc/a", "~/a": "~/a", "./a": "/root/app/a", "../a": "/root/a",
		"..": "", "": "", "a/": "", "a/../../../b": "", "a*": "",
	} {
		tr := newTranslation("", page{editor: "/root/app"})
		got, ok := tr.inEditor(in)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
