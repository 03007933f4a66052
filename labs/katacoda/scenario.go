package katacoda

import (
	"errors"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"berth/labs"
	"berth/labs/markdown"
)

// Bounds on one scenario.
const (
	maxSteps     = 500
	maxAllText   = 8 << 20   // bytes of its pages and scripts together
	maxTyped     = 60 << 10  // bytes of a script that is typed
	maxVerify    = 100 << 10 // bytes of a script that verifies a step, which is one argument of bash
	maxTitle     = 120
	maxSummary   = 300
	maxTabs      = 12
	maxTerminals = 8
)

// A scenario is one folder on its way to a draft.
type scenario struct {
	settings
	root  fs.FS
	dir   string
	index *value

	course string     // title of the course that lists it
	listed courseItem // what the course says about it

	draft      markdown.Draft
	format     labs.Format
	place      place
	hosts      int
	port       int    // what the settings name, or 0
	editor     string // folder that the editor shows, or ""
	pages      []*sheet
	textBytes  int
	assetBytes int64
	assetNames []string // base names of what is put into the sandbox
	told       map[string]bool
	listings   map[string][]fs.DirEntry
}

// A sheet is one page of a scenario as it was read.
type sheet struct {
	part markdown.DraftPart
	raw  string // its Markdown as it is written
	line int    // of its settings

	hint, hintFile     string // Markdown
	answer, answerFile string
}

// open reads the settings of the scenario in dir.
func open(fsys fs.FS, dir string) *scenario {
	s := &scenario{root: fsys, dir: path.Clean(dir), told: map[string]bool{}, listings: map[string][]fs.DirEntry{}, hosts: 1}
	s.report = &report{}
	if !fs.ValidPath(s.dir) {
		s.file = quote(dir)
		s.add(s.file, 0, "", "it is no folder below the one that is loaded")
		return s
	}
	if s.file = findIndex(fsys, s.dir); s.file == "" {
		s.file = path.Join(s.dir, indexNames[0])
		s.add(s.file, 0, "", "there is no such file")
		return s
	}
	s.index = readSettings(fsys, s.file, s.report)
	return s
}

// once warns once about each kind of thing that there is too much of.
func (s *scenario) once(kind string, line int, what string, args ...any) {
	if !s.told[kind] {
		s.told[kind] = true
		s.warn(s.file, line, "", what, args...)
	}
}

var (
	scenarioKeys = keys{
		known: []string{"title", "description", "difficulty", "time", "pathwayTitle", "type", "details", "files", "environment", "interface", "backend", "intro", "steps", "finish", "assets"},
		passed: []string{"icon", "noindex", "private", "live", "embedonly", "id", "lifetime", "embedded_survey_url", "events", "asyncFiles", "layoutType", "author", "authors",
			"tags", "version", "$schema", "categories", "keywords", "language", "level", "badge", "hidden", "theme", "external_link", "pathwayId"},
	}
	detailKeys      = keys{known: []string{"intro", "steps", "finish", "assets", "files"}, passed: []string{"introduction"}}
	pageKeys        = keys{known: []string{"title", "text", "credits", "code", "foreground", "courseData", "background", "verify", "answer", "hint"}, passed: []string{"credit", "checkPolicyName", "cmd", "openFile", "id", "icon", "description", "time", "timeout"}}
	environmentKeys = keys{
		known: []string{"uilayout", "uieditorpath", "uimessage1", "showdashboard", "showdashboards", "dashboard", "dashboards", "terminals", "hideintro", "hidefinish", "showide"},
		passed: []string{"uimessage2", "icon", "uisettings", "hidesidebar", "hideHiddenFiles", "hidehiddenfiles", "hideuieditortree", "ide", "idePort", "showvisualise", "showvisualize",
			"exclusionPatterns", "delayToSaveFileAfterStopTypingMilliseconds", "editor", "theme", "title", "env", "timeout", "uidependencies"},
	}
	interfaceKeys = keys{known: []string{"layout"}, passed: []string{"theme"}}
	backendKeys   = keys{known: []string{"imageid", "port"}, passed: []string{"autoUpgrade", "trainingid", "dockerimage", "url", "environment", "target", "region", "reuseConnection", "livetime"}}
	dashboardKeys = keys{known: []string{"name", "port", "href", "host"}, passed: []string{"icon", "path", "hide", "title", "target"}}
	terminalKeys  = keys{known: []string{"name", "target", "command"}, passed: []string{"icon", "title", "port"}}
)

