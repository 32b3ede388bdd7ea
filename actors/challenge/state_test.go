package challenge

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sipmuster/muster/messages"
)

func learned(s State, list ...*messages.RecordedChallenge) State { return s.Learned(list) }

func TestLearned(t *testing.T) {
	first := learned(State{}, ask(origin, "a", "n1"), ask(proxy, "a", "n1"), ask(origin, "a", "n1", "algorithm=SHA-256"), raw(origin, "?"),
		&messages.RecordedChallenge{Space: origin, Raw: `Digest realm="x", nonce="n"`, Ignored: "realm.unexpected"})
	want := State{Realms: []Realm{
		{Space: origin, Name: "a", Raws: []string{ask(origin, "a", "n1").GetRaw(), ask(origin, "a", "n1", "algorithm=SHA-256").GetRaw()}},
		{Space: proxy, Name: "a", Raws: []string{ask(proxy, "a", "n1").GetRaw()}},
	}}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Fatalf("CHA-20, CHA-21 (-want +got)\n%s", diff)
	}
	spent := first.Spent(counts(count(origin, "a", 1), count(proxy, "a", 1), count(proxy, "unknown", 1)))

	again := learned(spent, ask(origin, "a", "n1"))
	if r := again.Realms[0]; r.Count != 1 || len(r.Raws) != 1 {
		t.Errorf("CHA-18: a nonce that comes back goes on counting: %+v", r)
	}
	renewed := learned(spent, ask(origin, "a", "n2"))
	if r := renewed.Realms[0]; r.Count != 0 || r.Answered != 1 {
		t.Errorf("CHA-19: a new nonce counts from 1, the answers of the chain stay: %+v", r)
	}
	if r := renewed.Realms[1]; r.Count != 1 {
		t.Errorf("CHA-06: a realm that is not asked keeps its nonce: %+v", r)
	}
	if diff := cmp.Diff(State{Realms: first.Realms}, learned(first)); diff != "" {
		t.Errorf("nothing learned changes something (-want +got)\n%s", diff)
	}
}

func TestLearnedSeesOneSharedNonceOfSeveral(t *testing.T) {
	s := learned(State{}, ask(origin, "a", "n1"), ask(origin, "a", "m1", "algorithm=SHA-256")).Spent(counts(count(origin, "a", 1)))
	if r := learned(s, ask(origin, "a", "n2"), ask(origin, "a", "m1", "algorithm=SHA-256")).Realms[0]; r.Count != 1 {
		t.Errorf("m1 came back, and its count would repeat: %+v", r)
	}
}

func TestAnswersAndQuestions(t *testing.T) {
	s := learned(State{}, ask(origin, "a", "n1"), ask(proxy, "p", "p1"))
	if got := s.Answers(nil, nil); got != nil || s.CanAnswerEarly() {
		t.Errorf("a chain begins with answers from nonces that were never accepted: %v", got)
	}
	// Asked for the proxy only, then for the registrar too.
	kept := s.Answers(nil, []*messages.RecordedChallenge{ask(proxy, "p", "p1")})
	s = s.Spent(kept)
	both := s.Answers(kept, []*messages.RecordedChallenge{ask(origin, "a", "n1")})
	want := counts(count(origin, "a", 1), count(proxy, "p", 2))
	if diff := cmp.Diff(want, both, protocmp.Transform()); diff != "" {
		t.Fatalf("CHA-06 (-want +got)\n%s", diff)
	}
	s = s.Spent(both)
	if diff := cmp.Diff(counts(count(origin, "a", 2), count(proxy, "p", 3)), s.Answers(both, []*messages.RecordedChallenge{}), protocmp.Transform()); diff != "" {
		t.Errorf("a request that is repeated keeps its answers (-want +got)\n%s", diff)
	}
	accepted := s.Accepted(both)
	if diff := cmp.Diff(counts(count(origin, "a", 2), count(proxy, "p", 3)), accepted.Answers(nil, nil), protocmp.Transform()); diff != "" {
		t.Errorf("CHA-08: what was accepted begins the next chain (-want +got)\n%s", diff)
	}
	questions := s.Questions(counts(count(proxy, "p", 2), count(origin, "unknown", 1), count(origin, "a", 1)))
	wantQuestions := []*messages.Challenge{
		{Index: 0, Space: proxy, Scheme: "Digest", Realm: "p", NonceCount: 2, Raw: ask(proxy, "p", "p1").GetRaw(), Params: map[string]string{"nonce": "p1", "qop": "auth"}},
		{Index: 1, Space: origin, Scheme: "Digest", Realm: "a", NonceCount: 1, Raw: ask(origin, "a", "n1").GetRaw(), Params: map[string]string{"nonce": "n1", "qop": "auth"}},
	}
	if diff := cmp.Diff(wantQuestions, questions, protocmp.Transform()); diff != "" {
		t.Errorf("questions (-want +got)\n%s", diff)
	}
}

