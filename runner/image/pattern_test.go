package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		pattern, path string
		want          bool
	}{
		{"/usr/share/doc/*", "/usr/share/doc/a/b/c", true},
		{"/usr/share/doc/*", "/usr/share/doc", false},
		{"/usr/share/doc/*/copyright", "/usr/share/doc/git/copyright", true},
		{"/usr/share/doc/*/copyright", "/usr/share/doc/git/changelog", false},
		{"/usr/bin/?", "/usr/bin/[", true},
		{"/usr/bin/?", "/usr/bin/ab", false},
		{"*", "/anything/at/all", true},
		{"/a*b*c", "/axxbxxbxc", true},
		{"/a*b*c", "/axxbxxbx", false},
		{"", "", true},
	} {
		if got := matches(tc.pattern, tc.path); got != tc.want {
			t.Errorf("matches(%q, %q) = %v", tc.pattern, tc.path, got)
		}
	}
}

func TestPatternThatNeverEnds(t *testing.T) {
	start := time.Now()
	if matches(strings.Repeat("a*", 200)+"b", strings.Repeat("a", 4000)) {
		t.Error("matches what has no b")
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
}

func TestPrune(t *testing.T) {
	root := t.TempDir()
	outside := filepath.Join(t.TempDir(), "keep")
	write := func(name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(outside)
	for _, f := range []string{"doc/a/copyright", "doc/a/changelog", "doc/b/readme", "man/man1/ls", "bin/ls"} {
		write(filepath.Join(root, f))
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(root, "man/out")); err != nil {
		t.Fatal(err)
	}
	if err := prune(root, []string{"/doc/*", "!/doc/*/copyright", "/man/*"}); err != nil {
		t.Fatal(err)
	}
	var left []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		left = append(left, strings.TrimPrefix(name, root))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"", "/bin", "/bin/ls", "/doc", "/doc/a", "/doc/a/copyright", "/man"}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}
