package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// profileActor wraps the pure core of one profile. For each message: decide,
// append and wait until it is durable, fold, tell the observer, run the
// effects; these steps are never reordered.
type profileActor struct {
	farm   *Farm
	shard  *actor.PID
	id     string
	stream string
	entry  *entry
	busy   *busy
	reload bool

	// The state is replaced, never written: others hold it.
	*versioned
	handled uint64
	// slot is true while the registrar's gate counts an attempt of ours;
	// slotSpent is true once a request used it; started is
	// when that began. dark and heard tell the gate how it ended.
	slot, slotSpent bool
	// gate is the registrar of the chain, which a removed profile forgets.
	gate        string
	started     time.Time
	heard, dark bool
	retryAfter  time.Duration
	// paused is true while others use the slot, because an xSP is asked.
	paused bool
	// asked is the question that is out; its verdict is taken once.
	asked *question
	// mutations and proofs are the answer for the open attempt, in memory
	// only.
	mutations []*messages.HeaderMutation
	proofs    []*messages.ExpectedProof
	// fetched is told what a fetch brings.
	fetched func([]messages.ContactBinding, error)
	// broken is why the state could not be loaded: the first message, which is
	// the order that the actor was spawned for, is told and fails the actor.
	broken error
	// replying is the order in hand, answered also when its handling panics.
	replying *order
	self     *actor.PID
}

// sendNow is the gate's permission to send the paced request of an attempt.
type sendNow struct{ attempt uint64 }

// observed is something the SIP adapter reports.
type observed struct{ command profile.Command }

func (a *profileActor) Receive(ctx actor.Context) {
	defer a.answerOnPanic()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.self = ctx.Self()
		a.load(ctx)
		return
	case *order:
		a.replying = m
		a.mustBeLoaded()
		a.handled++
		a.take(ctx, m)
	case *observed:
		a.note(m.command)
		a.handle(ctx, m.command)
	case *sendNow:
		if a.state.Attempt.Open && a.state.Attempt.Number == m.attempt {
			a.send()
		}
	case *verdict:
		a.judged(ctx, m)
	default:
		return
	}
	if !a.state.Attempt.Open {
		a.chainEnded()
		if a.busy.leave(a.handled) {
			ctx.Stop(a.self) // the shard is told when it is done
		}
	}
}

// load takes the state from the shard, or after a failure from the journal,
// which knows what the failed actor may not have learned.
func (a *profileActor) load(ctx actor.Context) {
	if !a.reload {
		if a.versioned == nil {
			v := a.entry.load()
			a.versioned = &v
		}
		return
	}
	state, version, err := loadProfile(a.farm.journal, a.id)
	if err != nil {
		a.broken = fmt.Errorf("load profile: %w", err)
		return
	}
	old := a.entry.load()
	a.versioned = &versioned{state: state, version: version}
	a.entry.keep(a.versioned)
	a.farm.contacts.changed(a.entry, &old.state, &state)
	a.farm.moved(&old.state, &state, time.Time{}, nil) // the failed append may have been kept
	a.handle(ctx, profile.Recovered{})
}

func (a *profileActor) mustBeLoaded() {
	if a.broken != nil {
		panic(a.broken)
	}
}

func (a *profileActor) take(ctx actor.Context, o *order) {
	if _, ok := o.command.(profile.SlotGranted); ok {
		a.slot, a.slotSpent, a.started = true, false, time.Now()
		a.gate = a.state.Spec.Registrar
	}
	if o.contacts != nil && a.fetched != nil {
		o.fail(ErrBusy)
		a.replying = nil
		return
	}
	dropped := a.handle(ctx, o.command)
	a.replying = nil
	var err error
	if dropped == messages.DropBusy {
		err = ErrBusy
	}
	if o.contacts != nil {
		if err != nil || !a.state.Attempt.Open {
			o.fail(orElse(err, ErrBusy))
			return
		}
		a.fetched = o.contacts
	}
	if o.done != nil {
		o.done(versioned{state: a.state, version: a.version}, err)
	}
}

