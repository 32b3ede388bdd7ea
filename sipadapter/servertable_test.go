package sipadapter

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// since are the instants of responses with a status, relative to a moment.
func since(start time.Time, packets []datagram, status string) []time.Duration {
	var at []time.Duration
	for _, p := range packets {
		if answerCodes([]datagram{p}) == status {
			at = append(at, p.at.Sub(start))
		}
	}
	return at
}

// RFC 3261 §17.2.1: 100 (Trying) after 200 ms without a response, without a To
// tag and with the Timestamp (§8.2.6.1).
func TestTryingAfter200Milliseconds(t *testing.T) {
	d := &desk{}
	serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
		start := time.Now()
		conn.say(calling("Timestamp: 54"))
		pass(time.Second)
		conn.say(calling("Timestamp: 54"))
		if diff := cmp.Diff(seconds(0.2, 1), since(start, conn.packets(), "100")); diff != "" {
			t.Errorf("100 (-want +got):\n%s", diff)
		}
		trying := conn.packets()[0].data
		if to := headerLine(t, trying, "To"); to != "<sip:alice@192.0.2.10>" || headerLine(t, trying, "Timestamp") != "54" {
			t.Errorf("%s", trying)
		}
	})
	for _, method := range []string{"BYE", "INFO", "OPTIONS"} { // TRX-11
		serving(t, Options{}, &desk{}, func(t *testing.T, _ *Adapter, conn *memConn) {
			conn.say(inbound(method, inDialog))
			pass(time.Minute)
			if got := answerCodes(conn.packets()); got != "" {
				t.Errorf("%s: answered %q", method, got)
			}
		})
	}
}

// A response in time makes the 100 needless.
func TestNoTryingAfterAResponse(t *testing.T) {
	serving(t, Options{}, answers(messages.SIPReply{Status: 180}), func(t *testing.T, _ *Adapter, conn *memConn) {
		conn.say(calling())
		pass(time.Minute)
		if got := answerCodes(conn.packets()); got != "180" {
			t.Errorf("answered %q", got)
		}
	})
}

// An INVITE that nobody answers ends three minutes after the last provisional
// response, with its tag. What is said later changes nothing, and who says that
// the call is taken learns that it is not.
func TestUnansweredInvite(t *testing.T) {
	d := &desk{}
	serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
		start := time.Now()
		conn.say(calling())
		in := d.one(t)
		pass(2 * time.Minute)
		in.Respond(messages.SIPReply{Status: 180, Tag: "ours"})
		pass(3 * time.Minute)
		packets := conn.packets()
		if got := answerCodes(packets); got != "100 180 480" {
			t.Fatalf("answered %q", got)
		}
		if at := packets[2].at.Sub(start); at != 5*time.Minute {
			t.Errorf("480 after %v", at)
		}
		if got, want := headerLine(t, packets[2].data, "To"), headerLine(t, packets[1].data, "To"); got != want {
			t.Errorf("To %s, want %s", got, want)
		}
		acked := make(chan *messages.SIPInbound, 1)
		in.Respond(messages.SIPReply{Status: 200, Tag: "ours", Acked: func(ack *messages.SIPInbound) { acked <- ack }})
		if ack := <-acked; ack != nil {
			t.Errorf("acked by %+v", ack)
		}
		conn.say(acking(packets[2].data))
		pass(time.Minute)
		if got := answerCodes(conn.packets()); got != "100 180 480" || a.Stats().Serving != 0 {
			t.Errorf("answered %q, serving %d", got, a.Stats().Serving)
		}
	})
}

// Any other request that nobody answers is forgotten after 64*T1, and an answer
// that comes later does not leave (RFC 4320 §4.2).
func TestTRX11_UnansweredRequest(t *testing.T) {
	d := &desk{}
	serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
		conn.say(inbound("INFO", inDialog))
		pass(32 * time.Second)
		if n := a.Stats().Serving; n != 0 {
			t.Errorf("%d transactions are left", n)
		}
		d.one(t).Respond(messages.SIPReply{Status: 200})
		if got := answerCodes(conn.packets()); got != "" {
			t.Errorf("answered %q", got)
		}
	})
}

