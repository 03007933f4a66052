package labs

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An Arrival is what happens when a learner first comes to a part of a paged
// lesson; in one that is not paged, before the session is ready. Both begin
// together.
type Arrival struct {
	Setup []Setup   // hidden, not waited for
	Type  []Command // typed where the learner sees it, in order
}

// A Setup is bash that runs as root, hidden.
type Setup struct {
	Code string
	Host int // the sandbox, from 1; 0 is the first
}

// Ids of the parts that are not steps, where an arrival is meant. No step has
// them.
const (
	IntroID  = "intro"
	FinishID = "finish"
)

// ArrivalAt gives what happens at a step, at IntroID or at FinishID.
func (l *Lesson) ArrivalAt(part string) (*Arrival, bool) {
	switch part {
	case IntroID:
		return &l.Intro.Arrival, true
	case FinishID:
		return &l.Finish.Arrival, true
	}
	if st, ok := l.Step(part); ok {
		return &st.Arrival, true
	}
	return nil, false
}

// parts lists the ids of everything that has an arrival, in order.
func (l *Lesson) parts() []string {
	ids := []string{IntroID}
	for i := range l.Steps {
		ids = append(ids, l.Steps[i].ID)
	}
	return append(ids, FinishID)
}

// Arrive carries out what happens when a learner first comes to a part of the
// lesson: set-ups are started, hidden and not waited for, and what is to be
// typed is typed. It happens once in a life of the sandbox, whoever asks and
// however often, also over a restart of the server.
func (a *Arrival) Arrive(ctx context.Context, sb Sandbox, part string) error {
	for i, st := range a.Setup {
		one, err := on(sb, st.Host)
		if err != nil {
			return err
		}
		// The script outlives this connection, and leaves its output where an
		// author finds it.
		const start = `umask 077; d=/run/berth/arrivals; mkdir -p "$d" && mkdir "$d/$1" 2>/dev/null || exit 0
cat >"$d/$1/script" && cd && setsid -f bash "$d/$1/script" >"$d/$1/log" 2>&1 </dev/null`
		name := part + "-" + strconv.Itoa(i+1)
		cmd := Cmd{Args: []string{"bash", "-c", start, "arrive", name}, Stdin: strings.NewReader(st.Code)}
		if err := runHidden(ctx, one, cmd, "start the set-up of "+part); err != nil {
			return err
		}
	}
	for i, c := range a.Type {
		if err := TypeCommand(ctx, sb, c, fmt.Sprintf("arrival/%s/%d", part, i+1)); err != nil {
			return fmt.Errorf("type what %s begins with: %w", part, err)
		}
	}
	return nil
}

