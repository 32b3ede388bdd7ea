package challenge

import "github.com/sipmuster/muster/messages"

// Proto is the state as a snapshot holds it.
func (s State) Proto() []*messages.RealmState {
	var realms []*messages.RealmState
	for _, r := range s.Realms {
		realms = append(realms, &messages.RealmState{
			Space: r.Space, Realm: r.Name, Raws: r.Raws, Count: r.Count, Answered: r.Answered,
			Pinned: r.Pinned, Cached: r.Cached, Strongest: r.Strongest,
		})
	}
	return realms
}

// FromProto is the state that Proto wrote.
func FromProto(realms []*messages.RealmState) State {
	var s State
	for _, r := range realms {
		s.Realms = append(s.Realms, Realm{
			Space: r.GetSpace(), Name: r.GetRealm(), Raws: r.GetRaws(), Count: r.GetCount(),
			Answered: r.GetAnswered(), Pinned: r.GetPinned(), Cached: r.GetCached(), Strongest: r.GetStrongest(),
		})
	}
	return s
}
