package katacoda

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a course is listed in.
const (
	pathwaySuffix = "-pathway.json"
	structureFile = "structure.json"
	profileFile   = "profile-pathway.json" // the order of courses, not one itself
)

// maxCourseItems bounds what one course may list.
const maxCourseItems = 1000

// A courseFile is a file that lists a course.
type courseFile struct {
	file  string
	title string
	items []courseItem
}

// A courseItem is one line of a course: a scenario, or a folder of them.
type courseItem struct {
	name    string // path of a folder, or the last part of one
	where   string // another path that Katacoda for trainers gives, or ""
	title   string
	summary string
	line    int
	foreign bool // it names somebody whose scenario it is
}

// A placed scenario knows its course.
type placed struct {
	scenario *scenario
	course   string
	listed   courseItem
}

var (
	pathwayKeys     = keys{known: []string{"title", "description", "courses", "scenarios"}, passed: []string{"icon", "noindex", "private", "difficulty", "time", "id", "live", "type", "author", "order", "tags", "hidden", "paid", "price"}}
	pathwayItemKeys = keys{known: []string{"course_id", "pathway_id", "id", "title", "description"}, passed: []string{"icon", "type", "external_link", "live", "difficulty", "time", "noindex", "private", "hidden", "action", "link", "url", "count"}}
	structureKeys   = keys{known: []string{"title", "description", "items"}, passed: []string{"icon", "author", "private", "noindex", "difficulty", "time", "id", "type", "version"}}
	structureItem   = keys{known: []string{"path", "title", "description"}, passed: []string{"icon", "type", "difficulty", "time", "id"}}
)

// order gives the scenarios in the order they are shown in.
func (t *tree) order() []placed {
	for i := range t.courses {
		t.readCourse(&t.courses[i])
	}
	o := &orderer{
		tree: t, byDir: map[string]*scenario{}, byName: map[string][]*scenario{}, at: map[*scenario]bool{},
		entered: map[string]bool{}, above: map[string]bool{}, filled: map[string]bool{},
	}
	for _, s := range t.scenarios {
		o.byDir[s.dir] = s
		name := path.Base(s.dir)
		o.byName[name] = append(o.byName[name], s)
		for dir := path.Dir(s.dir); dir != "."; dir = path.Dir(dir) {
			o.above[dir] = true
		}
	}
	structures, pathways := map[string]*courseFile{}, []*courseFile{}
	for i := range t.courses {
		c := &t.courses[i]
		if path.Base(c.file) == structureFile {
			structures[path.Dir(c.file)] = c
		} else if path.Base(c.file) != profileFile {
			pathways = append(pathways, c)
		}
	}
	o.structures = structures
	pathways = t.profile(pathways)
	// A scenario belongs to the course in whose folder it stands, and only
	// else to one that borrows it.
	owned := map[*scenario]*courseFile{}
	for _, c := range pathways {
		for _, item := range c.items {
			if s := o.byDir[path.Join(c.folder(), item.name)]; s != nil && owned[s] == nil {
				owned[s] = c
			}
		}
	}
	for _, c := range pathways {
		for _, item := range c.items {
			s := o.find(c, item)
			switch {
			case s == nil && item.foreign: // it stands in another folder of scenarios
			case s == nil:
				t.warn(c.file, item.line, "", "the course has no scenario %s", quote(item.name))
			case owned[s] == nil || owned[s] == c:
				o.place(s, c.title, item)
			}
		}
	}
	for i := range t.courses { // the outermost first, since they are by path
		if c := &t.courses[i]; path.Base(c.file) == structureFile && !o.entered[c.file] {
			o.enter(c, "", 0)
		}
	}
	for _, s := range t.scenarios {
		o.place(s, "", courseItem{})
	}
	return o.placed
}

// folder is where the scenarios of a pathway stand.
func (c *courseFile) folder() string {
	return strings.TrimSuffix(c.file, pathwaySuffix)
}

// readCourse reads what lists a course.
func (t *tree) readCourse(c *courseFile) {
	before := t.failed
	v := readSettings(t.root, c.file, t.report)
	t.failed = before // the scenarios load without it
	if v == nil {
		return
	}
	x := settings{t.report, c.file}
	if path.Base(c.file) == structureFile {
		ms := x.members(v, "the course", structureKeys)
		c.title = x.lineOf(ms["title"])
		c.items = t.items(x, ms["items"], structureItem)
		return
	}
	ms := x.members(v, "the course", pathwayKeys)
	c.title = x.lineOf(ms["title"])
	c.items = append(t.items(x, ms["courses"], pathwayItemKeys), t.items(x, ms["scenarios"], pathwayItemKeys)...)
}

