package profile

import (
	"fmt"
	"strings"

	"github.com/sipmuster/muster/actors/wording"
	"github.com/sipmuster/muster/messages"
)

// Describe tells an event in one English line, for an operator who asks why a
// profile is not registered. It shows no nonce and no secret; what a peer or
// an operator wrote is shortened and stripped of control characters.
func Describe(e *messages.ProfileEvent) string {
	return wording.Cut(describe(e))
}

func describe(e *messages.ProfileEvent) string {
	switch b := e.GetEvent().(type) {
	case *messages.ProfileEvent_Added:
		state := "enabled"
		if !b.Added.GetEnabled() {
			state = "disabled"
		}
		return fmt.Sprintf("Declared by %s, %s: %s.", source(b.Added.GetSource()), state, declared(b.Added.GetSpec()))
	case *messages.ProfileEvent_Changed:
		return fmt.Sprintf("Declaration changed by %s: %s.", source(b.Changed.GetSource()), declared(b.Changed.GetSpec()))
	case *messages.ProfileEvent_Enabled:
		return "Enabled."
	case *messages.ProfileEvent_Disabled:
		return "Disabled; a binding that the registrar may hold is withdrawn."
	case *messages.ProfileEvent_Removed:
		if b.Removed.GetByOperator() {
			return "Removed by an operator; a binding that the registrar may hold is withdrawn first."
		}
		return "Removed; a binding that the registrar may hold is withdrawn first."
	case *messages.ProfileEvent_Forgotten:
		if reason := wording.Clean(b.Forgotten.GetReason()); reason != "" {
			return "Forgotten: " + reason + "."
		}
		return "Forgotten."
	case *messages.ProfileEvent_CredentialsReplaced:
		return "The secret was replaced; the next request uses it."
	case *messages.ProfileEvent_RefreshRequested:
		return "An operator asked for an attempt now."
	case *messages.ProfileEvent_SecuritySet:
		return fmt.Sprintf("An operator chose who answers challenges from the next attempt on: %s for registrations, %s for sessions.",
			chosen(b.SecuritySet.GetRegistrationHandler()), chosen(b.SecuritySet.GetSessionHandler()))
	case *messages.ProfileEvent_CallIdChosen:
		return fmt.Sprintf("Call-ID %s begins.", wording.Quoted(b.CallIdChosen.GetCallId()))
	case *messages.ProfileEvent_BindingLapsed:
		if b.BindingLapsed.GetInDoubt() {
			return "The binding ran out: no refresh was answered in time, though one may have been heard."
		}
		return "The binding ran out: no refresh came through in time."
	}
	return describeAttempt(e)
}

// describeAttempt tells the events that belong to an attempt.
func describeAttempt(e *messages.ProfileEvent) string {
	switch b := e.GetEvent().(type) {
	case *messages.ProfileEvent_AttemptStarted:
		return describeStarted(b.AttemptStarted)
	case *messages.ProfileEvent_ChallengeReceived:
		return wording.Challenged(b.ChallengeReceived)
	case *messages.ProfileEvent_CredentialsSupplied:
		return wording.Supplied(b.CredentialsSupplied)
	case *messages.ProfileEvent_CredentialsDeclined:
		return wording.Declined(b.CredentialsDeclined)
	case *messages.ProfileEvent_CredentialsRefused:
		return wording.Refused(b.CredentialsRefused)
	case *messages.ProfileEvent_BindingGranted:
		return describeGranted(b.BindingGranted)
	case *messages.ProfileEvent_BindingRemoved:
		return fmt.Sprintf("Attempt %d: the registrar removed the binding (%d).", b.BindingRemoved.GetAttempt(), b.BindingRemoved.GetStatus())
	case *messages.ProfileEvent_BindingsFetched:
		return fmt.Sprintf("Attempt %d: the registrar lists %d contacts.", b.BindingsFetched.GetAttempt(), b.BindingsFetched.GetContacts())
	case *messages.ProfileEvent_AttemptFailed:
		f := b.AttemptFailed
		return fmt.Sprintf("Attempt %d failed%s: %s; %s.", f.GetAttempt(), wording.With(f.GetStatus()), wording.Because(f.GetReason()), next(f.GetRetryAtMs()))
	case *messages.ProfileEvent_AttemptInterrupted:
		i := b.AttemptInterrupted
		return fmt.Sprintf("Attempt %d was interrupted by a restart; %s.", i.GetAttempt(), next(i.GetRetryAtMs()))
	case *messages.ProfileEvent_Halted:
		h := b.Halted
		return fmt.Sprintf("Attempt %d was rejected%s: %s; %s.", h.GetAttempt(), wording.With(h.GetStatus()), wording.Because(h.GetReason()), next(h.GetRetryAtMs()))
	case *messages.ProfileEvent_IntervalRaised:
		i := b.IntervalRaised
		return fmt.Sprintf("Attempt %d: 423, the registrar demands at least %d seconds; asked again with that.", i.GetAttempt(), i.GetMinExpiresSeconds())
	case *messages.ProfileEvent_Redirected:
		r := b.Redirected
		return fmt.Sprintf("Attempt %d was redirected with %d to %s.", r.GetAttempt(), r.GetStatus(), wording.Quoted(r.GetTarget()))
	case *messages.ProfileEvent_RequestAdapted:
		a := b.RequestAdapted
		return fmt.Sprintf("Attempt %d: %d, the registrar does not know option %s; asked again without.",
			a.GetAttempt(), a.GetStatus(), wording.Quoted(strings.Join(a.GetDropped(), ", ")))
	}
	return "An event of a type that this release does not know."
}

