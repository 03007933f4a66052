package local

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"berth/labs"
)

// network connects sandboxes by a veth pair each. Nothing is bridged: this
// machine routes, and the firewall says what. Methods may be called
// concurrently for different slots.
type network struct {
	cfg      Config
	firewall *firewall
	mtu      int
	dns      []netip.Addr
	forward  string // file that remembers that forwarding was off
}

// gatewayLink is the interface that carries the gateway's address.
func (c Config) gatewayLink() string { return c.Name + "0" }

// openNetwork makes what all sandboxes share. members are the sandboxes that
// are already there; they stay connected throughout, also with one another.
func openNetwork(cfg Config, members []member, pairs []pair) (*network, error) {
	n := &network{cfg: cfg, mtu: 1500, dns: cfg.DNS, forward: filepath.Join(cfg.State, "forwarding-was-off")}
	if len(n.dns) == 0 {
		n.dns = machineResolvers()
	}
	if err := n.checkOverlap(); err != nil {
		return nil, err
	}
	var uplinks []string
	for _, link := range defaultLinks() {
		uplinks = append(uplinks, link.Attrs().Name)
		if mtu := link.Attrs().MTU; mtu >= 576 {
			n.mtu = min(n.mtu, mtu)
		}
	}
	n.firewall = &firewall{cfg: cfg, dns: n.dns, uplinks: uplinks}
	if _, err := os.Stat(n.forward); err == nil {
		n.firewall.guard = true
	}
	if err := n.firewall.open(members, pairs); err != nil {
		return nil, err
	}
	if err := n.makeGateway(); err != nil {
		return nil, errors.Join(err, n.firewall.close())
	}
	return n, nil
}

// checkOverlap refuses a network that this machine uses for something else.
func (n *network) checkOverlap() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list network interfaces: %w", err)
	}
	for _, link := range links {
		if link.Attrs().Name == n.cfg.gatewayLink() {
			continue
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			continue // it went away
		}
		for _, a := range addrs {
			if p, ok := prefixOf(a.IPNet); ok && p.Overlaps(n.cfg.Network) {
				return fmt.Errorf("network %s for sandboxes overlaps with %s on interface %s; choose another network", n.cfg.Network, p, link.Attrs().Name)
			}
		}
	}
	return nil
}

// makeGateway makes the interface that the mirror listens on: a bridge that
// never has a port, because every kernel that can run an engine has bridges.
func (n *network) makeGateway() error {
	name := n.cfg.gatewayLink()
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}})
		if err == nil {
			link, err = netlink.LinkByName(name)
		}
	}
	if err != nil {
		return fmt.Errorf("make interface %s: %w", name, err)
	}
	quietLink(name)
	err = netlink.AddrReplace(link, &netlink.Addr{IPNet: single(n.cfg.Gateway())})
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set up interface %s: %w", name, err)
	}
	return nil
}

// quietLink takes an interface on this side out of everything but IPv4
// forwarding. A setting that the kernel does not have needs no turning off.
func quietLink(name string) {
	for _, s := range []struct{ path, value string }{
		{"ipv6/conf/" + name + "/disable_ipv6", "1"},
		{"ipv4/conf/" + name + "/send_redirects", "0"},
		{"ipv4/conf/" + name + "/accept_redirects", "0"},
		{"ipv4/conf/" + name + "/accept_source_route", "0"},
		{"ipv4/conf/" + name + "/route_localnet", "0"},
	} {
		_ = os.WriteFile("/proc/sys/net/"+s.path, []byte(s.value), 0)
	}
}

// connect gives the network namespace of process pid its interface. The
// firewall must know the member already.
func (n *network) connect(s slot, pid int) error {
	name, addr := n.cfg.link(s), n.cfg.address(s)
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: name, MTU: n.mtu, HardwareAddr: gatewayMAC, TxQLen: 1000})
	pair.PeerName = "eth0"
	pair.PeerMTU = uint32(n.mtu)
	pair.PeerHardwareAddr = n.cfg.mac(s)
	pair.PeerNamespace = netlink.NsPid(pid)
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make link %s: %w", name, err)
	}
	if err := n.configureInside(pid, addr); err != nil {
		return fmt.Errorf("configure network inside: %w", err)
	}
	quietLink(name)
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	index := link.Attrs().Index
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up link %s: %w", name, err)
	}
	// The neighbour is known: nobody has to ask, and nobody can answer falsely.
	err = netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: unix.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: n.cfg.mac(s)})
	if err != nil {
		return fmt.Errorf("set neighbour of link %s: %w", name, err)
	}
	err = netlink.RouteReplace(&netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: single(addr), Src: n.cfg.Gateway().AsSlice()})
	if err != nil {
		return fmt.Errorf("route to link %s: %w", name, err)
	}
	return nil
}

