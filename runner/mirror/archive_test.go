package mirror_test

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tarOf packs a folder.
func tarOf(t *testing.T, dir string, zip bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "packed.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var w io.Writer = f
	if zip {
		z := gzip.NewWriter(f)
		defer z.Close()
		w = z
	}
	tw := tar.NewWriter(w)
	if err := tw.AddFS(os.DirFS(dir).(fs.ReadDirFS)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func blobPath(dir, digest string) string {
	return filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

// damaged changes a byte of a layout's blob.
func damaged(t *testing.T, dir, digest string) string {
	t.Helper()
	b, err := os.ReadFile(blobPath(dir, digest))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(blobPath(dir, digest), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lacking removes a layout's blob.
func lacking(t *testing.T, dir, digest string) string {
	t.Helper()
	if err := os.Remove(blobPath(dir, digest)); err != nil {
		t.Fatal(err)
	}
	return dir
}
