package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	writeQueue = 256 // statements that wait for the one that is being committed
	writeBatch = 256 // statements in one transaction
)

var errClosed = errors.New("it is closed")

// A write is one statement that changes the database.
type write struct {
	ctx  context.Context
	stmt *sql.Stmt
	args []any

	rows int64
	err  error
	done chan struct{} // closed when rows and err are set
}

// A writer runs the statements of all callers on the one connection that
// writes. Those that wait while a transaction is synced to the disk share the
// next one: with many learners on a slow disk, the number of syncs a second
// stays what the disk can do, and nobody waits longer than two of them.
type writer struct {
	db      *sql.DB
	queue   chan *write
	stop    chan struct{}
	stopped sync.Once
	running atomic.Bool
	ended   chan struct{}
}

func newWriter(db *sql.DB) *writer {
	return &writer{db: db, queue: make(chan *write, writeQueue), stop: make(chan struct{}), ended: make(chan struct{})}
}

func (w *writer) start() {
	w.running.Store(true)
	go w.run()
}

// close commits what is queued and ends the writer.
func (w *writer) close() {
	w.stopped.Do(func() { close(w.stop) })
	if w.running.Load() {
		<-w.ended
	}
}

// exec runs a statement and returns when it is committed. When ctx ends first
// the statement may or may not be committed later.
func (w *writer) exec(ctx context.Context, stmt *sql.Stmt, args ...any) (rows int64, err error) {
	x := &write{ctx: ctx, stmt: stmt, args: args, done: make(chan struct{})}
	select {
	case w.queue <- x:
	case <-w.ended:
		return 0, errClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case <-x.done:
		return x.rows, x.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-w.ended: // it may have been queued after the last look
		select {
		case <-x.done:
			return x.rows, x.err
		default:
			return 0, errClosed
		}
	}
}

func (w *writer) run() {
	defer close(w.ended)
	batch := make([]*write, 0, writeBatch)
	for {
		select {
		case x := <-w.queue:
			batch = append(batch[:0], x)
		case <-w.stop:
			select {
			case x := <-w.queue:
				batch = append(batch[:0], x)
			default:
				return
			}
		}
	collect:
		for len(batch) < writeBatch {
			select {
			case x := <-w.queue:
				batch = append(batch, x)
			default:
				break collect
			}
		}
		if err := w.commit(batch); err != nil {
			for _, x := range batch {
				x.err = err
			}
		}
		for i, x := range batch {
			close(x.done)
			batch[i] = nil
		}
	}
}

// commit runs the statements in one transaction. A statement that violates a
// constraint undoes only itself; an error of commit means that none was
// stored. Callers' contexts do not reach the transaction: one who goes away
// must not undo the work of the others.
func (w *writer) commit(batch []*write) error {
	ctx := context.Background()
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	for _, x := range batch {
		if x.err = x.ctx.Err(); x.err != nil {
			continue
		}
		res, err := tx.StmtContext(ctx, x.stmt).ExecContext(ctx, x.args...)
		if err == nil {
			x.rows, err = res.RowsAffected()
		}
		if err != nil && !undoesItself(err) {
			return err
		}
		x.err = err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// undoesItself reports whether a statement that ended with err leaves the
// transaction around it as it was.
func undoesItself(err error) bool {
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return false
	}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE:
		return true
	}
	return false
}
