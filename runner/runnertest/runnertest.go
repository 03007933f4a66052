// Package runnertest is what every kind of sandbox has to pass. It needs a
// box with bash and the usual small tools, and no more.
package runnertest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/labs"
)

// Run runs the suite. start gives a fresh sandbox that the suite destroys.
func Run(t *testing.T, start func(t *testing.T) labs.Sandbox) {
	for _, c := range []struct {
		name string
		test func(*testing.T, labs.Sandbox)
	}{
		{"exec exit and streams", execStreams},
		{"exec stdin", execStdin},
		{"exec cancelled ends all children", execCancelled},
		{"exec leaves what detached itself", execDetached},
		{"exec that cannot be run", execMissing},
		{"terminal echoes and resizes", terminalBasics},
		{"terminal is the same to all viewers", terminalViewers},
		{"reconnecting loses and doubles nothing", terminalReconnects},
		{"a stuck viewer stops nobody", terminalStuck},
		{"Ctrl-C during a flood", terminalInterrupt},
		{"a click runs once", terminalCommandOnce},
		{"a shell that ends is followed by another", terminalExit},
		{"10 MB pasted are bounded and whole", terminalPaste},
		{"UTF-8 arrives whole", terminalUTF8},
		{"so many terminals and no more", terminalLimit},
		{"the first terminal greets", greeting},
		{"finished commands are told", commands},
		{"files in and out", files},
		{"attack: unpacking outside the folder", unpackEscape},
		{"attack: reading what would wait for ever", openFIFO},
		{"directories are listed", listing},
		{"a file is read and replaced", editing},
		{"replacing keeps mode, owner and links", editKeeps},
		{"of many who write at once one wins", editAtOnce},
		{"a full disk leaves the old content", editFullDisk},
		{"attack: editing what is no text", editRefused},
		{"changed files are told", fileChanges},
		{"dial", dial},
		{"open ports are told", ports},
		{"destroyed is destroyed", destroyed},
	} {
		t.Run(c.name, func(t *testing.T) {
			sb := start(t)
			t.Cleanup(func() {
				if err := sb.Destroy(); err != nil {
					t.Errorf("destroy: %v", err)
				}
			})
			c.test(t, sb)
		})
	}
}

const patience = 20 * time.Second

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// sh runs a script and gives what it prints.
func sh(t *testing.T, sb labs.Sandbox, script string) string {
	t.Helper()
	var out bytes.Buffer
	exit, err := sb.Exec(within(t), labs.Cmd{Args: []string{"bash", "-c", script}, Stdout: &out, Stderr: &out})
	if err != nil || exit != 0 {
		t.Fatalf("%s: exit %d, %v: %s", script, exit, err, &out)
	}
	return out.String()
}

