package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

// TestStrangersFolderNeitherHangsNorLeadsOut has an author put pipes and links
// where the server reads.
func TestStrangersFolderNeitherHangsNorLeadsOut(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	lab := "---\ntitle: A lab\n---\n# A lab\n\n## Step\n\n![pipe](pipe.png) ![link](link.png)\n"
	for name, text := range map[string]string{secret: "secret", dir + "/good/lab.md": lab, dir + "/good/real.png": "png"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"pipe", "leads-out"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, pipe := range []string{"good/pipe.png", "pipe/lab.md", "course.yaml"} {
		if err := syscall.Mkfifo(filepath.Join(dir, pipe), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"good/link.png", "leads-out/lab.md"} {
		if err := os.Symlink(secret, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		places, err := openPlaces([]string{dir})
		if err == nil {
			readLibrary(places)
			closePlaces(places)
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("reading the labs does not end")
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	sub, err := fs.Sub(folder{root}, "good")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe.png", "link.png", "../../secret", secret} {
		if b, err := fs.ReadFile(sub, name); err == nil {
			t.Errorf("%s could be read: %q", name, b)
		}
	}
	if info, err := fs.Lstat(sub, "link.png"); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "good/pipe.png")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "good/link.png")); err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(sub, "lab.md", "real.png"); err != nil {
		t.Error(err)
	}
}
