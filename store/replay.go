package store

import (
	"context"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

const (
	// pageRecords and pageBytes bound one read transaction: while it lives, no
	// page that it may see is used again, and the file grows.
	pageRecords = 500
	pageBytes   = 4 << 20
)

// viewer runs a read transaction.
type viewer func(fn func(tx *bolt.Tx) error) error

// Replay walks the whole store: every snapshot in key order, then every event
// after the checkpoint in journal order, up to those that were durable when it
// began. An event that is part of its stream's snapshot is not delivered. An
// event of a type that this release does not know is, for its stream to stop.
// Checkpoints wait until it is done.
func (s *Store) Replay(ctx context.Context, r Replayer) error {
	s.folding.Lock()
	defer s.folding.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	from, to, covered := s.index.checkpoint+1, s.index.last, s.index.covered
	s.mu.RUnlock()

	err := scanSnapshots(ctx, s.view, func(stream string, snap snapshot, _ uint64) error {
		if snap.state == nil {
			return nil
		}
		return r.Snapshot(stream, snap.version, snap.state)
	})
	if err != nil {
		return err
	}
	return scanJournal(ctx, s.view, from, to, func(seq uint64, e *messages.Envelope) error {
		if seq <= covered {
			snap, err := s.snapshot(e.Stream)
			if err != nil {
				return err
			}
			if seq <= snap.last {
				return nil
			}
		}
		return r.Event(e)
	})
}

// snapshot reads one snapshot; without one it is the zero value.
func (s *Store) snapshot(stream string) (snap snapshot, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		snap, err = readSnapshot(tx, stream)
		return err
	})
	return snap, err
}

func readSnapshot(tx *bolt.Tx, stream string) (snapshot, error) {
	key := snapshotKey(stream)
	record := tx.Bucket([]byte(bucketSnapshots)).Get(key)
	if record == nil {
		return snapshot{}, nil
	}
	_, snap, err := decodeSnapshot(key, record)
	return snap, err
}

// scanSnapshots calls fn, outside of any transaction, with every snapshot.
func scanSnapshots(ctx context.Context, view viewer, fn func(stream string, s snapshot, digest uint64) error) error {
	type entry struct {
		stream string
		snap   snapshot
		digest uint64
	}
	var next []byte
	page := make([]entry, 0, pageRecords)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		page = page[:0]
		err := view(func(tx *bolt.Tx) error {
			c, size := tx.Bucket([]byte(bucketSnapshots)).Cursor(), 0
			k, v := c.Seek(next)
			for ; k != nil && len(page) < pageRecords && size < pageBytes; k, v = c.Next() {
				stream, snap, err := decodeSnapshot(k, v)
				if err != nil {
					return err
				}
				page = append(page, entry{stream, snap, snapshotDigest(v)})
				size += len(v)
			}
			next = append(next[:0], k...)
			return nil
		})
		if err != nil {
			return err
		}
		for i := range page {
			if err := fn(page[i].stream, page[i].snap, page[i].digest); err != nil {
				return err
			}
		}
		if len(next) == 0 {
			return nil
		}
	}
}

// scanJournal calls fn, outside of any transaction, with the records from and
// to and all between them. A missing one is damage.
func scanJournal(ctx context.Context, view viewer, from, to uint64, fn func(seq uint64, e *messages.Envelope) error) error {
	page := make([]*messages.Envelope, 0, pageRecords)
	for from <= to {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if page, err = journalPage(view, page[:0], from, to); err != nil {
			return err
		}
		for _, e := range page {
			if err := fn(from, e); err != nil {
				return err
			}
			from++
		}
	}
	return nil
}

// journalPage reads at least one record, and as many as a page may hold.
func journalPage(view viewer, page []*messages.Envelope, from, to uint64) ([]*messages.Envelope, error) {
	err := view(func(tx *bolt.Tx) error {
		c, size := tx.Bucket([]byte(bucketJournal)).Cursor(), 0
		k, v := c.Seek(journalKey(from))
		for seq := from; seq <= to && len(page) < pageRecords && size < pageBytes; seq++ {
			if got, err := parseJournalKey(k); err != nil || got != seq {
				return &DamageError{Sequence: seq, Reason: "it is missing"}
			}
			e, err := decodeEnvelope(k, v)
			if err != nil {
				return err
			}
			page = append(page, e)
			size += len(v)
			k, v = c.Next()
		}
		return nil
	})
	return page, err
}
