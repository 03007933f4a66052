package agent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/labs"
)

func TestNameHost(t *testing.T) {
	const local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	for _, c := range []struct{ name, before, after string }{
		{"no file", "", local + "127.0.1.1\tbox\n"},
		{"empty file", "\x00", local + "127.0.1.1\tbox\n"},
		{"others", "127.0.0.1 localhost\n", "127.0.0.1 localhost\n127.0.1.1\tbox\n"},
		{"no newline at the end", "127.0.0.1 localhost", "127.0.0.1 localhost\n127.0.1.1\tbox\n"},
		{"there already", "127.0.0.1 localhost box\n", "127.0.0.1 localhost box\n"},
		{"only part of a name", "127.0.0.1 box.example boxes\n", "127.0.0.1 box.example boxes\n127.0.1.1\tbox\n"},
		{"only in a comment", "# the name: box\n127.0.0.1 localhost # box\n", "# the name: box\n127.0.0.1 localhost # box\n127.0.1.1\tbox\n"},
		{"only as an address", "box other\n", "box other\n127.0.1.1\tbox\n"},
	} {
		hosts := filepath.Join(t.TempDir(), "hosts")
		if c.before != "" {
			must(t, os.WriteFile(hosts, []byte(strings.Trim(c.before, "\x00")), 0o644))
		}
		for range 2 { // the second time there is nothing to do
			if err := nameHost(hosts, "box"); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if b, err := os.ReadFile(hosts); err != nil || string(b) != c.after {
				t.Errorf("%s: %q, %v; want %q", c.name, b, err, c.after)
			}
		}
	}
}

func TestDelegateCgroup(t *testing.T) {
	for _, c := range []struct {
		name    string
		files   map[string]string
		want    map[string]string // afterwards; of what is written the last stays
		isError bool
	}{
		{"v1", map[string]string{"tasks": "1\n"}, map[string]string{"tasks": "1\n"}, false},
		{"v2", map[string]string{"cgroup.controllers": "cpu memory pids\n", "cgroup.procs": "1\n7\n", "cgroup.subtree_control": ""},
			map[string]string{"init/cgroup.procs": "7", "cgroup.subtree_control": "+pids"}, false},
		{"v2 without controllers", map[string]string{"cgroup.controllers": "\n", "cgroup.procs": "1\n", "cgroup.subtree_control": ""},
			map[string]string{"init/cgroup.procs": "1", "cgroup.subtree_control": ""}, false},
		{"v2 again", map[string]string{"cgroup.controllers": "cpu\n", "cgroup.procs": "", "cgroup.subtree_control": "", "init/cgroup.procs": "1"},
			map[string]string{"init/cgroup.procs": "1", "cgroup.subtree_control": "+cpu"}, false},
		{"v2 that passes nothing on", map[string]string{"cgroup.controllers": "cpu\n", "cgroup.procs": "1\n", "cgroup.subtree_control/is-a-folder": ""}, nil, true},
		{"v2 without processes file", map[string]string{"cgroup.controllers": "cpu\n"}, nil, true},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
			must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
		}
		if err := delegateCgroup(root); (err != nil) != c.isError {
			t.Errorf("%s: %v", c.name, err)
		}
		for name, want := range c.want {
			if b, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(b) != want {
				t.Errorf("%s: %s holds %q, %v; want %q", c.name, name, b, err, want)
			}
		}
	}
}

// With the kernel's own files: all processes move, and controllers, where this
// machine has any, are passed on.
func TestDelegateRealCgroup(t *testing.T) {
	var top string
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(dir + "/cgroup.controllers"); err == nil {
			top = dir
		}
	}
	if top == "" {
		t.Fatal("this test needs a cgroup v2 hierarchy")
	}
	root := filepath.Join(top, "berth-agent-test-"+strconv.Itoa(os.Getpid()))
	must(t, os.Mkdir(root, 0o755))
	sleep := exec.Command("sleep", "1000")
	must(t, sleep.Start())
	t.Cleanup(func() {
		sleep.Process.Kill()
		sleep.Wait()
		eventually(t, "the groups are removed", func() bool {
			os.Remove(root + "/init")
			err := os.Remove(root)
			return err == nil || os.IsNotExist(err)
		})
	})
	must(t, os.WriteFile(root+"/cgroup.procs", []byte(strconv.Itoa(sleep.Process.Pid)), 0o644))
	must(t, delegateCgroup(root))
	must(t, delegateCgroup(root))
	for name, want := range map[string]string{"cgroup.procs": "", "init/cgroup.procs": strconv.Itoa(sleep.Process.Pid)} {
		if b, err := os.ReadFile(filepath.Join(root, name)); err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("%s holds %q, %v; want %q", name, b, err, want)
		}
	}
	have, _ := os.ReadFile(root + "/cgroup.controllers")
	passed, _ := os.ReadFile(root + "/cgroup.subtree_control")
	if strings.TrimSpace(string(have)) != strings.TrimSpace(string(passed)) {
		t.Errorf("of %q only %q are passed on", have, passed)
	}
}

