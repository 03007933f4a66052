package mirror

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"berth/labs"
)

var errPlatform = errors.New("it has no image for this machine's kind of processor")

// Add puts images in stock: an image reference, which is fetched now, an
// archive as docker save writes it, or an OCI layout in a folder or an
// archive; archives may be gzipped. Images go by the names they carry; one
// image can be given another name with as. What is in stock is never evicted.
//
// References are fetched with the account that docker login has stored for
// their registry, and from any registry: Add is for operators, not learners.
// A server that uses the same folder serves what was added at once.
func (m *Mirror) Add(ctx context.Context, source, as string) ([]Image, error) {
	free, err := m.content.shared()
	if err != nil {
		return nil, err
	}
	defer free()
	if isPath(source) {
		return m.addPath(ctx, source, as, labs.FromStock)
	}
	return m.addRef(ctx, source, as)
}

// isPath reports whether a source names a file rather than an image.
func isPath(source string) bool {
	if strings.HasPrefix(source, ".") || strings.HasPrefix(source, "/") || strings.HasSuffix(source, ".tar") || strings.HasSuffix(source, ".tgz") || strings.HasSuffix(source, ".tar.gz") {
		return true
	}
	info, err := os.Stat(source)
	if err != nil {
		return false
	}
	if info.IsDir() { // a folder that is called as an image is no reason to refuse the image
		_, err = os.Stat(filepath.Join(source, "index.json"))
		return err == nil
	}
	return true
}

// SetStandin makes an image the stand-in for a reference: it is served when
// the real one can be had in no other way. It replaces the stand-in before.
func (m *Mirror) SetStandin(ctx context.Context, reference string, img v1.Image) error {
	r, err := parseRef(reference)
	if err != nil {
		return err
	}
	free, err := m.content.shared()
	if err != nil {
		return err
	}
	defer free()
	digest, err := m.putImage(ctx, img)
	if err != nil {
		return fmt.Errorf("store the stand-in for %s: %w", r.short(), err)
	}
	_, err = m.enter(labs.FromStandin, r, digest)
	return err
}

// SetStandinPath is SetStandin for an OCI layout or an archive that holds one
// image.
func (m *Mirror) SetStandinPath(ctx context.Context, reference, path string) error {
	free, err := m.content.shared()
	if err != nil {
		return err
	}
	defer free()
	_, err = m.addPath(ctx, path, reference, labs.FromStandin)
	return err
}

// enter makes a reference stand for a manifest that is here.
func (m *Mirror) enter(k labs.ImageSource, r ref, digest string) (Image, error) {
	if r.byDigest() {
		return Image{}, fmt.Errorf("%s is a digest; images go by a name and a tag: %w", r.short(), labs.ErrInvalid)
	}
	if r.registry != hub && m.upstreams[r.registry] == nil {
		return Image{}, &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf(
			"Learners' engines ask this mirror only for Docker Hub's names, and not for %s. Give it a name that they can ask for.", r.short())}
	}
	needs, ok := m.needs(digest, 0)
	if !ok {
		if _, x, err := m.content.manifest(digest); err == nil && x.isIndex() {
			if _, found := x.here(); !found {
				return Image{}, fmt.Errorf("%s: %w", r.short(), errPlatform)
			}
		}
		return Image{}, fmt.Errorf("%s lacks some of its parts: %w", r.short(), labs.ErrInvalid)
	}
	e := entry{Ref: r.String(), Digest: digest, At: m.Now()}
	if err := m.entries.set(k, e); err != nil {
		return Image{}, err
	}
	x := Image{Ref: e.Ref, Source: k, Digest: digest, Complete: true, At: e.At}
	for _, d := range needs {
		size, _ := m.content.size(d)
		x.Size += size
	}
	return x, nil
}

