package sipadapter

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// compose serialises a request as one from contact.
func compose(r *messages.SIPRequest, contact, userAgent string) template {
	requestURI, lines := requestLines(r, contact, userAgent)
	return serialise(r, requestURI, lines)
}

// packetOf serialises a request as it would go to the test registrar.
func packetOf(t testing.TB, r *messages.SIPRequest) string {
	t.Helper()
	if err := check(r); err != nil {
		t.Fatal(err)
	}
	tmpl := compose(r, "sip:alice@192.0.2.10:5060", "Muster")
	sentBy := hostPort{"192.0.2.10", 5060}
	packet := tmpl.packet(transportUDP, sentBy, branchKey{1})
	if len(packet) != tmpl.size(sentBy) {
		t.Errorf("size says %d, the packet has %d", tmpl.size(sentBy), len(packet))
	}
	return string(packet)
}

// GEN-01, GEN-02, GEN-05, GEN-06, GEN-18, REG-01, REG-02, REG-08: a REGISTER
// byte by byte.
func TestGEN01_Register(t *testing.T) {
	want := strings.ReplaceAll(`REGISTER sip:example.test SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK01000000000000000000000000000000;rport
Max-Forwards: 70
From: <sip:alice@example.test>;tag=f1
To: <sip:alice@example.test>
Call-ID: call-1
CSeq: 12 REGISTER
Contact: <sip:alice@192.0.2.10:5060>;expires=3600
Expires: 3600
Supported: path
User-Agent: Muster
Content-Length: 0

`, "\n", "\r\n")
	if diff := cmp.Diff(want, packetOf(t, register())); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestBuildVariants(t *testing.T) {
	t.Run("REG-10 fetch has no Contact", func(t *testing.T) {
		r := register()
		r.NoContact, r.Expires = true, -1
		p := []byte(packetOf(t, r))
		if len(headerLines(p, "Contact"))+len(headerLines(p, "Expires")) != 0 {
			t.Errorf("%s", p)
		}
	})
	t.Run("REG-08 no expiry asked for", func(t *testing.T) {
		r := register()
		r.Expires = -1
		if c := headerLine(t, []byte(packetOf(t, r)), "Contact"); c != "<sip:alice@192.0.2.10:5060>" {
			t.Errorf("contact %s", c)
		}
	})
	t.Run("REG-20 removal", func(t *testing.T) {
		r := register()
		r.Expires = 0
		p := []byte(packetOf(t, r))
		if c := headerLine(t, p, "Contact"); !strings.HasSuffix(c, ";expires=0") || headerLine(t, p, "Expires") != "0" {
			t.Errorf("%s", p)
		}
	})
	t.Run("body", func(t *testing.T) {
		r := register()
		r.ContentType, r.Body = "application/x", []byte("héllo")
		p := packetOf(t, r)
		if headerLine(t, []byte(p), "Content-Length") != "6" || !strings.HasSuffix(p, "\r\n\r\nhéllo") {
			t.Errorf("%s", p)
		}
	})
	t.Run("in a dialog", func(t *testing.T) {
		r := register()
		r.Method, r.RequestURI, r.ToTag = "OPTIONS", "sip:bob@example.test;x=Y", "t9"
		p := packetOf(t, r)
		if !strings.HasPrefix(p, "OPTIONS sip:bob@example.test;x=Y SIP/2.0\r\n") || headerLine(t, []byte(p), "To") != "<sip:alice@example.test>;tag=t9" {
			t.Errorf("%s", p)
		}
	})
}

// GEN-08: a loose route set is copied; behind a strict router the target is
// the last Route.
func TestGEN08_RouteSet(t *testing.T) {
	r := register()
	r.Route = []string{"<sip:p1;lr>", "sip:p2;lr"}
	p := packetOf(t, r)
	if diff := cmp.Diff([]string{"<sip:p1;lr>", "<sip:p2;lr>"}, headerLines([]byte(p), "Route")); diff != "" || !strings.HasPrefix(p, "REGISTER sip:example.test SIP/2.0") {
		t.Errorf("loose (-want +got):\n%s%s", diff, p)
	}
	r.Route = []string{`"P" <sip:u@p1:5070;transport=tcp;method=INVITE?x=y>`, "<sip:p2;lr>"}
	p = packetOf(t, r)
	if diff := cmp.Diff([]string{"<sip:p2;lr>", "<sip:example.test>"}, headerLines([]byte(p), "Route")); diff != "" || !strings.HasPrefix(p, "REGISTER sip:u@p1:5070;transport=tcp SIP/2.0\r\n") {
		t.Errorf("strict (-want +got):\n%s%s", diff, p)
	}
}

// GEN-10: credentials for two realms stay two lines.
func TestGEN10_TwoCredentials(t *testing.T) {
	r := register()
	r.Mutations = []*messages.HeaderMutation{
		{Op: messages.Op_SET, Name: "Authorization", Value: `Digest realm="a"`},
		{Op: messages.Op_ADD, Name: "authorization", Value: `Digest realm="b"`},
		{Op: messages.Op_SET, Name: "Proxy-Authorization", Value: `Digest realm="c"`},
	}
	p := []byte(packetOf(t, r))
	if diff := cmp.Diff([]string{`Digest realm="a"`, `Digest realm="b"`}, headerLines(p, "Authorization")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	headerLine(t, p, "Proxy-Authorization")
}

// S-52: a field that would become another line is refused, and the error does
// not show it.
func TestS52_Check(t *testing.T) {
	const evil = "canary\r\nContact: <sip:evil@x>"
	for name, spoil := range map[string]func(*messages.SIPRequest){
		"Request-URI":           func(r *messages.SIPRequest) { r.RequestURI = "sip:" + evil },
		"Request-URI blank":     func(r *messages.SIPRequest) { r.RequestURI = "sip:a SIP/2.0" },
		"REG-01 user":           func(r *messages.SIPRequest) { r.RequestURI = "sip:canary@example.test" },
		"From":                  func(r *messages.SIPRequest) { r.From = "sip:" + evil },
		"From brackets":         func(r *messages.SIPRequest) { r.From = "sip:a@b>;tag=x" },
		"From tag":              func(r *messages.SIPRequest) { r.FromTag = "a;b" },
		"no From tag":           func(r *messages.SIPRequest) { r.FromTag = "" },
		"To":                    func(r *messages.SIPRequest) { r.To = "sip:" + evil },
		"To tag":                func(r *messages.SIPRequest) { r.ToTag = evil },
		"Call-ID":               func(r *messages.SIPRequest) { r.CallID = evil },
		"Call-ID empty":         func(r *messages.SIPRequest) { r.CallID = "" },
		"GEN-05 CSeq":           func(r *messages.SIPRequest) { r.CSeq = 1 << 31 },
		"contact user":          func(r *messages.SIPRequest) { r.ContactUser = evil },
		"option tag":            func(r *messages.SIPRequest) { r.Supported = []string{"path", evil} },
		"Route":                 func(r *messages.SIPRequest) { r.Route = []string{"<sip:" + evil + ">"} },
		"Route display":         func(r *messages.SIPRequest) { r.Route = []string{"\"\r\nX: y\" <sip:p;lr>"} },
		"Content-Type":          func(r *messages.SIPRequest) { r.ContentType = evil },
		"body without type":     func(r *messages.SIPRequest) { r.Body = []byte("x") },
		"method":                func(r *messages.SIPRequest) { r.Method = "REGISTER sip:x" },
		"INVITE":                func(r *messages.SIPRequest) { r.Method = "INVITE" },
		"ACK":                   func(r *messages.SIPRequest) { r.Method = "ACK" },
		"CANCEL":                func(r *messages.SIPRequest) { r.Method = "CANCEL" },
		"next hop":              func(r *messages.SIPRequest) { r.NextHop = evil },
		"next hop of a phone":   func(r *messages.SIPRequest) { r.NextHop = "tel:+canary" },
		"next hop with port 0":  func(r *messages.SIPRequest) { r.NextHop = "sip:canary:0" },
		"next hop, broken addr": func(r *messages.SIPRequest) { r.NextHop = "sip:[::1" },
	} {
		t.Run(name, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{})
			defer shut(t, a)
			r := register()
			spoil(r)
			o := await(t, send(a, r))
			if o.Failure != messages.ReasonConfiguration || strings.Contains(o.Detail, "canary") || !o.Sent.IsZero() {
				t.Errorf("outcome %+v", o)
			}
			if len(conn.packets()) != 0 {
				t.Error("it was sent")
			}
		})
	}
}

