// Command bench measures a Berth server as its users feel it and prints each
// number beside its goal and, where it means something, beside a bare pty
// measured in the same run. Quote the ratios: machines differ and are noisy.
//
//	bench -berth bin/berth            start servers of its own and measure them
//	bench -url http://localhost:8080  measure one that runs
//
// Its client speaks the terminal protocol of berth/labs and acknowledges output
// as a browser does. All traffic stays on this machine unless -url says else.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	var b bench
	flag.StringVar(&b.url, "url", "", "address of a running server; empty starts one")
	flag.StringVar(&b.berth, "berth", "bin/berth", "the berth binary to start")
	flag.StringVar(&b.images, "images", "/var/lib/berth", "the state directory that has the sandbox images")
	flag.StringVar(&b.lab, "lab", "container-image", "the lab to open")
	flag.IntVar(&b.runs, "runs", 5, "how often each measurement is repeated")
	flag.IntVar(&b.floods, "floods", 50, "terminals that flood beside the one that is measured")
	flag.IntVar(&b.learners, "learners", 0, "learners with an engine each, at once (0 leaves that out)")
	only := flag.String("only", "", "regular expression: which measurements")
	flag.Parse()
	b.only = regexp.MustCompile(*only)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is one run of all measurements.
type bench struct {
	url, berth, images, lab string
	runs, floods, learners  int
	only                    *regexp.Regexp

	rows []row
}

// A row is one line of the table.
type row struct{ what, measured, beside, goal string }

func (b *bench) run(ctx context.Context) error {
	if b.url == "" {
		stop, err := b.serve(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	for _, m := range []struct {
		name string
		f    func(context.Context) error
	}{
		{"start", b.start}, {"echo", b.echo}, {"floods", b.echoAmongFloods}, {"output", b.output},
		{"interrupt", b.interrupt}, {"line", b.interruptOverLine}, {"connect", b.connect},
		{"tick", b.tick}, {"page", b.page}, {"learners", b.many},
	} {
		if !b.only.MatchString(m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s …\n", m.name)
		if err := m.f(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	b.print()
	return nil
}

func (b *bench) add(what, measured, beside, goal string) {
	b.rows = append(b.rows, row{what, measured, beside, goal})
	fmt.Fprintf(os.Stderr, "  %s: %s (beside: %s, goal: %s)\n", what, measured, beside, goal)
}

func (b *bench) print() {
	fmt.Printf("Measured %s on %s, %d runs each, medians.\n\n", time.Now().Format("2006-01-02"), machine(), b.runs)
	fmt.Println("| what | measured | beside it, in the same run | goal |")
	fmt.Println("|---|---|---|---|")
	for _, r := range b.rows {
		fmt.Printf("| %s | %s | %s | %s |\n", r.what, r.measured, r.beside, r.goal)
	}
}

// machine says in a few words what this was measured on.
func machine() string {
	model := "unknown processor"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for in := bufio.NewScanner(f); in.Scan(); {
			if k, v, ok := strings.Cut(in.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	var u syscall.Utsname
	release := ""
	if syscall.Uname(&u) == nil {
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			release += string(rune(c))
		}
	}
	return fmt.Sprintf("%d × %s, Linux %s", runtime.NumCPU(), model, release)
}

// serve starts a server with a state directory of its own.
func (b *bench) serve(ctx context.Context) (stop func(), err error) {
	state, err := os.MkdirTemp("/var/tmp", "berth-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(state, 0o711); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(state, "server.log"))
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--listen", "127.0.0.1:0", "--state", state, "--images", b.images,
		"--network", "10.214.0.0/16", "--pool", "2", "--max", "120", "--per-learner", "20", "--rate", "100000", "--idle", "1h"}
	cmd := exec.Command(b.berth, args...)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", b.berth, err)
	}
	stop = func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		log.Close()
		sweep := exec.Command(b.berth, "sweep", "--state", state, "--images", b.images, "--network", "10.214.0.0/16")
		if text, err := sweep.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "sweep %s: %v: %s\n", state, err, text)
			return
		}
		os.RemoveAll(state)
	}
	found := make(chan string, 1)
	go func() { // ends with the server's output
		in := bufio.NewScanner(out)
		for in.Scan() {
			if at := regexp.MustCompile(`http://\S+`).FindString(in.Text()); at != "" {
				select {
				case found <- at:
				default:
				}
			}
		}
		close(found)
	}()
	select {
	case at, ok := <-found:
		if !ok {
			text, _ := os.ReadFile(log.Name())
			stop()
			return nil, fmt.Errorf("the server did not start: %s", text)
		}
		b.url = strings.TrimRight(at, "/")
		return stop, nil
	case <-time.After(time.Minute):
		stop()
		return nil, errors.New("the server did not start within a minute")
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}
