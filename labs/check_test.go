package labs_test

import (
	"errors"
	"regexp"
	"testing"

	"berth/labs"
)

func TestParseNumber(t *testing.T) {
	for _, c := range []struct {
		in    string
		holds []int64
		fails []int64
	}{
		{"0", []int64{0}, []int64{1, -1}},
		{"=3", []int64{3}, []int64{2}},
		{"> 0", []int64{1, 127}, []int64{0}},
		{"<20M", []int64{19_999_999}, []int64{20_000_000}},
		{">1Ki", []int64{1025}, []int64{1024}},
	} {
		n, err := labs.ParseNumber(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
		}
		for _, v := range c.holds {
			if !n.Test(v) {
				t.Errorf("%q does not hold for %d", c.in, v)
			}
		}
		for _, v := range c.fails {
			if n.Test(v) {
				t.Errorf("%q holds for %d", c.in, v)
			}
		}
	}
	for _, bad := range []string{"", ">", "many", "1e9", "99999999999G", "0x10"} {
		if _, err := labs.ParseNumber(bad); !errors.Is(err, labs.ErrInvalid) {
			t.Errorf("%q: %v; want not valid", bad, err)
		}
	}
	if !(labs.Number{}).Test(5) || !(labs.Number{}).IsZero() {
		t.Error("the zero number does not accept everything")
	}
}

func TestTextRule(t *testing.T) {
	eq, no := "text\n", false
	for _, c := range []struct {
		rule  labs.TextRule
		text  string
		holds bool
	}{
		{labs.TextRule{}, "anything", true},
		{labs.TextRule{Equals: &eq}, "text", true},
		{labs.TextRule{Equals: &eq}, "text\n", true},
		{labs.TextRule{Equals: &eq}, "text\n\n", false},
		{labs.TextRule{Contains: "ex"}, "text", true},
		{labs.TextRule{Contains: "x t"}, "text", false},
		{labs.TextRule{Matches: regexp.MustCompile(`^t..t$`)}, "text", true},
		{labs.TextRule{Matches: regexp.MustCompile(`^t..t$`), Contains: "no"}, "text", false},
		{labs.TextRule{Exists: &no}, "", false},
	} {
		if got := c.rule.Test(c.text); got != c.holds {
			t.Errorf("%v on %q: %v", c.rule, c.text, got)
		}
	}
}

func TestBus(t *testing.T) {
	var b labs.Bus
	slow, cancelSlow := b.Subscribe("s")
	for range 100 { // more than a subscriber may be behind
		b.Publish(labs.Event{Session: "s"})
	}
	n := 0
	for range slow {
		n++
	}
	if n == 0 || n >= 100 {
		t.Errorf("a slow subscriber got %d events before it was dropped", n)
	}
	cancelSlow()
	cancelSlow()
	if b.Watched("s") {
		t.Error("the session is still watched")
	}
	ch, cancel := b.Subscribe("s")
	b.Publish(labs.Event{Session: "other"})
	b.Publish(labs.Event{Session: "s", Kind: "mine"})
	if e := <-ch; e.Kind != "mine" {
		t.Errorf("got %+v", e)
	}
	cancel()
	if _, open := <-ch; open {
		t.Error("the channel is open after cancel")
	}
}
