package verify

import "time"

const (
	paceGap   = 50 * time.Millisecond   // at least, between looks at one check
	paceCost  = 4                       // a look that took t costs paceCost × t
	paceBurst = 1500 * time.Millisecond // what urgent looks may run ahead
	paceSlow  = 10 * time.Second        // the most that one look costs
)

// A pace limits how often one check is looked at. Every look moves due ahead
// by what it cost: at least paceGap, and more for a look that took long, so
// that looking takes at most a fifth of the time. A look that is not urgent (a
// file changed, a container printed something) waits until it is due. An
// urgent one (a command ended, the engine told of a change) may come paceBurst
// early, so that it is made at once unless many came before it.
type pace struct {
	due time.Time
}

// wait gives how long to wait before the next look; zero or less: it may start.
func (p *pace) wait(now time.Time, urgent bool) time.Duration {
	if urgent {
		return p.due.Add(-paceBurst).Sub(now)
	}
	return p.due.Sub(now)
}

// spent accounts for a look.
func (p *pace) spent(start, end time.Time) {
	if p.due.Before(start) {
		p.due = start
	}
	p.due = p.due.Add(min(max(paceGap, paceCost*end.Sub(start)), paceSlow))
}
