// Command corpus loads folders of labs that were written for other places, and
// prints a table: what was found, what loads, what runs here, what was not
// understood, and whether anything of the other place's notation is left in
// what a learner would see. Makefile: make corpus DIR=…
//
// A folder that holds nothing but folders is taken for several repositories. It
// exits with status 1 when a lab did not load or notation was left.
package main

import (
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"berth/labs"
	"berth/labs/jekyll"
	"berth/labs/katacoda"
)

func main() {
	verbose := flag.Bool("v", false, "print every mistake, and every piece of notation that was left")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: corpus [-v] DIR…")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	var rows []*row
	for _, dir := range flag.Args() {
		repositories, err := repositoriesIn(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, "corpus:", err)
			os.Exit(2)
		}
		for _, repository := range repositories {
			r, err := measure(repository)
			if err != nil {
				fmt.Fprintln(os.Stderr, "corpus:", err)
				os.Exit(2)
			}
			if *verbose {
				r.print(os.Stdout)
			}
			rows = append(rows, r)
		}
	}
	if !table(os.Stdout, rows) {
		os.Exit(1)
	}
}

// repositoriesIn gives dir, or the folders in it when it holds nothing else.
func repositoriesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if !e.IsDir() {
			return []string{dir}, nil
		}
		dirs = append(dirs, filepath.Join(dir, e.Name()))
	}
	if len(dirs) == 0 {
		return []string{dir}, nil
	}
	return dirs, nil
}

// A row is what was measured of one repository.
type row struct {
	name     string
	loaded   int
	failed   int // labs that did not load
	runs     int
	clusters int // need Kubernetes
	others   int // cannot run for another reason
	courses  int
	steps    int
	commands int
	special  int // of them those with keys, Ctrl-C first, or a terminal of their own
	files    int
	checks   int
	quizzes  int
	setups   int
	typed    int
	assets   int
	left     []string // notation outside of code, and addresses anywhere
	inCode   []string // notation in code, which may be the author's
	mistakes []labs.Mistake
	warnings map[string]int
	time     time.Duration
}

// measure loads one repository.
func measure(dir string) (*row, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	r := &row{name: filepath.Base(dir), warnings: map[string]int{}}
	begin := time.Now()
	lessons, mistakes := katacoda.LoadAll(root.FS())
	if len(lessons) == 0 && len(mistakes) == 0 {
		lessons, mistakes = jekyll.LoadAll(root.FS())
	}
	r.time = time.Since(begin)
	r.mistakes = mistakes
	failed := map[string]bool{}
	for _, m := range mistakes {
		r.warnings[kindOf(m)]++
		if !m.Warn {
			failed[m.File] = true
		}
	}
	r.loaded = len(lessons)
	courses := map[string]bool{}
	for _, l := range lessons {
		delete(failed, l.Source)
		courses[l.Course] = true
		r.lesson(l)
	}
	delete(courses, "")
	r.failed, r.courses = len(failed), len(courses)
	return r, nil
}

func (r *row) lesson(l *labs.Lesson) {
	switch {
	case l.Cannot == "":
		r.runs++
	case strings.Contains(l.Cannot, "Kubernetes"):
		r.clusters++
	default:
		r.others++
	}
	r.assets += len(l.Assets)
	r.steps += len(l.Steps)
	r.page(l, "title", html.EscapeString(l.Title+"\n"+l.Summary+"\n"+l.Course))
	for _, t := range l.Tabs {
		r.page(l, "tabs", html.EscapeString(t.Title+"\n"+t.URL+"\n"+t.Path))
	}
	for _, p := range []struct {
		id   string
		part labs.Part
	}{{labs.IntroID, l.Intro}, {labs.FinishID, l.Finish}} {
		r.page(l, p.id, p.part.HTML)
		r.arrival(l, p.id, p.part.Arrival)
	}
	for i := range l.Steps {
		st := &l.Steps[i]
		r.page(l, st.ID, html.EscapeString(st.Title)+"\n"+st.HTML+"\n"+strings.Join(st.Hints, "\n")+"\n"+st.Solution.HTML)
		r.arrival(l, st.ID, st.Arrival)
		r.commands += len(st.Commands)
		r.files += len(st.Files)
		for _, c := range slices.Concat(st.Commands, st.Solution.Commands) {
			if c.Interrupt || c.Keys || c.NoEnter || c.Once || c.Terminal != "1" {
				r.special++
			}
			r.code(l, st.ID, c.Code)
		}
		for _, f := range st.Files {
			r.code(l, st.ID, f.Text)
		}
		for _, c := range st.Checks {
			if c.Quiz != nil {
				r.quizzes++
			} else {
				r.checks++
				r.code(l, st.ID, c.Script)
			}
		}
	}
}

func (r *row) arrival(l *labs.Lesson, part string, a labs.Arrival) {
	r.setups += len(a.Setup)
	r.typed += len(a.Type)
	for _, s := range a.Setup {
		r.code(l, part, s.Code)
	}
	for _, c := range a.Type {
		r.code(l, part, c.Code)
	}
}

// Notation of the other places that no learner should see.
var (
	marks     = regexp.MustCompile("(?i)\\{\\{[^{}\\n]{0,60}\\b(?:execute|exec|copy|open)\\b[^{}\\n]{0,60}\\}\\}|`\\{\\{\\s*(?:exec|copy|open|interrupt|T\\d|HOST\\d)|\\{%\\s*\\w+[^\\n]{0,80}%\\}|\\{:[.#]?[a-z-]+[^{}\\n]{0,80}\\}")
	addresses = regexp.MustCompile(`\[\[(?:HOST|CLIENT|KATACODA|UUID)[A-Z0-9_]*\]\]|(?i)\{\{\s*TRAFFIC_[^}\n]{0,100}\}\}|\{\{\s*site\.\w+\s*\}\}`)
	codeParts = regexp.MustCompile(`(?s)<pre\b.*?</pre>|<code\b.*?</code>`)
	anyTag    = regexp.MustCompile(`<[^>]*>`)
	hrefs     = regexp.MustCompile(`\b(?:href|src|alt|title)="([^"]*)"`)
)

