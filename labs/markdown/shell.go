package markdown

import (
	"slices"
	"strings"
)

// maxShellDepth bounds how many quotes, brackets and loops are followed.
const maxShellDepth = 200

// A shellReader follows lines of shell far enough to know where a command
// ends: quotes, here-documents, brackets, loops and lines that go on.
type shellReader struct {
	open  []string // what closes each thing that is open: `"`, `)`, "done", …
	docs  []hereDoc
	inDoc bool
	goes  bool // the last line ends in \
	joins bool // the last line ends in |, && or ||
}

type hereDoc struct {
	end  string
	tabs bool // <<-: the end may be indented
}

// complete reports whether the lines so far are whole commands.
func (s *shellReader) complete() bool {
	return len(s.open) == 0 && len(s.docs) == 0 && !s.goes && !s.joins
}

func (s *shellReader) top() string {
	if len(s.open) == 0 {
		return ""
	}
	return s.open[len(s.open)-1]
}

func (s *shellReader) push(end string) {
	if len(s.open) < maxShellDepth {
		s.open = append(s.open, end)
	}
}

func (s *shellReader) pop() { s.open = s.open[:len(s.open)-1] }

// read takes the next line, without its newline.
func (s *shellReader) read(line string) {
	if s.inDoc {
		d := s.docs[0]
		if d.tabs {
			line = strings.TrimLeft(line, "\t")
		}
		if line == d.end {
			s.docs = s.docs[1:]
			s.inDoc = len(s.docs) > 0
		}
		return
	}
	if s.joins && strings.TrimSpace(line) == "" {
		return
	}
	s.goes, s.joins = false, false
	word := ""       // the one being read
	start := true    // a command may begin here
	blank := true    // the character before is blank or begins a word
	var last [2]byte // the last characters, without blanks and comments
	endWord := func() {
		if word != "" && start {
			start = s.keyword(word)
		}
		word = ""
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch s.top() {
		case "'", "$'":
			if c == '\'' {
				s.pop()
			} else if c == '\\' && s.top() == "$'" {
				i++
			}
			blank, last = false, [2]byte{}
			continue
		case `"`, "`", "}":
			switch {
			case c == '\\':
				i++
			case s.top()[0] == c:
				s.pop()
			case s.top() == "`": // bash looks for its end first, and into it later
			case c == '"' && s.top() != `"`:
				s.push(`"`)
			case c == '\'' && s.top() != `"`:
				s.push("'")
			case c == '`':
				s.push("`")
			case c == '$' && i+1 < len(line) && line[i+1] == '(':
				s.push("$)")
				i++
				start, word, blank = true, "", true
			case c == '$' && i+1 < len(line) && line[i+1] == '{':
				s.push("}")
				i++
			}
			if c == '\\' && i >= len(line) {
				s.goes = true
			}
			if s.top() != "$)" {
				blank = false
			}
			last = [2]byte{}
			continue
		}
		switch c {
		case ' ', '\t':
			endWord()
			blank = true
			continue
		case '#':
			if blank && word == "" {
				i = len(line)
				continue
			}
			word += "#"
		case '\\':
			if i+1 == len(line) {
				s.goes = true
			}
			i++
			word += `\`
		case '\'', '"', '`':
			s.push(string(c))
			word += string(c)
		case '$':
			word += "$"
			switch {
			case strings.HasPrefix(line[i:], "$(("):
				s.push("))")
				i += 2
			case strings.HasPrefix(line[i:], "$("):
				s.push("$)")
				i++
				word, start = "", true
			case strings.HasPrefix(line[i:], "${"):
				s.push("}")
				i++
			case strings.HasPrefix(line[i:], "$'"):
				s.push("$'")
				i++
			}
		case '(':
			endWord()
			if strings.HasPrefix(line[i:], "((") {
				s.push("))")
				i++
			} else {
				s.push(")")
			}
			start = true
		case ')':
			endWord()
			start = false
			switch {
			case s.top() == ")":
				s.pop()
				start = true // f() {
			case s.top() == "$)":
				s.pop()
				start = false
			case s.top() == "))" && strings.HasPrefix(line[i:], "))"):
				s.pop()
				i++
			}
			start = start || s.top() == "esac"
		case ';', '&', '|':
			endWord()
			start = true
		case '<':
			endWord()
			if strings.HasPrefix(line[i:], "<<<") {
				i += 2
			} else if strings.HasPrefix(line[i:], "<<") && s.top() != "))" {
				i = s.hereDoc(line, i+2) - 1
			}
		case '>':
			endWord()
		default:
			word += string(c)
		}
		blank = strings.IndexByte(" \t;&|()<>", c) >= 0
		last = [2]byte{last[1], c}
	}
	endWord()
	s.joins = last[1] == '|' || last == [2]byte{'&', '&'}
	s.inDoc = len(s.docs) > 0
}

// keyword follows a word where a command may begin, and reports whether a
// command may begin behind it as well.
func (s *shellReader) keyword(word string) bool {
	switch word {
	case "if":
		s.push("fi")
	case "for", "select", "while", "until":
		s.push("done")
		return word == "while" || word == "until"
	case "case":
		s.push("esac")
		return false
	case "{":
		s.push("{}")
	case "then", "do", "else", "elif", "!", "time":
	case "}":
		if s.top() == "{}" {
			s.pop()
		}
		return false
	case "fi", "done", "esac":
		if s.top() == word {
			s.pop()
		}
		return false
	default:
		return false
	}
	return true
}

// hereDoc reads the word behind << and gives the offset behind it.
func (s *shellReader) hereDoc(line string, i int) int {
	var d hereDoc
	if i < len(line) && line[i] == '-' {
		d.tabs = true
		i++
	}
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	var word strings.Builder
	var in byte
	for ; i < len(line); i++ {
		c := line[i]
		switch {
		case in != 0 && c == in:
			in = 0
			continue
		case in == 0 && (c == '\'' || c == '"'):
			in = c
			continue
		case in == 0 && c == '\\':
			continue
		case in == 0 && strings.IndexByte(" \t;&|()<>", c) >= 0:
			d.end = word.String()
			if d.end != "" && len(s.docs) < maxShellDepth {
				s.docs = append(s.docs, d)
			}
			return i
		}
		word.WriteByte(c)
	}
	d.end = word.String()
	if d.end != "" && len(s.docs) < maxShellDepth {
		s.docs = append(s.docs, d)
	}
	return i
}

// splitCommands takes shell text apart into commands as one types them, each
// with all its lines. Blank lines and comments between them are left out. The
// text is whole when the last command is.
func splitCommands(code string) (commands []string, whole bool) {
	var lines []string
	var reader shellReader
	for line := range strings.SplitSeq(code, "\n") {
		if len(lines) == 0 {
			if t := strings.TrimSpace(line); t == "" || strings.HasPrefix(t, "#") {
				continue
			}
			reader = shellReader{}
		}
		lines = append(lines, line)
		reader.read(line)
		if reader.complete() {
			commands = append(commands, strings.Join(lines, "\n"))
			lines = nil
		}
	}
	if lines != nil {
		commands = append(commands, strings.TrimRight(strings.Join(lines, "\n"), "\n"))
	}
	return slices.Clip(commands), lines == nil
}