// addRef fetches an image.
func (m *Mirror) addRef(ctx context.Context, source, as string) ([]Image, error) {
	r, err := parseRef(source)
	if err != nil {
		return nil, err
	}
	target := r
	if as != "" {
		if target, err = parseRef(as); err != nil {
			return nil, err
		}
	}
	u, err := m.operator(source, r)
	if err != nil {
		return nil, err
	}
	defer u.close()
	digest := r.id
	if !r.byDigest() {
		raw, d, err := u.manifest(ctx, r.repo, r.id)
		if err != nil {
			return nil, m.unfetched(r, err)
		}
		if digest, err = m.content.putBytes(ctx, raw); err != nil || digest != d {
			return nil, fmt.Errorf("store the manifest of %s: %w", r.short(), err)
		}
	}
	if err := m.fetchImage(ctx, u, r.with(digest)); err != nil {
		return nil, m.unfetched(r, err)
	}
	x, err := m.enter(labs.FromStock, target, digest)
	if err != nil {
		return nil, err
	}
	return []Image{x}, nil
}

// operator gives the registry of a reference as the operator may use it.
func (m *Mirror) operator(source string, r ref) (*upstream, error) {
	if u := m.upstreams[r.registry]; u != nil {
		return m.newUpstream(r.registry, u.base.String(), authn.DefaultKeychain)
	}
	if r.registry == hub {
		return m.newUpstream(hub, "https://"+name.DefaultRegistry, authn.DefaultKeychain)
	}
	parsed, err := name.ParseReference(source)
	if err != nil {
		return nil, fmt.Errorf("image reference %q: %w: %w", source, labs.ErrInvalid, err)
	}
	reg := parsed.Context().Registry
	return m.newUpstream(r.registry, reg.Scheme()+"://"+reg.RegistryStr(), authn.DefaultKeychain)
}

func (m *Mirror) unfetched(r ref, err error) error {
	p := &labs.Problem{Kind: labs.ErrNotFound, Cause: err, Say: fmt.Sprintf("%s could not be fetched from %s.", r.short(), r.registry)}
	switch {
	case errors.Is(err, errAbsent):
		p.Say = fmt.Sprintf("There is no image %s in %s, or it needs an account: docker login %s.", r.short(), r.registry, r.registry)
	case errors.Is(err, errAway):
		p.Say = fmt.Sprintf("%s cannot be reached from here. On a machine where it can, run: docker pull %s && docker save -o image.tar %s, and add image.tar.", r.registry, r.short(), r.short())
	}
	return p
}

// addPath adds the images of a layout or an archive.
func (m *Mirror) addPath(ctx context.Context, source, as string, k labs.ImageSource) ([]Image, error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, fmt.Errorf("add images: %w", err)
	}
	var named []namedImage
	if info.IsDir() {
		named, err = m.readLayout(ctx, folder(source))
	} else {
		named, err = m.readArchive(ctx, source)
	}
	if err != nil {
		return nil, fmt.Errorf("add images of %s: %w", source, err)
	}
	if as != "" {
		if len(named) != 1 {
			return nil, fmt.Errorf("%s holds %d images; only one can be given a name: %w", source, len(named), labs.ErrInvalid)
		}
		named[0].names = []string{as}
	}
	var images []Image
	for _, x := range named {
		if len(x.names) == 0 {
			return nil, fmt.Errorf("an image in %s carries no name; give it one: %w", source, labs.ErrInvalid)
		}
		for _, n := range x.names {
			r, err := parseRef(n)
			if err != nil {
				return nil, fmt.Errorf("add images of %s: %w", source, err)
			}
			img, err := m.enter(k, r, x.digest)
			if err != nil {
				return nil, fmt.Errorf("add images of %s: %w", source, err)
			}
			images = append(images, img)
		}
	}
	return images, nil
}

// A namedImage is an image of an archive that has been stored.
type namedImage struct {
	digest string
	names  []string
}

// A layout is an OCI image layout. Names have slashes.
type layout interface {
	open(name string) (io.ReadCloser, error)
}

// A folder is a layout in a directory.
type folder string

func (f folder) open(name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(f), filepath.FromSlash(name)))
}

