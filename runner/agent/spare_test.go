package agent

import (
	"archive/tar"
	"bytes"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/labs"

	"golang.org/x/sys/unix"
)

// spareRig is an agent each of whose shells leaves a file named for its pid in
// the folder started.
func spareRig(t *testing.T) *rig {
	r := startAgent(t)
	must(t, os.Mkdir(r.dir+"/started", 0o755))
	must(t, os.WriteFile(r.cfg.Home+"/.bash_profile", []byte(`: > `+r.dir+`/started/$$; PS1='ready> '; . ~/more 2>/dev/null`+"\n"), 0o644))
	return r
}

// shells gives the pids of the shells that were started.
func (r *rig) shells() []string {
	r.t.Helper()
	entries, err := os.ReadDir(r.dir + "/started")
	must(r.t, err)
	var pids []string
	for _, e := range entries {
		pids = append(pids, e.Name())
	}
	return pids
}

// prepared makes the spare and gives the pid of its shell.
func (r *rig) prepared() string {
	r.t.Helper()
	if status, b := r.ask("POST", PathPrepare, nil, nil); status != http.StatusNoContent {
		r.t.Fatalf("%d %s", status, b)
	}
	eventually(r.t, "the shell starts", func() bool { return len(r.shells()) == 1 })
	return r.shells()[0]
}

// at opens a terminal, types a command, and gives all that was printed up to
// the end of what that prints.
func (r *rig) at(name, command string) string {
	r.t.Helper()
	conn, in := r.open("GET", PathTerminals+"/"+name+"/attach", url.Values{"from": {"0"}, "rows": {"33"}, "cols": {"111"}})
	defer conn.Close()
	frames := NewFrameConn(conn, in)
	must(r.t, frames.WriteFrame(labs.Frame{Kind: labs.FrameInput, Payload: []byte(command + "; echo e''nd\r")}))
	var text []byte
	for !bytes.Contains(text, []byte("end\r\n")) {
		f, err := frames.ReadFrame()
		if err != nil {
			r.t.Fatalf("%v; so far %q", err, text)
		}
		if f.Kind == labs.FrameOutput {
			at, b, err := f.Output()
			must(r.t, err)
			if at != int64(len(text)) {
				r.t.Fatalf("output at %d where %d was expected", at, len(text))
			}
			text = append(text, b...)
			must(r.t, frames.WriteFrame(labs.AckFrame(at+int64(len(b)))))
		}
	}
	return string(text)
}

func (r *rig) exec(script string) {
	r.t.Helper()
	conn, in := r.open("POST", PathExec, nil)
	defer conn.Close()
	frames := NewFrameConn(conn, in)
	must(r.t, frames.WriteFrame(labs.Frame{Kind: ExecStart, Payload: []byte(`{"args":["bash","-c",` + strconv.Quote(script) + `]}`)}))
	for {
		f, err := frames.ReadFrame()
		must(r.t, err)
		if f.Kind == ExecExit || f.Kind == ExecFailed {
			return
		}
	}
}

