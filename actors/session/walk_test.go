package session_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// pick chooses a number in [0, n). A walk takes every decision through it, so
// that the bytes of a fuzzer and a seeded generator drive the same walk.
type pick func(n int) int

// walkPolicies are what a walk may run under.
func walkPolicies() []session.Policy {
	targets := []string{ownTarget}
	return []session.Policy{
		{Targets: targets},
		{Targets: targets, Owned: true, Challenge: challenge.Policy{Realms: []string{"a", "p"}}},
		{Targets: targets, Handlers: []string{"tokens", "digest"}, AnswerLimits: map[string]time.Duration{"tokens": 10 * time.Second}, Owned: true},
		{Targets: targets, Interval: -1, RedirectHosts: []string{"one.example.test", "two.example.test"}, Redirects: 2},
		{Targets: targets, Interval: 90 * time.Second, MinSE: 2 * time.Minute, Challenge: challenge.Policy{Rounds: 2, RealmAnswers: 2, AllowDowngrade: true}},
		{Owned: true, RingLimit: 20 * time.Second, Guard: 40 * time.Second, OwnerLimit: 5 * time.Second},
	}
}

// walk makes one random step: something that a host, an owner, a peer or a power
// cut could do next. Half of what the peer says is hostile.
func (m *machine) walk(pick pick) error {
	m.jitter = float64(pick(8)) / 8
	if !m.state.Exists() {
		return m.take(randomBeginning(pick))
	}
	asked, out := sorted(m.host.asked), sorted(m.host.out)
	switch n := pick(32); {
	case m.state.Attempts == 0 && !m.state.Inbound() && n < 24:
		return m.take(session.Admitted{})
	case len(asked) > 0 && n < 8:
		return m.take(m.randomAnswer(pick, asked[pick(len(asked))]))
	case len(out) > 0 && n < 17:
		return m.take(m.randomOutcome(pick, out[pick(len(out))]))
	case n < 19:
		_, _, err := m.wake()
		return err
	case n < 20:
		m.now = m.now.Add(time.Duration(1+pick(60)) * []time.Duration{time.Millisecond, time.Second, time.Minute}[pick(3)])
		return m.take(session.TimerFired{})
	case n < 23:
		return m.take(session.Send{
			Method: []string{"INVITE", "UPDATE", "INFO", "MESSAGE", "REFER", "NOTIFY", "OPTIONS"}[pick(7)], Body: pick(2) == 0,
		})
	case n < 27:
		return m.take(m.randomPeer(pick))
	case n < 29 && len(m.state.PeerRequests) > 0:
		r := m.state.PeerRequests[pick(len(m.state.PeerRequests))]
		return m.take(session.Reply{Method: r.Method, CSeq: r.CSeq, Status: []int{180, 183, 200, 200, 200, 202, 302, 403, 486, 488, 603}[pick(11)]})
	case n < 30:
		return m.take([]session.Command{
			session.Answer{},
			session.Admitted{},
			session.NotAdmitted{Reason: messages.ReasonUnavailable},
			session.AckMissing{CSeq: m.state.RemoteCSeq},
			session.End{Reason: messages.ReasonHangup, Status: []int{0, 486, 603}[pick(3)]},
			session.Reply{Method: "INVITE", CSeq: 99, Status: 200},
			session.TimerFired{},
			session.Start{Spec: &messages.SessionSpec{}},
			session.Answer{},
		}[pick(9)])
	case n < 31 && pick(4) == 0:
		_, err := m.crash()
		return err
	}
	return m.take(m.randomStray(pick))
}

// take delivers a command.
func (m *machine) take(cmd session.Command) error {
	if _, err := m.step(cmd); err != nil {
		return fmt.Errorf("%s: %w", describeCommand(cmd), err)
	}
	return nil
}