// readLayout stores the images that a layout's index names.
func (m *Mirror) readLayout(ctx context.Context, l layout) ([]namedImage, error) {
	raw, err := readSmall(l, "index.json")
	if err != nil {
		return nil, err
	}
	var index struct {
		Manifests []v1.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("read index.json: %w: %w", labs.ErrInvalid, err)
	}
	var named []namedImage
	byDigest := make(map[string]int)
	for _, d := range index.Manifests {
		digest := d.Digest.String()
		if !digestRE.MatchString(digest) {
			return nil, fmt.Errorf("index.json names %.80q: %w", digest, labs.ErrInvalid)
		}
		if d.Platform != nil && d.Platform.OS == "unknown" {
			continue // a statement about an image, not an image
		}
		i, ok := byDigest[digest]
		if !ok {
			if err := m.copyImage(ctx, l, digest, 0); err != nil {
				return nil, err
			}
			i = len(named)
			byDigest[digest] = i
			named = append(named, namedImage{digest: digest})
		}
		if n := nameOf(d); n != "" {
			named[i].names = append(named[i].names, n)
		}
	}
	if len(named) == 0 {
		return nil, fmt.Errorf("it holds no image: %w", labs.ErrInvalid)
	}
	return named, nil
}

// nameOf gives the name that a layout's index has for an image. A bare tag is
// no name.
func nameOf(d v1.Descriptor) string {
	if n := d.Annotations["io.containerd.image.name"]; n != "" {
		return n
	}
	if n := d.Annotations["org.opencontainers.image.ref.name"]; strings.ContainsAny(n, ":/") {
		return n
	}
	return ""
}

