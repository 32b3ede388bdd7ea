package machinetest_test

import (
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/words"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
)

// chain is what the pure parts do for a registration, in the order in which a
// host calls them: the state is unpacked, the core decides, the DigestActor
// computes, the observer counts, and the state is packed again.
type chain struct {
	id      string
	decider profile.Decider
	policy  profile.Policy
	words   *profile.Words
	metrics *metrics.Metrics
	secret  digest.Credential
	now     time.Time

	responded profile.ResponseReceived
	offered   profile.CredentialsOffered
}

func newChain(tb testing.TB) *chain {
	c := &chain{
		words:   &profile.Words{Texts: new(words.Table)},
		metrics: metrics.New(metrics.Options{Registrars: []string{"acme"}}),
		secret:  digest.Credential{Username: "alice", Password: messages.NewSecret("wonderland")},
		now:     machinetest.Start,
	}
	for _, c.id = range []string{"sip:bob@example.test", "sip:alice@example.test"} {
		c.register(tb, c.declare(tb)) // what two have in common is a word
	}
	return c
}

const chainToken = "0123456789abcdef0123456789abcdef"

var (
	chainChallenge = &messages.SIPResponse{Status: 401, RetryAfter: -1, Challenges: []*messages.RecordedChallenge{{
		Space: messages.Space_ORIGIN, Raw: `Digest realm="example.test", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", algorithm=MD5, qop="auth"`,
	}}}
	chainGranted = &messages.SIPResponse{Status: 200, RetryAfter: -1, Contact: messages.ContactOurs, ContactExpires: 3600}
)

func (c *chain) decide(tb testing.TB, s *profile.State, cmd profile.Command) []profile.Effect {
	in := profile.Input{Now: c.now, Jitter: 0.5, Token: chainToken, Command: cmd}
	d := c.decider.Decide(&c.policy, s, &in)
	if d.Dropped != "" {
		tb.Fatalf("%T was dropped: %s", cmd, d.Dropped)
	}
	if len(d.Events) > 0 {
		c.metrics.Appended(300 * time.Microsecond)
		c.metrics.ProfileEvents("acme", s.Status(), d.State.Status(), c.now, d.Events)
		if s.Bound() && d.State.Binding.Until != s.Binding.Until {
			c.metrics.RefreshMargin("acme", s.Binding.Until.Sub(c.now))
		}
	}
	*s = d.State
	return d.Effects
}

// answer asks the DigestActor and tells the core.
func (c *chain) answer(tb testing.TB, s *profile.State, ask profile.AskCredentials) {
	q := &messages.AuthChallenge{
		Ref: "r", Purpose: messages.Purpose_REGISTRATION, ProfileId: c.id, Aor: s.Spec.AOR,
		Method: "REGISTER", RequestUri: "sip:example.test", StatusCode: ask.Status, Round: s.Attempt.Round,
		Challenges: s.Challenge.Unparsed(s.Attempt.Answers),
	}
	_, refusal := digest.Answer(q, c.secret, func(int, bool, string, string) string { return chainToken })
	if refusal != nil {
		tb.Fatal(refusal.GetReason())
	}
	c.metrics.ChallengeAnswered(messages.DigestHandler, "answered", 20*time.Microsecond)
	c.offered = profile.CredentialsOffered{Attempt: s.Attempt.Number, Handler: messages.DigestHandler}
	c.decide(tb, s, &c.offered)
}

// respond gives the core a response.
func (c *chain) respond(tb testing.TB, s *profile.State, r *messages.SIPResponse) []profile.Effect {
	c.responded = profile.ResponseReceived{Attempt: s.Attempt.Number, Response: r}
	return c.decide(tb, s, &c.responded)
}

func (c *chain) declare(tb testing.TB) string {
	var s profile.State
	c.decide(tb, &s, profile.Declare{Spec: profile.Spec{
		AOR: c.id, Registrar: "acme", RegistrationHandler: "digest", SessionHandler: "digest", Register: true,
	}, Source: "file", Row: "r1"})
	return c.words.Pack(c.id, 1, &s)
}

// register takes a profile that was never registered through a 401 to its 200.
func (c *chain) register(tb testing.TB, packed string) string {
	var s profile.State
	version := c.words.UnpackInto(c.id, packed, &s)
	c.decide(tb, &s, profile.SlotGranted{})
	effects := c.respond(tb, &s, chainChallenge)
	c.answer(tb, &s, effects[0].(profile.AskCredentials))
	c.respond(tb, &s, chainGranted)
	return c.words.Pack(c.id, version+5, &s)
}

// refresh repeats a registration with the nonce that is known.
func (c *chain) refresh(tb testing.TB, packed string) string {
	var s profile.State
	version := c.words.UnpackInto(c.id, packed, &s)
	_, c.now, _ = s.Due()
	effects := c.decide(tb, &s, profile.SlotGranted{})
	c.answer(tb, &s, effects[0].(profile.AskCredentials))
	c.respond(tb, &s, chainGranted)
	return c.words.Pack(c.id, version+2, &s)
}

func BenchmarkChainChallenged(b *testing.B) {
	c := newChain(b)
	declared := c.declare(b)
	b.ReportAllocs()
	for b.Loop() {
		c.register(b, declared)
	}
}

func BenchmarkChainRefresh(b *testing.B) {
	c := newChain(b)
	registered := c.register(b, c.declare(b))
	b.ReportAllocs()
	for b.Loop() {
		registered = c.refresh(b, registered)
	}
}
