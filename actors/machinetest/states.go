package machinetest

import (
	"reflect"
	"slices"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// everyText numbers every text that it is shown, in a profile.Words.
type everyText struct{ list []string }

func (t *everyText) Number(text, _ string) (uint64, bool) {
	i := slices.Index(t.list, text)
	if i < 0 {
		i = len(t.list)
		t.list = append(t.list, text)
	}
	return uint64(i), true
}

func (t *everyText) Text(n uint64) string { return t.list[n] }

// checkPacked is I1 for a state that rests: packed and unpacked again it is the
// same, whether the profile's id is its AOR or not.
func (f *faults) checkPacked(m *Machine, s profile.State) {
	version := uint64(len(m.Events))
	inline := &profile.Words{}
	for _, id := range []string{"sip:alice@example.test", "alice", ""} {
		for _, w := range []*profile.Words{m.Words, inline} {
			back, v := w.Unpack(id, w.Pack(id, version, &s))
			if v != version || !sameState(s, back) {
				f.add("I1: packed under the id %q at version %d, another state comes back at %d", id, version, v)
			}
		}
	}
}

// checkPromise is I1 for the state that a decision names.
func (f *faults) checkPromise(cmd profile.Command, d profile.Decision, folded profile.State) {
	if !sameState(d.State, folded) {
		f.add("I1: %T promises another state than its events give", cmd)
	}
}

// sameState compares two states field by field. An empty slice and none mean
// the same.
func sameState(a, b profile.State) bool {
	if !slices.EqualFunc(a.Attempt.Answers, b.Attempt.Answers, func(x, y *messages.NonceCount) bool {
		return x.GetSpace() == y.GetSpace() && x.GetRealm() == y.GetRealm() && x.GetCount() == y.GetCount()
	}) {
		return false
	}
	return reflect.DeepEqual(plainly(a), plainly(b))
}

// plainly leaves out the answers, which are protobuf, and what is empty.
func plainly(s profile.State) profile.State {
	s.Attempt.Answers = nil
	s.Challenge.Realms = slices.Clone(s.Challenge.Realms)
	for i := range s.Challenge.Realms {
		s.Challenge.Realms[i].Raws = someOrNil(s.Challenge.Realms[i].Raws)
	}
	s.Challenge.Realms = someOrNil(s.Challenge.Realms)
	s.Binding.ServiceRoute = someOrNil(s.Binding.ServiceRoute)
	s.Dropped = someOrNil(s.Dropped)
	s.Attempt.Targets = someOrNil(s.Attempt.Targets)
	return s
}

func someOrNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}
