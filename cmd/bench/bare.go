package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/creack/pty"
)

// A bare pty is a shell with nothing between: the yardstick of each run.
type bare struct {
	cmd  *exec.Cmd
	tty  *os.File
	buf  []byte
	rest []byte // read, and not yet looked at by Until
}

func newBare() (*bare, error) {
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Env = append(os.Environ(), "PS1=$ ", "TERM=xterm-256color")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		return nil, fmt.Errorf("start a bare pty: %w", err)
	}
	return &bare{cmd: cmd, tty: tty, buf: make([]byte, 64<<10)}, nil
}

func (b *bare) Close() error {
	b.cmd.Process.Kill()
	b.cmd.Wait()
	return b.tty.Close()
}

func (b *bare) Keys(s string) error {
	_, err := b.tty.WriteString(s)
	return err
}

func (b *bare) Until(mark string, within time.Duration) (n int64, err error) {
	watchdog := time.AfterFunc(within, func() { b.cmd.Process.Kill() })
	defer watchdog.Stop()
	kept := b.rest
	for {
		if i := bytes.Index(kept, []byte(mark)); i >= 0 {
			i += len(mark)
			b.rest = append([]byte(nil), kept[i:]...)
			return n + int64(i), nil
		}
		if drop := len(kept) - len(mark); drop > 0 {
			n += int64(drop)
			kept = append(kept[:0], kept[drop:]...)
		}
		c, err := b.tty.Read(b.buf)
		if err != nil {
			return n, fmt.Errorf("wait for %q: %w", mark, err)
		}
		kept = append(kept, b.buf[:c]...)
	}
}
