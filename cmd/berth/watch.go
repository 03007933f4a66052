package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/labs"
	"berth/labs/katacoda"
	"berth/labs/markdown"

	"github.com/fsnotify/fsnotify"
)

const (
	editPause  = 30 * time.Millisecond  // without a change, before labs are read again: an editor makes several
	editWait   = 120 * time.Millisecond // after the first change, whatever follows
	rootPause  = 2 * time.Second        // between looks whether a directory was replaced by another
	maxWatched = 8192                   // folders
	maxDepth   = 32                     // of folders inside each other
)

// A watcher follows the files of a library and reads again what was changed.
// It belongs to one goroutine after start.
type watcher struct {
	lib    *library
	ground ground
	log    *slog.Logger
	files  *fsnotify.Watcher

	watched map[string]bool            // folders
	dirty   map[*shelf]map[string]bool // paths that were changed, relative to the shelf's directory; "." for all
	good    map[*shelf]map[string]*labs.Lesson
}

// newWatcher begins to watch. Changes from now on are told to what start is
// given.
func newWatcher(lib *library, g ground, log *slog.Logger) (*watcher, error) {
	files, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, &labs.Problem{Kind: labs.ErrBusy, Say: "The files of the labs cannot be watched. Serve them without --watch, or allow more watches: sysctl fs.inotify.max_user_instances=512", Cause: err}
	}
	w := &watcher{lib: lib, ground: g, log: log, files: files,
		watched: make(map[string]bool), dirty: make(map[*shelf]map[string]bool), good: make(map[*shelf]map[string]*labs.Lesson)}
	for _, s := range lib.shelves {
		w.good[s] = bySource(s.lessons)
		if s.dir != "" {
			w.add(s.dir, 0)
		}
	}
	return w, nil
}

// start follows the files until ctx ends or stop is called, and gives every new
// state of the library to edit. stop waits until that is over.
func (w *watcher) start(ctx context.Context, edit func([]*labs.Lesson, map[string][]labs.Mistake)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	edit(w.lib.lessons(), w.mistakes())
	var owned sync.WaitGroup
	owned.Go(func() { w.run(ctx, edit) })
	return func() {
		cancel()
		owned.Wait()
		if err := w.files.Close(); err != nil {
			w.log.Error("stop watching labs", "err", err)
		}
	}
}

func (w *watcher) run(ctx context.Context, edit func([]*labs.Lesson, map[string][]labs.Mistake)) {
	roots := time.NewTicker(rootPause)
	defer roots.Stop()
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	var first time.Time // of the changes that wait, zero when there is none
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.files.Events:
			if !ok {
				return
			}
			w.take(e)
		case err, ok := <-w.files.Errors:
			if !ok {
				return
			}
			w.log.Warn("changes of labs were missed; they are read again", "err", err)
			for _, s := range w.lib.shelves {
				w.change(s, ".")
			}
		case <-roots.C:
			w.lookAtRoots()
		case <-pause.C:
			if len(w.dirty) > 0 {
				w.reload()
				edit(w.lib.lessons(), w.mistakes())
			}
			first = time.Time{}
		}
		if len(w.dirty) > 0 {
			if first.IsZero() {
				first = time.Now()
			}
			pause.Reset(max(0, min(editPause, editWait-time.Since(first))))
		}
	}
}

// add watches a folder and those below it.
func (w *watcher) add(dir string, depth int) {
	if w.watched[dir] {
		return
	}
	if len(w.watched) >= maxWatched || depth > maxDepth {
		w.log.Warn("there are too many folders; changes below this one do not show", "folder", dir)
		return
	}
	if err := w.files.Add(dir); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.log.Warn("a folder of labs cannot be watched", "folder", dir, "err", err)
		}
		return
	}
	w.watched[dir] = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // it was removed meanwhile, which is a change of its own
	}
	for _, e := range entries {
		if e.IsDir() && !hidden(e.Name()) {
			w.add(filepath.Join(dir, e.Name()), depth+1)
		}
	}
}

// hidden reports names that no lab reads: what editors and version control keep
// beside the files that are being written.
func hidden(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") || name == "4913" || name == "node_modules"
}

// take notes what a change concerns.
func (w *watcher) take(e fsnotify.Event) {
	if e.Op == fsnotify.Chmod || hidden(filepath.Base(e.Name)) {
		return
	}
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		for dir := range w.watched {
			if dir == e.Name || strings.HasPrefix(dir, e.Name+"/") {
				_ = w.files.Remove(dir) // which a folder that is gone has done by itself
				delete(w.watched, dir)
			}
		}
	}
	for _, s := range w.lib.shelves {
		rel, err := filepath.Rel(s.dir, e.Name)
		if s.dir == "" || err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			continue
		}
		if e.Has(fsnotify.Create) {
			if info, err := os.Lstat(e.Name); err == nil && info.IsDir() {
				w.add(e.Name, strings.Count(rel, "/")+1)
			}
		}
		w.change(s, filepath.ToSlash(rel))
	}
}

func (w *watcher) change(s *shelf, name string) {
	if s.dir == "" {
		return
	}
	if w.dirty[s] == nil {
		w.dirty[s] = make(map[string]bool)
	}
	w.dirty[s][name] = true
}

