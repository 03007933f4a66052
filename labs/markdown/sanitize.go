package markdown

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"berth/labs"
)

// elements are those that an author's HTML may use, with their attributes.
// `class` and `id` are in the list for our own markup; an author's are dropped.
var elements = map[string][]string{
	"a": {"href"}, "abbr": nil, "aside": nil, "b": nil, "bdi": nil, "bdo": nil,
	"blockquote": nil, "br": nil, "caption": nil, "cite": nil, "code": nil, "dd": nil,
	"del": nil, "details": {"open"}, "dfn": nil, "div": nil, "dl": nil, "dt": nil,
	"em": nil, "figcaption": nil, "figure": nil, "h3": nil, "h4": nil, "h5": nil,
	"h6": nil, "hr": nil, "i": nil, "img": {"src", "alt", "width", "height"},
	"input": {"type", "checked", "disabled"}, "ins": nil, "kbd": nil, "li": nil,
	"mark": nil, "ol": {"start", "reversed"}, "p": nil, "pre": nil, "q": nil, "rp": nil,
	"rt": nil, "ruby": nil, "s": nil, "samp": nil, "small": nil, "span": nil,
	"strong": nil, "sub": nil, "summary": nil, "sup": nil, "table": nil, "tbody": nil,
	"td": {"align", "colspan", "rowspan"}, "tfoot": nil, "th": {"align", "colspan", "rowspan"},
	"thead": nil, "tr": nil, "u": nil, "ul": nil, "var": nil, "wbr": nil,
}

// global attributes may stand on every element.
var global = []string{"title", "lang", "dir", "role", "class", "id"}

// values are the forms that attributes must have, where not every text will do.
var values = map[string]*regexp.Regexp{
	"align":    regexp.MustCompile(`^(left|right|center)$`),
	"checked":  regexp.MustCompile(`^(checked)?$`),
	"class":    regexp.MustCompile(`^[A-Za-z0-9 _-]{1,200}$`),
	"colspan":  regexp.MustCompile(`^[0-9]{1,3}$`),
	"dir":      regexp.MustCompile(`^(ltr|rtl|auto)$`),
	"disabled": regexp.MustCompile(`^(disabled)?$`),
	"height":   regexp.MustCompile(`^[0-9]{1,4}$`),
	"id":       regexp.MustCompile(`^[A-Za-z0-9.:-]{1,200}$`),
	"lang":     regexp.MustCompile(`^[A-Za-z0-9-]{1,35}$`),
	"open":     regexp.MustCompile(`^(open)?$`),
	"reversed": regexp.MustCompile(`^(reversed)?$`),
	"role":     regexp.MustCompile(`^doc-(noteref|backlink|endnotes)$`),
	"rowspan":  regexp.MustCompile(`^[0-9]{1,3}$`),
	"start":    regexp.MustCompile(`^[0-9]{1,9}$`),
	"type":     regexp.MustCompile(`^checkbox$`),
	"width":    regexp.MustCompile(`^[0-9]{1,4}$`),
}

// policy is what lets HTML through: nothing that runs, loads, submits, styles
// or frames.
var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowURLSchemes("http", "https", "mailto", "preview")
	p.AllowRelativeURLs(true)
	p.RequireParseableURLs(true)
	allow := func(name string) interface {
		OnElements(...string) *bluemonday.Policy
		Globally() *bluemonday.Policy
	} {
		if re := values[name]; re != nil {
			return p.AllowAttrs(name).Matching(re)
		}
		return p.AllowAttrs(name)
	}
	for name, attrs := range elements {
		p.AllowElements(name)
		p.AllowNoAttrs().OnElements(name)
		for _, a := range attrs {
			allow(a).OnElements(name)
		}
	}
	for _, a := range global {
		allow(a).Globally()
	}
	return p
})

// sanitize makes HTML safe to show on our page: balanced, without scripts,
// styles and forms, without an author's classes and ids, with images of the
// lab's folder only and links that leak nothing. Then it puts our blocks in.
func (l *loader) sanitize(unsafe string, at *fragment) string {
	clean := policy().Sanitize(unsafe)
	body := &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body}
	nodes, err := html.ParseFragment(strings.NewReader(clean), body)
	if err != nil {
		l.add(at.line, "", "the text nests deeper than a page can")
		if l.lenient {
			return l.plainBlock(strings.TrimSpace(string(at.src.text)), nil) + "\n"
		}
		return ""
	}
	for _, n := range nodes {
		body.AppendChild(n)
	}
	l.tidy(body, at)
	var b strings.Builder
	for n := body.FirstChild; n != nil; n = n.NextSibling {
		if err := html.Render(&b, n); err != nil {
			panic("render into memory: " + err.Error()) // a builder never fails
		}
	}
	return strings.TrimSpace(l.putBlocks(b.String(), at)) + "\n"
}

