package verify

import (
	"path"
	"strings"
)

// matchPath reports whether an absolute path may be what a pattern of a check
// means: * and ? within a name, ** for any number of folders. The learner's
// home is not known here, so that "~/x" matches an x anywhere.
func matchPath(pattern, name string) bool {
	if rest, ok := strings.CutPrefix(pattern, "~"); ok {
		pattern = "/**" + rest
	}
	return matchNames(strings.Split(path.Clean(pattern), "/"), strings.Split(path.Clean(name), "/"))
}

// matchNames goes back to the last ** only, which suffices and keeps the work
// in proportion to the product of the lengths.
func matchNames(pattern, names []string) bool {
	p, n := 0, 0
	star, from := -1, 0 // the last ** and the first name it does not cover
	for n < len(names) {
		if p < len(pattern) && pattern[p] == "**" {
			star, from = p, n
			p++
			continue
		}
		if p < len(pattern) {
			if ok, err := path.Match(pattern[p], names[n]); err == nil && ok {
				p++
				n++
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		p, n = star+1, from
	}
	for p < len(pattern) && pattern[p] == "**" {
		p++
	}
	return p == len(pattern)
}
