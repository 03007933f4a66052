package verify

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/client"

	"berth/labs"
)

const (
	maxRecords  = 64        // containers remembered
	maxAttached = 16        // containers attached to at a time
	maxLogs     = 64 << 10  // bytes of a container's output that are looked at
	maxRaw      = 128 << 10 // the same with the framing of the stream
	maxKept     = 1 << 20   // bytes of output of all remembered containers
	createBurst = 64        // new containers taken in at once…
	createEvery = time.Second / 20
	afterEnd    = time.Second // how long output may follow the end
)

// A record is what was seen of a container.
type record struct {
	sighting
	turn   int  // counts attachments
	missed bool // the beginning may not be in raw
	lost   bool // raw was dropped to make room
	cancel context.CancelFunc
	left   bool // removed, not only ended
}

// A recorder remembers the containers that come and go, so that those that are
// removed as soon as they end can be looked at. It attaches to a container
// when it is created, which is before it starts, reads the first part of what
// it prints and then lets go, so that it never holds a container up.
type recorder struct {
	log     *slog.Logger
	sandbox string
	named   []string // names that checks ask for
	any     bool     // some check asks for containers of any name
	output  bool     // some check looks at output
	notify  func(trigger)
	wg      sync.WaitGroup

	mu      sync.Mutex
	records []*record // oldest first
	heardAt int64     // time of the last event, nanoseconds
	due     time.Time // paces the taking in of new containers
}

// newRecorder gives a recorder for what the checks may ask about.
func newRecorder(log *slog.Logger, sandbox string, checks []*labs.Check, notify func(trigger)) *recorder {
	r := &recorder{log: log, sandbox: sandbox, notify: notify}
	for _, c := range checks {
		if c.Container == nil {
			continue
		}
		if c.Container.Name == "" {
			r.any = true
		}
		r.named = append(r.named, c.Container.Name)
		r.output = r.output || !c.Container.Logs.IsZero()
	}
	return r
}

// last gives the time of the last event heard, or 0.
func (r *recorder) last() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heardAt
}

func (r *recorder) heard(m events.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Never ahead of our own clock, or nothing would be heard again.
	r.heardAt = max(r.heardAt, min(m.TimeNano, time.Now().UnixNano()))
}

// hear takes in an event of a container that is not ours.
func (r *recorder) hear(ctx context.Context, cli *client.Client, m events.Message) {
	r.heard(m)
	id, name := m.Actor.ID, m.Actor.Attributes["name"]
	if len(id) > 128 || !r.any && !slices.Contains(r.named, name) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.records, func(c *record) bool { return c.id == id })
	switch m.Action {
	case events.ActionCreate:
		if i < 0 && r.mayTake() {
			r.take(ctx, cli, &record{sighting: sighting{
				id: id, name: clean(name, 256), image: clean(m.Actor.Attributes["image"], 512),
				created: time.Unix(0, m.TimeNano), status: "created",
			}})
		}
	case events.ActionStart:
		if i < 0 {
			return
		}
		again := r.records[i].status == "exited"
		r.records[i].status = "running"
		if again && r.mayTake() { // docker start: its output goes on
			r.attach(ctx, cli, r.records[i])
		}
	case events.ActionDie:
		if i < 0 {
			return
		}
		c := r.records[i]
		c.status = "exited"
		if code, err := strconv.ParseInt(m.Actor.Attributes["exitCode"], 10, 64); err == nil {
			c.exit, c.ended = code, true
		}
		r.letGo(c)
	case events.ActionDestroy:
		if i < 0 {
			return
		}
		r.records[i].left = true
		r.letGo(r.records[i])
	case events.ActionRename:
		if i >= 0 {
			r.records[i].name = clean(name, 256)
		}
	}
}

// mayTake paces what a learner who makes containers without end can cost. The
// caller holds mu.
func (r *recorder) mayTake() bool {
	now := time.Now()
	if r.due.Before(now) {
		r.due = now
	}
	if r.due.Sub(now) > createBurst*createEvery {
		return false
	}
	r.due = r.due.Add(createEvery)
	return true
}

// take remembers a new container. The caller holds mu.
func (r *recorder) take(ctx context.Context, cli *client.Client, c *record) {
	if len(r.records) == maxRecords {
		if old := r.records[0]; old.cancel != nil {
			old.cancel()
		}
		r.records = slices.Delete(r.records, 0, 1)
	}
	r.records = append(r.records, c)
	r.attach(ctx, cli, c)
}

