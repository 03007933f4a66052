package local

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"berth/labs"
)

// A member is a sandbox as the firewall knows it.
type member struct {
	slot   slot
	egress labs.Egress
}

// firewall keeps one nftables table. Its rules are the same for all sandboxes;
// what a sandbox may do is a matter of which sets its address is in, so that
// starting one adds a few elements and no rule. Methods may be called
// concurrently.
type firewall struct {
	cfg     Config
	dns     []netip.Addr
	uplinks []string // interfaces towards the outside
	guard   bool     // forwarding is on because of us
	options []nftables.ConnOption

	mu       sync.Mutex
	table    *nftables.Table
	members  *nftables.Set // interface and address that belong together
	mirror   *nftables.Set // addresses that may reach the mirror
	internet *nftables.Set // addresses that may reach the internet
	guarded  *nftables.Set // uplinks from which nothing new is routed
	paired   *nftables.Set // from and to: sandboxes that reach one another
	pairs    map[pair]bool // what is in it; each is there both ways
}

// A pair is two sandboxes that reach one another, the lower slot first.
type pair [2]slot

func pairOf(a, b slot) pair { return pair{min(a, b), max(a, b)} }

// private are the networks that egress "internet" does not include.
var private = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), // metadata services of clouds
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("224.0.0.0/3"), // multicast, reserved, broadcast
}

// The machine has one table for the connections of all, and a connection stays
// in it for minutes after its end. So each sandbox may keep so many open to the
// outside, and make so many a second; those to the mirror are not in it.
const (
	maxConnections = 2000
	maxRate        = 100
)

