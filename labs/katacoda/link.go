package katacoda

import (
	"html"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
)

// maxTarget bounds the bytes of a link's address and title.
const maxTarget = 2048

// linkTarget reads (address "title").
func linkTarget(s string) (dest, title string, n int, ok bool) {
	s = s[:min(len(s), maxTarget)]
	i := 1
	i += blanks(s[i:])
	if i < len(s) && s[i] == '<' {
		end := strings.IndexAny(s[i+1:], ">\n<")
		if end < 0 || s[i+1+end] != '>' {
			return "", "", 0, false
		}
		dest = s[i+1 : i+1+end]
		i += end + 2
	} else {
		from, depth := i, 0
	loop:
		for i < len(s) {
			switch c := s[i]; {
			case strings.HasPrefix(s[i:], "{{"): // a placeholder, perhaps with blanks
				if end := strings.Index(s[i:], "}}"); end > 0 {
					i += end + 2
					continue
				}
			case c == '\\' && i+1 < len(s):
				i++
			case c <= ' ':
				break loop
			case c == '(':
				if depth++; depth > 32 {
					break loop
				}
			case c == ')':
				if depth == 0 {
					break loop
				}
				depth--
			}
			i++
		}
		dest = s[from:min(i, len(s))]
	}
	at := i
	i += blanks(s[min(i, len(s)):])
	if i < len(s) && i > at && (s[i] == '"' || s[i] == '\'') {
		if end := closingQuote(s[i:]); end > 0 {
			title = " " + strings.ReplaceAll(s[i:i+end], "\n", " ")
			i += end
			i += blanks(s[i:])
		}
	}
	if i < len(s) && s[i] == ')' {
		return dest, title, i + 1, true
	}
	// Addresses with blanks in them were understood as well.
	line, _, _ := strings.Cut(s[1:], "\n")
	if end := strings.IndexByte(line, ')'); end > 0 {
		if dest = strings.TrimSpace(line[:end]); isImageName(dest) && !strings.ContainsAny(dest, "\"'<>") {
			return dest, "", end + 2, true
		}
	}
	return "", "", 0, false
}

// closingQuote gives the length of the quoted text that s begins with, or 0.
func closingQuote(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		} else if s[i] == s[0] {
			return i + 1
		}
	}
	return 0
}

// definition gives a line [label]: address in our format.
func (t *translation) definition(l textLine) (string, bool) {
	s := strings.TrimLeft(l.text, " ")
	if len(s) < 4 || s[0] != '[' || s[1] == '[' || s[1] == '^' || s[1] == '!' {
		return "", false
	}
	end := strings.Index(s, "]:")
	if end < 2 || end > 200 || strings.ContainsAny(s[1:end], "[]") {
		return "", false
	}
	rest := strings.TrimLeft(s[end+2:], " \t")
	if strings.HasPrefix(rest, "<>") {
		return s, true // a comment
	}
	dest, title := rest, ""
	if at := strings.IndexAny(rest, " \t"); at > 0 {
		dest = rest[:at]
		if title = strings.TrimSpace(rest[at:]); title != "" {
			if strings.IndexByte("\"'(", title[0]) < 0 {
				return "", false
			}
			title = " " + title
		}
	}
	dest = strings.TrimSuffix(strings.TrimPrefix(dest, "<"), ">")
	if dest == "" {
		return "", false
	}
	return s[:end+2] + " " + t.address(dest, isImageName(dest), l.num) + title, true
}

// address gives the address of a link or an image in our format.
func (t *translation) address(dest string, image bool, num int) string {
	if strings.HasPrefix(dest, "(") && strings.HasSuffix(dest, ")") {
		dest = dest[1 : len(dest)-1]
	}
	if strings.HasPrefix(dest, "{TRAFFIC_HOST") && strings.Count(dest, "{") == 1 {
		dest = "{" + strings.Replace(dest, "}", "}}", 1) // braces were forgotten
	}
	if mayBeTraffic(dest) {
		first := ""
		rest := dest
		t.replaceTraffic(dest, func(a traffic) string {
			if first == "" {
				at := strings.Index(dest, "[[")
				if b := strings.Index(dest, "{{"); at < 0 || b >= 0 && b < at {
					at = b
				}
				first, rest = t.linkTo(a, dest, at)
			}
			return ""
		})
		if first != "" {
			return first + encodePath(rest)
		}
		return encodePath(dest)
	}
	if image {
		dest = t.image(dest)
	}
	return encodePath(dest)
}

// linkTo gives the address of a's preview, and the path that follows it in
// dest, where the placeholder begins at.
func (t *translation) linkTo(a traffic, dest string, at int) (to, path string) {
	from := at
	for from > 0 && isNameByte(dest[from-1]) {
		from--
	}
	_, n, ok := t.parseTraffic(dest[from:])
	if !ok || from+n <= at {
		from = at
		_, n, _ = t.parseTraffic(dest[from:])
	}
	path = a.path + dest[from+n:]
	if path != "" && strings.IndexByte("/?#", path[0]) < 0 {
		path = "/" + path
	}
	if a.named && a.scheme == "" && strings.HasPrefix(dest, "https://") && a.port == 0 {
		a.scheme = "https://"
	}
	if of := t.preview(a); of != "" {
		return "preview:" + of, path
	}
	return t.local(a, "http://"), path
}

