package markdown

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/ast"
	nethtml "golang.org/x/net/html"

	"berth/labs"
)

// maxChoices bounds what one quiz may ask.
const maxChoices = 50

// A quizText is what a quiz fence holds: texts are Markdown.
type quizText struct {
	question string
	choices  []quizChoice
	answer   string // of a question without choices
	part     bool   // answer need only be part of what is typed
	several  bool
}

type quizChoice struct {
	text  string
	right bool
	line  int
}

var (
	choiceLine = regexp.MustCompile(`^\s*([(\[])([ xX])([)\]])(?:\s+(.*))?$`)
	answerLine = regexp.MustCompile(`^\s*([=~])\s+(.*\S)\s*$`)
)

// parseQuiz reads a quiz that begins in the line first. nil after a mistake.
func parseQuiz(text string, first int, r *report) *quizText {
	q := &quizText{}
	before := r.added
	var asked []string
	kind, rights := "", 0
	for i, line := range strings.Split(text, "\n") {
		at := first + i
		if m := choiceLine.FindStringSubmatch(line); m != nil {
			if pair := m[1] + m[3]; pair != "()" && pair != "[]" {
				r.add(at, "write `( )` or `[ ]`", "the choice begins with %s", quote(m[1]+m[2]+m[3]))
			} else if kind == "" {
				kind = pair
			} else if kind != pair {
				r.add(at, "use `( )` where one is right, `[ ]` where several may be", "the quiz has choices of both kinds")
			}
			c := quizChoice{text: strings.TrimSpace(m[4]), right: m[2] != " ", line: at}
			if c.text == "" {
				r.add(at, "write it behind the brackets", "the choice has no text")
			}
			if c.right {
				rights++
			}
			q.choices = append(q.choices, c)
			continue
		}
		if m := answerLine.FindStringSubmatch(line); m != nil && len(asked) > 0 {
			if q.answer != "" {
				r.add(at, "write one line `= …` or `~ …`", "the quiz has two answers")
			}
			q.answer, q.part = m[2], m[1] == "~"
			continue
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if q.choices != nil || q.answer != "" {
			r.add(at, "write the question first, and each choice on one line", "text stands behind the choices")
			continue
		}
		asked = append(asked, strings.TrimSpace(line))
	}
	q.question, q.several = strings.Join(asked, "\n"), kind == "[]"
	switch {
	case r.added > before:
	case q.question == "":
		r.add(first, "write it before the choices", "the quiz has no question")
	case q.choices == nil && q.answer == "":
		r.add(first, "write choices `( ) …` and `(x) …`, or one line `= …` or `~ …`", "the quiz has no answer")
	case q.choices != nil && q.answer != "":
		r.add(first, "write choices, or one line `= …` or `~ …`", "the quiz has choices and an answer")
	case len(q.choices) > maxChoices:
		r.add(first, "ask for less", "the quiz has more than %d choices", maxChoices)
	case q.choices != nil && rights == 0:
		r.add(first, "mark it with `(x)` or `[x]`", "no choice of the quiz is right")
	case kind == "()" && rights > 1:
		r.add(first, "use `[ ]` and `[x]` where several may be right", "%d choices of the quiz are right", rights)
		q.several = true
		if r.lenient {
			return q
		}
	}
	if r.added > before {
		return nil
	}
	return q
}

// quiz gives the form of a quiz, and adds it to the step's checks.
func (l *loader) quiz(b *fence, f *fragment) ast.Node {
	q := parseQuiz(b.code, b.line+1, l.report)
	if q == nil || len(f.step.Checks) == maxChecks {
		if q != nil {
			l.add(b.line, "divide the step", "the step has more than %d checks", maxChecks)
		}
		b.fate = dropped
		return nil
	}
	quiz := &labs.Quiz{Several: q.several}
	asked := l.sentenceHTML(q.question, b.line+1, f)
	quiz.Question = textOf(asked)
	var choices []string
	for _, c := range q.choices {
		html := l.sentenceHTML(c.text, c.line, f)
		choices = append(choices, html)
		quiz.Choices = append(quiz.Choices, labs.Choice{Text: textOf(html), Right: c.right})
	}
	if q.part {
		quiz.Contains = q.answer
	} else {
		quiz.Equals = q.answer
	}
	name := []rune(quiz.Question)
	if len(name) > 200 {
		name = append(name[:199], '…')
	}
	l.check(labs.Check{Name: string(name), Quiz: quiz}, b.line, f)
	id := f.step.Checks[len(f.step.Checks)-1].ID
	return l.page.block(f, quizHTML(id, asked, choices, q.several), b.line)
}

// quizHTML gives the form; nothing in it says what is right.
func quizHTML(id, question string, choices []string, several bool) string {
	var s strings.Builder
	s.WriteString(`<form class="quiz"` + attr("data-quiz", id) + `><fieldset><legend>` + question + `</legend>`)
	kind := "radio"
	if several {
		kind = "checkbox"
	}
	for i, c := range choices {
		s.WriteString(`<label><input type="` + kind + `" name="a" value="` + strconv.Itoa(i) + `"> ` + c + `</label>`)
	}
	if choices == nil {
		s.WriteString(`<label class="quiz-text"><span>Your answer</span><input type="text" name="text" maxlength="1000" autocomplete="off"></label>`)
	}
	s.WriteString(`</fieldset><div class="quiz-end"><button type="submit" class="quiz-button" disabled>Answer</button><span class="quiz-said" role="status"></span></div></form>`)
	return s.String()
}

// sentenceHTML makes HTML of inline Markdown. What is more than a sentence is
// shown as it is written.
func (l *loader) sentenceHTML(text string, line int, f *fragment) string {
	src := newSource([]byte(text), line)
	if doc := l.parse(src); doc != nil {
		p, ok := doc.FirstChild().(*ast.Paragraph)
		if ok && doc.ChildCount() == 1 {
			h := &fragment{kind: quizFragment, step: f.step, src: src, file: f.file, lines: f.lines, base: f.base, line: line, anchors: f.anchors}
			for n := p.FirstChild(); n != nil; {
				next := n.NextSibling()
				p.RemoveChild(p, n)
				h.nodes = append(h.nodes, n)
				n = next
			}
			l.transform(h)
			// Inputs and blocks of an author's have no place in a form of ours.
			if html := strings.TrimSpace(l.shown(h)); !hasBlock.MatchString(html) {
				return html
			}
		}
	}
	l.warn(line, "write a sentence, in bold or with code where you like", "the text of the quiz is shown as it is written")
	return nethtml.EscapeString(text)
}

var hasBlock = regexp.MustCompile(`(?i)<(input|div|details|summary|p|ul|ol|table|pre|h[1-6]|blockquote|aside|hr)\b`)

// textOf gives what HTML reads like.
func textOf(html string) string {
	z := nethtml.NewTokenizer(strings.NewReader(html))
	var b strings.Builder
	for {
		switch z.Next() {
		case nethtml.ErrorToken:
			return strings.Join(strings.Fields(b.String()), " ")
		case nethtml.TextToken:
			b.WriteString(z.Token().Data)
		}
	}
}
