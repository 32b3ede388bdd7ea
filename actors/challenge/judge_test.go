package challenge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

const (
	origin = messages.Space_ORIGIN
	proxy  = messages.Space_PROXY
)

// ask is a challenge as the adapter hands it over.
func ask(space messages.Space, realm, nonce string, more ...string) *messages.RecordedChallenge {
	raw := fmt.Sprintf(`Digest realm=%q, nonce=%q, qop="auth"`, realm, nonce)
	return &messages.RecordedChallenge{Space: space, Raw: strings.Join(append([]string{raw}, more...), ", ")}
}

func raw(space messages.Space, text string) *messages.RecordedChallenge {
	return &messages.RecordedChallenge{Space: space, Raw: text}
}

func counts(list ...*messages.NonceCount) []*messages.NonceCount { return list }

func count(space messages.Space, realm string, n uint32) *messages.NonceCount {
	return &messages.NonceCount{Space: space, Realm: realm, Count: n}
}

// known is a realm that answered n times in the open chain, by a nonce.
func known(space messages.Space, name, nonce string, answered uint32) Realm {
	return Realm{Space: space, Name: name, Raws: []string{ask(space, name, nonce).GetRaw()}, Count: answered, Answered: answered}
}

func cached(r Realm) Realm { r.Cached = true; return r }

func pinned(r Realm, strongest uint32) Realm { r.Pinned, r.Strongest = true, strongest; return r }

