package actors

import (
	"context"
	"maps"
	"slices"

	"github.com/sipmuster/muster/actors/profile"
)

// PeekAll calls do with every profile and tombstone, whose states are what
// profile.Words.Peek makes of them; s is valid until do returns. It disturbs no
// shard: what changes meanwhile is seen or not.
func (f *Farm) PeekAll(ctx context.Context, do func(id string, s *profile.State)) error {
	for number := range Shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.PeekShard(number, do); err != nil {
			return err
		}
	}
	return nil
}

// PeekShard is PeekAll for one shard.
func (f *Farm) PeekShard(number int, do func(id string, s *profile.State)) error {
	select {
	case <-f.stopped:
		return ErrStopping
	default:
	}
	if !f.started.Load() {
		return ErrStarting
	}
	s := f.restored[number]
	s.entering.RLock()
	entries := slices.AppendSeq(make([]*entry, 0, len(s.entries)), maps.Values(s.entries))
	s.entering.RUnlock()
	var state profile.State
	for _, e := range entries {
		e.peek(&state)
		do(e.id, &state)
	}
	return nil
}

// Peek is PeekAll for one profile or tombstone; the zero State is for none.
func (f *Farm) Peek(id string) (s profile.State) {
	if !f.started.Load() {
		return s
	}
	shard := f.restored[Shard(id)]
	shard.entering.RLock()
	e, known := shard.entries[id]
	shard.entering.RUnlock()
	if known {
		e.peek(&s)
	}
	return s
}

// peek is state, less what profile.Words.Peek leaves out.
func (e *entry) peek(s *profile.State) {
	switch h := e.newest.Load(); {
	case h.busy != nil:
		*s = e.state()
	case h == nothing:
		*s = profile.State{}
	default:
		e.words.Peek(e.id, h.packed, s)
	}
}
