package store

import (
	"context"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	// maxBatchEvents and maxBatchBytes bound one commit, and one request.
	maxBatchEvents = 4096
	maxBatchBytes  = 4 << 20
	// enough events do not wait for more: a commit for them costs each little
	// over a microsecond, and a busy farm waits for its appends.
	enough = 256
)

// request is one thing for the writer to do: an append or a write of secrets,
// which share a commit with others, a job with a transaction of its own, or to
// reopen the file.
type request struct {
	stream  string
	after   uint64
	at      int64 // nanoseconds since the Unix epoch
	payload payload
	size    int // an upper bound for the records

	// secrets returns ErrNoKey before it writes anything; every other error is
	// a failure of the store.
	secrets func(b *bolt.Bucket) error

	// job returns an error to undo what it did; that is no failure of the
	// store. publish runs under Store.mu once the job is durable.
	job     func(tx *bolt.Tx) error
	publish func()

	reopen bool

	verdict error // what a batch says about this request

	// Of AppendThen, done is called with the answer. Others have a caller
	// that waits for it, and answer has room for it.
	done   func(error)
	answer chan error
}

// alone tells a request that shares its commit with no other.
func (r *request) alone() bool { return r.job != nil || r.reopen }

// queue is what waits for the writer. It does not bound how many wait: each is
// the one thing that its caller, or a stream, is waiting for.
type queue struct {
	mu     sync.Mutex
	closed bool
	alone  []*request // have a transaction each, and wait for nothing
	shared []*request // share the next commit
	// events and bytes are those of shared.
	events, bytes int
	// asleep: the writer waits for wake and for nothing else.
	asleep bool
	wake   chan struct{}
	// sharedTurn decides when both could go: a checkpoint is hundreds of
	// jobs, one after the other, and appends must not wait for its end.
	sharedTurn bool
	timer      *time.Timer
}

func newQueue() *queue {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &queue{wake: make(chan struct{}, 1), timer: timer}
}

// worthwhile tells that what waits is a commit of its own.
func (q *queue) worthwhile() bool { return q.events >= enough || q.bytes >= maxBatchBytes }

// add queues a request. It wakes the writer only when there is something to
// begin with at once: what comes in a pause between two commits costs no more
// than its place in the queue.
func (q *queue) add(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	ready := q.asleep
	if r.alone() {
		q.alone = append(q.alone, r)
		ready = true
	} else {
		was := q.worthwhile()
		q.shared = append(q.shared, r)
		q.events += r.payload.len()
		q.bytes += r.size
		ready = ready || !was && q.worthwhile()
	}
	if ready {
		q.signal()
	}
	return nil
}

// close lets the writer finish what is queued, without a pause.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// signal wakes the writer; the caller holds mu.
func (q *queue) signal() {
	q.asleep = false
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for something to do: one request alone, or those that share a
// commit, which it appends to batch. What shares a commit waits until a moment,
// unless it is worth one. It returns neither once the queue is closed and empty.
func (q *queue) next(notBefore time.Time, batch []*request) (alone *request, shared []*request) {
	for {
		q.mu.Lock()
		pause := time.Duration(0)
		if len(q.shared) > 0 && !q.closed && !q.worthwhile() {
			pause = time.Until(notBefore)
		}
		due := len(q.shared) > 0 && pause <= 0
		switch {
		case len(q.alone) > 0 && !(due && q.sharedTurn):
			alone, q.alone[0] = q.alone[0], nil
			q.alone = q.alone[1:]
			q.sharedTurn = true
			q.mu.Unlock()
			return alone, batch
		case due:
			batch = q.take(batch)
			q.sharedTurn = false
			q.mu.Unlock()
			return nil, batch
		case q.closed:
			q.mu.Unlock()
			return nil, batch
		}
		q.asleep = pause == 0
		q.mu.Unlock()
		q.wait(pause)
	}
}

// wait returns after a pause, or without one never, or when it is woken.
func (q *queue) wait(pause time.Duration) {
	if pause == 0 {
		<-q.wake
		return
	}
	q.timer.Reset(pause)
	select {
	case <-q.wake:
		q.timer.Stop()
	case <-q.timer.C:
	}
}

// take moves what fits into one commit to batch; the caller holds mu.
func (q *queue) take(batch []*request) []*request {
	n, events, bytes := 0, 0, 0
	for _, r := range q.shared {
		if n > 0 && (events+r.payload.len() > maxBatchEvents || bytes+r.size > maxBatchBytes) {
			break
		}
		n++
		events += r.payload.len()
		bytes += r.size
	}
	batch = append(batch, q.shared[:n]...)
	rest := copy(q.shared, q.shared[n:])
	clear(q.shared[rest:])
	q.shared = q.shared[:rest]
	q.events -= events
	q.bytes -= bytes
	return batch
}

// submit queues a request and waits for its answer. A context that ends while
// the request is queued does not take it back; answered tells whether the writer
// is done with it.
func (s *Store) submit(ctx context.Context, r *request) (answered bool, err error) {
	if err := ctx.Err(); err != nil {
		return true, err
	}
	if r.answer == nil {
		r.answer = make(chan error, 1)
	}
	if err := s.queue.add(r); err != nil {
		return true, err
	}
	done := ctx.Done()
	if done == nil { // cheaper than a select
		return true, <-r.answer
	}
	select {
	case err := <-r.answer:
		return true, err
	case <-done:
		return false, ctx.Err()
	}
}

// do is submit for a request that is not used again.
func (s *Store) do(ctx context.Context, r *request) error {
	_, err := s.submit(ctx, r)
	return err
}

// reply answers a request, which is not to be used after that.
func (s *Store) reply(r *request, err error) {
	done := r.done
	if done == nil {
		r.answer <- err
		return
	}
	s.release(r)
	done(err)
}
