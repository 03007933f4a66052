package verify

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/labs"
)

const (
	maxManifests = 32   // manifest.json files that are looked at
	maxLayers    = 128  // layers of one image
	maxSample    = 20   // names of a layer that are looked for
	maxLayer     = 4096 // names of a layer of which the sample is taken
	maxRoots     = 32   // folders where a layer may have been unpacked
)

func under(c *labs.LayerCheck) string { return strings.TrimRight(cmp.Or(c.Under, "~"), "/") }

// lookLayer looks whether the files of one layer of an unpacked image archive
// stand somewhere.
func (w *watch) lookLayer(ctx context.Context, c *labs.LayerCheck) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, fileDeadline)
	defer cancel()
	seen := "there is no unpacked archive of " + code(c.Ref)
	looked := make(map[string]bool)
	for _, below := range depths {
		found, err := w.sb.Glob(ctx, under(c)+below+"/manifest.json", maxManifests)
		if err != nil {
			return verdict{}, w.trouble(ctx, "list manifests", err)
		}
		for _, m := range found {
			if looked[m.Path] || len(looked) == maxManifests {
				continue
			}
			looked[m.Path] = true
			img, ok, err := w.savedAt(ctx, m, c.Ref)
			if err != nil {
				return verdict{}, err
			}
			if !ok {
				continue
			}
			root, readable, err := w.unpacked(ctx, under(c), path.Dir(m.Path), img)
			switch {
			case err != nil:
				return verdict{}, err
			case root != "":
				return verdict{holds: true, seen: "the files of a layer are in " + code(root)}, nil
			case readable:
				seen = "no layer of the archive in " + code(path.Dir(m.Path)) + " is unpacked"
			case strings.HasPrefix(seen, "there is no"):
				seen = "the layers named in " + code(m.Path) + " are not there"
			}
		}
	}
	return verdict{seen: seen}, nil
}

// depths are where below a folder something is looked for: near it first, as
// looking everywhere takes longer and may be given up by the sandbox.
var depths = []string{"", "/*", "/*/*", "/*/*/*", "/**"}

// unpacked gives the folder below top in which a layer of the image was
// unpacked, or "". readable reports whether there is a layer that it could be.
func (w *watch) unpacked(ctx context.Context, top, dir string, img savedImage) (root string, readable bool, err error) {
	for _, l := range img.Layers[:min(len(img.Layers), maxLayers)] {
		sample, err := w.layers.sample(ctx, w.sb, path.Join(dir, path.Clean("/"+l)))
		if errors.Is(err, labs.ErrNotFound) || errors.Is(err, labs.ErrInvalid) {
			continue
		}
		if err != nil {
			return "", readable, w.trouble(ctx, "list layer", err)
		}
		readable = true
		root, err := w.standsAt(ctx, top, sample)
		if root != "" || err != nil {
			return root, true, err
		}
	}
	return "", readable, nil
}

// savedAt reads a manifest.json and finds the image in it.
func (w *watch) savedAt(ctx context.Context, m labs.FileInfo, ref string) (savedImage, bool, error) {
	if m.Size > maxManifest || m.Mode.IsDir() {
		return savedImage{}, false, nil
	}
	text, cut, err := w.readFile(ctx, m.Path)
	if errors.Is(err, labs.ErrNotFound) || errors.Is(err, labs.ErrInvalid) || cut {
		return savedImage{}, false, nil
	}
	if err != nil {
		return savedImage{}, false, err
	}
	images, err := parseManifest(strings.NewReader(text))
	if err != nil {
		return savedImage{}, false, nil // another manifest.json
	}
	img, ok := names(images, fullRef(ref))
	return img, ok, nil
}

// standsAt gives the folder below top in which all the names stand, or "".
func (w *watch) standsAt(ctx context.Context, top string, sample []string) (string, error) {
	if len(sample) == 0 {
		return "", nil
	}
	for _, below := range depths {
		matches, err := w.sb.Glob(ctx, top+below+"/"+sample[0], maxRoots)
		if err != nil {
			return "", w.trouble(ctx, "look for files", err)
		}
	roots:
		for _, m := range matches {
			root, ok := strings.CutSuffix(m.Path, "/"+sample[0])
			if !ok || m.Mode.IsDir() || strings.ContainsAny(root, `*?[\`) {
				continue
			}
			for _, name := range sample[1:] {
				f, err := w.sb.Glob(ctx, root+"/"+name, 1)
				if err != nil {
					return "", w.trouble(ctx, "look for files", err)
				}
				if len(f) == 0 || f[0].Mode.IsDir() {
					continue roots
				}
			}
			return cmp.Or(root, "/"), nil
		}
	}
	return "", nil
}

// layerFiles remembers names of files of layers while these stay the same.
type layerFiles struct {
	mu    sync.Mutex
	known []knownLayer // newest last
}

type knownLayer struct {
	file   labs.FileInfo
	sample []string
}

// sample gives names of some regular files of a layer, spread over it. Those
// that would mean something in a pattern are left out.
func (l *layerFiles) sample(ctx context.Context, sb labs.Sandbox, file string) ([]string, error) {
	if strings.ContainsAny(file, `*?[\`) {
		return nil, labs.ErrInvalid
	}
	infos, err := sb.Glob(ctx, file, 1)
	if err != nil {
		return nil, err
	}
	if len(infos) == 0 {
		return nil, labs.ErrNotFound
	}
	info := infos[0]
	l.mu.Lock()
	for _, k := range l.known {
		if k.file.Path == info.Path && k.file.Size == info.Size && k.file.MTime.Equal(info.MTime) {
			l.mu.Unlock()
			return k.sample, nil
		}
	}
	l.mu.Unlock()
	all, err := sb.TarNames(ctx, info.Path, maxLayer)
	if err != nil {
		return nil, err
	}
	var usable []string
	for _, n := range all {
		n = tarName(n)
		if n != "" && len(n) < 1024 && !strings.HasPrefix(path.Base(n), ".wh.") && !strings.ContainsAny(n, `*?[\`) {
			usable = append(usable, n)
		}
	}
	sample := usable
	if len(usable) > maxSample {
		sample = nil
		for i := range maxSample {
			sample = append(sample, usable[i*len(usable)/maxSample])
		}
	}
	// The one that is looked for first should be found in few places.
	slices.SortStableFunc(sample, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	if time.Since(info.MTime) > time.Second {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.known) == maxLayers {
			l.known = slices.Delete(l.known, 0, 1)
		}
		l.known = append(l.known, knownLayer{info, slices.Clone(sample)})
	}
	return sample, nil
}
