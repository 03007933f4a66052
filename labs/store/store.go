// Package store keeps learners, sessions and what they did in an SQLite
// database: one file, no server.
//
// The database is in WAL mode with synchronous=FULL. NORMAL would already
// survive the end of the process at any moment, because what was committed is
// in the kernel's page cache then; FULL also syncs the log at every commit, so
// that an acknowledged tick survives a power cut, which is what happens to
// laptops in classrooms. Commits that wait for each other share one sync (see
// writer), so the price stays at one sync for many of them.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"berth/labs"
)

const (
	maxID     = 256     // bytes of an id, a kind, a status
	maxHash   = 64      // bytes of a token's hash
	maxText   = 500     // bytes of Expected, Seen and Reason
	maxDetail = 1 << 10 // bytes of Entry.Detail

	busyTimeout  = 5 * time.Second // another process holds the lock, such as a backup
	checkTimeout = 2 * time.Second // of looking through the file when it is opened
)

// A Store is a labs.Store on an SQLite file. Methods may be called
// concurrently; what returned without error survives the end of the process
// and a power cut. Times are kept to the microsecond and given back in UTC.
// Close it.
type Store struct {
	path    string
	log     *slog.Logger
	main    *sql.DB // one connection, which writes: SQLite has one writer at a time
	readers *sql.DB
	writer  *writer // on main

	addLearner, addSession, updateSession, record, note *sql.Stmt // on main
	learner, session, lastSession, openSessions         *sql.Stmt // on readers
	progress, attempts                                  *sql.Stmt
}

var _ labs.Store = (*Store)(nil)

// Open opens the database at path, makes it (mode 0600) and its folder when
// they are not there, and brings its schema up to date. The error is a
// labs.Problem when there is something that the operator can do: a damaged
// file, one from a newer Berth, no permission, no space. The file is never
// deleted. ctx bounds the opening only.
func Open(ctx context.Context, path string, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the progress database: %w", err)
	}
	s := &Store{path: path, log: log}
	if err := s.touch(); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// touch makes the file when it is not there: SQLite would make it readable for
// all, and gives its log files the same mode as the file has. An existing file
// is not opened here, because closing it would drop the locks that a database
// connection of this process has on it.
func (s *Store) touch() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return s.explain("make the folder", err)
	}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	switch {
	case err == nil:
		return f.Close()
	case !errors.Is(err, fs.ErrExist):
		return s.explain("make the file", err)
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return s.explain("look at the file", err)
	}
	if !info.Mode().IsRegular() {
		return &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf("%s is not a regular file. Name another file for the progress database.", s.path)}
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(s.path, 0o600); err != nil {
			s.log.Warn("progress database can be read by others", "path", s.path, "err", err)
		}
	}
	return nil
}

