package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// buildRootfs makes whole/rootfs and gives the version of its engine.
func (s *Store) buildRootfs(ctx context.Context, r *Recipe, work, whole string) (engine string, err error) {
	keys, err := s.keyring(r, work)
	if err != nil {
		return "", err
	}
	root := filepath.Join(whole, "rootfs")
	b := &bootstrap{store: s, image: r.Name, suite: r.Suite, variant: "minbase", include: r.Packages, target: root}
	if b.tmp, err = tempDir(work); err != nil {
		return "", err
	}
	b.options = append(b.options, dpkgOptions(r.Prune)...)
	b.options = append(b.options, keys...)
	b.options = append(b.options,
		`--aptopt=Acquire::Languages "none"`,
		`--aptopt=Acquire::Retries "3"`,
	)
	for _, line := range r.Customize {
		b.options = append(b.options, "--customize-hook="+inside(line))
	}
	if err := s.bootstrap(ctx, r, b); err != nil {
		return "", err
	}

	s.step(Step{Image: r.Name, Doing: "leaving out what is not needed"})
	if err := settle(root); err != nil {
		return "", fmt.Errorf("finish image %s: %w", r.Name, err)
	}
	if err := dropPrivileges(root); err != nil {
		return "", fmt.Errorf("finish image %s: %w", r.Name, err)
	}
	if err := prune(root, r.Prune); err != nil {
		return "", fmt.Errorf("finish image %s: %w", r.Name, err)
	}
	for _, dir := range r.dirs {
		if err := copyFiles(root, s.Recipes, path.Join(dir, "files")); err != nil {
			return "", fmt.Errorf("copy the files of recipe %s: %w", dir, err)
		}
	}
	if r.Engine != "" {
		status, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/status"))
		if err != nil {
			return "", fmt.Errorf("read the packages of image %s: %w", r.Name, err)
		}
		engine = upstream(installedVersion(string(status), r.Engine))
	}
	return engine, nil
}

// bootstrap runs b with the package sources of this machine, and when those
// do not have the release, with Debian's own.
func (s *Store) bootstrap(ctx context.Context, r *Recipe, b *bootstrap) error {
	b.sources = hostSources(os.DirFS("/etc"), r.Suite)
	if len(b.sources) == 0 {
		return s.withDefault(ctx, r, b)
	}
	b.sources = append(b.sources, r.Sources...)
	err := b.run(ctx)
	if !errors.Is(err, errNoSuite) {
		return err
	}
	s.Log.Info("the package source of this machine does not have the release, Debian's own is used", "suite", r.Suite)
	if err := os.RemoveAll(b.target); err != nil {
		return fmt.Errorf("remove what a build left: %w", err)
	}
	return s.withDefault(ctx, r, b)
}

// withDefault leaves it to mmdebstrap where Debian is. It knows that only as
// long as it is given no source at all; further ones go in by a file.
func (s *Store) withDefault(ctx context.Context, r *Recipe, b *bootstrap) error {
	b.sources = nil
	if len(r.Sources) > 0 {
		list := filepath.Join(b.tmp, "recipe.list")
		if err := os.WriteFile(list, []byte(strings.Join(r.Sources, "\n")+"\n"), 0o644); err != nil {
			return fmt.Errorf("write the sources of recipe %s: %w", r.Name, err)
		}
		b.options = append(b.options, "--setup-hook=copy-in "+list+" /etc/apt/sources.list.d")
	}
	return b.run(ctx)
}

func tempDir(work string) (string, error) {
	dir := filepath.Join(work, "tmp")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a temporary directory: %w", err)
	}
	return dir, os.Chmod(dir, fs.ModeSticky|0o777) // apt gives up root to download
}

// inside makes a hook of a command that is to run in the new system.
func inside(line string) string {
	return `chroot "$1" /bin/sh -ec '` + strings.ReplaceAll(line, `'`, `'\''`) + `'`
}

// settle makes a root file system forget the machine it was built on.
func settle(name string) error {
	// Links in it may lead anywhere: through root nothing outside is reached.
	root, err := os.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	for file, text := range map[string]string{
		"etc/hostname":    "lab\n",
		"etc/hosts":       "127.0.0.1\tlocalhost\n127.0.1.1\tlab\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		"etc/resolv.conf": "", // the runner's to fill
		"etc/machine-id":  "",
	} {
		if err := root.RemoveAll(file); err != nil {
			return err
		}
		if err := root.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := root.Chmod(file, 0o644); err != nil { // whatever the umask
			return err
		}
	}
	lists, err := fs.Glob(root.FS(), "etc/apt/sources.list.d/*")
	if err != nil {
		return err
	}
	for _, list := range append(lists, "etc/apt/sources.list") {
		text, err := root.ReadFile(list)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := root.WriteFile(list, []byte(withoutPassword(string(text))), 0o644); err != nil {
			return err
		}
	}
	if err := root.RemoveAll("etc/apt/apt.conf.d/99mmdebstrap"); err != nil {
		return err
	}
	// A sandbox gets its own /dev, /run and /tmp.
	for _, dir := range []string{"dev", "run", "tmp", "var/cache/apt/archives", "var/lib/apt/lists"} {
		entries, err := fs.ReadDir(root.FS(), dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := root.RemoveAll(path.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return root.Chmod(".", 0o755)
}

// dropPrivileges takes the setuid and setgid bits and the file capabilities
// from all programs. Whoever is in a sandbox is root there already. Outside,
// a program of an old image that runs as root for everyone who finds it would
// be a way to become root of this machine.
func dropPrivileges(root string) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			if err := os.Chmod(name, info.Mode().Perm()); err != nil {
				return err
			}
		}
		err = unix.Lremovexattr(name, "security.capability")
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return &fs.PathError{Op: "remove capabilities", Path: name, Err: err}
		}
		return nil
	})
}

