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
	// answered, in wire order. Empty when no nonce is known.
	Raws []string
	// Count is the last nonce count spent with the nonces in Raws.
	Count uint32
	// Answered counts the answers given in the open chain of requests.
	Answered uint32
	// Cached is true while Raws were learned before the open chain began: an
	// answer made from them may be refused only because the nonce has expired.
	Cached bool
	// Pinned is true once an answer for this realm was accepted.
	Pinned bool
	// Strongest is the Strength of the best algorithm that was offered when an
	// answer was accepted (RFC 7616 §5.8, S-11); 0 when none was.
	Strongest uint32
}

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

// CanAnswerEarly tells whether a nonce is known, so that the first request of
// a chain can carry credentials.
func (s State) CanAnswerEarly() bool {
	return slices.ContainsFunc(s.Realms, func(r Realm) bool { return len(r.Raws) > 0 })
}

// ChainStarted returns the state at the first request of a new chain: what is
// known counts as cached.
func (s State) ChainStarted() State {
	return s.each(func(r *Realm) { r.Answered, r.Cached = 0, len(r.Raws) > 0 })
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

// Accepted returns the state after a 2xx to a request with these answers: the
// realms are pinned and their best offer is remembered.
func (s State) Accepted(counts []*messages.NonceCount) State {
	for _, c := range counts {
		i := s.find(c.GetSpace(), c.GetRealm())
		if i < 0 {
			continue
		}
		r := s.Realms[i]
		r.Pinned = true
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
			if len(raws) > 0 {
				r.Raws, r.Count = raws, 0
			}
		})
	}
	return s
}

// Forgotten returns the state without nonces: the next request carries no
// credentials. Pins and the strongest algorithm stay.
func (s State) Forgotten() State {
	return s.each(func(r *Realm) { r.Raws, r.Count, r.Cached = nil, 0, false })
}
