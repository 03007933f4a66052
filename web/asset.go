package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// noBundle is said in the log and on the pages when the bundle is missing.
const noBundle = "The browser part of this server has not been built: run make build and start it again."

// An asset is a file of the bundle, compressed once at the start.
type asset struct {
	body, gzipped []byte // gzipped is nil when it would not be smaller
	kind          string // Content-Type
	etag          string
}

// assets holds the bundle under two names for each file: its own, which the
// browser asks about every time, and one with a hash of the content, which it
// may keep for ever.
type assets struct {
	byName map[string]*asset
	hashed map[string]string // own name to hashed name
}

// maxAsset bounds one file of the bundle, in bytes.
const maxAsset = 8 << 20

func loadAssets(bundle fs.FS) (*assets, error) {
	a := &assets{byName: make(map[string]*asset), hashed: make(map[string]string)}
	err := fs.WalkDir(bundle, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			if name == "." && errors.Is(err, fs.ErrNotExist) {
				return nil // no bundle at all, which New says
			}
			return err
		}
		if !e.Type().IsRegular() || strings.HasPrefix(path.Base(name), ".") {
			return nil
		}
		if info, err := e.Info(); err != nil {
			return err
		} else if info.Size() > maxAsset {
			return fmt.Errorf("%s has %d bytes, more than %d", name, info.Size(), maxAsset)
		}
		body, err := fs.ReadFile(bundle, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		hash := hex.EncodeToString(sum[:8])
		as := &asset{body: body, kind: assetKind(name), etag: `"` + hash + `"`}
		if as.gzipped, err = compress(body); err != nil {
			return fmt.Errorf("compress %s: %w", name, err)
		}
		ext := path.Ext(name)
		hashed := strings.TrimSuffix(name, ext) + "." + hash + ext
		a.byName[name], a.byName[hashed], a.hashed[name] = as, as, hashed
		return nil
	})
	return a, err
}

func assetKind(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".woff2":
		return "font/woff2"
	case ".map":
		return "application/json"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
		return "application/octet-stream"
	}
}

// compress gives body gzipped, or nil when that is not smaller.
func compress(body []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if b.Len() >= len(body)*9/10 {
		return nil, nil
	}
	return b.Bytes(), nil
}

// url is where the file of this name is served, or "" when there is none.
func (a *assets) url(name string) string {
	if h, ok := a.hashed[name]; ok {
		return "/assets/" + h
	}
	return ""
}

func (s *Server) asset(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	as, ok := s.assets.byName[name]
	if !ok {
		return notFound("There is no such file. The page may be older than the server: reload it.")
	}
	h := w.Header()
	if _, own := s.assets.hashed[name]; own {
		h.Set("Cache-Control", "no-cache")
	} else {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	h.Set("ETag", as.etag)
	h.Set("Vary", "Accept-Encoding")
	if matches(r, as.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body := as.body
	if as.gzipped != nil && acceptsGzip(r) {
		body = as.gzipped
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", as.kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(body)
	return err
}

// matches reports whether the browser has the version with this tag already.
func matches(r *http.Request, etag string) bool {
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(tag), "W/") == etag {
			return true
		}
	}
	return false
}

// acceptsGzip reports whether the browser takes gzip.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		v, err := strconv.ParseFloat(q, 64)
		return !ok || err != nil || v > 0
	}
	return false
}
