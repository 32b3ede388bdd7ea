package actors

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// restorer rebuilds the shards' entries from the journal.
type restorer struct{ farm *Farm }

func (r *restorer) entry(id string) *entry {
	s := r.farm.restored[Shard(id)]
	e, known := s.entries[id]
	if !known {
		e = newEntry(&r.farm.words, id)
		s.entries[id] = e
	}
	return e
}

// session is the entry of a session, nil for an id that is none.
func (r *restorer) session(id string) *sessionEntry {
	number, ok := sessionShard(id)
	if !ok {
		return nil
	}
	s := r.farm.restored[number]
	e, known := s.sessions[id]
	if !known {
		e = &sessionEntry{id: id, cell: &atomic.Pointer[sessionVersion]{}, memory: newSessionMemory(nil)}
		e.cell.Store(&sessionVersion{})
		s.sessions[id] = e
	}
	return e
}

// Snapshot implements Replayer.
func (r *restorer) Snapshot(stream string, version uint64, b []byte) error {
	fault := func(err error) error { return fmt.Errorf("snapshot of %s: %w", stream, err) }
	if id, ok := strings.CutPrefix(stream, "p/"); ok {
		state, err := profile.Unmarshal(b)
		if err != nil {
			return fault(err)
		}
		r.entry(id).pack(versioned{state: state, version: version})
	}
	if id, ok := strings.CutPrefix(stream, "s/"); ok {
		state, err := session.Unmarshal(b)
		if err != nil {
			return fault(err)
		}
		if e := r.session(id); e != nil {
			e.cell.Store(&sessionVersion{state: state, version: version})
		}
	}
	return nil
}

// Event implements Replayer. A stream with an event that this release does not
// know is parked: it does nothing, and says so.
func (r *restorer) Event(env *messages.Envelope) error {
	if id, ok := strings.CutPrefix(env.GetStream(), "p/"); ok {
		if e := r.entry(id); !e.parked() {
			state, known := applyToProfile(e.state(), env)
			if !known {
				r.park(&e.occupied().crashes, env)
				return nil
			}
			e.pack(versioned{state: state, version: env.GetVersion()})
		}
	}
	if id, ok := strings.CutPrefix(env.GetStream(), "s/"); ok {
		if e := r.session(id); e != nil && !e.crashes.parked {
			state, known := applyToSession(e.cell.Load().state, env)
			if !known {
				r.park(&e.crashes, env)
				return nil
			}
			e.cell.Store(&sessionVersion{state: state, version: env.GetVersion()})
		}
	}
	return nil
}

func (r *restorer) park(c *crashes, env *messages.Envelope) {
	r.farm.log.Error("unknown event: the journal was written by a later release; the profile or session is parked",
		"stream", env.GetStream(), "version", env.GetVersion())
	c.parked = true
	r.farm.observer.ActorRestarted(true)
}

// Live gives the newest durable state of a profile's stream as a snapshot, for a
// checkpoint that would otherwise fold it from its events. ok is false when the
// farm has none. Another goroutine may append meanwhile: what counts is the
// version.
func (f *Farm) Live(stream string) (snapshot []byte, version uint64, ok bool) {
	id, isProfile := strings.CutPrefix(stream, "p/")
	if !isProfile || !f.started.Load() {
		return nil, 0, false
	}
	s := f.restored[Shard(id)]
	s.entering.RLock()
	e, known := s.entries[id]
	s.entering.RUnlock()
	if !known {
		return nil, 0, false
	}
	v := e.load()
	snapshot, err := profile.Snapshot(v.state)
	return snapshot, v.version, err == nil
}

// finish drops what has ended and counts the rest.
func (r *restorer) finish() {
	for _, s := range r.farm.restored {
		for id, e := range s.entries {
			state := e.state()
			if !state.Exists() && state.Source != "file" {
				delete(s.entries, id)
				continue
			}
			if state.Exists() {
				r.farm.population.move(state.Spec.Registrar, "", state.Status())
				r.farm.observer.ProfileRestored(state.Spec.Registrar, state.Status())
			}
			if r.farm.contacts.on.Load() {
				r.farm.indexContact(e)
			}
		}
		for id, e := range s.sessions {
			state := e.cell.Load().state
			if state.Ended || !state.Exists() && !e.crashes.parked {
				delete(s.sessions, id)
				continue
			}
			r.finishSession(s, e, state)
		}
	}
	r.farm.rejoin()
}

// finishSession lets a session find its profile, and everybody the session.
func (r *restorer) finishSession(s *shardActor, e *sessionEntry, state session.State) {
	e.spec = state.Spec
	if owner, ok := s.entries[e.spec.GetProfile()]; ok {
		e.profile = owner
	} else if e.profile = s.formerEntry(e.spec.GetProfile()); e.profile == nil {
		e.profile = newEntry(&r.farm.words, "") // it was removed, and the session goes on
	}
	f := r.farm
	f.live.Store(e.id, e)
	if !state.Exists() {
		return // it is parked
	}
	f.observer.SessionRestored(state.Status())
	if e.counted = !e.spec.GetTrunkLeg(); e.counted {
		f.counts.restored(e.spec.GetRegistrar(), e.spec.GetProfile())
	}
	if !state.Inbound() && !e.spec.GetTrunkLeg() {
		f.targets.note(e.spec.GetRegistrar(), state.Source)
	}
}
