package katacoda

import (
	"fmt"
	"strconv"
	"strings"
)

// A traffic is a placeholder for an address of the sandbox, with what belongs
// to it: its scheme before it, names and ports around it.
type traffic struct {
	scheme string // "http://", "https://" or ""
	host   int    // from 1
	port   int    // 0: none is said
	word   string // what stands where the port should, when that is no number
	named  bool   // it stands for a name or number of the machine, not for an address of a page
	choice bool   // of the page where a port is chosen
	path   string // inside the braces
	alone  string // text that stands for a part of an address by itself
}

// maxName bounds the names and ports around a placeholder.
const maxName = 200

// parseTraffic reads the address that s begins with when it holds a
// placeholder, and gives its length without the path. ok is false when it holds
// none.
func (t *translation) parseTraffic(s string) (a traffic, n int, ok bool) {
	a.host = 1
	for _, scheme := range []string{"http://", "https://"} {
		if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
			a.scheme, n = scheme, len(scheme)
		}
	}
	// Names before the placeholder are routes of a cluster.
	labels := 0
	for labels < maxName && n+labels < len(s) && isNameByte(s[n+labels]) {
		labels++
	}
	if labels > 0 {
		if last := s[n+labels-1]; last != '.' && last != '-' {
			return traffic{}, 0, false
		}
		n += labels
	}
	rest := s[n:]
	switch {
	case strings.HasPrefix(rest, "{{"):
		m := a.braces(rest)
		return a, n + m, m > 0
	case !strings.HasPrefix(rest, "[["):
		return traffic{}, 0, false
	}
	word, m := placeholder(rest)
	if m == 0 {
		return traffic{}, 0, false
	}
	rest, n = rest[m:], n+m
	if known := nearPlaceholder(word); known != "" {
		word = known
	}
	if host, is := hostOf(word, "_IP"); is {
		a.named, a.host = true, host
		return a, n + a.plainPort(rest), true
	}
	host, is := hostOf(word, "_SUBDOMAIN")
	if !is {
		switch word {
		case "KATACODA_HOST":
			a.alone = t.p.hostname
		case "KATACODA_DOMAIN":
			a.alone = "localhost"
		default: // HOST_SUBDOMAIN with a slip in it
			if m := a.hostPort(rest); m > 0 {
				return a, n + m, true
			}
			return traffic{}, 0, false
		}
		return a, n, true
	}
	a.host = host
	m = a.hostPort(rest)
	if m == 0 {
		a.alone = t.hostname(host)
		return a, n, true
	}
	return a, n + m, true
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.'
}

// placeholder reads [[NAME]].
func placeholder(s string) (name string, n int) {
	end := strings.Index(s[:min(len(s), 40)], "]]")
	if end < 2 || !strings.HasPrefix(s, "[[") {
		return "", 0
	}
	name = s[2:end]
	for i := range len(name) {
		if c := name[i]; !(c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_') {
			return "", 0
		}
	}
	return name, end + 2
}

// nearPlaceholder gives the placeholder that a word is, or is with a slip in
// it, or "". Words without _ are too short to tell.
func nearPlaceholder(word string) string {
	if !strings.Contains(word, "_") {
		return ""
	}
	for _, what := range []string{"_SUBDOMAIN", "_IP"} {
		if _, ok := hostOf(word, what); ok {
			return word
		}
	}
	for _, known := range []string{"HOST_SUBDOMAIN", "KATACODA_HOST", "KATACODA_DOMAIN", "CLIENT_SUBDOMAIN"} {
		if distance(word, known, 2) <= 2 {
			return known
		}
	}
	return ""
}

// hostOf reads HOST_IP, HOST2_IP, CLIENT_IP and the like.
func hostOf(word, what string) (int, bool) {
	name, ok := strings.CutSuffix(word, what)
	if !ok {
		return 0, false
	}
	if name == "CLIENT" || name == "UUID" {
		return 1, true
	}
	if name, ok = strings.CutPrefix(name, "HOST"); !ok {
		return 0, false
	}
	if name == "" {
		return 1, true
	}
	n, err := strconv.Atoi(name)
	return max(1, n), err == nil && n >= 0 && n <= 9
}

