package local

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"berth/labs"
)

// listen has a sandbox serve HTTP on port 80 and write down the datagrams that
// come to port 9.
func (b *box) listen(t *testing.T) {
	t.Helper()
	b.must(t, `mkfifo /tmp/said; (/run/berth/berth serve :80 >/dev/null 2>&1 &) ; (/run/berth/berth hear :9 /heard >/tmp/said 2>&1 &); head -n1 /tmp/said
		i=0; until /run/berth/berth get http://127.0.0.1/ >/dev/null 2>&1; do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done`)
}

func (b *box) addr() string { return b.rec.Address.String() }

// reaches tries TCP, ICMP and UDP from one sandbox to another that listens, and
// gives what worked.
func (b *box) reaches(t *testing.T, to *box) string {
	t.Helper()
	mark := fmt.Sprintf("%s-%d", b.ID(), time.Now().UnixNano())
	out, _, err := b.run(within(t, 30*time.Second), fmt.Sprintf(`/run/berth/berth get http://%[1]s/ >/tmp/got 2>&1 && grep -q 'asked by %[2]s' /tmp/got && echo tcp
		ping -c1 -W1 %[1]s >/dev/null 2>&1 && echo icmp; BERTH_SANDBOX=%[3]s /run/berth/berth send %[1]s:9 %[2]s; true`, to.addr(), b.addr(), mark))
	if err != nil {
		t.Fatal(err)
	}
	// Its own datagram comes behind whatever arrived before.
	own := mark + "-last"
	heard := to.must(t, fmt.Sprintf("BERTH_SANDBOX=%s /run/berth/berth send %s:9 %s; i=0; until grep -q %s /heard; do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done; cat /heard", own, "127.0.0.1", "127.0.0.1", own))
	if strings.Contains(heard, mark+" as "+b.addr()+"\n") {
		out += "udp"
	}
	return strings.Join(strings.Fields(out), " ")
}

// pairsOf gives how many elements the firewall's set of pairs has.
func pairsOf(t *testing.T, b *Boxes) int {
	t.Helper()
	nft, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	all, err := nft.GetSetElements(b.network.firewall.paired)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestConnect(t *testing.T) {
	out := makeOutside(t)
	cfg := testConfig(t)
	cfg.DNS = []netip.Addr{out.private}
	b := open(t, cfg)
	var asked atomic.Int64
	for _, address := range []string{b.Gateway().String() + ":5000", "0.0.0.0:5001"} {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			io.WriteString(w, "from here\n")
		}))
	}
	one, two := start(t, b, labs.Spec{Egress: labs.EgressNone}), start(t, b, labs.Spec{Egress: labs.EgressInternet})
	third, fourth := start(t, b, labs.Spec{Egress: labs.EgressInternet}), start(t, b, labs.Spec{Egress: labs.EgressMirror})
	all := []*box{one, two, third, fourth}
	for _, x := range all {
		x.listen(t)
	}
	if got := one.reaches(t, two); got != "" {
		t.Errorf("before they are connected they reach each other by %s", got)
	}
	for range 2 {
		addrs, err := b.Connect(t.Context(), one.ID(), two.ID())
		if err != nil || len(addrs) != 2 || addrs[0] != one.rec.Address || addrs[1] != two.rec.Address {
			t.Fatalf("%v, %v", addrs, err)
		}
	}
	if _, err := b.Connect(t.Context(), two.ID(), fourth.ID()); err != nil {
		t.Fatal(err)
	}
	connected := map[[2]*box]bool{{one, two}: true, {two, one}: true, {two, fourth}: true, {fourth, two}: true}
	for _, x := range all {
		for _, y := range all {
			want := ""
			if connected[[2]*box{x, y}] {
				want = "tcp icmp udp"
			}
			if got := x.reaches(t, y); x != y && got != want {
				t.Errorf("%s reaches %s by %q; want %q", x.addr(), y.addr(), got, want)
			}
		}
	}
	if n := pairsOf(t, b); n != 4 {
		t.Errorf("%d pairs; want 4", n)
	}

	// What each may reach otherwise is as it was.
	for _, c := range []struct {
		what, url string
		allowed   []*box
	}{
		{"the mirror", "http://" + b.Gateway().String() + ":5000/", []*box{two, third, fourth}},
		{"another service at the gateway", "http://" + b.Gateway().String() + ":5001/", nil},
		{"a service at the machine's own address", "http://" + out.uplink.String() + ":5001/", nil},
		{"a metadata service", "http://169.254.169.254/", nil},
		{"a private address", "http://" + out.private.String() + "/", nil},
		{"a public address", "http://" + out.public.String() + "/", []*box{two, third}},
	} {
		for _, x := range all {
			allowed := false
			for _, a := range c.allowed {
				allowed = allowed || a == x
			}
			if got, exit, err := x.run(within(t, 20*time.Second), "/run/berth/berth get "+c.url); err != nil || (exit == 0) != allowed {
				t.Errorf("%s from %s: exit %d, %v, %q, allowed: %v", c.what, x.addr(), exit, err, got, allowed)
			}
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("services of this machine answered %d times, 3 were allowed", n)
	}

	// Nothing of it is left when one is gone.
	if err := two.Destroy(); err != nil {
		t.Fatal(err)
	}
	if n := pairsOf(t, b); n != 0 {
		t.Errorf("%d pairs are left", n)
	}
	if _, err := b.Connect(t.Context(), one.ID(), two.ID()); !errors.Is(err, labs.ErrGone) {
		t.Errorf("connect with one that is gone: %v", err)
	}
	for _, ids := range [][]string{{one.ID(), one.ID()}, make([]string, maxConnected+1)} {
		if _, err := b.Connect(t.Context(), ids...); !errors.Is(err, labs.ErrInvalid) {
			t.Errorf("connect %q: %v", ids, err)
		}
	}
	if addrs, err := b.Connect(t.Context(), one.ID()); err != nil || len(addrs) != 1 {
		t.Errorf("connect one: %v, %v", addrs, err)
	}
}