// configureInside sets up eth0 in the network namespace of process pid.
func (n *network) configureInside(pid int, addr netip.Addr) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	if lo, err := h.LinkByName("lo"); err == nil {
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("set up lo: %w", err)
		}
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	index, gateway := eth.Attrs().Index, n.cfg.Gateway()
	if err := h.AddrAdd(eth, &netlink.Addr{IPNet: single(addr)}); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if err := h.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set up eth0: %w", err)
	}
	err = h.NeighSet(&netlink.Neigh{LinkIndex: index, State: unix.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: gatewayMAC})
	if err != nil {
		return fmt.Errorf("set neighbour: %w", err)
	}
	// The gateway is outside the interface's own network, which has one address.
	err = h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
	if err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	return nil
}

// join lets the firewall know a sandbox, before its link is there.
func (n *network) join(m member) error {
	if m.egress == labs.EgressInternet {
		if err := n.startForwarding(); err != nil {
			return err
		}
	}
	return n.firewall.join(m)
}

// pair lets sandboxes that have joined reach one another.
func (n *network) pair(pairs []pair) error {
	if len(pairs) == 0 {
		return nil
	}
	if err := n.startForwarding(); err != nil {
		return err
	}
	return n.firewall.pair(pairs)
}

// leave removes a sandbox's link and what the firewall knows of it.
func (n *network) leave(m member) error {
	return errors.Join(n.removeLink(n.cfg.link(m.slot)), n.firewall.leave(m))
}

func (n *network) removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	// It also goes by itself with the sandbox's network namespace.
	if err == nil || errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("remove link %s: %w", name, err)
}

// links lists the sandbox interfaces on this side.
func (n *network) links() ([]string, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var names []string
	for _, l := range all {
		if strings.HasPrefix(l.Attrs().Name, n.cfg.linkPrefix()) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}

const ipForward = "/proc/sys/net/ipv4/ip_forward"

// startForwarding lets this machine route, for sandboxes that may reach the
// internet. When it did not before, that is remembered and undone by close,
// and until then the firewall keeps the machine from routing for others.
func (n *network) startForwarding() error {
	n.firewall.mu.Lock()
	defer n.firewall.mu.Unlock()
	now, err := os.ReadFile(ipForward)
	if err != nil {
		return fmt.Errorf("read whether this machine routes: %w", err)
	}
	if !bytes.HasPrefix(now, []byte("0")) {
		return nil
	}
	if err := os.WriteFile(n.forward, nil, 0o600); err != nil {
		return fmt.Errorf("remember that this machine did not route: %w", err)
	}
	if err := n.firewall.startGuard(); err != nil {
		return err
	}
	if err := os.WriteFile(ipForward, []byte("1"), 0); err != nil {
		return fmt.Errorf("let this machine route: %w", err)
	}
	return nil
}

// close removes what all sandboxes share. None may be left.
func (n *network) close() error {
	var errs []error
	if err := os.Remove(n.forward); err == nil {
		errs = append(errs, os.WriteFile(ipForward, []byte("0"), 0))
	} else if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	errs = append(errs, n.removeLink(n.cfg.gatewayLink()), n.firewall.close())
	return errors.Join(errs...)
}

// resolvers are the name servers of a sandbox.
func (n *network) resolvers(e labs.Egress) []netip.Addr {
	if e != labs.EgressInternet {
		return nil
	}
	return n.dns
}

// machineResolvers are the name servers that this machine uses, without those
// on the machine itself, which sandboxes do not reach.
func machineResolvers() []netip.Addr {
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var found []netip.Addr
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 2 || fields[0] != "nameserver" {
				continue
			}
			if a, err := netip.ParseAddr(fields[1]); err == nil && a.Is4() && !a.IsLoopback() && !a.IsUnspecified() && len(found) < 3 {
				found = append(found, a)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// defaultLinks are the interfaces with a default route.
func defaultLinks() []netlink.Link {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil
	}
	var links []netlink.Link
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			links = append(links, link)
		}
	}
	return links
}

// single is the network of one address.
func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones).Masked(), ok
}