func (s *Store) open(ctx context.Context) error {
	pragmas := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"foreign_keys(1)", "synchronous(FULL)", "trusted_schema(0)", "cell_size_check(1)",
	}}
	dsn := func(more ...string) string {
		q := url.Values{"_pragma": append(more, pragmas["_pragma"]...)}
		u := url.URL{Scheme: "file", Path: s.path, RawQuery: "_txlock=immediate&" + q.Encode()}
		return u.String()
	}
	var err error
	if s.main, err = sql.Open("sqlite", dsn("journal_mode(WAL)", "journal_size_limit(16777216)")); err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	s.main.SetMaxOpenConns(1)
	if s.readers, err = sql.Open("sqlite", dsn("query_only(1)")); err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	n := min(max(2, runtime.GOMAXPROCS(0)), 8)
	s.readers.SetMaxOpenConns(n)
	s.readers.SetMaxIdleConns(n)
	s.writer = newWriter(s.main)

	// Two programs that open a new file at once both switch it to WAL, and
	// SQLite does not wait for that lock as it does for others.
	var mode string
	for deadline := time.Now().Add(busyTimeout); ; {
		err := s.main.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode)
		if err == nil {
			break
		}
		var e *sqlite.Error
		if !errors.As(err, &e) || e.Code()&0xff != sqlite3.SQLITE_BUSY || time.Now().After(deadline) {
			return s.explain("open", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if mode != "wal" {
		s.log.Warn("progress database is not in WAL mode; its file system may lack shared memory, and reads will wait for writes", "path", s.path, "mode", mode)
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	s.writer.start()
	return nil
}

// look goes through the file for damage, for as long as a start may take.
func (s *Store) look(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var found string
	err := s.main.QueryRowContext(bounded, "PRAGMA quick_check(1)").Scan(&found)
	switch {
	case err != nil && bounded.Err() != nil && ctx.Err() == nil:
		s.log.Info("progress database is large; it was opened before it was looked through to the end", "path", s.path)
	case err != nil:
		return s.explain("look through", err)
	case found != "ok":
		return s.damaged(errors.New(found))
	}
	return nil
}

func (s *Store) prepare(ctx context.Context) error {
	for _, p := range []struct {
		dst **sql.Stmt
		db  *sql.DB
		sql string
	}{
		{&s.addLearner, s.main, `INSERT INTO learners (id, created, token_hash) VALUES (?, ?, ?)`},
		{&s.addSession, s.main, `
			INSERT INTO sessions (id, learner, lesson, sandbox, others, started, expires, active, ended, reason)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`},
		{&s.updateSession, s.main, `
			UPDATE sessions SET sandbox = ?, others = ?, expires = ?, active = ?, ended = ?, reason = ? WHERE id = ?`},
		// The session's own learner and lesson are stored, so that the copies
		// in attempts and entries, which the indices need, cannot differ.
		{&s.record, s.main, `
			INSERT INTO attempts (session, learner, lesson, "check", status, expected, seen, reason, at)
			SELECT id, learner, lesson, ?, ?, ?, ?, ?, ? FROM sessions WHERE id = ? AND learner = ? AND lesson = ?`},
		{&s.note, s.main, `
			INSERT INTO entries (session, learner, lesson, kind, detail, at, after)
			SELECT s.id, l.id, ?4, ?5, ?6, ?7, (SELECT coalesce(max(seq), 0) FROM attempts)
			FROM learners l LEFT JOIN sessions s ON s.id = ?1 AND s.learner = l.id AND s.lesson = ?4
			WHERE l.id = ?2 AND (?3 OR s.id IS NOT NULL)`},
		{&s.learner, s.readers, `SELECT id, created FROM learners WHERE token_hash = ?`},
		{&s.session, s.readers, sessionColumns + ` WHERE id = ?`},
		{&s.lastSession, s.readers, sessionColumns + ` WHERE learner = ? AND lesson = ? ORDER BY started DESC, rowid DESC LIMIT 1`},
		{&s.openSessions, s.readers, sessionColumns + ` WHERE ended IS NULL ORDER BY started, rowid`},
		{&s.progress, s.readers, progressQuery},
		{&s.attempts, s.readers, attemptsQuery},
	} {
		st, err := p.db.PrepareContext(ctx, p.sql)
		if err != nil {
			return s.explain("prepare", err)
		}
		*p.dst = st
	}
	return nil
}

// Close waits for what is under way and closes the database. Methods fail
// afterwards; another Close does nothing.
func (s *Store) Close() error {
	if s.writer != nil {
		s.writer.close()
	}
	var errs []error
	for _, st := range []*sql.Stmt{
		s.addLearner, s.addSession, s.updateSession, s.record, s.note,
		s.learner, s.session, s.lastSession, s.openSessions, s.progress, s.attempts,
	} {
		if st != nil {
			errs = append(errs, st.Close())
		}
	}
	// The one that writes is last: the last connection to close folds the log
	// into the file, which readers may not.
	for _, db := range []*sql.DB{s.readers, s.main} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return s.explain("close", err)
	}
	return nil
}

// explain wraps an error with what was being done. What the operator can do
// something about becomes a labs.Problem.
func (s *Store) explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	doing += " in the progress database"
	var pe *fs.PathError
	switch {
	case errors.As(err, &pe) && (errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)):
		return s.unwritable(err)
	case errors.Is(err, syscall.ENOSPC):
		return s.full(err)
	}
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return fmt.Errorf("%s %s: %w", doing, s.path, err)
	}
	switch se.Code() & 0xff { // the low byte is the kind, the rest details
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return s.damaged(err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return s.unwritable(err)
	case sqlite3.SQLITE_FULL:
		return s.full(err)
	case sqlite3.SQLITE_IOERR:
		// Where memory is shared over a file, a full disk is only an I/O error.
		var disk syscall.Statfs_t
		if syscall.Statfs(filepath.Dir(s.path), &disk) == nil && disk.Bavail < 16 {
			return s.full(err)
		}
		return &labs.Problem{Kind: labs.ErrInvalid, Cause: err, Say: fmt.Sprintf(
			"The disk that holds the progress database %s does not work as it should. Look at the kernel's messages (dmesg) and at the space left (df -h).", s.path)}
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return &labs.Problem{Kind: labs.ErrBusy, Cause: err, Say: fmt.Sprintf(
			"Another program holds the progress database %s. Find it with: fuser -v '%s'", s.path, s.path)}
	}
	return fmt.Errorf("%s %s: %w", doing, s.path, err)
}

