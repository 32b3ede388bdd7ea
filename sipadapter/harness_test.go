package sipadapter

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/messages"
)

// The tests' addresses: ours and the registrar's (RFC 5737).
var (
	ourAddr  = netip.MustParseAddrPort("192.0.2.10:5060")
	peerAddr = netip.MustParseAddrPort("192.0.2.20:5060")
)

// datagram is one packet between the adapter and the network.
type datagram struct {
	data []byte
	addr netip.AddrPort // of the other side
	at   time.Time
}

// memConn is a UDP socket without a network, so that it can live in a synctest
// bubble. What the adapter sends is kept and shown to peer, if there is one.
type memConn struct {
	in     chan datagram
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	sent []datagram
	peer func(d datagram) []datagram
	fail error // returned by writes
}

func newMemConn() *memConn {
	return &memConn{in: make(chan datagram, 1024), closed: make(chan struct{})}
}

func (c *memConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-c.in:
		return copy(b, d.data), d.addr, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (c *memConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	d := datagram{bytes.Clone(b), to, time.Now()}
	c.mu.Lock()
	err := c.fail
	if err == nil {
		c.sent = append(c.sent, d)
	}
	peer := c.peer
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if peer != nil {
		for _, answer := range peer(d) {
			c.in <- answer
		}
	}
	return len(b), nil
}

func (c *memConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *memConn) packets() []datagram {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]datagram(nil), c.sent...)
}

// deliver hands a packet to the adapter as if it came from addr.
func (c *memConn) deliver(data []byte, addr netip.AddrPort) {
	c.in <- datagram{data: data, addr: addr}
}

// memAdapter starts an adapter on a memConn. Unless the seams have a dialler
// nobody takes TCP. The caller closes it, inside the bubble if there is one.
func memAdapter(t testing.TB, o Options, s seams) (*Adapter, *memConn) {
	t.Helper()
	conn := newMemConn()
	if len(o.Listen) == 0 {
		o.Listen = []string{"udp://" + ourAddr.String()}
	}
	s.listenUDP = func(addr netip.AddrPort) (packetConn, netip.AddrPort, error) { return conn, addr, nil }
	if s.dial == nil {
		s.dial = noTCP
	}
	a, err := newAdapter(o, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	return a, conn
}

// noTCP is a dialler whom every host refuses.
func noTCP(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
	return nil, syscall.ECONNREFUSED
}

// loopbackAdapter starts an adapter on real sockets of the loopback interface.
func loopbackAdapter(t testing.TB, o Options) *Adapter {
	t.Helper()
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, a) })
	return a
}

func shut(t testing.TB, a *Adapter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := a.Close(ctx); err != nil {
		t.Error(err)
	}
}

// listenAddrOf gives a bound address of one transport.
func listenAddrOf(t testing.TB, a *Adapter, tr transport) netip.AddrPort {
	t.Helper()
	for _, l := range a.listeners {
		if l.transport == tr {
			return l.local
		}
	}
	t.Fatalf("no %s listener", tr)
	return netip.AddrPort{}
}

// register is a plain REGISTER to the test registrar.
func register() *messages.SIPRequest {
	return &messages.SIPRequest{
		NextHop:     "sip:" + peerAddr.String(),
		Method:      "REGISTER",
		RequestURI:  "sip:example.test",
		From:        "sip:alice@example.test",
		FromTag:     "f1",
		To:          "sip:alice@example.test",
		CallID:      "call-1",
		CSeq:        12,
		ContactUser: "alice",
		Expires:     3600,
		Supported:   []string{"path"},
	}
}

// send starts a request and gives the channel on which its outcomes arrive;
// it has room for outcomes that must not happen.
func send(a *Adapter, r *messages.SIPRequest) <-chan messages.SIPOutcome {
	outcomes := make(chan messages.SIPOutcome, 8)
	a.Send(r, func(o messages.SIPOutcome) { outcomes <- o })
	return outcomes
}

// await takes the outcome of a request that is answered.
func await(t testing.TB, outcomes <-chan messages.SIPOutcome) messages.SIPOutcome {
	t.Helper()
	select {
	case o := <-outcomes:
		return o
	case <-time.After(2 * time.Minute):
		t.Fatal("no outcome")
		return messages.SIPOutcome{}
	}
}

// none checks that no further outcome has been reported.
func none(t testing.TB, outcomes <-chan messages.SIPOutcome) {
	t.Helper()
	select {
	case o := <-outcomes:
		t.Errorf("unexpected outcome %+v", o)
	default:
	}
}

// headerLines gives the values of a header in a serialised message.
func headerLines(packet []byte, name string) []string {
	head, _, _ := strings.Cut(string(packet), "\r\n\r\n")
	var values []string
	for l := range strings.SplitSeq(head, "\r\n") {
		n, value, ok := strings.Cut(l, ":")
		if ok && mutation.Canonical(strings.TrimSpace(n)) == mutation.Canonical(name) {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// headerLine is the value of a header that must stand there once.
func headerLine(t testing.TB, packet []byte, name string) string {
	values := headerLines(packet, name)
	t.Helper()
	if len(values) != 1 {
		t.Fatalf("%s stands there %d times, want once:\n%s", name, len(values), packet)
	}
	return values[0]
}

// answerTo builds a response as a server does: Via, From, To, Call-ID and CSeq
// are copied. extra are whole header lines.
func answerTo(request []byte, status string, extra ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %s\r\n", status)
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		for _, value := range headerLines(request, name) {
			if name == "To" && !strings.Contains(value, ";tag=") && !strings.HasPrefix(status, "100") {
				value += ";tag=t1"
			}
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	for _, l := range extra {
		b.WriteString(l + "\r\n")
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	return []byte(b.String())
}

// granted is a 200 that lists the contact of the request.
func granted(request []byte) []byte {
	contacts := headerLines(request, "Contact")
	if len(contacts) == 0 {
		return answerTo(request, "200 OK")
	}
	return answerTo(request, "200 OK", "Contact: "+contacts[0])
}

// recorder is a Counters that remembers.
type recorder struct {
	mu      sync.Mutex
	sent    map[string]int
	again   map[string]int
	codes   map[int]int
	dropped map[string]int
}

func newRecorder() *recorder {
	return &recorder{sent: map[string]int{}, again: map[string]int{}, codes: map[int]int{}, dropped: map[string]int{}}
}

func (r *recorder) count(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *recorder) RequestSent(m string)                { r.count(func() { r.sent[m]++ }) }
func (r *recorder) Retransmitted(m string)              { r.count(func() { r.again[m]++ }) }
func (r *recorder) ResponseReceived(_ string, code int) { r.count(func() { r.codes[code]++ }) }
func (r *recorder) Dropped(reason string)               { r.count(func() { r.dropped[reason]++ }) }

func (r *recorder) drops(reason string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped[reason]
}

// canary is a slog handler that keeps everything, for tests that look for what
// must not be logged.
type canary struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *canary) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(p)
}

func (c *canary) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

func (c *canary) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(c, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func replaceAll(raw []byte, old, with string) []byte {
	return bytes.ReplaceAll(raw, []byte(old), []byte(with))
}
