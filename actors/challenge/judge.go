package challenge

import (
	"slices"
	"strings"

	"github.com/sipmuster/muster/messages"
)

// Policy bounds what is answered.
type Policy struct {
	// Realms are the only ones answered; when empty, the realms that were
	// accepted first are (S-02).
	Realms []string
	// Algorithms are acceptable for Digest, by canonical name; empty accepts
	// all.
	Algorithms []string
	// RequireQOP refuses Digest without qop: its answer has no client nonce, so
	// whoever chose the nonce may have prepared for it (RFC 7616 §5.9 to §5.11).
	RequireQOP bool
	// AllowDowngrade answers a weaker algorithm than was accepted before.
	AllowDowngrade bool
	// Rounds bounds the answered requests of one chain, whatever nonces come
	// back (CHA-13, CVE-2020-28242); 0 means 5.
	Rounds uint32
	// RealmAnswers bounds the answers per realm and chain, so that a server
	// that calls every nonce stale does not go on for ever; 0 means 3 (as
	// pjsip does).
	RealmAnswers uint32
}

// maxChallenges bounds the challenges of one response that are looked at
// (S-31).
const maxChallenges = 8

// maxChallengeBytes bounds those that are answered, together: they stand twice
// in a question and are echoed in its answer, and what is too large for an
// authenticator would count against it.
const maxChallengeBytes = 12 << 10

// Verdict is what a 401 or 407 amounts to.
type Verdict int

// The verdicts.
const (
	// Ask: the authenticator is asked for the realms in Judgement.Realms.
	Ask Verdict = iota
	// Refused: credentials that were just given are wrong.
	Refused
	// Exhausted: the allowance is spent; the server goes on asking.
	Exhausted
	// Nothing: no challenge can be answered; Judgement.Reason says why.
	Nothing
)

// String is for tests and logs.
func (v Verdict) String() string {
	return [...]string{"ask", "refused", "exhausted", "nothing"}[v]
}

// Judgement is a verdict and what to record of the challenges.
type Judgement struct {
	Verdict Verdict
	Reason  messages.Reason
	// Recorded are the challenges with the reason why one is ignored.
	Recorded []*messages.RecordedChallenge
	// Rejected is true when one of the realms had been answered and asks
	// again, other than for a fresh nonce (CHA-11).
	Rejected bool
}

// Judge weighs the challenges of a 401 or 407. answered are the nonce counts
// that this very request carried: whether credentials were refused is judged
// by that alone (CHA-18). round counts the answered requests of the chain so
// far.
// continues tells that the answer was a step of a longer procedure, after which
// another challenge is no refusal.
func Judge(p Policy, s State, received []*messages.RecordedChallenge, answered []*messages.NonceCount, round uint32, continues bool) Judgement {
	j := Judgement{Recorded: admit(p, s, received)}
	if len(received) == 0 {
		j.Verdict, j.Reason = Nothing, messages.ReasonChallengeMissing
		return j
	}
	groups := groupByRealm(j.Recorded)
	if len(groups) == 0 {
		j.Verdict, j.Reason = Nothing, messages.Reason(firstIgnored(j.Recorded))
		return j
	}
	for _, g := range groups {
		i := s.find(g.space, g.name)
		if i < 0 || s.Realms[i].Answered == 0 {
			continue // not answered, or with credentials that are no more
		}
		if contains(answered, g.space, g.name) {
			j.Rejected = j.Rejected || !g.stale && !continues
			if !continues && refused(s.Realms[i], g) {
				j.Verdict, j.Reason = Refused, messages.ReasonRejectedCredentials
				return j
			}
		}
		if s.Realms[i].Answered >= orDefault(p.RealmAnswers, 3) {
			j.Verdict, j.Reason = Exhausted, messages.ReasonAllowance
			return j
		}
	}
	if round >= orDefault(p.Rounds, 5) {
		j.Verdict, j.Reason = Exhausted, messages.ReasonAllowance
	}
	return j
}

