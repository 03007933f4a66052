// Package image builds and keeps what sandboxes start from: root file systems
// (kind "sandbox") and container images that stand in for ones that cannot be
// had (kind "standin"). Both are built from recipes and Debian's packages by
// mmdebstrap, as root, on this machine.
//
// A recipe is a folder: recipe.yaml, and files/ which is copied into the
// result, where a file that begins with "#!" can be run. What it may say is documented at Recipe. The id of an image is a hash
// of its recipe, so a changed recipe gives a new image beside the old one.
//
// On disk, below the directory of a Store:
//
//	images/NAME-ID/rootfs      the root file system, owned by root, 0755
//	images/NAME-ID/image.json  what it is; Image in JSON
//	standins/NAME-ID/layout    an OCI image layout with one image
//	standins/NAME-ID/image.json
//	images/.lock               held while something is built or removed
//	images/.building           what is being built; swept by the next build
//	images/NAME.log            the packaging tools' words on the last failure
//
// An image is put in place by a rename when it is whole, so what Find gives
// has always been built to its end.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/labs"

	"golang.org/x/sys/unix"
)

// An Image is one that has been built.
type Image struct {
	Name   string    `json:"name"` // of its recipe
	ID     string    `json:"id"`   // hash of its recipe
	Kind   Kind      `json:"kind"`
	About  string    `json:"about"`  // one sentence
	Engine string    `json:"engine"` // version of its Docker Engine: "26.1.5", or ""
	For    string    `json:"for"`    // the reference that a stand-in stands in for
	Size   int64     `json:"size"`   // bytes on disk
	Built  time.Time `json:"built"`

	Dir    string `json:"-"` // absolute; everything of the image
	Rootfs string `json:"-"` // absolute; of a sandbox image
	Layout string `json:"-"` // absolute; of a stand-in
}

// A Step tells how far a build is. Total is 0 while it is not known.
type Step struct {
	Image string // name of the recipe
	Doing string // "downloading packages"
	Done  int
	Total int
}

// A Store builds images and keeps them. Set the fields before the first call;
// methods may be called concurrently, also by several processes.
type Store struct {
	Dir      string // where images are kept; made when it is not there
	Recipes  fs.FS  // a folder for each recipe
	Log      *slog.Logger
	Progress func(Step) // told about every step of a build, one call at a time per build; may be nil

	Now func() time.Time // time.Now when nil
}

// minFree is the space that a build needs at its largest, with the packages
// downloaded and unpacked.
const minFree = 1500 << 20

// Build makes the image of this name from its recipe, unless that has been
// done: then it takes a few milliseconds and needs neither root nor network.
// Builds wait for each other. What a person can do something about is a
// *labs.Problem that says what; a mistake in a recipe has its position. When
// ctx ends, everything that the build started is ended and removed.
func (s *Store) Build(ctx context.Context, name string) (Image, error) {
	r, err := s.Recipe(name)
	if err != nil {
		return Image{}, err
	}
	if img, err := s.find(r); err == nil {
		return img, nil
	}
	if os.Geteuid() != 0 {
		return Image{}, &labs.Problem{Kind: labs.ErrForbidden,
			Say: fmt.Sprintf("Building the image %s needs root. Run it with sudo, or let an administrator run: berth image build %s", name, name)}
	}
	if err := s.mkdirs(); err != nil {
		return Image{}, err
	}
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	if img, err := s.find(r); err == nil { // built while we waited
		return img, nil
	}
	if err := s.sweep(); err != nil {
		return Image{}, err
	}
	if err := enoughSpace(s.Dir); err != nil {
		return Image{}, err
	}
	started := s.now()
	img, err := s.build(ctx, r)
	if err != nil {
		if serr := s.sweep(); serr != nil {
			s.Log.Warn("sweep after a build that did not work", "image", name, "err", serr)
		}
		return Image{}, err
	}
	s.Log.Info("image built", "image", name, "id", img.ID, "size", img.Size, "took", s.now().Sub(started).Round(time.Millisecond))
	return img, nil
}

