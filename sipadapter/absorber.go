package sipadapter

import (
	"encoding/binary"
	"time"
)

// absorber has the REGISTER transactions whose final response came and whose
// Timer K runs (RFC 3261 §17.1.2.2). All that is left to do for one is to know a
// repeat of that response, so nothing but half of its random branch is kept: at
// 5,000 requests a second there are 25,000 of them. Timer K is the same for all,
// so they end in the order in which they came, and need no heap. Only what belongs
// to no request that waits is looked for here, so they need no map either: of 25,000
// a shard has 400.
type absorber struct {
	began time.Time // when the first came
	queue []ending  // from first on
	first int
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
	if len(c.queue) == 0 {
		c.began = now
	}
	c.queue = append(c.queue, ending{k.half(), at.Sub(c.began)})
}

// has tells whether Timer K of a branch runs.
func (c *absorber) has(k branchKey) bool {
	half := k.half()
	for i := range c.queue[c.first:] {
		if e := &c.queue[c.first+i]; e.half == half {
			return time.Since(c.began) < e.at
		}
	}
	return false
}

// expire forgets what is over.
func (c *absorber) expire(now time.Time) {
	since := now.Sub(c.began)
	for c.first < len(c.queue) && c.queue[c.first].at <= since {
		c.first++
	}
	switch {
	case c.first == len(c.queue):
		c.queue, c.first = c.queue[:0], 0
		if cap(c.queue) > 1_024 { // after a storm
			c.queue = nil
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
