package verify

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	id := strings.Repeat("a", 64)
	for _, test := range []struct {
		in   string
		max  int
		want string
	}{
		{"plain", 10, "plain"},
		{id, 64, id},
		{id + "b", 64, id[:61] + "…"},
		{"a\x1b[2J\nb\u202ec\xff", 100, "a\uFFFD[2J b\uFFFDc\uFFFD"},
		{strings.Repeat("é", 1000), 100, strings.Repeat("é", 48) + "…"},
		{strings.Repeat("\x00", 1000), 100, strings.Repeat("\uFFFD", 32) + "…"},
	} {
		got := clean(test.in, test.max)
		if got != test.want || len(got) > test.max || !utf8.ValidString(got) {
			t.Errorf("clean(%.20q, %d) = %q, want %q", test.in, test.max, got, test.want)
		}
	}
}

func TestMatchPath(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"~/x", "/root/x", true},
		{"~/x", "/home/learner/x", true},
		{"~/x", "/root/xy", false},
		{"/etc/*.conf", "/etc/a.conf", true},
		{"/etc/*.conf", "/etc/b/a.conf", false},
		{"/srv/**", "/srv/a/b", true},
		{"/srv/**/b", "/srv/b", true},
		{"/srv/**/b/**/c", "/srv/a/b/x/y/c", true},
		{"/srv/**/b/**/c", "/srv/a/x/y/c", false},
		{"~/**/manifest.json", "/root/a/b/manifest.json", true},
		{"/a?c", "/abc", true},
	} {
		if got := matchPath(test.pattern, test.name); got != test.want {
			t.Errorf("matchPath(%q, %q) = %v", test.pattern, test.name, got)
		}
	}
	// A learner who makes deep folders does not make matching slow.
	start := time.Now()
	matchPath("~/**/a/**/a/**/a/**/b", "/"+strings.Repeat("a/", 2000)+"c")
	if took := time.Since(start); took > time.Second {
		t.Errorf("a deep path took %v", took)
	}
}

func TestReferences(t *testing.T) {
	for _, ref := range []string{"busybox", "busybox:latest", "library/busybox", "docker.io/busybox", "docker.io/library/busybox:latest", "index.docker.io/library/busybox"} {
		if got := fullRef(ref); got != "docker.io/library/busybox:latest" {
			t.Errorf("fullRef(%q) = %q", ref, got)
		}
		if got := shortRef(ref); got != "busybox:latest" {
			t.Errorf("shortRef(%q) = %q", ref, got)
		}
	}
	for _, ref := range []string{"Not A Ref", "", "sha256:" + strings.Repeat("0", 64), "0123456789ab"} {
		if got := fullRef(ref); got != ref {
			t.Errorf("fullRef(%q) = %q", ref, got)
		}
	}
}

func TestPace(t *testing.T) {
	now := time.Unix(1000, 0)
	var p pace
	if p.wait(now, false) > 0 {
		t.Error("the first look waits")
	}
	p.spent(now, now.Add(time.Millisecond))
	if got := p.wait(now, false); got != paceGap {
		t.Errorf("after a quick look %v, want %v", got, paceGap)
	}
	if got := p.wait(now, true); got > 0 {
		t.Errorf("an urgent look waits %v", got)
	}
	p.spent(now, now.Add(time.Second))
	if got := p.wait(now, false); got != paceGap+paceCost*time.Second {
		t.Errorf("after a slow look %v", got)
	}
	p = pace{}
	looks := 0
	for i := range 10_000 { // 10 s of urgent events
		at := now.Add(time.Duration(i) * time.Millisecond)
		if p.wait(at, true) <= 0 {
			p.spent(at, at)
			looks++
		}
	}
	if most := int((10*time.Second+paceBurst)/paceGap) + 1; looks > most {
		t.Errorf("%d looks in 10 s, want at most %d", looks, most)
	}
}