// copyImage stores a manifest and what it leads to. Children of an index that
// are not there are left out: archives hold the image of one platform.
func (m *Mirror) copyImage(ctx context.Context, l layout, digest string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("indexes are nested more than %d deep: %w", maxDepth, labs.ErrInvalid)
	}
	if err := m.copyBlob(ctx, l, digest); err != nil {
		return err
	}
	_, x, err := m.content.manifest(digest)
	if err != nil {
		return err
	}
	for _, d := range x.children {
		err := m.copyImage(ctx, l, d.Digest.String(), depth+1)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, d := range x.blobs {
		if err := m.copyBlob(ctx, l, d.Digest.String()); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mirror) copyBlob(ctx context.Context, l layout, digest string) error {
	if f, _, err := m.content.open(digest); err == nil { // counts as used: not evicted meanwhile
		return f.Close()
	}
	r, err := l.open("blobs/sha256/" + strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		return fmt.Errorf("read blob %s: %w", digest, err)
	}
	defer r.Close()
	_, _, err = m.content.put(ctx, r, digest)
	return err
}

// readSmall reads a file of a layout that is as small as a manifest.
func readSmall(l layout, name string) ([]byte, error) {
	r, err := l.open(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxManifest {
		return nil, fmt.Errorf("%s is bigger than %d MiB: %w", name, maxManifest>>20, labs.ErrInvalid)
	}
	return b, nil
}

// An archive is a tar file whose members can be opened by name.
type archive struct {
	file    *os.File
	members map[string]section
}

type section struct{ start, size int64 }

func (a *archive) open(name string) (io.ReadCloser, error) {
	s, ok := a.members[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return io.NopCloser(io.NewSectionReader(a.file, s.start, s.size)), nil
}

// readArchive stores the images of a tar file: a layout when there is one in
// it, as newer docker save writes, else what manifest.json names.
func (m *Mirror) readArchive(ctx context.Context, source string) ([]namedImage, error) {
	f, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	magic := make([]byte, 2)
	if _, err := io.ReadFull(f, magic); err != nil {
		return nil, fmt.Errorf("it is no archive: %w: %w", labs.ErrInvalid, err)
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		plain, err := m.unzip(ctx, f)
		if err != nil {
			return nil, err
		}
		defer os.Remove(plain.Name())
		defer plain.Close()
		f = plain
	}
	a, err := listArchive(ctx, f)
	if err != nil {
		return nil, err
	}
	if _, ok := a.members["index.json"]; ok {
		named, err := m.readLayout(ctx, a)
		if err != nil {
			return nil, err
		}
		for _, x := range named {
			if len(x.names) > 0 {
				return named, nil
			}
		}
		// Some writers leave the names to manifest.json.
		if _, ok := a.members["manifest.json"]; !ok {
			return named, nil
		}
	}
	return m.readSaved(ctx, f.Name())
}

// unzip gives a gzipped file's content as a file that the caller closes and
// removes.
func (m *Mirror) unzip(ctx context.Context, f *os.File) (*os.File, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("unzip: %w: %w", labs.ErrInvalid, err)
	}
	plain, err := os.CreateTemp(filepath.Join(m.content.dir, "tmp"), "unzip-*")
	if err != nil {
		return nil, fmt.Errorf("unzip: %w", err)
	}
	if _, err := io.Copy(plain, &contextReader{ctx, z}); err != nil {
		plain.Close()
		os.Remove(plain.Name())
		return nil, fmt.Errorf("unzip: %w", err)
	}
	return plain, nil
}

// listArchive finds where the members of a tar file begin.
func listArchive(ctx context.Context, f *os.File) (*archive, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	a := &archive{file: f, members: make(map[string]section)}
	t := tar.NewReader(f) // reads headers without buffering and seeks over content
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := t.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is no tar archive: %w: %w", labs.ErrInvalid, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		start, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		a.members[strings.TrimPrefix(path.Clean("/"+h.Name), "/")] = section{start, h.Size}
	}
}

// readSaved stores the images of an archive as older docker save wrote it.
func (m *Mirror) readSaved(ctx context.Context, file string) ([]namedImage, error) {
	opener := func() (io.ReadCloser, error) { return os.Open(file) }
	list, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, fmt.Errorf("it is neither an OCI layout nor what docker save writes: %w: %w", labs.ErrInvalid, err)
	}
	var named []namedImage
	for _, d := range list {
		var tag *name.Tag
		if len(list) > 1 {
			if len(d.RepoTags) == 0 {
				continue // it can be told from the others by its name only
			}
			t, err := name.NewTag(d.RepoTags[0])
			if err != nil {
				return nil, fmt.Errorf("image name %.80q: %w: %w", d.RepoTags[0], labs.ErrInvalid, err)
			}
			tag = &t
		}
		img, err := tarball.Image(opener, tag)
		if err != nil {
			return nil, fmt.Errorf("read the image %v: %w: %w", d.RepoTags, labs.ErrInvalid, err)
		}
		digest, err := m.putImage(ctx, img)
		if err != nil {
			return nil, err
		}
		named = append(named, namedImage{digest, d.RepoTags})
	}
	if len(named) == 0 {
		return nil, fmt.Errorf("it holds no image: %w", labs.ErrInvalid)
	}
	return named, nil
}

// putImage stores an image and gives its manifest's digest.
func (m *Mirror) putImage(ctx context.Context, img v1.Image) (string, error) {
	layers, err := img.Layers()
	if err != nil {
		return "", fmt.Errorf("read layers: %w", err)
	}
	for _, l := range layers {
		if err := m.putLayer(ctx, l); err != nil {
			return "", err
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return "", fmt.Errorf("read config: %w", err)
	}
	if _, err := m.content.putBytes(ctx, config); err != nil {
		return "", err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return "", fmt.Errorf("read manifest: %w", err)
	}
	if _, err := parseManifest(raw); err != nil {
		return "", err
	}
	return m.content.putBytes(ctx, raw)
}

func (m *Mirror) putLayer(ctx context.Context, l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	if f, _, err := m.content.open(digest.String()); err == nil {
		return f.Close()
	}
	r, err := l.Compressed()
	if err != nil {
		return fmt.Errorf("read layer %s: %w", digest, err)
	}
	defer r.Close()
	_, _, err = m.content.put(ctx, r, digest.String())
	return err
}
