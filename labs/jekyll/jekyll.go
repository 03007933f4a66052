// Package jekyll reads Markdown that was not written as a lab: posts of Play
// with Docker and of other Jekyll sites, plain Markdown files, and transcripts
// of a shell in a text file. It translates them into our own format and has
// package markdown read that.
//
// # What is made of a file
//
// Headings begin steps: those of the first level that occurs more than once. A
// file with no headings is one step. The title is that of the front matter, the
// heading that the file begins with, or the name of the file.
//
// Blocks of sh, bash and shell, of .term1 to .term6 and code that is a paragraph
// by itself are commands; lines that begin with "$ " in a block, or anywhere in
// a transcript, are commands with what they print.
//
// # Jekyll
//
// The front matter gives title, level and, as Play with Docker has it, terms:
// how many terminals there are. Each of those was a machine of its own; here
// they are terminals of one sandbox, or of two when the lesson makes a swarm of
// them. Links with data-port lead to the preview of that port, lists below
// {:.quiz} are questions. {:toc} and other attributes of kramdown are dropped,
// Liquid too, with a warning, but for {% raw %}, {% highlight %}, texts in quotes
// and the address of the site.
//
// # Strangers
//
// Everything is bounded. Links are followed where the file system follows them.
package jekyll

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"berth/labs"
	"berth/labs/markdown"
)

// Bounds on a folder of posts.
const (
	maxText    = 2 << 20 // bytes of one file
	maxDepth   = 8
	maxFolders = 5000
	maxPosts   = 2000
)

// Load reads one file. Images are read from fsys, which becomes Lesson.Dir. The
// lesson is nil when nothing can be made of the file; the mistakes say why.
func Load(fsys fs.FS, file string) (*labs.Lesson, []labs.Mistake) {
	return load(fsys, file, idOf(file))
}

// Draft gives a file as a draft in our own format. It has no parts when nothing
// can be made of the file.
func Draft(fsys fs.FS, file string) (markdown.Draft, []labs.Mistake) {
	return draft(fsys, file, idOf(file))
}

func load(fsys fs.FS, file, id string) (*labs.Lesson, []labs.Mistake) {
	d, mistakes := draft(fsys, file, id)
	if len(d.Parts) == 0 {
		return nil, mistakes
	}
	lesson, more := markdown.Build(d)
	return lesson, append(mistakes, more...)
}

// LoadAll reads the posts of a Jekyll site, by their names; those are the files
// of the folders _posts. In a folder without those it reads every Markdown file,
// and text files that are transcripts, by path, but for what a project says
// about itself (README and the like, unless there is nothing else) and for
// folders that hold labs of another format.
func LoadAll(fsys fs.FS) ([]*labs.Lesson, []labs.Mistake) {
	return loadAll(fsys, labs.MaxTexts)
}

func loadAll(fsys fs.FS, room int) ([]*labs.Lesson, []labs.Mistake) {
	f := &finder{root: fsys}
	info, err := fs.Stat(fsys, ".")
	if err != nil {
		return nil, []labs.Mistake{{File: ".", What: "the folder cannot be read: " + reason(err).Error()}}
	}
	f.folder(".", 0, []fs.FileInfo{info})
	files := f.posts
	if len(files) == 0 {
		files = f.pages
	}
	if len(files) == 0 {
		files = f.about
	}
	var lessons []*labs.Lesson
	mistakes := f.mistakes
	taken := map[string]bool{}
	for _, file := range files {
		id := idOf(file)
		for n := 2; taken[id]; n++ {
			id = idOf(file) + "-" + strconv.Itoa(n)
		}
		l, ms := load(fsys, file, id)
		mistakes = append(mistakes, ms...)
		if l == nil {
			continue
		}
		if room -= l.Size(); room < 0 {
			return lessons, append(mistakes, labs.TooManyTexts(l))
		}
		taken[id] = true
		lessons = append(lessons, l)
	}
	return lessons, mistakes
}

// A finder looks for files that can be lessons.
type finder struct {
	root     fs.FS
	posts    []string // in folders _posts
	pages    []string
	about    []string // what projects say about themselves
	folders  int
	mistakes []labs.Mistake
}

