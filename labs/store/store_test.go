package store_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/labs"
	"berth/labs/store"
	"berth/labs/store/storetest"
)

// TestMain lets the test binary be the server that TestKill ends.
func TestMain(m *testing.M) {
	if path := os.Getenv("BERTH_TEST_STORE"); path != "" {
		if err := recordUntilKilled(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, path string) (*store.Store, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := store.Open(ctx, path, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

func mustOpen(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := open(t, path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) labs.Store {
		return mustOpen(t, filepath.Join(t.TempDir(), "berth.db"))
	})
}

func TestReopen(t *testing.T) {
	for _, name := range []string{"berth.db", "a b?c#d%41.db", "deep/er/berth.db", "ä'\"$.db"} {
		t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			s := mustOpen(t, path)
			if err := s.AddLearner(t.Context(), labs.Learner{ID: "ada"}, []byte("hash")); err != nil {
				t.Fatal(err)
			}
			for _, suffix := range []string{"", "-wal", "-shm"} {
				info, err := os.Stat(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v", path+suffix, info.Mode())
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path + "-wal"); err == nil {
				t.Error("the log was not folded into the file")
			}
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, path)
			if _, err := s.LearnerByToken(t.Context(), []byte("hash")); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode is %v after opening (%v)", info.Mode(), err)
			}
		})
	}
}

