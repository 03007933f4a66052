package web

import (
	"sync"
	"time"
)

// A Rate allows Burst things at once and one more after every Every.
type Rate struct {
	Burst int
	Every time.Duration
}

// maxKeys bounds how many keys a limiter remembers.
const maxKeys = 8192

// A limiter holds a rate for each of many keys. A key is forgotten when it has
// its whole burst again. When there are too many keys to remember, the rest
// share one.
type limiter struct {
	rate Rate
	now  func() time.Time

	mu    sync.Mutex
	full  map[string]time.Time // when the key will have its whole burst again
	swept time.Time            // when what could be forgotten was last forgotten
}

func newLimiter(r Rate) *limiter {
	return &limiter{rate: r, now: time.Now, full: make(map[string]time.Time)}
}

// allow takes one from the key's rate and reports whether there was one.
func (l *limiter) allow(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	full, known := l.full[key]
	if !known && len(l.full) >= maxKeys {
		l.sweep(now)
		if len(l.full) >= maxKeys {
			key = ""
			full = l.full[key]
		}
	}
	if full.Before(now) {
		full = now
	}
	full = full.Add(l.rate.Every)
	if full.Sub(now) > time.Duration(l.rate.Burst)*l.rate.Every {
		return false
	}
	l.full[key] = full
	return true
}

// sweep forgets the keys that have their whole burst again, at most once a
// second: a flood of new keys must not buy a walk over all of them each.
func (l *limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for k, f := range l.full {
		if !f.After(now) {
			delete(l.full, k)
		}
	}
}

// A quota counts what is in use by each of many keys. The zero quota is ready
// to use.
type quota struct {
	mu   sync.Mutex
	used map[string]int
}

// take uses one more by the key unless limit are in use.
func (q *quota) take(key string, limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used[key] >= limit {
		return false
	}
	if q.used == nil {
		q.used = make(map[string]int)
	}
	q.used[key]++
	return true
}

// give returns one that was taken.
func (q *quota) give(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used[key]--; q.used[key] <= 0 {
		delete(q.used, key)
	}
}