func TestMainWithoutRunner(t *testing.T) {
	if status := Main("1", []string{"-help"}); status != 2 {
		t.Errorf("with an argument: %d", status)
	}
}

// As PID 1 the agent heeds no signal but SIGTERM, and its children are as if
// it ignored none.
func TestAsPID1(t *testing.T) {
	const asMain = "BERTH_TEST_MAIN"
	if os.Getenv(asMain) != "" {
		os.Exit(Main("test", nil))
	}
	dir, err := os.MkdirTemp("", "berth-pid1-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := listenUnix(t, dir+"/agent.sock")
	passed, err := l.File()
	must(t, err)
	var log bytes.Buffer
	// The agent works on /run, /var/run and /etc/hosts: it gets its own.
	script := `mount -t tmpfs none /run && mkdir -p ` + dir + `/etc && cp -a /etc/. ` + dir + `/etc && mount --bind ` + dir + `/etc /etc &&
		if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mount -t tmpfs none /sys/fs/cgroup; fi && exec "$0" -test.run='^TestAsPID1$'`
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command("unshare", "--pid", "--fork", "--mount", "--uts", "--net", "--mount-proc", "--kill-child", "sh", "-c", script, self)
	cmd.Env = append(os.Environ(), asMain+"=1")
	cmd.ExtraFiles = []*os.File{passed}
	cmd.Stderr = &log
	must(t, cmd.Start())
	passed.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill() // and with it PID 1
		if t.Failed() {
			t.Logf("the agent said:\n%s", &log)
		}
	})
	run := func(script string) (out string, exit int) {
		t.Helper()
		conn, err := net.Dial("unix", dir+"/agent.sock")
		must(t, err)
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(within)))
		must(t, func() error {
			_, err := conn.Write([]byte("POST " + PathExec + " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: " + Upgrade + "\r\n\r\n"))
			return err
		}())
		in := bufio.NewReader(conn)
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode != 101 {
			t.Fatalf("exec: %v, %v", res, err)
		}
		frames := NewFrameConn(conn, in)
		spec, err := json.Marshal(ExecSpec{Args: []string{"bash", "-c", script}})
		must(t, err)
		must(t, frames.WriteFrame(labs.Frame{Kind: ExecStart, Payload: spec}))
		for {
			f, err := frames.ReadFrame()
			if err != nil {
				return out, -1 // the agent has ended
			}
			switch f.Kind {
			case ExecStdout, ExecStderr:
				out += string(f.Payload)
			case ExecExit:
				return out, int(int32(binary.BigEndian.Uint32(f.Payload)))
			default:
				t.Fatalf("frame %c %q", f.Kind, f.Payload)
			}
		}
	}
	if out, exit := run(`tr '\0' ' ' < /proc/1/cmdline; getent hosts "$(hostname)" > /dev/null || echo nameless`); exit != 0 || strings.Contains(out, "nameless") {
		t.Errorf("PID 1 is %q, exit %d", out, exit)
	}
	if out, _ := run(`yes | head -1 > /dev/null; echo ${PIPESTATUS[0]}; echo $((0x$(awk '/SigIgn/ {print $2}' /proc/self/status) & 0x7fffffff))`); out != "141\n0\n" { // from 32 on they are the C library's own
		t.Errorf("signals are ignored in what the agent starts: %q", out)
	}
	if out, exit := run(`for s in HUP INT QUIT ILL TRAP ABRT BUS FPE SEGV PIPE ALRM USR1 USR2 STKFLT SYS XCPU IO KILL STOP TSTP; do kill -$s 1 || exit 1; done; sleep 0.2; echo alive`); out != "alive\n" {
		t.Errorf("after all signals: %q, exit %d", out, exit)
	}
	if out, _ := run("echo again"); out != "again\n" {
		t.Errorf("after all signals: %q", out)
	}
	// Orphans are reaped.
	if out, _ := run(`(sleep 0.1 &) ; (true &); sleep 0.5; ps -eo stat= | grep -c Z`); strings.TrimSpace(out) != "0" {
		t.Errorf("%s zombies", out)
	}
	run("setsid sleep 1000 & kill -TERM 1; wait")
	select {
	case err := <-ended:
		if exit := cmd.ProcessState.ExitCode(); exit != 0 {
			t.Errorf("after SIGTERM: %v, %v", err, syscall.WaitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus)))
		}
	case <-time.After(within):
		t.Error("it does not heed SIGTERM")
	}
}
