package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// sessionActor wraps the pure core of one session, as profileActor does for a
// profile: decide, append and wait until it is durable, fold, tell the observer,
// run the effects; these steps are never reordered.
//
// Whatever is for a session goes through its shard, also what the adapter
// reports: so it finds the actor that runs, and an actor that takes the place of
// a failed one goes on with its transactions.
type sessionActor struct {
	farm    *Farm
	shard   *actor.PID
	id      string
	cell    *atomic.Pointer[sessionVersion]
	profile *entry
	memory  *sessionMemory
	reload  bool

	state   session.State
	version uint64
	handled uint64
	// spec is the state's, or that of the session that is about to begin.
	spec *messages.SessionSpec
	// hand is what the command in hand is about.
	hand hand
	// questions are those that are out, by reference.
	questions map[string]*question
	// timer guards the deadlines of the state. A profile's are the shard's,
	// because its actor sleeps; this one runs, and tells nobody of each change.
	timer *time.Timer
	armed time.Time
	// tooEarly is true after the timer fired and nothing was due.
	tooEarly bool
	// replying answers whoever waits for the command in hand, also when its
	// handling panics.
	replying func(error)
	// broken is why the state could not be loaded; the first message fails the
	// actor.
	broken error
	over   bool
	self   *actor.PID
}

// hand is the message that a command came from.
type hand struct {
	response *messages.SIPResponse
	request  *messages.SIPInbound
	order    *sessionOrder
}

// Messages to a session actor, besides *placement, *incoming, *sessionOrder and
// *messages.SIPInbound.
type (
	// sessionInput is a command of the host itself.
	sessionInput struct{ command session.Command }
	// inviteReported and sendReported are reports of the adapter.
	inviteReported struct {
		attempt     uint64
		request     *messages.SIPRequest
		report      messages.InviteReport
		toRegistrar bool
	}
	sendReported struct {
		attempt     uint64
		outcome     messages.SIPOutcome
		toRegistrar bool
	}
	// acknowledged is the ACK of our 2xx, nil when none came.
	acknowledged struct {
		cseq uint32
		ack  *messages.SIPInbound
	}
	// sessionDue: a deadline of the state may have passed.
	sessionDue struct{}
	// sessionRecovered is the first message after a restart.
	sessionRecovered struct{}
)

func (a *sessionActor) Receive(ctx actor.Context) {
	defer a.answerOnPanic()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.self = ctx.Self()
		a.load()
		return
	case *actor.Stopping, *actor.Stopped, *actor.Restarting:
		a.rest()
		return
	case *sessionDue:
		a.mustBeLoaded()
		a.armed = time.Time{}
		a.tooEarly = a.handle(ctx, session.TimerFired{}).Dropped == messages.DropEarly
		if a.tooEarly {
			a.armed = time.Time{}
			a.arm()
		}
	case *verdict:
		a.judged(ctx, m)
	default:
		a.delivered(ctx)
	}
	a.hand, a.replying = hand{}, nil
	if a.over {
		ctx.Send(a.shard, &sessionOver{id: a.id, handled: a.handled})
	}
}

// delivered is what the shard has handed over.
func (a *sessionActor) delivered(ctx actor.Context) {
	a.handled++
	switch m := ctx.Message().(type) {
	case *placement:
		a.replying = m.done
		a.place(ctx, m)
	case *incoming:
		a.receive(ctx, m)
	case *sessionOrder:
		a.replying = m.fail
		a.mustBeLoaded()
		a.take(ctx, m)
	case *sessionInput:
		a.mustBeLoaded()
		a.handle(ctx, m.command)
	case *inviteReported:
		a.mustBeLoaded()
		a.inviteReported(ctx, m)
	case *sendReported:
		a.mustBeLoaded()
		a.sendReported(ctx, m)
	case *messages.SIPInbound:
		a.mustBeLoaded()
		a.asked(ctx, m)
	case *acknowledged:
		a.mustBeLoaded()
		a.acknowledged(m)
	case *callTurn:
		a.mustBeLoaded()
		a.turned(ctx, m)
	case *sendNow:
		a.mustBeLoaded()
		a.sendUnsent(m.attempt)
	case *sessionRecovered:
		a.mustBeLoaded()
		a.recovered(ctx)
	}
}

