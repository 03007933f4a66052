package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"berth/labs"
	"berth/labs/verify"
	"berth/runner"
	"berth/runner/local"
	"berth/runner/mirror"
)

// A stage is what lessons are performed on, for learners or for a test:
// sandboxes on this machine, the registry that they pull from, and whoever
// looks at checks.
type stage struct {
	runner *runner.Pool
	mirror *mirror.Mirror
	limits labs.Limits
	log    *slog.Logger

	stop  context.CancelFunc
	owned sync.WaitGroup // the mirror's server and what fetches ahead
}

// openStage makes this machine ready for lessons, and begins to fetch what they
// name. Nothing is adopted yet.
func (c *config) openStage(ctx context.Context, log *slog.Logger, lessons []*labs.Lesson) (*stage, error) {
	cfg, err := c.local(log)
	if err != nil {
		return nil, err
	}
	boxes, err := local.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	spec := labs.Spec{Image: "docker", Egress: labs.EgressMirror, Limits: cfg.Defaults}
	s := &stage{runner: runner.NewPool(runner.New(boxes), spec, c.pool, log), limits: cfg.Defaults, log: log}
	ctx, s.stop = context.WithCancel(ctx)
	if err := s.openMirror(ctx, c, cfg, lessons); err != nil {
		s.stop()
		return nil, errors.Join(err, s.runner.Close())
	}
	return s, nil
}

// openMirror starts the built-in registry for the sandboxes.
func (s *stage) openMirror(ctx context.Context, c *config, cfg local.Config, lessons []*labs.Lesson) error {
	m, err := mirror.Open(mirror.Config{Dir: c.mirrorDir(), Upstream: c.upstream, Log: s.log})
	if err != nil {
		return err
	}
	images := c.imageStore(s.log)
	var refs []string
	for _, l := range lessons {
		for _, p := range l.Pulls {
			refs = append(refs, p.Ref)
			if p.Standin == "" {
				continue
			}
			img, err := images.Find(p.Standin)
			if err == nil {
				err = m.SetStandinPath(ctx, p.Ref, img.Layout)
			}
			if err != nil {
				s.log.Warn("a stand-in is missing; build it with: berth image build "+p.Standin, "for", p.Ref, "err", err)
			}
		}
	}
	at := netip.AddrPortFrom(cfg.Gateway(), cfg.Mirror)
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return errors.Join(&labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("The mirror cannot listen on %s. Choose another port with --mirror-port.", at), Cause: err}, m.Close())
	}
	s.mirror = m
	s.owned.Go(func() {
		if err := m.Serve(ctx, l); err != nil {
			s.log.Error("serve the mirror", "err", err)
		}
	})
	s.owned.Go(func() { m.Prefetch(ctx, refs) })
	return nil
}

// desk gives what a desk on this stage works with.
func (s *stage) desk(c *config, st labs.Store) labs.DeskConfig {
	return labs.DeskConfig{
		Store: st, Runner: s.runner, Verifier: verify.New(s.log), Mirror: s.mirror, Log: s.log,
		Life: c.life, ExtendBy: c.extend, MaxLife: c.maxLife, Idle: c.idle, PerLearner: c.perLearner, Limits: s.limits,
	}
}

// close ends what the stage runs, but no sandbox.
func (s *stage) close() error {
	s.stop()
	s.owned.Wait()
	return errors.Join(s.mirror.Close(), s.runner.Close())
}