// open replaces the table, in one step, by one that knows the members and
// which of them reach one another.
func (f *firewall) open(members []member, pairs []pair) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	nft, err := nftables.New(f.options...)
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	f.table = &nftables.Table{Family: nftables.TableFamilyINet, Name: f.cfg.Name}
	// Adding first makes deleting work whether it was there or not.
	nft.AddTable(f.table)
	nft.DelTable(f.table)
	nft.AddTable(f.table)

	f.members = &nftables.Set{Table: f.table, Name: "members", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)}
	f.mirror = &nftables.Set{Table: f.table, Name: "mirror", KeyType: nftables.TypeIPAddr}
	f.internet = &nftables.Set{Table: f.table, Name: "internet", KeyType: nftables.TypeIPAddr}
	f.paired = &nftables.Set{Table: f.table, Name: "paired", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)}
	f.guarded = &nftables.Set{Table: f.table, Name: "guarded", KeyType: nftables.TypeIFName}
	dns := &nftables.Set{Table: f.table, Name: "dns", KeyType: nftables.TypeIPAddr}
	closed := &nftables.Set{Table: f.table, Name: "private", KeyType: nftables.TypeIPAddr, Interval: true}
	counted := &nftables.Set{Table: f.table, Name: "connections", KeyType: nftables.TypeIPAddr, Dynamic: true, Size: maxBoxes}
	timed := &nftables.Set{Table: f.table, Name: "rate", KeyType: nftables.TypeIPAddr, Dynamic: true, Size: maxBoxes}

	var inside, toMirror, toInternet, names, guarded []nftables.SetElement
	for _, m := range members {
		inside = append(inside, nftables.SetElement{Key: f.memberKey(m)})
		if m.egress != labs.EgressNone {
			toMirror = append(toMirror, f.addressKey(m))
		}
		if m.egress == labs.EgressInternet {
			toInternet = append(toInternet, f.addressKey(m))
		}
	}
	f.pairs = map[pair]bool{}
	for _, p := range pairs {
		f.pairs[p] = true
	}
	for _, a := range f.dns {
		if a.Is4() {
			names = append(names, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	if f.guard {
		guarded = f.guardKeys()
	}
	for _, s := range []struct {
		set      *nftables.Set
		elements []nftables.SetElement
	}{{f.members, inside}, {f.mirror, toMirror}, {f.internet, toInternet}, {f.guarded, guarded}, {f.paired, f.pairKeys(slices.Collect(maps.Keys(f.pairs)))}, {dns, names}, {closed, intervals(append(private, f.nearby()...))}, {counted, nil}, {timed, nil}} {
		if err := nft.AddSet(s.set, s.elements); err != nil {
			return fmt.Errorf("make set %s: %w", s.set.Name, err)
		}
	}

	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		return nft.AddChain(&nftables.Chain{Table: f.table, Name: name, Type: kind, Hooknum: hook, Priority: &priority})
	}
	rule := func(c *nftables.Chain, parts ...[]expr.Any) {
		nft.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: slices.Concat(parts...)})
	}
	ours := []byte(f.cfg.linkPrefix()) // compared as a prefix of the name
	from, to := expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME

	// A sandbox speaks IPv4 with its own address, or not at all.
	raw := base("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300)
	rule(raw, meta(from, ours, false), verdict(expr.VerdictReturn))
	rule(raw, meta(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV4}, false), verdict(expr.VerdictDrop))
	rule(raw, []expr.Any{
		&expr.Meta{Key: from, Register: 1},
		&expr.Payload{DestRegister: 2, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: f.members.Name, SetID: f.members.ID, Invert: true},
	}, verdict(expr.VerdictDrop))
	// The machine's table of connections is for those with the outside.
	inPair := func(not bool) []expr.Any {
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 8}, // source and destination
			&expr.Lookup{SourceRegister: 1, SetName: f.paired.Name, SetID: f.paired.ID, Invert: not},
		}
	}
	rule(raw, inPair(false), []expr.Any{&expr.Notrack{}})
	if f.cfg.Mirror != 0 {
		rule(raw, destinationIs(f.cfg.Gateway()), port(unix.IPPROTO_TCP, f.cfg.Mirror), []expr.Any{&expr.Notrack{}})
		answers := base("answers", nftables.ChainTypeFilter, nftables.ChainHookOutput, -300)
		rule(answers, meta(to, ours, true), sourceIs(f.cfg.Gateway()), portAt(0, unix.IPPROTO_TCP, f.cfg.Mirror), []expr.Any{&expr.Notrack{}})
	}

	// Of this machine it reaches the mirror.
	input := base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, -5)
	rule(input, meta(from, ours, false), verdict(expr.VerdictReturn))
	rule(input, established(), verdict(expr.VerdictReturn))
	if f.cfg.Mirror != 0 {
		rule(input, source(f.mirror, false), destinationIs(f.cfg.Gateway()), port(unix.IPPROTO_TCP, f.cfg.Mirror), verdict(expr.VerdictReturn))
	}
	rule(input, refuseTCP())
	rule(input, refuse())

	// A connection that was allowed once does not count: the address may be
	// another sandbox's by now.
	between := nft.AddChain(&nftables.Chain{Table: f.table, Name: "between"})
	rule(between, inPair(true), refuse())

	out := nft.AddChain(&nftables.Chain{Table: f.table, Name: "out"})
	rule(out, source(f.internet, true), refuse())
	count := func(set *nftables.Set, over expr.Any) []expr.Any {
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
			&expr.Dynset{SrcRegKey: 1, SetName: set.Name, SetID: set.ID, Operation: uint32(unix.NFT_DYNSET_OP_ADD), Exprs: []expr.Any{over}},
		}
	}
	rule(out, count(timed, &expr.Limit{Type: expr.LimitTypePkts, Rate: maxRate, Unit: expr.LimitTimeSecond, Burst: 10 * maxRate, Over: true}), refuse())
	rule(out, count(counted, &expr.Connlimit{Count: maxConnections, Flags: 1}), refuse())
	rule(out, destination(dns), port(unix.IPPROTO_UDP, 53), verdict(expr.VerdictReturn))
	rule(out, destination(dns), port(unix.IPPROTO_TCP, 53), verdict(expr.VerdictReturn))
	rule(out, destination(closed), refuse())

	forward := base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, -5)
	rule(forward, meta(from, ours, true), meta(to, ours, true), []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: between.Name}})
	rule(forward, established(), verdict(expr.VerdictReturn))
	rule(forward, meta(from, ours, true), []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: out.Name}})
	rule(forward, meta(to, ours, true), verdict(expr.VerdictDrop))
	// What others have redirected on purpose is theirs to allow.
	rule(forward, []expr.Any{
		&expr.Meta{Key: from, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: f.guarded.Name, SetID: f.guarded.ID},
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(1 << 5), Xor: make([]byte, 4)}, // IPS_DST_NAT
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}, verdict(expr.VerdictDrop))

	nat := base("nat", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	rule(nat, source(f.internet, false), meta(to, ours, false), []expr.Any{&expr.Masq{}})

	if err := nft.Flush(); err != nil {
		return fmt.Errorf("set up the firewall: %w", err)
	}
	return nil
}

