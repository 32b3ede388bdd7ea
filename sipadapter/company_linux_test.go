package sipadapter

import (
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// A socket is read on the next beat, or before, if by then more would have come than
// there is room for.
func TestPauseBetweenReads(t *testing.T) {
	beat := time.Unix(1_800_000_000, 0)
	if beat.UnixNano()%int64(messages.Beat) != 0 {
		t.Fatal("the test does not begin on a beat")
	}
	for _, tc := range []struct {
		name   string
		since  time.Duration // from the last pause to now
		came   []int
		now    time.Duration // after a beat
		want   time.Duration
		within int
	}{
		{name: "the first datagram", since: time.Hour, came: []int{1}, now: 3 * time.Millisecond, want: 17 * time.Millisecond, within: 100},
		{name: "one more on a beat", since: messages.Beat, came: []int{1}, want: messages.Beat, within: 100},
		{name: "as many as there is room for", since: messages.Beat, came: []int{64, 36}, want: messages.Beat, within: 100},
		{name: "twice as many", since: messages.Beat, came: []int{64, 64, 64, 8}, want: messages.Beat / 2, within: 100},
		{name: "a small buffer", since: messages.Beat, came: []int{20}, want: time.Millisecond, within: 1},
		{name: "a clock that stood still", since: 0, came: []int{20}, want: 0, within: 100},
	} {
		now := beat.Add(tc.now)
		c := company{room: tc.within, since: now.Add(-tc.since)}
		for _, n := range tc.came {
			c.came(n)
		}
		if got := c.pause(now); got != tc.want {
			t.Errorf("%s: a pause of %v, want %v", tc.name, got, tc.want)
		}
		if !c.since.Equal(now) || c.count != 0 {
			t.Errorf("%s: the next rate is counted from %v with %d", tc.name, c.since, c.count)
		}
	}
}