func describeStarted(e *messages.AttemptStarted) string {
	what := "registers"
	switch e.GetPurpose() {
	case messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER:
		what = fmt.Sprintf("registers for %d seconds", e.GetExpiresSeconds())
	case messages.AttemptPurpose_ATTEMPT_PURPOSE_UNREGISTER:
		what = "removes the binding"
	case messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH:
		what = "asks for all bindings"
	}
	line := fmt.Sprintf("Attempt %d %s, CSeq %d", e.GetAttempt(), what, e.GetCseq())
	for i, a := range e.GetAnswers() {
		sep := ", answering "
		if i > 0 {
			sep = " and "
		}
		line += fmt.Sprintf("%srealm %s of %s (use %d of its nonce)", sep, wording.Quoted(a.GetRealm()), wording.Asker(a.GetSpace()), a.GetCount())
	}
	if e.GetHandler() != "" {
		line += " by handler " + wording.Quoted(e.GetHandler())
	}
	return line + "."
}

func chosen(handler string) string {
	if handler == "" {
		return "the registrar's handler"
	}
	return wording.Quoted(handler)
}

func describeGranted(e *messages.BindingGranted) string {
	line := fmt.Sprintf("Attempt %d: registered (%d) for %d seconds until %s, refresh at %s", e.GetAttempt(), e.GetStatus(),
		e.GetGrantedSeconds(), wording.Stamp(e.GetUntilMs()), wording.Stamp(e.GetRefreshAtMs()))
	switch e.GetProof() {
	case "":
	case "verified":
		line += "; the registrar proved that it knows the secret"
	default:
		line += "; the registrar's proof that it knows the secret was wrong"
	}
	return line + "."
}

func next(retryAtMS int64) string {
	if retryAtMS == 0 {
		return "not tried again by itself"
	}
	return "next try at " + wording.Stamp(retryAtMS)
}

func source(name string) string {
	switch name {
	case "file":
		return "a file"
	case "api":
		return "the API"
	}
	return wording.Quoted(name)
}

func declared(s *messages.ProfileSpec) string {
	line := fmt.Sprintf("%s at registrar %s", wording.Quoted(s.GetAor()), wording.Quoted(s.GetRegistrar()))
	if s.GetUsername() != "" {
		line += ", user name " + wording.Quoted(s.GetUsername())
	}
	if s.GetExpiresSeconds() > 0 {
		line += fmt.Sprintf(", for %d seconds", s.GetExpiresSeconds())
	}
	if !s.GetRegister() {
		line += ", not to be registered"
	}
	return line + ", challenges answered by " + chosen(s.GetRegistrationHandler())
}
