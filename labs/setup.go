package labs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"
)

// GreetingFile is where a sandbox keeps what its first terminal shows first.
const GreetingFile = "/run/berth/greeting"

// prepare makes fresh sandboxes ready for the lesson: its files, its greeting
// and, where nothing waits for the learner to arrive, its set-up.
func (d *Desk) prepare(ctx context.Context, l *Lesson, sb Sandbox) error {
	if err := d.introduce(ctx, l, sb); err != nil {
		return err
	}
	for i, one := range each(sb) {
		if err := putAssets(ctx, l, one, i+1); err != nil {
			return err
		}
	}
	if l.Greeting != "" {
		if _, err := sb.WriteFile(ctx, GreetingFile, []byte(l.Greeting), ""); err != nil && !errors.Is(err, ErrChanged) {
			return fmt.Errorf("write the greeting: %w", err)
		}
	}
	if l.Paged {
		return nil
	}
	for _, part := range l.parts() {
		a, _ := l.ArrivalAt(part)
		for _, st := range a.Setup {
			one, err := on(sb, st.Host)
			if err != nil {
				return err
			}
			if err := runHidden(ctx, one, Cmd{Args: []string{"bash", "-c", hidden}, Stdin: strings.NewReader(st.Code)}, "set-up of "+part); err != nil {
				return err
			}
		}
	}
	return nil
}

// hidden runs the script on its input, with nothing on its own, and keeps it
// out of the list of processes.
const hidden = `IFS= read -r -d "" berth_setup; eval "$berth_setup" </dev/null`

// runHidden runs a command to its end; an exit status other than 0 is an error.
func runHidden(ctx context.Context, sb Sandbox, cmd Cmd, what string) error {
	var out head
	cmd.Stdout, cmd.Stderr = &out, &out
	exit, err := sb.Exec(ctx, cmd)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if exit != 0 {
		return fmt.Errorf("%s: exit %d: %s", what, exit, out.b.String())
	}
	return nil
}

// maxLabFiles is how many bytes of files one lab may bring, 64 MiB.
const maxLabFiles = 64 << 20

// putAssets puts the lesson's files into one of its sandboxes. It holds little
// of them at a time: many sandboxes may start at once.
func putAssets(ctx context.Context, l *Lesson, sb Sandbox, host int) error {
	room := int64(maxLabFiles)
	for _, root := range []string{"~/", "/"} {
		var assets []Asset
		for _, a := range l.Assets {
			if rel, below := strings.CutPrefix(a.To, root); below && max(1, a.Host) == host {
				a.To = path.Clean(rel)
				assets = append(assets, a)
			}
		}
		if len(assets) == 0 {
			continue
		}
		r, w := io.Pipe()
		packed := make(chan error, 1)
		go func() {
			err := packAssets(w, l.Dir, assets, &room)
			w.CloseWithError(err)
			packed <- err
		}()
		err := sb.Unpack(ctx, root, r)
		r.Close() // then packing ends as well
		if failed := <-packed; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
			return failed
		}
		if err != nil {
			return fmt.Errorf("put the lab's files into the sandbox: %w", err)
		}
	}
	return nil
}

