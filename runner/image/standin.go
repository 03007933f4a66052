package image

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"berth/labs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// buildStandin makes whole/layout: an OCI image layout with one image, whose
// bytes depend on the recipe and the versions of the packages alone.
func (s *Store) buildStandin(ctx context.Context, r *Recipe, work, whole string) error {
	debs := filepath.Join(work, "debs")
	b := &bootstrap{
		store: s, image: r.Name, suite: r.Suite, variant: "extract", include: r.Packages,
		target: filepath.Join(work, "packages"),
		options: []string{
			`--aptopt=Acquire::Languages "none"`,
			`--aptopt=Acquire::Retries "3"`,
			`--extract-hook=ls "$1"/var/cache/apt/archives >` + debs,
		},
	}
	var err error
	if b.tmp, err = tempDir(work); err != nil {
		return err
	}
	keys, err := s.keyring(r, work)
	if err != nil {
		return err
	}
	b.options = append(b.options, keys...)
	if err := s.bootstrap(ctx, r, b); err != nil {
		return err
	}
	list, err := os.ReadFile(debs)
	if err != nil {
		return fmt.Errorf("read the versions of the packages: %w", err)
	}
	img, err := s.assemble(ctx, r, b.target, debVersions(string(list)))
	if err != nil {
		return fmt.Errorf("put stand-in %s together: %w", r.Name, err)
	}
	l, err := layout.Write(filepath.Join(whole, "layout"), empty.Index)
	if err != nil {
		return fmt.Errorf("write stand-in %s: %w", r.Name, err)
	}
	err = l.AppendImage(img, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
		layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.For}))
	if err != nil {
		return fmt.Errorf("write stand-in %s: %w", r.Name, err)
	}
	return nil
}

// assemble makes the image from the unpacked packages in the directory named
// packages.
func (s *Store) assemble(ctx context.Context, r *Recipe, packages string, versions map[string]string) (v1.Image, error) {
	root, err := os.OpenRoot(packages)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	p := &puzzle{recipes: s.Recipes, recipe: r, root: root, taken: map[string]bool{}}
	img := v1.Image(empty.Image)
	for i, l := range r.Layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.step(Step{Image: r.Name, Doing: "making layers", Done: i, Total: len(r.Layers)})
		text, err := p.layer(l)
		if err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i+1, l.By, err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(text)), nil
		}, tarball.WithCompressedCaching)
		if err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i+1, l.By, err)
		}
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:   layer,
			History: v1.History{Created: v1.Time{Time: r.Created}, CreatedBy: l.By},
		})
		if err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i+1, l.By, err)
		}
	}
	return configure(img, r, versions)
}

// configure gives an image of layers the recipe's config, and the history of a
// Dockerfile that would have said it.
func configure(img v1.Image, r *Recipe, versions map[string]string) (v1.Image, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Created = v1.Time{Time: r.Created}
	file.OS, file.Architecture = "linux", runtime.GOARCH
	c := &file.Config
	said := func(word string, v any) {
		text, ok := v.(string)
		if !ok {
			list, _ := json.Marshal(v) // a list of strings
			text = string(list)
		}
		file.History = append(file.History, v1.History{
			Created: v1.Time{Time: r.Created}, CreatedBy: word + " " + text, EmptyLayer: true})
	}
	for _, e := range r.Config.Env {
		e, err := fillVersions(e, versions)
		if err != nil {
			return nil, err
		}
		c.Env = append(c.Env, e)
		said("ENV", e)
	}
	c.Labels = map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(r.Config.Labels)) {
		v, err := fillVersions(r.Config.Labels[key], versions)
		if err != nil {
			return nil, err
		}
		c.Labels[key] = v
		said("LABEL", key+"="+v)
	}
	for _, v := range r.Config.Volumes {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[v] = struct{}{}
		said("VOLUME", []string{v})
	}
	if c.WorkingDir = r.Config.Workdir; c.WorkingDir != "" {
		said("WORKDIR", c.WorkingDir)
	}
	if c.User = r.Config.User; c.User != "" {
		said("USER", c.User)
	}
	if c.Entrypoint = r.Config.Entrypoint; c.Entrypoint != nil {
		said("ENTRYPOINT", c.Entrypoint)
	}
	for _, port := range r.Config.Ports {
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		c.ExposedPorts[port] = struct{}{}
		said("EXPOSE", port)
	}
	if c.Cmd = r.Config.Cmd; c.Cmd != nil {
		said("CMD", c.Cmd)
	}
	return mutate.ConfigFile(img, file)
}

