package sipadapter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// RFC 3261 §9.2: a CANCEL is answered, and the core told, while nothing final
// has left; both responses have one To tag.
func TestCancelBeforeFinal(t *testing.T) {
	for name, before := range map[string][]messages.SIPReply{
		"at once":       nil,
		"while ringing": {{Status: 180, Tag: "ours"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{}
			serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
				conn.say(calling())
				in := d.one(t)
				for _, r := range before {
					in.Respond(r)
				}
				for range 2 { // the second is a repeat
					conn.say(inbound("CANCEL"))
				}
				if d.methods() != "INVITE CANCEL" {
					t.Fatalf("shown %q", d.methods())
				}
				cancel := d.requests()[1]
				if cancel.Respond != nil || cancel.CallID != in.CallID || cancel.CSeq != in.CSeq || cancel.Dialog.RemoteTag != "b1" {
					t.Errorf("the CANCEL is %+v", cancel)
				}
				in.Respond(messages.SIPReply{Status: 487, Tag: "ours"})
				packets := conn.packets()[len(before):]
				if got := answerCodes(packets); got != "200 200 487" {
					t.Fatalf("answered %q", got)
				}
				if got := headerLine(t, packets[0].data, "CSeq"); got != "7 CANCEL" {
					t.Errorf("CSeq %s", got)
				}
				if got, want := headerLine(t, packets[0].data, "To"), headerLine(t, packets[2].data, "To"); got != want {
					t.Errorf("To %s in the 200, %s in the 487", got, want)
				}
				conn.say(acking(packets[2].data))
				pass(5 * time.Second)
				if n := a.Stats().Serving; n != 0 {
					t.Errorf("%d transactions are left", n)
				}
			})
		})
	}
}

// A CANCEL that comes too late is answered and changes nothing; the core's 2xx
// that crosses an early one has the core's tag.
func TestCancelAfterFinal(t *testing.T) {
	for _, status := range []int{200, 486} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			d := answers(messages.SIPReply{Status: status, Tag: "ours"})
			serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
				conn.say(calling())
				conn.say(inbound("CANCEL"))
				if got := answerCodes(conn.packets()); got != fmt.Sprint(status, " 200") || d.methods() != "INVITE" {
					t.Errorf("answered %q, shown %q", got, d.methods())
				}
				if to := headerLine(t, conn.packets()[1].data, "To"); !strings.HasSuffix(to, ";tag=ours") {
					t.Errorf("To %s", to)
				}
			})
		})
	}
	t.Run("crossing", func(t *testing.T) {
		d := &desk{}
		serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
			conn.say(calling())
			conn.say(inbound("CANCEL"))
			d.requests()[0].Respond(messages.SIPReply{Status: 200, Tag: "ours"})
			if to := headerLine(t, conn.packets()[1].data, "To"); !strings.HasSuffix(to, ";tag=ours") {
				t.Errorf("To %s", to)
			}
		})
	})
}

// A CANCEL that nobody takes ends its INVITE.
func TestCancelNotTaken(t *testing.T) {
	d := &desk{}
	d.reply = func(in *messages.SIPInbound) { d.refuse = in.Method == "CANCEL" }
	serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
		conn.say(calling())
		conn.say(inbound("CANCEL"))
		if got := answerCodes(conn.packets()); got != "200 487" {
			t.Errorf("answered %q", got)
		}
	})
}

