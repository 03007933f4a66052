package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"text/tabwriter"

	"berth/labs"
	"berth/labs/markdown"

	"github.com/spf13/cobra"
)

func newLint() *cobra.Command {
	var c config
	var asJSON, strict bool
	var schema string
	cmd := &cobra.Command{
		Use:   "lint [DIR…]",
		Short: "Say what is in lessons, what is wrong with them, and whether they can run here",
		Long: `Read the lessons in the directories that are given (this one, if none is) in all
formats, and say of each how many steps, commands, checks, questions and set-ups
it has, what its sandbox must offer, and whether it can run here. What was not
understood follows, with file and line.

Exit status: 0 when there is no error, 1 when there are errors (with --strict
also when there are warnings), 2 when the lessons could not be looked at.

--json prints one object:
  lessons   list of: id, title, format, source (its file), in (its directory),
            steps, commands, files, checks, quizzes, setups (numbers),
            needs: sandbox (image), engine, internet, kubernetes (true or
            false), images (list of references), hosts (number),
            runs (true or false), why (it does not run, or ""),
            errors, warnings (numbers)
  mistakes  list of: in, file, line (0: the whole file), severity ("error" or
            "warning"), what, hint
  errors, warnings, runnable (numbers)
Later versions may add to it; what is there keeps its meaning.`,
		RunE: c.runs(func(_ context.Context, log *slog.Logger, out io.Writer, dirs []string) error {
			if schema != "" {
				return printSchema(out, schema)
			}
			return c.lint(log, out, dirs, asJSON, strict)
		}),
	}
	c.placeFlags(cmd.Flags())
	cmd.Flags().StringVar(&c.engine, "engine", "", "sandbox image to use for lessons that ask for 'docker', such as docker-20")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&strict, "strict", false, "take warnings for errors")
	cmd.Flags().StringVar(&schema, "schema", "", "print a JSON Schema for editors instead: of a lab's front matter (lab), a check (check) or a course.yaml (course)")
	return cmd
}

func printSchema(out io.Writer, name string) error {
	b, err := markdown.Schema(name)
	if errors.Is(err, labs.ErrNotFound) {
		err = &labs.Problem{Kind: labs.ErrNotFound, Say: "There is no schema " + name + ". There are: " + strings.Join(markdown.Schemas, ", ") + "."}
	}
	if err != nil {
		return unable{err}
	}
	_, err = fmt.Fprintf(out, "%s\n", strings.TrimRight(string(b), "\n"))
	return err
}

// A lintReport is what berth lint says, as JSON.
type lintReport struct {
	Lessons  []lintLesson  `json:"lessons"`
	Mistakes []lintMistake `json:"mistakes"`
	Errors   int           `json:"errors"`
	Warnings int           `json:"warnings"`
	Runnable int           `json:"runnable"`
}

type lintLesson struct {
	ID       string      `json:"id"`
	Title    string      `json:"title"`
	Format   labs.Format `json:"format"`
	Source   string      `json:"source"`
	In       string      `json:"in"`
	Steps    int         `json:"steps"`
	Commands int         `json:"commands"`
	Files    int         `json:"files"`
	Checks   int         `json:"checks"`
	Quizzes  int         `json:"quizzes"`
	Setups   int         `json:"setups"`
	Needs    lintNeeds   `json:"needs"`
	Runs     bool        `json:"runs"`
	Why      string      `json:"why"`
	Errors   int         `json:"errors"`
	Warnings int         `json:"warnings"`
}

// lintNeeds is what the sandbox of a lesson must offer.
type lintNeeds struct {
	Sandbox    string   `json:"sandbox"`
	Engine     bool     `json:"engine"`
	Images     []string `json:"images"`
	Hosts      int      `json:"hosts"`
	Internet   bool     `json:"internet"`
	Kubernetes bool     `json:"kubernetes"`
}

