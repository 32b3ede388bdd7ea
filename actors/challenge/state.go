package challenge

import (
	"slices"

	"github.com/sipmuster/muster/messages"
)

// State is what is known of every protection space and realm, in the order in
// which they were first seen. Realms is replaced, never written in place.
type State struct {
	Realms []Realm
}

// Realm is one protection space and realm (RFC 3261 §22.1). 401 and 407 are
// separate spaces even with equal realms.
type Realm struct {
	Space messages.Space
	Name  string
	// Raws are the challenges of the latest response for this realm that may be
	// answered, in wire order. They are kept until others replace them, so that
	// a nonce that comes back goes on counting.
	Raws []string
	// Count is the last nonce count spent with the nonces in Raws.
	Count uint32
	// Answered counts the answers given in the open chain of requests; 0 as
	// well when the credentials have changed since.
	Answered uint32
	// Cached is true once an answer made from Raws got past its challenger:
	// another one may be refused only because the nonce has expired (CHA-12).
	// When the realm is pinned too, the nonce may begin a chain.
	Cached bool
	// Pinned is true once an answer for this realm was accepted.
	Pinned bool
	// Strongest is the Strength of the best algorithm that was offered when an
	// answer was accepted (RFC 7616 §5.8, S-11); 0 when none was.
	Strongest uint32
}

// early tells whether the first request of a chain answers the realm.
func (r *Realm) early() bool { return r.Pinned && r.Cached }

// find returns the index of a realm, or -1.
func (s State) find(space messages.Space, name string) int {
	for i := range s.Realms {
		if s.Realms[i].Space == space && s.Realms[i].Name == name {
			return i
		}
	}
	return -1
}

// edit is a change of the realms in the making: they are copied when the first
// of them changes, and once.
type edit struct {
	State
	copied bool
}

// at returns realm i to be changed; i == len(Realms) adds one.
func (e *edit) at(i int) *Realm {
	if !e.copied {
		realms := make([]Realm, len(e.Realms), max(len(e.Realms), i+1))
		copy(realms, e.Realms)
		e.Realms, e.copied = realms, true
	}
	if i == len(e.Realms) {
		e.Realms = append(e.Realms, Realm{})
	}
	return &e.Realms[i]
}

// set makes realm i the one given, if that changes anything that an answer
// changes.
func (e *edit) set(i int, answered uint32, cached, pinned bool) {
	r := &e.Realms[i]
	if r.Answered == answered && r.Cached == cached && r.Pinned == pinned {
		return
	}
	r = e.at(i)
	r.Answered, r.Cached, r.Pinned = answered, cached, pinned
}

// HasPins tells whether any realm was accepted before: from then on no other
// realm is answered (S-02).
func (s State) HasPins() bool {
	for i := range s.Realms {
		if s.Realms[i].Pinned {
			return true
		}
	}
	return false
}

// CanAnswerEarly tells whether a nonce is known that was accepted, so that the
// first request of a chain can carry credentials.
func (s State) CanAnswerEarly() bool {
	for i := range s.Realms {
		if s.Realms[i].early() {
			return true
		}
	}
	return false
}

// maxUnpinned bounds the realms that are remembered though no answer for them
// was ever accepted: a server may name new ones for ever (S-31).
const maxUnpinned = 16

// ChainStarted returns the state at the first request of a new chain.
func (s State) ChainStarted() State { return s.Begun(nil) }

// Begun is ChainStarted and then Spent.
func (s State) Begun(counts []*messages.NonceCount) State {
	unpinned := 0
	for i := range s.Realms {
		if !s.Realms[i].Pinned {
			unpinned++
		}
	}
	e := edit{State: s}
	if unpinned > maxUnpinned {
		e.Realms = slices.DeleteFunc(slices.Clone(s.Realms), func(r Realm) bool {
			if r.Pinned || unpinned <= maxUnpinned {
				return false
			}
			unpinned-- // the oldest go first
			return true
		})
		e.copied = true
	}
	for i := range e.Realms {
		r := &e.Realms[i]
		e.set(i, 0, r.early(), r.Pinned)
	}
	e.spend(counts)
	return e.State
}

// Learned returns the state after a 401 or 407 with these challenges. Those
// with a reason to be ignored, and those that do not parse, change nothing.
func (s State) Learned(received []*messages.RecordedChallenge) State {
	var room offerRoom
	return s.learned(appendOffers(room[:0], received))
}

func (s State) learned(offers []offer) State {
	e := edit{State: s}
	for n := range offers {
		if leads(offers, n) {
			e.learn(offers, &offers[n])
		}
	}
	return e.State
}

// learn takes over the offers of one realm.
func (e *edit) learn(offers []offer, lead *offer) {
	i := e.find(lead.space, lead.realm)
	if i < 0 {
		i = len(e.Realms)
	}
	raws := e.rawsFor(i, sumUp(offers, lead).count)
	r := e.at(i)
	r.Space, r.Name = lead.space, lead.realm
	// A nonce that comes back keeps its count (CHA-18); any new one starts
	// again at 1, with or without stale (CHA-19).
	if !sharesNonce(r.Raws, offers, lead) {
		r.Count, r.Cached = 0, false
	}
	for i := range offers {
		if offers[i].sameRealm(lead) {
			raws = append(raws, offers[i].raw)
		}
	}
	r.Raws = raws
}

