package sipadapter

import (
	"encoding/binary"
	"time"
)

// absorber has the REGISTER transactions whose final response came and whose
// Timer K runs (RFC 3261 §17.1.2.2). All that is left to do for one is to know a
// repeat of that response, so nothing but half of its random branch is kept: at
// 5,000 requests a second there are 25,000 of them. Timer K is the same for all,
// so they end in the order in which they came, and need no heap.
type absorber struct {
	began    time.Time // when the first came
	branches map[uint64]struct{}
	queue    []ending // from first on
	first    int
}

// ending says when a branch is over.
type ending struct {
	half uint64
	at   time.Duration // since began
}

func (k branchKey) half() uint64 { return binary.NativeEndian.Uint64(k[8:]) }

// add takes a branch that is over at a time which is not before that of the last
// one.
func (c *absorber) add(k branchKey, at, now time.Time) {
	c.expire(now)
	if c.branches == nil {
		c.began, c.branches = now, make(map[uint64]struct{})
	}
	c.branches[k.half()] = struct{}{}
	c.queue = append(c.queue, ending{k.half(), at.Sub(c.began)})
}

// has tells whether Timer K of a branch runs.
func (c *absorber) has(k branchKey) bool {
	if _, ok := c.branches[k.half()]; !ok {
		return false
	}
	c.expire(time.Now())
	_, ok := c.branches[k.half()]
	return ok
}

// expire forgets what is over.
func (c *absorber) expire(now time.Time) {
	since := now.Sub(c.began)
	for c.first < len(c.queue) && c.queue[c.first].at <= since {
		delete(c.branches, c.queue[c.first].half)
		c.first++
	}
	switch {
	case c.first == len(c.queue):
		c.queue, c.first = c.queue[:0], 0
		if cap(c.queue) > 1_024 { // after a storm
			c.queue, c.branches = nil, nil
		}
	case c.first > len(c.queue)/2:
		c.queue = c.queue[:copy(c.queue, c.queue[c.first:])]
		c.first = 0
	}
}

// last is when all are over.
func (c *absorber) last() (time.Time, bool) {
	if c.first == len(c.queue) {
		return time.Time{}, false
	}
	return c.began.Add(c.queue[len(c.queue)-1].at), true
}
