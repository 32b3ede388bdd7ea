package actors

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/messages"
)

// tick is the grid of the shards' deadlines.
const tick = messages.Beat

// clock wakes the shards. It has one timer for all of them.
type clock struct {
	due   [Shards]atomic.Int64 // Unix nanoseconds on the grid, never when there is nothing
	wake  func(shard int)
	mu    sync.Mutex
	timer *time.Timer
	armed int64 // what the timer is set to; never when it is not set
	// started and ended: it rings from the one to the other.
	started, ended bool
}

const never = math.MaxInt64

func newClock(wake func(shard int)) *clock {
	c := &clock{wake: wake, armed: never}
	for i := range c.due {
		c.due[i].Store(never)
	}
	return c
}

// start lets it ring, once every shard can be woken.
func (c *clock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = true
	next := int64(never)
	for i := range c.due {
		next = min(next, c.due[i].Load())
	}
	c.arm(next)
}

// set makes a shard be woken at a time, rounded up to the grid, unless it is
// woken before.
func (c *clock) set(shard int, at time.Time) {
	due := at.UnixNano()
	due += int64(tick) - 1
	due -= due % int64(tick)
	if due >= c.due[shard].Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due[shard].Store(min(due, c.due[shard].Load()))
	c.arm(due)
}

// arm needs the lock.
func (c *clock) arm(due int64) {
	if due >= c.armed || !c.started || c.ended {
		return
	}
	c.armed = due
	wait := max(time.Duration(due-time.Now().UnixNano()), 0)
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, c.ring)
		return
	}
	c.timer.Reset(wait)
}

// ring wakes the shards whose time has come.
func (c *clock) ring() {
	now := time.Now().UnixNano()
	var shards []int
	c.mu.Lock()
	next := int64(never)
	for i := range c.due {
		switch due := c.due[i].Load(); {
		case due <= now:
			c.due[i].Store(never)
			shards = append(shards, i)
		case due < next:
			next = due
		}
	}
	c.armed = never
	c.arm(next)
	c.mu.Unlock()
	for _, i := range shards {
		c.wake(i)
	}
}

func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.timer != nil {
		c.timer.Stop()
	}
}
