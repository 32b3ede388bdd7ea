package sipadapter

import (
	"testing"
	"testing/synctest"
	"time"
)

// TRX-09: a branch is known until its Timer K ends, and then nothing is left of
// it, however many there were.
func TestTRX09_Absorber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rounds, each = 20, 100
		var e entropy
		var c absorber
		var keys []branchKey
		for range rounds {
			for range each {
				k := e.branch()
				keys = append(keys, k)
				c.add(k, time.Now().Add(5*time.Second), time.Now())
			}
			time.Sleep(time.Second)
		}
		for i, k := range keys {
			// The last were added a second ago, those before two seconds, and so on.
			if age := rounds - i/each; c.has(k) != (age < 5) {
				t.Fatalf("a branch of %d seconds: known is %v", age, c.has(k))
			}
		}
		c.expire(time.Now())
		if n := len(c.queue) - c.first; n != 4*each || len(c.queue) > 2*n {
			t.Errorf("%d branches in a queue of %d from %d", n, len(c.queue), c.first)
		}
		if last, ok := c.last(); !ok || !last.Equal(time.Now().Add(4*time.Second)) {
			t.Errorf("all are over at %v, %v", last, ok)
		}
		time.Sleep(4 * time.Second)
		c.expire(time.Now())
		if _, ok := c.last(); ok || len(c.queue) != 0 {
			t.Errorf("%d branches are left", len(c.queue))
		}
	})
}
