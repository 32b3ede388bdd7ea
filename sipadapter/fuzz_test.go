package sipadapter

import (
	"testing"

	"github.com/sipmuster/muster/messages"
)

// FuzzReceive feeds datagrams to the receive path while a transaction waits.
// The text OURBRANCH stands for the branch of that transaction, so that the
// fuzzer can get past the first check. Nothing may panic, and there is at most
// one outcome.
func FuzzReceive(f *testing.F) {
	request := register()
	f.Add(answerTo([]byte("REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=OURBRANCH;rport\r\n"+
		"From: <sip:alice@example.test>;tag=f1\r\nTo: <sip:alice@example.test>\r\nCall-ID: call-1\r\nCSeq: 12 REGISTER\r\n\r\n"),
		"401 Unauthorized", `WWW-Authenticate: Digest realm="a", nonce="b"`, "Contact: <sip:alice@192.0.2.10:5060>;expires=60, <sip:x@y?a=b>;q=0.1",
		"Service-Route: <sip:p;lr>", "Retry-After: 5 (x);duration=1", `Authentication-Info: nextnonce="x", nc=1`, "Unsupported: a, b", "Expires: 60"))
	f.Add(inbound("OPTIONS"))
	f.Add(inbound("INVITE", "Require: x"))
	for _, raw := range allTorture(f) {
		f.Add(raw)
	}
	a, conn := memAdapter(f, Options{}, seams{})
	f.Cleanup(func() { shut(f, a) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		outcomes := make(chan messages.SIPOutcome, 8)
		a.Send(request, func(o messages.SIPOutcome) { outcomes <- o })
		packets := conn.packets()
		branch, _ := parameter(headerLine(t, packets[len(packets)-1].data, "Via"), "branch")
		conn.mu.Lock()
		conn.sent = nil
		conn.mu.Unlock()
		raw = replaceAll(raw, "OURBRANCH", branch)
		o := origin{from: peerAddr, socket: a.sockets[0]}
		a.receive(raw, o)
		a.receive(raw, o)
		key, _ := parseBranch(branch)
		if tx := a.table.find(key); tx != nil {
			a.table.fail(tx, result{err: errEnding})
		}
		if n := len(outcomes); n != 1 {
			t.Fatalf("%d outcomes", n)
		}
		feedStream(a, raw)
	})
}

// feedStream cuts the same bytes into messages as a connection would.
func feedStream(a *Adapter, raw []byte) {
	s := newStream(a, peerAddr, false)
	var f framer
	for len(raw) > 0 {
		n := copy(f.space(), raw)
		f.filled(n)
		raw = raw[n:]
		for {
			one, err := f.next()
			if err != nil {
				return
			}
			if one == nil {
				break
			}
			a.receive(one, origin{from: peerAddr, stream: s})
		}
	}
}
