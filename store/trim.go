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
// at a time, and never past the checkpoint.
func (s *Store) trim(ctx context.Context) error {
	for {
		cut := &trimJob{s: s, now: time.Now()}
		err := s.submit(ctx, &request{job: cut.run, publish: cut.publish})
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
	journal := tx.Bucket([]byte(bucketJournal))
	for t.dropped < trimSlice && t.next.first <= t.next.checkpoint {
		key := journalKey(t.next.first)
		value := journal.Get(key)
		// Damage is left where it is, for verify to find.
		e, err := decodeEnvelope(key, value)
		if err != nil {
			return err
		}
		if !t.s.opts.Retention.drops(t.next, time.Unix(0, e.AtUnixNano), t.now) {
			break
		}
		_, gone := t.s.index.gone[e.Stream]
		if gone && t.s.index.heads[e.Stream].last == t.next.first {
			if err := t.bury(tx, e.Stream); err != nil {
				return err
			}
		}
		t.next.bytes -= uint64(len(value))
		t.next.first++
		t.dropped++
		if err := journal.Delete(key); err != nil {
			return err
		}
	}
	if t.dropped == 0 {
		return errNothing
	}
	return t.next.put(tx)
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
	t.ended = append(t.ended, stream)
	return snapshots.Delete(key)
}

func (t *trimJob) publish() {
	t.s.index.counters = t.next
	for _, stream := range t.ended {
		delete(t.s.index.heads, stream)
		delete(t.s.index.gone, stream)
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
