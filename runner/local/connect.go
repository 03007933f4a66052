package local

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"berth/labs"
)

// maxConnected bounds how many sandboxes are connected at a time.
const maxConnected = 16

var _ labs.Networker = (*Boxes)(nil)

// Connect lets sandboxes reach each other; see labs.Networker. Whom one of
// them was connected with before it stays connected with. ErrGone when one of
// them is not there.
func (b *Boxes) Connect(ctx context.Context, ids ...string) ([]netip.Addr, error) {
	addrs, err := b.connect(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("connect sandboxes: %w", err)
	}
	return addrs, nil
}

func (b *Boxes) connect(ctx context.Context, ids []string) ([]netip.Addr, error) {
	if len(ids) > maxConnected {
		return nil, fmt.Errorf("%d at a time, %d are possible: %w", len(ids), maxConnected, labs.ErrInvalid)
	}
	b.connecting.Lock()
	defer b.connecting.Unlock()
	var all []*box
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			return nil, fmt.Errorf("%s is there twice: %w", id, labs.ErrInvalid)
		}
		b.mu.Lock()
		x := b.live[id]
		b.mu.Unlock()
		if x == nil {
			return nil, fmt.Errorf("sandbox %s: %w", id, labs.ErrGone)
		}
		// None is destroyed meanwhile: its address could be another's by then.
		// Nobody else takes more than one of these locks.
		x.destroying.Lock()
		defer x.destroying.Unlock()
		if x.destroyed {
			return nil, fmt.Errorf("sandbox %s: %w", id, labs.ErrGone)
		}
		all = append(all, x)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	var pairs []pair
	for i, x := range all {
		addrs = append(addrs, x.rec.Address)
		for _, y := range all[i+1:] {
			pairs = append(pairs, pairOf(x.rec.Slot, y.rec.Slot))
		}
		// The first of two has the other in its record.
		if err := b.recordPeers(x, ids[i+1:]); err != nil {
			return nil, err
		}
	}
	if err := b.network.pair(pairs); err != nil {
		return nil, err
	}
	return addrs, nil
}

// recordPeers adds to the peers in a sandbox's record, and leaves out those that
// are no more. connecting is held, and so is the sandbox's own lock.
func (b *Boxes) recordPeers(x *box, more []string) error {
	b.mu.Lock()
	var peers []string
	for _, id := range slices.Concat(x.rec.Peers, more) {
		if b.live[id] != nil && !slices.Contains(peers, id) {
			peers = append(peers, id)
		}
	}
	b.mu.Unlock()
	if slices.Equal(peers, x.rec.Peers) {
		return nil
	}
	rec := x.rec
	rec.Peers = peers
	if err := rec.write(x.at.record()); err != nil {
		return err
	}
	x.rec.Peers = peers
	return nil
}

// recordedPairs gives the pairs in records, of those that are there.
func recordedPairs(records map[string]record) []pair {
	var pairs []pair
	for _, r := range records {
		for _, id := range r.Peers {
			if peer, ok := records[id]; ok && id != r.ID {
				pairs = append(pairs, pairOf(r.Slot, peer.Slot))
			}
		}
	}
	return pairs
}

// forget ends what know began.
func (b *Boxes) forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.live, id)
}
