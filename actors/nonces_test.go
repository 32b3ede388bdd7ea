package actors

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/messages"
)

// TestS08_SharedNoncesAreCounted: a constant nonce over many profiles.
func TestS08_SharedNoncesAreCounted(t *testing.T) {
	received := func(raw ...string) *messages.ChallengeReceived {
		e := &messages.ChallengeReceived{}
		for _, r := range raw {
			e.Challenges = append(e.Challenges, &messages.RecordedChallenge{Raw: r})
		}
		return e
	}
	const n1, n2 = `Digest realm="a", nonce="n1"`, `Digest realm="a", nonce="n2"`
	var n nonces
	for i, step := range []struct {
		registrar, profile string
		event              *messages.ChallengeReceived
		want               bool
	}{
		{"r", "a", received(n1), false},
		{"r", "a", received(n1), false}, // the same profile, again
		{"r", "b", received("Bearer realm=\"a\"", n1), true},
		{"other", "c", received(n1), false}, // another target
		{"r", "c", received(n2), false},
		{"r", "d", received("Bearer realm=\"a\"", "garbage"), false},
		{"r", "d", received(n2), true},
	} {
		if got := n.note(step.registrar, step.profile, step.event); got != step.want {
			t.Errorf("step %d: %t, want %t", i, got, step.want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.registrar.set(func(r *fakeRegistrar) { r.constant = true })
		w.start()
		w.declare(100)
		time.Sleep(10 * time.Second)
		if n := w.observer.asked("nonce shared", "r"); n != 99 {
			t.Errorf("%d shared nonces of 100 challenges, want 99", n)
		}
		w.stop()
	})
}
