package labs

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
)

// The terminal protocol. Every byte that a terminal's shell prints has a
// number, its offset, from 0 at the terminal's start. A terminal keeps the
// last RingSize bytes; a viewer is an offset. Attaching late, reconnecting,
// watching and replaying are the same thing: asking for output from an offset.
//
// A frame is one kind byte and a payload; numbers are big-endian. Between
// browser and server a frame is one binary WebSocket message. Between server
// and agent the same frame follows a 4-byte length (kind and payload), so that
// the server passes frames on as they are. testdata/frames.json holds golden
// vectors that the Go and TypeScript tests share.
const (
	// FrameInput (viewer to terminal): bytes typed or pasted, in order, at
	// most MaxInput each. Never resent.
	FrameInput = 'i'
	// FrameCommand (viewer to terminal): input from a click, at most once:
	// 1 byte length of the id, the id, the bytes. A terminal remembers the
	// last 256 ids and drops a frame whose id it has seen.
	FrameCommand = 'c'
	// FrameResize (both ways): 2 bytes rows, 2 bytes columns. From a viewer:
	// make the terminal that big. To a viewer: it now is that big.
	FrameResize = 'r'
	// FrameAck (viewer to terminal): 8 bytes offset up to which the viewer
	// has drawn. Output stops when a window is unacknowledged.
	FrameAck = 'a'
	// FrameStart (to a viewer, first frame): 8 bytes offset of the first byte
	// that will follow, 2 bytes rows, 2 bytes columns. A greater offset than
	// the one asked for means that what was between is no longer kept: clear
	// the screen. A smaller one (another terminal's life) likewise.
	FrameStart = 's'
	// FrameOutput (to a viewer): 8 bytes offset of the first byte, the bytes.
	FrameOutput = 'o'
	// FrameExit (to a viewer): 4 bytes exit status of the shell. A new shell
	// follows in the same terminal.
	FrameExit = 'x'
	// FrameRole (to a viewer): 1 byte, 'w' may type, 'r' may only read.
	FrameRole = 'n'
	// FramePing (viewer to server, answered by the server with the same
	// payload, at most 64 bytes): is the line alive, how long is a round trip.
	FramePing = 'p'
)

const (
	RingSize  = 1 << 20   // bytes of output that a terminal keeps
	MaxInput  = 64 << 10  // payload bytes of one input frame
	MaxFrame  = 128 << 10 // bytes of any frame, the kind included
	WindowMin = 128 << 10 // bytes that may be unacknowledged, at first
	WindowMax = 1 << 20   // and at most
)

// WebSocket close codes that the page understands, in the private range.
const (
	CloseNotFound = 4404 // no such session or terminal: start again
	CloseEnded    = 4410 // the session has ended: do not reconnect
	CloseBusy     = 4429 // too many terminals or viewers
)

// Size is a terminal's size in characters.
type Size struct{ Rows, Cols uint16 }

// A Viewer says how to attach to a terminal.
type Viewer struct {
	From int64 // offset wanted first; below 0: all that is kept
	Size Size  // size for a terminal that is made now; zero: 24 by 80
}

// A Frame is one unit of the terminal protocol.
type Frame struct {
	Kind    byte
	Payload []byte
}

// An Attachment is a viewer's end of a terminal. One goroutine may read and
// one may write at the same time. The payload of a frame that was read is
// valid until the next read. Close ends both.
type Attachment interface {
	ReadFrame() (Frame, error) // io.EOF when the terminal is gone
	WriteFrame(Frame) error
	Close() error
}

// OutputFrame gives a FrameOutput.
func OutputFrame(offset int64, b []byte) Frame {
	p := make([]byte, 8+len(b))
	binary.BigEndian.PutUint64(p, uint64(offset))
	copy(p[8:], b)
	return Frame{FrameOutput, p}
}

// Output takes a FrameOutput apart.
func (f Frame) Output() (offset int64, b []byte, err error) {
	if f.Kind != FrameOutput || len(f.Payload) < 8 {
		return 0, nil, f.malformed()
	}
	return int64(binary.BigEndian.Uint64(f.Payload)), f.Payload[8:], nil
}

