package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"berth/content"
	"berth/labs"
	"berth/labs/jekyll"
	"berth/labs/katacoda"
	"berth/labs/markdown"
	"berth/runner/image"
)

// A place is where labs are looked for: a directory, or one file in it.
type place struct {
	name string   // as it was given
	dir  string   // absolute, "" for the labs that are shipped
	root *os.Root // likewise nil
	fsys fs.FS
	post string // the one Markdown file that was named, or ""
}

// shipped are the labs inside the program.
func shipped() *place { return &place{name: "shipped labs", fsys: content.Labs()} }

// openPlaces opens the directories and files that were named. close them.
func openPlaces(names []string) (all []*place, err error) {
	defer func() {
		if err != nil {
			closePlaces(all)
		}
	}()
	for _, name := range names {
		p, err := openPlace(name)
		if err != nil {
			return all, &labs.Problem{Kind: labs.ErrInvalid, Cause: err,
				Say: fmt.Sprintf("The labs in %s cannot be read. Name a directory that is a lab, with a lab.md or an index.json, or that holds some; or a Markdown file.", name)}
		}
		all = append(all, p)
	}
	return all, nil
}

func openPlace(name string) (*place, error) {
	dir, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	p := &place{name: name}
	if !info.IsDir() {
		switch file := filepath.Base(dir); {
		case slices.Contains([]string{"lab.md", "index.json", "index.yaml", "index.yml", "structure.json", "course.yaml"}, file):
		case info.Mode().IsRegular() && slices.Contains([]string{".md", ".markdown", ".txt"}, strings.ToLower(filepath.Ext(file))):
			p.post = file
		default:
			return nil, fmt.Errorf("%s: neither a directory nor a lab: %w", name, labs.ErrInvalid)
		}
		dir, p.name = filepath.Dir(dir), filepath.Dir(name)
	}
	p.dir = dir
	if p.root, err = os.OpenRoot(dir); err != nil { // links cannot lead out of it
		return nil, err
	}
	p.fsys = folder{p.root}
	if p.post != "" {
		p.fsys = oneFile{folder{p.root}, p.post}
	}
	return p, nil
}

func closePlaces(all []*place) {
	for _, p := range all {
		if p.root != nil {
			p.root.Close()
		}
	}
}

// oneFile shows one file of a directory where it is listed. The others can be
// opened all the same: a post shows the images beside it.
type oneFile struct {
	folder
	name string
}

// ReadDir lists a directory.
func (f oneFile) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	info, err := f.Lstat(f.name)
	if err != nil {
		return nil, err
	}
	return []fs.DirEntry{fs.FileInfoToDirEntry(info)}, nil
}

// load reads the lessons of the place in all formats. A mistake in one leaves
// the others alone.
func (p *place) load() ([]*labs.Lesson, []labs.Mistake) {
	if p.post != "" {
		return jekyll.LoadAll(p.fsys)
	}
	lessons, mistakes := markdown.LoadAll(p.fsys)
	mistakes = append(mistakes, brokenLinks(p.fsys)...)
	foreign, more := katacoda.LoadAll(p.fsys)
	lessons, mistakes = append(lessons, foreign...), append(mistakes, more...)
	posts, err := fs.Stat(p.fsys, "_posts")
	if err == nil && posts.IsDir() || len(lessons) == 0 && len(mistakes) == 0 {
		foreign, more = jekyll.LoadAll(p.fsys)
		lessons, mistakes = append(lessons, foreign...), append(mistakes, more...)
	}
	for i, l := range lessons { // the place itself is a lab, and its folder has a name
		if name := filepath.Base(p.dir); path.Dir(l.Source) == "." && p.dir != "" && labName.MatchString(name) && !isPost(l) {
			lessons[i] = rename(l, name)
		}
	}
	if len(lessons) == 0 && len(mistakes) == 0 {
		mistakes = []labs.Mistake{{File: ".", What: "there are no labs here", Hint: "a lab is a folder with a lab.md; `berth new NAME` makes one"}}
	}
	return lessons, mistakes
}

// brokenLinks finds labs whose lab.md is a link that cannot be followed: they
// would pass for other folders.
func brokenLinks(fsys fs.FS) (all []labs.Mistake) {
	dirs := []string{"."}
	entries, _ := fs.ReadDir(fsys, ".") // whoever reads the labs says what is wrong
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, e.Name())
		}
	}
	for _, dir := range dirs {
		name := path.Join(dir, "lab.md")
		info, err := fs.Lstat(fsys, name)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		if _, err := fs.Stat(fsys, name); err != nil {
			all = append(all, labs.Mistake{File: name, What: "it is a link that leads nowhere, or out of the folder", Hint: "put the file itself there"})
		}
	}
	return all
}

