package sipadapter

import (
	"net"
	"time"

	"github.com/sipmuster/muster/messages"
)

// company is for how long a socket that was emptied is left alone, so that what
// comes meanwhile is read together: the answers of a registrar with several
// processes come one by one, and each would wake the processor. Whatever comes after
// a silence is read at once.
type company struct {
	// room is how many datagrams may come meanwhile.
	room int
	// since is when the last pause began, and count what came since.
	since time.Time
	count int
}

// plenty is how many datagrams share a wake-up well: with more of them a pause costs
// time and saves nothing.
const plenty = 160

// roomOf is a quarter of what the socket's buffer holds if every datagram takes 2 KiB,
// as Linux counts those of 700 to 1,700 bytes, and no more than plenty.
func roomOf(conn *net.UDPConn) int { return min(max(grantedBuffer(conn)*2/2048/4, 1), plenty) }

func (c *company) came(datagrams int) { c.count += datagrams }

// pause is until the next beat, or shorter if more than there is room for would come
// at the rate since the last pause.
func (c *company) pause(now time.Time) time.Duration {
	pause := messages.UntilBeat(now)
	if passed := now.Sub(c.since); c.count > 0 && passed < time.Second {
		pause = min(pause, passed*time.Duration(c.room)/time.Duration(c.count))
	}
	c.since, c.count = now, 0
	return pause
}
