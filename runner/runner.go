// Package runner makes sandboxes of boxes: it is the client half of the agent
// that runs inside (package runner/agent), and keeps warm sandboxes ready. A
// kind of runner (runner/local, later others) only has to start a box in which
// the agent runs and to give connections to it; the rest is here, once.
//
// Whatever comes out of a sandbox is in the hands of its learner, so sizes,
// counts and times of all that is read here are bounded.
package runner

import (
	"context"
	"errors"
	"fmt"

	"berth/labs"
)

// New gives a Runner that makes a sandbox of every box. It is a labs.Networker
// when the boxes are.
func New(boxes labs.Boxes) labs.Runner {
	if n, ok := boxes.(labs.Networker); ok {
		return connecting{plain{boxes}, n}
	}
	return plain{boxes}
}

// connecting is a Runner of boxes that can be connected. A sandbox has the id
// of its box.
type connecting struct {
	plain
	labs.Networker
}

type plain struct{ boxes labs.Boxes }

func (p plain) Start(ctx context.Context, spec labs.Spec) (labs.Sandbox, error) {
	box, err := p.boxes.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	sb := newSandbox(box)
	// The connection waits in the agent's backlog until it accepts.
	if err := sb.ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for the agent of %s: %w", box.ID(), err), box.Destroy())
	}
	return sb, nil
}

func (p plain) Adopt(ctx context.Context) ([]labs.Sandbox, error) {
	boxes, err := p.boxes.Adopt(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]labs.Sandbox, 0, len(boxes))
	for _, box := range boxes {
		all = append(all, newSandbox(box))
	}
	return all, nil
}

func (p plain) Close() error { return p.boxes.Close() }
