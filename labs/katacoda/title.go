package katacoda

import (
	"html"
	"regexp"
	"strings"
	"unicode/utf8"
)

var (
	tags        = regexp.MustCompile(`(?i)<!--.*?-->|</?(?:a|b|i|u|em|strong|code|br|p|span|img|div|font|h[1-6]|sup|sub|kbd|small|center|pre|tt)\b[^<>]*>`)
	links       = regexp.MustCompile(`!?\[([^\]]*)\]\([^()]*\)`)
	marks       = regexp.MustCompile("[`*]+|\\{\\{[a-zA-Z0-9 _-]*\\}\\}")
	headingLine = regexp.MustCompile(`^ {0,3}(#{1,6})[ \t]*([^#!\s].*?)[ \t]*#*[ \t]*$`)
	under       = regexp.MustCompile(`^ {0,3}(=+|-{3,})[ \t]*$`)
	fenceLine   = regexp.MustCompile("^\\s*(```|~~~)")
)

// plainText gives a title or a sentence without the marks of Markdown and HTML.
func plainText(s string) string {
	if len(s) > 16<<10 {
		s = cutBytes(s, 16<<10)
	}
	s = tags.ReplaceAllString(s, "")
	s = links.ReplaceAllString(s, "$1")
	s = html.UnescapeString(marks.ReplaceAllString(s, ""))
	s = strings.Map(func(c rune) rune {
		switch {
		case c < ' ' || c >= 0x7f && c < 0xa0:
			return ' '
		case c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069:
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "\ufffd"))
	return strings.Join(strings.Fields(s), " ")
}

// cut shortens a text to so many characters, at the end of a word.
func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	short := string(r[:most-1])
	if at := strings.LastIndexByte(short, ' '); at > len(short)/2 {
		short = short[:at]
	}
	return strings.TrimRight(short, " ,;:.") + "…"
}

// cutBytes shortens a text to so many bytes.
func cutBytes(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// firstHeading gives the heading that a page begins with, and the page without
// it; its lines keep their numbers. When the page begins with something else, a
// heading near its beginning is given, and stays in the page.
func firstHeading(src string) (title, rest string) {
	at, inFence := 0, false
	first := true
	for n := 0; n < 20 && at < len(src); n++ {
		end := strings.IndexByte(src[at:], '\n')
		if end < 0 {
			end = len(src) - at
		}
		line := strings.TrimRight(src[at:at+end], " \t")
		next := min(len(src), at+end+1)
		switch m := headingLine.FindStringSubmatch(line); {
		case fenceLine.MatchString(line):
			inFence = !inFence
		case inFence || strings.TrimSpace(line) == "":
		case m != nil:
			if t := plainText(m[2]); t != "" {
				if first {
					return t, src[:at] + src[at+end:]
				}
				return t, src
			}
		case first:
			if below, _, _ := strings.Cut(src[next:], "\n"); under.MatchString(below) && !strings.ContainsAny(line[:1], "-*+>|<[!`0123456789") {
				return plainText(line), src[:at] + "\n" + src[min(len(src), next+len(below)):]
			}
		}
		if strings.TrimSpace(line) != "" {
			first = false
		}
		at = next
	}
	return "", src
}

// alike reports whether two titles say the same.
func alike(a, b string) bool {
	plain := func(s string) string {
		return strings.ToLower(strings.Trim(strings.Join(strings.Fields(plainText(s)), " "), " .:!"))
	}
	return plain(a) == plain(b)
}

// escape makes Markdown of plain text.
func escape(s string) string {
	return escaper.Replace(s)
}

var escaper = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, "#", `\#`, "&", `\&`, "{", `\{`, "}", `\}`)