// tidy walks the sanitized tree and does what depends on the lesson. It does
// not trust that what came before has left only what it should.
func (l *loader) tidy(n *html.Node, at *fragment) {
	for c := n.FirstChild; c != nil; {
		next := c.NextSibling
		switch {
		case c.Type == html.TextNode:
		case c.Type != html.ElementNode || !allowed(c):
			n.RemoveChild(c)
		default:
			l.tidy(c, at)
			if !l.tidyElement(c, at) {
				n.RemoveChild(c)
			}
		}
		c = next
	}
}

func allowed(n *html.Node) bool {
	_, ok := elements[n.Data]
	return ok && n.Namespace == ""
}

// tidyElement reports whether the element stays.
func (l *loader) tidyElement(n *html.Node, at *fragment) bool {
	kept := n.Attr[:0]
	href, src := "", ""
	for _, a := range n.Attr {
		if a.Namespace != "" || !slices.Contains(global, a.Key) && !slices.Contains(elements[n.Data], a.Key) {
			continue
		}
		if re := values[a.Key]; re != nil && !re.MatchString(a.Val) {
			continue
		}
		switch a.Key {
		case "class", "id":
			ours, ok := strings.CutPrefix(a.Val, l.page.nonce)
			if !ok {
				if a.Val != "footnotes" {
					continue
				}
				ours = a.Val
			}
			a.Val = strings.TrimSpace(ours)
		case "href":
			href = a.Val
			continue
		case "src":
			src = a.Val
			continue
		default:
			// A mark of ours that ended up in an attribute would be put in there.
			if strings.Contains(a.Val, l.page.nonce) {
				continue
			}
		}
		kept = append(kept, a)
	}
	n.Attr = kept
	switch n.Data {
	case "a":
		l.tidyLink(n, href, at)
	case "img":
		return l.tidyImage(n, src, at)
	case "input": // of a task list
		n.Attr = slices.DeleteFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "type" || a.Key == "disabled" })
		set(n, "type", "checkbox")
		set(n, "disabled", "")
	}
	return true
}

func set(n *html.Node, key, value string) {
	n.Attr = append(n.Attr, html.Attribute{Key: key, Val: value})
}

// tidyLink keeps links to other sites, to mail and within the lesson.
func (l *loader) tidyLink(n *html.Node, href string, at *fragment) {
	if href == "" {
		return
	}
	line := at.lineOf(href)
	if ours, ok := strings.CutPrefix(href, "#"+l.page.nonce); ok { // of a footnote
		set(n, "href", "#"+ours)
		return
	}
	if v, path, ok := l.previewLink(href, line); ok {
		if v.Preview == 0 {
			return // which is reported
		}
		set(n, "class", "preview")
		set(n, "data-port", strconv.Itoa(v.Preview))
		set(n, "data-host", strconv.Itoa(max(1, v.Host)))
		set(n, "data-path", path)
		set(n, "href", v.Mark()+path)
		set(n, "target", "_blank")
		set(n, "rel", "noopener")
		return
	}
	u, err := url.Parse(href)
	switch {
	case strings.Contains(href, l.page.nonce) || err != nil:
	case l.holdsMark(href, func(v labs.Var) bool { return v.Preview > 0 }): // whoever it leads to would be told
	case u.Scheme == "http" || u.Scheme == "https":
		if u.Host == "" {
			break
		}
		set(n, "href", href)
		set(n, "target", "_blank")
		set(n, "rel", "noopener noreferrer")
		return
	case u.Scheme == "mailto" && u.Opaque != "":
		set(n, "href", href)
		return
	case u.Scheme == "" && strings.HasPrefix(href, "#"):
		id, ok := at.anchors[u.Fragment]
		if !ok {
			id, ok = l.anchors[u.Fragment]
		}
		if !ok {
			l.warn(line, didYouMeanAnchor(u.Fragment, l.anchors), "no heading has the id %s", quote(u.Fragment))
			return
		}
		if at.elsewhere {
			id = "/labs/" + l.lesson.ID + "#" + id
		} else {
			id = "#" + id
		}
		set(n, "href", id)
		return
	}
	l.warn(line, linkHint, "the link %s is shown as text", quote(href))
}

const linkHint = "link to `https://…`, `mailto:…`, `#heading` or `preview:PORT/path`"

// schemes are those of links; "" is a heading.
var schemes = []string{"", "http", "https", "mailto", "preview"}

var previewAddress = regexp.MustCompile(`^preview:(?:([1-9]):)?([0-9]{1,5})([/?#].*)?$`)

