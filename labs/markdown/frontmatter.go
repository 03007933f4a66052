package markdown

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"berth/labs"
)

// The settings of a front matter, and of their items.
var (
	frontKeys = []string{
		"title", "summary", "level", "minutes", "image", "pulls", "egress", "cannot", "hosts", "hostname", "assets", "vars",
		"paged", "layout", "open", "greeting", "terminals", "tabs",
	}
	pullKeys     = []string{"image", "standin"}
	tabKeys      = []string{"title", "port", "host", "path", "url"}
	terminalKeys = []string{"name", "host", "title", "command"}
	varKeys      = []string{"value", "pick", "random"}
)

const (
	maxHosts    = 9 // as many as the name of a terminal can say
	maxVars     = 100
	maxGreeting = 4 << 10 // bytes
	maxValue    = 1000    // bytes of a value, or of a terminal's command
)

// imageRef is the shape of an image reference; whether there is such an image
// only a registry knows.
var imageRef = regexp.MustCompile(`^[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

// recipeName is what a recipe's folder is called.
var recipeName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// hostName is the shape of a host's name.
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// frontMatter reads the settings of a lesson into l, and gives its rules about
// files.
func frontMatter(text string, r *report, l *labs.Lesson) []assetRule {
	y := &yamlReader{report: r, first: 2}
	settings := y.parse(text, "the front matter")
	if settings == nil {
		if !r.failed {
			r.add(1, "write `title: …`", "the front matter is empty")
		}
		return nil
	}
	var rules []assetRule
	titled := false
	for _, s := range settings { // which others must fit
		if s.key == "hosts" {
			l.Hosts = y.integer(s, 1, maxHosts)
		}
	}
	for _, s := range settings {
		switch s.key {
		case "title":
			titled = true
			l.Title = y.sentence(s, 120)
		case "summary":
			l.Summary = y.sentence(s, 300)
		case "level":
			l.Level = y.oneOf(s, levels...)
		case "minutes":
			l.Minutes = y.integer(s, 1, 1000)
		case "image":
			if t, ok := y.word(s); ok && !imageRef.MatchString(t) {
				y.add(s.line, "name a recipe such as `docker`, or a reference such as `debian:13`", "`image` cannot be %s", quote(t))
			} else if ok {
				l.Image = t
			}
		case "egress":
			l.Egress = labs.Egress(y.oneOf(s, egresses...))
		case "pulls":
			for _, n := range y.items(s) {
				if p, ok := y.pull(n); ok {
					l.Pulls = append(l.Pulls, p)
				}
			}
		case "cannot":
			l.Cannot = y.sentence(s, 300)
		case "hosts":
		case "hostname":
			t, ok := y.word(s)
			if ok && !hostName.MatchString(t) {
				y.add(s.line, "use small letters, digits and `-`", "`hostname` cannot be %s", quote(t))
			}
			l.Hostname = t
		case "assets":
			for _, n := range y.list(s, 1000) {
				if a, ok := y.asset(n); ok && y.hasHost(l, a.host, a.line) {
					rules = append(rules, a)
				}
			}
		case "vars":
			l.Vars = y.variables(s)
		case "paged":
			l.Paged = y.boolean(s)
		case "layout":
			l.Layout = labs.Layout(y.oneOf(s, layouts...))
		case "open":
			l.Open = y.path(s, false)
		case "greeting":
			l.Greeting = y.greeting(s)
		case "terminals":
			for _, n := range y.items(s) {
				if t, ok := y.terminal(n, l); ok {
					l.Terminals = append(l.Terminals, t)
				}
			}
		case "tabs":
			for _, n := range y.items(s) {
				if t, ok := y.tab(n, l); ok {
					l.Tabs = append(l.Tabs, t)
				}
			}
		default:
			y.unknown(s, frontKeys)
		}
	}
	if !titled {
		r.add(1, "write `title: …`", "the front matter has no title")
	}
	return rules
}

// The words that settings can be.
var (
	levels   = []string{"beginner", "intermediate", "advanced"}
	egresses = []string{string(labs.EgressNone), string(labs.EgressMirror), string(labs.EgressInternet)}
	layouts  = []string{string(labs.LayoutTerminal), string(labs.LayoutEditor)}
)

// hasHost reports whether the lesson has a sandbox of this number.
func (y *yamlReader) hasHost(l *labs.Lesson, n, line int) bool {
	if n <= max(1, l.Hosts) {
		return true
	}
	y.add(line, fmt.Sprintf("write `hosts: %d`", n), "the lesson has no sandbox %d", n)
	return false
}

// greeting gives text for a terminal, which may hold ANSI sequences.
func (y *yamlReader) greeting(s setting) string {
	t, _ := y.text(s)
	for _, c := range t {
		if c < ' ' && c != '\n' && c != '\t' && c != 0x1b || c >= 0x7f && c < 0xa0 {
			y.add(s.line, "of the control characters it may hold the newline, the tab and `\\e`", "`greeting` holds the control character U+%04X", c)
			return ""
		}
	}
	if len(t) > maxGreeting {
		y.add(s.line, "shorten it", "`greeting` is longer than %s", bytesInWords(maxGreeting))
		return ""
	}
	return t
}

// terminal gives an item of `terminals`.
func (y *yamlReader) terminal(n ast.Node, l *labs.Lesson) (labs.TerminalTab, bool) {
	before, line := y.added, y.line(n)
	var t labs.TerminalTab
	host := 0
	for _, s := range y.mapping(n, "an item of `terminals`") {
		switch s.key {
		case "name":
			if t.Name, _ = y.word(s); t.Name != "" && !terminalName.MatchString(t.Name) {
				y.add(s.line, "use a number, or at most 16 small letters, digits and `-`", "`name` cannot be %s", quote(t.Name))
			}
		case "host":
			host = y.integer(s, 1, maxHosts)
			y.hasHost(l, host, s.line)
		case "title":
			t.Title = y.sentence(s, 60)
		case "command":
			t.Command = y.value(s)
		default:
			y.unknown(s, terminalKeys)
		}
	}
	if y.added == before && t.Name == "" {
		y.add(line, "write `{name: logs, command: …}`", "an item of `terminals` has no name")
	}
	if host > 1 {
		t.Name += "@" + strconv.Itoa(host)
	}
	for _, other := range l.Terminals {
		if other.Name == t.Name {
			y.add(line, "", "the terminal %s comes twice", quote(t.Name))
		}
	}
	return t, y.added == before
}

// tab gives an item of `tabs`.
func (y *yamlReader) tab(n ast.Node, l *labs.Lesson) (labs.Tab, bool) {
	before, line := y.added, y.line(n)
	var t labs.Tab
	for _, s := range y.mapping(n, "an item of `tabs`") {
		switch s.key {
		case "title":
			t.Title = y.sentence(s, 60)
		case "port":
			t.Port = y.integer(s, 1, 65535)
		case "host":
			t.Host = y.integer(s, 1, maxHosts)
			y.hasHost(l, t.Host, s.line)
		case "path":
			if t.Path = y.value(s); !strings.HasPrefix(t.Path, "/") {
				y.add(s.line, "begin it with `/`", "`path` cannot be %s", quote(t.Path))
			}
		case "url":
			t.URL = y.value(s)
			if u, err := url.Parse(t.URL); err != nil || u.Scheme != "https" || u.Host == "" {
				y.add(s.line, "write `https://…`", "`url` cannot be %s", quote(t.URL))
			}
		default:
			y.unknown(s, tabKeys)
		}
	}
	if y.added > before {
		return t, false
	}
	switch {
	case t.Title == "":
		y.add(line, "write `{title: Shop, port: 8080}`", "an item of `tabs` has no title")
	case (t.Port == 0) == (t.URL == ""):
		y.add(line, "write `port: 8080`, or `url: https://…`", "an item of `tabs` has to show either a port or an address")
	case t.URL != "" && (t.Host != 0 || t.Path != ""):
		y.add(line, "write it all into `url`", "`host` and `path` go with `port` only")
	}
	return t, y.added == before
}

