package content_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/content"
	"berth/labs"
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
		if l.Summary == "" || l.Level == "" || l.Minutes == 0 || l.Finish.HTML == "" {
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
				if c.Hint == "" && c.Quiz == nil {
					t.Errorf("%s: check %s has no hint", l.ID, c.ID)
				}
				for _, cmd := range s.Solution.Commands {
					if strings.Contains(c.Hint, cmd.Code) {
						t.Errorf("%s: the hint of check %s gives the command away", l.ID, c.ID)
					}
				}
			}
		}
	}
}

// own is asking a server of the sandbox itself.
var own = regexp.MustCompile(`\bcurl -s localhost:[0-9]+\S*`)

// The sandbox has no internet, so that a command that needs it could only fail.
func TestLabCommandsAreShellAndStayInside(t *testing.T) {
	lessons, _ := markdown.LoadAll(content.Labs())
	for _, l := range lessons {
		for _, s := range l.Steps {
			var commands []string
			for _, c := range append(slices.Clone(s.Commands), s.Solution.Commands...) {
				commands = append(commands, own.ReplaceAllString(c.Code, ""))
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

// The checks that look at commands accept what a learner may just as well
// type, and nothing that only looks like it.
func TestChecksAcceptOtherWays(t *testing.T) {
	lessons, mistakes := markdown.LoadAll(content.Labs())
	if len(lessons) == 0 {
		t.Fatal(mistakes)
	}
	patterns := map[string]*regexp.Regexp{}
	for _, l := range lessons {
		for _, s := range elba(l).Steps {
			for _, c := range s.Checks {
				if c.Ran != nil {
					patterns[l.ID+"/"+c.ID] = c.Ran.Pattern
				}
				if c.Container != nil && c.Container.Command != "" {
					patterns[l.ID+"/"+c.ID] = regexp.MustCompile(c.Container.Command)
				}
				if c.Port != nil && c.Port.Body.Matches != nil {
					patterns[l.ID+"/"+c.ID] = c.Port.Body.Matches
				}
			}
		}
	}
	for id, c := range map[string]struct{ yes, no []string }{
		"container-image/look-around/1": {
			yes: []string{"cat repositories", "cat image/repositories", "less ~/image/repositories", "cd image; cat repositories", "jq . < /root/redis/index.json",
				"cat repositories | jq", "tar -xOf redis.tar repositories", "tar xf redis.tar -O repositories", "tar --to-stdout -xf redis.tar repositories",
				"cat image/repositories || cat image/index.json", "head -n1 image/repositories", "python3 -m json.tool image/index.json", "grep redis image/repositories"},
			no: []string{"ls repositories", "rm repositories", "cat manifest.json", "tar -xvf redis.tar repositories", "cat x; ls repositories", "cat x && rm index.json", "echo repositories"},
		},
		"container-image/look-around/2": {
			yes: []string{"cat manifest.json", "jq . image/manifest.json", "jq -r '.[0].Layers[]' image/manifest.json", "more manifest.json", "vim image/manifest.json",
				"cat image/manifest.json | python3 -m json.tool", "tar -xOf redis.tar manifest.json | jq ."},
			no: []string{"ls -l manifest.json", "tar -xvf redis.tar manifest.json", "cat repositories", "cat manifestxjson"},
		},
		"container-image/see-why-it-cannot-start/1": {
			yes: []string{"docker run empty", "docker run --rm empty sh", "docker container run -it empty:latest /bin/sh", "docker create empty", "sudo docker run --name e empty true"},
			no:  []string{"docker run redis:3.2.11-alpine", "docker rmi empty", "docker images empty", "docker run emptyish sh", "docker run redis true; echo empty", "docker pull empty"},
		},
		"container-image/start-a-container/1": {
			yes: []string{"cat /release", "/bin/cat /release", "cat release", "sh -c cat /release", "busybox cat /release"},
			no:  []string{"cat /etc/os-release", "ls /release", "cat /releases", "sh", "cat"},
		},
		"first-container/find-it-from-outside/2": {
			yes: []string{"docker exec box ps", "docker exec -it box sh", "docker container exec box ps aux", "docker exec -ti box /bin/sh", "docker exec box top -b -n1"},
			no:  []string{"docker exec box", "ps", "docker ps", "docker run busybox:1.37 ps", "docker exec other ps"},
		},
		"first-container/find-it-from-outside/3": {
			yes: []string{"ps -ef --forest", "ps aux", "ps aux | grep sleep", "pgrep -x sleep", "pstree -p", "sudo ps", "top", "docker top box", "pidof sleep"},
			no:  []string{"docker ps", "docker exec box ps", "docker ps -a", "echo ps", "docker top other", "psql"},
		},
		"first-container/end-it-from-outside/2": {
			yes: []string{"kill -9 $(pgrep -x sleep)", "kill -KILL 236", "sudo kill -9 236", "pkill -9 sleep", "killall -KILL sleep", "pgrep -x sleep | xargs kill -9", "cd; kill -9 236"},
			no:  []string{"docker kill box", "docker stop box", "docker exec box kill 1", "echo kill", "docker container kill box"},
		},
		"first-container/compare-the-views/1": {
			yes: []string{"ls -l /proc/$pid/ns", "sudo lsns", "lsns -p $pid", "readlink /proc/236/ns/pid", "for k in pid net; do readlink /proc/$$/ns/$k /proc/$pid/ns/$k; done"},
			no:  []string{"ls /proc", "cat /proc/236/status", "ls /proc/1; ls ns"},
		},
		"first-container/step-inside/1": {
			yes: []string{"nsenter --target $pid --uts hostname", "nsenter -t 236 -n ip addr", "sudo nsenter --target=236 --net ip addr", "nsenter -at 236 ps"},
			no:  []string{"nsenter --help", "nsenter", "docker exec box hostname", "echo nsenter; ls -t"},
		},
		"first-container/step-inside/2": {
			yes: []string{"nsenter --target $pid --uts hostname elba", "nsenter -t 236 -u hostname elba", "nsenter -ut 236 hostname elba", "nsenter -t $(docker inspect -f '{{.State.Pid}}' box) -u hostname 'elba'",
				"sudo nsenter --uts --target 236 /bin/hostname elba", "nsenter -t 236 -u -n hostname elba", "nsenter --target 236 --all hostname elba", "nsenter -t 236 -a hostname elba"},
			no: []string{"hostname elba", "nsenter -t 236 -n hostname elba", "nsenter -t 236 -u hostname", "nsenter -t 236 -u hostname capri", "nsenter -t 236 -u hostname elbas", "docker exec box hostname elba", "nsenter -t 236 -u ls; hostname elba"},
		},
		"first-container/write-a-file/1": {
			yes: []string{"docker diff box", "docker container diff box", "sudo docker diff box"},
			no:  []string{"diff box", "docker diff", "docker diff other", "docker diff boxes"},
		},
		"first-container/write-a-file/3": {
			yes: []string{"cat /notes/note", "head -n1 /notes/note", "/bin/cat /notes/note", "sh -c cat /notes/note"},
			no:  []string{"cat /note", "ls /notes", "sh -c echo elba > /notes/note; true"},
		},
		"first-container/set-a-limit/1": {
			yes: []string{"docker run --rm --memory 32m busybox:1.37 sh -c 'cat /sys/fs/cgroup/memory.max || cat /sys/fs/cgroup/memory/memory.limit_in_bytes'",
				"docker exec box cat /sys/fs/cgroup/memory.max", "cat /sys/fs/cgroup/memory/docker/3f1c/memory.limit_in_bytes", "grep . /sys/fs/cgroup/docker/3f1c/memory.max", "cd /sys/fs/cgroup/memory && head memory.limit_in_bytes"},
			no: []string{"ls /sys/fs/cgroup/memory.max", "cat /sys/fs/cgroup/memory.current", "docker run --memory 32m busybox:1.37 true", "echo memory.max", "cat x; ls memory.max"},
		},
		"first-container/make-one-by-hand/2": {
			yes: []string{"Content\n\nHost name: elba\n\nAll processes there are:\nPID   USER     COMMAND\n    1 root     httpd -f -p 8080 -h /www\n    3 root     ps\n",
				"Host name: elba\n\nPID USER TIME COMMAND\n   1 root      0:00 {httpd} busybox httpd -f\n"},
			no: []string{"Host name: capri\n\nPID   USER     COMMAND\n    1 root     httpd -f\n", "Host name: elba\n\nPID   USER     COMMAND\n    1 root     /sbin/init\n  581 root     httpd -f -p 8080\n",
				"Host name: elba\n\nPID   USER     COMMAND\n    1 root     sh\n    2 root     httpd -f\n", "Host name: elba\n\nPID   USER     COMMAND\n   11 root     httpd\n"},
		},
		"first-container/make-one-by-hand/3": {
			yes: []string{"unshare --uts --pid --fork --mount-proc sh", "sudo unshare --fork --pid chroot rootfs sh", "unshare -fp --mount-proc chroot rootfs sh", "unshare -mpf chroot rootfs sh &", "unshare --uts \\\n  --pid --fork sh"},
			no:  []string{"unshare --uts sh", "unshare", "docker run busybox:1.37 sh", "unshare --net ps"},
		},
		"image-layers/take-the-layers-apart/1": {
			yes: []string{"docker history site:1", "docker image history site:1", "docker history --no-trunc site:1", "sudo docker history site:1 | head"},
			no:  []string{"history site:1", "docker history busybox:1.37", "docker history site:2", "docker history; echo site:1", "docker images site:1"},
		},
		"image-layers/take-the-layers-apart/2": {
			yes: []string{"docker image inspect -f '{{range .RootFS.Layers}}{{println .}}{{end}}' busybox:1.37 site:1", "docker inspect site:1", "docker inspect site:1 | jq '.[].RootFS'", "docker image inspect site:1 --format '{{json .RootFS}}'"},
			no:  []string{"docker inspect busybox:1.37", "docker history site:1", "docker inspect web", "docker inspect site:2"},
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

// elba gives a lesson as the learner with that island has it.
func elba(l *labs.Lesson) *labs.Lesson {
	n := *l
	n.Vars = slices.Clone(l.Vars)
	for i := range n.Vars {
		if n.Vars[i].Name == "island" {
			n.Vars[i] = labs.Var{Name: "island", Value: "elba"}
		}
	}
	return n.For("", func(_, port int) string { return fmt.Sprintf("http://%d.example", port) })
}
