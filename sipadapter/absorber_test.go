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
		room := 0
		for _, q := range c.queues {
			room += cap(q)
		}
		if n := c.size(time.Now()); n != 4*each || room > 8*n {
			t.Errorf("%d branches in room for %d", n, room)
		}
		time.Sleep(4 * time.Second)
		if n := c.size(time.Now()); n != 0 {
			t.Errorf("%d branches are left", n)
		}
		for range 8 * rounds * each { // what comes next needs no more room than it fills
			c.add(e.branch(), time.Now().Add(time.Nanosecond), time.Now())
			time.Sleep(time.Millisecond)
		}
		room = 0
		for _, q := range c.queues {
			room += cap(q)
		}
		if room > 8*64 {
			t.Errorf("room for %d is kept", room)
		}
	})
}

// size counts the branches whose Timer K runs.
func (c *absorber) size(now time.Time) int {
	n := 0
	for _, q := range c.queues {
		n += len(q) - over(q, now.Sub(c.began))
	}
	return n
}