// RFC 3261 §13.3.1.4: the ACK for a 2xx has another branch and reaches the core
// with its body, once; what is not quite that ACK does not.
func TestAcked(t *testing.T) {
	var acked []*messages.SIPInbound
	d := answers(messages.SIPReply{Status: 200, Tag: "ours", Acked: func(in *messages.SIPInbound) { acked = append(acked, in) }})
	serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
		conn.say(calling())
		ok := conn.packets()[0].data
		for _, wrong := range []string{
			"CSeq: 8 ACK", "Call-ID: in-2", "To: <sip:alice@192.0.2.10>;tag=theirs", "From: <sip:bob@example.test>;tag=b2",
		} {
			conn.say(acking(ok, newBranch, wrong))
		}
		if len(acked) != 0 || d.methods() != "INVITE ACK ACK ACK ACK" {
			t.Fatalf("acked by %+v, shown %q", acked, d.methods())
		}
		ack := []byte(strings.Replace(string(acking(ok, newBranch)), "Content-Length: 0\r\n\r\n",
			"Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n", 1))
		for range 3 {
			conn.say(ack)
		}
		if len(acked) != 1 || acked[0].Method != "ACK" || string(acked[0].Dialog.Body) != "v=0\r\n" ||
			acked[0].Dialog.ContentType != "application/sdp" || acked[0].ToTag != "ours" || acked[0].Respond != nil {
			t.Fatalf("acked by %+v", acked)
		}
		pass(time.Minute)
		if got := answerCodes(conn.packets()); got != "200" || len(acked) != 1 || d.methods() != "INVITE ACK ACK ACK ACK" {
			t.Errorf("answered %q, acked %d times, shown %q", got, len(acked), d.methods())
		}
		if n := a.Stats().Serving; n != 0 {
			t.Errorf("%d transactions are left", n)
		}
		conn.say(ack) // it may be for a call of an earlier process
		if d.methods() != "INVITE ACK ACK ACK ACK ACK" {
			t.Errorf("shown %q", d.methods())
		}
	})
}

// An ACK that repeats the branch of its INVITE, as old clients do, counts too.
func TestAckedWithTheBranchOfTheInvite(t *testing.T) {
	acked := 0
	d := answers(messages.SIPReply{Status: 200, Tag: "ours", Acked: func(in *messages.SIPInbound) {
		if in != nil {
			acked++
		}
	}})
	serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
		conn.say(calling())
		conn.say(acking(conn.packets()[0].data))
		pass(time.Minute)
		if got := answerCodes(conn.packets()); got != "200" || acked != 1 {
			t.Errorf("answered %q, acked %d times", got, acked)
		}
	})
}

// A re-INVITE has the tag that it came with, and its ACK finds it.
func TestReinvite(t *testing.T) {
	acked := 0
	d := answers(messages.SIPReply{Status: 200, Tag: "another", Acked: func(in *messages.SIPInbound) {
		if in != nil {
			acked++
		}
	}})
	serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
		conn.say(calling(inDialog))
		ok := conn.packets()[0].data
		if to := headerLine(t, ok, "To"); to != "<sip:alice@192.0.2.10>;tag=ours" {
			t.Errorf("To %s", to)
		}
		conn.say(acking(ok, newBranch))
		pass(time.Minute)
		if got := answerCodes(conn.packets()); got != "200" || acked != 1 {
			t.Errorf("answered %q, acked %d times", got, acked)
		}
	})
}

// A proxy that forks to two users of this node has two answers, and each ACK
// finds its own.
func TestForkedToTwoUsers(t *testing.T) {
	acked := map[string]string{}
	d := &desk{reply: func(in *messages.SIPInbound) {
		in.Respond(messages.SIPReply{Status: 200, Tag: "of-" + in.RequestURI[4:8], Acked: func(ack *messages.SIPInbound) {
			acked[in.RequestURI] += ack.ToTag
		}})
	}}
	serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
		conn.say(calling())
		conn.say(replaceAll(calling(newBranch), "INVITE sip:alice@", "INVITE sip:carol@"))
		packets := conn.packets()
		for i := range packets { // the second first
			p := packets[len(packets)-1-i].data
			conn.say(acking(p, fmt.Sprint("Via: SIP/2.0/UDP 198.51.100.95:5060;branch=z9hG4bKack", i)))
		}
		want := map[string]string{"sip:alice@192.0.2.10": "of-alic", "sip:carol@192.0.2.10": "of-caro"}
		if diff := cmp.Diff(want, acked); diff != "" {
			t.Errorf("acked (-want +got):\n%s", diff)
		}
		pass(time.Minute)
		if got := answerCodes(conn.packets()); got != "200 200" || a.Stats().Serving != 0 {
			t.Errorf("answered %q, serving %d", got, a.Stats().Serving)
		}
	})
}
