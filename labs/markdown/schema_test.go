package markdown

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/txtar"

	"berth/labs"
)

type schema = map[string]any

func loadSchema(t testing.TB, name string) schema {
	t.Helper()
	b, err := Schema(name)
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	if s["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("%s is a schema of %v", name, s["$schema"])
	}
	return s
}

// at follows names into a schema.
func at(t testing.TB, s schema, names ...string) schema {
	t.Helper()
	for _, n := range names {
		next, ok := s[n].(schema)
		if !ok {
			t.Fatalf("the schema has no %s", strings.Join(names, "/"))
		}
		s = next
	}
	return s
}

// What the parser knows and what the schemas say can never drift apart.
func TestSchemasKnowTheKeysOfTheParser(t *testing.T) {
	lab, check, course := loadSchema(t, "lab"), loadSchema(t, "check"), loadSchema(t, "course")
	object := func(name string, s schema, keys []string) {
		t.Helper()
		got := slices.Sorted(maps.Keys(at(t, s, "properties")))
		want := slices.Sorted(slices.Values(keys))
		if !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, the parser %v", name, got, want)
		}
		if s["additionalProperties"] != false {
			t.Errorf("%s: the schema lets other keys through", name)
		}
		for key, p := range at(t, s, "properties") {
			if p, ok := p.(schema); !ok || p["description"] == nil {
				t.Errorf("%s: %s has no description", name, key)
			}
		}
	}
	words := func(name string, s schema, want []string) {
		t.Helper()
		var got []string
		for _, v := range s["enum"].([]any) {
			got = append(got, v.(string))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, the parser %v", name, got, want)
		}
	}
	object("front matter", lab, frontKeys)
	object("pulls", at(t, lab, "properties", "pulls", "items")["anyOf"].([]any)[1].(schema), pullKeys)
	object("assets", at(t, lab, "properties", "assets", "items"), assetKeys)
	object("terminals", at(t, lab, "properties", "terminals", "items"), terminalKeys)
	object("tabs", at(t, lab, "properties", "tabs", "items"), tabKeys)
	object("vars", at(t, lab, "properties", "vars", "additionalProperties"), varKeys)
	words("level", at(t, lab, "properties", "level"), levels)
	words("egress", at(t, lab, "properties", "egress"), egresses)
	words("layout", at(t, lab, "properties", "layout"), layouts)
	object("course", course, courseKeys)

	known := map[string]bool{}
	for _, k := range commonKeys {
		known[k] = true
	}
	branches := map[string][]string{}
	for _, b := range check["oneOf"].([]any) {
		key := b.(schema)["required"].([]any)[0].(string)
		for _, v := range at(t, b.(schema), "propertyNames")["enum"].([]any) {
			branches[key] = append(branches[key], v.(string))
		}
	}
	for _, s := range subjects {
		want := slices.Concat(commonKeys, []string{s.key}, s.with)
		for _, k := range want {
			known[k] = true
		}
		if !slices.Equal(branches[s.key], want) {
			t.Errorf("check of %s: the schema has %v, the parser %v", s.key, branches[s.key], want)
		}
	}
	if len(branches) != len(subjects) {
		t.Errorf("the schema has %d subjects, the parser %d", len(branches), len(subjects))
	}
	object("check", check, slices.Collect(maps.Keys(known)))
	words("state", at(t, check, "properties", "state"), states)
	words("health", at(t, check, "properties", "health"), healths)
	object("logs", at(t, check, "properties", "logs"), textKeys[:3])
	object("body", at(t, check, "properties", "body"), textKeys[:3])
	object("limits", at(t, check, "properties", "limits"), []string{"memory"})
	object("container", at(t, check, "properties", "container")["anyOf"].([]any)[1].(schema), []string{"image", "command"})
	if _, err := Schema("../lab"); !errors.Is(err, labs.ErrNotFound) {
		t.Error(err)
	}
}

func TestSchemasAcceptWhatLoads(t *testing.T) {
	names, err := filepath.Glob("testdata/golden/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			switch f.Name {
			case "lab.md":
				texts[name] = string(f.Data)
			case "want":
				if strings.Contains(string(f.Data), "mistake ") {
					delete(texts, name)
				}
			}
		}
	}
	own, err := filepath.Glob("../../content/*/lab.md")
	if err != nil || own == nil {
		t.Fatalf("no labs of our own: %v", err)
	}
	for _, name := range own {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(b)
	}
	lab, check := loadSchema(t, "lab"), loadSchema(t, "check")
	checks := 0
	for name, text := range texts {
		front, body, _ := strings.Cut(strings.TrimPrefix(text, "---\n"), "\n---\n")
		if err := valid(t, lab, front); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, m := range regexp.MustCompile("(?ms)^```check\n(.*?)^```").FindAllStringSubmatch(body, -1) {
			checks++
			if err := valid(t, check, m[1]); err != nil {
				t.Errorf("%s: %v\n%s", name, err, m[1])
			}
		}
	}
	if checks < 30 {
		t.Errorf("only %d checks were looked at", checks)
	}
	if err := valid(t, loadSchema(t, "course"), "title: All\norder: [container-image, b]\n"); err != nil {
		t.Error(err)
	}
}

