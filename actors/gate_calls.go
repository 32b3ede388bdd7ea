package actors

import (
	"slices"
	"time"

	"github.com/sipmuster/muster/messages"
)

// waitingCall is a call that waits for its turn. turn is told once that it has
// come, or why it never will.
type waitingCall struct {
	id   string
	turn func(refused messages.Reason)
}

// wantCall queues a call.
func (g *gate) wantCall(c waitingCall) { g.calls = append(g.calls, c) }

// unwantCall forgets a call, whatever became of its turn.
func (g *gate) unwantCall(now time.Time, id string) {
	g.calls = slices.DeleteFunc(g.calls, func(c waitingCall) bool { return c.id == id })
	g.paced = slices.DeleteFunc(g.paced, func(p pacedSend) bool { return p.call == id })
	if _, out := g.out[id]; out {
		g.release(now, id, false, false, 0)
	}
}

func (g *gate) popCall() waitingCall {
	c := g.calls[0]
	g.calls[0] = waitingCall{}
	g.calls = g.calls[1:]
	return c
}

// admitsCall tells whether the call that waits longest may begin.
func (g *gate) admitsCall(now time.Time) (wake time.Time, ok bool) {
	if len(g.calls) == 0 || g.held {
		return time.Time{}, false
	}
	return g.trickles(now)
}

// refusesCalls tells whether a call would wait in vain: the target is down, and
// another one is its probe or will be.
func (g *gate) refusesCalls(now time.Time) bool {
	return len(g.calls) > 0 && g.down && !g.held && (g.probe != "" || now.Before(g.probeAt) || len(g.queue) > 0)
}