func (t *tree) items(x settings, m member, k keys) []courseItem {
	var items []courseItem
	for _, v := range x.list(m) {
		if len(items) >= maxCourseItems {
			x.warn(x.file, v.line, "divide it", "the course lists more than %d scenarios", maxCourseItems)
			break
		}
		item := courseItem{line: v.line}
		if v.kind == isString {
			item.name = v.text
		} else {
			ms := x.members(v, "an item of the course", k)
			item.title, item.summary = x.lineOf(ms["title"]), x.lineOf(ms["description"])
			item.name, item.where = x.text(ms["course_id"]), x.text(ms["id"])
			item.foreign = x.text(ms["pathway_id"]) != ""
			if item.name == "" {
				item.name, item.where = item.where, ""
			}
			if p := x.text(ms["path"]); p != "" {
				item.name = p
			}
		}
		item.name, item.where = cleanName(item.name), cleanName(item.where)
		if item.name == "" {
			if item.title == "" || v.kind != isObject {
				x.warn(x.file, v.line, "", "an item of the course names no scenario")
			}
			continue
		}
		items = append(items, item)
	}
	return items
}

// cleanName cleans the name of a folder; it cannot lead out of the root.
func cleanName(name string) string {
	name = strings.TrimSpace(strings.ReplaceAll(name, `\`, "/"))
	if name == "" {
		return ""
	}
	return path.Clean("/" + name)[1:]
}

// profile puts pathways into the order that a profile gives.
func (t *tree) profile(pathways []*courseFile) []*courseFile {
	rank := map[string]int{}
	for _, c := range t.courses {
		if path.Base(c.file) == profileFile {
			for _, item := range c.items {
				name := path.Join(path.Dir(c.file), item.name) + pathwaySuffix
				if _, ok := rank[name]; !ok {
					rank[name] = len(rank) + 1 - 1<<20
				}
			}
		}
	}
	slices.SortStableFunc(pathways, func(a, b *courseFile) int { return rank[a.file] - rank[b.file] })
	return pathways
}

// An orderer puts every scenario into its place, once.
type orderer struct {
	*tree
	byDir      map[string]*scenario
	byName     map[string][]*scenario
	structures map[string]*courseFile
	above      map[string]bool // folders that have scenarios somewhere below them
	filled     map[string]bool // of those, the ones that a course took whole
	at         map[*scenario]bool
	entered    map[string]bool
	placed     []placed
}

func (o *orderer) place(s *scenario, course string, item courseItem) {
	if !o.at[s] {
		o.at[s] = true
		o.placed = append(o.placed, placed{s, course, item})
	}
}

// find gives the scenario that an item of a pathway means: in the folder of the
// course, beside it, at the path that is given, or the only one of that name.
func (o *orderer) find(c *courseFile, item courseItem) *scenario {
	dir := path.Dir(c.file)
	for _, p := range []string{path.Join(c.folder(), item.name), path.Join(dir, item.name), path.Join(dir, item.where), item.where, item.name} {
		if s := o.byDir[p]; s != nil && p != "." && p != "" {
			return s
		}
	}
	if same := o.byName[path.Base(item.name)]; len(same) == 1 {
		return same[0]
	}
	return nil
}

// enter places what a structure.json lists: scenarios, and folders with a
// structure.json of their own, whose courses are named by themselves or by what
// lists them.
func (o *orderer) enter(c *courseFile, title string, depth int) {
	if o.entered[c.file] || depth > maxDepth {
		return
	}
	o.entered[c.file] = true
	dir := path.Dir(c.file)
	switch {
	case c.title != "":
		title = c.title
	case title == "" && dir != ".":
		title = titleOf(path.Base(dir))
	}
	for _, item := range c.items {
		at := path.Join(dir, item.name)
		switch s, inner := o.byDir[at], o.structures[at]; {
		case s != nil:
			o.place(s, title, item)
		case inner != nil && inner != c:
			o.enter(inner, item.title, depth+1)
		case o.above[at] && !o.filled[at]:
			o.filled[at] = true
			name := item.title
			if name == "" {
				name = titleOf(path.Base(at))
			}
			for _, s := range o.scenarios {
				if strings.HasPrefix(s.dir, at+"/") {
					o.place(s, name, courseItem{})
				}
			}
		case !o.filled[at]:
			o.warn(c.file, item.line, "", "there is no scenario in the folder %s", quote(item.name))
		}
	}
}

// titleOf makes a title of the name of a folder.
func titleOf(name string) string {
	words := strings.FieldsFunc(name, func(c rune) bool { return c == '-' || c == '_' || c == ' ' })
	t := strings.Join(words, " ")
	if t == "" {
		return ""
	}
	first, n := utf8.DecodeRuneInString(t)
	return string(unicode.ToUpper(first)) + t[n:]
}
