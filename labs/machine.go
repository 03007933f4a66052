package labs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
)

// machines are the sandboxes of one session that has several, as one: what is
// said about it is about the first, but its terminals are those of all.
type machines struct {
	Sandbox
	others []Sandbox // the second, the third …
}

// on gives one of the sandboxes, from 1.
func on(sb Sandbox, host int) (Sandbox, error) {
	m, several := sb.(*machines)
	switch {
	case host <= 1 && several:
		return m.Sandbox, nil
	case host <= 1:
		return sb, nil
	case several && host-2 < len(m.others):
		return m.others[host-2], nil
	}
	return nil, &Problem{Kind: ErrNotFound, Say: fmt.Sprintf("This lab has no sandbox number %d.", host)}
}

// each gives all sandboxes in their order.
func each(sb Sandbox) []Sandbox {
	if m, ok := sb.(*machines); ok {
		return append([]Sandbox{m.Sandbox}, m.others...)
	}
	return []Sandbox{sb}
}

// together gives several sandboxes as one.
func together(all []Sandbox) Sandbox {
	if len(all) == 1 {
		return all[0]
	}
	return &machines{Sandbox: all[0], others: all[1:]}
}

// Attach opens a terminal of the sandbox that its name says.
func (m *machines) Attach(ctx context.Context, name string, v Viewer) (Attachment, error) {
	inside, host := SplitTerminal(name)
	sb, err := on(m, host)
	if err != nil {
		return nil, err
	}
	return sb.Attach(ctx, inside, v)
}

// Terminals lists the terminals of all sandboxes.
func (m *machines) Terminals(ctx context.Context) ([]string, error) {
	var names []string
	for i, sb := range each(m) {
		own, err := sb.Terminals(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range own {
			if i > 0 {
				name += "@" + strconv.Itoa(i+1)
			}
			names = append(names, name)
		}
	}
	return names, nil
}

// Watch tells what happens in the first sandbox. What happens in the others is
// told as Lost, since it can concern any check.
func (m *machines) Watch(ctx context.Context, w Watch) (<-chan Change, error) {
	ctx, cancel := context.WithCancel(ctx)
	first, err := m.Sandbox.Watch(ctx, w)
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan Change)
	pass := func(c Change) {
		select {
		case out <- c:
		case <-ctx.Done():
		}
	}
	var passing sync.WaitGroup
	for _, sb := range m.others {
		in, err := sb.Watch(ctx, Watch{After: 1<<63 - 1})
		if err != nil {
			continue // the checks still look at every event of the first
		}
		passing.Go(func() {
			for c := range in {
				if c.Command != nil {
					pass(Change{Lost: true})
				}
			}
		})
	}
	passing.Go(func() {
		defer cancel()
		for c := range first {
			pass(c)
		}
	})
	go func() { // ends with the watches, which end with ctx
		passing.Wait()
		close(out)
	}()
	return out, nil
}

// Destroy ends all sandboxes.
func (m *machines) Destroy() error {
	var errs []error
	for _, sb := range each(m) {
		errs = append(errs, sb.Destroy())
	}
	return errors.Join(errs...)
}

// hostName is what a sandbox of a lesson is called: as the lesson says, and
// those after the first by their number.
func hostName(l *Lesson, host int) string {
	if host > 1 || l.Hostname == "" {
		return fmt.Sprintf("host%02d", host)
	}
	return l.Hostname
}

// introduce gives the sandboxes their names, and makes those of one lesson
// known to each other.
func (d *Desk) introduce(ctx context.Context, l *Lesson, sb Sandbox) error {
	all := each(sb)
	if l.Hostname == "" && len(all) == 1 {
		return nil
	}
	var hosts strings.Builder
	if len(all) > 1 {
		n, ok := d.Runner.(Networker)
		if !ok {
			return &Problem{Kind: ErrInvalid, Say: "This lab needs several machines on one network, which the sandboxes of this server cannot have."}
		}
		ids := make([]string, len(all))
		for i := range all {
			ids[i] = all[i].ID()
		}
		addrs, err := n.Connect(ctx, ids...)
		if err != nil {
			return fmt.Errorf("connect the sandboxes: %w", err)
		}
		for i, a := range addrs {
			fmt.Fprintf(&hosts, "%s %s\n", a, hostName(l, i+1))
		}
	} else {
		fmt.Fprintf(&hosts, "%s %s\n", netip.AddrFrom4([4]byte{127, 0, 1, 1}), hostName(l, 1))
	}
	for i, sb := range all {
		const name = `hostname "$1" && cat >>/etc/hosts && echo "$1" >/etc/hostname`
		cmd := Cmd{Args: []string{"bash", "-c", name, "name", hostName(l, i+1)}, Stdin: strings.NewReader(hosts.String())}
		if err := runHidden(ctx, sb, cmd, "name sandbox "+strconv.Itoa(i+1)); err != nil {
			return err
		}
	}
	return nil
}

// SandboxOn gives one of the session's sandboxes, from 1, as Sandbox does.
func (d *Desk) SandboxOn(ctx context.Context, learner, session string, host int) (Sandbox, error) {
	sb, err := d.Sandbox(ctx, learner, session)
	if err != nil {
		return nil, err
	}
	return on(sb, host)
}
