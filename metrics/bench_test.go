package metrics_test

import (
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
)

// BenchmarkChallengedRegistration makes every call that one challenged
// registration causes: two requests, two responses, three appends with four
// events, a question to the DigestActor, and the gate's word after each message
// to it.
func BenchmarkChallengedRegistration(b *testing.B) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	event := messages.NewProfileEvent
	began := []*messages.ProfileEvent{event(&messages.AttemptStarted{})}
	again := []*messages.ProfileEvent{event(&messages.ChallengeReceived{}), event(&messages.AttemptStarted{})}
	granted := []*messages.ProfileEvent{event(&messages.BindingGranted{})}
	started := time.Now()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		m.Registrar("acme", i&255, i&7, true)
		m.Registrar("acme", i&255, i&7+1, true)
		m.Appended(300 * time.Microsecond)
		m.ProfileEvents("acme", "unregistered", "registering", started, began)
		m.RequestSent("REGISTER")
		m.ResponseReceived("REGISTER", 401)
		m.Registrar("acme", i&255, i&7+1, true)
		m.ChallengeAnswered("digest", "answered", 20*time.Microsecond)
		m.Appended(350 * time.Microsecond)
		m.ProfileEvents("acme", "registering", "challenged", started, again)
		m.Registrar("acme", i&255, i&7+1, true)
		m.RequestSent("REGISTER")
		m.ResponseReceived("REGISTER", 200)
		m.Appended(400 * time.Microsecond)
		m.ProfileEvents("acme", "challenged", "registered", started, granted)
		m.Registrar("acme", i&255, i&7, true)
	}
}

// BenchmarkCalls has a line for each.
func BenchmarkCalls(b *testing.B) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	events := []*messages.ProfileEvent{messages.NewProfileEvent(&messages.AttemptStarted{})}
	granted := []*messages.ProfileEvent{messages.NewProfileEvent(&messages.BindingGranted{})}
	started := time.Now()
	for name, call := range map[string]func(){
		"RequestSent":           func() { m.RequestSent("REGISTER") },
		"ResponseReceived":      func() { m.ResponseReceived("REGISTER", 401) },
		"Appended":              func() { m.Appended(300 * time.Microsecond) },
		"ProfileEvents":         func() { m.ProfileEvents("acme", "registering", "challenged", started, events) },
		"ProfileEvents granted": func() { m.ProfileEvents("acme", "challenged", "registered", started, granted) },
		"ChallengeAnswered":     func() { m.ChallengeAnswered("digest", "answered", 20*time.Microsecond) },
		"Registrar":             func() { m.Registrar("acme", 12, 3, true) },
		"RefreshMargin":         func() { m.RefreshMargin("acme", 700*time.Second) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}
