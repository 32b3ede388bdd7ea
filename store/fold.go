package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

const (
	// sliceSnapshots and sliceBytes bound one commit of snapshots, so that
	// appends do not wait behind a checkpoint. Each snapshot may be a page.
	sliceSnapshots = 500
	sliceBytes     = 1 << 20
	// foldRecords bounds what one read transaction of a checkpoint decodes, and
	// how many events of one stream are in memory at once.
	foldRecords = 2000
	// maxState bounds what Fold may return.
	maxState = 1 << 20
)

// folder makes the snapshots of one checkpoint. It reads each stream by its back
// pointers, in key order, so that nothing but a page of streams is in memory and
// each page of snapshots is read and written once.
type folder struct {
	s       *Store
	to      uint64 // events after it are for the next checkpoint
	work    []foldWork
	states  []byte // the old ones of the streams that were read last
	made    snapshotSlice
	refused []error
}

// foldWork is one stream on its way to a new snapshot.
type foldWork struct {
	slot      uint32
	stream    string
	key       []byte
	head      head // first where the stream stands, then what the snapshot will cover
	old       snapshot
	digest    uint64   // of the old snapshot, 0 without one
	sequences []uint64 // of the events to be folded, oldest first
	// events are the same, unless they are too many to be held at once.
	events []*messages.Envelope
	// state is what the stream's owner says it is at a version; live tells that
	// it does, and that it takes the place of the events.
	state   []byte
	version uint64
	live    bool
}

// fold makes the snapshots of streams up to a sequence. refused are those that
// are stuck.
func (s *Store) fold(ctx context.Context, streams slotSet, to uint64) (refused []error, err error) {
	f := &folder{s: s, to: to}
	for _, slots := range s.intoShards(streams) {
		f.sort(slots)
		for work := f.work; len(work) > 0; {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			n, err := f.read(work)
			if err != nil {
				return nil, err
			}
			for i := range work[:n] {
				if err := f.fold(&work[i]); err != nil {
					return nil, err
				}
			}
			work = work[n:]
		}
	}
	return f.refused, f.write()
}

// intoShards is the first half of sorting by key.
func (s *Store) intoShards(streams slotSet) [][]uint32 {
	shards := make([][]uint32, Shards)
	const words = 64 // the lock is not held for long
	for from := 0; from < len(streams); from += words {
		s.mu.RLock()
		for slot := range streams[from:min(from+words, len(streams))].all {
			slot += uint32(from) << 6
			shard := Shard(s.index.heads.at(slot).name)
			shards[shard] = append(shards[shard], slot)
		}
		s.mu.RUnlock()
	}
	return shards
}

// sort makes the work of one shard.
func (f *folder) sort(slots []uint32) {
	for len(f.work) < len(slots) {
		f.work = append(f.work, foldWork{})
	}
	f.work = f.work[:len(slots)]
	f.s.mu.RLock()
	for i, slot := range slots {
		e := f.s.index.heads.at(slot)
		w := &f.work[i]
		*w = foldWork{slot: slot, stream: e.name, head: e.head, sequences: w.sequences[:0], events: w.events[:0]}
	}
	f.s.mu.RUnlock()
	slices.SortFunc(f.work, func(a, b foldWork) int { return strings.Compare(a.stream, b.stream) })
	if f.s.opts.Live == nil {
		return
	}
	for i := range f.work {
		f.s.askOwner(&f.work[i])
	}
	// An owner may have gone on since its head was read.
	f.s.mu.RLock()
	for i := range f.work {
		f.work[i].head = f.s.index.heads.at(f.work[i].slot).head
	}
	f.s.mu.RUnlock()
}

// askOwner calls Options.Live, whose panic means that nobody has the state.
func (s *Store) askOwner(w *foldWork) {
	defer func() {
		if recover() != nil {
			w.live = false
		}
	}()
	w.state, w.version, w.live = s.opts.Live(w.stream)
	w.live = w.live && len(w.state) <= maxState
}

// read takes the snapshots and the events of the first n streams from the file.
func (f *folder) read(work []foldWork) (n int, err error) {
	f.states = f.states[:0]
	err = f.s.view(func(tx *bolt.Tx) error {
		snapshots, journal := tx.Bucket([]byte(bucketSnapshots)).Cursor(), newJournalCursor(tx)
		for records := 0; n < len(work) && records < foldRecords; n++ {
			w := &work[n]
			if err := f.readSnapshot(snapshots, w); err != nil {
				return err
			}
			if err := f.reachOwner(journal, w); err != nil {
				return err
			}
			if !w.live {
				if err := f.readEvents(journal, w); err != nil {
					return err
				}
			}
			records += 1 + len(w.sequences)
		}
		return nil
	})
	return n, err
}

func (f *folder) readSnapshot(c *bolt.Cursor, w *foldWork) error {
	w.key = snapshotKey(w.stream)
	k, record := c.Seek(w.key)
	if !bytes.Equal(k, w.key) {
		return nil
	}
	snap, err := viewSnapshot(w.stream, k, record)
	if err != nil {
		return err
	}
	if snap.state != nil {
		at := len(f.states)
		f.states = append(f.states, snap.state...)
		snap.state = f.states[at:len(f.states):len(f.states)]
	}
	w.old, w.digest = snap, snapshotDigest(record)
	return nil
}

// reachOwner goes back from the stream's head to the version of its owner. The
// owner's state is of no use unless it has every event that the checkpoint is to
// pass, and of no use when the snapshot is as new.
func (f *folder) reachOwner(c *journalCursor, w *foldWork) error {
	if !w.live || w.version > w.head.version || w.version <= w.old.version {
		w.live = false
		return nil
	}
	h := w.head
	for h.version > w.version {
		if h.last <= f.to {
			w.live = false
			return nil
		}
		var err error
		if h, err = f.skip(c, w, h); err != nil {
			return err
		}
	}
	w.head = h
	return nil
}

