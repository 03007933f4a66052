package katacoda

import (
	"slices"
	"strings"
	"testing"
)

func lab(title string) string {
	return `{"title": "` + title + `", "details": {"steps": [{"text": "a.md"}]}, "backend": {"imageid": "ubuntu"}}`
}

// scenarios makes a folder with a scenario in each of these folders.
func scenarios(dirs ...string) map[string]string {
	files := map[string]string{}
	for _, d := range dirs {
		files[d+"/index.json"] = lab(d)
		files[d+"/a.md"] = "Text.\n"
	}
	return files
}

// all gives the ids and courses of what LoadAll finds, and what it says.
func all(t *testing.T, files map[string]string) ([]string, string) {
	t.Helper()
	lessons, mistakes := LoadAll(folder(files))
	var got []string
	for _, l := range lessons {
		got = append(got, l.ID+":"+l.Course)
	}
	return got, told(mistakes)
}

func TestPathways(t *testing.T) {
	files := scenarios("docker/run", "docker/build", "docker/more/last", "alone", "other/run", ".hidden/no", "docker/run/assets/inner")
	files["docker-pathway.json"] = `{"title": "Docker", "courses": [{"course_id": "build", "title": "B"}, {"course_id": "run"}, {"course_id": "gone"}, {"pathway_id": "somebody", "course_id": "theirs"}]}`
	files["best-pathway.json"] = `{"title": "Best of", "courses": [{"course_id": "run", "id": "docker/run"}, {"course_id": "alone"}]}`
	got, said := all(t, files)
	if want := []string{"alone:Best of", "docker-build:Docker", "docker-run:Docker", "docker-more-last:", "other-run:"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if want := "docker-pathway.json:1: the course has no scenario `gone`"; said != want {
		t.Errorf("it said\n%s", said)
	}
}

func TestProfileOrdersCourses(t *testing.T) {
	files := scenarios("a/x", "b/y")
	files["a-pathway.json"] = `{"title": "A", "courses": [{"course_id": "x"}]}`
	files["b-pathway.json"] = `{"title": "B", "courses": [{"course_id": "y"}]}`
	files["profile-pathway.json"] = `{"courses": [{"id": "b"}, {"id": "a"}]}`
	got, said := all(t, files)
	if want := []string{"b-y:B", "a-x:A"}; !slices.Equal(got, want) || said != "" {
		t.Errorf("%q\n%s", got, said)
	}
}

func TestStructures(t *testing.T) {
	files := scenarios("linux/files", "linux/users", "nets/one", "nets/two", "alone")
	files["structure.json"] = `{"items": [{"path": "nets", "title": "Networks"}, {"path": "linux"}, {"path": "gone"}, {"path": "../../etc"}]}`
	files["linux/structure.json"] = `{"title": "Linux from zero", "items": [{"path": "users"}, {"path": "files"}]}`
	got, said := all(t, files)
	if want := []string{"nets-one:Networks", "nets-two:Networks", "linux-users:Linux from zero", "linux-files:Linux from zero", "alone:"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if want := "structure.json:1: there is no scenario in the folder `gone`\nstructure.json:1: there is no scenario in the folder `etc`"; said != want {
		t.Errorf("it said\n%s", said)
	}
}

func TestStructuresThatListEachOther(t *testing.T) {
	files := scenarios("a/x")
	files["a/structure.json"] = `{"items": [{"path": "."}, {"path": "b"}, {"path": "x"}]}`
	files["a/b/structure.json"] = `{"items": [{"path": ".."}, {"path": "."}]}`
	got, _ := all(t, files)
	if !slices.Equal(got, []string{"a-x:A"}) {
		t.Errorf("%q", got)
	}
}

func TestBrokenCourseLeavesItsScenarios(t *testing.T) {
	files := scenarios("a/x", "b/y")
	files["a-pathway.json"] = "{\n\"title\": \"A\"\n\"courses\": [}"
	files["b/structure.json"] = "nothing"
	files["b/y/structure.json"] = `{"items": 7}`
	got, said := all(t, files)
	if len(got) != 2 || !strings.Contains(said, "a-pathway.json:3:") || !strings.Contains(said, "b/structure.json:1: this is not JSON") {
		t.Errorf("%q\n%s", got, said)
	}
}

func TestOneBrokenScenarioOfMany(t *testing.T) {
	files := scenarios("a", "b", "c")
	files["b/index.json"] = "{\n\"title\": \"B\",\n\"details\": {\"steps\": [}"
	files["web/index.json"] = `{"name": "something else"}`
	files["web2/index.json"] = `nothing of ours`
	got, said := all(t, files)
	if !slices.Equal(got, []string{"a:", "c:"}) || said != "b/index.json:3: this is not JSON: a value was expected here, not `}`" {
		t.Errorf("%q\n%s", got, said)
	}
}

func TestIDsAreUnique(t *testing.T) {
	got, _ := all(t, scenarios("a/b", "a-b", "A/B", "ä", "ö", strings.Repeat("long/", 10)+"x", strings.Repeat("long-", 30)+"x"))
	seen := map[string]bool{}
	for _, id := range got {
		if seen[id] {
			t.Errorf("%q is there twice", id)
		}
		seen[id] = true
		if len(id) > maxID+5 {
			t.Errorf("%q is long", id)
		}
	}
	if len(got) != 7 {
		t.Errorf("%q", got)
	}
}

func TestNothingThere(t *testing.T) {
	lessons, mistakes := LoadAll(folder(map[string]string{"README.md": "# Hello\n"}))
	if len(lessons) != 0 || len(mistakes) != 0 {
		t.Errorf("%v %v", lessons, mistakes)
	}
	if l, ms := Load(folder(nil), "nowhere"); l != nil || told(ms) != "nowhere/index.json: there is no such file" {
		t.Errorf("%v %v", l, ms)
	}
}
