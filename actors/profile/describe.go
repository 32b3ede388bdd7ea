package profile

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Bounds of a description, so that a page of history stays readable whatever a
// peer has sent.
const (
	maxLine   = 1000 // bytes
	maxQuoted = 64   // characters of one text from outside
)

// Describe tells an event in one English line, for an operator who asks why a
// profile is not registered. It shows no nonce and no secret; what a peer or
// an operator wrote is shortened and stripped of control characters.
func Describe(e *messages.ProfileEvent) string {
	line := describe(e)
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine-len("…")], "") + "…"
	}
	return line
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
		if reason := clean(b.Forgotten.GetReason()); reason != "" {
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
		return fmt.Sprintf("Call-ID %s begins.", quoted(b.CallIdChosen.GetCallId()))
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
		return describeChallenge(b.ChallengeReceived)
	case *messages.ProfileEvent_CredentialsSupplied:
		c := b.CredentialsSupplied
		return describeSupplied(c)
	case *messages.ProfileEvent_CredentialsDeclined:
		c := b.CredentialsDeclined
		return fmt.Sprintf("Attempt %d: handler %s declined (%s%s); %s is asked.",
			c.GetAttempt(), quoted(c.GetHandler()), because(c.GetReason()), saying(c.GetDetail()), quoted(c.GetNext()))
	case *messages.ProfileEvent_CredentialsRefused:
		c := b.CredentialsRefused
		return fmt.Sprintf("Attempt %d: handler %s gave no answer (%s%s); the request was not sent.",
			c.GetAttempt(), quoted(c.GetHandler()), because(c.GetReason()), saying(c.GetDetail()))
	case *messages.ProfileEvent_BindingGranted:
		return describeGranted(b.BindingGranted)
	case *messages.ProfileEvent_BindingRemoved:
		return fmt.Sprintf("Attempt %d: the registrar removed the binding (%d).", b.BindingRemoved.GetAttempt(), b.BindingRemoved.GetStatus())
	case *messages.ProfileEvent_BindingsFetched:
		return fmt.Sprintf("Attempt %d: the registrar lists %d contacts.", b.BindingsFetched.GetAttempt(), b.BindingsFetched.GetContacts())
	case *messages.ProfileEvent_AttemptFailed:
		f := b.AttemptFailed
		return fmt.Sprintf("Attempt %d failed%s: %s; %s.", f.GetAttempt(), with(f.GetStatus()), because(f.GetReason()), next(f.GetRetryAtMs()))
	case *messages.ProfileEvent_AttemptInterrupted:
		i := b.AttemptInterrupted
		return fmt.Sprintf("Attempt %d was interrupted by a restart; %s.", i.GetAttempt(), next(i.GetRetryAtMs()))
	case *messages.ProfileEvent_Halted:
		h := b.Halted
		return fmt.Sprintf("Attempt %d was rejected%s: %s; %s.", h.GetAttempt(), with(h.GetStatus()), because(h.GetReason()), next(h.GetRetryAtMs()))
	case *messages.ProfileEvent_IntervalRaised:
		i := b.IntervalRaised
		return fmt.Sprintf("Attempt %d: 423, the registrar demands at least %d seconds; asked again with that.", i.GetAttempt(), i.GetMinExpiresSeconds())
	case *messages.ProfileEvent_Redirected:
		r := b.Redirected
		return fmt.Sprintf("Attempt %d was redirected with %d to %s.", r.GetAttempt(), r.GetStatus(), quoted(r.GetTarget()))
	case *messages.ProfileEvent_RequestAdapted:
		a := b.RequestAdapted
		return fmt.Sprintf("Attempt %d: %d, the registrar does not know option %s; asked again without.",
			a.GetAttempt(), a.GetStatus(), quoted(strings.Join(a.GetDropped(), ", ")))
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
		line += fmt.Sprintf("%srealm %s of %s (use %d of its nonce)", sep, quoted(a.GetRealm()), asker(a.GetSpace()), a.GetCount())
	}
	if e.GetHandler() != "" {
		line += " by handler " + quoted(e.GetHandler())
	}
	return line + "."
}

// describeSupplied names the headers that changed, and never a value.
func describeSupplied(c *messages.CredentialsSupplied) string {
	line := fmt.Sprintf("Attempt %d: handler %s answered after %s", c.GetAttempt(), quoted(c.GetHandler()),
		time.Duration(c.GetElapsedMs())*time.Millisecond)
	if len(c.GetHeaders()) > 0 {
		line += " with " + clean(strings.Join(c.GetHeaders(), ", "))
	}
	for _, u := range c.GetUnanswered() {
		line += fmt.Sprintf("; realm %s of %s is not answered", quoted(u.GetRealm()), asker(u.GetSpace()))
	}
	if c.GetContinues() {
		line += "; another challenge is expected"
	}
	return line + "."
}

// saying adds the handler's own word.
func saying(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + quoted(detail)
}

func chosen(handler string) string {
	if handler == "" {
		return "the registrar's handler"
	}
	return quoted(handler)
}

func describeChallenge(e *messages.ChallengeReceived) string {
	line := fmt.Sprintf("Attempt %d was challenged with %d", e.GetAttempt(), e.GetStatus())
	if len(e.GetChallenges()) == 0 {
		return line + ", without a challenge in it."
	}
	for i, c := range e.GetChallenges() {
		sep := ": "
		if i > 0 {
			sep = "; "
		}
		line += sep + describeOne(c)
	}
	return line + "."
}