// build makes the image in the building directory and renames it into place.
// The lock is held.
func (s *Store) build(ctx context.Context, r *Recipe) (Image, error) {
	work := s.building()
	whole := filepath.Join(work, "whole")
	for _, dir := range []string{work, whole} {
		if err := passage(dir); err != nil {
			return Image{}, fmt.Errorf("make the building directory: %w", err)
		}
	}
	img := Image{Name: r.Name, ID: r.ID, Kind: r.Kind, About: r.About, For: r.For}
	var err error
	if r.Kind == Standin {
		err = s.buildStandin(ctx, r, work, whole)
	} else {
		img.Engine, err = s.buildRootfs(ctx, r, work, whole)
	}
	if err != nil {
		return Image{}, err
	}

	s.step(Step{Image: r.Name, Doing: "writing it to disk"})
	if img.Size, err = diskUse(whole); err != nil {
		return Image{}, fmt.Errorf("measure image %s: %w", r.Name, err)
	}
	img.Built = s.now().UTC().Round(time.Second)
	text, err := json.MarshalIndent(img, "", "\t")
	if err != nil {
		return Image{}, err
	}
	if err := os.WriteFile(filepath.Join(whole, "image.json"), append(text, '\n'), 0o644); err != nil {
		return Image{}, fmt.Errorf("describe image %s: %w", r.Name, err)
	}
	// Without this a power cut could leave an image in place whose files are
	// empty.
	if err := syncFS(whole); err != nil {
		return Image{}, fmt.Errorf("write image %s to disk: %w", r.Name, err)
	}
	dir := s.dir(r)
	if err := os.RemoveAll(dir); err != nil { // what is there was not whole, or find had seen it
		return Image{}, fmt.Errorf("remove a broken image: %w", err)
	}
	if err := os.Rename(whole, dir); err != nil {
		return Image{}, fmt.Errorf("put image %s in place: %w", r.Name, err)
	}
	if err := s.sweep(); err != nil {
		return Image{}, err
	}
	if err := os.Remove(s.logFile(r.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Image{}, fmt.Errorf("remove the log of an earlier build: %w", err)
	}
	return s.find(r)
}

// Find gives an image that has been built from its recipe as it is now.
// labs.ErrNotFound, in a *labs.Problem, when it has not.
func (s *Store) Find(name string) (Image, error) {
	r, err := s.Recipe(name)
	if err != nil {
		return Image{}, err
	}
	return s.find(r)
}

func (s *Store) find(r *Recipe) (Image, error) {
	img, err := readImage(s.dir(r), r.Kind)
	if errors.Is(err, fs.ErrNotExist) {
		say := fmt.Sprintf("The image %s has not been built yet. Run: berth image build %s", r.Name, r.Name)
		if older, _ := filepath.Glob(filepath.Join(filepath.Dir(s.dir(r)), r.Name+"-"+idGlob)); len(older) > 0 {
			say = fmt.Sprintf("The recipe of the image %s has changed since it was built. Run: berth image build %s", r.Name, r.Name)
		}
		return Image{}, &labs.Problem{Kind: labs.ErrNotFound, Say: say}
	}
	if err != nil {
		return Image{}, fmt.Errorf("read image %s: %w", r.Name, err)
	}
	return img, nil
}

// Standin gives the OCI image layout of a stand-in, which is built when it has
// not been.
func (s *Store) Standin(ctx context.Context, name string) (layout string, err error) {
	img, err := s.Build(ctx, name)
	if err != nil {
		return "", err
	}
	if img.Kind != Standin {
		return "", fmt.Errorf("stand-in %s: %w: its recipe is for a %s image", name, labs.ErrInvalid, img.Kind)
	}
	return img.Layout, nil
}

// List gives the images on disk, also those whose recipe has changed or is
// gone, by name and the newest first.
func (s *Store) List() ([]Image, error) {
	var all []Image
	for _, kind := range []Kind{Sandbox, Standin} {
		entries, err := os.ReadDir(s.kindDir(kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list images: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			img, err := readImage(filepath.Join(s.kindDir(kind), e.Name()), kind)
			if err != nil {
				s.Log.Warn("skip what is not an image", "dir", e.Name(), "err", err)
				continue
			}
			all = append(all, img)
		}
	}
	slices.SortStableFunc(all, func(a, b Image) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return b.Built.Compare(a.Built)
	})
	return all, nil
}

// Prune removes the images that no recipe gives any more and that inUse does
// not hold on to; it is asked with the image's Dir. It waits for a build that
// is under way, and gives what it removed.
func (s *Store) Prune(ctx context.Context, inUse func(dir string) bool) ([]Image, error) {
	names, err := s.Names()
	if err != nil {
		return nil, err
	}
	current := map[string]bool{}
	for _, name := range names {
		r, err := s.Recipe(name)
		if err != nil {
			return nil, err
		}
		current[s.dir(r)] = true
	}
	if err := s.mkdirs(); err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, "")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.sweep(); err != nil {
		return nil, err
	}
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var removed []Image
	for _, img := range all {
		if current[img.Dir] || inUse(img.Dir) {
			continue
		}
		// Renamed first, so that what is half removed is never found.
		if err := os.Rename(img.Dir, s.building()); err != nil {
			return removed, fmt.Errorf("remove image %s-%s: %w", img.Name, img.ID, err)
		}
		if err := s.sweep(); err != nil {
			return removed, err
		}
		removed = append(removed, img)
	}
	return removed, nil
}