// A library is the lessons of several places, and what is wrong in them.
type library struct {
	shelves []*shelf
}

// A shelf is what one place holds.
type shelf struct {
	*place
	lessons  []*labs.Lesson
	mistakes []labs.Mistake
}

// readLibrary reads all places.
func readLibrary(places []*place) *library {
	b := &library{}
	for _, p := range places {
		s := &shelf{place: p}
		s.lessons, s.mistakes = p.load()
		b.shelves = append(b.shelves, s)
	}
	b.number()
	return b
}

// number makes the ids of the lessons unique over all places: of two with the
// same id the first keeps it.
func (b *library) number() {
	taken := make(map[string]string)
	for _, s := range b.shelves {
		for i, l := range s.lessons {
			if first, ok := taken[l.ID]; ok {
				id := l.ID
				for n := 2; ok; n++ {
					id = fmt.Sprintf("%s-%d", l.ID, n)
					_, ok = taken[id]
				}
				s.mistakes = append(s.mistakes, labs.Mistake{File: l.Source, Warn: true,
					What: fmt.Sprintf("there is another lab %s in %s; this one is %s", l.ID, first, id), Hint: "rename its folder"})
				s.lessons[i] = rename(l, id)
			}
			taken[s.lessons[i].ID] = s.name
		}
	}
}

// rename gives a lesson with another id, which is part of the addresses of its
// images and headings. Whoever has the lesson already keeps it as it is.
func rename(l *labs.Lesson, id string) *labs.Lesson {
	in := strings.NewReplacer(`src="/labs/`+l.ID+`/files/`, `src="/labs/`+id+`/files/`, `href="/labs/`+l.ID+`#`, `href="/labs/`+id+`#`)
	n := *l
	n.ID = id
	n.Intro.HTML, n.Finish.HTML = in.Replace(l.Intro.HTML), in.Replace(l.Finish.HTML)
	n.Steps = slices.Clone(l.Steps)
	for i := range n.Steps {
		st := &n.Steps[i]
		st.HTML, st.Solution.HTML = in.Replace(st.HTML), in.Replace(st.Solution.HTML)
		st.Hints = slices.Clone(st.Hints)
		for j := range st.Hints {
			st.Hints[j] = in.Replace(st.Hints[j])
		}
	}
	return &n
}

// lessons gives all of them, in their order.
func (b *library) lessons() (all []*labs.Lesson) {
	for _, s := range b.shelves {
		all = append(all, s.lessons...)
	}
	return all
}

// tell writes the mistakes into the log.
func (b *library) tell(log *slog.Logger) {
	for _, s := range b.shelves {
		for _, m := range s.mistakes {
			if m.Warn {
				log.Warn("a mistake in a lab", "in", s.name, "mistake", m.Error())
			} else {
				log.Error("a mistake in a lab", "in", s.name, "mistake", m.Error())
			}
		}
	}
}

// belongs reports whether a mistake is about the lesson: it is in its file, or
// in another of its folder.
func belongs(m labs.Mistake, l *labs.Lesson) bool {
	if m.File == l.Source {
		return true
	}
	dir := path.Dir(l.Source)
	if isPost(l) || dir == "." {
		return false // others stand beside it
	}
	return strings.HasPrefix(m.File, dir+"/")
}

// isPost reports whether the lesson is one file among others, not a folder.
func isPost(l *labs.Lesson) bool {
	return l.Format == labs.FormatMarkdown || l.Format == labs.FormatDockerPost
}

// ground is what lessons can run on here.
type ground struct {
	images *image.Store
	engine string // takes the place of "docker"
}

// name gives the sandbox image that a lesson runs on.
func (g ground) name(lesson string) string {
	if lesson == "docker" && g.engine != "" {
		return g.engine
	}
	return lesson
}

// ground is that of the flags.
func (c *config) ground(log *slog.Logger) ground { return ground{c.imageStore(log), c.engine} }

// mark notes in each lesson whose sandbox image is not there that it can only be
// read, and why. It gives how many can run, and the first reason.
func (g ground) mark(lessons []*labs.Lesson) (run int, first error) {
	known := make(map[string]error)
	for _, l := range lessons {
		if l.Cannot != "" {
			continue
		}
		name := g.name(l.Image)
		err, ok := known[name]
		if !ok {
			_, err = g.images.Find(name)
			known[name] = err
		}
		if err == nil {
			run++
			continue
		}
		if first == nil {
			first = err
		}
		l.Cannot = say(err)
		var p *labs.Problem
		if errors.As(err, &p) {
			l.Cannot = p.Say
		}
	}
	return run, first
}
