package verify

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"
	"time"

	"berth/labs"
)

const (
	fileDeadline = 10 * time.Second // of reading files of a sandbox
	maxManifest  = 4 << 20          // bytes of a manifest.json
	maxArchive   = 8 << 30          // bytes of an archive that are read
	maxNames     = 50_000           // names of a tar file
)

// A savedImage is an image in the manifest.json of what docker save writes:
// the same in the layout of engines before 25 (<id>/layer.tar) and in the one
// since (blobs/sha256/…).
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

var errNoManifest = errors.New("there is no manifest.json")

// parseManifest reads a manifest.json.
func parseManifest(r io.Reader) ([]savedImage, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxManifest {
		return nil, fmt.Errorf("manifest.json is too long: %w", labs.ErrInvalid)
	}
	var images []savedImage
	if err := json.Unmarshal(text, &images); err != nil {
		return nil, fmt.Errorf("parse manifest.json: %v: %w", err, labs.ErrInvalid)
	}
	return images, nil
}

// names reports whether one of the images bears the reference, spelled out.
func names(images []savedImage, ref string) (savedImage, bool) {
	for _, i := range images {
		if slices.ContainsFunc(i.RepoTags, func(t string) bool { return fullRef(t) == ref }) {
			return i, true
		}
	}
	return savedImage{}, false
}

// readArchive finds the manifest.json of an image archive, compressed or not.
// errNoManifest or labs.ErrInvalid when it is something else.
func readArchive(r io.Reader) ([]savedImage, error) {
	buffered := bufio.NewReaderSize(r, 256<<10)
	var plain io.Reader = buffered
	if magic, err := buffered.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("unzip: %v: %w", err, labs.ErrInvalid)
		}
		plain = z
	}
	t := tar.NewReader(io.LimitReader(plain, maxArchive))
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, errNoManifest
		}
		if err != nil {
			return nil, fmt.Errorf("read tar file: %v: %w", err, labs.ErrInvalid)
		}
		if path.Clean(h.Name) == "manifest.json" && h.Typeflag == tar.TypeReg {
			return parseManifest(t)
		}
	}
}

// archives remembers which images archives hold while these stay the same.
type archives struct {
	mu    sync.Mutex
	known []knownArchive // newest last
}

type knownArchive struct {
	file   labs.FileInfo
	images []savedImage
	err    error
}

const maxArchives = 8

// read tells which images an archive of the sandbox holds.
func (a *archives) read(ctx context.Context, sb labs.Sandbox, file labs.FileInfo) ([]savedImage, error) {
	a.mu.Lock()
	for _, k := range a.known {
		if k.file.Path == file.Path && k.file.Size == file.Size && k.file.MTime.Equal(file.MTime) {
			a.mu.Unlock()
			return k.images, k.err
		}
	}
	a.mu.Unlock()
	// The sandbox lists names without reading what lies between, which tells
	// most files that are something else or not yet complete.
	list, err := sb.TarNames(ctx, file.Path, maxNames)
	if err == nil && len(list) < maxNames && !slices.ContainsFunc(list, func(n string) bool { return path.Clean(n) == "manifest.json" }) {
		err = errNoManifest
	}
	var images []savedImage
	if err == nil {
		var f io.ReadCloser
		if f, err = sb.Open(ctx, file.Path); err == nil {
			stop := context.AfterFunc(ctx, func() { f.Close() })
			images, err = readArchive(f)
			if stop() {
				f.Close()
			}
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil && !errors.Is(err, errNoManifest) && !errors.Is(err, labs.ErrInvalid) {
		return nil, err
	}
	// One that changed in the last moments may change again within the same
	// tick of the clock.
	if time.Since(file.MTime) > time.Second {
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.known) == maxArchives {
			a.known = slices.Delete(a.known, 0, 1)
		}
		a.known = append(a.known, knownArchive{file, images, err})
	}
	return images, err
}
