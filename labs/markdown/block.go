package markdown

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/ast"

	"berth/labs"
)

// fence gives what stands in the page for a fence, or nil for nothing.
func (l *loader) fence(n *ast.FencedCodeBlock, f *fragment) ast.Node {
	src, info := f.src, ""
	if n.Info != nil {
		info = string(n.Info.Segment.Value(src.text))
	}
	before := l.added
	line := src.line(max(0, n.Pos()))
	code := string(n.Lines().Value(src.text))
	if !closed(src, n) {
		l.add(line, "end it with a line of the same marks", "the block is not closed")
		if !l.lenient {
			return nil
		}
		src.closeFence(n)
	}
	b, ok := parseFence(info, line, code, l.report)
	if !l.lenient {
		l.warnOfSwallowed(src, n)
	}
	var put ast.Node
	if ok && l.hostFits(b) && l.belongs(b, f) {
		put = l.block(b, f)
	} else {
		put = l.still(b, f)
	}
	if l.added > before && l.lenient && b != nil {
		src.mendFence(n, b)
	}
	return put
}

// opensOurs is a line that begins one of our blocks.
var opensOurs = regexp.MustCompile("^ {0,3}```(" + strings.Join(ourWords, "|") + ")\\s*(\\{.*)?\n?$")

// warnOfSwallowed tells of a block that stands inside another of three marks:
// most likely the one before was not closed.
func (l *loader) warnOfSwallowed(src *source, n *ast.FencedCodeBlock) {
	open := max(0, n.Pos())
	if bytes.HasPrefix(src.text[open:], []byte("````")) || src.text[open] != '`' {
		return
	}
	for i := range n.Lines().Len() {
		at := n.Lines().At(i)
		if m := opensOurs.FindSubmatch(at.Value(src.text)); m != nil {
			l.warn(src.line(at.Start), "close the block before it, or begin that one with four marks", "a `%s` block begins inside another block, and is only text there", m[1])
			return
		}
	}
}

// block gives what stands in the page for a fence without a mistake.
func (l *loader) block(b *fence, f *fragment) ast.Node {
	line := b.line
	switch b.word {
	case "sh":
		switch {
		case b.has(".norun"), b.has("keys") && !f.runs():
			return l.page.block(f, l.plainBlock(b.code, b.lexer), line)
		case b.has("copy") || !f.runs():
			return l.page.block(f, l.copyBlock(b.code, b.lexer), line)
		}
		return l.run(b, f)
	case "console":
		return l.console(b, f)
	case "file":
		return l.fileWriter(b, f)
	case "hint":
		src := newSource([]byte(b.code+"\n"), line+1)
		l.hint(src, f)
		b.code = src.mended()
	case "solution":
		if b.has("markdown") {
			src := newSource([]byte(b.code+"\n"), line+1)
			l.solution(src, f)
			b.code = src.mended()
		} else {
			l.shellSolution(b, f)
		}
	case "setup":
		a := f.arrival()
		a.Setup = append(a.Setup, labs.Setup{Code: b.code + "\n", Host: b.host()})
	case "start":
		l.start(b, f)
	case "check":
		b.fate = dropped
		if c := parseCheck(b.code, line+1, l.lesson.Vars, l.report); c != nil && l.check(*c, line, f) {
			b.fate = used
		}
	case "quiz":
		return l.quiz(b, f)
	default:
		if b.has("copy") {
			return l.page.block(f, l.copyBlock(b.code, b.lexer), line)
		}
		return l.page.block(f, l.plainBlock(b.code, b.lexer), line)
	}
	return nil
}

// still gives what is left of a block that has a mistake: its text, where that
// tells a learner nothing they should not know.
func (l *loader) still(b *fence, f *fragment) ast.Node {
	if !l.lenient || b == nil || slices.Contains([]string{"check", "quiz", "solution", "hint", "setup", "start"}, b.word) {
		if b != nil {
			b.fate = dropped
		}
		return nil
	}
	b.fate = plainly
	return l.page.block(f, l.plainBlock(b.code, b.lexer), b.line)
}

// belongs reports whether the block can stand in the fragment.
func (l *loader) belongs(b *fence, f *fragment) bool {
	switch b.word {
	case "file", "hint", "solution", "check", "quiz":
		if f.kind != stepFragment {
			l.add(b.line, "move it into a step", "a `%s` block cannot stand %s", b.word, where[f.kind])
			return false
		}
	case "setup", "start":
		if f.arrival() == nil {
			l.add(b.line, "move it into a step", "a `%s` block cannot stand %s", b.word, where[f.kind])
			return false
		}
	default:
		return true
	}
	if b.word != "file" && strings.TrimSpace(b.code) == "" {
		l.add(b.line, "", "the `%s` block is empty", b.word)
		return false
	}
	return true
}

// fileWriter gives the block that writes a file.
func (l *loader) fileWriter(b *fence, f *fragment) ast.Node {
	step := f.step
	block := labs.FileBlock{
		ID: nth(step.ID, "file-", len(step.Files)+1), Path: b.attrs["path"], Text: b.code,
		Mode: labs.FileMode(b.attrs["mode"]), Marker: b.attrs["marker"], Host: b.host(),
	}
	if block.Text != "" {
		block.Text += "\n"
	}
	step.Files = append(step.Files, block)
	return l.page.block(f, l.fileBlock(block), b.line)
}

// check adds a check to the step, and reports whether there was room.
func (l *loader) check(c labs.Check, line int, f *fragment) bool {
	if len(f.step.Checks) == maxChecks {
		l.add(line, "divide the step", "the step has more than %d checks", maxChecks)
		return false
	}
	c.ID = nth(f.step.ID, "", len(f.step.Checks)+1)
	f.step.Checks = append(f.step.Checks, c)
	return true
}

