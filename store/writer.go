package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// write is the writer goroutine: the only one that ever begins a writable
// transaction once the store is open.
func (s *Store) write() {
	b := &batch{}
	var begun time.Time
	for {
		alone, shared := s.queue.next(nextCommit(begun, s.opts.CommitInterval), b.requests[:0])
		if alone == nil && len(shared) == 0 {
			return
		}
		failed := s.Err()
		switch {
		case alone == nil && failed != nil:
			for _, r := range shared {
				s.reply(r, failed)
			}
		case alone == nil:
			begun = time.Now()
			b.reset(shared)
			s.commit(b)
		case alone.reopen && failed != nil:
			s.reply(alone, s.reopen())
		case alone.reopen:
			s.reply(alone, nil)
		case failed != nil:
			s.reply(alone, failed)
		default:
			s.runJob(alone)
		}
		clear(shared)
	}
}

// nextCommit is when the next batch may be committed: each costs two syncs and
// some pages, whatever is in it. Batches that wait for company begin a fifth of an
// interval after its multiples in Unix time, when a node whose parts meet on these
// (messages.Beat) has queued what they had to record.
func nextCommit(begun time.Time, interval time.Duration) time.Time {
	if interval <= 0 || begun.IsZero() {
		return begun
	}
	wait := interval - time.Duration((begun.UnixNano()-int64(interval/5))%int64(interval))
	if wait < interval/8 { // it began when it should, by a clock that is being corrected
		wait += interval
	}
	return begun.Add(wait)
}

// batch is what goes into one commit. It is reused.
type batch struct {
	requests []*request
	moves    []move   // of the streams in this batch
	moved    slotSet  // the same streams
	counters counters // after this batch
	written  int      // events that are part of it
	key      [recordKeySize]byte
	numbers  [4 * (1 + binary.MaxVarintLen64)]byte // of an envelope
	blocks   blockWriter
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
	b.requests, b.moves, b.written = requests, b.moves[:0], 0
	b.blocks.reset()
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
		s.reply(r, r.verdict)
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
	journal := tx.Bucket([]byte(bucketJournal))
	// Keys only ever come after the last one: pages need no room for more.
	journal.FillPercent = 1
	b.counters = s.index.counters
	// Every stream is somewhere else in memory: in a loop that does nothing else,
	// the processor waits for many at a time.
	for _, r := range b.requests {
		if r.secrets == nil {
			r.payload.slot = s.index.heads.slotOf(r.payload.hash, r.stream)
		}
	}
	for _, r := range b.requests {
		if r.secrets == nil {
			err = s.fillAppend(journal, b, r)
		} else if err = r.secrets(tx.Bucket([]byte(bucketSecrets))); errors.Is(err, ErrNoKey) {
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
	if err := b.blocks.put(journal); err != nil {
		return false, err
	}
	return true, b.counters.put(tx)
}

// fillAppend says in r.verdict why it writes nothing.
func (s *Store) fillAppend(journal *bolt.Bucket, b *batch, r *request) error {
	slot := r.payload.slot
	if slot == noSlot { // perhaps it is in this batch more than once
		slot = s.index.heads.slotOf(r.payload.hash, r.stream)
	}
	var h head
	var earlier *move
	if slot != noSlot {
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
	if slot == noSlot {
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
	stream, rest := cutField(r.payload.fields)
	for range r.payload.len() {
		var event []byte
		event, rest = cutField(rest)
		numbers := appendNumber(b.numbers[:0], fieldVersion, h.version+1)
		numbers = appendNumber(numbers, fieldEpoch, epoch)
		numbers = appendNumber(numbers, fieldPrevious, h.last)
		numbers = appendNumber(numbers, fieldAt, uint64(r.at))

		b.counters.last++
		record, err := b.blocks.next(journal, b.counters.last, crcSize+len(stream)+len(numbers)+len(event))
		if err != nil {
			return head{}, err
		}
		at := crcSize + copy(record[crcSize:], stream)
		at += copy(record[at:], numbers)
		copy(record[at:], event)
		binary.BigEndian.PutUint64(b.key[:], b.counters.last)
		seal(journalCRC, b.key[:], record)
		b.counters.bytes += uint64(len(record))
		b.written++
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
		s.reply(r, refused)
	case err != nil:
		s.reply(r, s.fail(err))
	default:
		if r.publish != nil {
			s.mu.Lock()
			r.publish()
			s.mu.Unlock()
		}
		s.reply(r, nil)
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
