package verify

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/labs"
)

const (
	maxSeen  = 500 // bytes of Result.Seen and Reason
	maxQuote = 200 // bytes of a text that is quoted in them
)

// clean makes one line of s that is safe to show: no control or invisible
// formatting characters, at most max bytes.
func clean(s string, max int) string {
	// What is cut away is not looked at: s may be much longer.
	whole := len(s) <= 4*max
	s = s[:min(len(s), 4*max)]
	var b strings.Builder
	fits := 0 // of what is built, the part that leaves room for the mark
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			r = ' '
		case r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			r = '\uFFFD'
		}
		b.WriteRune(r)
		if b.Len() <= max-len("…") {
			fits = b.Len()
		}
		if b.Len() > max {
			return b.String()[:fits] + "…"
		}
	}
	if !whole {
		return b.String()[:fits] + "…"
	}
	return b.String()
}

// quote shows a text of the learner's, shortened, with everything that cannot
// be printed escaped.
func quote(s string) string {
	s = strings.TrimSuffix(s, "\n")
	if len(s) <= maxQuote {
		return strconv.Quote(s)
	}
	cut := maxQuote
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "…"
}

// code shows a name as code.
func code(s string) string { return "`" + clean(strings.ReplaceAll(s, "`", "'"), maxQuote) + "`" }

// list joins words: "a, b and c".
func list(words []string) string {
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// reads says in words what a rule asks of a text that is there.
func reads(r labs.TextRule) string {
	var parts []string
	if r.Equals != nil {
		parts = append(parts, "reads "+quote(*r.Equals))
	}
	if r.Contains != "" {
		parts = append(parts, "contains "+quote(r.Contains))
	}
	if r.Matches != nil {
		parts = append(parts, "matches /"+clean(r.Matches.String(), maxQuote)+"/")
	}
	return list(parts)
}

// absent reports whether the rule asks that something is not there.
func absent(r labs.TextRule) bool { return r.Exists != nil && !*r.Exists }

// hasText reports whether the rule asks something of the text.
func hasText(r labs.TextRule) bool {
	return r.Equals != nil || r.Contains != "" || r.Matches != nil
}

// holdsText tests a text that may have been cut off at its end.
func holdsText(r labs.TextRule, text string, cut bool) bool {
	if cut && r.Equals != nil {
		return false
	}
	return r.Test(text)
}

// reading says what is in a text that does not satisfy a rule.
func reading(text string) string {
	if strings.TrimSpace(text) == "" {
		return "is empty"
	}
	return "reads " + quote(text)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// expected says in words what a check asks for.
func expected(c *labs.Check) string {
	var s string
	switch {
	case c.Image != nil:
		s = expectImage(c.Image)
	case c.Container != nil:
		s = expectContainer(c.Container)
	case c.Volume != "":
		s = "a volume named " + code(c.Volume)
	case c.Network != "":
		s = "a network named " + code(c.Network)
	case c.File != nil:
		s = expectFile(c.File)
	case c.Layer != nil:
		s = "a layer of " + code(c.Layer.Ref) + " that is unpacked below " + code(under(c.Layer))
	case c.Ran != nil:
		s = expectRan(c.Ran)
	case c.Port != nil:
		s = expectPort(c.Port)
	case c.Script != "":
		s = "the check's script ends with exit status 0"
		if c.Prints != "" {
			s += " and prints " + code(c.Prints)
		}
	case c.Quiz != nil:
		s = "the right answer"
	}
	if c.Not {
		s = "no longer so: " + s
	}
	return clean(s, maxSeen)
}

// plainCommand is a pattern that says nothing but what to type.
var plainCommand = regexp.MustCompile(`^[\w ./:@~-]{1,60}$`)

// like says what command a pattern asks for. A learner has no use for a
// regular expression; the name of the check says what it is about.
func like(pattern string) string {
	if plainCommand.MatchString(pattern) {
		return " like " + code(pattern)
	}
	return " like the one in this step"
}
