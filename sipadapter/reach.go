package sipadapter

import (
	"strings"
	"time"
)

// reach is how a target is reached, and what it is told about us.
type reach struct {
	target target
	// wire is nil for a TCP target, whose connection may come and go, and for one
	// that no UDP socket reaches.
	wire   wire
	sentBy hostPort
	sent   string // the value of our Via up to its parameters
	// contact is our Contact URI from the host on.
	contact string
	source  string    // the target's "address:port"
	until   time.Time // zero: as long as the adapter runs
}

func (r *reach) holds() bool { return r.until.IsZero() || time.Now().Before(r.until) }

// reachOf works out how a target is reached, or remembers it. The address that
// reaches it may change as long as we listen on all of them.
func (a *Adapter) reachOf(t target) *reach {
	if r := a.lastReach.Load(); r != nil && r.target == t && r.holds() {
		return r
	}
	if r, ok := a.reaches.get(t); ok && r.holds() {
		a.lastReach.Store(r)
		return r
	}
	l := a.listenerFor(t)
	r := &reach{target: t, sentBy: l.told, source: t.addr.String()}
	if l.told.host == "" {
		r.sentBy.host, r.until = a.egress.hostFor(t.addr, l.local.Addr())
	}
	r.sent = string(appendSent(nil, t.transport, r.sentBy))
	r.contact = contactHost(r.sentBy, l.transport)
	if t.transport == transportUDP {
		if u := a.socketFor(t.addr.Addr()); u != nil {
			r.wire = udpWire{u, t.addr}
		}
	}
	a.reaches.put(t, r)
	return r
}

// reachOf is the adapter's, for the target of the attempt most often without
// looking it up.
func (c *course) reachOf(t target) *reach {
	if c.reach == nil || c.reach.target != t {
		c.reach = c.a.reachOf(t)
	}
	return c.reach
}

// hop is a next hop that was read.
type hop struct {
	uri string
	nextHop
	// targets has what the next hop names by address, when it does.
	targets [1]target
	numeric bool
}

// hopOf reads the URI that a request is sent to, or remembers it. Most often it
// is that of the request before.
func (a *Adapter) hopOf(uri string) (*hop, error) {
	if h := a.lastHop.Load(); h != nil && h.uri == uri {
		return h, nil
	}
	h, ok := a.hops.get(uri)
	if !ok {
		parsed, err := parseNextHop(uri)
		if err != nil {
			return nil, err
		}
		h = &hop{uri: strings.Clone(uri), nextHop: parsed}
		h.targets[0], h.numeric = parsed.literal()
		a.hops.put(h.uri, h)
	}
	a.lastHop.Store(h)
	return h, nil
}
