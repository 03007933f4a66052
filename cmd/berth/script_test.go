package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/cmd/learner"
	"berth/labs"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts tells stories of the whole program: testdata/script/*.txtar.
// Every script has a server of its own. Its commands:
//
//	serve [FLAG…]        start the server; again after stop or kill
//	stop, kill           end it as an operator does, or as a crash does
//	as NAME              go on as this learner, who keeps a cookie and terminals
//	open LAB             open a lab, and wait until its sandbox is ready
//	type TERMINAL TEXT   type a line
//	see TERMINAL TEXT    wait until a terminal prints it
//	ticked CHECK         wait until a check has passed; ! ticked: it has not
//	phase PHASE          wait until the session is in this phase
//	call METHOD PATH     call the API; SESSION in the path is the own session's
//	                     id, SESSION:NAME that of another; ! call: it is refused
//	get PATH             get a page; ! get: it is refused
//	berth COMMAND…       run another command of the program
//
// stdout and stderr are those of the last call, get or berth.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			s := &story{p: newProgram(t), learners: make(map[string]*player), now: "learner"}
			testscript.Run(t, testscript.Params{Files: []string{script}, RequireExplicitExec: true, Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"serve": told(s.serve), "stop": told(s.stop), "kill": told(s.kill),
				"as": told(s.as), "open": told(s.open), "type": told(s.typeLine), "see": told(s.see),
				"ticked": told(s.ticked), "phase": told(s.phase), "call": told(s.call), "get": told(s.get), "berth": told(s.berth),
			}})
		})
	}
}

type story struct {
	p        *program
	learners map[string]*player
	now      string
}

// A player is a learner in a story.
type player struct {
	*learner.Learner
	session string
	terms   map[string]*learner.Terminal
}

// told makes a command of a method: with ! it has to fail.
func told(f func(*testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		err := f(ts, args)
		if neg && err == nil {
			ts.Fatalf("it should have failed")
		}
		if neg {
			ts.Logf("%v", err)
			return
		}
		ts.Check(err)
	}
}

// want checks how many arguments a command got.
func want(args []string, n int) error {
	if len(args) != n {
		return fmt.Errorf("%d arguments; want %d", len(args), n)
	}
	return nil
}

func (s *story) serve(_ *testscript.TestScript, args []string) error {
	s.p.args = append(s.p.args, args...)
	if s.p.url != "" { // the pages keep their address over a restart
		s.p.args = append(s.p.args, "--listen", strings.TrimPrefix(s.p.url, "http://"))
	}
	return s.p.begin()
}

func (s *story) stop(*testscript.TestScript, []string) error { s.p.stop(); return nil }
func (s *story) kill(*testscript.TestScript, []string) error { s.p.kill(); return nil }

func (s *story) as(_ *testscript.TestScript, args []string) error {
	if err := want(args, 1); err != nil {
		return err
	}
	s.now = args[0]
	return nil
}

// player gives the learner whose turn it is.
func (s *story) player() (*player, error) {
	if p := s.learners[s.now]; p != nil {
		return p, nil
	}
	l, err := learner.New(s.p.url, nil)
	if err != nil {
		return nil, err
	}
	p := &player{Learner: l, terms: make(map[string]*learner.Terminal)}
	s.learners[s.now] = p
	return p, nil
}

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 40*time.Second)
}

func (s *story) open(_ *testscript.TestScript, args []string) error {
	if err := want(args, 1); err != nil {
		return err
	}
	p, err := s.player()
	if err != nil {
		return err
	}
	ctx, cancel := limited()
	defer cancel()
	st, err := p.Open(ctx, args[0])
	p.session = st.Session
	return err
}

// terminal gives one of the learner's terminals, connecting again when the
// server was restarted.
func (s *story) terminal(name string, fresh bool) (*learner.Terminal, error) {
	p, err := s.player()
	if err != nil {
		return nil, err
	}
	if t := p.terms[name]; t != nil && !fresh {
		return t, nil
	}
	ctx, cancel := limited()
	defer cancel()
	t, err := p.Attach(ctx, p.session, name, -1)
	if err == nil {
		p.terms[name] = t
	}
	return t, err
}

func (s *story) typeLine(_ *testscript.TestScript, args []string) error {
	if err := want(args, 2); err != nil {
		return err
	}
	t, err := s.terminal(args[0], false)
	if err == nil {
		err = t.Keys(args[1] + "\r")
	}
	if err != nil { // the line broke with the server
		if t, err = s.terminal(args[0], true); err == nil {
			err = t.Keys(args[1] + "\r")
		}
	}
	return err
}

// see looks at the terminal afresh, so that it also sees what was printed
// while nobody looked.
func (s *story) see(_ *testscript.TestScript, args []string) error {
	if err := want(args, 2); err != nil {
		return err
	}
	t, err := s.terminal(args[0], true)
	if err != nil {
		return err
	}
	_, err = t.Until(args[1], 30*time.Second)
	return err
}

// state waits until the session is as wanted.
func (s *story) state(what string, ok func(labs.State) bool) error {
	p, err := s.player()
	if err != nil {
		return err
	}
	ctx, cancel := limited()
	defer cancel()
	var last labs.State
	err = p.Events(ctx, p.session, func(kind string, data []byte) bool {
		switch kind {
		case "state":
			last = labs.State{}
			json.Unmarshal(data, &last)
		case "result":
			var r labs.ResultEvent
			if json.Unmarshal(data, &r) == nil && last.Checks != nil {
				last.Checks[r.Check] = r.CheckState
			}
		}
		return !ok(last)
	})
	if err != nil {
		return fmt.Errorf("%s: %w; last seen: phase %s (%s), checks %+v", what, err, last.Phase, last.Reason, last.Checks)
	}
	return nil
}

func (s *story) ticked(ts *testscript.TestScript, args []string) error {
	if err := want(args, 1); err != nil {
		return err
	}
	return s.state("ticked "+args[0], func(st labs.State) bool { return st.Checks[args[0]].Passed })
}

func (s *story) phase(_ *testscript.TestScript, args []string) error {
	if err := want(args, 1); err != nil {
		return err
	}
	return s.state("phase "+args[0], func(st labs.State) bool { return string(st.Phase) == args[0] })
}

func (s *story) call(ts *testscript.TestScript, args []string) error {
	if err := want(args, 2); err != nil {
		return err
	}
	p, err := s.player()
	if err != nil {
		return err
	}
	path := args[1]
	for name, other := range s.learners {
		path = strings.ReplaceAll(path, "SESSION:"+name, other.session)
	}
	path = strings.ReplaceAll(path, "SESSION", p.session)
	ctx, cancel := limited()
	defer cancel()
	var out json.RawMessage
	if err := p.Call(ctx, args[0], path, &out); err != nil {
		fmt.Fprintln(ts.Stderr(), err)
		return err
	}
	fmt.Fprintln(ts.Stdout(), string(out))
	return nil
}

func (s *story) get(ts *testscript.TestScript, args []string) error {
	if err := want(args, 1); err != nil {
		return err
	}
	ctx, cancel := limited()
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.p.url+args[0], nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return err
	}
	fmt.Fprintln(ts.Stdout(), string(body))
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

func (s *story) berth(ts *testscript.TestScript, args []string) error {
	if len(args) == 0 {
		return errors.New("which command?")
	}
	words := 1
	if args[0] == "image" || args[0] == "mirror" {
		words = 2
	}
	words = min(words, len(args))
	flags := []string{"--state", s.p.state, "--images", images}
	if words == 1 && args[0] != "serve" {
		flags = s.p.own()
	}
	out, err := s.p.run(strings.Join(args[:words], " "), append(flags, args[words:]...)...)
	io.Copy(ts.Stdout(), bytes.NewBufferString(out))
	return err
}
