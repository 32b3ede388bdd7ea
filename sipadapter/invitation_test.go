package sipadapter

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// TRX-03: doubling from T1 without a cap, seven transmissions, over after
// 64*T1.
func TestTRX03_UnansweredInvite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		var resent atomic.Int32
		r := callRequest()
		r.Retransmitted = func() { resent.Add(1) }
		w := place(t, a, r)
		time.Sleep(32*time.Second - time.Nanosecond)
		synctest.Wait()
		w.want("")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		w.want("timeout.")
		packets := conn.packets()
		if diff := cmp.Diff(seconds(0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5), sinceFirst(packets)); diff != "" {
			t.Errorf("transmissions (-want +got):\n%s", diff)
		}
		for _, p := range packets {
			if string(p.data) != string(packets[0].data) {
				t.Fatal("a retransmission differs")
			}
		}
		if resent.Load() != 6 || counters.again["INVITE"] != 6 || counters.sent["INVITE"] != 1 {
			t.Errorf("resent %d, counted %v %v", resent.Load(), counters.again, counters.sent)
		}
		time.Sleep(time.Hour)
		w.want("timeout.")
		if s := a.Stats(); s.Pending != 0 || a.table.size() != 0 {
			t.Errorf("stats %+v, %d transactions", s, a.table.size())
		}
	})
}

// TRX-03: the first provisional response ends the retransmissions, and after it
// the INVITE waits as long as its caller does. Each one is reported when it
// arrives, in order.
func TestTRX03_ProvisionalResponses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		w := place(t, a, callRequest())
		time.Sleep(600 * time.Millisecond)
		request := conn.packets()[0].data
		conn.deliver(answerTo(request, "100 Trying"), peerAddr)
		time.Sleep(time.Minute)
		for _, code := range []string{"180 Ringing", "180 Ringing", "183 Progress", "199 Gone", "100 Trying"} {
			conn.deliver(answerTo(request, code), peerAddr)
		}
		time.Sleep(time.Hour)
		w.want("100 180 180 183 199 100")
		conn.deliver(answerTo(request, "200 Yes sir"), peerAddr)
		synctest.Wait()
		w.want("100 180 180 183 199 100 200")
		if diff := cmp.Diff(seconds(0, 0.5), sinceFirst(conn.packets())); diff != "" {
			t.Errorf("transmissions (-want +got):\n%s", diff)
		}
		if last := w.all()[6].Response; last.Phrase != "Yes sir" || last.Dialog.RemoteTag != "t1" || last.Source != peerAddr.String() {
			t.Errorf("%+v", last)
		}
		if first := w.all()[0].Response; first.Dialog.RemoteTag != "" {
			t.Errorf("%+v", first)
		}
	})
}

// TRX-04, TRX-05, CHA-07, GEN-06: the ACK for a refusal goes to the same place
// with the INVITE's branch, route and credentials; a repeat of the refusal gets
// it again and is not reported.
func TestTRX05_AckForRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters, UserAgent: "Muster"}, seams{})
		defer shut(t, a)
		r := callRequest()
		r.Route = []string{"<sip:p1.test;lr>", "<sip:p2.test;lr>"}
		r.Supported = []string{"100rel"}
		r.Headers = []messages.Header{{Name: "Require", Value: "timer"}, {Name: "Subject", Value: "x"}}
		r.Mutations = []*messages.HeaderMutation{
			set("proxy-authorization", `Digest realm="p"`),
			{Op: messages.Op_ADD, Name: "Authorization", Value: `Digest realm="a"`},
			{Op: messages.Op_ADD, Name: "Authorization", Value: `Digest realm="b"`},
		}
		w := place(t, a, r)
		invite := conn.packets()[0]
		branch := branchOf(t, invite.data)
		refusal := replaceHeader(answerTo(invite.data, "486 Busy"), "To", `"Bob" <sip:bob@example.test>;tag=x;y=z`)
		for range 3 {
			conn.deliver(refusal, peerAddr)
			time.Sleep(time.Second)
		}
		w.want("486.")
		want := strings.ReplaceAll(`ACK sip:bob@example.test SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=`+branch+`;rport
Route: <sip:p1.test;lr>
Route: <sip:p2.test;lr>
Max-Forwards: 70
From: <sip:alice@example.test>;tag=f1
To: "Bob" <sip:bob@example.test>;tag=x;y=z
Call-ID: call-1
CSeq: 12 ACK
proxy-authorization: Digest realm="p"
Authorization: Digest realm="a"
Authorization: Digest realm="b"
Content-Length: 0

`, "\n", "\r\n")
		acks := conn.requests("ACK")
		if len(acks) != 3 {
			t.Fatalf("%d ACKs, want 3", len(acks))
		}
		for _, ack := range acks {
			if diff := cmp.Diff(want, string(ack.data)); diff != "" || ack.addr != invite.addr {
				t.Errorf("ACK to %v (-want +got):\n%s", ack.addr, diff)
			}
		}
		if counters.sent["ACK"] != 1 || counters.again["ACK"] != 2 || counters.drops(dropRepeated) != 2 {
			t.Errorf("counted %v %v, drops %v", counters.sent, counters.again, counters.dropped)
		}
		// Timer D: until then each repeat is acknowledged, afterwards none.
		time.Sleep(29*time.Second - time.Nanosecond)
		conn.deliver(refusal, peerAddr)
		time.Sleep(time.Second)
		conn.deliver(refusal, peerAddr)
		synctest.Wait()
		if n := len(conn.requests("ACK")); n != 4 || counters.drops(dropUnmatched) != 1 {
			t.Errorf("%d ACKs, drops %v", n, counters.dropped)
		}
		w.want("486.")
	})
}

