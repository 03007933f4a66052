package markdown

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"berth/labs"
)

// Bounds on the files of one lesson.
const (
	maxAssets     = 10_000
	maxAssetBytes = 64 << 20
	maxLooked     = 50_000 // files and folders that are looked at to find them
	maxFolders    = 60     // inside each other
)

// homeFiles is the folder whose files always go to the learner's home.
const homeFiles = "files"

// An assetRule is an item of `assets`.
type assetRule struct {
	file string // glob, relative to the lab's folder
	to   string // folder in the sandbox
	mode fs.FileMode
	host int
	line int
}

var assetKeys = []string{"file", "to", "mode", "host"}

// asset gives an item of `assets`.
func (y *yamlReader) asset(n ast.Node) (assetRule, bool) {
	before := y.added
	a := assetRule{line: y.line(n)}
	for _, s := range y.mapping(n, "an item of `assets`") {
		switch s.key {
		case "file":
			a.file, _ = y.word(s)
			if a.file != "" && (!fs.ValidPath(a.file) || a.file == "." || len(a.file) > 1000) {
				y.add(s.line, "name files in the lab's folder, such as `assets/*.sh`", "`file` cannot be %s", quote(a.file))
			}
		case "to":
			a.to = y.path(s, false)
		case "mode":
			t, ok := y.word(s)
			m, err := strconv.ParseUint(t, 8, 32)
			if ok && (err != nil || m > 0o777 || m == 0) {
				y.add(s.line, "write it as `chmod` takes it: `\"0755\"`", "`mode` cannot be %s", quote(t))
			}
			a.mode = fs.FileMode(m)
		case "host":
			a.host = y.integer(s, 1, maxHosts)
		default:
			y.unknown(s, assetKeys)
		}
	}
	if y.added == before && (a.file == "" || a.to == "") {
		y.add(a.line, "write `{file: \"assets/*\", to: ~/app}`", "an item of `assets` does not say which file goes where")
	}
	return a, y.added == before
}

// homeRule is the rule about files/, which no lesson has to write.
func homeRule(fsys fs.FS) []assetRule {
	if info, err := fs.Stat(fsys, homeFiles); err == nil && info.IsDir() {
		return []assetRule{{file: homeFiles + "/**", to: "~"}}
	}
	return nil
}

// assets finds what the rules name.
func assets(rules []assetRule, lesson *labs.Lesson, r *report) {
	t := newTree(lesson.Dir)
	size := int64(0)
	for _, rule := range rules {
		found, err := t.match(rule.file)
		for _, left := range t.left {
			r.warn(rule.line, "only regular files and links inside the lab's folder are put into the sandbox", "%s is left out", quote(left))
		}
		t.left = nil
		if err != nil {
			r.add(rule.line, "keep fewer files beside the lab", "%s: %v", quote(rule.file), plain(err))
			return
		}
		if len(found) == 0 && rule.line > 0 {
			r.add(rule.line, "names are relative to the lab's folder; `*` stands for a name, `**` for any folders", "there is no file %s", quote(rule.file))
		}
		for _, f := range found {
			a := labs.Asset{From: f.from, To: inFolder(rule.to, f.rel), Mode: rule.mode, Host: rule.host}
			if size += f.size; size > maxAssetBytes || len(lesson.Assets) == maxAssets {
				r.add(rule.line, "at most 10,000 files with 64 MiB fit", "the lesson brings too many files")
				return
			}
			lesson.Assets = append(lesson.Assets, a)
		}
	}
}

// inFolder joins a folder of the sandbox, which may be "~", and a name in it.
func inFolder(to, name string) string {
	if to == "~" || to == "~/" {
		return "~/" + name
	}
	return path.Join(to, name)
}

// A tree finds files in a lab's folder, and reads each folder once.
type tree struct {
	fsys   fs.FS
	looked int
	listed map[string][]treeFile
	left   []string // what was left out since the last look
}

func newTree(fsys fs.FS) *tree { return &tree{fsys: fsys, listed: map[string][]treeFile{}} }

// A treeFile is a file that may be put into the sandbox, or an empty folder.
type treeFile struct {
	name string // in the lab's folder
	rel  string // below the part of the glob that holds no sign
	from string // regular file, links followed; "" for an empty folder
	size int64
}

