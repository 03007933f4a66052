package markdown

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"berth/labs"
)

// A yamlText is YAML that is being written: lines of `key: value`.
type yamlText struct {
	b      strings.Builder
	indent string
	first  string // begins the next line, such as "- " of a list's item
}

func (y *yamlText) line(s string) {
	begin := y.indent
	if y.first != "" {
		begin, y.first = y.first, ""
	}
	y.b.WriteString(begin + s + "\n")
}

// put writes a text, unless it is empty.
func (y *yamlText) put(key, value string) {
	if value != "" {
		y.always(key, value)
	}
}

func (y *yamlText) always(key, value string) {
	y.line(key + ": " + yamlValue(value, y.indent))
}

func (y *yamlText) number(key string, n int) {
	if n != 0 {
		y.line(key + ": " + strconv.Itoa(n))
	}
}

func (y *yamlText) truth(key string, is bool) {
	if is {
		y.line(key + ": true")
	}
}

func (y *yamlText) condition(key string, n labs.Number) {
	switch n.Op {
	case 0:
	case '=':
		y.line(key + ": " + strconv.FormatInt(n.Value, 10))
	default:
		y.line(key + `: "` + string(n.Op) + strconv.FormatInt(n.Value, 10) + `"`)
	}
}

// list writes texts; an empty list is written, nil is not.
func (y *yamlText) list(key string, values []string) {
	if values == nil {
		return
	}
	y.line(key + ": " + flowList(values))
}

