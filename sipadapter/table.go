package sipadapter

import (
	"container/heap"
	"sync"
	"time"
)

// tableShards are few, so that the requests of a burst, and their answers, find the
// memory of a shard in the processor's cache. A lock is held for a fraction of a
// microsecond.
const tableShards = 8

// packets are for what leaves as soon as it is written.
var packets = sync.Pool{New: func() any { b := make([]byte, 0, maxDatagram); return &b }}

// table holds the client transactions (RFC 3261 §17.1.3). While one is in the table,
// only who has the lock of its shard may touch it; then it is its taker's, who may
// use it again for another request. Everybody else has nothing but its branch, which
// is never drawn twice.
type table struct {
	shards [tableShards]shard
	// retransmitted counts.
	retransmitted func(method string)
}

type shard struct {
	mu   sync.Mutex
	live map[branchKey]*transaction
	// cancels has the CANCELs, whose branches are those of their INVITEs (RFC
	// 3261 §9.1).
	cancels   map[branchKey]*transaction
	completed absorber
	fresh     row                     // the usual REGISTERs that were not sent again
	due       deadlines[*transaction] // all others
	alarm     alarm
	closed    bool
}

func newTable(retransmitted func(method string)) *table {
	t := &table{retransmitted: retransmitted}
	for i := range t.shards {
		s := &t.shards[i]
		s.live = make(map[branchKey]*transaction)
		s.cancels = make(map[branchKey]*transaction)
		s.alarm.ring = func() { t.fire(s) }
	}
	return t
}

func (t *table) shard(k branchKey) *shard { return &t.shards[k[0]%tableShards] }

// of are the transactions among which a method's is found: together with the
// branch it is what a response is matched by (RFC 3261 §17.1.3).
func (s *shard) of(method string) map[branchKey]*transaction {
	if method == "CANCEL" {
		return s.cancels
	}
	return s.live
}

// known tells whether a branch is in use, and for which method if a transaction
// other than a CANCEL waits for a response.
func (t *table) known(k branchKey) (method string, known bool) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if tx := s.live[k]; tx != nil {
		return tx.method, true
	}
	return "", s.cancels[k] != nil || s.completed.has(k)
}

// start enters the transaction and sends its request. It is entered first, so
// that not even the fastest answer finds it missing.
func (t *table) start(tx *transaction, now time.Time) {
	if u, ok := tx.wire.(udpWire); ok && tx.collect && u.socket.out.takes(u.to) {
		o := u.socket.out.post(tx, u.to, now)
		o.pay()
		return
	}
	k, method, wire := tx.key, tx.method, tx.wire // it may be over before send returns
	packet := tx.packet
	if packet == nil {
		buf := packets.Get().(*[]byte)
		defer func() {
			clear(*buf)
			packets.Put(buf)
		}()
		*buf = tx.text.appendTo((*buf)[:0])
		packet = *buf
	}
	if !t.enter(tx, now) {
		return
	}
	if err := wire.send(packet); err != nil {
		t.fail(k, method, result{err: err, unsent: true})
	}
}

// enter makes a transaction known. When it cannot, that is reported as its end.
func (t *table) enter(tx *transaction, now time.Time) bool {
	o, ok := t.admit(tx, now)
	o.pay()
	return ok
}

// admit is enter, for who has to unlock something before what is owed is paid.
func (t *table) admit(tx *transaction, now time.Time) (o owed, ok bool) {
	s := t.shard(tx.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := s.of(tx.method)
	switch {
	case s.closed:
		return tx.owe(result{err: errClosed, unsent: true}), false
	// What is drawn for each attempt is in use nowhere.
	case tx.method != "REGISTER" && entries[tx.key] != nil:
		return tx.owe(result{err: errBranchInUse, unsent: true}), false
	}
	entries[tx.key] = tx
	tx.entered = true
	tx.due = tx.machine.start(now)
	if tx.text != nil {
		s.fresh.add(tx)
	} else {
		heap.Push(&s.due, tx)
	}
	s.alarm.set(tx.due, now)
	return owed{}, true
}

// respond feeds a response to its transaction, if differs finds no reason to drop
// it. It returns what is owed, and the reason why the response is of no further use.
func (t *table) respond(k branchKey, method string, r result, now time.Time, differs func(tx *transaction) string) (o owed, reason string) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := s.of(method)[k]
	switch {
	case tx == nil && method == "REGISTER" && s.completed.has(k):
		return owed{}, dropRepeated
	case tx == nil:
		return owed{}, dropUnmatched
	}
	if reason := differs(tx); reason != "" {
		return owed{}, reason
	}
	tx.heard = true
	act, next := tx.machine.response(now, r.response.status)
	if act&actDeliver != 0 {
		o = tx.owe(r)
		tx.packet, tx.resent = nil, nil // from here on it is not sent again
	}
	if act&actAck != 0 {
		o.ack, o.invite = tx.inviting.ackOf(r.response), tx
	}
	if act&(actDeliver|actRemove) == actDeliver && tx.method == "REGISTER" {
		s.take(tx)
		s.completed.add(tx.key, next, now)
	} else {
		t.reschedule(s, tx, act, next)
		s.arm(now)
	}
	if act&actAbsorb != 0 {
		reason = dropRepeated
	}
	return o, reason
}

