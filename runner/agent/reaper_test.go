package agent

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These are set in the environment of a test process that shall be a reaper
// or the whole agent.
const (
	asReaper = "BERTH_TEST_REAPER"
	asMain   = "BERTH_TEST_MAIN"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(asReaper); how != "" {
		os.Exit(beReaper(how))
	}
	if os.Getenv(asMain) != "" {
		os.Exit(Main("test", nil))
	}
	os.Exit(m.Run())
}

// beReaper makes orphans and children of its own, and prints what went wrong.
func beReaper(how string) (status int) {
	if how == "subreaper" {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			fmt.Println("become a subreaper:", err)
			return 1
		}
	} else if os.Getpid() != 1 {
		fmt.Println("this is not PID 1 but", os.Getpid())
		return 1
	}
	r := newReaper()
	if !r.active {
		fmt.Println("the reaper is not active")
		return 1
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var orphans []int
	problem := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
		status = 1
	}
	for worker := range 8 {
		all.Go(func() {
			for i := range 25 {
				// The command leaves two orphans, one of which outlives it.
				want := (worker*25 + i) % 200
				cmd := exec.Command("sh", "-c", fmt.Sprintf("(true & echo $!) ; (sleep 0.0%d & echo $!) ; exit %d", i%10, want))
				out, err := cmd.StdoutPipe()
				if err != nil {
					problem("%v", err)
					return
				}
				if err := r.start(cmd); err != nil {
					problem("start: %v", err)
					return
				}
				lines := bufio.NewScanner(out)
				for lines.Scan() {
					pid, _ := strconv.Atoi(lines.Text())
					mu.Lock()
					orphans = append(orphans, pid)
					mu.Unlock()
				}
				r.wait(cmd)
				if got := cmd.ProcessState.ExitCode(); got != want {
					problem("a command ended with %d, wanted %d", got, want)
				}
			}
		})
	}
	// A command that cannot be started is nobody's child afterwards.
	if err := r.start(&exec.Cmd{Path: "/no/such/program"}); err == nil {
		problem("started what is not there")
	}
	all.Wait()
	if len(orphans) != 400 {
		problem("%d orphans", len(orphans))
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, pid := range orphans {
		for unix.Kill(pid, 0) != unix.ESRCH {
			if time.Now().After(deadline) {
				stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				problem("orphan %d is still there: %s", pid, stat)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	r.close()
	if len(r.own) != 0 {
		problem("%d processes were not forgotten", len(r.own))
	}
	return status
}

func TestReaperReapsOrphansAndNoOthers(t *testing.T) {
	for _, tt := range []struct {
		how   string
		flags uintptr
	}{
		{"subreaper", 0},
		{"init", unix.CLONE_NEWPID | unix.CLONE_NEWNS},
	} {
		t.Run(tt.how, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), asReaper+"="+tt.how)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: tt.flags, Pdeathsig: unix.SIGKILL}
			timer := time.AfterFunc(2*within, func() { cmd.Process.Kill() })
			defer timer.Stop()
			if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestReaperOfAnOrdinaryProcessPassesThrough(t *testing.T) {
	r := newReaper()
	defer r.close()
	if r.active {
		t.Fatal("this is an ordinary process")
	}
	cmd := exec.Command("sh", "-c", "exit 5")
	if err := r.start(cmd); err != nil {
		t.Fatal(err)
	}
	if r.wait(cmd); cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
}