func TestSpareIsUsedWhileNothingMatters(t *testing.T) {
	file := func(name string) []tar.Header {
		return []tar.Header{{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Uname: "MORE=there\n"}}
	}
	for name, c := range map[string]struct {
		meanwhile func(r *rig)
		kept      bool
		see       string // what the terminal must show
	}{
		"nothing happens":        {func(*rig) {}, true, ""},
		"prepared again":         {func(r *rig) { r.ask("POST", PathPrepare, nil, nil) }, true, ""},
		"a file into the home":   {func(r *rig) { r.ask("POST", PathUnpack, url.Values{"dir": {"~/"}}, tarball(t, file("lab/program")...)) }, true, ""},
		"a file is saved":        {func(r *rig) { r.save("~/lab.txt", nil, "") }, true, ""},
		"files are looked at":    {func(r *rig) { r.ask("GET", PathList, url.Values{"dir": {"~"}, "limit": {"9"}}, nil) }, true, ""},
		"a greeting":             {func(r *rig) { r.save(labs.GreetingFile, []byte("Hi\nthere"), "") }, true, "Hi\r\nthere\r\n"},
		"a hidden file is saved": {func(r *rig) { r.save("~/.bashrc", nil, "") }, false, ""},
		"a hidden file into the home": {func(r *rig) {
			r.ask("POST", PathUnpack, url.Values{"dir": {"~"}}, tarball(t, file(".config/x")...))
		}, false, ""},
		"a file by way of the root": {func(r *rig) {
			r.ask("POST", PathUnpack, url.Values{"dir": {"/"}}, tarball(t, file(strings.TrimPrefix(r.cfg.Home, "/")+"/lab/x")...))
		}, true, ""},
		"a file elsewhere": {func(r *rig) {
			r.ask("POST", PathUnpack, url.Values{"dir": {r.dir}}, tarball(t, file("etc/x")...))
		}, false, ""},
		"a file out of the home": {func(r *rig) {
			r.ask("POST", PathUnpack, url.Values{"dir": {"~"}}, tarball(t, file("../home2/x")...))
		}, false, ""},
		"a link into the home": {func(r *rig) {
			r.ask("POST", PathUnpack, url.Values{"dir": {"~"}}, tarball(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "x", Linkname: ".bashrc"}))
		}, false, ""},
		"a command":          {func(r *rig) { r.exec("echo 'echo mo''re' > ~/more") }, false, "more\r\n"},
		"a greeting by hand": {func(r *rig) { r.exec("printf 'Hi\n' > " + r.cfg.RunDir + "/greeting") }, false, "Hi\r\n"},
		"another terminal":   {func(r *rig) { r.at("2", "true") }, false, ""},
		"its shell is killed": {func(r *rig) {
			pid, _ := strconv.Atoi(r.shells()[0])
			unix.Kill(pid, unix.SIGKILL)
			time.Sleep(300 * time.Millisecond)
		}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := spareRig(t)
			pid := r.prepared()
			var names []string
			if err := r.get(PathTerminals, nil, &names); err != nil || len(names) != 0 {
				t.Errorf("there are terminals %q, %v", names, err)
			}
			c.meanwhile(r)
			got := r.at("1", "echo pid=$$; stty size; echo $BERTH_TERMINAL; tty")
			if kept := strings.Contains(got, "pid="+pid+"\r\n"); kept != c.kept {
				t.Errorf("the shell was kept: %v; want %v: %q", kept, c.kept, got)
			}
			if !strings.Contains(got, "33 111\r\n1\r\n/dev/pts/") {
				t.Errorf("its size, name and terminal: %q", got)
			}
			if hi := strings.HasPrefix(c.see, "Hi"); !strings.Contains(got, c.see) || hi != strings.HasPrefix(got, "Hi") || hi && !strings.HasPrefix(got, c.see) {
				t.Errorf("it shows %q; want %q", got, c.see)
			}
			if n := strings.Count(got, "ready> "); n < 1 || n > 3 {
				t.Errorf("%d prompts: %q", n, got)
			}
			if err := r.get(PathTerminals, nil, &names); err != nil || !slices.Contains(names, "1") {
				t.Errorf("there are terminals %q, %v", names, err)
			}
			// There is no second one.
			if status, _ := r.ask("POST", PathPrepare, nil, nil); status != http.StatusNoContent {
				t.Errorf("prepared too late: %d", status)
			}
			want := 1
			if !c.kept {
				want++
			}
			if name == "another terminal" || name == "its shell is killed" {
				want++
			}
			if n := len(r.shells()); n > want {
				t.Errorf("%d shells were started", n)
			}
		})
	}
}

// The environment of a spare's shell is that of any other, and a spare that
// nobody takes ends with the agent or with what spoils it.
func TestSpareIsLikeAnyOther(t *testing.T) {
	env := func(prepare bool) []string {
		r := spareRig(t)
		if prepare {
			r.prepared()
		}
		r.at("1", "env > ~/env; set -o >> ~/env; ulimit -a >> ~/env; cat /proc/$$/status | grep -E 'Sig(Blk|Ign|Cgt)' >> ~/env")
		b, err := os.ReadFile(r.cfg.Home + "/env")
		must(t, err)
		lines := strings.Split(strings.ReplaceAll(string(b), r.dir, "DIR"), "\n")
		slices.Sort(lines)
		return lines
	}
	if with, without := env(true), env(false); !slices.Equal(with, without) {
		t.Errorf("with %q\nwithout %q", with, without)
	}
	for name, end := range map[string]func(r *rig){"spoiled": func(r *rig) { r.exec("true") }, "the agent ends": func(r *rig) { r.stop() }} {
		r := spareRig(t)
		pid, err := strconv.Atoi(r.prepared())
		must(t, err)
		end(r)
		eventually(t, name+": its shell ends", func() bool { return unix.Kill(pid, 0) != nil })
	}
}

func TestReadAtStart(t *testing.T) {
	c := Config{Home: "/root"}
	for name, want := range map[string]bool{ // clean paths
		"/root/a": false, "/root/a/.b": false, "/root/.bashrc": true, "/root/.config/x": true, "/root": true, "/rootless/a": true,
		"/etc/profile": true, "/opt/x": true, "/": true,
	} {
		if got := c.readAtStart(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
