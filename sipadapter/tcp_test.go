package sipadapter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/messages"
)

// overTCP is a request to a TCP target.
func overTCP(to netip.AddrPort) *messages.SIPRequest {
	r := register()
	r.NextHop = "sip:" + to.String() + ";transport=tcp"
	return r
}

// One connection serves all profiles.
func TestTCPConnectionIsShared(t *testing.T) {
	server := newTCPPeer(t, granted)
	a := loopbackAdapter(t, Options{})
	var all []<-chan messages.SIPOutcome
	for i := range 200 {
		r := overTCP(server.addr())
		r.CallID = fmt.Sprint("call-", i)
		all = append(all, send(a, r))
	}
	for _, outcomes := range all {
		o := await(t, outcomes)
		if o.Response == nil || o.Response.Contact != messages.ContactOurs || o.Response.Source != server.addr().String() {
			t.Fatalf("outcome %+v", o)
		}
		if !strings.HasSuffix(o.Response.Contacts[0].URI, listenAddrOf(t, a, transportTCP).String()+";transport=tcp") {
			t.Fatalf("contact %v", o.Response.Contacts)
		}
	}
	if n := server.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// After a loss the next request opens another connection.
func TestTCPReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		a, _ := memAdapter(t, Options{}, seams{dial: dial})
		defer shut(t, a)
		for range 3 {
			outcomes := send(a, overTCP(peerAddr))
			theirs := <-far
			_, _ = theirs.Write(granted(readRequest(t, theirs, &framer{})))
			if o := await(t, outcomes); o.Response == nil {
				t.Fatalf("outcome %+v", o)
			}
			_ = theirs.Close()
			synctest.Wait()
		}
		if s := a.Stats(); s.Connections != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// pipes is a dial seam: the far ends of the connections arrive on its channel.
func pipes() (dialer, <-chan net.Conn) {
	far := make(chan net.Conn, 16)
	return func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
		near, other := net.Pipe()
		far <- other
		return near, nil
	}, far
}

// readRequest reads one message from the far end.
func readRequest(t testing.TB, conn net.Conn, f *framer) []byte {
	t.Helper()
	for {
		raw, err := f.next()
		if err != nil {
			t.Fatal(err)
		}
		if raw != nil {
			return bytes.Clone(raw)
		}
		n, err := conn.Read(f.space())
		if err != nil {
			t.Fatal(err)
		}
		f.filled(n)
	}
}

// S-04: on a stream the answer must come over the same connection.
func TestS04_AnotherConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{dial: dial})
		defer shut(t, a)
		outcomes := send(a, overTCP(peerAddr))
		theirs := <-far
		request := readRequest(t, theirs, &framer{})
		conn.deliver(granted(request), peerAddr) // by UDP
		other := newStream(a, peerAddr, false)   // by another connection
		a.receive(granted(request), origin{from: peerAddr, stream: other})
		synctest.Wait()
		none(t, outcomes)
		if counters.drops(dropSource) != 2 {
			t.Errorf("drops %v", counters.dropped)
		}
		_, _ = theirs.Write(granted(request))
		if o := await(t, outcomes); o.Response == nil {
			t.Errorf("outcome %+v", o)
		}
	})
}

// A stream is not retransmitted on, and Timer F ends the wait; a connection
// that stayed silent is not trusted any longer.
func TestTCPTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		a, _ := memAdapter(t, Options{}, seams{dial: dial})
		defer shut(t, a)
		outcomes := send(a, overTCP(peerAddr))
		theirs := <-far
		var f framer
		readRequest(t, theirs, &f)
		start := time.Now()
		o := await(t, outcomes)
		if o.Failure != messages.ReasonTimeout || time.Since(start) != 32*time.Second {
			t.Errorf("outcome %+v after %v", o, time.Since(start))
		}
		if _, err := theirs.Read(f.space()); !errors.Is(err, io.EOF) {
			t.Errorf("the connection goes on: %v", err)
		}
	})
}

