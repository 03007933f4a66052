package katacoda

import (
	"testing"
	"testing/fstest"
)

// FuzzIndex loads scenarios with any settings: nothing may panic or take long,
// and a lesson that loads has an id and a title.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(bakery), false)
	f.Add([]byte(lab("T")), false)
	f.Add([]byte("title: T\ndetails:\n  steps:\n    - {title: A, text: a.md}\n"), true)
	f.Add([]byte("{'a':[1,,2 // x\n]}"), false)
	f.Add([]byte("\xff\xfe{\x00}\x00"), false)
	f.Fuzz(func(t *testing.T, settings []byte, yaml bool) {
		name := "lab/index.json"
		if yaml {
			name = "lab/index.yaml"
		}
		fsys := fstest.MapFS{
			name:               {Data: settings},
			"lab/a.md":         {Data: []byte("# A\n\n`ls`{{execute}}\n")},
			"lab/assets/a/b":   {Data: []byte("x")},
			"lab-pathway.json": {Data: settings},
			"structure.json":   {Data: settings},
		}
		lessons, mistakes := LoadAll(fsys)
		for _, l := range lessons {
			if l.ID == "" || l.Title == "" || len(l.Steps) > maxSteps || len(l.Assets) > maxAssets {
				t.Errorf("%+v", l)
			}
		}
		for _, m := range mistakes {
			if m.File == "" || m.What == "" {
				t.Errorf("%+v", m)
			}
		}
	})
}
