package sipadapter

import (
	"container/heap"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// errClosed ends what is pending when the adapter closes.
var errClosed = errors.New("the adapter is closed")

// wire is where a transaction sends to: an address of a UDP socket, or a TCP
// connection.
type wire interface {
	// send must not block on the peer. After an error of it the transaction is
	// over (RFC 3261 §17.1.4).
	send(packet []byte) error
	reliable() bool
	// answeredBy tells whether what arrived from o can be an answer to what
	// was sent here (S-04).
	answeredBy(o origin) bool
}

// origin is where a message came from, and the way back.
type origin struct {
	from   netip.AddrPort
	socket *udpSocket // one of the two
	stream *stream
}

// transaction is one request on its way to one address. The identity never
// changes; the rest belongs to its shard's lock.
type transaction struct {
	key     branchKey
	method  string
	cseq    uint32
	callID  string
	fromTag string
	sentBy  hostPort
	wire    wire

	machine machine
	packet  []byte
	resent  func()       // called for each retransmission, may be nil
	report  func(result) // nil when the outcome is reported
	heard   bool         // a response arrived

	due   time.Time
	index int // in the heap
}

// result is how a transaction ended: with a response, by a transport error, or
// by its timeout when neither is set.
type result struct {
	response *message
	from     netip.AddrPort
	err      error
	unsent   bool // the error came before anything left
	heard    bool // something arrived before the timeout: the server is alive
}

func (r result) timedOut() bool { return r.response == nil && r.err == nil }

const shardCount = 64

// table holds the client transactions (RFC 3261 §17.1.3).
type table struct {
	shards [shardCount]shard
	// retransmitted counts.
	retransmitted func(method string)
}

type shard struct {
	mu     sync.Mutex
	live   map[branchKey]*transaction
	due    deadlines
	timer  *time.Timer
	wakeAt time.Time // when timer fires; zero when it is not set
	closed bool
}

func newTable(retransmitted func(method string)) *table {
	t := &table{retransmitted: retransmitted}
	for i := range t.shards {
		t.shards[i].live = make(map[branchKey]*transaction)
	}
	return t
}

func (t *table) shard(k branchKey) *shard { return &t.shards[k[0]%shardCount] }

func (t *table) known(k branchKey) bool { return t.find(k) != nil }

func (t *table) find(k branchKey) *transaction {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[k]
}

// start enters the transaction and sends its request. It is entered first, so
// that not even the fastest answer finds it missing.
func (t *table) start(tx *transaction) {
	s := t.shard(tx.key)
	now := time.Now()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		tx.report(result{err: errClosed, unsent: true})
		return
	}
	s.live[tx.key] = tx
	tx.due = tx.machine.start(now)
	heap.Push(&s.due, tx)
	t.arm(s, now)
	packet := tx.packet
	s.mu.Unlock()
	if err := tx.wire.send(packet); err != nil {
		t.fail(tx, result{err: err, unsent: true})
	}
}

// respond feeds a response that was found to belong to tx. It returns the
// callback that is owed, and whether the response was a repeat.
func (t *table) respond(tx *transaction, status int) (report func(result), repeated bool) {
	s := t.shard(tx.key)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[tx.key] != tx {
		return nil, true
	}
	tx.heard = true
	act, next := tx.machine.response(now, status)
	if act&actDeliver != 0 {
		report, tx.report = tx.report, nil
		tx.packet, tx.resent = nil, nil // from here on it only absorbs repeats
	}
	t.reschedule(s, tx, act, next)
	t.arm(s, now)
	return report, act&actAbsorb != 0
}

// reschedule needs the lock of s.
func (t *table) reschedule(s *shard, tx *transaction, act action, next time.Time) {
	if act&actRemove != 0 {
		delete(s.live, tx.key)
		heap.Remove(&s.due, tx.index)
		return
	}
	if !tx.due.Equal(next) {
		tx.due = next
		heap.Fix(&s.due, tx.index)
	}
}

// fail ends tx by a transport error, unless it is over already.
func (t *table) fail(tx *transaction, r result) {
	s := t.shard(tx.key)
	s.mu.Lock()
	report := s.remove(tx)
	s.mu.Unlock()
	if report != nil {
		report(r)
	}
}

// failWire ends everything that was sent over w (TRX-10). Connections are lost
// rarely, so walking the table is cheaper than a list per connection.
func (t *table) failWire(w wire, r result) {
	t.endAll(false, func(tx *transaction) bool { return tx.wire == w }, r)
}

// close refuses new transactions and ends all others.
func (t *table) close() {
	t.endAll(true, func(*transaction) bool { return true }, result{err: errClosed})
}

// endAll ends the transactions that match, shard by shard.
func (t *table) endAll(closing bool, match func(*transaction) bool, r result) {
	for i := range t.shards {
		s := &t.shards[i]
		var reports []func(result)
		s.mu.Lock()
		if closing {
			s.closed = true
			if s.timer != nil {
				s.timer.Stop()
			}
		}
		for _, tx := range s.live {
			if !match(tx) {
				continue
			}
			if report := s.remove(tx); report != nil {
				reports = append(reports, report)
			}
		}
		s.mu.Unlock()
		for _, report := range reports {
			report(r)
		}
	}
}

// remove needs the lock of s. It returns the callback that is owed.
func (s *shard) remove(tx *transaction) func(result) {
	if s.live[tx.key] != tx {
		return nil
	}
	delete(s.live, tx.key)
	heap.Remove(&s.due, tx.index)
	report := tx.report
	tx.report = nil
	return report
}
