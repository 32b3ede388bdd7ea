package profile

import (
	"fmt"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Apply folds one event into the state. It is total and silent: no validation,
// no clock, no policy. An event without a known type panics; the codec has
// refused it before.
func Apply(s State, event *messages.ProfileEvent) State {
	ApplyTo(&s, event)
	return s
}

// ApplyTo is Apply in place.
func ApplyTo(s *State, event *messages.ProfileEvent) { s.apply(event, false) }

// apply is ApplyTo: the state is large, and one decision folds several
// events. own tells that nobody else has what the state knows of challenges.
func (s *State) apply(event *messages.ProfileEvent, own bool) {
	switch e := event.GetEvent().(type) {
	case *messages.ProfileEvent_CallIdChosen:
		s.CallID, s.FromTag, s.CSeq = e.CallIdChosen.GetCallId(), e.CallIdChosen.GetFromTag(), 0
		s.Attempt.Renamed = s.Attempt.Open
		s.Challenge = s.Challenge.Moved()
	case *messages.ProfileEvent_AttemptStarted:
		s.attemptStarted(e.AttemptStarted, own)
	case *messages.ProfileEvent_ChallengeReceived:
		s.challenged(e.ChallengeReceived, s.Challenge.Learned(e.ChallengeReceived.GetChallenges()))
	case *messages.ProfileEvent_BindingGranted:
		s.granted(e.BindingGranted)
	default:
		s.applyOther(event)
	}
}

// applyOther folds the events that a registration does not have every time. It
// stands apart because it needs much of the stack.
func (s *State) applyOther(event *messages.ProfileEvent) {
	switch e := event.GetEvent().(type) {
	case *messages.ProfileEvent_Added:
		*s = added(e.Added)
	case *messages.ProfileEvent_Changed:
		s.changed(e.Changed)
	case *messages.ProfileEvent_Enabled:
		s.Disabled = false
		s.wake()
	case *messages.ProfileEvent_Disabled:
		s.Disabled, s.RefreshWanted, s.NextAt, s.Failures = true, false, time.Time{}, 0
	case *messages.ProfileEvent_Removed:
		s.Removing, s.RefreshWanted, s.NextAt, s.Failures = true, false, time.Time{}, 0
		s.Halted = false // what was halted is not the withdrawal
		if !e.Removed.GetByOperator() {
			s.Source, s.Row = "", ""
		}
	case *messages.ProfileEvent_Forgotten:
		if s.Gone || s.Source == "" {
			*s = State{Gone: true}
			return
		}
		*s = State{Gone: true, Source: s.Source, Row: s.Row}
	case *messages.ProfileEvent_CredentialsReplaced:
		s.wake()
		s.Proven, s.Unproven = false, 0
		s.Challenge = s.Challenge.Replaced()
	case *messages.ProfileEvent_RefreshRequested:
		s.RefreshWanted, s.Failures = true, 0
	case *messages.ProfileEvent_SecuritySet:
		set := e.SecuritySet
		if set.GetRegistrationHandler() != s.Spec.RegistrationHandler && (s.Halted || s.unanswered()) {
			s.wake() // whoever answers next may know better
		}
		s.Spec.RegistrationHandler, s.Spec.SessionHandler = set.GetRegistrationHandler(), set.GetSessionHandler()
	case *messages.ProfileEvent_CredentialsSupplied:
		s.supplied(e.CredentialsSupplied)
	case *messages.ProfileEvent_CredentialsDeclined:
		s.Attempt.Handler, s.Attempt.AnswerBy = e.CredentialsDeclined.GetNext(), messages.FromMS(e.CredentialsDeclined.GetAnswerByMs())
	case *messages.ProfileEvent_CredentialsRefused:
		// The request never left: its CSeq was not spent (REG-05), and it was no
		// guess. Its nonce counts are left as a gap.
		s.CSeq--
		s.Unproven -= min(s.Unproven, 1)
		s.Attempt.AnswerBy = time.Time{}
		if s.EarlyHandler == e.CredentialsRefused.GetHandler() && messages.Reason(e.CredentialsRefused.GetReason()) == messages.ReasonHandlerRefused {
			s.EarlyHandler = ""
		}
	case *messages.ProfileEvent_BindingRemoved:
		s.close(e.BindingRemoved.GetStatus(), "")
		s.accepted()
		s.Binding = Binding{}
		s.Failures = 0
		if !s.Halted { // else what was halted keeps its time
			s.NextAt = time.Time{}
		}
	case *messages.ProfileEvent_BindingLapsed:
		maybe := s.Binding.MaybeUntil
		s.Binding = Binding{}
		if e.BindingLapsed.GetInDoubt() {
			s.Binding.MaybeUntil = maybe
		}
	case *messages.ProfileEvent_BindingsFetched:
		s.close(200, s.Reason)
		s.accepted()
	case *messages.ProfileEvent_AttemptFailed:
		s.failed(e.AttemptFailed)
	case *messages.ProfileEvent_AttemptInterrupted:
		s.interrupted(e.AttemptInterrupted)
	case *messages.ProfileEvent_Halted:
		s.halted(e.Halted)
	case *messages.ProfileEvent_IntervalRaised:
		s.MinSeconds = e.IntervalRaised.GetMinExpiresSeconds()
		s.Attempt.Intervals++
	case *messages.ProfileEvent_Redirected:
		s.LastStatus = e.Redirected.GetStatus()
		s.Attempt.Targets = append(slices.Clip(s.Attempt.Targets), e.Redirected.GetTarget())
	case *messages.ProfileEvent_RequestAdapted:
		s.LastStatus = e.RequestAdapted.GetStatus()
		s.Dropped = e.RequestAdapted.GetDropped()
		s.Attempt.Adapted = true
	default:
		panic(fmt.Sprintf("profile: apply: unknown event %T", event.GetEvent()))
	}
}

func added(e *messages.ProfileAdded) State {
	// What is left of an earlier life is its row only: nothing of a forgotten
	// profile is reused.
	return State{
		Spec: specFrom(e.GetSpec()), Disabled: !e.GetEnabled(),
		Source: e.GetSource(), Row: e.GetRow(),
	}
}

func (s *State) changed(e *messages.ProfileChanged) {
	spec := specFrom(e.GetSpec())
	// Another AOR or registrar is another binding. decideDeclare has made sure
	// that the old one is gone, so nothing that describes it is kept.
	if spec.AOR != s.Spec.AOR || spec.Registrar != s.Spec.Registrar {
		s.CallID, s.FromTag, s.CSeq = "", "", 0
		s.Challenge.Realms, s.Dropped, s.MinSeconds = nil, nil, 0
		s.Proven, s.Unproven = false, 0
	}
	if spec.Username != s.Spec.Username {
		s.Challenge, s.Proven = s.Challenge.Forgotten(), false
	}
	// Who answers next time does not touch the binding.
	quiet := spec
	quiet.RegistrationHandler, quiet.SessionHandler = s.Spec.RegistrationHandler, s.Spec.SessionHandler
	if quiet != s.Spec || s.Halted || spec.RegistrationHandler != s.Spec.RegistrationHandler && s.unanswered() {
		s.wake()
		// The request that is out knows nothing of it.
		s.RefreshWanted = s.RefreshWanted || s.Attempt.Open
	}
	s.Spec, s.Source, s.Row = spec, e.GetSource(), e.GetRow()
}

// unanswered tells whether the profile waits because its handler gave no answer.
func (s *State) unanswered() bool {
	switch s.Reason {
	case messages.ReasonHandler, messages.ReasonHandlerRefused, messages.ReasonMutation:
		return !s.Attempt.Open && s.Failures > 0
	}
	return false
}

// wake makes an attempt due at once.
func (s *State) wake() {
	s.Halted, s.Halts, s.Failures, s.NextAt, s.Reason = false, 0, 0, time.Time{}, ""
}

func (s *State) attemptStarted(e *messages.AttemptStarted, own bool) {
	a := &s.Attempt
	if a.Open {
		s.Challenge = s.Challenge.Passed(a.Answers, e.GetRound() == a.Round)
		if own {
			s.Challenge.Spend(e.GetAnswers())
		} else {
			s.Challenge = s.Challenge.Spent(e.GetAnswers())
		}
	} else { // a new chain
		*a = Attempt{Purpose: e.GetPurpose()}
		s.Challenge = s.Challenge.Begun(e.GetAnswers())
	}
	if a.Purpose == messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER {
		s.RefreshWanted = false // this is it
	}
	a.Number, a.Open, a.Round = e.GetAttempt(), true, e.GetRound()
	a.ExpiresSeconds, a.Answers, a.Handler = e.GetExpiresSeconds(), e.GetAnswers(), e.GetHandler()
	a.GuardAt, a.AnswerBy, a.Continues = messages.FromMS(e.GetGuardAtMs()), messages.FromMS(e.GetAnswerByMs()), false
	s.CSeq = e.GetCseq()
	if len(e.GetAnswers()) > 0 {
		s.Unproven++
	}
}

func (s *State) challenged(e *messages.ChallengeReceived, learned challenge.State) {
	s.LastStatus = e.GetStatus()
	s.Challenge = learned
}

// supplied: the request is about to leave with credentials.
func (s *State) supplied(e *messages.CredentialsSupplied) {
	a := &s.Attempt
	a.AnswerBy, a.Continues = time.Time{}, e.GetContinues()
	if unanswered := e.GetUnanswered(); len(unanswered) > 0 {
		a.Answers = slices.DeleteFunc(slices.Clone(a.Answers), func(c *messages.NonceCount) bool { return holds(unanswered, c) })
		s.Challenge = s.Challenge.Withheld(unanswered)
	}
	if e.GetPreemptive() {
		s.EarlyHandler = e.GetHandler()
	} else if s.EarlyHandler == e.GetHandler() {
		s.EarlyHandler = ""
	}
}

func holds(list []*messages.NonceCount, c *messages.NonceCount) bool {
	return slices.ContainsFunc(list, func(u *messages.NonceCount) bool {
		return u.GetSpace() == c.GetSpace() && u.GetRealm() == c.GetRealm()
	})
}

// close ends the attempt.
func (s *State) close(status uint32, reason messages.Reason) {
	s.Attempt.Open, s.Attempt.AnswerBy = false, time.Time{}
	s.LastStatus, s.Reason = status, reason
}

// accepted: a 2xx came to the attempt's request.
func (s *State) accepted() {
	if len(s.Attempt.Answers) > 0 {
		s.Proven, s.Unproven = true, 0
		s.Challenge = s.Challenge.Accepted(s.Attempt.Answers)
	}
}

func (s *State) granted(e *messages.BindingGranted) {
	s.close(e.GetStatus(), "")
	s.accepted()
	s.Binding = Binding{
		Until:        messages.FromMS(e.GetUntilMs()),
		Granted:      time.Duration(e.GetGrantedSeconds()) * time.Second,
		ServiceRoute: e.GetServiceRoute(),
	}
	s.NextAt = messages.FromMS(e.GetRefreshAtMs())
	s.Failures, s.Halts, s.Halted = 0, 0, false
	s.Unproven = 0
	s.Challenge = s.Challenge.Renonced(e.GetNextNonces())
	if !s.Wanted() {
		s.NextAt = time.Time{} // withdrawn while the request was out
	}
}

func (s *State) failed(e *messages.AttemptFailed) {
	switch messages.Reason(e.GetReason()) {
	case messages.ReasonTimeout, messages.ReasonTransport, messages.ReasonGuard, messages.ReasonProof:
		s.doubt()
	}
	fetch := s.Attempt.Purpose == messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH
	s.Attempt.Open, s.Attempt.AnswerBy = false, time.Time{}
	if fetch { // a question that failed says nothing about the registration
		return
	}
	s.close(e.GetStatus(), messages.Reason(e.GetReason()))
	s.Halted = false // there is a next try, and not in a long time
	s.NextAt = messages.FromMS(e.GetRetryAtMs())
	if s.Attempt.Purpose != messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER || s.Wanted() {
		s.Failures++ // of what is tried again
	}
	switch s.Reason {
	case messages.ReasonAllowance:
		s.Challenge = s.Challenge.Forgotten()
	case messages.ReasonBindingMissing: // REG-13
		s.Binding = Binding{}
	}
}

func (s *State) interrupted(e *messages.AttemptInterrupted) {
	s.doubt()
	fetch := s.Attempt.Purpose == messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH
	s.Attempt.Open, s.Attempt.AnswerBy = false, time.Time{}
	if !fetch {
		s.NextAt = messages.FromMS(e.GetRetryAtMs())
	}
}

func (s *State) halted(e *messages.ProfileHalted) {
	s.close(e.GetStatus(), messages.Reason(e.GetReason()))
	s.Halted = true
	s.Halts++
	s.NextAt = messages.FromMS(e.GetRetryAtMs())
	// The next try begins without credentials: a nonce that was refused is
	// never answered again (CHA-10).
	s.Challenge = s.Challenge.Forgotten()
}

// doubt remembers that the registrar may hold a binding: the request left and
// nothing came back that can be believed.
func (s *State) doubt() {
	left := s.Attempt.AnswerBy.IsZero() // what waits for an xSP has not left
	if s.Attempt.Open && left && s.Attempt.Purpose == messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER {
		until := s.Attempt.GuardAt.Add(time.Duration(s.Attempt.ExpiresSeconds) * time.Second)
		s.Binding.MaybeUntil = later(s.Binding.MaybeUntil, until)
	}
}

func specFrom(p *messages.ProfileSpec) Spec {
	return Spec{
		AOR: p.GetAor(), Registrar: p.GetRegistrar(), Username: p.GetUsername(),
		ContactUser: p.GetContactUser(), Expires: time.Duration(p.GetExpiresSeconds()) * time.Second,
		RegistrationHandler: p.GetRegistrationHandler(), SessionHandler: p.GetSessionHandler(),
		Register: p.GetRegister(),
	}
}

func (sp *Spec) proto() *messages.ProfileSpec {
	p := new(messages.ProfileSpec)
	sp.fill(p)
	return p
}

func (sp *Spec) fill(p *messages.ProfileSpec) {
	p.Aor, p.Registrar, p.Username, p.ContactUser = sp.AOR, sp.Registrar, sp.Username, sp.ContactUser
	p.ExpiresSeconds = uint32(sp.Expires / time.Second)
	p.RegistrationHandler, p.SessionHandler = sp.RegistrationHandler, sp.SessionHandler
	p.Register = sp.Register
}
