package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
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

// realEngine lets the agent start the machine's dockerd, in mount and network
// namespaces of its own, so that nothing of it is left. Each start adds a line
// to the file "starts".
func realEngine(t testing.TB, more ...string) func(*Config) {
	t.Helper()
	dockerd, err := exec.LookPath("dockerd")
	if err != nil {
		t.Fatalf("this test needs a Docker Engine: %v", err)
	}
	return func(c *Config) {
		dir := filepath.Dir(c.Home)
		c.Dockerd = filepath.Join(dir, "dockerd")
		must(t, os.WriteFile(c.Dockerd, []byte("#!/bin/sh\necho start >> "+dir+"/starts\nexec unshare --mount --net "+dockerd+` "$@"`+"\n"), 0o755))
		if _, err := os.Stat(c.DockerConfig); err != nil {
			must(t, os.WriteFile(c.DockerConfig, []byte("{}"), 0o644))
		}
		c.DockerArgs = append([]string{"--bridge=none", "--iptables=false", "--ip6tables=false",
			"--data-root=" + dir + "/data", "--config-file=" + c.DockerConfig}, more...)
		t.Cleanup(func() {
			if left := engineProcesses(dir); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// scriptedEngine is a program in the place of dockerd.
func scriptedEngine(t testing.TB, script string) func(*Config) {
	return func(c *Config) {
		dir := filepath.Dir(c.Home)
		c.Dockerd = filepath.Join(dir, "dockerd")
		must(t, os.WriteFile(c.Dockerd, []byte("#!/bin/bash\necho start >> "+dir+"/starts\n"+script+"\n"), 0o755))
	}
}

// engineProcesses lists the processes that name dir in their arguments.
func engineProcesses(dir string) (all []string) {
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), dir+"/") {
			all = append(all, filepath.Base(filepath.Dir(p))+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return all
}

func (r *rig) engineState() labs.EngineState {
	r.t.Helper()
	var h Health
	must(r.t, r.get(PathHealth, nil, &h))
	return h.Engine
}

func (r *rig) engineStarts() int {
	b, _ := os.ReadFile(filepath.Join(r.dir, "starts"))
	return strings.Count(string(b), "\n")
}

func (r *rig) enginePID() int {
	b, _ := os.ReadFile(r.cfg.EngineRun + ".pid")
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// docker runs the Docker command.
func (r *rig) docker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+r.cfg.Socket)
	b, err := cmd.CombinedOutput()
	return string(b), err
}

func TestEngineStartsWhenSomebodyConnectsAndAgainWhenItWasKilled(t *testing.T) {
	r := startAgent(t, realEngine(t))
	w := r.watch(labs.Watch{})
	phase := func(want string) labs.EngineState {
		t.Helper()
		c := w.next()
		if c.Engine == nil || c.Engine.Phase != want {
			t.Fatalf("told %+v; want the engine %s", c, want)
		}
		return *c.Engine
	}
	phase("off")
	if n := r.engineStarts(); n != 0 {
		t.Fatalf("%d starts before anybody connected", n)
	}
	began := time.Now()
	out, err := r.docker("version", "--format", "{{.Server.Version}}")
	if err != nil {
		log, _ := os.ReadFile(r.cfg.DockerLog)
		t.Fatalf("docker version: %v: %s\n%s", err, out, log)
	}
	t.Logf("the first answer of engine %s came after %v", strings.TrimSpace(out), time.Since(began))
	phase("starting")
	phase("ready")
	if out, err := r.docker("info", "--format", "{{.CgroupDriver}} {{.LoggingDriver}}"); err != nil || out != "cgroupfs json-file\n" {
		t.Errorf("docker info: %q, %v", out, err)
	}

	first := r.enginePID()
	must(t, syscall.Kill(first, syscall.SIGKILL))
	if s := phase("failed"); !strings.Contains(s.Reason, "killed") {
		t.Errorf("the reason is %q", s.Reason)
	}
	time.Sleep(2 * minBackoff) // nobody asks
	if n := r.engineStarts(); n != 1 {
		t.Errorf("after its end it was started %d times without need", n-1)
	}
	if out, err := r.docker("version"); err != nil {
		t.Fatalf("docker version after the kill: %v: %s", err, out)
	}
	phase("starting")
	phase("ready")
	if pid := r.enginePID(); pid == first || pid == 0 {
		t.Errorf("the new engine's process is %d, the old one's was %d", pid, first)
	}
	r.stop()
	if left := engineProcesses(r.dir); len(left) > 0 {
		t.Errorf("after the agent's end there is %q", left)
	}
	if _, err := net.Dial("unix", r.cfg.Socket); err == nil {
		t.Error("somebody still listens at the engine's socket")
	}
}

func TestEngineStartsAheadOfNeedWithTheLearnersConfiguration(t *testing.T) {
	r := startAgent(t, func(c *Config) {
		c.Mirror = "http://10.0.0.1:5000"
		// Each of these is also a flag of ours, and dockerd takes nothing twice.
		must(t, os.WriteFile(c.DockerConfig, []byte(`{"log-driver": "local", "log-opts": {"max-size": "1m"}, "shutdown-timeout": 1,
			"registry-mirrors": ["http://10.0.0.2:5000"], "exec-opts": ["native.cgroupdriver=cgroupfs"], "labels": ["mine=1"]}`), 0o644))
	}, realEngine(t))
	if status, b := r.ask("POST", PathEngineStart, nil, nil); status != http.StatusNoContent {
		t.Fatalf("start the engine: %d %s", status, b)
	}
	eventually(t, "the engine is ready", func() bool {
		s := r.engineState()
		if s.Phase == "failed" {
			t.Fatal(s.Reason)
		}
		return s.Phase == "ready"
	})
	out, err := r.docker("info", "--format", "{{.LoggingDriver}} {{.Labels}} {{.RegistryConfig.Mirrors}} {{index .RegistryConfig.IndexConfigs \"10.0.0.1:5000\"}}")
	if err != nil || !strings.HasPrefix(out, "local [mine=1] [http://10.0.0.2:5000/]") {
		t.Errorf("docker info: %s, %v", out, err)
	}
	if n := r.engineStarts(); n != 1 {
		t.Errorf("%d starts", n)
	}
}

func TestEngineThatCannotStartSaysWhyAndTriesWithPauses(t *testing.T) {
	r := startAgent(t, realEngine(t, "--no-such-flag"))
	const want = "unknown flag: --no-such-flag"
	began := time.Now()
	for time.Since(began) < 6*time.Second {
		out, err := r.docker("version")
		if err == nil || !strings.Contains(out, want) || !strings.Contains(out, r.cfg.DockerLog) {
			t.Fatalf("docker version: %v: %s", err, out)
		}
	}
	if s := r.engineState(); !strings.Contains(s.Reason, want) {
		t.Errorf("the engine is %+v", s)
	}
	// It pauses for 1, 2 and 4 seconds.
	if n := r.engineStarts(); n < 2 || n > 4 {
		t.Errorf("%d starts in %v", n, time.Since(began))
	}
	n := r.engineStarts()
	time.Sleep(5 * time.Second) // longer than the last pause
	if again := r.engineStarts(); again > n {
		t.Errorf("%d more starts that nobody asked for", again-n)
	}
}

func TestEngineReasons(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"daemon's last word", `echo 'time="x" level=error msg="an earlier one"'; echo 'failed to start daemon: no room'; echo 'time="x" level=info msg="bye"'; exit 1`, "failed to start daemon: no room"},
		{"unknown flag, of 28", `printf "Status: unknown flag: --x\nSee 'dockerd --help'., Code: 125\n"; exit 1`, "unknown flag: --x"},
		{"error in the log", `echo 'time="x" level=fatal msg="a \"quoted\" one" error="y"'; exit 1`, `a "quoted" one`},
		{"panic", `printf 'panic: ouch\n\ngoroutine 1 [running]:\nmain.main()\n'; exit 2`, "panic: ouch"},
		{"nothing", `exit 3`, "it ended with exit status 3"},
		{"killed", `kill -9 $$`, `it was ended by the signal "killed"`},
		{"ended well", `exit 0`, "it was stopped"},
		{"garbage", `head -c 100000 /dev/urandom; echo; exit 1`, ""},
		{"not executable", "", "Permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, r := newTestEngine(t, c.script)
			if c.script == "" {
				must(t, os.Chmod(e.cfg.Dockerd, 0o644))
			}
			served, reason := e.dockerd(t.Context())
			if served || !strings.Contains(reason, c.want) || len(reason) > maxReason || reason == "" {
				t.Errorf("served %t, reason %q; want %q", served, reason, c.want)
			}
			r.close()
		})
	}
}

