package runner

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"berth/labs"
	"berth/runner/agent"
)

const (
	maxAnswer     = 8 << 20          // bytes of a JSON answer
	maxHeader     = 16 << 10         // bytes of an answer's header
	maxLine       = 64 << 10         // bytes of one change in a watch
	maxFile       = 1 << 30          // bytes that Open reads at most
	maxTerminals  = 64               // names of terminals in an answer
	openTimeout   = 10 * time.Second // for an agent to answer an upgrade
	answerTimeout = 30 * time.Second // for a whole JSON answer, or for the header of another
	watchBacklog  = 256              // changes that wait for the receiver
)

// A sandbox is a box with the client half of its agent.
type sandbox struct {
	box  labs.Box
	http *http.Client

	mu   sync.Mutex
	gone bool
}

func newSandbox(box labs.Box) *sandbox {
	return &sandbox{box: box, http: &http.Client{
		Transport: &http.Transport{
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return box.Dial(ctx) },
			MaxIdleConns:           2,
			IdleConnTimeout:        30 * time.Second,
			ResponseHeaderTimeout:  answerTimeout,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (s *sandbox) ID() string { return s.box.ID() }

// ping waits until the agent answers.
func (s *sandbox) ping(ctx context.Context) error {
	return s.get(ctx, agent.PathHealth, nil, func(in *json.Decoder) error { return in.Decode(new(agent.Health)) })
}

func (s *sandbox) Usage(ctx context.Context) (labs.Usage, error) { return s.box.Usage(ctx) }

func (s *sandbox) Destroy() error {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	err := s.box.Destroy()
	s.http.CloseIdleConnections()
	return err
}

// alive gives an error when the sandbox has been destroyed.
func (s *sandbox) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return fmt.Errorf("sandbox %s: %w", s.box.ID(), labs.ErrGone)
	}
	return nil
}

// broken gives the reason for an error of a connection, when it is known.
func (s *sandbox) broken(ctx context.Context, err error) error {
	if gone := s.alive(); gone != nil {
		return gone
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// call makes a request; the caller closes the body of the answer.
func (s *sandbox) call(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Response, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, address(path, q), body)
	if err != nil {
		return nil, err
	}
	res, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the agent of %s: %w", s.box.ID(), s.broken(ctx, err))
	}
	if res.StatusCode/100 != 2 {
		defer res.Body.Close()
		return nil, fault(res)
	}
	return res, nil
}

func address(path string, q url.Values) string {
	u := url.URL{Scheme: "http", Host: "agent", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// fault reads the error of an answer.
func fault(res *http.Response) error {
	var f agent.Fault
	if err := json.NewDecoder(io.LimitReader(res.Body, maxHeader)).Decode(&f); err != nil || f.Error == "" {
		return fmt.Errorf("the agent answered %d", res.StatusCode)
	}
	return f.Err()
}

// get reads a JSON answer. What read decodes is maxAnswer bytes at most.
func (s *sandbox) get(ctx context.Context, path string, q url.Values, read func(*json.Decoder) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	res, err := s.call(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := read(json.NewDecoder(http.MaxBytesReader(nil, res.Body, maxAnswer))); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// list reads a JSON array until it has most elements: a small text can be an
// array that takes much memory.
func list[T any](to *[]T, most int) func(*json.Decoder) error {
	return func(in *json.Decoder) error {
		if begin, err := in.Token(); err != nil {
			return err
		} else if begin != json.Delim('[') {
			return fmt.Errorf("%v is no list: %w", begin, labs.ErrInvalid)
		}
		for in.More() && len(*to) < most {
			var v T
			if err := in.Decode(&v); err != nil {
				return err
			}
			*to = append(*to, v)
		}
		if len(*to) < most {
			_, err := in.Token()
			return err
		}
		return nil
	}
}

// upgrade opens a stream on a connection of its own. What was already read of
// it is in the reader.
func (s *sandbox) upgrade(ctx context.Context, method, path string, q url.Values) (net.Conn, *bufio.Reader, error) {
	if err := s.alive(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	conn, err := s.box.Dial(ctx)
	if err != nil {
		return nil, nil, s.broken(ctx, fmt.Errorf("connect to the agent of %s: %w", s.box.ID(), err))
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	in, err := shake(conn, method, path, q)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, s.broken(ctx, err)
	}
	return conn, in, nil
}

// shake asks for the upgrade and reads the answer.
func shake(conn net.Conn, method, path string, q url.Values) (*bufio.Reader, error) {
	req, err := http.NewRequest(method, address(path, q), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", agent.Upgrade)
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	// net/http bounds neither the lines nor the number of an answer's headers.
	bound := &io.LimitedReader{R: conn, N: maxHeader}
	in := bufio.NewReaderSize(bound, 4<<10)
	res, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return nil, fault(res)
	}
	if to := res.Header.Get("Upgrade"); to != agent.Upgrade {
		return nil, fmt.Errorf("the agent speaks %.100q: %w", to, labs.ErrInvalid)
	}
	bound.N = math.MaxInt64
	return in, nil
}

// Dial connects to something inside.
func (s *sandbox) Dial(ctx context.Context, network, to string) (net.Conn, error) {
	conn, in, err := s.upgrade(ctx, http.MethodGet, agent.PathDial, url.Values{"network": {network}, "address": {to}})
	if err != nil {
		return nil, fmt.Errorf("dial %s in %s: %w", to, s.box.ID(), err)
	}
	return &stream{Conn: conn, in: in}, nil
}

// A stream is a connection of which something was read ahead.
type stream struct {
	net.Conn
	in *bufio.Reader
}

func (c *stream) Read(p []byte) (int, error) { return c.in.Read(p) }

// CloseWrite ends what we send; the other direction goes on.
func (c *stream) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Close()
}

// Ports gives the ports on which something inside answers at localhost.
func (s *sandbox) Ports(ctx context.Context) ([]int, error) {
	var told []int
	if err := s.get(ctx, agent.PathPorts, nil, list(&told, agent.MaxPorts)); err != nil {
		return nil, fmt.Errorf("look for open ports in %s: %w", s.box.ID(), err)
	}
	told = slices.DeleteFunc(told, func(p int) bool { return p < 1 || p > math.MaxUint16 })
	slices.Sort(told)
	return slices.Compact(told), nil
}

// Attach opens a viewer on a terminal.
func (s *sandbox) Attach(ctx context.Context, name string, v labs.Viewer) (labs.Attachment, error) {
	q := url.Values{"from": {strconv.FormatInt(v.From, 10)}}
	if v.Size.Rows > 0 && v.Size.Cols > 0 {
		q.Set("rows", strconv.Itoa(int(v.Size.Rows)))
		q.Set("cols", strconv.Itoa(int(v.Size.Cols)))
	}
	conn, in, err := s.upgrade(ctx, http.MethodGet, agent.PathTerminals+"/"+url.PathEscape(name)+"/attach", q)
	if err != nil {
		return nil, fmt.Errorf("attach to terminal %s of %s: %w", name, s.box.ID(), err)
	}
	return agent.NewFrameConn(conn, in), nil
}

func (s *sandbox) Terminals(ctx context.Context) ([]string, error) {
	var names []string
	if err := s.get(ctx, agent.PathTerminals, nil, list(&names, maxTerminals)); err != nil {
		return nil, fmt.Errorf("list the terminals of %s: %w", s.box.ID(), err)
	}
	return names, nil
}

// prepare has the agent make terminal "1" ahead of need.
func (s *sandbox) prepare(ctx context.Context) error {
	res, err := s.call(ctx, http.MethodPost, agent.PathPrepare, nil, nil)
	if err != nil {
		return fmt.Errorf("prepare a terminal of %s: %w", s.box.ID(), err)
	}
	return res.Body.Close()
}

// Exec runs a command to its end.
func (s *sandbox) Exec(ctx context.Context, cmd labs.Cmd) (int, error) {
	exit, err := s.exec(ctx, cmd)
	if err != nil {
		return 0, fmt.Errorf("run %.100q in %s: %w", cmd.Args, s.box.ID(), err)
	}
	return exit, nil
}

func (s *sandbox) exec(ctx context.Context, cmd labs.Cmd) (exit int, err error) {
	conn, in, err := s.upgrade(ctx, http.MethodPost, agent.PathExec, nil)
	if err != nil {
		return 0, err
	}
	defer conn.Close() // the agent then ends what still runs
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	frames := agent.NewFrameConn(conn, in)
	spec, err := json.Marshal(agent.ExecSpec{Args: cmd.Args, Dir: cmd.Dir, Env: cmd.Env, Stdin: cmd.Stdin != nil})
	if err != nil {
		return 0, err
	}
	if err := frames.WriteFrame(labs.Frame{Kind: agent.ExecStart, Payload: spec}); err != nil {
		return 0, s.broken(ctx, err)
	}
	if cmd.Stdin != nil {
		// Stdin may block for ever in its Read, so nobody can wait for this
		// goroutine; it ends with the next byte or the end of Stdin.
		go feed(frames, cmd.Stdin)
	}
	for {
		f, err := frames.ReadFrame()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the agent hung up: %w", io.ErrUnexpectedEOF)
			}
			return 0, s.broken(ctx, err)
		}
		switch f.Kind {
		case agent.ExecStdout, agent.ExecStderr:
			to := cmd.Stdout
			if f.Kind == agent.ExecStderr {
				to = cmd.Stderr
			}
			if to == nil {
				continue
			}
			if _, err := to.Write(f.Payload); err != nil {
				return 0, fmt.Errorf("take its output: %w", err)
			}
		case agent.ExecExit:
			if len(f.Payload) != 4 {
				return 0, fmt.Errorf("exit status of %d bytes: %w", len(f.Payload), labs.ErrInvalid)
			}
			return int(int32(binary.BigEndian.Uint32(f.Payload))), nil
		case agent.ExecFailed:
			return 0, fmt.Errorf("%s: %w", bytes.ToValidUTF8(f.Payload[:min(len(f.Payload), 1<<10)], nil), labs.ErrInvalid)
		}
	}
}

// feed sends standard input until it ends or the command does.
func feed(frames *agent.FrameConn, stdin io.Reader) {
	b := make([]byte, 16<<10)
	for {
		n, err := stdin.Read(b)
		if n > 0 && frames.WriteFrame(labs.Frame{Kind: agent.ExecStdin, Payload: b[:n]}) != nil {
			return
		}
		if err != nil {
			frames.WriteFrame(labs.Frame{Kind: agent.ExecEOF}) // the command may be over
			return
		}
	}
}

// Watch tells what happens inside.
func (s *sandbox) Watch(ctx context.Context, w labs.Watch) (<-chan labs.Change, error) {
	res, err := s.call(ctx, http.MethodGet, agent.PathWatch, url.Values{"path": w.Paths, "after": {strconv.FormatInt(w.After, 10)}}, nil)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", s.box.ID(), err)
	}
	changes := make(chan labs.Change, watchBacklog)
	go func() { // ends with ctx or the connection; the receiver sees the close
		defer close(changes)
		defer res.Body.Close()
		in := bufio.NewScanner(res.Body)
		in.Buffer(make([]byte, 0, 1<<10), maxLine)
		var sent, lost int // changes; which of them was the last Lost
		for in.Scan() {
			var c labs.Change
			if json.Unmarshal(in.Bytes(), &c) != nil {
				return
			}
			switch {
			case c.Command != nil:
				c = labs.Change{Command: c.Command}
			case c.Engine != nil:
				c = labs.Change{Engine: c.Engine}
			case c.File == "" && !c.Lost:
				continue
			case c.Lost || len(changes) >= watchBacklog/2:
				// Files may be dropped rather than hold the agent back, as
				// long as a Lost waits that tells of this one too.
				if sent-len(changes) < lost {
					continue
				}
				c, lost = labs.Change{Lost: true}, sent+1
			}
			select {
			case changes <- c:
				sent++
			case <-ctx.Done():
				return
			}
		}
	}()
	return changes, nil
}

func (s *sandbox) Glob(ctx context.Context, pattern string, limit int) ([]labs.FileInfo, error) {
	var all []labs.FileInfo
	err := s.get(ctx, agent.PathGlob, url.Values{"pattern": {pattern}, "limit": {strconv.Itoa(limit)}}, list(&all, limit))
	if err != nil {
		return nil, fmt.Errorf("look for %s in %s: %w", pattern, s.box.ID(), err)
	}
	return all, nil
}

func (s *sandbox) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	res, err := s.call(ctx, http.MethodGet, agent.PathFile, url.Values{"path": {path}}, nil)
	if err == nil && res.ContentLength > maxFile {
		res.Body.Close()
		err = fmt.Errorf("larger than %s: %w", labs.Bytes(maxFile), labs.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s in %s: %w", path, s.box.ID(), err)
	}
	return http.MaxBytesReader(nil, res.Body, maxFile), nil
}

func (s *sandbox) TarNames(ctx context.Context, path string, limit int) ([]string, error) {
	var names []string
	err := s.get(ctx, agent.PathTarNames, url.Values{"path": {path}, "limit": {strconv.Itoa(limit)}}, list(&names, limit))
	if err != nil {
		return nil, fmt.Errorf("list %s in %s: %w", path, s.box.ID(), err)
	}
	return names, nil
}

func (s *sandbox) List(ctx context.Context, dir string, limit int) ([]labs.FileInfo, error) {
	var all []labs.FileInfo
	err := s.get(ctx, agent.PathList, url.Values{"dir": {dir}, "limit": {strconv.Itoa(limit)}}, list(&all, limit))
	if err != nil {
		return nil, fmt.Errorf("list %s in %s: %w", dir, s.box.ID(), err)
	}
	return all, nil
}

// ReadFile reads files of at most agent.MaxText bytes, whatever the limit.
func (s *sandbox) ReadFile(ctx context.Context, path string, limit int64) ([]byte, labs.Version, error) {
	text, err := s.readFile(ctx, path, min(limit, agent.MaxText))
	if err != nil {
		return nil, "", fmt.Errorf("read %s in %s: %w", path, s.box.ID(), err)
	}
	return text, agent.Version(text), nil
}

func (s *sandbox) readFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	res, err := s.call(ctx, http.MethodGet, agent.PathFile, url.Values{"path": {path}, "limit": {strconv.FormatInt(limit, 10)}}, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(http.MaxBytesReader(nil, res.Body, limit))
	if errors.As(err, new(*http.MaxBytesError)) {
		err = labs.ErrInvalid
	}
	if err != nil {
		return nil, s.broken(ctx, err)
	}
	return text, nil
}

// WriteFile gives the version that the file has now, also with ErrChanged ("":
// it is not there).
func (s *sandbox) WriteFile(ctx context.Context, path string, text []byte, was labs.Version) (labs.Version, error) {
	v, err := s.writeFile(ctx, path, text, was)
	if err != nil {
		return v, fmt.Errorf("write %s in %s: %w", path, s.box.ID(), err)
	}
	return v, nil
}

func (s *sandbox) writeFile(ctx context.Context, path string, text []byte, was labs.Version) (labs.Version, error) {
	if len(text) > agent.MaxText {
		return "", fmt.Errorf("it would be larger than %s: %w", labs.Bytes(agent.MaxText), labs.ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	res, err := s.call(ctx, http.MethodPut, agent.PathFile, url.Values{"path": {path}, "was": {string(was)}}, bytes.NewReader(text))
	if err != nil {
		if c := new(agent.ChangedError); errors.As(err, &c) {
			return c.Now, err
		}
		return "", err
	}
	return agent.Version(text), res.Body.Close()
}

// Unpack does not close tar. After an error it may still be read for a while.
func (s *sandbox) Unpack(ctx context.Context, dir string, tar io.Reader) error {
	res, err := s.call(ctx, http.MethodPost, agent.PathUnpack, url.Values{"dir": {dir}}, io.NopCloser(tar))
	if err != nil {
		return fmt.Errorf("unpack into %s in %s: %w", dir, s.box.ID(), err)
	}
	return res.Body.Close()
}

func (s *sandbox) WarmEngine(ctx context.Context) error {
	res, err := s.call(ctx, http.MethodPost, agent.PathEngineStart, nil, nil)
	if err != nil {
		return fmt.Errorf("start the engine of %s: %w", s.box.ID(), err)
	}
	return res.Body.Close()
}

var (
	_ labs.Sandbox    = (*sandbox)(nil)
	_ labs.PortLister = (*sandbox)(nil)
)

// errClosed says that a pool gives no more sandboxes.
var errClosed = errors.New("the runner is closed")
