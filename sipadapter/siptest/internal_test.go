package siptest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/digest"
)

// swallow takes the answers and keeps the last.
type swallow struct{ last []byte }

func (s *swallow) send(m []byte)      { s.last = m }
func (s *swallow) elsewhere(m []byte) { s.last = m }
func (s *swallow) source() string     { return "127.0.0.1:5070" }
func (s *swallow) transport() string  { return "udp" }

// BenchmarkRegistration is one REGISTER that is challenged and one that answers
// it, without sockets. The client's half, text and digest, is part of it.
func BenchmarkRegistration(b *testing.B) {
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		b.Run(algorithm, func(b *testing.B) {
			r, err := NewRegistrar(Options{
				Authenticate: true, Algorithms: []string{algorithm}, CheckNC: true,
				Password: func(string) (string, bool) { return "secret", true },
			})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			const users = 1000
			var ha1 [users]string
			for i := range ha1 {
				ha1[i] = digest.HA1(algorithm, fmt.Sprint("u", i), "example.test", "secret")
			}
			p := &swallow{}
			register := func(user, cseq int, auth string) {
				r.receive(fmt.Appendf(nil, "REGISTER sip:example.test SIP/2.0\r\n"+
					"Via: SIP/2.0/UDP 127.0.0.1:5070;rport;branch=z9hG4bK%[1]d.%[2]d\r\nMax-Forwards: 70\r\n"+
					"From: <sip:u%[1]d@example.test>;tag=0123456789abcdef\r\nTo: <sip:u%[1]d@example.test>\r\n"+
					"Call-ID: 0123456789abcdef%[1]d\r\nCSeq: %[2]d REGISTER\r\nContact: <sip:u%[1]d@127.0.0.1:5070>;expires=3600\r\n"+
					"Expires: 3600\r\n%[3]sContent-Length: 0\r\n\r\n", user, cseq, auth), p)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				user, cseq := n%users, n/users*2+1
				n++
				register(user, cseq, "")
				_, nonce, _ := strings.Cut(string(p.last), `nonce="`)
				nonce, _, _ = strings.Cut(nonce, `"`)
				response := digest.Response(digest.Exchange{
					Algorithm: algorithm, HA1: ha1[user], Method: "REGISTER", URI: "sip:example.test", Nonce: nonce, QOP: "auth", NC: "00000001", Cnonce: "c",
				})
				register(user, cseq+1, fmt.Sprintf("Authorization: Digest username=\"u%d\", realm=\"example.test\", nonce=\"%s\", uri=\"sip:example.test\", "+
					"response=\"%s\", algorithm=%s, cnonce=\"c\", qop=auth, nc=00000001, opaque=\"%s\"\r\n", user, nonce, response, algorithm, r.opaque))
			}
			if s := r.Snapshot(); s.Accepted != uint64(n) {
				b.Fatalf("%d of %d accepted", s.Accepted, n)
			}
		})
	}
}

// FuzzReceive: whatever arrives, the registrar answers or does not, and never
// panics.
func FuzzReceive(f *testing.F) {
	const head = "REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP a;rport;branch=z9hG4bK1\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n"
	for _, rest := range []string{
		"Contact: *\r\nExpires: 0\r\n\r\n",
		"Contact: \"<,\" <sip:a@b>;expires=1;q, sip:c;x=\"\\\r\n\r\n",
		"Authorization: Digest username=\"a\", realm=\"example.test\", nonce=\"\\\"\", uri=\"sip:example.test\", response=\"\", nc=0\r\n\r\n",
		"Authorization: 0 a=\"\r\n\r\n",
		"Authorization: Digest \"\r\nProxy-Authorization: x\r\nl: 5\r\n\r\nabc",
	} {
		f.Add([]byte(head + rest))
	}
	r, err := NewRegistrar(Options{Authenticate: true, ProxyRealm: "p", LogSize: 4, Password: func(string) (string, bool) { return "", true }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = r.Close() })
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := &swallow{}
		r.receive(raw, p)
		if p.last != nil && !strings.HasPrefix(string(p.last), "SIP/2.0 ") {
			t.Errorf("answer %q", p.last)
		}
		if n, err := messageSize(raw); err == nil && (n <= 0 || n > len(raw)) {
			t.Errorf("message of %d bytes in %d", n, len(raw))
		}
	})
}
