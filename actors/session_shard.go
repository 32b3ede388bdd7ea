package actors

import (
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// Messages to a shard actor about sessions, besides *placement and *incoming.
type (
	// sessionMail is for one session.
	sessionMail struct {
		id      string
		message any
	}
	// sessionOver is a session actor's word that nothing remains to be done;
	// handled counts the messages that it has seen.
	sessionOver struct {
		id      string
		handled uint64
	}
	// reviveSession: a failed session's wait is over.
	reviveSession struct{ id string }
)

// maxBacklog bounds what waits for a session while it restarts. Anything may be
// lost, so nothing more is needed than what comes in a few seconds.
const maxBacklog = 64

func (s *shardActor) receiveSession(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *placement:
		if err := s.place(ctx, m); err != nil {
			m.done(err)
		}
	case *incoming:
		s.takeCall(ctx, m)
	case *sessionMail:
		s.deliverMail(ctx, m)
	case *sessionOver:
		s.sessionOver(ctx, m)
	case *reviveSession:
		if e, ok := s.sessions[m.id]; ok && e.child == nil && !e.crashes.parked {
			s.revive(ctx, e)
		}
	}
}

// place begins a call of ours.
func (s *shardActor) place(ctx actor.Context, p *placement) error {
	e, declared := s.entries[p.request.Profile]
	var state profile.State
	if declared {
		state = e.state()
	}
	if !state.Exists() {
		return fmt.Errorf("profile %q: %w", p.request.Profile, ErrNotFound)
	}
	r, known := s.farm.registrar(state.Spec.Registrar)
	switch {
	case state.Removing:
		return fmt.Errorf("%w: profile %q is being removed; choose another", ErrInvalidSession, e.id)
	case state.Disabled:
		return fmt.Errorf("%w: profile %q is disabled; enable it first", ErrInvalidSession, e.id)
	case !known:
		return fmt.Errorf("%w: profile %q: its registrar %q is not configured; add it or choose another profile",
			ErrInvalidSession, e.id, state.Spec.Registrar)
	}
	p.spec = p.record(state, r)
	counted := !p.spec.GetTrunkLeg()
	if counted {
		if err := s.farm.counts.take(r.config, e.id); err != nil {
			return err
		}
	}
	begun := s.newSession(p.id, p.spec, newSessionMemory(p.request.Owner), e)
	begun.counted = counted
	s.spawnSession(ctx, begun)
	s.pass(ctx, begun, p)
	return nil
}

// takeCall begins a call of a peer, if anybody takes it.
func (s *shardActor) takeCall(ctx actor.Context, m *incoming) {
	status := 480
	defer func() {
		if status != 0 {
			s.farm.early.Delete(m.early)
			refuseRequest(m.request, status)
		}
	}()
	e, declared := s.entries[m.profile]
	if !declared {
		return
	}
	state := e.state()
	r, known := s.farm.registrar(state.Spec.Registrar)
	if !known || !takesCalls(state) {
		return
	}
	if s.farm.counts.take(r.config, e.id) != nil {
		status = 486
		return
	}
	m.spec = specOfCall(state, e.id, r, m.request)
	owner := s.ask(m)
	if owner == nil || m.spec.GetTrunkLeg() {
		s.farm.counts.give(r.config.Name, e.id)
	}
	if owner == nil {
		return
	}
	status = 0
	begun := s.newSession(m.id, m.spec, newSessionMemory(owner), e)
	begun.counted = !m.spec.GetTrunkLeg()
	s.spawnSession(ctx, begun)
	s.pass(ctx, begun, m)
}

// ask calls somebody else's code; what it does must not end the shard.
func (s *shardActor) ask(m *incoming) (owner Owner) {
	defer func() {
		if reason := recover(); reason != nil {
			s.farm.log.Error("the handler of incoming calls panicked; the call is refused", "profile", m.profile,
				"cause", fmt.Sprintf("panic of type %T", reason))
			owner = nil
		}
	}()
	return m.take(IncomingCall{Session: m.id, Profile: m.profile, Request: shown(m.request)}, m.spec)
}