var errMany = errors.New("there are too many files to look at")

// match gives the files that a glob names, by name.
func (t *tree) match(glob string) ([]treeFile, error) {
	base, pattern := splitGlob(glob)
	all, err := t.below(base, 0)
	if err != nil {
		return nil, err
	}
	var found []treeFile
	segments := strings.Split(pattern, "/")
	for _, f := range all {
		if f.rel = strings.TrimPrefix(f.name, base+"/"); base == "." {
			f.rel = f.name
		}
		if f.name != fileName && matches(segments, strings.Split(f.rel, "/")) {
			found = append(found, f)
		}
	}
	return found, nil
}

// splitGlob gives the folder that a glob begins in, and the rest of it.
func splitGlob(glob string) (base, pattern string) {
	parts := strings.Split(path.Clean(glob), "/")
	for i, p := range parts {
		if strings.ContainsAny(p, "*?[") || i == len(parts)-1 {
			return path.Join(".", path.Join(parts[:i]...)), strings.Join(parts[i:], "/")
		}
	}
	return ".", glob
}

// matches reports whether a name fits a glob; ** stands for any folders. It
// takes time in proportion to the product of their lengths.
func matches(glob, name []string) bool {
	fits := make([]bool, len(name)+1) // of the names from each place on
	fits[len(name)] = true
	for g := len(glob) - 1; g >= 0; g-- {
		if glob[g] == "**" {
			// At the end it needs a name, elsewhere it may stand for none.
			if g == len(glob)-1 {
				fits[len(name)] = false
				for i := range name {
					fits[i] = true
				}
				continue
			}
			for i := len(name) - 1; i >= 0; i-- {
				fits[i] = fits[i] || fits[i+1]
			}
			continue
		}
		for i := range name {
			ok, err := path.Match(glob[g], name[i])
			fits[i] = err == nil && ok && fits[i+1]
		}
		fits[len(name)] = false
	}
	return fits[0]
}

// below lists the files in a folder and in those inside it.
func (t *tree) below(dir string, depth int) ([]treeFile, error) {
	if all, ok := t.listed[dir]; ok {
		return all, nil
	}
	if depth > maxFolders {
		return nil, errMany
	}
	entries, err := fs.ReadDir(t.fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if t.looked += len(entries); t.looked > maxLooked {
		return nil, errMany
	}
	var all []treeFile
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			if e.Name() == ".git" {
				continue
			}
			inside, err := t.below(name, depth+1)
			if err != nil {
				return nil, err
			}
			if len(inside) == 0 {
				inside = []treeFile{{name: name}}
			}
			all = append(all, inside...)
			continue
		}
		from, info, err := regular(t.fsys, name)
		if err != nil {
			t.left = append(t.left, name)
			continue
		}
		all = append(all, treeFile{name: name, from: from, size: info.Size()})
	}
	slices.SortFunc(all, func(a, b treeFile) int { return strings.Compare(a.name, b.name) })
	t.listed[dir] = all
	return all, nil
}

var (
	errLeaves  = errors.New("the link leads out of the folder")
	errRegular = errors.New("it is not a regular file")
)

// regular gives the regular file that a name means, with its symbolic links
// followed. A link that leads out of fsys is an error, also where fsys would
// follow it.
func regular(fsys fs.FS, name string) (string, fs.FileInfo, error) {
	if fsys == nil || !fs.ValidPath(name) {
		return "", nil, fs.ErrNotExist
	}
	at, links := "", 0
	var info fs.FileInfo
	for rest := strings.Split(name, "/"); len(rest) > 0; {
		next := path.Join(at, rest[0])
		var err error
		if info, err = fs.Lstat(fsys, next); err != nil {
			return "", nil, err
		}
		if rest = rest[1:]; info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		to, err := fs.ReadLink(fsys, next)
		if err != nil {
			return "", nil, err
		}
		links++
		if inside := path.Join(at, to); links > 20 || path.IsAbs(to) || !fs.ValidPath(inside) {
			return "", nil, errLeaves
		} else {
			to = inside
		}
		rest, at = append(strings.Split(to, "/"), rest...), ""
	}
	if !info.Mode().IsRegular() {
		return "", nil, errRegular
	}
	return at, info, nil
}
