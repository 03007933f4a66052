package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"berth/labs"
)

// The checks that have attempts since the newest reset are found by stepping
// through an index from one check to the next. That takes as long as there are
// checks, not attempts: a learner who makes a check flicker all day costs no
// more than another. ?1 is the learner, ?2 the lesson.
const checksSinceReset = `
WITH RECURSIVE
mark (seq) AS (
	SELECT coalesce((SELECT after FROM entries WHERE learner = ?1 AND lesson = ?2 AND kind = 'reset' ORDER BY seq DESC LIMIT 1), 0)
),
checks (id) AS (
	SELECT min("check") FROM attempts WHERE learner = ?1 AND lesson = ?2
	UNION ALL
	SELECT (SELECT min("check") FROM attempts WHERE learner = ?1 AND lesson = ?2 AND "check" > checks.id)
	FROM checks WHERE checks.id IS NOT NULL
)`

// progressQuery gives rows of kind, check and time in one snapshot.
const progressQuery = checksSinceReset + `
SELECT 'passed', checks.id, a.at
FROM checks JOIN attempts a ON a.seq = (
	SELECT seq FROM attempts
	WHERE learner = ?1 AND lesson = ?2 AND "check" = checks.id AND status = 'passed' AND seq > (SELECT seq FROM mark)
	ORDER BY seq LIMIT 1)
UNION ALL
SELECT 'finished', '', (
	SELECT at FROM entries
	WHERE learner = ?1 AND lesson = ?2 AND kind = 'finished'
		AND seq > coalesce((SELECT seq FROM entries WHERE learner = ?1 AND lesson = ?2 AND kind = 'reset' ORDER BY seq DESC LIMIT 1), 0)
	ORDER BY seq LIMIT 1)
UNION ALL
SELECT 'last', '', (SELECT at FROM attempts WHERE learner = ?1 AND lesson = ?2 ORDER BY seq DESC LIMIT 1)
UNION ALL
SELECT 'last', '', (SELECT at FROM entries WHERE learner = ?1 AND lesson = ?2 ORDER BY seq DESC LIMIT 1)`

const attemptsQuery = checksSinceReset + `
SELECT a.session, a.learner, a.lesson, a."check", a.status, a.expected, a.seen, a.reason, a.at
FROM checks JOIN attempts a ON a.seq = (
	SELECT seq FROM attempts
	WHERE learner = ?1 AND lesson = ?2 AND "check" = checks.id AND seq > (SELECT seq FROM mark)
	ORDER BY seq DESC LIMIT 1)
ORDER BY a.seq`

// Record stores a result. Expected, Seen and Reason are cut at 500 bytes.
// ErrNotFound when the learner has no such session with the lesson.
func (s *Store) Record(ctx context.Context, a labs.Attempt) error {
	r := a.Result
	if err := checkIDs(r.Check, string(r.Status)); err != nil {
		return fmt.Errorf("record a result: %w", err)
	}
	n, err := s.writer.exec(ctx, s.record, r.Check, string(r.Status),
		cut(r.Expected, maxText), cut(r.Seen, maxText), cut(r.Reason, maxText), micros(r.At), a.Session, a.Learner, a.Lesson)
	return s.one(n, err, "record a result of session "+cut(a.Session, maxID))
}

// Note stores an entry; one that belongs to no session is allowed. Detail is
// cut at 1 KiB. ErrNotFound when the learner is not known, or has no such
// session with the lesson.
func (s *Store) Note(ctx context.Context, e labs.Entry) error {
	if err := checkIDs(e.Learner, e.Lesson, e.Kind); err != nil {
		return fmt.Errorf("record an entry: %w", err)
	}
	n, err := s.writer.exec(ctx, s.note, e.Session, e.Learner, e.Session == "", e.Lesson, e.Kind, cut(e.Detail, maxDetail), micros(e.At))
	return s.one(n, err, "record an entry of session "+cut(e.Session, maxID))
}

// Progress computes how far the learner is in the lesson: the checks that
// passed since the newest "reset" entry, in the order in which things were
// recorded. Last is the time of the newest thing recorded, a reset included.
func (s *Store) Progress(ctx context.Context, learner, lesson string) (labs.Progress, error) {
	p := labs.Progress{Lesson: lesson, Passed: make(map[string]time.Time)}
	rows, err := s.progress.QueryContext(ctx, learner, lesson)
	if err != nil {
		return labs.Progress{}, s.explain("compute progress", err)
	}
	defer rows.Close()
	for rows.Next() {
		var kind, check string
		var at sql.NullInt64
		if err := rows.Scan(&kind, &check, &at); err != nil {
			return labs.Progress{}, s.explain("compute progress", err)
		}
		if !at.Valid {
			continue
		}
		t := fromMicros(at.Int64)
		switch kind {
		case "passed":
			p.Passed[check] = t
		case "finished":
			p.Finished = t
		case "last":
			if t.After(p.Last) {
				p.Last = t
			}
		}
	}
	if err := rows.Err(); err != nil {
		return labs.Progress{}, s.explain("compute progress", err)
	}
	return p, nil
}

// Attempts lists the newest recorded result of every check since the last
// reset, in the order in which they were recorded.
func (s *Store) Attempts(ctx context.Context, learner, lesson string) ([]labs.Attempt, error) {
	rows, err := s.attempts.QueryContext(ctx, learner, lesson)
	if err != nil {
		return nil, s.explain("list attempts", err)
	}
	defer rows.Close()
	var all []labs.Attempt
	for rows.Next() {
		var a labs.Attempt
		var at int64
		r := &a.Result
		err := rows.Scan(&a.Session, &a.Learner, &a.Lesson, &r.Check, &r.Status, &r.Expected, &r.Seen, &r.Reason, &at)
		if err != nil {
			return nil, s.explain("list attempts", err)
		}
		r.At = fromMicros(at)
		all = append(all, a)
	}
	return all, s.explain("list attempts", rows.Err())
}