// lookAtRoots finds directories that others have taken the place of.
func (w *watcher) lookAtRoots() {
	for _, s := range w.lib.shelves {
		if s.dir == "" {
			continue
		}
		now, err := os.Stat(s.dir)
		if err != nil {
			continue // it may come back
		}
		was, err := s.root.Stat(".")
		if err == nil && os.SameFile(was, now) {
			continue
		}
		again, err := openPlace(filepath.Join(s.dir, s.post))
		if err != nil {
			continue
		}
		s.root.Close()
		name := s.name
		s.place = again
		s.name = name
		for dir := range w.watched {
			if dir == s.dir || strings.HasPrefix(dir, s.dir+"/") {
				_ = w.files.Remove(dir) // it watched what is gone
				delete(w.watched, dir)
			}
		}
		w.add(s.dir, 0)
		w.change(s, ".")
	}
}

// reload reads again what was changed. Lessons that are as they were stay the
// same in memory, so that their pages are not told.
func (w *watcher) reload() {
	for s, paths := range w.dirty {
		began := time.Now()
		before := slices.Clone(s.lessons)
		if !w.reloadSome(s, paths) {
			s.lessons, s.mistakes = s.load()
		}
		for i, l := range s.lessons {
			if was := w.good[s][l.Source]; was != nil && was != l {
				if l.ID != was.ID {
					l = rename(l, was.ID)
					s.lessons[i] = l
				}
				if l.Cannot == "" {
					w.ground.mark([]*labs.Lesson{l})
				}
				if !touched(l, paths) && same(l, was) {
					s.lessons[i] = was
				}
			} else if was == nil {
				w.ground.mark([]*labs.Lesson{l})
			}
		}
		w.log.Debug("labs were read again", "in", s.name, "changed", len(paths), "lessons", len(s.lessons), "before", len(before), "took", time.Since(began))
	}
	w.dirty = make(map[*shelf]map[string]bool)
	w.lib.number()
	for _, s := range w.lib.shelves {
		good := bySource(s.lessons)
		for source, l := range w.good[s] {
			if good[source] == nil && len(wrong(s, l)) > 0 {
				good[source] = l // it may be mended, under the same id
			}
		}
		w.good[s] = good
	}
}

// reloadSome reads single lessons again, or gives false when the changes
// concern more than those.
func (w *watcher) reloadSome(s *shelf, paths map[string]bool) bool {
	if s.post != "" {
		return false
	}
	sources := make(map[string]*labs.Lesson)
	for name := range paths {
		l := w.holder(s, name)
		if l == nil {
			return false
		}
		sources[l.Source] = l
	}
	for source, was := range sources {
		dir := path.Dir(source)
		if _, err := fs.Stat(s.fsys, source); err != nil {
			return false // it is gone
		}
		var now *labs.Lesson
		var mistakes []labs.Mistake
		switch was.Format {
		case labs.FormatBerth:
			now, mistakes = markdown.Load(s.fsys, dir)
		case labs.FormatKatacoda, labs.FormatOReilly, labs.FormatKillercoda:
			now, mistakes = katacoda.Load(s.fsys, dir)
		default:
			return false
		}
		kept := s.mistakes[:0:0]
		for _, m := range s.mistakes {
			if !belongs(m, was) {
				kept = append(kept, m)
			}
		}
		s.mistakes = append(kept, mistakes...)
		at := slices.IndexFunc(s.lessons, func(l *labs.Lesson) bool { return l.Source == source })
		switch {
		case now == nil && at >= 0:
			s.lessons = slices.Delete(slices.Clone(s.lessons), at, at+1)
		case now == nil:
		case at >= 0:
			now.Course = was.Course
			s.lessons = slices.Clone(s.lessons)
			s.lessons[at] = now
		default:
			return false // it was mended: its place among the others is known to all of them only
		}
	}
	return true
}

// holder gives the lesson in whose folder, and in no other's, a file is.
func (w *watcher) holder(s *shelf, name string) (found *labs.Lesson) {
	for _, l := range w.good[s] {
		dir := path.Dir(l.Source)
		if dir != "." && !strings.HasPrefix(name, dir+"/") {
			continue
		}
		if found != nil {
			return nil
		}
		found = l
	}
	return found
}

// touched reports whether one of the files that were changed is of the lesson:
// an image that it shows, though its text is the same.
func touched(l *labs.Lesson, paths map[string]bool) bool {
	dir := path.Dir(l.Source)
	for name := range paths {
		if name != "." && name != l.Source && (dir == "." || strings.HasPrefix(name, dir+"/")) {
			return true
		}
	}
	return false
}

// same reports whether two lessons say the same.
func same(a, b *labs.Lesson) bool {
	x, y := *a, *b
	x.Dir, y.Dir = nil, nil
	return reflect.DeepEqual(x, y)
}

func bySource(lessons []*labs.Lesson) map[string]*labs.Lesson {
	all := make(map[string]*labs.Lesson, len(lessons))
	for _, l := range lessons {
		all[l.Source] = l
	}
	return all
}

// wrong gives the mistakes that keep a lesson from being read.
func wrong(s *shelf, l *labs.Lesson) (all []labs.Mistake) {
	for _, m := range s.mistakes {
		if !m.Warn && belongs(m, l) {
			all = append(all, m)
		}
	}
	return all
}

// mistakes gives those of each lesson, by its id: also of those that were good
// once and are not now.
func (w *watcher) mistakes() map[string][]labs.Mistake {
	all := make(map[string][]labs.Mistake)
	for s, good := range w.good {
		for _, l := range good {
			for _, m := range s.mistakes {
				if belongs(m, l) {
					all[l.ID] = append(all[l.ID], m)
				}
			}
		}
	}
	return all
}