type lintMistake struct {
	In       string `json:"in"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Severity string `json:"severity"`
	What     string `json:"what"`
	Hint     string `json:"hint"`
}

// reported gives mistakes of the labs in a directory as reports tell them.
func reported(in string, mistakes []labs.Mistake) []lintMistake {
	all := []lintMistake{}
	for _, m := range mistakes {
		t := lintMistake{In: in, File: m.File, Line: m.Line, Severity: "error", What: m.What, Hint: m.Hint}
		if m.Warn {
			t.Severity = "warning"
		}
		all = append(all, t)
	}
	return all
}

// String gives "file:line: severity: what; hint", fit for a terminal.
func (m lintMistake) String() string {
	at := path.Join(m.In, m.File)
	if m.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, m.Line)
	}
	text := m.What
	if m.Hint != "" {
		text += "; " + m.Hint
	}
	return fmt.Sprintf("%s: %s: %s", shown(at), m.Severity, shown(text))
}

func (c *config) lint(log *slog.Logger, out io.Writer, dirs []string, asJSON, strict bool) error {
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	places, err := openPlaces(dirs)
	if err != nil {
		return unable{err}
	}
	defer closePlaces(places)
	lib := readLibrary(places)
	r := c.ground(log).report(lib)
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.print(out)
	}
	if err != nil {
		return unable{err}
	}
	if r.Errors > 0 || strict && r.Warnings > 0 {
		return exitStatus(1)
	}
	return nil
}

// report says what is in the library.
func (g ground) report(lib *library) *lintReport {
	r := &lintReport{Lessons: []lintLesson{}, Mistakes: []lintMistake{}}
	for _, s := range lib.shelves {
		kubernetes := make(map[*labs.Lesson]bool)
		for _, l := range s.lessons {
			kubernetes[l] = strings.Contains(l.Cannot, "Kubernetes")
		}
		g.mark(s.lessons)
		for _, l := range s.lessons {
			t := lintLesson{ID: l.ID, Title: l.Title, Format: l.Format, Source: l.Source, In: s.name, Steps: len(l.Steps), Why: l.Cannot, Runs: l.Cannot == ""}
			t.Needs = lintNeeds{
				Sandbox: g.name(l.Image), Engine: l.NeedsEngine(), Images: []string{}, Hosts: max(1, l.Hosts),
				Internet: l.Egress == labs.EgressInternet, Kubernetes: kubernetes[l],
			}
			for _, p := range l.Pulls {
				t.Needs.Images = append(t.Needs.Images, p.Ref)
			}
			t.count(l)
			for _, m := range s.mistakes {
				switch {
				case !belongs(m, l):
				case m.Warn:
					t.Warnings++
				default:
					t.Errors++
				}
			}
			if t.Runs {
				r.Runnable++
			}
			r.Lessons = append(r.Lessons, t)
		}
		r.Mistakes = append(r.Mistakes, reported(s.name, s.mistakes)...)
	}
	for _, m := range r.Mistakes {
		if m.Severity == "error" {
			r.Errors++
		} else {
			r.Warnings++
		}
	}
	return r
}

// count counts what is in the lesson.
func (t *lintLesson) count(l *labs.Lesson) {
	arrivals := []labs.Arrival{l.Intro.Arrival, l.Finish.Arrival}
	for i := range l.Steps {
		st := &l.Steps[i]
		arrivals = append(arrivals, st.Arrival)
		t.Commands += len(st.Commands)
		t.Files += len(st.Files)
		for j := range st.Checks {
			if st.Checks[j].Quiz != nil {
				t.Quizzes++
			} else {
				t.Checks++
			}
		}
	}
	for _, a := range arrivals {
		t.Setups += len(a.Setup) + len(a.Type)
	}
}

// String says it in a few words.
func (n lintNeeds) String() string {
	var words []string
	if n.Engine {
		words = append(words, "engine")
	}
	if k := len(n.Images); k > 0 {
		words = append(words, fmt.Sprintf("%d image%s", k, plural(k)))
	}
	if n.Hosts > 1 {
		words = append(words, fmt.Sprintf("%d machines", n.Hosts))
	}
	if n.Internet {
		words = append(words, "internet")
	}
	if n.Kubernetes {
		words = append(words, "Kubernetes")
	}
	if len(words) == 0 {
		return "a shell"
	}
	return strings.Join(words, ", ")
}

func (r *lintReport) print(out io.Writer) error {
	if len(r.Lessons) > 0 {
		w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "LAB\tFORMAT\tSTEPS\tCOMMANDS\tCHECKS\tQUESTIONS\tSET-UPS\tNEEDS\tMISTAKES\tRUNS HERE\tTITLE")
		for _, l := range r.Lessons {
			runs := "yes"
			if !l.Runs {
				runs = "no"
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%d\t%s\t%s\n", shown(l.ID), l.Format, l.Steps, l.Commands, l.Checks, l.Quizzes, l.Setups, l.Needs, l.Errors+l.Warnings, runs, shown(cutAt(l.Title, 60)))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	r.printReasons(out)
	if len(r.Mistakes) > 0 {
		fmt.Fprintln(out)
	}
	for _, m := range r.Mistakes {
		fmt.Fprintln(out, m)
	}
	_, err := fmt.Fprintf(out, "\n%d lab%s, %d of which can run here; %d error%s, %d warning%s\n", len(r.Lessons), plural(len(r.Lessons)), r.Runnable, r.Errors, plural(r.Errors), r.Warnings, plural(r.Warnings))
	return err
}

// printReasons says why labs cannot run here, once for all that have the same
// reason.
func (r *lintReport) printReasons(out io.Writer) {
	var reasons []string
	of := make(map[string][]string)
	for _, l := range r.Lessons {
		if l.Why == "" {
			continue
		}
		if !slices.Contains(reasons, l.Why) {
			reasons = append(reasons, l.Why)
		}
		of[l.Why] = append(of[l.Why], l.ID)
	}
	if len(reasons) > 0 {
		fmt.Fprintln(out)
	}
	for _, why := range reasons {
		ids := of[why]
		more := ""
		if n := len(ids) - 5; n > 0 {
			ids, more = ids[:5], fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(out, "cannot run here: %s%s: %s\n", shown(strings.Join(ids, ", ")), more, shown(why))
	}
}

// shown takes out of an author's text what could disturb a terminal.
func shown(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c < ' ', c >= 0x7f && c < 0xa0, c >= 0x202a && c <= 0x202e, c >= 0x2066 && c <= 0x2069:
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}

// cutAt gives at most n characters of s.
func cutAt(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
