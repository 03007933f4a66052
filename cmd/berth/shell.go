package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"berth/labs"
	"berth/runner"
	"berth/runner/local"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newShell() *cobra.Command {
	var c config
	var terminal string
	cmd := &cobra.Command{
		Use:   "shell ID",
		Short: "Go into a sandbox that 'berth test --keep' has left",
		Long: `Open a terminal of a sandbox that 'berth test --keep' has left, with the output
that it has. Ctrl-] leaves it. The sandbox stays until the next 'berth test', or
until 'berth sweep' with the same flags ends it.`,
		Args: cobra.ExactArgs(1),
		RunE: c.runs(func(ctx context.Context, log *slog.Logger, out io.Writer, args []string) error {
			return c.shell(ctx, log, os.Stdin, out, args[0], terminal)
		}),
	}
	f := cmd.Flags()
	c.placeFlags(f)
	f.Lookup("state").DefValue, c.state = "/var/lib/berth/test", "/var/lib/berth/test"
	f.Lookup("log-level").DefValue, c.logLevel = "error", "error"
	c.runnerFlags(f, testerIdentity)
	f.StringVar(&terminal, "terminal", "1", "name of the terminal")
	return cmd
}

// leaveKey is what leaves a terminal: Ctrl-].
const leaveKey = 0x1d

func (c *config) shell(ctx context.Context, log *slog.Logger, in *os.File, out io.Writer, id, terminal string) (err error) {
	if err := needRoot("Going into a sandbox needs root."); err != nil {
		return err
	}
	cfg, err := c.looking(log)
	if err != nil {
		return err
	}
	boxes, err := local.New(ctx, cfg)
	if err != nil {
		return err
	}
	r := runner.New(boxes)
	defer func() { err = errors.Join(err, r.Close()) }()
	all, err := r.Adopt(ctx)
	if err != nil {
		return err
	}
	for _, sb := range all {
		if sb.ID() == id {
			return goInto(ctx, sb, terminal, in, out)
		}
	}
	return &labs.Problem{Kind: labs.ErrNotFound, Say: fmt.Sprintf("There is no sandbox %s. 'berth ps' with the same flags lists those there are.", id)}
}

// goInto joins this terminal and one of the sandbox until either ends.
func goInto(ctx context.Context, sb labs.Sandbox, terminal string, in *os.File, out io.Writer) error {
	att, err := sb.Attach(ctx, terminal, labs.Viewer{From: -1, Size: windowSize(in)})
	if err != nil {
		return fmt.Errorf("open terminal %s: %w", terminal, err)
	}
	restore, err := raw(in)
	if err != nil {
		return errors.Join(err, att.Close())
	}
	defer restore()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	stop := context.AfterFunc(ctx, func() { att.Close() })
	defer stop()
	frames := make(chan labs.Frame) // what is written to the terminal
	go passKeys(ctx, in, frames, leave)
	go passSize(ctx, in, frames)
	go func() {
		for {
			select {
			case f := <-frames:
				if att.WriteFrame(f) != nil {
					leave()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		f, err := att.ReadFrame()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read terminal %s: %w", terminal, err)
		}
		if f.Kind != labs.FrameOutput {
			continue
		}
		at, b, err := f.Output()
		if err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
		select {
		case frames <- labs.AckFrame(at + int64(len(b))):
		case <-ctx.Done():
			return nil
		}
	}
}

// passKeys passes on what is typed until leaveKey, the end of in or of ctx. It
// may outlive ctx by one keystroke; the program ends then.
func passKeys(ctx context.Context, in io.Reader, frames chan<- labs.Frame, leave func()) {
	defer leave()
	for {
		b := make([]byte, 4096)
		n, err := in.Read(b)
		for i := range n {
			if b[i] == leaveKey {
				return
			}
		}
		if n > 0 {
			select {
			case frames <- labs.Frame{Kind: labs.FrameInput, Payload: b[:n]}:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// passSize passes on that this terminal has another size.
func passSize(ctx context.Context, in *os.File, frames chan<- labs.Frame) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		if s := windowSize(in); s.Rows > 0 {
			select {
			case frames <- labs.ResizeFrame(s):
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// windowSize is zero where in is no terminal.
func windowSize(in *os.File) labs.Size {
	w, err := unix.IoctlGetWinsize(int(in.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Row == 0 || w.Col == 0 || w.Row > 1000 || w.Col > 1000 {
		return labs.Size{}
	}
	return labs.Size{Rows: w.Row, Cols: w.Col}
}

// raw has every key passed on as it is typed, where in is a terminal.
func raw(in *os.File) (restore func(), err error) {
	fd := int(in.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the terminal's settings: %w", err)
	}
	set := *was
	set.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	set.Oflag &^= unix.OPOST
	set.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	set.Cflag = set.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	set.Cc[unix.VMIN], set.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &set); err != nil {
		return nil, fmt.Errorf("have keys passed on: %w", err)
	}
	return func() { unix.IoctlSetTermios(fd, unix.TCSETS, was) }, nil
}
