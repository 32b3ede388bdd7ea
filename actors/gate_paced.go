package actors

import (
	"slices"
	"time"
)

// pacedSend is a request of an attempt that is open already.
type pacedSend struct {
	// id is set when the attempt has given its slot back for a while and needs
	// one again; see pause.
	id string
	// prepaid is true when its token was spent before the pause, or none is due.
	prepaid bool
	// call is set for the INVITE of a call that was challenged. dialog is true
	// for a request inside a dialog: the far end of a call answers it, so that
	// silence says nothing about the target, and it does not wait for a
	// Retry-After, because it keeps or ends what is there and begins nothing.
	call   string
	dialog bool
	send   func()
}

// answer queues an answer, unless it may go now.
func (g *gate) answer(now time.Time, p pacedSend) bool {
	g.refill(now)
	g.paced = append(g.paced, p)
	if len(g.paced) > 1 {
		return false
	}
	_, _, ok := g.nextPaced(now, now.Before(g.retryUntil))
	return ok
}

// nextPaced takes the first answer that may go: one that needs no slot or finds
// one free, because those that wait for a slot must not hold up the answers of
// those that have them. Without a token wake is when to ask again. While a
// Retry-After holds only requests inside dialogs go.
func (g *gate) nextPaced(now time.Time, onlyDialogs bool) (send func(), wake time.Time, ok bool) {
	i := slices.IndexFunc(g.paced, func(p pacedSend) bool {
		return p.dialog || !onlyDialogs && (p.id == "" || !g.full())
	})
	if i < 0 {
		return nil, time.Time{}, false
	}
	p := g.paced[i]
	if !p.prepaid && !g.hasToken() {
		return nil, g.tokenAt(now), false
	}
	g.paced = slices.Delete(g.paced, i, i+1)
	if p.id != "" {
		delete(g.paused, p.id)
		g.slots[p.id] = now
	}
	if p.call != "" {
		g.out[p.call] = now
	}
	g.take(now, p)
	return p.send, time.Time{}, true
}
