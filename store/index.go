package store

import (
	"bytes"
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

// head is where a stream stands: 16 bytes, because there is one for each.
type head struct {
	version uint64
	last    uint64 // the sequence of the event with that version
}

// index is what the store knows in memory. It follows from the file alone.
type index struct {
	counters
	heads map[string]head
	// gone are the streams of which only a tombstone is left.
	gone map[string]struct{}
	// covered is the highest sequence that is part of any snapshot. It can lie
	// beyond the checkpoint when a checkpoint was interrupted.
	covered uint64
	// folded is how far events were offered to Fold since the start.
	folded uint64
	// stuck is the number of streams that could not be folded.
	stuck int
}

// apply moves the index over one event, which must follow from what it knows.
func (ix *index) apply(seq uint64, e *messages.Envelope) error {
	h := ix.heads[e.Stream]
	if e.Version <= h.version && seq <= h.last {
		return nil // part of the snapshot
	}
	if e.Version != h.version+1 || e.Previous != h.last {
		return &DamageError{Sequence: seq, Stream: e.Stream, Reason: fmt.Sprintf(
			"it has version %d after record %d, the stream has version %d at record %d",
			e.Version, e.Previous, h.version, h.last)}
	}
	ix.heads[e.Stream] = head{version: e.Version, last: seq}
	return nil
}

// readIndex builds the index, checking on the way everything that a replay
// will rely on.
func readIndex(db *bolt.DB) (index, error) {
	view := func(fn func(tx *bolt.Tx) error) error {
		return guard(func() error { return db.View(fn) })
	}
	ix := index{heads: make(map[string]head), gone: make(map[string]struct{})}
	err := view(func(tx *bolt.Tx) (err error) {
		for _, name := range bucketNames() {
			if tx.Bucket([]byte(name)) == nil {
				return &DamageError{Reason: "it has no bucket " + name}
			}
		}
		meta := tx.Bucket([]byte(bucketMeta))
		ix.counters, err = checkFormat(func(key string) []byte { return meta.Get([]byte(key)) })
		return err
	})
	if err != nil {
		return index{}, err
	}
	ix.folded = ix.checkpoint
	var count, sum uint64
	ctx := context.Background()
	err = scanSnapshots(ctx, view, func(stream string, s snapshot, digest uint64) error {
		count, sum = count+1, sum+digest
		ix.heads[stream] = head{version: s.version, last: s.last}
		ix.covered = max(ix.covered, s.last)
		if s.state == nil {
			ix.gone[stream] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return index{}, err
	}
	if count != ix.snapshots || sum != ix.snapshotSum || ix.covered > ix.last {
		return index{}, &DamageError{Reason: "its snapshots are not the ones that were written last"}
	}
	if err := view(func(tx *bolt.Tx) error { return checkBounds(tx, ix.counters) }); err != nil {
		return index{}, err
	}
	return ix, scanJournal(ctx, view, ix.checkpoint+1, ix.last, ix.apply)
}

// checkBounds compares the ends of the journal with the counters. That there
// is no gap between them is for the scans to find.
func checkBounds(tx *bolt.Tx, c counters) error {
	cursor := tx.Bucket([]byte(bucketJournal)).Cursor()
	first, _ := cursor.First()
	last, _ := cursor.Last()
	if first == nil && c.first == c.last+1 {
		return nil
	}
	if !bytes.Equal(first, journalKey(c.first)) || !bytes.Equal(last, journalKey(c.last)) {
		return &DamageError{Reason: fmt.Sprintf("the journal should go from %d to %d and goes from %x to %x", c.first, c.last, first, last)}
	}
	return nil
}
