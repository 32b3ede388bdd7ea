package actors

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/messages"
)

// turnstile is the gate of one target, which all its profiles and calls share.
// Whoever wants something takes it in person: the gate decides in well under a
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
	shown gateShown
}

// gateShown is what the observer knows of a gate.
type gateShown struct {
	waiting, inFlight int
	open              bool
}

// What a turnstile takes.
type (
	// wantSlot: the profile is due; again with another deadline moves it.
	wantSlot struct {
		id       string
		shard    *actor.PID
		deadline time.Time
		// granted is set when the slot is there at once.
		granted bool
	}
	// unwantSlot: it is no longer due.
	unwantSlot struct{ id string }
	// releaseSlot ends an attempt; see gate.release.
	releaseSlot struct {
		id          string
		heard, dark bool
		retryAfter  time.Duration // 503 with Retry-After; 0 without
	}
	// paceAnswer runs send when the target's pace allows; it also means that
	// the target was heard.
	paceAnswer struct {
		heard bool
		// id is set when the attempt needs a slot again; prepaid when nothing
		// was sent for the token that came with its first one.
		id      string
		prepaid bool
		// call and dialog are as in pacedSend.
		call   string
		dialog bool
		send   func()
	}
	// pauseSlot lets others use the slot of an attempt that waits for an xSP.
	pauseSlot struct {
		id    string
		heard bool
	}
	// wantCall: a call wants its turn; see waitingCall.
	wantCall struct {
		id   string
		turn func(refused messages.Reason)
	}
	// unwantCall: it does not any more, or is over.
	unwantCall    struct{ id string }
	retransmitted struct{}
	reconfigure   struct{ registrar Registrar }
	// holdGate stops fresh attempts.
	holdGate  struct{ on bool }
	gateTick  struct{}
	gateSweep struct{}
)

type gateView struct {
	waiting, inFlight     int
	paused                int // open attempts that wait for an xSP
	calls, unheard        int // calls that wait, and those that wait for a first word
	state                 string
	lastHeard, retryUntil time.Time
}

// sweepEvery is how often a gate looks for lost slots.
const sweepEvery = 30 * time.Second

func newTurnstile(f *Farm, config Registrar) *turnstile {
	r := &turnstile{farm: f, name: config.Name, gate: newGate(config)}
	r.sweepLater()
	return r
}

// take does what is asked and lets through whatever may go then. It does not
// block: what it lets through is told by a message.
func (r *turnstile) take(message any) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	switch m := message.(type) {
	case *wantSlot:
		r.gate.want(m.id, m.shard, m.deadline)
		m.granted = r.pump(now, m.id)
		return
	case *unwantSlot:
		r.gate.unwant(m.id)
	case *releaseSlot:
		r.gate.release(now, m.id, m.heard, m.dark, rand.Float64())
		if m.retryAfter > 0 {
			r.gate.retryAfter(now.Add(m.retryAfter))
		}
	case *paceAnswer:
		if m.heard {
			r.gate.heard(now)
		}
		r.gate.paced = append(r.gate.paced, pacedSend{
			id: m.id, prepaid: m.prepaid || r.gate.freeAnswers && !m.dialog, call: m.call, dialog: m.dialog, send: m.send,
		})
	case *pauseSlot:
		if m.heard {
			r.gate.heard(now)
		}
		r.gate.pause(m.id)
	case *wantCall:
		r.gate.wantCall(waitingCall{id: m.id, turn: m.turn})
	case *unwantCall:
		r.gate.unwantCall(now, m.id)
	case *retransmitted:
		r.gate.spend()
	case *reconfigure:
		r.gate.configure(m.registrar)
	case *holdGate:
		r.gate.held = m.on
	case *gateTick:
		r.armed = time.Time{}
	case *gateSweep:
		if n := r.gate.sweep(now); n > 0 {
			r.farm.log.Warn("slots taken back from lost attempts", "registrar", r.name, "slots", n)
		}
		r.sweepLater()
	default:
		return
	}
	r.pump(now, "")
}

// pump lets through whatever may go. It tells whether the profile that is asking
// is among them; the others are sent word.
func (r *turnstile) pump(now time.Time, asking string) (granted bool) {
	for {
		run, fresh, wake := r.gate.next(now)
		switch {
		case run != nil:
			run()
		case fresh != nil && fresh.id == asking:
			granted = true
		case fresh != nil:
			r.farm.root.Send(fresh.shard, &slotGranted{id: fresh.id})
		default:
			r.wakeAt(now, wake)
			shown := gateShown{len(r.gate.queue), len(r.gate.slots), !r.gate.down || now.Before(r.gate.retryUntil)}
			if shown != r.shown {
				r.farm.observer.Registrar(r.name, shown.waiting, shown.inFlight, shown.open)
				r.shown = shown
			}
			return granted
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
		r.timer = time.AfterFunc(wait, func() { r.take(&gateTick{}) })
		return
	}
	r.timer.Reset(wait)
}

func (r *turnstile) sweepLater() {
	r.farm.after(sweepEvery, func() { r.take(&gateSweep{}) })
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
		calls: len(r.gate.calls), unheard: len(r.gate.out),
		lastHeard: r.gate.lastHeard, retryUntil: r.gate.retryUntil,
	}
}