func flowList(values []string) string {
	items := make([]string, len(values))
	for i, v := range values {
		items[i] = quotedYAML(v)
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// inside writes what stands below a key.
func (y *yamlText) inside(key string, write func()) {
	y.line(key + ":")
	y.indent += "  "
	write()
	y.indent = y.indent[2:]
}

// item writes an item of a list.
func (y *yamlText) item(write func()) {
	y.first = y.indent + "- "
	y.indent += "  "
	write()
	y.indent, y.first = y.indent[2:], ""
}

var plainYAML = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./@+-]*( [A-Za-z0-9_./@+(),-]+)*$`)

// yamlWords are words that YAML does not take for text.
var yamlWords = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"}

// yamlValue writes a text as a value of YAML.
func yamlValue(s, indent string) string {
	if plainYAML.MatchString(s) && len(s) < 200 && !slices.Contains(yamlWords, strings.ToLower(s)) {
		return s
	}
	if strings.Contains(s, "\n") && firstBad([]byte(s)) < 0 && s[0] != ' ' && s[0] != '\n' && s[0] != '\t' {
		sign := "|-\n"
		if strings.HasSuffix(s, "\n") {
			sign = "|\n"
		}
		var b strings.Builder
		b.WriteString(sign)
		for line := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
			if line != "" {
				b.WriteString(indent + "  " + line)
			}
			b.WriteString("\n")
		}
		if text := strings.TrimSuffix(b.String(), "\n"); readsAs(text, s) {
			return text
		}
	}
	return quotedYAML(s)
}

// readsAs reports whether a value that was written is read as s.
func readsAs(written, s string) bool {
	r := &report{}
	y := &yamlReader{report: r, first: 1}
	settings := y.parse("k: "+written+"\nl: x\n", "the value")
	if len(settings) != 2 {
		return false
	}
	got, ok := y.text(settings[0])
	return ok && got == s
}

// quotedYAML writes a text between double quotes, as JSON does, which YAML reads.
func quotedYAML(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("write a text as JSON: " + err.Error()) // every text can be
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// frontMatter writes the settings of a lesson, with the lines around them.
func (w *writer) frontMatter() string {
	l := w.want
	y := &yamlText{}
	y.always("title", l.Title)
	y.put("summary", l.Summary)
	y.put("level", l.Level)
	y.number("minutes", l.Minutes)
	if l.Image != "docker" {
		y.put("image", l.Image)
	}
	if len(l.Pulls) > 0 {
		y.inside("pulls", func() {
			for _, p := range l.Pulls {
				y.item(func() { y.put("image", p.Ref); y.put("standin", p.Standin) })
			}
		})
	}
	if l.Egress != labs.EgressMirror {
		y.put("egress", string(l.Egress))
	}
	y.put("cannot", l.Cannot)
	if l.Hosts > 1 {
		y.number("hosts", l.Hosts)
	}
	y.put("hostname", l.Hostname)
	y.truth("paged", l.Paged)
	if l.Layout != labs.LayoutTerminal {
		y.put("layout", string(l.Layout))
	}
	y.put("open", w.unmark(l.Open))
	y.put("greeting", w.unmark(l.Greeting))
	w.writeTabs(y)
	if rules := w.assetRules(); len(rules) > 0 {
		y.inside("assets", func() {
			for _, a := range rules {
				y.item(func() {
					y.put("file", a.file)
					y.put("to", a.to)
					if a.mode != 0 {
						y.line(fmt.Sprintf(`mode: "%04o"`, uint32(a.mode.Perm())))
					}
					if a.host > 1 {
						y.number("host", a.host)
					}
				})
			}
		})
	}
	var vars []labs.Var
	for _, v := range l.Vars {
		if v.Preview == 0 {
			vars = append(vars, v)
		}
	}
	if vars != nil {
		y.inside("vars", func() {
			for _, v := range vars {
				switch {
				case v.Pick != nil:
					y.line(v.Name + ": {pick: " + flowList(v.Pick) + "}")
				case v.High > 0:
					y.line(fmt.Sprintf("%s: {random: %d-%d}", v.Name, v.Low, v.High))
				default:
					y.line(v.Name + ": {value: " + quotedYAML(v.Value) + "}")
				}
			}
		})
	}
	return "---\n" + y.b.String() + "---\n"
}

func (w *writer) writeTabs(y *yamlText) {
	l := w.want
	if len(l.Terminals) > 0 {
		y.inside("terminals", func() {
			for _, t := range l.Terminals {
				y.item(func() {
					inside, host := labs.SplitTerminal(t.Name)
					y.line("name: " + quotedYAML(inside))
					if host > 1 {
						y.number("host", host)
					}
					y.put("title", t.Title)
					y.put("command", w.unmark(t.Command))
				})
			}
		})
	}
	if len(l.Tabs) > 0 {
		y.inside("tabs", func() {
			for _, t := range l.Tabs {
				y.item(func() {
					y.put("title", t.Title)
					y.number("port", t.Port)
					if t.Host > 1 {
						y.number("host", t.Host)
					}
					y.put("path", t.Path)
					y.put("url", t.URL)
				})
			}
		})
	}
}

// check writes a check, and reports whether it can be.
func (w *writer) check(c labs.Check) (string, bool) {
	y := &yamlText{}
	y.put("name", c.Name)
	y.put("hint", c.Hint)
	y.truth("optional", c.Optional)
	y.truth("not", c.Not)
	switch {
	case c.Image != nil:
		i := c.Image
		y.put("image", i.Ref)
		y.condition("layers", i.Layers)
		y.condition("size", i.Size)
		y.list("entrypoint", i.Entrypoint)
		y.list("cmd", i.Cmd)
		y.list("env", i.Env)
		y.list("label", i.Label)
		y.put("path", i.Path)
		y.rule(i.Text)
	case c.Container != nil:
		k := c.Container
		if k.Name != "" {
			y.put("container", k.Name)
		} else {
			y.inside("container", func() { y.put("image", k.Image); y.put("command", k.Command) })
		}
		y.put("state", k.State)
		y.condition("exit", k.Exit)
		if !k.Logs.IsZero() {
			y.inside("logs", func() { y.rule(k.Logs) })
		}
		y.put("health", k.Health)
		y.list("publishes", k.Publishes)
		y.list("mounts", k.Mounts)
		if !k.Memory.IsZero() {
			y.inside("limits", func() { y.condition("memory", k.Memory) })
		}
	case c.Volume != "":
		y.put("volume", c.Volume)
	case c.Network != "":
		y.put("network", c.Network)
	case c.File != nil:
		y.put("file", c.File.Path)
		y.rule(c.File.Text)
		if c.File.Mode != "" {
			y.line("mode: " + quotedYAML(c.File.Mode))
		}
		if c.File.Dir != nil {
			y.line("dir: " + strconv.FormatBool(*c.File.Dir))
		}
		y.list("tar-has", c.File.TarHas)
		y.put("archive", c.File.Archive)
	case c.Layer != nil:
		y.put("layer", c.Layer.Ref)
		y.put("under", c.Layer.Under)
	case c.Ran != nil && c.Ran.Pattern != nil:
		y.put("ran", c.Ran.Pattern.String())
		y.condition("exit", c.Ran.Exit)
	case c.Port != nil:
		if c.Port.Var != "" {
			y.put("port", c.Port.Var)
		} else {
			y.number("port", c.Port.Port)
		}
		y.put("path", c.Port.Path)
		y.condition("status", c.Port.Status)
		if !c.Port.Body.IsZero() {
			y.inside("body", func() { y.rule(c.Port.Body) })
		}
	case c.Script != "":
		y.put("script", c.Script)
		y.put("prints", c.Prints)
	}
	text := strings.TrimSuffix(y.b.String(), "\n")
	r := &report{}
	if parseCheck(text, 1, w.want.Vars, r) == nil {
		w.warn(0, "", "the check %s cannot be written: %s", quote(c.Name), r.mistakes[0].What)
		return "", false
	}
	return text, true
}

// rule writes a rule about a text.
func (y *yamlText) rule(t labs.TextRule) {
	if t.Equals != nil {
		y.always("equals", *t.Equals)
	}
	y.put("contains", t.Contains)
	if t.Matches != nil {
		y.put("matches", t.Matches.String())
	}
	if t.Exists != nil {
		y.line("exists: " + strconv.FormatBool(*t.Exists))
	}
}