// newSession enters a session.
func (s *shardActor) newSession(id string, spec *messages.SessionSpec, memory *sessionMemory, profile *entry) *sessionEntry {
	e := &sessionEntry{id: id, cell: &atomic.Pointer[sessionVersion]{}, profile: profile, memory: memory, spec: spec}
	e.cell.Store(&sessionVersion{})
	s.sessions[id] = e
	s.farm.live.Store(id, e)
	return e
}

// formerEntry is the entry that the sessions of a forgotten profile look at, nil
// without sessions.
func (s *shardActor) formerEntry(id string) *entry {
	for _, e := range s.sessions {
		if e.profile != nil && e.spec.GetProfile() == id {
			return e.profile
		}
	}
	return nil
}

func (s *shardActor) spawnSession(ctx actor.Context, e *sessionEntry) {
	s.spawned++
	reload := e.reload
	e.reload = false
	props := s.farm.props(func() actor.Actor {
		return &sessionActor{
			farm: s.farm, shard: s.self, id: e.id, cell: e.cell, profile: e.profile, memory: e.memory, reload: reload,
		}
	}, actor.WithMailbox(newSlimMailbox))
	pid, err := ctx.SpawnNamed(props, e.id+"$"+strconv.FormatUint(s.spawned, 36))
	if err != nil {
		panic(fmt.Sprintf("actors: spawn: %v", err)) // names never repeat
	}
	e.child, e.sent = pid, 0
	s.sessionsByPID[pid.Id] = e
}

// pass gives the running actor of a session a message.
func (s *shardActor) pass(ctx actor.Context, e *sessionEntry, message any) {
	e.sent++
	ctx.Send(e.child, message)
}

// revive starts the actor of a session after a restart, and gives it what has
// come for it meanwhile.
func (s *shardActor) revive(ctx actor.Context, e *sessionEntry) {
	s.spawnSession(ctx, e)
	s.pass(ctx, e, &sessionRecovered{})
	for _, message := range e.backlog {
		s.pass(ctx, e, message)
	}
	e.backlog = nil
}

// deliverMail gives a session what is for it.
func (s *shardActor) deliverMail(ctx actor.Context, m *sessionMail) {
	e, ok := s.sessions[m.id]
	order, isOrder := m.message.(*sessionOrder)
	request, isRequest := m.message.(*messages.SIPInbound)
	switch {
	case !ok && isOrder:
		order.fail(fmt.Errorf("%w: %s", ErrNoSession, m.id))
	case !ok && isRequest:
		refuseRequest(request, 481)
	case !ok:
		if report, is := m.message.(*inviteReported); is {
			s.farm.answeredLate(m.id, report)
		}
	case e.child != nil:
		s.pass(ctx, e, m.message)
	case isOrder && e.crashes.parked:
		// An operator's command is what a parked session waits for.
		e.crashes = crashes{}
		e.backlog = append(e.backlog, m.message)
		s.revive(ctx, e)
	case isRequest && (e.crashes.parked || len(e.backlog) >= maxBacklog):
		refuseRequest(request, 500)
	case len(e.backlog) < maxBacklog && !e.crashes.parked:
		e.backlog = append(e.backlog, m.message)
	case isOrder:
		order.fail(fmt.Errorf("%w: it restarts, try again later", ErrSessionState))
	}
}

// sessionOver forgets a session whose actor has seen everything that it was
// given. With something on its way to it, it will say so again. What is known of
// the session stays visible for a while.
func (s *shardActor) sessionOver(ctx actor.Context, m *sessionOver) {
	e, ok := s.sessions[m.id]
	if !ok || e.child == nil || e.sent != m.handled {
		return
	}
	if state := e.cell.Load().state; state.Exists() {
		s.farm.ended.add(s.farm.sessionView(e, false))
	}
	s.farm.keepAcks(m.id, e.memory.acks)
	ctx.Stop(e.child)
	delete(s.sessionsByPID, e.child.Id)
	delete(s.sessions, m.id)
	s.farm.live.Delete(m.id)
	if e.counted {
		s.farm.counts.give(e.spec.GetRegistrar(), e.spec.GetProfile())
	}
}

