package sipadapter

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// transport is how a message travels, as a URI parameter spells it.
type transport string

const (
	transportUDP transport = "udp"
	transportTCP transport = "tcp"
)

// defaultPort is for UDP and TCP (RFC 3261 §19.1.2).
const defaultPort = 5060

// target is one place to try.
type target struct {
	transport transport
	addr      netip.AddrPort
}

// listener is where we can be reached.
type listener struct {
	transport transport
	local     netip.AddrPort
	told      hostPort // what peers are told; its host is empty if it depends on them
}

func (a *Adapter) newListener(t transport, local netip.AddrPort) listener {
	l := listener{transport: t, local: unmap(local), told: a.settings.advertise}
	if l.told.host == "" && !l.local.Addr().IsUnspecified() {
		l.told.host = hostOf(l.local.Addr())
	}
	if l.told.port == 0 {
		l.told.port = l.local.Port()
	}
	return l
}

// listenerFor picks the listener that a target answers to: of its transport
// and family if there is one, else the nearest.
func (a *Adapter) listenerFor(t target) listener {
	best, score := listener{}, -1
	for _, l := range a.listeners {
		s := 0
		if l.local.Addr().Is4() == t.addr.Addr().Is4() {
			s += 4
		}
		if l.transport == t.transport {
			s += 2
		}
		if reaches(l.local.Addr(), t.addr.Addr(), true) {
			s++
		}
		if s > score {
			best, score = l, s
		}
	}
	return best
}

// contactFor is our Contact URI for a target. It is decided once per request,
// by the first choice of RFC 3263: neither failover nor a switch to TCP for
// size changes it, because it is what the binding is known by, and because
// RFC 3263 §4.3 wants the request to be identical.
func (a *Adapter) contactFor(user string, t target) string {
	return contactURI(user, a.reachOf(t).contact)
}

// contactAt is our Contact URI at a listener, as a target is told it.
func (a *Adapter) contactAt(user string, l listener, t target) string {
	told := l.told
	if told.host == "" {
		told.host, _ = a.egress.hostFor(t.addr, l.local.Addr())
	}
	return contactURI(user, contactHost(told, l.transport))
}

func contactURI(user, host string) string {
	if user == "" {
		return "sip:" + host
	}
	return "sip:" + escapeUser(user) + "@" + host
}

// contactHost is a Contact URI from the host on.
func contactHost(told hostPort, t transport) string {
	if t == transportTCP {
		return told.String() + ";transport=tcp"
	}
	return told.String()
}

// dialFrom is the address to dial from, so that a node with several addresses
// keeps to the one it listens on; invalid when the system may choose.
func (a *Adapter) dialFrom(to netip.Addr) netip.Addr {
	for _, l := range a.listeners {
		local := l.local.Addr()
		if l.transport == transportTCP && !local.IsUnspecified() && reaches(local, to, true) {
			return local
		}
	}
	return netip.Addr{}
}

// egress remembers which local address reaches a target, for listeners on all
// addresses.
type egress struct {
	mu    sync.Mutex
	known map[netip.Addr]localAddr
}

type localAddr struct {
	addr  netip.Addr
	until time.Time
}

const (
	// routeTTL: a change of address is noticed within a minute.
	routeTTL = time.Minute
	// maxRoutes bounds what redirects could make us remember.
	maxRoutes = 4_096
)

// hostFor is the local address that reaches a target, as the host of a URI or
// Via (RFC 3261 §18.1.1), and how long that is taken for granted.
func (e *egress) hostFor(to netip.AddrPort, otherwise netip.Addr) (string, time.Time) {
	local := e.localFor(to, otherwise)
	return hostOf(local.addr), local.until
}

// localFor asks the system which address it would send from. Connecting a UDP
// socket sends nothing.
func (e *egress) localFor(to netip.AddrPort, otherwise netip.Addr) localAddr {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, ok := e.known[to.Addr()]; ok && now.Before(known.until) {
		return known
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return localAddr{otherwise, now}
	}
	defer func() { _ = conn.Close() }()
	local, _ := conn.LocalAddr().(*net.UDPAddr)
	if e.known == nil || len(e.known) >= maxRoutes {
		e.known = make(map[netip.Addr]localAddr)
	}
	found := localAddr{local.AddrPort().Addr().Unmap(), now.Add(routeTTL)}
	e.known[to.Addr()] = found
	return found
}