// join admits a sandbox.
func (f *firewall) join(m member) error {
	if err := f.change(m, (*nftables.Conn).SetAddElements); err != nil {
		return fmt.Errorf("admit %s through the firewall: %w", f.cfg.address(m.slot), err)
	}
	return nil
}

// leave forgets a sandbox, whether it was admitted or not.
func (f *firewall) leave(m member) error {
	if err := f.part(m.slot); err != nil {
		return fmt.Errorf("take %s off its private network: %w", f.cfg.address(m.slot), err)
	}
	err := f.change(m, (*nftables.Conn).SetDeleteElements)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s from the firewall: %w", f.cfg.address(m.slot), err)
	}
	return nil
}

func (f *firewall) change(m member, what func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	nft, err := nftables.New(f.options...)
	if err != nil {
		return err
	}
	if err := what(nft, f.members, []nftables.SetElement{{Key: f.memberKey(m)}}); err != nil {
		return err
	}
	if m.egress != labs.EgressNone {
		if err := what(nft, f.mirror, []nftables.SetElement{f.addressKey(m)}); err != nil {
			return err
		}
	}
	if m.egress == labs.EgressInternet {
		if err := what(nft, f.internet, []nftables.SetElement{f.addressKey(m)}); err != nil {
			return err
		}
	}
	return nft.Flush()
}

// pair lets sandboxes reach one another. Those that do already may be among
// the pairs.
func (f *firewall) pair(pairs []pair) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	pairs = slices.DeleteFunc(slices.Clone(pairs), func(p pair) bool { return f.pairs[p] })
	if err := f.changePairs(pairs, (*nftables.Conn).SetAddElements); err != nil {
		return err
	}
	for _, p := range pairs {
		f.pairs[p] = true
	}
	return nil
}

// part ends what pair did for a sandbox.
func (f *firewall) part(s slot) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var its []pair
	for p := range f.pairs {
		if p[0] == s || p[1] == s {
			its = append(its, p)
		}
	}
	err := f.changePairs(its, (*nftables.Conn).SetDeleteElements)
	if errors.Is(err, os.ErrNotExist) {
		// Somebody emptied the table. One that is missing must not keep the
		// others.
		err = nil
		for _, p := range its {
			if e := f.changePairs([]pair{p}, (*nftables.Conn).SetDeleteElements); !errors.Is(e, os.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}
	if err != nil {
		return err
	}
	for _, p := range its {
		delete(f.pairs, p)
	}
	return nil
}

func (f *firewall) changePairs(pairs []pair, what func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if len(pairs) == 0 {
		return nil
	}
	nft, err := nftables.New(f.options...)
	if err != nil {
		return err
	}
	if err := what(nft, f.paired, f.pairKeys(pairs)); err != nil {
		return err
	}
	return nft.Flush()
}

// startGuard keeps this machine from routing for others. mu is held.
func (f *firewall) startGuard() error {
	f.guard = true
	keys := f.guardKeys()
	if len(keys) == 0 {
		return nil
	}
	nft, err := nftables.New(f.options...)
	if err == nil {
		err = nft.SetAddElements(f.guarded, keys)
	}
	if err == nil {
		err = nft.Flush()
	}
	if err != nil {
		return fmt.Errorf("keep this machine from routing for others: %w", err)
	}
	return nil
}

// close removes the table.
func (f *firewall) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	nft, err := nftables.New(f.options...)
	if err == nil {
		nft.AddTable(f.table)
		nft.DelTable(f.table)
		err = nft.Flush()
	}
	if err != nil {
		return fmt.Errorf("remove the firewall: %w", err)
	}
	return nil
}

