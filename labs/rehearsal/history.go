package rehearsal

import (
	"context"
	"sync"
	"time"

	"berth/labs"
)

// exitTime is how long after its prompt a command may be told to have ended.
const exitTime = 500 * time.Millisecond

// A history is the commands that ended in the shells of one sandbox, as long
// as somebody follows it. It may be used concurrently.
type history struct {
	mu    sync.Mutex
	ends  map[string][]int // exit statuses, by terminal
	heard chan struct{}    // closed and renewed with each
}

func newHistory() *history {
	return &history{ends: make(map[string][]int), heard: make(chan struct{})}
}

// follow hears of the commands until ctx ends.
func (h *history) follow(ctx context.Context, sb labs.Sandbox) {
	var last int64
	for ctx.Err() == nil {
		changes, err := sb.Watch(ctx, labs.Watch{After: last})
		if err == nil {
			for c := range changes {
				if c.Command != nil && c.Command.Seq > last {
					last = c.Command.Seq
					h.add(c.Command.Terminal, c.Command.Exit)
				}
			}
		}
		pause(ctx, lookPause/5)
	}
}

func (h *history) add(terminal string, exit int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends[terminal] = append(h.ends[terminal], exit)
	close(h.heard)
	h.heard = make(chan struct{})
}

// A mark is a place in the history of a terminal.
type mark struct {
	terminal string
	n        int
}

func (h *history) mark(terminal string) mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return mark{terminal, len(h.ends[terminal])}
}

// exit gives the exit status of what ended after the mark: of several commands
// the first that is not 0. nil when none is told of, which is so when they
// were typed to another program than the shell.
func (h *history) exit(ctx context.Context, m mark) *int {
	ctx, cancel := context.WithTimeout(ctx, exitTime)
	defer cancel()
	for {
		h.mu.Lock()
		ends, heard := h.ends[m.terminal][m.n:], h.heard
		status := 0
		for _, e := range ends {
			if status == 0 {
				status = e
			}
		}
		n := len(ends)
		h.mu.Unlock()
		if n > 0 {
			return &status
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return nil
		}
	}
}
