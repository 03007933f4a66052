package image

import (
	"bufio"
	"io"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
)

// A source is where apt on this machine gets Debian from: one address and the
// suites it has there.
type source struct {
	uri    string
	suites []string
	signed string // signed-by: a path, or ""
}

// hostSources gives the lines that a sources.list for suite has, made from
// those of this machine, so that a build uses the mirror its operator chose.
// It gives none when this machine has no Debian sources; mmdebstrap knows
// where Debian is. etc is the machine's /etc.
func hostSources(etc fs.FS, suite string) []string {
	release, _ := fs.ReadFile(etc, "os-release")
	codename := osRelease(string(release), "VERSION_CODENAME")
	if codename == "" || osRelease(string(release), "ID") != "debian" {
		return nil
	}
	var all []source
	read := func(name string, parse func(io.Reader) []source) {
		f, err := etc.Open(name)
		if err != nil {
			return // it is not there, or not ours to read: the others count
		}
		defer f.Close()
		all = append(all, parse(io.LimitReader(f, 1<<20))...)
	}
	read("apt/sources.list", oneLineSources)
	if entries, err := fs.ReadDir(etc, "apt/sources.list.d"); err == nil {
		for _, e := range entries {
			switch path.Ext(e.Name()) {
			case ".list":
				read("apt/sources.list.d/"+e.Name(), oneLineSources)
			case ".sources":
				read("apt/sources.list.d/"+e.Name(), deb822Sources)
			}
		}
	}
	var lines []string
	main := false
	for _, s := range all {
		if !s.debian() {
			continue
		}
		for _, have := range s.suites {
			want := ""
			switch have {
			case codename, "stable":
				want, main = suite, true
			case codename + "-updates", "stable-updates":
				want = suite + "-updates"
			case codename + "-security", "stable-security":
				want = suite + "-security"
			default:
				continue
			}
			opts := ""
			if s.signed != "" {
				opts = "[signed-by=" + s.signed + "] "
			}
			line := "deb " + opts + s.uri + " " + want + " main"
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if !main {
		return nil
	}
	return lines
}

// debian tells Debian's own archive, at whatever mirror, from the many others
// that use the names of Debian's suites.
func (s source) debian() bool {
	u, err := url.Parse(s.uri)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "ftp"}, u.Scheme) {
		return false
	}
	if s.signed != "" {
		return strings.HasPrefix(path.Base(s.signed), "debian-archive-")
	}
	for part := range strings.SplitSeq(u.Path, "/") {
		if part == "debian" || part == "debian-security" {
			return true
		}
	}
	return false
}

// oneLineSources reads the form "deb [option=value …] uri suite component…".
func oneLineSources(r io.Reader) []source {
	var all []source
	for sc := bufio.NewScanner(r); sc.Scan(); {
		line, _, _ := strings.Cut(sc.Text(), "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '\t' && rest[0] != '[') {
			continue
		}
		rest = strings.TrimSpace(rest)
		var s source
		if opts, after, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(opts, "[") {
			for opt := range strings.FieldsSeq(opts[1:]) {
				if v, ok := strings.CutPrefix(opt, "signed-by="); ok {
					s.signed = v
				}
			}
			rest = after
		}
		f := strings.Fields(rest)
		if len(f) < 3 || !slices.Contains(f[2:], "main") {
			continue
		}
		s.uri, s.suites = f[0], f[1:2]
		all = append(all, s)
	}
	return all
}

// deb822Sources reads the form of *.sources files: stanzas of "Key: value",
// continued by lines that begin with a blank.
func deb822Sources(r io.Reader) []source {
	var all []source
	fields := map[string]string{}
	last := ""
	flush := func() {
		signed := strings.Fields(fields["signed-by"])
		if slices.Contains(strings.Fields(fields["types"]), "deb") &&
			slices.Contains(strings.Fields(fields["components"]), "main") &&
			!slices.Contains([]string{"no", "false", "off", "0"}, strings.ToLower(fields["enabled"])) &&
			len(signed) <= 1 { // more is a key written into the file itself
			for uri := range strings.FieldsSeq(fields["uris"]) {
				all = append(all, source{uri: uri, suites: strings.Fields(fields["suites"]), signed: strings.Join(signed, "")})
			}
		}
		fields, last = map[string]string{}, ""
	}
	for sc := bufio.NewScanner(r); sc.Scan(); {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			fields[last] += " " + strings.TrimSpace(line)
		default:
			key, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(key))
			fields[last] = strings.TrimSpace(value)
		}
	}
	flush()
	return all
}

// osRelease gives the value of a key of an os-release file.
func osRelease(text, key string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// withoutPassword takes user and password out of the addresses in the lines of
// a sources.list.
func withoutPassword(text string) string {
	words := strings.Split(text, " ")
	for i, w := range words {
		if u, err := url.Parse(w); err == nil && u.User != nil {
			u.User = nil
			words[i] = u.String()
		}
	}
	return strings.Join(words, " ")
}