// nearby are the networks that this machine is itself part of.
func (f *firewall) nearby() []netip.Prefix {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil
	}
	var found []netip.Prefix
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			found = append(found, p)
		}
	}
	return found
}

func (f *firewall) memberKey(m member) []byte {
	a := f.cfg.address(m.slot).As4()
	return append(nameKey(f.cfg.link(m.slot)), a[:]...)
}

func (f *firewall) addressKey(m member) nftables.SetElement {
	return nftables.SetElement{Key: f.cfg.address(m.slot).AsSlice()}
}

// pairKeys gives both ways of each pair.
func (f *firewall) pairKeys(pairs []pair) []nftables.SetElement {
	var keys []nftables.SetElement
	for _, p := range pairs {
		a, b := f.cfg.address(p[0]).AsSlice(), f.cfg.address(p[1]).AsSlice()
		keys = append(keys, nftables.SetElement{Key: slices.Concat(a, b)}, nftables.SetElement{Key: slices.Concat(b, a)})
	}
	return keys
}

func (f *firewall) guardKeys() []nftables.SetElement {
	var keys []nftables.SetElement
	for _, name := range f.uplinks {
		keys = append(keys, nftables.SetElement{Key: nameKey(name)})
	}
	return keys
}

// nameKey is an interface name as the kernel compares it.
func nameKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

// intervals turns prefixes into the elements of an interval set, merging those
// that overlap.
func intervals(prefixes []netip.Prefix) []nftables.SetElement {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var elements []nftables.SetElement
	var covered netip.Prefix
	for _, p := range sorted {
		if covered.IsValid() && covered.Overlaps(p) {
			continue // prefixes overlap only when one contains the other
		}
		covered = p
		elements = append(elements, nftables.SetElement{Key: p.Addr().AsSlice()})
		if end, ok := after(p); ok {
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return elements
}

// after is the first address behind a prefix, if there is one.
func after(p netip.Prefix) (netip.Addr, bool) {
	a := p.Masked().Addr().As4()
	n := uint64(a[0])<<24 | uint64(a[1])<<16 | uint64(a[2])<<8 | uint64(a[3])
	n += 1 << (32 - p.Bits())
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), n < 1<<32
}

// The parts of rules.

func meta(key expr.MetaKey, value []byte, is bool) []expr.Any {
	op := expr.CmpOpNeq
	if is {
		op = expr.CmpOpEq
	}
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: value}}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func established() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func source(set *nftables.Set, not bool) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: not},
	}
}

func destination(set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}
}

func sourceIs(a netip.Addr) []expr.Any      { return addressAt(12, a) }
func destinationIs(a netip.Addr) []expr.Any { return addressAt(16, a) }

func addressAt(offset uint32, a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
	}
}

// port matches where a packet goes.
func port(protocol byte, n uint16) []expr.Any { return portAt(2, protocol, n) }

func portAt(offset uint32, protocol byte, n uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(n)},
	}
}

// refuse answers that it is not allowed, so that nobody waits for a time-out.
func refuse() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}

// refuseTCP ends a connection attempt at once.
func refuseTCP() []expr.Any {
	return append(meta(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_TCP}, true), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
}