// copyFiles copies a recipe's files into a root file system, over what is
// there. A recipe may have none.
func copyFiles(name string, recipes fs.FS, base string) error {
	root, err := os.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(recipes, base, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if name == base && errors.Is(err, fs.ErrNotExist) {
				return fs.SkipAll
			}
			return err
		}
		if d.IsDir() {
			return nil
		}
		text, err := readSmall(recipes, name)
		if err != nil {
			return err
		}
		to := strings.TrimPrefix(name, base+"/")
		if err := mkdirs(root, path.Dir(to)); err != nil {
			return err
		}
		if err := root.RemoveAll(to); err != nil {
			return err
		}
		mode := fs.FileMode(fileMode(text))
		if err := root.WriteFile(to, text, mode); err != nil {
			return err
		}
		return root.Chmod(to, mode) // whatever the umask
	})
}

// mkdirs makes a directory and those above it, 0755 whatever the umask.
func mkdirs(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	err := root.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err := mkdirs(root, path.Dir(dir)); err != nil {
			return err
		}
		err = root.Mkdir(dir, 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return root.Chmod(dir, 0o755)
}

// fileMode is the mode of a recipe's file: an embedded file has none of its
// own.
func fileMode(text []byte) int64 {
	if bytes.HasPrefix(text, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

// keyring copies the keys of a recipe to where apt can read them, and gives
// the options that make it.
func (s *Store) keyring(r *Recipe, work string) ([]string, error) {
	dir := filepath.Join(work, "keys")
	var opts []string
	for _, rd := range r.dirs {
		entries, err := fs.ReadDir(s.Recipes, path.Join(rd, "keys"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the keys of recipe %s: %w", rd, err)
		}
		for _, e := range entries {
			if ext := path.Ext(e.Name()); ext != ".gpg" && ext != ".asc" {
				continue
			}
			key, err := readSmall(s.Recipes, path.Join(rd, "keys", e.Name()))
			if err != nil {
				return nil, fmt.Errorf("read the keys of recipe %s: %w", rd, err)
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, fmt.Errorf("copy the keys of recipe %s: %w", rd, err)
			}
			if err := os.WriteFile(filepath.Join(dir, e.Name()), key, 0o644); err != nil {
				return nil, fmt.Errorf("copy the keys of recipe %s: %w", rd, err)
			}
			// They stay inside, where apt may be used again.
			opts = append(opts, "--customize-hook=upload "+filepath.Join(dir, e.Name())+" /etc/apt/trusted.gpg.d/"+e.Name())
		}
	}
	if len(opts) == 0 {
		return nil, nil
	}
	for _, own := range []string{"/etc/apt/trusted.gpg.d", "/usr/share/keyrings"} {
		keys, err := filepath.Glob(own + "/debian-archive-*.gpg")
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			text, err := os.ReadFile(k)
			if err != nil {
				return nil, fmt.Errorf("copy the keys of Debian: %w", err)
			}
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(k)), text, 0o644); err != nil {
				return nil, fmt.Errorf("copy the keys of Debian: %w", err)
			}
		}
	}
	return append(opts, "--keyring="+dir), nil
}

// installedVersion finds a package's version in dpkg's status file.
func installedVersion(status, name string) string {
	for stanza := range strings.SplitSeq(status, "\n\n") {
		if !strings.HasPrefix(stanza, "Package: "+name+"\n") {
			continue
		}
		for line := range strings.SplitSeq(stanza, "\n") {
			if v, ok := strings.CutPrefix(line, "Version: "); ok {
				return v
			}
		}
	}
	return ""
}

var upstreamRE = regexp.MustCompile(`^(?:\d+:)?([0-9][0-9.]*[0-9]|[0-9])`)

// upstream gives the version of what a Debian version packages:
// "5:8.0.2-3+deb13u3" is 8.0.2.
func upstream(version string) string {
	if m := upstreamRE.FindStringSubmatch(version); m != nil {
		return m[1]
	}
	return version
}
