package actors

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// How a profile's actor decides, and records what it decided.

// handle is the loop's body, up to the append.
func (a *profileActor) handle(command profile.Command) messages.Reason {
	if a.writing { // an effect of the decision before has begun to record
		a.stash = slices.Insert(a.stash, 0, any(&observed{number: a.current, command: command}))
		return ""
	}
	state := a.state()
	a.decided = a.at
	in := profile.Input{Now: a.at.UTC().Truncate(0), Jitter: rand.Float64(), Command: command}
	if state.CallID == "" || needsToken(state, command) {
		in.Token = a.farm.token()
	}
	a.decision = a.decider.Decide(&a.registrar(state.Spec.Registrar).policy, state, &in)
	dropped := a.decision.Dropped
	if dropped != "" {
		a.farm.observer.Dropped(dropped)
	}
	if len(a.decision.Events) == 0 {
		a.performAll()
		return dropped
	}
	a.writing = true
	a.farm.journal.AppendThen(a.stream, a.now.version, a.decided, a.decision.Events, a.appended)
	return dropped
}

// performAll carries out the effects of the decision. One of them may lead to
// the next decision.
func (a *profileActor) performAll() {
	for _, e := range a.decision.Effects {
		a.perform(e)
	}
}

// needsToken tells whether the decision may choose a new Call-ID, so that the
// usual one costs no randomness.
func needsToken(s *profile.State, command profile.Command) bool {
	if r, ok := command.(*profile.ResponseReceived); ok && r.Response.Status == 481 {
		return true
	}
	return s.CSeq >= 1<<31-16
}

// recorded makes durable events part of the state. An append that failed leaves
// the outcome unknown, so the actor fails too and its successor reads the journal.
func (a *profileActor) recorded() {
	if a.failure != nil {
		panic(fmt.Errorf("append: %w", a.failure))
	}
	events, at := a.decision.Events, a.decided
	for _, e := range events {
		if e.GetAttemptStarted() != nil {
			a.mutations, a.proofs = nil, nil // an answer is for one request (S-22)
		}
	}
	old, state := standingOf(a.state()), a.state()
	a.replace(&a.decision.State, a.now.version+uint64(len(events)))
	o := a.farm.observer
	o.Appended(a.at.Sub(at))
	registrar := state.Spec.Registrar
	a.farm.moved(a.registrar(registrar), old, state, a.started, events)
	for _, e := range events {
		if bound := old.bound; !bound.IsZero() {
			if e.GetBindingGranted() != nil {
				o.RefreshMargin(registrar, bound.Sub(at))
			}
			if e.GetBindingLapsed() != nil {
				a.farm.log.Warn("binding lapsed", "profile", a.id, "until", bound)
			}
		}
		if c := e.GetChallengeReceived(); c != nil && a.farm.nonces.note(registrar, a.id, c) {
			o.NonceShared(registrar)
		}
		a.logEvent(e)
	}
	if a.farm.changes.watched() {
		a.farm.changes.profile(a.id, *state, a.now.version, at, events)
	}
	a.performAll()
}

// replace makes a state the newest.
func (a *profileActor) replace(state *profile.State, version uint64) {
	if !a.farm.contacts.affected(a.state(), state) {
		a.keep(state, version)
		return
	}
	old := *a.state()
	a.keep(state, version)
	a.farm.contacts.changed(a.entry, &old, state)
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
				"call_id", a.state().CallID, "seconds", e.BindingGranted.GetGrantedSeconds())
		}
	}
}

// reload reads the state from the journal, after a failure: the journal knows
// what the failed actor may not have learned. An append that it left behind comes
// first, so that nothing is read too early.
func (a *profileActor) reload() {
	a.reloading, a.writing = true, true
	a.farm.journal.AppendThen(a.stream, 0, a.at, nil, a.appended)
}

// resume goes on after an append.
func (a *profileActor) resume() {
	if !a.reloading {
		a.recorded()
		return
	}
	a.reloading = false
	state, version, err := loadProfile(a.farm.journal, a.id)
	if err != nil {
		panic(fmt.Errorf("load profile: %w", err))
	}
	a.at = time.Now() // reading took its time
	old := standingOf(a.state())
	a.replace(&state, version)
	a.farm.moved(a.registrar(state.Spec.Registrar), old, &state, time.Time{}, nil) // the failed append may have been kept
	a.stash = slices.Insert(a.stash, 0, any(a.first))
	a.handle(profile.Recovered{})
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