// refused tells whether a realm that was answered, and asks again, means that
// the credentials are wrong.
func refused(known Realm, g group) bool {
	if g.stale {
		return false // RFC 7616 §3.3: only the nonce was old
	}
	if g.expired && known.Answered < 2 {
		return false // BEA-04: one new token, one retry
	}
	if sharesNonce(known.Raws, g.raws) {
		return true // RFC 3261 §22.1: the same question after our answer
	}
	// A new nonce without stale=true. Kamailio says the same for an expired
	// nonce, a replayed count and a wrong password, so only an answer that was
	// made from a cached nonce earns one more try (CHA-12). That try is made
	// from a fresh nonce, so there is never a second.
	return !known.Cached
}

// admit says of each challenge why it is not answered, if so.
func admit(p Policy, s State, received []*messages.RecordedChallenge) []*messages.RecordedChallenge {
	out := make([]*messages.RecordedChallenge, 0, min(len(received), maxChallenges))
	size := 0
	for i, c := range received {
		if i == maxChallenges {
			break
		}
		ignored := inadmissible(p, s, c)
		if ignored == "" {
			if size += len(c.GetRaw()); size > maxChallengeBytes {
				ignored = messages.ReasonChallengeUnsupported
			}
		}
		out = append(out, &messages.RecordedChallenge{Space: c.GetSpace(), Raw: c.GetRaw(), Ignored: string(ignored)})
	}
	// S-11: an offer weaker than what was accepted before is refused, judged
	// over all offers of the realm: order is not protected, presence is not
	// either, but the strongest is remembered.
	if p.AllowDowngrade {
		return out
	}
	for _, g := range groupByRealm(out) {
		i := s.find(g.space, g.name)
		if i < 0 || strongest(g.raws) >= s.Realms[i].Strongest {
			continue
		}
		for _, c := range out {
			if c.GetIgnored() == "" && c.GetSpace() == g.space && realmOf(c.GetRaw()) == g.name {
				c.Ignored = string(messages.ReasonDowngrade)
			}
		}
	}
	return out
}

func inadmissible(p Policy, s State, c *messages.RecordedChallenge) messages.Reason {
	parsed, err := Parse(c.GetRaw())
	if err != nil {
		return messages.ReasonChallengeUnsupported // CHA-21, CHA-29
	}
	realm := parsed.Realm()
	switch {
	case len(p.Realms) > 0:
		// CHA-28: opaque and case-sensitive.
		if !slices.Contains(p.Realms, realm) {
			return messages.ReasonRealm
		}
	case s.HasPins():
		if i := s.find(c.GetSpace(), realm); i < 0 || !s.Realms[i].Pinned {
			return messages.ReasonRealm
		}
	}
	if !parsed.IsDigest() {
		return ""
	}
	if len(p.Algorithms) > 0 && !accepts(p.Algorithms, parsed.Algorithm()) || p.RequireQOP && len(parsed.QOP()) == 0 {
		return messages.ReasonChallengeUnsupported
	}
	return ""
}

// accepts compares without -sess: the policy names hash functions.
func accepts(allowed []string, algorithm string) bool {
	const sess = "-SESS"
	name := CanonicalAlgorithm(algorithm)
	if n := len(name) - len(sess); n > 0 && name[n:] == sess {
		name = name[:n]
	}
	return slices.ContainsFunc(allowed, func(a string) bool { return CanonicalAlgorithm(a) == name })
}

// Answers returns the nonce counts of the next request: the realms that this
// chain has answered so far are kept (CHA-06, CHA-08), those just asked are
// added. asked is nil for the first request of a chain, which answers every
// realm with a nonce that was accepted before.
func (s State) Answers(kept []*messages.NonceCount, asked []*messages.RecordedChallenge) []*messages.NonceCount {
	groups := groupByRealm(asked)
	var out []*messages.NonceCount
	for _, r := range s.Realms {
		if len(r.Raws) == 0 {
			continue
		}
		wanted := asked == nil && r.early() || r.Answered > 0 && contains(kept, r.Space, r.Name) ||
			slices.ContainsFunc(groups, func(g group) bool { return g.space == r.Space && g.name == r.Name })
		if wanted {
			out = append(out, &messages.NonceCount{Space: r.Space, Realm: r.Name, Count: r.Count + 1})
		}
	}
	return out
}

