package markdown

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"berth/labs"
)

// commonKeys may stand in every check.
var commonKeys = []string{"name", "hint", "optional", "not"}

// subjects are what a check can be about, with the keys that go with each. The
// order is the one in which hints name them.
var subjects = []struct {
	key  string
	with []string
}{
	{"image", []string{"layers", "size", "entrypoint", "cmd", "env", "label", "path", "equals", "contains", "matches", "exists"}},
	{"container", []string{"state", "exit", "logs", "health", "publishes", "mounts", "limits"}},
	{"volume", nil},
	{"network", nil},
	{"file", []string{"equals", "contains", "matches", "exists", "mode", "dir", "tar-has", "archive"}},
	{"layer", []string{"under"}},
	{"ran", []string{"exit"}},
	{"port", []string{"path", "status", "body"}},
	{"script", []string{"prints"}},
}

var (
	textKeys    = []string{"equals", "contains", "matches", "exists"}
	states      = []string{"created", "running", "paused", "restarting", "removing", "exited", "dead"}
	healths     = []string{"none", "starting", "healthy", "unhealthy"}
	objectName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$`)
	fileMode    = regexp.MustCompile(`^(0?[0-7]{3,4}|\+x)$`)
	publication = regexp.MustCompile(`^([0-9]{1,5}:)?[0-9]{1,5}$`)
)

// parseCheck reads a check fence that begins in the file's line first. nil
// after a mistake.
func parseCheck(text string, first int, vars []labs.Var, r *report) *labs.Check {
	y := &yamlReader{report: r, first: first, vars: vars}
	before := r.added
	if trimmed := strings.TrimLeft(text, " \n"); strings.HasPrefix(trimmed, "- ") {
		r.add(first, "write a fence for each", "a check fence holds one check, not a list")
		return nil
	}
	settings := y.parse(text+"\n", "the check")
	if settings == nil {
		return nil
	}
	subject := y.subject(settings)
	if subject < 0 {
		return nil
	}
	with := subjects[subject].with
	c := &labs.Check{}
	var rule labs.TextRule
	ruled := 0 // line of the first text rule
	for _, s := range settings {
		switch {
		case s.key == "name":
			c.Name = y.sentence(s, 200)
		case s.key == "hint":
			c.Hint = y.sentence(s, 500)
		case s.key == "optional":
			c.Optional = y.boolean(s)
		case s.key == "not":
			c.Not = y.boolean(s)
		case s.key == subjects[subject].key:
			y.about(c, s)
		case !slices.Contains(with, s.key):
			y.misplaced(s, subject)
		}
	}
	for _, s := range settings {
		if !slices.Contains(with, s.key) {
			continue
		}
		if slices.Contains(textKeys, s.key) {
			y.textRule(&rule, s)
			if ruled == 0 {
				ruled = s.line
			}
			continue
		}
		y.expect(c, s)
	}
	if r.added > before {
		return nil
	}
	if c.Name == "" {
		r.add(first, "write `name: …`: what the learner reads beside the tick", "the check has no name")
	}
	y.textRuleFits(rule, ruled)
	switch {
	case c.Image != nil:
		c.Image.Text = rule
		if ruled > 0 && c.Image.Path == "" {
			y.add(ruled, "name the file in the image with `path: /…`", "the check looks at a text but names no file")
		}
	case c.File != nil:
		c.File.Text = rule
		if c.File.Archive != "" && c.File.Dir != nil && *c.File.Dir {
			y.add(first, "", "`archive` does not go with `dir: true`")
		}
	case c.Ran != nil && c.Ran.Exit.IsZero():
		c.Ran.Exit = labs.Number{Op: '='}
	}
	if r.added > before {
		return nil
	}
	return c
}

// subject finds what the check is about: its place in subjects, or -1.
func (y *yamlReader) subject(settings []setting) int {
	found, at := -1, setting{}
	for _, s := range settings {
		for i := range subjects {
			if subjects[i].key != s.key {
				continue
			}
			if found >= 0 {
				y.add(s.line, "write a fence for each", "the check is about two things, `%s` and `%s`", at.key, s.key)
				return -1
			}
			found, at = i, s
		}
	}
	if found >= 0 {
		return found
	}
	words := make([]string, len(subjects))
	known := slices.Clone(commonKeys)
	for i := range subjects {
		words[i] = subjects[i].key
		known = append(known, subjects[i].with...)
	}
	told := false
	for _, s := range settings {
		if !slices.Contains(known, s.key) {
			y.unknown(s, append(slices.Clone(words), known...))
			told = true
		}
	}
	if !told {
		y.add(y.first, "say what it is about: "+list(words, "or"), "the check has no subject")
	}
	return -1
}

// misplaced reports a key that does not go with the subject.
func (y *yamlReader) misplaced(s setting, subject int) {
	valid := slices.Clone(commonKeys)
	valid = append(valid, subjects[subject].with...)
	for _, other := range subjects {
		if slices.Contains(other.with, s.key) {
			hint := "there are only " + list(commonKeys, "and")
			if with := subjects[subject].with; with != nil {
				hint = thereAre(with)
			}
			y.add(s.line, hint, "`%s` does not go with `%s`", s.key, subjects[subject].key)
			return
		}
	}
	y.unknown(s, append(valid, subjects[subject].key))
}

// about reads the value of the subject itself.
func (y *yamlReader) about(c *labs.Check, s setting) {
	switch s.key {
	case "image":
		c.Image = &labs.ImageCheck{Ref: y.ref(s)}
	case "container":
		c.Container = &labs.ContainerCheck{}
		switch s.value.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			for _, e := range y.mapping(s.value, "`container`") {
				switch e.key {
				case "image":
					c.Container.Image = y.ref(e)
				case "command":
					if re := y.regexp(e); re != nil {
						c.Container.Command = re.String()
					}
				default:
					y.unknown(e, []string{"image", "command"})
				}
			}
			if c.Container.Image == "" && c.Container.Command == "" {
				y.add(s.line, "write its name, or `{image: …, command: …}`", "`container` names none")
			}
		default:
			c.Container.Name = y.name(s)
		}
	case "volume":
		c.Volume = y.name(s)
	case "network":
		c.Network = y.name(s)
	case "file":
		c.File = &labs.FileCheck{Path: y.path(s, true)}
	case "layer":
		c.Layer = &labs.LayerCheck{Ref: y.ref(s), Under: "~"}
	case "ran":
		c.Ran = &labs.RanCheck{Pattern: y.regexp(s)}
	case "port":
		c.Port = y.port(s)
	case "script":
		c.Script, _ = y.text(s)
		if strings.TrimSpace(c.Script) == "" {
			y.add(s.line, "", "`script` has no value")
		}
	}
}

// port gives a port, or the value of the lesson that it is.
func (y *yamlReader) port(s setting) *labs.PortCheck {
	if t, ok := y.scalar(s.value, s.key, s.line); ok {
		for _, v := range y.vars {
			if v.Mark() != t || v.Preview > 0 {
				continue
			}
			if !y.isPort(v) {
				y.add(s.line, "let it be a number from 1 to 65535", "{{%s}} is no port", v.Name)
			}
			return &labs.PortCheck{Var: t}
		}
	}
	return &labs.PortCheck{Port: y.integer(s, 1, 65535)}
}

// isPort reports whether a value is a port for every learner.
func (*yamlReader) isPort(v labs.Var) bool {
	all := v.Pick
	if v.High > 0 {
		all = []string{strconv.Itoa(v.Low), strconv.Itoa(v.High)}
	} else if all == nil {
		all = []string{v.Value}
	}
	for _, t := range all {
		if n, err := strconv.Atoi(t); err != nil || n < 1 || n > 65535 {
			return false
		}
	}
	return true
}

// expect reads one expectation of the check's subject.
func (y *yamlReader) expect(c *labs.Check, s setting) {
	switch {
	case c.Image != nil:
		switch s.key {
		case "layers":
			c.Image.Layers = y.number(s)
		case "size":
			c.Image.Size = y.number(s)
		case "entrypoint":
			c.Image.Entrypoint = y.texts(s)
		case "cmd":
			c.Image.Cmd = y.texts(s)
		case "env":
			c.Image.Env = y.texts(s)
		case "label":
			c.Image.Label = y.texts(s)
		case "path":
			c.Image.Path = y.path(s, false)
		}
	case c.Container != nil:
		switch s.key {
		case "state":
			c.Container.State = y.oneOf(s, states...)
		case "exit":
			c.Container.Exit = y.number(s)
		case "logs":
			c.Container.Logs = y.nestedRule(s)
		case "health":
			c.Container.Health = y.oneOf(s, healths...)
		case "publishes":
			for _, t := range y.texts(s) {
				if !publication.MatchString(t) {
					y.add(s.line, "write `8080:80` or `80`", "`publishes` cannot hold %s", quote(t))
				}
				c.Container.Publishes = append(c.Container.Publishes, t)
			}
		case "mounts":
			for _, t := range y.texts(s) {
				if !strings.HasPrefix(t, "/") {
					y.add(s.line, "name the place inside the container: `/data`", "`mounts` cannot hold %s", quote(t))
				}
				c.Container.Mounts = append(c.Container.Mounts, t)
			}
		case "limits":
			for _, e := range y.mapping(s.value, "`limits`") {
				if e.key == "memory" {
					c.Container.Memory = y.number(e)
				} else {
					y.unknown(e, []string{"memory"})
				}
			}
		}
	case c.File != nil:
		switch s.key {
		case "mode":
			c.File.Mode, _ = y.word(s)
			if c.File.Mode != "" && !fileMode.MatchString(c.File.Mode) {
				y.add(s.line, "write it as `chmod` takes it: `0755` or `+x`", "`mode` cannot be %s", quote(c.File.Mode))
			}
		case "dir":
			dir := y.boolean(s)
			c.File.Dir = &dir
		case "tar-has":
			c.File.TarHas = y.texts(s)
		case "archive":
			c.File.Archive = y.ref(s)
		}
	case c.Layer != nil:
		if s.key == "under" {
			c.Layer.Under = y.path(s, false)
		}
	case c.Ran != nil:
		if s.key == "exit" {
			c.Ran.Exit = y.number(s)
		}
	case c.Port != nil:
		switch s.key {
		case "path":
			if c.Port.Path, _ = y.word(s); !strings.HasPrefix(c.Port.Path, "/") {
				y.add(s.line, "begin it with `/`", "`path` cannot be %s", quote(c.Port.Path))
			}
		case "status":
			c.Port.Status = y.number(s)
		case "body":
			c.Port.Body = y.nestedRule(s)
		}
	case c.Script != "":
		if s.key == "prints" {
			if c.Prints, _ = y.word(s); strings.Contains(c.Prints, "\n") || len(c.Prints) > 1000 {
				y.add(s.line, "name one line of it", "`prints` is longer than a line")
			}
		}
	}
}

// nestedRule reads a text rule that is a value of its own: `logs: {contains: x}`.
func (y *yamlReader) nestedRule(s setting) labs.TextRule {
	var rule labs.TextRule
	switch s.value.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		y.add(s.line, "write `"+s.key+": {contains: …}`", "`%s` does not say how to compare", s.key)
		return rule
	}
	for _, e := range y.mapping(s.value, "`"+s.key+"`") {
		if slices.Contains(textKeys[:3], e.key) {
			y.textRule(&rule, e)
		} else {
			y.unknown(e, textKeys[:3])
		}
	}
	return rule
}

func (y *yamlReader) textRule(rule *labs.TextRule, s setting) {
	switch s.key {
	case "equals":
		if t, ok := y.text(s); ok {
			rule.Equals = &t
		}
	case "contains":
		t, ok := y.text(s)
		if ok && t == "" {
			y.add(s.line, "", "`contains` has no value")
		}
		rule.Contains = t
	case "matches":
		rule.Matches = y.regexp(s)
	case "exists":
		exists := y.boolean(s)
		rule.Exists = &exists
	}
}

func (y *yamlReader) textRuleFits(rule labs.TextRule, line int) {
	if rule.Exists != nil && !*rule.Exists && (rule.Equals != nil || rule.Contains != "" || rule.Matches != nil) {
		y.add(line, "", "`exists: false` does not go with a rule about the text")
	}
}

// ref gives an image reference.
func (y *yamlReader) ref(s setting) string {
	t, ok := y.word(s)
	if ok && !imageRef.MatchString(t) {
		y.add(s.line, "write it as `docker pull` takes it", "`%s` cannot be %s", s.key, quote(t))
	}
	return t
}

// name gives the name of a container, volume or network.
func (y *yamlReader) name(s setting) string {
	t, ok := y.word(s)
	if ok && !objectName.MatchString(t) {
		y.add(s.line, "write its name, without spaces", "`%s` cannot be %s", s.key, quote(t))
	}
	return t
}

// path gives a place in the sandbox or an image: absolute, or in the home.
func (y *yamlReader) path(s setting, pattern bool) string {
	if n, ok := s.value.(*ast.NullNode); ok && n.GetToken().Value == "~" {
		return "~" // which YAML takes for nothing
	}
	t, ok := y.word(s)
	if !ok {
		return ""
	}
	if !validPath(t) {
		y.add(s.line, "write it from `/` or `~/`, without `..`", "`%s` cannot be %s", s.key, quote(t))
		return ""
	}
	if pattern {
		if _, err := path.Match(t, ""); err != nil {
			y.add(s.line, "`*`, `?` and `**` stand for other names", "`%s` is not a pattern", s.key)
			return ""
		}
	}
	return t
}

func validPath(p string) bool {
	if len(p) > 4096 || p != "~" && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "~/") {
		return false
	}
	return !slices.Contains(strings.Split(p, "/"), "..")
}