// plainPort reads the port behind an address: ":8080".
func (a *traffic) plainPort(s string) int {
	if s == "" || s[0] != ':' {
		return 0
	}
	n := 1
	for n < len(s) && n < 6 && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	port, err := strconv.Atoi(s[1:n])
	if err != nil || port < 1 || port > 65535 {
		return 0
	}
	a.port = port
	return n
}

// hostPort reads "-8080-[[KATACODA_HOST]].environments.katacoda.com", and gives
// its length or 0.
func (a *traffic) hostPort(s string) int {
	end := "-[[KATACODA_HOST]]"
	at := strings.Index(s[:min(len(s), maxName)], end)
	if other := strings.Index(s[:min(len(s), maxName)], "-[["); other >= 0 && (at < 0 || other < at) {
		// HOST is what some places call it; the other ones are slips.
		if word, n := placeholder(s[other+1:]); n > 0 && (word == "HOST" || nearPlaceholder(word) == "KATACODA_HOST") {
			at, end = other, s[other:other+1+n]
		}
	}
	if at < 0 || strings.ContainsAny(s[:at], " \t\n`") {
		return 0
	}
	switch port, err := strconv.Atoi(strings.TrimPrefix(s[:at], "-")); {
	case at == 0:
		a.choice = true
	case err == nil && port > 0 && port <= 65535:
		a.port = port
	default:
		a.word = strings.TrimPrefix(s[:at], "-")
	}
	n := at + len(end)
	if domain, m := placeholder(strings.TrimPrefix(s[n:], ".")); strings.HasPrefix(s[n:], ".[[") && m > 0 && nearPlaceholder(domain) == "KATACODA_DOMAIN" {
		n += 1 + m
	} else if strings.HasPrefix(s[n:], ".") {
		m := 0
		for n+m < len(s) && m < maxName && isNameByte(s[n+m]) {
			m++
		}
		n += len(strings.TrimRight(s[n:n+m], ".-"))
	}
	var again traffic
	return n + again.plainPort(s[n:])
}

// braces reads {{TRAFFIC_HOST1_8080}}, in which a path may stand, and
// {{TRAFFIC_SELECTOR}}. It gives the length or 0.
func (a *traffic) braces(s string) int {
	end := strings.Index(s[:min(len(s), 2000)], "}}")
	if end < 0 {
		return 0
	}
	inside := strings.TrimSpace(s[2:end])
	if len(inside) < 8 || !strings.EqualFold(inside[:8], "TRAFFIC_") || strings.ContainsAny(inside, "\n{") {
		return 0
	}
	inside = inside[8:]
	a.scheme = "http://"
	if len(inside) > 13 && strings.EqualFold(inside[:13], "SELECTOR_HOST") {
		inside = inside[9:]
	}
	if strings.EqualFold(inside, "SELECTOR") {
		a.choice = true
		return end + 2
	}
	host, rest, ok := strings.Cut(inside, "_")
	if !ok || len(host) != 5 || !strings.EqualFold(host[:4], "HOST") {
		return 0
	}
	if strings.EqualFold(inside, "HOSTX_Y") { // how the manual writes it
		a.choice = true
		return end + 2
	}
	if host[4] < '1' || host[4] > '9' {
		return 0
	}
	a.host = int(host[4] - '0')
	rest = strings.TrimSpace(rest)
	n := strings.IndexAny(rest, "/?#")
	if n < 0 {
		n = len(rest)
	}
	word := strings.TrimSpace(rest[:n])
	a.path = rest[n:]
	if port, err := strconv.Atoi(word); err == nil && port > 0 && port <= 65535 {
		a.port = port
	} else if word == "" || strings.ContainsAny(word, " `") {
		return 0
	} else {
		a.word = word
	}
	return end + 2
}

