package sipadapter

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// GEN-07: an INVITE byte by byte, with one Contact; the caller's lines stand
// behind ours and before what an authenticator adds.
func TestGEN07_Invite(t *testing.T) {
	r := callRequest()
	r.Supported = []string{"timer", "100rel"}
	r.Headers = []messages.Header{
		{Name: "Session-Expires", Value: " 1800;refresher=uac "},
		{Name: "x", Value: "90"}, // the compact form of Session-Expires
		{Name: "Allow", Value: "INVITE, ACK"},
		{Name: "Accept", Value: ""},
	}
	r.Mutations = []*messages.HeaderMutation{set("Authorization", `Digest realm="a"`)}
	want := strings.ReplaceAll(`INVITE sip:bob@example.test SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK01000000000000000000000000000000;rport
Max-Forwards: 70
From: <sip:alice@example.test>;tag=f1
To: <sip:bob@example.test>
Call-ID: call-1
CSeq: 12 INVITE
Contact: <sip:alice@192.0.2.10:5060>
Supported: timer, 100rel
User-Agent: Muster
Session-Expires: 1800;refresher=uac
session-expires: 90
Allow: INVITE, ACK
Accept: `+`
Authorization: Digest realm="a"
Content-Type: application/sdp
Content-Length: 5

v=0
`, "\n", "\r\n")
	if diff := cmp.Diff(want, packetOf(t, r)); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// S-52: a line that contradicts ours or that is none is refused, and the error
// does not show it.
func TestS52_Headers(t *testing.T) {
	long := strings.Repeat("v", 8<<10)
	cases := []struct {
		name    string
		headers []messages.Header
		ok      bool
	}{
		{"session headers", []messages.Header{
			{Name: "Require", Value: "100rel"},
			{Name: "Session-Expires", Value: "1800"},
			{Name: "Min-SE", Value: "90"},
			{Name: "RAck", Value: "1 2 INVITE"},
			{Name: "Allow", Value: "ACK"},
			{Name: "Refer-To", Value: "<sip:c@d>"},
			{Name: "Event", Value: "refer"},
			{Name: "Accept", Value: "application/sdp"},
			{Name: "Subject", Value: "ü"},
			{Name: "X-Canary", Value: "canary"},
			{Name: "P-Asserted-Identity", Value: "<sip:a@b>"},
		}, true},
		{"64 lines", slices.Repeat([]messages.Header{{Name: "X-A", Value: "canary"}}, 64), true},
		{"65 lines", slices.Repeat([]messages.Header{{Name: "X-A", Value: "canary"}}, 65), false},
		{"8 KiB", []messages.Header{{Name: "X", Value: long[1:]}}, true},
		{"over 8 KiB", []messages.Header{{Name: "X-A", Value: long}}, false},
		{"no name", []messages.Header{{Name: "", Value: "canary"}}, false},
		{"blank in the name", []messages.Header{{Name: "X Canary", Value: "v"}}, false},
		{"a whole line as name", []messages.Header{{Name: "X-A: canary\r\nVia", Value: "v"}}, false},
		{"line feed", []messages.Header{{Name: "X-A", Value: "canary\nVia: x"}}, false},
		{"carriage return", []messages.Header{{Name: "X-A", Value: "canary\rVia: x"}}, false},
		{"folding", []messages.Header{{Name: "X-A", Value: "canary\r\n x"}}, false},
		{"NUL", []messages.Header{{Name: "X-A", Value: "canary\x00"}}, false},
		{"no UTF-8", []messages.Header{{Name: "X-A", Value: "canary\xff"}}, false},
	}
	for _, name := range []string{
		"Via", "From", "To", "Call-ID", "CSeq", "Contact", "Route", "Record-Route", "Max-Forwards", "Content-Length",
		"Content-Type", "Authorization", "Proxy-Authorization", "Supported", "User-Agent", "Expires",
		"v", "f", "t", "i", "m", "l", "c", "k", "VIA", "proxy-authorization",
	} {
		cases = append(cases, struct {
			name    string
			headers []messages.Header
			ok      bool
		}{name, []messages.Header{{Name: "X-A", Value: "b"}, {Name: name, Value: "canary"}}, false})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, method := range []string{"INVITE", "BYE"} {
				r := callRequest()
				r.Method, r.Headers = method, c.headers
				err := check(r)
				if (err == nil) != c.ok {
					t.Fatalf("%s: error %v", method, err)
				}
				if err != nil && strings.Contains(strings.ToLower(err.Error()), "canary") {
					t.Errorf("S-65: the error shows it: %v", err)
				}
			}
		})
	}
}

