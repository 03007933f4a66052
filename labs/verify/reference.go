package verify

import (
	"regexp"

	"github.com/distribution/reference"
)

var imageID = regexp.MustCompile(`^(sha256:)?[0-9a-f]{12,64}$`)

// fullRef spells an image reference out, so that busybox, busybox:latest and
// docker.io/library/busybox are the same. Ids and what is no reference stay as
// they are.
func fullRef(ref string) string {
	if imageID.MatchString(ref) {
		return ref
	}
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return ref
	}
	return named.String()
}

// shortRef spells a reference as a learner would, with its tag.
func shortRef(ref string) string {
	if imageID.MatchString(ref) {
		return ref
	}
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(named)
}

// repository gives the reference without tag and digest, short.
func repository(ref string) string {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return ""
	}
	return reference.FamiliarName(named)
}
