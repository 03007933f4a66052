package labs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
)

// A vector is a frame as it is on the wire, and what it means. The browser's
// tests read the same file.
type vector struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Hex    string `json:"hex"`              // kind and payload: one WebSocket message
	Offset *int64 `json:"offset,omitempty"` // 'o', 's', 'a'
	Rows   uint16 `json:"rows,omitempty"`   // 's', 'r'
	Cols   uint16 `json:"cols,omitempty"`
	Data   string `json:"data,omitempty"`   // hex: bytes of 'i', 'c', 'o', 'p'
	ID     string `json:"id,omitempty"`     // 'c'
	Status *int   `json:"status,omitempty"` // 'x'
	Role   string `json:"role,omitempty"`   // 'n'
	// Malformed says that a parser must refuse it.
	Malformed bool `json:"malformed,omitempty"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&vs); err != nil {
		t.Fatal(err)
	}
	return vs
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parse takes a frame apart as its kind says. ok is false when there is no
// parser for the kind.
func parse(f Frame) (v vector, ok bool, err error) {
	v.Kind = string(rune(f.Kind))
	var offset int64
	var size Size
	var b []byte
	switch f.Kind {
	case FrameOutput:
		offset, b, err = f.Output()
		v.Offset, v.Data = &offset, hex.EncodeToString(b)
	case FrameStart:
		offset, size, err = f.Start()
		v.Offset, v.Rows, v.Cols = &offset, size.Rows, size.Cols
	case FrameAck:
		offset, err = f.Ack()
		v.Offset = &offset
	case FrameResize:
		size, err = f.Resize()
		v.Rows, v.Cols = size.Rows, size.Cols
	case FrameCommand:
		v.ID, b, err = f.Command()
		v.Data = hex.EncodeToString(b)
	case FrameExit:
		var status int
		status, err = f.Exit()
		v.Status = &status
	default:
		return v, false, nil
	}
	return v, true, err
}

// build puts together the frame that a vector means.
func build(t testing.TB, v vector) Frame {
	t.Helper()
	size := Size{v.Rows, v.Cols}
	switch v.Kind[0] {
	case FrameOutput:
		return OutputFrame(*v.Offset, unhex(t, v.Data))
	case FrameStart:
		return StartFrame(*v.Offset, size)
	case FrameAck:
		return AckFrame(*v.Offset)
	case FrameResize:
		return ResizeFrame(size)
	case FrameCommand:
		return CommandFrame(v.ID, unhex(t, v.Data))
	case FrameExit:
		return ExitFrame(*v.Status)
	case FrameRole:
		return RoleFrame(v.Role == "w")
	default:
		return Frame{v.Kind[0], unhex(t, v.Data)}
	}
}

func TestFrames(t *testing.T) {
	kinds := map[string]bool{}
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			wire := unhex(t, v.Hex)
			if v.Kind != string(rune(wire[0])) {
				t.Fatalf("the kind is %q, not %q", wire[0], v.Kind)
			}
			f := Frame{wire[0], wire[1:]}
			got, parsed, err := parse(f)
			if v.Malformed {
				if !errors.Is(err, ErrInvalid) {
					t.Errorf("a malformed frame gives %v", err)
				}
				return
			}
			kinds[v.Kind] = true
			if err != nil {
				t.Fatal(err)
			}
			if made := build(t, v); made.Kind != f.Kind || !bytes.Equal(made.Payload, f.Payload) {
				t.Errorf("made %q %x, want %x", made.Kind, made.Payload, f.Payload)
			}
			if !parsed {
				return
			}
			got.Name, got.Hex = v.Name, v.Hex
			have, _ := json.Marshal(got)
			want, _ := json.Marshal(v)
			if !bytes.Equal(have, want) {
				t.Errorf("parsed\n%s, want\n%s", have, want)
			}
		})
	}
	for _, kind := range []byte{FrameInput, FrameCommand, FrameResize, FrameAck, FrameStart, FrameOutput, FrameExit, FrameRole, FramePing} {
		if !kinds[string(rune(kind))] {
			t.Errorf("there is no vector for frames %q", kind)
		}
	}
}

func TestCommandFrameCutsALongID(t *testing.T) {
	id, b, err := CommandFrame(string(make([]byte, 300)), []byte("ls\n")).Command()
	if len(id) != 255 || string(b) != "ls\n" || err != nil {
		t.Errorf("an id of %d bytes, then %q, %v", len(id), b, err)
	}
}

// No frame makes a parser panic, and what a parser accepts it would write
// again as the same bytes.
func FuzzFrame(f *testing.F) {
	for _, v := range vectors(f) {
		b := unhex(f, v.Hex)
		f.Add(b[0], b[1:])
	}
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		frame := Frame{kind, payload}
		v, parsed, err := parse(frame)
		if !parsed {
			return
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v", err)
			}
			return
		}
		if again := build(t, v); !bytes.Equal(again.Payload, payload) {
			t.Errorf("frame %q %x became %x", kind, payload, again.Payload)
		}
		// The other parsers refuse it.
		for _, other := range []byte{FrameOutput, FrameStart, FrameAck, FrameResize, FrameCommand, FrameExit} {
			if other != kind {
				o := frame
				o.Kind = other
				parse(o)
			}
		}
	})
}
