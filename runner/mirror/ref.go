package mirror

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"berth/labs"
)

// hub is the registry of references that name none.
const hub = "docker.io"

// What clients may name. All of it is matched as a whole before it is used.
var (
	repoRE   = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRE    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	digestRE = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

const maxRepo = 255 // bytes

// A ref names an image (or a blob) in a registry. Its fields are valid: a ref
// comes only from newRef and parseRef.
type ref struct {
	registry string // "docker.io"
	repo     string // "library/redis"
	id       string // a tag, or a digest "sha256:…"
}

// newRef checks the parts of a reference.
func newRef(registry, repo, id string) (ref, error) {
	if len(repo) > maxRepo || !repoRE.MatchString(repo) {
		return ref{}, fmt.Errorf("image name %.60q: %w", repo, labs.ErrInvalid)
	}
	if !tagRE.MatchString(id) && !digestRE.MatchString(id) {
		return ref{}, fmt.Errorf("tag or digest %.80q: %w", id, labs.ErrInvalid)
	}
	if registry == hub {
		first, _, more := strings.Cut(repo, "/")
		if !more {
			repo = "library/" + repo
		} else if strings.Contains(first, ".") || first == "localhost" {
			// A name with a host in it is not one of Docker Hub's.
			return ref{}, fmt.Errorf("image name %.60q begins with a host: %w", repo, labs.ErrInvalid)
		}
	}
	return ref{registry, repo, id}, nil
}

// parseRef reads a reference as people write it: redis, redis:3.2.11-alpine,
// ghcr.io/owner/name@sha256:….
func parseRef(s string) (ref, error) {
	r, err := name.ParseReference(s)
	if err != nil {
		return ref{}, fmt.Errorf("image reference %.80q: %w: %w", s, labs.ErrInvalid, err)
	}
	registry := r.Context().RegistryStr()
	if registry == name.DefaultRegistry {
		registry = hub
	}
	return newRef(registry, r.Context().RepositoryStr(), r.Identifier())
}

func (r ref) byDigest() bool { return digestRE.MatchString(r.id) }

// with gives the same repository with another tag or digest, which is valid.
func (r ref) with(id string) ref {
	r.id = id
	return r
}

// String gives the whole reference.
func (r ref) String() string {
	sep := ":"
	if r.byDigest() {
		sep = "@"
	}
	return r.registry + "/" + r.repo + sep + r.id
}

// short gives the reference as people write it.
func (r ref) short() string {
	return strings.TrimPrefix(strings.TrimPrefix(r.String(), hub+"/"), "library/")
}
