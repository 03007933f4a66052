// Package katacoda reads the scenarios of Katacoda, of O'Reilly, where that
// went on, and of Killercoda, as they are. It translates them into our own
// format and has package markdown read that.
//
// # What is read
//
// A scenario is a folder with index.json (or index.yaml) that has details: the
// pages intro, steps and finish, each a Markdown file, with the scripts that run
// when a learner comes there (foreground or code: typed into the first
// terminal; background or courseData: hidden), verify (a script that says
// whether the step is done), hint and answer. Assets are files of the folder
// assets that are put into the sandbox.
//
// Courses are what NAME-pathway.json lists: scenarios of the folder NAME beside
// it; or structure.json: scenarios of its own folder, or folders with a
// structure.json of their own.
//
// # What is forgiven
//
// Everything that leaves some sense. Settings may hold comments, too many or
// too few commas, a byte order mark, unknown keys, numbers and booleans in
// quotes; files may be missing or be spelled with other capitals. It is told
// with the line where it stands, and the rest of the lesson loads.
//
// # Where it runs
//
// In the sandbox with a Docker Engine that all labs have, as root on host01,
// with the internet. Scenarios made for Kubernetes, OpenShift or a vendor's
// machine load and can be read; Lesson.Cannot says why they cannot run.
//
// # Strangers
//
// Everything is bounded. Links are followed where the file system follows them:
// that of an os.Root keeps a scenario inside the folder that was given.
package katacoda

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"berth/labs"
	"berth/labs/markdown"
)

// Load reads the scenario in the folder dir of fsys. Assets and images are read
// from fsys itself, which becomes Lesson.Dir: a scenario may use files that
// stand elsewhere in it. The lesson is nil when nothing can be made of the
// scenario; the mistakes then say why.
func Load(fsys fs.FS, dir string) (*labs.Lesson, []labs.Mistake) {
	s := open(fsys, dir)
	return s.load(slug(dir))
}

// Draft gives the scenario in the folder dir as a draft in our own format. It
// has no parts when nothing can be made of the scenario.
func Draft(fsys fs.FS, dir string) (markdown.Draft, []labs.Mistake) {
	s := open(fsys, dir)
	s.translate(slug(dir))
	return s.draft, s.mistakes
}

// load makes the lesson, and forgets what it was made of.
func (s *scenario) load(id string) (*labs.Lesson, []labs.Mistake) {
	s.translate(id)
	if s.failed {
		return nil, s.mistakes
	}
	lesson, mistakes := markdown.Build(s.draft)
	return lesson, append(s.mistakes, mistakes...)
}

// LoadAll reads every scenario in fsys: first those of courses, in the order
// that the courses give, then the others by path. A scenario that nothing can
// be made of is left out, and the mistakes say why. Folders whose names begin
// with a dot are passed over.
func LoadAll(fsys fs.FS) ([]*labs.Lesson, []labs.Mistake) {
	return loadAll(fsys, labs.MaxTexts)
}

func loadAll(fsys fs.FS, room int) ([]*labs.Lesson, []labs.Mistake) {
	t := walk(fsys)
	places := t.order()
	lessons := make([]*labs.Lesson, 0, len(places))
	mistakes := t.mistakes
	taken := map[string]bool{}
	for _, p := range places {
		s := p.scenario
		s.course, s.listed = p.course, p.listed
		l, ms := s.load(unused(slug(s.dir), taken))
		mistakes = append(mistakes, ms...)
		*s = scenario{} // its texts have been used
		if l == nil {
			continue
		}
		if room -= l.Size(); room < 0 {
			return lessons, append(mistakes, labs.TooManyTexts(l))
		}
		lessons = append(lessons, l)
	}
	return lessons, mistakes
}

// Bounds on a folder of scenarios.
const (
	maxDepth     = 12
	maxFolders   = 20_000
	linkCost     = 40
	maxScenarios = 5000
	maxCourses   = 2000
)

