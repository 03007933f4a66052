package web

import (
	"bytes"
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
	body, mod, err := readImage(lesson.Dir, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return notFound("This lab has no such image.")
	}
	if err != nil {
		return fmt.Errorf("read an image of %s: %w", lesson.ID, err)
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "private, no-cache")
	// An SVG that is opened by itself is a document: it may not run anything.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	h.Set("ETag", etag(body))
	http.ServeContent(w, r, "", mod, bytes.NewReader(body))
	return nil
}

// readImage reads a regular file without following symbolic links: a folder of
// labs may come from a stranger, and os.DirFS would follow them anywhere.
func readImage(dir fs.FS, name string) (body []byte, mod time.Time, err error) {
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
	defer f.Close()
	body, err = io.ReadAll(io.LimitReader(f, maxImage+1))
	if err == nil && len(body) > maxImage {
		err = fmt.Errorf("%s has more than %d bytes", name, maxImage)
	}
	return body, mod, err
}