// translate fills the draft.
func (s *scenario) translate(id string) {
	l := &s.draft.Lesson
	*l = labs.Lesson{ID: id, Image: image, Egress: labs.EgressInternet, Hostname: "host01", Paged: true, Dir: s.root, Source: s.file, Course: s.course}
	s.draft.Lenient = true
	if s.failed {
		return
	}
	if !isScenario(s.index) {
		s.add(s.file, 1, "a scenario has `\"details\": {\"steps\": [ … ]}`", "this is no scenario: it has no `details`")
		return
	}
	ms := s.members(s.index, "the scenario", scenarioKeys)
	details := s.members(ms["details"].value, "`details`", detailKeys)
	for _, key := range []string{"intro", "steps", "assets", "finish"} {
		m, outside := ms[key]
		if _, inside := details[key]; !outside {
			continue
		} else if inside || details == nil {
			s.warn(s.file, m.line, "write it between the braces of `details`", "%s stands beside `details`, and is left out", quote(key))
			continue
		}
		s.warn(s.file, m.line, "write it between the braces of `details`", "%s stands beside `details`", quote(key))
		details[key] = m
	}
	s.about(ms)
	s.place = placeOf(s.backend(ms["backend"]))
	s.assetsOf(details["assets"])
	s.read(ms, details)
	s.decideFormat(ms)
	s.decideHosts()
	s.environment(ms)
	s.write()
	if len(s.draft.Parts) == 0 {
		s.playground(ms)
	}
	l.Format, l.Hosts, l.Cannot = s.format, s.hosts, s.place.cannot
	s.pages = nil
}

// playground makes a lesson of a scenario that has a machine, and no text.
func (s *scenario) playground(ms map[string]member) {
	if ms["backend"].value == nil && ms["environment"].value == nil {
		s.add(s.file, ms["details"].line, "", "the scenario has no text that could be read")
		return
	}
	text := escape(s.draft.Lesson.Summary)
	if text == "" {
		text = "This lab has no text: it is a machine to try things on."
	}
	s.draft.Parts = []markdown.DraftPart{{ID: labs.IntroID, File: s.file, Text: text + "\n", Lines: []int{0}}}
}

// about reads what the scenario says about itself.
func (s *scenario) about(ms map[string]member) {
	l := &s.draft.Lesson
	l.Title = cut(plainText(s.lineOf(ms["title"])), maxTitle)
	if l.Title == "" {
		l.Title = cut(plainText(s.listed.title), maxTitle)
	}
	if l.Title == "" {
		s.warn(s.file, 1, "write `\"title\": \"…\"`", "the scenario has no title")
		l.Title = titleOf(path.Base(s.dir))
		if s.dir == "." {
			l.Title = "A lab"
		}
	}
	l.Summary = cut(plainText(s.lineOf(ms["description"])), maxSummary)
	if l.Summary == "" {
		l.Summary = cut(plainText(s.listed.summary), maxSummary)
	}
	if l.Course == "" {
		l.Course = cut(plainText(s.lineOf(ms["pathwayTitle"])), maxTitle)
	} else {
		l.Course = cut(plainText(l.Course), maxTitle)
	}
	l.Level = levelOf(s.lineOf(ms["difficulty"]))
	l.Minutes = minutes(s.lineOf(ms["time"]))
}

// levels are the words that people use for how difficult a lab is.
var levels = map[string]string{
	"begin": "beginner", "easy": "beginner", "intro": "beginner", "basic": "beginner", "princip": "beginner", "novice": "beginner", "start": "beginner", "einf": "beginner", "leicht": "beginner", "débutant": "beginner", "iniciante": "beginner", "fundament": "beginner",
	"intermed": "intermediate", "medium": "intermediate", "middle": "intermediate", "mittel": "intermediate", "moder": "intermediate",
	"advanc": "advanced", "hard": "advanced", "expert": "advanced", "difficult": "advanced", "schwer": "advanced", "avan": "advanced", "profession": "advanced",
}