// rawsFor returns room for the challenges of realm i. One challenge of the only
// realm is the usual state: it takes one piece of memory.
func (e *edit) rawsFor(i, count int) []string {
	if count > 1 || i > 0 || len(e.Realms) > 1 || e.copied {
		return make([]string, 0, count)
	}
	room := new(struct {
		realm [1]Realm
		raw   [1]string
	})
	n := copy(room.realm[:], e.Realms)
	e.Realms, e.copied = room.realm[:n], true
	return room.raw[:0]
}

// Spent returns the state after a request with these nonce counts was
// recorded.
func (s State) Spent(counts []*messages.NonceCount) State {
	e := edit{State: s}
	e.spend(counts)
	return e.State
}

// Spend is Spent in place, for a state that nobody else has yet.
func (s *State) Spend(counts []*messages.NonceCount) {
	e := edit{State: *s, copied: true}
	e.spend(counts)
}

func (e *edit) spend(counts []*messages.NonceCount) {
	for _, c := range counts {
		if i := e.find(c.GetSpace(), c.GetRealm()); i >= 0 {
			r := e.at(i)
			r.Count = c.GetCount()
			r.Answered++
		}
	}
}

// Withheld returns the state after it turned out that the request carries no
// credentials for these realms. Their counts stay spent.
func (s State) Withheld(unanswered []*messages.NonceCount) State {
	e := edit{State: s}
	for _, c := range unanswered {
		if i := e.find(c.GetSpace(), c.GetRealm()); i >= 0 && e.Realms[i].Answered > 0 {
			e.at(i).Answered--
		}
	}
	return e.State
}

// Passed returns the state when the chain goes on after a request with these
// counts. A proxy that did not ask again has let it through; so has everybody
// when the response was no challenge at all (all). Their nonces are used up
// where nonces serve once, which is no reason to doubt the credentials.
func (s State) Passed(counts []*messages.NonceCount, all bool) State {
	e := edit{State: s}
	for _, c := range counts {
		i := e.find(c.GetSpace(), c.GetRealm())
		if i < 0 || e.Realms[i].Answered == 0 || e.Realms[i].Count != c.GetCount() {
			continue // changed, or asked again
		}
		if all || c.GetSpace() == messages.Space_PROXY {
			r := &e.Realms[i]
			e.set(i, r.Answered, true, r.Pinned)
		}
	}
	return e.State
}

// Accepted returns the state after a 2xx to a request with these answers: the
// realms are pinned and their best offer is remembered.
func (s State) Accepted(counts []*messages.NonceCount) State {
	e := edit{State: s}
	for _, c := range counts {
		i := e.find(c.GetSpace(), c.GetRealm())
		if i < 0 || e.Realms[i].Answered == 0 {
			continue
		}
		r := &e.Realms[i]
		e.set(i, r.Answered, true, true)
		if best := strongest(r.Raws, r.Strongest); best > r.Strongest {
			e.at(i).Strongest = best
		}
	}
	return e.State
}

// Renonced returns the state after nextnonce was announced for a space (RFC
// 7616 §3.5): the count starts again.
func (s State) Renonced(next []*messages.NextNonce) State {
	e := edit{State: s}
	for _, n := range next {
		for i := range e.Realms {
			if r := &e.Realms[i]; r.Space == n.GetSpace() && r.Answered > 0 {
				e.renonce(i, n.GetNonce())
			}
		}
	}
	return e.State
}

func (e *edit) renonce(i int, nonce string) {
	var raws, nonces []string
	for _, raw := range e.Realms[i].Raws {
		if renewed, ok := withNonce(raw, nonce); ok {
			raws, nonces = append(raws, renewed), append(nonces, NonceOf(renewed))
		}
	}
	if len(raws) == 0 {
		return
	}
	r := e.at(i)
	if !slices.ContainsFunc(r.Raws, func(raw string) bool { return slices.Contains(nonces, NonceOf(raw)) }) {
		r.Count = 0
	}
	r.Raws = raws
}

// Forgotten returns the state in which no nonce is good enough to begin a
// chain, and what was answered so far does not count: the next request carries
// no credentials. Pins and the strongest algorithm stay.
func (s State) Forgotten() State {
	e := edit{State: s}
	for i := range e.Realms {
		e.set(i, 0, false, e.Realms[i].Pinned)
	}
	return e.State
}

// Replaced returns the state after the secret was replaced: as Forgotten, and
// any realm may be the first again.
func (s State) Replaced() State {
	e := edit{State: s}
	for i := range e.Realms {
		e.set(i, 0, false, false)
		if e.Realms[i].Strongest != 0 {
			e.at(i).Strongest = 0
		}
	}
	return e.State
}

// Moved returns the state on another Call-ID: a proxy's credentials stay
// behind (RFC 3261 §22.3).
func (s State) Moved() State {
	e := edit{State: s}
	for i := range e.Realms {
		if r := &e.Realms[i]; r.Space == messages.Space_PROXY {
			e.set(i, 0, false, r.Pinned)
		}
	}
	return e.State
}
