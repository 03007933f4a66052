package verify

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// A realEngine is a Docker Engine of its own for a test: in network, mount and
// pid namespaces of its own, so that it ends with everything it started.
type realEngine struct {
	socket string
	dir    string
	group  string // parent of its control groups

	mu  sync.Mutex
	cmd *exec.Cmd
}

// startEngine starts an engine and waits until it answers.
func startEngine(tb testing.TB) *realEngine {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Fatal("these tests start a Docker Engine, which takes root")
	}
	for _, name := range []string{"dockerd", "containerd", "runc", "unshare", "docker"} {
		if _, err := exec.LookPath(name); err != nil {
			tb.Fatalf("these tests start a Docker Engine, which takes the package docker.io: %v", err)
		}
	}
	// The path of a socket has room for 108 bytes.
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		tb.Fatal(err)
	}
	e := &realEngine{socket: filepath.Join(dir, "s"), dir: dir, group: filepath.Base(dir)}
	tb.Cleanup(func() {
		e.kill()
		e.sweepGroups(tb)
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("remove the engine's files: %v", err)
		}
	})
	e.start(tb)
	return e
}

func (e *realEngine) start(tb testing.TB) {
	tb.Helper()
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	os.Remove(filepath.Join(e.dir, "pid"))
	// In a new pid namespace its number is soon somebody else's, and dockerd
	// would wait for that to be containerd.
	os.Remove(filepath.Join(e.dir, "exec", "containerd", "containerd.pid"))
	cmd := exec.Command("unshare", "--net", "--mount", "--pid", "--mount-proc", "--kill-child", "dockerd",
		"--data-root", filepath.Join(e.dir, "data"), "--exec-root", filepath.Join(e.dir, "exec"),
		"--pidfile", filepath.Join(e.dir, "pid"), "-H", "unix://"+e.socket,
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--cgroup-parent", "/"+e.group, "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	e.mu.Lock()
	e.cmd = cmd
	e.mu.Unlock()
	cli := e.client(tb)
	eventually(tb, time.Minute, "the engine answers", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := cli.Ping(ctx)
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%w; its log:\n%s", err, text[max(0, len(text)-2000):])
		}
		return nil
	})
}

// kill ends the engine and everything it started.
func (e *realEngine) kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cmd == nil {
		return
	}
	// The end of the first process of a pid namespace is over when all others
	// in it have ended.
	if pid, err := e.process(); err == nil {
		syscall.Kill(pid, syscall.SIGKILL)
	} else {
		e.cmd.Process.Kill()
	}
	e.cmd.Wait()
	e.cmd = nil
}

// signal sends a signal to the engine's own process.
func (e *realEngine) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	pid, err := e.process()
	if err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Kill(pid, s); err != nil {
		tb.Fatal(err)
	}
}

// process gives the engine's own process.
func (e *realEngine) process() (int, error) {
	parent := e.cmd.Process.Pid
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(list)))
}

func (e *realEngine) sweepGroups(tb testing.TB) {
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + e.group)
	one, _ := filepath.Glob("/sys/fs/cgroup/" + e.group)
	for _, g := range append(groups, one...) {
		eventually(tb, 5*time.Second, "control groups go", func() error {
			var all []string
			filepath.WalkDir(g, func(p string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					all = append(all, p)
				}
				return nil
			})
			var err error
			for i := len(all) - 1; i >= 0; i-- {
				if e := os.Remove(all[i]); e != nil && !errors.Is(e, fs.ErrNotExist) {
					err = e
				}
			}
			return err
		})
	}
}

func (e *realEngine) client(tb testing.TB) *client.Client {
	tb.Helper()
	cli, err := client.NewClientWithOpts(client.WithHost("unix://"+e.socket), client.WithAPIVersionNegotiation())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { cli.Close() })
	return cli
}

// docker runs the command a learner would type.
func (e *realEngine) docker(tb testing.TB, stdin io.Reader, args ...string) (output string, exit int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", "unix://" + e.socket}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(e.dir, "config"))
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		tb.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must runs a command that has to succeed.
func (e *realEngine) must(tb testing.TB, args ...string) string {
	tb.Helper()
	out, exit := e.docker(tb, nil, args...)
	if exit != 0 {
		tb.Fatalf("docker %s: exit status %d: %s", strings.Join(args, " "), exit, out)
	}
	return strings.TrimSpace(out)
}

// load imports an image as docker import does.
func (e *realEngine) load(tb testing.TB, ref string, files map[string]string, changes ...string) {
	tb.Helper()
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	out, exit := e.docker(tb, bytes.NewReader(rootfs(tb, files)), append(args, "-", ref)...)
	if exit != 0 {
		tb.Fatalf("docker import %s: exit status %d: %s", ref, exit, out)
	}
}

// left lists the containers of looks that are in the engine.
func (e *realEngine) left(tb testing.TB) []string {
	tb.Helper()
	all, err := e.client(tb).ContainerList(context.Background(), container.ListOptions{All: true})
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, c := range all {
		if strings.Contains(strings.Join(c.Names, " "), lookName) {
			names = append(names, c.Names...)
		}
	}
	return names
}

// rootfs makes a tar file of files; "->x" is a symbolic link to x, "/" a
// folder, "busybox" a program that is /bin/busybox of this machine.
func rootfs(tb testing.TB, files map[string]string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg, ModTime: time.Unix(1, 0)}
		switch target, link := strings.CutPrefix(text, "->"); {
		case link:
			h.Typeflag, h.Linkname, h.Size, text = tar.TypeSymlink, target, 0, ""
		case text == "/":
			h.Typeflag, h.Size, h.Mode, text = tar.TypeDir, 0, 0o755, ""
		case text == "busybox":
			program, err := os.ReadFile("/bin/busybox")
			if err != nil {
				tb.Fatalf("these tests take the package busybox-static: %v", err)
			}
			h.Size, h.Mode, text = int64(len(program)), 0o755, string(program)
		}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// shell is a root file system with a shell in it, and more.
func shell(more map[string]string) map[string]string {
	files := map[string]string{"bin/busybox": "busybox"}
	for _, name := range []string{"sh", "cat", "echo", "sleep", "true", "yes", "false"} {
		files["bin/"+name] = "->busybox"
	}
	for name, text := range more {
		files[name] = text
	}
	return files
}

// eventually waits until try gives no error.
func eventually(tb testing.TB, limit time.Duration, what string, try func() error) {
	tb.Helper()
	end := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			tb.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A sham is an engine on a socket of its own that answers as a test says.
func sham(tb testing.TB, h http.Handler) (socket string) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sham")
	if err != nil {
		tb.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	tb.Cleanup(func() {
		s.Close()
		os.RemoveAll(dir)
	})
	return socket
}