// GEN-15: on a stream Content-Length is mandatory and bounded; its end of a
// message is exact.
func TestGEN15_Framing(t *testing.T) {
	const head = "SIP/2.0 200 OK\r\nVia: x\r\n"
	feed := func(chunk int, text string) (messages []string, pings int, err error) {
		var f framer
		for i := 0; i < len(text) && err == nil; i += chunk {
			part := text[i:min(i+chunk, len(text))]
			for part != "" && err == nil {
				n := copy(f.space(), part)
				f.filled(n)
				part = part[n:]
				for {
					var raw []byte
					if raw, err = f.next(); err != nil || raw == nil {
						break
					}
					messages = append(messages, string(raw))
				}
			}
		}
		return messages, f.pings, err
	}
	first := head + "Content-Length: 3\r\n\r\nabc"
	second := head + "l : 0\r\n\r\n"
	for _, chunk := range []int{1, 2, 7, 1 << 20} {
		got, pings, err := feed(chunk, "\r\n\r\n"+first+second+"\r\n"+first+"\r\n\r\n\r\n\r\n")
		if err != nil || len(got) != 3 || got[0] != first || got[1] != second || got[2] != first || pings != 3 {
			t.Errorf("chunks of %d: %q, %d pings, %v", chunk, got, pings, err)
		}
		big := head + "Content-Length: 60000\r\n\r\n" + strings.Repeat("b", 60_000)
		if got, _, err := feed(chunk, big+big); err != nil || len(got) != 2 || got[1] != big {
			t.Errorf("chunks of %d: %d large messages, %v", chunk, len(got), err)
		}
	}
	for name, text := range map[string]string{
		"missing":      head + "\r\n",
		"negative":     head + "Content-Length: -1\r\n\r\n",
		"not a number": head + "Content-Length: 3x\r\n\r\n",
		"plus":         head + "Content-Length: +3\r\n\r\n",
		"empty":        head + "Content-Length:\r\n\r\n",
		"twice":        head + "Content-Length: 0\r\nl: 0\r\n\r\n",
		"S-32 huge":    head + "Content-Length: 2147483647\r\n\r\n",
		"over 64 KiB":  head + "Content-Length: 65536\r\n\r\n",
		"endless":      head + "X: " + strings.Repeat("a", 66_000),
	} {
		if got, _, err := feed(1<<20, text); err == nil {
			t.Errorf("%s: accepted %q", name, got)
		}
	}
	// S-32: nothing is reserved by what a length promises.
	var f framer
	f.filled(copy(f.space(), head+"Content-Length: 65000\r\n\r\n"))
	if _, err := f.next(); err != nil || len(f.buf) > 8192 {
		t.Errorf("%v, %d bytes reserved", err, len(f.buf))
	}
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

// S-32: idle connections, and those on which a message never ends, are closed.
func TestS32_SlowConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, l := accepted(t, Options{ConnectionIdle: time.Minute})
		defer shut(t, a)
		if d := closedAfter(l.connect()); d != time.Minute {
			t.Errorf("an idle one is closed after %v", d)
		}
		slow := l.connect()
		go func() {
			for {
				if _, err := slow.Write([]byte("O")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if d := closedAfter(slow); d != messageTimeout {
			t.Errorf("a slow one is closed after %v", d)
		}
		alive := l.connect()
		go func() {
			for range 5 {
				time.Sleep(50 * time.Second)
				_, _ = alive.Write([]byte("\r\n\r\n"))
			}
		}()
		if d := closedAfter(alive); d != 250*time.Second+time.Minute {
			t.Errorf("one with keep-alives is closed after %v", d)
		}
	})
}

// RFC 5626 §3.5.1: a double CRLF is answered by one.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, l := accepted(t, Options{})
		defer shut(t, a)
		conn := l.connect()
		for _, ping := range []string{"\r\n\r\n", "\r\n\r\n"} {
			if _, err := conn.Write([]byte(ping)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 16)
			if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "\r\n" {
				t.Errorf("pong %q, %v", buf[:n], err)
			}
		}
		_ = conn.Close()
	})
}

// S-35: connections are bounded.
func TestS35_Connections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, l := accepted(t, Options{MaxConnections: 2})
		defer shut(t, a)
		first, second := l.connect(), l.connect()
		synctest.Wait()
		if d := closedAfter(l.connect()); d != 0 {
			t.Errorf("the third is closed after %v", d)
		}
		_ = first.Close()
		synctest.Wait()
		if s := a.Stats(); s.Connections != 1 {
			t.Errorf("stats %+v", s)
		}
		_ = second.Close()
	})
}

// A peer that does not read cannot hold memory or the writer for ever.
func TestPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		a, _ := memAdapter(t, Options{}, seams{dial: dial})
		defer shut(t, a)
		outcomes := send(a, overTCP(peerAddr))
		<-far
		start := time.Now()
		if o := await(t, outcomes); o.Failure != messages.ReasonTransport || time.Since(start) != writeTimeout {
			t.Errorf("outcome %+v after %v", o, time.Since(start))
		}
	})
}

func TestWriteQueueIsBounded(t *testing.T) {
	a, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newStream(a, peerAddr, true)
	chunk := make([]byte, 1<<20)
	sent := 0
	for s.send(chunk) == nil {
		sent++
	}
	if sent != maxQueued>>20 || !errors.Is(s.send(chunk), errQueueFull) {
		t.Errorf("%d MiB queued", sent)
	}
}

// A target that refuses is dialled once per second, not once per request.
func TestHoldDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int32
		a, _ := memAdapter(t, Options{}, seams{dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
			dials.Add(1)
			return nil, syscall.ECONNREFUSED
		}})
		defer shut(t, a)
		for range 3 {
			for range 100 {
				if o := await(t, send(a, overTCP(peerAddr))); o.Failure != messages.ReasonTransport {
					t.Fatalf("outcome %+v", o)
				}
			}
			time.Sleep(holdDown)
		}
		if dials.Load() != 3 {
			t.Errorf("%d dials", dials.Load())
		}
	})
}

// A dial that hangs ends by its timeout, and its requests with it.
func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := memAdapter(t, Options{}, seams{dial: func(ctx context.Context, _ netip.Addr, _ netip.AddrPort) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		defer shut(t, a)
		start := time.Now()
		o := await(t, send(a, overTCP(peerAddr)))
		if o.Failure != messages.ReasonTransport || time.Since(start) != dialTimeout || !o.Sent.IsZero() {
			t.Errorf("outcome %+v after %v", o, time.Since(start))
		}
	})
}
