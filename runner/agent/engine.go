package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"berth/labs"

	"golang.org/x/sys/unix"
)

const (
	readyTimeout  = 2 * time.Minute // from dockerd's start to its first answer
	stopTimeout   = 5 * time.Second // from SIGTERM to SIGKILL
	minBackoff    = time.Second     // between a dockerd's end and the next one's start
	maxBackoff    = 30 * time.Second
	longLife      = time.Minute // of a dockerd that owes no more than minBackoff
	maxDockerLog  = 1 << 20     // bytes of its log that are kept
	keptDockerLog = 256 << 10
	maxReason     = 400             // bytes
	freshReason   = 5 * time.Second // what was logged earlier does not tell why it ended
)

// An engine is the sandbox's Docker Engine: off until somebody connects to its
// socket. The agent holds the listening socket and hands it to dockerd as
// systemd would (sd_listen_fds(3)), so connections made meanwhile wait in the
// socket's backlog and nothing stands between a client and dockerd.
type engine struct {
	cfg    Config
	reaper *reaper
	socket *net.UnixListener
	arrive *os.File      // the same socket; readable when somebody has connected
	wanted chan struct{} // start was called

	mu   sync.Mutex
	now  labs.EngineState
	subs map[int]func()
	next int
}

// newEngine prepares the engine's socket. With an error there is still an
// engine, which is off and stays so.
func newEngine(cfg Config, r *reaper) (*engine, error) {
	e := &engine{cfg: cfg, reaper: r, wanted: make(chan struct{}, 1), now: labs.EngineState{Phase: "off"}, subs: make(map[int]func())}
	if _, err := exec.LookPath(cfg.Dockerd); err != nil {
		e.now.Reason = "this sandbox has no Docker Engine"
		return e, fmt.Errorf("find the engine: %w", err)
	}
	err := e.listen()
	if err != nil {
		e.now.Reason = "its socket could not be made"
	}
	return e, err
}

func (e *engine) listen() (err error) {
	if err := os.MkdirAll(filepath.Dir(e.cfg.Socket), 0o755); err != nil {
		return fmt.Errorf("make the folder of the engine's socket: %w", err)
	}
	if err := os.Remove(e.cfg.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an old engine socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: e.cfg.Socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen for the engine: %w", err)
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if err := os.Chmod(e.cfg.Socket, 0o660); err != nil {
		return fmt.Errorf("open the engine's socket to its group: %w", err)
	}
	if g, err := user.LookupGroup("docker"); err == nil {
		if gid, err := strconv.Atoi(g.Gid); err == nil {
			os.Chown(e.cfg.Socket, 0, gid) // without it only root can use the engine
		}
	}
	if e.arrive, err = l.File(); err != nil {
		return fmt.Errorf("watch the engine's socket: %w", err)
	}
	e.socket = l
	return nil
}

func (e *engine) state() labs.EngineState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

// subscribe calls f whenever the state has changed; f must not wait and not
// call the engine. After cancel it is not called any more.
func (e *engine) subscribe(f func()) (cancel func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := e.next
	e.next++
	e.subs[id] = f
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.subs, id)
	}
}

func (e *engine) set(phase, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := labs.EngineState{Phase: phase, Reason: reason}
	if s == e.now {
		return
	}
	e.now = s
	for _, f := range e.subs {
		f()
	}
}

// start starts the engine if it is off, and returns at once.
func (e *engine) start() {
	select {
	case e.wanted <- struct{}{}:
	default:
	}
}

