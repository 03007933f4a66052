package markdown

import (
	"strings"
	"testing"
	"testing/fstest"

	"berth/labs"
)

const (
	inLab  = "---\ntitle: A lab\n---\n"
	inStep = inLab + "## Step\n\n"
)

func inCheck(yaml string) string { return inStep + "```check\n" + yaml + "\n```\n" }

// load loads one lab.md.
func load1(text string) (*labs.Lesson, []labs.Mistake) {
	return Load(fstest.MapFS{"lab/lab.md": {Data: []byte(text)}}, "lab")
}

// What an author reads is part of the format: each text here is exact.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name  string
		text  string
		loads bool
		want  []string // behind "lab/lab.md:"
	}{
		{"empty file", "", false, []string{"1: there is no front matter; begin the file with a line `---`, settings such as `title: …`, and another line `---`"}},
		{"no front matter", "# Hello\n", false, []string{"1: there is no front matter; begin the file with a line `---`, settings such as `title: …`, and another line `---`"}},
		{"front matter not closed", "---\ntitle: x\n## Step\n", false, []string{"1: the front matter is not closed; end it with a line `---`"}},
		{"empty front matter", "---\n---\n## Step\n", false, []string{"2: the front matter is empty"}},
		{"no title", "---\nlevel: beginner\n---\n## Step\n", false, []string{"1: the front matter has no title; write `title: …`"}},
		{"unknown key", "---\ntitle: A\nimge: docker\n---\n## Step\n", false, []string{"3: unknown key `imge`; did you mean `image`?"}},
		{"block that swallows another", "---\ntitle: A\n---\n## Step\n```console\n$ ls\n\n```check\nfile: ~/a\n```\n", true, []string{"8: a `check` block begins inside another block, and is only text there; close the block before it, or begin that one with four marks"}},
		{"key nothing like it", "---\ntitle: A\nfrobnicate: 1\n---\n## Step\n", false, []string{"3: unknown key `frobnicate`; there are `title`, `summary`, `level`, `minutes`, `image`, `pulls`, `egress`, `cannot`, `hosts`, `hostname`, `assets`, `vars`, `paged`, `layout`, `open`, `greeting`, `terminals` and `tabs`"}},
		{"key twice", "---\ntitle: A\nlevel: beginner\ntitle: B\n---\n## Step\n", false, []string{"4: `title` is set twice; it is set in line 2 already"}},
		{"vars", "---\ntitle: a\nvars: {a: 1}\n---\n## Step\n", false, []string{"3: `a` does not say what it is; write `a: {value: …}`, `{pick: [one, two]}` or `{random: 8000-8999}`"}},
		{"vars key", "---\ntitle: a\nvars: {a: {pik: [x]}}\n---\n## Step\n", false, []string{"3: unknown key `pik`; did you mean `pick`?"}},
		{"vars two things", "---\ntitle: a\nvars: {a: {value: x, pick: [y]}}\n---\n## Step\n", false, []string{"3: `a` has to be one thing; there are `value`, `pick` and `random`"}},
		{"vars name", "---\ntitle: a\nvars: {My-Var: {value: x}}\n---\n## Step\n", false, []string{"3: a value cannot have the name `My-Var`; use at most 32 small letters, digits and `_`, and not `preview`"}},
		{"vars random", "---\ntitle: a\nvars: {a: {random: 9-1}}\n---\n## Step\n", false, []string{"3: `random` cannot be `9-1`; write the least and the greatest number: `8000-8999`"}},
		{"vars pick nothing", "---\ntitle: a\nvars: {a: {pick: []}}\n---\n## Step\n", false, []string{"3: `pick` has no item; write `pick: [one, two]`"}},
		{"vars of two lines", "---\ntitle: a\nvars: {a: {value: \"x\\ny\"}}\n---\n## Step\n", false, []string{"3: `value` holds more than a line of text; write one line"}},
		{"hosts", "---\ntitle: a\nhosts: 10\n---\n## Step\n", false, []string{"3: `hosts` cannot be `10`; write a whole number from 1 to 9"}},
		{"hostname", "---\ntitle: a\nhostname: Host 1\n---\n## Step\n", false, []string{"3: `hostname` cannot be `Host 1`; use small letters, digits and `-`"}},
		{"paged", "---\ntitle: a\npaged: yes\n---\n## Step\n", false, []string{"3: `paged` is neither true nor false"}},
		{"layout", "---\ntitle: a\nlayout: edit\n---\n## Step\n", false, []string{"3: `layout` cannot be `edit`; did you mean `editor`?"}},
		{"open", "---\ntitle: a\nopen: ../x\n---\n## Step\n", false, []string{"3: `open` cannot be `../x`; write it from `/` or `~/`, without `..`"}},
		{"greeting", "---\ntitle: a\ngreeting: \"a\\ab\"\n---\n## Step\n", false, []string{"3: `greeting` holds the control character U+0007; of the control characters it may hold the newline, the tab and `\\e`"}},
		{"terminals", "---\ntitle: a\nterminals: [{name: T 1}]\n---\n## Step\n", false, []string{"3: `name` cannot be `T 1`; use a number, or at most 16 small letters, digits and `-`"}},
		{"terminals twice", "---\ntitle: a\nterminals: [{name: a}, {name: a}]\n---\n## Step\n", false, []string{"3: the terminal `a` comes twice"}},
		{"terminals without name", "---\ntitle: a\nterminals: [{title: a}]\n---\n## Step\n", false, []string{"3: an item of `terminals` has no name; write `{name: logs, command: …}`"}},
		{"terminals key", "---\ntitle: a\nterminals: [{name: a, cmd: b}]\n---\n## Step\n", false, []string{"3: unknown key `cmd`; there are `name`, `host`, `title` and `command`"}},
		{"terminals host", "---\ntitle: a\nterminals: [{name: a, host: 2}]\n---\n## Step\n", false, []string{"3: the lesson has no sandbox 2; write `hosts: 2`"}},
		{"tabs", "---\ntitle: a\ntabs: [{title: A}]\n---\n## Step\n", false, []string{"3: an item of `tabs` has to show either a port or an address; write `port: 8080`, or `url: https://…`"}},
		{"tabs url", "---\ntitle: a\ntabs: [{title: A, url: \"javascript:alert(1)\"}]\n---\n## Step\n", false, []string{"3: `url` cannot be `javascript:alert(1)`; write `https://…`"}},
		{"tabs title", "---\ntitle: a\ntabs: [{port: 80}]\n---\n## Step\n", false, []string{"3: an item of `tabs` has no title; write `{title: Shop, port: 8080}`"}},
		{"tabs path", "---\ntitle: a\ntabs: [{title: A, port: 80, path: x}]\n---\n## Step\n", false, []string{"3: `path` cannot be `x`; begin it with `/`"}},
		{"tabs url with path", "---\ntitle: a\ntabs: [{title: A, url: \"https://x.example\", path: /x}]\n---\n## Step\n", false, []string{"3: `host` and `path` go with `port` only; write it all into `url`"}},
		{"assets", "---\ntitle: a\nassets: [{file: ../x, to: ~}]\n---\n## Step\n", false, []string{"3: `file` cannot be `../x`; name files in the lab's folder, such as `assets/*.sh`"}},
		{"assets gone", "---\ntitle: a\nassets: [{file: x*, to: ~}]\n---\n## Step\n", false, []string{"3: there is no file `x*`; names are relative to the lab's folder; `*` stands for a name, `**` for any folders"}},
		{"assets text", "---\ntitle: a\nassets: [{file: lab.md, to: ~}]\n---\n## Step\n", false, []string{"3: there is no file `lab.md`; names are relative to the lab's folder; `*` stands for a name, `**` for any folders"}},
		{"assets to", "---\ntitle: a\nassets: [{file: x, to: x}]\n---\n## Step\n", false, []string{"3: `to` cannot be `x`; write it from `/` or `~/`, without `..`"}},
		{"assets half", "---\ntitle: a\nassets: [{file: x}]\n---\n## Step\n", false, []string{"3: an item of `assets` does not say which file goes where; write `{file: \"assets/*\", to: ~/app}`"}},
		{"assets mode", "---\ntitle: a\nassets: [{file: x, to: ~, mode: rwx}]\n---\n## Step\n", false, []string{"3: `mode` cannot be `rwx`; write it as `chmod` takes it: `\"0755\"`"}},
		{"front matter is a list", "---\n- a\n---\n## Step\n", false, []string{"2: the front matter is a list, not lines of `key: value`"}},
		{"front matter is a word", "---\nhello\n---\n## Step\n", false, []string{"2: the front matter is not made of lines of `key: value`"}},
		{"not YAML", "---\ntitle: a: b\n---\n## Step\n", false, []string{"2: this is not YAML: mapping value is not allowed in this context; indent with spaces, and put text in quotes that holds a colon and a space or begins with a sign"}},
		{"a tab", "---\ntitle: a\n\tlevel: x\n---\n## Step\n", false, []string{"3: this is not YAML: found character 'tab' that cannot start any token; indent with spaces, and put text in quotes that holds a colon and a space or begins with a sign"}},
		{"alias", "---\ntitle: &x a\nsummary: *x\n---\n## Step\n", false, []string{
			"2: `title` uses a YAML anchor, alias or tag, which lessons do not have; write the value itself",
			"3: `summary` uses a YAML anchor, alias or tag, which lessons do not have; write the value itself",
		}},
		{"level", "---\ntitle: a\nlevel: beginer\n---\n## Step\n", false, []string{"3: `level` cannot be `beginer`; did you mean `beginner`?"}},
		{"egress", "---\ntitle: a\negress: intern\n---\n## Step\n", false, []string{"3: `egress` cannot be `intern`; did you mean `internet`?"}},
		{"minutes", "---\ntitle: a\nminutes: 25 min\n---\n## Step\n", false, []string{"3: `minutes` cannot be `25 min`; write a whole number from 1 to 1000"}},
		{"image", "---\ntitle: a\nimage: \"My Image\"\n---\n## Step\n", false, []string{"3: `image` cannot be `My Image`; name a recipe such as `docker`, or a reference such as `debian:13`"}},
		{"pulls no list", "---\ntitle: a\npulls: redis\n---\n## Step\n", false, []string{"3: `pulls` is not a list; write `pulls: [one, two]`"}},
		{"pulls bad ref", "---\ntitle: a\npulls:\n  - redis\n  - \"a b\"\n---\n## Step\n", false, []string{"5: `pulls` cannot hold `a b`; write it as `docker pull` takes it"}},
		{"pulls no image", "---\ntitle: a\npulls:\n  - {standin: redis}\n---\n## Step\n", false, []string{"4: an item of `pulls` names no image; write `{image: redis:7, standin: redis}`"}},
		{"pulls unknown key", "---\ntitle: a\npulls:\n  - {image: redis, stand-in: redis}\n---\n## Step\n", false, []string{"4: unknown key `stand-in`; did you mean `standin`?"}},
		{"title too long", "---\ntitle: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n---\n## Step\n", false, []string{"2: `title` has 130 characters; at most 120 fit"}},
		{"title is a list", "---\ntitle: [a]\n---\n## Step\n", false, []string{"2: `title` is not a single value"}},
		{"title has no value", "---\ntitle:\n---\n## Step\n", false, []string{"2: `title` has no value"}},
		{"no step", inLab + "Text.\n", false, []string{"4: the lesson has no step; begin one with `## Title`"}},
		{"step without title", inLab + "##\n", false, []string{"4: the step has no title; write `## Title`"}},
		{"bad id", inLab + "## Step {#Not_ok}\n", false, []string{"4: a step cannot have the id `Not_ok`; use small letters, digits and `-`, and not a word of the page such as `text`, `screen` or `intro`"}},
		{"reserved id", inLab + "## Step {#screen}\n", false, []string{"4: a step cannot have the id `screen`; use small letters, digits and `-`, and not a word of the page such as `text`, `screen` or `intro`"}},
		{"id twice", inLab + "## A {#a}\n\n## B {#a}\n", false, []string{"6: the id `a` is taken by the step in line 4; choose another"}},
		{"unknown heading attribute", inLab + "## A {color=red}\n", false, []string{"4: unknown attribute `color` of a heading; there are `#id` and `.finish`"}},
		{"finish without dot", inLab + "## A\n\n## Finish {finish}\n", false, []string{"6: `{finish}` is not an attribute of a heading; did you mean `{.finish}`?"}},
		{"step behind finish", inLab + "## Finish {.finish}\n\n## A\n", false, []string{"4: a step follows the finish; move it to the end"}},
		{"heading one", inLab + "## A\n\n# Big\n", true, []string{"6: this heading is shown as one of the third level; the title stands in the front matter, and `##` begins a step"}},
		{"fence word", inStep + "```chek\n```\n", false, []string{"6: unknown fence word `chek`; did you mean `check`?"}},
		{"fence word far", inStep + "```brainhurt\nx\n```\n", false, []string{"6: unknown fence word `brainhurt`; there are `sh`, `console`, `file`, `hint`, `solution`, `setup`, `start`, `check` and `quiz`, and the names of languages"}},
		{"quiz", inStep + "```quiz\nWhat?\n```\n", false, []string{"7: the quiz has no answer; write choices `( ) …` and `(x) …`, or one line `= …` or `~ …`"}},
		{"quiz without question", inStep + "```quiz\n(x) a\n```\n", false, []string{"7: the quiz has no question; write it before the choices"}},
		{"quiz none right", inStep + "```quiz\nWhat?\n( ) a\n( ) b\n```\n", false, []string{"7: no choice of the quiz is right; mark it with `(x)` or `[x]`"}},
		{"quiz two right", inStep + "```quiz\nWhat?\n(x) a\n(x) b\n```\n", false, []string{"7: 2 choices of the quiz are right; use `[ ]` and `[x]` where several may be right"}},
		{"quiz of both kinds", inStep + "```quiz\nWhat?\n(x) a\n[ ] b\n```\n", false, []string{"9: the quiz has choices of both kinds; use `( )` where one is right, `[ ]` where several may be"}},
		{"quiz brackets", inStep + "```quiz\nWhat?\n(x] a\n```\n", false, []string{"8: the choice begins with `(x]`; write `( )` or `[ ]`"}},
		{"quiz empty choice", inStep + "```quiz\nWhat?\n(x)\n( ) b\n```\n", false, []string{"8: the choice has no text; write it behind the brackets"}},
		{"quiz text behind", inStep + "```quiz\nWhat?\n(x) a\nmore\n```\n", false, []string{"9: text stands behind the choices; write the question first, and each choice on one line"}},
		{"quiz choices and answer", inStep + "```quiz\nWhat?\n(x) a\n= b\n```\n", false, []string{"7: the quiz has choices and an answer; write choices, or one line `= …` or `~ …`"}},
		{"quiz two answers", inStep + "```quiz\nWhat?\n= a\n~ b\n```\n", false, []string{"9: the quiz has two answers; write one line `= …` or `~ …`"}},
		{"quiz before the steps", inLab + "```quiz\nWhat?\n= a\n```\n\n## A\n", false, []string{"4: a `quiz` block cannot stand before the first step; move it into a step"}},
		{"start in a hint", inStep + "````hint\n```start\nls\n```\n````\n", false, []string{"7: a `start` block cannot stand in a hint; move it into a step"}},
		{"command in a heading", inLab + "## Run `ls`{run}\n", false, []string{"4: a command cannot stand in the heading of a step; write it in the step's text"}},
		{"file mode", inStep + "```file {path=~/x mode=apend}\nx\n```\n", false, []string{"6: `mode` cannot be `apend`; did you mean `append`?"}},
		{"file insert", inStep + "```file {path=~/x mode=insert}\nx\n```\n", false, []string{"6: the file block does not say where to insert; write `marker=\"…\"`: the first line that holds it is replaced"}},
		{"file marker", inStep + "```file {path=~/x marker=y}\nx\n```\n", false, []string{"6: `marker` goes with `mode=insert` only; write `mode=insert` too"}},
		{"host", inStep + "```sh {host=2}\nx\n```\n", false, []string{"6: the lesson has no sandbox 2; write `hosts: 2` in the front matter"}},
		{"host number", inStep + "```sh {host=two}\nx\n```\n", false, []string{"6: `host` cannot be `two`; write the number of a sandbox, from 1 to 9"}},
		{"keys", inStep + "```sh {keys}\nabc\n```\n", false, []string{"6: `abc` are not keys; write a key with Ctrl as `^C`, Enter as `^M`"}},
		{"keys and no-enter", inStep + "```sh {keys no-enter}\n^C\n```\n", false, []string{"6: `no-enter` does not go with `keys`, which are sent without it"}},
		{"inline attribute", inStep + "Type `ls`{rnu}.\n", false, []string{"6: unknown attribute `rnu` of inline code; did you mean `run`?"}},
		{"inline without run", inStep + "Type `ls`{terminal=2}.\n", false, []string{"6: the attributes do not say that the code runs; write `{run …}`"}},
		{"inline open", inStep + "Look at `x y/z`{open}.\n", false, []string{"6: the editor cannot open `x y/z`; write it from `/` or `~/`, without `..`"}},
		{"inline twice", inStep + "Type `ls`{run copy}.\n", false, []string{"6: `run` does not go with `copy`, since the block does not run"}},
		{"preview port", inStep + "See {{preview 80800}}.\n", false, []string{"6: there is no port 80800; ports go from 1 to 65535"}},
		{"preview host", inStep + "[See](preview:3:80/).\n", false, []string{"6: the lesson has no sandbox 3; write `hosts: 3` in the front matter"}},
		{"check: prints of no script", inStep + "```check\nname: x\nfile: ~/x\nprints: y\n```\n", false, []string{"9: `prints` does not go with `file`; there are `equals`, `contains`, `matches`, `exists`, `mode`, `dir`, `tar-has` and `archive`"}},
		{"fence not closed", inStep + "```sh\nls\n", false, []string{"6: the block is not closed; end it with a line of the same marks"}},
		{"attribute", inStep + "```sh {copied}\nls\n```\n", false, []string{"6: unknown attribute `copied` of a `sh` block; there are `copy`, `.norun`, `terminal`, `host`, `interrupt`, `once`, `keys` and `no-enter`"}},
		{"attribute without dot", inStep + "```sh {norun}\nls\n```\n", false, []string{"6: unknown attribute `norun` of a `sh` block; did you mean `.norun`?"}},
		{"attribute with dot", inStep + "```sh {.copy}\nls\n```\n", false, []string{"6: unknown attribute `.copy` of a `sh` block; did you mean `copy`?"}},
		{"attribute no value", inStep + "```sh {terminal}\nls\n```\n", false, []string{"6: `terminal` has no value; write `terminal=…`"}},
		{"attribute with value", inStep + "```sh {once=1}\nls\n```\n", false, []string{"6: `once` takes no value; write only `once`"}},
		{"attribute twice", inStep + "```sh {once once}\nls\n```\n", false, []string{"6: `once` is set twice"}},
		{"attribute not in braces", inStep + "```sh copy\nls\n```\n", false, []string{"6: `copy` is not a list of attributes; write them in braces: `{terminal=2}`"}},
		{"attribute where none", inStep + "```hint {copy}\nls\n```\n", false, []string{"6: unknown attribute `copy` of a `hint` block; it takes none"}},
		{"attribute of language", inStep + "```json {run}\n1\n```\n", false, []string{"6: unknown attribute `run` of a `json` block; there is only `copy`"}},
		{"terminal name", inStep + "```sh {terminal=\"A B\"}\nls\n```\n", false, []string{"6: `terminal` cannot be `A B`; use a number, or at most 16 small letters, digits and `-`"}},
		{"attributes at odds", inStep + "```sh {copy terminal=2}\nls\n```\n", false, []string{"6: `terminal` does not go with `copy`, since the block does not run"}},
		{"empty sh", inStep + "```sh\n\n```\n", false, []string{"6: the `sh` block is empty"}},
		{"empty hint", inStep + "```hint\n```\n", false, []string{"6: the `hint` block is empty"}},
		{"empty check", inCheck(""), false, []string{"6: the `check` block is empty"}},
		{"bash", inStep + "```bash\nls\n```\n", true, []string{"6: a `bash` block does not run; write `sh` for a block that runs, `sh {.norun}` for one that is only shown"}},
		{"file without path", inStep + "```file\nx\n```\n", false, []string{"6: the file block does not say where the file goes; write `file {path=~/name}`"}},
		{"file path relative", inStep + "```file {path=a/b}\nx\n```\n", false, []string{"6: `path` cannot be `a/b`; write it from `/` or `~/`, without `..`"}},
		{"file path leads out", inStep + "```file {path=~/../etc/passwd}\nx\n```\n", false, []string{"6: `path` cannot be `~/../etc/passwd`; write it from `/` or `~/`, without `..`"}},
		{"check before the steps", inLab + "```check\nname: x\nimage: x\n```\n\n## A\n", false, []string{"4: a `check` block cannot stand before the first step; move it into a step"}},
		{"hint in a hint", inStep + "````hint\n```hint\nx\n```\n````\n", false, []string{"7: a `hint` block cannot stand in a hint; move it into a step"}},
		{"check in the finish", inStep + "## Finish {.finish}\n\n```check\nname: x\n```\n", false, []string{"8: a `check` block cannot stand in the finish; move it into a step"}},
		{"transcript not ended", inStep + "```console\n$ echo \"a\n> b\n```\n", false, []string{"7: the command does not end; close its quote, bracket, loop or here-document; lines that go on begin with `> `"}},
		{"transcript without command", inStep + "```console\nhello\n```\n", true, []string{"6: the transcript holds no command; begin commands with `$ `, or use a `text` block"}},
		{"transcript with comment", inStep + "```console\n$ ls\n# a comment\n```\n", true, []string{"8: a line that begins with `# ` is a command, run as root; write comments as text outside the block"}},
		{"solution not ended", inStep + "```solution\ncat <<E\nx\n```\n", false, []string{"6: the last command of the solution does not end; close its quote, bracket, loop or here-document"}},
		{"solution of comments", inStep + "```solution\n# nothing\n```\n", false, []string{"6: the solution holds no command"}},
		{"callout", inStep + "> [!WARN]\n> x\n", false, []string{"6: unknown callout `[!WARN]`; did you mean `WARNING`?"}},
		{"callout title", inStep + "> [!NOTE] Title\n> x\n", false, []string{"6: text stands beside `[!NOTE]`; begin the text on the next line"}},
		{"link", inStep + "Text\n[x](files/a.sh)\n", true, []string{"7: the link `files/a.sh` is shown as text; link to `https://…`, `mailto:…`, `#heading` or `preview:PORT/path`"}},
		{"script link", inStep + "[x](javascript:alert(1))\n", true, []string{"6: the link `javascript:alert(1)` is shown as text; link to `https://…`, `mailto:…`, `#heading` or `preview:PORT/path`"}},
		{"anchor", inStep + "[x](#stp)\n", true, []string{"6: no heading has the id `stp`; did you mean `step`?"}},
		{"image", inStep + "![x](a.png)\n", true, []string{"6: there is no image `a.png`; names are relative to the lab's folder"}},
		{"remote image", inStep + "![x](https://example.com/a.png)\n", true, []string{"6: the image `https://example.com/a.png` is not in the lab's folder and is not shown; put it into the lab's folder"}},
		{"element", inStep + "<marquee>x</marquee>\n", true, []string{"6: the HTML element `marquee` is not shown"}},
		{"swallowed block", inStep + "<div title=\"\n\n```sh\nls\n```\n\n\">\n", false, []string{"8: the HTML around this block swallows it; close the HTML before the block, and leave an empty line between them"}},
		{"swallowed by style", inStep + "<b>\n<style>\n\n```sh\nls\n```\n", false, []string{
			"6: the HTML element `style` is not shown",
			"9: the HTML around this block swallows it; close the HTML before the block, and leave an empty line between them",
		}},
		{"bidi", inStep + "```sh\necho \u202eabc\n```\n", false, []string{"6: the command holds a character that makes it look different from what it does; remove it"}},
		{"control character", inStep + "a\u001b[31mb\n", false, []string{"6: the control character U+001B does not belong in a text; remove it"}},
		{"deep quotes", inStep + ">>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>> x\n", false, []string{"6: quotes, lists or footnotes stand inside each other more than 60 deep"}},
		{"check: list", inCheck("- name: x\n  image: y"), false, []string{"7: a check fence holds one check, not a list; write a fence for each"}},
		{"check: no name", inCheck("image: x"), false, []string{"7: the check has no name; write `name: …`: what the learner reads beside the tick"}},
		{"check: no subject", inCheck("name: x"), false, []string{"7: the check has no subject; say what it is about: `image`, `container`, `volume`, `network`, `file`, `layer`, `ran`, `port` or `script`"}},
		{"check: two subjects", inCheck("name: x\nimage: y\nfile: ~/z"), false, []string{"9: the check is about two things, `image` and `file`; write a fence for each"}},
		{"check: unknown key", inCheck("name: x\nimge: y"), false, []string{"8: unknown key `imge`; did you mean `image`?"}},
		{"check: unknown key beside subject", inCheck("name: x\nimage: y\nlayer_count: 3\nlayrs: 3"), false, []string{
			"9: unknown key `layer_count`; there are `name`, `hint`, `optional`, `not`, `layers`, `size`, `entrypoint`, `cmd`, `env`, `label`, `path`, `equals`, `contains`, `matches`, `exists` and `image`",
			"10: unknown key `layrs`; did you mean `layers`?",
		}},
		{"check: key of another subject", inCheck("name: x\nimage: y\nlogs: {contains: z}"), false, []string{"9: `logs` does not go with `image`; there are `layers`, `size`, `entrypoint`, `cmd`, `env`, `label`, `path`, `equals`, `contains`, `matches` and `exists`"}},
		{"check: key with script", inCheck("name: x\nscript: true\nexit: 1"), false, []string{"9: `exit` does not go with `script`; there is only `prints`"}},
		{"check: number", inCheck("name: x\nimage: y\nlayers: many"), false, []string{"9: `layers` cannot be `many`; write a number, or one with a sign in quotes: `\">3\"`, `\"<20M\"`"}},
		{"check: regexp", inCheck("name: x\nran: 'a('"), false, []string{"8: `ran` is not a regular expression: missing closing ): `a(`; it is written in Go's syntax; in YAML single quotes keep backslashes as they are"}},
		{"check: boolean", inCheck("name: x\nimage: y\nnot: yes"), false, []string{"9: `not` is neither true nor false"}},
		{"check: ref", inCheck("name: x\nimage: Not An Image"), false, []string{"8: `image` cannot be `Not An Image`; write it as `docker pull` takes it"}},
		{"check: path", inCheck("name: x\nfile: redis.tar"), false, []string{"8: `file` cannot be `redis.tar`; write it from `/` or `~/`, without `..`"}},
		{"check: path up", inCheck("name: x\nfile: ~/../x"), false, []string{"8: `file` cannot be `~/../x`; write it from `/` or `~/`, without `..`"}},
		{"check: pattern", inCheck("name: x\nfile: \"~/[\""), false, []string{"8: `file` is not a pattern; `*`, `?` and `**` stand for other names"}},
		{"check: mode", inCheck("name: x\nfile: ~/x\nmode: rwx"), false, []string{"9: `mode` cannot be `rwx`; write it as `chmod` takes it: `0755` or `+x`"}},
		{"check: state", inCheck("name: x\ncontainer: web\nstate: runing"), false, []string{"9: `state` cannot be `runing`; did you mean `running`?"}},
		{"check: health", inCheck("name: x\ncontainer: web\nhealth: ok"), false, []string{"9: `health` cannot be `ok`; there are `none`, `starting`, `healthy` and `unhealthy`"}},
		{"check: publishes", inCheck("name: x\ncontainer: web\npublishes: [\"a:b\"]"), false, []string{"9: `publishes` cannot hold `a:b`; write `8080:80` or `80`"}},
		{"check: mounts", inCheck("name: x\ncontainer: web\nmounts: [data]"), false, []string{"9: `mounts` cannot hold `data`; name the place inside the container: `/data`"}},
		{"check: limits", inCheck("name: x\ncontainer: web\nlimits: {cpu: 1}"), false, []string{"9: unknown key `cpu`; there is only `memory`"}},
		{"check: logs as text", inCheck("name: x\ncontainer: web\nlogs: hello"), false, []string{"9: `logs` does not say how to compare; write `logs: {contains: …}`"}},
		{"check: logs key", inCheck("name: x\ncontainer: web\nlogs: {contain: hello}"), false, []string{"9: unknown key `contain`; did you mean `contains`?"}},
		{"check: container key", inCheck("name: x\ncontainer: {img: a}"), false, []string{
			"8: unknown key `img`; there are `image` and `command`",
			"8: `container` names none; write its name, or `{image: …, command: …}`",
		}},
		{"check: container nothing", inCheck("name: x\ncontainer: {}"), false, []string{"8: `container` names none; write its name, or `{image: …, command: …}`"}},
		{"check: name of volume", inCheck("name: x\nvolume: a b"), false, []string{"8: `volume` cannot be `a b`; write its name, without spaces"}},
		{"check: port", inCheck("name: x\nport: 80800"), false, []string{"8: `port` cannot be `80800`; write a whole number from 1 to 65535"}},
		{"check: port path", inCheck("name: x\nport: 80\npath: health"), false, []string{"9: `path` cannot be `health`; begin it with `/`"}},
		{"check: text without path", inCheck("name: x\nimage: y\nequals: z"), false, []string{"9: the check looks at a text but names no file; name the file in the image with `path: /…`"}},
		{"check: exists with text", inCheck("name: x\nfile: ~/x\nexists: false\ncontains: z"), false, []string{"9: `exists: false` does not go with a rule about the text"}},
		{"check: archive of folder", inCheck("name: x\nfile: ~/x\narchive: redis\ndir: true"), false, []string{"7: `archive` does not go with `dir: true`"}},
		{"check: empty script", inCheck("name: x\nscript: \"\""), false, []string{"8: `script` has no value"}},
		{"check: empty contains", inCheck("name: x\nfile: ~/x\ncontains: \"\""), false, []string{"9: `contains` has no value"}},
		{"check: nested too deep", inCheck("name: x\nimage: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["), false, []string{"7: the check nests values too deep"}},
		{"check: entrypoint is text", inCheck("name: x\nimage: y\nentrypoint: sh"), false, []string{"9: `entrypoint` is not a list; write `entrypoint: [one, two]`"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, mistakes := load1(c.text)
			if (l != nil) != c.loads {
				t.Errorf("loads: %v, want %v", l != nil, c.loads)
			}
			var got []string
			for _, m := range mistakes {
				got = append(got, strings.TrimPrefix(m.Error(), "lab/lab.md:"))
				if strings.HasSuffix(m.What, ".") || m.Line == 0 {
					t.Errorf("%+v", m)
				}
			}
			if g, w := strings.Join(got, "\n"), strings.Join(c.want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
			if l != nil {
				safe(t, l)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	valid := []string{"image", "contains", "tar-has", "exit"}
	for word, want := range map[string]string{
		"imge": "image", "IMAGE": "image", "miage": "image", "img": "", "contain": "contains",
		"tar_has": "tar-has", "exti": "exit", "zzz": "", "": "", strings.Repeat("image", 20): "",
	} {
		if got := nearest(word, valid); got != want {
			t.Errorf("nearest to %q: %q, want %q", word, got, want)
		}
	}
}
