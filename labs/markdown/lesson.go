package markdown

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"berth/labs"
)

// fileName is what the text of a lab is called.
const fileName = "lab.md"

// Load reads the lab in the folder dir of fsys. The lesson is nil when there is
// a mistake that is not a warning.
func Load(fsys fs.FS, dir string) (*labs.Lesson, []labs.Mistake) {
	r := &report{}
	r.in(path.Join(dir, fileName), nil)
	l := load(fsys, dir, r)
	if r.failed {
		l = nil
	}
	return l, r.sorted()
}

func load(fsys fs.FS, dir string, r *report) *labs.Lesson {
	sub, err := fs.Sub(fsys, dir)
	if err != nil {
		r.add(0, "", "the folder cannot be opened: %v", plain(err))
		return nil
	}
	text := readFile(sub, fileName, maxFile, r)
	if text == nil {
		return nil
	}
	lesson := &labs.Lesson{ID: path.Base(dir), Format: labs.FormatBerth, Dir: sub, Source: r.file}
	if dir == "." {
		lesson.ID = ""
	} else if !stepID.MatchString(lesson.ID) {
		r.add(0, "rename it with small letters, digits and `-`", "the folder %s cannot be part of an address", quote(lesson.ID))
	}
	read(text, lesson, homeRule(sub), r)
	return lesson
}

// read makes a lesson of the text of a lab.md. An empty id is made of its title.
func read(text []byte, lesson *labs.Lesson, rules []assetRule, r *report) {
	front, body, ok := splitFrontMatter(text, r)
	if !ok {
		return
	}
	rules = append(rules, frontMatter(front, r, lesson)...)
	defaults(lesson)
	if lesson.ID == "" {
		lesson.ID = slug(lesson.Title, "lab")
	}
	assets(rules, lesson, r)
	l := newLoader(r, lesson)
	l.fillSettings()
	l.body(newSource([]byte(l.fill(string(body.text), body.first)), body.first))
	l.weigh()
}

// courseFile may say in which order the labs of a folder come.
const courseFile = "course.yaml"

// maxLabs bounds how many labs one folder may hold.
const maxLabs = 1000

// LoadAll reads every lab of fsys: the folders that hold a lab.md, or fsys
// itself when it holds one. They come in the order that course.yaml gives, then
// by name. A lab with a mistake that is not a warning is left out.
//
// Where fsys follows symbolic links, so does LoadAll; the file system of an
// os.Root keeps a stranger's labs inside their folder.
func LoadAll(fsys fs.FS) ([]*labs.Lesson, []labs.Mistake) {
	return loadAll(fsys, labs.MaxTexts)
}

func loadAll(fsys fs.FS, room int) ([]*labs.Lesson, []labs.Mistake) {
	if isLab(fsys, ".") {
		l, mistakes := Load(fsys, ".")
		if l == nil {
			return nil, mistakes
		}
		return []*labs.Lesson{l}, mistakes
	}
	r := &report{}
	r.in(".", nil)
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		r.add(0, "", "the folder cannot be read: %v", plain(err))
		return nil, r.sorted()
	}
	var dirs []string
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, ".") && isLab(fsys, name) {
			dirs = append(dirs, name)
		}
	}
	if len(dirs) > maxLabs {
		r.warn(0, "divide it", "the folder holds more than %d labs; the others are left out", maxLabs)
		dirs = dirs[:maxLabs]
	}
	course := &report{}
	course.in(courseFile, nil)
	title, dirs := readCourse(fsys, dirs, course)
	mistakes := append(r.sorted(), course.sorted()...)
	var lessons []*labs.Lesson
	for _, dir := range dirs {
		l, ms := Load(fsys, dir)
		mistakes = append(mistakes, ms...)
		if l == nil {
			continue
		}
		if room -= l.Size(); room < 0 {
			return lessons, append(mistakes, labs.TooManyTexts(l))
		}
		l.Course = title
		lessons = append(lessons, l)
	}
	return lessons, mistakes
}

func isLab(fsys fs.FS, dir string) bool {
	info, err := fs.Stat(fsys, path.Join(dir, fileName))
	return err == nil && !info.IsDir()
}

// courseKeys are the settings of course.yaml.
var courseKeys = []string{"title", "order"}

// readCourse gives the title in course.yaml, and puts the folders into the order
// that it says.
func readCourse(fsys fs.FS, dirs []string, r *report) (title string, ordered []string) {
	if _, err := fs.Stat(fsys, courseFile); errors.Is(err, fs.ErrNotExist) {
		return "", dirs
	}
	text := readFile(fsys, courseFile, maxYAML, r)
	if text == nil {
		return "", dirs
	}
	y := &yamlReader{report: r, first: 1}
	for _, s := range y.parse(string(text), "the course") {
		switch s.key {
		case "title":
			title = y.sentence(s, 120)
		case "order":
			for _, n := range y.items(s) {
				name, ok := y.scalar(n, "order", y.line(n))
				switch {
				case !ok:
				case slices.Contains(ordered, name):
					y.warn(y.line(n), "", "the lab %s comes twice", quote(name))
				case !slices.Contains(dirs, name):
					hint := ""
					if near := nearest(name, dirs); near != "" {
						hint = "did you mean " + quote(near) + "?"
					}
					y.add(y.line(n), hint, "there is no lab %s", quote(name))
				default:
					ordered = append(ordered, name)
				}
			}
		default:
			y.unknown(s, courseKeys)
		}
	}
	for _, dir := range dirs {
		if !slices.Contains(ordered, dir) {
			ordered = append(ordered, dir)
		}
	}
	return title, ordered
}
