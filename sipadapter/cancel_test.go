package sipadapter

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// CAN-01, CHA-07: a CANCEL waits for a provisional response, leaves once
// however often it is wanted, and is what RFC 3261 §9.1 says, byte by byte. A
// challenge to it means nothing.
func TestCAN01_CancelWaitsForProvisional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		r := callRequest()
		r.Route = []string{"<sip:p1.test;lr>", "<sip:p2.test;lr>"}
		r.Headers = []messages.Header{{Name: "Require", Value: "100rel"}, {Name: "Proxy-Require", Value: "x"}, {Name: "Subject", Value: "x"}}
		r.Mutations = []*messages.HeaderMutation{set("Authorization", "Bearer canary"), set("Proxy-Authorization", "Bearer canary")}
		w := place(t, a, r)
		w.call.Cancel()
		time.Sleep(10 * time.Second)
		w.call.Cancel()
		synctest.Wait()
		if got := len(conn.requests("CANCEL")); got != 0 {
			t.Fatalf("%d CANCELs before a provisional response", got)
		}
		invite := conn.packets()[0]
		conn.deliver(answerTo(invite.data, "183 Progress"), peerAddr)
		conn.deliver(answerTo(invite.data, "180 Ringing"), peerAddr)
		synctest.Wait()
		w.call.Cancel()
		synctest.Wait()
		want := strings.ReplaceAll(`CANCEL sip:bob@example.test SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=`+branchOf(t, invite.data)+`;rport
Route: <sip:p1.test;lr>
Route: <sip:p2.test;lr>
Max-Forwards: 70
From: <sip:alice@example.test>;tag=f1
To: <sip:bob@example.test>
Call-ID: call-1
CSeq: 12 CANCEL
Content-Length: 0

`, "\n", "\r\n")
		cancels := conn.requests("CANCEL")
		if len(cancels) != 1 || cancels[0].addr != invite.addr {
			t.Fatalf("%d CANCELs", len(cancels))
		}
		if diff := cmp.Diff(want, string(cancels[0].data)); diff != "" {
			t.Errorf("CANCEL (-want +got):\n%s", diff)
		}
		conn.deliver(answerTo(cancels[0].data, "407 Who", `Proxy-Authenticate: Digest realm="p", nonce="n"`), peerAddr)
		conn.deliver(answerTo(cancels[0].data, "401 Who", `WWW-Authenticate: Digest realm="p", nonce="n"`), peerAddr)
		synctest.Wait()
		w.want("183 180")
		conn.deliver(answerTo(invite.data, "487 Terminated"), peerAddr)
		synctest.Wait()
		w.want("183 180 487.")
		if counters.sent["CANCEL"] != 1 || counters.again["CANCEL"] != 0 || len(conn.requests("ACK")) != 1 || counters.codes[401] != 1 {
			t.Errorf("counted %v %v %v", counters.sent, counters.again, counters.codes)
		}
		time.Sleep(time.Minute)
		if n := a.table.size(); n != 0 || counters.again["CANCEL"] != 0 {
			t.Errorf("%d transactions, counted %v", n, counters.again)
		}
	})
}

// CAN-01: no CANCEL after a final response, nor when none ever comes.
func TestCAN01_NoCancel(t *testing.T) {
	for name, c := range map[string]struct {
		codes    []string
		reported string
	}{
		"after a 2xx":            {[]string{"180 Ringing", "200 OK"}, "180 200"},
		"after a refusal":        {[]string{"180 Ringing", "486 Busy"}, "180 486."},
		"without any response":   {nil, "timeout."},
		"a 2xx at once":          {[]string{"200 OK"}, "200"},
		"a refusal at once":      {[]string{"486 Busy"}, "486."},
		"before a 2xx at once":   {[]string{"cancel", "200 OK"}, "200"},
		"before a 503 at once":   {[]string{"cancel", "503 Busy"}, "503."},
		"before a timeout":       {[]string{"cancel"}, "timeout."},
		"before and after a 2xx": {[]string{"cancel", "200 OK", "cancel", "180 Ringing", "200 OK"}, "200 200"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, conn := memAdapter(t, Options{}, seams{})
				defer shut(t, a)
				w := place(t, a, callRequest())
				for _, code := range c.codes {
					if code == "cancel" {
						w.call.Cancel()
						continue
					}
					conn.deliver(answerTo(conn.packets()[0].data, code), peerAddr)
					synctest.Wait()
				}
				w.call.Cancel()
				time.Sleep(time.Minute)
				w.call.Cancel()
				synctest.Wait()
				w.want(c.reported)
				if n := len(conn.requests("CANCEL")); n != 0 {
					t.Errorf("%d CANCELs", n)
				}
			})
		})
	}
}

