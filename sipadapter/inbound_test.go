package sipadapter

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// inbound builds a request from a stranger. change may replace or add lines.
func inbound(method string, change ...string) []byte {
	raw := []byte(method + " sip:alice@192.0.2.10 SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP 198.51.100.95:5060;branch=z9hG4bK77;rport\r\n" +
		"From: <sip:bob@example.test>;tag=b1\r\n" +
		"To: <sip:alice@192.0.2.10>\r\n" +
		"Call-ID: in-1\r\n" +
		"CSeq: 7 " + method + "\r\n" +
		"Max-Forwards: 70\r\n" +
		"Content-Length: 0\r\n\r\n")
	for _, l := range change {
		name, value, _ := strings.Cut(l, ": ")
		if len(headerLines(raw, name)) == 1 {
			raw = replaceHeader(raw, name, value)
		} else {
			raw = insertLine(raw, l)
		}
	}
	return raw
}

// without removes a header.
func without(raw []byte, name string) []byte {
	head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	var out []string
	for l := range strings.SplitSeq(head, "\r\n") {
		if n, _, ok := strings.Cut(l, ":"); !ok || n != name {
			out = append(out, l)
		}
	}
	return []byte(strings.Join(out, "\r\n") + "\r\n\r\n" + body)
}

// ask delivers a request and gives the answers.
func ask(t *testing.T, o Options, raw []byte) []datagram {
	t.Helper()
	var packets []datagram
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, o, seams{})
		defer shut(t, a)
		conn.deliver(raw, stranger)
		synctest.Wait()
		packets = conn.packets()
	})
	return packets
}

func TestInboundAnswers(t *testing.T) {
	cases := []struct {
		name string
		raw  []byte
		want string // status codes, "" for silence
	}{
		{"OPTIONS", inbound("OPTIONS"), "200"},
		{"ACK", inbound("ACK"), ""},
		{"ACK that is malformed", inbound("ACK", "CSeq: x"), ""},
		{"ACK with a broken start", []byte(strings.Replace(string(inbound("ACK")), "ACK ", "ACK  ", 1)), ""},
		{"INVITE", inbound("INVITE"), "480"},
		{"INVITE in a dialog", inbound("INVITE", "To: <sip:alice@192.0.2.10>;tag=x"), "481"},
		{"BYE", inbound("BYE"), "481"},
		{"CANCEL", inbound("CANCEL"), "481"},
		{"CANCEL with Require", inbound("CANCEL", "Require: path"), "481"},
		{"UPDATE", inbound("UPDATE"), "481"},
		{"PRACK", inbound("PRACK"), "481"},
		{"INFO", inbound("INFO"), "481"},
		{"NOTIFY in a dialog", inbound("NOTIFY", "To: <sip:alice@192.0.2.10>;tag=x"), "481"},
		{"REGISTER", inbound("REGISTER"), "405"},
		{"SUBSCRIBE", inbound("SUBSCRIBE"), "405"},
		{"MESSAGE", inbound("MESSAGE"), "405"},
		{"NOTIFY", inbound("NOTIFY"), "405"},
		{"REFER", inbound("REFER"), "405"},
		{"unknown method", inbound("FROBNICATE"), "405"},
		{"method in lower case", inbound("options"), "405"},
		{"Require", inbound("OPTIONS", "Require: path, 100rel"), "420"},
		{"Require: timer", inbound("INVITE", "Require: Timer"), "480"},
		{"ACK with Require", inbound("ACK", "Require: path"), ""},
		{"version", []byte(strings.Replace(string(inbound("OPTIONS")), " SIP/2.0", " SIP/3.0", 1)), "505"},
		{"no From", without(inbound("OPTIONS"), "From"), "400"},
		{"no To", without(inbound("OPTIONS"), "To"), "400"},
		{"no Call-ID", without(inbound("OPTIONS"), "Call-ID"), "400"},
		{"no CSeq", without(inbound("OPTIONS"), "CSeq"), "400"},
		{"no Via", without(inbound("OPTIONS"), "Via"), ""},
		{"no Max-Forwards", without(inbound("OPTIONS"), "Max-Forwards"), "200"},
		{"Max-Forwards 0", inbound("OPTIONS", "Max-Forwards: 0"), "200"},
		{"Max-Forwards 256", inbound("OPTIONS", "Max-Forwards: 256"), "400"},
		{"wrong CSeq method", inbound("OPTIONS", "CSeq: 7 INVITE"), "400"},
		{"CSeq 2**31", inbound("OPTIONS", "CSeq: 2147483648 OPTIONS"), "400"},
		{"two CSeqs", insertLine(inbound("OPTIONS"), "CSeq: 7 OPTIONS"), "400"},
		{"tel URI", []byte(strings.Replace(string(inbound("OPTIONS")), "sip:alice@192.0.2.10 ", "tel:+1 ", 1)), "416"},
		{"URI with headers", []byte(strings.Replace(string(inbound("OPTIONS")), "192.0.2.10 SIP", "192.0.2.10?Route=x SIP", 1)), "400"},
		{"header without colon", []byte(strings.Replace(string(inbound("OPTIONS")), "Content-Length: 0", "nonsense", 1)), "400"},
		{"header without colon before Via", insertLine(inbound("OPTIONS"), "nonsense"), ""},
		{"keep-alive", []byte("\r\n\r\n"), ""},
		{"keep-alive of zeros", []byte{0, 0, 0, 0}, ""},
		{"nonsense", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ""},
		{"too many headers", headers(200)(inbound("OPTIONS")), ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			packets := ask(t, Options{}, c.raw)
			if got := answerCodes(packets); got != c.want {
				t.Fatalf("answered %q, want %q", got, c.want)
			}
			for _, p := range packets {
				if strings.HasPrefix(string(p.data), "SIP/2.0 405") {
					headerLine(t, p.data, "Allow")
				}
			}
		})
	}
}

