package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// installAgent copies the program that runs inside to a place of its own under
// dir, so that replacing the original does not disturb running sandboxes, and
// returns the copy's path. Copies that no sandbox uses are removed by
// pruneAgents.
func installAgent(dir, binary string) (string, error) {
	src, err := os.Open(binary)
	if err != nil {
		return "", fmt.Errorf("read the agent's program: %w", err)
	}
	defer src.Close()
	h := sha256.New()
	if _, err := io.Copy(h, src); err != nil {
		return "", fmt.Errorf("read the agent's program: %w", err)
	}
	home := filepath.Join(dir, hex.EncodeToString(h.Sum(nil)[:12]))
	path := filepath.Join(home, "berth")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := mkdir(home, 0o711, 0, 0); err != nil {
		return "", fmt.Errorf("install the agent: %w", err)
	}
	draft, err := os.CreateTemp(home, "new")
	if err != nil {
		return "", fmt.Errorf("install the agent: %w", err)
	}
	defer os.Remove(draft.Name())
	_, err = src.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.Copy(draft, src)
	}
	err = errors.Join(err, draft.Chmod(0o755), draft.Close())
	if err == nil {
		err = os.Rename(draft.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("install the agent: %w", err)
	}
	return path, nil
}

// pruneAgents removes the installed copies that are not in use.
func pruneAgents(dir string, used map[string]bool) error {
	homes, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, h := range homes {
		if h.IsDir() && !used[filepath.Join(dir, h.Name(), "berth")] {
			if err := os.RemoveAll(filepath.Join(dir, h.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// listenAgent makes the socket that the agent serves, outside of the sandbox,
// and returns the listening end to hand to it.
func listenAgent(path string) (*os.File, error) {
	var file *os.File
	err := atSocket(path, func(short string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: short})
		if err != nil {
			return err
		}
		defer l.Close()
		l.SetUnlinkOnClose(false)
		file, err = l.File()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for the agent: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		file.Close()
		return nil, fmt.Errorf("listen for the agent: %w", err)
	}
	return file, nil
}

// dialAgent connects to an agent's socket.
func dialAgent(ctx context.Context, path string) (conn net.Conn, err error) {
	err = atSocket(path, func(short string) error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", short)
		return err
	})
	return conn, err
}

// atSocket calls f with a short name for a socket's path: addresses of sockets
// end at 108 bytes, the paths of state directories do not.
func atSocket(path string, f func(short string) error) error {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(dir)
	return f("/proc/self/fd/" + strconv.Itoa(dir) + "/" + filepath.Base(path))
}

// agentPatience bounds the time from the agent's start to its first answer.
const agentPatience = 10 * time.Second

// awaitAgent returns when the agent says that it is ready. Nothing is polled:
// the socket is there before the agent, and is closed with its end.
func awaitAgent(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialAgent(ctx, path)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/health", nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("wait for the agent: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("wait for the agent: it answered %s", resp.Status)
	}
	return nil
}

// logTail gives the last line that the agent printed, for messages. The file
// is on the sandbox's disk: what is in it is bounded here.
func logTail(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	buf := make([]byte, 2048)
	n, _ := f.ReadAt(buf, max(0, info.Size()-int64(len(buf))))
	return lastLine(buf[:n])
}

// mkdir makes a directory, or puts right the mode and owner of one that is
// there.
func mkdir(path string, mode os.FileMode, uid, gid int) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return os.Lchown(path, uid, gid)
}