// value gives one line of text.
func (y *yamlReader) value(s setting) string {
	t, _ := y.text(s)
	if len(t) > maxValue || strings.ContainsFunc(t, func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 }) {
		y.add(s.line, "write one line", "`%s` holds more than a line of text", s.key)
		return ""
	}
	return t
}

var (
	varName   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	varRandom = regexp.MustCompile(`^([0-9]{1,9})-([0-9]{1,9})$`)
)

// variables gives the values that differ per learner.
func (y *yamlReader) variables(s setting) []labs.Var {
	var vars []labs.Var
	all := y.mapping(s.value, "`vars`")
	if len(all) > maxVars {
		y.add(s.line, "", "`vars` has more than %d values", maxVars)
		return nil
	}
	for _, s := range all {
		before := y.added
		v := labs.Var{Name: s.key}
		if !varName.MatchString(v.Name) || v.Name == "preview" {
			y.add(s.line, "use at most 32 small letters, digits and `_`, and not `preview`", "a value cannot have the name %s", quote(v.Name))
			continue
		}
		switch s.value.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
		default:
			y.add(s.line, "write `"+v.Name+": {value: …}`, `{pick: [one, two]}` or `{random: 8000-8999}`", "%s does not say what it is", quote(v.Name))
			continue
		}
		set := y.mapping(s.value, quote(v.Name))
		for _, e := range set {
			switch e.key {
			case "value":
				v.Value = y.value(e)
			case "pick":
				for _, n := range y.items(e) {
					v.Pick = append(v.Pick, y.value(setting{"pick", y.line(n), n}))
				}
				if len(v.Pick) == 0 && y.added == before {
					y.add(e.line, "write `pick: [one, two]`", "`pick` has no item")
				}
			case "random":
				t, _ := y.word(e)
				m := varRandom.FindStringSubmatch(t)
				if m != nil {
					v.Low, _ = strconv.Atoi(m[1])
					v.High, _ = strconv.Atoi(m[2])
				}
				if y.added == before && (v.High < 1 || v.Low > v.High) {
					y.add(e.line, "write the least and the greatest number: `8000-8999`", "`random` cannot be %s", quote(t))
				}
			default:
				y.unknown(e, varKeys)
			}
		}
		if y.added == before && len(set) != 1 {
			y.add(s.line, "there are "+list(varKeys, "and"), "%s has to be one thing", quote(v.Name))
		}
		if y.added == before {
			vars = append(vars, v)
		}
	}
	return vars
}