func TestAttackConnectedWithASpoofedSourceAddress(t *testing.T) {
	b := open(t, testConfig(t))
	one, two, third := start(t, b, labs.Spec{}), start(t, b, labs.Spec{}), start(t, b, labs.Spec{})
	if _, err := b.Connect(t.Context(), one.ID(), two.ID()); err != nil {
		t.Fatal(err)
	}
	two.listen(t)
	// A stranger says that it is one of the two; one of the two says that it is
	// the stranger, or the gateway.
	for _, c := range []struct {
		who *box
		as  string
	}{{third, one.addr()}, {one, third.addr()}, {one, b.Gateway().String()}} {
		c.who.must(t, "ip addr add "+c.as+"/32 dev eth0")
		c.who.run(within(t, 10*time.Second), fmt.Sprintf("BERTH_SANDBOX=forged /run/berth/berth send %s:9 %s", two.addr(), c.as))
		c.who.must(t, "ip addr del "+c.as+"/32 dev eth0")
	}
	if got := one.reaches(t, two); !strings.Contains(got, "udp") {
		t.Errorf("the honest way: %q", got)
	}
	if heard := two.must(t, "cat /heard"); strings.Contains(heard, "forged") {
		t.Errorf("heard %s", heard)
	}
}

// TestAttackAddressOfADestroyedPeer has a sandbox go on with what it said to a
// peer whose address is another sandbox's by now.
func TestAttackAddressOfADestroyedPeer(t *testing.T) {
	cfg := testConfig(t)
	cfg.Max = 2
	b := open(t, cfg)
	one, two := start(t, b, labs.Spec{}), start(t, b, labs.Spec{})
	if _, err := b.Connect(t.Context(), one.ID(), two.ID()); err != nil {
		t.Fatal(err)
	}
	two.listen(t)
	say := "BERTH_SANDBOX=%s /run/berth/berth send " + two.addr() + ":9 " + one.addr()
	if got := one.reaches(t, two); got != "tcp icmp udp" {
		t.Fatalf("reaches by %q", got)
	}
	if err := two.Destroy(); err != nil {
		t.Fatal(err)
	}
	stranger := start(t, b, labs.Spec{})
	if stranger.rec.Address != two.rec.Address {
		t.Fatalf("it has the address %s, not %s", stranger.rec.Address, two.rec.Address)
	}
	stranger.listen(t)
	one.run(within(t, 10*time.Second), fmt.Sprintf(say, "old"))
	if got := one.reaches(t, stranger); got != "" {
		t.Errorf("a stranger is reached by %s", got)
	}
	if heard := stranger.must(t, "cat /heard"); strings.Contains(heard, "old") {
		t.Errorf("a stranger heard %s", heard)
	}
}

