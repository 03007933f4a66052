package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors says which packages of ours each package may import, and which
// outside technology lives there and nowhere else.
var floors = map[string]struct {
	ours []string
	home []string
}{
	"labs":                 {},
	"labs/markdown":        {ours: []string{"labs"}, home: []string{"github.com/yuin/goldmark", "github.com/alecthomas/chroma", "github.com/microcosm-cc/bluemonday"}},
	"labs/katacoda":        {ours: []string{"labs", "labs/markdown"}},
	"labs/jekyll":          {ours: []string{"labs", "labs/markdown"}},
	"labs/rehearsal":       {ours: []string{"labs"}},
	"labs/verify":          {ours: []string{"labs"}},
	"labs/store":           {ours: []string{"labs"}, home: []string{"modernc.org/sqlite", "database/sql"}},
	"runner":               {ours: []string{"labs", "runner/agent"}},
	"runner/agent":         {ours: []string{"labs"}, home: []string{"github.com/creack/pty"}},
	"runner/local":         {ours: []string{"labs"}, home: []string{"github.com/vishvananda/netlink", "github.com/google/nftables", "github.com/containerd/go-runc", "github.com/opencontainers/runtime-spec"}},
	"runner/image":         {ours: []string{"labs"}},
	"runner/mirror":        {ours: []string{"labs"}},
	"web":                  {ours: []string{"labs"}, home: []string{"github.com/gorilla/websocket", "html/template"}},
	"content":              {},
	"cmd/berth":            {ours: []string{"*"}, home: []string{"github.com/spf13/cobra"}},
	"cmd/learner":          {ours: []string{"labs"}},
	"cmd/agent":            {ours: []string{"runner/agent"}},
	"cmd/bench":            {ours: []string{"*"}},
	"cmd/corpus":           {ours: []string{"*"}},
	"labs/store/storetest": {ours: []string{"labs"}},
	"runner/runnertest":    {ours: []string{"labs"}},
}

// shared is outside technology with more than one home, each for a reason.
var shared = map[string][]string{
	"github.com/docker/docker":               {"labs/verify"},
	"github.com/google/go-containerregistry": {"runner/image", "runner/mirror"},
	"github.com/goccy/go-yaml":               {"labs/markdown", "labs/katacoda", "labs/jekyll", "runner/image"},
	"github.com/fsnotify/fsnotify":           {"runner/agent", "cmd/berth"}, // labs that are being written
	"github.com/gorilla/websocket":           {"web", "cmd/learner"},        // the bench is a browser
	"github.com/creack/pty":                  {"runner/agent", "cmd/bench"}, // and measures a bare pty beside it
}

// TestFloors holds the plan of the house: a package imports only packages on
// lower floors, and each technology has its home.
func TestFloors(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", "berth/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	home := make(map[string][]string)
	for pkg, f := range floors {
		for _, h := range f.home {
			home[h] = append(home[h], pkg)
		}
	}
	for h, pkgs := range shared {
		home[h] = pkgs
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "berth/")
		floor, ok := floors[name]
		if !ok {
			t.Errorf("package %s has no place in the plan: add it to the table, with a reason, or move it", name)
			continue
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, "berth/"); ok {
				if !slices.Contains(floor.ours, ours) && !slices.Contains(floor.ours, "*") {
					t.Errorf("%s imports %s, which is not on a floor below it", name, ours)
				}
				continue
			}
			for tech, homes := range home {
				if (imp == tech || strings.HasPrefix(imp, tech+"/")) && !slices.Contains(homes, name) {
					t.Errorf("%s imports %s, whose home is %s", name, imp, strings.Join(homes, ", "))
				}
			}
			if name == "labs" && strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
				t.Errorf("labs imports %s; it uses the standard library alone", imp)
			}
		}
	}
}
