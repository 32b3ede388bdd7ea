package sipadapter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// replied is what leaves when a request is answered once.
func replied(t *testing.T, raw []byte, r messages.SIPReply) (packet []byte, refused uint64) {
	t.Helper()
	serving(t, Options{UserAgent: "Muster"}, answers(r), func(t *testing.T, a *Adapter, conn *memConn) {
		conn.say(raw)
		packets := conn.packets()
		if len(packets) != 1 {
			t.Fatalf("answered %q", answerCodes(packets))
		}
		packet, refused = packets[0].data, a.Stats().Refused
	})
	return packet, refused
}

// RFC 3261 §8.2.6.2, §12.1.1, §13.3.1.4: the whole of a response that makes a
// dialog.
func TestReplyForm(t *testing.T) {
	raw := insertLine(calling("Record-Route: <sip:p1;lr>, <sip:p2;lr>", "Subject: x"), "record-route: <sip:p3;lr>")
	got, refused := replied(t, raw, messages.SIPReply{
		Status: 200, Phrase: "Fine", Tag: "ours", ContactUser: "alice",
		Headers:     []messages.Header{{Name: "x", Value: "1800;refresher=uas"}, {Name: "Require", Value: " timer "}},
		ContentType: "application/sdp", Body: []byte("v=0\r\n"),
	})
	want := strings.ReplaceAll(`SIP/2.0 200 Fine
Via: SIP/2.0/UDP 198.51.100.95:5060;branch=z9hG4bK77;rport=5060;received=198.51.100.95
From: <sip:bob@example.test>;tag=b1
To: <sip:alice@192.0.2.10>;tag=ours
Call-ID: in-1
CSeq: 7 INVITE
Record-Route: <sip:p3;lr>
Record-Route: <sip:p1;lr>, <sip:p2;lr>
Contact: <sip:alice@192.0.2.10:5060>
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, REFER, MESSAGE, NOTIFY
Supported: timer
session-expires: 1800;refresher=uas
Require: timer
Server: Muster
Content-Type: application/sdp
Content-Length: 5

v=0
`, "\n", "\r\n")
	if diff := cmp.Diff(want, string(got)); diff != "" || refused != 0 {
		t.Errorf("refused %d, answer (-want +got):\n%s", refused, diff)
	}
}

