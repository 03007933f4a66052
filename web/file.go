package web

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// imageKinds are the files of a lab's folder that a page may show.
var imageKinds = map[string]string{
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif",
	".webp": "image/webp", ".avif": "image/avif", ".svg": "image/svg+xml",
}

// maxImage bounds one image, in bytes.
const maxImage = 16 << 20

// lessonFile serves an image of the lab's folder, and nothing else of it:
// solutions and check scripts lie there too.
func (s *Server) lessonFile(w http.ResponseWriter, r *http.Request) error {
	lesson, err := s.Desk.Lesson(r.PathValue("lab"))
	if err != nil {
		return err
	}
	name := r.PathValue("path")
	kind := imageKinds[strings.ToLower(path.Ext(name))]
	if lesson.Dir == nil || kind == "" || !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") {
		return notFound("This lab has no such image.")
	}
	body, mod, err := openImage(lesson.Dir, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return notFound("This lab has no such image.")
	}
	if err != nil {
		return fmt.Errorf("read an image of %s: %w", lesson.ID, err)
	}
	defer body.Close()
	sum, err := sumOf(body)
	if err != nil {
		return fmt.Errorf("read an image of %s: %w", lesson.ID, err)
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "private, no-cache")
	// An SVG that is opened by itself is a document: it may not run anything.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	h.Set("ETag", sum)
	http.ServeContent(w, r, "", mod, body)
	return nil
}

// openImage opens a regular file without following symbolic links: a folder of
// labs may come from a stranger, and os.DirFS would follow them anywhere.
// It is not held in memory, where whoever takes it slowly would keep it.
func openImage(dir fs.FS, name string) (body io.ReadSeekCloser, mod time.Time, err error) {
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		info, err := fs.Lstat(dir, name[:i])
		if err != nil {
			return nil, mod, err
		}
		if last := i == len(name); last != info.Mode().IsRegular() || !last && !info.IsDir() {
			return nil, mod, fs.ErrNotExist
		}
		mod = info.ModTime()
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, mod, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > maxImage {
		err = fmt.Errorf("%s has more than %d bytes", name, maxImage)
	}
	body, ok := f.(io.ReadSeekCloser)
	if err == nil && !ok {
		err = fmt.Errorf("%s: the folder gives no files that can be read again", name)
	}
	if err != nil {
		f.Close()
		return nil, mod, err
	}
	return body, mod, nil
}

// sumOf gives the ETag of a file and goes back to its beginning.
func sumOf(f io.ReadSeeker) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxImage)); err != nil {
		return "", err
	}
	_, err := f.Seek(0, io.SeekStart)
	return `"` + hex.EncodeToString(h.Sum(nil)[:8]) + `"`, err
}
