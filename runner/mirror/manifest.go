package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	maxManifest = 4 << 20 // bytes, which is what engines accept
	maxParts    = 1000    // that one manifest names; images have at most 127 layers
	maxDepth    = 4       // of indexes that name indexes
)

// accepted are the kinds of manifest that the mirror passes on.
var accepted = []string{
	string(types.OCIImageIndex), string(types.DockerManifestList),
	string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
}

// A manifest is what the mirror needs of an image's manifest or of an index of
// them.
type manifest struct {
	mediaType string
	children  []v1.Descriptor // manifests that an index names
	blobs     []v1.Descriptor // config and layers of an image
}

func (m manifest) isIndex() bool {
	return m.mediaType == string(types.OCIImageIndex) || m.mediaType == string(types.DockerManifestList)
}

// parseManifest reads a manifest. Digests in it are well-formed afterwards.
func parseManifest(raw []byte) (manifest, error) {
	var doc struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Config        *v1.Descriptor  `json:"config"`
		Layers        []v1.Descriptor `json:"layers"`
		Manifests     []v1.Descriptor `json:"manifests"`
	}
	if len(raw) > maxManifest {
		return manifest{}, fmt.Errorf("manifest of %d bytes, at most %d are accepted", len(raw), maxManifest)
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	if doc.SchemaVersion != 2 {
		return manifest{}, fmt.Errorf("manifest of schema version %d, want 2", doc.SchemaVersion)
	}
	m := manifest{mediaType: doc.MediaType}
	if m.mediaType == "" { // OCI leaves it out at times
		m.mediaType = string(types.OCIManifestSchema1)
		if doc.Config == nil && doc.Manifests != nil {
			m.mediaType = string(types.OCIImageIndex)
		}
	}
	switch types.MediaType(m.mediaType) {
	case types.OCIImageIndex, types.DockerManifestList:
		m.children = doc.Manifests
	case types.OCIManifestSchema1, types.DockerManifestSchema2:
		if doc.Config == nil {
			return manifest{}, errors.New("manifest names no config")
		}
		m.blobs = append([]v1.Descriptor{*doc.Config}, doc.Layers...)
	default:
		return manifest{}, fmt.Errorf("manifest of type %.80q is no image", m.mediaType)
	}
	if n := len(m.children) + len(m.blobs); n > maxParts {
		return manifest{}, fmt.Errorf("manifest names %d parts, at most %d are accepted", n, maxParts)
	}
	for _, d := range append(m.children, m.blobs...) {
		if !digestRE.MatchString(d.Digest.String()) || d.Size < 0 {
			return manifest{}, fmt.Errorf("manifest names %.80q of %d bytes", d.Digest, d.Size)
		}
	}
	return m, nil
}

// here picks the child that engines on this machine choose. A child without a
// platform is taken when it is the only one.
func (m manifest) here() (v1.Descriptor, bool) {
	for _, d := range m.children {
		if d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == runtime.GOARCH {
			return d, true
		}
	}
	if len(m.children) == 1 && m.children[0].Platform == nil {
		return m.children[0], true
	}
	return v1.Descriptor{}, false
}
