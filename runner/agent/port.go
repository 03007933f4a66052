package agent

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// MaxPorts is how many ports are told at most, the lowest.
const MaxPorts = 1024

func (a *agent) ports(w http.ResponseWriter, _ *http.Request) error {
	open := map[int]bool{}
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("look for open ports: %w", err)
		}
		err = listening(f, open)
		f.Close()
		if err != nil {
			return fmt.Errorf("look for open ports: %w", err)
		}
	}
	all := make([]int, 0, len(open))
	for p := range open {
		all = append(all, p)
	}
	slices.Sort(all)
	return writeJSON(w, all[:min(len(all), MaxPorts)])
}

// listening adds the ports of a table of the kernel's that answer at localhost.
func listening(table io.Reader, open map[int]bool) error {
	in := bufio.NewScanner(table)
	in.Scan() // the heading
	for in.Scan() {
		// Number, own address, other address, state.
		f := strings.Fields(in.Text())
		if len(f) < 4 || f[3] != "0A" {
			return nil // those that listen come first, and there may be very many others
		}
		addr, port, ok := parseSocket(f[1])
		if ok && (addr.IsUnspecified() || addr == netip.IPv6Loopback() || addr == netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
			open[port] = true
		}
	}
	return in.Err()
}

// parseSocket reads an address as the kernel's tables have it: 32-bit words in
// the order of this machine, as are all that Berth runs on.
func parseSocket(s string) (netip.Addr, int, bool) {
	host, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.Addr{}, 0, false
	}
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return netip.Addr{}, 0, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	addr, ok := netip.AddrFromSlice(b)
	return addr.Unmap(), int(n), ok && n > 0
}
