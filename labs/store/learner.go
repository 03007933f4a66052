package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"berth/labs"
)

// AddLearner makes a learner known by the hash of a token. ErrInvalid when the
// id or the token is known already.
func (s *Store) AddLearner(ctx context.Context, l labs.Learner, tokenHash []byte) error {
	if err := checkIDs(l.ID); err != nil {
		return fmt.Errorf("add learner: %w", err)
	}
	if len(tokenHash) == 0 || len(tokenHash) > maxHash {
		return fmt.Errorf("add learner %s: token hash of %d bytes: %w", l.ID, len(tokenHash), labs.ErrInvalid)
	}
	_, err := s.writer.exec(ctx, s.addLearner, l.ID, micros(l.Created), tokenHash)
	if isConstraint(err, sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) {
		return fmt.Errorf("add learner %s: known already: %w", l.ID, labs.ErrInvalid)
	}
	return s.explain("add learner "+l.ID, err)
}

// LearnerByToken finds the learner whose token has this hash.
func (s *Store) LearnerByToken(ctx context.Context, tokenHash []byte) (labs.Learner, error) {
	var l labs.Learner
	var created int64
	err := s.learner.QueryRowContext(ctx, tokenHash).Scan(&l.ID, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return labs.Learner{}, fmt.Errorf("learner of a token: %w", labs.ErrNotFound)
	}
	if err != nil {
		return labs.Learner{}, s.explain("find a learner", err)
	}
	l.Created = fromMicros(created)
	return l, nil
}