func TestAccepted(t *testing.T) {
	s := learned(State{}, ask(origin, "a", "n1", "algorithm=SHA-256"), ask(origin, "a", "n1"), ask(origin, "b", "n1"))
	answers := counts(count(origin, "a", 1), count(proxy, "a", 1))
	s = s.Spent(answers).Accepted(answers)
	a, b := s.Realms[0], s.Realms[1]
	if !a.Pinned || !a.Cached || a.Strongest != 2 || b.Pinned || b.Cached || !s.HasPins() {
		t.Errorf("S-02, S-11: %+v, %+v", a, b)
	}
	// The strongest stays when less is offered and allowed.
	s = learned(s, ask(origin, "a", "n2")).Spent(answers).Accepted(answers)
	if got := s.Realms[0].Strongest; got != 2 {
		t.Errorf("S-11: strongest %d after MD5, want 2", got)
	}
	// An answer that was made with a secret that is no more proves nothing.
	s = s.Replaced().Accepted(answers)
	if s.HasPins() {
		t.Error("a realm is pinned by a secret that was replaced")
	}
}

func TestPassed(t *testing.T) {
	start := learned(State{}, ask(origin, "a", "n1"), ask(proxy, "p", "p1"))
	answers := counts(count(origin, "a", 1), count(proxy, "p", 1))
	start = start.Spent(answers)
	for _, tt := range []struct {
		name          string
		state         State
		all           bool
		origin, proxy bool
	}{
		{"a challenge of somebody else: the proxy let it through", start, false, false, true},
		{"no challenge: everybody did", start, true, true, true},
		{"the proxy asks again", learned(start, ask(proxy, "p", "p2")), false, false, false},
		{"the secret was replaced", start.Replaced(), true, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.state.Passed(append(answers, count(proxy, "unknown", 1)), tt.all)
			if s.Realms[0].Cached != tt.origin || s.Realms[1].Cached != tt.proxy {
				t.Errorf("origin %t, proxy %t", s.Realms[0].Cached, s.Realms[1].Cached)
			}
			if s.CanAnswerEarly() {
				t.Error("a nonce begins a chain, though nothing was accepted")
			}
			if s.ChainStarted().Realms[1].Cached {
				t.Error("what passed in one chain counts in the next")
			}
		})
	}
}

func TestRenonced(t *testing.T) {
	answers := counts(count(origin, "a", 4))
	s := learned(State{}, ask(origin, "a", "n1", `opaque="o\"p"`, "stale=true", "algorithm=MD5"), ask(proxy, "p", "p1"), raw(origin, `Bearer realm="t"`))
	s = s.Spent(answers).Accepted(answers)
	next := func(space messages.Space, nonce string) []*messages.NextNonce {
		return []*messages.NextNonce{{Space: space, Nonce: nonce}}
	}
	r := s.Renonced(next(origin, `x"2`)).Realms[0]
	if want := `Digest realm="a",nonce="x\"2",qop="auth",opaque="o\"p",algorithm=MD5`; r.Count != 0 || r.Raws[0] != want || !r.Cached {
		t.Errorf("AIN-01: count %d, cached %t\n got %s\nwant %s", r.Count, r.Cached, r.Raws[0], want)
	}
	if r := s.Renonced(next(origin, "n1")).Realms[0]; r.Count != 4 {
		t.Errorf("the same nonce announced again repeats its counts: %+v", r)
	}
	for name, n := range map[string][]*messages.NextNonce{
		"AIN-05 another space": next(proxy, "x"), "control bytes": next(origin, "x\r\n"), "an empty one": next(origin, ""),
		"not UTF-8": next(origin, "\xff"), "none": nil,
	} {
		if diff := cmp.Diff(s, s.Renonced(n)); diff != "" {
			t.Errorf("%s changes something (-want +got)\n%s", name, diff)
		}
	}
	bearer := counts(count(origin, "t", 1))
	b := s.Spent(bearer).Accepted(bearer)
	if diff := cmp.Diff(b.Realms[2], b.Renonced(next(origin, "x")).Realms[2]); diff != "" {
		t.Errorf("a scheme without a nonce gets one (-want +got)\n%s", diff)
	}
}

