package sipadapter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sipmuster/muster/messages"
)

// Which requests are shown, and what becomes of those that are not taken.
func TestOnRequest(t *testing.T) {
	for _, c := range []struct {
		name   string
		raw    []byte
		shown  string
		refuse string // the answers when it is not taken
	}{
		{"INVITE", calling(), "INVITE", "480"},
		{"INVITE in a dialog", calling(inDialog), "INVITE", "481"},
		{"BYE in a dialog", inbound("BYE", inDialog), "BYE", "481"},
		{"UPDATE in a dialog", inbound("UPDATE", inDialog), "UPDATE", "481"},
		{"INFO in a dialog", inbound("INFO", inDialog), "INFO", "481"},
		{"REFER in a dialog", inbound("REFER", inDialog), "REFER", "481"},
		{"MESSAGE in a dialog", inbound("MESSAGE", inDialog), "MESSAGE", "481"},
		{"NOTIFY in a dialog", inbound("NOTIFY", inDialog), "NOTIFY", "481"},
		{"OPTIONS in a dialog", inbound("OPTIONS", inDialog), "OPTIONS", "481"},
		{"PRACK in a dialog", inbound("PRACK", inDialog, "RAck: 1 7 INVITE"), "PRACK", "481"},
		{"unknown method in a dialog", inbound("X", inDialog), "X", "481"},
		{"Require: timer", calling("Require: timer"), "INVITE", "480"},
		{"ACK for nothing", inbound("ACK", inDialog), "ACK", ""},

		{"ACK for nothing without a tag", inbound("ACK"), "", ""},
		{"ACK that is malformed", inbound("ACK", inDialog, "Max-Forwards: x"), "", ""},
		{"ACK with a From tag that is no token", inbound("ACK", inDialog, `From: <sip:b@c>;tag="b 1"`), "", ""},
		{"CANCEL for nothing", inbound("CANCEL"), "", "481"},
		{"CANCEL with a From tag that is no token", inbound("CANCEL", `From: <sip:b@c>;tag="b 1"`), "", "481"},
		{"CANCEL with a RFC 2543 branch", inbound("CANCEL", "Via: SIP/2.0/UDP 198.51.100.95;branch=1"), "", "481"},
		{"CANCEL in a dialog for nothing", inbound("CANCEL", inDialog), "", "481"},
		{"OPTIONS", inbound("OPTIONS"), "", "200"},
		{"BYE", inbound("BYE"), "", "481"},
		{"MESSAGE", inbound("MESSAGE"), "", "405"},
		{"100rel", calling("Require: timer, 100rel"), "", "420"},
		{"PRACK without RAck", inbound("PRACK", inDialog), "", "400"},
		{"PRACK with a bad RAck", inbound("PRACK", inDialog, "RAck: 0 7 INVITE"), "", "400"},
		{"malformed", calling("Max-Forwards: 256"), "", "400"},
		{"RFC 2543 branch", calling("Via: SIP/2.0/UDP 198.51.100.95;branch=1"), "", "480"},
		{"no branch", calling("Via: SIP/2.0/UDP 198.51.100.95"), "", "480"},
		{"nothing but the cookie", calling("Via: SIP/2.0/UDP 198.51.100.95;branch=z9hG4bK"), "", "480"},
		{"empty To tag", calling("To: <sip:alice@192.0.2.10>;tag="), "", "400"},
		{"From tag that is no token", calling(`From: <sip:bob@example.test>;tag="b 1"`), "", "400"},
		{"From that is not UTF-8", calling("From: <sip:b\xffb@example.test>;tag=b1"), "", "400"},
		{"Call-ID of two words", calling("Call-ID: a b"), "", "400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &desk{refuse: true}
			serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
				conn.say(c.raw)
				if got := d.methods(); got != c.shown {
					t.Errorf("shown %q, want %q", got, c.shown)
				}
				if got := answerCodes(conn.packets()); got != c.refuse {
					t.Errorf("answered %q, want %q", got, c.refuse)
				}
				if n := a.Stats().Serving; n != 0 {
					t.Errorf("%d transactions are kept of what nobody took", n)
				}
			})
		})
	}
}

// What a session sees of a request.
func TestInboundValues(t *testing.T) {
	d := &desk{}
	serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
		raw := calling(`From: "Bob \"B\", Jr." <sip:bob@example.test;x=y>;tag=b1`, "To: Alice <sips:alice@192.0.2.10>;tag=ours;x=y",
			"Record-Route: <sip:p1;lr>, <sip:p2;lr>", "X-Trunk: blue", "k: timer", "x: 1800;refresher=uac")
		head, _, _ := strings.Cut(string(without(raw, "Content-Length")), "\r\n\r\n")
		conn.say([]byte(head + "\r\nc: application/sdp\r\nl: 5\r\n\r\nv=0\r\n"))
		want := &messages.SIPInbound{
			Method: "INVITE", RequestURI: "sip:alice@192.0.2.10",
			From: "sip:bob@example.test;x=y", FromDisplay: `Bob "B", Jr.`, To: "sips:alice@192.0.2.10", ToTag: "ours",
			CallID: "in-1", CSeq: 7, Transport: "udp", Source: stranger.String(),
			Dialog: messages.DialogInfo{
				RemoteTag: "b1", Target: "sip:bob@198.51.100.95", RouteSet: []string{"<sip:p1;lr>", "<sip:p2;lr>"},
				Supported: []string{"timer"}, SessionExpires: 1800, Refresher: "uac",
				Headers:     []messages.Header{{Name: "X-Trunk", Value: "blue"}},
				ContentType: "application/sdp", Body: []byte("v=0\r\n"),
			},
		}
		got := d.one(t)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(messages.SIPInbound{}, "Respond")); diff != "" || got.Respond == nil {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	d = &desk{}
	serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
		conn.say(inbound("PRACK", inDialog, "RAck: 4294967295  2147483647\tINVITE"))
		if in := d.one(t); in.RAckRSeq != 1<<32-1 || in.RAckCSeq != 1<<31-1 {
			t.Errorf("RAck %d %d", in.RAckRSeq, in.RAckCSeq)
		}
	})
}

