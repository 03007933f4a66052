package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/cmd/learner"
	"berth/labs"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts tells stories of the whole program: testdata/script/*.txtar.
// Every script has a server of its own. Its commands:
//
//	serve [FLAG…]        start the server; again after it stopped or died; ! serve:
//	                     it says why not on stderr, and the flags are forgotten
//	server-stops         end it as an operator does
//	server-dies          end it as a crash does (stop and kill are testscript's own)
//	as NAME              go on as this learner, who keeps a cookie and terminals
//	open LAB             open a lab, and wait until its sandbox is ready
//	type TERMINAL TEXT   type a line
//	see TERMINAL TEXT    wait until a terminal prints it
//	ticked CHECK         wait until a check has passed; ! ticked: it has not
//	phase PHASE          wait until the session is in this phase
//	notice KIND TEXT     wait until the page was told this since the lab was opened
//	crash                end the first process of every sandbox
//	empty                wait until no sandbox is left
//	disk DIR OPTIONS     put another, empty disk at DIR: "ro" or "size=64k"
//	call METHOD PATH [BODY]
//	                     call the API; SESSION in the path is the own session's
//	                     id, SESSION:NAME that of another; ! call: it is refused
//	get PATH             get a page; ! get: it is refused
//	edit LAB PROGRAM…    have a program of the machine edit the lab's files in $WORK,
//	                     and wait until the page is told; stdout is its mistakes
//	berth COMMAND…       run another command of the program, in $WORK; stderr is
//	                     its exit status when that is not 0
//
// stdout and stderr are those of the last call, get, serve or berth. STATE in
// the environment is the state directory, ADDRESS in berth's arguments where
// the server listens.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			s := &story{p: newProgram(t), learners: make(map[string]*player), now: "learner"}
			listening, hush := context.WithCancel(context.Background())
			s.listening = listening
			t.Cleanup(func() { hush(); s.listeners.Wait() })
			setup := func(e *testscript.Env) error { e.Setenv("STATE", s.p.state); return nil }
			testscript.Run(t, testscript.Params{Files: []string{script}, RequireExplicitExec: true, Setup: setup, Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"serve": told(s.serve), "server-stops": told(s.stop), "server-dies": told(s.kill),
				"as": told(s.as), "open": told(s.open), "type": told(s.typeLine), "see": told(s.see),
				"ticked": told(s.ticked), "phase": told(s.phase), "call": told(s.call), "get": told(s.get), "berth": told(s.berth),
				"notice": told(s.notice), "crash": told(s.crash), "empty": told(s.empty), "disk": told(s.disk),
				"edit": told(s.edit),
			}})
		})
	}
}

type story struct {
	p        *program
	learners map[string]*player
	now      string

	listening context.Context // ends with the story
	listeners sync.WaitGroup
}

// A player is a learner in a story.
type player struct {
	*learner.Learner
	session string
	terms   map[string]*learner.Terminal

	mu      sync.Mutex
	notices []labs.Notice
	heard   chan struct{} // closed and renewed when there is another notice
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

func (s *story) serve(ts *testscript.TestScript, args []string) (err error) {
	before := s.p.args
	defer func() {
		if err != nil {
			s.p.args = before
			fmt.Fprintln(ts.Stderr(), err)
		}
	}()
	s.p.mu.Lock()
	s.p.stderr.Reset()
	s.p.mu.Unlock()
	s.p.args = append(slices.Clip(s.p.args), args...)
	if s.p.url != "" { // the pages keep their address over a restart
		s.p.args = append(s.p.args, "--listen", strings.TrimPrefix(s.p.url, "http://"))
	}
	return s.p.begin()
}

func (s *story) stop(*testscript.TestScript, []string) error { return s.gone(s.p.stop) }
func (s *story) kill(*testscript.TestScript, []string) error { return s.gone(s.p.kill) }

// gone ends the server. What is written to a line that broke with it can be
// lost without an error, so all terminals are attached anew.
func (s *story) gone(end func()) error {
	end()
	for _, p := range s.learners {
		clear(p.terms)
	}
	return nil
}

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
	p := &player{Learner: l, terms: make(map[string]*learner.Terminal), heard: make(chan struct{})}
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
	var st labs.State
	if err := p.Call(ctx, "POST", "/api/labs/"+args[0]+"/session", &st); err != nil {
		return err
	}
	if p.session != st.Session {
		p.session = st.Session
		clear(p.terms) // they were of another session
		begun := make(chan struct{})
		s.listeners.Go(func() { p.listen(s.listening, st.Session, sync.OnceFunc(func() { close(begun) })) })
		select { // from here on nothing is missed
		case <-begun:
		case <-ctx.Done():
			return fmt.Errorf("listen to the events of lab %s: %w", args[0], ctx.Err())
		}
	}
	_, err = p.Open(ctx, args[0])
	return err
}

// listen collects what the page of a session is told, until ctx ends.
func (p *player) listen(ctx context.Context, session string, begun func()) {
	for ctx.Err() == nil {
		p.Events(ctx, session, func(kind string, data []byte) bool { // an error: the server was stopped
			begun()
			var n labs.Notice
			if kind == "notice" && json.Unmarshal(data, &n) == nil {
				p.mu.Lock()
				p.notices = append(p.notices, n)
				close(p.heard)
				p.heard = make(chan struct{})
				p.mu.Unlock()
			}
			return true
		})
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (s *story) notice(_ *testscript.TestScript, args []string) error {
	if err := want(args, 2); err != nil {
		return err
	}
	p, err := s.player()
	if err != nil {
		return err
	}
	ctx, cancel := limited()
	defer cancel()
	for {
		p.mu.Lock()
		all, more := slices.Clone(p.notices), p.heard
		p.mu.Unlock()
		if slices.ContainsFunc(all, func(n labs.Notice) bool { return n.Kind == args[0] && strings.Contains(n.Text, args[1]) }) {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("the page was told only %+v", all)
		}
	}
}

// sandboxes are those that run.
func (s *story) sandboxes() (all []struct{ PID int }, err error) {
	out, err := s.p.run("ps", append(s.p.own(), "--json", "--log-level", "error")...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &all)
	}
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w: %s", err, out)
	}
	return all, nil
}

func (s *story) crash(*testscript.TestScript, []string) error {
	all, err := s.sandboxes()
	if err == nil && len(all) == 0 {
		err = errors.New("there is no sandbox")
	}
	for _, b := range all {
		err = errors.Join(err, syscall.Kill(b.PID, syscall.SIGKILL))
	}
	return err
}

func (s *story) empty(*testscript.TestScript, []string) error {
	ctx, cancel := limited()
	defer cancel()
	for {
		all, err := s.sandboxes()
		if err != nil || len(all) == 0 {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d sandboxes are left", len(all))
		}
	}
}

func (s *story) disk(ts *testscript.TestScript, args []string) error {
	if err := want(args, 2); err != nil {
		return err
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	var flags uintptr
	data := args[1]
	if data == "ro" {
		flags, data = syscall.MS_RDONLY, ""
	}
	if err := syscall.Mount("tmpfs", args[0], "tmpfs", flags, data); err != nil {
		return fmt.Errorf("mount a disk at %s: %w", args[0], err)
	}
	ts.Defer(func() { syscall.Unmount(args[0], syscall.MNT_DETACH) })
	return nil
}

func (s *story) edit(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("which lab, and how?")
	}
	ctx, cancel := limited()
	defer cancel()
	events, err := follow(ctx, s.p.url, args[0])
	if err != nil {
		return err
	}
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		return err
	}
	select {
	case e, ok := <-events:
		if !ok {
			return errors.New("the stream of changes ended")
		}
		for _, m := range e.Mistakes {
			fmt.Fprintln(ts.Stdout(), m.Error())
		}
		return nil
	case <-ctx.Done():
		return errors.New("the page was told nothing")
	}
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
	body := ""
	if len(args) == 3 {
		args, body = args[:2], args[2]
	}
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
	if err := p.Send(ctx, args[0], path, body, &out); err != nil {
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
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "ADDRESS", strings.TrimPrefix(s.p.url, "http://"))
	}
	words := 1
	if args[0] == "image" || args[0] == "mirror" {
		words = 2
	}
	words = min(words, len(args))
	flags := []string{"--state", s.p.state, "--images", images}
	switch {
	case args[0] == "new" || args[0] == "import":
		flags = nil
	case words == 1 && args[0] != "serve" && args[0] != "lint":
		flags = s.p.own()
	}
	out, err := s.p.runIn(ts.Getenv("WORK"), strings.Join(args[:words], " "), append(flags, args[words:]...)...)
	io.Copy(ts.Stdout(), bytes.NewBufferString(out))
	if err != nil {
		fmt.Fprintln(ts.Stderr(), err) // exit status 2
	}
	return err
}
