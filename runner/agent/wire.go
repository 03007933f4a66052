package agent

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"berth/labs"
)

// The agent speaks HTTP/1.1 on every connection to it. What is a stream both
// ways is an Upgrade, as in Docker's own API: after the 101 the connection
// carries frames (exec, terminal) or plain bytes (dial). There can be any
// number of connections, so nothing has to share one.
//
//	GET  /v1/health                                  Health
//	POST /v1/exec                     Upgrade        exec frames, see below
//	GET  /v1/terminals                               ["1", …], in the order they were made
//	GET  /v1/terminals/{name}/attach?from=&rows=&cols=  Upgrade   frames of labs' terminal protocol
//	POST /v1/prepare                                 makes terminal "1" ahead of need; 204 at once
//	GET  /v1/ports                                   [80, …]: TCP ports that answer at localhost, sorted
//	GET  /v1/dial?network=&address=   Upgrade        plain bytes; half-close is passed on
//	GET  /v1/watch?path=…&path=…&after=              a stream of JSON labs.Change, one a line
//	GET  /v1/glob?pattern=&limit=                    JSON of []labs.FileInfo
//	GET  /v1/list?dir=&limit=                        JSON of []labs.FileInfo, by name
//	GET  /v1/file?path=                              the bytes, with a Content-Length
//	GET  /v1/file?path=&limit=                       the same, of at most so many bytes
//	PUT  /v1/file?path=&was=                         body: the bytes; Saved
//	GET  /v1/tar-names?path=&limit=                  JSON of []string
//	POST /v1/unpack?dir=                             body: tar; 204
//	POST /v1/engine/start                            204 at once
//
// An error is a status of 400 and above with a Fault as JSON.
const (
	// PathHealth and the others are the endpoints.
	PathHealth      = "/v1/health"
	PathExec        = "/v1/exec"
	PathTerminals   = "/v1/terminals"
	PathPrepare     = "/v1/prepare"
	PathPorts       = "/v1/ports"
	PathDial        = "/v1/dial"
	PathWatch       = "/v1/watch"
	PathGlob        = "/v1/glob"
	PathList        = "/v1/list"
	PathFile        = "/v1/file"
	PathTarNames    = "/v1/tar-names"
	PathUnpack      = "/v1/unpack"
	PathEngineStart = "/v1/engine/start"

	// Upgrade is the protocol name in the Upgrade header.
	Upgrade = "berth-agent/1"
)

// Frames of an exec stream. The client sends ExecStart first.
const (
	ExecStart  = 'j' // client: JSON of ExecSpec
	ExecStdin  = 'i' // client: bytes for standard input
	ExecEOF    = 'e' // client: standard input ends
	ExecStdout = '1' // agent: bytes
	ExecStderr = '2' // agent: bytes
	ExecExit   = 'x' // agent, last: 4 bytes exit status, 128 + n when signal n ended it
	ExecFailed = 'f' // agent, last: it could not be run; a sentence
)

// ExecSpec is a labs.Cmd without its streams.
type ExecSpec struct {
	Args  []string `json:"args"`
	Dir   string   `json:"dir,omitempty"`
	Env   []string `json:"env,omitempty"`
	Stdin bool     `json:"stdin,omitempty"` // ExecStdin will come; otherwise standard input is empty
}

// Health says how the agent is.
type Health struct {
	Version string           `json:"version"`
	PID     int              `json:"pid"`
	Engine  labs.EngineState `json:"engine"`
}

// A Fault is an error on its way to the client half.
type Fault struct {
	Kind    string       `json:"kind"` // of faultKinds
	Error   string       `json:"error"`
	Version labs.Version `json:"version,omitempty"` // of "changed": that which the file has now
}

var faultKinds = []struct {
	kind   string
	err    error
	status int
}{
	{"not found", labs.ErrNotFound, http.StatusNotFound},
	{"not allowed", labs.ErrForbidden, http.StatusForbidden},
	{"not valid", labs.ErrInvalid, http.StatusBadRequest},
	{"busy", labs.ErrBusy, http.StatusTooManyRequests},
	{"gone", labs.ErrGone, http.StatusGone},
	{"changed", labs.ErrChanged, http.StatusConflict},
}

