package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/labs"
)

// TestStuckProcessesDoNotOutliveTheirSandbox has a learner put processes where
// even a kill does not reach them, with nothing but the groups that are theirs.
func TestStuckProcessesDoNotOutliveTheirSandbox(t *testing.T) {
	b := open(t, testConfig(t))
	if b.groups.v2 {
		t.Log("version 2: frozen processes can be killed; only the limits are tried")
	}
	for name, script := range map[string]string{
		"frozen": `cd /sys/fs/cgroup/freezer 2>/dev/null || cd /sys/fs/cgroup
			mkdir -p a/b; sleep 1000 >/dev/null 2>&1 & echo $! > a/b/cgroup.procs
			sleep 0.3; if [ -e a/freezer.state ]; then echo FROZEN > a/freezer.state; echo FROZEN > a/b/freezer.state; else echo 1 > a/cgroup.freeze; fi`,
		"written to a disk of a byte a second": `cd /sys/fs/cgroup/blkio 2>/dev/null || exit 0
			mkdir a; echo "$(awk '$5 == "/var/lib/docker" { print $3 }' /proc/self/mountinfo) 1" > a/blkio.throttle.write_bps_device || exit 1
			sh -c 'echo $$ > a/cgroup.procs; exec dd if=/dev/zero of=/var/lib/docker/x bs=1M count=8 oflag=direct' >/dev/null 2>&1 &
			sleep 0.5`,
		"starved of the processor": `cd /sys/fs/cgroup/cpu 2>/dev/null || cd /sys/fs/cgroup
			mkdir a; if [ -e a/cpu.cfs_quota_us ]; then echo 1000000 > a/cpu.cfs_period_us; echo 1000 > a/cpu.cfs_quota_us; fi
			for i in 1 2 3 4 5 6 7 8; do sh -c 'echo $$ > a/cgroup.procs; while :; do :; done' >/dev/null 2>&1 & done; sleep 0.5`,
	} {
		t.Run(name, func(t *testing.T) {
			x := start(t, b, labs.Spec{})
			x.must(t, script)
			begun := time.Now()
			if err := x.Destroy(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("its end took %v", took)
			}
		})
	}
}

// TestGroupsNestedBeyondAnyPathAreRemoved has a learner nest groups until their
// path is longer than a call takes, and than there are descriptors.
func TestGroupsNestedBeyondAnyPathAreRemoved(t *testing.T) {
	b := open(t, testConfig(t))
	x := start(t, b, labs.Spec{})
	long := strings.Repeat("n", 250)
	x.must(t, `cd /sys/fs/cgroup/pids 2>/dev/null || cd /sys/fs/cgroup
		i=0; while [ $i -lt 40 ]; do mkdir `+long+` && cd -P `+long+` || exit 1; i=$((i+1)); done
		sleep 1000 >/dev/null 2>&1 & echo $! > cgroup.procs`)
	if _, err := x.Usage(t.Context()); err != nil {
		t.Errorf("measure it: %v", err)
	}
	if err := x.Destroy(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(b.groups.path(b.groups.roots["pids"]), x.ID())); !os.IsNotExist(err) {
		t.Errorf("its group is left: %v", err)
	}
}

// TestGroupsWithoutEndAreNoticed has a learner make groups, which version 1
// neither limits nor charges to anybody.
func TestGroupsWithoutEndAreNoticed(t *testing.T) {
	b := open(t, testConfig(t))
	x, neighbour := start(t, b, labs.Spec{}), start(t, b, labs.Spec{})
	const try = "mkdir $(seq 5000 6100) 2>/dev/null; ls -d [56]??? | wc -l"
	if b.groups.v2 {
		if made := strings.TrimSpace(x.must(t, "cd /sys/fs/cgroup; "+try)); made == "1101" {
			t.Error("all could be made")
		}
		return
	}
	tried := 0
	for _, root := range b.groups.all {
		dir := "/sys/fs/cgroup/" + filepath.Base(root)
		made, _, err := x.run(within(t, 30*time.Second), "cd "+dir+" && "+try)
		if err != nil {
			t.Fatal(err)
		}
		_, err = x.Usage(t.Context())
		var p *labs.Problem
		noticed := errors.As(err, &p) && errors.Is(err, labs.ErrGone)
		could := strings.Contains(made, "1101")
		if noticed != could {
			t.Errorf("%s: could make them %v (%q), and its usage says %v", dir, could, made, err)
		}
		if could {
			tried++
		}
		if _, err := neighbour.Usage(t.Context()); err != nil {
			t.Errorf("%s: the neighbour: %v", dir, err)
		}
		x.must(t, "cd "+dir+" && rmdir [56]??? 2>/dev/null; true")
	}
	if _, err := x.Usage(t.Context()); err != nil || tried < len(needed) {
		t.Errorf("%d hierarchies were tried; after the groups were removed: %v", tried, err)
	}
}

// TestAgentsThatDoNotAnswerHoldTheStartUpOnce has learners keep their agents from
// answering while the server is restarted.
func TestAgentsThatDoNotAnswerHoldTheStartUpOnce(t *testing.T) {
	cfg := testConfig(t)
	b, err := New(within(t, 30*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		x, err := b.Start(within(t, 30*time.Second), labs.Spec{Image: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(x.(*box).rec.PID, unix.SIGSTOP); err != nil {
			t.Error(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := New(within(t, 30*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	left, err := next.Adopt(within(t, time.Minute))
	if took := time.Since(began); err != nil || len(left) > 0 || took > 2*agentPatience {
		t.Errorf("adopted %d in %v, %v", len(left), took, err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}

// TestWalkOfATreeHoldsOneDescriptor keeps the depth of a learner's groups from
// costing the server its descriptors.
func TestWalkOfATreeHoldsOneDescriptor(t *testing.T) {
	top := t.TempDir()
	dir := top
	for range 300 {
		dir = filepath.Join(dir, "d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir+"2", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lowest, highest, entered, left := 1<<30, 0, 0, 0
	err := groupTree{
		enter: func(group int) error {
			lowest, highest = min(lowest, group), max(highest, group)
			entered++
			return nil
		},
		leave: func(parent int, name string) error {
			left++
			return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
		},
	}.walk(top)
	if err != nil || entered != 601 || left != 600 || highest-lowest > 20 {
		t.Errorf("%v, entered %d, left %d, descriptors %d to %d", err, entered, left, lowest, highest)
	}
	if entries, err := os.ReadDir(top); err != nil || len(entries) > 0 {
		t.Errorf("left over: %v %v", entries, err)
	}
}