// CAN-02: a CANCEL that is wanted before the retry after a challenge got any
// response waits for one and then cancels the retry.
func TestCAN02_CancelOfTheRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		first := place(t, a, callRequest())
		challenge := answerTo(conn.packets()[0].data, "401 Who", `WWW-Authenticate: Digest realm="p", nonce="n"`)
		conn.deliver(challenge, peerAddr)
		synctest.Wait()
		r := callRequest()
		r.CSeq++
		second := place(t, a, r)
		retry := conn.requests("INVITE")[1].data
		first.call.Cancel()
		second.call.Cancel()
		conn.deliver(challenge, peerAddr)
		synctest.Wait()
		if n := len(conn.requests("CANCEL")); n != 0 {
			t.Fatalf("%d CANCELs", n)
		}
		conn.deliver(answerTo(retry, "100 Trying"), peerAddr)
		synctest.Wait()
		cancels := conn.requests("CANCEL")
		if len(cancels) != 1 || branchOf(t, cancels[0].data) != branchOf(t, retry) || headerLine(t, cancels[0].data, "CSeq") != "13 CANCEL" {
			t.Errorf("%d CANCELs", len(cancels))
		}
		first.want("401.")
		second.want("100")
	})
}

// CAN-03: without a final response the transaction is destroyed 64*T1 after the
// CANCEL, whatever else comes, and reports a timeout.
func TestCAN03_NoFinalResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters, Resolver: farm("192.0.2.21", "192.0.2.22")}, seams{})
		defer shut(t, a)
		conn.peer = func(d datagram) []datagram {
			status := "100 Trying"
			if strings.HasPrefix(string(d.data), "CANCEL ") {
				status = "200 Cancelling"
			}
			return []datagram{{data: answerTo(d.data, status), addr: d.addr}}
		}
		w := place(t, a, callToName(transportUDP))
		time.Sleep(time.Hour)
		w.call.Cancel()
		time.Sleep(20 * time.Second)
		conn.deliver(answerTo(conn.packets()[0].data, "180 Ringing"), conn.packets()[0].addr)
		time.Sleep(12*time.Second - time.Nanosecond)
		w.want("100 180")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		w.want("100 180 timeout.")
		if n := a.table.size(); n != 0 {
			t.Errorf("%d transactions", n)
		}
		conn.deliver(answerTo(conn.packets()[0].data, "200 OK"), conn.packets()[0].addr)
		synctest.Wait()
		w.want("100 180 timeout.")
		if got := methodsOf(conn.packets()); got != "INVITE CANCEL" || counters.drops(dropUnmatched) != 1 {
			t.Errorf("sent %s, drops %v", got, counters.dropped)
		}
	})
}

// CAN-03, INV-02: CANCEL and 200 cross. Whichever the transaction sees first,
// the 200 is reported, and a CANCEL leaves only before it.
func TestCAN03_CancelCrosses200(t *testing.T) {
	for name, cancelFirst := range map[string]bool{"CANCEL first": true, "200 first": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, conn := memAdapter(t, Options{}, seams{})
				defer shut(t, a)
				w := place(t, a, callRequest())
				invite := conn.packets()[0].data
				conn.deliver(answerTo(invite, "180 Ringing"), peerAddr)
				synctest.Wait()
				want := "INVITE"
				if cancelFirst {
					w.call.Cancel()
					conn.deliver(answerTo(invite, "200 OK"), peerAddr)
					conn.deliver(answerTo(conn.requests("CANCEL")[0].data, "481 Too late"), peerAddr)
					want = "INVITE CANCEL"
				} else {
					conn.deliver(answerTo(invite, "200 OK"), peerAddr)
					synctest.Wait()
					w.call.Cancel()
				}
				conn.deliver(answerTo(invite, "200 OK"), peerAddr)
				time.Sleep(time.Minute)
				w.want("180 200 200")
				if got := methodsOf(conn.packets()); got != want {
					t.Errorf("sent %s, want %s", got, want)
				}
			})
		})
	}
}

