package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"berth/labs"
	"berth/labs/jekyll"
	"berth/labs/katacoda"
	"berth/labs/markdown"

	"github.com/spf13/cobra"
)

func newImport() *cobra.Command {
	var c config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import DIR OUT",
		Short: "Rewrite foreign scenarios and posts in our own format",
		Long: `Rewrite the scenarios of Katacoda, O'Reilly and Killercoda, the posts and the
plain Markdown in DIR in our own format, with their assets and images. OUT must
be empty, or not be there: a single scenario becomes OUT/lab.md, several become
a folder each. Foreign scenarios also run as they are; this is for those who want
to go on writing them.

What our format cannot say is told. Every lab is read again, and must have the
same steps, commands and checks.

Exit status: 0 when all were rewritten, 1 when one was not, or reads otherwise,
2 when nothing could be done.

--json prints one object: labs (list of: id, title, format, from, to, steps,
commands, checks, assets, images (numbers), rewritten (true or false), lost
(list of: in, file, line, severity, what, hint)), rewritten, lost (numbers).`,
		Args: cobra.ExactArgs(2),
		RunE: c.runs(func(ctx context.Context, _ *slog.Logger, out io.Writer, args []string) error {
			return importLabs(ctx, out, args[0], args[1], asJSON)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// An importReport is what berth import says, as JSON.
type importReport struct {
	Labs      []importedLab `json:"labs"`
	Rewritten int           `json:"rewritten"`
	Lost      int           `json:"lost"`
}

type importedLab struct {
	ID        string        `json:"id"`
	Title     string        `json:"title"`
	Format    labs.Format   `json:"format"`
	From      string        `json:"from"`
	To        string        `json:"to"`
	Steps     int           `json:"steps"`
	Commands  int           `json:"commands"`
	Checks    int           `json:"checks"`
	Assets    int           `json:"assets"`
	Images    int           `json:"images"`
	Rewritten bool          `json:"rewritten"`
	Lost      []lintMistake `json:"lost"`
}

// Bounds on what one lab may bring along, in bytes and files, and on what all
// labs of an import may: links to one large file cost nothing to make.
const (
	maxImported    = 2 << 30
	maxCopied      = 128 << 20
	maxCopiedFile  = 64 << 20
	maxCopiedFiles = 12_000
)

func importLabs(ctx context.Context, out io.Writer, from, to string, asJSON bool) error {
	p, err := openPlace(from)
	if err != nil {
		return unable{&labs.Problem{Kind: labs.ErrInvalid, Cause: err, Say: fmt.Sprintf("%s cannot be read. Name a directory with scenarios or posts, or a Markdown file.", from)}}
	}
	defer closePlaces([]*place{p})
	lessons, mistakes := p.load()
	all := len(lessons)
	lessons = slices.DeleteFunc(lessons, func(l *labs.Lesson) bool { return l.Format == labs.FormatBerth })
	if len(lessons) == 0 {
		why := "It holds no scenario and no post."
		if all > 0 {
			why = "Its labs are in our own format already."
		}
		for _, m := range mistakes {
			if !m.Warn {
				why = m.Error()
				break
			}
		}
		return unable{&labs.Problem{Kind: labs.ErrNotFound, Say: fmt.Sprintf("There is nothing in %s to rewrite. %s", from, why)}}
	}
	root, err := emptyFolder(to)
	if err != nil {
		return unable{err}
	}
	defer root.Close()
	r := &importReport{Labs: []importedLab{}}
	var order []string
	room := int64(maxImported)
	for _, l := range lessons {
		if ctx.Err() != nil {
			return unable{ctx.Err()}
		}
		dir := l.ID
		if len(lessons) == 1 {
			dir = "."
		}
		t, err := importLab(p, l, root, dir, &room)
		if err != nil {
			return unable{fmt.Errorf("rewrite %s: %w", l.Source, err)}
		}
		t.To = path.Join(filepath.ToSlash(to), dir)
		if t.Rewritten {
			r.Rewritten++
			order = append(order, l.ID)
		}
		r.Lost += len(t.Lost)
		r.Labs = append(r.Labs, t)
	}
	if len(lessons) > 1 {
		if err := root.WriteFile("course.yaml", courseFile(lessons, order), 0o644); err != nil {
			return unable{err}
		}
	}
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
	for _, t := range r.Labs {
		if !t.Rewritten || slices.ContainsFunc(t.Lost, func(m lintMistake) bool { return m.Severity == "error" }) {
			return exitStatus(1)
		}
	}
	return nil
}

// emptyFolder opens a folder that it makes, or that is empty.
func emptyFolder(name string) (*os.Root, error) {
	if err := os.MkdirAll(name, 0o755); err != nil {
		return nil, cannotMake(name, err)
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, cannotMake(name, err)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err == nil && len(entries) > 0 {
		err = &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("%s is not empty, and is left as it is. Name another folder.", name)}
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// maxOrder is how many labs a course.yaml may put in order; others follow.
const maxOrder = 100

// courseFile keeps the order of the lessons, and the title of their course
// when they have one in common.
func courseFile(lessons []*labs.Lesson, order []string) []byte {
	var b strings.Builder
	title := lessons[0].Course
	for _, l := range lessons {
		if l.Course != title {
			title = ""
		}
	}
	if title != "" {
		fmt.Fprintf(&b, "title: %q\n", shown(cutAt(title, 100)))
	}
	b.WriteString("order:\n")
	for _, id := range order[:min(len(order), maxOrder)] {
		fmt.Fprintf(&b, "  - %s\n", id)
	}
	return []byte(b.String())
}

// importLab rewrites one lesson into a folder of root.
func importLab(p *place, l *labs.Lesson, root *os.Root, dir string, room *int64) (t importedLab, err error) {
	t = importedLab{ID: l.ID, Title: l.Title, Format: l.Format, From: l.Source, Steps: len(l.Steps), Lost: []lintMistake{}}
	draft, fsys, base := draftOf(p.fsys, l)
	lose := func(ms ...labs.Mistake) { t.Lost = append(t.Lost, reported(path.Join(p.name, base), ms)...) }
	want, _ := markdown.Build(draft)
	text, lost := markdown.Write(draft)
	lose(lost...)
	if want == nil || text == nil {
		return t, nil
	}
	for i := range want.Steps {
		t.Commands += len(want.Steps[i].Commands)
		t.Checks += len(want.Steps[i].Checks)
	}
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return t, err
	}
	if err := root.WriteFile(path.Join(dir, "lab.md"), text, 0o644); err != nil {
		return t, err
	}
	var files []string
	for _, a := range draft.Lesson.Assets {
		if a.From != "" {
			files = append(files, a.From)
			t.Assets++
		}
	}
	images := markdown.Images(want)
	t.Images = len(images)
	left, err := copyFiles(root, dir, fsys, append(files, images...), room)
	if err != nil {
		return t, err
	}
	for _, name := range left {
		lose(labs.Mistake{File: name, What: "the file could not be brought along", Hint: "copy it by hand"})
	}
	now, mistakes := markdown.Load(folder{root}, dir)
	for _, m := range mistakes {
		if !m.Warn {
			m.What = "the new lab.md cannot be read: " + m.What
			lose(m)
		}
	}
	if now == nil {
		return t, nil
	}
	t.Rewritten = true
	for _, what := range differences(want, now) {
		lose(labs.Mistake{File: draft.Lesson.Source, What: what, Hint: "look at the new lab.md there"})
	}
	return t, nil
}

// draftOf gives the draft of a lesson that was loaded from fsys, and the folder
// base of it that its files are in: that of the lesson where it holds all of
// them.
func draftOf(fsys fs.FS, l *labs.Lesson) (d markdown.Draft, in fs.FS, base string) {
	dir := path.Dir(l.Source)
	draft := func(in fs.FS, dir string) markdown.Draft {
		var d markdown.Draft
		if isPost(l) {
			d, _ = jekyll.Draft(in, path.Join(dir, path.Base(l.Source)))
		} else {
			d, _ = katacoda.Draft(in, dir)
		}
		d.Lesson.ID = l.ID
		return d
	}
	whole := draft(fsys, dir)
	if dir == "." {
		return whole, fsys, "."
	}
	sub, err := fs.Sub(fsys, dir)
	if err != nil {
		return whole, fsys, "."
	}
	own := draft(sub, ".")
	a, _ := markdown.Build(whole)
	b, _ := markdown.Build(own)
	if a == nil || b == nil || len(a.Assets) != len(b.Assets) || len(markdown.Images(a)) != len(markdown.Images(b)) || len(differences(a, b)) > 0 {
		return whole, fsys, "."
	}
	return own, sub, dir
}

// copyFiles copies files to the same places below dir of root, and gives those
// that it could not copy, or that are too large. whole is how many bytes the
// import may still copy.
func copyFiles(root *os.Root, dir string, fsys fs.FS, files []string, whole *int64) (left []string, err error) {
	slices.Sort(files)
	files = slices.Compact(files)
	room := min(maxCopied, *whole)
	for i, name := range files {
		if i >= maxCopiedFiles {
			return append(left, files[i:]...), nil
		}
		b, mode, err := readWhole(fsys, name, min(room, maxCopiedFile))
		if err != nil {
			left = append(left, name)
			continue
		}
		room -= int64(len(b))
		*whole -= int64(len(b))
		to := path.Join(dir, name)
		if err := root.MkdirAll(path.Dir(to), 0o755); err != nil {
			return left, err
		}
		f, err := root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return left, err
		}
		_, err = f.Write(b)
		if err := errors.Join(err, f.Close()); err != nil {
			return left, err
		}
	}
	return left, nil
}

// readWhole reads a regular file of at most limit bytes.
func readWhole(fsys fs.FS, name string, limit int64) (b []byte, mode fs.FileMode, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, labs.ErrInvalid
	}
	b, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = labs.ErrInvalid
	}
	return b, 0o644 | info.Mode()&0o111, err
}

// differences says in what a lesson does not do what another one does.
func differences(want, now *labs.Lesson) (all []string) {
	if len(now.Steps) != len(want.Steps) {
		return []string{fmt.Sprintf("the new lab has %d steps instead of %d", len(now.Steps), len(want.Steps))}
	}
	for i := range want.Steps {
		a, b := &want.Steps[i], &now.Steps[i]
		for _, part := range []struct {
			what string
			same bool
		}{
			{"commands", sameCommands(a.Commands, b.Commands)},
			{"commands of the solution", sameCommands(a.Solution.Commands, b.Solution.Commands)},
			{"commands on arriving", sameCommands(a.Arrival.Type, b.Arrival.Type)},
			{"set-ups", slices.Equal(a.Arrival.Setup, b.Arrival.Setup)},
			{"files", slices.EqualFunc(a.Files, b.Files, func(x, y labs.FileBlock) bool { x.ID, y.ID = "", ""; return x == y })},
			{"checks", slices.EqualFunc(a.Checks, b.Checks, func(x, y labs.Check) bool { x.ID, y.ID = "", ""; return reflect.DeepEqual(x, y) })},
		} {
			if !part.same {
				all = append(all, fmt.Sprintf("step %s has other %s", a.ID, part.what))
			}
		}
	}
	return all
}

func sameCommands(a, b []labs.Command) bool {
	return slices.EqualFunc(a, b, func(x, y labs.Command) bool { x.ID, y.ID = "", ""; return x == y })
}

func (r *importReport) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "LAB\tFORMAT\tSTEPS\tCOMMANDS\tCHECKS\tASSETS\tIMAGES\tLOST\tTO")
	for _, t := range r.Labs {
		to := t.To
		if !t.Rewritten {
			to = "could not be rewritten"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", shown(t.ID), t.Format, t.Steps, t.Commands, t.Checks, t.Assets, t.Images, len(t.Lost), shown(to))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Lost > 0 {
		fmt.Fprintln(out)
	}
	for _, t := range r.Labs {
		for _, m := range t.Lost {
			fmt.Fprintln(out, m)
		}
	}
	_, err := fmt.Fprintf(out, "\n%d of %d labs rewritten, %d thing%s lost\n", r.Rewritten, len(r.Labs), r.Lost, plural(r.Lost))
	return err
}
