package katacoda

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"berth/labs"
)

// Bounds on what one scenario may put into its sandbox.
const (
	maxAssets     = 2000     // files
	maxAssetBytes = 64 << 20 // of all of them
	maxAssetRules = 500
	maxPattern    = 500    // bytes of the name of one
	maxAssetTree  = 10_000 // entries of the folder they come from
)

// assetsOf reads details.assets: for each host files, or patterns of files, of
// the folder assets and where they go.
func (s *scenario) assetsOf(m member) {
	v := m.value
	if v == nil || v.kind == isNull {
		return
	}
	if v.kind != isObject {
		s.warn(s.file, m.line, "write {\"host01\": [ … ]}", "`assets` must be an object, not %s", v.kind)
		return
	}
	tree := &assetTree{root: s.root, dir: path.Join(s.dir, "assets")}
	rules := 0
	for _, h := range v.members {
		host := hostNumber(h.key)
		if host == 0 {
			s.warn(s.file, h.line, "there are `host01` and `host02`", "the host %s is not known; its files are left out", quote(h.key))
			continue
		}
		s.hosts = max(s.hosts, host)
		for _, item := range s.list(h) {
			if s.told["assets"] {
				return // there is no room for more
			}
			if rules++; rules > maxAssetRules {
				s.warn(s.file, item.line, "name them by a pattern", "there are more than %d assets; the others are left out", maxAssetRules)
				return
			}
			s.asset(item, host, tree)
		}
	}
}

var assetKeys = keys{known: []string{"file", "target", "chmod"}}

