// Package agent is the half of a runner that lives inside a sandbox, as its
// PID 1: it keeps the learner's terminals, runs commands, reads and writes
// files, says what happens, starts the Docker Engine when somebody wants it,
// and reaps what others leave behind. The client half is package runner.
//
// The learner is root in the sandbox and can do to the agent what they like.
// So the client half trusts nothing that comes from here, and the agent keeps
// its promises to an honest learner only.
//
// The server may vanish at any moment. Shells, their output, the engine and
// the history go on, and the next server finds them as they are.
package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"berth/labs"
)

// Config says how an agent works. The zero Config is that of a real sandbox.
type Config struct {
	Home         string   // of the learner, /root by default
	RunDir       string   // the agent's own small files, /run/berth by default
	Shell        []string // argv of a login shell; bash, or sh where there is none, by default
	MaxTerminals int      // 8 by default

	Socket       string   // where the engine listens, labs.EngineSocket by default
	Dockerd      string   // the engine's program, "dockerd" by default
	DockerArgs   []string // more arguments for it
	DockerConfig string   // its configuration file, the learner's; /etc/docker/daemon.json by default
	DockerLog    string   // its log, bounded; /var/log/docker.log by default
	EngineRun    string   // its state while it runs, and with ".pid" its process id; /var/run/docker by default
	Mirror       string   // http://host:port of the registry mirror, or ""

	Version string
	Log     *slog.Logger
}