// describeOne names whose challenge it is, with realm and algorithm, and what
// is odd about it.
func describeOne(c *messages.RecordedChallenge) string {
	line := asker(c.GetSpace()) + " asks "
	parsed, err := challenge.Parse(c.GetRaw())
	switch {
	case err != nil:
		line += "something malformed"
	case parsed.IsDigest():
		line += fmt.Sprintf("for realm %s, Digest %s", quoted(parsed.Realm()), clean(challenge.CanonicalAlgorithm(parsed.Algorithm())))
	default:
		line += fmt.Sprintf("for realm %s, %s", quoted(parsed.Realm()), clean(parsed.Scheme))
	}
	if err == nil && parsed.Stale() {
		line += ", stale: only the nonce was too old"
	}
	if c.GetIgnored() != "" {
		line += ", ignored: " + because(c.GetIgnored())
	}
	return line
}

func describeGranted(e *messages.BindingGranted) string {
	line := fmt.Sprintf("Attempt %d: registered (%d) for %d seconds until %s, refresh at %s", e.GetAttempt(), e.GetStatus(),
		e.GetGrantedSeconds(), stamp(e.GetUntilMs()), stamp(e.GetRefreshAtMs()))
	switch e.GetProof() {
	case "":
	case "verified":
		line += "; the registrar proved that it knows the secret"
	default:
		line += "; the registrar's proof that it knows the secret was wrong"
	}
	return line + "."
}

// reasons are the words for what an event's reason says.
var reasons = map[messages.Reason]string{
	messages.ReasonTimeout:              "no final response in time",
	messages.ReasonTransport:            "the request could not be sent or the connection broke",
	messages.ReasonGuard:                "nothing at all was reported about the request",
	messages.ReasonResolve:              "the target's name has no usable address",
	messages.ReasonTooLarge:             "the request fits no transport",
	messages.ReasonRejectedCredentials:  "the registrar refuses the user name or the secret",
	messages.ReasonAllowance:            "it was challenged again and again, more often than is answered",
	messages.ReasonChallengeMissing:     "it asks for credentials without naming a challenge",
	messages.ReasonChallengeUnsupported: "no challenge that can be answered here",
	messages.ReasonRealm:                "the realm is not the one this profile answers",
	messages.ReasonDowngrade:            "weaker algorithms than this realm asked for before",
	messages.ReasonNoCredentials:        "the profile has no secret for this challenge",
	messages.ReasonHA1Mismatch:          "the stored HA1 is for another realm or algorithm",
	messages.ReasonHandler:              "the handler did not answer in time or is gone",
	messages.ReasonHandlerRefused:       "the handler refused",
	messages.ReasonMutation:             "the handler's answer cannot be used",
	messages.ReasonBindingMissing:       "it was accepted, but our contact is not registered",
	messages.ReasonProof:                "the registrar did not prove that it knows the secret",
	messages.ReasonForbidden:            "the registrar forbids it",
	messages.ReasonConfiguration:        "the registrar will never accept this request: look at the configuration",
	messages.ReasonInterval:             "the registrar demands another expiry than can be asked for",
	messages.ReasonRedirect:             "it was redirected to where it must not go",
	messages.ReasonBusy:                 "not now",
	messages.ReasonServer:               "the registrar has a fault",
	messages.ReasonUnavailable:          "the registrar is unavailable",
	messages.ReasonRequest:              "the registrar does not accept the request",
	messages.ReasonInterrupted:          "it was called off meanwhile",
}

// because explains a reason; one that is not ours is shown as it is.
func because(reason string) string {
	if words, ok := reasons[messages.Reason(reason)]; ok {
		return words
	}
	return "reason " + quoted(reason)
}

// with names the status of the response, if one came.
func with(status uint32) string {
	if status == 0 {
		return ""
	}
	return fmt.Sprintf(" with %d", status)
}

func next(retryAtMS int64) string {
	if retryAtMS == 0 {
		return "not tried again by itself"
	}
	return "next try at " + stamp(retryAtMS)
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

func asker(s messages.Space) string {
	if s == messages.Space_PROXY {
		return "a proxy"
	}
	return "the registrar"
}

func source(name string) string {
	switch name {
	case "file":
		return "a file"
	case "api":
		return "the API"
	}
	return quoted(name)
}

func declared(s *messages.ProfileSpec) string {
	line := fmt.Sprintf("%s at registrar %s", quoted(s.GetAor()), quoted(s.GetRegistrar()))
	if s.GetUsername() != "" {
		line += ", user name " + quoted(s.GetUsername())
	}
	if s.GetExpiresSeconds() > 0 {
		line += fmt.Sprintf(", for %d seconds", s.GetExpiresSeconds())
	}
	if !s.GetRegister() {
		line += ", not to be registered"
	}
	return line + ", challenges answered by " + chosen(s.GetRegistrationHandler())
}

func quoted(s string) string { return `"` + clean(s) + `"` }

// clean keeps what can be printed on one line, and not too much of it.
func clean(s string) string {
	var out strings.Builder
	n := 0
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			continue
		}
		if n++; n > maxQuoted {
			return out.String() + "…"
		}
		out.WriteRune(r)
	}
	return out.String()
}