// TRX-11: whatever the core says, no 1xx and no 408 answers another request than
// INVITE.
func TestTRX11_NoProvisionalNoTimeoutFromTheCore(t *testing.T) {
	for _, method := range []string{"BYE", "INFO", "UPDATE", "PRACK", "REFER", "MESSAGE", "NOTIFY", "OPTIONS", "X"} {
		d := &desk{reply: func(in *messages.SIPInbound) {
			for _, status := range []int{100, 180, 183, 199, 408} {
				in.Respond(messages.SIPReply{Status: status})
			}
		}}
		serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
			conn.say(inbound(method, inDialog, "RAck: 1 7 INVITE"))
			pass(time.Minute)
			if got := answerCodes(conn.packets()); got != "" || a.Stats().Refused != 5 {
				t.Errorf("%s: answered %q, refused %d", method, got, a.Stats().Refused)
			}
		})
	}
}

// Timer G and H: a refusal is repeated over UDP until its ACK comes, for 64*T1
// at most.
func TestRefusalUntilAck(t *testing.T) {
	t.Run("no ACK", func(t *testing.T) {
		serving(t, Options{}, answers(messages.SIPReply{Status: 486}), func(t *testing.T, a *Adapter, conn *memConn) {
			start := time.Now()
			conn.say(calling())
			pass(time.Minute)
			want := seconds(0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)
			if diff := cmp.Diff(want, since(start, conn.packets(), "486")); diff != "" {
				t.Errorf("responses (-want +got):\n%s", diff)
			}
			if n := a.Stats().Serving; n != 0 {
				t.Errorf("%d transactions are left", n)
			}
		})
	})
	t.Run("the first ACK is lost", func(t *testing.T) {
		d := answers(messages.SIPReply{Status: 486})
		serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
			start := time.Now()
			conn.say(calling())
			pass(time.Second)
			for range 2 { // Timer I absorbs the second
				conn.say(acking(conn.packets()[0].data))
				pass(time.Second)
			}
			pass(3 * time.Second)
			if diff := cmp.Diff(seconds(0, 0.5), since(start, conn.packets(), "486")); diff != "" || d.methods() != "INVITE" {
				t.Errorf("shown %q, responses (-want +got):\n%s", d.methods(), diff)
			}
			if n := a.Stats().Serving; n != 0 {
				t.Errorf("%d transactions are left after T4", n)
			}
		})
	})
}

// RFC 3261 §13.3.1.4: a 2xx is repeated until its ACK comes, and after 64*T1
// without one the core is told, once. Repeats of the INVITE cause no more of
// them (RFC 6026 §7.1).
func TestAcceptanceUntilAck(t *testing.T) {
	t.Run("no ACK", func(t *testing.T) {
		var acked []time.Time
		d := answers(messages.SIPReply{Status: 200, Acked: func(ack *messages.SIPInbound) {
			if ack != nil {
				t.Errorf("acked by %+v", ack)
			}
			acked = append(acked, time.Now())
		}})
		serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
			start := time.Now()
			conn.say(calling())
			pass(100 * time.Millisecond)
			conn.say(calling())
			pass(time.Minute)
			want := seconds(0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)
			if diff := cmp.Diff(want, since(start, conn.packets(), "200")); diff != "" {
				t.Errorf("responses (-want +got):\n%s", diff)
			}
			if len(acked) != 1 || acked[0].Sub(start) != 32*time.Second || a.Stats().Serving != 0 {
				t.Errorf("told %v, serving %d", acked, a.Stats().Serving)
			}
		})
	})
	t.Run("lost 200s and ACKs", func(t *testing.T) {
		acked := 0
		d := answers(messages.SIPReply{Status: 200, Acked: func(*messages.SIPInbound) { acked++ }})
		serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
			start := time.Now()
			conn.say(calling())
			pass(2 * time.Second)
			conn.say(acking(conn.packets()[0].data, newBranch))
			pass(20 * time.Second)
			conn.say(calling())                                 // late
			conn.say(acking(conn.packets()[0].data, newBranch)) // for the third 200
			pass(9 * time.Second)
			if n := a.Stats().Serving; n != 1 {
				t.Errorf("%d transactions: Timer L still runs", n)
			}
			pass(time.Second)
			if diff := cmp.Diff(seconds(0, 0.5, 1.5), since(start, conn.packets(), "200")); diff != "" || acked != 1 || d.methods() != "INVITE" {
				t.Errorf("acked %d times, shown %q, responses (-want +got):\n%s", acked, d.methods(), diff)
			}
			if n := a.Stats().Serving; n != 0 {
				t.Errorf("%d transactions are left after Timer L", n)
			}
		})
	})
}