// TRX-08: a CANCEL has the branch of its INVITE, and each gets its own answers.
// It is a transaction of its own, which repeats and outlives the INVITE's.
func TestTRX08_CancelHasItsOwnTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := newRecorder()
		a, conn := memAdapter(t, Options{Counters: counters}, seams{})
		defer shut(t, a)
		w := place(t, a, callRequest())
		invite := conn.packets()[0].data
		conn.deliver(answerTo(invite, "180 Ringing"), peerAddr)
		synctest.Wait()
		w.call.Cancel()
		time.Sleep(8 * time.Second)
		cancels := conn.requests("CANCEL")
		if diff := cmp.Diff(seconds(0, 0.5, 1.5, 3.5, 7.5), sinceFirst(cancels)); diff != "" {
			t.Errorf("CANCELs (-want +got):\n%s", diff)
		}
		conn.deliver(answerTo(cancels[0].data, "200 OK"), peerAddr)
		synctest.Wait()
		w.want("180")
		conn.deliver(replaceHeader(answerTo(cancels[0].data, "200 OK"), "CSeq", "11 CANCEL"), peerAddr)
		synctest.Wait()
		if counters.drops(dropIdentity) != 1 || counters.again["CANCEL"] != 4 {
			t.Errorf("drops %v, again %v", counters.dropped, counters.again)
		}
		conn.deliver(answerTo(invite, "487 Terminated"), peerAddr)
		time.Sleep(2 * time.Second)
		w.want("180 487.")
		if got := len(conn.requests("CANCEL")); got != 5 {
			t.Errorf("%d CANCELs", got)
		}
	})
}

// CAN-01: over the connection of the INVITE. There the refusal ends the INVITE's
// transaction at once, and the answer to the CANCEL finds its own.
func TestCAN01_CancelOverTCP(t *testing.T) {
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
		synctest.Wait()
		w.call.Cancel()
		cancel := readRequest(t, theirs, &f)
		if !strings.HasPrefix(string(cancel), "CANCEL ") || headerLine(t, cancel, "Via") != headerLine(t, invite, "Via") {
			t.Errorf("%s", cancel)
		}
		_, _ = theirs.Write(answerTo(invite, "487 Terminated"))
		readRequest(t, theirs, &f) // the ACK
		_, _ = theirs.Write(answerTo(cancel, "200 OK"))
		synctest.Wait()
		w.want("180 487.")
		if len(counters.dropped) != 0 || a.table.size() != 0 || len(conn.packets()) != 0 {
			t.Errorf("drops %v, %d transactions", counters.dropped, a.table.size())
		}
	})
}

// The To tag of a re-INVITE is the dialog's and stands in its CANCEL (RFC 3261
// §9.1).
func TestCancelOfReinvite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		r := callRequest()
		r.ToTag = "t9"
		w := place(t, a, r)
		conn.deliver(answerTo(conn.packets()[0].data, "100 Trying"), peerAddr)
		synctest.Wait()
		w.call.Cancel()
		if to := headerLine(t, conn.requests("CANCEL")[0].data, "To"); to != "<sip:bob@example.test>;tag=t9" {
			t.Errorf("To %s", to)
		}
	})
}

// A call that is not wanted goes to no further address, and to none at all
// while DNS is being asked.
func TestCancelEndsTheSearch(t *testing.T) {
	t.Run("DNS", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dns := farm("192.0.2.21")
			dns.gate = make(chan struct{})
			a, conn := memAdapter(t, Options{Resolver: dns}, seams{})
			defer shut(t, a)
			w := place(t, a, callToName(transportUDP))
			w.call.Cancel()
			w.want("transport.")
			close(dns.gate)
			time.Sleep(time.Minute)
			w.want("transport.")
			if n := len(conn.packets()); n != 0 || a.Stats().Pending != 0 {
				t.Errorf("%d packets, stats %+v", n, a.Stats())
			}
		})
	})
	t.Run("silence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22")}, seams{})
			defer shut(t, a)
			w := place(t, a, callToName(transportUDP))
			synctest.Wait()
			w.call.Cancel()
			time.Sleep(2 * time.Minute)
			w.want("timeout.")
			if got := destinations(conn.packets()); got != "21 21 21 21 21 21 21" {
				t.Errorf("sent to %s", got)
			}
		})
	})
	t.Run("503", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{Resolver: farm("192.0.2.21", "192.0.2.22")}, seams{})
			defer shut(t, a)
			w := place(t, a, callToName(transportUDP))
			synctest.Wait()
			w.call.Cancel()
			conn.deliver(answerTo(conn.packets()[0].data, "503 Busy"), conn.packets()[0].addr)
			time.Sleep(time.Minute)
			w.want("503.")
			if got := destinations(conn.packets()); got != "21 21" {
				t.Errorf("sent to %s", got)
			}
		})
	})
}
