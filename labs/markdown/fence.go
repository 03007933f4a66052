package markdown

import (
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"

	"berth/labs"
)

// ourWords are the fence words with a meaning of their own. Every other word
// must name a language, for its colours.
var ourWords = []string{"sh", "console", "file", "hint", "solution", "setup", "start", "check", "quiz"}

// languages are those that hints suggest; all that the highlighter knows work.
var languages = []string{"bash", "dockerfile", "yaml", "json", "text", "go", "python", "javascript", "ini", "toml", "html", "css", "sql", "diff", "xml", "make", "nginx", "c"}

// attributes that each fence word understands. `.norun` is written with a dot
// because it is a class in the form that Markdown processors share.
var fenceAttributes = map[string][]string{
	"sh":       {"copy", ".norun", "terminal", "host", "interrupt", "once", "keys", "no-enter"},
	"console":  {".norun", "terminal", "host", "interrupt", "once"},
	"file":     {"path", "mode", "marker", "host"},
	"solution": {"markdown"},
	"setup":    {"host"},
	"start":    {"terminal", "host", "interrupt", "keys", "no-enter"},
}

// valued are the attributes that have a value; the others stand alone.
var valued = []string{"terminal", "host", "path", "mode", "marker"}

var terminalName = regexp.MustCompile(`^[a-z0-9-]{1,16}$`)

// A fence is a fenced code block of the author's.
type fence struct {
	word  string
	attrs map[string]string // "" for those without a value
	line  int               // of the opening fence
	code  string            // without the last newline
	lexer chroma.Lexer      // nil: plain
	fate  fate
}

// A fate is what becomes of a fence that has a mistake.
type fate int

const (
	used    fate = iota // without what is wrong with it
	plainly             // its text is shown
	dropped
)

func (f *fence) has(attr string) bool { _, ok := f.attrs[attr]; return ok }

// terminal is where the fence's commands are typed.
func (f *fence) terminal() string {
	t := f.attrs["terminal"]
	if t == "" {
		t = "1"
	}
	if h := f.host(); h > 1 {
		t += "@" + strconv.Itoa(h)
	}
	return t
}

// host is the sandbox that the fence is about, or 0.
func (f *fence) host() int {
	n, _ := strconv.Atoi(f.attrs["host"])
	return n
}

// parseFence reads an info string such as `sh {terminal=2}`. It reports false
// after a mistake, unless the report is lenient: then what is wrong is left out.
func parseFence(info string, line int, code string, r *report) (*fence, bool) {
	f := &fence{line: line, code: strings.TrimSuffix(code, "\n"), attrs: map[string]string{}}
	info = strings.TrimSpace(info)
	end := strings.IndexAny(info, " \t{")
	if end < 0 {
		end = len(info)
	}
	f.word = info[:end]
	rest := strings.TrimSpace(info[end:])
	if !f.known(r) {
		f.word = ""
		return f, r.lenient
	}
	if rest == "" {
		return f, f.fits(r)
	}
	attrs, ok := parseAttributes(rest)
	if !ok {
		r.add(line, "write them in braces: `{terminal=2}`", "%s is not a list of attributes", quote(rest))
		return f, r.lenient && f.fits(r)
	}
	valid, ours := fenceAttributes[f.word]
	if !ours && !slices.Contains(ourWords, f.word) {
		valid = []string{"copy"}
	}
	if !f.take(attrs, valid, "a `"+f.word+"` block", r) && !r.lenient {
		return nil, false
	}
	return f, f.fits(r)
}

// take keeps the attributes that are valid, and reports false when one is not.
func (f *fence) take(attrs []attribute, valid []string, of string, r *report) bool {
	before := r.added
	for _, a := range attrs {
		if !slices.Contains(valid, a.name) {
			hint := "it takes none"
			if len(valid) > 0 {
				hint = didYouMean(a.name, valid)
			}
			r.add(f.line, hint, "unknown attribute %s of %s", quote(a.name), of)
			continue
		}
		takes := slices.Contains(valued, a.name)
		switch {
		case f.has(a.name):
			r.add(f.line, "", "`%s` is set twice", a.name)
		case takes && a.value == "":
			r.add(f.line, "write `"+a.name+"=…`", "`%s` has no value", a.name)
		case !takes && a.valued:
			r.add(f.line, "write only `"+a.name+"`", "`%s` takes no value", a.name)
		default:
			f.attrs[a.name] = a.value
		}
	}
	return r.added == before
}