// hostname gives what the sandbox is called inside of it and of its neighbours.
func (t *translation) hostname(host int) string {
	if host <= 1 {
		return t.p.hostname
	}
	return fmt.Sprintf("host%02d", host)
}

// preview gives the port of a's preview as links name it, such as 2:8080; "" when it
// has none.
func (t *translation) preview(a traffic) string {
	port := a.port
	switch {
	case a.alone != "" || a.word != "":
		return ""
	case port == 0 && a.named && a.scheme == "https://":
		port = 443
	case port == 0 && a.choice:
		port = t.p.port
	case port == 0:
		port = 80
	}
	if a.host > 1 {
		return strconv.Itoa(a.host) + ":" + strconv.Itoa(port)
	}
	return strconv.Itoa(port)
}

// local gives the address by which sandboxes reach a.
func (t *translation) local(a traffic, scheme string) string {
	if a.alone != "" {
		return scheme + a.alone
	}
	s := scheme + t.hostname(a.host)
	switch {
	case a.word != "":
		s += ":" + a.word
	case a.port > 0:
		s += ":" + strconv.Itoa(a.port)
	case a.choice:
		s += ":" + strconv.Itoa(t.p.port)
	}
	return s
}

// mayBeTraffic tells quickly whether a text may hold placeholders.
func mayBeTraffic(s string) bool {
	return strings.Contains(s, "[[") || strings.Contains(s, "{{")
}

// inCode puts addresses in the place of the placeholders of code. Where a page
// is fetched from inside the sandbox that is one that leads there without the
// learner's browser.
func (t *translation) inCode(s string, fetched bool) string {
	if !mayBeTraffic(s) {
		return s
	}
	return t.replaceTraffic(s, func(a traffic) string {
		switch of := t.preview(a); {
		case a.named:
			return t.local(a, a.scheme) + a.path
		case of == "" || fetched:
			return t.local(a, strings.Replace(a.scheme, "https", "http", 1)) + a.path
		case a.scheme == "":
			return t.local(a, "") + a.path
		default:
			return "{{preview " + of + "}}" + a.path
		}
	})
}

// replaceTraffic calls with for every placeholder of s.
func (t *translation) replaceTraffic(s string, with func(traffic) string) string {
	var b strings.Builder
	done, word := 0, 0 // what has been written, and where the word began
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case strings.HasPrefix(s[i:], "[[") || strings.HasPrefix(s[i:], "{{"):
			from := word
			a, n, ok := t.parseTraffic(s[from:])
			if !ok || from+n <= i {
				from = i
				a, n, ok = t.parseTraffic(s[from:])
			}
			if !ok {
				i += 2
				word = i
				continue
			}
			b.WriteString(s[done:from])
			b.WriteString(with(a))
			i = from + n
			done, word = i, i
		case isNameByte(c):
			i++
		case c == ':' && strings.HasPrefix(s[i:], "://"):
			if at := i - run4(s[word:i]); at >= word { // http or https
				word = at
			}
			i += 3
		default:
			i++
			word = i
		}
		if i-word > maxName+10 {
			word = i
		}
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}

// run4 gives the length of the http or https that s ends with.
func run4(s string) int {
	for _, scheme := range []string{"https", "http"} {
		if len(s) >= len(scheme) && strings.EqualFold(s[len(s)-len(scheme):], scheme) {
			return len(scheme)
		}
	}
	return 0
}

// fetches reports whether a command fetches pages itself.
func fetches(code string) bool {
	for _, w := range strings.FieldsFunc(code, func(c rune) bool { return strings.ContainsRune(" \t\n|;&()$`'\"", c) }) {
		switch w {
		case "curl", "wget", "httpie", "ab", "hey", "siege", "wrk", "nc", "telnet", "ping", "dig", "nslookup", "oc", "kubectl", "git", "docker", "podman", "helm", "ssh":
			return true
		}
	}
	return false
}
