package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestMain lets this binary play a second process: one that takes a store's
// lock, or builds an image, until it is killed.
func TestMain(m *testing.M) {
	dir, job := os.Getenv("IMAGE_TEST_DIR"), os.Getenv("IMAGE_TEST_JOB")
	if job == "" {
		os.Exit(m.Run())
	}
	s := &Store{Dir: dir, Recipes: recipes(tiny), Log: slog.New(slog.DiscardHandler),
		Progress: func(st Step) { fmt.Println(st.Doing) }}
	switch job {
	case "lock":
		if _, err := s.lock(context.Background(), ""); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		select {}
	case "build":
		_, err := s.Build(context.Background(), "tiny")
		fmt.Println("ended", err)
		select {}
	}
}

// second starts this binary with a job and gives the lines it prints.
func second(t *testing.T, dir, job string) (*exec.Cmd, <-chan string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "IMAGE_TEST_DIR="+dir, "IMAGE_TEST_JOB="+job)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		for range lines {
		}
		cmd.Wait()
	})
	return cmd, lines
}

// await reads lines until want comes.
func await(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the process ended before it said %q", want)
			}
			if line == want {
				return
			}
			t.Logf("second process: %s", line)
		case <-deadline:
			t.Fatalf("the process did not say %q in time", want)
		}
	}
}

func TestLock(t *testing.T) {
	s := testStore(t, nil)
	if err := s.mkdirs(); err != nil {
		t.Fatal(err)
	}
	other, lines := second(t, s.Dir, "lock")
	await(t, lines, "locked")

	waiting := make(chan Step, 1)
	s.Progress = func(st Step) { waiting <- st }
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := s.lock(ctx, "x")
		result <- err
	}()
	if st := <-waiting; st.Doing != "waiting for another build" || st.Image != "x" {
		t.Errorf("told %+v", st)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}

	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	unlock, err := s.lock(ctx, "")
	if err != nil {
		t.Fatalf("the lock of a killed process: %v", err)
	}
	unlock()
	if unlock, err = s.lock(ctx, ""); err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	unlock()
}