// Which responses have our Contact, the Record-Route, Allow and Supported.
func TestReplyLines(t *testing.T) {
	for _, c := range []struct {
		method string
		status int
		want   string
	}{
		{"INVITE", 100, ""},
		{"INVITE", 180, "Record-Route Contact"},
		{"INVITE", 200, "Record-Route Contact Allow Supported"},
		{"INVITE", 302, ""},
		{"INVITE", 405, "Allow"},
		{"INVITE", 486, ""},
		{"UPDATE", 200, "Record-Route Contact Allow Supported"},
		{"UPDATE", 491, ""},
		{"OPTIONS", 200, "Allow Supported"},
		{"BYE", 200, ""},
		{"INFO", 405, "Allow"},
	} {
		packet, _ := replied(t, inbound(c.method, inDialog, "Record-Route: <sip:p;lr>"), messages.SIPReply{Status: c.status})
		var got []string
		for _, name := range []string{"Record-Route", "Contact", "Allow", "Supported"} {
			if len(headerLines(packet, name)) > 0 {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %d: %v, want %s", c.method, c.status, got, c.want)
		}
	}
}

// What the core may add, and what not; the response leaves either way (S-50,
// S-51).
func TestReplyHeaders(t *testing.T) {
	for _, name := range []string{
		"Retry-After", "Session-Expires", "Require", "Min-SE", "Unsupported", "Refer-Sub", "Warning", "Reason",
		"Content-Disposition", "X-Anything", "WWW-Authenticate", "Accept", "Error-Info",
	} {
		packet, refused := replied(t, calling(), messages.SIPReply{Status: 488, Headers: []messages.Header{{Name: name, Value: "a b;c"}}})
		if headerLine(t, packet, name) != "a b;c" || refused != 0 {
			t.Errorf("%s: refused %d\n%s", name, refused, packet)
		}
	}
	for _, h := range []messages.Header{
		{Name: "Via", Value: "SIP/2.0/UDP evil"},
		{Name: "v", Value: "SIP/2.0/UDP evil"},
		{Name: "FROM", Value: "<sip:evil>"},
		{Name: "t", Value: "<sip:evil>"},
		{Name: "Call-ID", Value: "evil"},
		{Name: "CSeq", Value: "1 evil"},
		{Name: "m", Value: "<sip:evil>"},
		{Name: "Record-Route", Value: "<sip:evil>"},
		{Name: "Allow", Value: "evil"},
		{Name: "Supported", Value: "evil"},
		{Name: "Server", Value: "evil"},
		{Name: "l", Value: "9"},
		{Name: "Content-Type", Value: "evil"},
		{Name: "RSeq", Value: "9"},
		{Name: "Authorization", Value: "evil"},
		{Name: "X-A", Value: "b\r\nX-Evil: c"},
		{Name: "X-A", Value: "evil\x00"},
		{Name: "X-A", Value: "evil\xff"},
		{Name: "X A", Value: "evil"},
		{Name: "X-A: evil", Value: "b"},
		{Name: "", Value: "evil"},
		{Name: "X-A", Value: strings.Repeat("evil", 2<<10)},
	} {
		packet, refused := replied(t, calling(), messages.SIPReply{Status: 488, Headers: []messages.Header{h, {Name: "X-Good", Value: "1"}}})
		if strings.Contains(strings.ToLower(string(packet)), "evil") || refused != 1 || headerLine(t, packet, "X-Good") != "1" {
			t.Errorf("%.40q: refused %d\n%s", h, refused, packet)
		}
	}
	many := make([]messages.Header, 70)
	for i := range many {
		many[i] = messages.Header{Name: fmt.Sprint("X-", i), Value: "v"}
	}
	if packet, refused := replied(t, calling(), messages.SIPReply{Status: 488, Headers: many}); refused != 6 || len(headerLines(packet, "X-63")) != 1 {
		t.Errorf("refused %d of 70 headers", refused)
	}
	// RFC 3261 §21.3: the Contacts of a redirection are the core's.
	packet, _ := replied(t, calling(), messages.SIPReply{Status: 302, ContactUser: "alice", Headers: []messages.Header{{Name: "Contact", Value: "<sip:bob@192.0.2.9>"}}})
	if got := headerLine(t, packet, "Contact"); got != "<sip:bob@192.0.2.9>" {
		t.Errorf("Contact %s", got)
	}
}

// S-52, S-53: a phrase, a tag or a body that cannot stand there is left out.
func TestReplyFaults(t *testing.T) {
	packet, _ := replied(t, calling(), messages.SIPReply{Status: 486, Phrase: "Busy\r\nX-Evil: 1", Tag: "a b"})
	if start, _, _ := strings.Cut(string(packet), "\r\n"); start != "SIP/2.0 486 Busy Here" || len(headerLines(packet, "X-Evil")) != 0 {
		t.Errorf("%s", packet)
	}
	if to := headerLine(t, packet, "To"); strings.Contains(to, " b") || !strings.Contains(to, ";tag=") {
		t.Errorf("To %s", to)
	}
	for _, contentType := range []string{"", "a\r\nb"} {
		packet, refused := replied(t, calling(), messages.SIPReply{Status: 200, ContentType: contentType, Body: []byte("v=0")})
		if headerLine(t, packet, "Content-Length") != "0" || refused != 1 {
			t.Errorf("refused %d\n%s", refused, packet)
		}
	}
	told := make(chan *messages.SIPInbound, 1)
	packet, refused := replied(t, calling(), messages.SIPReply{
		Status: 200, ContentType: "text/plain", Body: make([]byte, maxMessage), Acked: func(ack *messages.SIPInbound) { told <- ack },
	})
	if got := answerCodes([]datagram{{data: packet}}); got != "500" || refused != 1 || <-told != nil {
		t.Errorf("too large: answered %q, refused %d", got, refused)
	}
	for _, status := range []int{-1, 0, 99, 700, 1200} {
		d := answers(messages.SIPReply{Status: status})
		serving(t, Options{}, d, func(t *testing.T, a *Adapter, conn *memConn) {
			conn.say(calling())
			if got := answerCodes(conn.packets()); got != "" || a.Stats().Refused != 1 {
				t.Errorf("%d: answered %q", status, got)
			}
		})
	}
}

// One To tag for all responses above 100 of a request: the first (RFC 3261
// §8.2.6.2); what follows a final response does not leave.
func TestReplyTag(t *testing.T) {
	for _, c := range []struct{ tags, want string }{{"ours ours", "ours"}, {"ours other", "ours"}, {" ours", ""}} {
		first, second, _ := strings.Cut(c.tags, " ")
		d := &desk{reply: func(in *messages.SIPInbound) {
			in.Respond(messages.SIPReply{Status: 100, Tag: "never"})
			in.Respond(messages.SIPReply{Status: 183, Tag: first})
			in.Respond(messages.SIPReply{Status: 486, Tag: second})
			in.Respond(messages.SIPReply{Status: 180, Tag: second})
			in.Respond(messages.SIPReply{Status: 200, Tag: second})
		}}
		serving(t, Options{}, d, func(t *testing.T, _ *Adapter, conn *memConn) {
			conn.say(calling())
			packets := conn.packets()
			if got := answerCodes(packets); got != "100 183 486" {
				t.Fatalf("answered %q", got)
			}
			to := headerLine(t, packets[1].data, "To")
			_, made, _ := strings.Cut(to, ";tag=")
			if c.want != "" && made != c.want || made == "" || headerLine(t, packets[2].data, "To") != to {
				t.Errorf("tags %q: To %s and %s", c.tags, to, headerLine(t, packets[2].data, "To"))
			}
			if got := headerLine(t, packets[0].data, "To"); got != "<sip:alice@192.0.2.10>" {
				t.Errorf("To of the 100 %s", got)
			}
		})
	}
}

func TestReasonPhrase(t *testing.T) {
	for status, want := range map[int]string{
		100: "Trying", 180: "Ringing", 183: "Session Progress", 202: "Accepted", 302: "Moved Temporarily",
		422: "Session Interval Too Small", 481: "Call/Transaction Does Not Exist", 487: "Request Terminated", 491: "Request Pending",
		503: "Service Unavailable", 603: "Decline",
		198: "Progress", 299: "OK", 399: "Redirected", 499: "Request Failure", 599: "Server Failure", 699: "Global Failure",
	} {
		if got := reasonPhrase(status); got != want {
			t.Errorf("%d: %q, want %q", status, got, want)
		}
	}
}
