package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

const (
	// foldEvents is how many events are held in memory, about 500 bytes each, to
	// be folded at once. With a million streams, a quarter of them at a time
	// still finds three snapshots on each page that it writes.
	foldEvents = 250_000
	// sliceSnapshots and sliceBytes bound one commit of snapshots, so that
	// appends do not wait behind a checkpoint. Each snapshot may be a page.
	sliceSnapshots = 500
	sliceBytes     = 1 << 20
	// maxState bounds what Fold may return.
	maxState = 1 << 20
	// maxStuckListed bounds the error of a checkpoint.
	maxStuckListed = 10
)

// errNoFold is returned by Checkpoint without Options.Fold.
var errNoFold = errors.New("checkpoint: Options.Fold is missing")

// checkpointEvery is the threshold in events; the caller holds mu.
func (s *Store) checkpointEvery() uint64 {
	if n := s.opts.CheckpointEvery; n > 0 {
		return uint64(n)
	}
	return uint64(max(defaultCheckpointEvery, len(s.index.heads)))
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
	s.mu.RLock()
	folded, to := s.index.folded, s.index.last
	s.mu.RUnlock()

	var stuck []error
	again := make([]string, 0, len(s.stuck))
	for stream := range s.stuck {
		again = append(again, stream)
	}
	for folded < to || len(again) > 0 {
		upTo := min(to, folded+foldEvents)
		work, err := s.gather(ctx, folded+1, upTo)
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		for _, stream := range again {
			work[stream] = nil // foldStream loads it
		}
		again = nil
		refused, err := s.fold(ctx, work)
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		stuck = append(stuck, refused...)
		folded = upTo
		if err := s.advance(ctx, folded); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
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

// gather reads a stretch of the journal and sorts it by stream.
func (s *Store) gather(ctx context.Context, from, to uint64) (map[string][]record, error) {
	work := make(map[string][]record)
	err := scanJournal(ctx, s.view, from, to, func(seq uint64, e *messages.Envelope) error {
		work[e.Stream] = append(work[e.Stream], record{seq, e})
		return nil
	})
	return work, err
}

// foldWork is one stream on its way to a new snapshot.
type foldWork struct {
	stream  string
	key     []byte
	records []record
	old     snapshot
}

// fold makes the snapshots of the streams in work and writes them, in key
// order, a slice at a time. refused are the streams that are stuck.
func (s *Store) fold(ctx context.Context, work map[string][]record) (refused []error, err error) {
	todo := make([]foldWork, 0, len(work))
	for stream, records := range work {
		todo = append(todo, foldWork{stream: stream, key: snapshotKey(stream), records: records})
	}
	slices.SortFunc(todo, func(a, b foldWork) int { return bytes.Compare(a.key, b.key) })
	for slice := range slices.Chunk(todo, sliceSnapshots) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		stuck, err := s.foldSlice(ctx, slice)
		if err != nil {
			return nil, err
		}
		refused = append(refused, stuck...)
	}
	return refused, nil
}

func (s *Store) foldSlice(ctx context.Context, slice []foldWork) (refused []error, err error) {
	err = s.view(func(tx *bolt.Tx) (err error) {
		for i := range slice {
			if slice[i].old, err = readSnapshot(tx, slice[i].stream); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var made snapshotSlice
	for _, w := range slice {
		snap, err := s.foldStream(ctx, w)
		if stuck, ok := errors.AsType[*StuckError](err); ok {
			refused = append(refused, err)
			s.stuck[w.stream] = stuck.Sequence
			continue
		}
		if err != nil {
			return nil, err
		}
		delete(s.stuck, w.stream)
		if snap.version == 0 {
			continue // already folded
		}
		made.add(w, snap)
		if made.bytes >= sliceBytes {
			if err := s.writeSlice(ctx, made); err != nil {
				return nil, err
			}
			made = snapshotSlice{}
		}
	}
	return refused, s.writeSlice(ctx, made)
}

// foldStream folds one stream. The records may begin before the stream's
// snapshot ends, when a checkpoint was interrupted, or later than right after
// it, when the stream was stuck.
func (s *Store) foldStream(ctx context.Context, w foldWork) (_ snapshot, err error) {
	snap, records := w.old, w.records
	for len(records) > 0 && records[0].seq <= snap.last {
		records = records[1:]
	}
	if len(w.records) == 0 || (len(records) > 0 && records[0].e.Version != snap.version+1) {
		if snap, records, err = s.load(ctx, w.stream); err != nil {
			return snapshot{}, err
		}
	}
	if len(records) == 0 {
		return snapshot{}, nil
	}
	state, err := s.callFold(w.stream, snap.state, envelopes(records))
	if err == nil && len(state) > maxState {
		err = fmt.Errorf("a state of %d bytes", len(state))
	}
	if err != nil {
		return snapshot{}, &StuckError{Stream: w.stream, Sequence: records[0].seq, Err: err}
	}
	newest := records[len(records)-1]
	return snapshot{version: newest.e.Version, last: newest.seq, state: state}, nil
}

// callFold keeps a panic of one stream's fold from ending the node: the stream
// is stuck, as with an error.
func (s *Store) callFold(stream string, state []byte, events []*messages.Envelope) (_ []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return s.opts.Fold(stream, state, events)
}

// advance moves the checkpoint as far as the stuck streams allow.
func (s *Store) advance(ctx context.Context, folded uint64) error {
	checkpoint, stuck := folded, len(s.stuck)
	for _, first := range s.stuck {
		checkpoint = min(checkpoint, first-1)
	}
	var next counters
	return s.submit(ctx, &request{
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

// snapshotSlice is what one commit of a checkpoint writes.
type snapshotSlice struct {
	streams       []string
	gone          []bool
	covered       uint64
	keys, records [][]byte
	bytes         int
}

func (sl *snapshotSlice) add(w foldWork, snap snapshot) {
	record := encodeSnapshot(w.key, snap)
	sl.streams = append(sl.streams, w.stream)
	sl.gone = append(sl.gone, snap.state == nil)
	sl.covered = max(sl.covered, snap.last)
	sl.keys = append(sl.keys, w.key)
	sl.records = append(sl.records, record)
	sl.bytes += len(record)
}

// writeSlice has the writer put the snapshots into the file between appends.
func (s *Store) writeSlice(ctx context.Context, sl snapshotSlice) error {
	if len(sl.keys) == 0 {
		return nil
	}
	var next counters
	return s.submit(ctx, &request{
		job: func(tx *bolt.Tx) error {
			next = s.index.counters
			b := tx.Bucket([]byte(bucketSnapshots))
			// Room for states to grow, without being half empty after a first
			// checkpoint that writes all keys in order.
			b.FillPercent = 0.8
			for i, key := range sl.keys {
				if old := b.Get(key); old != nil {
					next.snapshotSum -= snapshotDigest(old)
				} else {
					next.snapshots++
				}
				next.snapshotSum += snapshotDigest(sl.records[i])
				if err := b.Put(key, sl.records[i]); err != nil {
					return err
				}
			}
			return next.put(tx)
		},
		publish: func() {
			s.index.counters = next
			s.index.covered = max(s.index.covered, sl.covered)
			for i, stream := range sl.streams {
				if sl.gone[i] {
					s.index.gone[stream] = struct{}{}
				} else {
					delete(s.index.gone, stream)
				}
			}
		},
	})
}
