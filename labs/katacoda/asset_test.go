package katacoda

import (
	"io/fs"
	"strings"
	"testing"
	"time"
)

func TestAssetPatterns(t *testing.T) {
	files := map[string]string{}
	for _, name := range []string{"conf.yaml", "run.sh", "app1/readme.md", "app1/etc/app/app.json", "app1/config/app.json", "app2/cnf/cnf.yaml", "noext"} {
		files["lab/assets/"+name] = "x"
	}
	for pattern, want := range map[string]string{
		"conf.yaml":           "conf.yaml",
		"./conf.yaml":         "conf.yaml",
		"/conf.yaml":          "conf.yaml",
		"app1/readme.md":      "readme.md",
		"*":                   "conf.yaml noext run.sh",
		"*.yaml":              "conf.yaml",
		"*.{yaml,sh}":         "conf.yaml run.sh",
		"**":                  "app1/config/app.json app1/etc/app/app.json app1/readme.md app2/cnf/cnf.yaml conf.yaml noext run.sh",
		"**/*":                "app1/config/app.json app1/etc/app/app.json app1/readme.md app2/cnf/cnf.yaml conf.yaml noext run.sh",
		"**/*.*":              "app1/config/app.json app1/etc/app/app.json app1/readme.md app2/cnf/cnf.yaml conf.yaml run.sh",
		"**/*.json":           "app1/config/app.json app1/etc/app/app.json",
		"app1/**/*.*":         "config/app.json etc/app/app.json readme.md",
		"app1/*/*.json":       "config/app.json",
		"app*/*.*":            "app1/readme.md",
		"app*/**/*.*":         "app1/config/app.json app1/etc/app/app.json app1/readme.md app2/cnf/cnf.yaml",
		"app1/**":             "config/app.json etc/app/app.json readme.md",
		"app1":                "app1/config/app.json app1/etc/app/app.json app1/readme.md",
		"app1/etc":            "etc/app/app.json",
		"app?/readme.md":      "app1/readme.md",
		"../../../etc/passwd": "",
		"nothing/*":           "",
		"**/**/**/readme.md":  "app1/readme.md",
	} {
		tree := &assetTree{root: folder(files), dir: "lab/assets"}
		found, err := tree.match(cleanName(pattern))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			got = append(got, f.rel)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", pattern, got, want)
		}
	}
}

func TestTargetsAndModes(t *testing.T) {
	for in, want := range map[string]string{"": "~/", "~": "~/", "~/": "~/", "~/a/": "~/a/", "/": "/", "/opt": "/opt/", "/opt//x/": "/opt/x/", "a/b": "~/a/b/", "/a/../../b": "/b/", "~/../../b": "~/b/", "$HOME/x": "~/x/", "~root/x": "no", "a\x00b": "no"} {
		got, ok := cleanTarget(in)
		if !ok {
			got = "no"
		}
		if got != want {
			t.Errorf("target %q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]fs.FileMode{"": 0, "+x": 0o755, "+w": 0, "+r": 0, "755": 0o755, "0600": 0o600, "777": 0o777, "4755": 0o755, "u+x": 0o744, "a+x": 0o755, "ugo+rwx": 0o777, "u=rwx,go=": 0o700, "a-r": 0o200, "999": 1, "u+z": 1, "rwx": 1} {
		got, ok := parseMode(in)
		if !ok {
			got = 1
		}
		if got != want {
			t.Errorf("mode %q: %o, want %o", in, got, want)
		}
	}
}

func TestGlobTakesBoundedTime(t *testing.T) {
	pattern := strings.Split(strings.Repeat("**/", 400)+strings.Repeat("*a", 200)+"b", "/")
	name := strings.Split(strings.Repeat("a/", 200)+strings.Repeat("a", 200), "/")
	begin := time.Now()
	for range 100 {
		if globMatch(pattern, name) {
			t.Fatal("it fits")
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("100 patterns took %v", took)
	}
	if n := len(braces(strings.Repeat("{a,b}", 40))); n > 64 {
		t.Errorf("%d patterns", n)
	}
}