func levelOf(difficulty string) string {
	d := strings.ToLower(difficulty)
	at, level := len(d), ""
	for word, is := range levels {
		if i := strings.Index(d, word); i >= 0 && i < at {
			at, level = i, is
		}
	}
	return level
}

var duration = regexp.MustCompile(`(\d+(?:[.,]\d+)?)\s*(?:(?:-|–|to|bis|a)\s*(\d+(?:[.,]\d+)?))?\s*(h|std|hora|stund|heure|d\b|day)?`)

// minutes reads how long something takes: "15 minutes", "20-25 min", "1 hour",
// "1h 30m", 10. The longest time counts. 0 when it is not said.
func minutes(time string) int {
	total := 0.0
	hours := false
	for _, m := range duration.FindAllStringSubmatch(strings.ToLower(time), 4) {
		n := m[1]
		if m[2] != "" {
			n = m[2]
		}
		f, err := strconv.ParseFloat(strings.ReplaceAll(n, ",", "."), 64)
		if err != nil {
			continue
		}
		switch {
		case m[3] == "d" || m[3] == "day":
			f *= 24 * 60
		case m[3] != "":
			f *= 60
			hours = true
		case total > 0 && !hours: // another number, of something else
			f = 0
		}
		total += f
	}
	if total != total || total <= 0 {
		return 0
	}
	return int(min(total, 1000))
}

// backend gives the imageid, and makes a tab of the port.
func (s *scenario) backend(m member) (imageid string) {
	ms := s.members(m.value, "`backend`", backendKeys)
	imageid = s.lineOf(ms["imageid"])
	if imageid == "" {
		line := m.line
		if line == 0 {
			line = 1
		}
		s.warn(s.file, line, "write `\"backend\": {\"imageid\": \"ubuntu\"}`", "the scenario names no image; it gets the sandbox that all labs have")
		return ""
	}
	if p := placeOf(imageid); p.lacks != "" {
		s.warn(s.file, ms["imageid"].line, "what it brings may have to be installed", "the sandbox here is not %s but the one that all labs have", quote(p.lacks))
	}
	return imageid
}

// read reads the pages with their scripts.
func (s *scenario) read(ms, details map[string]member) {
	if m, ok := details["intro"]; ok {
		s.page(m.value, m.line, labs.IntroID, "`intro`", 0)
	}
	steps := s.list(details["steps"])
	if m, ok := details["steps"]; ok && m.value.kind == isObject { // one step, or steps by number
		steps = nil
		for _, n := range m.value.members {
			if n.value.kind == isObject {
				steps = append(steps, n.value)
			}
		}
		if len(steps) == 0 {
			steps = []*value{m.value}
		}
	}
	if _, intro := details["intro"]; len(steps) == 0 && !intro {
		s.warn(s.file, max(ms["details"].line, details["steps"].line), "", "the scenario has no steps")
	}
	for i, v := range steps {
		if i >= maxSteps {
			s.warn(s.file, v.line, "divide the scenario", "the scenario has %d steps; only the first %d are shown", len(steps), maxSteps)
			break
		}
		s.page(v, v.line, "", "a step", i+1)
	}
	if m, ok := details["finish"]; ok {
		s.page(m.value, m.line, labs.FinishID, "`finish`", 0)
	}
}