// StartFrame gives a FrameStart.
func StartFrame(offset int64, s Size) Frame {
	p := binary.BigEndian.AppendUint64(nil, uint64(offset))
	return Frame{FrameStart, appendSize(p, s)}
}

// Start takes a FrameStart apart.
func (f Frame) Start() (offset int64, s Size, err error) {
	if f.Kind != FrameStart || len(f.Payload) != 12 {
		return 0, Size{}, f.malformed()
	}
	return int64(binary.BigEndian.Uint64(f.Payload)), size(f.Payload[8:]), nil
}

// AckFrame gives a FrameAck.
func AckFrame(offset int64) Frame {
	return Frame{FrameAck, binary.BigEndian.AppendUint64(nil, uint64(offset))}
}

// Ack takes a FrameAck apart.
func (f Frame) Ack() (offset int64, err error) {
	if f.Kind != FrameAck || len(f.Payload) != 8 {
		return 0, f.malformed()
	}
	return int64(binary.BigEndian.Uint64(f.Payload)), nil
}

// ResizeFrame gives a FrameResize.
func ResizeFrame(s Size) Frame { return Frame{FrameResize, appendSize(nil, s)} }

// Resize takes a FrameResize apart. Sizes from 1 to 1,000 are accepted.
func (f Frame) Resize() (Size, error) {
	if f.Kind != FrameResize || len(f.Payload) != 4 {
		return Size{}, f.malformed()
	}
	s := size(f.Payload)
	if s.Rows < 1 || s.Cols < 1 || s.Rows > 1000 || s.Cols > 1000 {
		return Size{}, fmt.Errorf("terminal of %d rows and %d columns: %w", s.Rows, s.Cols, ErrInvalid)
	}
	return s, nil
}

// CommandFrame gives a FrameCommand. The id is cut at 255 bytes.
func CommandFrame(id string, b []byte) Frame {
	id = id[:min(len(id), 255)]
	p := append([]byte{byte(len(id))}, id...)
	return Frame{FrameCommand, append(p, b...)}
}

// Command takes a FrameCommand apart.
func (f Frame) Command() (id string, b []byte, err error) {
	if f.Kind != FrameCommand || len(f.Payload) < 1 || len(f.Payload) < 1+int(f.Payload[0]) {
		return "", nil, f.malformed()
	}
	n := 1 + int(f.Payload[0])
	return string(f.Payload[1:n]), f.Payload[n:], nil
}

// ExitFrame gives a FrameExit.
func ExitFrame(status int) Frame {
	return Frame{FrameExit, binary.BigEndian.AppendUint32(nil, uint32(int32(status)))}
}

// Exit takes a FrameExit apart.
func (f Frame) Exit() (status int, err error) {
	if f.Kind != FrameExit || len(f.Payload) != 4 {
		return 0, f.malformed()
	}
	return int(int32(binary.BigEndian.Uint32(f.Payload))), nil
}

// RoleFrame gives a FrameRole.
func RoleFrame(mayType bool) Frame {
	if mayType {
		return Frame{FrameRole, []byte{'w'}}
	}
	return Frame{FrameRole, []byte{'r'}}
}

func (f Frame) malformed() error {
	return fmt.Errorf("terminal frame %q of %d bytes: %w", f.Kind, len(f.Payload), ErrInvalid)
}

func size(p []byte) Size {
	return Size{binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])}
}

func appendSize(p []byte, s Size) []byte {
	p = binary.BigEndian.AppendUint16(p, s.Rows)
	return binary.BigEndian.AppendUint16(p, s.Cols)
}

var terminalName = regexp.MustCompile(`^[a-z0-9-]{1,16}(@[2-9])?$`)

// ValidTerminal reports whether a terminal can have this name: a word of small
// letters, digits and "-", and for a terminal on another sandbox than the first
// its number behind an "@", such as "1@2".
func ValidTerminal(name string) bool { return terminalName.MatchString(name) }

// SplitTerminal gives the name that the sandbox knows the terminal by, and
// which sandbox it is, from 1.
func SplitTerminal(name string) (inside string, host int) {
	if inside, n, ok := strings.Cut(name, "@"); ok && len(n) == 1 {
		return inside, int(n[0] - '0')
	}
	return name, 1
}