// S-15: sips and transports that are not there are refused, never replaced.
func TestS15_NothingWeaker(t *testing.T) {
	a, conn := memAdapter(t, Options{}, seams{})
	defer shut(t, a)
	for _, hop := range []string{"sips:192.0.2.20", "sip:192.0.2.20;transport=tls", "sip:192.0.2.20;transport=ws", "sips:192.0.2.20;transport=udp"} {
		r := register()
		r.NextHop = hop
		if o := await(t, send(a, r)); o.Failure != messages.ReasonTransport || o.Detail == "" {
			t.Errorf("%s: %+v", hop, o)
		}
	}
	if len(conn.packets()) != 0 {
		t.Error("something was sent")
	}
}

// S-05: branches are 128 bits from the system's random source, none twice.
func TestS05_Branches(t *testing.T) {
	var e entropy
	const n = 50_000
	seen := make(map[branchKey]bool, n)
	var ones [128]int
	for range n {
		k := e.branch()
		if seen[k] {
			t.Fatal("GEN-06: a branch repeats")
		}
		seen[k] = true
		for bit := range ones {
			ones[bit] += int(k[bit/8]>>(bit%8)) & 1
		}
		if got, ok := parseBranch(string(k.appendTo(nil))); !ok || got != k {
			t.Fatal("a branch does not survive the wire")
		}
	}
	for bit, count := range ones {
		// Ten standard deviations of a fair coin.
		if d := count - n/2; d > 1120 || d < -1120 {
			t.Errorf("bit %d is set %d times of %d", bit, count, n)
		}
	}
}
