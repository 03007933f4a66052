package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// images is where `berth image build` has put the sandbox images.
const images = "/var/lib/berth"

// built is the program under test, built once.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "berth-built-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "berth"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build berth: %w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := built(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// A program is a Berth server that runs as its operator would run it, with a
// state directory, a network and names of its own.
type program struct {
	t     *testing.T
	state string
	name  string
	args  []string
	url   string

	cmd    *exec.Cmd
	exited chan error
	mu     sync.Mutex
	stderr bytes.Buffer
}

var programs struct {
	sync.Mutex
	n int
}

// newProgram prepares a server; nothing of it is left when the test ends.
func newProgram(t *testing.T, args ...string) *program {
	t.Helper()
	programs.Lock()
	programs.n++
	n := programs.n
	programs.Unlock()
	state, err := os.MkdirTemp("/var/tmp", "berth-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(state, 0o711); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, state: state, name: fmt.Sprintf("bt%d", n)}
	p.args = append(p.own(), "--listen", "127.0.0.1:0", "--pool", "1", "--rate", "10000", "--log-level", "debug")
	p.args = append(p.args, args...)
	t.Cleanup(func() {
		p.stop()
		if out, err := p.run("sweep", p.own()...); err != nil {
			t.Errorf("sweep: %v: %s", err, out)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", p.log())
		}
		if err := os.RemoveAll(state); err != nil {
			t.Error(err)
		}
	})
	return p
}

// own are the flags that keep this server apart from others on the machine.
func (p *program) own() []string {
	n := strings.TrimPrefix(p.name, "bt")
	return []string{"--state", p.state, "--images", images, "--name", p.name, "--network", "10.22" + n[len(n)-1:] + ".0.0/16", "--first-id", "1879048192"}
}

// run runs another berth command to its end.
func (p *program) run(command string, args ...string) (string, error) {
	return p.runIn("", command, args...)
}

// runIn runs a command of the program in a directory.
func (p *program) runIn(dir, command string, args ...string) (string, error) {
	at, err := built()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(at, "berth"), append(strings.Fields(command), args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// start starts the server and returns when it has printed its address.
func (p *program) start() {
	p.t.Helper()
	if err := p.begin(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) begin() error {
	dir, err := built()
	if err != nil {
		return err
	}
	p.cmd = exec.Command(filepath.Join(dir, "berth"), append([]string{"serve"}, p.args...)...)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.cmd.Stderr = (*locked)(p)
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return err
	}
	found, exited := make(chan string, 1), make(chan error, 1)
	p.exited = exited
	cmd := p.cmd
	go func() { // ends with the server
		in := bufio.NewScanner(out)
		for in.Scan() {
			if at := regexp.MustCompile(`http://[\w.:]+`).FindString(in.Text()); at != "" {
				select {
				case found <- at:
				default:
				}
			}
		}
		exited <- cmd.Wait()
		close(exited)
	}()
	select {
	case p.url = <-found:
		return nil
	case err := <-exited:
		p.cmd = nil
		return fmt.Errorf("the server did not start: %w\n%s", err, p.log())
	case <-time.After(time.Minute):
		return fmt.Errorf("the server did not start within a minute\n%s", p.log())
	}
}

// stop stops the server as an operator does, kill ends it as a crash does.
func (p *program) stop() { p.signal(syscall.SIGTERM) }
func (p *program) kill() { p.signal(syscall.SIGKILL) }

func (p *program) signal(s syscall.Signal) {
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
	select {
	case err := <-p.exited:
		if s == syscall.SIGTERM && err != nil {
			p.t.Errorf("the server ended badly: %v", err)
		}
	case <-time.After(time.Minute):
		p.t.Error("the server did not end within a minute")
		p.cmd.Process.Kill()
		<-p.exited
	}
	p.cmd = nil
}

func (p *program) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

type locked program

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stderr.Write(b)
}
