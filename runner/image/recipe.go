package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/labs"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// A Kind says what a recipe gives.
type Kind string

const (
	Sandbox Kind = "sandbox" // a root file system
	Standin Kind = "standin" // a container image
)

// builderVersion is part of every image's id: raise it when the same recipe
// gives something else.
const builderVersion = "1"

// A Recipe says how an image is built. The yaml keys are the format of
// recipe.yaml; each has one shape, and one that is not known is an error.
type Recipe struct {
	Name string `yaml:"-"` // of its folder
	ID   string `yaml:"-"` // hash of all that decides what it gives

	Kind  Kind   `yaml:"kind"`  // "sandbox" or "standin"
	About string `yaml:"about"` // one sentence

	// Extends names a recipe that this one continues: what this one does not
	// say is as there, its lists come after those of the other, and its files
	// go over the other's.
	Extends string `yaml:"extends"`

	Suite    string   `yaml:"suite"`    // release of Debian: "trixie"
	Packages []string `yaml:"packages"` // with everything they depend on
	Without  []string `yaml:"without"`  // packages of the extended recipe that are left out
	// Sources are further package sources, each a line as in sources.list. The
	// keys that sign them lie in the recipe's keys/ as *.gpg or *.asc.
	Sources []string `yaml:"sources"`

	// Of a sandbox image.
	Engine    string   `yaml:"engine"`    // the package that has the Docker Engine
	Customize []string `yaml:"customize"` // shell commands, run inside when the packages are there; files/ come after
	// Prune has patterns of paths that are left out; * also matches "/". The
	// last pattern that matches decides, and one that begins with "!" keeps.
	Prune []string `yaml:"prune"`

	// Of a stand-in.
	For     string    `yaml:"for"`     // the reference that it stands in for
	Created time.Time `yaml:"created"` // the time of everything in it, so that two builds are equal
	Layers  []Layer   `yaml:"layers"`
	Config  Config    `yaml:"config"`

	dirs []string // folders in the file system of recipes, the extended first
}

// A Layer is one layer of a stand-in. Paths are absolute.
type Layer struct {
	By string `yaml:"by"` // as docker history shows it
	// Files is a folder in the recipe's files/, which is copied; a file that
	// begins with "#!" can be run.
	Files string              `yaml:"files"`
	Take  map[string][]string `yaml:"take"`  // directory: files of the packages that go there
	Links map[string][]string `yaml:"links"` // target: symbolic links to it
	Dirs  map[string]string   `yaml:"dirs"`  // directory: "mode" or "mode uid:gid"
	// LibrariesOf names programs of the packages. The shared libraries that
	// they need, and that no earlier layer has, are taken.
	LibrariesOf []string `yaml:"libraries-of"`
}

// Config is how a container of a stand-in runs. "{version PACKAGE}" in a value
// of env or labels becomes the version of what Debian packaged: "8.0.2".
type Config struct {
	Entrypoint []string          `yaml:"entrypoint"`
	Cmd        []string          `yaml:"cmd"`
	Env        []string          `yaml:"env"`
	Ports      []string          `yaml:"ports"`
	Volumes    []string          `yaml:"volumes"`
	Workdir    string            `yaml:"workdir"`
	User       string            `yaml:"user"`
	Labels     map[string]string `yaml:"labels"`
}

const (
	idDigits    = 12
	idGlob      = "????????????"
	maxExtends  = 4
	maxRecipe   = 256 << 10 // bytes of recipe.yaml
	maxFileSize = 16 << 20  // bytes of a file in a recipe
)