// balanced reports whether every bracket of an address is closed.
func balanced(s string) bool {
	depth := 0
	for i := range len(s) {
		if s[i] == '(' {
			depth++
		} else if s[i] == ')' {
			if depth--; depth < 0 {
				return false
			}
		}
	}
	return depth == 0
}

// encodePath encodes what cannot stand in the address of a link.
func encodePath(s string) string {
	if !strings.ContainsAny(s, " \t()<>\n") || !strings.ContainsAny(s, " \t<>\n") && balanced(s) {
		return s
	}
	return strings.NewReplacer(" ", "%20", "\t", "%20", "\n", "", "(", "%28", ")", "%29", "<", "%3C", ">", "%3E").Replace(s)
}

// trafficText gives what stands in a sentence for a placeholder: a link, or
// text where it stands in the text of one.
func (t *translation) trafficText(a traffic, linked bool) string {
	of := t.preview(a)
	if of == "" || a.named && a.scheme == "" {
		return escapeText(t.local(a, a.scheme) + a.path)
	}
	text := "{{preview " + of + "}}" + escapeText(a.path)
	if linked {
		return text
	}
	return "[" + text + "](preview:" + of + encodePath(a.path) + ")"
}

// escapeText keeps text from being read as Markdown.
func escapeText(s string) string {
	if !strings.ContainsAny(s, "\\`*_[]<>&~|{}") {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte("\\`*_[]<>&~|{}", s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isOutside reports whether an address is of another site.
func isOutside(dest string) bool {
	dest = strings.ToLower(dest)
	return strings.HasPrefix(dest, "http://") || strings.HasPrefix(dest, "https://") || strings.HasPrefix(dest, "//") || mayBeTraffic(dest)
}

// imageNames are what the names of images end in.
var imageNames = []string{".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg"}

func isImageName(dest string) bool {
	dest, _, _ = strings.Cut(dest, "?")
	return slices.Contains(imageNames, strings.ToLower(path.Ext(dest)))
}

// image gives the address of an image, relative to the folder of the page. It
// was meant relative to that, to the scenario, or to the site that the
// repository was on, as /user/courses/course/scenario/assets/name.png.
func (t *translation) image(dest string) string {
	if isOutside(dest) || dest == "" || strings.HasPrefix(dest, "data:") || t.p.root == nil {
		return dest
	}
	name := html.UnescapeString(dest)
	if at := strings.IndexAny(name, "?#"); at >= 0 {
		name = name[:at]
	}
	if decoded, err := url.PathUnescape(name); err == nil {
		name = decoded
	}
	if to, ok := t.images[name]; ok {
		return to
	}
	if len(t.images) == maxImages {
		return dest
	}
	to := t.findImage(name, dest)
	t.images[name] = to
	return to
}

// findImage looks for an image in the author's folder.
func (t *translation) findImage(name, dest string) string {
	base := path.Dir(t.p.file)
	for _, at := range t.candidates(name, base) {
		if !fs.ValidPath(at) {
			continue
		}
		if info, err := fs.Stat(t.p.root, at); err == nil && info.Mode().IsRegular() {
			if to, ok := relative(base, at); ok {
				return (&url.URL{Path: to}).EscapedPath()
			}
		}
	}
	return dest
}

// candidates are the places where an image may be, the likeliest first.
func (t *translation) candidates(name, base string) []string {
	scenario := t.p.scenario
	if scenario == "" {
		scenario = "."
	}
	if !strings.HasPrefix(name, "/") {
		all := []string{path.Join(base, name), path.Join(scenario, name), path.Join(scenario, "assets", name)}
		for strings.HasPrefix(name, "../") || strings.HasPrefix(name, "./") {
			name = name[strings.IndexByte(name, '/')+1:]
		}
		all = append(all, path.Join(scenario, name), path.Join(scenario, "assets", name), path.Clean(name))
		// Relative to the course, and from before the scenario had another name.
		all = append(all, path.Join(path.Dir(scenario), name))
		for rest := name; len(all) < 12; {
			_, after, ok := strings.Cut(rest, "/")
			if !ok || !strings.Contains(after, "/") {
				break
			}
			rest = after
			all = append(all, path.Join(scenario, rest))
		}
		return all
	}
	var all []string
	for rest := strings.Trim(path.Clean(name), "/"); rest != "." && len(all) < 24; {
		all = append(all, path.Join(base, rest), path.Join(scenario, rest), rest, path.Join(scenario, "assets", rest))
		_, after, ok := strings.Cut(rest, "/")
		if !ok {
			break
		}
		rest = after
	}
	return all
}

// relative gives the way from a folder to a file, both without ".." in them.
func relative(from, to string) (string, bool) {
	if from == "." {
		return to, true
	}
	a, b := strings.Split(from, "/"), strings.Split(to, "/")
	for len(a) > 0 && len(b) > 1 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	if slices.Contains(a, "..") {
		return "", false
	}
	return strings.Repeat("../", len(a)) + strings.Join(b, "/"), true
}