func TestJudge(t *testing.T) {
	type list = []*messages.RecordedChallenge
	a1 := counts(count(origin, "a", 1))
	for _, tt := range []struct {
		name     string
		policy   Policy
		state    []Realm
		received list
		answered []*messages.NonceCount
		round    uint32
		verdict  Verdict
		reason   messages.Reason
		rejected bool
		// continues: the answer was a step of a longer procedure.
		continues bool
	}{
		{name: "CHA-01 a first challenge is asked", received: list{ask(origin, "a", "n1")}, verdict: Ask},
		{name: "CHA-01 both spaces at once", received: list{ask(origin, "a", "n1"), ask(proxy, "p", "n2")}, verdict: Ask},
		{name: "CHA-29 no challenge at all", verdict: Nothing, reason: messages.ReasonChallengeMissing},
		{
			name: "CHA-29 only malformed ones", received: list{raw(origin, "Digest"), raw(origin, `Digest realm="a"`)},
			verdict: Nothing, reason: messages.ReasonChallengeUnsupported,
		},
		{name: "CHA-21 a malformed one beside a good one", received: list{raw(origin, "Digest"), ask(origin, "a", "n")}, verdict: Ask},
		{
			name: "CHA-10 the same nonce again after our answer", state: []Realm{known(origin, "a", "n1", 1)},
			received: list{ask(origin, "a", "n1")}, answered: a1, round: 1,
			verdict: Refused, reason: messages.ReasonRejectedCredentials, rejected: true,
		},
		{
			name: "CHA-12 a new nonce after an answer from a fresh one", state: []Realm{known(origin, "a", "n1", 1)},
			received: list{ask(origin, "a", "n2")}, answered: a1, round: 1,
			verdict: Refused, reason: messages.ReasonRejectedCredentials, rejected: true,
		},
		{
			name: "CHA-12 a new nonce after an answer from a cached one", state: []Realm{cached(known(origin, "a", "n1", 1))},
			received: list{ask(origin, "a", "n2")}, answered: a1, verdict: Ask, rejected: true,
		},
		{
			name: "CHA-10 the same nonce after an answer from a cached one", state: []Realm{cached(known(origin, "a", "n1", 1))},
			received: list{ask(origin, "a", "n1")}, answered: a1,
			verdict: Refused, reason: messages.ReasonRejectedCredentials, rejected: true,
		},
		{
			name: "CHA-11 stale is no refusal", state: []Realm{known(origin, "a", "n1", 1)},
			received: list{ask(origin, "a", "n2", "stale=TRUE")}, answered: a1, round: 1, verdict: Ask,
		},
		{
			name: "CHA-11 stale with the same nonce is none either", state: []Realm{known(origin, "a", "n1", 1)},
			received: list{ask(origin, "a", "n1", `stale="true"`)}, answered: a1, round: 1, verdict: Ask,
		},
		{
			name: "CHA-11 stale=false is one", state: []Realm{known(origin, "a", "n1", 1)},
			received: list{ask(origin, "a", "n2", "stale=false")}, answered: a1, round: 1,
			verdict: Refused, reason: messages.ReasonRejectedCredentials, rejected: true,
		},
		{
			name: "CHA-11 one of several algorithms says stale", state: []Realm{known(origin, "a", "n1", 1)},
			received: list{ask(origin, "a", "n2", "algorithm=SHA-256", "stale=true"), ask(origin, "a", "n2")}, answered: a1, round: 1, verdict: Ask,
		},
		{
			name: "CHA-13 stale for ever is answered three times", state: []Realm{known(origin, "a", "n3", 3)},
			received: list{ask(origin, "a", "n4", "stale=true")}, answered: counts(count(origin, "a", 1)), round: 3,
			verdict: Exhausted, reason: messages.ReasonAllowance,
		},
		{
			name: "CHA-13 or as often as the policy says", policy: Policy{RealmAnswers: 1}, state: []Realm{known(origin, "a", "n1", 1)},
			received: list{ask(origin, "a", "n2", "stale=true")}, answered: a1, round: 1, verdict: Exhausted, reason: messages.ReasonAllowance,
		},
		{name: "CHA-13 five rounds, whatever realm asks", received: list{ask(origin, "z", "n")}, round: 5, verdict: Exhausted, reason: messages.ReasonAllowance},
		{name: "CHA-13 the fifth is still answered", received: list{ask(origin, "z", "n")}, round: 4, verdict: Ask},
		{name: "CHA-13 rounds by policy", policy: Policy{Rounds: 1}, received: list{ask(origin, "z", "n")}, round: 1, verdict: Exhausted, reason: messages.ReasonAllowance},
		{
			name: "CHA-18 the same nonce on a request that carried nothing", state: []Realm{known(origin, "a", "n1", 2)},
			received: list{ask(origin, "a", "n1")}, verdict: Ask,
		},
		{
			name: "CHA-10 credentials that were replaced meanwhile are not these", state: []Realm{known(origin, "a", "n1", 0)},
			received: list{ask(origin, "a", "n1")}, answered: a1, round: 1, verdict: Ask,
		},
		{
			name: "CHA-06 another realm asks, the answered one does not", state: []Realm{known(proxy, "p", "p1", 1)},
			received: list{ask(origin, "a", "n1")}, answered: counts(count(proxy, "p", 1)), round: 1, verdict: Ask,
		},
		{
			name: "CHA-01 equal realms of two spaces are two", state: []Realm{known(proxy, "a", "n1", 1)},
			received: list{ask(origin, "a", "n1")}, answered: counts(count(proxy, "a", 1)), round: 1, verdict: Ask,
		},
		{
			name: "CHA-10 one realm of two refuses", state: []Realm{known(origin, "a", "n1", 1), known(proxy, "p", "p1", 1)},
			received: list{ask(proxy, "p", "p2", "stale=true"), ask(origin, "a", "n1")},
			answered: counts(count(origin, "a", 1), count(proxy, "p", 1)), round: 1,
			verdict: Refused, reason: messages.ReasonRejectedCredentials, rejected: true,
		},
		{
			name: "S-01 a realm that is not configured", policy: Policy{Realms: []string{"a"}}, received: list{ask(origin, "b", "n")},
			verdict: Nothing, reason: messages.ReasonRealm,
		},
		{
			name: "CHA-28 case counts", policy: Policy{Realms: []string{"a"}}, received: list{ask(origin, "A", "n")},
			verdict: Nothing, reason: messages.ReasonRealm,
		},
		{
			name: "CHA-28 a realm is compared after unquoting", policy: Policy{Realms: []string{`a"b`}},
			received: list{raw(origin, `Digest realm="a\"b", nonce="n"`)}, verdict: Ask,
		},
		{
			name: "S-01 configured realms outrank pins", policy: Policy{Realms: []string{"b"}}, state: []Realm{pinned(known(origin, "a", "n", 0), 1)},
			received: list{ask(origin, "b", "n")}, verdict: Ask,
		},
		{
			name: "S-02 another realm than the pinned one", state: []Realm{pinned(known(origin, "a", "n1", 0), 1)},
			received: list{ask(origin, "b", "n")}, verdict: Nothing, reason: messages.ReasonRealm,
		},
		{
			name: "S-02 the pinned realm in the other space", state: []Realm{pinned(known(origin, "a", "n1", 0), 1)},
			received: list{ask(proxy, "a", "n")}, verdict: Nothing, reason: messages.ReasonRealm,
		},
		{name: "S-02 the pinned realm", state: []Realm{pinned(known(origin, "a", "n1", 0), 1)}, received: list{ask(origin, "a", "n2")}, verdict: Ask},
		{
			name: "CHA-23 an algorithm that is not acceptable", policy: Policy{Algorithms: []string{"SHA-256"}}, received: list{ask(origin, "a", "n")},
			verdict: Nothing, reason: messages.ReasonChallengeUnsupported,
		},
		{
			name: "CHA-20 an acceptable one beside it", policy: Policy{Algorithms: []string{"sha-256"}},
			received: list{ask(origin, "a", "n"), ask(origin, "a", "n", "algorithm=SHA-256-sess")}, verdict: Ask,
		},
		{
			name: "CHA-27 other schemes are the authenticator's business", policy: Policy{Algorithms: []string{"SHA-256"}},
			received: list{raw(origin, `Bearer realm="a", scope="x"`)}, verdict: Ask,
		},
		{
			name: "CHA-25 weaker than was accepted before", state: []Realm{pinned(known(origin, "a", "n1", 0), 2)},
			received: list{ask(origin, "a", "n2")}, verdict: Nothing, reason: messages.ReasonDowngrade,
		},
		{
			name: "CHA-25 another scheme is weaker too", state: []Realm{pinned(known(origin, "a", "n1", 0), 1)},
			received: list{raw(origin, `Basic realm="a"`)}, verdict: Nothing, reason: messages.ReasonDowngrade,
		},
		{
			name: "CHA-25 as strong as before, beside weaker ones", state: []Realm{pinned(known(origin, "a", "n1", 0), 2)},
			received: list{ask(origin, "a", "n2"), ask(origin, "a", "n2", "algorithm=SHA-256")}, verdict: Ask,
		},
		{
			name: "CHA-25 weaker by policy", policy: Policy{AllowDowngrade: true}, state: []Realm{pinned(known(origin, "a", "n1", 0), 3)},
			received: list{ask(origin, "a", "n2")}, verdict: Ask,
		},
		{
			name: "BEA-04 a token may have run out", state: []Realm{cached(Realm{Space: origin, Name: "a", Raws: []string{`Bearer realm="a"`}, Count: 1, Answered: 1})},
			received: list{raw(origin, `Bearer realm="a", error="invalid_token"`)}, answered: a1, verdict: Ask, rejected: true,
		},
		{
			name: "S-07 no qop, where the policy wants it", policy: Policy{RequireQOP: true},
			received: list{raw(origin, `Digest realm="a", nonce="n1"`)}, verdict: Nothing, reason: messages.ReasonChallengeUnsupported,
		},
		{
			name: "S-07 no qop beside one that has it", policy: Policy{RequireQOP: true},
			received: list{raw(origin, `Digest realm="a", nonce="n1"`), ask(origin, "a", "n1")}, verdict: Ask,
		},
		{
			name: "S-07 a scheme that knows no qop", policy: Policy{RequireQOP: true},
			received: list{raw(origin, `Bearer realm="a"`)}, verdict: Ask,
		},
		{name: "S-07 no qop is legacy, and allowed by default", received: list{raw(origin, `Digest realm="a", nonce="n1"`)}, verdict: Ask},
		{
			name: "AKA-03 a step of a longer procedure is no refusal", continues: true,
			state: []Realm{{Space: origin, Name: "a", Raws: []string{ask(origin, "a", "n1").GetRaw()}, Count: 1, Answered: 1}}, received: list{ask(origin, "a", "n2")},
			answered: a1, verdict: Ask,
		},
		{
			name: "AKA-03 nor is it without end", continues: true,
			state: []Realm{{Space: origin, Name: "a", Raws: []string{ask(origin, "a", "n1").GetRaw()}, Count: 1, Answered: 3}}, received: list{ask(origin, "a", "n2")},
			answered: a1, verdict: Exhausted, reason: messages.ReasonAllowance,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := Judge(tt.policy, State{Realms: tt.state}, tt.received, tt.answered, tt.round, tt.continues)
			if j.Verdict != tt.verdict || j.Reason != tt.reason || j.Rejected != tt.rejected {
				t.Errorf("%s %q rejected=%t, want %s %q rejected=%t", j.Verdict, j.Reason, j.Rejected, tt.verdict, tt.reason, tt.rejected)
			}
			if len(j.Recorded) != min(len(tt.received), 8) {
				t.Errorf("%d challenges are recorded, %d were received", len(j.Recorded), len(tt.received))
			}
		})
	}
}

