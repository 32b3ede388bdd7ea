// Package wording has the English of events: what profiles and sessions say
// alike. It shows no nonce and no secret; what a peer or an operator wrote is
// shortened and stripped of control characters.
package wording

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

// Cut bounds a line.
func Cut(line string) string {
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine-len("…")], "") + "…"
	}
	return line
}

// Supplied names the headers that changed, and never a value.
func Supplied(c *messages.CredentialsSupplied) string {
	line := fmt.Sprintf("Attempt %d: handler %s answered after %s", c.GetAttempt(), Quoted(c.GetHandler()),
		time.Duration(c.GetElapsedMs())*time.Millisecond)
	if len(c.GetHeaders()) > 0 {
		line += " with " + Clean(strings.Join(c.GetHeaders(), ", "))
	}
	for _, u := range c.GetUnanswered() {
		line += fmt.Sprintf("; realm %s of %s is not answered", Quoted(u.GetRealm()), Asker(u.GetSpace()))
	}
	if c.GetContinues() {
		line += "; another challenge is expected"
	}
	return line + "."
}

// Declined tells that the next handler is asked.
func Declined(c *messages.CredentialsDeclined) string {
	return fmt.Sprintf("Attempt %d: handler %s declined (%s%s); %s is asked.",
		c.GetAttempt(), Quoted(c.GetHandler()), Because(c.GetReason()), saying(c.GetDetail()), Quoted(c.GetNext()))
}

// Refused tells that a request did not leave.
func Refused(c *messages.CredentialsRefused) string {
	return fmt.Sprintf("Attempt %d: handler %s gave no answer (%s%s); the request was not sent.",
		c.GetAttempt(), Quoted(c.GetHandler()), Because(c.GetReason()), saying(c.GetDetail()))
}

// saying adds the handler's own word.
func saying(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + Quoted(detail)
}

// Challenged tells what a 401 or 407 asks for.
func Challenged(e *messages.ChallengeReceived) string {
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
	line := Asker(c.GetSpace()) + " asks "
	parsed, err := challenge.Parse(c.GetRaw())
	switch {
	case err != nil:
		line += "something malformed"
	case parsed.IsDigest():
		line += fmt.Sprintf("for realm %s, Digest %s", Quoted(parsed.Realm()), Clean(challenge.CanonicalAlgorithm(parsed.Algorithm())))
	default:
		line += fmt.Sprintf("for realm %s, %s", Quoted(parsed.Realm()), Clean(parsed.Scheme))
	}
	if err == nil && parsed.Stale() {
		line += ", stale: only the nonce was too old"
	}
	if c.GetIgnored() != "" {
		line += ", ignored: " + Because(c.GetIgnored())
	}
	return line
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
	messages.ReasonHangup:               "our side hung up",
	messages.ReasonHangupAfter:          "it lasted as long as it was meant to",
	messages.ReasonRemoteHangup:         "the peer hung up",
	messages.ReasonDeclined:             "it was declined",
	messages.ReasonPeerBusy:             "the peer is busy",
	messages.ReasonNoAnswer:             "nobody answered",
	messages.ReasonNotAdmitted:          "the registrar's pace or limit left no room in time",
	messages.ReasonSessionExpired:       "nobody refreshed the session",
	messages.ReasonRefreshFailed:        "the session could not be refreshed",
	messages.ReasonDialogGone:           "the peer does not know the dialog any more",
	messages.ReasonNoACK:                "our answer was never acknowledged",
	messages.ReasonNoContact:            "the peer named no contact",
	messages.ReasonGlare:                "both sides asked at once",
	messages.ReasonUntrusted:            "credentials must not go to where the challenge came from",
}

// Because explains a reason; one that is not ours is shown as it is.
func Because(reason string) string {
	if words, ok := reasons[messages.Reason(reason)]; ok {
		return words
	}
	return "reason " + Quoted(reason)
}

// With names the status of the response, if one came.
func With(status uint32) string {
	if status == 0 {
		return ""
	}
	return fmt.Sprintf(" with %d", status)
}

// Stamp writes milliseconds since the epoch as RFC 3339.
func Stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// Asker names the challenger of a space.
func Asker(s messages.Space) string {
	if s == messages.Space_PROXY {
		return "a proxy"
	}
	return "the registrar"
}

// Quoted puts a text from outside in quotes.
func Quoted(s string) string { return `"` + Clean(s) + `"` }

// Clean keeps what can be printed on one line, and not too much of it.
func Clean(s string) string {
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
