package agent

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"berth/labs"
)

func listenUnix(t testing.TB, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	must(t, l.SetDeadline(time.Now().Add(within)))
	return l
}

// dialled gives both ends of a connection through the agent.
func (r *rig) dialled(network string) (client *net.UnixConn, in *bufio.Reader, inside net.Conn) {
	r.t.Helper()
	var l net.Listener
	address := r.dir + "/inside.sock"
	if network == "unix" {
		l = listenUnix(r.t, address)
	} else {
		var err error
		l, err = net.Listen("tcp", "127.0.0.1:0")
		must(r.t, err)
		address = l.Addr().String()
	}
	defer l.Close()
	c, in := r.open("GET", PathDial, url.Values{"network": {network}, "address": {address}})
	inside, err := l.Accept()
	must(r.t, err)
	r.t.Cleanup(func() { inside.Close() })
	must(r.t, inside.SetDeadline(time.Now().Add(within)))
	return c.(*net.UnixConn), in, inside
}

func TestDialPassesBytesAndHalfClose(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			r := startAgent(t)
			client, in, inside := r.dialled(network)
			there, back := bytes.Repeat([]byte("there"), 300_000), bytes.Repeat([]byte("back"), 300_000)
			go func() {
				client.Write(there)
				client.CloseWrite()
			}()
			if got, err := io.ReadAll(inside); err != nil || !bytes.Equal(got, there) {
				t.Fatalf("there: %d bytes, %v", len(got), err)
			}
			time.Sleep(hangupCheck + hangupCheck/2) // a client that only ended its side is not given up
			go func() {
				inside.Write(back)
				inside.Close()
			}()
			if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, back) {
				t.Fatalf("back: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestDialEndsInsideFirst(t *testing.T) {
	r := startAgent(t)
	client, in, inside := r.dialled("tcp")
	must(t, inside.(*net.TCPConn).CloseWrite())
	if b, err := io.ReadAll(in); err != nil || len(b) > 0 {
		t.Fatalf("%q, %v", b, err)
	}
	io.WriteString(client, "still")
	must(t, client.CloseWrite())
	if b, err := io.ReadAll(inside); err != nil || string(b) != "still" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestDialClientThatVanishesIsNoticed(t *testing.T) {
	r := startAgent(t)
	client, _, inside := r.dialled("tcp")
	client.Close()
	// The program inside neither speaks nor listens; it is hung up on.
	began := time.Now()
	_, err := io.ReadAll(inside)
	must(t, err)
	eventually(t, "writing there is in vain", func() bool {
		_, err := inside.Write([]byte("x"))
		return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	})
	t.Logf("after %v", time.Since(began))
}

func TestDialWhatIsNotThere(t *testing.T) {
	r := startAgent(t)
	must(t, os.WriteFile(r.dir+"/file", nil, 0o600))
	for _, c := range []struct {
		network, address string
		status           int
	}{
		{"unix", r.dir + "/none", 404},
		{"unix", r.dir + "/file", 404},
		{"unix", labs.EngineSocket, 404}, // this agent has no engine
		{"unix", strings.Repeat("x", 500), 500},
		{"tcp", "127.0.0.1:1", 404},
		{"tcp", "127.0.0.1", 500},
		{"udp", "127.0.0.1:1", 400},
		{"", "", 400},
	} {
		q := url.Values{"network": {c.network}, "address": {c.address}}
		req, err := http.NewRequest("GET", "http://agent"+PathDial+"?"+q.Encode(), nil)
		must(t, err)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", Upgrade)
		res, err := r.client.Do(req)
		must(t, err)
		res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s %.50s: %d; want %d", c.network, c.address, res.StatusCode, c.status)
		}
	}
}