// page reads one page: its text and its scripts.
func (s *scenario) page(v *value, line int, id, what string, n int) {
	if v == nil || v.kind == isNull {
		return
	}
	if v.kind == isString { // the name of its text, and nothing else
		v = &value{kind: isObject, line: v.line, members: []member{{key: "text", line: v.line, value: v}}}
	}
	if v.kind != isObject {
		s.warn(s.file, line, "write it between { and }", "%s must be an object, not %s", what, v.kind)
		return
	}
	ms := s.members(v, what, pageKeys)
	p := &sheet{line: line}
	p.part.ID, p.part.File = id, s.file
	p.part.Title = cut(plainText(s.lineOf(ms["title"])), maxTitle)
	s.pages = append(s.pages, p)
	if m, ok := ms["text"]; ok && s.text(m) != "" {
		if t := s.text(m); strings.Contains(strings.TrimSpace(t), "\n") { // the text itself
			p.raw = t
		} else if text, file, ok := s.load1(m, maxText, "the text"); ok {
			p.raw, p.part.File = text, file
			s.helpers(file, text, helperInText)
		} else {
			p.raw = "*The text of this page is missing.*\n"
		}
	} else if n > 0 {
		s.warn(s.file, line, "write `\"text\": \"step1.md\"`", "step %d has no text", n)
	}
	if c := s.text(ms["credits"]); strings.TrimSpace(c) != "" {
		p.raw = strings.TrimRight(p.raw, "\n") + "\n\nCredits: " + strings.TrimSpace(c) + "\n"
	}
	for _, key := range []string{"foreground", "code"} {
		if code, _, ok := s.script(ms[key]); ok && strings.TrimSpace(code) != "" {
			if len(code) > maxTyped {
				s.warn(s.file, ms[key].line, "run it in the background", "the script %s is too long to be typed into a terminal", quote(s.text(ms[key])))
				continue
			}
			p.part.Arrival.Type = append(p.part.Arrival.Type, labs.Command{Code: strings.TrimSuffix(code, "\n"), Terminal: "1"})
		}
	}
	for _, key := range []string{"background", "courseData"} {
		if code, _, ok := s.script(ms[key]); ok && strings.TrimSpace(code) != "" {
			p.part.Arrival.Setup = append(p.part.Arrival.Setup, labs.Setup{Code: asBash(code)})
		}
	}
	s.help(p, ms, n)
}

// help reads what only steps have: verify, hint and answer.
func (s *scenario) help(p *sheet, ms map[string]member, n int) {
	if n == 0 {
		for _, key := range []string{"verify", "hint", "answer"} {
			if m, ok := ms[key]; ok && s.text(m) != "" {
				s.warn(s.file, m.line, "move it to a step", "%s means nothing outside of steps", quote(key))
			}
		}
		return
	}
	if script, _, ok := s.script(ms["verify"]); ok {
		if len(script) > maxVerify {
			s.warn(s.file, ms["verify"].line, "", "the script that verifies step %d is longer than %d KiB", n, maxVerify>>10)
		} else if strings.TrimSpace(script) == "" {
			s.warn(s.file, ms["verify"].line, "", "the script that verifies step %d is empty", n)
		} else {
			p.part.Checks = []labs.Check{verifyCheck(script)}
		}
	}
	if m := ms["hint"]; s.text(m) != "" {
		if text, file, ok := s.load1(m, maxText, "the hint"); ok {
			if isMarkdown(file) {
				p.hint, p.hintFile = text, file
			} else if said := saidBy(text); len(said) > 0 {
				p.part.Hints = said
			} else {
				s.warn(s.file, m.line, "write it as Markdown", "the hint %s is a program, which is not run here", quote(s.text(m)))
			}
		}
	}
	if m := ms["answer"]; s.text(m) != "" {
		if text, file, ok := s.load1(m, maxText, "the answer"); ok {
			if isMarkdown(file) {
				p.answer, p.answerFile = text, file
			} else {
				p.part.Solution = fenced("sh", text)
			}
		}
	}
}

func isMarkdown(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".md", ".markdown", ".txt", "":
		return true
	}
	return false
}

// fenced puts code into a block that nothing in it closes.
func fenced(language, code string) string {
	fence := "```"
	for strings.Contains(code, fence) {
		fence += "`"
	}
	return fence + language + "\n" + strings.TrimSuffix(code, "\n") + "\n" + fence + "\n"
}

// script reads the script that a setting names.
func (s *scenario) script(m member) (code, file string, ok bool) {
	if m.value == nil || strings.TrimSpace(s.text(m)) == "" {
		return "", "", false
	}
	if code, file, ok = s.load1(m, maxScript, "the script"); !ok {
		return "", "", false
	}
	s.helpers(file, code, helperInScript)
	return code, file, true
}