// packAssets packs files, of as many bytes as there is room for.
func packAssets(to io.Writer, dir fs.FS, assets []Asset, room *int64) error {
	w := tar.NewWriter(to)
	for _, a := range assets {
		if err := packAsset(w, dir, a, room); err != nil {
			return fmt.Errorf("pack the lab's file %s: %w", a.From, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("pack the lab's files: %w", err)
	}
	return nil
}

func packAsset(w *tar.Writer, dir fs.FS, a Asset, room *int64) error {
	if a.From == "" {
		mode := int64(0o755)
		if a.Mode != 0 {
			mode = int64(a.Mode.Perm())
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: a.To + "/", Mode: mode, ModTime: time.Now()})
	}
	f, err := dir.Open(a.From)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if *room -= info.Size(); *room < 0 {
		return fmt.Errorf("files of more than %s: %w", Bytes(maxLabFiles), ErrInvalid)
	}
	var begin [2]byte
	n, err := io.ReadFull(f, begin[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	return writeTar(w, a.To, io.MultiReader(bytes.NewReader(begin[:n]), f), info.Size(), fileMode(a.Mode, begin[:n]))
}

// fileMode gives the mode of a file that begins like this. Embedded files have
// no execute bits, so with no mode given one that begins with #! gets them.
func fileMode(mode fs.FileMode, begin []byte) fs.FileMode {
	switch {
	case mode != 0:
		return mode
	case bytes.HasPrefix(begin, []byte("#!")):
		return 0o755
	}
	return 0o644
}

// writeTar adds a file of so many bytes.
func writeTar(w *tar.Writer, name string, data io.Reader, size int64, mode fs.FileMode) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode.Perm()), Size: size, ModTime: time.Now()}); err != nil {
		return err
	}
	_, err := io.CopyN(w, data, size)
	return err
}

// maxBlockFile bounds a file that a block adds to, in bytes.
const maxBlockFile = 8 << 20

// Write writes the file of a block into its sandbox.
func (f *FileBlock) Write(ctx context.Context, sb Sandbox) error {
	sb, err := on(sb, f.Host)
	if err != nil {
		return err
	}
	for range 5 { // somebody else may write it at the same moment
		before, was, err := sb.ReadFile(ctx, f.Path, maxBlockFile)
		switch {
		case errors.Is(err, ErrNotFound) && f.Mode == FileReplace:
			return f.create(ctx, sb)
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return fmt.Errorf("read %s: %w", f.Path, err)
		}
		text, err := f.into(before)
		if err != nil {
			return err
		}
		if _, err = sb.WriteFile(ctx, f.Path, text, was); !errors.Is(err, ErrChanged) {
			if err != nil {
				return fmt.Errorf("write %s: %w", f.Path, err)
			}
			return nil
		}
	}
	return &Problem{Kind: ErrBusy, Say: fmt.Sprintf("Something else keeps writing %s. Stop it and try again.", f.Path)}
}

// create writes a file that is not there yet, with the bits that its text asks
// for.
func (f *FileBlock) create(ctx context.Context, sb Sandbox) error {
	root, rel := "/", strings.TrimPrefix(path.Clean(f.Path), "/")
	if home, ok := strings.CutPrefix(f.Path, "~/"); ok {
		root, rel = "~/", path.Clean(home)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(writeTar(w, rel, strings.NewReader(f.Text), int64(len(f.Text)), fileMode(0, []byte(f.Text))), w.Close()); err != nil {
		return fmt.Errorf("pack %s: %w", f.Path, err)
	}
	if err := sb.Unpack(ctx, root, &b); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	return nil
}

// into gives what the file becomes.
func (f *FileBlock) into(before []byte) ([]byte, error) {
	switch f.Mode {
	case FileAppend:
		if n := len(before); n > 0 && before[n-1] != '\n' {
			before = append(before, '\n')
		}
		return append(before, f.Text...), nil
	case FilePrepend:
		return append([]byte(f.Text), before...), nil
	case FileInsert:
		for at := 0; at < len(before); {
			end := len(before)
			if i := bytes.IndexByte(before[at:], '\n'); i >= 0 {
				end = at + i + 1
			}
			if bytes.Contains(before[at:end], []byte(f.Marker)) {
				return append(append(append([]byte{}, before[:at]...), f.Text...), before[end:]...), nil
			}
			at = end
		}
		return nil, &Problem{Kind: ErrInvalid, Say: fmt.Sprintf("%s holds no line with %q to put this in the place of. It was there already, or an earlier step is missing.", f.Path, f.Marker)}
	}
	return []byte(f.Text), nil
}

// A head keeps the first 4 KiB of what is written and discards the rest.
type head struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *head) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := 4096 - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
