package katacoda

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"berth/labs"
)

// folder makes a file system of files.
func folder(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return fsys
}

// told gives what was said, a line each.
func told(mistakes []labs.Mistake) string {
	var lines []string
	for _, m := range mistakes {
		lines = append(lines, m.Error())
	}
	return strings.Join(lines, "\n")
}

func loaded(t *testing.T, files map[string]string, dir string) (*labs.Lesson, string) {
	t.Helper()
	l, mistakes := Load(folder(files), dir)
	if l == nil {
		t.Fatalf("it did not load:\n%s", told(mistakes))
	}
	return l, told(mistakes)
}

const bakery = `{
  "title": "The bakery",
  "description": "Bake a container.",
  "difficulty": "Beginner",
  "time": "20-25 minutes",
  "details": {
    "intro": {"text": "intro.md", "code": "fore.sh", "courseData": "back.sh", "credits": "A. Baker"},
    "steps": [
      {"title": "Knead", "text": "knead.md", "verify": "knead-verify.sh", "hint": "knead-hint.md", "answer": "knead-answer.md"},
      {"text": "oven/bake.md", "foreground": "oven/fore.sh", "verify": "oven/verify.sh"}
    ],
    "finish": {"text": "finish.md"},
    "assets": {"host01": [
      {"file": "flour.txt", "target": "/pantry", "chmod": "+x"},
      {"file": "tins/**/*.tin", "target": "~/tins"}
    ]}
  },
  "environment": {"uilayout": "editor-terminal", "uieditorpath": "/root/dough", "uimessage1": "\u001b[32mhello\u001b[m\r\n",
    "showdashboard": true, "dashboards": [{"name": "Shop", "port": 8080}, {"name": "Till", "href": "https://[[HOST_SUBDOMAIN]]-81-[[KATACODA_HOST]].environments.katacoda.com/till"}],
    "terminals": [{"name": "Terminal 2", "target": "host01"}, {"name": "Stats", "command": "docker stats", "target": "host01"}]},
  "backend": {"imageid": "ubuntu:2004"}
}`

func bakeryFiles() map[string]string {
	return map[string]string{
		"shop/bakery/index.json":          bakery,
		"shop/bakery/intro.md":            "Welcome to the bakery.\n",
		"shop/bakery/fore.sh":             "#!/bin/sh\nclear\n",
		"shop/bakery/back.sh":             "#!/bin/bash\ndocker pull alpine\n",
		"shop/bakery/knead.md":            "# Knead\n\nType `docker run alpine`{{execute}}\n",
		"shop/bakery/knead-verify.sh":     "docker ps -a | grep alpine && echo done\n",
		"shop/bakery/knead-hint.md":       "Look **around**.\n",
		"shop/bakery/knead-answer.md":     "`docker run alpine`{{execute}}\n",
		"shop/bakery/oven/bake.md":        "## Bake it\n\nAnd wait.\n",
		"shop/bakery/oven/fore.sh":        "cd /oven",
		"shop/bakery/oven/verify.sh":      "for i in 1 2; do\n  sleep 1\ndone\ntest -e /oven\n",
		"shop/bakery/finish.md":           "Enjoy.\n",
		"shop/bakery/assets/flour.txt":    "flour",
		"shop/bakery/assets/tins/a.tin":   "a",
		"shop/bakery/assets/tins/b/c.tin": "c",
		"shop/bakery/assets/tins/no.txt":  "no",
	}
}

