package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/labs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// openLayout gives the one image of an OCI layout.
func openLayout(t *testing.T, dir string) v1.Image {
	t.Helper()
	ii, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ii.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 {
		t.Fatalf("%d images in the layout, want 1", len(m.Manifests))
	}
	img, err := ii.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestStandinRedis(t *testing.T) {
	mustBeRoot(t)
	var digests []v1.Hash
	var img v1.Image
	for range 2 { // in two places at two times: the same bytes
		s := &Store{Dir: t.TempDir(), Recipes: shipped, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
		start := time.Now()
		dir, err := s.Standin(t.Context(), "redis")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("built in %v", time.Since(start).Round(10*time.Millisecond))
		img = openLayout(t, dir)
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest)
		start = time.Now()
		if again, err := s.Standin(t.Context(), "redis"); err != nil || again != dir || time.Since(start) > 100*time.Millisecond {
			t.Errorf("again: %s, %v, %v", again, err, time.Since(start))
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds differ: %v, %v", digests[0], digests[1])
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("not a valid image: %v", err)
	}

	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(layers) != 6 {
		t.Errorf("%d layers, want 6", len(layers))
	}
	root := t.TempDir()
	var size int64
	var first, last []string
	for i, l := range layers {
		names, n := unpack(t, l, root)
		t.Logf("layer %d: %d entries, %d bytes", i+1, len(names), n)
		if size += n; i == 0 {
			first = names
		}
		last = names
	}
	if size > 30<<20 {
		t.Errorf("unpacked it has %d bytes", size)
	}
	if !slices.Contains(first, "bin/busybox") || !slices.Contains(last, "usr/local/bin/docker-entrypoint.sh") {
		t.Errorf("first layer %q, last layer %q", first, last)
	}

	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := file.Config
	version := ""
	for _, e := range c.Env {
		if v, ok := strings.CutPrefix(e, "REDIS_VERSION="); ok {
			version = v
		}
	}
	if !slices.Equal(c.Entrypoint, []string{"docker-entrypoint.sh"}) || !slices.Equal(c.Cmd, []string{"redis-server"}) || c.WorkingDir != "/data" ||
		c.Labels["berth.standin"] != "redis:3.2.11-alpine" || version == "" {
		t.Errorf("config %+v", c)
	}
	if _, ok := c.ExposedPorts["6379/tcp"]; !ok {
		t.Errorf("ports %v", c.ExposedPorts)
	}
	if _, ok := c.Volumes["/data"]; !ok {
		t.Errorf("volumes %v", c.Volumes)
	}
	full := 0
	for _, h := range file.History {
		if !h.EmptyLayer {
			full++
		}
	}
	if full != 6 {
		t.Errorf("the history has %d layers, want 6", full)
	}

	in := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", `mount -t proc proc "$1/proc" && exec chroot "$@"`, "sh", root}, args...)...)
		cmd.Env = c.Env
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // the mount ends with it
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v: %s", args, err, out)
		}
		return string(out)
	}
	if out := in("redis-server", "--version"); !strings.Contains(out, "v="+version+" ") {
		t.Errorf("version %s: %s", version, out)
	}
	if out := in("redis-cli", "--version"); !strings.Contains(out, version) {
		t.Errorf("version %s: %s", version, out)
	}
	// The entrypoint goes on as the user redis; no server is needed to see it.
	if out := in("sh", "-c", "cd /data && docker-entrypoint.sh redis-server --version && docker-entrypoint.sh --version && docker-entrypoint.sh id -u"); strings.Count(out, "v="+version) != 2 || !strings.HasSuffix(out, "\n0\n") {
		t.Errorf("entrypoint: %s", out)
	}
	if out := in("gosu", "redis", "sh", "-c", "id -un; touch /data/x && echo wrote; touch /y 2>&1 | grep -c denied"); out != "redis\nwrote\n1\n" {
		t.Errorf("gosu: %q", out)
	}
	// Every link of BusyBox is a program that it has.
	has := strings.Fields(in("busybox", "--list"))
	links, err := filepath.Glob(root + "/*bin/*")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(root + "/usr/bin/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range append(links, more...) {
		if to, _ := os.Readlink(l); to == "/bin/busybox" && !slices.Contains(has, filepath.Base(l)) {
			t.Errorf("BusyBox has no %s", filepath.Base(l))
		}
	}
}

