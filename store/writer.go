package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

// write is the writer goroutine: the only one that ever begins a writable
// transaction once the store is open. Commits of batches begin at least
// CommitInterval apart: each costs two syncs and some pages, whatever is in it.
func (s *Store) write() {
	b := &batch{}
	var pause time.Duration
	if s.opts.CommitInterval > 0 {
		pause = s.opts.CommitInterval
	}
	var begun time.Time
	for {
		alone, shared := s.queue.next(begun.Add(pause), b.requests[:0])
		if alone == nil && len(shared) == 0 {
			return
		}
		failed := s.Err()
		switch {
		case alone == nil && failed != nil:
			for _, r := range shared {
				r.answer <- failed
			}
		case alone == nil:
			begun = time.Now()
			b.reset(shared)
			s.commit(b)
		case alone.reopen && failed != nil:
			alone.answer <- s.reopen()
		case alone.reopen:
			alone.answer <- nil
		case failed != nil:
			alone.answer <- failed
		default:
			s.runJob(alone)
		}
		clear(shared)
	}
}

// batch is what goes into one commit. It is reused.
type batch struct {
	requests []*request
	moves    []move   // of the streams in this batch
	moved    slotSet  // the same streams
	counters counters // after this batch
	written  int      // events that are part of it
	envelope messages.Envelope
	key      [8]byte
	arena    []byte // the records; bbolt keeps them until the commit
}

// move is where a stream stands after a batch.
type move struct {
	slot uint32
	head
}

func (b *batch) reset(requests []*request) {
	for _, m := range b.moves {
		b.moved.remove(m.slot)
	}
	b.requests, b.moves, b.arena, b.written = requests, b.moves[:0], b.arena[:0], 0
}

// moveOf is what the batch has done to a stream so far. One that is in a batch
// more than once was there a moment ago.
func (b *batch) moveOf(slot uint32) *move {
	if b.moved.has(slot) {
		for i := len(b.moves) - 1; i >= 0; i-- {
			if b.moves[i].slot == slot {
				return &b.moves[i]
			}
		}
	}
	return nil
}

// commit makes a batch durable, publishes it and answers.
func (s *Store) commit(b *batch) {
	start := time.Now()
	err := s.transact(func(tx *bolt.Tx) (bool, error) { return s.fill(tx, b) })
	if err != nil {
		err = s.fail(err)
	} else if b.written > 0 {
		s.publish(b)
		if s.opts.OnAppend != nil {
			s.opts.OnAppend(time.Since(start), b.written)
		}
	}
	for _, r := range b.requests {
		if r.verdict == nil {
			r.verdict = err
		}
		r.answer <- r.verdict
	}
}

// transact runs one writable transaction. fn says whether there is anything
// to commit.
func (s *Store) transact(fn func(tx *bolt.Tx) (bool, error)) error {
	return guard(func() error {
		tx, err := s.db.Begin(true)
		if err != nil {
			return err
		}
		// Also after a panic, or the file could not be closed. The guard is for
		// a rollback that meets the same damage; after a commit there is
		// nothing to roll back, which is an error.
		defer func() { _ = guard(tx.Rollback) }()
		if dirty, err := fn(tx); err != nil || !dirty {
			return err
		}
		return tx.Commit()
	})
}

// fill writes the secrets, and the appends whose version is right, into the
// transaction.
func (s *Store) fill(tx *bolt.Tx, b *batch) (dirty bool, err error) {
	journal, secrets := tx.Bucket([]byte(bucketJournal)), tx.Bucket([]byte(bucketSecrets))
	// Keys only ever come after the last one: pages need no room for more.
	journal.FillPercent = 1
	b.counters = s.index.counters
	for _, r := range b.requests {
		if r.secrets == nil {
			err = s.fillAppend(journal, b, r)
		} else if err = r.secrets(secrets); errors.Is(err, ErrNoKey) {
			r.verdict, err = err, nil
		} else {
			dirty = true
		}
		if err != nil {
			return false, err
		}
	}
	if b.written == 0 {
		return dirty, nil
	}
	return true, b.counters.put(tx)
}