func TestScenario(t *testing.T) {
	l, said := loaded(t, bakeryFiles(), "shop/bakery")
	if said != "" {
		t.Errorf("it said:\n%s", said)
	}
	if l.ID != "shop-bakery" || l.Title != "The bakery" || l.Summary != "Bake a container." || l.Level != "beginner" || l.Minutes != 25 {
		t.Errorf("about: %q %q %q %q %d", l.ID, l.Title, l.Summary, l.Level, l.Minutes)
	}
	if l.Image != "docker" || l.Egress != labs.EgressInternet || l.Hostname != "host01" || !l.Paged || l.Cannot != "" || l.Hosts > 1 {
		t.Errorf("sandbox: %q %q %q %v %q %d", l.Image, l.Egress, l.Hostname, l.Paged, l.Cannot, l.Hosts)
	}
	if l.Layout != labs.LayoutEditor || l.Open != "/root/dough" || strings.TrimSpace(l.Greeting) != "\x1b[32mhello\x1b[m" {
		t.Errorf("page: %q %q %q", l.Layout, l.Open, l.Greeting)
	}
	if want := []labs.Tab{{Title: "Shop", Port: 8080}, {Title: "Till", Port: 81, Path: "/till"}}; !slices.Equal(l.Tabs, want) {
		t.Errorf("tabs: %+v", l.Tabs)
	}
	if want := []labs.TerminalTab{{Name: "1"}, {Name: "2", Title: "Terminal 2"}, {Name: "3", Title: "Stats", Command: "docker stats"}}; !slices.Equal(l.Terminals, want) {
		t.Errorf("terminals: %+v", l.Terminals)
	}
	var assets []string
	for _, a := range l.Assets {
		assets = append(assets, fmt.Sprintf("%s>%s %o", a.From, a.To, a.Mode))
	}
	if want := "shop/bakery/assets/flour.txt>/pantry/flour.txt 755|shop/bakery/assets/tins/a.tin>~/tins/a.tin 0|shop/bakery/assets/tins/b/c.tin>~/tins/b/c.tin 0"; strings.Join(assets, "|") != want {
		t.Errorf("assets: %q", assets)
	}
	if a := l.Intro.Arrival; len(a.Setup) != 1 || a.Setup[0].Code != "#!/bin/bash\ndocker pull alpine\n" || len(a.Type) != 1 || a.Type[0].Code != "#!/bin/sh\nclear" || a.Type[0].Terminal != "1" || a.Type[0].NoEnter {
		t.Errorf("arrival: %+v", a)
	}
	if !strings.Contains(l.Intro.HTML, "Welcome") || !strings.Contains(l.Intro.HTML, "A. Baker") || !strings.Contains(l.Finish.HTML, "Enjoy") {
		t.Errorf("pages: %q %q", l.Intro.HTML, l.Finish.HTML)
	}
	if len(l.Steps) != 2 {
		t.Fatalf("%d steps", len(l.Steps))
	}
	knead, bake := &l.Steps[0], &l.Steps[1]
	if knead.ID != "knead" || knead.Title != "Knead" || strings.Contains(knead.HTML, "<h") {
		t.Errorf("the title stands twice: %q %q %q", knead.ID, knead.Title, knead.HTML)
	}
	if len(knead.Commands) != 1 || knead.Commands[0].Code != "docker run alpine" || len(knead.Solution.Commands) != 1 || len(knead.Hints) != 1 || !strings.Contains(knead.Hints[0], "<strong>around</strong>") {
		t.Errorf("knead: %+v", knead)
	}
	if len(knead.Checks) != 1 || knead.Checks[0].Prints != "done" || knead.Checks[0].Name == "" || !strings.Contains(knead.Checks[0].Script, "grep alpine") {
		t.Errorf("check: %+v", knead.Checks)
	}
	if bake.Title != "Bake it" || len(bake.Checks) != 1 || bake.Checks[0].Prints != "" || len(bake.Arrival.Type) != 1 || bake.Arrival.Type[0].Code != "cd /oven" {
		t.Errorf("bake: %q %+v %+v", bake.Title, bake.Checks, bake.Arrival)
	}
	if l.Format != labs.FormatKillercoda { // it uses foreground
		t.Errorf("format %q", l.Format)
	}
}

// index makes a scenario of settings, with a page that is there.
func index(settings string) map[string]string {
	return map[string]string{"lab/index.json": settings, "lab/a.md": "Text.\n"}
}

