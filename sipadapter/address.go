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

// reachedAt is the address that a target is told: the advertised one, or the
// local address that reaches it (RFC 3261 §18.1.1).
func (a *Adapter) reachedAt(l listener, t target) hostPort {
	h := l.told
	if h.host == "" {
		h.host = hostOf(a.egress.localFor(t.addr, l.local.Addr()))
	}
	return h
}

// contactFor is our Contact URI for a target. It is decided once per request,
// by the first choice of RFC 3263: neither failover nor a switch to TCP for
// size changes it, because it is what the binding is known by, and because
// RFC 3263 §4.3 wants the request to be identical.
func (a *Adapter) contactFor(user string, t target) string {
	return a.contactAt(user, a.listenerFor(t), t)
}

// contactAt is our Contact URI at a listener, as a target is told it.
func (a *Adapter) contactAt(user string, l listener, t target) string {
	contact := "sip:"
	if user != "" {
		contact += escapeUser(user) + "@"
	}
	contact += a.reachedAt(l, t).String()
	if l.transport == transportTCP {
		contact += ";transport=tcp"
	}
	return contact
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

// localFor asks the system which address it would send from. Connecting a UDP
// socket sends nothing.
func (e *egress) localFor(to netip.AddrPort, otherwise netip.Addr) netip.Addr {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, ok := e.known[to.Addr()]; ok && now.Before(known.until) {
		return known.addr
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return otherwise
	}
	defer func() { _ = conn.Close() }()
	local, _ := conn.LocalAddr().(*net.UDPAddr)
	if e.known == nil || len(e.known) >= maxRoutes {
		e.known = make(map[netip.Addr]localAddr)
	}
	found := local.AddrPort().Addr().Unmap()
	e.known[to.Addr()] = localAddr{found, now.Add(routeTTL)}
	return found
}