// TRX-05, GEN-08: behind a strict router the ACK has the Request-URI and the
// route that the INVITE left with.
func TestTRX05_AckThroughStrictRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		r := callRequest()
		r.Route = []string{"<sip:strict.test>", "<sip:p2.test;lr>"}
		w := place(t, a, r)
		conn.deliver(answerTo(conn.packets()[0].data, "302 Moved", "Contact: <sip:c@example.test>"), peerAddr)
		synctest.Wait()
		w.want("302.")
		ack := conn.requests("ACK")[0].data
		if !strings.HasPrefix(string(ack), "ACK sip:strict.test SIP/2.0\r\n") {
			t.Errorf("%s", ack)
		}
		if diff := cmp.Diff([]string{"<sip:p2.test;lr>", "<sip:bob@example.test>"}, headerLines(ack, "Route")); diff != "" {
			t.Errorf("Route (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"sip:c@example.test"}, w.all()[0].Response.Redirects); diff != "" {
			t.Errorf("redirects (-want +got):\n%s", diff)
		}
	})
}

// TRX-04: on a stream a refusal is acknowledged as well, over the same
// connection, and Timer D is zero.
func TestTRX04_AckOverTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{dial: dial})
		defer shut(t, a)
		r := callRequest()
		r.NextHop += ";transport=tcp"
		w := place(t, a, r)
		theirs := <-far
		var f framer
		invite := readRequest(t, theirs, &f)
		_, _ = theirs.Write(answerTo(invite, "180 Ringing"))
		_, _ = theirs.Write(answerTo(invite, "603 No"))
		ack := readRequest(t, theirs, &f)
		if !strings.HasPrefix(string(ack), "ACK sip:bob@example.test SIP/2.0\r\n") ||
			headerLine(t, ack, "Via") != headerLine(t, invite, "Via") || headerLine(t, ack, "CSeq") != "12 ACK" {
			t.Errorf("%s", ack)
		}
		_, _ = theirs.Write(answerTo(invite, "603 No"))
		synctest.Wait()
		w.want("180 603.")
		if n := a.table.size(); n != 0 || counters.drops(dropUnmatched) != 1 || len(conn.packets()) != 0 {
			t.Errorf("%d transactions, drops %v, %d datagrams", n, counters.dropped, len(conn.packets()))
		}
	})
}

// CHA-04, INV-03: when the ACK is lost the challenge comes again. It is
// acknowledged again, under the old branch, while the next INVITE is on its
// way; nobody hears of it, and what else the old transaction gets is dropped.
func TestCHA04_ChallengeRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		first := place(t, a, callRequest())
		var second *witness
		first.seen = func(messages.InviteReport) {
			r := callRequest()
			r.CSeq++
			r.Mutations = []*messages.HeaderMutation{set("Proxy-Authorization", `Digest realm="p"`)}
			second = place(t, a, r)
		}
		challenge := answerTo(conn.packets()[0].data, "407 Who", `Proxy-Authenticate: Digest realm="p", nonce="n"`)
		conn.deliver(challenge, peerAddr)
		synctest.Wait()
		if got := methodsOf(conn.packets()); got != "INVITE ACK INVITE" {
			t.Errorf("sent %s", got)
		}
		for range 3 {
			conn.deliver(challenge, peerAddr)
		}
		conn.deliver(answerTo(conn.packets()[0].data, "200 OK"), peerAddr)
		synctest.Wait()
		first.want("407.")
		second.want("")
		if got := methodsOf(conn.packets()); got != "INVITE ACK INVITE ACK ACK ACK" || counters.sent["INVITE"] != 2 {
			t.Errorf("sent %s", got)
		}
		invites, acks := conn.requests("INVITE"), conn.requests("ACK")
		if len(first.all()[0].Response.Challenges) != 1 {
			t.Errorf("%+v", first.all()[0].Response)
		}
		for _, ack := range acks {
			if branchOf(t, ack.data) != branchOf(t, invites[0].data) || headerLine(t, ack.data, "CSeq") != "12 ACK" {
				t.Errorf("%s", ack.data)
			}
		}
		retry := invites[1].data
		if branchOf(t, retry) == branchOf(t, invites[0].data) || headerLine(t, retry, "To") != "<sip:bob@example.test>" {
			t.Errorf("GEN-02, GEN-06: %s", retry)
		}
		conn.deliver(answerTo(retry, "200 OK"), peerAddr)
		synctest.Wait()
		second.want("200")
	})
}

