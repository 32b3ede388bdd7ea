package sipadapter

import (
	"container/heap"
	"time"
)

// One runtime timer per shard serves all its transactions: it is set to the
// earliest deadline of a heap. With a timer per transaction, arming and
// stopping cost more than parsing the answer.

// arm sets the shard's timer if it would fire too late. One that fires too
// early finds nothing to do and is set again. It needs the lock of s.
func (t *table) arm(s *shard, now time.Time) {
	if s.closed || len(s.due) == 0 {
		return
	}
	first := s.due[0].due
	if !s.wakeAt.IsZero() && !first.Before(s.wakeAt) {
		return
	}
	s.wakeAt = first
	wait := max(first.Sub(now), 0)
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, func() { t.fire(s) })
		return
	}
	s.timer.Reset(wait)
}

// fire runs what is due and then, without the lock, does what it asked for.
func (t *table) fire(s *shard) {
	type resend struct {
		tx     *transaction
		packet []byte
		resent func()
	}
	type ending struct {
		report func(result)
		heard  bool
	}
	var again []resend
	var over []ending
	now := time.Now()
	s.mu.Lock()
	s.wakeAt = time.Time{}
	for !s.closed && len(s.due) > 0 && !s.due[0].due.After(now) {
		tx := s.due[0]
		act, next := tx.machine.expire(now)
		if act&actRetransmit != 0 {
			again = append(again, resend{tx, tx.packet, tx.resent})
		}
		if act&actTimeout != 0 && tx.report != nil {
			over = append(over, ending{tx.report, tx.heard})
			tx.report = nil
		}
		t.reschedule(s, tx, act, next)
	}
	t.arm(s, now)
	s.mu.Unlock()

	for _, r := range again {
		if err := r.tx.wire.send(r.packet); err != nil {
			t.fail(r.tx, result{err: err})
			continue
		}
		t.retransmitted(r.tx.method)
		if r.resent != nil {
			r.resent()
		}
	}
	for _, e := range over {
		e.report(result{heard: e.heard})
	}
}

// deadlines is a heap of transactions by the time they are due.
type deadlines []*transaction

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	tx := x.(*transaction)
	tx.index = len(*d)
	*d = append(*d, tx)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	tx := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return tx
}

var _ heap.Interface = (*deadlines)(nil)
