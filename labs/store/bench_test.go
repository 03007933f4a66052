package store_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"berth/labs"
	"berth/labs/store"
)

// class opens a store with n learners who each have an open session.
func class(tb testing.TB, n int) (*store.Store, []labs.Session) {
	tb.Helper()
	s, err := store.Open(tb.Context(), filepath.Join(tb.TempDir(), "berth.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	var all []labs.Session
	for i := range n {
		id := fmt.Sprintf("learner-%03d", i)
		if err := s.AddLearner(tb.Context(), labs.Learner{ID: id, Created: time.Now()}, []byte(id)); err != nil {
			tb.Fatal(err)
		}
		x := labs.Session{ID: "session of " + id, Learner: id, Lesson: "container-image", Started: time.Now()}
		if err := s.AddSession(tb.Context(), x); err != nil {
			tb.Fatal(err)
		}
		all = append(all, x)
	}
	return s, all
}

func attempt(x labs.Session, check string, st labs.Status) labs.Attempt {
	return labs.Attempt{Session: x.ID, Learner: x.Learner, Lesson: x.Lesson, Result: labs.Result{
		Check: check, Status: st, Expected: "an image redis:3.2.11-alpine", Seen: "no image", At: time.Now(),
	}}
}

func BenchmarkRecord(b *testing.B) {
	s, all := class(b, 1)
	for i := 0; b.Loop(); i++ {
		if err := s.Record(b.Context(), attempt(all[0], fmt.Sprintf("step/%d", i%30), labs.Passed)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecordClass records for 100 learners at once.
func BenchmarkRecordClass(b *testing.B) {
	s, all := class(b, 100)
	b.SetParallelism(50) // times two processors
	var next atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		x := all[int(next.Add(1))%len(all)]
		for i := 0; pb.Next(); i++ {
			if err := s.Record(b.Context(), attempt(x, fmt.Sprintf("step/%d", i%30), labs.Passed)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkProgress(b *testing.B) {
	for _, attempts := range []int{30, 3000} {
		b.Run(fmt.Sprintf("attempts=%d", attempts), func(b *testing.B) {
			s, all := class(b, 1)
			for i := range attempts {
				if err := s.Record(b.Context(), attempt(all[0], fmt.Sprintf("step/%d", i%30), labs.Passed)); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for b.Loop() {
				p, err := s.Progress(b.Context(), all[0].Learner, all[0].Lesson)
				if err != nil || len(p.Passed) != 30 {
					b.Fatal(len(p.Passed), err)
				}
			}
		})
	}
}
