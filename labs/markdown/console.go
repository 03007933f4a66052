package markdown

import (
	"html"
	"strings"
)

// A transcript is what a `console` fence shows: commands, each with what it
// printed.
type transcript []transcriptPart

type transcriptPart struct {
	prompt string // "$ " or "# "; "" for output
	text   string // the command as one types it, or the lines of output
	line   int    // in the file
}

// parseTranscript reads lines: those that begin with a prompt are commands,
// which go on through lines that begin with `> ` as long as the shell would ask
// for more; the others are output.
func parseTranscript(code string, first int, r *report) (transcript, bool) {
	var out transcript
	lines := strings.Split(code, "\n")
	for i := 0; i < len(lines); i++ {
		at := first + i
		prompt, command := splitPrompt(lines[i])
		if prompt == "" {
			if n := len(out); n > 0 && out[n-1].prompt == "" {
				out[n-1].text += "\n" + lines[i]
			} else {
				out = append(out, transcriptPart{"", lines[i], at})
			}
			continue
		}
		var reader shellReader
		reader.read(command)
		for !reader.complete() && i+1 < len(lines) {
			i++
			next := lines[i]
			if next == ">" {
				next = ""
			}
			next = strings.TrimPrefix(next, "> ")
			reader.read(next)
			command += "\n" + next
		}
		if !reader.complete() {
			r.add(at, "close its quote, bracket, loop or here-document; lines that go on begin with `> `", "the command does not end")
			return nil, false
		}
		if strings.TrimSpace(command) != "" {
			out = append(out, transcriptPart{prompt, command, at})
		}
	}
	roots, users := 0, 0
	for _, p := range out {
		switch p.prompt {
		case "# ":
			roots = p.line
		case "$ ":
			users++
		}
	}
	switch {
	case roots+users == 0:
		r.warn(first-1, "begin commands with `$ `, or use a `text` block", "the transcript holds no command")
	case roots > 0 && users > 0:
		r.warn(roots, "write comments as text outside the block", "a line that begins with `# ` is a command, run as root")
	}
	return out, true
}

func splitPrompt(line string) (prompt, command string) {
	for _, p := range []string{"$ ", "# "} {
		if rest, ok := strings.CutPrefix(line, p); ok {
			return p, rest
		}
	}
	return "", ""
}

// consoleLine gives a command of a transcript; data and tools are empty when
// it does not run.
func (h *highlighter) consoleLine(p transcriptPart, f *fence, data, tools string) string {
	var b strings.Builder
	b.WriteString(`<span class="line command"` + data + `>`)
	prompt := p.prompt
	for line := range strings.SplitSeq(p.text, "\n") {
		if prompt != p.prompt {
			b.WriteString("\n")
		}
		b.WriteString(`<span class="prompt">` + html.EscapeString(prompt) + `</span>` + h.html(f.lexer, line))
		prompt = "> "
	}
	b.WriteString(tools + "\n</span>")
	return b.String()
}

// outputLines gives what a command printed, a line each.
func outputLines(p transcriptPart) string {
	var b strings.Builder
	for line := range strings.SplitSeq(p.text, "\n") {
		b.WriteString(`<span class="line output">` + html.EscapeString(line) + "\n</span>")
	}
	return b.String()
}
