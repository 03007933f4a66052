package verify

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"berth/labs"
)

// tickGoal is how soon after its command's end a tick must appear.
const tickGoal = 300 * time.Millisecond

// TestTick measures, with a real engine and the real command line, the time
// from the end of a command to the tick.
func TestTick(t *testing.T) {
	e := startEngine(t)
	e.load(t, "busybox", shell(map[string]string{"release": "KatacodaPrivateBuild\n"}))
	// An image archive of the size that real ones have.
	big := make(map[string]string)
	for i := range 50 {
		big[fmt.Sprintf("usr/share/%d", i)] = string(bytes.Repeat([]byte{byte(i)}, 2<<20))
	}
	e.load(t, "big", big)
	release := rootfs(t, shell(map[string]string{"release": "KatacodaPrivateBuild\n"}))

	tests := []struct {
		name  string
		check labs.Check
		run   func(b *box, n int) (stdin []byte, args []string)
	}{
		{"docker tag", labs.Check{Image: &labs.ImageCheck{Ref: "tagged"}},
			func(*box, int) ([]byte, []string) { return nil, []string{"tag", "busybox", "tagged"} }},
		{"docker import, file of the image", labs.Check{Image: &labs.ImageCheck{Ref: "made", Path: "/release", Text: labs.TextRule{Equals: ptr("KatacodaPrivateBuild")}}},
			func(_ *box, n int) ([]byte, []string) {
				return release, []string{"import", "-m", fmt.Sprint(n), "-", "made"}
			}},
		{"docker run", catRelease, func(*box, int) ([]byte, []string) {
			return nil, []string{"run", "--network", "none", "busybox", "cat", "/release"}
		}},
		{"docker run --rm", catRelease, func(*box, int) ([]byte, []string) {
			return nil, []string{"run", "--rm", "--network", "none", "busybox", "cat", "/release"}
		}},
		{"docker save of 100 MB", labs.Check{File: &labs.FileCheck{Path: "~/big.tar", Archive: "big"}},
			func(b *box, _ int) ([]byte, []string) {
				return nil, []string{"save", "-o", filepath.Join(b.home, "big.tar"), "big"}
			}},
	}
	for _, test := range tests {
		var took []time.Duration
		for n := range 5 {
			b := newBox(t, e.socket)
			test.check.ID = "c"
			o, stop := watching(t, verifier(t), b, test.check)
			o.untilStatus("c", labs.Failed)
			stdin, args := test.run(b, n)
			cmd := exec.Command("docker", append([]string{"-H", "unix://" + e.socket}, args...)...)
			cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(e.dir, "config"))
			cmd.Stdin = bytes.NewReader(stdin)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", test.name, err, out)
			}
			end := time.Now()
			b.ran("docker", 0)
			o.untilStatus("c", labs.Passed)
			took = append(took, max(0, time.Since(end)))
			stop()
			e.docker(t, nil, "rmi", "tagged", "made")
			e.docker(t, nil, "container", "prune", "-f")
		}
		slices.Sort(took)
		t.Logf("%-34s median %v, worst %v (goal %v)", test.name, took[len(took)/2].Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond), tickGoal)
		// The fastest says what the code takes, whatever else the machine does.
		if limit := tickGoal * slowdown; took[0] > limit {
			t.Errorf("%s: a tick takes %v, goal %v", test.name, took[0], limit)
		}
	}
}
