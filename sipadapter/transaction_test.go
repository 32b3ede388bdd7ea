package sipadapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// sinceFirst are the instants of a conversation, relative to its first packet.
func sinceFirst(packets []datagram) []time.Duration {
	var at []time.Duration
	for _, p := range packets {
		at = append(at, p.at.Sub(packets[0].at))
	}
	return at
}

func seconds(s ...float64) []time.Duration {
	var d []time.Duration
	for _, v := range s {
		d = append(d, time.Duration(v*float64(time.Second)))
	}
	return d
}

// TRX-01: doubling from T1, capped at T2, eleven transmissions, over after
// 64*T1. GEN-17: the timeout is reported without a response.
func TestTRX01_UnansweredRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		var resent atomic.Int32
		r := register()
		r.Retransmitted = func() { resent.Add(1) }
		start := time.Now()
		outcomes := send(a, r)
		o := await(t, outcomes)
		want := seconds(0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)
		if diff := cmp.Diff(want, sinceFirst(conn.packets())); diff != "" {
			t.Errorf("transmissions (-want +got):\n%s", diff)
		}
		if o.Response != nil || o.Failure != messages.ReasonTimeout || !o.Sent.Equal(start) {
			t.Errorf("outcome %+v", o)
		}
		if took := time.Since(start); took != 32*time.Second {
			t.Errorf("gave up after %v, want 32s", took)
		}
		synctest.Wait()
		if resent.Load() != 10 || counters.again["REGISTER"] != 10 || counters.sent["REGISTER"] != 1 {
			t.Errorf("resent %d, counted %v %v", resent.Load(), counters.again, counters.sent)
		}
		for _, p := range conn.packets() {
			if string(p.data) != string(conn.packets()[0].data) {
				t.Fatal("a retransmission differs")
			}
		}
		time.Sleep(time.Minute)
		none(t, outcomes)
		if s := a.Stats(); s.Pending != 0 || s.Retransmitted != 10 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TRX-02: a 1xx slows retransmission down to T2 and does not stop Timer F.
func TestTRX02_ProvisionalResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		conn.peer = func(d datagram) []datagram {
			return []datagram{{data: answerTo(d.data, "100 Trying"), addr: peerAddr}}
		}
		start := time.Now()
		o := await(t, send(a, register()))
		// Timer E runs on as it was set and is then set to T2.
		want := seconds(0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5)
		if diff := cmp.Diff(want, sinceFirst(conn.packets())); diff != "" {
			t.Errorf("transmissions (-want +got):\n%s", diff)
		}
		if o.Failure != messages.ReasonTimeout || time.Since(start) != 32*time.Second {
			t.Errorf("outcome %+v after %v", o, time.Since(start))
		}
	})
}

// TRX-09: Timer K absorbs repeats of the final response for T4; one outcome.
func TestTRX09_RepeatedFinalResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		outcomes := send(a, register())
		synctest.Wait()
		answer := answerTo(conn.packets()[0].data, "401 Unauthorized", `WWW-Authenticate: Digest realm="a", nonce="n"`)
		for range 3 {
			conn.deliver(answer, peerAddr)
			time.Sleep(time.Second)
		}
		if o := await(t, outcomes); o.Response == nil || o.Response.Status != 401 {
			t.Fatalf("outcome %+v", o)
		}
		none(t, outcomes)
		if counters.drops(dropRepeated) != 2 {
			t.Errorf("drops %v, want 2 repeats", counters.dropped)
		}
		time.Sleep(5 * time.Second)
		conn.deliver(answer, peerAddr)
		synctest.Wait()
		none(t, outcomes)
		if counters.drops(dropUnmatched) != 1 {
			t.Errorf("drops %v: after T4 nothing is kept", counters.dropped)
		}
		if n := len(conn.packets()); n != 1 {
			t.Errorf("%d transmissions after the final response, want 1", n)
		}
	})
}

// TRX-07, S-30: strays cost no memory and no line each.
func TestTRX07_Flood(t *testing.T) {
	log := &canary{}
	counters := newRecorder()
	a, conn := memAdapter(t, Options{Counters: counters, Logger: log.logger()}, seams{})
	defer shut(t, a)
	outcomes := send(a, register())
	request := conn.packets()[0].data
	const strays = 20_000
	for i := range strays {
		k := a.entropy.branch()
		stray := fmt.Sprintf("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=%s\r\nCSeq: 12 REGISTER\r\n\r\n", k.appendTo(nil))
		a.receive([]byte(stray), origin{from: peerAddr, socket: a.sockets[0]})
		if i == strays/2 {
			conn.deliver(granted(request), peerAddr)
		}
	}
	if o := await(t, outcomes); o.Response == nil || o.Response.Status != 200 {
		t.Errorf("outcome %+v", o)
	}
	if counters.drops(dropUnmatched) != strays {
		t.Errorf("drops %v", counters.dropped)
	}
	if n := a.table.size(); n != 1 {
		t.Errorf("%d transactions are kept, want the one that was asked for", n)
	}
	if lines := len(log.text()); lines > 4096 {
		t.Errorf("%d bytes were logged about %d strays", lines, strays)
	}
}

// size counts the transactions.
func (t *table) size() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.live) + len(s.cancels) + s.completed.size(time.Now())
		s.mu.Unlock()
	}
	return n
}

