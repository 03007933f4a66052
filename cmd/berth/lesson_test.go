package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"berth/cmd/learner"
	"berth/content"
	"berth/labs"
	"berth/labs/markdown"
)

// TestLessons goes through every lesson that is shipped as a learner would:
// each step's commands are typed into a real terminal of a real sandbox; each
// check must be red before and green after. On every engine that the lessons
// promise to work with.
func TestLessons(t *testing.T) {
	lessons, mistakes := markdown.LoadAll(content.Labs())
	for _, m := range mistakes {
		t.Errorf("%v", m)
	}
	if len(lessons) == 0 {
		t.Fatal("no lesson is shipped")
	}
	for _, engine := range []string{"docker", "docker-20"} {
		t.Run(engine, func(t *testing.T) {
			p := newProgram(t, "--engine", engine)
			p.start()
			for _, l := range lessons {
				t.Run(l.ID, func(t *testing.T) { goThrough(t, p.url, l) })
			}
		})
	}
}

func goThrough(t *testing.T, url string, lesson *labs.Lesson) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	l, err := learner.New(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Open(ctx, lesson.ID)
	if err != nil {
		t.Fatal(err)
	}
	term, err := l.Attach(ctx, s.Session, "1", -1)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	var slowest time.Duration
	for i := range lesson.Steps {
		step := &lesson.Steps[i]
		// Whatever came before, the checks of a step not yet begun are red.
		var now labs.State
		if err := l.Call(ctx, "GET", "/api/sessions/"+s.Session, &now); err != nil {
			t.Fatal(err)
		}
		for _, c := range step.Checks {
			if now.Checks[c.ID].Passed {
				t.Errorf("check %s (%s) is green before its step was begun", c.ID, c.Name)
			}
		}
		for n, code := range step.Solution.Commands {
			mark := fmt.Sprintf("@@%d-%d@@", i, n)
			if err := typeCommand(term, code, mark); err != nil {
				t.Fatalf("step %s: %v", step.ID, err)
			}
		}
		ended := time.Now()
		if err := ticked(ctx, l, s.Session, step); err != nil {
			t.Fatalf("step %s: %v", step.ID, err)
		}
		took := time.Since(ended)
		slowest = max(slowest, took)
		t.Logf("step %s: ticked after %d ms", step.ID, took.Milliseconds())
	}
	t.Logf("slowest tick after a step's last command: %d ms (goal: under 300 ms)", slowest.Milliseconds())
}

// typeCommand types a command as a click does and waits for its end.
func typeCommand(term *learner.Terminal, code, mark string) error {
	if strings.Contains(code, "\n") {
		code = "\x1b[200~" + code + "\x1b[201~"
	}
	if err := term.Keys(code + "\r"); err != nil {
		return err
	}
	// Typed ahead: the shell reads it when the command is over.
	half := len(mark) / 2
	if err := term.Keys("echo " + mark[:half] + "''" + mark[half:] + "\r"); err != nil {
		return err
	}
	if _, err := term.Until(mark, 3*time.Minute); err != nil {
		return fmt.Errorf("%q did not end: %w", code, err)
	}
	return nil
}

// ticked waits until every check of the step has passed.
func ticked(ctx context.Context, l *learner.Learner, session string, step *labs.Step) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var last labs.State
	seen := func() error {
		for _, c := range step.Checks {
			if st := last.Checks[c.ID]; !st.Passed && !c.Optional {
				return fmt.Errorf("check %s (%s) is not ticked: %s; expected %s; seen %s; %s", c.ID, c.Name, st.Now.Status, st.Now.Expected, st.Now.Seen, st.Now.Reason)
			}
		}
		return nil
	}
	err := l.Events(ctx, session, func(kind string, data []byte) bool {
		switch kind {
		case "state":
			json.Unmarshal(data, &last)
		case "result":
			var r labs.ResultEvent
			if json.Unmarshal(data, &r) == nil && last.Checks != nil {
				last.Checks[r.Check] = r.CheckState
			}
		}
		return seen() != nil
	})
	if err != nil {
		return fmt.Errorf("%w (%w)", seen(), err)
	}
	return nil
}