func describeCommand(cmd session.Command) string {
	switch c := cmd.(type) {
	case session.Answered:
		return fmt.Sprintf("%T %d %d %+v %v", cmd, c.Attempt, c.Response.Status, *c.Response.Dialog, c.Response.Challenges)
	case session.Provisional:
		return fmt.Sprintf("%T %d %d %+v", cmd, c.Attempt, c.Response.Status, *c.Response.Dialog)
	case session.PeerRequested:
		return fmt.Sprintf("%T %s %d %+v", cmd, c.Request.Method, c.Request.CSeq, c.Request.Dialog)
	}
	return fmt.Sprintf("%T%+v", cmd, cmd)
}

func sorted[V any](of map[uint64]V) []uint64 { return slices.Sorted(maps.Keys(of)) }

func randomBeginning(pick pick) session.Command {
	spec := &messages.SessionSpec{
		Profile: "alice", Registrar: "acme", Aor: "sip:alice@example.test", Peer: "sip:bob@example.test",
		TrunkLeg: pick(8) == 0, HangupAfterMs: []int64{0, 0, 5000, 3_600_000}[pick(4)],
	}
	if pick(4) == 0 {
		spec.Realms = []string{"a"}
	}
	if pick(3) > 0 {
		return session.Start{Spec: spec, CallID: "c1", LocalTag: "a1", Body: pick(4) > 0}
	}
	spec.Inbound = true
	q, _ := inbound("INVITE", []uint32{1, 7, 1 << 30}[pick(3)], "")
	randomDialog(pick, &q.Dialog)
	q.Dialog.RemoteTag = []string{"b1", "b1", "b1", "b1", "b1", "b1", ""}[pick(7)]
	return session.Receive{Spec: spec, LocalTag: "a1", Request: q}
}

// randomAnswer is what an authenticator does with a question that is out.
func (m *machine) randomAnswer(pick pick, attempt uint64) session.Command {
	handler := m.host.asked[attempt]
	r, _ := m.state.Request(attempt)
	if pick(4) > 0 {
		c := session.CredentialsOffered{Attempt: attempt, Handler: handler, Elapsed: time.Duration(pick(6)) * time.Second, Headers: []string{"Authorization"}}
		if handler != "digest" {
			c.Preemptive, c.Continues = pick(2) == 0, pick(8) == 0
		}
		if answers := r.GetAnswers(); len(answers) > 0 && pick(8) == 0 {
			c.Unanswered = answers[pick(len(answers)):]
		}
		return c
	}
	return session.CredentialsWithheld{
		Attempt: attempt, Handler: handler, Reason: []messages.Reason{messages.ReasonHandler, messages.ReasonHandlerRefused}[pick(2)],
		Detail:     []string{"", "unknown subscriber", "\x00\xff\r\n"}[pick(3)],
		RetryAfter: []time.Duration{-1, 0, time.Second}[pick(3)],
	}
}

// randomOutcome is what becomes of a request that is out.
func (m *machine) randomOutcome(pick pick, attempt uint64) session.Command {
	r, open := m.state.Request(attempt)
	method := m.ledger.method[attempt]
	if open && pick(10) == 0 {
		return session.Failed{Attempt: attempt, Failure: []messages.Reason{
			messages.ReasonTimeout, messages.ReasonTransport, messages.ReasonResolve, messages.ReasonTooLarge, messages.ReasonMutation,
		}[pick(5)]}
	}
	response := &messages.SIPResponse{RetryAfter: -1, Source: ownSource, Dialog: &messages.DialogInfo{RemoteTag: "b1", Headers: []messages.Header{{Name: "X", Value: canary}}}}
	switch {
	case method == "INVITE" && open && pick(3) == 0:
		response.Status = []int{100, 180, 180, 183, 183, 199}[pick(6)]
		if response.Status > 100 {
			randomDialog(pick, response.Dialog)
			response.Dialog.RSeq = []uint32{0, 0, 1, 2, 3, 9}[pick(6)]
		}
		return session.Provisional{Attempt: attempt, Response: response}
	case !open: // an INVITE that was accepted: a repeat, or another branch
		response.Status = 200
	case pick(2) == 0:
		response.Status = walkStatuses[pick(len(walkStatuses))]
	case len(r.GetAnswers()) == 0 && pick(2) == 0:
		response.Status = []int{401, 407}[pick(2)]
	default:
		response.Status = 200
	}
	switch status := response.Status; {
	case status == 401 || status == 407:
		for range []int{0, 1, 1, 1, 1, 2, 3, 12}[pick(8)] {
			response.Challenges = append(response.Challenges, randomChallenge(pick, status))
		}
	case status < 300:
		randomDialog(pick, response.Dialog)
		if method != "INVITE" && method != "UPDATE" {
			response.Dialog.Target = ""
		}
	case status < 400:
		for range pick(3) {
			response.Redirects = append(response.Redirects, []string{
				"sip:one.example.test", "sip:u@two.example.test:5080", "sip:evil.example.net", "tel:1", "",
			}[pick(5)])
		}
	case status == 422:
		response.Dialog.MinSE = []uint32{0, 90, 120, 1800, 7200, 1<<32 - 1}[pick(6)]
	}
	return session.Answered{Attempt: attempt, Response: response, Proof: []string{"", "verified", "wrong"}[pick(3)]}
}

