package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// runDir holds the locks on what is shared by the whole machine.
const runDir = "/run/berth"

// A lock is a file that one process at a time holds.
type lock struct {
	file *os.File
	path string
}

// takeLocks makes sure that no other server uses the same directory, names or
// user ids.
func takeLocks(ctx context.Context, cfg Config) (locks []*lock, err error) {
	defer func() {
		if err != nil {
			dropLocks(locks)
			locks = nil
		}
	}()
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return nil, fmt.Errorf("make %s for locks: %w", runDir, err)
	}
	for _, want := range []struct{ path, taken string }{
		{filepath.Join(cfg.State, "lock"), "another berth server already uses the state directory " + cfg.State + "; stop it, or choose another directory"},
		{filepath.Join(runDir, "name-"+cfg.Name), "another berth server on this machine already uses the name " + cfg.Name + "; choose another name"},
		{filepath.Join(runDir, "ids-"+strconv.FormatUint(uint64(cfg.FirstID), 10)), fmt.Sprintf("another berth server on this machine already gives out user ids from %d on; choose another first id", cfg.FirstID)},
	} {
		l, err := takeLock(ctx, want.path)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return locks, errors.New(want.taken)
		}
		if err != nil {
			return locks, fmt.Errorf("lock %s: %w", want.path, err)
		}
		locks = append(locks, l)
	}
	return locks, nil
}

// lockPatience bounds the wait for a lock: a server that was killed just now
// can hold it for a moment more.
const lockPatience = time.Second

func takeLock(ctx context.Context, path string) (*lock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		l, err := tryLock(path)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func tryLock(path string) (*lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, err
		}
		// The holder before may have removed the file just now.
		ours, err := f.Stat()
		if err == nil {
			if there, err := os.Stat(path); err == nil && os.SameFile(ours, there) {
				return &lock{f, path}, nil
			}
		}
		f.Close()
	}
}

// dropLocks lets go of the locks.
func dropLocks(locks []*lock) {
	for _, l := range locks {
		os.Remove(l.path)
		l.file.Close()
	}
}