// cancel tells whether the CANCEL of an INVITE may leave, and if so ends the
// wait for a final response after 64*T1.
func (t *table) cancel(tx *transaction) bool {
	m, ok := tx.machine.(*invite)
	if !ok {
		return false
	}
	s := t.shard(tx.key)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !tx.entered {
		return false
	}
	allowed, next := m.cancel(now)
	t.reschedule(s, tx, 0, next)
	s.arm(now)
	return allowed
}

// reschedule needs the lock of s.
func (t *table) reschedule(s *shard, tx *transaction, act action, next time.Time) {
	if act&actRemove != 0 {
		s.take(tx)
		return
	}
	switch {
	case tx.due.Equal(next):
	case tx.inRow:
		s.fresh.remove(tx)
		tx.due = next
		heap.Push(&s.due, tx)
	default:
		tx.due = next
		heap.Fix(&s.due, tx.index)
	}
}

// fail ends a transaction by a transport error, unless it is over already.
func (t *table) fail(k branchKey, method string, r result) {
	s := t.shard(k)
	var o owed
	s.mu.Lock()
	if tx := s.of(method)[k]; tx != nil {
		o = s.remove(tx, r)
	}
	s.mu.Unlock()
	o.pay()
}

// drop ends tx without a report.
func (t *table) drop(tx *transaction) {
	s := t.shard(tx.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	tx.report = nil
	s.remove(tx, result{})
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
		var due []owed
		s.mu.Lock()
		if closing {
			s.closed = true
			s.alarm.stop()
			s.completed = absorber{}
		}
		for _, entries := range []map[branchKey]*transaction{s.live, s.cancels} {
			for _, tx := range entries {
				if match(tx) {
					due = append(due, s.remove(tx, r))
				}
			}
		}
		s.mu.Unlock()
		for _, o := range due {
			o.pay()
		}
	}
}

// remove needs the lock of s. It returns what is owed.
func (s *shard) remove(tx *transaction, r result) owed {
	if !tx.entered {
		return owed{}
	}
	s.take(tx)
	return tx.owe(r)
}

// take takes a transaction out of the table. It needs the lock of s.
func (s *shard) take(tx *transaction) {
	delete(s.of(tx.method), tx.key)
	if tx.inRow {
		s.fresh.remove(tx)
	} else {
		heap.Remove(&s.due, tx.index)
	}
	tx.entered = false
}

// first is the transaction that is due first, or nil. It needs the lock of s.
func (s *shard) first() *transaction {
	tx := s.fresh.first
	if len(s.due) > 0 && (tx == nil || s.due[0].due.Before(tx.due)) {
		tx = s.due[0]
	}
	return tx
}

// arm needs the lock of s.
func (s *shard) arm(now time.Time) {
	if tx := s.first(); tx != nil && !s.closed {
		s.alarm.set(tx.due, now)
	}
}

// fire runs what is due and then, without the lock, does what it asked for.
func (t *table) fire(s *shard) {
	type resend struct {
		key    branchKey
		method string
		wire   wire
		packet []byte
		resent func()
	}
	var again []resend
	var over []owed
	now := time.Now()
	s.mu.Lock()
	s.alarm.rang()
	for tx := s.first(); tx != nil && !tx.due.After(now) && !s.closed; tx = s.first() {
		act, next := tx.machine.expire(now)
		if act&actRetransmit != 0 {
			packet := tx.packet
			if packet == nil { // under the lock, while the request must not change
				packet = tx.text.appendTo(make([]byte, 0, maxDatagram))
			}
			again = append(again, resend{tx.key, tx.method, tx.wire, packet, tx.resent})
		}
		if act&actTimeout != 0 {
			over = append(over, tx.owe(result{heard: tx.heard}))
		}
		t.reschedule(s, tx, act, next)
	}
	s.arm(now)
	s.mu.Unlock()

	for _, r := range again {
		if err := r.wire.send(r.packet); err != nil {
			t.fail(r.key, r.method, result{err: err})
			continue
		}
		t.retransmitted(r.method)
		if r.resent != nil {
			r.resent()
		}
	}
	for _, o := range over {
		o.pay()
	}
}
