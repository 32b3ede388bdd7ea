package sipadapter

import (
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// TestA2xxThatCrossesARefusedCancel: the INVITE has got its 487, and who accepted
// it meanwhile learns that no ACK comes.
func TestA2xxThatCrossesARefusedCancel(t *testing.T) {
	d := &desk{}
	d.reply = func(in *messages.SIPInbound) { d.refuse = in.Method == "CANCEL" }
	serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
		conn.say(calling())
		conn.say(inbound("CANCEL"))
		told := 0
		d.requests()[0].Respond(messages.SIPReply{Status: 200, Tag: "ours", Acked: func(*messages.SIPInbound) { told++ }})
		pass(time.Hour)
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}

// TestACancelNamesItsInvite: it is found by the branch, so who took the INVITE
// must know it again whatever Request-URI the CANCEL has.
func TestACancelNamesItsInvite(t *testing.T) {
	d := &desk{}
	serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
		conn.say(calling())
		conn.say(replaceAll(inbound("CANCEL"), "CANCEL sip:alice@192.0.2.10", "CANCEL sip:alice@192.0.2.10;x=y"))
		seen := d.requests()
		if len(seen) != 2 || seen[1].RequestURI != seen[0].RequestURI {
			t.Errorf("shown %d, the CANCEL of %s", len(seen), seen[len(seen)-1].RequestURI)
		}
	})
}
