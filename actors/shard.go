package actors

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// shardActor is the only one that wakes and passivates the profiles of its shard,
// and their sessions. An idle profile is an entry in its map; a busy one has an
// actor to itself, until it has nothing left to do and the actor is free for
// another.
type shardActor struct {
	mailbox slimMailbox

	farm   *Farm
	number int
	self   *actor.PID
	// entries is written under entering, which the shard itself, the only one
	// that writes, does not need to read.
	entering sync.RWMutex
	entries  map[string]*entry
	wakes    wakeHeap
	// restored is true until the shard starts with what the journal says, of
	// which overdue wants something at once.
	restored bool
	overdue  []*entry

	sessions      map[string]*sessionEntry
	sessionsByPID map[string]*sessionEntry // running session actors by PID id
	spawned       uint64                   // session actors
}

// Messages to a shard actor.
type (
	// order is a command for one profile; done is told the outcome once it is
	// durable, and may be nil.
	order struct {
		id      string
		command profile.Command
		done    func(versioned, error)
		// contacts receives what a fetch brings.
		contacts func([]messages.ContactBinding, error)
	}
	// declareBatch declares many profiles; done is called for each.
	declareBatch struct {
		declarations []declaration
		done         func(index int, result string, err error)
	}
	declaration struct {
		index   int
		id      string
		command profile.Declare
		// dry only tells what would become of it.
		dry bool
	}
	shardTick  struct{}
	shardSweep struct{}
	// visit calls f with every entry, in no order, on the shard's goroutine.
	visit struct {
		f    func(e *entry)
		done chan<- struct{}
	}
	visitOne struct {
		id   string
		f    func(e *entry) // nil when there is none
		done chan<- struct{}
	}
)

func newShard(f *Farm, number int) *shardActor {
	return &shardActor{
		farm: f, number: number, restored: true, entries: map[string]*entry{},
		sessions: map[string]*sessionEntry{}, sessionsByPID: map[string]*sessionEntry{},
	}
}

// tell gives the shard a message of ours.
func (s *shardActor) tell(message any) { s.mailbox.PostUserMessage(message) }

func (s *shardActor) receive(message any) bool {
	switch m := message.(type) {
	case *want:
		s.granted(m.id)
	case *busy:
		s.returned(m)
	case *order:
		s.deliver(m)
	case *failed:
		s.failed(m.busy, m.reason)
	case *shardTick:
		s.wake(time.Now())
	default:
		return false
	}
	return true
}

func (s *shardActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.start(ctx)
	case *actor.Stopped:
		s.mailbox.end()
	case *declareBatch:
		s.declare(m)
	case *actor.Terminated:
		s.terminated(m.Who)
	case *shardSweep:
		s.sweep(ctx, time.Now())
	case *visit:
		for _, e := range s.entries {
			m.f(e)
		}
		close(m.done)
	case *visitOne:
		m.f(s.entries[m.id])
		close(m.done)
	default:
		s.receiveSession(ctx)
	}
}

// start arms every profile that was loaded. Attempts that were open when the
// node stopped are recovered; bindings that are alive only get a timer.
func (s *shardActor) start(ctx actor.Context) {
	s.self = ctx.Self()
	now := time.Now()
	attend := maps.Values(s.entries)
	if s.restored {
		attend = slices.Values(s.overdue)
		s.setTimer()
	}
	for e := range attend {
		if e.running() {
			continue // this is a restart
		}
		v := e.load()
		if v.state.Attempt.Open {
			s.give(e, recoveredOrder, nil)
			continue
		}
		s.arm(e, &v, now)
	}
	s.restored, s.overdue = false, nil
	s.startSessions(ctx)
	// The first sweeps are spread, so that the shards do not all sweep at once.
	s.farm.after(time.Duration(rand.Int64N(int64(watchEvery))), func() { s.farm.root.Send(s.self, &shardSweep{}) })
}

