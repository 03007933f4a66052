package image

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"berth/labs"
)

// shipped are the recipes that Berth comes with.
var shipped = os.DirFS("../../content/images")

func recipes(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o444}
	}
	return m
}

func testStore(t *testing.T, files map[string]string) *Store {
	t.Helper()
	return &Store{Dir: t.TempDir(), Recipes: recipes(files), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func TestShippedRecipes(t *testing.T) {
	s := &Store{Dir: t.TempDir(), Recipes: shipped, Log: slog.New(slog.DiscardHandler)}
	names, err := s.Names()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"busybox", "docker", "docker-20", "redis"}; !slices.Equal(names, want) {
		t.Fatalf("recipes %q, want %q", names, want)
	}
	got := map[string]*Recipe{}
	for _, name := range names {
		if got[name], err = s.Recipe(name); err != nil {
			t.Fatal(err)
		}
	}
	if r := got["docker"]; r.Kind != Sandbox || r.Suite != "trixie" || r.Engine != "docker.io" {
		t.Errorf("docker: %+v", r)
	}
	r := got["docker-20"]
	if r.Suite != "bookworm" || r.Engine != "docker.io" || slices.Contains(r.Packages, "docker-buildx") || !slices.Contains(r.Packages, "git") {
		t.Errorf("docker-20 does not continue docker: %+v", r)
	}
	if len(r.Prune) == 0 || len(r.Customize) == 0 {
		t.Errorf("docker-20 has lost the lists of docker: %+v", r)
	}
	if r := got["redis"]; r.Kind != Standin || r.For != "redis:3.2.11-alpine" || len(r.Layers) != 6 || r.Config.Labels["berth.standin"] != r.For {
		t.Errorf("redis: %+v", r)
	}
}

func TestRecipeMistakes(t *testing.T) {
	const standin = "kind: standin\nfor: a:1\nsuite: trixie\npackages: [a]\ncreated: 2025-01-01T00:00:00Z\n"
	for _, tc := range []struct {
		name, text, want string
	}{
		{"unknown key", "kind: sandbox\nsuite: trixie\npacakges: [a]\n", `x/recipe.yaml:3: unknown key "pacakges"; did you mean "packages"?`},
		{"unknown key in a layer", standin + "layers:\n  - by: b\n    tkae: {}\n", `x/recipe.yaml:8: unknown key "tkae"; did you mean "take"?`},
		{"unknown key like no other", "kind: sandbox\nsuite: trixie\nwallpaper: blue\n", `x/recipe.yaml:3: unknown key "wallpaper" (`},
		{"no YAML", "kind: sandbox\n  suite: [\n", "x/recipe.yaml:"},
		{"wrong shape", "kind: sandbox\nsuite: trixie\npackages: {a: b}\n", "x/recipe.yaml:3: "},
		{"key twice", "kind: sandbox\nsuite: trixie\nsuite: sid\n", "x/recipe.yaml:3: "},
		{"empty", "", "x/recipe.yaml:1: kind is missing"},
		{"no kind", "suite: trixie\n", "x/recipe.yaml:1: kind is missing"},
		{"other kind", "suite: trixie\nkind: vm\n", `x/recipe.yaml:2: no kind "vm"; say sandbox or standin`},
		{"no suite", "kind: sandbox\n", "x/recipe.yaml:1: suite is missing"},
		{"an option as suite", "kind: sandbox\nsuite: --variant=x\n", `x/recipe.yaml:2: "--variant=x" is not a release of Debian`},
		{"an option as package", "kind: sandbox\nsuite: trixie\npackages:\n  - git\n  - --x\n", `x/recipe.yaml:5: "--x" is not the name of a package`},
		{"two packages in one", "kind: sandbox\nsuite: trixie\npackages:\n  - git vim\n", `x/recipe.yaml:4: "git vim" is not`},
		{"engine of no package", "kind: sandbox\nsuite: trixie\nengine: docker.io\n", `x/recipe.yaml:3: the engine "docker.io" is not among the packages`},
		{"relative prune", "kind: sandbox\nsuite: trixie\nprune:\n  - /a\n  - '!usr/b'\n", "x/recipe.yaml:5: a pattern is a path from the root"},
		{"source", "kind: sandbox\nsuite: trixie\nsources: [http://a.example b]\n", "x/recipe.yaml:3: a source is one line that begins with deb"},
		{"layers of a sandbox", "kind: sandbox\nsuite: trixie\nlayers: []\n", "x/recipe.yaml:3: layers belongs to stand-ins"},
		{"customize of a stand-in", standin + "customize: [ls]\n", "x/recipe.yaml:6: customize belongs to sandbox images"},
		{"extends nothing", "kind: sandbox\nextends: nobody\n", `x/recipe.yaml:2: there is no recipe "nobody" to extend`},
		{"extends itself", "kind: sandbox\nextends: x\n", "x/recipe.yaml:2: recipes extend each other more than"},
		{"extends a path", "kind: sandbox\nextends: ../x\n", `x/recipe.yaml:2: there is no recipe "../x"`},
		{"mistake after extends", "extends: base\npackages:\n  - ok\n  - 'not ok'\n", `x/recipe.yaml:4: "not ok" is not`},
		{"without what is not there", "extends: base\nwithout: [vim]\n", `x/recipe.yaml:2: recipe base has no package "vim"`},
		{"without nothing", "kind: sandbox\nsuite: trixie\nwithout: [a]\n", "x/recipe.yaml:3: without leaves out packages of an extended recipe"},
		{"a stand-in for nothing", "kind: standin\nsuite: trixie\n", "x/recipe.yaml:1: for is missing"},
		{"no layers", standin, "x/recipe.yaml:1: layers is missing"},
		{"layer without by", standin + "layers:\n  - by: a\n    files: a\n  - files: b\n", "x/recipe.yaml:9: by is missing"},
		{"take out of the root", standin + "layers:\n  - by: a\n    take: {/bin: [/usr/../../etc/shadow]}\n", `x/recipe.yaml:8: "/usr/../../etc/shadow" is not an absolute path`},
		{"files out of the recipe", standin + "layers:\n  - by: a\n    files: ../other\n", `x/recipe.yaml:8: "../other" is not a folder in files/`},
		{"mode", standin + "layers:\n  - by: a\n    dirs: {/a: rwx}\n", `x/recipe.yaml:8: "rwx" is not a mode`},
		{"port", standin + "layers: [{by: a, files: a}]\nconfig:\n  ports:\n    - 80\n", `x/recipe.yaml:9: "80" is not a port`},
		{"env", standin + "layers: [{by: a, files: a}]\nconfig:\n  env: [HOME]\n", `x/recipe.yaml:8: "HOME" is not KEY=VALUE`},
		{"too large", "# " + strings.Repeat("x", maxRecipe), "x/recipe.yaml:1: larger than 256 KiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := testStore(t, map[string]string{
				"x/recipe.yaml":    tc.text,
				"base/recipe.yaml": "kind: sandbox\nsuite: trixie\npackages: [git, curl]\n",
			})
			_, err := s.Recipe("x")
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s…", err, tc.want)
			}
			if !errors.Is(err, labs.ErrInvalid) {
				t.Errorf("%v is not labs.ErrInvalid", err)
			}
		})
	}
}

