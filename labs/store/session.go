package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"berth/labs"
)

const sessionColumns = `SELECT id, learner, lesson, sandbox, others, started, expires, active, ended, reason FROM sessions`

// maxOthers is how many sandboxes a session may have beside its first.
const maxOthers = 8

// AddSession stores a new session. ErrBusy when it is open and the learner
// already has an open one for the lesson, ErrNotFound when the learner is not
// known, ErrInvalid when the id is taken.
func (s *Store) AddSession(ctx context.Context, x labs.Session) error {
	if err := checkIDs(x.ID, x.Learner, x.Lesson); err != nil {
		return fmt.Errorf("add session: %w", err)
	}
	if n := max(len(x.Sandbox), len(x.Others)/maxOthers); n > maxID {
		return fmt.Errorf("add session %s: sandbox id of %d bytes: %w", x.ID, n, labs.ErrInvalid)
	}
	_, err := s.writer.exec(ctx, s.addSession, x.ID, x.Learner, x.Lesson, x.Sandbox, x.Others,
		micros(x.Started), micros(x.Expires), micros(x.Active), ended(x), cut(x.Reason, maxText))
	switch {
	case isConstraint(err, sqlite3.SQLITE_CONSTRAINT_UNIQUE):
		return fmt.Errorf("add session %s: the learner has an open one with %s: %w", x.ID, x.Lesson, labs.ErrBusy)
	case isConstraint(err, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY):
		return fmt.Errorf("add session %s: there is one of this id: %w", x.ID, labs.ErrInvalid)
	case isConstraint(err, sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY):
		return fmt.Errorf("add session %s: learner %s: %w", x.ID, x.Learner, labs.ErrNotFound)
	}
	return s.explain("add session "+x.ID, err)
}

// UpdateSession stores Sandbox, Others, Expires, Active, Ended and Reason. ErrBusy when
// that would open it again beside another open one.
func (s *Store) UpdateSession(ctx context.Context, x labs.Session) error {
	if n := max(len(x.Sandbox), len(x.Others)/maxOthers); n > maxID {
		return fmt.Errorf("update session %s: sandbox id of %d bytes: %w", x.ID, n, labs.ErrInvalid)
	}
	n, err := s.writer.exec(ctx, s.updateSession, x.Sandbox, x.Others,
		micros(x.Expires), micros(x.Active), ended(x), cut(x.Reason, maxText), x.ID)
	if isConstraint(err, sqlite3.SQLITE_CONSTRAINT_UNIQUE) {
		return fmt.Errorf("update session %s: the learner has another open one with %s: %w", x.ID, x.Lesson, labs.ErrBusy)
	}
	return s.one(n, err, "update session "+x.ID)
}

// Session finds a session, open or ended.
func (s *Store) Session(ctx context.Context, id string) (labs.Session, error) {
	x, err := scanSession(s.session.QueryRowContext(ctx, id))
	if errors.Is(err, sql.ErrNoRows) {
		return labs.Session{}, fmt.Errorf("session %.40q: %w", id, labs.ErrNotFound)
	}
	return x, s.explain("find a session", err)
}

// LastSession is the newest session of a learner with a lesson, by Started.
func (s *Store) LastSession(ctx context.Context, learner, lesson string) (labs.Session, error) {
	x, err := scanSession(s.lastSession.QueryRowContext(ctx, learner, lesson))
	if errors.Is(err, sql.ErrNoRows) {
		return labs.Session{}, fmt.Errorf("session of learner %.40q with %.40q: %w", learner, lesson, labs.ErrNotFound)
	}
	return x, s.explain("find a session", err)
}

// OpenSessions lists all that have not ended, the oldest first.
func (s *Store) OpenSessions(ctx context.Context) ([]labs.Session, error) {
	rows, err := s.openSessions.QueryContext(ctx)
	if err != nil {
		return nil, s.explain("list open sessions", err)
	}
	defer rows.Close()
	var all []labs.Session
	for rows.Next() {
		x, err := scanSession(rows)
		if err != nil {
			return nil, s.explain("list open sessions", err)
		}
		all = append(all, x)
	}
	return all, s.explain("list open sessions", rows.Err())
}

func scanSession(row interface{ Scan(...any) error }) (labs.Session, error) {
	var x labs.Session
	var started, expires, active int64
	var end sql.NullInt64
	if err := row.Scan(&x.ID, &x.Learner, &x.Lesson, &x.Sandbox, &x.Others, &started, &expires, &active, &end, &x.Reason); err != nil {
		return labs.Session{}, err
	}
	x.Started, x.Expires, x.Active = fromMicros(started), fromMicros(expires), fromMicros(active)
	if end.Valid {
		x.Ended = fromMicros(end.Int64)
	}
	return x, nil
}

// ended gives the session's end as it is stored: NULL while it is open.
func ended(x labs.Session) any {
	if x.Open() {
		return nil
	}
	return micros(x.Ended)
}

// one makes sure that a statement changed a row.
func (s *Store) one(rows int64, err error, doing string) error {
	if err != nil {
		return s.explain(doing, err)
	}
	if rows == 0 {
		return fmt.Errorf("%s: %w", doing, labs.ErrNotFound)
	}
	return nil
}
