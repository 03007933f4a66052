package katacoda

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
)

// rooted writes files below a folder of the test's, with links, and opens it so
// that nothing outside is reached.
func rooted(t *testing.T, files, links map[string]string) fs.FS {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("the secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, "import")
	for name, text := range files {
		name = filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range links {
		name = filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(strings.ReplaceAll(to, "SECRET", filepath.Join(dir, "secret")), name); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root.FS()
}

func TestLinksStayInTheRoot(t *testing.T) {
	fsys := rooted(t, map[string]string{
		"lab/index.json": `{"title": "T", "details": {"intro": {"text": "out.md", "background": "abs.sh", "foreground": "../../secret"}, "steps": [
			{"text": "shared.md", "verify": "up.sh", "hint": "/../../secret", "answer": "../../../etc/passwd"}],
			"assets": {"host01": [{"file": "*", "target": "/x"}, {"file": "leak", "target": "/x"}, {"file": "../../../secret", "target": "/x"}]}}, "backend": {"imageid": "ubuntu"}}`,
		"shared/text.md": "Shared text.\n", "shared/files/one.txt": "1", "lab/assets/two.txt": "2",
	}, map[string]string{
		"lab/out.md": "../../secret", "lab/abs.sh": "SECRET", "lab/up.sh": "../../secret", "lab/shared.md": "../shared/text.md",
		"lab/assets/leak": "../../../secret", "lab/assets/abs": "SECRET", "lab/assets/up": "../../..", "lab/assets/loop": "loop", "lab/assets/shared": "../../shared/files", "lab/assets/three.txt": "../../shared/files/one.txt",
	})
	l, mistakes := Load(fsys, "lab")
	said := told(mistakes)
	if l == nil {
		t.Fatal(said)
	}
	if strings.Contains(fmt.Sprintf("%+v", l), "the secret") || strings.Contains(said, "the secret") {
		t.Error("the secret is in the lesson")
	}
	if !strings.Contains(l.Steps[0].HTML, "Shared text") {
		t.Errorf("a link within the root was not followed:\n%s", said)
	}
	var assets []string
	for _, a := range l.Assets {
		assets = append(assets, a.From)
	}
	if got := strings.Join(assets, " "); got != "lab/assets/three.txt lab/assets/two.txt" {
		t.Errorf("assets: %s", got)
	}
	for _, want := range []string{"out.md", "abs.sh", "up.sh", "secret", "etc/passwd"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing was said about %s:\n%s", want, said)
		}
	}
}

func TestFolderLinksInCircles(t *testing.T) {
	fsys := rooted(t, map[string]string{"a/lab/index.json": lab("T"), "a/lab/a.md": "Text.\n"}, map[string]string{
		"a/self": ".", "a/up": "..", "a/lab/again": "../../a", "b": "a", "out": "../..", "gone": "nowhere",
	})
	begin := time.Now()
	lessons, mistakes := LoadAll(fsys)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	ids := map[string]bool{}
	for _, l := range lessons {
		ids[l.ID] = true
	}
	if !ids["a-lab"] || !ids["b-lab"] || len(lessons) > 20 {
		t.Errorf("%d lessons: %v\n%s", len(lessons), ids, told(mistakes))
	}
}

func TestFoldersThatMultiply(t *testing.T) {
	links := map[string]string{}
	for d := range 10 {
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			links[fmt.Sprintf("d%d/%s", d, name)] = fmt.Sprintf("../d%d", d+1)
		}
	}
	fsys := rooted(t, map[string]string{"d10/index.json": lab("T"), "d10/a.md": "Text.\n"}, links)
	begin := time.Now()
	tr := walk(fsys)
	if took := time.Since(begin); took > 30*time.Second || tr.folders > maxFolders+linkCost || len(tr.scenarios) > maxScenarios {
		t.Errorf("%d folders and %d scenarios took %v", tr.folders, len(tr.scenarios), took)
	}
	if !strings.Contains(told(tr.mistakes), "too many folders") {
		t.Errorf("it did not say so:\n%s", told(tr.mistakes))
	}
}

func TestFoldersDeepInside(t *testing.T) {
	got, said := all(t, scenarios("a", strings.Repeat("d/", 40)+"x"))
	if len(got) != 1 || !strings.Contains(said, "deeper than 12") {
		t.Errorf("%q\n%s", got, said)
	}
}

func TestHundredMegabytesOfMarkdown(t *testing.T) {
	big := bytes.Repeat([]byte("# A line of text with `code`{{execute}}\n"), 100<<20/40)
	fsys := folder(map[string]string{
		"lab/index.json": "{\"title\": \"T\", \"details\": {\"steps\": [\n{\"text\": \"big.md\"},\n{\"text\": \"a.md\", \"verify\": \"big.md\"}]}, \"backend\": {\"imageid\": \"ubuntu\"}}",
		"lab/a.md":       "Text.\n",
	})
	fsys["lab/big.md"] = &fstest.MapFile{Data: big, Mode: 0o644}
	begin := time.Now()
	l, mistakes := Load(fsys, "lab")
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	want := "lab/index.json:2: the text `big.md` cannot be read: it is too large: at most 1024 KiB are read\nlab/index.json:3: the script `big.md` cannot be read: it is too large: at most 256 KiB are read"
	if l == nil || len(l.Steps) != 2 || told(mistakes) != want {
		t.Errorf("%s", told(mistakes))
	}
}

func TestTenThousandSteps(t *testing.T) {
	var b strings.Builder
	b.WriteString("{\"title\": \"T\", \"details\": {\"steps\": [")
	for i := range 10_000 {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n{\"title\": \"S\", \"text\": \"a.md\"}")
	}
	b.WriteString("]}, \"backend\": {\"imageid\": \"ubuntu\"}}")
	begin := time.Now()
	l, said := loaded(t, map[string]string{"lab/index.json": b.String(), "lab/a.md": "Text `ls`{{execute}}\n"}, "lab")
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(l.Steps) != maxSteps || said != "lab/index.json:502: the scenario has 10000 steps; only the first 500 are shown; divide the scenario" {
		t.Errorf("%d steps\n%s", len(l.Steps), said)
	}
}

// The text of a scenario is bounded: many more steps than the bound allows take
// little longer than just enough of them, however busy the machine is.
func TestMuchTextInManySteps(t *testing.T) {
	big := strings.Repeat(strings.Repeat("Some words and more. ", 100)+"\n", 450)
	load := func(steps int) time.Duration {
		settings := `{"title": "T", "details": {"steps": [{"text": "a.md"}` + strings.Repeat(",\n{\"text\": \"big.md\"}", steps) + `]}, "backend": {"imageid": "ubuntu"}}`
		begin := time.Now()
		l, said := loaded(t, map[string]string{"lab/index.json": settings, "lab/a.md": "Text.\n", "lab/big.md": big}, "lab")
		took := time.Since(begin)
		if len(l.Steps) != steps+1 || !strings.Contains(said, "more than 8.0 MiB") && !strings.Contains(said, "more than 8 MiB") {
			t.Errorf("%d steps\n%.2000s", len(l.Steps), said)
		}
		return took
	}
	few := load(maxAllText/len(big) + 2)
	if many := load(400); many > 5*few+5*time.Second {
		t.Errorf("400 steps took %v, and just more text than there may be took %v", many, few)
	}
}

func TestGlobsThatMultiply(t *testing.T) {
	files := map[string]string{"lab/a.md": "Text.\n"}
	for i := range 3000 {
		files[fmt.Sprintf("lab/assets/%d/%d/%d", i%10, i%100, i)] = "x"
	}
	var rules []string
	for range 600 {
		rules = append(rules, `{"file": "`+strings.Repeat("**/", 50)+`*", "target": "/x"}`)
	}
	files["lab/index.json"] = `{"title": "T", "details": {"steps": [{"text": "a.md"}], "assets": {"host01": [` + strings.Join(rules, ",\n") + `]}}, "backend": {"imageid": "ubuntu"}}`
	begin := time.Now()
	l, said := loaded(t, files, "lab")
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(l.Assets) != maxAssets || !strings.Contains(said, "more than 2000 files") {
		t.Errorf("%d assets\n%s", len(l.Assets), said)
	}
}

func TestAssetsOfManyBytes(t *testing.T) {
	fsys := folder(map[string]string{"lab/a.md": "Text.\n", "lab/index.json": `{"title": "T", "details": {"steps": [{"text": "a.md"}], "assets": {"host01": [{"file": "*", "target": "/x"}]}}, "backend": {"imageid": "ubuntu"}}`})
	data := make([]byte, 40<<20)
	for _, name := range []string{"a", "b"} {
		fsys["lab/assets/"+name] = &fstest.MapFile{Data: data, Mode: 0o755}
	}
	fsys["lab/assets/c"] = &fstest.MapFile{Data: []byte("x"), Mode: 0o755}
	l, mistakes := Load(fsys, "lab")
	if l == nil || len(l.Assets) != 2 || l.Assets[0].Mode != 0o755 || !strings.Contains(told(mistakes), "`lab/assets/b`") {
		t.Errorf("%+v\n%s", l.Assets, told(mistakes))
	}
}

func TestNestedSettings(t *testing.T) {
	for name, text := range map[string]string{
		"lists":   strings.Repeat("[", 100_000),
		"objects": strings.Repeat(`{"a":`, 100_000),
		"closed":  `{"details": {"steps": ` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + "}}",
	} {
		l, mistakes := Load(folder(map[string]string{"lab/index.json": text}), "lab")
		if l != nil || !strings.Contains(told(mistakes), "nested deeper than 64") {
			t.Errorf("%s: %s", name, told(mistakes))
		}
	}
	for name, text := range map[string]string{
		"flow":  "details: " + strings.Repeat("[", 100_000),
		"block": "details:\n" + strings.Repeat("- ", 50_000) + "x",
		"alias": "a: &a [x,x]\nb: &b [*a,*a]\ndetails: {steps: [*b, *b]}\nbackend: {imageid: ubuntu}\n",
	} {
		begin := time.Now()
		Load(folder(map[string]string{"lab/index.yaml": text}), "lab")
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
	}
}

func TestManyMistakesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("{\"title\": \"T\", \"details\": {\"steps\": [{\"text\": \"a.md\"}]}, \"backend\": {\"imageid\": \"ubuntu\"}")
	for i := range 20_000 {
		fmt.Fprintf(&b, ",\n\"unknown%d\": 1", i)
	}
	b.WriteString("}")
	l, mistakes := Load(folder(map[string]string{"lab/index.json": b.String(), "lab/a.md": "Text.\n"}), "lab")
	if l == nil || len(mistakes) > 2*maxMistakes {
		t.Errorf("%d mistakes", len(mistakes))
	}
}

