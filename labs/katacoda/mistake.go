package katacoda

import (
	"fmt"
	"slices"
	"strings"

	"berth/labs"
)

// maxMistakes bounds what is told about one scenario or about the courses.
const maxMistakes = 200

// A report collects mistakes.
type report struct {
	mistakes []labs.Mistake
	failed   bool // one of them is not a warning
}

// add notes a mistake that keeps something from loading; line and hint may be
// left out.
func (r *report) add(file string, line int, hint, what string, args ...any) {
	r.failed = true
	r.note(labs.Mistake{File: file, Line: line, What: fmt.Sprintf(what, args...), Hint: hint})
}

// warn notes a mistake that is survived.
func (r *report) warn(file string, line int, hint, what string, args ...any) {
	r.note(labs.Mistake{File: file, Line: line, What: fmt.Sprintf(what, args...), Hint: hint, Warn: true})
}

// note keeps the mistakes that matter most when there are too many: those that
// are no warnings always have a place.
func (r *report) note(m labs.Mistake) {
	if len(r.mistakes) < maxMistakes {
		r.mistakes = append(r.mistakes, m)
		return
	}
	if m.Warn {
		return
	}
	if i := slices.IndexFunc(r.mistakes, func(m labs.Mistake) bool { return m.Warn }); i >= 0 {
		r.mistakes = append(slices.Delete(r.mistakes, i, i+1), m)
	}
}

// quote puts a word of the author's between backticks, cut and without
// anything that could disturb a terminal.
func quote(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == '`' {
			return '?'
		}
		return c
	}, s)
	if r := []rune(s); len(r) > 80 {
		s = string(r[:77]) + "…"
	}
	return "`" + s + "`"
}

// nearest gives the word of valid that a typing mistake may have turned into
// word, or "".
func nearest(word string, valid []string) string {
	word = strings.ToLower(word)
	if len(word) > 40 {
		return ""
	}
	best, found := 1+max(1, len(word)/4), ""
	for _, v := range valid {
		if d := distance(word, strings.ToLower(v), best); d < best {
			best, found = d, v
		}
	}
	return found
}