// run starts the engine whenever it is wanted and not there, until ctx ends.
func (e *engine) run(ctx context.Context) {
	if e.socket == nil {
		return
	}
	defer e.socket.Close()
	defer e.arrive.Close()
	backoff := minBackoff
	for e.wait(ctx) {
		select {
		case <-e.wanted: // that is what it starts for
		default:
		}
		began := time.Now()
		served, reason := e.dockerd(ctx)
		if ctx.Err() != nil {
			return
		}
		select {
		case <-e.wanted: // while it ran
		default:
		}
		e.cfg.Log.Warn("the engine ended", "reason", reason)
		e.set("failed", reason)
		if time.Since(began) > longLife {
			backoff = minBackoff
		}
		if served {
			sleep(ctx, backoff) // who connects waits that long
		} else {
			e.refuse(ctx, backoff, reason)
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// wait returns true when start was called or a connection waits to be
// accepted, which it does not do, and false when ctx ended.
func (e *engine) wait(ctx context.Context) bool {
	raw, err := e.arrive.SyscallConn()
	if err == nil {
		err = e.arrive.SetReadDeadline(time.Time{})
	}
	if err != nil {
		e.cfg.Log.Error("watch the engine's socket", "err", err)
		return false
	}
	connected := make(chan error, 1)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		connected <- raw.Read(func(fd uintptr) bool {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(p, 0)
			return err == nil && n > 0
		})
	})
	defer waiting.Wait()
	defer e.arrive.SetReadDeadline(time.Unix(1, 0))
	select {
	case <-e.wanted:
		return true
	case err := <-connected:
		if err != nil {
			e.cfg.Log.Error("watch the engine's socket", "err", err)
		}
		return err == nil
	case <-ctx.Done():
		return false
	}
}

// refuse answers clients for the time d with the reason why there is no
// engine. Otherwise they would wait for one that perhaps never comes.
func (e *engine) refuse(ctx context.Context, d time.Duration, reason string) {
	until := time.Now().Add(d)
	srv := &http.Server{
		ReadHeaderTimeout: time.Second,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(e.cfg.Log.Handler(), slog.LevelDebug),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			b, err := json.Marshal(map[string]string{"message": fmt.Sprintf("the Docker Engine did not start: %s (its log is %s; try again in %.0f s)",
				reason, e.cfg.DockerLog, max(1, time.Until(until).Seconds()))})
			if err != nil {
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusServiceUnavailable)
			w.Write(b)
		}),
	}
	if err := e.socket.SetDeadline(until); err != nil {
		return
	}
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(lent{e.socket}) })
	sleep(ctx, d)
	e.socket.SetDeadline(time.Unix(1, 0))
	serving.Wait()
	last, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if srv.Shutdown(last) != nil {
		srv.Close()
	}
}

// A lent listener gives connections until its deadline and is not closed.
type lent struct{ *net.UnixListener }

func (l lent) Accept() (net.Conn, error) {
	c, err := l.UnixListener.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = net.ErrClosed // net/http would try again
	}
	return c, err
}

func (l lent) Close() error { return nil }

// arguments gives dockerd's. What the learner has set in its configuration
// file is not given again: dockerd takes nothing from two sources.
func (e *engine) arguments() []string {
	set := make(map[string]json.RawMessage)
	if f, err := openRegular(e.cfg.DockerConfig); err == nil {
		json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&set) // dockerd will say what is wrong with it
		f.Close()
	}
	args := []string{"-H", "fd://"}
	for _, a := range []struct{ key, name, value string }{
		{"pidfile", "pidfile", e.cfg.EngineRun + ".pid"},
		{"exec-root", "exec-root", e.cfg.EngineRun},
		{"exec-opts", "exec-opt", "native.cgroupdriver=cgroupfs"},
		{"shutdown-timeout", "shutdown-timeout", "2"},
		{"log-opts", "log-opt", "max-size=10m"},
		{"log-opts", "log-opt", "max-file=1"},
	} {
		// The options of the default log driver fit no other.
		if set[a.key] == nil && (a.key != "log-opts" || set["log-driver"] == nil) {
			args = append(args, "--"+a.name+"="+a.value)
		}
	}
	if u, err := url.Parse(e.cfg.Mirror); err == nil && u.Host != "" {
		if set["registry-mirrors"] == nil {
			args = append(args, "--registry-mirror="+e.cfg.Mirror)
		}
		if set["insecure-registries"] == nil {
			args = append(args, "--insecure-registry="+u.Host)
		}
	}
	return append(args, e.cfg.DockerArgs...)
}

