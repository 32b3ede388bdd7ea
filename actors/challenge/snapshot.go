package challenge

import "github.com/sipmuster/muster/messages"

// Proto is the state as a snapshot holds it.
func (s State) Proto() []*messages.RealmState {
	if len(s.Realms) == 0 {
		return nil
	}
	list := make([]*messages.RealmState, len(s.Realms))
	room := make([]messages.RealmState, len(s.Realms))
	for i := range s.Realms {
		r, p := &s.Realms[i], &room[i]
		p.Space, p.Realm, p.Raws, p.Count, p.Answered = r.Space, r.Name, r.Raws, r.Count, r.Answered
		p.Pinned, p.Cached, p.Strongest = r.Pinned, r.Cached, r.Strongest
		list[i] = p
	}
	return list
}

// FromProto is the state that Proto wrote.
func FromProto(realms []*messages.RealmState) State {
	if len(realms) == 0 {
		return State{}
	}
	s := State{Realms: make([]Realm, 0, len(realms))}
	for _, r := range realms {
		s.Realms = append(s.Realms, Realm{
			Space: r.GetSpace(), Name: r.GetRealm(), Raws: r.GetRaws(), Count: r.GetCount(),
			Answered: r.GetAnswered(), Pinned: r.GetPinned(), Cached: r.GetCached(), Strongest: r.GetStrongest(),
		})
	}
	return s
}
