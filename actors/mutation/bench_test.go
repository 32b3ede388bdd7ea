package mutation

import (
	"testing"

	"github.com/sipmuster/muster/messages"
)

// BenchmarkCheck is what every request with credentials costs.
func BenchmarkCheck(b *testing.B) {
	ms := []*messages.HeaderMutation{{
		Op: messages.Op_SET, Name: "Authorization",
		Value: `Digest username="u0123456", realm="example.test", nonce="aSKq2GkipayRzGuqf7yEOGd6VBqfa+6j", uri="sip:example.test", response="0123456789abcdef0123456789abcdef", cnonce="0123456789abcdef", qop=auth, nc=00000001, algorithm=MD5`,
	}}
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(ms, nil); err != nil {
			b.Fatal(err)
		}
	}
}
