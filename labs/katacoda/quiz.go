package katacoda

import (
	"strings"
)

// maxQuestion bounds the lines of a question.
const maxQuestion = 10

// asks reports whether a quiz begins in the line t.at: >>question<<.
func (t *translation) asks(r string) bool {
	_, n := t.question(r)
	return n > 0
}

// question gives what a quiz asks, and how many lines it takes; 0 when r does
// not begin one.
func (t *translation) question(r string) (string, int) {
	if !strings.HasPrefix(r, ">>") {
		return "", 0
	}
	line := r[2:]
	var asked []string
	for n := 1; ; n++ {
		if text, ok := strings.CutSuffix(strings.TrimRight(line, " \t"), "<<"); ok {
			asked = append(asked, strings.TrimSpace(text))
			return strings.TrimSpace(strings.Join(asked, " ")), n
		}
		if n == maxQuestion || t.at+n >= len(t.src) {
			return "", 0
		}
		asked = append(asked, strings.TrimSpace(line))
		var gone bool
		if line, gone = t.content(t.src[t.at+n]); gone || isBlank(line) {
			return "", 0
		}
		line = strings.TrimLeft(line, " \t")
		if strings.HasPrefix(line, ">>") {
			return "", 0
		}
	}
}

// An answer is one line of the answers of a quiz.
type answer struct {
	sign  string // "(", "[", "===" or "=~="
	right bool
	text  string
	num   int
}

// parseAnswer reads (*) text, [ ] text, === text or =~= text.
func parseAnswer(s string) (answer, bool) {
	s = strings.TrimSpace(s)
	for _, sign := range []string{"===", "=~="} {
		if text, ok := strings.CutPrefix(s, sign); ok {
			text = strings.TrimSpace(text)
			return answer{sign: sign, right: true, text: text}, text != "" && strings.Trim(text, "=") != ""
		}
	}
	for _, pair := range []string{"()", "[]"} {
		if !strings.HasPrefix(s, pair[:1]) {
			continue
		}
		end := strings.Index(s, pair[1:])
		if end < 1 || end > 3 {
			return answer{}, false
		}
		text := strings.TrimSpace(s[end+1:])
		switch strings.TrimSpace(s[1:end]) {
		case "":
			return answer{sign: pair[:1], text: text}, text != ""
		case "*", "x", "X":
			return answer{sign: pair[:1], right: true, text: text}, text != ""
		}
	}
	return answer{}, false
}

// maxAnswers bounds the answers of one quiz.
const maxAnswers = 50

// quiz reads a quiz that begins in the line t.at, and writes it.
func (t *translation) quiz(r string) {
	first := t.at + 1
	asked, n := t.question(r)
	t.at += n
	var answers []answer
	for i := t.at; i < len(t.src) && len(answers) < maxAnswers; i++ {
		line, gone := t.content(t.src[i])
		if gone {
			break
		}
		if isBlank(line) {
			if i > t.at+1 {
				break // two empty lines end it
			}
			continue
		}
		a, ok := parseAnswer(line)
		if !ok {
			break
		}
		a.num = i + 1
		answers = append(answers, a)
		t.at = i + 1
	}
	b := t.quizBlock(asked, answers, first)
	if b == nil {
		return
	}
	t.block("quiz", *b, first, t.at)
}

// quizBlock gives the quiz in our format; nil when it cannot be answered, and
// was written as text.
func (t *translation) quizBlock(asked string, answers []answer, first int) *block {
	var texts, choices []answer
	rights := 0
	for _, a := range answers {
		if a.sign == "===" || a.sign == "=~=" {
			texts = append(texts, a)
			continue
		}
		choices = append(choices, a)
		if a.right {
			rights++
		}
	}
	wrong := ""
	switch {
	case asked == "" && len(answers) > 0:
		wrong = "the quiz asks nothing"
	case len(choices) > 0 && rights == 0 && len(texts) == 0:
		wrong = "no answer of the quiz is right"
	}
	if wrong != "" {
		t.warnAt(first, "write the question, and the right answer as `(*) …`", "%s, and is shown as text", wrong)
	}
	if wrong != "" || len(answers) == 0 { // what has no answers is a task in words
		if asked != "" {
			t.emit(startOfText(t.sentence(asked, first)), first)
			t.emit("", first)
		}
		for _, a := range answers {
			t.emit("- "+t.sentence(a.text, a.num), a.num)
		}
		if len(answers) > 0 {
			t.emit("", t.at)
		}
		return nil
	}
	b := &block{}
	b.add(plainQuestion(t.quizText(asked, first)), first)
	if rights == 0 { // it is typed in
		if len(texts) > 1 || len(choices) > 0 {
			t.warnAt(texts[0].num, "ask for one", "the quiz has more than one answer; only %s is right here", quote(texts[0].text))
		}
		sign := "= "
		if texts[0].sign == "=~=" {
			sign = "~ "
		}
		b.add(sign+t.inCode(texts[0].text, false), texts[0].num)
		return b
	}
	if len(texts) > 0 {
		t.warnAt(texts[0].num, "", "the quiz has choices, and this answer is left out")
	}
	several := rights > 1
	for _, a := range choices {
		several = several || a.sign == "["
	}
	for _, a := range choices {
		sign := " "
		if a.right {
			sign = "x"
		}
		if several {
			sign = "[" + sign + "] "
		} else {
			sign = "(" + sign + ") "
		}
		b.add(sign+t.quizText(a.text, a.num), a.num)
	}
	return b
}

// quizText gives the text of a question or choice: nothing runs in it.
func (t *translation) quizText(s string, num int) string {
	killercoda := t.p.killercoda
	t.p.killercoda = false
	w := &spanWriter{t: t, s: s, nums: []int{num}, links: 1}
	w.write()
	t.p.killercoda = killercoda
	return startOfText(w.cur.String())
}

// plainQuestion keeps a question from being read as an answer.
func plainQuestion(s string) string {
	if _, ok := parseAnswer(s); ok || strings.HasPrefix(s, "= ") || strings.HasPrefix(s, "~ ") {
		return `\` + s
	}
	return s
}