func TestWordsOfAnAuthorDoNotDisturbATerminal(t *testing.T) {
	_, said := loaded(t, map[string]string{"lab/index.json": `{"title": "T", "\u001b[2Jclear` + "`" + `": 1, "details": {"steps": [{"text": "a.md"}]}, "backend": {"imageid": "ubuntu"}}`, "lab/a.md": "Text.\n"}, "lab")
	if strings.ContainsAny(said, "\x1b") || !strings.Contains(said, "?[2Jclear?") {
		t.Errorf("%q", said)
	}
}

func TestPathsOutOfTheFolder(t *testing.T) {
	for _, dir := range []string{"..", "../x", "/etc", "a/../../b", ""} {
		if l, mistakes := Load(folder(map[string]string{"x/index.json": lab("T")}), dir); l != nil || len(mistakes) == 0 {
			t.Errorf("%q loaded", dir)
		}
	}
}

// Few files can be the text of very many scenarios: what they hold together is
// bounded, and the first ones load.
func TestManyLabsOfTheSameText(t *testing.T) {
	files := map[string]string{"s.md": strings.Repeat("Text.\n\n", 1000)}
	for i := range 50 {
		files[fmt.Sprintf("lab%02d/index.json", i)] = `{"title": "T", "details": {"steps": [{"text": "../s.md"}, {"text": "../s.md"}]}, "backend": {"imageid": "ubuntu"}}`
	}
	all, _ := loadAll(folder(files), labs.MaxTexts)
	if len(all) != 50 || all[0].Size() < 10_000 {
		t.Fatalf("%d scenarios", len(all))
	}
	some, mistakes := loadAll(folder(files), 10*all[0].Size())
	if said := told(mistakes); len(some) != 10 || strings.Count(said, "more text than can be held") != 1 || !strings.Contains(said, "lab10/index.json") {
		t.Errorf("%d scenarios\n%s", len(some), said)
	}
}