// TRX-08: branch and CSeq method together name a transaction.
func TestTRX08_MethodOfCSeq(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		outcomes := send(a, register())
		synctest.Wait()
		request := conn.packets()[0].data
		for _, cseq := range []string{"12 INVITE", "12 register", "12 REGISTERS"} {
			conn.deliver(replaceHeader(granted(request), "CSeq", cseq), peerAddr)
		}
		synctest.Wait()
		none(t, outcomes)
		if counters.drops(dropUnmatched) != 3 {
			t.Errorf("drops %v", counters.dropped)
		}
		conn.deliver(replaceHeader(granted(request), "CSeq", "12  \tREGISTER"), peerAddr)
		if o := await(t, outcomes); o.Response == nil {
			t.Errorf("outcome %+v", o)
		}
	})
}

// TRX-10, GEN-17: a transport error ends the transaction at once.
func TestTRX10_SendError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		conn.fail = errors.New("network is unreachable")
		start := time.Now()
		outcomes := send(a, register())
		o := await(t, outcomes)
		if o.Failure != messages.ReasonTransport || time.Since(start) != 0 || !o.Sent.IsZero() {
			t.Errorf("outcome %+v after %v", o, time.Since(start))
		}
		none(t, outcomes)
	})
}

// A retransmission that cannot be sent ends the transaction as well.
func TestTRX10_ResendError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		outcomes := send(a, register())
		conn.mu.Lock()
		conn.fail = errors.New("network is unreachable")
		conn.mu.Unlock()
		start := time.Now()
		o := await(t, outcomes)
		if o.Failure != messages.ReasonTransport || time.Since(start) != 500*time.Millisecond || o.Sent.IsZero() {
			t.Errorf("outcome %+v after %v", o, time.Since(start))
		}
	})
}

// TRX-10: with a connection everything that waits on it ends at once.
func TestTRX10_ConnectionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs := make(chan net.Conn, 1)
		a, _ := memAdapter(t, Options{}, seams{dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
			near, far := net.Pipe()
			theirs <- far
			return near, nil
		}})
		defer shut(t, a)
		outcomes := make(chan messages.SIPOutcome, 200)
		for i := range 100 {
			r := register()
			r.NextHop += ";transport=tcp"
			r.CallID = fmt.Sprint("call-", i)
			a.Send(r, func(o messages.SIPOutcome) { outcomes <- o })
		}
		far := <-theirs
		buf := make([]byte, 1<<20)
		if _, err := far.Read(buf); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_ = far.Close()
		for range 100 {
			o := await(t, outcomes)
			if o.Failure != messages.ReasonTransport || o.Sent.IsZero() {
				t.Fatalf("outcome %+v", o)
			}
		}
		if time.Since(start) != 0 {
			t.Errorf("took %v", time.Since(start))
		}
		synctest.Wait()
		none(t, outcomes)
		if s := a.Stats(); s.Pending != 0 || s.Connections != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// The timers can be set; a reliable transport has neither Timer E nor K.
func TestNonInviteMachine(t *testing.T) {
	base := time.Unix(0, 0)
	values := timerValues{t1: time.Second, t2: 2 * time.Second, t4: 3 * time.Second}
	t.Run("reliable", func(t *testing.T) {
		m := newNonInvite(values, true)
		if next := m.start(base); !next.Equal(base.Add(64 * time.Second)) {
			t.Errorf("first deadline %v", next)
		}
		if act, _ := m.response(base, 200); act != actDeliver|actRemove {
			t.Errorf("action %b", act)
		}
	})
	t.Run("Timer K", func(t *testing.T) {
		m := newNonInvite(values, false)
		m.start(base)
		act, next := m.response(base.Add(time.Second), 404)
		if act != actDeliver || !next.Equal(base.Add(4*time.Second)) {
			t.Errorf("action %b, next %v", act, next)
		}
		if act, _ := m.response(base.Add(2*time.Second), 180); act != actAbsorb {
			t.Errorf("action %b", act)
		}
		if act, _ := m.expire(next); act != actRemove {
			t.Errorf("action %b", act)
		}
	})
}

// Closing ends what is pending, once, and refuses what comes later.
func TestCloseEndsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := memAdapter(t, Options{}, seams{})
		outcomes := send(a, register())
		shut(t, a)
		if o := await(t, outcomes); o.Failure != messages.ReasonTransport {
			t.Errorf("outcome %+v", o)
		}
		none(t, outcomes)
		shut(t, a)
		if o := await(t, send(a, register())); o.Failure != messages.ReasonTransport {
			t.Errorf("outcome %+v", o)
		}
	})
}

// S-35: the number of pending requests is bounded.
func TestS35_MaxPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{MaxPending: 2}, seams{})
		defer shut(t, a)
		first, second := send(a, register()), send(a, register())
		if o := await(t, send(a, register())); o.Failure != messages.ReasonTransport {
			t.Errorf("outcome %+v", o)
		}
		for _, p := range conn.packets() {
			conn.deliver(granted(p.data), peerAddr)
		}
		await(t, first)
		await(t, second)
		conn.peer = func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: peerAddr}} }
		if o := await(t, send(a, register())); o.Response == nil {
			t.Errorf("outcome %+v: room again", o)
		}
	})
}
