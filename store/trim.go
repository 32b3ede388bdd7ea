package store

import (
	"context"
	"errors"
	"time"

	bolt "go.etcd.io/bbolt"
)

// trimSlice is how many events one commit may drop.
const trimSlice = 2000

// errNothing spares the commit of a job that has nothing to do.
var errNothing = errors.New("nothing to do")

// trim cuts the journal from its old end as far as retention lets go, a slice
// at a time, and never past the checkpoint. Each slice is waited for: the next
// checkpoint must not meet it.
func (s *Store) trim(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		cut := &trimJob{s: s, now: time.Now()}
		err := s.do(context.WithoutCancel(ctx), &request{job: cut.run, publish: cut.publish})
		if errors.Is(err, errNothing) {
			return nil
		}
		if err != nil || cut.dropped < trimSlice {
			return err
		}
	}
}

// trimJob is one slice of a trim. Its methods run on the writer.
type trimJob struct {
	s       *Store
	now     time.Time
	next    counters
	dropped int
	ended   []string // streams of which nothing is left
}

func (t *trimJob) run(tx *bolt.Tx) error {
	t.next = t.s.index.counters
	if err := t.choose(tx); err != nil {
		return err
	}
	if t.dropped == 0 {
		return errNothing
	}
	c := tx.Bucket([]byte(bucketJournal)).Cursor() // cheaper than Bucket.Delete
	for seq := t.s.index.first; seq < t.next.first; {
		key, _ := c.Seek(journalKey(seq))
		_, n, err := parseEntryKey(key)
		if err != nil {
			return err
		}
		if err := c.Delete(); err != nil {
			return err
		}
		seq += n
	}
	for _, stream := range t.ended {
		if err := t.bury(tx, stream); err != nil {
			return err
		}
	}
	return t.next.put(tx)
}

// choose finds the events to drop before it changes a page, while a step to the
// next value is cheap.
func (t *trimJob) choose(tx *bolt.Tx) error {
	c := tx.Bucket([]byte(bucketJournal)).Cursor()
	var b block
	for key, value := c.First(); key != nil && t.dropped < trimSlice; key, value = c.Next() {
		if err := b.open(key, value); err != nil {
			return err
		}
		if b.sequence != t.next.first {
			return &DamageError{Sequence: t.next.first, Reason: "it is missing"}
		}
		if all, err := t.chooseBlock(&b); err != nil || !all {
			return err
		}
	}
	return nil
}

// chooseBlock drops a block unless one of its events must stay.
func (t *trimJob) chooseBlock(b *block) (all bool, err error) {
	ix := &t.s.index
	next, ended, noneGone := t.next, t.ended, ix.gone.empty()
	for b.left > 0 {
		if next.first > next.checkpoint {
			return false, nil
		}
		// Damage is left where it is, for verify to find.
		key, record, err := b.next()
		if err != nil {
			return false, err
		}
		h, err := decodeHeader(key, record)
		if err != nil {
			return false, err
		}
		if !t.s.opts.Retention.drops(next, time.Unix(0, int64(h.atNanos)), t.now) {
			return false, nil
		}
		if !noneGone {
			slot, known := ix.heads.find(string(h.stream))
			if known && ix.gone.has(slot) && ix.heads.at(slot).last == next.first {
				ended = append(ended, string(h.stream))
			}
		}
		next.bytes -= uint64(len(record))
		next.first++
	}
	t.dropped += int(next.first - t.next.first)
	t.next, t.ended = next, ended
	return true, nil
}

// bury removes the tombstone of a stream whose last event is dropped. Whoever
// still holds its version gets ErrConflict and must load it again; the stream
// begins at version 1.
func (t *trimJob) bury(tx *bolt.Tx, stream string) error {
	snapshots, key := tx.Bucket([]byte(bucketSnapshots)), snapshotKey(stream)
	if old := snapshots.Get(key); old != nil {
		t.next.snapshots--
		t.next.snapshotSum -= snapshotDigest(old)
	}
	return snapshots.Delete(key)
}

func (t *trimJob) publish() {
	t.s.index.counters = t.next
	for _, stream := range t.ended {
		if slot, ok := t.s.index.heads.find(stream); ok {
			t.s.index.gone.remove(slot)
			t.s.index.heads.remove(stream)
		}
	}
}

// drops says whether the oldest event, which was recorded at the given time,
// is more than is to be kept.
func (r Retention) drops(c counters, at, now time.Time) bool {
	switch {
	case r.Count >= 0 && c.last+1-c.first > uint64(r.Count):
		return true
	case r.Age >= 0 && now.Sub(at) > r.Age:
		return true
	}
	return r.Bytes > 0 && c.bytes > uint64(r.Bytes)
}