// DLG-01: requests inside a dialog go as they are told: tags, Call-ID, CSeq,
// remote target and route set, and no Contact where none belongs. Their
// responses tell about the dialog; those to a REGISTER do not.
func TestDLG01_RequestsInADialog(t *testing.T) {
	for _, method := range []string{"BYE", "UPDATE", "PRACK", "INFO", "REFER", "MESSAGE", "OPTIONS", "NOTIFY"} {
		t.Run(method, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{})
			defer shut(t, a)
			conn.peer = func(d datagram) []datagram {
				return []datagram{{data: answerTo(d.data, "200 Fine", "Contact: <sip:c@192.0.2.31>", "Allow: BYE, UPDATE"), addr: d.addr}}
			}
			r := ackRequest()
			r.Method, r.CSeq, r.Mutations = method, 14, nil
			r.NoContact = method != "UPDATE" && method != "REFER"
			r.ContactUser = "alice"
			r.Headers = []messages.Header{{Name: "RAck", Value: "1 12 INVITE"}}
			o := await(t, send(a, r))
			if o.Response == nil || o.Response.Phrase != "Fine" || o.Response.Dialog == nil {
				t.Fatalf("outcome %+v", o)
			}
			if d := o.Response.Dialog; d.RemoteTag != "fork1" || d.Target != "sip:c@192.0.2.31" || !slices.Equal(d.Allow, []string{"BYE", "UPDATE"}) {
				t.Errorf("dialog %+v", d)
			}
			p := conn.packets()[0].data
			contacts := []string{"<sip:alice@192.0.2.10:5060>"}
			if r.NoContact {
				contacts = nil
			}
			want := map[string][]string{
				"From": {"<sip:alice@example.test>;tag=f1"}, "To": {"<sip:bob@example.test>;tag=fork1"},
				"Call-ID": {"call-1"}, "CSeq": {"14 " + method}, "Route": {"<sip:p2.test;lr>"}, "Contact": contacts,
				"RAck": {"1 12 INVITE"},
			}
			for name, values := range want {
				if diff := cmp.Diff(values, headerLines(p, name)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if !strings.HasPrefix(string(p), method+" sip:bob@192.0.2.31 SIP/2.0\r\n") {
				t.Errorf("%s", p)
			}
		})
	}
	t.Run("REGISTER", func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		conn.peer = func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: d.addr}} }
		if o := await(t, send(a, register())); o.Response == nil || o.Response.Dialog != nil || o.Response.Phrase != "OK" {
			t.Errorf("outcome %+v", o)
		}
	})
}

// A reason phrase is for people: what cannot be shown is left out.
func TestPhrase(t *testing.T) {
	for phrase, want := range map[string]string{
		"":                       "",
		"Not Found":              "Not Found",
		" = 2**3 * nÖ ":          "= 2**3 * nÖ",
		"a\x01b":                 "",
		"a\xffb":                 "",
		strings.Repeat("a", 256): strings.Repeat("a", 256),
		strings.Repeat("a", 257): "",
	} {
		if got := translated(t, "404 "+phrase).Phrase; got != want {
			t.Errorf("%q: %q, want %q", phrase, got, want)
		}
	}
}
