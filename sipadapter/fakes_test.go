package sipadapter

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// fakeResolver answers from a map and counts questions.
type fakeResolver struct {
	mu    sync.Mutex
	naptr map[string][]NAPTR
	srv   map[string][]SRV
	addrs map[string][]netip.Addr
	ttl   time.Duration
	err   error
	asked []string
	gate  chan struct{} // answers wait for it when not nil
}

func (f *fakeResolver) ask(kind, name string) (time.Duration, error) {
	if f.gate != nil {
		<-f.gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, kind+" "+name)
	return f.ttl, f.err
}

func (f *fakeResolver) NAPTR(_ context.Context, name string) ([]NAPTR, time.Duration, error) {
	ttl, err := f.ask("NAPTR", name)
	return f.naptr[name], ttl, err
}

func (f *fakeResolver) SRV(_ context.Context, name string) ([]SRV, time.Duration, error) {
	ttl, err := f.ask("SRV", name)
	return f.srv[name], ttl, err
}

func (f *fakeResolver) Addrs(_ context.Context, name string) ([]netip.Addr, time.Duration, error) {
	ttl, err := f.ask("A", name)
	return f.addrs[name], ttl, err
}

func (f *fakeResolver) questions() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// farm is a resolver with one name whose servers are tried in this order.
func farm(list ...string) *fakeResolver {
	f := &fakeResolver{addrs: map[string][]netip.Addr{}, srv: map[string][]SRV{}, ttl: time.Hour}
	for i, s := range list {
		f.addrs[s+".example.test"] = addrs(s)
		for _, t := range []transport{transportUDP, transportTCP} {
			name := serviceName(t, "example.test")
			f.srv[name] = append(f.srv[name], SRV{Priority: uint16(i), Port: 5060, Target: s + ".example.test."})
		}
	}
	return f
}

// toName is a request to a farm.
func toName(t transport) *messages.SIPRequest {
	r := register()
	r.NextHop = "sip:example.test;transport=" + string(t)
	return r
}

// accepted connects to an adapter that takes connections from a fakeListener.
func accepted(t *testing.T, o Options) (*Adapter, *fakeListener) {
	t.Helper()
	l := &fakeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	o.Listen = []string{"tcp://" + ourAddr.String()}
	a, err := newAdapter(o, seams{listenTCP: func(netip.AddrPort) (net.Listener, error) { return l, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	return a, l
}

// fakeListener hands out pipes.
type fakeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	stop   atomic.Bool
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	if !l.stop.Swap(true) {
		close(l.closed)
	}
	return nil
}
func (l *fakeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(ourAddr) }

func (l *fakeListener) connect() net.Conn {
	near, far := net.Pipe()
	l.conns <- near
	return far
}

// closedAfter reads until the other side closes and says how long that took.
func closedAfter(conn net.Conn) time.Duration {
	start := time.Now()
	_, _ = io.Copy(io.Discard, conn)
	return time.Since(start)
}