// TestTwoServers: a server that is being replaced and its successor share the
// file for a moment.
func TestTwoServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	var stores [2]*store.Store
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			s, err := store.Open(t.Context(), path, nil)
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, s := range stores {
		t.Cleanup(func() { s.Close() })
		wg.Go(func() {
			for n := range 100 {
				id := fmt.Sprintf("l%d-%d", i, n)
				if err := s.AddLearner(t.Context(), labs.Learner{ID: id}, []byte(id)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range stores {
		for n := range 100 {
			if _, err := stores[1-i].LearnerByToken(t.Context(), fmt.Appendf(nil, "l%d-%d", i, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// sentence expects an error that tells the operator what to do, naming path.
func sentence(t *testing.T, err error, kind error, path string, words ...string) {
	t.Helper()
	var p *labs.Problem
	if !errors.As(err, &p) {
		t.Fatalf("error is %v, want a problem", err)
	}
	if !errors.Is(err, kind) {
		t.Errorf("kind is %v, want %v", p.Kind, kind)
	}
	for _, w := range append(words, path) {
		if !strings.Contains(p.Say, w) {
			t.Errorf("%q does not say %q", p.Say, w)
		}
	}
}

// raw runs SQL on the file, past the store.
func raw(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}

func TestNewerVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	if err := mustOpen(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, path, "PRAGMA user_version = 4711")
	_, err := open(t, path)
	sentence(t, err, labs.ErrInvalid, path, "newer Berth", "4711")
}

func TestOtherProgramsDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "photos.db")
	raw(t, path, "CREATE TABLE photos (id)")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(t, path)
	sentence(t, err, labs.ErrInvalid, path, "another program")
	raw(t, path, "SELECT id FROM photos") // still theirs
	if after, err := os.ReadFile(path); err != nil || len(after) != len(before) {
		t.Errorf("the file has %d bytes now and had %d (%v)", len(after), len(before), err)
	}
}

func TestDamagedDatabase(t *testing.T) {
	filled := func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), "berth.db")
		s := mustOpen(t, path)
		x := labs.Session{ID: "s1", Learner: "ada", Lesson: "l"}
		if err := errors.Join(
			s.AddLearner(t.Context(), labs.Learner{ID: "ada"}, []byte("hash")),
			s.AddSession(t.Context(), x)); err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			if err := s.Record(t.Context(), attempt(x, fmt.Sprintf("c/%d", i), labs.Passed)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"not a database", func([]byte) []byte { return []byte(strings.Repeat("no database\n", 1000)) }},
		{"short text", func([]byte) []byte { return []byte("oops") }},
		{"torn header", func(b []byte) []byte { copy(b[16:], bytes.Repeat([]byte{0xff}, 60)); return b }},
		{"truncated", func(b []byte) []byte { return b[:len(b)/2] }},
		{"a page of zeros", func(b []byte) []byte { clear(b[2*4096 : 3*4096]); return b }},
		{"noise in the middle", func(b []byte) []byte {
			r := rand.New(rand.NewPCG(1, 2))
			for i := 4096; i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
			return b
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filled(t)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b = c.damage(b)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = open(t, path)
			sentence(t, err, labs.ErrInvalid, path, "damaged", "mv '"+path+"'", "sqlite3")
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, b) {
				t.Errorf("the damaged file was changed (%v)", err)
			}
		})
	}
}

// TestDamagedWhileOpen: damage that shows only later is told the same way.
func TestDamagedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	s := mustOpen(t, path)
	if err := s.AddLearner(t.Context(), labs.Learner{ID: "ada"}, []byte("hash")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(b); i++ {
		b[i] ^= 0xa5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.LearnerByToken(t.Context(), []byte("hash"))
	sentence(t, err, labs.ErrInvalid, path, "damaged")
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("berth-test", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	path := filepath.Join(dir, "berth.db")
	if err := mustOpen(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("remount: %v", err)
	}
	_, err := open(t, path)
	sentence(t, err, labs.ErrForbidden, path, "cannot be written")
	other := filepath.Join(dir, "other.db")
	_, err = open(t, other)
	sentence(t, err, labs.ErrForbidden, other, "cannot be written")
	other = filepath.Join(dir, "deep", "berth.db")
	_, err = open(t, other)
	sentence(t, err, labs.ErrForbidden, other, "cannot be written")
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("berth-test", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	path := filepath.Join(dir, "berth.db")
	s := mustOpen(t, path)
	t.Cleanup(func() { s.Close() })
	x := labs.Session{ID: "s1", Learner: "ada", Lesson: "l"}
	if err := errors.Join(
		s.AddLearner(t.Context(), labs.Learner{ID: "ada"}, []byte("hash")),
		s.AddSession(t.Context(), x)); err != nil {
		t.Fatal(err)
	}
	stored := 0
	var err error
	for ; stored < 10_000; stored++ {
		if err = s.Record(t.Context(), attempt(x, fmt.Sprintf("c/%d", stored), labs.Passed)); err != nil {
			break
		}
	}
	sentence(t, err, labs.ErrBusy, path, "no space left")
	p, err := s.Progress(t.Context(), "ada", "l")
	if err != nil || len(p.Passed) != stored {
		t.Errorf("%d of %d are there (%v)", len(p.Passed), stored, err)
	}
	if err := s.Close(); err != nil {
		t.Logf("close on a full disk: %v", err)
	}
}

func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	_, err := open(t, dir)
	sentence(t, err, labs.ErrInvalid, dir, "not a regular file")
}

// recordUntilKilled records as fast as it can from several goroutines and
// writes a line for everything that was acknowledged.
func recordUntilKilled(path string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	var mu sync.Mutex // one line at a time
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	run := rand.Uint64()
	errs := make(chan error)
	for g := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%x-%d-%d", run, g, i)
				if err := s.AddLearner(ctx, labs.Learner{ID: id}, []byte(id)); err != nil {
					errs <- err
					return
				}
				say("learner %s", id)
				x := labs.Session{ID: "s-" + id, Learner: id, Lesson: "l", Started: time.Now()}
				if err := s.AddSession(ctx, x); err != nil {
					errs <- err
					return
				}
				say("session %s", id)
				for c := range 5 {
					if err := s.Record(ctx, attempt(x, fmt.Sprintf("c/%d", c), labs.Passed)); err != nil {
						errs <- err
						return
					}
					say("passed %s c/%d", id, c)
				}
				x.Ended = time.Now()
				if err := s.UpdateSession(ctx, x); err != nil {
					errs <- err
					return
				}
				say("ended %s", id)
			}
		}()
	}
	return <-errs
}

// TestKill ends the writing process with SIGKILL at random moments, again and
// again on the same file. Everything that it acknowledged must be there.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 25
	total := 0
	for round := range rounds {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "BERTH_TEST_STORE="+path)
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Some are killed while they start, most while they write.
		timer := time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, func() { cmd.Process.Kill() })
		lines := bufio.NewReader(out)
		if round%4 != 0 {
			timer.Reset(30 * time.Second)
			lines.Peek(1) // at its end ReadAll says so
			timer.Reset(time.Duration(rand.IntN(100)) * time.Millisecond)
		}
		text, err := io.ReadAll(lines)
		if err != nil {
			t.Error(err)
		}
		timer.Stop()
		cmd.Process.Kill()
		cmd.Wait()
		if complaint.Len() > 0 {
			t.Fatalf("round %d: %s", round, complaint.String())
		}
		// The last line may be torn; it counts only when it ends.
		text = text[:bytes.LastIndexByte(text, '\n')+1]
		total += bytes.Count(text, []byte("\n"))
		verify(t, path, text)
		if t.Failed() {
			t.Fatalf("after round %d", round)
		}
	}
	if total < rounds {
		t.Errorf("only %d writes were acknowledged in %d rounds", total, rounds)
	}
	t.Logf("%d acknowledged writes in %d rounds", total, rounds)
}

func verify(t *testing.T, path string, acknowledged []byte) {
	t.Helper()
	s := mustOpen(t, path)
	defer s.Close()
	lines := bufio.NewScanner(bytes.NewReader(acknowledged))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		id := f[1]
		var err error
		switch f[0] {
		case "learner":
			_, err = s.LearnerByToken(t.Context(), []byte(id))
		case "session":
			_, err = s.Session(t.Context(), "s-"+id)
		case "passed":
			var p labs.Progress
			p, err = s.Progress(t.Context(), id, "l")
			if _, ok := p.Passed[f[2]]; !ok && err == nil {
				err = errors.New("check is not passed")
			}
		case "ended":
			var x labs.Session
			x, err = s.Session(t.Context(), "s-"+id)
			if x.Open() && err == nil {
				err = errors.New("session is open")
			}
		}
		if err != nil {
			t.Errorf("acknowledged %q: %v", lines.Text(), err)
		}
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{"PRAGMA integrity_check", "PRAGMA foreign_key_check"} {
		var found string
		err := db.QueryRow(q).Scan(&found)
		if q == "PRAGMA foreign_key_check" && errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil || found != "ok" {
			t.Errorf("%s: %q, %v", q, found, err)
		}
	}
}