func TestJudgeRecordsWhyChallengesAreIgnored(t *testing.T) {
	s := State{Realms: []Realm{pinned(known(origin, "a", "n1", 0), 2), pinned(known(origin, "b", "n1", 0), 1)}}
	p := Policy{Algorithms: []string{"MD5", "SHA-256"}}
	j := Judge(p, s, []*messages.RecordedChallenge{
		ask(origin, "a", "n2"), ask(origin, "c", "n2"), ask(origin, "b", "n2", "algorithm=SHA-512-256"), ask(origin, "b", "n2"), raw(origin, "?"),
	}, nil, 0, false)
	var got []string
	for _, c := range j.Recorded {
		got = append(got, c.GetIgnored())
	}
	want := []string{"algorithm.downgrade", "realm.unexpected", "challenge.unsupported", "", "challenge.unsupported"}
	if diff := cmp.Diff(want, got); diff != "" || j.Verdict != Ask {
		t.Errorf("%s (-want +got)\n%s", j.Verdict, diff)
	}
}

// TestJudgeBoundsWhatIsAsked: many large challenges cost an authenticator no
// more than it can take (S-31).
func TestJudgeBoundsWhatIsAsked(t *testing.T) {
	var received []*messages.RecordedChallenge
	for i := range 6 {
		received = append(received, raw(origin, fmt.Sprintf(`Digest realm="r%d", nonce="n", opaque="%s"`, i, strings.Repeat("x", 5000))))
	}
	j := Judge(Policy{}, State{}, received, nil, 0, false)
	for i, c := range j.Recorded {
		if (c.GetIgnored() == "") != (i < 2) {
			t.Errorf("challenge %d of 5 kB each: ignored %q", i, c.GetIgnored())
		}
	}
	if j.Verdict != Ask {
		t.Errorf("verdict %s", j.Verdict)
	}
}