// aboutProjects are files that stand in most repositories and teach nothing.
var aboutProjects = regexp.MustCompile(`(?i)^(readme|contributing|contribute|changelog|changes|history|license|licence|copying|code[_-]of[_-]conduct|security|authors|maintainers|notice|todo|roadmap|support|governance|pull_request_template|issue_template)\b`)

func (f *finder) folder(dir string, depth int, above []fs.FileInfo) {
	if f.folders++; f.folders > maxFolders {
		if f.folders == maxFolders+1 {
			f.warn(dir, fmt.Sprintf("there are more than %d folders; the others are left out", maxFolders))
		}
		return
	}
	entries, err := fs.ReadDir(f.root, dir)
	if err != nil {
		f.warn(dir, "the folder cannot be read: "+reason(err).Error())
		return
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "lab.md" || f.isScenario(path.Join(dir, e.Name())) }) {
		return
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := fs.Stat(f.root, name)
		if err != nil { // a link to nowhere, or out of the root
			continue
		}
		switch {
		case info.Mode().IsRegular():
			f.file(name)
		case !info.IsDir() || strings.HasPrefix(e.Name(), "_") && e.Name() != "_posts" || e.Name() == "node_modules" || e.Name() == "vendor":
		case depth >= maxDepth || slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }):
		default:
			f.folder(name, depth+1, append(slices.Clip(above), info))
		}
	}
}

// isScenario reports whether a file is the index of a lab of Katacoda's kind.
func (f *finder) isScenario(name string) bool {
	switch path.Base(name) {
	case "index.json", "index.yaml", "index.yml":
		text, _, err := readText(f.root, name, 1<<20)
		return err == nil && strings.Contains(text, "details") && strings.Contains(text, "steps")
	}
	return false
}

func (f *finder) file(name string) {
	if len(f.posts)+len(f.pages)+len(f.about) >= maxPosts {
		if f.folders <= maxFolders {
			f.warn(name, fmt.Sprintf("there are more than %d files; the others are left out", maxPosts))
			f.folders = maxFolders + 1
		}
		return
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".md", ".markdown", ".mkd", ".mdown":
	case ".txt":
		if text, _, err := readText(f.root, name, maxText); err != nil || !isTranscript(text) && !strings.HasPrefix(text, "---\n") {
			return
		}
	default:
		return
	}
	switch {
	case path.Base(path.Dir(name)) == "_posts" || strings.Contains(name, "_posts/"):
		f.posts = append(f.posts, name)
	case aboutProjects.MatchString(path.Base(name)):
		f.about = append(f.about, name)
	default:
		f.pages = append(f.pages, name)
	}
}

func (f *finder) warn(file, what string) {
	f.mistakes = append(f.mistakes, labs.Mistake{File: file, What: what, Warn: true})
}

// dated is how the names of posts begin.
var dated = regexp.MustCompile(`^\d{4}-\d{1,2}-\d{1,2}-`)

// idOf makes a lesson's id of the path of its file.
func idOf(file string) string {
	dir, name := path.Split(strings.TrimSuffix(file, path.Ext(file)))
	name = dated.ReplaceAllString(name, "")
	dir = strings.ReplaceAll(dir, "_posts/", "")
	id := slug(dir + name)
	if id == "" {
		return "lab"
	}
	return id
}

// slug makes an id of a text: small letters, digits and "-", at most 80.
func slug(s string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(cutBytes(s, 400)) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	id := strings.Trim(b.String(), "-")
	if len(id) > 80 {
		id = strings.Trim(id[len(id)-80:], "-")
	}
	return id
}

func cutBytes(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// readText reads a text file of at most limit bytes, without byte order mark,
// lines ended by \n. odd: it was not UTF-8, and what is not stands as U+FFFD.
func readText(fsys fs.FS, name string, limit int64) (text string, odd bool, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", false, reason(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", false, reason(err)
	}
	if !info.Mode().IsRegular() {
		return "", false, errors.New("it is not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", false, reason(err)
	}
	if int64(len(b)) > limit {
		return "", false, fmt.Errorf("it is larger than %d KiB", limit>>10)
	}
	odd = !utf8.Valid(b)
	text = strings.TrimPrefix(strings.ToValidUTF8(string(b), "\ufffd"), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return strings.ReplaceAll(text, "\r", "\n"), odd, nil
}

// reason says what is the matter with a file without naming it.
func reason(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no such file")
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
