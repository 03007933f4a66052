package markdown

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"berth/labs"
)

var update = flag.Bool("update", false, "write what is loaded into testdata/golden")

// Each file holds a lab and, under "want", all that is loaded from it.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/golden/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			fsys, want := fstest.MapFS{}, ""
			kept := a.Files[:0]
			for _, f := range a.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}
				fsys["lab/"+f.Name] = &fstest.MapFile{Data: f.Data}
				kept = append(kept, f)
			}
			lesson, mistakes := Load(fsys, "lab")
			var b strings.Builder
			for _, m := range mistakes {
				kind := "mistake"
				if m.Warn {
					kind = "warning"
				}
				fmt.Fprintf(&b, "%s %s\n", kind, m.Error())
			}
			if lesson != nil {
				safe(t, lesson)
				lesson.Dir = nil
				dump(&b, "", reflect.ValueOf(*lesson))
			}
			got := b.String()
			if *update {
				a.Files = append(kept, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("loaded otherwise than wanted (go test -update writes it):\n%s", diff(want, got))
			}
		})
	}
}

// dump writes all fields that are set, a line each; text of several lines
// stands below its name.
func dump(b *strings.Builder, name string, v reflect.Value) {
	pointed := strings.HasSuffix(name, "Equals") || strings.HasSuffix(name, "Exists") || strings.HasSuffix(name, "File.Dir")
	if v.IsZero() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface || !pointed) {
		return // "" and false behind a pointer mean something
	}
	switch x := v.Interface().(type) {
	case fs.FS:
		return
	case *regexp.Regexp:
		if x != nil {
			fmt.Fprintf(b, "%s: /%s/\n", name, x)
		}
		return
	case labs.Number:
		fmt.Fprintf(b, "%s: %c%d\n", name, x.Op, x.Value)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			dump(b, name, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			sub := v.Type().Field(i).Name
			if name != "" {
				sub = name + "." + sub
			}
			dump(b, sub, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			dump(b, fmt.Sprintf("%s[%d]", name, i), v.Index(i))
		}
	case reflect.String:
		if s := v.String(); strings.Contains(s, "\n") {
			fmt.Fprintf(b, "%s:\n", name)
			for line := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
				fmt.Fprintf(b, "  | %s\n", line)
			}
		} else {
			fmt.Fprintf(b, "%s: %s\n", name, s)
		}
	default:
		fmt.Fprintf(b, "%s: %v\n", name, v.Interface())
	}
}

// diff shows the first lines that differ.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, a, b)
		}
	}
	return ""
}