func TestSettingsThatAreForgiven(t *testing.T) {
	for name, c := range map[string]struct{ settings, want string }{
		"byte order mark":      {"\ufeff{\"title\": \"T\",\r\n\"details\": {\"steps\": [{\"title\": \"A\", \"text\": \"a.md\"}]}, \"backend\": {\"imageid\": \"ubuntu\"}}", ""},
		"unknown key":          {`{"title": "T", "titel": "X", "details": {"steps": [{"title": "A", "text": "a.md", "verfy": "x"}]}, "backend": {"imageid": "ubuntu"}}`, "lab/index.json:1: `titel` is not known in the scenario; did you mean `title`?\nlab/index.json:1: `verfy` is not known in a step; did you mean `verify`?"},
		"key in capitals":      {`{"Title": "T", "details": {"steps": [{"title": "A", "text": "a.md"}]}, "backend": {"imageid": "ubuntu"}}`, "lab/index.json:1: `Title` stands for `title`; write `title`"},
		"key twice":            {"{\"title\": \"T\",\n\"title\": \"U\", \"details\": {\"steps\": [{\"title\": \"A\", \"text\": \"a.md\"}]}, \"backend\": {\"imageid\": \"ubuntu\"}}", "lab/index.json:2: `title` is set twice; it is set in line 1 already"},
		"boolean in quotes":    {`{"title": "T", "details": {"intro": {"text": "a.md"}, "steps": [{"title": "A", "text": "a.md"}]}, "environment": {"hideintro": "true"}, "backend": {"imageid": "ubuntu"}}`, "lab/index.json:1: `hideintro` should be a boolean, not a text; write `true` without quotes"},
		"number in quotes":     {`{"title": "T", "details": {"steps": [{"title": "A", "text": "a.md"}]}, "environment": {"dashboards": [{"name": "D", "port": "80"}]}, "backend": {"imageid": "ubuntu"}}`, "lab/index.json:1: `port` should be a number, not a text; write it without quotes"},
		"number for a title":   {`{"title": 7, "details": {"steps": [{"title": 1, "text": "a.md"}]}, "backend": {"imageid": "ubuntu"}}`, ""},
		"time is a number":     {`{"title": "T", "time": 10, "details": {"steps": [{"title": "A", "text": "a.md"}]}, "backend": {"imageid": "ubuntu"}}`, ""},
		"missing file":         {"{\"title\": \"T\", \"details\": {\"steps\": [{\"title\": \"A\", \"text\": \"a.md\"},\n{\"title\": \"B\",\n\"text\": \"b.md\"}]}, \"backend\": {\"imageid\": \"ubuntu\"}}", "lab/index.json:3: the text `b.md` cannot be read: there is no such file"},
		"other capitals":       {`{"title": "T", "details": {"steps": [{"title": "A", "text": "A.MD"}]}, "backend": {"imageid": "ubuntu"}}`, "lab/index.json:1: the text `A.MD` is called `a.md`; spell both alike"},
		"backslashes":          {`{"title": "T", "details": {"steps": [{"title": "A", "text": ".\\a.md"}]}, "backend": {"imageid": "ubuntu"}}`, ""},
		"steps of wrong type":  {`{"title": "T", "details": {"intro": {"text": "a.md"}, "steps": "a.md"}, "backend": {"imageid": "ubuntu"}}`, "lab/index.json:1: `steps` must be a list, not a text; write it between [ and ]"},
		"step of wrong type":   {`{"title": "T", "details": {"steps": [7, {"title": "A", "text": "a.md"}]}, "backend": {"imageid": "ubuntu"}}`, "lab/index.json:1: a step must be an object, not a number; write it between { and }"},
		"assets of wrong type": {`{"title": "T", "details": {"steps": [{"title": "A", "text": "a.md"}], "assets": ["x"]}, "backend": {"imageid": "ubuntu"}}`, "lab/index.json:1: `assets` must be an object, not a list; write {\"host01\": [ … ]}"},
		"no image":             {`{"title": "T", "details": {"steps": [{"title": "A", "text": "a.md"}]}}`, "lab/index.json:1: the scenario names no image; it gets the sandbox that all labs have; write `\"backend\": {\"imageid\": \"ubuntu\"}`"},
	} {
		l, mistakes := Load(folder(index(c.settings)), "lab")
		if l == nil || len(l.Steps) == 0 {
			t.Errorf("%s: it did not load:\n%s", name, told(mistakes))
			continue
		}
		if got := told(mistakes); got != c.want {
			t.Errorf("%s: it said\n%s\nwant\n%s", name, got, c.want)
		}
		for _, m := range mistakes {
			if !m.Warn {
				t.Errorf("%s: no warning: %v", name, m)
			}
		}
	}
}

func TestPagesBesideDetails(t *testing.T) {
	l, said := loaded(t, map[string]string{
		"lab/index.json": `{"title": "T", "intro": {"text": "i.md"}, "details": {"steps": [{"text": "a.md"}], "finish": {"text": "f.md"}}, "finish": {"text": "other.md"}, "backend": {"imageid": "ubuntu"}}`,
		"lab/i.md":       "First.\n", "lab/a.md": "Text.\n", "lab/f.md": "Last.\n", "lab/other.md": "Another.\n",
	}, "lab")
	if !strings.Contains(l.Intro.HTML, "First.") || !strings.Contains(l.Finish.HTML, "Last.") || len(l.Steps) != 1 {
		t.Errorf("%+v", l)
	}
	if !strings.Contains(said, "`intro` stands beside `details`;") || !strings.Contains(said, "`finish` stands beside `details`, and is left out") {
		t.Error(said)
	}
}