// Questions returns the challenges that the authenticator is asked for a
// request with these answers, numbered in order.
func (s State) Questions(answers []*messages.NonceCount) []*messages.Challenge {
	var out []*messages.Challenge
	for _, a := range answers {
		i := s.find(a.GetSpace(), a.GetRealm())
		if i < 0 {
			continue
		}
		for _, raw := range s.Realms[i].Raws {
			parsed, err := Parse(raw)
			if err != nil {
				continue
			}
			params := parsed.Map()
			delete(params, "realm") // it has a field of its own
			out = append(out, &messages.Challenge{
				Index: uint32(len(out)), Space: a.GetSpace(), Scheme: parsed.Scheme, Realm: a.GetRealm(),
				NonceCount: a.GetCount(), Params: params, Raw: raw,
			})
		}
	}
	return out
}

// group is the admissible challenges of one realm in one response.
type group struct {
	space messages.Space
	name  string
	raws  []string
	stale bool
	// expired is true when a bearer token was no longer valid (RFC 6750 §3.1,
	// RFC 8898 §2.1.1): another one may be.
	expired bool
}

func groupByRealm(received []*messages.RecordedChallenge) []group {
	var groups []group
	for _, c := range received {
		if c.GetIgnored() != "" {
			continue
		}
		parsed, err := Parse(c.GetRaw())
		if err != nil {
			continue
		}
		realm := parsed.Realm()
		i := slices.IndexFunc(groups, func(g group) bool { return g.space == c.GetSpace() && g.name == realm })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{space: c.GetSpace(), name: realm})
		}
		groups[i].raws = append(groups[i].raws, c.GetRaw())
		groups[i].stale = groups[i].stale || parsed.Stale()
		groups[i].expired = groups[i].expired || strings.EqualFold(parsed.Scheme, "Bearer") && parsed.value("error") == "invalid_token"
	}
	return groups
}

// sharesNonce ignores schemes without a nonce: a Bearer token that was refused
// may just have run out.
func sharesNonce(a, b []string) bool {
	for _, x := range a {
		nonce := nonceOf(x)
		if nonce != "" && slices.ContainsFunc(b, func(y string) bool { return nonceOf(y) == nonce }) {
			return true
		}
	}
	return false
}

func nonceOf(raw string) string {
	parsed, err := Parse(raw)
	if err != nil {
		return ""
	}
	return parsed.Nonce()
}

func realmOf(raw string) string {
	parsed, err := Parse(raw)
	if err != nil {
		return ""
	}
	return parsed.Realm()
}

func strongest(raws []string) uint32 {
	best := 0
	for _, raw := range raws {
		if parsed, err := Parse(raw); err == nil && parsed.IsDigest() {
			best = max(best, Strength(CanonicalAlgorithm(parsed.Algorithm())))
		}
	}
	return uint32(best)
}

// withNonce rewrites a digest challenge for a nonce that was announced.
func withNonce(raw, nonce string) (string, bool) {
	parsed, err := Parse(raw)
	if err != nil || !parsed.IsDigest() {
		return "", false
	}
	out := []byte(parsed.Scheme)
	sep := byte(' ')
	for _, p := range parsed.Params {
		switch p.Name {
		case "stale":
			continue
		case "nonce":
			p.Value = nonce
		}
		out = append(out, sep)
		out = append(out, p.Name...)
		out = append(out, '=')
		if p.Quoted {
			out = AppendQuoted(out, p.Value)
		} else {
			out = append(out, p.Value...)
		}
		sep = ','
	}
	renewed := string(out)
	if _, err := Parse(renewed); err != nil {
		return "", false
	}
	return renewed, true
}

func firstIgnored(recorded []*messages.RecordedChallenge) string {
	for _, c := range recorded {
		if c.GetIgnored() != "" {
			return c.GetIgnored()
		}
	}
	return string(messages.ReasonChallengeUnsupported)
}

func contains(counts []*messages.NonceCount, space messages.Space, realm string) bool {
	return slices.ContainsFunc(counts, func(c *messages.NonceCount) bool {
		return c.GetSpace() == space && c.GetRealm() == realm
	})
}

func orDefault(v, otherwise uint32) uint32 {
	if v == 0 {
		return otherwise
	}
	return v
}
