package labs_test

import (
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"berth/labs"
)

// zeros is a folder whose files have so many bytes, and say that they have as
// many as told.
type zeros struct{ bytes, told int64 }

func (z zeros) Open(name string) (fs.File, error) {
	f, err := fstest.MapFS{name: {}}.Open(name)
	return &zeroFile{f, z, z.bytes}, err
}

type zeroFile struct {
	fs.File
	of   zeros
	left int64
}

func (f *zeroFile) Stat() (fs.FileInfo, error) {
	info, err := f.File.Stat()
	return zeroInfo{info, f.of.told}, err
}

func (f *zeroFile) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.left))
	clear(p[:n])
	f.left -= int64(n)
	return n, nil
}

type zeroInfo struct {
	fs.FileInfo
	size int64
}

func (z zeroInfo) Size() int64 { return z.size }

// A lab of a stranger's may bring 64 MiB, and a class may open it at once.
func TestLargeFilesOfALabAreNotHeldInMemory(t *testing.T) {
	for _, c := range []struct {
		name        string
		bytes, told int64
		files       int
		fails       bool
	}{
		{"large", 20 << 20, 20 << 20, 3, false},
		{"too large", 20 << 20, 20 << 20, 4, true},
		{"shorter than told", 1000, 2000, 1, true},
		{"longer than told", 1 << 30, 2000, 1, false},
		{"empty", 0, 0, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, nil)
			l := &labs.Lesson{ID: "tar", Image: "docker", Dir: zeros{c.bytes, c.told}}
			for i := range c.files {
				l.Assets = append(l.Assets, labs.Asset{From: fmt.Sprintf("f%d", i), To: fmt.Sprintf("~/f%d", i)})
			}
			f.SetLessons([]*labs.Lesson{l})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			s, err := f.Open(t.Context(), f.learner, "tar")
			if err != nil {
				t.Fatal(err)
			}
			s = f.until(t, s.Session, "started or failed", func(s labs.State) bool { return isReady(s) || s.Phase == labs.PhaseFailed })
			runtime.ReadMemStats(&after)
			if isReady(s) == c.fails {
				t.Errorf("the phase is %s, and it says %q", s.Phase, s.Reason)
			}
			used := (after.TotalAlloc - before.TotalAlloc) >> 20
			t.Logf("%d MiB allocated in %v", used, time.Since(begin).Round(time.Millisecond))
			if used > 8 {
				t.Errorf("%d MiB were allocated", used)
			}
			if strings.Contains(s.Reason, "f0") {
				t.Errorf("the learner is told %q", s.Reason)
			}
		})
	}
}
