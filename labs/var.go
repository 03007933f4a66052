package labs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Var is a value that differs per learner. Where it is used, the lesson's
// texts hold its Mark until For puts the value there.
type Var struct {
	Name string // small letters, digits and "_"; for a preview "preview 8080" or "preview 2:8080"

	// One of these says what the value is.
	Value   string   // the same for all
	Pick    []string // one of them
	Low     int      // a number from Low to High, when High is greater than 0
	High    int
	Preview int // the address of the preview of this port, such as http://8080-….preview.localhost:8080, without a final "/"
	Host    int // of Preview: the sandbox, from 1; 0 is the first
}

// Mark is what stands for the value in the lesson's texts: letters only, so
// that it survives highlighting, addresses and regular expressions.
func (v Var) Mark() string {
	const letters = "abcdefghijklmnop"
	var b strings.Builder
	b.WriteString("zqberth")
	for i := range len(v.Name) {
		b.WriteByte(letters[v.Name[i]>>4])
		b.WriteByte(letters[v.Name[i]&15])
	}
	b.WriteString("zq")
	return b.String()
}

// value gives the value for a learner: the same every time for one seed.
func (v Var) value(seed string, preview func(host, port int) string) string {
	switch {
	case v.Preview > 0:
		return preview(max(1, v.Host), v.Preview)
	case len(v.Pick) > 0:
		return v.Pick[chance(seed, v.Name)%uint64(len(v.Pick))]
	case v.High > 0:
		return fmt.Sprint(v.Low + int(chance(seed, v.Name)%uint64(v.High-v.Low+1)))
	}
	return v.Value
}

func chance(seed, name string) uint64 {
	h := sha256.Sum256([]byte(seed + "\x00" + name))
	return binary.BigEndian.Uint64(h[:])
}

// For gives the lesson with the values of one learner. preview gives the
// address of a port's preview, without a final "/".
func (l *Lesson) For(learner string, preview func(host, port int) string) *Lesson {
	if len(l.Vars) == 0 {
		return l
	}
	var plain, escaped, quoted []string
	for _, v := range l.Vars {
		value := v.value(learner+"/"+l.ID, preview)
		plain = append(plain, v.Mark(), value)
		escaped = append(escaped, v.Mark(), html.EscapeString(value))
		quoted = append(quoted, v.Mark(), regexp.QuoteMeta(value))
	}
	p := &filler{strings.NewReplacer(plain...), strings.NewReplacer(escaped...), strings.NewReplacer(quoted...)}
	n := *l
	n.Greeting, n.Open = p.text(l.Greeting), p.text(l.Open)
	n.Intro, n.Finish = p.part(l.Intro), p.part(l.Finish)
	n.Terminals = slices.Clone(l.Terminals)
	for i := range n.Terminals {
		n.Terminals[i].Command = p.text(n.Terminals[i].Command)
	}
	n.Steps = slices.Clone(l.Steps)
	for i := range n.Steps {
		p.step(&n.Steps[i])
	}
	return &n
}

// A filler puts values in the place of marks.
type filler struct{ plain, escaped, quoted *strings.Replacer }

func (p *filler) text(s string) string { return p.plain.Replace(s) }
func (p *filler) html(s string) string { return p.escaped.Replace(s) }

func (p *filler) texts(all []string, f func(string) string) []string {
	all = slices.Clone(all)
	for i := range all {
		all[i] = f(all[i])
	}
	return all
}

func (p *filler) part(t Part) Part {
	return Part{HTML: p.html(t.HTML), Arrival: p.arrival(t.Arrival)}
}

func (p *filler) arrival(a Arrival) Arrival {
	a.Setup, a.Type = slices.Clone(a.Setup), p.commands(a.Type)
	for i := range a.Setup {
		a.Setup[i].Code = p.text(a.Setup[i].Code)
	}
	return a
}