func TestForgottenReplacedMoved(t *testing.T) {
	answers := counts(count(origin, "a", 3), count(proxy, "p", 3))
	s := learned(State{}, ask(origin, "a", "n1"), ask(proxy, "p", "p1")).Spent(answers).Accepted(answers)
	for _, tt := range []struct {
		name          string
		state         State
		pins          bool
		origin, proxy bool
	}{
		{"after a refusal", s.Forgotten(), true, false, false},
		{"after another secret", s.Replaced(), false, false, false},
		{"CHA-09 on another Call-ID", s.Moved(), true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.state.HasPins() != tt.pins || tt.state.Realms[0].early() != tt.origin || tt.state.Realms[1].early() != tt.proxy {
				t.Errorf("%+v", tt.state.Realms)
			}
			for _, r := range tt.state.Realms {
				if r.Count != 3 || len(r.Raws) != 1 {
					t.Errorf("the count of a nonce that may come back is lost: %+v", r)
				}
			}
		})
	}
	var none State
	if got := none.Forgotten().Replaced().Moved().ChainStarted(); len(got.Realms) != 0 {
		t.Errorf("realms out of nothing: %+v", got)
	}
}

func TestChainStartedBoundsWhatWasNeverAccepted(t *testing.T) {
	var s State
	for i := range 40 {
		s = learned(s, ask(origin, fmt.Sprint("r", i), "n"))
	}
	s = s.Spent(counts(count(origin, "r3", 1))).Accepted(counts(count(origin, "r3", 1))).ChainStarted()
	if len(s.Realms) != 17 || s.Realms[0].Name != "r3" || s.Realms[1].Name != "r24" || s.Realms[16].Name != "r39" {
		t.Errorf("%d realms, want the pinned one and the 16 newest: %+v", len(s.Realms), s.Realms)
	}
	for _, r := range s.Realms {
		if r.Answered != 0 {
			t.Errorf("a chain begins with answers counted: %+v", r)
		}
	}
}

// TestStatesShareNoMemory: a state is a value, also when it was derived from
// another.
func TestStatesShareNoMemory(t *testing.T) {
	answers := counts(count(origin, "a", 1))
	s := learned(State{}, ask(origin, "a", "n1"))
	copied := State{Realms: append([]Realm(nil), s.Realms...)}
	for name, f := range map[string]func(){
		"Learned": func() { learned(s, ask(origin, "a", "n2"), ask(origin, "b", "n1")) }, "Spent": func() { s.Spent(answers) },
		"Accepted": func() { s.Spent(answers).Accepted(answers) }, "Passed": func() { s.Spent(answers).Passed(answers, true) },
		"Forgotten": func() { s.Forgotten() }, "Replaced": func() { s.Replaced() }, "Moved": func() { s.Moved() },
		"ChainStarted": func() { s.ChainStarted() },
		"Renonced":     func() { s.Spent(answers).Renonced([]*messages.NextNonce{{Space: origin, Nonce: "x"}}) },
	} {
		f()
		if diff := cmp.Diff(copied, s); diff != "" {
			t.Fatalf("%s wrote into the state it was called on (-want +got)\n%s", name, diff)
		}
	}
}

// BenchmarkQuestions is what an authenticator is asked about the usual
// challenge.
func BenchmarkQuestions(b *testing.B) {
	s := State{}.Learned([]*messages.RecordedChallenge{raw(origin, plainSeeds[0])})
	answers := s.Answers(nil, []*messages.RecordedChallenge{raw(origin, plainSeeds[0])})
	b.ReportAllocs()
	for b.Loop() {
		if len(s.Questions(answers)) != 1 {
			b.Fatal("no question")
		}
	}
}