// TestAttackFloodOfAPeer has a sandbox make connections to one that it is
// connected with: they take nothing of the machine's table.
func TestAttackFloodOfAPeer(t *testing.T) {
	b := open(t, testConfig(t))
	one, two := start(t, b, labs.Spec{}), start(t, b, labs.Spec{})
	if _, err := b.Connect(t.Context(), one.ID(), two.ID()); err != nil {
		t.Fatal(err)
	}
	one.run(within(t, 60*time.Second), "/run/berth/berth flood udp "+two.addr()+":9")
	if n := tracked(t, one.rec.Address); n != 0 {
		t.Errorf("it has %d connections in the machine's table", n)
	}
}

func TestConnectedOverARestart(t *testing.T) {
	cfg := testConfig(t)
	b := open(t, cfg)
	idle := machine(t, b.cfg)
	one, two, dies := start(t, b, labs.Spec{}), start(t, b, labs.Spec{}), start(t, b, labs.Spec{})
	stranger := start(t, b, labs.Spec{})
	if _, err := b.Connect(t.Context(), one.ID(), two.ID(), dies.ID()); err != nil {
		t.Fatal(err)
	}
	two.listen(t)
	stranger.listen(t)
	if err := unix.Kill(dies.rec.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.crash()
	next, err := New(within(t, 30*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if got := one.reaches(t, two); got != "tcp icmp udp" {
		t.Errorf("before they are adopted, they reach each other by %q", got)
	}
	adopted, err := next.Adopt(within(t, 30*time.Second))
	if err != nil || len(adopted) != 3 {
		t.Fatalf("%d adopted, %v", len(adopted), err)
	}
	if got := one.reaches(t, two) + one.reaches(t, stranger); got != "tcp icmp udp" {
		t.Errorf("afterwards they reach each other by %q", got)
	}
	if n := pairsOf(t, next); n != 2 {
		t.Errorf("%d pairs, want 2: one of the three is dead", n)
	}
	// What was connected can be connected with more.
	if _, err := next.Connect(t.Context(), one.ID(), stranger.ID()); err != nil {
		t.Error(err)
	}
	if got := one.reaches(t, stranger); got != "tcp icmp udp" {
		t.Errorf("with one more, they reach each other by %q", got)
	}
	for _, x := range adopted {
		if err := x.Destroy(); err != nil {
			t.Error(err)
		}
	}
	if n := pairsOf(t, next); n != 0 {
		t.Errorf("%d pairs are left", n)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	if after := machine(t, next.cfg); len(after) > len(idle) {
		t.Errorf("left behind:\n%s", diff(idle, after))
	}
}

func TestConnectWhileTheyAreDestroyed(t *testing.T) {
	b := open(t, testConfig(t))
	var all []*box
	for range 4 {
		all = append(all, start(t, b, labs.Spec{}))
	}
	var ids []string
	for _, x := range all {
		ids = append(ids, x.ID())
	}
	var mu sync.Mutex
	worked := 0
	var g errgroup.Group
	for i, x := range all {
		g.Go(func() error {
			for range 20 {
				_, err := b.Connect(t.Context(), ids[i], ids[(i+1)%4], ids[(i+2)%4])
				if errors.Is(err, labs.ErrGone) {
					return nil
				}
				if err != nil {
					return err
				}
				mu.Lock()
				worked++
				mu.Unlock()
			}
			return nil
		})
		g.Go(x.Destroy)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if n := pairsOf(t, b); n != 0 {
		t.Errorf("after %d times connected, %d pairs are left", worked, n)
	}
}
