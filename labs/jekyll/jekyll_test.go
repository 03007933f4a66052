package jekyll

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
)

func folder(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return fsys
}

func told(mistakes []labs.Mistake) string {
	var lines []string
	for _, m := range mistakes {
		lines = append(lines, m.Error())
	}
	return strings.Join(lines, "\n")
}

// read loads one file, and gives what was said.
func read(t *testing.T, name, text string) (*labs.Lesson, string) {
	t.Helper()
	l, mistakes := Load(folder(map[string]string{name: text}), name)
	if l == nil {
		t.Fatalf("it did not load:\n%s", told(mistakes))
	}
	return l, told(mistakes)
}

// shape gives the steps of a lesson with their commands.
func shape(l *labs.Lesson) string {
	var b strings.Builder
	for _, s := range l.Steps {
		fmt.Fprintf(&b, "%s:", s.Title)
		for _, c := range s.Commands {
			fmt.Fprintf(&b, " [%s %s]", c.Terminal, c.Code)
		}
		for _, c := range s.Checks {
			if c.Quiz != nil {
				fmt.Fprintf(&b, " {%s %d}", c.Quiz.Question, len(c.Quiz.Choices))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// TestPost is in the style of a blog's post: code-only paragraphs are its
// commands.
func TestPost(t *testing.T) {
	l, said := read(t, "blog/_posts/2021-05-04-soup.md", `---
layout: post
title: "What is a soup?"
categories: Kitchen intermediate
description: 'It''s about soup.'
---

* content
{:toc}




## The pot

A pot holds soup.

`+"`docker pull pot:1`"+`

Look at it:

`+"`docker images | grep pot`"+`

## The spoon

Nothing *here*.
`)
	if want := "The pot: [1 docker pull pot:1] [1 docker images | grep pot]\nThe spoon:\n"; shape(l) != want || said != "" {
		t.Errorf("%s\n%s", shape(l), said)
	}
	if l.ID != "blog-soup" || l.Title != "What is a soup?" || l.Level != "intermediate" || l.Summary != "It's about soup." || l.Format != labs.FormatMarkdown || l.Intro.HTML != "" || l.Paged || l.Cannot != "" {
		t.Errorf("%+v", l)
	}
}

// TestTranscript is in the style of notes of a talk: what was typed stands
// behind "$ ", with what it printed.
func TestTranscript(t *testing.T) {
	l, said := read(t, "notes.txt", `What is a soup? 
-- A kitchen story --

The Pot
A pot holds soup. Whoever has eaten from one knows what I mean,
and wants more.

$ docker pull pot:1

Look inside it.

$ docker save pot:1 > pot.tar
$ tar -xvf pot.tar
lid/
# a comment in what it printed
lid/handle

# The pot has a lid, and other things.
$ cat lid/handle
{"handle":"lid"}

# However, there is no soup in it.

# The Spoon
Take one.

$ curl -LO https://example.com/spoon 
&& chmod +x spoon

$ ./spoon
`)
	if want := "The Pot: [1 docker pull pot:1] [1 docker save pot:1 > pot.tar] [1 tar -xvf pot.tar] [1 cat lid/handle]\nThe Spoon: [1 curl -LO https://example.com/spoon && chmod +x spoon] [1 ./spoon]\n"; shape(l) != want || said != "" {
		t.Errorf("%s\n%s", shape(l), said)
	}
	if l.Title != "What is a soup?" || !strings.Contains(l.Intro.HTML, "A kitchen story") {
		t.Errorf("%q %q", l.Title, l.Intro.HTML)
	}
	if html := l.Steps[0].HTML; !strings.Contains(html, "However, there is no soup in it.") || !strings.Contains(html, "# a comment") {
		t.Errorf("%s", html)
	}
}

func TestDockerPost(t *testing.T) {
	l, said := read(t, "_posts/2020-01-01-two.markdown", "---\nlayout: post\ntitle:  \"Two machines\"\ncategories: beginner\nterms: 2\n---\n"+`
Welcome.

> **Time**: Approximately 30 minutes

* [Go on](#Task_1)

## <a name="Task_1"></a>Task 1: Begin

`+"```.term1\n    docker swarm init\n```"+`

1. On the other one:

    `+"```.term2\n    docker swarm join\n    ```"+`

2. See the [page](/shop){:data-term=".term1"}{:data-port="8080"}, or [there](/){:data-term=".term2"}{:data-port="80"}{:target="_blank"}.

`+"````.term1\ndocker ps --format '{{ \"{{ .ID \"}}}}'\n````"+`

## Task 2: End
{:.no_toc}

{:.quiz}
What is it?
- (x) a *pot*
- ( ) a spoon

{:.quiz}
Which two?
- [x] a
- [x] b
- [ ] c

Text with {% include note.html %} and {{ site.name }} and {% raw %}{{ kept }}{% endraw %}.

{% highlight bash %}
docker images
{% endhighlight %}
`)
	if want := "Task 1: Begin: [1 docker swarm init] [1@2 docker swarm join] [1 docker ps --format '{{ .ID }}']\nTask 2: End: [1 docker images] {What is it? 2} {Which two? 3}\n"; shape(l) != want {
		t.Errorf("%s\n%s", shape(l), said)
	}
	if l.Format != labs.FormatDockerPost || l.Level != "beginner" || l.Minutes != 30 || l.Hosts != 2 || !slices.Equal(l.Terminals, []labs.TerminalTab{{Name: "1"}, {Name: "1@2"}}) {
		t.Errorf("%+v", l)
	}
	if l.Steps[0].ID != "task-1" || !strings.Contains(l.Intro.HTML, `href="#task-1"`) {
		t.Errorf("%q %s", l.Steps[0].ID, l.Intro.HTML)
	}
	l = l.For("x", func(host, port int) string { return fmt.Sprintf("http://%d-%d.test", port, host) })
	for _, want := range []string{`href="http://8080-1.test/shop"`, `href="http://80-2.test`} {
		if !strings.Contains(l.Steps[0].HTML, want) {
			t.Errorf("no %s in %s", want, l.Steps[0].HTML)
		}
	}
	for _, bad := range []string{"{:", "{%", "raw", "site.name", "data-term="} {
		if strings.Contains(l.Steps[0].HTML+l.Steps[1].HTML, bad) {
			t.Errorf("%s is left", bad)
		}
	}
	if !strings.Contains(l.Steps[1].HTML, "{{ kept }}") || !strings.Contains(said, "`{% include note.html %}` is Liquid") || !strings.Contains(said, "_posts/2020-01-01-two.markdown:46: `{{ site.name }}` is Liquid") {
		t.Errorf("%s\n%s", l.Steps[1].HTML, said)
	}
}

func TestTerms(t *testing.T) {
	for terms, want := range map[string]string{"0": "cannot", "1": "", "3": "1 2 3", "7": "", "many": "", "": ""} {
		l, said := read(t, "_posts/2020-01-01-x.md", "---\ntitle: T\nterms: "+terms+"\n---\n## A\n\n```.term1\nls\n```\n\n## B\n")
		var got []string
		for _, x := range l.Terminals {
			got = append(got, x.Name)
		}
		if l.Cannot != "" {
			got = append(got, "cannot")
		}
		if strings.Join(got, " ") != want {
			t.Errorf("terms %q: %q\n%s", terms, got, said)
		}
	}
}

func TestPlainMarkdown(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"fences":              {"# T\n\n## A\n\n```sh\na\n```\n\n```bash\nb\n```\n\n~~~shell\nc\n~~~\n\n``` zsh\nd\n```\n\n## B\n\n```yaml\ne: f\n```\n\n```\nplain\n```\n", "A: [1 a] [1 b] [1 c] [1 d]\nB:\n"},
		"prompts":             {"# T\n\n## A\n\n```\n$ ls\nfile\n# not root\n```\n\n```bash\n$ pwd\n/root\n```\n\n```console\n$ id\n```\n\n## B\n", "A: [1 ls] [1 pwd] [1 id]\nB:\n"},
		"indented transcript": {"# T\n\n## A\n\nType:\n\n    $ ls -l\n    total 0\n\n    $ pwd\n\nand\n\n    not a command\n\n## B\n", "A: [1 ls -l] [1 pwd]\nB:\n"},
		"no headings":         {"Only text.\n\n`ls`\n", "X: [1 ls]\n"},
		"one heading":         {"# Only one\n\n```sh\nls\n```\n", "Only one: [1 ls]\n"},
		"levels":              {"# T\n\n## Overview\n\nSome.\n\n### A\n\n### B\n\ntext\n\n## Late\n", "Overview:\nLate:\n"},
		"deeper level":        {"# T\n\n## Overview\n\nSome.\n\n### A\n\n### B\n", "Overview:\nA:\nB:\n"},
		"many first":          {"# A\n\n# B\n\n## b\n\n## bb\n", "A:\nB:\n"},
		"underlined":          {"T\n===\n\nA\n---\n\n`x`\n\nB\n-\n---\n\ntext\n", "A: [1 x]\n"},
		"commands before":     {"# T\n\n```sh\nfirst\n```\n\n## A\n\n## B\n", "Introduction: [1 first]\nA:\nB:\n"},
		"words of ours":       {"# T\n\n## A\n\n```setup\nrm -rf /\n```\n\n```solution\nx\n```\n\n```check\nimage: x\n```\n\n```file\nx\n```\n\n## B\n", "A:\nB:\n"},
		"attributes":          {"# T\n\n## A\n\n```bash {linenos=true}\nls\n```\n\n```{.term2}\nx\n```\n\n```yaml{1,3}\na: b\n```\n\n## B\n", "A: [1 ls] [2 x]\nB:\n"},
		"fences in lists":     {"# T\n\n## A\n\n1. One\n\n    ```sh\n    ls\n    ```\n\n2. Two\n   ```sh\n   pwd\n   ```\n\n- ```sh\n  id\n  ```\n\n## B\n", "A: [1 ls] [1 pwd] [1 id]\nB:\n"},
		"indented too far":    {"# T\n\n## A\n\nText:\n\n      ```sh\n      ls\n      ```\n\n## B\n", "A: [1 ls]\nB:\n"},
		"headings in fences":  {"# T\n\n## A\n\n```sh\n# comment\nls\n```\n\n## B\n", "A: [1 # comment\nls]\nB:\n"},
		"not closed":          {"# T\n\n## A\n\n## B\n\n```sh\nls\n", "A:\nB: [1 ls]\n"},
		"templates stay":      {"# T\n\n## A\n\n`docker ps --format '{{.Names}}'`\n\n```sh\ndocker inspect -f '{{ .Id }}' x\n```\n\n## B\n", "A: [1 docker ps --format '{{.Names}}'] [1 docker inspect -f '{{ .Id }}' x]\nB:\n"},
		"a rule at the top":   {"---\n\nText\n\n---\n\n## A\n\n## B\n", "A:\nB:\n"},
		"windows":             {"# T\r\n\r\n## A\r\n\r\n```sh\r\nls\r\npwd\r\n```\r\n\r\n## B\r\n", "A: [1 ls\npwd]\nB:\n"},
	} {
		l, said := read(t, "x.md", c.text)
		if got := shape(l); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s\n%s", name, got, c.want, said)
		}
	}
}

func TestImagesOfTheSite(t *testing.T) {
	files := map[string]string{"site/_posts/2020-01-01-x.md": "---\ntitle: T\n---\n![a]({{ site.baseurl }}/images/a.png) ![b](../images/a.png) ![c](/images/a.png)\n", "site/images/a.png": "\x89PNG\r\n\x1a\n"}
	l, mistakes := Load(folder(files), "site/_posts/2020-01-01-x.md")
	if l == nil || strings.Count(l.Steps[0].HTML, "site/images/a.png") != 3 {
		t.Errorf("%s\n%s", l.Steps[0].HTML, told(mistakes))
	}
}

func TestLoadAll(t *testing.T) {
	ids := func(files map[string]string) string {
		lessons, mistakes := LoadAll(folder(files))
		var got []string
		for _, l := range lessons {
			got = append(got, l.ID)
		}
		if len(mistakes) > 0 {
			got = append(got, told(mistakes))
		}
		return strings.Join(got, " ")
	}
	text := "# T\n\ntext\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a site":        {map[string]string{"_posts/2020-01-02-b.md": text, "_posts/2020-01-01-a.md": text, "about.md": text, "_drafts/d.md": text, "README.md": text}, "a b"},
		"a folder":      {map[string]string{"a.md": text, "sub/b.markdown": text, "README.md": text, "LICENSE.md": text, "c.go": text, "x.txt": text, ".hidden/h.md": text}, "a sub-b"},
		"a readme":      {map[string]string{"README.md": text}, "readme"},
		"a transcript":  {map[string]string{"a.txt": "Title\n\n$ ls\n$ pwd\n", "b.txt": "no prompts"}, "a"},
		"ours":          {map[string]string{"a/lab.md": text, "a/notes.md": text, "b.md": text}, "b"},
		"scenarios":     {map[string]string{"s/index.json": `{"details": {"steps": []}}`, "s/step1.md": text, "b.md": text}, "b"},
		"same names":    {map[string]string{"_posts/2020-01-01-a.md": text, "_posts/2021-01-01-a.md": text}, "a a-2"},
		"one is broken": {map[string]string{"a.md": text, "b.md": ""}, "a b.md: it is empty"},
		"nothing":       {map[string]string{"a.go": ""}, ""},
	} {
		if got := ids(c.files); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestLinksStayInTheRoot(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "in")
	if err := os.MkdirAll(filepath.Join(base, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"secret.md": "# the secret\n", "in/a.md": "# A\n\ntext\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"leak.md": "../secret.md", "abs.md": filepath.Join(dir, "secret.md"), "up": "..", "self": ".", "sub/loop": "../sub", "b.md": "a.md"} {
		if err := os.Symlink(to, filepath.Join(base, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	lessons, mistakes := LoadAll(root.FS())
	if len(lessons) != 2 || strings.Contains(fmt.Sprintf("%+v", lessons), "the secret") {
		t.Errorf("%d lessons\n%s", len(lessons), told(mistakes))
	}
	if l, ms := Load(root.FS(), "leak.md"); l != nil || len(ms) == 0 {
		t.Errorf("it loaded")
	}
	for _, name := range []string{"../secret.md", "/etc/passwd", "nothing.md", "sub", ""} {
		if l, ms := Load(root.FS(), name); l != nil || len(ms) != 1 {
			t.Errorf("%q: %v", name, ms)
		}
	}
}

func TestBadFilesAreBounded(t *testing.T) {
	for name, text := range map[string]string{
		"100 MB":         strings.Repeat("# A line of text with `code`\n", 100<<20/29),
		"10,000 steps":   "# T\n" + strings.Repeat("\n## S\n\n`ls`\n", 10_000),
		"open fences":    strings.Repeat("```sh\n~~~~\n", 50_000),
		"open comments":  strings.Repeat("{% comment %}\n", 50_000),
		"open highlight": strings.Repeat("{% highlight sh %}\n", 20_000),
		"open quizzes":   strings.Repeat("{:.quiz}\n", 50_000) + "x",
		"indented":       strings.Repeat("\n    $ x\n", 50_000),
		"backticks":      strings.Repeat("`a``b```c", 100_000),
		"open braces":    strings.Repeat("{{{%", 200_000),
		"links":          strings.Repeat("[a](b){:x}", 50_000),
		"quotes":         strings.Repeat(">", 100_000) + "```sh\nls\n",
		"prompts":        strings.Repeat("$ ls\n", 100_000),
		"anchors":        strings.Repeat("<a name=x></a>", 50_000),
		"not UTF-8":      "# T\n\n\xff\xfe\x00text\n",
	} {
		begin := time.Now()
		l, mistakes := Load(folder(map[string]string{"x.md": text}), "x.md")
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		if l == nil && len(mistakes) == 0 || len(mistakes) > 300 {
			t.Errorf("%s: %d mistakes", name, len(mistakes))
		}
		if l != nil && len(l.Steps) > maxSteps {
			t.Errorf("%s: %d steps", name, len(l.Steps))
		}
	}
}

// FuzzPost reads any text: nothing may panic, and commands hold nothing that
// was not in the text.
func FuzzPost(f *testing.F) {
	f.Add("---\ntitle: T\nterms: 2\n---\n## A\n```.term2\nls\n```\n{:.quiz}\nQ\n- (x) a\n- ( ) b\n[a](/){:data-port=\"80\"}\n", false)
	f.Add("T\n-- s --\n\n$ ls\nx\n$ pwd\n# no\n# Yes\n", true)
	f.Add("{% raw %}{{ a }}{% endraw %}{{ \"{{ x \" }}}}\n\n    $ a\n\n1. ```sh\n   b\n   ```\n", false)
	f.Fuzz(func(t *testing.T, text string, txt bool) {
		name := "x.md"
		if txt {
			name = "x.txt"
		}
		l, mistakes := Load(folder(map[string]string{name: text}), name)
		if l == nil {
			if len(mistakes) == 0 {
				t.Error("nothing was said")
			}
			return
		}
		if l.ID == "" || l.Title == "" {
			t.Errorf("%+v", l)
		}
	})
}

// Few files can be the text of very many posts: what they hold together is
// bounded, and the first ones load.
func TestManyPostsOfTheSameText(t *testing.T) {
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("_posts/2020-01-%02d-a%02d.md", i%28+1, i)] = "---\ntitle: T\n---\n## Step\n\n" + strings.Repeat("Text.\n\n", 1000)
	}
	all, _ := loadAll(folder(files), labs.MaxTexts)
	if len(all) != 50 || all[0].Size() < 10_000 {
		t.Fatalf("%d posts", len(all))
	}
	some, mistakes := loadAll(folder(files), 10*all[0].Size())
	if said := told(mistakes); len(some) != 10 || strings.Count(said, "more text than can be held") != 1 {
		t.Errorf("%d posts\n%s", len(some), said)
	}
}