const maxVersion = 64 // bytes of a version in a Fault

// writeFault answers a request with an error.
func writeFault(w http.ResponseWriter, err error) {
	status, f := http.StatusInternalServerError, Fault{Kind: "internal", Error: err.Error()}
	for _, k := range faultKinds {
		if errors.Is(err, k.err) {
			status, f.Kind = k.status, k.kind
			break
		}
	}
	if c := new(ChangedError); errors.As(err, &c) {
		f.Version = c.Now
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(f) // the client may be gone
}

// Err gives the fault as an error that errors.Is knows. Its text is cut at 1 KiB.
func (f Fault) Err() error {
	text := f.Error[:min(len(f.Error), 1<<10)]
	for _, k := range faultKinds {
		if f.Kind != k.kind {
			continue
		}
		text = strings.TrimSuffix(text, ": "+k.err.Error())
		if k.err == labs.ErrChanged && len(f.Version) <= maxVersion {
			return fmt.Errorf("%s: %w", text, &ChangedError{f.Version})
		}
		return fmt.Errorf("%s: %w", text, k.err)
	}
	return errors.New(text)
}

// A FrameConn carries frames over a connection: 4 bytes length of kind and
// payload, the kind, the payload. One goroutine may read, any may write.
// It does not allocate for a frame.
type FrameConn struct {
	conn net.Conn
	in   *bufio.Reader

	buf []byte // the payload that was read last

	mu  sync.Mutex // writing
	out []byte
}

// NewFrameConn gives a FrameConn over conn; in holds what was already read of
// it, or is nil.
func NewFrameConn(conn net.Conn, in *bufio.Reader) *FrameConn {
	if in == nil {
		in = bufio.NewReaderSize(conn, 4<<10)
	}
	return &FrameConn{conn: conn, in: in}
}

// ReadFrame gives the next frame; its payload is valid until the next call.
func (c *FrameConn) ReadFrame() (labs.Frame, error) {
	head, err := c.in.Peek(5)
	if err != nil {
		return labs.Frame{}, err
	}
	n, kind := binary.BigEndian.Uint32(head), head[4]
	if n < 1 || n > labs.MaxFrame {
		return labs.Frame{}, fmt.Errorf("frame of %d bytes: %w", n, labs.ErrInvalid)
	}
	if _, err := c.in.Discard(5); err != nil {
		return labs.Frame{}, err
	}
	if cap(c.buf) < int(n-1) {
		c.buf = make([]byte, n-1, max(int(n-1), 512))
	}
	c.buf = c.buf[:n-1]
	if _, err := io.ReadFull(c.in, c.buf); err != nil {
		return labs.Frame{}, err
	}
	return labs.Frame{Kind: kind, Payload: c.buf}, nil
}

// WriteFrame sends a frame in one write.
func (c *FrameConn) WriteFrame(f labs.Frame) error {
	return c.write(f.Kind, f.Payload, nil)
}

// WriteOutput sends a FrameOutput without putting it together first.
func (c *FrameConn) WriteOutput(offset int64, b []byte) error {
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], uint64(offset))
	return c.write(labs.FrameOutput, head[:], b)
}

func (c *FrameConn) write(kind byte, head, body []byte) error {
	n := 1 + len(head) + len(body)
	if n > labs.MaxFrame {
		return fmt.Errorf("frame of %d bytes: %w", n, labs.ErrInvalid)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = binary.BigEndian.AppendUint32(c.out[:0], uint32(n))
	c.out = append(c.out, kind)
	c.out = append(c.out, head...)
	c.out = append(c.out, body...)
	_, err := c.conn.Write(c.out)
	if cap(c.out) > 32<<10 {
		c.out = nil // an idle terminal stays small
	}
	return err
}

// Close closes the connection; a ReadFrame that waits ends.
func (c *FrameConn) Close() error { return c.conn.Close() }