// previewLink reads preview:8080/path, or an address that begins with the mark
// of a preview. path begins with "/". The zero Var is one that there cannot be.
func (l *loader) previewLink(href string, line int) (v labs.Var, path string, ok bool) {
	if m := previewAddress.FindStringSubmatch(href); m != nil {
		host, _ := strconv.Atoi(m[1])
		port, _ := strconv.Atoi(m[2])
		if v, ok = l.preview(max(1, host), port, line); !ok {
			return labs.Var{}, "", true
		}
		path = m[3]
	} else {
		for _, known := range l.lesson.Vars {
			if rest, found := strings.CutPrefix(href, known.Mark()); found && known.Preview > 0 {
				v, path, ok = known, rest, rest == "" || strings.ContainsAny(rest[:1], "/?#")
			}
		}
	}
	return v, "/" + strings.TrimLeft(path, `/\`), ok // two of them begin the name of a host
}

func didYouMeanAnchor(word string, anchors map[string]string) string {
	known := make([]string, 0, len(anchors))
	for a := range anchors {
		known = append(known, a)
	}
	slices.Sort(known)
	if near := nearest(word, known); near != "" {
		return "did you mean `" + near + "`?"
	}
	return ""
}

// imageTypes are the names that images end in.
var imageTypes = []string{".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg"}

// tidyImage points an image to the lab's folder. One that cannot be shown
// leaves its description.
func (l *loader) tidyImage(n *html.Node, src string, at *fragment) bool {
	name, ok := l.imageFile(src, at)
	if !ok {
		for _, a := range n.Attr {
			if a.Key == "alt" && a.Val != "" && n.Parent != nil {
				n.Parent.InsertBefore(&html.Node{Type: html.TextNode, Data: a.Val}, n)
			}
		}
		return false
	}
	shown := (&url.URL{Path: "/labs/" + l.lesson.ID + "/files/" + name}).EscapedPath()
	set(n, "src", shown)
	set(n, "loading", "lazy")
	set(n, "decoding", "async")
	return true
}

// imageFile gives the name in the lab's folder of the image that src means.
func (l *loader) imageFile(src string, at *fragment) (string, bool) {
	line := at.lineOf(src)
	u, err := url.Parse(src)
	switch {
	case src == "" || strings.Contains(src, l.page.nonce):
		return "", false
	case err != nil || u.Scheme != "" || u.Host != "" || strings.HasPrefix(src, "/"):
		l.warn(line, "put it into the lab's folder", "the image %s is not in the lab's folder and is not shown", quote(src))
		return "", false
	}
	name := path.Join(at.base, u.Path)
	if strings.HasPrefix(name, "..") || u.Path == "" || l.holdsMark(name, func(labs.Var) bool { return true }) {
		l.warn(line, "put it into the lab's folder", "the image %s is not in the lab's folder and is not shown", quote(src))
		return "", false
	}
	if !slices.Contains(imageTypes, strings.ToLower(path.Ext(name))) {
		l.warn(line, "images end in "+list(imageTypes, "or"), "%s is not the name of an image", quote(src))
		return "", false
	}
	from, _, err := regular(l.lesson.Dir, name)
	if err != nil {
		l.warn(line, "names are relative to the lab's folder", "there is no image %s", quote(name))
		return "", false
	}
	return from, true
}

// putBlocks puts our blocks where their marks stand, and reports those whose
// mark the author's HTML around it has swallowed.
func (l *loader) putBlocks(s string, at *fragment) string {
	var b strings.Builder
	put := make(map[int]bool, len(at.blocks))
	for {
		before, rest, found := strings.Cut(s, l.page.nonce+"x")
		b.WriteString(before)
		if !found {
			break
		}
		digits, after, _ := strings.Cut(rest, "x")
		if i, err := strconv.Atoi(digits); err == nil && slices.Contains(at.blocks, i) && !put[i] {
			put[i] = true
			b.WriteString(l.page.blocks[i].html)
		}
		s = after
	}
	for _, i := range at.blocks {
		if !put[i] {
			l.add(l.page.blocks[i].line, "close the HTML before the block, and leave an empty line between them", "the HTML around this block swallows it")
			b.WriteString("\n" + l.page.blocks[i].html)
		}
	}
	// HTML that shows tags as text shows our marks as well.
	return strings.ReplaceAll(b.String(), l.page.nonce, "")
}

// warnOfHTML warns of what an author's piece of HTML will lose.
func (l *loader) warnOfHTML(raw string, line int) {
	told := map[string]bool{}
	z := html.NewTokenizer(strings.NewReader(raw))
	z.SetMaxBuf(maxText)
	for {
		switch z.Next() {
		case html.ErrorToken:
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			attrs, ok := elements[t.Data]
			if !ok {
				if !told[t.Data] {
					l.warn(line, "", "the HTML element %s is not shown", quote(t.Data))
				}
				told[t.Data] = true
				continue
			}
			for _, a := range t.Attr {
				name := t.Data + " " + a.Key
				if told[name] || slices.Contains(attrs, a.Key) || slices.Contains(global[:3], a.Key) {
					continue
				}
				told[name] = true
				l.warn(line, "", "the attribute %s of the HTML element `%s` is dropped", quote(a.Key), t.Data)
			}
		}
	}
}