func (s *Store) damaged(cause error) error {
	return &labs.Problem{Kind: labs.ErrInvalid, Cause: cause, Say: fmt.Sprintf(
		"The progress database %[1]s is damaged; Berth has left it as it is. Stop Berth and move it away together with its log (the last two files need not be there): "+
			"mkdir '%[1]s.damaged'; mv '%[1]s' '%[1]s-wal' '%[1]s-shm' '%[1]s.damaged/'. Berth then starts with an empty one. "+
			"To keep what can still be read, run this before starting it: sqlite3 '%[1]s.damaged/%[2]s' .recover | sqlite3 '%[1]s'", s.path, filepath.Base(s.path))}
}

func (s *Store) unwritable(cause error) error {
	return &labs.Problem{Kind: labs.ErrForbidden, Cause: cause, Say: fmt.Sprintf(
		"The progress database %s cannot be written. Its folder must be on a file system that is not read-only, and belong to the user that Berth runs as (uid %d); or name another file.",
		s.path, os.Getuid())}
}

func (s *Store) full(cause error) error {
	return &labs.Problem{Kind: labs.ErrBusy, Cause: cause, Say: fmt.Sprintf(
		"There is no space left on the disk that holds the progress database %s. Free some; what was recorded before is kept.", s.path)}
}

// isConstraint reports whether err is a violated constraint of this extended
// code, such as SQLITE_CONSTRAINT_UNIQUE.
func isConstraint(err error, codes ...int) bool {
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return false
	}
	for _, c := range codes {
		if se.Code() == c {
			return true
		}
	}
	return false
}

// checkIDs refuses ids that are empty or longer than any that Berth makes.
// They are not cut: a cut id names something else.
func checkIDs(ids ...string) error {
	for _, id := range ids {
		if id == "" || len(id) > maxID || !utf8.ValidString(id) || strings.ContainsRune(id, 0) {
			return fmt.Errorf("id of %d bytes: %w", len(id), labs.ErrInvalid)
		}
	}
	return nil
}

// cut gives text of at most n bytes that ends at a character's end, is valid
// UTF-8 and holds no NUL, which other databases refuse.
func cut(text string, n int) string {
	if len(text) > n {
		text = text[:n]
		for i := 1; i <= utf8.UTFMax && i <= len(text); i++ {
			if c := text[len(text)-i]; utf8.RuneStart(c) {
				if !utf8.FullRuneInString(text[len(text)-i:]) {
					text = text[:len(text)-i]
				}
				break
			}
		}
	}
	// One byte for one byte: the result must not grow.
	text = strings.ToValidUTF8(text, "?")
	return strings.ReplaceAll(text, "\x00", "?")
}

// micros gives t as it is stored; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
