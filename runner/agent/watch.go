package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"berth/labs"

	"github.com/fsnotify/fsnotify"
)

const (
	maxPatterns  = 64
	maxWatched   = 2048                  // directories that one watch follows
	coalesce     = 20 * time.Millisecond // file changes are gathered this long
	maxGathered  = 512                   // and so many; more are Lost
	rescanPause  = time.Second           // between two looks at everything
	watchWriting = 10 * time.Second      // a client that does not read is dropped
)

// watch streams what happens. Commands are told in order and never lost: they
// are taken from the history, not from a queue.
func (a *agent) watch(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	after, err := strconv.ParseInt(q.Get("after"), 10, 64)
	if err != nil {
		return fmt.Errorf("after=%.100q: %w", q.Get("after"), labs.ErrInvalid)
	}
	texts := q["path"]
	if len(texts) > maxPatterns {
		return fmt.Errorf("%d patterns to watch: at most %d: %w", len(texts), maxPatterns, labs.ErrInvalid)
	}
	patterns := make([]pattern, 0, len(texts))
	for _, text := range texts {
		p, err := a.pattern(text)
		if err != nil {
			return err
		}
		patterns = append(patterns, p)
	}
	var files *follower
	if len(patterns) > 0 {
		if files, err = follow(patterns); err != nil {
			return err
		}
		defer files.close()
	}

	// What was told about these is looked up when there is time for it.
	ran, engine := make(chan struct{}, 1), make(chan struct{}, 1)
	wake := func(c chan struct{}) {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	defer a.history.subscribe(func(labs.ShellCommand) { wake(ran) })()
	defer a.engine.subscribe(func() { wake(engine) })()

	w.Header().Set("Content-Type", "application/x-ndjson")
	ctl := http.NewResponseController(w)
	out := json.NewEncoder(w)
	tell := func(changes ...labs.Change) error {
		if err := ctl.SetWriteDeadline(time.Now().Add(watchWriting)); err != nil {
			return err
		}
		for _, c := range changes {
			if err := out.Encode(c); err != nil {
				return err
			}
		}
		return ctl.Flush()
	}
	commands := func() error {
		for _, c := range a.history.since(after) {
			if err := tell(labs.Change{Command: &c}); err != nil {
				return err
			}
			after = c.Seq
		}
		return nil
	}
	var changed <-chan struct{}
	if files != nil {
		changed = files.ready
	}
	state := a.engine.state()
	if err = tell(labs.Change{Engine: &state}); err == nil {
		err = commands()
	}
	for err == nil {
		select {
		case <-r.Context().Done():
			return nil
		case <-ran:
			err = commands()
		case <-engine:
			if now := a.engine.state(); now != state {
				state = now
				err = tell(labs.Change{Engine: &now})
			}
		case <-changed:
			err = tell(files.take()...)
		}
	}
	return errLeft // there is nobody to tell
}

// A follower tells which files that match its patterns change. It watches the
// directories in which matches can be, also those that are made later.
type follower struct {
	patterns []pattern
	notify   *fsnotify.Watcher
	ready    chan struct{} // something can be taken
	done     chan struct{}

	// Of run's goroutine, after follow.
	watched map[string]bool
	stale   bool // directories may be missing in watched

	mu      sync.Mutex
	changed map[string]bool
	lost    bool
}

func follow(patterns []pattern) (*follower, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	f := &follower{patterns: patterns, notify: n, ready: make(chan struct{}, 1), done: make(chan struct{}),
		changed: make(map[string]bool), watched: make(map[string]bool)}
	f.scan()
	go f.run()
	return f, nil
}

// close ends the follower and waits for it.
func (f *follower) close() {
	f.notify.Close()
	<-f.done
}

// take gives what has changed since the last time.
func (f *follower) take() []labs.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []labs.Change
	if f.lost {
		all = append(all, labs.Change{Lost: true})
	}
	for name := range f.changed {
		all = append(all, labs.Change{File: name})
	}
	clear(f.changed)
	f.lost = false
	return all
}

func (f *follower) run() {
	defer close(f.done)
	var gather, rescan <-chan time.Time
	if f.some() { // not all could be watched
		gather = time.After(0)
	}
	for {
		select {
		case e, ok := <-f.notify.Events:
			if !ok {
				return
			}
			f.event(e)
		case err, ok := <-f.notify.Errors:
			if !ok {
				return
			}
			f.lose()
			f.stale = f.stale || errors.Is(err, fsnotify.ErrEventOverflow)
		case <-gather:
			gather = nil
			select {
			case f.ready <- struct{}{}:
			default:
			}
			continue
		case <-rescan:
			rescan = nil
			f.drop("/")
			f.scan()
			f.lose() // also what happened before they were watched
		}
		if f.stale && rescan == nil {
			f.stale = false
			rescan = time.After(rescanPause)
		}
		if gather == nil && f.some() {
			gather = time.After(coalesce)
		}
	}
}

func (f *follower) event(e fsnotify.Event) {
	f.note(e.Name)
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		f.drop(e.Name)
	}
	if e.Has(fsnotify.Create) {
		if info, err := os.Lstat(e.Name); err == nil && info.IsDir() {
			f.add(e.Name, true)
		}
	}
}

// some reports whether there is something to take.
func (f *follower) some() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost || len(f.changed) > 0
}

func (f *follower) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = true
}

// note remembers a changed file that matches.
func (f *follower) note(name string) {
	if !slices.ContainsFunc(f.patterns, func(p pattern) bool { return p.match(name) }) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.changed) < maxGathered || f.changed[name] {
		f.changed[name] = true
	} else {
		f.lost = true
	}
}

// drop forgets a directory that was removed or got another name, with all that
// were below it: the kernel would tell about them by their old names.
func (f *follower) drop(dir string) {
	if !f.watched[dir] {
		return
	}
	below := strings.TrimSuffix(dir, "/") + "/"
	for name := range f.watched {
		if name == dir || strings.HasPrefix(name, below) {
			f.notify.Remove(name) // it may be gone already
			delete(f.watched, name)
		}
	}
}

// scan watches what is there: for each pattern the directories that lead to
// its wildcards, because they may be made again, and what is below.
func (f *follower) scan() {
	for _, p := range f.patterns {
		for dir := p.fixed(); dir != "/"; dir = path.Dir(dir) {
			f.watch(path.Dir(dir))
		}
		f.add(p.fixed(), false)
	}
}

// watch watches one directory and reports whether it does.
func (f *follower) watch(dir string) bool {
	if f.watched[dir] {
		return true
	}
	if len(f.watched) >= maxWatched {
		f.lose()
		return false
	}
	err := f.notify.Add(dir)
	switch {
	case err == nil:
		f.watched[dir] = true
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		f.lose() // there is no room for another
	}
	return err == nil
}

// add watches a directory and those below it in which matches can be. In one
// that is new, files may have been made before it was watched: they are noted.
func (f *follower) add(dir string, isNew bool) {
	visited := 0
	for dirs := []string{dir}; len(dirs) > 0; dirs = dirs[1:] {
		dir := dirs[0]
		if unwatched(dir) || strings.Count(dir, "/") > maxDepth ||
			!slices.ContainsFunc(f.patterns, func(p pattern) bool { return p.holds(dir) }) || !f.watch(dir) {
			continue
		}
		more := eachEntry(dir, func(e fs.DirEntry) bool {
			if visited++; visited > maxVisited {
				return false
			}
			name := path.Join(dir, e.Name())
			if isNew {
				f.note(name)
			}
			if e.IsDir() {
				dirs = append(dirs, name)
			}
			return true
		})
		if !more {
			f.lose()
			return
		}
	}
}
