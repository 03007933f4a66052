package jekyll

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	prompt    = regexp.MustCompile(`^\$ +\S`)
	between   = regexp.MustCompile(`^\s*(?:--+|==+|\*\*+)\s*(\S.*?)\s*(?:--+|==+|\*\*+)\s*$`)
	goesOn    = regexp.MustCompile(`^\s*(?:&&|\|\||\|)\s*\S`)
	anyFence  = regexp.MustCompile("(?m)^\\s*(?:```|~~~)")
	shellNote = regexp.MustCompile(`^#+\s*(\S.*?)\s*$`)
)

// isTranscript reports whether a text is notes of what was typed into a shell:
// lines that begin with "$ ", with what they printed, outside of any block of
// code.
func isTranscript(text string) bool {
	if anyFence.MatchString(text) {
		return false
	}
	prompts := 0
	for line := range strings.SplitSeq(text, "\n") {
		if prompt.MatchString(line) {
			prompts++
		}
	}
	return prompts >= 2
}

// transcript translates notes of what was typed into a shell. Lines with a
// prompt run, what follows up to an empty line is what they print. Lines that
// begin with # are headings, or remarks when they are sentences or stand right
// before a prompt.
func (p *post) transcript(lines []string, first int) {
	title := true
	for i := 0; i < len(lines); i++ {
		line, num := lines[i], first+i
		t := strings.TrimSpace(line)
		after := ""
		if i+1 < len(lines) {
			after = lines[i+1]
		}
		alone := i == 0 || strings.TrimSpace(lines[i-1]) == ""
		switch m := shellNote.FindStringSubmatch(line); {
		case prompt.MatchString(line):
			i = p.session(lines, i, first)
			title = false
		case title && t != "":
			p.titleLine(t, num)
			title = false
		case between.MatchString(line) && alone:
			p.add("**"+escape(between.FindStringSubmatch(line)[1])+"**", num)
			p.add("", num)
		case m != nil && (isSentence(m[1]) || prompt.MatchString(after)):
			p.add(m[1], num)
			p.add("", num)
		case m != nil:
			p.heading(2, escape(m[1]), "", num)
		case alone && isHeading(t) && strings.TrimSpace(after) != "" && !prompt.MatchString(after) && len(after) > len(t):
			p.heading(2, escape(t), "", num)
			p.add("", num)
		default:
			p.add(t, num)
		}
	}
}

// titleLine makes the first line of a transcript its title.
func (p *post) titleLine(t string, num int) {
	if m := between.FindStringSubmatch(t); m != nil {
		t = m[1]
	}
	t = strings.TrimSpace(strings.TrimLeft(t, "#"))
	if isSentence(t) && !strings.HasSuffix(t, "?") && len(t) > 80 {
		p.add(t, num)
		return
	}
	p.heading(1, escape(t), "", num)
}

// session writes the commands that begin in line i, with what they print, as a
// block of ours, and gives its last line.
func (p *post) session(lines []string, i, first int) int {
	last := i
	for last+1 < len(lines) && strings.TrimSpace(lines[last+1]) != "" {
		if shellNote.MatchString(lines[last+1]) && last+2 < len(lines) && prompt.MatchString(lines[last+2]) {
			break // a remark on the next command
		}
		last++
	}
	code := make([]string, 0, last-i+1)
	nums := make([]int, 0, last-i+1)
	for n := i; n <= last; n++ {
		line := strings.TrimRight(lines[n], " \t")
		// A command that was too long for its line.
		if k := len(code); k > 0 && prompt.MatchString(code[k-1]) && goesOn.MatchString(line) {
			code[k-1] += " " + strings.TrimSpace(line)
			continue
		}
		code = append(code, noRoot(line))
		nums = append(nums, first+n)
	}
	fence := fenceFor(code)
	p.add("", first+i)
	p.add(fence+"console", first+i)
	for n, line := range code {
		p.add(line, nums[n])
	}
	p.add(fence, first+last)
	p.add("", first+last)
	return last
}

// noRoot keeps a line that a command printed from being read as one of root's.
func noRoot(line string) string {
	if strings.HasPrefix(line, "# ") {
		return " " + line
	}
	return line
}

// isSentence reports whether a text ends as a sentence does.
func isSentence(s string) bool {
	last, _ := utf8.DecodeLastRuneInString(strings.TrimRight(s, ` "')*_`))
	return strings.ContainsRune(".!?:;…", last)
}

// isHeading reports whether a line looks like a heading: a few words, the first
// with a capital, that are no sentence.
func isHeading(s string) bool {
	c, _ := utf8.DecodeRuneInString(s)
	words := len(strings.Fields(s))
	return words >= 1 && words <= 6 && len(s) <= 60 && unicode.IsUpper(c) && !isSentence(s) && !strings.HasSuffix(s, ",")
}

// escape makes Markdown of plain text.
func escape(s string) string {
	return escaper.Replace(s)
}

var escaper = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, "#", `\#`)
