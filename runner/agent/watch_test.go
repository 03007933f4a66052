package agent

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/labs"
)

func TestWatchFiles(t *testing.T) {
	for _, c := range []struct{ name, pattern, before, script, told string }{
		{"made", "~/*.txt", "", "touch a.txt b.md", "a.txt"},
		{"changed", "~/a.txt", "touch a.txt", "echo x >> a.txt", "a.txt"},
		{"another mode", "~/a.txt", "touch a.txt", "chmod 600 a.txt", "a.txt"},
		{"removed", "~/a.txt", "touch a.txt b.txt", "rm *.txt", "a.txt"},
		{"moved in and away", "~/*.txt", "touch a.txt c", "mv a.txt b; mv c d.txt", "a.txt d.txt"},
		{"in a folder that is made", "~/**/x", "", "mkdir -p p/q/r && touch p/q/r/x p/x p/y", "p/q/r/x p/x"},
		{"in a folder that is made where there was none", "~/lab/one/*.txt", "", "mkdir -p lab/one && touch lab/one/a.txt", "lab/one/a.txt"},
		{"in a folder that is made again", "~/lab/*.txt", "mkdir lab", "rm -rf lab; sleep 0.1; mkdir lab; sleep 0.1; touch lab/a.txt", "lab/a.txt"},
		{"in folders that are made again", "~/lab/one/**/x", "mkdir -p lab/one/two", "rm -rf lab; mkdir -p lab/one/two; sleep 0.1; touch lab/one/two/x", "lab/one/two/x"},
		{"in a folder with another name", "~/**/x", "mkdir -p old/sub", "mv old new; sleep 0.1; touch new/sub/x", "new/sub/x"},
		{"in a folder that was moved in", "~/in/**/x", "mkdir -p in out/sub; touch out/sub/x", "mv out in/out; sleep 0.1; echo y > in/out/x", "in/out/sub/x in/out/x"},
		{"folders themselves", "~/d*", "", "mkdir dir", "dir"},
		{"a name with a newline", "~/*", "", "touch $'a\\nb'", "a\nb"},
		{"replaced as editors do", "~/a.txt", "touch a.txt", "echo x > .a.swp; mv .a.swp a.txt", "a.txt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startAgent(t)
			run := func(script string) {
				t.Helper()
				cmd := exec.Command("bash", "-c", script)
				cmd.Dir = r.cfg.Home
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", script, err, out)
				}
			}
			run(c.before)
			w := r.watch(labs.Watch{Paths: []string{c.pattern}})
			w.next()
			run(c.script)
			var want []string
			for name := range strings.SplitSeq(c.told, " ") {
				want = append(want, r.cfg.Home+"/"+name)
			}
			w.files(want...)
		})
	}
}

// Folders that come and go while they are being watched lose nothing that is
// there in the end.
func TestWatchRaceOfFoldersAndFiles(t *testing.T) {
	r := startAgent(t)
	w := r.watch(labs.Watch{Paths: []string{"~/**/end*"}})
	w.next()
	want := make(map[string]bool)
	var making sync.WaitGroup
	for i := range 4 {
		dir := fmt.Sprintf("%s/d%d", r.cfg.Home, i)
		last := fmt.Sprintf("%s/a/b/end%d", dir, i)
		want[last] = true
		making.Go(func() {
			for range 50 {
				os.MkdirAll(dir+"/a/b", 0o755)
				os.RemoveAll(dir)
			}
			os.MkdirAll(dir+"/a/b", 0o755)
			os.WriteFile(last, nil, 0o644)
		})
	}
	making.Wait()
	for len(want) > 0 {
		c := w.next()
		if c.Lost {
			return // allowed, and the client looks again
		}
		delete(want, c.File)
	}
}

func TestAttackWatchFloodOfChanges(t *testing.T) {
	r := startAgent(t)
	w := r.watch(labs.Watch{Paths: []string{"~/**"}})
	w.next()
	must(t, os.Mkdir(r.cfg.Home+"/flood", 0o755))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	stop := make(chan struct{})
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				os.WriteFile(fmt.Sprintf("%s/flood/%d", r.cfg.Home, i%5000), []byte("x"), 0o644)
			}
		}
	})
	began, told, lost := time.Now(), 0, 0
	for time.Since(began) < 2*time.Second {
		if c := w.next(); c.Lost {
			lost++
		} else {
			told++
		}
	}
	close(stop)
	flooding.Wait()
	runtime.ReadMemStats(&after)
	// 512 for each 20 ms, and one Lost.
	if most := int(time.Since(began)/coalesce+2) * (maxGathered + 1); told+lost > most {
		t.Errorf("%d changes and %d times Lost in 2 s; at most %d", told, lost, most)
	}
	if held := int64(after.HeapInuse) - int64(before.HeapInuse); held > 32<<20 {
		t.Errorf("%d bytes more are in use", held)
	}
	t.Logf("%d changes told, %d times Lost", told, lost)
	// After the flood it works as before.
	must(t, os.WriteFile(r.cfg.Home+"/after", nil, 0o644))
	for w.next().File != r.cfg.Home+"/after" {
	}
}

