package image

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// matches reports whether a shell pattern matches the whole of a path, the way
// dpkg sees it: * matches any number of any characters, "/" included, and ?
// matches one. It takes at most len(pattern)*len(path) steps.
func matches(pattern, path string) bool {
	p, n := 0, 0
	star, mark := -1, 0
	for n < len(path) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == path[n]):
			p++
			n++
		case star >= 0: // let the last * take one more
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// pruned reports whether patterns leave a path out: the last that matches
// decides.
func pruned(patterns []string, path string) bool {
	for i := len(patterns) - 1; i >= 0; i-- {
		keep := strings.HasPrefix(patterns[i], "!")
		if matches(strings.TrimPrefix(patterns[i], "!"), path) {
			return !keep
		}
	}
	return false
}

// dpkgOptions says patterns in dpkg's way, so that what is left out is not
// unpacked in the first place, nor by what is installed later.
func dpkgOptions(patterns []string) []string {
	var opts []string
	for _, p := range patterns {
		if keep, ok := strings.CutPrefix(p, "!"); ok {
			opts = append(opts, "--dpkgopt=path-include="+keep)
		} else {
			opts = append(opts, "--dpkgopt=path-exclude="+p)
		}
	}
	return opts
}

// prune removes from a root file system the files that patterns leave out, and
// the directories that matched and are empty then: packages' scripts make
// files too. Links are never followed.
func prune(root string, patterns []string) error {
	var empty []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := strings.TrimPrefix(name, root)
		if path == "" || !pruned(patterns, path) {
			return nil
		}
		if d.IsDir() {
			empty = append(empty, name)
			return nil
		}
		return os.Remove(name)
	})
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	for i := len(empty) - 1; i >= 0; i-- { // the innermost first
		entries, err := os.ReadDir(empty[i])
		if err != nil {
			return fmt.Errorf("prune: %w", err)
		}
		if len(entries) > 0 {
			continue // something in it is kept
		}
		if err := os.Remove(empty[i]); err != nil {
			return fmt.Errorf("prune: %w", err)
		}
	}
	return nil
}
