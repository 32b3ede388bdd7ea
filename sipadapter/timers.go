package sipadapter

import (
	"container/heap"
	"time"
)

// One runtime timer per shard serves all its transactions: it is set to the
// earliest deadline. With a timer per transaction, arming and stopping cost more
// than parsing the answer.

// never is the deadline of a transaction that waits for something other than
// the time.
var never = time.Unix(1<<40, 0)

// deadline is a transaction's place in the heap of its shard.
type deadline struct {
	due   time.Time
	index int
}

func (d *deadline) place() *deadline { return d }

// deadlines is a heap of transactions by the time they are due.
type deadlines[T interface{ place() *deadline }] []T

func (d deadlines[T]) Len() int           { return len(d) }
func (d deadlines[T]) Less(i, j int) bool { return d[i].place().due.Before(d[j].place().due) }
func (d deadlines[T]) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place().index, d[j].place().index = i, j
}

// Push implements heap.Interface.
func (d *deadlines[T]) Push(x any) {
	tx := x.(T)
	tx.place().index = len(*d)
	*d = append(*d, tx)
}

// Pop implements heap.Interface.
func (d *deadlines[T]) Pop() any {
	var none T
	last := len(*d) - 1
	tx := (*d)[last]
	(*d)[last] = none
	*d = (*d)[:last]
	return tx
}

var _ heap.Interface = (*deadlines[*transaction])(nil)

// row is transactions in the order in which they are due. It is for those that wait
// equally long from their start, so that whoever comes is the last: with them nothing
// is compared as in a heap, and those that start together are over together, so that
// what is touched of the neighbours is at hand.
type row struct{ first, last *transaction }

// neighbours are a transaction's place in a row.
type neighbours struct {
	before, after *transaction
	inRow         bool
}

func (r *row) add(tx *transaction) {
	before := r.last
	for before != nil && before.due.After(tx.due) { // that was faster to the lock
		before = before.before
	}
	after := r.first
	if before != nil {
		after = before.after
	}
	tx.neighbours = neighbours{before, after, true}
	r.join(before, tx)
	r.join(tx, after)
}

func (r *row) remove(tx *transaction) {
	r.join(tx.before, tx.after)
	tx.neighbours = neighbours{}
}

// join puts two next to each other; nil is the end of the row.
func (r *row) join(before, after *transaction) {
	if before == nil {
		r.first = after
	} else {
		before.after = after
	}
	if after == nil {
		r.last = before
	} else {
		after.before = before
	}
}

// alarm is the timer of a shard, under the lock of which all is called.
type alarm struct {
	ring   func() // runs what is due
	timer  *time.Timer
	wakeAt time.Time // when timer fires; zero when it is not set
}

// set sets the timer if it would fire too late. One that fires too early finds
// nothing to do and is set again.
func (a *alarm) set(first, now time.Time) {
	if !a.wakeAt.IsZero() && !first.Before(a.wakeAt) {
		return
	}
	a.wakeAt = first
	wait := max(first.Sub(now), 0)
	if a.timer == nil {
		a.timer = time.AfterFunc(wait, a.ring)
		return
	}
	a.timer.Reset(wait)
}

// rang is called when the timer has fired.
func (a *alarm) rang() { a.wakeAt = time.Time{} }

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
