package sipadapter

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emiago/sipgo/sip"
	"golang.org/x/time/rate"

	"github.com/sipmuster/muster/messages"
)

// Adapter sends requests and receives messages. Its methods are safe for
// concurrent use. It satisfies actors.Sender.
type Adapter struct {
	opts     Options
	settings settings
	log      *slog.Logger
	counters Counters
	timers   timerValues
	parser   *sip.Parser
	entropy  entropy
	stats    stats
	table    *table
	servers  *servers
	resolver *finder
	avoid    *avoidance
	streams  *streams
	egress   egress
	hops     cache[string, *hop]
	lastHop  atomic.Pointer[hop]
	reaches  cache[target, *reach]
	// lastReach is one of reaches.
	lastReach atomic.Pointer[reach]
	routes    cache[string, string]
	replies   *rate.Limiter
	tagSeed   maphash.Seed
	allowed   map[netip.Addr]bool
	dropLog   dropLog
	seams     seams

	// Set by Start, constant afterwards.
	sockets   []*udpSocket
	listeners []listener
	accepting []net.Listener

	ctx    context.Context // ends with the adapter
	cancel context.CancelFunc
	state  atomic.Int32 // one of the states below
	mu     sync.Mutex   // guards state changes and spawn
	wg     sync.WaitGroup
}

const (
	stateNew int32 = iota
	stateRunning
	stateClosed
)

// seams are what tests replace.
type seams struct {
	listenUDP func(netip.AddrPort) (packetConn, netip.AddrPort, error)
	listenTCP func(netip.AddrPort) (net.Listener, error)
	dial      dialer
	// plain makes a usual REGISTER and its response go the way of all others.
	plain bool
}

// New checks the options. Nothing runs until Start.
func New(o Options) (*Adapter, error) { return newAdapter(o, seams{}) }

func newAdapter(o Options, s seams) (*Adapter, error) {
	o = o.withDefaults()
	set, err := o.validate()
	if err != nil {
		return nil, err
	}
	a := &Adapter{
		opts: o, settings: set, seams: s,
		log:      o.Logger.With("component", "sipadapter"),
		counters: o.Counters,
		timers:   timerValues{o.T1, o.T2, o.T4},
		parser:   newParser(),
		avoid:    newAvoidance(),
		replies:  newReplyLimit(o.InboundRate),
		tagSeed:  maphash.MakeSeed(),
		allowed:  make(map[netip.Addr]bool),
	}
	for _, addr := range o.AllowSources {
		a.allowed[addr.Unmap().WithZone("")] = true
	}
	if a.seams.listenUDP == nil {
		a.seams.listenUDP = a.listenUDP
	}
	if a.seams.listenTCP == nil {
		a.seams.listenTCP = listenTCP
	}
	if a.seams.dial == nil {
		a.seams.dial = dialTCP
	}
	a.table = newTable(a.countRetransmission)
	a.servers = newServers(a, o.MaxPending)
	a.streams = newStreams(a, a.seams.dial)
	a.ctx, a.cancel = context.WithCancel(context.Background())
	resolver := o.Resolver
	if resolver == nil {
		resolver = newDNS(o.Nameservers)
	}
	a.resolver = newFinder(a, resolver)
	return a, nil
}

// Start binds the listeners and begins to read. On an error nothing is left
// running and the adapter cannot be used.
func (a *Adapter) Start() error {
	a.mu.Lock()
	if a.state.Load() != stateNew {
		a.mu.Unlock()
		return errors.New("start the SIP adapter: it was started before")
	}
	err := a.bind()
	if err == nil {
		a.state.Store(stateRunning)
	}
	a.mu.Unlock()
	if err != nil {
		_ = a.Close(context.Background())
		return err
	}
	for _, u := range a.sockets {
		a.spawn(u.read)
	}
	for _, l := range a.accepting {
		a.spawn(func() { a.streams.accept(l) })
	}
	return nil
}