var walkStatuses = []int{
	200, 202, 299, 401, 401, 407, 407, 407, 422, 422, 491, 491, 302, 305, 408, 481, 404, 405, 480, 486, 487, 488, 489, 500, 501, 502, 503, 600, 603, 604, 699,
}

func randomDialog(pick pick, d *messages.DialogInfo) {
	all := slices.Sorted(maps.Keys(places))
	targets := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return strings.Contains(s, "<") })
	routes := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !strings.Contains(s, "<") })
	d.RemoteTag = []string{"b1", "b1", "b1", "b2", "b3", "", fmt.Sprint("b", pick(30))}[pick(7)]
	d.Target, d.RouteSet = farContact, nil
	switch pick(8) {
	case 0:
		d.Target = ""
	case 1, 2:
		d.Target = targets[pick(len(targets))]
	}
	if pick(3) > 0 {
		d.RouteSet = append(d.RouteSet, ownRoute)
		if pick(3) == 0 {
			d.RouteSet[0] = routes[pick(len(routes))]
		}
	}
	if pick(3) == 0 {
		d.SessionExpires = []uint32{1, 60, 90, 120, 1800, 1<<32 - 1}[pick(6)]
		d.Refresher = []string{"", "uac", "uas"}[pick(3)]
	}
	if pick(3) == 0 {
		d.MinSE = []uint32{60, 90, 1800, 1<<32 - 1}[pick(4)]
	}
	if pick(2) == 0 {
		d.Supported = []string{"100rel", "Timer"}
	}
	if pick(2) == 0 {
		d.Allow = []string{"INVITE", "UPDATE", "BYE"}[:1+pick(3)]
	}
	if pick(2) == 0 {
		d.Body = []byte(canary)
	}
}

// randomPeer is a request of the peer, often a sensible one.
func (m *machine) randomPeer(pick pick) session.Command {
	method := []string{"INVITE", "INVITE", "UPDATE", "UPDATE", "INFO", "REFER", "NOTIFY", "MESSAGE", "OPTIONS", "PRACK", "BYE", "ACK", "CANCEL", "SUBSCRIBE"}[pick(14)]
	q, _ := inbound(method, m.state.RemoteCSeq+1+uint32(pick(2)), "")
	randomDialog(pick, &q.Dialog)
	q.CallID, q.ToTag, q.Dialog.RouteSet = m.state.CallID, m.state.LocalTag, nil
	if pick(8) > 0 && m.state.Dialog != nil {
		q.Dialog.RemoteTag = m.state.Dialog.GetRemoteTag()
	}
	if pick(8) == 0 || method == "CANCEL" || method == "ACK" {
		q.CSeq = m.state.RemoteCSeq
	}
	if m.host.peers[peerKey{q.Method, q.CSeq}] {
		return session.TimerFired{} // the host refuses the same number again
	}
	if pick(16) == 0 {
		q.CallID = "other"
	}
	return session.PeerRequested{Request: q, Unchanged: pick(2) == 0}
}

