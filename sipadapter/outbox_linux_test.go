package sipadapter

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// collected is an adapter that collects, and a peer that is read by the test.
type collected struct {
	t    *testing.T
	a    *Adapter
	peer *net.UDPConn
}

// newCollected has timers that never fire.
func newCollected(t *testing.T, host string, o Options) collected {
	t.Helper()
	peer, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Skipf("no %s here: %v", host, err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	o.Listen = []string{"udp://" + net.JoinHostPort(host, "0")}
	o.T1, o.T2, o.Collect = time.Hour, time.Hour, true
	return collected{t, loopbackAdapter(t, o), peer}
}

// request has its number as Call-ID.
func (c collected) request(n int) *messages.SIPRequest {
	r := register()
	r.NextHop, r.CallID = "sip:"+c.peer.LocalAddr().String(), fmt.Sprint(n)
	return r
}

// arrived are the Call-IDs that the peer has: what the adapter has sent stands before
// a datagram that is sent now. They are answered.
func (c collected) arrived() string {
	c.t.Helper()
	u := c.a.sockets[0]
	if err := u.write([]byte("mark"), c.peer.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		c.t.Fatal(err)
	}
	var ids []string
	buffer := make([]byte, maxMessage)
	for {
		n, from, err := c.peer.ReadFromUDPAddrPort(buffer)
		if err != nil {
			c.t.Fatal(err)
		}
		packet := bytes.Clone(buffer[:n])
		if string(packet) == "mark" {
			return strings.Join(ids, " ")
		}
		ids = append(ids, headerLine(c.t, packet, "Call-ID"))
		if _, err := c.peer.WriteToUDPAddrPort(granted(packet), from); err != nil {
			c.t.Fatal(err)
		}
	}
}

// Nothing leaves before Flush; then all does, in order.
func TestCollect(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			c := newCollected(t, host, Options{})
			for round := range 3 {
				var outcomes []<-chan messages.SIPOutcome
				for i := range 3 {
					outcomes = append(outcomes, send(c.a, c.request(10*round+i)))
				}
				if got := c.arrived(); got != "" {
					t.Errorf("%s left before Flush", got)
				}
				c.a.Flush()
				c.a.Flush()
				if got, want := c.arrived(), fmt.Sprintf("%d %d %d", 10*round, 10*round+1, 10*round+2); got != want {
					t.Errorf("%q left, want %q", got, want)
				}
				for _, o := range outcomes {
					if o := await(t, o); o.Response == nil || o.Sent.IsZero() {
						t.Errorf("outcome %+v", o)
					}
				}
			}
		})
	}
}

// What no Flush may follow leaves at once: a full mail, a request that is none of the
// usual ones, and one that left Send to ask DNS.
func TestCollectIsBounded(t *testing.T) {
	resolver := farm("127.0.0.1")
	c := newCollected(t, "127.0.0.1", Options{Resolver: resolver})
	for name := range resolver.srv {
		resolver.srv[name][0].Port = uint16(c.peer.LocalAddr().(*net.UDPAddr).Port)
	}
	for i := range maxCollected + 1 {
		send(c.a, c.request(i))
	}
	if n := len(strings.Fields(c.arrived())); n != maxCollected {
		t.Errorf("%d left by themselves", n)
	}
	c.a.Flush()
	if got := c.arrived(); got != fmt.Sprint(maxCollected) {
		t.Errorf("%s left with Flush", got)
	}
	unusual := c.request(1)
	unusual.Headers = []messages.Header{{Name: "X-A", Value: "b"}}
	send(c.a, unusual)
	if got := c.arrived(); got != "1" {
		t.Errorf("%q left, want the unusual one", got)
	}
	resolver.gate = make(chan struct{})
	named := func() *messages.SIPRequest {
		r := c.request(2)
		r.NextHop = toName(transportUDP).NextHop
		return r
	}
	first := send(c.a, named())
	close(resolver.gate)
	buffer := make([]byte, maxMessage)
	n, from, err := c.peer.ReadFromUDPAddrPort(buffer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.peer.WriteToUDPAddrPort(granted(buffer[:n]), from); err != nil {
		t.Fatal(err)
	}
	await(t, first)
	second := send(c.a, named())
	if got := c.arrived(); got != "" {
		t.Errorf("%q left although nobody had to be asked", got)
	}
	c.a.Flush()
	if got := c.arrived(); got != "2" {
		t.Errorf("%q left with Flush", got)
	}
	await(t, second)
}

// A datagram that cannot be sent ends its own request and no other, and what is not
// sent when the adapter closes has an outcome as well.
func TestCollectErrors(t *testing.T) {
	c := newCollected(t, "127.0.0.1", Options{})
	// Nothing goes from the loopback interface to anywhere else.
	far := target{transportUDP, peerAddr}
	c.a.reaches.put(far, &reach{target: far, wire: udpWire{c.a.sockets[0], peerAddr}, sentBy: hostPort{"127.0.0.1", 9}, contact: "127.0.0.1:9"})
	var outcomes []<-chan messages.SIPOutcome
	bad := []int{0, 3, 4, 7}
	for i := range 8 {
		r := c.request(i)
		if slices.Contains(bad, i) {
			r.NextHop = "sip:" + peerAddr.String()
		}
		outcomes = append(outcomes, send(c.a, r))
	}
	c.a.Flush()
	if got := c.arrived(); got != "1 2 5 6" {
		t.Errorf("%s left", got)
	}
	for i, outcome := range outcomes {
		o := await(t, outcome)
		if failed := slices.Contains(bad, i); failed != (o.Failure == messages.ReasonTransport) || failed != o.Sent.IsZero() {
			t.Errorf("request %d: %+v", i, o)
		}
		none(t, outcome)
	}
	left := send(c.a, c.request(9))
	shut(t, c.a)
	c.a.Flush()
	if o := await(t, left); o.Failure != messages.ReasonTransport {
		t.Errorf("outcome %+v", o)
	}
	none(t, left)
}

// The socket's own error ends all that it was to send.
func TestCollectClosedSocket(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	c := newCollected(t, "127.0.0.1", Options{})
	o := newOutbox(c.a.table, conn, local)
	_ = conn.Close()
	var ends []error
	post := func(k branchKey) {
		due := o.post(&transaction{
			key: k, method: "REGISTER", machine: newNonInvite(c.a.timers, false), wire: udpWire{c.a.sockets[0], local},
			text: fixedText("x"), report: reportFunc(func(r result) { ends = append(ends, r.err) }),
		}, local, time.Now())
		due.pay()
	}
	for i := range 3 {
		post(branchKey{byte(i)})
	}
	if !o.takes(local) || o.takes(netip.MustParseAddrPort("[::1]:5060")) {
		t.Error("takes the other family")
	}
	o.flush()
	if len(ends) != 3 || !errors.Is(errors.Join(ends...), net.ErrClosed) {
		t.Errorf("ends %v", ends)
	}
	post(branchKey{3}) // stays
	shut(t, c.a)
	post(branchKey{4})
	if len(ends) != 5 || !errors.Is(ends[4], errClosed) || o.open.count != 1 || string(o.open.buffer) != "x" {
		t.Errorf("ends %v, %d datagrams are left", ends, o.open.count)
	}
}

// fixedText is a request that is written already.
type fixedText string

func (s fixedText) appendTo(b []byte) []byte { return append(b, s...) }

func (s fixedText) echoed(*message) bool { return false }