// A puzzle puts layers together from unpacked packages and a recipe's files.
type puzzle struct {
	recipes fs.FS
	recipe  *Recipe
	root    *os.Root        // the unpacked packages
	taken   map[string]bool // libraries that are in a layer
	libs    map[string]string
}

// A piece is one entry of a layer.
type piece struct {
	header tar.Header
	text   []byte
}

// layer gives a layer as a tar file: sorted, every time the recipe's.
func (p *puzzle) layer(l Layer) ([]byte, error) {
	pieces := map[string]piece{}
	for dir, files := range l.Take {
		for _, file := range files {
			if err := p.take(pieces, file, path.Join(dir, path.Base(file))); err != nil {
				return nil, err
			}
		}
	}
	for _, prog := range l.LibrariesOf {
		if err := p.takeLibraries(pieces, prog); err != nil {
			return nil, err
		}
	}
	if l.Files != "" {
		if err := p.copy(pieces, path.Join(p.recipe.Name, "files", l.Files)); err != nil {
			return nil, err
		}
	}
	for target, links := range l.Links {
		for _, link := range links {
			pieces[link] = piece{header: tar.Header{Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
		}
	}
	for dir, text := range l.Dirs {
		mode, uid, gid := dirMode(text)
		pieces[dir] = piece{header: tar.Header{Typeflag: tar.TypeDir, Mode: mode, Uid: uid, Gid: gid}}
	}
	if len(pieces) == 0 {
		return nil, errors.New("it has nothing in it")
	}
	for _, name := range slices.Collect(maps.Keys(pieces)) {
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
			have, ok := pieces[dir]
			if ok && have.header.Typeflag != tar.TypeDir {
				return nil, fmt.Errorf("%s is in %s, which is not a directory: %w", name, dir, labs.ErrInvalid)
			}
			if !ok {
				pieces[dir] = piece{header: tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}}
			}
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(pieces)) {
		pc := pieces[name]
		h := pc.header
		h.Name = strings.TrimPrefix(name, "/")
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		h.Size = int64(len(pc.text))
		h.ModTime = p.recipe.Created
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(pc.text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// take puts a file of the packages at a place in the layer. A symbolic link is
// followed: the layer gets the file itself.
func (p *puzzle) take(pieces map[string]piece, file, at string) error {
	name, err := p.follow(file)
	if err != nil {
		return err
	}
	info, err := p.root.Lstat(name)
	if err != nil {
		return err
	}
	text, err := p.root.ReadFile(name)
	if err != nil {
		return err
	}
	pieces[at] = piece{text: text, header: tar.Header{Typeflag: tar.TypeReg, Mode: int64(info.Mode().Perm())}}
	return nil
}

// follow gives the regular file that a path in the packages leads to, relative
// to their root. Absolute links lead from that root.
func (p *puzzle) follow(file string) (string, error) {
	name := strings.TrimPrefix(file, "/")
	for range 10 {
		info, err := p.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("the packages have no file %s: %w", file, labs.ErrInvalid)
		}
		if err != nil {
			return "", err
		}
		switch {
		case info.Mode().IsRegular():
			return name, nil
		case info.Mode()&fs.ModeSymlink == 0:
			return "", fmt.Errorf("%s is not a file: %w", file, labs.ErrInvalid)
		}
		target, err := p.root.Readlink(name)
		if err != nil {
			return "", err
		}
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(name), target)
		}
		name = strings.TrimPrefix(path.Clean(target), "/")
	}
	return "", fmt.Errorf("%s is a link that goes in circles: %w", file, labs.ErrInvalid)
}

// copy puts a folder of the recipe into the layer's root.
func (p *puzzle) copy(pieces map[string]piece, dir string) error {
	return fs.WalkDir(p.recipes, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := readSmall(p.recipes, name)
		if err != nil {
			return err
		}
		pieces[strings.TrimPrefix(name, dir)] = piece{text: text, header: tar.Header{Typeflag: tar.TypeReg, Mode: fileMode(text)}}
		return nil
	})
}