func (c Config) complete() Config {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.Home, "/root")
	def(&c.RunDir, "/run/berth")
	def(&c.Socket, labs.EngineSocket)
	def(&c.Dockerd, "dockerd")
	def(&c.DockerConfig, "/etc/docker/daemon.json")
	def(&c.DockerLog, "/var/log/docker.log")
	def(&c.EngineRun, "/var/run/docker")
	if c.MaxTerminals == 0 {
		c.MaxTerminals = 8
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// env is the environment of everything that the agent starts for the learner.
func (c Config) env() []string {
	env := []string{
		"HOME=" + c.Home, "USER=root", "LOGNAME=root", "SHELL=/bin/bash",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C.UTF-8", "DOCKER_CLI_HINTS=false",
	}
	if c.Socket != labs.EngineSocket {
		env = append(env, "DOCKER_HOST=unix://"+c.Socket)
	}
	return env
}

const (
	maxConns  = 256      // connections to the agent at a time
	maxHeader = 32 << 10 // bytes of a request's header
	maxIdle   = 2 * time.Minute
)

// An agent is one that runs.
type agent struct {
	Config
	ctx       context.Context
	reaper    *reaper
	history   *history
	terminals *terminals
	engine    *engine
	edits     edits

	mu     sync.Mutex
	ending bool
	busy   sync.WaitGroup // requests, and the connections that they have taken over
}

// Run serves the client half on l until ctx ends. Then it ends the shells and
// the engine, waits for all it has started, and closes l.
func Run(ctx context.Context, cfg Config, l net.Listener) error {
	cfg = cfg.complete()
	if err := os.MkdirAll(cfg.RunDir, 0o755); err != nil {
		return fmt.Errorf("make the run directory: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &agent{Config: cfg, ctx: ctx, reaper: newReaper(), history: newHistory()}
	defer a.reaper.close()
	a.terminals = newTerminals(cfg, a.history, a.reaper)
	defer a.terminals.close()
	var owned sync.WaitGroup
	defer owned.Wait()
	defer cancel()
	owned.Go(func() {
		if err := a.history.listen(ctx, cfg.RunDir+"/commands"); err != nil && ctx.Err() == nil {
			cfg.Log.Error("listen for finished commands", "err", err)
		}
	})
	var err error
	if a.engine, err = newEngine(cfg, a.reaper); err != nil {
		cfg.Log.Error("prepare the engine", "err", err)
	}
	owned.Go(func() { a.engine.run(ctx) })

	srv := &http.Server{
		Handler:           a.counted(a.routes()),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       maxIdle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	owned.Go(func() { served <- srv.Serve(&bounded{Listener: l, free: make(chan struct{}, maxConns)}) })
	select {
	case err = <-served:
	case <-ctx.Done():
		err = nil
	}
	cancel()
	srv.Close()
	a.mu.Lock()
	a.ending = true
	a.mu.Unlock()
	a.busy.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// counted lets Run wait for the requests that are being served.
func (a *agent) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		if a.ending {
			a.mu.Unlock()
			return
		}
		a.busy.Add(1)
		a.mu.Unlock()
		defer a.busy.Done()
		h.ServeHTTP(w, r)
	})
}

func (a *agent) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil && !errors.Is(err, errLeft) {
				writeFault(w, err)
			}
		})
	}
	handle("GET "+PathHealth, a.health)
	handle("POST "+PathExec, a.exec)
	handle("GET "+PathTerminals, func(w http.ResponseWriter, _ *http.Request) error {
		return writeJSON(w, a.terminals.names())
	})
	handle("GET "+PathTerminals+"/{name}/attach", a.attach)
	handle("POST "+PathPrepare, func(w http.ResponseWriter, _ *http.Request) error {
		if err := a.terminals.prepare(); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	handle("GET "+PathPorts, a.ports)
	handle("GET "+PathDial, a.dial)
	handle("GET "+PathWatch, a.watch)
	handle("GET "+PathGlob, a.glob)
	handle("GET "+PathList, a.list)
	handle("GET "+PathFile, a.file)
	handle("PUT "+PathFile, a.save)
	handle("GET "+PathTarNames, a.tarNames)
	handle("POST "+PathUnpack, a.unpack)
	handle("POST "+PathEngineStart, func(w http.ResponseWriter, _ *http.Request) error {
		a.engine.start()
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	return mux
}

func (a *agent) health(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, Health{Version: a.Version, PID: os.Getpid(), Engine: a.engine.state()})
}

func (a *agent) exec(w http.ResponseWriter, r *http.Request) error {
	a.terminals.spoil()
	return a.upgrade(w, r, func(ctx context.Context, conn *FrameConn) error {
		return serveExec(ctx, a.Config, a.reaper, conn)
	})
}

func (a *agent) attach(w http.ResponseWriter, r *http.Request) error {
	if err := upgradable(r); err != nil {
		return err
	}
	q := r.URL.Query()
	number := func(name string, from, to, otherwise int64) (n int64, err error) {
		text := q.Get(name)
		if text == "" {
			return otherwise, nil
		}
		if n, err = strconv.ParseInt(text, 10, 64); err != nil || n < from || n > to {
			return 0, fmt.Errorf("%s=%.100q: %w", name, text, labs.ErrInvalid)
		}
		return n, nil
	}
	from, err1 := number("from", math.MinInt64, math.MaxInt64, -1)
	rows, err2 := number("rows", 1, 1000, 24)
	cols, err3 := number("cols", 1, 1000, 80)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	v := labs.Viewer{From: from, Size: labs.Size{Rows: uint16(rows), Cols: uint16(cols)}}
	t, err := a.terminals.open(r.PathValue("name"), v.Size)
	if err != nil {
		return err
	}
	return a.upgrade(w, r, func(ctx context.Context, conn *FrameConn) error { return t.serve(ctx, v, conn) })
}

// upgrade takes the connection over for a stream of frames. The stream ends
// when serve returns, when the client leaves or with the agent.
func (a *agent) upgrade(w http.ResponseWriter, r *http.Request, serve func(context.Context, *FrameConn) error) error {
	conn, in, err := a.hijack(w, r)
	if err != nil {
		return err
	}
	a.busy.Go(func() {
		defer conn.Close()
		stop := context.AfterFunc(a.ctx, func() { conn.Close() })
		defer stop()
		if err := serve(a.ctx, NewFrameConn(conn, in)); err != nil {
			a.Log.Debug("a stream ended", "path", r.URL.Path, "err", err)
		}
	})
	return nil
}

// errLeft says that the client left while its stream was being opened.
var errLeft = errors.New("the client left")

// hijack answers 101 and gives the connection. The handler's goroutine and
// buffers go; whoever gets the connection closes it.
func (a *agent) hijack(w http.ResponseWriter, r *http.Request) (net.Conn, *bufio.Reader, error) {
	if err := upgradable(r); err != nil {
		return nil, nil, err
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take over the connection: %w", err)
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", Upgrade)
	if err := errors.Join(err, conn.SetDeadline(time.Time{})); err != nil {
		conn.Close()
		return nil, nil, errLeft
	}
	in := rw.Reader
	if in.Buffered() == 0 {
		in = nil // net/http's buffer can go
	}
	return conn, in, nil
}

func upgradable(r *http.Request) error {
	if to := r.Header.Get("Upgrade"); to != Upgrade {
		return fmt.Errorf("upgrade to %.100q: only %q is spoken here: %w", to, Upgrade, labs.ErrInvalid)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b) // the client may be gone
	return nil
}

// bounded is a listener with so many connections at a time; more wait.
type bounded struct {
	net.Listener
	free chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	b.free <- struct{}{}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.free
		return nil, err
	}
	return &boundedConn{Conn: c, done: sync.OnceFunc(func() { <-b.free })}, nil
}

type boundedConn struct {
	net.Conn
	done func()
}

func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.done()
	return err
}

// CloseWrite ends what we send; the other direction goes on.
func (c *boundedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Close()
}

// SyscallConn gives the connection's descriptor.
func (c *boundedConn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
