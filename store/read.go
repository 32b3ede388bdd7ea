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

// record is an envelope and where it stands.
type record struct {
	seq uint64
	e   *messages.Envelope
}

func envelopes(records []record) []*messages.Envelope {
	if len(records) == 0 {
		return nil
	}
	events := make([]*messages.Envelope, len(records))
	for i := range records {
		events[i] = records[i].e
	}
	return events
}

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
		var records []record
		snap, records, err = s.load(ctx, stream)
		if err == nil {
			return snap.state, snap.version, envelopes(records), nil
		}
		if !errors.Is(err, errTrimmed) {
			break
		}
	}
	return nil, 0, nil, fmt.Errorf("load %s: %w", stream, err)
}

func (s *Store) load(ctx context.Context, stream string) (snapshot, []record, error) {
	s.mu.RLock()
	h := s.index.heads[stream]
	s.mu.RUnlock()
	// The snapshot is read first: one that is made later covers more, and what
	// is then trimmed shows as errTrimmed.
	snap, err := s.snapshot(stream)
	if err != nil {
		return snapshot{}, nil, err
	}
	var records []record
	for h.version > snap.version {
		if err := ctx.Err(); err != nil {
			return snapshot{}, nil, err
		}
		err := s.view(func(tx *bolt.Tx) error {
			records, h, err = walkBack(tx, stream, h, snap.version, records)
			return err
		})
		if err != nil {
			return snapshot{}, nil, err
		}
	}
	slices.Reverse(records)
	return snap, records, nil
}

// walkBack appends to records, newest first, a page of the stream's envelopes
// from head h down to version after+1, and returns the head before them.
func walkBack(tx *bolt.Tx, stream string, h head, after uint64, records []record) ([]record, head, error) {
	journal := tx.Bucket([]byte(bucketJournal))
	for n, size := 0, 0; n < pageRecords && size < pageBytes && h.version > after; n++ {
		key := journalKey(h.last)
		value := journal.Get(key)
		if value == nil {
			return records, h, &DamageError{Sequence: h.last, Stream: stream, Reason: errTrimmed.Error(), cause: errTrimmed}
		}
		e, err := decodeEnvelope(key, value)
		if err != nil {
			return records, h, err
		}
		if e.Stream != stream || e.Version != h.version || e.Previous >= h.last {
			return records, h, &DamageError{Sequence: h.last, Stream: stream, Reason: fmt.Sprintf(
				"it is version %d of stream %q and should be version %d", e.Version, e.Stream, h.version)}
		}
		records = append(records, record{h.last, e})
		size += len(value)
		h = head{version: h.version - 1, last: e.Previous}
	}
	return records, h, nil
}

// History calls yield with the envelopes of a stream, newest first, that come
// before version before (0: from the newest), until yield returns false or
// retention ends. It works while the store has failed, for whoever looks.
func (s *Store) History(ctx context.Context, stream string, before uint64, yield func(*messages.Envelope) bool) error {
	s.mu.RLock()
	h := s.index.heads[stream]
	s.mu.RUnlock()
	for h.version > 0 && h.last > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		var page []record
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
		for _, r := range page {
			if before != 0 && r.e.Version >= before {
				continue
			}
			if !yield(r.e) {
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