func TestSchemasRefuse(t *testing.T) {
	for name, texts := range map[string][]string{
		"lab": {
			"level: beginner", "title: x\nlevl: beginner", "title: x\nlevel: easy", "title: x\nminutes: 0", "title: x\nminutes: long", "title: x\nhosts: 10",
			"title: x\nassets: [{file: a}]", "title: x\nassets: [{file: ../a, to: /}]", "title: x\nassets: [{file: /a, to: /}]", "title: x\nvars: {a: x}", "title: x\nvars: {a: {value: x, pick: [y]}}", "title: x\nvars: {A: {value: x}}",
			"title: x\ntabs: [{title: x}]", "title: x\ntabs: [{title: x, url: \"http://x\"}]", "title: x\ntabs: [{title: x, url: \"https://x\", port: 80}]", "title: x\nterminals: [{title: x}]", "title: x\npaged: yes", "title: x\nlayout: ide",
		},
		"check": {
			"image: x", "name: x", "name: x\nimage: x\nfile: ~/x", "name: x\nimage: x\nlogs: {contains: y}", "name: x\nport: 80\nbody: y", "name: x\nscript: x\nprint: y", "name: x\nfile: x", "name: x\ncontainer: x\nstate: up",
			"name: x\nimage: x\nlayers: many", "name: x\nimage: x\nnot: yes", "name: x\nport: 0", "name: x\nvolume: a b",
		},
		"course": {"titel: x", "order: a", "order: [A]"},
	} {
		s := loadSchema(t, name)
		for _, text := range texts {
			if err := valid(t, s, text); err == nil {
				t.Errorf("%s is accepted:\n%s", name, text)
			}
		}
	}
}

func valid(t testing.TB, s schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v = nil
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return conforms(s, v, "")
}

// conforms is as much of JSON Schema as our schemas use.
func conforms(s schema, v any, path string) error {
	for word, arg := range s {
		if err := conformsTo(s, word, arg, v, path); err != nil {
			return err
		}
	}
	return nil
}

func conformsTo(s schema, word string, arg, v any, path string) error {
	wrong := func() error { return fmt.Errorf("%s: %v does not fit %s: %v", path, v, word, arg) }
	branches := func() (n int) {
		for _, b := range arg.([]any) {
			if conforms(b.(schema), v, path) == nil {
				n++
			}
		}
		return n
	}
	object, isObject := v.(map[string]any)
	list, isList := v.([]any)
	text, isText := v.(string)
	number, isNumber := v.(float64)
	switch word {
	case "$schema", "$id", "title", "description", "properties":
	case "type":
		names, ok := arg.([]any)
		if !ok {
			names = []any{arg}
		}
		for _, n := range names {
			_, isBool := v.(bool)
			is := map[any]bool{"object": isObject, "array": isList, "string": isText, "number": isNumber, "integer": isNumber && number == float64(int64(number)), "boolean": isBool, "null": v == nil}
			if is[n] {
				return nil
			}
		}
		return wrong()
	case "enum":
		if !slices.ContainsFunc(arg.([]any), func(a any) bool { return reflect.DeepEqual(a, v) }) {
			return wrong()
		}
	case "const":
		if !reflect.DeepEqual(arg, v) {
			return wrong()
		}
	case "pattern":
		if isText && !regexp.MustCompile(arg.(string)).MatchString(text) {
			return wrong()
		}
	case "minLength", "maxLength":
		n := float64(len([]rune(text)))
		if isText && (word == "minLength" && n < arg.(float64) || word == "maxLength" && n > arg.(float64)) {
			return wrong()
		}
	case "minimum", "maximum":
		if isNumber && (word == "minimum" && number < arg.(float64) || word == "maximum" && number > arg.(float64)) {
			return wrong()
		}
	case "minItems", "maxItems":
		n := float64(len(list))
		if isList && (word == "minItems" && n < arg.(float64) || word == "maxItems" && n > arg.(float64)) {
			return wrong()
		}
	case "uniqueItems":
		for i := range list {
			for j := range i {
				if reflect.DeepEqual(list[i], list[j]) {
					return wrong()
				}
			}
		}
	case "minProperties", "maxProperties":
		n := float64(len(object))
		if isObject && (word == "minProperties" && n < arg.(float64) || word == "maxProperties" && n > arg.(float64)) {
			return wrong()
		}
	case "required":
		for _, key := range arg.([]any) {
			if _, ok := object[key.(string)]; isObject && !ok {
				return wrong()
			}
		}
	case "propertyNames":
		for key := range object {
			if err := conforms(arg.(schema), key, path); err != nil {
				return err
			}
		}
	case "additionalProperties":
		properties, _ := s["properties"].(schema)
		for key, value := range object {
			p, ok := properties[key].(schema)
			if !ok {
				if p, ok = arg.(schema); !ok {
					return fmt.Errorf("%s: %q is no key", path, key)
				}
			}
			if err := conforms(p, value, path+"/"+key); err != nil {
				return err
			}
		}
	case "items":
		for i, value := range list {
			if err := conforms(arg.(schema), value, fmt.Sprint(path, "/", i)); err != nil {
				return err
			}
		}
	case "anyOf":
		if branches() == 0 {
			return wrong()
		}
	case "oneOf":
		if branches() != 1 {
			return wrong()
		}
	case "not":
		if conforms(arg.(schema), v, path) == nil {
			return wrong()
		}
	default:
		return fmt.Errorf("the schema uses %q, which this test does not know", word)
	}
	return nil
}
