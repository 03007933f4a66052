package verify

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/labs"
)

// TestEngineChecks takes every kind of check that asks the engine from red to
// green, in one engine.
func TestEngineChecks(t *testing.T) {
	e := startEngine(t)
	e.load(t, "base", shell(map[string]string{
		"release": "KatacodaPrivateBuild\n", "usr/": "/", "usr/lib/": "/", "usr/lib/os-release": "ID=test\n",
		"etc/os-release": "->../usr/lib/os-release", "etc/absolute": "->/etc/os-release", "loop": "->loop",
		"outside": "->../../../../../../release", "data/": "/",
	}))
	// Each case gets a tag of base, so that cases do not see one another's.
	tests := []struct {
		name  string
		check labs.Check
		do    func(t *testing.T, e *realEngine)
		seen  string // in what is seen before
		after string // in what is seen after
		undo  func(t *testing.T, e *realEngine)
	}{
		{
			name:  "image by reference",
			check: labs.Check{Image: &labs.ImageCheck{Ref: "docker.io/library/plain:latest"}},
			do:    func(t *testing.T, e *realEngine) { e.must(t, "tag", "base", "plain") },
			seen:  "there is no image `plain:latest`", after: "is in your engine",
			undo: func(t *testing.T, e *realEngine) { e.must(t, "rmi", "plain") },
		},
		{
			name:  "image of another tag",
			check: labs.Check{Image: &labs.ImageCheck{Ref: "tagged:2"}},
			do: func(t *testing.T, e *realEngine) {
				e.must(t, "tag", "base", "tagged:1")
				e.must(t, "tag", "base", "tagged:2")
			},
			seen: "there is no image `tagged:2`",
		},
		{
			name: "image with everything",
			check: labs.Check{Image: &labs.ImageCheck{
				Ref: "full", Layers: labs.Number{Op: '=', Value: 1}, Size: labs.Number{Op: '>', Value: 100_000},
				Entrypoint: []string{"/bin/cat"}, Cmd: []string{"/release"}, Env: []string{"A=b", "PATH"}, Label: []string{"one", "two=2"},
			}},
			do: func(t *testing.T, e *realEngine) {
				e.load(t, "full", shell(nil), `ENTRYPOINT ["/bin/cat"]`, `CMD ["/release"]`, "ENV A=b", "ENV PATH=/bin", "LABEL one=1", "LABEL two=2")
			},
			seen: "there is no image",
		},
		{
			name:  "empty image",
			check: labs.Check{Image: &labs.ImageCheck{Ref: "empty", Size: labs.Number{Op: '=', Value: 0}, Path: "/release", Text: labs.TextRule{Exists: ptr(false)}}},
			do: func(t *testing.T, e *realEngine) {
				out, exit := e.docker(t, bytes.NewReader(make([]byte, 1024)), "image", "import", "-", "empty")
				if exit != 0 {
					t.Fatal(out)
				}
			},
			seen: "there is no image", after: "there is no `/release`",
		},
		{
			name:  "file of an image",
			check: labs.Check{Image: &labs.ImageCheck{Ref: "filed", Path: "/release", Text: labs.TextRule{Equals: ptr("KatacodaPrivateBuild")}}},
			do:    func(t *testing.T, e *realEngine) { e.must(t, "tag", "base", "filed") },
			after: `reads "KatacodaPrivateBuild"`,
		},
		{
			name:  "file of an image through links",
			check: labs.Check{Image: &labs.ImageCheck{Ref: "linked", Path: "/etc/absolute", Text: labs.TextRule{Matches: regexp.MustCompile(`^ID=test`)}}},
			do:    func(t *testing.T, e *realEngine) { e.must(t, "tag", "base", "linked") },
		},
		{
			name:  "file of an image through a link that leads out",
			check: labs.Check{Image: &labs.ImageCheck{Ref: "outer", Path: "outside", Text: labs.TextRule{Contains: "Private"}}},
			do:    func(t *testing.T, e *realEngine) { e.must(t, "tag", "base", "outer") },
		},
		{
			name:  "file of an image below a file",
			check: labs.Check{Image: &labs.ImageCheck{Ref: "below", Path: "/release/x", Text: labs.TextRule{Exists: ptr(false)}}},
			do:    func(t *testing.T, e *realEngine) { e.must(t, "tag", "base", "below") },
		},
		{
			name:  "container by name and state",
			check: labs.Check{Container: &labs.ContainerCheck{Name: "web", State: "running", Mounts: []string{"/data", "/scratch"}, Memory: labs.Number{Op: '<', Value: 64 << 20}}},
			do: func(t *testing.T, e *realEngine) {
				e.must(t, "run", "-d", "--network", "none", "--name", "web", "-v", "vol:/data", "--tmpfs", "/scratch", "-m", "32m", "base", "sleep", "60")
			},
			seen: "there is no such container", after: "`web` is running",
			undo: func(t *testing.T, e *realEngine) { e.must(t, "rm", "-f", "web") },
		},
		{
			name:  "container that publishes",
			check: labs.Check{Container: &labs.ContainerCheck{Name: "pub", State: "created", Publishes: []string{"8080:80", "80", "53:53/udp"}}},
			do: func(t *testing.T, e *realEngine) {
				e.must(t, "create", "--network", "none", "--name", "pub", "-p", "8080:80", "-p", "53:53/udp", "base", "true")
			},
		},
		{
			name:  "container that failed",
			check: labs.Check{Container: &labs.ContainerCheck{Image: "base", Command: "^false", Exit: labs.Number{Op: '>'}}},
			do: func(t *testing.T, e *realEngine) {
				e.docker(t, nil, "run", "--network", "none", "base", "true")
				e.docker(t, nil, "run", "--network", "none", "base", "false")
			},
			after: "ended with exit status 1",
		},
		{
			name:  "container that could not start",
			check: labs.Check{Container: &labs.ContainerCheck{Image: "base", Command: "^nonsense", State: "created", Exit: labs.Number{Op: '=', Value: 127}}},
			do:    func(t *testing.T, e *realEngine) { e.docker(t, nil, "run", "--network", "none", "base", "nonsense") },
		},
		{
			name: "container of an image by id that printed to both streams",
			check: labs.Check{Container: &labs.ContainerCheck{Image: "base", Command: "both", State: "exited",
				Logs: labs.TextRule{Matches: regexp.MustCompile(`(?s)out.*err|err.*out`)}}},
			do: func(t *testing.T, e *realEngine) {
				id := e.must(t, "inspect", "-f", "{{.Id}}", "base")
				e.must(t, "run", "--network", "none", id[7:30], "sh", "-c", "echo out; echo err >&2 # both")
			},
			after: "printed what is expected",
		},
		{
			name: "container whose log comes late",
			check: labs.Check{Container: &labs.ContainerCheck{Name: "late", State: "running",
				Logs: labs.TextRule{Contains: "ready"}}},
			do: func(t *testing.T, e *realEngine) {
				e.must(t, "run", "-d", "--network", "none", "--name", "late", "base", "sh", "-c", "sleep 1; echo ready; sleep 60")
			},
			undo: func(t *testing.T, e *realEngine) { e.must(t, "rm", "-f", "late") },
		},
		{
			name:  "container that removed itself",
			check: labs.Check{Container: &labs.ContainerCheck{Image: "base", Command: "^cat /release$", State: "exited", Exit: labs.Number{Op: '='}, Logs: labs.TextRule{Equals: ptr("KatacodaPrivateBuild")}}},
			do: func(t *testing.T, e *realEngine) {
				e.must(t, "run", "--rm", "--network", "none", "base", "cat", "/release")
			},
		},
		{
			name:  "container that keeps no log",
			check: labs.Check{Container: &labs.ContainerCheck{Name: "nolog", Logs: labs.TextRule{Equals: ptr("KatacodaPrivateBuild")}}},
			do: func(t *testing.T, e *realEngine) {
				e.must(t, "run", "--log-driver", "none", "--name", "nolog", "--network", "none", "base", "sh", "-c", "sleep 1; cat /release")
			},
		},
		{
			name:  "volume",
			check: labs.Check{Volume: "shelf"},
			do:    func(t *testing.T, e *realEngine) { e.must(t, "volume", "create", "shelf") },
			seen:  "there is no volume named `shelf`",
			undo:  func(t *testing.T, e *realEngine) { e.must(t, "volume", "rm", "shelf") },
		},
		{
			name:  "network",
			check: labs.Check{Network: "backyard"},
			do: func(t *testing.T, e *realEngine) {
				e.must(t, "network", "create", "--internal", "backyard")
			},
			seen: "there is no network named `backyard`",
			undo: func(t *testing.T, e *realEngine) { e.must(t, "network", "rm", "backyard") },
		},
		{
			name:  "no longer a volume",
			check: labs.Check{Volume: "gone", Not: true},
			do: func(t *testing.T, e *realEngine) {
				e.must(t, "volume", "create", "gone")
				time.Sleep(300 * time.Millisecond) // nothing tells that the opposite was seen
				e.must(t, "volume", "rm", "gone")
			},
			seen: NotYet,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBox(t, e.socket)
			test.check.ID = "c"
			o, _ := watching(t, verifier(t), b, test.check)
			r := o.until("c", 8*time.Second, func(r labs.Result) bool { return true })
			if r.Status != labs.Failed || !strings.Contains(r.Seen, test.seen) {
				t.Fatalf("before: %+v, want failed and %q", r, test.seen)
			}
			test.do(t, e)
			r = o.untilStatus("c", labs.Passed)
			if !strings.Contains(r.Seen, test.after) {
				t.Errorf("after: seen %q, want %q", r.Seen, test.after)
			}
			t.Logf("expected %s; seen %s", r.Expected, r.Seen)
			if test.undo != nil {
				test.undo(t, e)
				o.untilStatus("c", labs.Failed)
			}
			if left := e.left(t); len(left) > 0 {
				t.Errorf("containers left: %v", left)
			}
		})
	}
}
