package sipadapter

import (
	"strings"
	"testing"

	"github.com/sipmuster/muster/messages"
)

// FuzzServe feeds datagrams to an adapter whose core takes and answers whatever
// it is shown, with what it was shown. Nothing may panic, what is shown can be
// written into a message, and what leaves is a response.
func FuzzServe(f *testing.F) {
	for _, raw := range allTorture(f) {
		f.Add(raw)
	}
	ok := answerTo(calling(), "200 OK")
	f.Add(calling("Record-Route: <sip:p;lr>", "Timestamp: 1", `From: "B\"" <sip:b@c>;tag=b1`))
	f.Add(append(calling(), acking(ok, newBranch)...))
	f.Add(inbound("CANCEL"))
	f.Add(acking(ok))
	f.Add(inbound("PRACK", inDialog, "RAck: 1 7 INVITE"))
	f.Add(inbound("BYE", inDialog, "Require: timer"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		take := func(in *messages.SIPInbound) bool {
			checkInbound(t, in)
			if in.Respond == nil {
				return false
			}
			r := messages.SIPReply{
				Phrase: in.FromDisplay, Tag: in.Dialog.RemoteTag, ContactUser: in.FromDisplay, Headers: in.Dialog.Headers,
				ContentType: in.Dialog.ContentType, Body: in.Dialog.Body, Acked: func(ack *messages.SIPInbound) { checkInbound(t, ack) },
			}
			for _, r.Status = range []int{100, 180, 200} {
				in.Respond(r)
			}
			return in.CSeq%2 == 0
		}
		a, err := New(Options{OnRequest: take})
		if err != nil {
			t.Fatal(err)
		}
		defer a.servers.close()
		a.listeners = []listener{a.newListener(transportUDP, ourAddr)}
		conn := newMemConn()
		o := origin{from: stranger, socket: &udpSocket{a: a, conn: conn, local: ourAddr}}
		// The INVITE of the seeds is there, so that what follows it can hit.
		a.receive(calling(), o)
		a.receive(raw, o)
		a.receive(raw, o)
		if i := strings.Index(string(raw), "\r\n\r\n"); i >= 0 {
			a.receive(raw[i+4:], o)
		}
		for _, p := range conn.packets() {
			if len(p.data) > maxMessage {
				t.Fatalf("%d bytes left", len(p.data))
			}
			if _, err := a.parseResponse(p.data, false); err != nil {
				t.Fatalf("%v:\n%q", err, p.data)
			}
		}
	})
}

// checkInbound fails when a value could not be written into a message.
func checkInbound(t *testing.T, in *messages.SIPInbound) {
	t.Helper()
	checkClean(t, &in.Dialog)
	if !isBracketable(in.RequestURI) || !isBracketable(in.From) || !isBracketable(in.To) || hasControl(in.FromDisplay) ||
		in.CallID == "" || strings.ContainsAny(in.CallID, " \t\r\n,") || in.CSeq >= 1<<31 {
		t.Errorf("shown %+v", in)
	}
}
