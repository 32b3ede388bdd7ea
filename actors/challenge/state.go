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
func (r Realm) early() bool { return r.Pinned && r.Cached }

// find returns the index of a realm, or -1.
func (s State) find(space messages.Space, name string) int {
	return slices.IndexFunc(s.Realms, func(r Realm) bool { return r.Space == space && r.Name == name })
}

// with returns the state with realm i changed; i == len appends.
func (s State) with(i int, r Realm) State {
	realms := slices.Clone(s.Realms)
	if i == len(realms) {
		realms = append(realms, r)
	} else {
		realms[i] = r
	}
	return State{Realms: realms}
}

// each returns the state with f applied to a copy of every realm.
func (s State) each(f func(*Realm)) State {
	if len(s.Realms) == 0 {
		return s
	}
	realms := slices.Clone(s.Realms)
	for i := range realms {
		f(&realms[i])
	}
	return State{Realms: realms}
}

// HasPins tells whether any realm was accepted before: from then on no other
// realm is answered (S-02).
func (s State) HasPins() bool {
	return slices.ContainsFunc(s.Realms, func(r Realm) bool { return r.Pinned })
}

// CanAnswerEarly tells whether a nonce is known that was accepted, so that the
// first request of a chain can carry credentials.
func (s State) CanAnswerEarly() bool {
	return slices.ContainsFunc(s.Realms, Realm.early)
}

// maxUnpinned bounds the realms that are remembered though no answer for them
// was ever accepted: a server may name new ones for ever (S-31).
const maxUnpinned = 16

// ChainStarted returns the state at the first request of a new chain.
func (s State) ChainStarted() State {
	unpinned := 0
	for _, r := range s.Realms {
		if !r.Pinned {
			unpinned++
		}
	}
	if unpinned > maxUnpinned {
		s = State{Realms: slices.DeleteFunc(slices.Clone(s.Realms), func(r Realm) bool {
			if r.Pinned || unpinned <= maxUnpinned {
				return false
			}
			unpinned-- // the oldest go first
			return true
		})}
	}
	return s.each(func(r *Realm) { r.Answered, r.Cached = 0, r.early() })
}

// Learned returns the state after a 401 or 407 with these challenges. Those
// with a reason to be ignored, and those that do not parse, change nothing.
func (s State) Learned(received []*messages.RecordedChallenge) State {
	for _, group := range groupByRealm(received) {
		i := s.find(group.space, group.name)
		r := Realm{Space: group.space, Name: group.name}
		if i < 0 {
			i = len(s.Realms)
		} else {
			r = s.Realms[i]
		}
		// A nonce that comes back keeps its count (CHA-18); any new one starts
		// again at 1, with or without stale (CHA-19).
		if !sharesNonce(r.Raws, group.raws) {
			r.Count, r.Cached = 0, false
		}
		r.Raws = group.raws
		s = s.with(i, r)
	}
	return s
}

// Spent returns the state after a request with these nonce counts was
// recorded.
func (s State) Spent(counts []*messages.NonceCount) State {
	for _, c := range counts {
		i := s.find(c.GetSpace(), c.GetRealm())
		if i < 0 {
			continue
		}
		r := s.Realms[i]
		r.Count = c.GetCount()
		r.Answered++
		s = s.with(i, r)
	}
	return s
}

// Withheld returns the state after it turned out that the request carries no
// credentials for these realms. Their counts stay spent.
func (s State) Withheld(unanswered []*messages.NonceCount) State {
	for _, c := range unanswered {
		if i := s.find(c.GetSpace(), c.GetRealm()); i >= 0 && s.Realms[i].Answered > 0 {
			r := s.Realms[i]
			r.Answered--
			s = s.with(i, r)
		}
	}
	return s
}

// Passed returns the state when the chain goes on after a request with these
// counts. A proxy that did not ask again has let it through; so has everybody
// when the response was no challenge at all (all). Their nonces are used up
// where nonces serve once, which is no reason to doubt the credentials.
func (s State) Passed(counts []*messages.NonceCount, all bool) State {
	for _, c := range counts {
		i := s.find(c.GetSpace(), c.GetRealm())
		if i < 0 || s.Realms[i].Answered == 0 || s.Realms[i].Count != c.GetCount() {
			continue // changed, or asked again
		}
		if all || c.GetSpace() == messages.Space_PROXY {
			r := s.Realms[i]
			r.Cached = true
			s = s.with(i, r)
		}
	}
	return s
}

// Accepted returns the state after a 2xx to a request with these answers: the
// realms are pinned and their best offer is remembered.
func (s State) Accepted(counts []*messages.NonceCount) State {
	for _, c := range counts {
		i := s.find(c.GetSpace(), c.GetRealm())
		if i < 0 || s.Realms[i].Answered == 0 {
			continue
		}
		r := s.Realms[i]
		r.Pinned, r.Cached = true, true
		r.Strongest = max(r.Strongest, strongest(r.Raws))
		s = s.with(i, r)
	}
	return s
}

// Renonced returns the state after nextnonce was announced for a space (RFC
// 7616 §3.5): the count starts again.
func (s State) Renonced(next []*messages.NextNonce) State {
	for _, n := range next {
		s = s.each(func(r *Realm) {
			if r.Space != n.GetSpace() || r.Answered == 0 {
				return
			}
			raws := make([]string, 0, len(r.Raws))
			for _, raw := range r.Raws {
				if renewed, ok := withNonce(raw, n.GetNonce()); ok {
					raws = append(raws, renewed)
				}
			}
			if len(raws) == 0 {
				return
			}
			if !sharesNonce(r.Raws, raws) {
				r.Count = 0
			}
			r.Raws = raws
		})
	}
	return s
}

// Forgotten returns the state in which no nonce is good enough to begin a
// chain, and what was answered so far does not count: the next request carries
// no credentials. Pins and the strongest algorithm stay.
func (s State) Forgotten() State {
	return s.each(func(r *Realm) { r.Cached, r.Answered = false, 0 })
}

// Replaced returns the state after the secret was replaced: as Forgotten, and
// any realm may be the first again.
func (s State) Replaced() State {
	return s.Forgotten().each(func(r *Realm) { r.Pinned, r.Strongest = false, 0 })
}

// Moved returns the state on another Call-ID: a proxy's credentials stay
// behind (RFC 3261 §22.3).
func (s State) Moved() State {
	return s.each(func(r *Realm) {
		if r.Space == messages.Space_PROXY {
			r.Cached, r.Answered = false, 0
		}
	})
}