func (s *Store) kindDir(k Kind) string {
	if k == Standin {
		return filepath.Join(s.Dir, "standins")
	}
	return filepath.Join(s.Dir, "images")
}

func (s *Store) dir(r *Recipe) string       { return filepath.Join(s.kindDir(r.Kind), r.Name+"-"+r.ID) }
func (s *Store) building() string           { return filepath.Join(s.Dir, "images", ".building") }
func (s *Store) logFile(name string) string { return filepath.Join(s.Dir, "images", name+".log") }
func (s *Store) step(st Step) {
	if s.Progress != nil {
		s.Progress(st)
	}
}

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// mkdirs makes the directories of the store.
func (s *Store) mkdirs() error {
	if err := os.MkdirAll(filepath.Dir(s.Dir), 0o755); err != nil {
		return fmt.Errorf("make the directory of images: %w", err)
	}
	for _, dir := range []string{s.Dir, s.kindDir(Sandbox), s.kindDir(Standin)} {
		if err := passage(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the directory of images: %w", err)
		}
	}
	return nil
}

// passage makes a directory that other users may go through, because the ids
// of a sandbox are other users here, but may not list.
func passage(dir string) error {
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	return os.Chmod(dir, 0o711) // whatever the umask
}

// sweep removes what a build has left. The lock is held.
func (s *Store) sweep() error {
	if err := os.RemoveAll(s.building()); err != nil {
		return fmt.Errorf("remove what a build left: %w", err)
	}
	return nil
}

func readImage(dir string, kind Kind) (Image, error) {
	text, err := os.ReadFile(filepath.Join(dir, "image.json"))
	if err != nil {
		return Image{}, err
	}
	var img Image
	if err := json.Unmarshal(text, &img); err != nil {
		return Image{}, fmt.Errorf("%s/image.json: %w", dir, err)
	}
	if img.Kind != kind {
		return Image{}, fmt.Errorf("%s/image.json: a %s image among the %s images", dir, img.Kind, kind)
	}
	img.Dir, err = filepath.Abs(dir)
	if err != nil {
		return Image{}, err
	}
	content := ""
	if kind == Standin {
		img.Layout = filepath.Join(img.Dir, "layout")
		content = img.Layout
	} else {
		img.Rootfs = filepath.Join(img.Dir, "rootfs")
		content = img.Rootfs
	}
	if _, err := os.Stat(content); err != nil {
		return Image{}, err
	}
	return img, nil
}

// diskUse adds up the blocks of the files below dir; a file with several names
// counts once.
func diskUse(dir string) (int64, error) {
	var sum int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		sum += st.Blocks * 512
		return nil
	})
	return sum, err
}

func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

func enoughSpace(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the space in %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < minFree {
		return noSpace(dir, fmt.Errorf("%d MB are free, %d MB are needed", free>>20, int64(minFree)>>20))
	}
	return nil
}

func noSpace(dir string, cause error) error {
	return &labs.Problem{Kind: labs.ErrBusy, Cause: cause,
		Say: fmt.Sprintf("There is not enough space in %s. Free some, or choose another state directory.", dir)}
}