// load takes the state from the shard, or after a failure from the journal,
// which knows what the failed actor may not have learned.
func (a *sessionActor) load() {
	a.questions = map[string]*question{}
	v := *a.cell.Load()
	if a.reload {
		state, version, err := loadSession(a.farm.journal, a.id)
		if err != nil {
			a.broken = fmt.Errorf("load session: %w", err)
			return
		}
		v = sessionVersion{state: state, version: version}
		a.cell.Store(&v)
	}
	a.state, a.version, a.spec = v.state, v.version, v.state.Spec
}

func (a *sessionActor) mustBeLoaded() {
	if a.broken != nil {
		panic(a.broken)
	}
}

// recovered goes on after a restart. A session of which nothing was recorded
// never was.
func (a *sessionActor) recovered(ctx actor.Context) {
	if !a.state.Exists() || a.state.Ended {
		a.finish()
		return
	}
	bye := a.memory.unheardBye(a.state)
	a.handle(ctx, session.Recovered{})
	if bye != nil {
		a.asked(ctx, bye)
	}
}

// place begins a call of ours.
func (a *sessionActor) place(ctx actor.Context, p *placement) {
	a.spec = p.spec
	a.memory.first = p.content
	a.handle(ctx, session.Start{Spec: p.spec, CallID: a.farm.token(), LocalTag: a.id, Body: !a.memory.first.empty()})
	p.done(nil)
}

// receive begins a call of a peer.
func (a *sessionActor) receive(ctx actor.Context, m *incoming) {
	a.spec, a.memory.early = m.spec, m.early
	a.memory.peers[peerKey{"INVITE", m.request.CSeq}] = m.request
	a.learnDescription("INVITE", &m.request.Dialog)
	a.hand.request = m.request
	a.handle(ctx, session.Receive{Spec: m.spec, LocalTag: a.id, Request: m.request})
}

// handle is the loop's body.
func (a *sessionActor) handle(ctx actor.Context, command session.Command) session.Decision {
	now := time.Now()
	in := session.Input{Now: now.UTC().Truncate(0), Jitter: rand.Float64(), Token: a.farm.token(), Command: command}
	decision := session.Decide(a.policy(), a.state, in)
	if decision.Dropped != "" {
		a.farm.observer.Dropped(decision.Dropped)
	}
	if len(decision.Events) > 0 {
		a.keepDescription(decision.Events)
		a.record(now, decision.Events)
	}
	if o := a.hand.order; o != nil && decision.Chain != 0 {
		a.memory.chains[decision.Chain] = chainMemory{content: o.content, result: o.result}
	}
	for _, e := range decision.Effects {
		a.perform(ctx, e)
	}
	a.leaveNothingUnanswered()
	a.endChains()
	a.memory.prune(a.state)
	if a.state.Ended {
		a.finish()
	} else {
		a.arm()
	}
	return decision
}

// record makes the events durable and then part of the state. An append that
// fails leaves the outcome unknown, so the actor fails too and its successor
// reads the journal.
func (a *sessionActor) record(now time.Time, events []*messages.SessionEvent) {
	before := a.state.Status()
	if err := a.farm.journal.AppendSession(context.Background(), sessionStream(a.id), a.version, now, events...); err != nil {
		panic(fmt.Errorf("append: %w", err))
	}
	durable := time.Now()
	for _, e := range events {
		a.state = session.Apply(a.state, e, now)
	}
	a.version += uint64(len(events))
	a.cell.Store(&sessionVersion{state: a.state, version: a.version})
	a.dropQuestions()
	o := a.farm.observer
	o.Appended(durable.Sub(now))
	o.SessionEvents(a.spec.GetRegistrar(), before, a.state.Status(), a.state.StartedAt, a.state.EstablishedAt, events)
	for _, e := range events {
		if f := e.GetRequestFailed(); f.GetRefused() {
			o.ChallengeWithheld(a.spec.GetRegistrar(), messages.Reason(f.GetReason()))
			a.farm.log.Warn("a challenge from where this profile's credentials must not go was not answered",
				"session", a.id, "attempt", f.GetAttempt(), "status", f.GetStatus())
		}
		if c := e.GetChallengeReceived(); c != nil && a.farm.nonces.note(a.spec.GetRegistrar(), a.spec.GetProfile(), c) {
			o.NonceShared(a.spec.GetRegistrar())
		}
		a.logEvent(e)
	}
	if a.farm.changes.watched() {
		a.farm.changes.session(a.id, a.state, a.version, now, events)
	}
}

