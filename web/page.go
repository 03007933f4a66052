package web

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"sync"
)

// pages renders the templates.
type pages struct {
	templates *template.Template
	buffers   sync.Pool // *bytes.Buffer
	zippers   sync.Pool // *gzip.Writer
}

func parsePages(files fs.FS) (*pages, error) {
	t, err := template.ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"home", "lesson", "finish", "error"} {
		if t.Lookup(name) == nil {
			return nil, fmt.Errorf("there is no template %q", name)
		}
	}
	p := &pages{templates: t}
	p.buffers.New = func() any { return new(bytes.Buffer) }
	p.zippers.New = func() any {
		w, err := gzip.NewWriterLevel(nil, 4) // half the time of 9 for 1 % more bytes
		if err != nil {
			panic(err) // 4 is a level
		}
		return w
	}
	return p, nil
}

// A page is what every template gets.
type page struct {
	Title    string // of the browser's tab
	Theme    string // "light", "dark" or "" for what the system says
	CSS, JS  string // addresses of the bundle, "" when it was not built
	NoBundle string // what to say then
}

func (s *Server) newPage(r *http.Request, title string) page {
	p := page{Title: title + " · Berth", CSS: s.assets.url("app.css"), JS: s.assets.url("app.js"), NoBundle: noBundle}
	if c, err := r.Cookie("theme"); err == nil && (c.Value == "light" || c.Value == "dark") {
		p.Theme = c.Value
	}
	return p
}

// page answers with a rendered template. Nothing is sent before the whole page
// has been rendered, so that a mistake in it becomes an error page.
func (s *Server) page(w http.ResponseWriter, r *http.Request, status int, name string, data any) error {
	b := s.pages.buffers.Get().(*bytes.Buffer)
	defer s.pages.buffers.Put(b)
	b.Reset()
	if err := s.pages.templates.ExecuteTemplate(b, name, data); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "private, no-cache")
	}
	h.Set("Vary", "Accept-Encoding, Cookie")
	if acceptsGzip(r) && b.Len() > 1024 {
		z := s.pages.buffers.Get().(*bytes.Buffer)
		defer s.pages.buffers.Put(z)
		z.Reset()
		zw := s.pages.zippers.Get().(*gzip.Writer)
		defer s.pages.zippers.Put(zw)
		zw.Reset(z)
		if _, err := zw.Write(b.Bytes()); err != nil {
			return fmt.Errorf("compress %s: %w", name, err)
		}
		if err := zw.Close(); err != nil {
			return fmt.Errorf("compress %s: %w", name, err)
		}
		h.Set("Content-Encoding", "gzip")
		b = z
	}
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(b.Bytes())
	return err
}

// An errorPage is the data of the template "error".
type errorPage struct {
	page
	Heading string
	Text    string
}
