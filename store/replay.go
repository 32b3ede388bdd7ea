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

// Replay walks the whole store: every snapshot in key order, then every event
// after the checkpoint in journal order, up to those that were durable when it
// began. An event that is part of its stream's snapshot is not delivered. An
// event of a type that this release does not know is, for its stream to stop.
// Checkpoints wait until it is done.
//
// The names of streams are the very strings that the store keeps, so that the
// replayer can share them.
func (s *Store) Replay(ctx context.Context, r Replayer) error {
	s.folding.Lock()
	defer s.folding.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	p := &replay{s: s, slot: noSlot}
	s.mu.RLock()
	p.from, p.to = s.index.checkpoint+1, s.index.last
	if s.index.covered >= p.from {
		p.covered = make([]uint64, s.index.heads.slots)
	}
	s.mu.RUnlock()

	err := readAhead(ctx, p.snapshots, func(e *replayed) error {
		if e.snap.state == nil {
			return nil
		}
		return r.Snapshot(e.stream, e.snap.version, e.snap.state)
	})
	if err != nil {
		return err
	}
	return readAhead(ctx, p.events, func(e *replayed) error {
		if e.event == nil {
			return nil
		}
		return r.Event(e.event)
	})
}

// replayed is a snapshot or an event, nil for one that is part of a snapshot.
type replayed struct {
	stream string
	snap   snapshot
	event  *messages.Envelope
}

// replay reads what Replay delivers, a page at a time.
type replay struct {
	s        *Store
	key      []byte // of the next snapshot, nil for the first
	slot     uint32 // of the last snapshot
	done     bool
	from, to uint64 // the events that are left
	// covered is, for each slot, the last sequence that is part of the stream's
	// snapshot; nil when no snapshot goes beyond the checkpoint.
	covered []uint64
}

// snapshots reads the next page of snapshots; it is empty after the last one.
func (p *replay) snapshots() (page []replayed, err error) {
	if p.done {
		return nil, nil
	}
	page = make([]replayed, 0, pageRecords)
	err = p.s.view(func(tx *bolt.Tx) error {
		// Outside of the index, its names are read under a lock.
		p.s.mu.RLock()
		defer p.s.mu.RUnlock()
		c, size := tx.Bucket([]byte(bucketSnapshots)).Cursor(), 0
		k, v := c.Seek(p.key)
		for ; k != nil && len(page) < pageRecords && size < pageBytes; k, v = c.Next() {
			e, err := p.snapshot(k, v)
			if err != nil {
				return err
			}
			page = append(page, e)
			size += len(v)
		}
		p.key, p.done = append(p.key[:0], k...), k == nil
		return nil
	})
	return page, err
}

// snapshot decodes one snapshot; the caller holds Store.mu.
func (p *replay) snapshot(key, record []byte) (replayed, error) {
	heads := &p.s.index.heads
	known := false
	stream, err := parseSnapshotKey(key, func(name []byte) string {
		// After a start, slots are in the order of the keys.
		if p.slot++; p.slot < heads.slots && heads.at(p.slot).name == string(name) {
			known = true
		} else if p.slot, known = heads.find(string(name)); !known {
			return string(name)
		}
		return heads.at(p.slot).name
	})
	if err != nil {
		return replayed{}, err
	}
	snap, err := viewSnapshot(stream, key, record)
	if err != nil {
		return replayed{}, err
	}
	if !known {
		return replayed{}, &DamageError{Stream: stream, Reason: "it was not there at the start"}
	}
	if p.covered != nil {
		p.covered[p.slot] = snap.last
	}
	if snap.state != nil {
		snap.state = append([]byte{}, snap.state...)
	}
	return replayed{stream: stream, snap: snap}, nil
}

// events reads the next page of events; it is empty after the last one. A
// missing one is damage.
func (p *replay) events() ([]replayed, error) {
	page := make([]replayed, 0, pageRecords)
	err := p.s.view(func(tx *bolt.Tx) error {
		p.s.mu.RLock()
		defer p.s.mu.RUnlock()
		c, size := newJournalCursor(tx), 0
		if err := c.seek(p.from); err != nil {
			return err
		}
		for ; p.from <= p.to && len(page) < pageRecords && size < pageBytes; p.from++ {
			key, record, err := c.next()
			if err != nil {
				return err
			}
			if !isJournalKey(key, p.from) {
				return &DamageError{Sequence: p.from, Reason: "it is missing"}
			}
			e, err := p.event(key, record)
			if err != nil {
				return err
			}
			page = append(page, replayed{event: e})
			size += len(record)
		}
		return nil
	})
	return page, err
}

// event decodes one event, unless a snapshot has it; the caller holds Store.mu.
func (p *replay) event(key, record []byte) (*messages.Envelope, error) {
	e, err := decodeEnvelope(key, record)
	if err != nil {
		return nil, err
	}
	heads := &p.s.index.heads
	slot, known := heads.find(e.Stream)
	if !known {
		return nil, &DamageError{Sequence: p.from, Stream: e.Stream, Reason: "its stream was not there at the start"}
	}
	if int(slot) < len(p.covered) && p.from <= p.covered[slot] {
		return nil, nil
	}
	e.Stream = heads.at(slot).name
	return e, nil
}

// readAhead calls use, outside of any transaction, with everything that read
// returns until it returns an empty page. The next page is read meanwhile.
func readAhead(ctx context.Context, read func() ([]replayed, error), use func(*replayed) error) error {
	type result struct {
		page []replayed
		err  error
	}
	pages, stop := make(chan result), make(chan struct{})
	go func() {
		defer close(pages)
		for {
			page, err := read()
			select {
			case pages <- result{page, err}:
			case <-stop:
				return
			}
			if err != nil || len(page) == 0 {
				return
			}
		}
	}()
	defer func() {
		close(stop)
		for range pages { // until nothing is read any more
		}
	}()
	for p := range pages {
		if p.err != nil {
			return p.err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := range p.page {
			if err := use(&p.page[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
