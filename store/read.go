package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

// errTrimmed is the cause of the damage that a back pointer to a missing
// record is, unless the journal was trimmed while the pointer was followed.
var errTrimmed = errors.New("it is missing")

// loadTries is how often Load starts again because a checkpoint and a trim
// have overtaken it. Each leaves a newer snapshot, so two would do.
const loadTries = 5

// Load reads one stream: its newest snapshot, nil when there is none, at
// version, and the envelopes after it, oldest first. A stream that has ended
// and begins anew goes on counting: its snapshot is nil and version is where
// it ended. Events of a type that this release does not know are returned; the
// caller must stop at them. While the store has failed, Load fails too: what
// it would return may be out of date after Reopen.
func (s *Store) Load(ctx context.Context, stream string) (state []byte, version uint64, events []*messages.Envelope, err error) {
	for range loadTries {
		if err := s.Err(); err != nil {
			return nil, 0, nil, err
		}
		var snap snapshot
		snap, events, err = s.load(ctx, stream)
		if err == nil {
			return snap.state, snap.version, events, nil
		}
		if !errors.Is(err, errTrimmed) {
			break
		}
	}
	return nil, 0, nil, fmt.Errorf("load %s: %w", stream, err)
}

func (s *Store) load(ctx context.Context, stream string) (snapshot, []*messages.Envelope, error) {
	s.mu.RLock()
	h := s.index.heads.get(stream)
	s.mu.RUnlock()
	// The snapshot is read first: one that is made later covers more, and what
	// is then trimmed shows as errTrimmed.
	snap, err := s.snapshot(stream)
	if err != nil {
		return snapshot{}, nil, err
	}
	var events []*messages.Envelope
	for h.version > snap.version {
		if err := ctx.Err(); err != nil {
			return snapshot{}, nil, err
		}
		err := s.view(func(tx *bolt.Tx) error {
			events, h, err = walkBack(tx, stream, h, snap.version, events)
			return err
		})
		if err != nil {
			return snapshot{}, nil, err
		}
	}
	slices.Reverse(events)
	return snap, events, nil
}

// walkBack appends to events, newest first, a page of the stream's envelopes
// from head h down to version after+1, and returns the head before them.
func walkBack(tx *bolt.Tx, stream string, h head, after uint64, events []*messages.Envelope) ([]*messages.Envelope, head, error) {
	journal := newJournalCursor(tx)
	for n, size := 0, 0; n < pageRecords && size < pageBytes && h.version > after; n++ {
		key, record, err := journal.find(h.last)
		if err != nil {
			return events, h, err
		}
		if record == nil {
			return events, h, missing(stream, h)
		}
		e, err := decodeEnvelope(key, record)
		if err != nil {
			return events, h, err
		}
		earlier, err := before(h, stream, e.Stream, e.Version, e.Previous)
		if err != nil {
			return events, h, err
		}
		events = append(events, e)
		size += len(record)
		h = earlier
	}
	return events, h, nil
}

func missing(stream string, h head) error {
	return &DamageError{Sequence: h.last, Stream: stream, Reason: errTrimmed.Error(), cause: errTrimmed}
}

// before is the head of a stream before the event at h, which says what its
// stream, its version and the sequence before it are.
func before(h head, stream, isStream string, isVersion, previous uint64) (head, error) {
	if isStream != stream || isVersion != h.version || previous >= h.last {
		return h, &DamageError{Sequence: h.last, Stream: stream, Reason: fmt.Sprintf(
			"it is version %d of stream %q and should be version %d", isVersion, isStream, h.version)}
	}
	return head{version: h.version - 1, last: previous}, nil
}

// snapshot reads one snapshot; without one it is the zero value.
func (s *Store) snapshot(stream string) (snap snapshot, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		key := snapshotKey(stream)
		record := tx.Bucket([]byte(bucketSnapshots)).Get(key)
		if record == nil {
			return nil
		}
		_, snap, err = decodeSnapshot(key, record)
		return err
	})
	return snap, err
}

// History calls yield with the envelopes of a stream, newest first, that come
// before version before (0: from the newest), until yield returns false or
// retention ends. It works while the store has failed, for whoever looks.
func (s *Store) History(ctx context.Context, stream string, before uint64, yield func(*messages.Envelope) bool) error {
	s.mu.RLock()
	h := s.index.heads.get(stream)
	s.mu.RUnlock()
	for h.version > 0 && h.last > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		var page []*messages.Envelope
		ended := false
		err := s.view(func(tx *bolt.Tx) (err error) {
			page, h, err = walkBack(tx, stream, h, 0, nil)
			if errors.Is(err, errTrimmed) {
				ended, err = trimmed(tx, h.last, err)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("history of %s: %w", stream, err)
		}
		for _, e := range page {
			if before != 0 && e.Version >= before {
				continue
			}
			if !yield(e) {
				return nil
			}
		}
		if ended {
			return nil
		}
	}
	return nil
}

// trimmed tells a record that retention dropped from one that is lost.
func trimmed(tx *bolt.Tx, seq uint64, lost error) (bool, error) {
	c, err := decodeCounters(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaCounters)))
	if err != nil {
		return false, err
	}
	if seq < c.first {
		return true, nil
	}
	return false, lost
}
