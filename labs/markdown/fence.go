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
var ourWords = []string{"sh", "console", "file", "hint", "solution", "setup", "check", "quiz"}

// languages are those that hints suggest; all that the highlighter knows work.
var languages = []string{"bash", "dockerfile", "yaml", "json", "text", "go", "python", "javascript", "ini", "toml", "html", "css", "sql", "diff", "xml", "make", "nginx", "c"}

// attributes that each fence word understands. `.norun` is written with a dot
// because it is a class in the form that Markdown processors share.
var fenceAttributes = map[string][]string{
	"sh":      {"copy", ".norun", "terminal", "interrupt", "once"},
	"console": {".norun", "terminal", "interrupt", "once"},
	"file":    {"path"},
}

var terminalName = regexp.MustCompile(`^[a-z0-9-]{1,16}$`)

// A fence is a fenced code block of the author's.
type fence struct {
	word  string
	attrs map[string]string // "" for those without a value
	line  int               // of the opening fence
	code  string            // without the last newline
	lexer chroma.Lexer      // nil: plain
}

func (f *fence) has(attr string) bool { _, ok := f.attrs[attr]; return ok }

// terminal is where the fence's commands are typed.
func (f *fence) terminal() string {
	if t := f.attrs["terminal"]; t != "" {
		return t
	}
	return "1"
}

// parseFence reads an info string such as `sh {terminal=2}`. It reports false
// after a mistake.
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
		return nil, false
	}
	if rest == "" {
		return f, f.fits(r)
	}
	attrs, ok := parseAttributes(rest)
	if !ok {
		r.add(line, "write them in braces: `{terminal=2}`", "%s is not a list of attributes", quote(rest))
		return nil, false
	}
	valid, ours := fenceAttributes[f.word]
	if !ours && !slices.Contains(ourWords, f.word) {
		valid = []string{"copy"}
	}
	for _, a := range attrs {
		if !slices.Contains(valid, a.name) {
			hint := "it takes none"
			if len(valid) > 0 {
				hint = didYouMean(a.name, valid)
			}
			r.add(line, hint, "unknown attribute %s of a `%s` block", quote(a.name), f.word)
			return nil, false
		}
		takes := a.name == "terminal" || a.name == "path"
		switch {
		case f.has(a.name):
			r.add(line, "", "`%s` is set twice", a.name)
			return nil, false
		case takes && a.value == "":
			r.add(line, "write `"+a.name+"=…`", "`%s` has no value", a.name)
			return nil, false
		case !takes && a.valued:
			r.add(line, "write only `"+a.name+"`", "`%s` takes no value", a.name)
			return nil, false
		}
		f.attrs[a.name] = a.value
	}
	return f, f.fits(r)
}

// known reports whether the word is one that a fence may have.
func (f *fence) known(r *report) bool {
	switch f.word {
	case "":
		return true
	case "quiz":
		r.add(f.line, "ask in the text for now", "`quiz` is not supported yet")
		return false
	case "sh", "console":
		f.lexer = lexers.Get("bash")
		return true
	case "shell", "bash", "zsh":
		if f.word != "zsh" {
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
	return "there are " + list(ourWords[:len(ourWords)-1], "and") + ", and the names of languages"
}

// fits checks what attributes must be and how they go together.
func (f *fence) fits(r *report) bool {
	if t, ok := f.attrs["terminal"]; ok && !terminalName.MatchString(t) {
		r.add(f.line, "use a number, or at most 16 small letters, digits and `-`", "`terminal` cannot be %s", quote(t))
		return false
	}
	for _, still := range []string{".norun", "copy"} {
		for _, runs := range []string{"copy", "terminal", "interrupt", "once"} {
			if still != runs && f.has(still) && f.has(runs) {
				r.add(f.line, "", "`%s` does not go with `%s`, since the block does not run", runs, still)
				return false
			}
		}
	}
	if f.word == "file" {
		p := f.attrs["path"]
		if p == "" {
			r.add(f.line, "write `file {path=~/name}`", "the file block does not say where the file goes")
			return false
		}
		if !validPath(p) || strings.HasSuffix(p, "/") || p == "~" || strings.ContainsAny(p, "*?") {
			r.add(f.line, "write it from `/` or `~/`, without `..`", "`path` cannot be %s", quote(p))
			return false
		}
	}
	return true
}

// An attribute is one item between braces: `copy`, `.norun`, `terminal=2`.
type attribute struct {
	name, value string
	valued      bool
}

// parseAttributes reads `{a .b c=d e="f g"}`.
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
				close := strings.IndexByte(s[1:], s[0])
				if close < 0 {
					return nil, false
				}
				a.value, s = s[1:1+close], s[close+2:]
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

// The tools of a block; the page's script enables them.
const (
	runTool   = `<button type="button" class="run-button" disabled>Run</button>`
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
	data := attr("data-file", b.ID) + attr("data-path", b.Path) + attr("data-code", b.Text)
	return blockHTML("file", data, h.html(h.lexerOf(b.Path), strings.TrimSuffix(b.Text, "\n")), writeTool+copyTool)
}

// nth gives the id of the n-th thing of a step.
func nth(step, kind string, n int) string { return step + "/" + kind + strconv.Itoa(n) }