// newTestEngine gives an engine that nobody runs.
func newTestEngine(t *testing.T, script string) (*engine, *reaper) {
	t.Helper()
	noGoroutinesLeft(t)
	dir := t.TempDir()
	cfg := Config{Home: filepath.Join(dir, "home"), Socket: filepath.Join(dir, "docker.sock"), DockerConfig: filepath.Join(dir, "daemon.json"),
		DockerLog: filepath.Join(dir, "docker.log"), EngineRun: filepath.Join(dir, "docker")}
	scriptedEngine(t, script)(&cfg)
	r := newReaper()
	e, err := newEngine(cfg.complete(), r)
	must(t, err)
	t.Cleanup(func() { e.socket.Close(); e.arrive.Close() })
	return e, r
}

func TestEngineThatDoesNotHeedSIGTERMIsKilled(t *testing.T) {
	r := startAgent(t, scriptedEngine(t, `trap "" TERM; sleep 1000 & while :; do wait; done`))
	r.ask("POST", PathEngineStart, nil, nil)
	eventually(t, "it was started", func() bool { return r.engineStarts() == 1 })
	began := time.Now()
	r.stop()
	if took := time.Since(began); took < stopTimeout || took > stopTimeout+5*time.Second {
		t.Errorf("the end took %v", took)
	}
	if left := engineProcesses(r.dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestEngineThatFailsIsNotStartedByItsOwnPing(t *testing.T) {
	r := startAgent(t, scriptedEngine(t, `sleep 0.3; exit 1`))
	r.ask("POST", PathEngineStart, nil, nil)
	eventually(t, "it failed", func() bool { return r.engineState().Phase == "failed" })
	time.Sleep(minBackoff + time.Second)
	if n := r.engineStarts(); n != 1 {
		t.Errorf("%d starts; one was asked for", n)
	}
	// A wish during the pause counts.
	r.ask("POST", PathEngineStart, nil, nil)
	eventually(t, "it was started again", func() bool { return r.engineStarts() == 2 })
}

func TestEngineMissing(t *testing.T) {
	r := startAgent(t)
	if s := r.engineState(); s.Phase != "off" || s.Reason == "" {
		t.Errorf("without dockerd the engine is %+v", s)
	}
	if status, _ := r.ask("POST", PathEngineStart, nil, nil); status != http.StatusNoContent {
		t.Errorf("start: %d", status)
	}
	if _, err := os.Stat(r.cfg.Socket); err == nil {
		t.Error("there is a socket that nobody serves")
	}
	_, b := r.ask("GET", PathHealth, nil, nil)
	t.Logf("%s", b)
}

func TestEngineSocketThatCannotBeMade(t *testing.T) {
	r := startAgent(t, scriptedEngine(t, "exit 0"), func(c *Config) {
		must(t, os.MkdirAll(filepath.Join(c.Socket, "not-empty"), 0o755))
	})
	if s := r.engineState(); s.Phase != "off" || s.Reason == "" {
		t.Errorf("the engine is %+v", s)
	}
}

// Dialling from outside starts the engine too; what it says comes through.
func TestEngineRefusesWithItsReason(t *testing.T) {
	r := startAgent(t, scriptedEngine(t, `echo "failed to start daemon: no space left on device"; exit 1`))
	conn, in := r.open("GET", PathDial, url.Values{"network": {"unix"}, "address": {labs.EngineSocket}})
	io.WriteString(conn, "GET /version HTTP/1.1\r\nHost: docker\r\n\r\n")
	res, err := http.ReadResponse(in, nil)
	must(t, err)
	defer res.Body.Close()
	var answer struct{ Message string }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != 503 || !strings.Contains(answer.Message, "no space left on device") {
		t.Errorf("%d %+v, %v", res.StatusCode, answer, err)
	}
}

func TestEngineArguments(t *testing.T) {
	for _, c := range []struct {
		name, config, mirror string
		with, without        []string
	}{
		{"plain", "", "", []string{"--pidfile=/r/docker.pid", "--exec-root=/r/docker", "--log-opt=max-size=10m", "--shutdown-timeout=2"}, []string{"--registry-mirror", "--insecure-registry"}},
		{"mirror", "", "http://10.1.2.3:5000", []string{"--registry-mirror=http://10.1.2.3:5000", "--insecure-registry=10.1.2.3:5000"}, nil},
		{"bad mirror", "", "::", nil, []string{"--registry-mirror"}},
		{"another log driver", `{"log-driver": "none"}`, "", []string{"--pidfile"}, []string{"--log-opt"}},
		{"own mirror", `{"registry-mirrors": [], "pidfile": "/p"}`, "http://10.1.2.3:5000", []string{"--insecure-registry"}, []string{"--registry-mirror", "--pidfile"}},
		{"no JSON", `{"pidfile": `, "", []string{"--pidfile"}, nil},
		{"another kind", `["pidfile"]`, "", []string{"--pidfile"}, nil},
	} {
		cfg := Config{DockerConfig: filepath.Join(t.TempDir(), "daemon.json"), EngineRun: "/r/docker", Mirror: c.mirror}
		if c.config != "" {
			must(t, os.WriteFile(cfg.DockerConfig, []byte(c.config), 0o644))
		}
		args := strings.Join((&engine{cfg: cfg}).arguments(), " ")
		for _, want := range c.with {
			if !strings.Contains(args, want) {
				t.Errorf("%s: %s is missing in %s", c.name, want, args)
			}
		}
		for _, other := range c.without {
			if strings.Contains(args, other) {
				t.Errorf("%s: %s is in %s", c.name, other, args)
			}
		}
	}
}

func TestAttackEngineConfigurationIsAFIFO(t *testing.T) {
	cfg := Config{DockerConfig: filepath.Join(t.TempDir(), "daemon.json")}
	must(t, syscall.Mkfifo(cfg.DockerConfig, 0o644))
	done := make(chan []string, 1)
	go func() { done <- (&engine{cfg: cfg}).arguments() }()
	select {
	case <-done:
	case <-time.After(within):
		t.Error("the FIFO was waited for")
	}
}

func TestEngineLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "docker.log")
	read, write, err := os.Pipe()
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		new(engineLog).follow(read, path)
	}()
	last := 0
	for sent := 0; sent < 5*maxDockerLog; last++ {
		n, err := fmt.Fprintf(write, "time=x level=info msg=%d %0*d\n", last, last%3000, 0)
		must(t, err)
		sent += n
	}
	write.Close()
	<-done
	read.Close()
	b, err := os.ReadFile(path)
	must(t, err)
	if len(b) > maxDockerLog+16<<10 || len(b) < keptDockerLog {
		t.Errorf("the log has %d bytes", len(b))
	}
	if !strings.Contains(string(b), fmt.Sprintf("msg=%d ", last-1)) {
		t.Error("the end is missing")
	}
}

func TestAttackEngineLogIsSomethingElse(t *testing.T) {
	dir := t.TempDir()
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	must(t, os.Symlink("/dev/full", filepath.Join(dir, "full")))
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	for _, name := range []string{"fifo", "full", "dir", "file/below"} {
		read, write, err := os.Pipe()
		must(t, err)
		done := make(chan string, 1)
		go func() {
			var log engineLog
			log.follow(read, filepath.Join(dir, name))
			done <- log.reason()
		}()
		must(t, write.SetWriteDeadline(time.Now().Add(within)))
		if _, err := write.Write(append(make([]byte, 1<<20), "\nthe reason\n"...)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: dockerd would wait for its log", name)
		}
		write.Close()
		if reason := <-done; reason != "the reason" {
			t.Errorf("%s: the reason is %q", name, reason)
		}
		read.Close()
	}
}