func TestNoSuchRecipe(t *testing.T) {
	s := testStore(t, map[string]string{"docker/recipe.yaml": "kind: sandbox\nsuite: trixie\n"})
	for _, name := range []string{"dokcer", "../docker", "", "docker/../docker", "/etc", "Docker"} {
		_, err := s.Find(name)
		if !errors.Is(err, labs.ErrNotFound) || !strings.Contains(err.Error(), "There are: docker.") {
			t.Errorf("Find(%q): %v", name, err)
		}
	}
	_, err := s.Find("docker")
	if !errors.Is(err, labs.ErrNotFound) || !strings.Contains(err.Error(), "Run: berth image build docker") {
		t.Errorf("an image that was not built: %v", err)
	}
}

func TestIDChangesWithTheRecipeAlone(t *testing.T) {
	base := map[string]string{
		"a/recipe.yaml":         "kind: sandbox\nsuite: trixie\n",
		"a/files/etc/motd":      "hello",
		"b/recipe.yaml":         "extends: a\n",
		"other/recipe.yaml":     "kind: sandbox\nsuite: trixie\n",
		"unrelated/picture.png": "x",
	}
	id := func(name string, change map[string]string) string {
		t.Helper()
		files := maps.Clone(base)
		maps.Copy(files, change)
		r, err := testStore(t, files).Recipe(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.ID) != idDigits {
			t.Fatalf("id %q", r.ID)
		}
		return r.ID
	}
	for _, tc := range []struct {
		name   string
		change map[string]string
		a, b   bool // whether the ids of recipes a and b change
	}{
		{"nothing", nil, false, false},
		{"another recipe", map[string]string{"other/recipe.yaml": "kind: sandbox\nsuite: sid\n"}, false, false},
		{"a file", map[string]string{"a/files/etc/motd": "hallo"}, true, true},
		{"a new file", map[string]string{"a/files/etc/issue": ""}, true, true},
		{"the recipe that extends", map[string]string{"b/recipe.yaml": "extends: a\nsuite: sid\n"}, false, true},
		{"text moved between files", map[string]string{"a/files/etc/motd": "hell", "a/files/etc/motd2": "o"}, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := id("a", tc.change) != id("a", nil); got != tc.a {
				t.Errorf("a changed: %v, want %v", got, tc.a)
			}
			if got := id("b", tc.change) != id("b", nil); got != tc.b {
				t.Errorf("b changed: %v, want %v", got, tc.b)
			}
		})
	}
	if id("a", nil) == id("other", nil) {
		t.Error("two recipes have one id")
	}
}
