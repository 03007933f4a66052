package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"berth/labs"
)

// save replaces a file and gives the version it has afterwards.
func (r *rig) save(path string, text []byte, was labs.Version) (labs.Version, error) {
	r.t.Helper()
	status, b := r.ask("PUT", PathFile, url.Values{"path": {path}, "was": {string(was)}}, bytes.NewReader(text))
	if status != http.StatusOK {
		var f Fault
		if err := json.Unmarshal(b, &f); err != nil {
			r.t.Fatalf("%s: status %d and %q", path, status, b)
		}
		return f.Version, f.Err()
	}
	var s Saved
	must(r.t, json.Unmarshal(b, &s))
	return s.Version, nil
}

func TestSave(t *testing.T) {
	r := startAgent(t)
	name := r.cfg.Home + "/a/b"
	v, err := r.save("~/a/b", []byte("one"), "")
	must(t, err)
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o644 || v != Version([]byte("one")) {
		t.Errorf("%v, %v, version %q", info, err, v)
	}
	inode := func() uint64 {
		info, err := os.Stat(name)
		must(t, err)
		return info.Sys().(*syscall.Stat_t).Ino
	}
	before := inode()
	if _, err = r.save("~/a/b", []byte("two"), v); err != nil || inode() == before {
		t.Errorf("not replaced: %v", err)
	}
	if now, err := r.save("~/a/b", []byte("three"), v); !errors.Is(err, labs.ErrChanged) || now != Version([]byte("two")) {
		t.Errorf("with an old version: %q, %v", now, err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "two" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestSaveReadsTheWholeBodyFirst(t *testing.T) {
	r := startAgent(t)
	// Else the client may see a broken connection, and not the answer.
	if _, err := r.save("relative", make([]byte, MaxText), ""); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := r.save("~/big", make([]byte, MaxText+1), ""); !errors.Is(err, labs.ErrInvalid) {
		t.Errorf("one byte too many: %v", err)
	}
	if _, err := r.save("~/big", make([]byte, MaxText), ""); err != nil {
		t.Errorf("as large as can be: %v", err)
	}
	if status, b := r.ask("GET", PathFile, url.Values{"path": {"~/big"}, "limit": {"99999999999"}}, nil); status != 200 || len(b) != MaxText {
		t.Errorf("read: %d, %d bytes", status, len(b))
	}
}

// A learner's program makes and removes the file all the time. Whoever is told
// that the file was made has made it.
func TestAttackSaveWhileTheFileComesAndGoes(t *testing.T) {
	r := startAgent(t)
	name := r.cfg.Home + "/f"
	var stop atomic.Bool
	var other sync.WaitGroup
	other.Go(func() {
		for !stop.Load() {
			if f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
				f.WriteString("theirs")
				f.Close()
			}
			os.Remove(name)
		}
	})
	made, changed := 0, 0
	for deadline := time.Now().Add(within); time.Now().Before(deadline) && (made < 20 || changed < 20); {
		switch _, err := r.save("~/f", []byte("mine"), ""); {
		case err == nil:
			made++
		case errors.Is(err, labs.ErrChanged):
			changed++
		default:
			t.Errorf("%v", err)
			deadline = time.Now()
		}
	}
	stop.Store(true)
	other.Wait()
	if made == 0 || changed == 0 {
		t.Errorf("made %d times, %d times it was there", made, changed)
	}
	left, err := filepath.Glob(r.cfg.Home + "/.saving-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// The links of a path are changed while a file is saved through them: it is
// written at one end or the other, and nothing is left in between.
func TestAttackSaveWhileLinksChange(t *testing.T) {
	r := startAgent(t)
	home := r.cfg.Home
	must(t, os.Mkdir(home+"/a", 0o755))
	must(t, os.Mkdir(home+"/b", 0o755))
	must(t, os.Symlink("a", home+"/way"))
	var stop atomic.Bool
	var other sync.WaitGroup
	other.Go(func() {
		for i := 0; !stop.Load(); i++ {
			os.Symlink([]string{"a", "b"}[i%2], home+"/next")
			os.Rename(home+"/next", home+"/way")
		}
	})
	for range 200 {
		if _, err := r.save("~/way/f", []byte("x"), ""); err != nil && !errors.Is(err, labs.ErrChanged) {
			t.Logf("refused: %v", err) // the draft was in the other folder
		}
	}
	stop.Store(true)
	other.Wait()
	for _, dir := range []string{"/a", "/b"} {
		entries, err := os.ReadDir(home + dir)
		must(t, err)
		for _, e := range entries {
			if e.Name() != "f" {
				t.Errorf("%s is left in %s", e.Name(), dir)
			}
		}
	}
}

func TestAttackReadWhatWaits(t *testing.T) {
	r := startAgent(t)
	began := time.Now()
	if status, b := r.ask("GET", PathFile, url.Values{"path": {"/proc/kmsg"}, "limit": {"16777216"}}, nil); status == 200 && len(b) == 0 {
		t.Errorf("%d, %d bytes", status, len(b))
	}
	if _, err := r.save("/proc/kmsg", nil, "x"); err == nil {
		t.Error("the kernel's log was replaced")
	}
	if took := time.Since(began); took > within/2 {
		t.Errorf("it took %v", took)
	}
	if _, err := r.save("~/f", nil, ""); err != nil { // and nobody else waits
		t.Error(err)
	}
}

func TestAttackListOfALargeDirectory(t *testing.T) {
	r := startAgent(t)
	for i := range 3000 {
		name := strings.Repeat("\x01", 200) + string(rune('a'+i%26)) + strings.Repeat("x", i/26%40) + string(rune('a'+i/1040))
		must(t, os.WriteFile(r.cfg.Home+"/"+name, nil, 0o600))
	}
	status, b := r.ask("GET", PathList, url.Values{"dir": {"~"}, "limit": {"9999999"}}, nil)
	var all []labs.FileInfo
	if err := json.Unmarshal(b, &all); err != nil || status != 200 {
		t.Fatalf("%d, %v", status, err)
	}
	if len(b) > 8<<20 || len(all) < 1000 {
		t.Errorf("%d entries in %d bytes", len(all), len(b))
	}
	for _, limit := range []string{"", "0", "-1", "x"} {
		if status, _ := r.ask("GET", PathList, url.Values{"dir": {"~"}, "limit": {limit}}, nil); status != 400 {
			t.Errorf("limit %q: %d", limit, status)
		}
	}
}

func TestFaultVersion(t *testing.T) {
	for _, c := range []struct {
		f    Fault
		want labs.Version
		is   bool
	}{
		{Fault{Kind: "changed", Error: "x", Version: "abc"}, "abc", true},
		{Fault{Kind: "changed", Error: "x"}, "", true},
		{Fault{Kind: "changed", Error: "x", Version: labs.Version(strings.Repeat("a", 65))}, "", false},
		{Fault{Kind: "gone", Error: "x", Version: "abc"}, "", false},
	} {
		err := c.f.Err()
		e := new(ChangedError)
		if is := errors.As(err, &e); is != c.is || is && e.Now != c.want || errors.Is(err, labs.ErrChanged) != (c.f.Kind == "changed") {
			t.Errorf("%+v: %v", c.f, err)
		}
	}
}
