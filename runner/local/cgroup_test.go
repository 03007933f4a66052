package local

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/labs"
)

// writeFiles fills a directory with files.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCgroupLayouts(t *testing.T) {
	base := t.TempDir()
	writeFiles(t, base, map[string]string{"cgroup.controllers": "cpuset cpu io memory pids\n"})
	poor := t.TempDir()
	writeFiles(t, poor, map[string]string{"cgroup.controllers": "cpu\n"})
	line := func(point, kind, options string) string {
		return fmt.Sprintf("30 20 0:26 / %s rw,nosuid shared:4 - %s cgroup %s\n", point, kind, options)
	}
	for _, c := range []struct {
		name, base, mounts string
		v2                 bool
		memory             string
		all                int
		fails              string
	}{
		{"version 2", base, line(base, "cgroup2", "rw,nsdelegate"), true, base, 1, ""},
		{"version 1, some together", base, line(base+"/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct") + line(base+"/memory", "cgroup", "rw,memory") + line(base+"/pids", "cgroup", "rw,pids") + line(base+"/systemd", "cgroup", "rw,xattr,name=systemd"), false, base + "/memory", 4, ""},
		{"both", base, line(base+"/unified", "cgroup2", "rw") + line(base+"/cpu", "cgroup", "rw,cpu") + line(base+"/memory", "cgroup", "rw,memory") + line(base+"/pids", "cgroup", "rw,pids"), false, base + "/memory", 4, ""},
		{"seen twice", base, line(base+"/cpu", "cgroup", "rw,cpu") + line(base+"/memory", "cgroup", "rw,memory") + line(base+"/pids", "cgroup", "rw,pids") + line(base+"/pids2", "cgroup", "rw,pids"), false, base + "/memory", 3, ""},
		{"no memory", base, line(base+"/cpu", "cgroup", "rw,cpu") + line(base+"/pids", "cgroup", "rw,pids"), false, "", 0, `"memory"`},
		{"version 2 without memory", poor, line(poor, "cgroup2", "rw"), false, "", 0, `"memory"`},
		{"nothing", base, "", false, "", 0, `"cpu"`},
	} {
		got, err := parseCgroups(strings.NewReader(c.mounts), "berth", c.base)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v, want an error about %s", c.name, err, c.fails)
			}
			continue
		}
		if err != nil || got.v2 != c.v2 || got.roots["memory"] != c.memory || len(got.all) != c.all {
			t.Errorf("%s: %+v %v", c.name, got, err)
		}
	}
}

func TestUsageOfVersion2(t *testing.T) {
	root := t.TempDir()
	writeFiles(t, filepath.Join(root, "berth", "box"), map[string]string{
		"cpu.stat":          "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
		"memory.current":    "90000000\n",
		"memory.stat":       "anon 50000000\nfile 35000000\nkernel 5000000\nshmem 10000000\ninactive_file 1\n",
		"memory.events":     "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n",
		"pids.current":      "17\n",
		"pids.events":       "max 0\n",
		"inner/pids.events": "max 4\n",
	})
	c := &cgroups{name: "berth", v2: true, all: []string{root}, roots: map[string]string{"cpu": root, "memory": root, "pids": root}}
	got, err := c.usage("box")
	want := labs.Usage{Memory: 65000000, Processes: 17, CPU: 1500 * time.Millisecond, OOMKills: 2, ForkFails: 4}
	if err != nil || got != want {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
}

// TestLimitsOfVersion2 looks at what is written where.
func TestLimitsOfVersion2(t *testing.T) {
	root := t.TempDir()
	controllers := map[string]string{
		"cgroup.controllers": "cpu memory pids", "cgroup.subtree_control": "", "cpu.weight": "", "cpu.max": "",
		"memory.max": "", "memory.swap.max": "", "pids.max": "", "cgroup.max.descendants": "",
	}
	for _, dir := range []string{"", "berth", "berth/box", "berth/box/inner"} {
		writeFiles(t, filepath.Join(root, dir), controllers)
	}
	c := &cgroups{name: "berth", v2: true, all: []string{root}, roots: map[string]string{"cpu": root, "memory": root, "pids": root}}
	if err := errors.Join(c.open(), c.create("box", labs.Limits{Memory: 1 << 28, CPU: 1.5, Processes: 99}), c.delegate("box", 12345)); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cgroup.subtree_control":           "+pids", // the last one
		"berth/cgroup.subtree_control":     "+pids",
		"berth/box/cgroup.subtree_control": "+pids",
		"berth/box/memory.max":             "268435456",
		"berth/box/memory.swap.max":        "0",
		"berth/box/cpu.max":                "150000 100000",
		"berth/box/pids.max":               "99",
	} {
		if got, err := os.ReadFile(filepath.Join(root, file)); err != nil || !strings.HasPrefix(string(got), want) { // plain files keep the end of what was longer
			t.Errorf("%s: %q %v, want %q", file, got, err, want)
		}
	}
	for path, want := range map[string]uint32{"inner": 12345, "inner/cgroup.subtree_control": 12345, "": 0, "memory.max": 0, "inner/memory.max": 0} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(root, "berth/box", path), &st); err != nil || st.Uid != want {
			t.Errorf("%q belongs to %d, want %d, %v", path, st.Uid, want, err)
		}
	}
}

// TestKillInVersion2 uses a real hierarchy, whichever controllers it has.
func TestKillInVersion2(t *testing.T) {
	base := "/sys/fs/cgroup"
	if _, err := os.Stat(base + "/cgroup.controllers"); errors.Is(err, fs.ErrNotExist) {
		base += "/unified"
	}
	root, err := os.MkdirTemp(base, "berth-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Rmdir(root) })
	c := &cgroups{name: "berth", v2: true, all: []string{root}, roots: map[string]string{"pids": root}}
	inner := c.path(root, "box", "inner")
	for _, dir := range []string{c.path(root), c.path(root, "box"), inner, inner + "/docker", inner + "/docker/a"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.delegate("box", 12345); err != nil {
		t.Error(err)
	}
	cmd := exec.CommandContext(within(t, 20*time.Second), "sh", "-c", "sleep 100 & sleep 100 & echo up; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(inner+"/docker/a", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	cmd.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	pids, err := c.processes("box")
	if err != nil || len(pids) != 3 {
		t.Errorf("processes %v %v, want three", pids, err)
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	if err := c.kill("box"); err != nil {
		t.Error(err)
	}
	if err := <-waited; err == nil {
		t.Error("it ended by itself")
	}
	for _, pid := range pids {
		if startTime(pid) != 0 {
			t.Errorf("process %s is still there", strconv.Itoa(pid))
		}
	}
	if err := errors.Join(c.remove("box"), c.remove("box"), c.close()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(root); err != nil {
		t.Error(err)
	} else {
		for _, e := range left {
			if e.IsDir() {
				t.Errorf("left: %s", e.Name())
			}
		}
	}
}
