package mirror

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRedirectIntoTheRoom: a registry at a public address cannot send the
// server to addresses of the network that the server stands in.
func TestRedirectIntoTheRoom(t *testing.T) {
	m, err := open(Config{Dir: filepath.Join(t.TempDir(), "mirror"), Upstream: "https://registry.example"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, address := range []string{
		"127.0.0.1:80", "[::1]:80", "10.213.0.1:5000", "192.168.1.1:443", "172.16.0.1:80", "169.254.169.254:80",
		"[fe80::1]:80", "[fd00:ec2::254]:80", "100.64.0.1:80", "0.0.0.0:80", "[::ffff:127.0.0.1]:80", "localhost:80", "224.0.0.1:80",
	} {
		c, err := m.upstreams[hub].http.DialContext(ctx, "tcp", address)
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "private address") {
			t.Errorf("dial %s: %v", address, err)
		}
	}
	for _, public := range []string{"8.8.8.8", "2606:4700::1111", "172.32.0.1", "100.128.0.1"} {
		if isPrivate(netip.MustParseAddr(public)) {
			t.Errorf("%s counts as private", public)
		}
	}
}