// TRX-06, S-04: every 2xx is reported for 64*T1, from each fork and each time it
// comes, and the transaction acknowledges none.
func TestTRX06_ForkedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		w := place(t, a, callRequest())
		invite := conn.packets()[0].data
		if a.Stats().Pending != 1 {
			t.Errorf("stats %+v", a.Stats())
		}
		one := answered(invite, "200 OK", "fork1", "Contact: <sip:one@192.0.2.31>", "Record-Route: <sip:p1;lr>, <sip:p2;lr>")
		two := answered(invite, "200 OK", "fork2", "Contact: <sip:two@192.0.2.32>")
		conn.deliver(answered(invite, "180 Ringing", "fork2"), peerAddr)
		conn.deliver(one, peerAddr)
		conn.deliver(two, peerAddr)
		conn.deliver(one, peerAddr)
		conn.deliver(answered(invite, "180 Ringing", "fork3"), peerAddr)
		conn.deliver(answered(invite, "486 Busy", "fork3"), peerAddr)
		conn.deliver(one, netip.AddrPortFrom(peerAddr.Addr(), 5070)) // S-04
		synctest.Wait()
		w.want("180 200 200 200")
		var tags []string
		for _, r := range w.all() {
			tags = append(tags, r.Response.Dialog.RemoteTag+" "+r.Response.Dialog.Target)
		}
		if diff := cmp.Diff([]string{"fork2 ", "fork1 sip:one@192.0.2.31", "fork2 sip:two@192.0.2.32", "fork1 sip:one@192.0.2.31"}, tags); diff != "" {
			t.Errorf("dialogs (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"<sip:p2;lr>", "<sip:p1;lr>"}, w.all()[1].Response.Dialog.RouteSet); diff != "" {
			t.Errorf("route set (-want +got):\n%s", diff)
		}
		if a.Stats().Pending != 0 || counters.drops(dropSource) != 1 || counters.drops(dropRepeated) != 2 {
			t.Errorf("stats %+v, drops %v", a.Stats(), counters.dropped)
		}
		time.Sleep(32*time.Second - time.Nanosecond)
		conn.deliver(two, peerAddr)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		conn.deliver(two, peerAddr)
		time.Sleep(time.Minute)
		w.want("180 200 200 200 200")
		if got := methodsOf(conn.packets()); got != "INVITE" || counters.drops(dropUnmatched) != 1 {
			t.Errorf("sent %s, drops %v", got, counters.dropped)
		}
	})
}

// After a 2xx neither a lost connection nor the end of the adapter is a
// failure.
func TestTRX06_NothingFollowsA2xx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, far := pipes()
		a, conn := memAdapter(t, Options{}, seams{dial: dial})
		defer shut(t, a)
		r := callRequest()
		r.NextHop += ";transport=tcp"
		overTCP := place(t, a, r)
		theirs := <-far
		_, _ = theirs.Write(answerTo(readRequest(t, theirs, &framer{}), "200 OK"))
		synctest.Wait()
		_ = theirs.Close()
		byUDP := place(t, a, callRequest())
		conn.deliver(answerTo(conn.packets()[0].data, "200 OK"), peerAddr)
		synctest.Wait()
		shut(t, a)
		overTCP.want("200")
		byUDP.want("200")
	})
}

// TRX-08: branch and CSeq method together name a transaction.
func TestTRX08_InviteResponses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		w := place(t, a, callRequest())
		ok := answerTo(conn.packets()[0].data, "200 OK")
		for _, cseq := range []string{"12 CANCEL", "12 ACK", "12 BYE", "12 invite", "12 INVITES", "11 INVITE", "13 INVITE"} {
			conn.deliver(replaceHeader(ok, "CSeq", cseq), peerAddr)
		}
		conn.deliver(replaceAll(ok, branchOf(t, ok), string(a.entropy.branch().appendTo(nil))), peerAddr)
		conn.deliver(replaceHeader(ok, "To", "<sip:bob@example.test>;tag=a\x01b"), peerAddr)
		conn.deliver(replaceHeader(ok, "To", "<sip:bob@example.test>;tag=a\rb: c"), peerAddr)
		synctest.Wait()
		w.want("")
		if counters.drops(dropUnmatched) != 6 || counters.drops(dropIdentity) != 2 || counters.drops(dropMalformed) != 2 {
			t.Errorf("drops %v", counters.dropped)
		}
		conn.deliver(ok, peerAddr)
		synctest.Wait()
		w.want("200")
	})
}
