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

// What is sent keeps a connection from being idle.
func TestWritingIsActivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		a, _ := memAdapter(t, Options{ConnectionIdle: time.Minute}, seams{dial: dial})
		defer shut(t, a)
		outcomes := send(a, overTCP(peerAddr))
		theirs := <-far
		var f framer
		_, _ = theirs.Write(granted(readRequest(t, theirs, &f)))
		await(t, outcomes)
		time.Sleep(50 * time.Second)
		outcomes = send(a, overTCP(peerAddr))
		request := readRequest(t, theirs, &f)
		time.Sleep(20 * time.Second)
		_, _ = theirs.Write(granted(request))
		if o := await(t, outcomes); o.Response == nil {
			t.Errorf("outcome %+v", o)
		}
	})
}

// S-35: dialled connections are bounded; targets that only failed give way.
func TestS35_DialledConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		refuse := true
		a, _ := memAdapter(t, Options{MaxConnections: 2}, seams{
			dial: func(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
				if refuse {
					return nil, syscall.EHOSTUNREACH
				}
				return dial(ctx, from, to)
			},
		})
		defer shut(t, a)
		to := func(port uint16) <-chan messages.SIPOutcome {
			outcomes := send(a, overTCP(netip.AddrPortFrom(peerAddr.Addr(), port)))
			synctest.Wait()
			return outcomes
		}
		to(1)
		to(2)
		time.Sleep(holdDown)
		refuse = false
		to(3)
		to(4)
		<-far
		<-far
		if o := await(t, to(5)); o.Failure != messages.ReasonTransport || o.Detail != errConnections.Error() {
			t.Errorf("the third connection: %+v", o)
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