// TypeCommand types a command into its terminal, which is opened when it is
// not, at most once for one id. It waits a little for a prompt, so that what is
// typed does not show twice; what still runs then gets it as its input.
func TypeCommand(ctx context.Context, sb Sandbox, c Command, id string) error {
	at, err := sb.Attach(ctx, c.Terminal, Viewer{From: -1})
	if err != nil {
		return err
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer at.Close()
	prompted := make(chan struct{})
	reading.Go(func() { // also because a terminal that cannot write reads no more
		var tail []byte
		seen := sync.OnceFunc(func() { close(prompted) })
		defer seen()
		for {
			f, err := at.ReadFrame()
			if err != nil {
				return
			}
			if _, b, err := f.Output(); err == nil {
				tail = append(tail, b...)
				tail = tail[max(0, len(tail)-512):]
				if atPrompt(tail) {
					seen()
				}
			}
		}
	})
	waited, cancel := context.WithTimeout(ctx, promptWait)
	defer cancel()
	select {
	case <-prompted:
	case <-waited.Done():
	}
	text := c.Typed()
	for n := 0; len(text) > 0; n++ {
		// A frame holds the id as well.
		now := text[:min(len(text), MaxInput-512)]
		text = text[len(now):]
		if err := at.WriteFrame(CommandFrame(id+"/"+strconv.Itoa(n), now)); err != nil {
			return err
		}
	}
	wait(ctx, typingGrace) // nothing says that the frames were read, and closing could overtake them
	return nil
}

const (
	promptWait  = 3 * time.Second        // for a new shell to be ready
	typingGrace = 250 * time.Millisecond // for a terminal to read what was typed
)

// escape is what a terminal is told between its text.
var escape = regexp.MustCompile("\x1b(\\[[0-9;?]*[a-zA-Z]|\\][^\x07\x1b]*(\x07|\x1b\\\\))")

// atPrompt reports whether output ends as a shell that waits for a command.
func atPrompt(output []byte) bool {
	text := escape.ReplaceAll(output, nil)
	return bytes.HasSuffix(text, []byte("# ")) || bytes.HasSuffix(text, []byte("$ "))
}

// Typed gives the bytes that the command puts into a terminal.
func (c *Command) Typed() []byte {
	var b []byte
	if c.Interrupt {
		b = append(b, 3)
	}
	switch {
	case c.Keys:
		return append(b, keys(c.Code)...)
	case c.NoEnter:
		return append(b, c.Code...)
	}
	return append(append(b, c.Code...), '\n')
}

// keys reads caret notation: ^C is the byte 3, ^? is 127, ^^ is 30.
func keys(s string) []byte {
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '^' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		switch k := s[i] &^ 0x20; {
		case s[i] == '?':
			b = append(b, 127)
		case s[i] >= '@' && s[i] <= '_':
			b = append(b, s[i]-'@')
		case k >= 'A' && k <= 'Z':
			b = append(b, k-'@')
		default:
			b = append(b, '^', s[i])
		}
	}
	return b
}

// Arrive says that the learner has come to a part of a paged lesson: a step,
// IntroID or FinishID. What is to happen then happens once, and before it what
// belongs to the parts before, which the learner may have skipped.
func (d *Desk) Arrive(ctx context.Context, learner, session, part string) error {
	sb, err := d.Sandbox(ctx, learner, session)
	if err != nil {
		return err
	}
	v, err := d.visit(learner, session)
	if err != nil {
		return err
	}
	l, _ := v.current()
	if _, ok := l.ArrivalAt(part); !ok {
		return fmt.Errorf("part %q: %w", part, ErrNotFound)
	}
	if !l.Paged {
		return nil
	}
	v.arriving.Lock()
	defer v.arriving.Unlock()
	for _, id := range l.parts() {
		if !v.arrived[id] {
			a, _ := l.ArrivalAt(id)
			if err := a.Arrive(ctx, sb, id); err != nil {
				return fmt.Errorf("arrive at %s: %w", id, err)
			}
			v.arrived[id] = true
		}
		v.reach(id)
		if id == part {
			break
		}
	}
	return nil
}

// reach has the checks of a part count from now on.
func (v *visit) reach(part string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.reached != nil {
		v.reached[part] = true
	}
}

// typeAtStart types what the lesson's terminals begin with and, where nothing
// waits for the learner to arrive, what its parts begin with; once in the life
// of the sandbox.
func (d *Desk) typeAtStart(v *visit, l *Lesson, sb Sandbox) {
	err := func() error {
		for _, t := range l.Terminals {
			if t.Command == "" {
				continue
			}
			if err := TypeCommand(v.ctx, sb, Command{Code: t.Command, Terminal: t.Name}, "terminal/"+t.Name); err != nil {
				return err
			}
		}
		if l.Paged {
			return nil
		}
		for _, part := range l.parts() {
			a, _ := l.ArrivalAt(part)
			if err := (&Arrival{Type: a.Type}).Arrive(v.ctx, sb, part); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil && v.ctx.Err() == nil {
		d.Log.Error("type what a lesson begins with", "session", v.session.ID, "err", err)
	}
}
