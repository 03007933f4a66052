package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"berth/labs"

	"golang.org/x/sys/unix"
)

const (
	maxRemembered      = 1000     // commands
	maxRememberedBytes = 1 << 20  // of their texts and directories
	maxText            = 3 << 10  // bytes of a command's text
	maxDir             = 4 << 10  // bytes of a directory
	maxLine            = 4 << 10  // bytes of a line from a shell; PIPE_BUF, so that a line comes whole
	maxRecord          = 24 << 10 // bytes of a command in several lines
	maxRecords         = 32       // commands whose lines have not all come

	// A burst of that many commands is taken at once, then so many a second:
	// whoever writes faster waits in the pipe.
	commandBurst    = 200
	commandInterval = 5 * time.Millisecond

	// pipeCheck is how often the pipe is looked after: a learner may remove it.
	pipeCheck = 30 * time.Second
)

// A history is the commands that ended in the learner's shells. Methods may be
// called concurrently.
type history struct {
	now func() time.Time

	mu    sync.Mutex
	seq   int64
	last  []labs.ShellCommand // oldest first
	bytes int                 // of those
	told  map[int]func(labs.ShellCommand)
	next  int
}

func newHistory() *history {
	return &history{now: time.Now, told: map[int]func(labs.ShellCommand){}}
}

// since gives the commands with a greater Seq, as far as they are remembered.
func (h *history) since(after int64) []labs.ShellCommand {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.last)
	for i > 0 && h.last[i-1].Seq > after {
		i--
	}
	return append([]labs.ShellCommand(nil), h.last[i:]...)
}

// subscribe has f called for each command from now on, in order, one at a
// time. f must not block and not call the history. After cancel it is not
// called any more.
func (h *history) subscribe(f func(labs.ShellCommand)) (cancel func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.next
	h.next++
	h.told[id] = f
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.told, id)
	}
}

// add numbers a command, remembers it and tells about it.
func (h *history) add(c labs.ShellCommand) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	c.Seq = h.seq
	h.last = append(h.last, c)
	h.bytes += len(c.Text) + len(c.Dir)
	drop := 0
	for drop < len(h.last)-1 && (len(h.last)-drop > maxRemembered || h.bytes > maxRememberedBytes) {
		h.bytes -= len(h.last[drop].Text) + len(h.last[drop].Dir)
		drop++
	}
	h.last = append(h.last[:0], h.last[drop:]...)
	for _, f := range h.told {
		f(c)
	}
}

// listen reads what shells tell from a pipe at path, which it makes, until ctx
// ends. Anybody in the sandbox can write there: what does not make sense is
// dropped.
func (h *history) listen(ctx context.Context, path string) error {
	var due time.Time // when all commands so far would have come at the slow pace
	for ctx.Err() == nil {
		err := h.listenOnce(ctx, path, func() {
			now := h.now()
			if due.Before(now) {
				due = now
			}
			due = due.Add(commandInterval)
			if ahead := due.Sub(now) - commandBurst*commandInterval; ahead > 0 {
				sleep(ctx, ahead)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// listenOnce reads until ctx ends or the pipe is not the one at path any more.
func (h *history) listenOnce(ctx context.Context, path string, slow func()) error {
	if err := makeFIFO(path); err != nil {
		return err
	}
	// For writing too, so that it does not end whenever a shell is done.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open the pipe for commands: %w", err)
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	lines := commandLines{records: map[string][]byte{}}
	buf := make([]byte, maxLine)
	have := 0
	long := false // in the middle of a line that is too long
	for {
		if err := f.SetReadDeadline(time.Now().Add(pipeCheck)); err != nil && ctx.Err() == nil {
			return fmt.Errorf("read the pipe for commands: %w", err)
		}
		n, err := f.Read(buf[have:])
		have += n
		rest := buf[:have]
		for {
			line, after, ok := bytes.Cut(rest, []byte{'\n'})
			if !ok {
				break
			}
			rest = after
			if long {
				long = false
				continue
			}
			if c, ok := lines.take(line, h.now()); ok {
				slow()
				h.add(c)
			}
		}
		have = copy(buf, rest)
		if have == len(buf) {
			have, long = 0, true
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !sameFile(f, path) {
				return nil
			}
		case err != nil:
			return fmt.Errorf("read the pipe for commands: %w", err)
		}
	}
}

// commandLines puts commands together from the lines of prompt.bash.
type commandLines struct {
	records map[string][]byte // by a key that the shell chose
	order   []string          // the keys, oldest first
}

const (
	fieldEnd  = "\x1e"
	lineBreak = "\x1f" // stands for a newline
)

// take takes one line and gives the command that it ends, if it does.
func (l *commandLines) take(line []byte, now time.Time) (labs.ShellCommand, bool) {
	parts := bytes.SplitN(line, []byte(fieldEnd), 3)
	if len(parts) != 3 || len(parts[0]) == 0 || len(parts[0]) > 64 {
		return labs.ShellCommand{}, false
	}
	key, more, data := string(parts[0]), string(parts[1]), parts[2]
	record, begun := l.records[key]
	switch more {
	case "+":
		if !begun {
			if len(l.order) == maxRecords {
				delete(l.records, l.order[0])
				l.order = l.order[1:]
			}
			l.order = append(l.order, key)
		}
		if len(record)+len(data) > maxRecord {
			data = data[:maxRecord-len(record)]
		}
		l.records[key] = append(record, data...)
		return labs.ShellCommand{}, false
	case ".":
		if begun {
			delete(l.records, key)
			for i, k := range l.order {
				if k == key {
					l.order = append(l.order[:i:i], l.order[i+1:]...)
					break
				}
			}
		}
		return parseCommand(string(append(record, data...)), now)
	}
	return labs.ShellCommand{}, false
}

// parseCommand understands a command as prompt.bash writes it.
func parseCommand(record string, now time.Time) (c labs.ShellCommand, ok bool) {
	fields := strings.SplitN(record, fieldEnd, 6)
	if len(fields) != 6 || !terminalName.MatchString(fields[0]) {
		return c, false
	}
	started, err1 := strconv.ParseInt(fields[1], 10, 64)
	ended, err2 := strconv.ParseInt(fields[2], 10, 64)
	exit, err3 := strconv.ParseUint(fields[3], 10, 8)
	text := cut(strings.Trim(strings.ReplaceAll(fields[5], lineBreak, "\n"), "\n"), maxText)
	if errors.Join(err1, err2, err3) != nil || strings.TrimSpace(text) == "" {
		return c, false
	}
	c = labs.ShellCommand{
		Terminal: fields[0],
		Text:     text,
		Dir:      cut(strings.ReplaceAll(fields[4], lineBreak, "\n"), maxDir),
		Exit:     int(exit),
		Started:  time.UnixMicro(started),
		Ended:    time.UnixMicro(ended),
	}
	if d := now.Sub(c.Ended); d < -time.Minute || d > time.Minute {
		c.Ended = now // the shell was stopped, or its clock is not ours
	}
	if c.Started.After(c.Ended) || started < 0 {
		c.Started = c.Ended
	}
	return c, true
}

// cut gives at most n bytes of s, as whole characters.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// makeFIFO makes a pipe that everybody may write to, unless it is there.
func makeFIFO(path string) error {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeNamedPipe == 0 {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("make the pipe for commands: %w", err)
		}
	}
	err := unix.Mkfifo(path, 0o666)
	if err == nil {
		err = os.Chmod(path, 0o666) // whatever the umask is
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the pipe for commands: %w", err)
	}
	return nil
}

func sameFile(f *os.File, path string) bool {
	have, err1 := f.Stat()
	want, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(have, want)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
