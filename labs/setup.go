package labs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// prepare puts the lab's files/ into the learner's home and runs the setups of
// its steps, in their order.
func prepare(ctx context.Context, l *Lesson, sb Sandbox) error {
	if l.Dir != nil {
		b, err := tarFiles(l.Dir, "files")
		if err != nil {
			return err
		}
		if b.Len() > 0 {
			if err := sb.Unpack(ctx, "~/", b); err != nil {
				return fmt.Errorf("put the lab's files into the home: %w", err)
			}
		}
	}
	for i := range l.Steps {
		for _, code := range l.Steps[i].Setup {
			var out bytes.Buffer
			exit, err := sb.Exec(ctx, Cmd{Args: []string{"bash", "-c", code}, Stdout: &head{b: &out}, Stderr: &head{b: &out}})
			if err != nil {
				return fmt.Errorf("setup of step %s: %w", l.Steps[i].ID, err)
			}
			if exit != 0 {
				return fmt.Errorf("setup of step %s: exit %d: %s", l.Steps[i].ID, exit, out.String())
			}
		}
	}
	return nil
}

// maxLabFiles is how many bytes of files one lab may bring, 64 MiB.
const maxLabFiles = 64 << 20

// tarFiles packs the folder dir of fsys, with names relative to it; nothing
// when there is no such folder. Embedded files have no execute bits, so a file
// that begins with #! gets them.
func tarFiles(fsys fs.FS, dir string) (*bytes.Buffer, error) {
	var b bytes.Buffer
	if _, err := fs.Stat(fsys, dir); errors.Is(err, fs.ErrNotExist) {
		return &b, nil
	}
	w := tar.NewWriter(&b)
	err := fs.WalkDir(fsys, dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel := strings.TrimPrefix(name, dir+"/")
		if e.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: rel + "/", Mode: 0o755})
		}
		if !e.Type().IsRegular() {
			return nil
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		if b.Len()+len(data) > maxLabFiles {
			return fmt.Errorf("files of more than %s: %w", Bytes(maxLabFiles), ErrInvalid)
		}
		return writeTar(w, rel, data)
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pack the lab's files: %w", err)
	}
	return &b, nil
}

func writeTar(w *tar.Writer, name string, data []byte) error {
	mode := int64(0o644)
	if bytes.HasPrefix(data, []byte("#!")) {
		mode = 0o755
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: time.Now()}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// writeFile writes one file; name is absolute or begins with "~/".
func writeFile(ctx context.Context, sb Sandbox, name, text string) error {
	root, rel := "/", strings.TrimPrefix(path.Clean(name), "/")
	if home, ok := strings.CutPrefix(name, "~/"); ok {
		root, rel = "~/", path.Clean(home)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(writeTar(w, rel, []byte(text)), w.Close()); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	if err := sb.Unpack(ctx, root, &b); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// A head keeps the first 4 KiB of what is written and discards the rest.
type head struct{ b *bytes.Buffer }

func (t *head) Write(p []byte) (int, error) {
	if room := 4096 - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
