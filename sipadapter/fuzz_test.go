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
		a.table.fail(key, request.Method, result{err: errEnding})
		if n := len(outcomes); n != 1 {
			t.Fatalf("%d outcomes", n)
		}
		feedStream(a, raw)
	})
}

// FuzzInvite is the same for an INVITE, with a CANCEL in between. Whatever
// comes, no two reports overlap, none follows the last one, and the only
// requests that leave are the INVITE, its CANCEL and its ACK.
func FuzzInvite(f *testing.F) {
	const request = "INVITE sip:bob@example.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=OURBRANCH;rport\r\n" +
		"From: <sip:alice@example.test>;tag=f1\r\nTo: <sip:bob@example.test>\r\nCall-ID: call-1\r\nCSeq: 12 INVITE\r\n\r\n"
	dialog := []string{
		"Contact: <sip:bob@192.0.2.31>", "Record-Route: <sip:p1;lr>, <sip:p2;lr>", "Require: 100rel", "RSeq: 1",
		"Session-Expires: 1800;refresher=uac", "Min-SE: 90", "Allow: INVITE, ACK", "Subject: x",
	}
	for _, status := range []string{"100 Trying", "183 Progress", "200 OK", "302 Moved", "407 Who", "503 Busy", "699 No"} {
		f.Add(answerTo([]byte(request), status, dialog...))
	}
	f.Add(replaceHeader(answerTo([]byte(request), "200 OK"), "CSeq", "12 CANCEL"))
	f.Add(replaceHeader(answerTo([]byte(request), "404 Who"), "To", "\"a\\\"\" <sip:b;c=d?e=f> ; tag = g"))
	for _, raw := range allTorture(f) {
		f.Add(raw)
	}
	a, conn := memAdapter(f, Options{}, seams{})
	f.Cleanup(func() { shut(f, a) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		conn.mu.Lock()
		conn.sent = nil
		conn.mu.Unlock()
		w := place(t, a, callRequest())
		invite := conn.packets()[0].data
		branch := branchOf(t, invite)
		key, _ := parseBranch(branch)
		o := origin{from: peerAddr, socket: a.sockets[0]}
		raw = replaceAll(raw, "OURBRANCH", branch)
		a.receive(raw, o)
		w.call.Cancel()
		a.receive(raw, o)
		for _, method := range []string{"INVITE", "CANCEL"} {
			a.table.fail(key, method, result{err: errEnding})
		}
		if w.text() == "" {
			t.Fatal("nothing was reported")
		}
		for _, p := range conn.packets() {
			m, err := a.parseRequest(p.data, false)
			if isResponse(p.data) || err != nil {
				continue
			}
			if m.faulty || m.method != "INVITE" && m.method != "ACK" && m.method != "CANCEL" || branchOf(t, p.data) != branch {
				t.Fatalf("sent %q", p.data)
			}
		}
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