// TestJudgeLooksAtEight: fifty challenges cost as much as eight (S-31).
func TestJudgeLooksAtEight(t *testing.T) {
	var received []*messages.RecordedChallenge
	for i := range 50 {
		received = append(received, ask(origin, fmt.Sprint("r", i), "n"))
	}
	j := Judge(Policy{}, State{}, received, nil, 0, false)
	if len(j.Recorded) != 8 || j.Recorded[7].GetRaw() != received[7].GetRaw() {
		t.Errorf("%d are recorded, want the first 8", len(j.Recorded))
	}
}

// TestJudgeLeavesWhatWasReceived: what is said of a challenge is said of a copy,
// and what needs no word is recorded as it is.
func TestJudgeLeavesWhatWasReceived(t *testing.T) {
	received := []*messages.RecordedChallenge{ask(origin, "r1", "n"), ask(origin, "r2", "n")}
	if j := Judge(Policy{}, State{}, received, nil, 0, false); j.Recorded[0] != received[0] || j.Recorded[1] != received[1] {
		t.Error("a copy is recorded of what may be answered")
	}
	j := Judge(Policy{Realms: []string{"r1"}}, State{}, received, nil, 0, false)
	if j.Recorded[1].GetIgnored() == "" || received[1].GetIgnored() != "" {
		t.Errorf("ignored %q, and what was received %q", j.Recorded[1].GetIgnored(), received[1].GetIgnored())
	}
}

// TestUnparsed holds what the DigestActor is asked against what an xSP is.
func TestUnparsed(t *testing.T) {
	s := State{}.Learned([]*messages.RecordedChallenge{ask(origin, "r1", "n"), ask(messages.Space_PROXY, "r2", "n"), ask(origin, "r1", "m")})
	answers := []*messages.NonceCount{
		{Space: messages.Space_PROXY, Realm: "r2", Count: 3}, {Space: origin, Realm: "r1", Count: 1}, {Space: origin, Realm: "r3"},
	}
	asked, unparsed := s.Questions(answers), s.Unparsed(answers)
	if len(asked) != 3 || len(unparsed) != 3 {
		t.Fatalf("%d and %d challenges", len(asked), len(unparsed))
	}
	for i, q := range asked {
		parsed, err := Parse(unparsed[i].GetRaw())
		if err != nil {
			t.Fatal(err)
		}
		u := unparsed[i]
		if u.GetIndex() != q.GetIndex() || u.GetSpace() != q.GetSpace() || u.GetRealm() != q.GetRealm() || u.GetNonceCount() != q.GetNonceCount() {
			t.Errorf("%v, want %v", u, q)
		}
		if u.GetParams() != nil || q.GetScheme() != parsed.Scheme || q.GetParams()["nonce"] != parsed.Nonce() || q.GetRealm() != parsed.Realm() {
			t.Errorf("%v is not %s", q, u.GetRaw())
		}
	}
}

func TestVerdictString(t *testing.T) {
	for v, want := range map[Verdict]string{Ask: "ask", Refused: "refused", Exhausted: "exhausted", Nothing: "nothing"} {
		if v.String() != want {
			t.Errorf("%d is %q, want %q", v, v.String(), want)
		}
	}
}
