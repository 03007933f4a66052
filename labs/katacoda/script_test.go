package katacoda

import (
	"os/exec"
	"slices"
	"testing"
)

func TestPrintsDone(t *testing.T) {
	for script, want := range map[string]bool{
		"[ -d .git ] && echo \"done\"":                      true,
		"grep x y > /dev/null && echo done\n":               true,
		"if true; then echo 'done'; fi":                     true,
		"echo -n done":                                      true,
		"printf 'done\\n'":                                  true,
		"printf \"done\"":                                   true,
		"if [ 1 ]; then\n  echo \"done\" # let it know\nfi": true,
		"echo done;":                                        true,
		"(true && echo done)":                               true,
		"r=done\necho $r":                                   true,
		"for i in 1 2; do sleep 1; done":                    false,
		"while true\ndo\n  :\ndone\nexit 0":                 false,
		"test -e x # echo done":                             false,
		"# when done exit 0\ntest -e x":                     false,
		"echo \"not done yet\"; exit 1":                     false,
		"echo \"done with it\"":                             false,
		"grep done file":                                    false,
		"echo undone":                                       false,
		"test -e /root/done":                                false,
		"":                                                  false,
	} {
		if got := printsDone(script); got != want {
			t.Errorf("%q: %v", script, got)
		}
	}
}

// TestAsBashRunsOtherLanguages runs what it gives.
func TestAsBashRunsOtherLanguages(t *testing.T) {
	for _, shell := range []string{"#!/bin/sh\nexit 3\n", "#!/usr/bin/env bash\nexit 3", "#! /bin/bash -e\nexit 3", "exit 3", "#!/usr/bin/env -S bash -e\nexit 3"} {
		if got := asBash(shell); got != shell {
			t.Errorf("%q became %q", shell, got)
		}
	}
	// awk stands for any other language: it is on every machine.
	for _, c := range []struct {
		script string
		exit   int
	}{
		{"#!/usr/bin/awk -f\nBEGIN { exit 7 }\n", 7},
		{"#!/usr/bin/awk -f\n# END_OF_SCRIPT\nBEGIN { exit 0 }", 0},
		{"#!/nowhere/at/all\nx\n", 126},
	} {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", asBash(c.script))
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"PATH=/usr/bin:/bin", "TMPDIR=" + cmd.Dir}
		err := cmd.Run()
		if exit := cmd.ProcessState.ExitCode(); exit != c.exit && !(c.exit == 126 && exit == 127) {
			t.Errorf("%q: exit %d, %v", c.script, exit, err)
		}
	}
}

func TestSaidBy(t *testing.T) {
	got := saidBy("#!/bin/bash\nn=$1\nif [ $n -gt 3 ]; then\n  echo \"Look at \\\"ls\\\".\"\n  echo 'Or at that.'\nfi\necho \"Seen $n seconds.\"\n# echo \"not this one\"\necho done\n")
	if !slices.Equal(got, []string{`Look at "ls".`, "Or at that."}) {
		t.Errorf("%q", got)
	}
}
