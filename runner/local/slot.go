package local

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"berth/labs"
)

// A slot is a sandbox's place on this machine: its range of user ids, its
// address and the name of its network interface follow from it.
type slot int

// firstID is the id outside of user and group 0 inside.
func (c Config) firstID(s slot) int { return int(c.FirstID) + int(s)*idsPerBox }

// address is the IPv4 address of the sandbox. The first address of the network
// is the gateway.
func (c Config) address(s slot) netip.Addr {
	a := c.Network.Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) + 2 + uint32(s)
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}

// linkPrefix begins the names of all sandbox interfaces.
func (c Config) linkPrefix() string { return c.Name + "-" }

// link is the name of the interface on this side.
func (c Config) link(s slot) string { return c.linkPrefix() + strconv.Itoa(int(s)) }

// mac is the hardware address of the interface inside.
func (c Config) mac(s slot) net.HardwareAddr {
	a := c.address(s).As4()
	return net.HardwareAddr{0x0a, 0xbe, a[0], a[1], a[2], a[3]}
}

// gatewayMAC is the hardware address of this side of every link.
var gatewayMAC = net.HardwareAddr{0x0a, 0xbf, 0, 0, 0, 1}

// slots hands out slots; it may be used concurrently.
type slots struct {
	mu   sync.Mutex
	used map[slot]bool
	max  int
	next slot // where to look first, so that a slot rests before it is used again
}

func newSlots(max int) *slots { return &slots{used: map[slot]bool{}, max: max} }

// take gives a slot that nobody has; ErrBusy when all are taken.
func (s *slots) take() (slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.used) >= s.max {
		return 0, fmt.Errorf("all %d places for sandboxes are taken: %w", s.max, labs.ErrBusy)
	}
	for s.used[s.next] {
		s.next = (s.next + 1) % slot(s.max)
	}
	n := s.next
	s.used[n] = true
	s.next = (s.next + 1) % slot(s.max)
	return n, nil
}

// claim takes a certain slot for a sandbox that is already there, and reports
// whether it was free.
func (s *slots) claim(n slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used[n] {
		return false
	}
	s.used[n] = true
	return true
}

func (s *slots) free(n slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, n)
}
