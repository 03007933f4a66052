package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestShellGoesIntoASandboxThatWasKept has a lesson fail and looks around in
// its sandbox, as its author would.
func TestShellGoesIntoASandboxThatWasKept(t *testing.T) {
	p := newProgram(t)
	dir := t.TempDir()
	write(t, dir+"/mine/lab.md", "---\ntitle: Mine\n---\n## Step\n\n```sh\necho trace > trace\n```\n\n```check\nname: never\nfile: ~/never\n```\n")
	out, err := p.run("test", append(p.own(), "--keep", "--check-time", "1s", dir)...)
	m := regexp.MustCompile(`berth (shell .*)`).FindStringSubmatch(out)
	if err == nil || m == nil {
		t.Fatalf("%v: %s", err, out)
	}
	at, err := built()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(at, "berth"), strings.Fields(m[1])...)
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	late := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer late.Stop()
	seen := ""
	until := func(text string) {
		t.Helper()
		b := make([]byte, 4096)
		for !strings.Contains(seen, text) {
			n, err := tty.Read(b)
			seen += string(b[:n])
			if err != nil {
				t.Fatalf("wait for %q: %v; seen: %q", text, err, seen)
			}
		}
		_, seen, _ = strings.Cut(seen, text)
	}
	until("echo trace > trace") // what was typed before is there
	if _, err := tty.WriteString("echo \"it is a $(cat trace)\"\r"); err != nil {
		t.Fatal(err)
	}
	until("it is a trace")
	if _, err := tty.Write([]byte{leaveKey}); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 4096); ; {
		if _, err := tty.Read(b); err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it was left: %v", err)
	}
	if out, err := p.run("sweep", append(p.own(), "--state", p.state+"/test")...); err != nil || !strings.Contains(out, "1 sandbox ended") {
		t.Errorf("sweep: %v: %s", err, out)
	}
}