func (s *shardActor) deliver(o *order) {
	e, ok := s.entries[o.id]
	if !ok {
		if _, declares := o.command.(profile.Declare); !declares {
			o.fail(ErrNotFound)
			return
		}
		// Sessions of a profile that was forgotten go on with the new one.
		if e = s.formerEntry(o.id); e == nil {
			e = newEntry(&s.farm.words, o.id)
		}
		// A forgotten profile with this id has left a stream that goes on
		// counting.
		e.reload = true
		s.entering.Lock()
		s.entries[o.id] = e
		s.entering.Unlock()
	}
	if e.parked() {
		// An operator's command is what a parked profile waits for.
		e.crashes = nil
	}
	s.give(e, o, nil)
}

// The orders of the shard itself are the same for every profile.
var (
	slotOrder      = &order{command: profile.SlotGranted{}}
	timerOrder     = &order{command: profile.TimerFired{}}
	recoveredOrder = &order{command: profile.Recovered{}}
)

// awaited tells whether somebody waits for the outcome.
func (o *order) awaited() bool { return o.done != nil || o.contacts != nil }

// fail answers an order that cannot be carried out.
func (o *order) fail(err error) {
	if o.done != nil {
		o.done(versioned{}, err)
	}
	if o.contacts != nil {
		o.contacts(nil, err)
	}
}

// give hands an order to the profile's actor, and the profile to an actor if
// none has it. v is the newest state of a profile that is idle, nil when it is
// not at hand.
func (s *shardActor) give(e *entry, o *order, v *versioned) {
	if !s.add(e, o) {
		a := s.farm.crew.take()
		b := e.engage(s, a, o, v)
		a.tell(b)
		if a.dead.Load() { // while it was free; who found that out did not see the profile
			s.tell(&failed{busy: b, reason: errFailed})
		}
	}
	// The actor guards its own deadlines while it runs; this one is for the
	// case that it cannot.
	s.setWake(e, time.Now().Add(childLimit))
}

// add gives a busy profile one more order.
func (s *shardActor) add(e *entry, o *order) bool {
	b := e.busy
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.given {
		return false
	}
	b.take(o)
	b.actor.tell(o)
	return true
}

// childLimit is when a running profile actor is asked about its deadlines: a
// little more than the guard of an attempt.
const childLimit = 125 * time.Second

// returned: an actor has nothing left to do for its profile.
func (s *shardActor) returned(b *busy) {
	if b.entry.busy == b { // else another one has the profile again
		s.passivate(b)
	}
	s.farm.crew.put(b.actor) // last: it may be given another profile at once
}

// granted: the gate lets the profile through.
func (s *shardActor) granted(id string) {
	e, ok := s.entries[id]
	if !ok {
		return
	}
	e.waiting = false
	s.give(e, slotOrder, nil)
}

// passivate makes a profile idle that no actor has any more.
func (s *shardActor) passivate(b *busy) {
	e, v := b.entry, &b.now
	e.pack(v)
	e.rest(v.version)
	if !v.state.Exists() && v.state.Source != "file" {
		s.forget(e, &v.state)
		return
	}
	s.arm(e, v, time.Now())
}

// forget drops what has no declaration any more.
func (s *shardActor) forget(e *entry, state *profile.State) {
	if e.waiting {
		s.farm.turnstile(state.Spec.Registrar).unwant(e.id)
	}
	s.clearWake(e)
	s.entering.Lock()
	delete(s.entries, e.id)
	s.entering.Unlock()
	s.farm.secretGone(e.id)
}