// asset reads one entry of details.assets.
func (s *scenario) asset(item *value, host int, tree *assetTree) {
	if item.kind == isString { // only its name: into the home
		item = &value{kind: isObject, line: item.line, members: []member{{key: "file", line: item.line, value: item}}}
	}
	ms := s.members(item, "an asset", assetKeys)
	file, line := strings.TrimSpace(s.text(ms["file"])), item.line
	if m, ok := ms["file"]; ok {
		line = m.line
	}
	if file == "" {
		s.warn(s.file, line, "write `\"file\": \"…\"`", "an asset names no file")
		return
	}
	target, ok := cleanTarget(s.text(ms["target"]))
	if !ok {
		s.warn(s.file, line, "write a folder such as `/root`", "the asset %s cannot go to %s", quote(file), quote(s.text(ms["target"])))
		return
	}
	mode, ok := parseMode(s.text(ms["chmod"]))
	if !ok {
		s.warn(s.file, ms["chmod"].line, "write `+x` or `0755`", "`chmod` cannot be %s", quote(s.text(ms["chmod"])))
	}
	pattern := path.Clean("/" + strings.ReplaceAll(file, `\`, "/"))[1:]
	if len(pattern) > maxPattern {
		s.warn(s.file, line, "", "the name of an asset is longer than %d characters", maxPattern)
		return
	}
	found, err := tree.match(pattern)
	if err != nil {
		s.warn(s.file, line, "", "the folder of the asset %s cannot be read: %v", quote(file), err)
		return
	}
	if len(found) == 0 {
		found = s.strayAsset(pattern, line)
	}
	if len(found) == 0 {
		s.warn(s.file, line, "", "there is no file %s in the folder assets", quote(file))
		return
	}
	for _, f := range found {
		if len(s.draft.Lesson.Assets) >= maxAssets {
			s.once("assets", line, "there are more than %d files among the assets; the others are left out", maxAssets)
			return
		}
		if s.assetBytes += f.size; s.assetBytes > maxAssetBytes {
			s.assetBytes -= f.size
			s.once("asset bytes", line, "the assets have more than %s; %s and what does not fit after it is left out", labs.Bytes(maxAssetBytes), quote(f.from))
			continue
		}
		m := mode
		if m == 0 && f.executable {
			m = 0o755
		}
		s.draft.Lesson.Assets = append(s.draft.Lesson.Assets, labs.Asset{From: f.from, To: target + f.rel, Mode: m, Host: host})
		s.assetNames = append(s.assetNames, path.Base(f.rel))
	}
}

// strayAsset finds a file that an asset names but that stands beside the
// folder assets instead of in it.
func (s *scenario) strayAsset(name string, line int) []assetFile {
	if isGlob(name) {
		if globBase(name) == "" {
			return nil
		}
		beside := &assetTree{root: s.root, dir: path.Join(s.dir, globBase(name))}
		found, err := beside.match(strings.TrimPrefix(name, globBase(name)+"/"))
		if err != nil || len(found) == 0 {
			return nil
		}
		s.warn(s.file, line, "move it there", "the folder %s does not stand in the folder assets", quote(globBase(name)))
		return found
	}
	for _, dir := range []string{s.dir, path.Join(s.dir, "assets", "assets")} {
		from := path.Join(dir, strings.TrimPrefix(name, "assets/"))
		if dir == s.dir {
			from = path.Join(dir, name)
		}
		info, err := fs.Stat(s.root, from)
		if err == nil && info.Mode().IsRegular() {
			if !strings.HasPrefix(name, "assets/") {
				s.warn(s.file, line, "move it there", "the file %s does not stand in the folder assets", quote(name))
			}
			return []assetFile{{from: from, rel: path.Base(name), size: info.Size(), executable: info.Mode()&0o111 != 0}}
		}
	}
	return nil
}

// cleanTarget gives the folder that an asset goes to, ended by a "/": the home
// when nothing is said, and what is relative is below it.
func cleanTarget(target string) (string, bool) {
	t := strings.TrimSpace(strings.ReplaceAll(target, `\`, "/"))
	for _, home := range []string{"$HOME", "${HOME}"} {
		if rest, ok := strings.CutPrefix(t, home); ok {
			t = "~" + rest
		}
	}
	if strings.ContainsAny(t, "\x00\n") || len(t) > 1000 {
		return "", false
	}
	switch {
	case t == "" || t == "~":
		return "~/", true
	case strings.HasPrefix(t, "/"):
		t = path.Clean(t)
	case strings.HasPrefix(t, "~/"):
		t = "~" + path.Clean(t[1:])
	case strings.HasPrefix(t, "~"):
		return "", false
	default:
		t = "~" + path.Clean("/"+t)
	}
	return strings.TrimSuffix(t, "/") + "/", true
}

// parseMode reads what chmod takes: 755, +x, u+rwx,go-w. 0 when it says
// nothing special.
func parseMode(s string) (fs.FileMode, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, true
	}
	if n, err := strconv.ParseUint(s, 8, 32); err == nil && n <= 0o7777 {
		return fs.FileMode(n & 0o777), n&0o777 != 0
	}
	mode := fs.FileMode(0o644)
	for rule := range strings.SplitSeq(s, ",") {
		at := strings.IndexAny(rule, "+-=")
		if at < 0 || strings.Trim(rule[:at], "ugoa") != "" || strings.Trim(rule[at+1:], "rwxX") != "" {
			return 0, false
		}
		bits := fs.FileMode(0)
		for _, c := range rule[at+1:] {
			bits |= map[rune]fs.FileMode{'r': 0o444, 'w': 0o222, 'x': 0o111, 'X': 0o111}[c]
		}
		who := fs.FileMode(0o777)
		if rule[:at] == "" {
			who = 0o755 // as the usual umask has it: w is the owner's alone
		} else if !strings.Contains(rule[:at], "a") {
			who = 0
			for _, c := range rule[:at] {
				who |= map[rune]fs.FileMode{'u': 0o700, 'g': 0o070, 'o': 0o007}[c]
			}
		}
		switch rule[at] {
		case '+':
			mode |= bits & who
		case '-':
			mode &^= bits & who
		case '=':
			mode = mode&^who | bits&who
		}
	}
	if mode == 0o644 {
		return 0, true
	}
	return mode, true
}

// An assetTree is the folder that assets come from, read once. Links are
// followed as far as the file system follows them.
type assetTree struct {
	root  fs.FS
	dir   string
	read  bool
	err   error
	files []assetFile // rel is relative to the folder
}

type assetFile struct {
	from       string // in the root
	rel        string // below the target
	size       int64
	executable bool
	parts      []string // of rel, in an assetTree
}

// match gives the files that a name or a pattern means. rel is what is behind
// the part of the pattern that has no wildcards: manifests/**/*.yaml keeps the
// folders below manifests, and app/index.html is index.html.
func (t *assetTree) match(pattern string) ([]assetFile, error) {
	if !isGlob(pattern) { // most of them
		from := path.Join(t.dir, pattern)
		info, err := fs.Stat(t.root, from)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && pattern != "" {
			return nil, reason(err)
		}
		if err != nil {
			return nil, nil
		}
		if info.Mode().IsRegular() {
			return []assetFile{{from: from, rel: path.Base(pattern), size: info.Size(), executable: info.Mode()&0o111 != 0}}, nil
		}
	}
	if !t.read {
		t.read = true
		left := maxAssetTree
		t.err = t.walk("", 0, nil, &left)
	}
	if t.err != nil {
		return nil, t.err
	}
	var found []assetFile
	if !isGlob(pattern) { // it names a folder: all of it, with its own name
		base := strings.TrimSuffix(path.Dir(pattern), ".")
		for _, f := range t.files {
			if pattern == "" || strings.HasPrefix(f.rel, pattern+"/") {
				found = append(found, f.below(base))
			}
		}
		return found, nil
	}
	for _, p := range braces(pattern) {
		base, parts := globBase(p), slices.CompactFunc(strings.Split(p, "/"), func(a, b string) bool { return a == "**" && b == "**" })
		for _, f := range t.files {
			if globMatch(parts, f.parts) {
				found = append(found, f.below(base))
			}
		}
	}
	return found, nil
}

func (f assetFile) below(base string) assetFile {
	f.rel = strings.TrimPrefix(strings.TrimPrefix(f.rel, base), "/")
	return f
}

func isGlob(pattern string) bool {
	return strings.ContainsAny(pattern, "*?") || strings.Contains(pattern, "{") && strings.Contains(pattern, "}")
}

// braces gives the patterns that one with {a,b} stands for, at most 64.
func braces(pattern string) []string {
	done, open := []string{}, []string{pattern}
	for len(open) > 0 {
		p := open[0]
		open = open[1:]
		from := strings.IndexByte(p, '{')
		to := -1
		if from >= 0 {
			to = strings.IndexByte(p[from:], '}')
		}
		if to < 0 || len(done)+len(open) > 64 {
			done = append(done, p)
			continue
		}
		for alternative := range strings.SplitSeq(p[from+1:from+to], ",") {
			open = append(open, p[:from]+alternative+p[from+to+1:])
		}
	}
	return done[:min(len(done), 64)]
}

func (t *assetTree) walk(rel string, depth int, above []fs.FileInfo, left *int) error {
	entries, err := fs.ReadDir(t.root, path.Join(t.dir, rel))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return reason(err)
	}
	for _, e := range entries {
		if *left--; *left < 0 {
			return errors.New("it holds too many files")
		}
		name := path.Join(rel, e.Name())
		info, err := fs.Stat(t.root, path.Join(t.dir, name))
		if err != nil { // a link to nowhere, or out of the root
			continue
		}
		switch {
		case info.Mode().IsRegular():
			t.files = append(t.files, assetFile{path.Join(t.dir, name), name, info.Size(), info.Mode()&0o111 != 0, strings.Split(name, "/")})
		case info.IsDir() && depth < maxDepth && !isAbove(above, info):
			if err := t.walk(name, depth+1, append(slices.Clip(above), info), left); err != nil {
				return err
			}
		}
	}
	return nil
}

// globBase is the folder of a pattern before its first wildcard, or the folder
// of a name.
func globBase(pattern string) string {
	if i := strings.IndexAny(pattern, "*?{"); i >= 0 {
		pattern = pattern[:i]
	}
	if i := strings.LastIndexByte(pattern, '/'); i >= 0 {
		return pattern[:i]
	}
	return ""
}

// globMatch reports whether the parts of a path fit those of a pattern, in
// which ** stands for any number of folders. The time it takes grows with the
// product of the lengths, whatever the pattern.
func globMatch(pattern, name []string) bool {
	// fits[j]: the pattern so far fits the first j parts of the name
	fits, next := make([]bool, len(name)+1), make([]bool, len(name)+1)
	fits[0] = true
	for k, p := range pattern {
		next[0] = false
		if p == "**" {
			any := false
			for j := range fits {
				any = any || fits[j]
				next[j] = any
			}
			if k == len(pattern)-1 { // something must be left to be a file
				next[0] = false
			}
		} else {
			for j := range name {
				next[j+1] = fits[j] && partMatch(p, name[j])
			}
		}
		fits, next = next, fits
	}
	return fits[len(name)]
}

// partMatch fits one part of a path; * stands for any characters, ? for one.
func partMatch(pattern, name string) bool {
	p, n := 0, 0
	star, again := -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, again = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			again++
			p, n = star+1, again
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