// start adds a command that is typed when the learner comes to the part.
func (l *loader) start(b *fence, f *fragment) {
	c := b.command()
	if !l.mayRun(c, b.line) {
		b.fate = dropped
		return
	}
	a := f.arrival()
	c.ID = nth(f.id(), "start-", len(a.Type)+1)
	a.Type = append(a.Type, c)
}

// command gives what the fence runs, without an id.
func (f *fence) command() labs.Command {
	return labs.Command{
		Code: f.code, Terminal: f.terminal(), Interrupt: f.has("interrupt"), Once: f.has("once"),
		Keys: f.has("keys"), NoEnter: f.has("no-enter"),
	}
}

// mayRun counts a command, and reports whether it can be one of the lesson's.
func (l *loader) mayRun(c labs.Command, line int) bool {
	if strings.ContainsFunc(c.Code, isBidiControl) {
		l.add(line, "remove it", "the command holds a character that makes it look different from what it does")
		return false
	}
	if l.n++; l.n > maxCommands {
		if l.n == maxCommands+1 {
			l.add(line, "divide the lesson", "the lesson has more than %d commands", maxCommands)
		}
		return false
	}
	return true
}

// command adds a command to the step, or to its solution.
func (l *loader) command(b *fence, f *fragment, code string, line int) (labs.Command, bool) {
	c := b.command()
	c.Code = code
	if !l.mayRun(c, line) {
		return labs.Command{}, false
	}
	if f.kind == solutionFragment {
		return l.solve(c, f.step), true
	}
	c.ID = nth(f.step.ID, "", len(f.step.Commands)+1)
	f.step.Commands = append(f.step.Commands, c)
	return c, true
}

// solve adds a command to the step's solution.
func (l *loader) solve(c labs.Command, step *labs.Step) labs.Command {
	s := &step.Solution
	c.ID = nth(step.ID, "solution-", len(s.Commands)+1)
	s.Commands = append(s.Commands, c)
	return c
}

// run gives the block that runs a fence's code.
func (l *loader) run(b *fence, f *fragment) ast.Node {
	if strings.TrimSpace(b.code) == "" {
		l.add(b.line, "", "the `sh` block is empty")
		b.fate = dropped
		return nil
	}
	if b.lexer == nil {
		b.known(l.report)
	}
	c, ok := l.command(b, f, b.code, b.line)
	if !ok {
		return l.still(b, f)
	}
	return l.page.block(f, l.runBlock(c, b.lexer), b.line)
}

// console gives the block of a transcript.
func (l *loader) console(b *fence, f *fragment) ast.Node {
	parts, ok := parseTranscript(b.code, b.line+1, l.report)
	if !ok {
		return l.still(b, f)
	}
	var s strings.Builder
	for _, p := range parts {
		switch {
		case p.prompt == "":
			s.WriteString(outputLines(p))
		case !f.runs() || b.has(".norun"):
			s.WriteString(l.consoleLine(p, b, "", ""))
		default:
			c, ok := l.command(b, f, p.text, p.line)
			if !ok {
				if !l.lenient {
					return nil
				}
				s.WriteString(l.consoleLine(p, b, "", ""))
				continue
			}
			s.WriteString(l.consoleLine(p, b, runData(c), runTool))
		}
	}
	return l.page.block(f, blockHTML("console", "", s.String(), ""), b.line)
}

// inner makes the page of Markdown that stands inside a step.
func (l *loader) inner(kind fragmentKind, src *source, f *fragment) (string, bool) {
	doc := l.parse(src)
	if doc == nil {
		code := strings.TrimRight(string(shallow(src.text)), "\n")
		src.edits = []edit{{0, len(src.text), Fence("", code)}}
		return l.plainBlock(code, nil) + "\n", l.lenient
	}
	h := &fragment{
		kind: kind, step: f.step, src: src, file: f.file, lines: f.lines, base: f.base, line: src.first,
		anchors: f.anchors,
	}
	for n := doc.FirstChild(); n != nil; {
		next := n.NextSibling()
		doc.RemoveChild(doc, n)
		h.nodes = append(h.nodes, n)
		n = next
	}
	l.inners++
	h.notes = "fn" + strconv.Itoa(l.inners) + "-"
	h.walk(func(n ast.Node) {
		if h, ok := n.(*ast.Heading); ok {
			h.RemoveAttributes()
		}
	})
	l.transform(h)
	if l.failed {
		return "", false
	}
	return l.shown(h), true
}

// hint adds a hint to the step.
func (l *loader) hint(src *source, f *fragment) {
	if html, ok := l.inner(hintFragment, src, f); ok && html != "" {
		f.step.Hints = append(f.step.Hints, html)
	}
}

// solution adds Markdown to the step's solution, whose commands are its.
func (l *loader) solution(src *source, f *fragment) {
	if html, ok := l.inner(solutionFragment, src, f); ok {
		f.solved.WriteString(html)
	}
}

// shellSolution adds commands to the step's solution.
func (l *loader) shellSolution(b *fence, f *fragment) {
	commands, whole := splitCommands(b.code)
	if !whole {
		l.add(b.line, "close its quote, bracket, loop or here-document", "the last command of the solution does not end")
		b.fate = dropped
		return
	}
	if len(commands) == 0 {
		l.add(b.line, "", "the solution holds no command")
		b.fate = dropped
		return
	}
	shell := &fence{word: "sh"}
	shell.known(l.report)
	for _, code := range commands {
		c := labs.Command{Code: code, Terminal: "1"}
		if !l.mayRun(c, b.line) {
			return
		}
		f.solved.WriteString(l.runBlock(l.solve(c, f.step), shell.lexer) + "\n")
	}
}