// logEvent tells of calls at Debug: they are many, and what needs a person is
// logged where it is found.
func (a *sessionActor) logEvent(e *messages.SessionEvent) {
	switch e := e.GetEvent().(type) {
	case *messages.SessionEvent_Established:
		a.farm.log.Debug("session established", "session", a.id, "profile", a.spec.GetProfile(), "call_id", a.state.CallID)
	case *messages.SessionEvent_Ended:
		a.farm.log.Debug("session ended", "session", a.id, "profile", a.spec.GetProfile(), "call_id", a.state.CallID,
			"status", e.Ended.GetStatus(), "reason", e.Ended.GetReason())
	}
}

// arm sets the timer to the state's next deadline.
func (a *sessionActor) arm() {
	at, ok := a.state.WakeAt()
	if !ok || a.over {
		a.armed = time.Time{}
		if a.timer != nil {
			a.timer.Stop()
		}
		return
	}
	if a.expectsVerdict(at) {
		at = at.Add(limitSlack) // the xSP's own actor tells that it is late
	}
	if at.Equal(a.armed) {
		return
	}
	a.armed = at
	wait := max(time.Until(at), time.Millisecond)
	if a.tooEarly {
		wait = max(wait, time.Second) // so that no deadline keeps the actor busy
	}
	if a.timer == nil {
		self, root := a.self, a.farm.root
		a.timer = time.AfterFunc(wait, func() { root.Send(self, &sessionDue{}) })
		return
	}
	a.timer.Reset(wait)
}

// finish leaves nothing of a session that is over behind, but for what its
// shard shows of it.
func (a *sessionActor) finish() {
	if a.over {
		return
	}
	a.over = true
	a.rest()
	a.leaveNothingUnanswered()
	a.unwantTurn()
	a.endChains()
	a.memory.prune(a.state)
	if a.memory.early != (earlyKey{}) {
		a.farm.early.Delete(a.memory.early)
	}
	if a.farm.bodies != nil {
		a.farm.bodies.ForgetBody(a.id)
	}
	if a.memory.owner != nil && !a.memory.told { // a call that could not be recorded
		a.notify(SessionNotice{
			Session: a.id, Kind: session.NoticeEnded, Status: int(a.state.LastStatus),
			Reason: cmp.Or(a.state.Reason, messages.ReasonInterrupted),
		})
	}
}

// rest stops what would wake the actor.
func (a *sessionActor) rest() {
	if a.timer != nil {
		a.timer.Stop()
	}
	clear(a.questions)
}

// endChains tells whoever waits for a request that is over, and of which the
// core has told nothing: the session ends, or the actor failed meanwhile.
func (a *sessionActor) endChains() {
	for chain, c := range a.memory.chains {
		open := slices.ContainsFunc(a.state.Requests, func(r session.Request) bool { return r.GetChain() == chain })
		if open || a.state.Retry.Chain == chain {
			continue
		}
		delete(a.memory.chains, chain)
		if c.result != nil {
			c.result(sent{reason: cmp.Or(a.state.Reason, messages.ReasonInterrupted)})
		}
	}
}

// post sends the session a message by way of its shard.
func (a *sessionActor) post(message any) { a.poster()(message) }

// poster is post for code that runs elsewhere.
func (a *sessionActor) poster() func(message any) {
	root, shard, id := a.farm.root, a.shard, a.id
	return func(message any) { root.Send(shard, &sessionMail{id: id, message: message}) }
}

// answerOnPanic answers whoever waits before the panic goes on to the
// supervisor: the library would leave the caller waiting.
func (a *sessionActor) answerOnPanic() {
	reason := recover()
	if reason == nil {
		return
	}
	a.rest()
	if a.replying != nil {
		err, ok := reason.(error)
		if !ok {
			err = errors.New(describePanic(reason))
		}
		a.replying(fmt.Errorf("session failed: %w", err))
	}
	panic(reason)
}
