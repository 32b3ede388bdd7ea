package sipadapter

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	// dialTimeout bounds how long a TCP handshake may take.
	dialTimeout = 5 * time.Second
	// holdDown is how long a failed dial answers for the next ones, so that a
	// dead target is not dialled once per profile.
	holdDown = time.Second
)

var errConnections = errors.New("too many connections")

// dialer opens a TCP connection.
type dialer func(ctx context.Context, local netip.Addr, to netip.AddrPort) (net.Conn, error)

func dialTCP(ctx context.Context, local netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	return d.DialContext(ctx, "tcp", to.String())
}

// isRefused: a reset, or ICMP saying that the protocol or port is unreachable.
func isRefused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.ENOPROTOOPT) || errors.Is(err, syscall.EPROTONOSUPPORT)
}

// streams are the TCP connections: one dialled per target, shared by all
// profiles, and the accepted ones.
type streams struct {
	a    *Adapter
	dial dialer

	mu       sync.Mutex
	dialled  map[netip.AddrPort]*stream
	accepted map[*stream]struct{}
	closed   bool
}

func newStreams(a *Adapter, dial dialer) *streams {
	return &streams{
		a: a, dial: dial,
		dialled: make(map[netip.AddrPort]*stream), accepted: make(map[*stream]struct{}),
	}
}

// to gives the connection to a target, dialling one in the background when
// there is none.
func (p *streams) to(target netip.AddrPort) (*stream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if s, ok := p.dialled[target]; ok && !s.replaceable() {
		return s, nil
	}
	if len(p.dialled) >= p.a.opts.MaxConnections && !p.makeRoom() {
		return nil, errConnections
	}
	s := newStream(p.a, target, true)
	p.dialled[target] = s
	p.a.spawn(func() { p.connect(s) })
	return s, nil
}

// refusing tells whether the last attempt to connect to a target found that it
// wants no TCP.
func (p *streams) refusing(target netip.AddrPort) bool {
	p.mu.Lock()
	s := p.dialled[target]
	p.mu.Unlock()
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause != nil && s.refusedTCP(s.cause)
}

// replaceable: a stream that is in the pool although it is dead holds down its
// target for a while.
func (s *stream) replaceable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause != nil && time.Since(s.diedAt) >= holdDown
}

// makeRoom forgets targets that are only held down.
func (p *streams) makeRoom() bool {
	for target, s := range p.dialled {
		if s.replaceable() {
			delete(p.dialled, target)
		}
	}
	return len(p.dialled) < p.a.opts.MaxConnections
}

func (p *streams) connect(s *stream) {
	ctx, cancel := context.WithTimeout(p.a.ctx, dialTimeout)
	conn, err := p.dial(ctx, p.a.dialFrom(s.peer.Addr()), s.peer)
	cancel()
	if err != nil {
		s.die(err)
		return
	}
	s.run(conn)
}

// forget removes a connection that ended. One that was never connected stays,
// dead, and holds down its target.
func (p *streams) forget(s *stream, connected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.accepted, s)
	if connected && p.dialled[s.peer] == s {
		delete(p.dialled, s.peer)
	}
}

// accept serves one TCP listener until it is closed.
func (p *streams) accept(l net.Listener) {
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.a.log.Warn("tcp accept", "listen", l.Addr().String(), "error", err)
			if !p.a.sleep(pause) {
				return
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		p.admit(conn)
	}
}

// admit takes a connection from outside, if there is room (S-35).
func (p *streams) admit(conn net.Conn) {
	peer, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	s := newStream(p.a, unmap(peer), false)
	p.mu.Lock()
	room := !p.closed && len(p.accepted) < p.a.opts.MaxConnections
	if room {
		p.accepted[s] = struct{}{}
	}
	p.mu.Unlock()
	if !room || !p.a.spawn(func() { s.run(conn) }) {
		_ = conn.Close()
	}
}

// close ends all connections.
func (p *streams) close() {
	p.mu.Lock()
	p.closed = true
	var all []*stream
	for _, s := range p.dialled {
		all = append(all, s)
	}
	for s := range p.accepted {
		all = append(all, s)
	}
	p.mu.Unlock()
	for _, s := range all {
		s.die(errClosed)
	}
}
