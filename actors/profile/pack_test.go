package profile_test

import (
	"fmt"
	"testing"

	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/words"
	"github.com/sipmuster/muster/messages"
)

// usual is a registered profile as there are a million of them.
func usual(b *testing.B, n int) (id string, s profile.State) {
	b.Helper()
	id = fmt.Sprintf("sip:u%07d@example.test", n)
	s = decide(b, benchPolicy, s, machinetest.Start, profile.Declare{Spec: profile.Spec{
		AOR: id, Registrar: "kamailio-a", Username: fmt.Sprintf("u%07d", n), RegistrationHandler: "digest", SessionHandler: "digest", Register: true,
	}, Source: "file", Row: fmt.Sprintf("%016x", 0x9e3779b97f4a7c15*uint64(n+1))})
	nonces := []string{"aSKq2GkipayRzGuqf7yEOGd6VBqfa+6j", "bSKq2GkipayRzGuqf7yEOGd6VBqfa+6j"}
	asked := *benchChallenge
	asked.Challenges = []*messages.RecordedChallenge{{
		Space: messages.Space_ORIGIN, Raw: `Digest realm="example.test", nonce="` + nonces[n%2] + `", qop="auth", algorithm=MD5`,
	}}
	now := machinetest.Start
	s = decide(b, benchPolicy, s, now, profile.SlotGranted{})
	s = decide(b, benchPolicy, s, now, profile.ResponseReceived{Attempt: s.Attempt.Number, Response: &asked})
	s = decide(b, benchPolicy, s, now, profile.CredentialsOffered{Attempt: s.Attempt.Number, Handler: "digest"})
	return id, decide(b, benchPolicy, s, now, profile.ResponseReceived{Attempt: s.Attempt.Number, Response: benchGranted})
}

func BenchmarkPack(b *testing.B) {
	w := &profile.Words{Texts: new(words.Table)}
	for n := range 2 {
		id, s := usual(b, n)
		w.Pack(id, 5, s)
	}
	id, s := usual(b, 2)
	b.Run("pack", func(b *testing.B) {
		b.ReportAllocs()
		var packed string
		for b.Loop() {
			packed = w.Pack(id, 5, s)
		}
		b.ReportMetric(float64(len(packed)), "bytes")
	})
	packed := w.Pack(id, 5, s)
	b.Run("unpack", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, version := w.Unpack(id, packed); version != 5 {
				b.Fatal(version)
			}
		}
	})
}
