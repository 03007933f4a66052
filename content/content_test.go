package content_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/content"
	"berth/labs/markdown"
)

func TestLabsLoadWithoutAnyMistake(t *testing.T) {
	lessons, mistakes := markdown.LoadAll(content.Labs())
	for _, m := range mistakes {
		t.Error(m.Error())
	}
	if len(lessons) == 0 {
		t.Fatal("no labs")
	}
	recipes, err := fs.ReadDir(content.Images(), ".")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range recipes {
		known[r.Name()] = true
	}
	for _, l := range lessons {
		if l.Summary == "" || l.Level == "" || l.Minutes == 0 || l.Finish == "" {
			t.Errorf("%s: summary, level, minutes and a finish belong to every lab of ours", l.ID)
		}
		if !known[l.Image] {
			t.Errorf("%s: no recipe makes the sandbox image %q", l.ID, l.Image)
		}
		for _, p := range l.Pulls {
			if p.Standin != "" && !known[p.Standin] {
				t.Errorf("%s: no recipe makes the stand-in %q", l.ID, p.Standin)
			}
		}
		for _, s := range l.Steps {
			if len(s.Checks) == 0 {
				t.Errorf("%s: step %s has no check", l.ID, s.ID)
			}
			if len(s.Solution.Commands) == 0 {
				t.Errorf("%s: step %s has no solution", l.ID, s.ID)
			}
			for _, c := range s.Checks {
				if c.Hint == "" {
					t.Errorf("%s: check %s has no hint", l.ID, c.ID)
				}
				for _, cmd := range s.Solution.Commands {
					if strings.Contains(c.Hint, cmd) {
						t.Errorf("%s: the hint of check %s gives the command away", l.ID, c.ID)
					}
				}
			}
		}
	}
}

// The sandbox has no internet, so that a command that needs it could only fail.
func TestLabCommandsAreShellAndStayInside(t *testing.T) {
	lessons, _ := markdown.LoadAll(content.Labs())
	for _, l := range lessons {
		for _, s := range l.Steps {
			commands := append([]string{}, s.Solution.Commands...)
			for _, c := range s.Commands {
				commands = append(commands, c.Code)
			}
			for _, c := range s.Checks {
				if c.Script != "" {
					commands = append(commands, c.Script)
				}
			}
			for _, c := range commands {
				if out, err := parse(t, c); err != nil {
					t.Errorf("%s: %s: %q: %v: %s", l.ID, s.ID, c, err, out)
				}
				for _, word := range []string{"curl ", "wget ", "git clone", "http://", "https://"} {
					if strings.Contains(c, word) {
						t.Errorf("%s: %s: %q reaches out of the sandbox", l.ID, s.ID, c)
					}
				}
			}
		}
	}
}

func parse(t *testing.T, script string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-n")
	cmd.Stdin = strings.NewReader(script + "\n")
	return cmd.CombinedOutput()
}

func TestBusyboxStaticMakesASystemThatRuns(t *testing.T) {
	dir := t.TempDir()
	script, err := fs.ReadFile(content.Labs(), "container-image/files/busybox-static")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(script), "#!") {
		t.Fatal("a script without #! is not made executable in the learner's home")
	}
	path := filepath.Join(dir, "busybox-static")
	if err := os.WriteFile(path, script, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v: %s", name, args, err, out)
		}
		return string(out)
	}
	for range 2 { // a learner may run it again
		run("./busybox-static", "busybox")
	}
	root := filepath.Join(dir, "busybox")
	if out := run("chroot", root, "/bin/sh", "-c", "cd /sbin && ./ip -V; /usr/bin/wc -c /bin/busybox | /usr/bin/awk '{print $2}'"); !strings.Contains(out, "/bin/busybox") {
		t.Errorf("in the new root: %q", out)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "bin sbin usr" {
		t.Errorf("the new root holds %s, the lesson shows bin sbin usr", got)
	}

	// The check of the step, run as the sandbox runs it.
	lessons, _ := markdown.LoadAll(content.Labs())
	tried := false
	for _, l := range lessons {
		for _, s := range l.Steps {
			for _, c := range s.Checks {
				if c.Script == "" || l.ID != "container-image" {
					continue
				}
				tried = true
				for home, want := range map[string]bool{dir: true, t.TempDir(): false} {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					cmd := exec.CommandContext(ctx, "bash", "-c", c.Script)
					cmd.Env = append(os.Environ(), "HOME="+home)
					err := cmd.Run()
					cancel()
					if (err == nil) != want {
						t.Errorf("check %s in %s: %v, want success: %v", c.ID, home, err, want)
					}
				}
			}
		}
	}
	if !tried {
		t.Error("the lab has no check that runs the new system")
	}
}

