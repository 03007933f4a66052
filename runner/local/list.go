package local

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"berth/labs"
)

// A Listed sandbox is one that runs on this machine, seen from outside.
type Listed struct {
	ID      string      `json:"id"`
	Image   string      `json:"image"`
	Egress  labs.Egress `json:"egress"`
	Created time.Time   `json:"created"`
	PID     int         `json:"pid"` // of its agent, on this machine
	Usage   labs.Usage  `json:"usage"`
}

// List gives the sandboxes that run under cfg. It takes no lock: the server
// may be running, or not.
func List(cfg Config) ([]Listed, error) {
	if cfg.Image == nil {
		cfg.Image = func(string) (string, error) { return "", labs.ErrNotFound }
	}
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	b := &Boxes{cfg: cfg, log: cfg.Log}
	if b.groups, err = findCgroups(cfg.Name); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(b.sandboxes())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Listed
	for _, e := range entries {
		at := layout{filepath.Join(b.sandboxes(), e.Name())}
		rec, err := readRecord(at.record(), e.Name())
		if err != nil || !rec.Ready || startTime(rec.PID) != rec.Started {
			continue // it is being started or ended
		}
		l := Listed{ID: rec.ID, Image: rec.Image, Egress: rec.Egress, Created: rec.Created, PID: rec.PID}
		if l.Usage, err = b.groups.usage(rec.ID); err != nil {
			continue // it has ended meanwhile
		}
		l.Usage.Limits = rec.Limits
		l.Usage.Disk, _ = usedBytes(at.disk(), rec.Limits.Disk) // 0 when it has ended meanwhile
		all = append(all, l)
	}
	return all, nil
}