// takeLibraries puts the shared libraries that a program needs, those that
// they need, and the program's loader where the loader looks for them.
func (p *puzzle) takeLibraries(pieces map[string]piece, prog string) error {
	if p.libs == nil {
		if err := p.findLibraries(); err != nil {
			return err
		}
	}
	name, err := p.follow(prog)
	if err != nil {
		return err
	}
	for queue := []string{name}; len(queue) > 0; {
		file := queue[0]
		queue = queue[1:]
		needed, loader, err := p.needed(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if loader != "" && !p.taken[loader] {
			p.taken[loader] = true
			lib, ok := p.libs[path.Base(loader)]
			if !ok {
				return fmt.Errorf("the packages do not have %s, which %s needs: %w", loader, prog, labs.ErrInvalid)
			}
			if err := p.take(pieces, lib, loader); err != nil {
				return err
			}
		}
		for _, so := range needed {
			lib, ok := p.libs[so]
			if !ok {
				return fmt.Errorf("the packages do not have %s, which %s needs: %w", so, prog, labs.ErrInvalid)
			}
			if p.taken[lib] {
				continue
			}
			p.taken[lib] = true
			if err := p.take(pieces, lib, lib); err != nil {
				return err
			}
			regular, err := p.follow(lib)
			if err != nil {
				return err
			}
			queue = append(queue, regular)
		}
	}
	return nil
}

// findLibraries notes where in the packages the libraries are, by name.
func (p *puzzle) findLibraries() error {
	p.libs = map[string]string{}
	for _, top := range []string{"lib", "lib64", "usr/lib", "usr/lib64"} {
		err := fs.WalkDir(p.root.FS(), top, func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if d.IsDir() {
				// Directly in there, or in the directory of an architecture:
				// deeper are plugins.
				if rest := strings.TrimPrefix(name, top); strings.Count(rest, "/") > 1 {
					return fs.SkipDir
				}
				return nil
			}
			if base := path.Base(name); strings.Contains(base, ".so") && p.libs[base] == "" {
				p.libs[base] = "/" + name
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look for libraries: %w", err)
		}
	}
	return nil
}

// needed gives the names of the libraries that a program or library asks for,
// and the path of its loader.
func (p *puzzle) needed(name string) (libs []string, loader string, err error) {
	f, err := p.root.Open(name)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return nil, "", err
	}
	for _, prog := range e.Progs {
		if prog.Type == elf.PT_INTERP {
			text, err := io.ReadAll(io.LimitReader(prog.Open(), 4096))
			if err != nil {
				return nil, "", err
			}
			loader = strings.TrimRight(string(text), "\x00")
		}
	}
	libs, err = e.ImportedLibraries()
	// A loader is also asked for as a library; it is where loader says.
	libs = slices.DeleteFunc(libs, func(so string) bool { return strings.HasPrefix(so, "ld-linux") || strings.HasPrefix(so, "ld64") })
	return libs, loader, err
}

// debVersions reads a list of package files, such as
// redis-server_5%3a8.0.2-3_amd64.deb.
func debVersions(list string) map[string]string {
	versions := map[string]string{}
	for line := range strings.SplitSeq(list, "\n") {
		if f := strings.Split(line, "_"); len(f) == 3 && strings.HasSuffix(line, ".deb") {
			versions[f[0]] = upstream(strings.ReplaceAll(f[1], "%3a", ":"))
		}
	}
	return versions
}

var versionRE = regexp.MustCompile(`\{version ([a-z0-9+.-]+)\}`)

// fillVersions replaces "{version PACKAGE}".
func fillVersions(text string, versions map[string]string) (string, error) {
	var err error
	text = versionRE.ReplaceAllStringFunc(text, func(m string) string {
		name := versionRE.FindStringSubmatch(m)[1]
		v, ok := versions[name]
		if !ok {
			err = fmt.Errorf("there is no package %s whose version could be said: %w", name, labs.ErrInvalid)
		}
		return v
	})
	return text, err
}