func TestScenarioInYAML(t *testing.T) {
	files := index("")
	delete(files, "lab/index.json")
	files["lab/index.yaml"] = "title: T\ntime: 1 hour\ndetails:\n  steps:\n    - title: A\n      text: a.md\n    - title: B\n      text: b.md\nbackend:\n  imageid: ubuntu\n"
	l, said := loaded(t, files, "lab")
	if l.Format != labs.FormatOReilly || l.Minutes != 60 || len(l.Steps) != 2 || said != "lab/index.yaml:8: the text `b.md` cannot be read: there is no such file" {
		t.Errorf("%q %d %d\n%s", l.Format, l.Minutes, len(l.Steps), said)
	}
}

func TestFormats(t *testing.T) {
	for name, c := range map[string]struct {
		settings, text string
		want           labs.Format
	}{
		"katacoda":              {`"environment": {"uilayout": "terminal"}`, "`ls`{{execute}}", labs.FormatKatacoda},
		"a challenge":           {`"type": "challenge@0.8", "environment": {}`, "", labs.FormatOReilly},
		"an interface":          {`"interface": {"layout": "ide"}, "environment": {}`, "", labs.FormatKillercoda},
		"nothing but a machine": {`"backend": {"imageid": "ubuntu"}`, "", labs.FormatKillercoda},
		"a mark":                {`"environment": {}`, "`ls`{{exec}}", labs.FormatKillercoda},
	} {
		l, _ := loaded(t, map[string]string{"index.json": `{"title": "T", "details": {"steps": [{"title": "A", "text": "a.md"}]}, ` + c.settings + `}`, "a.md": "Text. " + c.text + "\n"}, ".")
		if l.Format != c.want {
			t.Errorf("%s: %q, want %q", name, l.Format, c.want)
		}
	}
}

