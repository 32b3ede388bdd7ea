package machinetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// Pick chooses a number in [0, n). A walk takes every decision through it, so
// that the bytes of a fuzzer and a seeded generator drive the same walk.
type Pick func(n int) int

// Policies are what a walk may run under.
func Policies() []profile.Policy {
	return []profile.Policy{
		{},
		{Challenge: challenge.Policy{Realms: []string{"a", "p"}, Algorithms: []string{"MD5", "SHA-256"}}},
		{Targets: []string{"one.example.test", "two.example.test"}, Tolerate: true, Challenge: challenge.Policy{AllowDowngrade: true}},
		{RequireProof: true, WithdrawTries: 2, MaxMinExpires: time.Hour, Expires: 90 * time.Second},
		{Challenge: challenge.Policy{Rounds: 2, RealmAnswers: 2}, RetryBase: time.Second, RetryMax: 3 * time.Second},
		{RegistrationHandler: "tokens>digest", AnswerLimits: map[string]time.Duration{"tokens": 10 * time.Second}},
	}
}

// Walk makes one random step: something that a host, an operator, a peer or a
// power cut could do next. Half of the responses are hostile.
func (m *Machine) Walk(pick Pick) error {
	m.Jitter = float64(pick(8)) / 8
	if !m.State.Exists() && pick(4) > 0 {
		return m.take(randomDeclare(pick))
	}
	switch n := pick(32); {
	case m.asked != 0 && n < 16:
		return m.take(m.randomAnswer(pick))
	case m.sent != 0 && n < 16:
		return m.take(m.randomOutcome(pick))
	case n < 20:
		cmd, ok := m.Wake()
		if !ok {
			return nil
		}
		return m.take(cmd)
	case n < 22:
		m.Now = m.Now.Add(time.Duration(1+pick(100)) * []time.Duration{
			time.Millisecond, time.Second, time.Minute, time.Hour,
		}[pick(4)])
		return m.take(profile.TimerFired{})
	case n < 23:
		_, err := m.Crash()
		return err
	case n < 24:
		return m.take(profile.SlotGranted{})
	case n < 26:
		return m.take(randomDeclare(pick))
	case n < 29:
		return m.take([]profile.Command{
			profile.Refresh{},
			profile.Fetch{},
			profile.Enable{},
			profile.Disable{},
			profile.Withdraw{},
			profile.Remove{},
			profile.Remove{ByOperator: true},
			profile.Clear{},
			profile.TimerFired{},
			profile.Recovered{},
			profile.SetSecurity{Registration: &walkHandlers[pick(len(walkHandlers))]},
		}[pick(11)])
	case n < 30:
		return m.CheckOlder()
	case n < 31:
		return m.CheckCrash()
	}
	// Something for an attempt that is not open, or is not that far.
	attempt := m.State.Attempt.Number - uint64(pick(3))
	if m.State.Attempt.Open && attempt == m.State.Attempt.Number {
		if len(m.State.Attempt.Answers) > 0 {
			return nil
		}
		return m.take(profile.CredentialsOffered{Attempt: attempt, Handler: "digest"}) // that nobody asked for
	}
	return m.take(profile.ResponseReceived{Attempt: attempt, Response: randomResponse(pick)})
}

// take delivers a command, except Recovered, which comes with a crash.
func (m *Machine) take(cmd profile.Command) error {
	if _, ok := cmd.(profile.Recovered); ok {
		_, err := m.Crash()
		return err
	}
	_, err := m.Step(cmd)
	if err != nil {
		return fmt.Errorf("%#v: %w", cmd, err)
	}
	return nil
}

func randomDeclare(pick Pick) profile.Command {
	return profile.Declare{
		Spec: profile.Spec{
			AOR:                 []string{"sip:alice@example.test", "sip:bob@example.test"}[pick(12)/11],
			Registrar:           []string{"acme", "other"}[pick(12)/11],
			Username:            []string{"", "alice", "al"}[pick(3)],
			Expires:             []time.Duration{0, time.Minute, 2 * time.Hour}[pick(3)],
			RegistrationHandler: []string{"digest", "tokens", "", "tokens>digest"}[pick(4)],
			Register:            pick(8) > 0,
		},
		Disabled: pick(8) == 0, NewSecret: pick(4) == 0, Patch: pick(4) == 0,
		Source: []string{"file", "api"}[pick(3)/2], Row: []string{"r1", "r2"}[pick(2)],
	}
}

// randomAnswer is what an authenticator does with the question that is out.
func (m *Machine) randomAnswer(pick Pick) profile.Command {
	attempt, handler := m.asked, m.State.Attempt.Handler
	if pick(4) > 0 {
		c := profile.CredentialsOffered{Attempt: attempt, Handler: handler, Elapsed: time.Duration(pick(6)) * time.Second}
		if handler != "digest" {
			c.Preemptive, c.Continues, c.Headers = pick(2) == 0, pick(8) == 0, []string{"Authorization"}
		}
		if answers := m.State.Attempt.Answers; len(answers) > 0 && pick(8) == 0 {
			c.Unanswered = answers[pick(len(answers)):]
		}
		return c
	}
	return profile.CredentialsWithheld{
		Attempt: attempt, Handler: handler, Reason: []messages.Reason{messages.ReasonHandler, messages.ReasonHandlerRefused}[pick(2)],
		Detail:     []string{"", "unknown subscriber", "\x00\xff\r\n"}[pick(3)],
		RetryAfter: []time.Duration{-1, 0, time.Second, 24 * time.Hour}[pick(4)],
	}
}

