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
	var room offerRoom
	recorded, offers := admit(room[:0], &p, s, received)
	return judge(&p, s, recorded, offers, answered, round, continues)
}

// JudgeAndLearn is Judge, and what Learned makes of the state with the
// challenges that are to be recorded.
func JudgeAndLearn(p Policy, s State, received []*messages.RecordedChallenge, answered []*messages.NonceCount, round uint32, continues bool) (Judgement, State) {
	var room offerRoom
	recorded, offers := admit(room[:0], &p, s, received)
	return judge(&p, s, recorded, offers, answered, round, continues), s.learned(offers)
}

func judge(p *Policy, s State, recorded []*messages.RecordedChallenge, offers []offer, answered []*messages.NonceCount, round uint32, continues bool) Judgement {
	j := Judgement{Recorded: recorded}
	if len(recorded) == 0 {
		j.Verdict, j.Reason = Nothing, messages.ReasonChallengeMissing
		return j
	}
	if len(offers) == 0 {
		j.Verdict, j.Reason = Nothing, messages.Reason(firstIgnored(j.Recorded))
		return j
	}
	for n := range offers {
		lead := &offers[n]
		i := s.find(lead.space, lead.realm)
		if i < 0 || s.Realms[i].Answered == 0 || !leads(offers, n) {
			continue // not answered, or with credentials that are no more
		}
		if contains(answered, lead.space, lead.realm) {
			stale := sumUp(offers, lead).stale
			j.Rejected = j.Rejected || !stale && !continues
			if !continues && refused(&s.Realms[i], offers, lead) {
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
func refused(known *Realm, offers []offer, lead *offer) bool {
	sum := sumUp(offers, lead)
	if sum.stale {
		return false // RFC 7616 §3.3: only the nonce was old
	}
	if sum.expired && known.Answered < 2 {
		return false // BEA-04: one new token, one retry
	}
	if sharesNonce(known.Raws, offers, lead) {
		return true // RFC 3261 §22.1: the same question after our answer
	}
	// A new nonce without stale=true. Kamailio says the same for an expired
	// nonce, a replayed count and a wrong password, so only an answer that was
	// made from a cached nonce earns one more try (CHA-12). That try is made
	// from a fresh nonce, so there is never a second.
	return !known.Cached
}

// admit says of each challenge why it is not answered, if so, and appends the
// others to offers. Where there is nothing to say the challenges are recorded as
// they were received.
func admit(offers []offer, p *Policy, s State, received []*messages.RecordedChallenge) ([]*messages.RecordedChallenge, []offer) {
	n := min(len(received), maxChallenges)
	out := recorded{list: received[:n:n]}
	size := 0
	for i, c := range out.list {
		var f Fields
		reason := messages.ReasonChallengeUnsupported // CHA-21, CHA-29
		if f.Read(c.GetRaw()) == nil {
			reason = inadmissible(p, s, c.GetSpace(), &f)
		}
		if reason == "" {
			if size += len(c.GetRaw()); size > maxChallengeBytes {
				reason = messages.ReasonChallengeUnsupported
			}
		}
		out.ignore(i, reason)
		if reason == "" {
			offers = append(offers, offerOf(c.GetSpace(), &f, c.GetRaw(), i))
		}
	}
	if !p.AllowDowngrade {
		offers = withoutDowngrades(s, &out, offers)
	}
	return out.list, offers
}

// withoutDowngrades removes an offer weaker than what was accepted before, and
// records why (S-11). It is judged over all offers of the realm: order is not
// protected, presence is not either, but the strongest is remembered.
func withoutDowngrades(s State, out *recorded, offers []offer) []offer {
	weak := func(o *offer) bool {
		i := s.find(o.space, o.realm)
		return i >= 0 && sumUp(offers, o).strongest < s.Realms[i].Strongest
	}
	found := false
	for i := range offers {
		if weak(&offers[i]) {
			out.ignore(offers[i].place, messages.ReasonDowngrade)
			found = true
		}
	}
	if !found {
		return offers
	}
	return slices.DeleteFunc(offers, func(o offer) bool { return out.list[o.place].GetIgnored() != "" })
}

// recorded is a list of challenges in the making. They are copied when one of
// them changes.
type recorded struct {
	list   []*messages.RecordedChallenge
	copied bool
}

// ignore sets why challenge i is ignored; "" when it is not.
func (r *recorded) ignore(i int, reason messages.Reason) {
	if r.list[i].GetIgnored() == string(reason) {
		return
	}
	if !r.copied {
		r.copied = true
		own := make([]*messages.RecordedChallenge, len(r.list))
		for k, c := range r.list {
			own[k] = &messages.RecordedChallenge{Space: c.GetSpace(), Raw: c.GetRaw(), Ignored: c.GetIgnored()}
		}
		r.list = own
	}
	r.list[i].Ignored = string(reason)
}

func inadmissible(p *Policy, s State, space messages.Space, f *Fields) messages.Reason {
	realm := f.Realm()
	switch {
	case len(p.Realms) > 0:
		// CHA-28: opaque and case-sensitive.
		if !slices.Contains(p.Realms, realm) {
			return messages.ReasonRealm
		}
	case s.HasPins():
		if i := s.find(space, realm); i < 0 || !s.Realms[i].Pinned {
			return messages.ReasonRealm
		}
	}
	if !f.Digest {
		return ""
	}
	if len(p.Algorithms) > 0 && !accepts(p.Algorithms, f.Algorithm()) || p.RequireQOP && !f.offersQOP() {
		return messages.ReasonChallengeUnsupported
	}
	return ""
}

// accepts compares without -sess: the policy names hash functions.
func accepts(allowed []string, algorithm string) bool {
	const sess = "-SESS"
	known := Strength(algorithm) > 0
	if n := len(algorithm) - len(sess); n > 0 && (algorithm[n:] == sess || known && strings.EqualFold(algorithm[n:], sess)) {
		algorithm = algorithm[:n]
		known = Strength(algorithm) > 0
	}
	if algorithm == "" {
		algorithm = "MD5"
	}
	for _, a := range allowed {
		if a == "" {
			a = "MD5"
		}
		if a == algorithm || known && strings.EqualFold(a, algorithm) {
			return true
		}
	}
	return false
}

// Answers returns the nonce counts of the next request: the realms that this
// chain has answered so far are kept (CHA-06, CHA-08), those just asked are
// added. asked is what was learned last, or nil for the first request of a
// chain, which answers every realm with a nonce that was accepted before.
func (s State) Answers(kept []*messages.NonceCount, asked []*messages.RecordedChallenge) []*messages.NonceCount {
	wanted := func(r *Realm) bool {
		return len(r.Raws) > 0 &&
			(asked == nil && r.early() || r.Answered > 0 && contains(kept, r.Space, r.Name) || asks(asked, r))
	}
	n := 0
	for i := range s.Realms {
		if wanted(&s.Realms[i]) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	out := messages.NewNonceCounts(n)
	n = 0
	for i := range s.Realms {
		if r := &s.Realms[i]; wanted(r) {
			out[n].Space, out[n].Realm, out[n].Count = r.Space, r.Name, r.Count+1
			n++
		}
	}
	return out
}

// asks tells whether one of the challenges is what is known of the realm.
func asks(asked []*messages.RecordedChallenge, r *Realm) bool {
	for _, c := range asked {
		if c.GetIgnored() == "" && c.GetSpace() == r.Space && slices.Contains(r.Raws, c.GetRaw()) {
			return true
		}
	}
	return false
}

// Questions returns the challenges that the authenticator is asked for a
// request with these answers, numbered in order.
func (s State) Questions(answers []*messages.NonceCount) []*messages.Challenge {
	asked := s.Unparsed(answers)
	parsed := asked[:0]
	for _, q := range asked {
		var room paramRoom
		scheme, list, err := parseInto(room[:0], q.GetRaw())
		if err != nil {
			continue
		}
		q.Params = make(map[string]string, len(list))
		for _, p := range list {
			// The realm has a field of its own; of repeated ones the first counts.
			if _, repeated := q.Params[p.Name]; !repeated && p.Name != "realm" {
				q.Params[p.Name] = p.Value
			}
		}
		q.Index, q.Scheme = uint32(len(parsed)), scheme
		parsed = append(parsed, q)
	}
	return parsed
}

// Unparsed is Questions for the DigestActor, which takes the challenges apart
// itself: they have neither scheme nor parameters.
func (s State) Unparsed(answers []*messages.NonceCount) []*messages.Challenge {
	count := 0
	for _, a := range answers {
		if i := s.find(a.GetSpace(), a.GetRealm()); i >= 0 {
			count += len(s.Realms[i].Raws)
		}
	}
	list := challengeRoom(count)
	n := 0
	for _, a := range answers {
		i := s.find(a.GetSpace(), a.GetRealm())
		if i < 0 {
			continue
		}
		for _, raw := range s.Realms[i].Raws {
			q := list[n]
			q.Index, q.Space, q.Realm, q.NonceCount, q.Raw = uint32(n), a.GetSpace(), a.GetRealm(), a.GetCount(), raw
			n++
		}
	}
	return list
}

// challengeRoom returns n empty challenges; the usual one takes one piece of
// memory.
func challengeRoom(n int) []*messages.Challenge {
	switch n {
	case 0:
		return nil
	case 1:
		room := new(struct {
			list [1]*messages.Challenge
			only messages.Challenge
		})
		room.list[0] = &room.only
		return room.list[:]
	}
	list := make([]*messages.Challenge, n)
	for i := range list {
		list[i] = new(messages.Challenge)
	}
	return list
}

// strongest is the best Strength that is offered, or known if that is none
// better.
func strongest(raws []string, known uint32) uint32 {
	best := int(known)
	for _, raw := range raws {
		if best > 0 && strings.IndexByte(raw, '-') < 0 {
			continue // what is stronger than MD5 has a hyphen in its name
		}
		var f Fields
		if f.Read(raw) == nil && f.Digest {
			best = max(best, Strength(f.Algorithm()))
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
	for _, c := range counts {
		if c.GetSpace() == space && c.GetRealm() == realm {
			return true
		}
	}
	return false
}

func orDefault(v, otherwise uint32) uint32 {
	if v == 0 {
		return otherwise
	}
	return v
}
