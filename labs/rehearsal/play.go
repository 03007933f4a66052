package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/labs"
)

// A play is one time through a lesson: a learner of its own, with a session, a
// sandbox and terminals. One goroutine uses it; others of its own listen.
type play struct {
	*Rehearsal
	learner string
	session string
	lesson  *labs.Lesson // as this learner sees it
	sandbox labs.Sandbox

	ctx       context.Context // of what listens; ends with leave
	stop      context.CancelFunc
	listening sync.WaitGroup
	terminals map[string]*terminal
	histories map[int]*history // by sandbox, from 1

	mu     sync.Mutex
	checks map[string]labs.CheckState
	ticked map[string]time.Time // when checks turned green
	told   chan struct{}        // closed and renewed when checks changed
}

// open opens the lesson for a new learner and waits until its sandbox is ready.
func (r *Rehearsal) open(ctx context.Context, l *labs.Lesson) (_ *play, err error) {
	who, _, err := r.Desk.NewLearner(ctx)
	if err != nil {
		return nil, err
	}
	st, err := r.Desk.Open(ctx, who.ID, l.ID)
	if err != nil {
		return nil, err
	}
	p := &play{
		Rehearsal: r, learner: who.ID, session: st.Session, terminals: make(map[string]*terminal),
		histories: make(map[int]*history), checks: make(map[string]labs.CheckState), ticked: make(map[string]time.Time), told: make(chan struct{}),
	}
	p.ctx, p.stop = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			p.leave()
			p.end()
		}
	}()
	if p.lesson, err = r.Desk.Personal(who.ID, l.ID); err != nil {
		return nil, err
	}
	p.listening.Go(p.listen)
	ready, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if p.sandbox, err = r.Desk.Sandbox(ready, who.ID, p.session); err != nil {
		return nil, fmt.Errorf("start a sandbox: %w", err)
	}
	for host := 1; host <= max(1, l.Hosts); host++ {
		sb, err := r.Desk.SandboxOn(ready, who.ID, p.session, host)
		if err != nil {
			return nil, fmt.Errorf("start sandbox %d: %w", host, err)
		}
		h := newHistory()
		p.histories[host] = h
		p.listening.Go(func() { h.follow(p.ctx, sb) })
	}
	return p, nil
}

// leave closes the terminals, whose shells go on, and stops listening.
func (p *play) leave() {
	for _, t := range p.terminals {
		t.close()
	}
	p.stop()
	p.listening.Wait()
}

// end ends the session and with it the sandbox.
func (p *play) end() {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	if _, err := p.Desk.End(ctx, p.learner, p.session); err != nil && p.Log != nil {
		p.Log.Error("end a rehearsal's session", "session", p.session, "err", err)
	}
}

// listen keeps what the session's page would show of its checks.
func (p *play) listen() {
	for p.ctx.Err() == nil {
		events, cancel, err := p.Desk.Subscribe(p.ctx, p.learner, p.session)
		if err != nil {
			return
		}
		if st, err := p.Desk.State(p.ctx, p.learner, p.session); err == nil {
			p.note(st.Checks)
		}
		p.take(events)
		cancel()
	}
}

// take takes events until the subscription ends: it was too slow, or p.ctx.
func (p *play) take(events <-chan labs.Event) {
	for {
		select {
		case <-p.ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			switch data := e.Data.(type) {
			case labs.ResultEvent:
				p.note(map[string]labs.CheckState{data.Check: data.CheckState})
			case labs.State:
				p.note(data.Checks)
			}
		}
	}
}

func (p *play) note(checks map[string]labs.CheckState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, c := range checks {
		if c.Passed && !p.checks[id].Passed {
			p.ticked[id] = c.Now.At
		}
		p.checks[id] = c
	}
	close(p.told)
	p.told = make(chan struct{})
}

// news is closed when a check has changed after the call.
func (p *play) news() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told
}

// passed reports whether a check has turned green, and when.
func (p *play) passed(check string) (bool, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checks[check].Passed, p.ticked[check]
}

func (p *play) seen(check string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checks[check].Now.Seen
}

// arrive comes to a part of the lesson and waits until what happens there is
// over. s takes remarks and may be nil.
func (p *play) arrive(ctx context.Context, part string, s *Step) error {
	if s == nil {
		s = &Step{}
	}
	a, ok := p.lesson.ArrivalAt(part)
	if !ok || len(a.Setup) == 0 && len(a.Type) == 0 {
		return nil
	}
	p.Desk.Touch(p.session)
	before := make(map[*terminal]progress)
	for _, c := range a.Type {
		t, err := p.terminal(ctx, c.Terminal)
		if err != nil {
			return err
		}
		if _, had := before[t]; !had {
			before[t] = t.progress()
		}
	}
	if p.lesson.Paged {
		if err := p.Desk.Arrive(ctx, p.learner, p.session, part); err != nil {
			return err
		}
	}
	for _, st := range a.Setup {
		if err := p.setUp(ctx, max(1, st.Host), s); err != nil {
			return err
		}
	}
	for t, was := range before {
		if end := p.await(ctx, t, was, nil, true); end == stuck {
			s.remark("what is typed on arriving at %s does not end in terminal %s", part, t.name)
		}
	}
	return ctx.Err()
}

