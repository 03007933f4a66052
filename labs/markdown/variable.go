package markdown

import (
	"html"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"berth/labs"
)

// placeholder is {{name}}, {{preview 8080}} or {{preview 2:8080}}.
var placeholder = regexp.MustCompile(`\{\{(?:([a-z][a-z0-9_]{0,31})|preview (?:([1-9]):)?([0-9]{1,5}))\}\}`)

// maxPreviews bounds how many ports one lesson may show.
const maxPreviews = 100

// fill puts the marks of the lesson's values into text that begins in the line
// first of what is read. What only looks like a placeholder stays.
func (l *loader) fill(text string, first int) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	var b strings.Builder
	at, now := 0, first
	for _, m := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(text[at:m[0]])
		whole, line := text[m[0]:m[1]], 0
		if first > 0 {
			now += strings.Count(text[at:m[0]], "\n")
			line = now
		}
		at = m[1]
		if m[2] >= 0 {
			b.WriteString(l.variable(whole, text[m[2]:m[3]], line))
			continue
		}
		host := 1
		if m[4] >= 0 {
			host = int(text[m[4]] - '0')
		}
		port, _ := strconv.Atoi(text[m[6]:m[7]])
		if v, ok := l.preview(host, port, line); ok {
			b.WriteString(v.Mark())
		} else {
			b.WriteString(whole)
		}
	}
	b.WriteString(text[at:])
	return b.String()
}

// fillSettings puts marks into the settings that may hold values.
func (l *loader) fillSettings() {
	s := l.lesson
	s.Greeting, s.Open = l.fill(s.Greeting, 0), l.fill(s.Open, 0)
	for i := range s.Terminals {
		s.Terminals[i].Command = l.fill(s.Terminals[i].Command, 0)
	}
}

// variable gives the mark of a declared value, or the placeholder as it is.
func (l *loader) variable(whole, name string, line int) string {
	var names []string
	for _, v := range l.lesson.Vars {
		if v.Name == name {
			return v.Mark()
		}
		if v.Preview == 0 {
			names = append(names, v.Name)
		}
	}
	if near := nearest(name, names); near != "" {
		l.warn(line, "did you mean `{{"+near+"}}`?", "%s is none of the lesson's `vars`, and is shown as it is", quote(whole))
	}
	return whole
}

// preview gives the value that is the address of a port's preview.
func (l *loader) preview(host, port, line int) (labs.Var, bool) {
	v := labs.Var{Name: "preview " + strconv.Itoa(port), Preview: port}
	if host > 1 {
		v.Name, v.Host = "preview "+strconv.Itoa(host)+":"+strconv.Itoa(port), host
	}
	n := 0
	for _, known := range l.lesson.Vars {
		if known.Name == v.Name {
			return known, true
		}
		if known.Preview > 0 {
			n++
		}
	}
	switch {
	case port < 1 || port > 65535:
		l.add(line, "ports go from 1 to 65535", "there is no port %d", port)
		return v, false
	case host > max(1, l.lesson.Hosts):
		l.add(line, "write `hosts: "+strconv.Itoa(host)+"` in the front matter", "the lesson has no sandbox %d", host)
		if !l.lenient {
			return v, false
		}
		return l.preview(1, port, line)
	case n == maxPreviews:
		l.add(line, "use fewer", "the lesson shows more than %d ports", maxPreviews)
		return v, false
	}
	l.lesson.Vars = append(l.lesson.Vars, v)
	l.nameMarks()
	return v, true
}

// nameMarks tells the report how marks are written, for its messages.
func (l *loader) nameMarks() {
	var pairs []string
	for _, v := range l.lesson.Vars {
		pairs = append(pairs, v.Mark(), "{{"+v.Name+"}}")
	}
	if pairs != nil {
		l.marks = strings.NewReplacer(pairs...)
	}
}

// unmark puts names where text has marks.
func (l *loader) unmark(text string) string {
	if l.marks == nil {
		return text
	}
	return l.marks.Replace(text)
}

// fillAll puts marks into all text that v holds. What v points to is replaced,
// not changed.
func (l *loader) fillAll(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(l.fill(v.String(), 0))
	case reflect.Struct:
		for i := range v.NumField() {
			l.fillAll(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			return
		}
		own := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(own, v)
		v.Set(own)
		for i := range own.Len() {
			l.fillAll(own.Index(i))
		}
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if re, ok := v.Interface().(*regexp.Regexp); ok {
			if filled := l.fill(re.String(), 0); filled != re.String() {
				if with, err := regexp.Compile(filled); err == nil {
					v.Set(reflect.ValueOf(with))
				}
			}
			return
		}
		own := reflect.New(v.Type().Elem())
		own.Elem().Set(v.Elem())
		v.Set(own)
		l.fillAll(own.Elem())
	}
}

// maxFilled bounds how much longer a lesson's values may make it, in bytes: a
// placeholder of a few letters can stand for a thousand.
const maxFilled = 8 << 20

// weigh refuses a lesson that its values would make too long.
func (l *loader) weigh() {
	longest := make(map[string]int, len(l.lesson.Vars))
	for _, v := range l.lesson.Vars {
		n := 0
		for _, text := range append([]string{v.Value}, v.Pick...) {
			n = max(n, len(html.EscapeString(text)))
		}
		if v.Preview > 0 {
			n = previewLength
		}
		longest[v.Mark()] = max(0, n-len(v.Mark()))
	}
	grown := 0
	each := func(text string) {
		for {
			at := strings.Index(text, markBegin)
			if at < 0 {
				return
			}
			text = text[at:]
			end := strings.Index(text[len(markBegin):], markEnd)
			if end < 0 {
				return
			}
			end += len(markBegin) + len(markEnd)
			grown += longest[text[:end]]
			text = text[len(markBegin):]
		}
	}
	s := l.lesson
	for _, part := range []any{s.Intro, s.Steps, s.Finish} {
		eachText(reflect.ValueOf(part), each)
	}
	if grown > maxFilled {
		l.in(s.Source, nil)
		l.fail(0, "use shorter values, or use them less often", "with the values of its `vars` the lesson is longer than %s", bytesInWords(maxFilled))
	}
}

const (
	previewLength = 100  // bytes of a usual preview's address
	markEnd       = "zq" // see labs.Var.Mark
)

// eachText calls f for all text that v holds, but not for patterns.
func eachText(v reflect.Value, f func(string)) {
	switch v.Kind() {
	case reflect.String:
		f(v.String())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[regexp.Regexp]() {
			return
		}
		for i := range v.NumField() {
			eachText(v.Field(i), f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachText(v.Index(i), f)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			eachText(v.Elem(), f)
		}
	}
}

// holdsMark reports whether text holds a mark of a value of the lesson.
func (l *loader) holdsMark(text string, which func(labs.Var) bool) bool {
	for _, v := range l.lesson.Vars {
		if which(v) && strings.Contains(text, v.Mark()) {
			return true
		}
	}
	return false
}