func (a *Adapter) bind() error {
	for _, l := range a.settings.listen {
		if l.transport == transportUDP {
			conn, local, err := a.seams.listenUDP(l.addr)
			if err != nil {
				return listenError(l, err)
			}
			u := &udpSocket{a: a, conn: conn, local: unmap(local)}
			if a.opts.Collect {
				u.out = newOutbox(a.table, conn, u.local)
			}
			a.sockets = append(a.sockets, u)
			a.listeners = append(a.listeners, a.newListener(transportUDP, local))
			continue
		}
		accepting, err := a.seams.listenTCP(l.addr)
		if err != nil {
			return listenError(l, err)
		}
		a.accepting = append(a.accepting, accepting)
		local, err := netip.ParseAddrPort(accepting.Addr().String())
		if err != nil {
			return listenError(l, err)
		}
		a.listeners = append(a.listeners, a.newListener(transportTCP, local))
	}
	return nil
}

// listenError says which setting to change.
func listenError(l listenAddr, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %s: the port is taken by another program; choose another port in sip.listen or stop that program: %w", l.text, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen on %s: this machine has no such address; correct it in sip.listen: %w", l.text, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen on %s: not permitted; choose a port above 1023 in sip.listen: %w", l.text, err)
	}
	return fmt.Errorf("listen on %s: %w", l.text, err)
}

func (a *Adapter) listenUDP(addr netip.AddrPort) (packetConn, netip.AddrPort, error) {
	conn, err := net.ListenUDP(network("udp", addr), net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, addr, err
	}
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if want := a.opts.SocketBuffer; want > 0 {
		readErr, writeErr := conn.SetReadBuffer(want), conn.SetWriteBuffer(want)
		if granted := grantedBuffer(conn); granted < want || errors.Join(readErr, writeErr) != nil {
			a.log.Info("the system grants a smaller socket buffer than asked for; raise net.core.rmem_max against loss in bursts",
				"listen", local.String(), "asked", want, "granted", granted)
		}
	}
	return conn, local, nil
}

func listenTCP(addr netip.AddrPort) (net.Listener, error) {
	return net.ListenTCP(network("tcp", addr), net.TCPAddrFromAddrPort(addr))
}

// network keeps the families apart: an IPv6 socket that also took IPv4 would
// hide which address a peer sees.
func network(name string, addr netip.AddrPort) string {
	if addr.Addr().Is4() {
		return name + "4"
	}
	return name + "6"
}

// Addrs are the bound addresses in the order of Options.Listen, such as
// "udp://127.0.0.1:5070".
func (a *Adapter) Addrs() []string {
	var addrs []string
	for _, l := range a.listeners {
		addrs = append(addrs, string(l.transport)+"://"+l.local.String())
	}
	return addrs
}

// Close ends what is pending with ReasonTransport, closes the sockets and
// waits, as long as ctx allows, until nothing runs. It may be called again.
func (a *Adapter) Close(ctx context.Context) error {
	a.mu.Lock()
	first := a.state.Swap(stateClosed) != stateClosed
	a.mu.Unlock()
	if first {
		a.cancel()
		a.table.close()
		a.servers.close()
		a.streams.close()
		for _, l := range a.accepting {
			_ = l.Close()
		}
		for _, u := range a.sockets {
			_ = u.conn.Close()
		}
	}
	done := make(chan struct{})
	go func() {
		a.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the SIP adapter: %w", ctx.Err())
	}
}

// spawn runs f unless the adapter is closed.
func (a *Adapter) spawn(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state.Load() == stateClosed {
		return false
	}
	a.wg.Go(f)
	return true
}

// sleep returns false when the adapter closed meanwhile.
func (a *Adapter) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.ctx.Done():
		return false
	}
}

func (a *Adapter) countRetransmission(method string) {
	a.stats.retransmitted.Add(1)
	a.counters.Retransmitted(method)
}

// sender is what the actors need; it keeps the signature in step with theirs
// without importing them.
type sender interface {
	Send(req *messages.SIPRequest, done func(messages.SIPOutcome))
	Invite(req *messages.SIPRequest, report func(messages.InviteReport)) messages.Invitation
	Ack(req *messages.SIPRequest)
}

var _ sender = (*Adapter)(nil)