// startSessions takes the sessions up that were loaded, or that a shard before
// this one had.
func (s *shardActor) startSessions(ctx actor.Context) {
	s.sessionsByPID = map[string]*sessionEntry{}
	for _, e := range s.sessions {
		if e.child != nil { // this is a restart: the library stopped the children
			e.child, e.reload = nil, true
		}
		if !e.crashes.parked {
			s.revive(ctx, e)
		}
	}
}

// sessionFailed is HandleFailure for a session.
func (s *shardActor) sessionFailed(e *sessionEntry, reason any) {
	e.child, e.reload = nil, true
	e.crashes.version = e.cell.Load().version
	wait := e.crashes.failed(reason)
	s.farm.observer.ActorRestarted(e.crashes.parked)
	log := s.farm.log.With("session", e.id, "failures", e.crashes.count, "cause", describePanic(reason))
	if e.crashes.parked {
		log.Error("session failed too often and is parked; end it or restart the node when the cause is mended")
		return
	}
	log.Warn("session failed; it restarts from the journal", "in", wait)
	s.reviveLater(e, wait)
}

func (s *shardActor) reviveLater(e *sessionEntry, wait time.Duration) {
	self, id := s.self, e.id
	s.farm.after(wait, func() { s.farm.root.Send(self, &reviveSession{id: id}) })
}

// sweepSessions is the watchdog for sessions: their own timers should have woken
// them.
func (s *shardActor) sweepSessions(ctx actor.Context, now time.Time) (overdue int) {
	for _, e := range s.sessions {
		e.crashes.calm(e.cell.Load().version)
		at, ok := e.cell.Load().state.WakeAt()
		if ok && e.child != nil && at.Before(now.Add(-overdueAfter)) {
			overdue++
			s.pass(ctx, e, &sessionInput{session.TimerFired{}})
		}
	}
	return overdue
}

// takesCalls tells whether a profile can be called.
func takesCalls(s profile.State) bool { return s.Exists() && !s.Disabled && !s.Removing }

// specFor is what is recorded of any session of a profile. Where the registrar's
// configuration names no realms, those are answered that the profile's
// registration has pinned (S-02).
func specFor(s profile.State, id string, r *registrar) *messages.SessionSpec {
	spec := &messages.SessionSpec{Profile: id, Registrar: s.Spec.Registrar, ContactUser: ContactUser(s.Spec)}
	if len(r.config.Realms) > 0 {
		return spec
	}
	for _, r := range s.Challenge.Realms {
		if r.Pinned && !slices.Contains(spec.Realms, r.Name) {
			spec.Realms = append(spec.Realms, r.Name)
		}
	}
	return spec
}

// record is what is recorded of a call of ours.
func (p *placement) record(s profile.State, r *registrar) *messages.SessionSpec {
	spec := specFor(s, p.request.Profile, r)
	spec.Aor, spec.Peer, spec.ContentType = s.Spec.AOR, p.request.Target, p.content.contentType
	spec.HangupAfterMs = p.request.HangupAfter.Milliseconds()
	for _, h := range p.content.headers {
		spec.Headers = append(spec.Headers, h.Name)
	}
	if p.complete != nil {
		p.complete(spec)
	}
	return spec
}

// specOfCall is what is recorded of a call from outside.
func specOfCall(s profile.State, id string, r *registrar, in *messages.SIPInbound) *messages.SessionSpec {
	spec := specFor(s, id, r)
	spec.Aor, spec.Peer, spec.Inbound, spec.ContentType = in.To, in.From, true, in.Dialog.ContentType
	return spec
}
