package actors

import (
	"math/rand/v2"
	"sync"
	"time"
)

// turnstile is the gate of one target, which all its profiles and calls share.
// Whoever wants something asks it in person: the gate decides in well under a
// microsecond, where a message to an actor of its own would wake that actor and
// then the asker again, four times per registration.
type turnstile struct {
	farm *Farm
	name string

	mu    sync.Mutex
	gate  *gate
	timer *time.Timer
	// armed is what the timer is set to; zero when it is not set.
	armed time.Time
	ended bool
}

type gateView struct {
	waiting, inFlight     int
	paused                int // open attempts that wait for an xSP
	calls, unheard        int // calls that wait, and those that wait for a first word
	state                 string
	open                  bool // its breaker lets requests pass
	lastHeard, retryUntil time.Time
}

// sweepEvery is how often a gate looks for lost slots.
const sweepEvery = 30 * time.Second

func newTurnstile(f *Farm, config Registrar) *turnstile {
	r := &turnstile{farm: f, name: config.Name, gate: newGate(config)}
	r.sweepLater()
	return r
}

// pass does something to the gate and lets through whatever may go then. It does
// not block: what it lets through is told by a message. A nil turnstile, of a
// registrar that is not configured, does nothing, nor does one that has ended.
func (r *turnstile) pass(do func(g *gate, now time.Time)) {
	if r == nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		do(r.gate, now)
		r.pump(now)
	}
}

// want: the profile is due; again with another deadline moves it. Either it is let
// through at once, or its shard is sent word later.
func (r *turnstile) want(id string, shard *shardActor, deadline time.Time) (granted bool) {
	r.pass(func(g *gate, now time.Time) {
		if granted = g.enter(now, id); !granted {
			g.want(id, shard, deadline)
		}
	})
	return granted
}

// unwant: it is no longer due.
func (r *turnstile) unwant(id string) {
	r.pass(func(g *gate, _ time.Time) { g.unwant(id) })
}

// release ends an attempt; see gate.release. retryAfter is that of a 503, 0
// without.
func (r *turnstile) release(id string, heard, dark bool, retryAfter time.Duration) {
	r.pass(func(g *gate, now time.Time) {
		g.release(now, id, heard, dark, rand.Float64())
		if retryAfter > 0 {
			g.retryAfter(now.Add(retryAfter))
		}
	})
}

// answer asks for the turn of an answer. It has come if the result is true; else
// p.send is called when the target's pace allows. heard means that the target was
// heard.
func (r *turnstile) answer(p pacedSend, heard bool) (now bool) {
	r.pass(func(g *gate, at time.Time) {
		if heard {
			g.heard(at)
		}
		p.prepaid = p.prepaid || g.freeAnswers && !p.dialog
		now = g.answer(at, p)
	})
	return now
}

// pause lets others use the slot of an attempt that waits for an xSP.
func (r *turnstile) pause(id string, heard bool) {
	r.pass(func(g *gate, now time.Time) {
		if heard {
			g.heard(now)
		}
		g.pause(id)
	})
}

// wantCall: a call wants its turn; see waitingCall.
func (r *turnstile) wantCall(c waitingCall) {
	r.pass(func(g *gate, _ time.Time) { g.wantCall(c) })
}

// unwantCall: it does not any more, or is over.
func (r *turnstile) unwantCall(id string) {
	r.pass(func(g *gate, now time.Time) { g.unwantCall(now, id) })
}

// retransmitted: a request left that nobody planned.
func (r *turnstile) retransmitted() {
	r.pass(func(g *gate, _ time.Time) { g.spend() })
}

func (r *turnstile) configure(config Registrar) {
	r.pass(func(g *gate, _ time.Time) { g.configure(config) })
}

// hold stops fresh attempts, or lets them go on.
func (r *turnstile) hold(on bool) {
	r.pass(func(g *gate, _ time.Time) { g.held = on })
}

func (r *turnstile) tick() {
	r.pass(func(*gate, time.Time) { r.armed = time.Time{} })
}

func (r *turnstile) sweep() {
	r.pass(func(g *gate, now time.Time) {
		if n := g.sweep(now); n > 0 {
			r.farm.log.Warn("slots taken back from lost attempts", "registrar", r.name, "slots", n)
		}
		r.sweepLater()
	})
}

// pump lets through whatever may go.
func (r *turnstile) pump(now time.Time) {
	for {
		run, fresh, wake := r.gate.next(now)
		switch {
		case run != nil:
			run()
		case fresh != nil:
			fresh.shard.tell(fresh)
		default:
			r.wakeAt(now, wake)
			return
		}
	}
}

func (r *turnstile) wakeAt(now, at time.Time) {
	if at.IsZero() || !r.armed.IsZero() && !at.Before(r.armed) {
		return
	}
	r.armed = at
	wait := max(at.Sub(now), time.Millisecond)
	if r.timer == nil {
		r.timer = time.AfterFunc(wait, r.tick)
		return
	}
	r.timer.Reset(wait)
}

func (r *turnstile) sweepLater() {
	r.farm.after(sweepEvery, r.sweep)
}

// stop ends the timers; what waits is not let through any more.
func (r *turnstile) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.timer != nil {
		r.timer.Stop()
	}
}

func (r *turnstile) view() gateView {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	return gateView{
		waiting: len(r.gate.queue), inFlight: len(r.gate.slots), paused: len(r.gate.paused), state: r.gate.state(now),
		open:  !r.gate.down || now.Before(r.gate.retryUntil),
		calls: len(r.gate.calls), unheard: len(r.gate.out),
		lastHeard: r.gate.lastHeard, retryUntil: r.gate.retryUntil,
	}
}

// TellGates tells the state of each registrar's gate: how many profiles wait, how
// many attempts are open, and whether its breaker lets requests pass.
func (f *Farm) TellGates(tell func(name string, waiting, inFlight int, open bool)) {
	f.eachGate(func(name string, r *registrar) {
		v := r.turnstile.view()
		tell(name, v.waiting, v.inFlight, v.open)
	})
}
