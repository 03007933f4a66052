package local

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"berth/labs"
)

// box is a sandbox that has been started.
type box struct {
	boxes *Boxes
	rec   record
	at    layout

	counters counters

	destroying sync.Mutex
	destroyed  bool // guarded by destroying
}

var _ labs.Box = (*box)(nil)

func (b *box) ID() string { return b.rec.ID }

// Dial connects to the agent. ErrGone when the sandbox has ended.
func (b *box) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := dialAgent(ctx, b.at.socket())
	if err == nil {
		return conn, nil
	}
	if ctx.Err() == nil && startTime(b.rec.PID) != b.rec.Started {
		return nil, fmt.Errorf("connect to sandbox %s: %w", b.rec.ID, labs.ErrGone)
	}
	return nil, fmt.Errorf("connect to sandbox %s: %w", b.rec.ID, err)
}

// Usage measures the sandbox. ErrGone when it has ended.
func (b *box) Usage(ctx context.Context) (labs.Usage, error) {
	if err := ctx.Err(); err != nil {
		return labs.Usage{}, err
	}
	// Its groups and its disk outlive its first process.
	if startTime(b.rec.PID) != b.rec.Started {
		return labs.Usage{}, fmt.Errorf("measure sandbox %s: its first process has ended: %w", b.rec.ID, labs.ErrGone)
	}
	u, err := b.boxes.groups.usage(b.rec.ID)
	if err == nil {
		u.Disk, err = usedBytes(b.at.disk(), b.rec.Limits.Disk)
	}
	if err != nil {
		if _, gone := os.Stat(b.at.record()); gone != nil || startTime(b.rec.PID) != b.rec.Started {
			err = labs.ErrGone
		}
		return labs.Usage{}, fmt.Errorf("measure sandbox %s: %w", b.rec.ID, err)
	}
	u.Limits = b.rec.Limits
	u.OOMKills, u.ForkFails = b.counters.add(u.OOMKills, u.ForkFails)
	return u, nil
}

// Destroy ends everything inside and removes every trace. When something
// could not be removed, it says what, and can be called again.
func (b *box) Destroy() error {
	b.destroying.Lock()
	defer b.destroying.Unlock()
	if b.destroyed {
		return nil
	}
	if err := b.boxes.teardown(b.rec, b.at); err != nil {
		return fmt.Errorf("destroy sandbox %s: %w", b.rec.ID, err)
	}
	b.destroyed = true
	b.boxes.forget(b.rec.ID)
	b.boxes.slots.free(b.rec.Slot)
	return nil
}

// counters make counters grow only: groups inside a sandbox take theirs with
// them when they are removed.
type counters struct {
	mu                  sync.Mutex
	oomSeen, oomSum     int64
	forksSeen, forksSum int64
}

func (c *counters) add(oom, forks int64) (oomSum, forksSum int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.oomSum += max(0, oom-c.oomSeen)
	c.forksSum += max(0, forks-c.forksSeen)
	c.oomSeen, c.forksSeen = oom, forks
	return c.oomSum, c.forksSum
}