func orElse(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// handle is the loop's body.
func (a *profileActor) handle(ctx actor.Context, command profile.Command) messages.Reason {
	now := time.Now()
	in := profile.Input{Now: now.UTC().Truncate(0), Jitter: rand.Float64(), Command: command}
	if a.state.CallID == "" || needsToken(a.state, command) {
		in.Token = a.farm.token()
	}
	decision := profile.Decide(a.farm.policy(a.state.Spec.Registrar), a.state, in)
	if decision.Dropped != "" {
		a.farm.observer.Dropped(decision.Dropped)
	}
	if len(decision.Events) > 0 {
		a.record(now, &decision)
	}
	for _, e := range decision.Effects {
		a.perform(ctx, e)
	}
	return decision.Dropped
}

// needsToken tells whether the decision may choose a new Call-ID, so that the
// usual one costs no randomness.
func needsToken(s profile.State, command profile.Command) bool {
	if r, ok := command.(profile.ResponseReceived); ok && r.Response.Status == 481 {
		return true
	}
	return s.CSeq >= 1<<31-16
}

// record makes the events durable and then part of the state. An append that
// fails leaves the outcome unknown, so the actor fails too and its successor
// reads the journal.
func (a *profileActor) record(now time.Time, decision *profile.Decision) {
	events := decision.Events
	old, next := &a.state, &versioned{state: decision.State, version: a.version + uint64(len(events))}
	bound := old.Binding.Until
	if err := a.farm.journal.Append(context.Background(), a.stream, a.version, now, events...); err != nil {
		panic(fmt.Errorf("append: %w", err))
	}
	durable := time.Now()
	for _, e := range events {
		if e.GetAttemptStarted() != nil {
			a.mutations, a.proofs = nil, nil // an answer is for one request (S-22)
		}
	}
	a.versioned = next
	a.entry.keep(next)
	a.farm.contacts.changed(a.entry, old, &a.state)
	o := a.farm.observer
	o.Appended(durable.Sub(now))
	a.farm.moved(old, &a.state, a.started, events)
	registrar := a.state.Spec.Registrar
	for _, e := range events {
		if e.GetBindingGranted() != nil && !bound.IsZero() {
			o.RefreshMargin(registrar, bound.Sub(now))
		}
		if c := e.GetChallengeReceived(); c != nil && a.farm.nonces.note(registrar, a.id, c) {
			o.NonceShared(registrar)
		}
		if e.GetBindingLapsed() != nil && !bound.IsZero() {
			a.farm.log.Warn("binding lapsed", "profile", a.id, "until", bound)
		}
		a.logEvent(e)
	}
	if a.farm.changes.watched() {
		a.farm.changes.profile(a.id, a.state, a.version, now, events)
	}
}

// logEvent writes changes of the binding at Info, retries at Warn, and what
// needs a person at Error.
func (a *profileActor) logEvent(e *messages.ProfileEvent) {
	switch e := e.GetEvent().(type) {
	case *messages.ProfileEvent_Halted:
		a.farm.log.Error("profile rejected", "profile", a.id, "attempt", e.Halted.GetAttempt(),
			"status", e.Halted.GetStatus(), "reason", e.Halted.GetReason())
	case *messages.ProfileEvent_AttemptFailed:
		a.farm.log.Warn("attempt failed", "profile", a.id, "attempt", e.AttemptFailed.GetAttempt(),
			"status", e.AttemptFailed.GetStatus(), "reason", e.AttemptFailed.GetReason())
	case *messages.ProfileEvent_BindingGranted:
		if a.farm.log.Enabled(context.Background(), slog.LevelDebug) {
			a.farm.log.Debug("binding granted", "profile", a.id, "attempt", e.BindingGranted.GetAttempt(),
				"call_id", a.state.CallID, "seconds", e.BindingGranted.GetGrantedSeconds())
		}
	}
}

// note keeps what the registrar's gate must learn from a report.
func (a *profileActor) note(command profile.Command) {
	switch c := command.(type) {
	case profile.ResponseReceived:
		a.heard, a.dark = true, false
		if len(a.state.Attempt.Targets) == 0 { // else it went where a 3xx led
			a.farm.targets.note(a.gate, c.Response.Source)
		}
		if c.Response.Status == 503 && c.Response.RetryAfter > 0 {
			a.retryAfter = min(c.Response.RetryAfter, maxRetryAfter)
		}
	case profile.RequestFailed:
		// A name that does not resolve or a request that fits nowhere says
		// nothing about the target.
		a.heard, a.dark = false, c.Failure == messages.ReasonTimeout || c.Failure == messages.ReasonTransport
	}
}

// maxRetryAfter caps what one 503 can ask of a whole farm (ERR-07).
const maxRetryAfter = time.Hour

// chainEnded gives the slot back and forgets what belonged to the chain.
func (a *profileActor) chainEnded() {
	if a.slot || a.heard || a.dark {
		a.farm.turnstile(a.gate).release(a.id, a.heard, a.dark, a.retryAfter)
	}
	a.slot, a.heard, a.dark, a.retryAfter, a.paused = false, false, false, 0, false
	a.dropQuestion()
	a.mutations, a.proofs = nil, nil
	if a.fetched != nil {
		a.fetched(nil, ErrBusy)
		a.fetched = nil
	}
}

// answerOnPanic answers the order in hand before the panic goes on to the
// supervisor: the library would leave the caller waiting.
func (a *profileActor) answerOnPanic() {
	reason := recover()
	if reason == nil {
		return
	}
	err, ok := reason.(error)
	if !ok {
		err = errors.New(describePanic(reason))
	}
	err = fmt.Errorf("profile failed: %w", err)
	if a.replying != nil {
		a.replying.fail(err)
	}
	if a.fetched != nil {
		a.fetched(nil, err)
	}
	panic(reason)
}

// describePanic is what may be said of a panic: the text of an error of ours,
// which holds no secret, else the type only.
func describePanic(reason any) string {
	if err, ok := reason.(error); ok {
		return err.Error()
	}
	return fmt.Sprintf("panic of type %T", reason)
}

func stream(id string) string { return "p/" + id }

// loadProfile folds a profile's stream.
func loadProfile(j Journal, id string) (profile.State, uint64, error) {
	return load(j, stream(id), profile.Unmarshal, applyToProfile)
}

// applyToProfile is false for an event of an unknown type.
func applyToProfile(s profile.State, e *messages.Envelope) (profile.State, bool) {
	if e.GetProfile().TypeName() == "" {
		return s, false
	}
	return profile.Apply(s, e.GetProfile()), true
}