func execStreams(t *testing.T, sb labs.Sandbox) {
	for _, c := range []struct {
		args     []string
		env      []string
		dir      string
		exit     int
		out, err string
	}{
		{args: []string{"true"}},
		{args: []string{"bash", "-c", "exit 7"}, exit: 7},
		{args: []string{"bash", "-c", "kill -9 $$"}, exit: 137},
		{args: []string{"bash", "-c", "echo out; echo err >&2"}, out: "out\n", err: "err\n"},
		{args: []string{"bash", "-c", "echo $A$HOME$PWD | wc -l; echo $A"}, env: []string{"A=b c"}, out: "1\nb c\n"},
		{args: []string{"pwd"}, dir: "/", out: "/\n"},
		{args: []string{"bash", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"}, out: strings.Repeat("x", 3000000)},
	} {
		var out, errs bytes.Buffer
		exit, err := sb.Exec(within(t), labs.Cmd{Args: c.args, Env: c.env, Dir: c.dir, Stdout: &out, Stderr: &errs})
		if err != nil || exit != c.exit || out.String() != c.out || errs.String() != c.err {
			t.Errorf("%q: exit %d, %v, out %d bytes %.40q, err %.40q; want exit %d, out %d bytes, err %q", c.args, exit, err, out.Len(), out.String(), errs.String(), c.exit, len(c.out), c.err)
		}
	}
}

func execStdin(t *testing.T, sb labs.Sandbox) {
	text := strings.Repeat("0123456789", 100_000)
	var out bytes.Buffer
	exit, err := sb.Exec(within(t), labs.Cmd{Args: []string{"cat"}, Stdin: strings.NewReader(text), Stdout: &out})
	if err != nil || exit != 0 || out.String() != text {
		t.Errorf("cat: exit %d, %v, %d of %d bytes", exit, err, out.Len(), len(text))
	}
}

func execCancelled(t *testing.T, sb labs.Sandbox) {
	ctx, cancel := context.WithCancel(within(t))
	out := &firstLine{found: make(chan string, 1)}
	done := make(chan error, 1)
	go func() {
		_, err := sb.Exec(ctx, labs.Cmd{Args: []string{"bash", "-c", "sleep 1000 & echo $!; wait"}, Stdout: out})
		done <- err
	}()
	var pid string
	select {
	case pid = <-out.found:
	case err := <-done:
		t.Fatalf("it ended before it was cancelled: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	sh(t, sb, "for i in $(seq 200); do kill -0 "+pid+" 2>/dev/null || exit 0; sleep 0.05; done; exit 1")
}

// firstLine is a writer that gives the first line.
type firstLine struct {
	b     []byte
	found chan string
}

func (f *firstLine) Write(p []byte) (int, error) {
	f.b = append(f.b, p...)
	if line, _, ok := strings.Cut(string(f.b), "\n"); ok {
		select {
		case f.found <- line:
		default:
		}
	}
	return len(p), nil
}

// execDetached is what scripts do that set something up in the background.
func execDetached(t *testing.T, sb labs.Sandbox) {
	for how, script := range map[string]string{
		"setsid":             `setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!`,
		"nohup in a shell":   `cd /; (nohup bash -c 'echo $$ > ~/pid; exec sleep 1000' >~/log 2>&1 </dev/null &); until [ -s ~/pid ]; do sleep 0.01; done; cat ~/pid`,
		"setsid of a script": `setsid bash -c 'echo $$ > ~/pid2; while :; do sleep 0.1; echo alive >> ~/beat; done' </dev/null &>/dev/null & until [ -s ~/pid2 ]; do sleep 0.01; done; cat ~/pid2`,
	} {
		ctx, cancel := context.WithCancel(within(t))
		var out bytes.Buffer
		began := time.Now()
		exit, err := sb.Exec(ctx, labs.Cmd{Args: []string{"bash", "-c", script}, Stdout: &out, Stderr: &out})
		took := time.Since(began)
		cancel() // too late to matter
		pid, notNumber := strconv.Atoi(strings.TrimSpace(out.String()))
		if err != nil || exit != 0 || notNumber != nil {
			t.Fatalf("%s: exit %d, %v, %q", how, exit, err, &out)
		}
		if took > 10*time.Second {
			t.Errorf("%s: it took %v to return", how, took)
		}
		// A while later it is alive, and no zombie.
		if got := sh(t, sb, fmt.Sprintf("sleep 0.5; cut -d')' -f2 /proc/%d/stat | cut -c2; kill -9 %d", pid, pid)); got == "Z\n" {
			t.Errorf("%s: its state is %q", how, got)
		}
	}
	if got := sh(t, sb, "head -n1 ~/beat"); got != "alive\n" {
		t.Errorf("it wrote %q", got)
	}
	// One that holds the output open does not keep Exec either, and lives on
	// as long as it prints nothing.
	pid := strings.TrimSpace(sh(t, sb, "sleep 1000 & echo $!"))
	sh(t, sb, "kill -0 "+pid+" && kill -9 "+pid)
}

func execMissing(t *testing.T, sb labs.Sandbox) {
	for _, args := range [][]string{nil, {""}, {"no-such-program"}, {"/etc"}} {
		if exit, err := sb.Exec(within(t), labs.Cmd{Args: args}); err == nil {
			t.Errorf("%q ran with exit %d", args, exit)
		}
	}
}

// A viewer reads a terminal as a browser does.
type viewer struct {
	t    *testing.T
	a    labs.Attachment
	next int64  // offset of the next byte
	text []byte // all that was read
	exit []int
	size labs.Size
	jump bool // FrameStart was not where it was asked for
	lazy bool // acknowledges nothing
}

func attach(t *testing.T, sb labs.Sandbox, name string, from int64) *viewer {
	t.Helper()
	a, err := sb.Attach(within(t), name, labs.Viewer{From: from, Size: labs.Size{Rows: 30, Cols: 100}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return &viewer{t: t, a: a, next: from}
}

// step reads one frame.
func (v *viewer) step() error {
	watchdog := time.AfterFunc(patience, func() { v.a.Close() })
	defer watchdog.Stop()
	f, err := v.a.ReadFrame()
	if err != nil {
		return err
	}
	switch f.Kind {
	case labs.FrameStart:
		at, size, err := f.Start()
		if err != nil {
			return err
		}
		v.jump = v.jump || v.next >= 0 && at != v.next
		v.next, v.size = at, size
	case labs.FrameOutput:
		at, b, err := f.Output()
		if err != nil {
			return err
		}
		if at != v.next {
			return fmt.Errorf("output at %d where %d was expected", at, v.next)
		}
		v.next += int64(len(b))
		v.text = append(v.text, b...)
		if !v.lazy {
			return v.a.WriteFrame(labs.AckFrame(v.next))
		}
	case labs.FrameResize:
		v.size, err = f.Resize()
		return err
	case labs.FrameExit:
		n, err := f.Exit()
		v.exit = append(v.exit, n)
		return err
	}
	return nil
}

// until reads until the text holds mark, and forgets the text up to it.
func (v *viewer) until(mark string) string {
	v.t.Helper()
	seen := 0
	for {
		if i := bytes.Index(v.text[max(0, seen-len(mark)):], []byte(mark)); i >= 0 {
			i += max(0, seen-len(mark)) + len(mark)
			before := string(v.text[:i])
			v.text = append([]byte(nil), v.text[i:]...)
			return before
		}
		seen = len(v.text)
		if err := v.step(); err != nil {
			v.t.Fatalf("wait for %q: %v; the last of what came: %.300q", mark, err, v.text[max(0, len(v.text)-300):])
		}
	}
}

func (v *viewer) keys(s string) {
	v.t.Helper()
	for len(s) > 0 {
		n := min(len(s), labs.MaxInput)
		if err := v.a.WriteFrame(labs.Frame{Kind: labs.FrameInput, Payload: []byte(s[:n])}); err != nil {
			v.t.Fatal(err)
		}
		s = s[n:]
	}
}

// run types a command and gives what it prints.
func (v *viewer) run(command string) string {
	v.t.Helper()
	v.keys(command + "; echo e''nd\r")
	v.until("e''nd\r\n")
	return strings.TrimSuffix(v.until("end\r\n"), "end\r\n")
}

func terminalBasics(t *testing.T, sb labs.Sandbox) {
	v := attach(t, sb, "1", -1)
	if got := v.run("stty size"); !strings.Contains(got, "30 100") {
		t.Errorf("stty size gives %q", got)
	}
	if err := v.a.WriteFrame(labs.ResizeFrame(labs.Size{Rows: 41, Cols: 133})); err != nil {
		t.Fatal(err)
	}
	if got := v.run("stty size"); !strings.Contains(got, "41 133") {
		t.Errorf("after a resize stty size gives %q", got)
	}
	if got := v.run("tty; echo $TERM"); !strings.Contains(got, "/dev/pts/") || !strings.Contains(got, "xterm-256color") {
		t.Errorf("tty and TERM: %q", got)
	}
	names, err := sb.Terminals(within(t))
	if err != nil || len(names) != 1 || names[0] != "1" {
		t.Errorf("terminals %q, %v", names, err)
	}
	for _, bad := range []string{"", "a/b", "..", strings.Repeat("x", 200)} {
		if a, err := sb.Attach(within(t), bad, labs.Viewer{}); err == nil {
			a.Close()
			t.Errorf("there is a terminal %q", bad)
		}
	}
}

func terminalViewers(t *testing.T, sb labs.Sandbox) {
	a := attach(t, sb, "1", -1)
	a.run("true")
	b := attach(t, sb, "1", -1)
	a.keys("echo fr''om a\r")
	a.until("from a\r\n")
	b.until("from a\r\n")
	b.keys("echo fr''om b\r")
	a.until("from b\r\n")
	b.until("from b\r\n")
	if a.next != b.next {
		// One may have read a little further than the other.
		last := max(a.next, b.next)
		for _, v := range []*viewer{a, b} {
			for v.next < last {
				if err := v.step(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func terminalReconnects(t *testing.T, sb labs.Sandbox) {
	const last = 60_000
	v := attach(t, sb, "1", -1)
	v.run("stty -echo; PS1=")
	at := v.next
	v.keys(fmt.Sprintf("for ((i = 0; i <= %d; i++)); do echo $i; done\r", last))
	v.a.Close()
	var all []byte
	reconnects := 0
	// The last line may come in two pieces, and a prompt may follow it.
	done := func(more []byte) bool {
		end := append(bytes.Clone(all[max(0, len(all)-64):]), more...)
		return bytes.Contains(end, []byte("\n"+strconv.Itoa(last)+"\r\n"))
	}
	for !done(nil) {
		w := attach(t, sb, "1", at)
		for frames := 0; frames < 1+reconnects%3; {
			n := len(w.text)
			if err := w.step(); err != nil {
				t.Fatal(err)
			}
			if len(w.text) > n {
				frames++
			}
			if done(w.text) {
				break
			}
		}
		if w.jump {
			t.Fatalf("after %d reconnects output is missing at %d", reconnects, at)
		}
		all = append(all, w.text...)
		at = w.next
		w.a.Close()
		reconnects++
	}
	_, text, _ := strings.Cut(string(all), "0\r\n")
	text, _, _ = strings.Cut(text, "\n"+strconv.Itoa(last)+"\r\n") // the prompt may have come with it
	for i, line := range strings.Split(strings.TrimSuffix(text, "\r"), "\r\n") {
		if line != strconv.Itoa(i+1) {
			t.Fatalf("after %d reconnects line %d is %q", reconnects, i+1, line)
		}
	}
	t.Logf("%d reconnects, %d bytes", reconnects, len(all))
}

func terminalStuck(t *testing.T, sb labs.Sandbox) {
	stuck := attach(t, sb, "1", -1)
	stuck.lazy = true
	v := attach(t, sb, "1", -1)
	v.run("true")
	began := time.Now()
	v.keys("head -c 8000000 /dev/zero | tr '\\0' x; echo; echo do''ne\r")
	v.until("done\r\n")
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("beside a stuck viewer 8 MB took %v", took)
	}
	// The stuck one is told where it goes on, and comes to the same end.
	stuck.lazy = false
	if err := stuck.a.WriteFrame(labs.AckFrame(stuck.next)); err != nil {
		t.Fatal(err)
	}
	v.keys("echo a''gain\r")
	stuck.until("again\r\n")
}

func terminalInterrupt(t *testing.T, sb labs.Sandbox) {
	v := attach(t, sb, "1", -1)
	v.run("true")
	v.keys("yes 0123456789\r")
	for range 200 {
		if err := v.step(); err != nil {
			t.Fatal(err)
		}
	}
	v.keys("\x03")
	v.text = nil
	v.keys("echo st''opped\r")
	v.until("stopped\r\n")
}

func terminalCommandOnce(t *testing.T, sb labs.Sandbox) {
	v := attach(t, sb, "1", -1)
	v.run("n=0")
	for range 3 {
		if err := v.a.WriteFrame(labs.CommandFrame("click-1", []byte("n=$((n+1))\r"))); err != nil {
			t.Fatal(err)
		}
	}
	w := attach(t, sb, "1", -1)
	if err := w.a.WriteFrame(labs.CommandFrame("click-1", []byte("n=$((n+1))\r"))); err != nil {
		t.Fatal(err)
	}
	if err := w.a.WriteFrame(labs.CommandFrame("click-2", []byte("n=$((n+10))\r"))); err != nil {
		t.Fatal(err)
	}
	w.keys("echo n=$n''.\r")
	w.until("n=11.\r\n")
}

func terminalExit(t *testing.T, sb labs.Sandbox) {
	v := attach(t, sb, "1", -1)
	v.run("true")
	before := v.next
	v.keys("exit 3\r")
	for len(v.exit) == 0 {
		if err := v.step(); err != nil {
			t.Fatal(err)
		}
	}
	if v.exit[0] != 3 {
		t.Errorf("the shell ended with %d", v.exit[0])
	}
	// What is typed while there is no shell goes nowhere: wait for the prompt.
	v.text = nil
	for !bytes.ContainsAny(v.text, "#$") {
		if err := v.step(); err != nil {
			t.Fatal(err)
		}
	}
	v.run("echo new")
	if v.next <= before {
		t.Error("offsets did not go on")
	}
}

func terminalPaste(t *testing.T, sb labs.Sandbox) {
	v := attach(t, sb, "1", -1)
	v.run("stty -echo; PS1=")
	const size = 10 << 20
	v.keys("cat > /tmp/pasted; wc -c < /tmp/pasted; echo past''ed\r")
	line := strings.Repeat("x", 1023) + "\n"
	go func() { // ends with the last line, or with the attachment
		for range size / len(line) {
			if v.a.WriteFrame(labs.Frame{Kind: labs.FrameInput, Payload: []byte(line)}) != nil {
				return
			}
		}
		v.a.WriteFrame(labs.Frame{Kind: labs.FrameInput, Payload: []byte("\x04")})
	}()
	got := v.until("pasted\r\n")
	if !strings.Contains(got, strconv.Itoa(size)) {
		t.Errorf("of %d bytes pasted wc says %.200q", size, got)
	}
}

func terminalUTF8(t *testing.T, sb labs.Sandbox) {
	v := attach(t, sb, "1", -1)
	v.run("stty -echo; PS1=")
	v.keys("for i in {1..3000}; do printf 'aß€𝄞'; done; echo; echo do''ne\r")
	got := v.until("done\r\n")
	if n := strings.Count(got, "aß€𝄞"); n != 3000 {
		t.Errorf("%d of 3000 came whole", n)
	}
}

func terminalLimit(t *testing.T, sb labs.Sandbox) {
	for i := range 100 {
		a, err := sb.Attach(within(t), "t"+strconv.Itoa(i), labs.Viewer{From: -1})
		if errors.Is(err, labs.ErrBusy) {
			if i == 0 {
				t.Error("there is no terminal at all")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
	}
	t.Error("a hundred terminals could be opened")
}

func greeting(t *testing.T, sb labs.Sandbox) {
	text := "Welcome, \x1b[1mcaptain\x1b[0m ⚓\n\nline 3"
	if _, err := sb.WriteFile(within(t), labs.GreetingFile, []byte(text), ""); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"1", "1", "2"} {
		v := attach(t, sb, name, 0)
		v.keys("echo rea''dy\r")
		before := v.until("ready\r\n")
		want := "Welcome, \x1b[1mcaptain\x1b[0m ⚓\r\n\r\nline 3\r\n"
		if n := strings.Count(before, want); name == "1" && (n != 1 || !strings.HasPrefix(before, want)) || name == "2" && n != 0 {
			t.Errorf("attachment %d, terminal %s: %q", i+1, name, before)
		}
	}
	// It is not shown again when the shell ends.
	v := attach(t, sb, "1", -1)
	v.run("true")
	v.keys("exit\r")
	for len(v.exit) == 0 {
		if err := v.step(); err != nil {
			t.Fatal(err)
		}
	}
	v.text = nil
	for !bytes.ContainsAny(v.text, "#$") {
		if err := v.step(); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Contains(v.text, []byte("Welcome")) {
		t.Errorf("the second shell begins with %q", v.text)
	}
}

func commands(t *testing.T, sb labs.Sandbox) {
	changes, err := sb.Watch(within(t), labs.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	v := attach(t, sb, "1", -1)
	v.keys("cd /tmp\r")
	v.keys("  (exit 4)\r")
	v.keys("cat <<X | tr a-z A-Z\rheredoc\rX\r")
	v.until("HEREDOC")
	v.keys("\r")
	v.keys("false || true\r")
	var got []labs.ShellCommand
	for c := range changes {
		if c.Command != nil {
			got = append(got, *c.Command)
		}
		if len(got) == 4 {
			break
		}
	}
	want := []labs.ShellCommand{
		{Seq: 1, Text: "cd /tmp", Dir: "/tmp"}, {Seq: 2, Text: "(exit 4)", Dir: "/tmp", Exit: 4},
		{Seq: 3, Text: "cat <<X | tr a-z A-Z\nheredoc\nX", Dir: "/tmp"}, {Seq: 4, Text: "false || true", Dir: "/tmp"},
	}
	if len(got) != len(want) {
		t.Fatalf("told %d commands: %+v", len(got), got)
	}
	for i, w := range want {
		g := got[i]
		if g.Seq != w.Seq || strings.TrimSpace(g.Text) != w.Text || g.Dir != w.Dir || g.Exit != w.Exit || g.Terminal != "1" {
			t.Errorf("told %+v; want %+v", g, w)
		}
		if g.Ended.Before(g.Started) || time.Since(g.Ended).Abs() > time.Minute {
			t.Errorf("%q took from %v to %v", g.Text, g.Started, g.Ended)
		}
	}
	later, err := sb.Watch(within(t), labs.Watch{After: 3})
	if err != nil {
		t.Fatal(err)
	}
	for c := range later {
		if c.Command != nil {
			if c.Command.Seq != 4 {
				t.Errorf("after 3 comes %d", c.Command.Seq)
			}
			break
		}
	}
}

func tarOf(t *testing.T, entries ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		body := h.Uname // the content travels in a field that is not used
		h.Uname = ""
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(body))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func files(t *testing.T, sb labs.Sandbox) {
	ctx := within(t)
	err := sb.Unpack(ctx, "~/lab", tarOf(t,
		tar.Header{Typeflag: tar.TypeReg, Name: "a/script", Mode: 0o755, Uname: "#!/bin/bash\necho ran\n"},
		tar.Header{Typeflag: tar.TypeReg, Name: "b.txt", Mode: 0o640, Uname: "text"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "b.txt"}))
	if err != nil {
		t.Fatal(err)
	}
	if got := sh(t, sb, "~/lab/a/script; cat ~/lab/link; stat -c %a ~/lab/b.txt"); got != "ran\ntext640\n" {
		t.Errorf("what was unpacked: %q", got)
	}
	found, err := sb.Glob(ctx, "~/**/script", 10)
	if err != nil || len(found) != 1 || found[0].Mode.Perm() != 0o755 || found[0].Size != 21 {
		t.Errorf("glob: %+v, %v", found, err)
	}
	if found, err = sb.Glob(ctx, "~/lab/*", 2); err != nil || len(found) != 2 {
		t.Errorf("glob with a limit: %+v, %v", found, err)
	}
	if found, err = sb.Glob(ctx, "/no/such/*", 2); err != nil || len(found) != 0 {
		t.Errorf("glob without a match: %+v, %v", found, err)
	}
	r, err := sb.Open(ctx, "~/lab/b.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "text" {
		t.Errorf("open: %q, %v", b, err)
	}
	for path, want := range map[string]error{"~/none": labs.ErrNotFound, "~/lab": labs.ErrInvalid, "relative": labs.ErrInvalid, "~/lab/b.txt/x": labs.ErrNotFound} {
		if r, err := sb.Open(ctx, path); !errors.Is(err, want) {
			t.Errorf("open %s: %v; want %v", path, err, want)
		} else if err == nil {
			r.Close()
		}
	}
	sh(t, sb, "cd ~ && tar cf l.tar lab && gzip -k l.tar")
	for _, name := range []string{"~/l.tar", "~/l.tar.gz"} {
		names, err := sb.TarNames(ctx, name, 10)
		if err != nil || strings.Join(names, " ") != "lab/a/script lab/b.txt" && strings.Join(names, " ") != "lab/b.txt lab/a/script" {
			t.Errorf("names in %s: %q, %v", name, names, err)
		}
	}
	if _, err := sb.TarNames(ctx, "~/lab/b.txt", 10); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("names in a text file: %v", err)
	}
}

func unpackEscape(t *testing.T, sb labs.Sandbox) {
	sh(t, sb, "mkdir -p ~/in ~/out; ln -s ~/out ~/in/way; ln -s ~/out/f ~/in/file")
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "../out/x", Mode: 0o644, Uname: "x"},
		{Typeflag: tar.TypeReg, Name: "/tmp/berth-escape", Mode: 0o644, Uname: "x"},
		{Typeflag: tar.TypeReg, Name: "way/x", Mode: 0o644, Uname: "x"},
		{Typeflag: tar.TypeLink, Name: "hard", Linkname: "/etc/passwd"},
		{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3},
	} {
		if err := sb.Unpack(within(t), "~/in", tarOf(t, h)); err == nil {
			t.Errorf("%c %s was unpacked", h.Typeflag, h.Name)
		}
	}
	// A link where a file goes is replaced, not followed.
	if err := sb.Unpack(within(t), "~/in", tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Uname: "x"})); err != nil {
		t.Error(err)
	}
	if got := sh(t, sb, "ls ~/out; ls /tmp/berth-escape 2>/dev/null; true"); got != "" {
		t.Errorf("outside the folder there is %q", got)
	}
}

func openFIFO(t *testing.T, sb labs.Sandbox) {
	sh(t, sb, "mkfifo ~/fifo; ln -s /dev/zero ~/zero")
	for _, path := range []string{"~/fifo", "~/zero", "/dev/tty", "/dev/null"} {
		if r, err := sb.Open(within(t), path); err == nil {
			r.Close()
			t.Errorf("%s was opened", path)
		}
		if _, err := sb.TarNames(within(t), path, 5); err == nil {
			t.Errorf("%s was listed", path)
		}
	}
}

func fileChanges(t *testing.T, sb labs.Sandbox) {
	changes, err := sb.Watch(within(t), labs.Watch{Paths: []string{"~/**/found", "~/plain"}, After: 1<<63 - 1})
	if err != nil {
		t.Fatal(err)
	}
	if c := <-changes; c.Engine == nil {
		t.Errorf("the first change is %+v; want the engine's state", c)
	}
	home := strings.TrimSpace(sh(t, sb, "echo ~; mkdir -p ~/a/b; echo x > ~/a/b/found; echo y > ~/plain; echo z > ~/other"))
	want := map[string]bool{home + "/a/b/found": true, home + "/plain": true}
	for c := range changes {
		if c.File == home+"/other" {
			t.Error("a file that does not match was told")
		}
		delete(want, c.File)
		if len(want) == 0 {
			return
		}
	}
	t.Errorf("not told: %v", want)
}

func dial(t *testing.T, sb labs.Sandbox) {
	for _, to := range [][2]string{{"unix", "/no/such"}, {"tcp", "127.0.0.1:1"}} {
		if c, err := sb.Dial(within(t), to[0], to[1]); !errors.Is(err, labs.ErrNotFound) {
			t.Errorf("dial %v: %v, %v", to, c, err)
		}
	}
	if c, err := sb.Dial(within(t), "udp", "127.0.0.1:53"); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("dial udp: %v, %v", c, err)
	}
}

func ports(t *testing.T, sb labs.Sandbox) {
	lister, ok := sb.(labs.PortLister)
	if !ok {
		t.Fatal("it is no PortLister")
	}
	before, err := lister.Ports(within(t))
	if err != nil {
		t.Fatal(err)
	}
	sh(t, sb, `cat > ~/listen.py <<'X'
import socket, sys, time
keep, told = [], []
def bind(family, host):
    s = socket.socket(family)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try: s.bind((host, 0))
    except OSError: return # no IPv6 here
    keep.append(s); return s
def listen(name, family, host):
    s = bind(family, host)
    if s: s.listen(); told.append(name + " " + str(s.getsockname()[1]))
    return s
any4 = listen("yes", socket.AF_INET, "0.0.0.0")
listen("yes", socket.AF_INET, "127.0.0.1")
listen("yes", socket.AF_INET6, "::")
listen("yes", socket.AF_INET6, "::1")
listen("no", socket.AF_INET, "127.0.0.7")
s = bind(socket.AF_INET, "127.0.0.1"); told.append("no " + str(s.getsockname()[1])) # does not listen
c = socket.create_connection(any4.getsockname()); told.append("no " + str(c.getsockname()[1]))
print("\n".join(told), flush=True)
time.sleep(1000)
X
		setsid python3 ~/listen.py </dev/null >~/told 2>~/wrong & echo $! >~/listener; for i in {1..200}; do [ -s ~/told ] && exit; sleep 0.05; done; cat ~/wrong; exit 1`)
	now, err := lister.Ports(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(now) || len(slices.Compact(slices.Clone(now))) != len(now) {
		t.Errorf("not sorted, or not unique: %d", now)
	}
	want := map[int]bool{}
	for _, line := range strings.Split(strings.TrimSpace(sh(t, sb, "cat ~/told")), "\n") {
		word, number, _ := strings.Cut(line, " ")
		port, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		want[port] = want[port] || word == "yes" // two sockets may have the same
	}
	yes := 0
	for port, want := range want {
		if slices.Contains(now, port) != want {
			t.Errorf("port %d: %v was expected; told are %d", port, want, now)
		}
		if want {
			yes++
		}
	}
	if yes < 2 {
		t.Errorf("only %d could listen", yes)
	}
	// And none of it is there when it has ended.
	sh(t, sb, "kill -9 $(cat ~/listener)")
	for deadline := time.Now().Add(patience); ; {
		now, err := lister.Ports(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if len(now) <= len(before) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("there are still %d", now)
		}
	}
}

func destroyed(t *testing.T, sb labs.Sandbox) {
	v := attach(t, sb, "1", -1)
	v.run("true")
	changes, err := sb.Watch(within(t), labs.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := sb.Destroy(); err != nil {
			t.Errorf("destroy: %v", err)
		}
	}
	for range changes { // is closed
	}
	for v.step() == nil { // the attachment ends
	}
	if _, err := sb.Exec(within(t), labs.Cmd{Args: []string{"true"}}); !errors.Is(err, labs.ErrGone) {
		t.Errorf("exec: %v", err)
	}
	if _, err := sb.Attach(within(t), "1", labs.Viewer{}); !errors.Is(err, labs.ErrGone) {
		t.Errorf("attach: %v", err)
	}
}