// randomStray is something for an attempt that is not open, or not that far.
func (m *machine) randomStray(pick pick) session.Command {
	attempt := m.state.Attempts + 1 - uint64(pick(4))
	_, asked := m.host.asked[attempt]
	if _, open := m.state.Request(attempt); open && !asked {
		return session.CredentialsOffered{Attempt: attempt, Handler: "digest"} // that nobody asked for
	}
	response := &messages.SIPResponse{Status: walkStatuses[pick(len(walkStatuses))], RetryAfter: -1, Source: ownSource, Dialog: &messages.DialogInfo{}}
	if m.ledger.confirmed[attempt] && response.Status < 300 {
		response.Status = 480
	}
	return []session.Command{
		session.Answered{Attempt: attempt, Response: response},
		session.Failed{Attempt: attempt, Failure: messages.ReasonTimeout},
		session.CredentialsOffered{Attempt: attempt, Handler: "other"},
		session.CredentialsWithheld{Attempt: attempt, Handler: "other", RetryAfter: -1},
	}[pick(4)]
}

func randomChallenge(pick pick, status int) *messages.RecordedChallenge {
	space := messages.Space_ORIGIN
	if (status == 407) != (pick(8) == 0) {
		space = messages.Space_PROXY
	}
	if pick(12) == 0 {
		return &messages.RecordedChallenge{Space: space, Raw: []string{"", "Digest", "Digest realm=\"a\"", "Bearer realm=\"a\", error=\"invalid_token\"", "\x00\xff\r\n", strings.Repeat("a", 9000)}[pick(6)]}
	}
	realm := []string{"a", "a", "a", "p", "b", fmt.Sprint("r", pick(50))}[pick(6)]
	raw := fmt.Sprintf(`Digest realm="%s", nonce="n%d", qop="auth"`, realm, pick(6))
	raw += []string{"", "", ", algorithm=SHA-256", ", algorithm=ODD"}[pick(4)]
	raw += []string{"", "", ", stale=true"}[pick(3)]
	return &messages.RecordedChallenge{Space: space, Raw: raw}
}

// wander walks a number of steps, and begins again when a session is over.
func wander(policy session.Policy, pick pick, steps int) error {
	m := newMachine(policy)
	over := 0
	for step := range steps {
		err := m.walk(pick)
		if step%8 == 0 {
			err = errors.Join(err, m.checkSilence(), m.checkCrash())
		}
		if m.state.Ended {
			if over++; over > 5 { // it was given some more
				err = errors.Join(err, m.checkReplay())
				m, over = newMachine(policy), 0
			}
		}
		if err != nil {
			return fmt.Errorf("step %d: %w\nstate: %s", step, err, summary(m.state, m.now))
		}
	}
	return m.checkReplay()
}

// TestRandomWalk makes many random steps, each with all invariants checked. A
// failure names the seed that repeats it.
func TestRandomWalk(t *testing.T) {
	steps, length := 100_000, 500
	if testing.Short() || raceEnabled {
		steps = 10_000
	}
	for part := range 2 {
		t.Run([]string{"first half", "second half"}[part], func(t *testing.T) {
			t.Parallel()
			for seed := uint64(part); seed < uint64(steps/length); seed += 2 {
				rng := rand.New(rand.NewPCG(seed, 1))
				policies := walkPolicies()
				if err := wander(policies[rng.IntN(len(policies))], rng.IntN, length); err != nil {
					t.Fatalf("seed %d, %v", seed, err)
				}
			}
		})
	}
}

// FuzzDecide turns bytes into a sequence of inputs, hostile ones included: no
// panic, and all invariants after each. Run it with -fuzzminimizetime 20x: the
// time that the tool takes to shorten inputs is better spent on new ones.
func FuzzDecide(f *testing.F) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		data := make([]byte, 600)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		steps := len(data) / 2
		pick := func(n int) int {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return int(b) % n
		}
		policies := walkPolicies()
		if err := wander(policies[pick(len(policies))], pick, min(steps, 150)); err != nil {
			t.Fatal(err)
		}
	})
}
