package verify

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth/labs"
)

const (
	scriptDeadline = 30 * time.Second
	maxScript      = 4 << 10 // bytes of what a script printed that are kept
)

// readScript runs the script on its input: a script in the arguments would be
// in the learner's list of processes, and tells the answer.
const readScript = `IFS= read -r -d "" berth_check; eval "$berth_check" </dev/null`

// lookScript runs a script in the sandbox. It passes with exit status 0 and,
// if it has to print something, when that is a line of what it printed.
func (w *watch) lookScript(ctx context.Context, script, prints string) (verdict, error) {
	limited, cancel := context.WithTimeout(ctx, scriptDeadline)
	defer cancel()
	var out tail
	exit, err := w.sb.Exec(limited, labs.Cmd{Args: []string{"bash", "-c", readScript}, Stdin: strings.NewReader(script), Stdout: &out, Stderr: &out})
	switch {
	case ctx.Err() != nil:
		return verdict{}, ctx.Err()
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		// Also when it ended right then: a time-out never passes.
		return verdict{}, &unseen{reason: "the check's script did not end within 30 seconds"}
	case err != nil:
		return verdict{}, w.trouble(limited, "run script", err)
	case exit == 0 && prints != "" && !out.hasLine(prints):
		return verdict{seen: "the check's script ended without printing " + code(prints), patience: brief}, nil
	case exit == 0:
		return verdict{holds: true, seen: "the check's script ended with exit status 0"}, nil
	}
	seen := "the check's script ended with exit status " + strconv.Itoa(exit)
	if line := out.lastLine(); line != "" {
		seen += ": " + line
	}
	return verdict{seen: seen, patience: brief}, nil
}

// A tail keeps the end of what is written to it. Output and errors may come at
// the same time.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-maxScript):]...)
	t.buf = t.buf[max(0, len(t.buf)-maxScript):]
	return len(p), nil
}

// hasLine reports whether a line of the output is text, without regard to
// space around it.
func (t *tail) hasLine(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range strings.SplitSeq(string(t.buf), "\n") {
		if strings.TrimSpace(line) == text {
			return true
		}
	}
	return false
}

func (t *tail) lastLine() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.buf))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
