package web

import (
	"strconv"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter(Rate{Burst: 3, Every: 10 * time.Second})
	l.now = func() time.Time { return now }
	count := func(key string) (n int) {
		for l.allow(key) {
			n++
		}
		return n
	}
	if n := count("a"); n != 3 {
		t.Errorf("%d at once, want 3", n)
	}
	if n := count("b"); n != 3 {
		t.Errorf("%d at once by another, want 3", n)
	}
	now = now.Add(9 * time.Second)
	if l.allow("a") {
		t.Error("one more after 9 s")
	}
	now = now.Add(2 * time.Second)
	if n := count("a"); n != 1 {
		t.Errorf("%d more after 11 s, want 1", n)
	}
	now = now.Add(time.Hour)
	if n := count("a"); n != 3 {
		t.Errorf("%d at once after an hour, want 3", n)
	}
}

// TestAttackManyKeys: memory stays bounded, and those who are remembered keep
// their rates.
func TestAttackManyKeys(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter(Rate{Burst: 2, Every: 10 * time.Second})
	l.now = func() time.Time { return now }
	l.allow("first")
	l.allow("first")
	allowed := 0
	for i := range 10 * maxKeys {
		if l.allow(strconv.Itoa(i)) {
			allowed++
		}
	}
	if len(l.full) > maxKeys+1 || allowed > maxKeys+2 {
		t.Errorf("%d keys are remembered, %d were allowed", len(l.full), allowed)
	}
	if l.allow("first") {
		t.Error("a flood of other keys gave the first one a new burst")
	}
	now = now.Add(time.Minute)
	if !l.allow("another") || len(l.full) > 2 {
		t.Errorf("%d keys are remembered after a minute", len(l.full))
	}
}

func TestQuota(t *testing.T) {
	var q quota
	for range 3 {
		if !q.take("a", 3) {
			t.Fatal("not three at once")
		}
	}
	if q.take("a", 3) {
		t.Fatal("four at once")
	}
	q.give("a")
	if !q.take("a", 3) {
		t.Fatal("no room after one was given back")
	}
	for range 3 {
		q.give("a")
	}
	if len(q.used) != 0 {
		t.Fatalf("%v is still remembered", q.used)
	}
}