func TestPlaces(t *testing.T) {
	for id, want := range map[string]string{
		"ubuntu": "runs", "ubuntu:2004": "runs", "ubuntu2004": "runs", "ubuntu-4GB": "runs", "Ubuntu": "runs", "ubuntu20.04": "runs", "docker": "runs", "bash": "runs",
		"bash1804": "runs", "docker-swarm": "runs 2", "swarm": "runs 2", "docker-golang": "runs", "git": "runs", "envoy-docker": "runs",
		"nodejs:12": "runs, lacks", "python:3.8": "runs, lacks", "golang": "runs, lacks", "rlang:3.4": "runs, lacks", "openjdk:15": "runs, lacks", "java": "runs, lacks",
		"kubernetes": "Kubernetes", "kubernetes-cluster-running:1.18": "Kubernetes", "kubernetes-kubeadm-2nodes": "Kubernetes", "minikube-running": "Kubernetes", "openshift-4-7": "Kubernetes",
		"kubernetes-k3s-1node": "Kubernetes", "conjur-poc-cluster-running": "Kubernetes",
		"rhel8-3": "other", "daml-sdk-env": "other", "datastax-oss-cassandra": "other", "rainbow": "other", "javanese": "other",
	} {
		p := placeOf(id)
		got := "runs"
		switch {
		case strings.Contains(p.cannot, "Kubernetes"):
			got = "Kubernetes"
		case p.cannot != "":
			got = "other"
		case p.hosts == 2:
			got = "runs 2"
		}
		if p.lacks != "" {
			got += ", lacks"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

func TestMinutes(t *testing.T) {
	for s, want := range map[string]int{"": 0, "15 minutes": 15, "20-25 minutes": 25, "10": 10, "1 hour": 60, "1-2 hours": 120, "1.5 hours": 90, "1h 30m": 90, "90 minuten": 90, "15 minutes (to get going)": 15,
		"Undefined": 0, "4 hours": 240, "5 to 10 min": 10, "99999999999999999999 hours": 1000, "2 Std": 120} {
		if got := minutes(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

func TestLevels(t *testing.T) {
	for s, want := range map[string]string{"Beginner": "beginner", "easy": "beginner", "Introduction": "beginner", "Principiante-Intermedio": "beginner", "Medium": "intermediate", "advance": "advanced", "Unsure": ""} {
		if got := levelOf(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func TestCommandsOnTheFirstAndLastPageRun(t *testing.T) {
	l, _ := loaded(t, map[string]string{
		"index.json": `{"title": "T", "details": {"intro": {"text": "i.md", "background": "b.sh"}, "steps": [{"text": "a.md"}], "finish": {"text": "f.md"}}, "backend": {"imageid": "ubuntu"}}`,
		"i.md":       "`echo hello`{{exec}}\n", "a.md": "Text.\n", "f.md": "# The end\n\n`echo bye`{{exec}}\n", "b.sh": "true\n",
	}, ".")
	if len(l.Steps) != 3 {
		t.Fatalf("%d steps", len(l.Steps))
	}
	first, step, last := l.Steps[0], l.Steps[1], l.Steps[2]
	if first.Title != "Introduction" || len(first.Commands) != 1 || len(first.Arrival.Setup) != 1 || step.Title != "Step 1" || last.Title != "Finish" || len(last.Commands) != 1 {
		t.Errorf("%+v\n%+v\n%+v", first, step, last)
	}
}

func TestHiddenPages(t *testing.T) {
	l, _ := loaded(t, map[string]string{
		"index.json": `{"title": "T", "details": {"intro": {"text": "i.md", "code": "b.sh"}, "steps": [{"text": "a.md"}], "finish": {"text": "a.md"}}, "environment": {"hideintro": true, "hidefinish": true}, "backend": {"imageid": "ubuntu"}}`,
		"i.md":       "Hidden.\n", "a.md": "Text.\n", "b.sh": "true\n",
	}, ".")
	if l.Intro.HTML != "" || l.Finish.HTML != "" || len(l.Intro.Arrival.Type) != 1 {
		t.Errorf("%+v %+v", l.Intro, l.Finish)
	}
}

func TestTrafficFile(t *testing.T) {
	l, _ := loaded(t, map[string]string{
		"index.json": `{"title": "T", "details": {"intro": {"background": "b.sh"}, "steps": [{"text": "a.md", "verify": "v.sh"}]}, "backend": {"imageid": "ubuntu"}}`,
		"a.md":       "`sed 's/PORT/80/g' /etc/killercoda/host`{{exec}}\n", "b.sh": "#!/bin/bash\ntrue\n", "v.sh": "curl -s https://[[HOST_SUBDOMAIN]]-80-[[KATACODA_HOST]].environments.katacoda.com/ok\n",
	}, ".")
	l = l.For("somebody", func(host, port int) string { return fmt.Sprintf("http://%d-abc.preview.localhost:8080", port) })
	setup := l.Intro.Arrival.Setup
	if len(setup) != 1 || !strings.HasPrefix(setup[0].Code, "#!/bin/bash\naddress='http://54321-abc.preview.localhost:8080'\n") || !strings.Contains(setup[0].Code, "> /etc/killercoda/host\ntrue\n") {
		t.Errorf("setup: %+v", setup)
	}
	if got := l.Steps[0].Checks[0].Script; got != "curl -s http://host01:80/ok\n" {
		t.Errorf("verify: %q", got)
	}
}

func TestSecondHost(t *testing.T) {
	l, said := loaded(t, map[string]string{
		"index.json": `{"title": "T", "details": {"steps": [{"text": "a.md"}], "assets": {"host02": [{"file": "x", "target": "/x"}]}}, "environment": {"uilayout": "terminal-terminal"}, "backend": {"imageid": "ubuntu"}}`,
		"a.md":       "`ls`{{execute HOST2}}\n", "assets/x": "x",
	}, ".")
	if l.Hosts != 2 || len(l.Assets) != 1 || l.Assets[0].Host != 2 || l.Steps[0].Commands[0].Terminal != "1@2" || l.Terminals[1].Name != "2@2" || said != "" {
		t.Errorf("%d %+v %+v %+v\n%s", l.Hosts, l.Assets, l.Steps[0].Commands, l.Terminals, said)
	}
}

func TestHelpersThatDoNotExist(t *testing.T) {
	files := index(`{"title": "T", "details": {"intro": {"text": "a.md", "code": "go.sh"}, "steps": [{"text": "a.md"}], "assets": {"host01": [{"file": "katacoda-mine", "target": "/usr/local/bin"}]}}, "backend": {"imageid": "ubuntu"}}`)
	files["lab/go.sh"] = "clear\nuntil launch.sh; do sleep 1; done; katacoda-mine\ncd katacoda-scenarios\necho hi > /tmp/x\n"
	files["lab/assets/katacoda-mine"] = "#!/bin/sh\n"
	_, said := loaded(t, files, "lab")
	if want := "lab/go.sh:2: the command `launch.sh` was part of the machines that this lab was made for, and does not exist here; a learner can leave it out"; said != want {
		t.Errorf("it said\n%s", said)
	}
}

func TestPlaygroundWithoutText(t *testing.T) {
	l, _ := loaded(t, map[string]string{"index.json": `{"title": "T", "description": "Try <things>.", "details": {}, "backend": {"imageid": "ubuntu"}}`}, ".")
	if len(l.Steps) != 1 || !strings.Contains(l.Steps[0].HTML, "Try &lt;things&gt;.") {
		t.Errorf("%+v", l)
	}
}