var (
	nameRE    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	suiteRE   = regexp.MustCompile(`^[a-z][a-z0-9.-]{0,62}$`)
	packageRE = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*(:[a-z0-9]+)?$`)
	portRE    = regexp.MustCompile(`^[0-9]{1,5}/(tcp|udp|sctp)$`)
	modeRE    = regexp.MustCompile(`^([0-7]{3,4})(?: ([0-9]{1,5}):([0-9]{1,5}))?$`)
)

// Names gives the names of all recipes, in order.
func (s *Store) Names() ([]string, error) {
	entries, err := fs.ReadDir(s.Recipes, ".")
	if err != nil {
		return nil, fmt.Errorf("list recipes: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if _, err := fs.Stat(s.Recipes, path.Join(e.Name(), "recipe.yaml")); err == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Recipe reads a recipe, with what it extends. A mistake in it is told as
// "file:line: what; hint" and is labs.ErrInvalid.
func (s *Store) Recipe(name string) (*Recipe, error) {
	r, err := s.readRecipe(name, 0)
	if err != nil {
		return nil, err
	}
	if r.ID, err = s.hash(r.dirs); err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Store) readRecipe(name string, depth int) (*Recipe, error) {
	if !nameRE.MatchString(name) {
		return nil, s.noRecipe(name)
	}
	file := path.Join(name, "recipe.yaml")
	f, err := s.Recipes.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.noRecipe(name)
	}
	if err != nil {
		return nil, fmt.Errorf("open recipe %s: %w", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecipe+1))
	if err != nil {
		return nil, fmt.Errorf("read recipe %s: %w", name, err)
	}
	if len(text) > maxRecipe {
		return nil, mistake(file, 1, "larger than %d KiB", maxRecipe>>10)
	}
	r := &Recipe{}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.DisallowUnknownField()).Decode(r); err != nil && !errors.Is(err, io.EOF) {
		return nil, yamlMistake(file, err)
	}
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, yamlMistake(file, err)
	}
	p := place{file: file, doc: doc}
	r.Name, r.dirs = name, []string{name}

	var base *Recipe
	if r.Extends != "" {
		if depth == maxExtends {
			return nil, p.mistake("$.extends", "recipes extend each other more than %d deep; does %s extend itself?", maxExtends, name)
		}
		base, err = s.readRecipe(r.Extends, depth+1)
		if errors.Is(err, labs.ErrNotFound) {
			return nil, p.mistake("$.extends", "there is no recipe %q to extend", r.Extends)
		}
		if err != nil {
			return nil, err
		}
	} else if len(r.Without) > 0 {
		return nil, p.mistake("$.without", "without leaves out packages of an extended recipe; this one extends none")
	}
	if err := r.checkLists(p); err != nil {
		return nil, err
	}
	if base != nil {
		if err := r.extend(base, p); err != nil {
			return nil, err
		}
	}
	if err := r.check(p); err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Store) noRecipe(name string) error {
	say := fmt.Sprintf("There is no image recipe %q.", name)
	if names, err := s.Names(); err == nil && len(names) > 0 {
		say += " There are: " + strings.Join(names, ", ") + "."
	}
	return &labs.Problem{Kind: labs.ErrNotFound, Say: say}
}

// extend fills r with what base says and r does not.
func (r *Recipe) extend(base *Recipe, p place) error {
	for i, w := range r.Without {
		if !slices.Contains(base.Packages, w) {
			return p.mistake(fmt.Sprintf("$.without[%d]", i), "recipe %s has no package %q to leave out", base.Name, w)
		}
	}
	kept := slices.DeleteFunc(slices.Clone(base.Packages), func(p string) bool { return slices.Contains(r.Without, p) })
	r.Packages = append(kept, r.Packages...)
	r.Sources = append(slices.Clone(base.Sources), r.Sources...)
	r.Customize = append(slices.Clone(base.Customize), r.Customize...)
	r.Prune = append(slices.Clone(base.Prune), r.Prune...)
	r.dirs = append(slices.Clone(base.dirs), r.dirs...)
	if r.Kind == "" {
		r.Kind = base.Kind
	}
	if r.About == "" {
		r.About = base.About
	}
	if r.Suite == "" {
		r.Suite = base.Suite
	}
	if r.Engine == "" {
		r.Engine = base.Engine
	}
	if r.Kind != Sandbox || base.Kind != Sandbox {
		return p.mistake("$.extends", "only sandbox recipes extend each other")
	}
	return nil
}

// checkLists looks at what this recipe says itself, before it has what it
// extends, so that places in lists are right.
func (r *Recipe) checkLists(p place) error {
	for i, name := range r.Packages {
		if !packageRE.MatchString(name) {
			return p.mistake(fmt.Sprintf("$.packages[%d]", i), "%q is not the name of a package", name)
		}
	}
	for i, line := range r.Sources {
		if !strings.HasPrefix(line, "deb ") || strings.ContainsAny(line, "\n\r") {
			return p.mistake(fmt.Sprintf("$.sources[%d]", i), "a source is one line that begins with deb, as in sources.list")
		}
	}
	for i, pattern := range r.Prune {
		if !strings.HasPrefix(strings.TrimPrefix(pattern, "!"), "/") || strings.ContainsAny(pattern, "\n\r") {
			return p.mistake(fmt.Sprintf("$.prune[%d]", i), "a pattern is a path from the root, such as /usr/share/man/*")
		}
	}
	return nil
}

// check looks at the whole recipe.
func (r *Recipe) check(p place) error {
	switch r.Kind {
	case Sandbox:
		for _, k := range []setKey{
			{"for", r.For != ""},
			{"created", !r.Created.IsZero()},
			{"layers", r.Layers != nil},
			{"config", !reflect.ValueOf(r.Config).IsZero()},
		} {
			if k.set {
				return p.mistake("$."+k.name, "%s belongs to stand-ins; this is a sandbox image", k.name)
			}
		}
	case Standin:
		for _, k := range []setKey{
			{"engine", r.Engine != ""},
			{"customize", r.Customize != nil},
			{"prune", r.Prune != nil},
		} {
			if k.set {
				return p.mistake("$."+k.name, "%s belongs to sandbox images; this is a stand-in", k.name)
			}
		}
	case "":
		return p.mistake("$", "kind is missing; say kind: %s or kind: %s", Sandbox, Standin)
	default:
		return p.mistake("$.kind", "no kind %q; say %s or %s", r.Kind, Sandbox, Standin)
	}
	if r.Suite == "" {
		return p.mistake("$", "suite is missing; name a release of Debian, such as suite: trixie")
	}
	if !suiteRE.MatchString(r.Suite) {
		return p.mistake("$.suite", "%q is not a release of Debian; say for example trixie", r.Suite)
	}
	if r.Engine != "" && !slices.Contains(r.Packages, r.Engine) {
		return p.mistake("$.engine", "the engine %q is not among the packages", r.Engine)
	}
	if r.Kind == Standin {
		return r.checkStandin(p)
	}
	return nil
}

type setKey struct {
	name string
	set  bool
}

func (r *Recipe) checkStandin(p place) error {
	if r.For == "" {
		return p.mistake("$", "for is missing; name the image that this one stands in for, such as for: redis:3.2.11-alpine")
	}
	if len(r.Packages) == 0 {
		return p.mistake("$", "packages is missing; a stand-in is made of the files of packages")
	}
	if r.Created.IsZero() {
		return p.mistake("$", "created is missing; give a fixed time, such as created: 2025-01-01T00:00:00Z")
	}
	if len(r.Layers) == 0 {
		return p.mistake("$", "layers is missing")
	}
	abs := func(at, name string) error {
		if !path.IsAbs(name) || path.Clean(name) != name {
			return p.mistake(at, "%q is not an absolute path without . and ..", name)
		}
		return nil
	}
	for i, l := range r.Layers {
		at := fmt.Sprintf("$.layers[%d]", i)
		if l.By == "" {
			return p.mistake(at, "by is missing; say what this layer does")
		}
		if l.Files != "" && !fs.ValidPath(l.Files) {
			return p.mistake(at+".files", "%q is not a folder in files/", l.Files)
		}
		for dir, files := range l.Take {
			if err := abs(at+".take", dir); err != nil {
				return err
			}
			for _, f := range files {
				if err := abs(at+".take", f); err != nil {
					return err
				}
			}
		}
		for _, links := range l.Links {
			for _, link := range links {
				if err := abs(at+".links", link); err != nil {
					return err
				}
			}
		}
		for dir, mode := range l.Dirs {
			if err := abs(at+".dirs", dir); err != nil {
				return err
			}
			if !modeRE.MatchString(mode) {
				return p.mistake(at+".dirs", `%q is not a mode; write "0755" or "0755 100:101"`, mode)
			}
		}
		for _, prog := range l.LibrariesOf {
			if err := abs(at+".libraries-of", prog); err != nil {
				return err
			}
		}
	}
	for i, port := range r.Config.Ports {
		if !portRE.MatchString(port) {
			return p.mistake(fmt.Sprintf("$.config.ports[%d]", i), "%q is not a port; write 6379/tcp", port)
		}
	}
	for i, e := range r.Config.Env {
		if !strings.Contains(e, "=") {
			return p.mistake(fmt.Sprintf("$.config.env[%d]", i), "%q is not KEY=VALUE", e)
		}
	}
	return nil
}

// dirMode reads "0755" or "0755 100:101", which check has looked at.
func dirMode(text string) (mode int64, uid, gid int) {
	m := modeRE.FindStringSubmatch(text)
	mode, _ = strconv.ParseInt(m[1], 8, 64)
	uid, _ = strconv.Atoi(m[2])
	gid, _ = strconv.Atoi(m[3])
	return mode, uid, gid
}

// hash sums up everything that decides what a recipe gives: its folders, the
// extended first, this machine's architecture and the builder.
func (s *Store) hash(dirs []string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "builder %s %s\n", builderVersion, runtime.GOARCH)
	for _, dir := range dirs {
		err := fs.WalkDir(s.Recipes, dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := readSmall(s.Recipes, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "file %q %d\n", name, len(text))
			h.Write(text)
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("read recipe %s: %w", dir, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:idDigits], nil
}

// readSmall reads a file of a recipe.
func readSmall(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFileSize {
		return nil, fmt.Errorf("%s is larger than %d MiB: %w", name, maxFileSize>>20, labs.ErrInvalid)
	}
	return text, nil
}

// A place finds the line of a value in a recipe.
type place struct {
	file string
	doc  *ast.File
}

// mistake tells of a mistake in the value at a YAML path such as
// "$.packages[2]".
func (p place) mistake(at, format string, args ...any) error {
	line := 1
	if at != "$" {
		if yp, err := yaml.PathString(at); err == nil {
			if node, err := yp.FilterFile(p.doc); err == nil {
				line = node.GetToken().Position.Line
			}
		}
	}
	return mistake(p.file, line, format, args...)
}

func mistake(file string, line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s (%w)", file, line, fmt.Sprintf(format, args...), labs.ErrInvalid)
}

// yamlMistake gives an error of the YAML parser our form, and names the key
// that was probably meant.
func yamlMistake(file string, err error) error {
	line, what := 1, err.Error()
	var ye yaml.Error
	if errors.As(err, &ye) {
		what = ye.GetMessage()
		if t := ye.GetToken(); t != nil {
			line = t.Position.Line
			var unknown *yaml.UnknownFieldError
			if errors.As(err, &unknown) {
				what = fmt.Sprintf("unknown key %q", t.Value)
				if k := nearestKey(t.Value); k != "" {
					what += fmt.Sprintf("; did you mean %q?", k)
				}
			}
		}
	}
	return mistake(file, line, "%s", what)
}

// nearestKey gives the key of the format that is at most two typing mistakes
// from word.
func nearestKey(word string) string {
	best, dist := "", 3
	for _, t := range []reflect.Type{reflect.TypeFor[Recipe](), reflect.TypeFor[Layer](), reflect.TypeFor[Config]()} {
		for f := range t.NumField() {
			key := t.Field(f).Tag.Get("yaml")
			if key == "" || key == "-" {
				continue
			}
			if d := editDistance(word, key); d < dist {
				best, dist = key, d
			}
		}
	}
	return best
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