// setUpOver fails while a set-up runs: the first process of its session, which
// is bash with the script that the desk has put there. What it has started and
// left behind does not count.
const setUpOver = `for d in /proc/[0-9]*; do
	mapfile -d '' -t a <"$d/cmdline" && [[ ${a[1]-} == /run/berth/arrivals/*/script ]] || continue
	read -r stat <"$d/stat" || continue
	set -- ${stat##*) }
	[ "$4" != "${d#/proc/}" ] || exit 1
done 2>/dev/null
exit 0`

// setUp waits until the hidden set-ups of a sandbox are over, which a learner's
// reading gives them time for.
func (p *play) setUp(ctx context.Context, host int, s *Step) error {
	sb, err := p.Desk.SandboxOn(ctx, p.learner, p.session, host)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	for {
		exit, err := sb.Exec(ctx, labs.Cmd{Args: []string{"bash", "-c", setUpOver}})
		switch {
		case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
			s.remark("the hidden set-up still runs after %v", setupTime)
			return nil
		case err != nil:
			return fmt.Errorf("wait for the hidden set-up: %w", err)
		case exit == 0:
			return nil
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// An act is a command to type or a file to write.
type act struct {
	command *labs.Command
	file    *labs.FileBlock
}

// actsOf gives what is done in a step. Without a solution that is what its page
// offers, from top to bottom; with one, the page's files and then the solution.
func actsOf(st *labs.Step) []act {
	var all []act
	for i := range st.Files {
		all = append(all, act{file: &st.Files[i]})
	}
	if len(st.Solution.Commands) > 0 {
		for i := range st.Solution.Commands {
			all = append(all, act{command: &st.Solution.Commands[i]})
		}
		return all
	}
	for i := range st.Commands {
		all = append(all, act{command: &st.Commands[i]})
	}
	at := func(a act) int {
		attr := ""
		if a.command != nil {
			attr = `data-command="` + a.command.ID + `"`
		} else {
			attr = `data-file="` + a.file.ID + `"`
		}
		if i := strings.Index(st.HTML, attr); i >= 0 {
			return i
		}
		return len(st.HTML)
	}
	slices.SortStableFunc(all, func(a, b act) int { return cmp.Compare(at(a), at(b)) })
	return all
}

// acts does what a step asks for.
func (p *play) acts(ctx context.Context, st *labs.Step, s *Step) error {
	all := actsOf(st)
	for i, a := range all {
		p.Desk.Touch(p.session)
		if a.file != nil {
			if err := p.Desk.WriteFile(ctx, p.learner, p.session, a.file.ID); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				s.defect("the file %s could not be written: %s", a.file.Path, explain(err))
			}
			continue
		}
		var next *labs.Command
		for _, b := range all[i+1:] {
			if b.command != nil {
				next = b.command
				break
			}
		}
		c, err := p.command(ctx, a.command, next, s)
		s.Commands = append(s.Commands, c)
		if err != nil {
			return fmt.Errorf("type %q: %w", short(a.command.Code), err)
		}
	}
	return nil
}

// command types a command as a click does, and waits for its end as far as that
// makes sense: next is the command after it, or nil.
func (p *play) command(ctx context.Context, c, next *labs.Command, s *Step) (rep Command, err error) {
	rep = Command{Code: c.Code, Terminal: c.Terminal}
	t, err := p.terminal(ctx, c.Terminal)
	if err != nil {
		return rep, err
	}
	if t.busy != nil { // with an earlier command
		left := p.commandTime() - time.Since(t.busy.began)
		if c.Interrupt || c.Keys {
			left = 0
		}
		waiting, cancel := context.WithTimeout(ctx, max(left, 0))
		end := p.await(waiting, t, t.busy.was, c, false)
		cancel()
		if ctx.Err() != nil {
			return rep, ctx.Err()
		}
		if end == stuck && !c.Interrupt && !c.Keys {
			s.remark("`%s` does not end, and was interrupted before `%s`; mark that one with {interrupt}, or give it another terminal", short(t.busy.code), short(c.Code))
			p.interrupt(ctx, t)
		}
		t.busy = nil
	}
	if c.Interrupt {
		p.interrupt(ctx, t)
	}
	began := time.Now()
	t.clear()
	was := t.progress()
	_, host := labs.SplitTerminal(c.Terminal)
	mark := p.histories[host].mark(t.inside)
	if err := t.enter(c); err != nil {
		return rep, err
	}
	end := ended
	if c.Keys || c.NoEnter {
		t.quiet(ctx, 500*time.Millisecond, 3*time.Second)
	} else {
		limited, cancel := context.WithTimeout(ctx, p.commandTime())
		end = p.await(limited, t, was, next, false)
		cancel()
	}
	if ctx.Err() != nil {
		return rep, ctx.Err()
	}
	switch end {
	case ended:
		rep.Exit = p.histories[host].exit(ctx, mark)
		if offered(c, p.lesson) && rep.Exit != nil && (*rep.Exit == 126 || *rep.Exit == 127) {
			s.remark("`%s` could not be run, exit status %d", short(c.Code), *rep.Exit)
		}
	case runsOn:
		t.busy = &running{code: c.Code, began: began, was: was}
	case stuck:
		if next != nil && next.Terminal == c.Terminal && !next.Interrupt && !next.Keys {
			s.remark("`%s` does not end, and was interrupted; mark the command behind it with {interrupt}, or give it another terminal", short(c.Code))
			p.interrupt(ctx, t)
			rep.interrupted = true
		} else {
			s.remark("`%s` does not end", short(c.Code))
			t.busy = &running{code: c.Code, began: began, was: was}
		}
	}
	rep.Seconds = seconds(time.Since(began))
	rep.Output = t.output()
	return rep, nil
}

// offered reports whether the command is one that a page offers to run, and not
// of a solution, which may show how something fails.
func offered(c *labs.Command, l *labs.Lesson) bool {
	for i := range l.Steps {
		for j := range l.Steps[i].Commands {
			if c == &l.Steps[i].Commands[j] {
				return true
			}
		}
	}
	return false
}

func (p *play) commandTime() time.Duration { return cmp.Or(p.CommandTime, 5*time.Minute) }

// interrupt sends Ctrl-C and waits a moment for the shell, and until it is told
// how what it ran has ended: that is not the next command's exit status.
func (p *play) interrupt(ctx context.Context, t *terminal) {
	was := t.progress()
	_, host := labs.SplitTerminal(t.name)
	h := p.histories[host]
	mark := h.mark(t.inside)
	if t.keys([]byte{3}) != nil {
		return // what is typed next says why
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	t.until(ctx, func(now progress) bool { return now.reads && now.asked > was.asked })
	h.exit(ctx, mark)
}

// How a command came out.
type ending int

const (
	ended  ending = iota // a program asks for the next line
	runsOn               // it stays in the foreground, and nothing has to wait for it
	stuck                // it does not end
)

const (
	look       = 500 * time.Millisecond // between looks at a command that runs
	promptTime = 1500 * time.Millisecond
	idleTime   = 5 * time.Second  // without output and work: it stays in the foreground
	stuckTime  = 30 * time.Second // without output and work, while the next command needs its terminal
	idleCPU    = 30 * time.Millisecond
)

// await waits until what was typed into a terminal after was is over, or, when
// the next command does not have to wait for that, until nothing happens any
// more. settle is for what was typed in several lines.
func (p *play) await(ctx context.Context, t *terminal, was progress, next *labs.Command, settle bool) ending {
	over := func(now progress) bool { return now.reads && now.asked > was.asked }
	if settle {
		over = func(now progress) bool {
			return now.reads && now.asked > was.asked && time.Since(now.last) > promptTime/2
		}
	}
	_, host := labs.SplitTerminal(t.name)
	var cpu time.Duration
	idle := time.Now()
	for {
		short, cancel := context.WithTimeout(ctx, look)
		ok := t.until(short, over)
		cancel()
		now := t.progress()
		switch {
		case ok:
			return ended
		case ctx.Err() != nil, now.gone:
			return stuck
		}
		used := p.cpu(ctx, host)
		if used-cpu > idleCPU || time.Since(now.last) < look {
			idle = time.Now()
		}
		cpu = used
		still := time.Since(idle)
		waits := next != nil && next.Terminal == t.name && !next.Interrupt && !next.Keys
		switch {
		case still > promptTime && now.last.After(was.at) && t.prompt():
			return ended // of a program that reads lines in another way
		case !waits && still > idleTime:
			return runsOn
		case still > stuckTime:
			return stuck
		}
	}
}

// cpu is what a sandbox has used so far.
func (p *play) cpu(ctx context.Context, host int) time.Duration {
	sb, err := p.Desk.SandboxOn(ctx, p.learner, p.session, host)
	if err != nil {
		return 0
	}
	u, err := sb.Usage(ctx)
	if err != nil {
		return 0
	}
	return u.CPU
}

// terminal gives the terminal of this name, attaching to it the first time.
func (p *play) terminal(ctx context.Context, name string) (*terminal, error) {
	if t := p.terminals[name]; t != nil {
		return t, nil
	}
	t, err := attach(ctx, p.sandbox, name)
	if err != nil {
		return nil, fmt.Errorf("open terminal %s: %w", name, err)
	}
	p.terminals[name] = t
	// The first prompt; a shell that shows none is typed into all the same.
	first, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	t.until(first, func(now progress) bool { return now.reads })
	return t, ctx.Err()
}