// fillAppend says in r.verdict why it writes nothing.
func (s *Store) fillAppend(journal *bolt.Bucket, b *batch, r *request) error {
	slot, known := s.index.heads.find(r.stream)
	var h head
	var earlier *move
	if known {
		if earlier = b.moveOf(slot); earlier != nil {
			h = earlier.head
		} else {
			h = s.index.heads.at(slot).head
		}
	}
	switch {
	case b.counters.epoch > s.opts.Epoch:
		r.verdict = fmt.Errorf("append %s with epoch %d: the journal has epoch %d: %w", r.stream, s.opts.Epoch, b.counters.epoch, ErrConflict)
		return nil
	case h.version != r.after:
		r.verdict = fmt.Errorf("append %s after version %d: it is at version %d: %w", r.stream, r.after, h.version, ErrConflict)
		return nil
	case r.payload.len() == 0:
		return nil
	}
	if !known {
		// It stands at version 0, as if it were not there, until the commit; and
		// after a commit that fails, Reopen makes a new index.
		s.mu.Lock()
		slot = s.index.heads.add(r.stream)
		s.mu.Unlock()
	}
	h, err := b.put(journal, r, h, s.opts.Epoch)
	if err != nil {
		return err
	}
	if earlier != nil {
		earlier.head = h
		return nil
	}
	b.moved.add(slot)
	b.moves = append(b.moves, move{slot, h})
	return nil
}

// put gives the events of a request the next sequences, writes their records,
// and returns the stream's head after them.
func (b *batch) put(journal *bolt.Bucket, r *request, h head, epoch uint64) (head, error) {
	if cap(b.arena)-len(b.arena) < r.size {
		// Records that bbolt holds stay where they are, in the old arena.
		b.arena = make([]byte, 0, max(2*cap(b.arena), r.size, 64<<10))
	}
	room := b.arena[len(b.arena) : len(b.arena)+r.size]
	b.arena = b.arena[:len(b.arena)+r.size]
	for i := range r.payload.len() {
		e := &b.envelope
		e.Stream, e.Version, e.Epoch = r.stream, h.version+1, epoch
		e.Previous, e.AtUnixNano = h.last, r.at
		r.payload.put(e, i)
		// It marshals from the end, so that nobody needs to know the size before.
		// The room is large enough (payload.check), so it cannot fail.
		n, _ := e.MarshalToSizedBufferVT(room)
		record := room[len(room)-n-crcSize:]
		room = room[:len(room)-n-crcSize]

		b.counters.last++
		b.counters.bytes += uint64(len(record))
		b.written++
		binary.BigEndian.PutUint64(b.key[:], b.counters.last)
		seal(journalCRC, b.key[:], record)
		if err := journal.Put(b.key[:], record); err != nil { // which copies the key
			return head{}, err
		}
		h = head{version: h.version + 1, last: b.counters.last}
	}
	return h, nil
}

// publish lets everybody see what is durable.
func (s *Store) publish(b *batch) {
	s.mu.Lock()
	for _, m := range b.moves {
		s.index.heads.at(m.slot).head = m.head
		if s.opts.Fold != nil {
			s.index.dirty.add(m.slot)
		}
	}
	s.index.counters = b.counters
	s.tally.batches++
	s.tally.appended += uint64(b.written)
	s.tally.largest = max(s.tally.largest, b.written)
	due := s.index.last-s.index.folded >= s.checkpointEvery()
	s.mu.Unlock()
	if due {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

// runJob gives a job a commit of its own.
func (s *Store) runJob(r *request) {
	var refused error
	err := s.transact(func(tx *bolt.Tx) (bool, error) {
		refused = r.job(tx)
		return refused == nil, nil
	})
	switch {
	case refused != nil:
		r.answer <- refused
	case err != nil:
		r.answer <- s.fail(err)
	default:
		if r.publish != nil {
			s.mu.Lock()
			r.publish()
			s.mu.Unlock()
		}
		r.answer <- nil
	}
}

// fail ends all writing until Reopen. bbolt keeps a commit whose last sync
// failed and drops one whose first sync failed, and does not say which.
func (s *Store) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	s.mu.Lock()
	s.failed = err
	s.tally.failures++
	s.mu.Unlock()
	s.opts.Logger.Error("journal commit failed; nothing is written until it is reopened", "reason", cause)
	if s.opts.OnFailure != nil {
		go s.opts.OnFailure(err)
	}
	return err
}
