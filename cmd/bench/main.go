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

	own  *server // that was started for this run, or nil
	rows []row
}

// A row is one line of the table.
type row struct{ what, measured, beside, goal string }

func (b *bench) run(ctx context.Context) error {
	if b.url == "" {
		if b.only.MatchString("cold") {
			if err := b.cold(ctx); err != nil {
				return fmt.Errorf("cold: %w", err)
			}
		}
		own, err := b.serve(ctx, 2)
		if err != nil {
			return err
		}
		defer own.stop()
		b.url, b.own = own.url, own
	}
	for _, m := range []struct {
		name string
		f    func(context.Context) error
	}{
		{"start", b.start}, {"echo", b.echo}, {"floods", b.echoAmongFloods}, {"output", b.output},
		{"interrupt", b.interrupt}, {"line", b.interruptOverLine}, {"connect", b.connect},
		{"tick", b.tick}, {"page", b.page}, {"memory", b.memory}, {"learners", b.many},
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

// A server is one that this run started.
type server struct {
	url  string
	own  []string // flags that keep it apart from others on the machine
	stop func()   // ends it and its sandboxes
}

// serve starts a server with a state directory of its own and so many warm
// sandboxes.
func (b *bench) serve(ctx context.Context, pool int) (*server, error) {
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
	s := &server{own: []string{"--state", state, "--images", b.images, "--name", "bench", "--network", "10.214.0.0/16", "--first-id", "1610612736"}}
	cmd := exec.Command(b.berth, append([]string{"serve", "--listen", "127.0.0.1:0", "--pool", fmt.Sprint(pool),
		"--max", "120", "--per-learner", "20", "--rate", "100000", "--idle", "1h"}, s.own...)...)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", b.berth, err)
	}
	s.stop = func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		log.Close()
		sweep := exec.Command(b.berth, append([]string{"sweep"}, s.own...)...)
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
			s.stop()
			return nil, fmt.Errorf("the server did not start: %s", text)
		}
		s.url = strings.TrimRight(at, "/")
		return s, nil
	case <-time.After(time.Minute):
		s.stop()
		return nil, errors.New("the server did not start within a minute")
	case <-ctx.Done():
		s.stop()
		return nil, ctx.Err()
	}
}