// sentence gives one line of text of at most so many characters.
func (y *yamlReader) sentence(s setting, most int) string {
	t, ok := y.word(s)
	if !ok {
		return ""
	}
	t = strings.Join(strings.Fields(t), " ")
	if n := len([]rune(t)); n > most {
		y.add(s.line, "", "`%s` has %d characters; at most %d fit", s.key, n, most)
		return ""
	}
	return t
}

// pull gives an item of `pulls`: a reference, or one with its stand-in.
func (y *yamlReader) pull(n ast.Node) (labs.Pull, bool) {
	var p labs.Pull
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		for _, s := range y.mapping(n, "an item of `pulls`") {
			switch s.key {
			case "image":
				p.Ref, _ = y.word(s)
			case "standin":
				if p.Standin, _ = y.word(s); p.Standin != "" && !recipeName.MatchString(p.Standin) {
					y.add(s.line, "name a recipe", "`standin` cannot be %s", quote(p.Standin))
				}
			default:
				y.unknown(s, pullKeys)
			}
		}
		if p.Ref == "" {
			y.add(y.line(n), "write `{image: redis:7, standin: redis}`", "an item of `pulls` names no image")
			return p, false
		}
	default:
		t, ok := y.scalar(n, "pulls", y.line(n))
		if !ok {
			return p, false
		}
		p.Ref = t
	}
	if !imageRef.MatchString(p.Ref) {
		y.add(y.line(n), "write it as `docker pull` takes it", "`pulls` cannot hold %s", quote(p.Ref))
		return p, false
	}
	return p, true
}