// dockerd runs one dockerd to its end. It says whether that one ever answered,
// and why it ended.
func (e *engine) dockerd(ctx context.Context) (served bool, reason string) {
	e.set("starting", "")
	// The process ids that these hold are of a dockerd that has ended; here,
	// where ids are few, they are soon those of others, which dockerd and
	// containerd would take for themselves. A dockerd of somebody else's would
	// have taken our socket away.
	for _, stale := range []string{e.cfg.EngineRun + ".pid", e.cfg.EngineRun + "/containerd/containerd.pid"} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, "a stale file is in its way: " + err.Error()
		}
	}
	// LISTEN_PID must be dockerd's own, which is not known before there is a
	// process: the shell that becomes dockerd knows it.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, e.cfg.Dockerd}, e.arguments()...)...)
	cmd.Env = append(e.cfg.env(), "LISTEN_FDS=1", "LISTEN_FDNAMES=docker")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	logEnd, logFile, err := os.Pipe()
	if err != nil {
		return false, "no pipe for its log: " + err.Error()
	}
	defer logEnd.Close()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	err = e.handOver(cmd)
	logFile.Close()
	if err != nil {
		return false, "it could not be started: " + err.Error()
	}
	var log engineLog
	var watching sync.WaitGroup
	watching.Go(func() { log.follow(logEnd, e.cfg.DockerLog) })
	alive, ended := context.WithCancel(context.Background())
	defer ended()
	var late bool
	watching.Go(func() {
		ready, cancel := context.WithTimeout(alive, readyTimeout)
		defer cancel()
		stop := context.AfterFunc(ctx, cancel)
		defer stop()
		if served = e.answers(ready); served {
			e.set("ready", "")
		} else if alive.Err() == nil && ctx.Err() == nil {
			late = true
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	watching.Go(func() {
		select {
		case <-alive.Done():
			return
		case <-ctx.Done():
		}
		cmd.Process.Signal(syscall.SIGTERM)
		sleep(alive, stopTimeout)
		if alive.Err() == nil {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	err = e.reaper.wait(cmd)
	ended()
	// containerd may hold the log's pipe for longer than dockerd lives.
	logEnd.SetReadDeadline(time.Now().Add(time.Second))
	watching.Wait()
	var exit *exec.ExitError
	switch status := syscall.WaitStatus(0); {
	case late:
		return served, fmt.Sprintf("it did not answer within %v", readyTimeout)
	case errors.As(err, &exit):
		if status, _ = exit.Sys().(syscall.WaitStatus); status.Signaled() {
			return served, fmt.Sprintf("it was ended by the signal %q", status.Signal())
		}
		if r := log.reason(); r != "" {
			return served, r
		}
		return served, "it ended with " + err.Error()
	case err != nil:
		return served, err.Error()
	}
	return served, "it was stopped"
}

// handOver starts dockerd with the socket as its first passed descriptor.
func (e *engine) handOver(cmd *exec.Cmd) error {
	fd, err := e.socket.File()
	if err != nil {
		return err
	}
	defer fd.Close()
	cmd.ExtraFiles = []*os.File{fd}
	err = e.reaper.start(cmd)
	// Handing it over has made the socket blocking, for all who share it.
	return errors.Join(err, unix.SetNonblock(int(fd.Fd()), true))
}

// answers reports whether the engine answers before ctx ends.
func (e *engine) answers(ctx context.Context) bool {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", e.cfg.Socket)
		},
		DisableKeepAlives: true,
	}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/_ping", nil)
		if err != nil {
			return false
		}
		res, err := client.Do(req) // waits in the backlog until dockerd accepts
		if err == nil {
			io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return true
			}
		}
		sleep(ctx, 100*time.Millisecond) // the backlog may be full of others
		if ctx.Err() != nil {
			return false
		}
	}
}

// An engineLog writes what dockerd says into a bounded file and remembers what
// sounds like a reason for ending.
type engineLog struct {
	mu   sync.Mutex
	last string
	at   time.Time
	sure bool // dockerd's own last words
}

func (l *engineLog) follow(r io.Reader, path string) {
	var f *os.File // nil when there is no log; dockerd must not wait for it
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
		// Not for a FIFO to be waited for, should somebody have put one there.
		if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NONBLOCK, 0o640); err == nil {
			defer f.Close()
		}
	}
	size := int64(0)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f = nil
	} else {
		size = info.Size()
	}
	for in := bufio.NewReaderSize(r, 8<<10); ; {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			l.note(line)
			if size > maxDockerLog {
				size = shorten(f)
			}
			n, _ := f.Write(line) // a full disk loses the line
			size += int64(n)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// shorten keeps the end of the log.
func shorten(f *os.File) (size int64) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0
	}
	b := make([]byte, keptDockerLog)
	n, _ := f.ReadAt(b, max(0, end-keptDockerLog))
	b = b[:n]
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = b[i+1:]
	}
	if err := f.Truncate(0); err != nil {
		return end
	}
	n, _ = f.Write(b)
	return int64(n)
}

// note remembers a line that tells why dockerd does not run. What it says last
// is not in the form of its log.
func (l *engineLog) note(line []byte) {
	text := strings.TrimSpace(string(line[:min(len(line), 2<<10)]))
	logged := strings.HasPrefix(text, "time=") || strings.HasPrefix(text, "INFO[") || strings.HasPrefix(text, "WARN[")
	switch {
	case text == "" || strings.HasPrefix(text, "See '"):
		return
	case strings.Contains(text, "level=error") || strings.Contains(text, "level=fatal"):
		if _, msg, ok := strings.Cut(text, "msg="); ok {
			if quoted, err := strconv.QuotedPrefix(msg); err == nil {
				msg, _ = strconv.Unquote(quoted)
			}
			text = msg
		}
	case logged:
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if fresh := time.Since(l.at) < freshReason; fresh && (l.sure && logged || strings.HasPrefix(l.last, "panic:")) {
		return
	}
	text = strings.TrimPrefix(text, "Status: ")
	l.last, l.at, l.sure = strings.ToValidUTF8(text[:min(len(text), maxReason)], ""), time.Now(), !logged
}

func (l *engineLog) reason() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) > freshReason {
		return ""
	}
	return l.last
}
