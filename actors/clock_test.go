package actors

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestClockRingsFromItsStart: what falls due while the shards are being started is
// attended to when all of them can be woken, and together.
func TestClockRingsFromItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(chan int, 10)
		c := newClock(func(shard int) { calls <- shard })
		defer c.stop()
		rung := func() (shards []int) {
			for len(calls) > 0 {
				shards = append(shards, <-calls)
			}
			return shards
		}
		c.set(3, time.Now().Add(-time.Second))
		c.set(5, time.Now())
		time.Sleep(time.Second)
		if got := rung(); len(got) > 0 {
			t.Errorf("shards %v were woken before the start", got)
		}
		c.start()
		time.Sleep(time.Second)
		if got := rung(); !slices.Equal(got, []int{3, 5}) {
			t.Errorf("woken after the start: %v, want 3 and 5", got)
		}
		c.set(7, time.Now().Add(time.Second))
		time.Sleep(2 * time.Second)
		if got := rung(); !slices.Equal(got, []int{7}) {
			t.Errorf("woken: %v, want 7", got)
		}
	})
}
