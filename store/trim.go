package store

import (
	"bytes"
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
	for seq := t.s.index.first; seq < t.next.first; seq++ {
		c.Seek(journalKey(seq))
		if err := c.Delete(); err != nil {
			return err
		}
	}
	for _, stream := range t.ended {
		if err := t.bury(tx, stream); err != nil {
			return err
		}
	}
	return t.next.put(tx)
}

// choose finds the events to drop before it changes a page, while a step to the
// next record is cheap.
func (t *trimJob) choose(tx *bolt.Tx) error {
	ix := &t.s.index
	noneGone := ix.gone.empty()
	c := tx.Bucket([]byte(bucketJournal)).Cursor()
	key, value := c.First()
	for ; t.dropped < trimSlice && t.next.first <= t.next.checkpoint; key, value = c.Next() {
		if !bytes.Equal(key, journalKey(t.next.first)) {
			return &DamageError{Sequence: t.next.first, Reason: "it is missing"}
		}
		// Damage is left where it is, for verify to find.
		h, err := decodeHeader(key, value)
		if err != nil {
			return err
		}
		if !t.s.opts.Retention.drops(t.next, time.Unix(0, int64(h.atNanos)), t.now) {
			break
		}
		if !noneGone {
			slot, known := ix.heads.find(string(h.stream))
			if known && ix.gone.has(slot) && ix.heads.at(slot).last == t.next.first {
				t.ended = append(t.ended, string(h.stream))
			}
		}
		t.next.bytes -= uint64(len(value))
		t.next.first++
		t.dropped++
	}
	return nil
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