func (p *filler) commands(cs []Command) []Command {
	cs = slices.Clone(cs)
	for i := range cs {
		cs[i].Code = p.text(cs[i].Code)
	}
	return cs
}

func (p *filler) step(s *Step) {
	s.Title, s.HTML = p.text(s.Title), p.html(s.HTML)
	s.Commands, s.Arrival = p.commands(s.Commands), p.arrival(s.Arrival)
	s.Hints = p.texts(s.Hints, p.html)
	s.Solution = Solution{HTML: p.html(s.Solution.HTML), Commands: p.commands(s.Solution.Commands)}
	s.Files = slices.Clone(s.Files)
	for i := range s.Files {
		f := &s.Files[i]
		f.Path, f.Text, f.Marker = p.text(f.Path), p.text(f.Text), p.text(f.Marker)
	}
	s.Checks = slices.Clone(s.Checks)
	for i := range s.Checks {
		p.check(&s.Checks[i])
	}
}

func (p *filler) check(c *Check) {
	c.Name, c.Hint = p.text(c.Name), p.text(c.Hint)
	c.Volume, c.Network, c.Script, c.Prints = p.text(c.Volume), p.text(c.Network), p.text(c.Script), p.text(c.Prints)
	if c.Image != nil {
		i := *c.Image
		i.Ref, i.Path, i.Text = p.text(i.Ref), p.text(i.Path), p.rule(i.Text)
		i.Entrypoint, i.Cmd = p.texts(i.Entrypoint, p.text), p.texts(i.Cmd, p.text)
		i.Env, i.Label = p.texts(i.Env, p.text), p.texts(i.Label, p.text)
		c.Image = &i
	}
	if c.Container != nil {
		k := *c.Container
		k.Name, k.Image, k.Command = p.text(k.Name), p.text(k.Image), p.quoted.Replace(k.Command)
		k.State, k.Health, k.Logs = p.text(k.State), p.text(k.Health), p.rule(k.Logs)
		k.Publishes, k.Mounts = p.texts(k.Publishes, p.text), p.texts(k.Mounts, p.text)
		c.Container = &k
	}
	if c.File != nil {
		f := *c.File
		f.Path, f.Text, f.Archive = p.text(f.Path), p.rule(f.Text), p.text(f.Archive)
		f.TarHas = p.texts(f.TarHas, p.text)
		c.File = &f
	}
	if c.Layer != nil {
		y := *c.Layer
		y.Ref, y.Under = p.text(y.Ref), p.text(y.Under)
		c.Layer = &y
	}
	if c.Ran != nil {
		r := *c.Ran
		r.Pattern = p.pattern(r.Pattern)
		c.Ran = &r
	}
	if c.Port != nil {
		o := *c.Port
		o.Path, o.Body = p.text(o.Path), p.rule(o.Body)
		if n, err := strconv.Atoi(p.text(o.Var)); err == nil {
			o.Port, o.Var = n, ""
		}
		c.Port = &o
	}
	if c.Quiz != nil {
		q := *c.Quiz
		q.Question, q.Equals, q.Contains = p.text(q.Question), p.text(q.Equals), p.text(q.Contains)
		q.Choices = slices.Clone(q.Choices)
		for i := range q.Choices {
			q.Choices[i].Text = p.text(q.Choices[i].Text)
		}
		c.Quiz = &q
	}
}

func (p *filler) rule(r TextRule) TextRule {
	if r.Equals != nil {
		t := p.text(*r.Equals)
		r.Equals = &t
	}
	r.Contains, r.Matches = p.text(r.Contains), p.pattern(r.Matches)
	return r
}

// pattern puts values into a regular expression, where they stand for
// themselves.
func (p *filler) pattern(re *regexp.Regexp) *regexp.Regexp {
	if re == nil {
		return nil
	}
	if filled := p.quoted.Replace(re.String()); filled != re.String() {
		if with, err := regexp.Compile(filled); err == nil {
			return with
		}
	}
	return re
}
