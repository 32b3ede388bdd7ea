package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

const (
	// queueLength is how many requests may wait without blocking their caller
	// in the send; it does not bound a batch.
	queueLength = 1024
	// maxBatchEvents and maxBatchBytes bound one commit, and one request.
	maxBatchEvents = 4096
	maxBatchBytes  = 4 << 20
	// envelopeOverhead is more than an envelope adds to its event, apart from
	// the stream's name.
	envelopeOverhead = 64
)

// request is one thing for the writer to do: an append or a write of secrets,
// which share a commit with others, a job with a transaction of its own, or to
// reopen the file.
type request struct {
	stream  string
	after   uint64
	at      time.Time
	payload payload
	size    int

	// secrets returns ErrNoKey before it writes anything; every other error is
	// a failure of the store.
	secrets func(b *bolt.Bucket) error

	// job returns an error to undo what it did; that is no failure of the
	// store. publish runs under Store.mu once the job is durable.
	job     func(tx *bolt.Tx) error
	publish func()

	reopen bool

	verdict error      // what a batch says about this request
	answer  chan error // has room for the one answer
}

// submit queues a request and waits for its answer. A context that ends while
// the request is queued does not take it back.
func (s *Store) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.answer = make(chan error, 1)
	if err := s.enqueue(ctx, r); err != nil {
		return err
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) enqueue(ctx context.Context, r *request) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		return ErrClosed
	}
	select {
	case s.queue <- r: // the usual case, and cheaper on its own
		return nil
	default:
	}
	select {
	case s.queue <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is the writer goroutine: the only one that ever begins a writable
// transaction once the store is open.
func (s *Store) write() {
	b := &batch{heads: make(map[string]head)}
	var next *request
	for {
		r := next
		if next = nil; r == nil {
			var open bool
			if r, open = <-s.queue; !open {
				return
			}
		}
		failed := s.Err()
		switch {
		case r.reopen && failed != nil:
			r.answer <- s.reopen()
		case r.reopen:
			r.answer <- nil
		case failed != nil:
			r.answer <- failed
		case r.job != nil:
			s.runJob(r)
		default:
			next = s.drain(b, r)
			s.commit(b)
		}
	}
}

// batch is what goes into one commit. It is reused.
type batch struct {
	requests []*request
	events   int
	bytes    int
	heads    map[string]head // of the streams in this batch, after it
	counters counters        // after this batch
	written  int             // events that are part of it
	envelope messages.Envelope
	arena    []byte // the records; bbolt keeps them until the commit
}

func (b *batch) add(r *request) {
	b.requests = append(b.requests, r)
	b.events += r.payload.len()
	b.bytes += r.size
}

// drain fills the batch with r and those that are waiting already. It returns
// the request at which it had to stop.
func (s *Store) drain(b *batch, r *request) *request {
	clear(b.requests)
	clear(b.heads)
	b.requests, b.events, b.bytes, b.written = b.requests[:0], 0, 0, 0
	b.arena = b.arena[:0]
	b.add(r)
	for {
		select {
		case r, open := <-s.queue:
			if !open {
				return nil
			}
			if r.job != nil || r.reopen || b.events+r.payload.len() > maxBatchEvents || b.bytes+r.size > maxBatchBytes {
				return r
			}
			b.add(r)
		default:
			return nil
		}
	}
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
	h, ok := b.heads[r.stream]
	if !ok {
		h = s.index.heads[r.stream]
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
	for i := range r.payload.len() {
		key, record := b.encode(r, h, i, s.opts.Epoch)
		if err := journal.Put(key, record); err != nil {
			return err
		}
		h = head{version: h.version + 1, last: b.counters.last}
	}
	b.heads[r.stream] = h
	return nil
}

// encode gives the event at index i the next sequence and makes its record.
func (b *batch) encode(r *request, h head, i int, epoch uint64) (key, record []byte) {
	e := &b.envelope
	e.Stream, e.Version, e.Epoch = r.stream, h.version+1, epoch
	e.Previous, e.AtUnixNano = h.last, r.at.UnixNano()
	r.payload.put(e, i)
	size := crcSize + e.SizeVT()
	if cap(b.arena)-len(b.arena) < size {
		// Records that bbolt holds stay where they are, in the old arena.
		b.arena = make([]byte, 0, max(2*cap(b.arena), size, 64<<10))
	}
	b.arena = b.arena[:len(b.arena)+size]
	record = b.arena[len(b.arena)-size:]
	// Marshalling into a buffer of the right size cannot fail.
	_, _ = e.MarshalToSizedBufferVT(record[crcSize:])

	b.counters.last++
	b.counters.bytes += uint64(size)
	b.written++
	key = journalKey(b.counters.last)
	seal(bucketJournal, key, record)
	return key, record
}

// publish lets everybody see what is durable.
func (s *Store) publish(b *batch) {
	s.mu.Lock()
	maps.Copy(s.index.heads, b.heads)
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
