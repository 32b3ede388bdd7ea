package actors

import (
	"fmt"
	"strings"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// restorer rebuilds the shards' entries from the journal.
type restorer struct{ farm *Farm }

func (r *restorer) entry(stream string) (*entry, bool) {
	id, ok := strings.CutPrefix(stream, "p/")
	if !ok {
		return nil, false
	}
	s := r.farm.restored[Shard(id)]
	e, known := s.entries[id]
	if !known {
		e = newEntry(id)
		s.entries[id] = e
	}
	return e, true
}

// Snapshot implements Replayer.
func (r *restorer) Snapshot(stream string, version uint64, b []byte) error {
	e, ok := r.entry(stream)
	if !ok {
		return nil
	}
	state, err := profile.Unmarshal(b)
	if err != nil {
		return fmt.Errorf("snapshot of %s: %w", stream, err)
	}
	e.cell.Store(&versioned{state: state, version: version})
	return nil
}

// Event implements Replayer. A stream with an event that this release does not
// know is parked: it does nothing, and says so.
func (r *restorer) Event(env *messages.Envelope) error {
	e, ok := r.entry(env.GetStream())
	if !ok {
		return nil
	}
	if e.crashes.parked {
		return nil
	}
	if env.GetProfile().TypeName() == "" {
		r.farm.log.Error("unknown event: the journal was written by a later release; the profile is parked",
			"profile", e.id, "version", env.GetVersion())
		e.crashes.parked = true
		r.farm.observer.ActorRestarted(true)
		return nil
	}
	v := e.cell.Load()
	e.cell.Store(&versioned{state: profile.Apply(v.state, env.GetProfile()), version: env.GetVersion()})
	return nil
}

// finish drops what has ended and counts the rest.
func (r *restorer) finish() {
	for _, s := range r.farm.restored {
		for id, e := range s.entries {
			state := e.cell.Load().state
			if !state.Exists() && state.Source != "file" {
				delete(s.entries, id)
				continue
			}
			if state.Exists() {
				r.farm.observer.ProfileRestored(state.Spec.Registrar, state.Status())
			}
		}
	}
}
