package sipadapter

import (
	"encoding/binary"
	"slices"
	"time"
)

// absorber has the REGISTER transactions whose final response came and whose
// Timer K runs (RFC 3261 §17.1.2.2). All that is left to do for one is to know a
// repeat of that response, so nothing but half of its random branch is kept: at
// 5,000 requests a second there are 25,000 of them. Timer K is the same for all,
// so they end in the order in which they came, and need no heap. Only what belongs
// to no request that waits is looked for here, so they need no map either: of 25,000
// a queue has 400.
type absorber struct {
	began  time.Time // when the first came
	queues [8][]ending
}

// ending says when a branch is over.
type ending struct {
	half uint64
	at   time.Duration // since began
}

func (k branchKey) half() uint64 { return binary.NativeEndian.Uint64(k[8:]) }

// queue is where a branch belongs. The shard was chosen by another byte.
func (c *absorber) queue(k branchKey) *[]ending { return &c.queues[k[1]%byte(len(c.queues))] }

// add takes a branch that is over at a time which is not before that of the last
// one. What is over is forgotten when its room is needed, so that nothing but the
// end of a queue is touched each time.
func (c *absorber) add(k branchKey, at, now time.Time) {
	if c.began.IsZero() {
		c.began = now
	}
	q := c.queue(k)
	if len(*q) == cap(*q) {
		*q = makeRoom(*q, now.Sub(c.began))
	}
	*q = append(*q, ending{k.half(), at.Sub(c.began)})
}

// makeRoom gives a queue without what is over, and with as much room again, but not
// with the room that a storm has left behind.
func makeRoom(q []ending, now time.Duration) []ending {
	const little = 64
	left := q[over(q, now):]
	if room := cap(q); len(left) <= room/2 && (len(left) >= room/8 || room <= little) {
		return q[:copy(q, left)]
	}
	return append(make([]ending, 0, max(2*len(left), little/4)), left...)
}

// over counts what is over.
func over(q []ending, now time.Duration) int {
	if i := slices.IndexFunc(q, func(e ending) bool { return e.at > now }); i >= 0 {
		return i
	}
	return len(q)
}

// has tells whether Timer K of a branch runs.
func (c *absorber) has(k branchKey) bool {
	half := k.half()
	for _, e := range *c.queue(k) {
		if e.half == half {
			return time.Since(c.began) < e.at
		}
	}
	return false
}