// RFC 3261 §8.2.6: what an answer copies, and what it adds.
func TestInboundAnswerForm(t *testing.T) {
	raw := inbound("OPTIONS", "Via: SIP/2.0/UDP 10.0.0.1:5070;rport;received=1.2.3.4;branch=z9hG4bK77", "Require: x")
	raw = without(raw, "Require")
	p := ask(t, Options{UserAgent: "Muster"}, raw)
	if len(p) != 1 || p[0].addr != stranger {
		t.Fatalf("answers %+v", p)
	}
	to := headerLine(t, p[0].data, "To")
	want := strings.ReplaceAll(fmt.Sprintf(`SIP/2.0 200 OK
Via: SIP/2.0/UDP 10.0.0.1:5070;rport=5060;branch=z9hG4bK77;received=198.51.100.95
From: <sip:bob@example.test>;tag=b1
To: %s
Call-ID: in-1
CSeq: 7 OPTIONS
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, REFER, MESSAGE, NOTIFY
Accept: application/sdp
Supported: timer
Server: Muster
Content-Length: 0

`, to), "\n", "\r\n")
	if diff := cmp.Diff(want, string(p[0].data)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(to, "<sip:alice@192.0.2.10>;tag=") || len(to) < len("<sip:alice@192.0.2.10>;tag=")+8 {
		t.Errorf("To %s", to)
	}
	if p := ask(t, Options{}, inbound("OPTIONS", "Require: foo, timer, bar")); headerLine(t, p[0].data, "Unsupported") != "foo, bar" {
		t.Errorf("%s", p[0].data)
	}
}

// RFC 3261 §18.2.2, RFC 3581 §4: where a datagram goes.
func TestInboundDestination(t *testing.T) {
	from := netip.MustParseAddrPort("198.51.100.95:40000")
	for via, want := range map[string]string{
		"SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1;rport":                    "198.51.100.95:40000",
		"SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1":                          "198.51.100.95:5070",
		"SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1":                               "198.51.100.95:5060",
		"SIP/2.0/UDP 10.0.0.1;maddr=203.0.113.1;branch=z9hG4bK1":             "198.51.100.95:5060",
		"SIP/2.0/UDP 10.0.0.1;received=203.0.113.1;branch=z9hG4bK1":          "198.51.100.95:5060",
		"SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1, SIP/2.0/UDP 10.9.9.9:99": "198.51.100.95:5070",
	} {
		t.Run(via, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, conn := memAdapter(t, Options{}, seams{})
				defer shut(t, a)
				conn.deliver(inbound("OPTIONS", "Via: "+via), from)
				synctest.Wait()
				p := conn.packets()
				if len(p) != 1 || p[0].addr.String() != want {
					t.Fatalf("answers %+v, want one to %s", p, want)
				}
				if got := headerLine(t, p[0].data, "Via"); !strings.Contains(got, ";received=198.51.100.95") || strings.Contains(got, "received=203") {
					t.Errorf("Via %s", got)
				}
			})
		})
	}
}

