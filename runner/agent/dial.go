package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"berth/labs"

	"golang.org/x/sys/unix"
)

const (
	dialTimeout = 5 * time.Second // for a connection inside the sandbox, which is never far
	hangupCheck = time.Second     // how often it is seen whether a silent client is gone
)

func (a *agent) dial(w http.ResponseWriter, r *http.Request) error {
	if err := upgradable(r); err != nil {
		return err
	}
	network, address := r.URL.Query().Get("network"), r.URL.Query().Get("address")
	if network != "unix" && network != "tcp" {
		return fmt.Errorf("network %q: unix or tcp: %w", network, labs.ErrInvalid)
	}
	if network == "unix" && address == labs.EngineSocket {
		address = a.Socket
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
	defer cancel()
	there, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("nothing listens at %s: %w", address, labs.ErrNotFound)
		}
		return err
	}
	here, in, err := a.hijack(w, r)
	if err != nil {
		there.Close()
		return err
	}
	a.busy.Go(func() {
		stop := context.AfterFunc(a.ctx, func() { here.Close(); there.Close() })
		defer stop()
		var from io.Reader = here
		if in != nil {
			from = in
		}
		relay(here, from, there)
	})
	return nil
}

// relay passes what is read from the client, here, to there and back, until
// both directions have ended or the client is gone. It closes both.
func relay(here net.Conn, from io.Reader, there net.Conn) {
	over := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		pass(there, from, here)
		// There may be silence for ever: a client that has only ended its
		// side waits for it, one that is gone does not.
		t := time.NewTicker(hangupCheck)
		defer t.Stop()
		for {
			select {
			case <-over:
				return
			case <-t.C:
				if hungUp(here) {
					there.Close()
				}
			}
		}
	})
	pass(here, there, there)
	close(over)
	sending.Wait()
	here.Close()
	there.Close()
}

// pass copies from src, which reads from conn, until it ends, and passes the
// end on. When dst is gone conn is closed, so that nobody waits for it.
func pass(dst net.Conn, src io.Reader, conn net.Conn) {
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		conn.Close()
		return
	}
	if w, ok := dst.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	} else {
		dst.Close()
	}
}

// hungUp reports whether the other end of a connection is closed, where that
// can be told from an end that only sends no more.
func hungUp(conn net.Conn) bool {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || err != nil
}
