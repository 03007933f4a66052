package markdown

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// A lab's links lead to what is in its folder or nowhere, also where the file
// system would follow them.
func TestLinksThatLeaveTheFolder(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("secret.png", "secret")
	write("lab/lab.md", "---\ntitle: A lab\nassets: [{file: \"extra/**\", to: /x}]\n---\n## Step\n\n![in](in.png) ![out](out.png) ![abs](abs.png) ![dir](dir/passwd.png) ![chain](chain.png) ![loop](loop.png)\n")
	write("lab/real.png", "x")
	write("lab/files/real", "x")
	write("lab/extra/deep/real", "x")
	link("real.png", "lab/in.png")
	link("../secret.png", "lab/out.png")
	link("/etc/passwd", "lab/abs.png")
	link("/etc", "lab/dir")
	link("../lab/../secret.png", "lab/chain.png")
	link("loop.png", "lab/loop.png")
	link("real", "lab/files/in")
	link("../extra/deep/real", "lab/files/across")
	link("../../secret.png", "lab/files/out")
	link("/etc/passwd", "lab/files/abs")
	link("/etc", "lab/files/dir")
	link("files", "lab/files/gone")
	link("../..", "lab/extra/up")
	for name, fsys := range map[string]func() (l string, ms string){
		"DirFS": func() (string, string) {
			l, ms := Load(os.DirFS(root), "lab")
			return fmt.Sprintln(l.Assets, l.Steps[0].HTML), errorsOf(ms)
		},
		"Root": func() (string, string) {
			r, err := os.OpenRoot(root)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			l, ms := Load(r.FS(), "lab")
			return fmt.Sprintln(l.Assets, l.Steps[0].HTML), errorsOf(ms)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, says := fsys()
			want := `[{extra/deep/real ~/across ---------- 0} {files/real ~/in ---------- 0} {files/real ~/real ---------- 0} {extra/deep/real /x/deep/real ---------- 0}] ` +
				`<p><img alt="in" src="/labs/lab/files/real.png" loading="lazy" decoding="async"/> out abs dir chain loop</p>` + "\n\n"
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			for _, left := range []string{"files/abs", "files/dir", "files/gone", "files/out", "extra/up"} {
				if !strings.Contains(says, "`"+left+"` is left out") {
					t.Errorf("nothing says that %s is left out:\n%s", left, says)
				}
			}
		})
	}
}

func TestAssetsAreBounded(t *testing.T) {
	many, large, deep := fstest.MapFS{}, fstest.MapFS{}, fstest.MapFS{}
	for i := range maxAssets + 1 {
		many[fmt.Sprintf("lab/files/%d/%d", i/100, i)] = &fstest.MapFile{}
	}
	for i := range 65 {
		large[fmt.Sprintf("lab/files/%d", i)] = &fstest.MapFile{Data: make([]byte, 1<<20)}
	}
	deep["lab/files/"+strings.Repeat("d/", maxFolders+5)+"x"] = &fstest.MapFile{}
	for name, c := range map[string]struct {
		fsys fstest.MapFS
		says string
	}{
		"files":   {many, "the lesson brings too many files"},
		"bytes":   {large, "the lesson brings too many files"},
		"folders": {deep, "there are too many files to look at"},
	} {
		t.Run(name, func(t *testing.T) {
			c.fsys["lab/lab.md"] = labFile(inStep)
			l, ms := Load(c.fsys, "lab")
			if l != nil || !strings.Contains(errorsOf(ms), c.says) {
				t.Errorf("%v %s", l != nil, errorsOf(ms))
			}
		})
	}
}

// Patterns are made to be slow where each sign tries everything.
func TestGlobsTakeBoundedTime(t *testing.T) {
	fsys := fstest.MapFS{}
	for i := range 300 {
		fsys[fmt.Sprintf("lab/%s/%saa%d", strings.Repeat("a/", 30)+"a", strings.Repeat("a", 100), i)] = &fstest.MapFile{}
	}
	rules := strings.Repeat("  - {file: \"**/"+strings.Repeat("**/a*/", 40)+"b\", to: ~}\n  - {file: \""+strings.Repeat("*a", 60)+"b\", to: ~}\n", 50)
	fsys["lab/lab.md"] = labFile("---\ntitle: x\nassets:\n" + rules + "---\n## Step\n")
	begin := processorTime(t)
	l, ms := Load(fsys, "lab")
	took := processorTime(t) - begin
	t.Logf("100 patterns on 300 files in %v", took.Round(time.Millisecond))
	if l != nil || took > 15*time.Second {
		t.Errorf("%v %v", took, errorsOf(ms))
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		glob, name string
		want       bool
	}{
		{"a", "a", true}, {"a", "a/b", false}, {"*", "a", true}, {"*", ".a", true}, {"*", "a/b", false}, {"**", "a", true}, {"**", "a/b/c", true},
		{"**/c", "c", true}, {"**/c", "a/b/c", true}, {"**/c", "a/b/cd", false}, {"a/**", "a", false}, {"a/**", "a/b/c", true}, {"a/**/c", "a/c", true},
		{"a/**/c", "a/b/b/c", true}, {"a/*/c", "a/b/b/c", false}, {"*.sh", "x.sh", true}, {"[ab]?", "bc", true}, {"[ab]?", "c", false}, {`\*`, "*", true}, {`\*`, "a", false},
		{"**/**", "a/b", true}, {"[", "[", false},
	} {
		if got := matches(strings.Split(c.glob, "/"), strings.Split(c.name, "/")); got != c.want {
			t.Errorf("%q fits %q: %v", c.name, c.glob, got)
		}
	}
}