// page looks for notation in what is rendered.
func (r *row) page(l *labs.Lesson, part, rendered string) {
	shown := anyTag.ReplaceAllString(codeParts.ReplaceAllString(rendered, " "), "")
	for _, m := range hrefs.FindAllStringSubmatch(rendered, -1) {
		shown += "\n" + m[1]
	}
	shown = html.UnescapeString(shown)
	for _, re := range []*regexp.Regexp{marks, addresses} {
		for _, m := range re.FindAllString(shown, -1) {
			r.left = append(r.left, l.Source+" "+part+": "+m)
		}
	}
	for _, block := range codeParts.FindAllString(rendered, -1) {
		code := html.UnescapeString(anyTag.ReplaceAllString(block, ""))
		for _, m := range marks.FindAllString(code, -1) {
			r.inCode = append(r.inCode, l.Source+" "+part+": "+m)
		}
		for _, m := range addresses.FindAllString(code, -1) {
			r.left = append(r.left, l.Source+" "+part+" (code): "+m)
		}
	}
}

// code looks for addresses in what runs.
func (r *row) code(l *labs.Lesson, part, code string) {
	for _, m := range addresses.FindAllString(code, -1) {
		r.left = append(r.left, l.Source+" "+part+" (runs): "+m)
	}
	for _, m := range marks.FindAllString(code, -1) {
		r.inCode = append(r.inCode, l.Source+" "+part+" (runs): "+m)
	}
}

var quoted = regexp.MustCompile("`[^`]*`|\\d+")

// kindOf gives a mistake without what is its own.
func kindOf(m labs.Mistake) string {
	k := quoted.ReplaceAllString(m.What, "…")
	if !m.Warn {
		k = "ERROR " + k
	}
	return k
}

// print writes everything about one repository.
func (r *row) print(w io.Writer) {
	fmt.Fprintf(w, "== %q\n", r.name)
	for _, m := range r.mistakes {
		kind := "warning"
		if !m.Warn {
			kind = "error"
		}
		fmt.Fprintf(w, "%s: %s\n", kind, strings.Map(printable, m.Error()))
	}
	for _, s := range r.left {
		fmt.Fprintf(w, "left: %q\n", s)
	}
	for _, s := range r.inCode {
		fmt.Fprintf(w, "in code: %q\n", s)
	}
}

// table prints all rows and their sum, and reports whether everything loaded
// and nothing was left.
func table(w io.Writer, rows []*row) bool {
	sum := &row{name: "together", warnings: map[string]int{}}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "repository\tlabs\tloaded\tfailed\truns\tkubernetes\tother\tcourses\tsteps\tcommands\tspecial\tfiles\tchecks\tquizzes\tsetups\ttyped\tassets\twarnings\tleft\tin code\ttime\t")
	for _, r := range rows {
		r.write(t)
		sum.add(r)
	}
	if len(rows) > 1 {
		sum.write(t)
	}
	t.Flush()
	kinds := make([]string, 0, len(sum.warnings))
	for k := range sum.warnings {
		kinds = append(kinds, k)
	}
	sort.Slice(kinds, func(i, j int) bool {
		if a, b := sum.warnings[kinds[i]], sum.warnings[kinds[j]]; a != b {
			return a > b
		}
		return kinds[i] < kinds[j]
	})
	fmt.Fprintln(w, "\nWhat was not understood:")
	for _, k := range kinds {
		fmt.Fprintf(w, "%6d  %s\n", sum.warnings[k], k)
	}
	return sum.failed == 0 && len(sum.left) == 0
}

func (r *row) write(w io.Writer) {
	fmt.Fprintf(w, "%s\t", strings.Map(printable, r.name))
	for _, n := range []int{r.loaded + r.failed, r.loaded, r.failed, r.runs, r.clusters, r.others, r.courses, r.steps, r.commands, r.special, r.files, r.checks, r.quizzes, r.setups, r.typed, r.assets, len(r.mistakes), len(r.left), len(r.inCode)} {
		fmt.Fprintf(w, "%d\t", n)
	}
	fmt.Fprintf(w, "%v\t\n", r.time.Round(time.Millisecond))
}

func (r *row) add(o *row) {
	r.loaded, r.failed, r.runs, r.clusters, r.others = r.loaded+o.loaded, r.failed+o.failed, r.runs+o.runs, r.clusters+o.clusters, r.others+o.others
	r.courses, r.steps, r.commands, r.special, r.files = r.courses+o.courses, r.steps+o.steps, r.commands+o.commands, r.special+o.special, r.files+o.files
	r.checks, r.quizzes, r.setups, r.typed, r.assets = r.checks+o.checks, r.quizzes+o.quizzes, r.setups+o.setups, r.typed+o.typed, r.assets+o.assets
	r.mistakes, r.left, r.inCode = append(r.mistakes, o.mistakes...), append(r.left, o.left...), append(r.inCode, o.inCode...)
	for k, n := range o.warnings {
		r.warnings[k] += n
	}
	r.time += o.time
}

// printable drops what a terminal would act on.
func printable(c rune) rune {
	if unicode.IsPrint(c) {
		return c
	}
	return -1
}
