package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"one/pears/index.json": `{"title": "Pears", "details": {"steps": [{"text": "a.md", "verify": "v.sh"}]}, "backend": {"imageid": "ubuntu"}}`,
		"one/pears/a.md":       "Do `ls -l`{{execute}}, then\n\npick{{execute}}\n\nHelm has `{{ .Values.a }}`.\n",
		"one/pears/v.sh":       "test -e /pear\n",
		"two/plums/index.json": `{"title": "Plums", "details": {"steps": [{"text": "b.md"}]}, "backend": {"imageid": "kubernetes-cluster"}}`,
		"two/plums/b.md":       "See \\`ls\\`{{execute}} and `[[HOST_LIKE]]`.\n",
	})
	repositories, err := repositoriesIn(dir)
	if err != nil || len(repositories) != 2 {
		t.Fatalf("%v, %v", repositories, err)
	}
	var rows []*row
	for _, r := range repositories {
		one, err := measure(r)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, one)
	}
	pears, plums := rows[0], rows[1]
	if pears.loaded != 1 || pears.failed != 0 || pears.runs != 1 || pears.steps != 1 || pears.commands != 1 || pears.checks != 1 || len(pears.left) != 0 || len(pears.inCode) != 0 {
		t.Errorf("%+v", pears)
	}
	if plums.clusters != 1 || len(plums.left) != 2 {
		t.Errorf("%+v", plums)
	}
	var out bytes.Buffer
	if table(&out, rows) {
		t.Error("notation was left, and the table is content")
	}
	if s := out.String(); !strings.Contains(s, "together") || !strings.Contains(s, "stands behind no code") {
		t.Error(s)
	}
	if !table(&out, rows[:1]) {
		t.Error("nothing was left, and the table is not content")
	}
}

func TestFailedLabsAreCounted(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a/index.json": `{"title": "T", "details": {"steps": "none"`})
	r, err := measure(dir)
	if err != nil || r.loaded != 0 || r.failed != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