// arm derives from the state of an idle profile what it waits for: its
// registrar's gate, a time, or nothing. What is due, and may go at once, goes.
func (s *shardActor) arm(e *entry, v *versioned, now time.Time) {
	state := &v.state
	_, due, ok := state.Due()
	switch {
	case ok && !due.After(now):
		gate := s.farm.turnstile(state.Spec.Registrar)
		if gate.want(e.id, s, deadline(state, now)) {
			e.waiting = false
			s.give(e, slotOrder, v)
			return
		}
		e.waiting = gate != nil
	case e.waiting:
		e.waiting = false
		s.farm.turnstile(state.Spec.Registrar).unwant(e.id)
	}
	at, wakes := state.WakeAt()
	if wakes && ok && !due.After(now) {
		// The gate wakes it; what remains is the end of the binding.
		at = state.LapseAt()
		wakes = !at.IsZero()
	}
	if !wakes {
		s.clearWake(e)
		return
	}
	s.setWake(e, at)
}

// deadline orders the profiles that wait for a slot: a binding by its end, and
// one that is not there yet as if it ended soon, so that neither starves.
func deadline(state *profile.State, now time.Time) time.Time {
	const unboundPatience = 30 * time.Second
	switch {
	case state.RefreshWanted || !state.Wanted():
		return now
	case state.Bound():
		return state.Binding.Until.Add(-unboundPatience)
	}
	return now.Add(unboundPatience)
}

// wake attends to every profile whose time has come.
func (s *shardActor) wake(now time.Time) {
	for len(s.wakes) > 0 && s.wakes[0].wakeAt <= now.UnixNano() {
		e := s.wakes[0]
		s.clearWake(e)
		if e.parked() {
			continue
		}
		if !e.running() && !e.reload {
			v := e.load()
			if lapse := v.state.LapseAt(); lapse.IsZero() || lapse.After(now) {
				s.arm(e, &v, now)
				continue
			}
		}
		s.give(e, timerOrder, nil)
	}
	s.setTimer()
}

// declare handles a batch. What would change nothing is seen here, without
// waking anybody: a reload of a million rows costs a comparison each.
func (s *shardActor) declare(m *declareBatch) {
	var decider profile.Decider
	for _, d := range m.declarations {
		state := profile.State{}
		if e, ok := s.entries[d.id]; ok {
			state = e.state()
		}
		result := foresee(&decider, &state, d.command)
		if result == ResultUnchanged || d.dry {
			m.done(d.index, result, nil)
			continue
		}
		s.deliver(&order{id: d.id, command: d.command, done: func(_ versioned, err error) {
			m.done(d.index, result, err)
		}})
	}
}

// The results of a declaration.
const (
	ResultAdded     = "added"
	ResultChanged   = "changed"
	ResultUnchanged = "unchanged"
	ResultInvalid   = "invalid"
)

// foresee tells what a declaration will do, by the core itself.
func foresee(decider *profile.Decider, state *profile.State, d profile.Declare) string {
	decision := decider.Decide(&profile.Policy{}, state, &profile.Input{Command: d})
	switch {
	case len(decision.Events) == 0 && decision.Dropped != messages.DropBusy:
		return ResultUnchanged
	case !state.Exists():
		return ResultAdded
	}
	return ResultChanged
}

// sweep is the watchdog: a profile that wants something must be running, wait
// for its gate, or have a timer. One that has none of these is counted, and
// armed again.
func (s *shardActor) sweep(ctx actor.Context, now time.Time) {
	overdue := s.sweepSessions(ctx, now)
	for _, e := range s.entries {
		late := now.Add(-overdueAfter)
		if e.running() || e.waiting || e.parked() || e.index >= 0 && e.wakeAt >= late.UnixNano() {
			continue
		}
		v := e.load()
		at, ok := v.state.WakeAt()
		if !ok {
			continue
		}
		if _, known := s.farm.registrar(v.state.Spec.Registrar); !known {
			continue
		}
		if at.Before(late) {
			overdue++
		}
		s.arm(e, &v, now)
	}
	s.farm.observer.Overdue(s.number, overdue)
	s.farm.after(watchEvery, func() { s.farm.root.Send(s.self, &shardSweep{}) })
}

// watchEvery is how often a shard looks for stuck profiles.
const watchEvery = 5 * time.Minute

// overdueAfter is how late a deadline must be to count as missed.
const overdueAfter = 10 * time.Second