// randomOutcome is what becomes of the request that is out.
func (m *Machine) randomOutcome(pick Pick) profile.Command {
	if pick(8) == 0 {
		return profile.RequestFailed{Attempt: m.sent, Failure: []messages.Reason{
			messages.ReasonTimeout, messages.ReasonTransport, messages.ReasonResolve, messages.ReasonTooLarge,
		}[pick(4)]}
	}
	r := randomResponse(pick)
	if pick(2) == 0 {
		r = m.goodResponse(pick)
	}
	return profile.ResponseReceived{
		Attempt: m.sent, Response: r, Proof: []string{"", "verified", "wrong"}[pick(3)],
	}
}

// goodResponse is that of a registrar that works: it challenges what carries
// no answer and accepts what does.
func (m *Machine) goodResponse(pick Pick) *messages.SIPResponse {
	if len(m.State.Attempt.Answers) == 0 {
		raw := fmt.Sprintf(`Digest realm="a", nonce="good%d", qop="auth"`, pick(8))
		return &messages.SIPResponse{Status: 401, RetryAfter: -1, Challenges: []*messages.RecordedChallenge{{Space: messages.Space_ORIGIN, Raw: raw}}}
	}
	return &messages.SIPResponse{Status: 200, RetryAfter: -1, Contact: messages.ContactOurs, ContactExpires: 600}
}

var (
	walkHandlers = []string{"", "digest", "tokens", "tokens>digest", "digest>tokens"}
	walkStatuses = []int{
		200, 200, 200, 401, 401, 401, 401, 407, 407, 423, 420, 481, 302, 305, 403, 404, 408, 480,
		500, 503, 503, 600, 299, 202, 199, 100, 400, 402, 421, 430, 439, 482, 491, 494, 502, 513, 580, 603, 699, 799, 0,
	}
	walkOdd = []string{
		"", "Digest", "Basic realm=\"a\"", "Digest realm=\"a\"", "Digest nonce=\"n\"", "Digest realm=\"a\", nonce=\"n",
		"Bearer realm=\"a\", authz_server=\"https://x.example.test\"", "\x00\xff\r\n", strings.Repeat("a", 9000),
		"Digest realm=\"a\", nonce=\"n0\", algorithm=AKAv1-MD5", "Digest realm=\"a\\\"b\", nonce=\"\\\\\"",
	}
)

func randomResponse(pick Pick) *messages.SIPResponse {
	r := &messages.SIPResponse{Status: walkStatuses[pick(len(walkStatuses))], RetryAfter: -1}
	switch {
	case r.Status == 401 || r.Status == 407:
		n := []int{0, 1, 1, 1, 1, 2, 3, 12}[pick(8)]
		for range n {
			r.Challenges = append(r.Challenges, randomChallenge(pick, r.Status))
		}
	case r.Status >= 200 && r.Status < 300:
		randomSuccess(pick, r)
	case r.Status == 423:
		r.MinExpires = []uint32{0, 60, 3600, 7200, 86400, 1 << 31, 1<<32 - 1}[pick(7)]
	case r.Status == 420:
		for range []int{0, 1, 2, 40}[pick(4)] {
			r.Unsupported = append(r.Unsupported, fmt.Sprint("tag", pick(30)))
		}
	case r.Status >= 300 && r.Status < 400:
		for range pick(4) {
			r.Redirects = append(r.Redirects, []string{
				"sip:one.example.test", "sip:u@two.example.test:5080;transport=tcp", "sip:evil.example.net", "sips:one.example.test", "tel:1", "",
			}[pick(6)])
		}
	}
	if pick(4) == 0 {
		r.RetryAfter = []time.Duration{0, time.Second, 10 * time.Minute, 1<<32*time.Second - 1}[pick(4)]
	}
	return r
}

func randomSuccess(pick Pick, r *messages.SIPResponse) {
	if pick(4) > 0 {
		r.Contact, r.ContactExpires = messages.ContactOurs, []uint32{3600, 60, 65, 20, 1, 0, 1<<32 - 1}[pick(7)]
	}
	for range pick(3) {
		r.Contacts = append(r.Contacts, messages.ContactBinding{URI: "sip:x@example.test", Expires: 7})
	}
	if pick(3) == 0 {
		r.AuthInfo = append(r.AuthInfo, messages.AuthInfo{
			Space:     []messages.Space{messages.Space_ORIGIN, messages.Space_PROXY}[pick(2)],
			NextNonce: []string{"", "n0", "n1", "next", "\"\r\n\x00"}[pick(5)],
		})
	}
	if pick(4) == 0 {
		r.ServiceRoute = []string{"<sip:edge.example.test;lr>"}
	}
}

func randomChallenge(pick Pick, status int) *messages.RecordedChallenge {
	space := messages.Space_ORIGIN
	if (status == 407) != (pick(8) == 0) {
		space = messages.Space_PROXY
	}
	if pick(10) == 0 {
		return &messages.RecordedChallenge{Space: space, Raw: walkOdd[pick(len(walkOdd))]}
	}
	realm := []string{"a", "a", "a", "p", "b", fmt.Sprint("r", pick(50))}[pick(6)]
	raw := fmt.Sprintf(`Digest realm="%s", nonce="n%d", qop="auth"`, realm, pick(6))
	raw += []string{"", "", ", algorithm=SHA-256", ", algorithm=SHA-512-256", ", algorithm=md5", ", algorithm=ODD"}[pick(6)]
	raw += []string{"", "", ", stale=true", ", stale=FALSE"}[pick(4)]
	return &messages.RecordedChallenge{Space: space, Raw: raw}
}

// Check looks at the whole of what has happened: replay, older inputs, crash.
func (m *Machine) Check() error {
	if m.Light {
		return nil
	}
	return errors.Join(m.CheckReplay(), m.CheckOlder(), m.CheckCrash())
}
