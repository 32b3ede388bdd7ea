package store

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// maxStuckListed bounds the error of a checkpoint.
const maxStuckListed = 10

// errNoFold is returned by Checkpoint without Options.Fold.
var errNoFold = errors.New("checkpoint: Options.Fold is missing")

// checkpointEvery is the threshold in events; the caller holds mu.
func (s *Store) checkpointEvery() uint64 {
	if n := s.opts.CheckpointEvery; n > 0 {
		return uint64(n)
	}
	return uint64(min(max(leastCheckpointEvery, eventsPerFold*s.index.heads.len()), mostCheckpointEvery))
}

// checkpointer runs a checkpoint whenever enough was appended. There is no
// timer: what an idle store would gain is a start that folds fewer events.
func (s *Store) checkpointer(ctx context.Context) {
	reported := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		}
		err := s.Checkpoint(ctx)
		switch {
		case err == nil:
			reported = ""
		case ctx.Err() != nil || errors.Is(err, ErrFailed):
			// The end, or a failure that was reported when it happened.
		case err.Error() != reported:
			// A stream stays stuck until the next release: say so once.
			reported = err.Error()
			s.opts.Logger.Error("checkpoint is incomplete", "reason", err)
		}
	}
}

// Checkpoint folds the journal up to what was durable when it began into
// snapshots, moves the checkpoint and trims what retention lets go. Streams
// that Fold refuses keep their snapshots, hold the checkpoint back to their
// first event that is not in one, and are reported as *StuckError.
func (s *Store) Checkpoint(ctx context.Context) error {
	if s.opts.Fold == nil {
		return errNoFold
	}
	s.folding.Lock()
	defer s.folding.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	to, dirty := s.index.last, s.index.dirty
	s.index.dirty = nil
	for stream := range s.stuck { // perhaps they can be folded now
		if slot, ok := s.index.heads.find(stream); ok {
			dirty.add(slot)
		}
	}
	s.mu.Unlock()

	stuck, err := s.fold(ctx, dirty, to)
	if err == nil {
		err = s.advance(ctx, to)
	}
	if err != nil {
		s.mu.Lock()
		s.index.dirty.addAll(dirty) // those that are folded by now cost a look
		s.mu.Unlock()
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.trim(ctx); err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	return joinStuck(stuck)
}

// joinStuck names the first few.
func joinStuck(stuck []error) error {
	if n := len(stuck) - maxStuckListed; n > 0 {
		stuck = append(stuck[:maxStuckListed:maxStuckListed], fmt.Errorf("and %d more streams", n))
	}
	return errors.Join(stuck...)
}

// advance moves the checkpoint as far as the stuck streams allow.
func (s *Store) advance(ctx context.Context, folded uint64) error {
	checkpoint, stuck := folded, len(s.stuck)
	for _, first := range s.stuck {
		checkpoint = min(checkpoint, first-1)
	}
	var next counters
	return s.do(ctx, &request{
		job: func(tx *bolt.Tx) error {
			next = s.index.counters
			next.checkpoint = max(next.checkpoint, checkpoint)
			return next.put(tx)
		},
		publish: func() {
			s.index.counters, s.index.folded, s.index.stuck = next, folded, stuck
		},
	})
}
