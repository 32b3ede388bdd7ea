package actors

import (
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// contactIndex finds profiles by what may stand in a URI for them: the user of
// their Contact, their id, the user of their AOR. A million profiles cost their
// share of memory only on a node that takes calls, so it is built on demand.
//
// It may hold profiles that have changed since; whoever looks compares.
type contactIndex struct {
	on     atomic.Bool
	seed   maphash.Seed
	shards [64]contactShard
}

type contactShard struct {
	mu    sync.RWMutex
	users map[string][]*entry
}

func (x *contactIndex) shard(user string) *contactShard {
	return &x.shards[maphash.String(x.seed, user)%uint64(len(x.shards))]
}

// keys are the users by which a profile is found.
func contactKeys(id string, spec profile.Spec) []string {
	keys := []string{ContactUser(spec)}
	for _, key := range []string{messages.UserPart(spec.AOR), id} {
		if !slices.Contains(keys, key) && !strings.ContainsAny(key, "@:") {
			keys = append(keys, key)
		}
	}
	return keys
}

// affected tells whether a change of a profile is one for the index.
func (x *contactIndex) affected(before, after *profile.State) bool {
	return before.Exists() != after.Exists() || before.Spec != after.Spec
}

// changed follows a profile from one declaration to the next, once others see that
// state: whoever turns the index on meanwhile finds either this or the state.
func (x *contactIndex) changed(e *entry, before, after *profile.State) {
	if !x.on.Load() || !x.affected(before, after) {
		return
	}
	var old, now []string
	if before.Exists() {
		old = contactKeys(e.id, before.Spec)
	}
	if after.Exists() {
		now = contactKeys(e.id, after.Spec)
	}
	for _, key := range old {
		if !slices.Contains(now, key) {
			x.remove(key, e.id)
		}
	}
	for _, key := range now {
		x.add(key, e)
	}
}

func (x *contactIndex) add(key string, c *entry) {
	s := x.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == nil {
		s.users = map[string][]*entry{}
	}
	list := s.users[key]
	if i := slices.IndexFunc(list, func(o *entry) bool { return o.id == c.id }); i >= 0 {
		if list[i] == c {
			return
		}
		list = slices.Delete(slices.Clone(list), i, i+1) // it was forgotten and declared anew
	}
	s.users[key] = append(slices.Clip(list), c)
}

func (x *contactIndex) remove(key, id string) {
	s := x.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(s.users[key]), func(c *entry) bool { return c.id == id })
	if len(list) == 0 {
		delete(s.users, key)
		return
	}
	s.users[key] = list
}

// find lists the profiles that take calls and have the user in their Contact,
// or as their id.
func (x *contactIndex) find(user string) []*entry {
	return x.which(user, func(id string, spec profile.Spec) bool { return id == user || ContactUser(spec) == user })
}

// which lists the profiles that take calls, are known by a user and meant.
func (x *contactIndex) which(user string, meant func(id string, spec profile.Spec) bool) []*entry {
	s := x.shard(user)
	s.mu.RLock()
	list := s.users[user]
	s.mu.RUnlock()
	var found []*entry
	for _, c := range list {
		if state := c.state(); takesCalls(state) && meant(c.id, state.Spec) {
			found = append(found, c)
		}
	}
	return found
}

// indexContacts begins to find profiles by their contacts. The profiles that
// change meanwhile see that the index is on.
func (f *Farm) indexContacts(ctx context.Context) error {
	if f.contacts.on.Swap(true) {
		return nil
	}
	if !f.started.Load() {
		return nil // see Start
	}
	return f.visitAll(ctx, f.indexContact)
}

func (f *Farm) indexContact(e *entry) {
	state := e.state()
	f.contacts.changed(e, &profile.State{}, &state)
}