// unpack puts a layer into a directory and gives the names in it and the bytes
// of its files.
func unpack(t *testing.T, l v1.Layer, dir string) (names []string, size int64) {
	t.Helper()
	rc, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	r := tar.NewReader(rc)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, size
		}
		if err != nil {
			t.Fatal(err)
		}
		if !filepath.IsLocal(h.Name) {
			t.Fatalf("a layer has %q", h.Name)
		}
		if want := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC); !h.ModTime.Equal(want) {
			t.Errorf("%s has the time %v", h.Name, h.ModTime)
		}
		names = append(names, strings.TrimSuffix(h.Name, "/"))
		size += h.Size
		name := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, name)
		default:
			var text []byte
			if text, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(name, text, 0o644)
			}
		}
		if err == nil && h.Typeflag != tar.TypeSymlink {
			if err = os.Chown(name, h.Uid, h.Gid); err == nil {
				err = os.Chmod(name, h.FileInfo().Mode())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A recipe may bring a package source of its own: here one on disk, with a
// package whose files try to lead out of it.
func TestStandinFromOwnSource(t *testing.T) {
	mustBeRoot(t)
	repo := packageSource(t, "berth-try", "7:1.2.3-4", map[string]string{"usr/share/try/text": "hello\n"},
		map[string]string{"usr/share/try/shadow": "/etc/shadow", "usr/share/try/up": "../../../../../../etc/passwd", "usr/share/try/round": "round", "usr/share/try/link": "/usr/share/try/text"})
	recipe := func(take string) map[string]string {
		return map[string]string{"try/recipe.yaml": fmt.Sprintf(`
kind: standin
for: try:1
suite: trixie
created: 2020-02-02T00:00:00Z
sources: ["deb [trusted=yes] copy:%s ./"]
packages: [berth-try]
layers:
  - by: take what the package has
    take: {/opt: [%s]}
    files: more
config:
  env: ["V={version berth-try}"]
`, repo, take), "try/files/more/run": "#!/bin/sh\n"}
	}
	s := testStore(t, recipe("/usr/share/try/link"))
	dir, err := s.Standin(t.Context(), "try")
	if err != nil {
		t.Fatal(err)
	}
	img := openLayout(t, dir)
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(file.Config.Env, []string{"V=1.2.3"}) {
		t.Errorf("env %q", file.Config.Env)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	var got []string
	for r := tar.NewReader(rc); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		text, _ := io.ReadAll(r)
		got = append(got, fmt.Sprintf("%s %o %s", h.Name, h.Mode, text))
	}
	if want := []string{"opt/ 755 ", "opt/link 644 hello\n", "run 755 #!/bin/sh\n"}; !slices.Equal(got, want) {
		t.Errorf("layer %q, want %q", got, want)
	}
	for _, attack := range []string{"shadow", "up", "round"} {
		s.Recipes = recipes(recipe("/usr/share/try/" + attack))
		if _, err := s.Standin(t.Context(), "try"); !errors.Is(err, labs.ErrInvalid) {
			t.Errorf("a link named %s: %v", attack, err)
		}
	}
}

// packageSource makes a directory that apt takes for a package source, with
// one package.
func packageSource(t *testing.T, name, version string, files, links map[string]string) string {
	t.Helper()
	repo, tree := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Test <test@localhost>\nDescription: a test\n", name, version)
	write(filepath.Join(tree, "DEBIAN/control"), control)
	for f, text := range files {
		write(filepath.Join(tree, f), text)
	}
	for l, to := range links {
		if err := os.Symlink(to, filepath.Join(tree, l)); err != nil {
			t.Fatal(err)
		}
	}
	deb := filepath.Join(repo, name+".deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", tree, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
	info, err := os.Stat(deb)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := exec.Command("sha256sum", deb).Output()
	if err != nil {
		t.Fatal(err)
	}
	var index bytes.Buffer
	fmt.Fprintf(&index, "%sFilename: ./%s.deb\nSize: %d\nSHA256: %s\n\n", control, name, info.Size(), sum[:64])
	write(filepath.Join(repo, "Packages"), index.String())
	for _, dir := range []string{repo, filepath.Dir(repo)} { // apt reads it without root
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return repo
}

func TestUpstream(t *testing.T) {
	for version, want := range map[string]string{
		"5:8.0.2-3+deb13u3":           "8.0.2",
		"26.1.5+dfsg1-9+deb13u1":      "26.1.5",
		"20.10.24+dfsg1-1+deb12u1+b6": "20.10.24",
		"1.17-3+b4":                   "1.17",
		"3":                           "3",
		"":                            "",
	} {
		if got := upstream(version); got != want {
			t.Errorf("upstream(%q) = %q, want %q", version, got, want)
		}
	}
}