// The checks of container-image that look at commands accept what a learner
// may just as well type, and nothing that only looks like it.
func TestContainerImageAcceptsOtherWays(t *testing.T) {
	lessons, _ := markdown.LoadAll(content.Labs())
	patterns := map[string]*regexp.Regexp{}
	for _, l := range lessons {
		for _, s := range l.Steps {
			for _, c := range s.Checks {
				if l.ID != "container-image" {
					continue
				}
				if c.Ran != nil {
					patterns[c.ID] = c.Ran.Pattern
				}
				if c.Container != nil {
					patterns[c.ID] = regexp.MustCompile(c.Container.Command)
				}
			}
		}
	}
	for id, c := range map[string]struct{ yes, no []string }{
		"look-around/1": {
			yes: []string{"cat repositories", "cat image/repositories", "less ~/image/repositories", "cd image; cat repositories", "jq . < /root/redis/index.json",
				"cat repositories | jq", "tar -xOf redis.tar repositories", "tar xf redis.tar -O repositories", "tar --to-stdout -xf redis.tar repositories",
				"cat image/repositories || cat image/index.json", "head -n1 image/repositories", "python3 -m json.tool image/index.json", "grep redis image/repositories"},
			no: []string{"ls repositories", "rm repositories", "cat manifest.json", "tar -xvf redis.tar repositories", "cat x; ls repositories", "cat x && rm index.json", "echo repositories"},
		},
		"look-around/2": {
			yes: []string{"cat manifest.json", "jq . image/manifest.json", "jq -r '.[0].Layers[]' image/manifest.json", "more manifest.json", "vim image/manifest.json",
				"cat image/manifest.json | python3 -m json.tool", "tar -xOf redis.tar manifest.json | jq ."},
			no: []string{"ls -l manifest.json", "tar -xvf redis.tar manifest.json", "cat repositories", "cat manifestxjson"},
		},
		"see-why-it-cannot-start/1": {
			yes: []string{"docker run empty", "docker run --rm empty sh", "docker container run -it empty:latest /bin/sh", "docker create empty", "sudo docker run --name e empty true"},
			no:  []string{"docker run redis:3.2.11-alpine", "docker rmi empty", "docker images empty", "docker run emptyish sh", "docker run redis true; echo empty", "docker pull empty"},
		},
		"start-a-container/1": {
			yes: []string{"cat /release", "/bin/cat /release", "cat release", "sh -c cat /release", "busybox cat /release"},
			no:  []string{"cat /etc/os-release", "ls /release", "cat /releases", "sh", "cat"},
		},
	} {
		re := patterns[id]
		if re == nil {
			t.Errorf("there is no check %s that looks at commands; there are %v", id, patterns)
			continue
		}
		for _, s := range c.yes {
			if !re.MatchString(s) {
				t.Errorf("%s refuses %q", id, s)
			}
		}
		for _, s := range c.no {
			if re.MatchString(s) {
				t.Errorf("%s accepts %q", id, s)
			}
		}
		delete(patterns, id)
	}
	for id := range patterns {
		t.Errorf("check %s looks at commands and is not tried here", id)
	}
}