// A repeat gets the last response again and is not shown again.
func TestRepeatedRequest(t *testing.T) {
	t.Run("INVITE", func(t *testing.T) {
		d := &desk{}
		counters := newRecorder()
		serving(t, Options{Counters: counters}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
			conn.say(calling())
			conn.say(calling())
			in := d.one(t)
			if got := answerCodes(conn.packets()); got != "" || counters.drops(dropRepeated) != 1 {
				t.Errorf("answered %q, drops %v", got, counters.dropped)
			}
			in.Respond(messages.SIPReply{Status: 180, Tag: "ours"})
			conn.say(calling())
			in.Respond(messages.SIPReply{Status: 486, Tag: "ours"})
			conn.say(calling())
			conn.say(acking(conn.packets()[3].data))
			conn.say(calling())
			if got := answerCodes(conn.packets()); got != "180 180 486 486" || d.methods() != "INVITE" {
				t.Errorf("answered %q, shown %q", got, d.methods())
			}
		})
	})
	t.Run("BYE", func(t *testing.T) {
		d := answers(messages.SIPReply{Status: 200})
		serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
			bye := inbound("BYE", inDialog)
			conn.say(bye)
			pass(31 * time.Second)
			conn.say(bye)
			if got := answerCodes(conn.packets()); got != "200 200" || d.methods() != "BYE" {
				t.Errorf("answered %q, shown %q", got, d.methods())
			}
			pass(time.Second) // Timer J
			conn.say(bye)
			if d.methods() != "BYE BYE" {
				t.Errorf("shown %q", d.methods())
			}
		})
	})
	// RFC 3261 §17.2.3: another sent-by is another transaction, and so is another
	// method; the case of a host and a default port mean nothing.
	t.Run("identity", func(t *testing.T) {
		d := &desk{}
		serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
			for _, via := range []string{"Host.example.test:5060", "host.example.test", "host.example.test:5061"} {
				conn.say(inbound("INFO", inDialog, "Via: SIP/2.0/UDP "+via+";branch=z9hG4bK77"))
			}
			conn.say(inbound("BYE", inDialog, "Via: SIP/2.0/UDP host.example.test;branch=z9hG4bK77"))
			if d.methods() != "INFO INFO BYE" {
				t.Errorf("shown %q", d.methods())
			}
		})
	})
}

// RFC 3261 §8.2.2.2: the same INVITE by another path is refused, but not one
// that a proxy forked to another user of this node, nor one in a dialog.
func TestMergedInvite(t *testing.T) {
	for name, c := range map[string]struct {
		first, second []byte
		want          string
	}{
		"another path": {calling(), calling(newBranch), "482"},
		"another call": {calling(), calling(newBranch, "Call-ID: in-2"), ""},
		"another CSeq": {calling(), calling(newBranch, "CSeq: 8 INVITE"), ""},
		"another user": {calling(), replaceAll(calling(newBranch), "INVITE sip:alice@", "INVITE sip:carol@"), ""},
		"in a dialog":  {calling(), calling(newBranch, inDialog), ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{}
			serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
				conn.say(c.first)
				conn.say(c.second)
				if got := answerCodes(conn.packets()); got != c.want {
					t.Errorf("answered %q, want %q", got, c.want)
				}
				if want := map[string]int{"482": 1}[c.want]; len(d.requests()) != 2-want {
					t.Errorf("shown %q", d.methods())
				}
			})
		})
	}
}

// S-35: server transactions are bounded, and what is over the bound costs no
// state.
func TestS35_ServerTransactions(t *testing.T) {
	d := &desk{}
	serving(t, Options{MaxPending: 2}, d, func(t *testing.T, a *Adapter, conn *memConn) {
		for i := range 5 {
			conn.say(calling(fmt.Sprint("Call-ID: in-", i)))
		}
		if got := answerCodes(conn.packets()); got != "503 503 503" || a.Stats().Serving != 2 || len(d.requests()) != 2 {
			t.Errorf("answered %q, serving %d, shown %q", got, a.Stats().Serving, d.methods())
		}
		d.requests()[0].Respond(messages.SIPReply{Status: 486})
		conn.say(acking(conn.packets()[3].data, "Call-ID: in-0"))
		pass(5 * time.Second)
		conn.say(calling("Call-ID: in-5"))
		if len(d.requests()) != 3 {
			t.Errorf("shown %q: there is room again", d.methods())
		}
	})
}

// A request that is answered before it is turned down counts as taken.
func TestAnsweredAndNotTaken(t *testing.T) {
	d := answers(messages.SIPReply{Status: 486})
	d.refuse = true
	serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
		conn.say(calling())
		conn.say(calling())
		if got := answerCodes(conn.packets()); got != "486 486" || d.methods() != "INVITE" {
			t.Errorf("answered %q, shown %q", got, d.methods())
		}
	})
}
