package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"berth/labs"
)

const (
	maxMatches = 64 // files of one pattern that are looked at
	maxTarHas  = 50_000
)

func expectFile(c *labs.FileCheck) string {
	file := code(c.Path)
	if absent(c.Text) {
		return "there is no " + file
	}
	var more []string
	if c.Dir != nil {
		if *c.Dir {
			more = append(more, "is a folder")
		} else {
			more = append(more, "is a regular file")
		}
	}
	switch c.Mode {
	case "":
	case "+x":
		more = append(more, "may be executed")
	default:
		more = append(more, "has the mode "+c.Mode)
	}
	if hasText(c.Text) {
		more = append(more, reads(c.Text))
	}
	if len(c.TarHas) > 0 {
		var has []string
		for _, n := range c.TarHas {
			has = append(has, code(n))
		}
		more = append(more, "is a tar file that has "+list(has))
	}
	if c.Archive != "" {
		more = append(more, "is an image archive of "+code(shortRef(c.Archive)))
	}
	if len(more) == 0 {
		return "there is " + file
	}
	return file + " " + list(more)
}

// lookFile looks at the files that the check's pattern matches.
func (w *watch) lookFile(ctx context.Context, c *labs.FileCheck) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, fileDeadline)
	defer cancel()
	files, err := w.sb.Glob(ctx, c.Path, maxMatches)
	if err != nil {
		return verdict{}, w.trouble(ctx, "list files", err)
	}
	if absent(c.Text) {
		if len(files) > 0 {
			return verdict{seen: "there is " + code(files[0].Path)}, nil
		}
		return verdict{holds: true, seen: "there is no " + code(c.Path)}, nil
	}
	seen := "there is no " + code(c.Path)
	for i, f := range files {
		wrong, err := w.judgeFile(ctx, c, f)
		if err != nil {
			return verdict{}, err
		}
		if wrong == "" {
			return verdict{holds: true, seen: "there is " + code(f.Path) + " as expected"}, nil
		}
		if i == 0 {
			seen = code(f.Path) + " " + wrong
		}
	}
	return verdict{seen: seen}, nil
}

// judgeFile says what is wrong with a file, "" if nothing is.
func (w *watch) judgeFile(ctx context.Context, c *labs.FileCheck, f labs.FileInfo) (string, error) {
	if c.Dir != nil && *c.Dir != f.Mode.IsDir() {
		if f.Mode.IsDir() {
			return "is a folder", nil
		}
		return "is no folder", nil
	}
	if c.Dir != nil && !*c.Dir && !f.Mode.IsRegular() {
		return "is no regular file", nil
	}
	if ok, err := hasMode(f.Mode, c.Mode); err != nil {
		return "", err
	} else if !ok {
		return fmt.Sprintf("has the mode %04o", permissions(f.Mode)), nil
	}
	if !hasText(c.Text) && len(c.TarHas) == 0 && c.Archive == "" {
		return "", nil
	}
	if f.Mode.IsDir() {
		return "is a folder", nil
	}
	if hasText(c.Text) {
		text, cut, err := w.readFile(ctx, f.Path)
		switch {
		case errors.Is(err, labs.ErrNotFound), errors.Is(err, labs.ErrInvalid):
			return "is no regular file", nil
		case err != nil:
			return "", err
		case !holdsText(c.Text, text, cut):
			return reading(text), nil
		}
	}
	if len(c.TarHas) > 0 {
		wrong, err := w.tarLacks(ctx, c.TarHas, f.Path)
		if wrong != "" || err != nil {
			return wrong, err
		}
	}
	if c.Archive == "" {
		return "", nil
	}
	images, err := w.archives.read(ctx, w.sb, f)
	switch {
	case errors.Is(err, errNoManifest):
		return "is a tar file, but no image archive", nil
	case errors.Is(err, labs.ErrInvalid):
		return "is no image archive, or not a complete one", nil
	case errors.Is(err, labs.ErrNotFound):
		return "is no regular file", nil
	case err != nil:
		return "", w.trouble(ctx, "read archive", err)
	}
	if _, ok := names(images, fullRef(c.Archive)); ok {
		return "", nil
	}
	var tags []string
	for _, i := range images {
		for _, t := range i.RepoTags {
			if len(tags) < 5 {
				tags = append(tags, code(t))
			}
		}
	}
	if len(tags) == 0 {
		return "is an image archive that names no image", nil
	}
	return "is an image archive of " + list(tags), nil
}

// readFile reads the first part of a file.
func (w *watch) readFile(ctx context.Context, name string) (text string, cut bool, err error) {
	f, err := w.sb.Open(ctx, name)
	if errors.Is(err, labs.ErrNotFound) || errors.Is(err, labs.ErrInvalid) {
		return "", false, err
	}
	if err != nil {
		return "", false, w.trouble(ctx, "open file", err)
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	b, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if stop() {
		f.Close()
	}
	if err != nil {
		return "", false, w.trouble(ctx, "read file", err)
	}
	if len(b) > maxText {
		return string(b[:maxText]), true, nil
	}
	return string(b), false, nil
}

// tarLacks says which of the names are not in a tar file, "" if all are.
func (w *watch) tarLacks(ctx context.Context, want []string, file string) (string, error) {
	have, err := w.sb.TarNames(ctx, file, maxTarHas)
	switch {
	case errors.Is(err, labs.ErrInvalid):
		return "is no tar file, or not a complete one", nil
	case errors.Is(err, labs.ErrNotFound):
		return "is no regular file", nil
	case err != nil:
		return "", w.trouble(ctx, "list tar file", err)
	}
	set := make(map[string]bool, len(have))
	for _, n := range have {
		set[tarName(n)] = true
	}
	for _, n := range want {
		if !set[tarName(n)] {
			return "is a tar file without " + code(n), nil
		}
	}
	return "", nil
}

// tarName spells the name of a tar entry like every other: ./a, /a and a are
// the same.
func tarName(n string) string { return strings.TrimPrefix(path.Clean("/"+n), "/") }

// permissions gives the permission bits as chmod writes them.
func permissions(m fs.FileMode) uint32 {
	p := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		p |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		p |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		p |= 0o1000
	}
	return p
}

func hasMode(m fs.FileMode, want string) (bool, error) {
	switch want {
	case "":
		return true, nil
	case "+x":
		return m.Perm()&0o111 != 0, nil
	}
	n, err := strconv.ParseUint(want, 8, 32)
	if err != nil {
		return false, &unseen{reason: "the lesson's mode " + code(want) + " is no octal number", err: err}
	}
	return permissions(m) == uint32(n), nil
}
