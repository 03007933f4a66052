package labs

import "sync"

// An Event is something that a session's page should show. Events are hints to
// look: a page that lost some reads the whole state again.
type Event struct {
	Session string
	Kind    string // "result", "state", "notice", "lesson"
	Data    any    // ResultEvent, State, Notice, LessonEvent; marshals to JSON
}

// A Notice is a sentence for the learner, such as a limit that was reached.
type Notice struct {
	Kind string `json:"kind"` // "memory", "disk", "processes", "time", "idle", "progress"
	Text string `json:"text"`
}

// A Bus passes events on to those who subscribed to a session. The zero Bus is
// ready to use, concurrently.
type Bus struct {
	mu   sync.Mutex
	subs map[string]map[chan Event]struct{}
}

// Subscribe gives the events of a session from now on. The channel is closed
// when cancel is called, and when the subscriber is so slow that its buffer
// fills up: publishing never waits. cancel may be called more than once.
func (b *Bus) Subscribe(session string) (events <-chan Event, cancel func()) {
	ch := make(chan Event, 64)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = make(map[string]map[chan Event]struct{})
	}
	if b.subs[session] == nil {
		b.subs[session] = make(map[chan Event]struct{})
	}
	b.subs[session][ch] = struct{}{}
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.drop(session, ch)
	}
}

// Publish passes an event on to the session's subscribers.
func (b *Bus) Publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.subs[e.Session] {
		select {
		case ch <- e:
		default:
			b.drop(e.Session, ch)
		}
	}
}

// Watched reports whether anybody is subscribed to the session.
func (b *Bus) Watched(session string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.subs[session]) > 0
}

// drop closes ch once. The caller holds mu.
func (b *Bus) drop(session string, ch chan Event) {
	if _, ok := b.subs[session][ch]; !ok {
		return
	}
	delete(b.subs[session], ch)
	if len(b.subs[session]) == 0 {
		delete(b.subs, session)
	}
	close(ch)
}