// A tree is a folder of scenarios that has been walked.
type tree struct {
	*report
	root      fs.FS
	scenarios []*scenario // by path
	courses   []courseFile
	folders   int
	full      bool
}

func walk(fsys fs.FS) *tree {
	t := &tree{report: &report{}, root: fsys}
	info, err := fs.Stat(fsys, ".")
	if err != nil {
		t.add(".", 0, "", "the folder cannot be read: %v", reason(err))
		return t
	}
	t.folder(".", 0, []fs.FileInfo{info}, 1)
	return t
}

// folder looks for scenarios and courses in one folder and those below it. Each
// costs as much as so many folders: those below a link cost more, since links
// to folders that hold links multiply, and take long to follow.
func (t *tree) folder(dir string, depth int, above []fs.FileInfo, cost int) {
	if t.full {
		return
	}
	if t.folders += cost; t.folders > maxFolders {
		t.full = true
		t.warn(dir, 0, "load a part of it", "there are too many folders: at most %d are looked at, of those below links fewer", maxFolders)
		return
	}
	entries, err := fs.ReadDir(t.root, dir)
	if err != nil {
		t.warn(dir, 0, "", "the folder cannot be read: %v", reason(err))
		return
	}
	scenarioHere := false
	for _, e := range entries {
		switch name := e.Name(); {
		case slices.Contains(indexNames, name) && !scenarioHere:
			scenarioHere = t.scenario(dir)
		case name == structureFile || strings.HasSuffix(name, pathwaySuffix):
			if len(t.courses) < maxCourses {
				t.courses = append(t.courses, courseFile{file: path.Join(dir, name)})
			}
		}
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || name == "node_modules" || scenarioHere && name == "assets" {
			continue
		}
		child, cost := path.Join(dir, name), cost
		switch {
		case e.IsDir():
		case e.Type()&fs.ModeSymlink != 0:
			cost = linkCost
			if info, err := fs.Stat(t.root, child); err != nil || !info.IsDir() {
				continue
			}
		default:
			continue
		}
		info, err := fs.Stat(t.root, child)
		if err != nil || isAbove(above, info) {
			continue
		}
		if depth >= maxDepth {
			t.warn(child, 0, "", "folders deeper than %d are not looked at", maxDepth)
			continue
		}
		t.folder(child, depth+1, append(slices.Clip(above), info), cost)
	}
}

// isAbove reports whether a folder is one of those above it, which a link can
// bring about.
func isAbove(above []fs.FileInfo, info fs.FileInfo) bool {
	return slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) })
}

// scenario notes the folder when its index is a scenario's, and reports
// whether it is.
func (t *tree) scenario(dir string) bool {
	s := open(t.root, dir)
	if s.index == nil || !isScenario(s.index) {
		if s.failed {
			if text, _, err := readText(t.root, s.file, maxIndex); err != nil || looksLikeScenario(text) {
				t.mistakes = append(t.mistakes, s.mistakes...)
			}
		}
		return false
	}
	if len(t.scenarios) >= maxScenarios {
		t.full = true
		t.warn(dir, 0, "load a part of it", "there are more than %d scenarios; the others are left out", maxScenarios)
		return true
	}
	t.scenarios = append(t.scenarios, s)
	return true
}

// maxID bounds a lesson's id.
const maxID = 80

// slug makes an id of a path or a title: small letters, digits and "-".
func slug(s string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(s) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= 4*maxID {
			break
		}
	}
	id := strings.Trim(b.String(), "-")
	if len(id) > maxID { // what tells scenarios apart stands at the end
		id = strings.Trim(id[len(id)-maxID:], "-")
	}
	return id
}

// unused gives an id that is not taken yet, and takes it.
func unused(id string, taken map[string]bool) string {
	if id == "" {
		id = "lab"
	}
	free := id
	for n := 2; taken[free]; n++ {
		free = id + "-" + strconv.Itoa(n)
	}
	taken[free] = true
	return free
}