// load1 reads the file that a setting names, relative to the scenario.
func (s *scenario) load1(m member, limit int64, what string) (text, file string, ok bool) {
	name := strings.TrimSpace(s.text(m))
	file, ok = s.inside(name)
	if !ok {
		s.warn(s.file, m.line, "", "%s %s is outside of the folder that is loaded", what, quote(name))
		return "", "", false
	}
	text, odd, err := readText(s.root, file, limit)
	if err != nil && !errors.Is(err, errLarge) {
		if other := s.otherCase(file); other != "" {
			s.warn(s.file, m.line, "spell both alike", "%s %s is called %s", what, quote(name), quote(path.Base(other)))
			file = other
			text, odd, err = readText(s.root, file, limit)
		}
	}
	if err != nil {
		s.warn(s.file, m.line, "", "%s %s cannot be read: %v", what, quote(name), err)
		return "", "", false
	}
	if odd {
		s.warn(file, 0, "save the file as UTF-8", "it is not UTF-8")
	}
	if s.textBytes += len(text); s.textBytes > maxAllText {
		s.textBytes -= len(text)
		s.once("text", m.line, "the scenario has more than %s of text and scripts; %s and what does not fit after it is left out", labs.Bytes(maxAllText), quote(name))
		return "", "", false
	}
	return text, file, true
}