// The timers follow T1, T2 and T4.
func TestServerTimersAreDerived(t *testing.T) {
	o := Options{T1: time.Second, T2: 2 * time.Second, T4: 3 * time.Second}
	serving(t, o, answers(messages.SIPReply{Status: 200}), func(t *testing.T, _ *Adapter, conn *memConn) {
		start := time.Now()
		conn.say(calling())
		pass(8 * time.Second)
		if diff := cmp.Diff(seconds(0, 1, 3, 5, 7), since(start, conn.packets(), "200")); diff != "" {
			t.Errorf("responses (-want +got):\n%s", diff)
		}
	})
}

// Close forgets what is served, and no core hears of an ACK that did not come.
func TestCloseForgetsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := false
		var in *messages.SIPInbound
		a, conn := memAdapter(t, Options{OnRequest: func(r *messages.SIPInbound) bool {
			in = r
			return true
		}}, seams{})
		conn.say(calling())
		in.Respond(messages.SIPReply{Status: 200, Acked: func(*messages.SIPInbound) { told = true }})
		conn.say(calling("Call-ID: in-2"))
		shut(t, a)
		sent := len(conn.packets())
		in.Respond(messages.SIPReply{Status: 200, Acked: func(*messages.SIPInbound) { told = true }})
		a.receive(calling("Call-ID: in-3"), origin{from: stranger, socket: a.sockets[0]})
		pass(time.Minute)
		if told || len(conn.packets()) != sent || a.Stats().Serving != 0 {
			t.Errorf("told %v, %d packets after %d, serving %d", told, len(conn.packets()), sent, a.Stats().Serving)
		}
	})
}

// Many calls at once, answered from other goroutines while their repeats and
// CANCELs come in: nothing is left and each is told once.
func TestManyCalls(t *testing.T) {
	const calls = 200
	acked := make(chan *messages.SIPInbound, 10*calls)
	d := &desk{reply: func(in *messages.SIPInbound) {
		if in.Method != "INVITE" {
			return
		}
		go in.Respond(messages.SIPReply{Status: 180, Tag: "ours"})
		go in.Respond(messages.SIPReply{Status: 200, Tag: "ours", Acked: func(ack *messages.SIPInbound) { acked <- ack }})
		go in.Respond(messages.SIPReply{Status: 486, Tag: "ours"})
	}}
	serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
		for i := range calls {
			id := fmt.Sprint("Call-ID: in-", i)
			conn.deliver(calling(id), stranger)
			conn.deliver(calling(id), stranger)
			conn.deliver(inbound("CANCEL", id), stranger)
			synctest.Wait()
		}
		pass(time.Minute)
		if n := a.Stats().Serving; n != 0 {
			t.Errorf("%d transactions are left", n)
		}
		final := map[string]string{}
		for _, p := range conn.packets() {
			code, id := answerCodes([]datagram{p}), headerLine(t, p.data, "Call-ID")
			if headerLine(t, p.data, "CSeq") != "7 INVITE" || code < "200" {
				continue
			}
			if final[id] != "" && final[id] != code {
				t.Fatalf("%s is answered %s and %s", id, final[id], code)
			}
			final[id] = code
		}
		taken := 0
		for _, code := range final {
			if code == "200" {
				taken++
			}
		}
		if len(final) != calls || len(acked) != taken {
			t.Errorf("%d calls ended, %d with 200, %d were told", len(final), taken, len(acked))
		}
	})
}