func TestWatchMoreFoldersThanAllowedIsLost(t *testing.T) {
	r := startAgent(t)
	for i := range maxWatched + 10 {
		must(t, os.Mkdir(fmt.Sprintf("%s/%d", r.cfg.Home, i), 0o755))
	}
	w := r.watch(labs.Watch{Paths: []string{"~/**"}})
	w.next()
	if c := w.next(); !c.Lost {
		t.Errorf("told %+v; want Lost", c)
	}
}

// addCommands adds commands to the history as shells do, through the pipe.
func (r *rig) addCommands(from, to int) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.cfg.RunDir, "commands"), os.O_WRONLY, 0)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer f.Close()
	now := time.Now().UnixMicro()
	for i := from; i <= to; i++ {
		line := strings.Join([]string{"k", ".", "1", fmt.Sprint(now), fmt.Sprint(now), "0", "/", fmt.Sprint("command ", i)}, fieldEnd)
		if _, err := f.WriteString(line + "\n"); err != nil {
			r.t.Error(err)
			return
		}
	}
}

func TestWatchNeverLosesCommands(t *testing.T) {
	r := startAgent(t)
	eventually(t, "the pipe is there", func() bool { _, err := os.Stat(r.cfg.RunDir + "/commands"); return err == nil })
	r.addCommands(1, 10)
	eventually(t, "they were read", func() bool {
		w := r.watch(labs.Watch{})
		defer w.body.Close()
		w.next()
		return w.next().Command.Seq == 1
	})
	w := r.watch(labs.Watch{After: 4, Paths: []string{"~/**"}})
	w.next()
	var doing sync.WaitGroup
	defer doing.Wait()
	doing.Go(func() {
		for i := range 2000 {
			os.WriteFile(fmt.Sprintf("%s/%d", r.cfg.Home, i), nil, 0o644)
		}
	})
	doing.Go(func() { r.addCommands(11, 300) })
	for want := int64(5); want <= 300; {
		c := w.next()
		if c.Command == nil {
			continue
		}
		if c.Command.Seq != want || c.Command.Text != fmt.Sprint("command ", want) {
			t.Fatalf("told %+v; want %d", c.Command, want)
		}
		want++
		if want%50 == 0 {
			time.Sleep(30 * time.Millisecond) // a client that is slow at times
		}
	}
}

func TestWatchClientThatDoesNotReadIsDropped(t *testing.T) {
	r := startAgent(t)
	conn, err := net.Dial("unix", r.socket)
	must(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s?after=0&path=%s HTTP/1.1\r\nHost: a\r\n\r\n", PathWatch, url.QueryEscape(r.cfg.Home+"/**"))
	b := make([]byte, 100)
	_, err = conn.Read(b)
	must(t, err)
	long := strings.Repeat("n", 200)
	stop := make(chan struct{})
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				os.WriteFile(fmt.Sprintf("%s/%s%d", r.cfg.Home, long, i%2000), nil, 0o644)
				time.Sleep(50 * time.Microsecond)
			}
		}
	})
	defer flooding.Wait()
	defer close(stop)
	// It reads nothing; after the time that a write may take the agent hangs up.
	gone := false
	for deadline := time.Now().Add(watchWriting + within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if gone = hungUp(conn); gone {
			break
		}
	}
	if !gone {
		t.Error("it was not dropped")
	}
	must(t, conn.SetReadDeadline(time.Now().Add(within)))
	n, _ := io.Copy(io.Discard, conn)
	if n > 4<<20 {
		t.Errorf("%d bytes waited for it", n)
	}
}

func TestWatchEndsWithItsClient(t *testing.T) {
	r := startAgent(t)
	descriptors := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(all)
	}
	var h Health
	must(t, r.get(PathHealth, nil, &h))
	before := descriptors()
	for range 20 {
		w := r.watch(labs.Watch{Paths: []string{"~/**", "/tmp/no-such-folder/x"}})
		w.next()
		w.body.Close()
	}
	eventually(t, "all is closed", func() bool { return descriptors() <= before+2 })
}
