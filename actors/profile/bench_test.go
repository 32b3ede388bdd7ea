package profile_test

import (
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// decide makes one step as a host does: decide, then take over the state.
func decide(b *testing.B, s profile.State, now time.Time, cmd profile.Command) profile.State {
	d := benchDecider.Decide(&benchPolicy, &s, &profile.Input{
		Now: now, Jitter: 0.5, Token: "0123456789abcdef0123456789abcdef", Command: cmd,
	})
	if d.Dropped != "" {
		b.Fatalf("%T was dropped: %s", cmd, d.Dropped)
	}
	return d.State
}

var (
	benchDecider  profile.Decider
	benchPolicy   = profile.Policy{}
	benchDeclared = profile.Declare{Spec: profile.Spec{
		AOR: "sip:alice@example.test", Registrar: "acme", RegistrationHandler: "digest", SessionHandler: "digest", Register: true,
	}, Source: "file", Row: "r1"}
	benchChallenge = &messages.SIPResponse{Status: 401, RetryAfter: -1, Challenges: []*messages.RecordedChallenge{{
		Space: messages.Space_ORIGIN, Raw: `Digest realm="example.test", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41", qop="auth", algorithm=SHA-256`,
	}}}
	benchGranted = &messages.SIPResponse{Status: 200, RetryAfter: -1, Contact: messages.ContactOurs, ContactExpires: 3600}
)

// challenged takes a declared profile through slot, 401, answer and 200.
func challenged(b *testing.B, s profile.State, now time.Time) profile.State {
	b.Helper()
	s = decide(b, s, now, profile.SlotGranted{})
	s = decide(b, s, now, profile.ResponseReceived{Attempt: s.Attempt.Number, Response: benchChallenge})
	s = decide(b, s, now, profile.CredentialsOffered{Attempt: s.Attempt.Number, Handler: "digest"})
	return decide(b, s, now, profile.ResponseReceived{Attempt: s.Attempt.Number, Response: benchGranted})
}

// BenchmarkDecideChallengedRegistration is the whole chain of a first
// registration: four inputs, five events.
func BenchmarkDecideChallengedRegistration(b *testing.B) {
	declared := decide(b, profile.State{}, machinetest.Start, benchDeclared)
	b.ReportAllocs()
	for b.Loop() {
		if s := challenged(b, declared, machinetest.Start); !s.Bound() {
			b.Fatal("not registered")
		}
	}
}

// BenchmarkDecideRefresh is a refresh with a cached nonce: three inputs, two
// events.
func BenchmarkDecideRefresh(b *testing.B) {
	now := machinetest.Start
	s := challenged(b, decide(b, profile.State{}, now, benchDeclared), now)
	b.ReportAllocs()
	for b.Loop() {
		_, now, _ = s.Due()
		s = decide(b, s, now, profile.SlotGranted{})
		s = decide(b, s, now, profile.CredentialsOffered{Attempt: s.Attempt.Number, Handler: "digest"})
		s = decide(b, s, now, profile.ResponseReceived{Attempt: s.Attempt.Number, Response: benchGranted})
		if s.CSeq > 1<<30 {
			s.CSeq = 1
		}
	}
}

// BenchmarkFold is what reading the events of a first registration back costs.
func BenchmarkFold(b *testing.B) {
	var events []*messages.ProfileEvent
	var s profile.State
	take := func(cmd profile.Command) {
		d := profile.Decide(benchPolicy, s, profile.Input{Now: machinetest.Start, Token: "0123456789abcdef0123456789abcdef", Command: cmd})
		s, events = d.State, append(events, d.Events...)
	}
	take(benchDeclared)
	take(profile.SlotGranted{})
	take(profile.ResponseReceived{Attempt: s.Attempt.Number, Response: benchChallenge})
	take(profile.CredentialsOffered{Attempt: s.Attempt.Number, Handler: "digest"})
	take(profile.ResponseReceived{Attempt: s.Attempt.Number, Response: benchGranted})
	b.ReportAllocs()
	for b.Loop() {
		var s profile.State
		for _, e := range events {
			profile.ApplyTo(&s, e)
		}
		if !s.Bound() {
			b.Fatal("not registered")
		}
	}
}

// BenchmarkSnapshot is what a checkpoint costs per profile.
func BenchmarkSnapshot(b *testing.B) {
	s := challenged(b, decide(b, profile.State{}, machinetest.Start, benchDeclared), machinetest.Start)
	encoded, err := profile.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := profile.Marshal(s); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(encoded)), "bytes")
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := profile.Unmarshal(encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}
