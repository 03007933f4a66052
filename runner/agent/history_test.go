package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/labs"
)

// told gives a channel of what the history tells.
func told(t *testing.T, h *history) <-chan labs.ShellCommand {
	t.Helper()
	c := make(chan labs.ShellCommand, 4096)
	t.Cleanup(h.subscribe(func(cmd labs.ShellCommand) { c <- cmd }))
	return c
}

func next(t *testing.T, c <-chan labs.ShellCommand) labs.ShellCommand {
	t.Helper()
	select {
	case cmd := <-c:
		return cmd
	case <-time.After(within):
		t.Fatal("no command was told")
		return labs.ShellCommand{}
	}
}

func TestHistoryTellsCommandsAsTyped(t *testing.T) {
	type command struct {
		text string
		exit int
	}
	long := "echo " + strings.Repeat("long ", 500) + "end"
	for _, tt := range []struct {
		name  string
		typed []string // one after the other, each when the one before was done
		want  []command
	}{
		{"status", []string{"true\n", "false\n", "(exit 42)\n", "no-such-program\n"}, []command{{"true", 0}, {"false", 1}, {"(exit 42)", 42}, {"no-such-program", 127}}},
		{"status is kept for the learner", []string{"(exit 7)\n", "echo $? >&2; (exit $?)\n", "(exit 9)\n", "test $? = 9\n", "true | (exit 3) | true\n", "test \"${PIPESTATUS[*]}\" = '0 3 0'\n"},
			[]command{{"(exit 7)", 7}, {"echo $? >&2; (exit $?)", 0}, {"(exit 9)", 9}, {"test $? = 9", 0}, {"true | (exit 3) | true", 0}, {"test \"${PIPESTATUS[*]}\" = '0 3 0'", 0}}},
		{"twice and with a space", []string{"echo a\n", "echo a\n", " echo b\n", " echo b\n"}, []command{{"echo a", 0}, {"echo a", 0}, {" echo b", 0}, {" echo b", 0}}},
		{"nothing", []string{"\n\n", "   \n", "\x03", "half a line\x03", "# a comment\n", "if )\n", "true\n"}, []command{{"true", 0}}},
		{"several lines", []string{"for i in 1 2\ndo echo $i\ndone\n", "echo 'a\nb'\n"}, []command{{"for i in 1 2\ndo echo $i\ndone", 0}, {"echo 'a\nb'", 0}}},
		{"here document", []string{"cat <<END\none\n  two\nEND\n"}, []command{{"cat <<END\none\n  two\nEND", 0}}},
		{"pasted", []string{"\x1b[200~# first\nfalse\ncd /tmp\nif true; then\n  echo p\nfi\n(exit 5)\x1b[201~\n"}, []command{{"false", 1}, {"cd /tmp", 0}, {"if true; then\n  echo p\nfi", 0}, {"(exit 5)", 5}}},
		{"typed ahead", []string{"false\ntrue\n(exit 4)\n"}, []command{{"false", 1}, {"true", 0}, {"(exit 4)", 4}}},
		{"characters", []string{"echo äöü€ \"\\$x\" '\\n' %s & wait\n", "echo a\x16\tb\n"}, []command{{"echo äöü€ \"\\$x\" '\\n' %s & wait", 0}, {"echo a\tb", 0}}},
		{"history expansion", []string{"echo one\n", "!!\n"}, []command{{"echo one", 0}, {"echo one", 0}}},
		{"long", []string{long + "\n"}, []command{{long, 0}}},
		{"too long", []string{"true " + strings.Repeat("x", 3500) + "\n"}, []command{{"true " + strings.Repeat("x", maxText-5), 0}}},
		{"interrupted", []string{"sleep 100\n", "\x03"}, []command{{"sleep 100", 130}}},
		{"options", []string{"set -u\n", "set -o noclobber\n", "set +u +o noclobber\n", "IFS=0123\n", "true\n", "IFS=$' \\t\\n'\n"}, []command{{"set -u", 0}, {"set -o noclobber", 0}, {"set +u +o noclobber", 0}, {"IFS=0123", 0}, {"true", 0}, {"IFS=$' \\t\\n'", 0}}},
		{"own prompt", []string{"PROMPT_COMMAND='echo hello'\n", "true\n", "unset PROMPT_COMMAND\n", "true\n", "PROMPT_COMMAND=(true true)\n", "false\n"}, []command{{"PROMPT_COMMAND='echo hello'", 0}, {"true", 0}, {"unset PROMPT_COMMAND", 0}, {"true", 0}, {"PROMPT_COMMAND=(true true)", 0}, {"false", 1}}},
		{"hidden by the learner", []string{"HISTCONTROL=ignorespace\n", " echo secret\n", "HISTCONTROL=ignoredups\n", "true\n", "true\n", "HISTCONTROL=\n"}, []command{{"HISTCONTROL=ignorespace", 0}, {"HISTCONTROL=ignoredups", 0}, {"true", 0}, {"true", 0}, {"HISTCONTROL=", 0}}},
		{"a shell within", []string{"bash\n", "false\n", "bash --norc\n", "(exit 3)\n", "exit 2\n", "exit 6\n", "true\n"}, []command{{"false", 1}, {"(exit 3)", 3}, {"bash --norc", 2}, {"bash", 6}, {"true", 0}}},
		{"another shell instead", []string{"exec bash\n", "(exit 3)\n", "true\n"}, []command{{"(exit 3)", 3}, {"true", 0}}},
		{"another user", []string{"su nobody -s /bin/bash\n", "(exit 3)\n", "false\n", "exit 0\n"}, []command{{"(exit 3)", 3}, {"false", 1}, {"su nobody -s /bin/bash", 0}}},
		{"other shells", []string{"sh\n", "false\n", "exit 4\n", "env -i HOME=$HOME bash --norc --noprofile\n", "true\n", "exit 5\n"}, []command{{"sh", 4}, {"env -i HOME=$HOME bash --norc --noprofile", 5}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ts := newTestTerminals(t)
			if err := os.Chmod(ts.cfg.RunDir, 0o755); err != nil {
				t.Fatal(err)
			}
			for dir := ts.cfg.RunDir; dir != os.TempDir(); dir = filepath.Dir(dir) {
				os.Chmod(dir, 0o755) // in a sandbox others may come here
			}
			if err := os.WriteFile(filepath.Join(ts.cfg.Home, ".bashrc"), []byte("PS1='<$?>$ '; HISTCONTROL=ignoreboth\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(ts.cfg.Home, ".profile"), []byte(". ~/.bashrc\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			commands := told(t, ts.history)
			s := sit(t, ts, "one", labs.Viewer{From: -1})
			s.see("$ ")
			began := time.Now()
			for _, typed := range tt.typed {
				s.keys(typed)
				s.quiet()
			}
			var last time.Time
			for i, want := range tt.want {
				got := next(t, commands)
				if got.Text != want.text || got.Exit != want.exit || got.Terminal != "one" || got.Seq != int64(i+1) {
					t.Errorf("command %d: told %q, exit %d, terminal %q; want %q, exit %d", got.Seq, got.Text, got.Exit, got.Terminal, want.text, want.exit)
				}
				if got.Started.Before(began) || got.Ended.Before(got.Started) || got.Ended.After(time.Now()) || got.Ended.Before(last) {
					t.Errorf("%q ran from %v to %v, the test began at %v", got.Text, got.Started, got.Ended, began)
				}
				if tt.name != "another user" && got.Dir != ts.cfg.Home && got.Dir != "/tmp" {
					t.Errorf("%q ended in %q", got.Text, got.Dir)
				}
				last = got.Ended
			}
			select {
			case got := <-commands:
				t.Errorf("told %q, exit %d, which is too much", got.Text, got.Exit)
			default:
			}
			if got := ts.history.since(0); len(got) != len(tt.want) {
				t.Errorf("%d commands are remembered, not %d", len(got), len(tt.want))
			}
		})
	}
}

// quiet reads until nothing came for a while.
func (s *seat) quiet() {
	s.t.Helper()
	for {
		s.conn.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		f, err := s.ReadFrame()
		if os.IsTimeout(err) {
			return
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if f.Kind == labs.FrameOutput {
			at, b, _ := f.Output()
			s.next = at + int64(len(b))
			s.WriteFrame(labs.AckFrame(s.next))
		}
	}
}

func TestHistoryPromptForksNothing(t *testing.T) {
	ts := newTestTerminals(t)
	commands := told(t, ts.history)
	s := sit(t, ts, "1", labs.Viewer{From: -1})
	s.keys("true\n")
	next(t, commands)
	s.quiet()
	s.keys("strace -f -qq -e signal=none -e trace=clone,clone3,fork,vfork -o " + ts.cfg.Home + "/trace -p $$ & sleep 0.5\n")
	next(t, commands)
	for range 20 {
		s.keys("true\n")
		next(t, commands)
	}
	s.keys("kill %1; wait\n")
	next(t, commands)
	trace, err := os.ReadFile(filepath.Join(ts.cfg.Home, "trace"))
	if err != nil {
		t.Fatal(err)
	}
	if len(trace) > 0 {
		t.Errorf("the shell forked:\n%s", trace)
	}
}

func TestHistoryDropsForgedLines(t *testing.T) {
	now := time.Now()
	stamp := fmt.Sprint(now.UnixMicro())
	good := strings.Join([]string{"1", stamp, stamp, "0", "/root", "true"}, fieldEnd)
	for _, tt := range []struct {
		name  string
		lines []string
		want  int
	}{
		{"good", []string{"1.1\x1e.\x1e" + good}, 1},
		{"in pieces", []string{"1.1\x1e+\x1e" + good[:9], "1.2\x1e.\x1e" + good, "1.1\x1e.\x1e" + good[9:]}, 2},
		{"empty", []string{"", "\x1e", "\x1e\x1e", "1\x1e.\x1e"}, 0},
		{"no such kind", []string{"1\x1e?\x1e" + good}, 0},
		{"fields missing", []string{"1\x1e.\x1e1\x1e2\x1e3"}, 0},
		{"terminal", []string{"1\x1e.\x1e../" + good}, 0},
		{"exit status", []string{"1\x1e.\x1e" + strings.Replace(good, "\x1e0\x1e", "\x1e256\x1e", 1), "1\x1e.\x1e" + strings.Replace(good, "\x1e0\x1e", "\x1e-1\x1e", 1)}, 0},
		{"time", []string{"1\x1e.\x1e1\x1eyesterday\x1e" + stamp + "\x1e0\x1e/\x1etrue"}, 0},
		{"no text", []string{"1\x1e.\x1e1\x1e" + stamp + "\x1e" + stamp + "\x1e0\x1e/\x1e \x1f\x1f"}, 0},
		{"long key", []string{strings.Repeat("k", 65) + "\x1e.\x1e" + good}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := commandLines{records: map[string][]byte{}}
			got := 0
			for _, line := range tt.lines {
				if _, ok := l.take([]byte(line), now); ok {
					got++
				}
			}
			if got != tt.want {
				t.Errorf("%d commands, want %d", got, tt.want)
			}
		})
	}
	t.Run("times that cannot be", func(t *testing.T) {
		for _, times := range [][2]string{{"0", "99999999999999999"}, {"99999999999999999", stamp}, {"-5", "-5"}} {
			c, ok := parseCommand(strings.Join([]string{"1", times[0], times[1], "0", "/", "true"}, fieldEnd), now)
			if !ok || c.Ended.Sub(now).Abs() > time.Minute || c.Started.After(c.Ended) {
				t.Errorf("%v: from %v to %v", times, c.Started, c.Ended)
			}
		}
	})
	t.Run("memory", func(t *testing.T) {
		l := commandLines{records: map[string][]byte{}}
		for i := range 10_000 {
			l.take(fmt.Appendf(nil, "%d\x1e+\x1e%s", i%1000, strings.Repeat("x", 4000)), now)
		}
		sum := 0
		for _, r := range l.records {
			sum += len(r)
		}
		if len(l.records) > maxRecords || len(l.order) != len(l.records) || sum > maxRecords*maxRecord {
			t.Errorf("%d records of %d bytes are kept", len(l.records), sum)
		}
	})
}

func TestHistoryIsBounded(t *testing.T) {
	h := newHistory()
	for i := range 5000 {
		h.add(labs.ShellCommand{Text: strings.Repeat("x", i%maxText), Dir: "/"})
	}
	all := h.since(0)
	if len(all) == 0 || len(all) > maxRemembered || h.bytes > maxRememberedBytes {
		t.Fatalf("%d commands of %d bytes are remembered", len(all), h.bytes)
	}
	if !slices.IsSortedFunc(all, func(a, b labs.ShellCommand) int { return int(a.Seq - b.Seq) }) || all[len(all)-1].Seq != 5000 {
		t.Errorf("from %d to %d", all[0].Seq, all[len(all)-1].Seq)
	}
	if got := h.since(4990); len(got) != 10 || got[0].Seq != 4991 {
		t.Errorf("%d commands since the 4990th", len(got))
	}
}

func TestHistoryFloodOfCommandsIsSlowedDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "commands")
	h := newHistory()
	commands := told(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	listening.Go(func() {
		if err := h.listen(ctx, path); err != nil {
			t.Error(err)
		}
	})
	defer listening.Wait()
	defer cancel()
	waitFor(t, path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Junk first, also without an end.
	stamp := fmt.Sprint(time.Now().UnixMicro())
	fmt.Fprintf(f, "\x00\xff\n%s\n", strings.Repeat("junk", 10_000))
	began := time.Now()
	for i := range commandBurst + 100 {
		fmt.Fprintf(f, "1.%d\x1e.\x1e%s\n", i, strings.Join([]string{"1", stamp, stamp, "0", "/", fmt.Sprint("true ", i)}, fieldEnd))
	}
	for i := range commandBurst + 100 {
		if got := next(t, commands); got.Text != fmt.Sprint("true ", i) {
			t.Fatalf("command %d is %q", i, got.Text)
		}
	}
	if d := time.Since(began); d < 80*commandInterval {
		t.Errorf("a flood of commands took %v", d)
	}
}
