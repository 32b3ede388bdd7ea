package session_test

import (
	"testing"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// decide makes one step as the host does: decide, then fold.
func decide(b *testing.B, p session.Policy, s session.State, cmd session.Command) session.State {
	b.Helper()
	d := session.Decide(p, s, session.Input{
		Now: start, Jitter: 0.5, Token: "0123456789abcdef0123456789abcdef", Command: cmd,
	})
	if d.Dropped != "" {
		b.Fatalf("%T was dropped: %s", cmd, d.Dropped)
	}
	for _, e := range d.Events {
		s = session.Apply(s, e, start)
	}
	return s
}

var (
	benchPolicy = session.Policy{Targets: []string{ownTarget}}
	benchSpec   = &messages.SessionSpec{Profile: "alice", Registrar: "acme", Aor: "sip:alice@example.test", Peer: "sip:bob@example.test"}
	benchDialog = messages.DialogInfo{RemoteTag: "b1", Target: farContact, RouteSet: []string{ownRoute}, SessionExpires: 1800, Refresher: "uac"}
)

func benchResponse(status int) *messages.SIPResponse {
	d := benchDialog
	r := &messages.SIPResponse{Status: status, RetryAfter: -1, Source: ownSource, Dialog: &d}
	if status == 407 {
		r.Challenges = []*messages.RecordedChallenge{{
			Space: messages.Space_PROXY, Raw: `Digest realm="example.test", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41", qop="auth", algorithm=SHA-256`,
		}}
	}
	return r
}

// established takes a call through 407, answer, 180 and 200.
func established(b *testing.B, challenge, ringing, ok *messages.SIPResponse) session.State {
	b.Helper()
	s := decide(b, benchPolicy, session.State{}, session.Start{Spec: benchSpec, CallID: "c1", LocalTag: "a1", Body: true})
	s = decide(b, benchPolicy, s, session.Admitted{})
	s = decide(b, benchPolicy, s, session.Answered{Attempt: s.Attempts, Response: challenge})
	s = decide(b, benchPolicy, s, session.CredentialsOffered{Attempt: s.Attempts, Handler: "digest"})
	s = decide(b, benchPolicy, s, session.Provisional{Attempt: s.Attempts, Response: ringing})
	return decide(b, benchPolicy, s, session.Answered{Attempt: s.Attempts, Response: ok})
}

// BenchmarkDecideChallengedCall is a whole call: INVITE, 407, INVITE, 180, 200,
// and a BYE with credentials: nine inputs, ten events.
func BenchmarkDecideChallengedCall(b *testing.B) {
	challenge, ringing, ok := benchResponse(407), benchResponse(180), benchResponse(200)
	b.ReportAllocs()
	for b.Loop() {
		s := established(b, challenge, ringing, ok)
		s = decide(b, benchPolicy, s, session.End{Reason: messages.ReasonHangup})
		s = decide(b, benchPolicy, s, session.CredentialsOffered{Attempt: s.Attempts, Handler: "digest"})
		if s = decide(b, benchPolicy, s, session.Answered{Attempt: s.Attempts, Response: ok}); !s.Ended {
			b.Fatal("not ended")
		}
	}
}

// BenchmarkSnapshot is what a checkpoint costs per session.
func BenchmarkSnapshot(b *testing.B) {
	s := established(b, benchResponse(407), benchResponse(180), benchResponse(200))
	encoded := encode(s)
	b.Run("marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			encode(s)
		}
		b.ReportMetric(float64(len(encoded)), "bytes")
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decode(encoded)
		}
	})
}
