package actors

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// bridging is what a farm keeps for trunks.
type bridging struct {
	trunks atomic.Pointer[trunkTable]
	here   func(host string) bool
	// restored wait for the shards.
	restored []*crossing
}

// crossing is a bridge at work: it owns both sessions, gives their notices to
// the rules one after the other, and carries out the orders.
type crossing struct {
	farm *Farm
	ids  [2]string
	// call is what the second leg will be; complete finishes what is recorded of
	// it.
	call     SessionRequest
	complete func(*messages.SessionSpec)

	mu    sync.Mutex
	queue []event
	// busy is true while somebody works through the queue, or nobody may.
	busy  bool
	rules bridge
}

// event is something that happened to a bridge.
type event func(bridge) (bridge, []bridgeOrder)

// crossingLeg is a bridge as the owner of one of its sessions.
type crossingLeg struct {
	crossing *crossing
	side     side
}

// Notify implements Owner. It does not block: the rules are quick, and orders
// are messages.
func (l crossingLeg) Notify(n SessionNotice) {
	l.crossing.happened(func(b bridge) (bridge, []bridgeOrder) { return b.notified(l.side, n) })
}

// Answers implements Owner.
func (crossingLeg) Answers() bool { return true }

// happened works through what has happened, in order, unless somebody does
// already. An order that fails at once comes back here while the rest waits.
func (c *crossing) happened(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, e)
	c.work()
}

// work needs the lock, which it gives up while it carries out orders.
func (c *crossing) work() {
	if c.busy {
		return
	}
	c.busy = true
	for len(c.queue) > 0 {
		e := c.queue[0]
		c.queue = c.queue[1:]
		var orders []bridgeOrder
		c.rules, orders = e(c.rules)
		c.mu.Unlock()
		for _, o := range orders {
			c.carryOut(o)
		}
		c.mu.Lock()
	}
	c.busy = false
}

// carryOut gives an order to a session. Those about requests that are open are
// given while the farm stops as well.
func (c *crossing) carryOut(o bridgeOrder) {
	switch o := o.(type) {
	case placeOrder:
		c.place(o)
	case replyOrder:
		c.farm.mail(c.ids[o.to], o.reply.order())
	case sendOrder:
		c.farm.sendInside(c.ids[o.to], o.request, func(s sent) {
			c.happened(func(b bridge) (bridge, []bridgeOrder) { return b.returned(o.to, o.from, resultOf(s)) })
		})
	case answerOrder:
		c.farm.mail(c.ids[o.to], answerOffer(o.contentType, o.body))
	case endOrder:
		// The placement may still be on its way to the shard, ahead of this.
		c.farm.mailAhead(c.ids[o.to], &sessionOrder{
			command: session.End{Reason: messages.ReasonHangup}, content: content{headers: o.headers},
		})
	}
}

func resultOf(s sent) passedResult {
	return passedResult{response: s.response, reason: s.reason, busy: errors.Is(s.err, ErrSessionState)}
}

// place begins the second leg.
func (c *crossing) place(o placeOrder) {
	r := c.call
	r.Headers, r.ContentType, r.Body, r.Owner = o.headers, o.contentType, o.body, crossingLeg{c, placed}
	if err := r.check(); err != nil {
		c.notPlaced(err)
		return
	}
	c.farm.place(&placement{id: c.ids[placed], request: r, complete: c.complete, done: func(err error) {
		if err != nil {
			c.notPlaced(err)
		}
	}})
}

// notPlaced: the second leg cannot be.
func (c *crossing) notPlaced(err error) {
	c.farm.log.Warn("a call cannot cross its trunk", "session", c.ids[taken], "profile", c.call.Profile, "error", err)
	status := 500
	switch {
	case errors.Is(err, ErrSessionLimit), errors.Is(err, ErrStopping):
		status = 503
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrInvalidSession):
		status = 480
	}
	c.happened(func(b bridge) (bridge, []bridgeOrder) { return b.notPlaced(status) })
}

// SetTrunks replaces the trunks. Calls that have crossed one stay.
func (f *Farm) SetTrunks(ctx context.Context, trunks []Trunk) error {
	f.bridging.trunks.Store(newTrunkTable(trunks))
	if len(trunks) == 0 {
		return nil
	}
	return f.indexContacts(ctx)
}

func (f *Farm) trunks() *trunkTable { return f.bridging.trunks.Load() }

// rejoin builds the bridges of the sessions that were loaded, before any of
// them runs. What they say waits for release.
func (f *Farm) rejoin() {
	seen := map[string]bool{}
	f.live.Range(func(_, value any) bool {
		e := value.(*sessionEntry)
		far := e.spec.GetBridge()
		if far == "" || seen[e.id] {
			return true
		}
		seen[e.id], seen[far] = true, true
		near := taken
		if !e.spec.GetInbound() {
			near = placed
		}
		c := &crossing{farm: f, busy: true}
		c.ids[near], c.ids[near.other()] = e.id, far
		var states [2]session.State
		for s, id := range c.ids {
			if leg, ok := f.session(id); ok && leg.spec.GetBridge() == c.ids[side(s).other()] {
				leg.memory.owner = crossingLeg{c, side(s)}
				states[s] = leg.cell.Load().state
			}
		}
		trunk := near
		if !e.spec.GetTrunkLeg() {
			trunk = near.other()
		}
		c.rules = newBridge(trunk, f.trunks().named(e.spec.GetTrunk()).Headers)
		c.queue = append(c.queue, func(b bridge) (bridge, []bridgeOrder) { return b.restored(states) })
		f.bridging.restored = append(f.bridging.restored, c)
		return true
	})
}

// release lets the bridges that rejoin built do their work.
func (f *Farm) release() {
	for _, c := range f.bridging.restored {
		c.mu.Lock()
		c.busy = false
		c.work()
		c.mu.Unlock()
	}
	if n := len(f.bridging.restored); n > 0 {
		f.log.Info("bridges restored", "bridges", n)
	}
	f.bridging.restored = nil
}