// inside gives the path in the root of a name that is relative to the scenario.
func (s *scenario) inside(name string) (string, bool) {
	name = strings.ReplaceAll(name, `\`, "/")
	p := path.Join(s.dir, name)
	return p, fs.ValidPath(p)
}

// otherCase finds a file whose name differs only in its capitals.
func (s *scenario) otherCase(file string) string {
	dir := path.Dir(file)
	entries, ok := s.listings[dir]
	if !ok {
		entries, _ = fs.ReadDir(s.root, dir)
		s.listings[dir] = entries
	}
	for _, e := range entries {
		if strings.EqualFold(e.Name(), path.Base(file)) && e.Name() != path.Base(file) {
			return path.Join(dir, e.Name())
		}
	}
	return ""
}

// decideFormat tells which of the three wrote the scenario.
func (s *scenario) decideFormat(ms map[string]member) {
	s.format = labs.FormatKatacoda
	if strings.HasSuffix(s.file, ".json") {
		if strings.Contains(s.text(ms["type"]), "@") {
			s.format = labs.FormatOReilly
			return
		}
	} else {
		s.format = labs.FormatOReilly
		return
	}
	_, newer := ms["interface"]
	_, older := ms["environment"]
	if newer || !older || s.uses("foreground", "background") || s.inStructure() {
		s.format = labs.FormatKillercoda
		return
	}
	if slices.ContainsFunc(s.pages, func(p *sheet) bool { return killercodaMark.MatchString(p.raw) }) {
		s.format = labs.FormatKillercoda
	}
}

// killercodaMark is what only Killercoda's texts have.
var killercodaMark = regexp.MustCompile(`\{\{\s*(?i:exec)\b|\{\{TRAFFIC_`)

// uses reports whether a page has one of these settings.
func (s *scenario) uses(names ...string) bool {
	var in func(v *value, depth int) bool
	in = func(v *value, depth int) bool {
		if v == nil || depth > 4 {
			return false
		}
		for _, m := range v.members {
			if slices.Contains(names, m.key) || in(m.value, depth+1) {
				return true
			}
		}
		return slices.ContainsFunc(v.items, func(i *value) bool { return in(i, depth+1) })
	}
	for _, m := range s.index.members {
		if strings.EqualFold(m.key, "details") {
			return in(m.value, 0)
		}
	}
	return false
}

// inStructure reports whether a folder above the scenario lists a course in
// Killercoda's way.
func (s *scenario) inStructure() bool {
	for dir := s.dir; dir != "."; {
		dir = path.Dir(dir)
		if info, err := fs.Stat(s.root, path.Join(dir, structureFile)); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// decideHosts tells how many sandboxes the scenario needs.
func (s *scenario) decideHosts() {
	s.hosts = max(s.hosts, s.place.hosts)
	for _, p := range s.pages {
		if secondHost.MatchString(p.raw) {
			s.hosts = 2
		}
	}
}

// environment reads what stands beside the text.
func (s *scenario) environment(ms map[string]member) {
	l := &s.draft.Lesson
	env := s.members(ms["environment"].value, "`environment`", environmentKeys)
	face := s.members(ms["interface"].value, "`interface`", interfaceKeys)
	backend := s.members(ms["backend"].value, "`backend`", keys{known: backendKeys.known, passed: append(backendKeys.passed, backendKeys.known...)})
	layout := strings.ToLower(s.lineOf(env["uilayout"]) + " " + s.lineOf(face["layout"]))
	l.Layout = labs.LayoutTerminal
	if strings.Contains(layout, "editor") || strings.Contains(layout, "vscode") || strings.Contains(layout, "ide") || s.yes(env["showide"]) && !strings.Contains(layout, "terminal") {
		l.Layout = labs.LayoutEditor
	}
	if open, ok := cleanTarget(s.lineOf(env["uieditorpath"])); ok && s.lineOf(env["uieditorpath"]) != "" {
		l.Open = strings.TrimSuffix(open, "/")
		s.editor = l.Open
	} else if files := s.list(ms["files"]); len(files) > 0 && files[0].kind == isString {
		if open, ok := cleanTarget(files[0].text); ok {
			l.Open = strings.TrimSuffix(open, "/")
		}
	}
	l.Greeting = cutBytes(s.text(env["uimessage1"]), 4<<10)
	s.terminals(env, layout)
	s.port = s.number(backend["port"], 65535)
	s.tabs(env, layout)
	if s.yes(env["hideintro"]) {
		s.hide(labs.IntroID)
	}
	if s.yes(env["hidefinish"]) {
		s.hide(labs.FinishID)
	}
}

// hide takes the text of a page away; what happens there still does.
func (s *scenario) hide(id string) {
	s.pages = slices.DeleteFunc(s.pages, func(p *sheet) bool {
		if p.part.ID == id {
			p.raw, p.part.Title = "", ""
		}
		return p.part.ID == id && p.part.Arrival.Setup == nil && p.part.Arrival.Type == nil
	})
}

// terminals reads which terminals are open from the start.
func (s *scenario) terminals(env map[string]member, layout string) {
	l := &s.draft.Lesson
	items := s.list(env["terminals"])
	add := func(title, command string, host int) {
		if len(l.Terminals) >= maxTerminals {
			s.once("terminals", env["terminals"].line, "more than %d terminals are not opened", maxTerminals)
			return
		}
		if len(l.Terminals) == 0 {
			l.Terminals = append(l.Terminals, labs.TerminalTab{Name: "1"})
		}
		name := s.unusedTerminal(title)
		if host > 1 && host <= s.hosts {
			name += "@" + strconv.Itoa(host)
		}
		l.Terminals = append(l.Terminals, labs.TerminalTab{Name: name, Title: cut(title, 40), Command: command})
	}
	for _, v := range items {
		ms := s.members(v, "a terminal", terminalKeys)
		host := hostNumber(s.text(ms["target"]))
		if host == 0 {
			s.warn(s.file, ms["target"].line, "there are `host01` and `host02`", "the host %s is not known", quote(s.text(ms["target"])))
			host = 1
		}
		s.hosts = max(s.hosts, host)
		command := s.text(ms["command"])
		add(s.lineOf(ms["name"]), cutBytes(strings.TrimRight(command, "\r\n"), 4<<10), host)
	}
	if len(items) == 0 && strings.Contains(layout, "terminal-terminal") {
		add("Terminal 2", "", min(2, s.hosts))
	}
}

// unusedTerminal names the next terminal by its number: T2 in a text is the
// second one.
func (s *scenario) unusedTerminal(title string) string {
	if m := terminalNumber.FindStringSubmatch(title); m != nil && !s.hasTerminal(m[1]) {
		return m[1]
	}
	for n := len(s.draft.Lesson.Terminals) + 1; ; n++ {
		if name := strconv.Itoa(n); !s.hasTerminal(name) {
			return name
		}
	}
}

var terminalNumber = regexp.MustCompile(`(?i)^\s*(?:terminal|t|shell)\s*([1-9])\s*$`)

func (s *scenario) hasTerminal(name string) bool {
	return slices.ContainsFunc(s.draft.Lesson.Terminals, func(t labs.TerminalTab) bool {
		inside, _ := labs.SplitTerminal(t.Name)
		return inside == name
	})
}

// tabs reads what is shown beside the terminals.
func (s *scenario) tabs(env map[string]member, layout string) {
	l := &s.draft.Lesson
	for _, v := range s.list(env["dashboards"]) {
		if len(l.Tabs) >= maxTabs {
			s.once("tabs", v.line, "more than %d dashboards are not shown", maxTabs)
			return
		}
		ms := s.members(v, "a dashboard", dashboardKeys)
		tab := labs.Tab{Title: cut(plainText(s.lineOf(ms["name"])), 40)}
		if href := strings.TrimSpace(s.text(ms["href"])); href != "" {
			var ok bool
			if tab.Port, tab.Host, tab.Path, ok = s.portOf(href); !ok {
				if u, err := url.Parse(href); err != nil || u.Scheme != "https" || u.Host == "" || strings.ContainsAny(href, "[]{}") {
					if s.place.cannot == "" {
						s.warn(s.file, ms["href"].line, "write an address that begins with https", "the dashboard %s cannot show %s", quote(tab.Title), quote(href))
					}
					continue
				}
				tab.URL = href
			}
		} else if tab.Port = s.number(ms["port"], 65535); tab.Port == 0 {
			s.warn(s.file, v.line, "write `\"port\": 80`", "the dashboard %s has no port", quote(tab.Title))
			continue
		} else if host := hostNumber(s.text(ms["host"])); host > 1 && host <= s.hosts {
			tab.Host = host
		}
		if tab.Host > s.hosts {
			tab.Host = 0
		}
		if tab.Title == "" {
			tab.Title = "Port " + strconv.Itoa(tab.Port)
		}
		l.Tabs = append(l.Tabs, tab)
	}
	shown := s.yes(env["showdashboard"]) || s.yes(env["showdashboards"]) || strings.Contains(layout, "iframe")
	if len(l.Tabs) == 0 && shown && s.port > 0 {
		title := cut(plainText(s.lineOf(env["dashboard"])), 40)
		if title == "" {
			title = "Dashboard"
		}
		l.Tabs = append(l.Tabs, labs.Tab{Title: title, Port: s.port})
	}
}

// portOf reads the address of a port of the sandbox.
func (s *scenario) portOf(href string) (port, host int, rest string, ok bool) {
	t := newTranslation("", s.pageOf(s.file))
	a, n, ok := t.parseTraffic(href)
	if !ok || a.alone != "" || a.word != "" {
		return 0, 0, "", false
	}
	if port = a.port; port == 0 {
		port = s.port
	}
	if a.host > 1 {
		host = a.host
	}
	rest = a.path + href[n:]
	if rest != "" && rest[0] != '/' {
		rest = "/" + strings.TrimLeft(rest, "/")
	}
	return port, host, rest, port > 0
}

// pageOf says how the text of a file is to be read.
func (s *scenario) pageOf(file string) page {
	return page{file: file, scenario: s.dir, root: s.root, killercoda: s.format == labs.FormatKillercoda, editor: s.editor, hostname: s.draft.Lesson.Hostname, port: s.port}
}

// placed puts addresses in the place of the placeholders of a script.
func (s *scenario) addresses(code string) string {
	if !mayBeTraffic(code) {
		return code
	}
	t := newTranslation("", s.pageOf(s.file))
	lines := strings.SplitAfter(code, "\n")
	for i, l := range lines {
		lines[i] = t.inCode(l, fetches(l))
	}
	return strings.Join(lines, "")
}

// doesSomething finds what a click on a page would do, and quizzes.
var doesSomething = regexp.MustCompile(`(?im)\{\{[^{}\n]{0,100}\bexec|<pre[^>]{0,500}\bdata-(filename|target)\b|^\s*>>.*<<\s*$`)

// write translates the pages.
func (s *scenario) write() {
	var mentions bool
	number := 0
	for _, p := range s.pages {
		mentions = mentions || s.mentions(p, trafficFile)
		if p.part.ID != "" && doesSomething.MatchString(p.raw) {
			// Only steps can have commands, files and quizzes.
			if p.part.Title == "" {
				p.part.Title = map[string]string{labs.IntroID: "Introduction", labs.FinishID: "Finish"}[p.part.ID]
			}
			p.part.ID = ""
		} else if p.part.ID == "" {
			number++
		}
		src, title := p.raw, p.part.Title
		first, rest := firstHeading(src)
		isStep := p.part.ID != labs.IntroID && p.part.ID != labs.FinishID
		switch {
		case isStep && title == "" && first != "":
			p.part.Title, src = cut(first, maxTitle), rest
		case title != "" && first != "" && alike(title, first):
			src = rest
		}
		text, lines, mistakes := translate(src, s.pageOf(p.part.File))
		s.mistakes = append(s.mistakes, mistakes...)
		if !isStep && title != "" && (first == "" || alike(title, first)) {
			text = "## " + escape(title) + "\n\n" + text
			if lines == nil {
				for n := range strings.Count(text, "\n") + 1 {
					lines = append(lines, n+1)
				}
			}
			lines = append([]int{0, 0}, lines...)
			p.part.Title = ""
		}
		p.part.Text, p.part.Lines = text, lines
		for i := range p.part.Arrival.Setup {
			p.part.Arrival.Setup[i].Code = s.addresses(p.part.Arrival.Setup[i].Code)
		}
		for i := range p.part.Arrival.Type {
			p.part.Arrival.Type[i].Code = s.addresses(p.part.Arrival.Type[i].Code)
		}
		for i := range p.part.Checks {
			p.part.Checks[i].Script = s.addresses(p.part.Checks[i].Script)
		}
		if p.hintFile != "" {
			p.part.Hints = []string{s.markdownOf(p.hint, p.hintFile)}
		}
		if p.answerFile != "" {
			p.part.Solution = s.markdownOf(p.answer, p.answerFile)
		}
		if isStep && strings.TrimSpace(p.part.Title) == "" {
			p.part.Title = "Step " + strconv.Itoa(number)
		}
		s.draft.Parts = append(s.draft.Parts, p.part)
	}
	s.atStart(mentions)
}

// atStart adds what has to be there before anything else: to the set-up that
// the scenario begins with, since several begin at the same time.
func (s *scenario) atStart(traffic bool) {
	first := ""
	if traffic {
		first = trafficSetup
	}
	if slices.ContainsFunc(s.pages, func(p *sheet) bool { return s.mentions(p, path.Dir(tutorialFolder)) }) {
		first += tutorialSetup
	}
	if first == "" || len(s.draft.Parts) == 0 {
		return
	}
	a := &s.draft.Parts[0].Arrival
	if len(a.Setup) == 0 {
		a.Setup = []labs.Setup{{Code: first}}
		return
	}
	code := a.Setup[0].Code
	line := ""
	if strings.HasPrefix(code, "#!") {
		line, code, _ = strings.Cut(code, "\n")
		line += "\n"
	}
	a.Setup[0].Code = line + first + code
}

// mentions reports whether a page or one of its scripts holds a word.
func (s *scenario) mentions(p *sheet, word string) bool {
	if strings.Contains(p.raw, word) || strings.Contains(p.answer, word) {
		return true
	}
	for _, x := range p.part.Arrival.Setup {
		if strings.Contains(x.Code, word) {
			return true
		}
	}
	for _, x := range p.part.Arrival.Type {
		if strings.Contains(x.Code, word) {
			return true
		}
	}
	return slices.ContainsFunc(p.part.Checks, func(c labs.Check) bool { return strings.Contains(c.Script, word) })
}

// markdownOf translates a hint or an answer.
func (s *scenario) markdownOf(src, file string) string {
	text, _, mistakes := translate(src, s.pageOf(file))
	s.mistakes = append(s.mistakes, mistakes...)
	return text
}
