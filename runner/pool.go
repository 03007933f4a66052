package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"berth/labs"
)

const (
	startTimeout  = time.Minute     // for a sandbox that is started ahead of need
	healthTimeout = 2 * time.Second // for one that is handed over to answer
	firstPause    = time.Second     // after a start that did not work
	longestPause  = time.Minute
	roomPause     = 100 * time.Millisecond // while somebody else needs the room
)

// A Pool is a Runner that keeps sandboxes of one Spec ready, their first shell
// included. Each of its goroutines starts one and waits to hand it over: that is
// size, refill and back-pressure at once.
type Pool struct {
	next  labs.Runner
	spec  labs.Spec
	log   *slog.Logger
	ready chan labs.Sandbox

	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	filled sync.WaitGroup

	mu     sync.Mutex
	begun  bool
	size   int
	paused time.Duration // 0 while starts work

	urgent atomic.Int32 // Starts for which warm sandboxes make room
}

// NewPool gives a pool that keeps size sandboxes of spec ready in front of
// next. It begins to fill when Adopt has been called, so that what outlived
// the last server is counted first.
func NewPool(next labs.Runner, spec labs.Spec, size int, log *slog.Logger) *Pool {
	ctx, stop := context.WithCancel(context.Background())
	return &Pool{next: next, spec: spec, size: size, log: log, ready: make(chan labs.Sandbox), ctx: ctx, stop: stop}
}

// Start hands out a warm sandbox when spec is the pool's and one is ready, and
// starts one otherwise.
func (p *Pool) Start(ctx context.Context, spec labs.Spec) (labs.Sandbox, error) {
	if p.ctx.Err() != nil {
		return nil, errClosed
	}
	if spec == p.spec {
		if sb, err := p.take(ctx); sb != nil || err != nil {
			return sb, err
		}
	}
	sb, err := p.next.Start(ctx, spec)
	if !errors.Is(err, labs.ErrBusy) {
		return sb, err
	}
	// What is kept ready takes room too: somebody who waits goes first.
	p.urgent.Add(1)
	defer p.urgent.Add(-1)
	for errors.Is(err, labs.ErrBusy) {
		select {
		case warm := <-p.ready:
			p.discard(warm)
		default:
			return nil, err
		}
		sb, err = p.next.Start(ctx, spec)
	}
	return sb, err
}

// take gives a warm sandbox that answers, or nil when there is none.
func (p *Pool) take(ctx context.Context) (labs.Sandbox, error) {
	for {
		select {
		case sb := <-p.ready:
			err := answers(ctx, sb)
			if err == nil {
				return sb, nil
			}
			p.discard(sb)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			p.log.Warn("a warm sandbox had died", "sandbox", sb.ID(), "err", err)
		default:
			return nil, nil
		}
	}
}

// Adopt gives what outlived the last server and begins to fill the pool.
func (p *Pool) Adopt(ctx context.Context) ([]labs.Sandbox, error) {
	all, err := p.next.Adopt(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		p.begun = true
		for range p.size {
			p.filled.Go(p.fill)
		}
	}
	return all, nil
}

// Connect passes on to the runner behind. errors.ErrUnsupported when that is no
// labs.Networker.
func (p *Pool) Connect(ctx context.Context, ids ...string) ([]netip.Addr, error) {
	if n, ok := p.next.(labs.Networker); ok {
		return n.Connect(ctx, ids...)
	}
	return nil, fmt.Errorf("connect sandboxes of this kind: %w", errors.ErrUnsupported)
}

// Close destroys the sandboxes that nobody was given, waits for those that are
// being started, and closes the runner behind.
func (p *Pool) Close() error {
	p.stop()
	p.filled.Wait()
	return p.next.Close()
}

func (p *Pool) fill() {
	for p.ctx.Err() == nil {
		if p.urgent.Load() > 0 {
			p.wait(roomPause)
			continue
		}
		ctx, cancel := context.WithTimeout(p.ctx, startTimeout)
		sb, err := p.next.Start(ctx, p.spec)
		if own, ok := sb.(*sandbox); ok && err == nil {
			if err := own.prepare(ctx); err != nil {
				p.log.Debug("its first shell is started when it is needed", "sandbox", sb.ID(), "err", err)
			}
		}
		cancel()
		if err != nil {
			p.pause(err)
			continue
		}
		p.worked()
		select {
		case p.ready <- sb:
		case <-p.ctx.Done():
			p.discard(sb)
		}
	}
}

// answers gives an error when the sandbox does not answer soon.
func answers(ctx context.Context, sb labs.Sandbox) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	_, err := sb.Terminals(ctx)
	return err
}

func (p *Pool) discard(sb labs.Sandbox) {
	if err := sb.Destroy(); err != nil {
		p.log.Error("destroy a warm sandbox", "sandbox", sb.ID(), "err", err)
	}
}

// pause waits after a start that did not work; only the first of a streak is
// worth a line in the log.
func (p *Pool) pause(err error) {
	if p.ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	first := p.paused == 0
	p.paused = min(max(2*p.paused, firstPause), longestPause)
	d := p.paused
	p.mu.Unlock()
	if first {
		p.log.Warn("sandboxes cannot be started ahead of need; trying again quietly", "err", err)
	}
	p.wait(d)
}

// wait waits for d or for Close.
func (p *Pool) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
	}
}

func (p *Pool) worked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused > 0 {
		p.log.Info("sandboxes can be started ahead of need again")
	}
	p.paused = 0
}
