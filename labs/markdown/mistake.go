package markdown

import (
	"fmt"
	"slices"
	"strings"

	"berth/labs"
)

// maxMistakes bounds what is reported about one lesson: after so many the
// author has read enough, and a hostile file cannot fill memory with them.
const maxMistakes = 100

// A report collects the mistakes of a lesson.
type report struct {
	file     string   // that is being read
	lines    []int    // for each of its lines the one to name; nil: the same
	files    []string // in the order they were read
	lenient  bool     // mistakes are warnings, and the reader goes on
	mistakes []labs.Mistake
	failed   bool // one of them is not a warning
	added    int  // calls of add

	marks *strings.Replacer // puts {{name}} in the place of marks, or nil
}

// in says where the text that is read from now on stands.
func (r *report) in(file string, lines []int) {
	r.file, r.lines = file, lines
	if !slices.Contains(r.files, file) {
		r.files = append(r.files, file)
	}
}

// add notes a mistake that keeps the lesson from loading, unless the report is
// lenient. hint may be empty.
func (r *report) add(line int, hint, what string, args ...any) {
	r.added++
	if r.lenient {
		r.warn(line, hint, what, args...)
	} else {
		r.fail(line, hint, what, args...)
	}
}

// fail notes a mistake that no reader can go on after.
func (r *report) fail(line int, hint, what string, args ...any) {
	m := r.mistake(line, hint, what, args)
	if len(r.mistakes) == maxMistakes && !r.failed {
		r.mistakes[maxMistakes-1] = m // why it does not load must be said
	}
	r.failed = true
	r.note(m)
}

// warn notes a mistake that the lesson survives.
func (r *report) warn(line int, hint, what string, args ...any) {
	m := r.mistake(line, hint, what, args)
	m.Warn = true
	r.note(m)
}

func (r *report) mistake(line int, hint, what string, args []any) labs.Mistake {
	m := labs.Mistake{File: r.file, Line: r.place(line), What: fmt.Sprintf(what, args...), Hint: hint}
	if r.marks != nil {
		m.What, m.Hint = r.marks.Replace(m.What), r.marks.Replace(m.Hint)
	}
	return m
}

// place gives the line of the file for a line of what is read.
func (r *report) place(line int) int {
	if r.lines == nil || line <= 0 {
		return line
	}
	for i := min(line, len(r.lines)) - 1; i >= 0; i-- {
		if r.lines[i] > 0 {
			return r.lines[i]
		}
	}
	return 0
}

func (r *report) note(m labs.Mistake) {
	if len(r.mistakes) < maxMistakes {
		r.mistakes = append(r.mistakes, m)
	}
}

// sorted gives the mistakes in the order of the files.
func (r *report) sorted() []labs.Mistake {
	slices.SortStableFunc(r.mistakes, func(a, b labs.Mistake) int {
		if a.File != b.File {
			return slices.Index(r.files, a.File) - slices.Index(r.files, b.File)
		}
		return a.Line - b.Line
	})
	return r.mistakes
}

// quote puts a word of the author's between backticks, cut and without
// anything that could disturb a terminal.
func quote(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || isBidiControl(c) {
			return '?'
		}
		return c
	}, s)
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "…"
	}
	return "`" + s + "`"
}

// didYouMean hints at the valid word that is nearest to a wrong one, or else
// lists them.
func didYouMean(word string, valid []string) string {
	if near := nearest(word, valid); near != "" {
		return "did you mean " + quote(near) + "?"
	}
	return thereAre(valid)
}

// thereAre lists the valid words.
func thereAre(valid []string) string {
	if len(valid) == 1 {
		return "there is only " + quote(valid[0])
	}
	return "there are " + list(valid, "and")
}

// list joins words as English does: `a`, `b` and `c`.
func list(words []string, and string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" " + and + " ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(quote(w))
	}
	return b.String()
}

// nearest gives the valid word that a typing mistake may have turned into word,
// or "" when none is near. The first of equally near ones wins.
func nearest(word string, valid []string) string {
	word = strings.ToLower(word)
	if len(word) > 40 {
		return ""
	}
	best, found := 1+max(1, len(word)/3), ""
	for i, v := range valid {
		v = strings.ToLower(v)
		d := distance(word, v)
		if len(word) >= 3 && strings.HasPrefix(v, word) {
			d = min(d, 1) // it was cut short
		}
		if d < best {
			best, found = d, valid[i]
		}
	}
	return found
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour to make b out of a.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