// skip gives the head before the event at h, which is not for this checkpoint.
func (f *folder) skip(c *journalCursor, w *foldWork, h head) (head, error) {
	key, record, err := c.find(h.last)
	if err != nil {
		return h, err
	}
	if record == nil {
		return h, missing(w.stream, h)
	}
	hd, err := decodeHeader(key, record)
	if err != nil {
		return h, err
	}
	return before(h, w.stream, string(hd.stream), hd.version, hd.previous)
}

// readEvents follows the back pointers from the stream's head to its snapshot.
func (f *folder) readEvents(c *journalCursor, w *foldWork) error {
	for h := w.head; h.version > w.old.version; {
		if h.last > f.to {
			var err error
			if h, err = f.skip(c, w, h); err != nil {
				return err
			}
			w.head = h
			continue
		}
		key, record, err := c.find(h.last)
		if err != nil {
			return err
		}
		if record == nil {
			return missing(w.stream, h)
		}
		e, err := decodeEnvelope(key, record)
		if err != nil {
			return err
		}
		w.sequences = append(w.sequences, h.last)
		if w.events = append(w.events, e); len(w.events) > foldRecords {
			clear(w.events)
			w.events = w.events[:0]
		}
		if h, err = before(h, w.stream, e.Stream, e.Version, e.Previous); err != nil {
			return err
		}
	}
	slices.Reverse(w.sequences)
	slices.Reverse(w.events)
	return nil
}

// fold folds one stream and adds its snapshot to those that will be written.
func (f *folder) fold(w *foldWork) error {
	if len(w.sequences) == 0 && !w.live {
		return nil // already folded
	}
	state, refusal, err := f.newState(w)
	if err != nil {
		return err
	}
	if refusal == nil && len(state) > maxState {
		refusal = fmt.Errorf("a state of %d bytes", len(state))
	}
	if refusal != nil {
		f.s.stuck[w.stream] = w.sequences[0]
		f.refused = append(f.refused, &StuckError{Stream: w.stream, Sequence: w.sequences[0], Err: refusal})
		return nil //nolint:nilerr // others go on, and Checkpoint reports it
	}
	delete(f.s.stuck, w.stream)
	f.made.add(w, state)
	if len(f.made.snapshots) >= sliceSnapshots || f.made.bytes >= sliceBytes {
		return f.write()
	}
	return nil
}

// newState calls Fold, more than once when there are too many events. refusal is
// what Fold says.
func (f *folder) newState(w *foldWork) (state []byte, refusal, err error) {
	if w.live {
		return w.state, nil, nil
	}
	if len(w.events) == len(w.sequences) {
		state, refusal = f.s.callFold(w.stream, w.old.state, w.events)
		return state, refusal, nil
	}
	state = w.old.state
	for sequences := range slices.Chunk(w.sequences, foldRecords) {
		events := w.events[:0]
		err := f.s.view(func(tx *bolt.Tx) error {
			c := newJournalCursor(tx)
			for _, seq := range sequences {
				key, record, err := c.find(seq)
				if err != nil {
					return err
				}
				e, err := decodeEnvelope(key, record)
				if err != nil {
					return err
				}
				events = append(events, e)
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
		if state, refusal = f.s.callFold(w.stream, state, events); refusal != nil {
			return nil, refusal, nil
		}
	}
	return state, nil, nil
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

// snapshotSlice is what one commit of a checkpoint writes.
type snapshotSlice struct {
	snapshots []newSnapshot
	covered   uint64
	bytes     int
}

type newSnapshot struct {
	slot        uint32
	gone        bool
	added       bool   // there was none before
	oldDigest   uint64 // of the one before
	key, record []byte
}

func (sl *snapshotSlice) add(w *foldWork, state []byte) {
	record := encodeSnapshot(w.key, snapshot{version: w.head.version, last: w.head.last, state: state})
	sl.snapshots = append(sl.snapshots, newSnapshot{
		slot: w.slot, gone: state == nil, added: w.old.version == 0, oldDigest: w.digest, key: w.key, record: record,
	})
	sl.covered = max(sl.covered, w.head.last)
	sl.bytes += len(record)
}

// write has the writer put the snapshots into the file between appends. It waits
// for the outcome whatever happens: what was read of the old snapshots must be
// true when they are replaced.
func (f *folder) write() error {
	sl := f.made
	if len(sl.snapshots) == 0 {
		return nil
	}
	f.made = snapshotSlice{snapshots: make([]newSnapshot, 0, sliceSnapshots)}
	ix := &f.s.index
	var next counters
	return f.s.do(context.Background(), &request{
		job: func(tx *bolt.Tx) error {
			next = ix.counters
			b := tx.Bucket([]byte(bucketSnapshots))
			// Room for states to grow, without being half empty after a first
			// checkpoint that writes all keys in order.
			b.FillPercent = 0.8
			for _, snap := range sl.snapshots {
				if snap.added {
					next.snapshots++
				}
				next.snapshotSum += snapshotDigest(snap.record) - snap.oldDigest
				if err := b.Put(snap.key, snap.record); err != nil {
					return err
				}
			}
			return next.put(tx)
		},
		publish: func() {
			ix.counters = next
			ix.covered = max(ix.covered, sl.covered)
			for _, snap := range sl.snapshots {
				if snap.gone {
					ix.gone.add(snap.slot)
				} else {
					ix.gone.remove(snap.slot)
				}
			}
		},
	})
}
