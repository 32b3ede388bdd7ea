package messages

import "time"

// Beat is the grid, in Unix time, on which the parts of a busy node meet: what
// falls due, what the pace lets go and what has arrived is attended to on a beat,
// and what that records is committed shortly after it. A processor that has slept
// finds its caches cold and takes several system calls to wake, so a node that is
// woken for each of these by itself pays more for every registration (ADR 34).
const Beat = 20 * time.Millisecond

// UntilBeat is how long after t the next beat is.
func UntilBeat(t time.Time) time.Duration {
	return Beat - time.Duration(t.UnixNano()%int64(Beat))
}