// known reports whether the word is one that a fence may have.
func (f *fence) known(r *report) bool {
	switch f.word {
	case "":
		return true
	case "sh", "console":
		f.lexer = lexers.Get("bash")
		return true
	case "shell", "bash", "zsh":
		if f.word != "zsh" && !r.lenient {
			r.warn(f.line, "write `sh` for a block that runs, `sh {.norun}` for one that is only shown", "a `%s` block does not run", f.word)
		}
		f.lexer = lexers.Get("bash")
		return true
	}
	if slices.Contains(ourWords, f.word) {
		return true
	}
	if len(f.word) <= 40 {
		f.lexer = lexers.Get(f.word)
	}
	if f.lexer == nil {
		r.add(f.line, didYouMeanShort(f.word), "unknown fence word %s", quote(f.word))
		return false
	}
	return true
}

func didYouMeanShort(word string) string {
	if near := nearest(word, slices.Concat(ourWords, languages)); near != "" {
		return "did you mean `" + near + "`?"
	}
	return "there are " + list(ourWords, "and") + ", and the names of languages"
}

// still are the attributes of what does not run, and running those of what does.
var (
	still   = []string{".norun", "copy", "open"}
	running = []string{"run", "copy", "terminal", "host", "interrupt", "once", "keys", "no-enter", "open"}
)

// fits checks what attributes must be and how they go together. What does not
// is dropped; it reports whether the fence can be used.
func (f *fence) fits(r *report) bool {
	before := r.added
	drop := func(attr, hint, what string, args ...any) {
		r.add(f.line, hint, what, args...)
		delete(f.attrs, attr)
	}
	if t, ok := f.attrs["terminal"]; ok && !terminalName.MatchString(t) {
		drop("terminal", "use a number, or at most 16 small letters, digits and `-`", "`terminal` cannot be %s", quote(t))
	}
	if h, ok := f.attrs["host"]; ok && (len(h) != 1 || h[0] < '1' || h[0] > '9') {
		drop("host", "write the number of a sandbox, from 1 to 9", "`host` cannot be %s", quote(h))
	}
	for _, s := range still {
		for _, runs := range running {
			if s != runs && f.has(s) && f.has(runs) {
				drop(runs, "", "`%s` does not go with `%s`, since the block does not run", runs, s)
			}
		}
	}
	if f.has("keys") {
		if f.has("no-enter") {
			drop("no-enter", "", "`no-enter` does not go with `keys`, which are sent without it")
		}
		if !validKeys(f.code) {
			drop("keys", "write a key with Ctrl as `^C`, Enter as `^M`", "%s are not keys", quote(f.code))
		}
	}
	if f.word == "file" && !f.fileFits(r) {
		return false
	}
	return r.lenient || r.added == before
}

// fileFits checks the attributes of a file block.
func (f *fence) fileFits(r *report) bool {
	switch p := f.attrs["path"]; {
	case p == "":
		r.add(f.line, "write `file {path=~/name}`", "the file block does not say where the file goes")
		return false
	case !validPath(p) || strings.HasSuffix(p, "/") || p == "~" || strings.ContainsAny(p, "*?"):
		r.add(f.line, "write it from `/` or `~/`, without `..`", "`path` cannot be %s", quote(p))
		return false
	}
	mode, ok := f.attrs["mode"]
	if modes := []string{string(labs.FileAppend), string(labs.FilePrepend), string(labs.FileInsert)}; ok && !slices.Contains(modes, mode) {
		r.add(f.line, didYouMean(mode, modes), "`mode` cannot be %s", quote(mode))
		return false
	}
	inserts := labs.FileMode(mode) == labs.FileInsert
	switch marked := f.has("marker"); {
	case inserts && !marked:
		r.add(f.line, "write `marker=\"…\"`: the first line that holds it is replaced", "the file block does not say where to insert")
		return false
	case marked && !inserts:
		r.add(f.line, "write `mode=insert` too", "`marker` goes with `mode=insert` only")
		return false
	}
	return true
}

// validKeys reports whether text is keys in caret notation, at least one.
func validKeys(s string) bool {
	keys := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] < ' ' || s[i] == 0x7f:
			return false
		case s[i] == '^':
			if i++; i == len(s) || !(s[i] >= '?' && s[i] <= '_' || s[i] >= 'a' && s[i] <= 'z') {
				return false
			}
			keys++
		}
	}
	return keys > 0
}