// TRX-11: no 1xx, no 408, whatever is asked.
func TestTRX11_NoProvisionalNoTimeout(t *testing.T) {
	for _, method := range []string{"OPTIONS", "REGISTER", "MESSAGE", "NOTIFY", "BYE", "INFO", "UPDATE", "SUBSCRIBE", "X"} {
		for _, status := range []int{0, 100, 183, 408, 99, 700, -1} {
			got := answerCodes(ask(t, Options{OnInbound: func(InboundRequest) int {
				if status == 408 { // only a hook that asks for it gets it
					return 0
				}
				return status
			}}, inbound(method)))
			if len(got) != 3 || got[0] == '1' || got == "408" {
				t.Errorf("%s, hook %d: answered %q", method, status, got)
			}
		}
	}
}

// The hook decides on well-formed requests only.
func TestOnInbound(t *testing.T) {
	var seen []InboundRequest
	o := Options{OnInbound: func(r InboundRequest) int {
		seen = append(seen, r)
		return map[string]int{"MESSAGE": 200, "REFER": 405, "INVITE": 486}[r.Method]
	}}
	for method, want := range map[string]string{"MESSAGE": "200", "REFER": "405", "INVITE": "486", "OPTIONS": "200"} {
		if got := answerCodes(ask(t, o, inbound(method))); got != want {
			t.Errorf("%s: %q, want %s", method, got, want)
		}
	}
	seen = nil
	ask(t, o, without(inbound("MESSAGE"), "To"))
	ask(t, o, inbound("ACK"))
	if len(seen) != 0 {
		t.Errorf("the hook saw %+v", seen)
	}
	ask(t, o, inbound("MESSAGE"))
	want := []InboundRequest{{
		Method: "MESSAGE", RequestURI: "sip:alice@192.0.2.10", From: "<sip:bob@example.test>;tag=b1",
		To: "<sip:alice@192.0.2.10>", CallID: "in-1", Transport: "udp", Source: stranger.String(),
	}}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("the hook saw (-want +got):\n%s", diff)
	}
}

// The rate of answers is bounded, and what is over it is counted.
func TestInboundRate(t *testing.T) {
	for rate, want := range map[int]int{-1: 0, 100: 10} {
		synctest.Test(t, func(t *testing.T) {
			counters := newRecorder()
			a, conn := memAdapter(t, Options{InboundRate: rate, Counters: counters}, seams{})
			defer shut(t, a)
			for range 500 {
				conn.deliver(inbound("OPTIONS"), stranger)
			}
			synctest.Wait()
			if n := len(conn.packets()); n != want || counters.drops(dropRate) != 500-want {
				t.Errorf("rate %d: %d answers, drops %v", rate, n, counters.dropped)
			}
		})
	}
}

// GEN-15: a request on a stream without a length is answered 400, and the
// connection is closed.
func TestGEN15_StreamRequestWithoutLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, l := accepted(t, Options{})
		defer shut(t, a)
		conn := l.connect()
		go func() { _, _ = conn.Write(without(inbound("OPTIONS"), "Content-Length")) }()
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "SIP/2.0 400 ") {
			t.Errorf("answer %q, %v", buf[:n], err)
		}
		if d := closedAfter(conn); d != 0 {
			t.Errorf("closed after %v", d)
		}
	})
}