// attach starts to read a container's output. The caller holds mu.
func (r *recorder) attach(ctx context.Context, cli *client.Client, c *record) {
	var attached []*record
	for _, o := range r.records {
		if o.cancel != nil && o != c {
			attached = append(attached, o)
		}
	}
	if len(attached) >= maxAttached {
		attached[0].cancel() // it may be one that is never started
		attached[0].cancel = nil
	}
	if c.cancel != nil {
		c.cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	c.cancel, c.raw, c.missed, c.lost = cancel, nil, false, false
	c.turn++
	turn := c.turn
	r.wg.Go(func() {
		defer cancel()
		r.follow(ctx, cli, c, turn)
	})
}

// letGo ends reading a container's output soon. The caller holds mu.
func (r *recorder) letGo(c *record) {
	if c.cancel != nil {
		time.AfterFunc(afterEnd, c.cancel)
	}
}

// follow learns what a container is, attaches to it and reads what it prints.
func (r *recorder) follow(ctx context.Context, cli *client.Client, c *record, turn int) {
	var stream io.ReadCloser
	if r.output {
		stream = r.open(ctx, cli, c.id, false)
	}
	if stream != nil {
		defer func() { stream.Close() }()
	}
	limited, cancel := context.WithTimeout(ctx, engineDeadline)
	info, err := cli.ContainerInspect(limited, c.id)
	cancel()
	if err != nil || info.ContainerJSONBase == nil || info.Config == nil {
		r.log.Debug("container was not inspected", "sandbox", r.sandbox, "container", c.id, "err", err)
		return
	}
	missed := stream == nil
	if stream != nil && (info.State == nil || info.State.Status != container.StateCreated) {
		// It was quicker than we: take what it printed before from its log,
		// which is there until it is removed.
		missed = true
		if readableLog(info) {
			if whole := r.open(ctx, cli, c.id, true); whole != nil {
				stream.Close()
				stream, missed = whole, false
			}
		}
	}
	seen := see(info)
	r.mu.Lock()
	// What events said since is newer.
	seen.status, seen.exit, seen.ended = c.status, c.exit, c.ended
	if c.name != "" {
		seen.name = c.name
	}
	seen.raw = c.raw
	c.sighting = seen
	c.missed = missed
	r.mu.Unlock()
	r.notify(onContainer)
	if stream == nil {
		return
	}
	r.read(c, turn, stream)
	r.notify(onContainer)
}

// open attaches to what a container prints, from its beginning on with logs.
// It gives nil when that cannot be done. The stream ends with ctx.
func (r *recorder) open(ctx context.Context, cli *client.Client, id string, logs bool) io.ReadCloser {
	attached, stop := context.WithCancel(ctx)
	late := time.AfterFunc(engineDeadline, stop)
	answer, err := cli.ContainerAttach(attached, id, container.AttachOptions{Stream: true, Logs: logs, Stdout: true, Stderr: true})
	late.Stop()
	if err != nil {
		stop()
		if ctx.Err() == nil {
			r.log.Debug("container was not attached to", "sandbox", r.sandbox, "container", id, "err", err)
		}
		return nil
	}
	return &attachment{answer.Reader, answer.Conn, stop}
}

// An attachment is the output of a container.
type attachment struct {
	io.Reader
	conn net.Conn
	stop context.CancelFunc
}

func (a *attachment) Close() error {
	a.stop()
	return a.conn.Close()
}

// readableLog reports whether the engine can give what a container printed.
func readableLog(c container.InspectResponse) bool {
	if c.HostConfig == nil {
		return false
	}
	switch c.HostConfig.LogConfig.Type {
	case "json-file", "local", "journald":
		return true
	}
	return false
}

// read keeps the first part of what comes.
func (r *recorder) read(c *record, turn int, stream io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := stream.Read(buf)
		if n > 0 {
			r.mu.Lock()
			if c.turn != turn || c.lost {
				r.mu.Unlock()
				return
			}
			c.raw = append(c.raw, buf[:min(n, maxRaw-len(c.raw))]...)
			full := len(c.raw) == maxRaw
			r.makeRoom()
			r.mu.Unlock()
			r.notify(onOutput)
			if full {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// makeRoom forgets the oldest output when there is too much. The caller holds mu.
func (r *recorder) makeRoom() {
	total := 0
	for i := len(r.records) - 1; i >= 0; i-- {
		c := r.records[i]
		total += len(c.raw)
		if total > maxKept {
			total -= len(c.raw)
			c.raw, c.lost = nil, true
		}
	}
}

// remembered lists what was seen of containers, newest first.
func (r *recorder) remembered() []sighting {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]sighting, 0, len(r.records))
	for _, c := range r.records {
		s := c.sighting
		s.removed = c.left
		s.printed = r.output && s.known && !c.lost && (!c.missed || len(c.raw) > 0)
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b sighting) int { return -cmp.Compare(a.created.UnixNano(), b.created.UnixNano()) })
	return all
}

// close ends all reading and waits for it.
func (r *recorder) close() {
	r.mu.Lock()
	for _, c := range r.records {
		if c.cancel != nil {
			c.cancel()
		}
	}
	r.mu.Unlock()
	r.wg.Wait()
}