// An attribute is one item between braces: `copy`, `.norun`, `terminal=2`.
type attribute struct {
	name, value string
	valued      bool
}

// parseAttributes reads `{a .b c=d e="f g"}`. Between double quotes a backslash
// keeps a double quote or a backslash.
func parseAttributes(s string) ([]attribute, bool) {
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
		return nil, false
	}
	s = s[1 : len(s)-1]
	var out []attribute
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			return out, true
		}
		end := strings.IndexAny(s, " \t=\"'{}")
		if end < 0 {
			end = len(s)
		}
		if end == 0 || len(out) == 20 {
			return nil, false
		}
		a := attribute{name: s[:end]}
		s = s[end:]
		if strings.HasPrefix(s, "=") {
			a.valued = true
			s = s[1:]
			if s != "" && (s[0] == '"' || s[0] == '\'') {
				n := quoted(s)
				if n == 0 {
					return nil, false
				}
				if a.value = s[1 : n-1]; s[0] == '"' {
					a.value = unescape.Replace(a.value)
				}
				s = s[n:]
			} else {
				end := strings.IndexAny(s, " \t\"'{}")
				if end < 0 {
					end = len(s)
				}
				a.value, s = s[:end], s[end:]
			}
		}
		if s != "" && s[0] != ' ' && s[0] != '\t' {
			return nil, false
		}
		out = append(out, a)
	}
}

var (
	unescape = strings.NewReplacer(`\"`, `"`, `\\`, `\`)
	escape   = strings.NewReplacer(`"`, `\"`, `\`, `\\`)
)

// quoted gives the length of the quoted value that s begins with, or 0.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return i + 1
		case s[i] == '\\' && s[0] == '"' && i+1 < len(s):
			i++
		}
	}
	return 0
}

// The tools of a block; the page's script enables them.
const (
	runTool   = `<button type="button" class="run-button" disabled>Run</button>`
	openTool  = `<button type="button" class="open-button" disabled>Open</button>`
	copyTool  = `<button type="button" class="copy-button" disabled>Copy</button>`
	writeTool = `<button type="button" class="write-button" disabled>Write file</button>`
)

// blockHTML gives a block: its class and data attributes, the code, its tools.
func blockHTML(class, data, code, tools string) string {
	s := `<div class="block ` + class + `"` + data + `><pre class="chroma"><code>` + code + `</code></pre>`
	if tools != "" {
		s += `<div class="tools">` + tools + `</div>`
	}
	return s + `</div>`
}

// attr gives one attribute, escaped so that a browser reads exactly value.
func attr(name, value string) string {
	return " " + name + `="` + strings.ReplaceAll(html.EscapeString(value), "\n", "&#10;") + `"`
}

// runData gives the attributes of something that runs a command.
func runData(c labs.Command) string {
	s := attr("data-command", c.ID) + attr("data-terminal", c.Terminal)
	if c.Interrupt {
		s += " data-interrupt"
	}
	if c.Once {
		s += " data-once"
	}
	if c.Keys {
		s += " data-keys"
	}
	if c.NoEnter {
		s += " data-no-enter"
	}
	return s + attr("data-code", c.Code)
}

func (h *highlighter) runBlock(c labs.Command, lexer chroma.Lexer) string {
	return blockHTML("run", runData(c), h.html(lexer, c.Code), runTool+copyTool)
}

func (h *highlighter) copyBlock(code string, lexer chroma.Lexer) string {
	return blockHTML("copy", attr("data-code", code), h.html(lexer, code), copyTool)
}

func (h *highlighter) plainBlock(code string, lexer chroma.Lexer) string {
	return blockHTML("plain", "", h.html(lexer, code), "")
}

func (h *highlighter) fileBlock(b labs.FileBlock) string {
	data := attr("data-file", b.ID) + attr("data-path", b.Path)
	if b.Mode != labs.FileReplace {
		data += attr("data-mode", string(b.Mode))
	}
	if b.Host > 1 {
		data += attr("data-host", strconv.Itoa(b.Host))
	}
	data += attr("data-code", b.Text)
	return blockHTML("file", data, h.html(h.lexerOf(b.Path), strings.TrimSuffix(b.Text, "\n")), writeTool+copyTool)
}

// nth gives the id of the n-th thing of a step.
func nth(step, kind string, n int) string { return step + "/" + kind + strconv.Itoa(n) }
