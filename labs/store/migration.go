package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"berth/labs"
)

// applicationID marks a file as a Berth database ("Brth"), so that another
// program's database is not written into.
const applicationID = 0x42727468

//go:embed migrations/*.sql
var migrationFiles embed.FS

// A migration brings the schema from the version before it to its own.
type migration struct {
	version int // from 1, without gaps
	name    string
	sql     string
}

// migrations gives those that are built in, in order.
func migrations() ([]migration, error) {
	paths, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var ms []migration
	for i, p := range paths { // Glob sorts, and the numbers have leading zeros
		name := strings.TrimSuffix(strings.TrimPrefix(p, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s is not number %d", name, i+1)
		}
		text, err := migrationFiles.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", name, err)
		}
		ms = append(ms, migration{version, name, string(text)})
	}
	return ms, nil
}

// migrate brings the schema up to date, each step in a transaction together
// with the number that records it. It refuses what is not a Berth database and
// what a newer Berth wrote.
func (s *Store) migrate(ctx context.Context) error {
	ms, err := migrations()
	if err != nil {
		return err
	}
	for {
		more, err := s.migrateOne(ctx, ms)
		if err != nil || !more {
			return err
		}
	}
}

// migrateOne applies the next migration. The version is read inside the
// transaction, which holds the write lock: two servers started at the same
// time do not apply one twice.
func (s *Store) migrateOne(ctx context.Context, ms []migration) (more bool, err error) {
	tx, err := s.main.BeginTx(ctx, nil)
	if err != nil {
		return false, s.explain("begin a migration", err)
	}
	defer tx.Rollback()
	var id, version, tables int
	for _, q := range []struct {
		sql string
		dst *int
	}{
		{"PRAGMA application_id", &id},
		{"PRAGMA user_version", &version},
		{"SELECT count(*) FROM sqlite_schema", &tables},
	} {
		if err := tx.QueryRowContext(ctx, q.sql).Scan(q.dst); err != nil {
			return false, s.explain("read the schema's version", err)
		}
	}
	if tables > 0 && id != applicationID {
		return false, &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf(
			"%s is a database of another program. Name another file for Berth's progress database.", s.path)}
	}
	if version > len(ms) {
		return false, &labs.Problem{Kind: labs.ErrInvalid, Say: fmt.Sprintf(
			"The progress database %s was written by a newer Berth (its schema is %d, this Berth knows up to %d). Use that Berth or a newer one, or name another file.",
			s.path, version, len(ms))}
	}
	if version == len(ms) {
		return false, nil
	}
	m := ms[version]
	began := time.Now()
	// PRAGMA takes no parameters; both values are numbers of ours.
	text := fmt.Sprintf("%s\nPRAGMA application_id = %d; PRAGMA user_version = %d;", m.sql, applicationID, m.version)
	if _, err := tx.ExecContext(ctx, text); err != nil {
		return false, s.explain("apply migration "+m.name, err)
	}
	if err := tx.Commit(); err != nil {
		return false, s.explain("commit migration "+m.name, err)
	}
	s.log.Info("progress database migrated", "path", s.path, "migration", m.name, "took", time.Since(began).Round(time.Millisecond))
	return true, nil
}
