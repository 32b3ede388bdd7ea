package session

import (
	"fmt"
	"strings"

	"github.com/sipmuster/muster/actors/wording"
	"github.com/sipmuster/muster/messages"
)

// Describe tells an event in one English line, for an operator who asks what
// became of a call. It shows no nonce, no secret, no body and no header value.
func Describe(e *messages.SessionEvent) string { return wording.Cut(describe(e)) }

func describe(e *messages.SessionEvent) string {
	switch b := e.GetEvent().(type) {
	case *messages.SessionEvent_Started:
		return describeStarted(b.Started)
	case *messages.SessionEvent_Received:
		line := fmt.Sprintf("%s calls %s", wording.Quoted(b.Received.GetSpec().GetPeer()), wording.Quoted(b.Received.GetSpec().GetAor()))
		return line + bridged(b.Received.GetSpec()) + ", from " + wording.Quoted(b.Received.GetSource()) + "."
	case *messages.SessionEvent_RequestStarted:
		return describeRequest(b.RequestStarted)
	case *messages.SessionEvent_ChallengeReceived:
		return wording.Challenged(b.ChallengeReceived)
	case *messages.SessionEvent_CredentialsSupplied:
		return wording.Supplied(b.CredentialsSupplied)
	case *messages.SessionEvent_CredentialsDeclined:
		return wording.Declined(b.CredentialsDeclined)
	case *messages.SessionEvent_CredentialsRefused:
		return wording.Refused(b.CredentialsRefused)
	case *messages.SessionEvent_ProgressReceived:
		p := b.ProgressReceived
		line := fmt.Sprintf("Attempt %d: progress (%d)", p.GetAttempt(), p.GetStatus())
		if p.GetRseq() > 0 {
			line += fmt.Sprintf(", reliable, number %d", p.GetRseq())
		}
		return line + "."
	case *messages.SessionEvent_IntervalRaised:
		return fmt.Sprintf("Attempt %d: 422, the peer demands a session interval of at least %d seconds; asked again with that.",
			b.IntervalRaised.GetAttempt(), b.IntervalRaised.GetMinSe())
	case *messages.SessionEvent_ForkAnswered:
		return fmt.Sprintf("Attempt %d: another branch answered as well; it is acknowledged and ended.", b.ForkAnswered.GetAttempt())
	case *messages.SessionEvent_Redirected:
		return fmt.Sprintf("Attempt %d was redirected with %d to %s.", b.Redirected.GetAttempt(), b.Redirected.GetStatus(),
			wording.Quoted(b.Redirected.GetTarget()))
	}
	return describeDialog(e)
}

// describeDialog tells what happens once there is a dialog, and the end.
func describeDialog(e *messages.SessionEvent) string {
	switch b := e.GetEvent().(type) {
	case *messages.SessionEvent_Established:
		return describeEstablished(b.Established)
	case *messages.SessionEvent_RequestSucceeded:
		s := b.RequestSucceeded
		return fmt.Sprintf("Attempt %d succeeded (%d)%s.", s.GetAttempt(), s.GetStatus(), timed(s.GetIntervalSeconds(), s.GetRefresher()))
	case *messages.SessionEvent_RequestFailed:
		f := b.RequestFailed
		line := fmt.Sprintf("Attempt %d failed%s: %s", f.GetAttempt(), wording.With(f.GetStatus()), wording.Because(f.GetReason()))
		if f.GetRetryAtMs() != 0 {
			line += "; next try at " + wording.Stamp(f.GetRetryAtMs())
		}
		return line + "."
	case *messages.SessionEvent_OfferAnswered:
		return fmt.Sprintf("Attempt %d: the ACK that waited for our answer to the peer's offer leaves.", b.OfferAnswered.GetAttempt())
	case *messages.SessionEvent_PeerRequestReceived:
		return fmt.Sprintf("The peer sends %s, CSeq %d.", wording.Clean(b.PeerRequestReceived.GetMethod()), b.PeerRequestReceived.GetCseq())
	case *messages.SessionEvent_PeerRequestAnswered:
		a := b.PeerRequestAnswered
		return fmt.Sprintf("The peer's %s, CSeq %d, is answered with %d%s.", wording.Clean(a.GetMethod()), a.GetCseq(), a.GetStatus(),
			timed(a.GetIntervalSeconds(), a.GetRefresher()))
	case *messages.SessionEvent_Interrupted:
		return fmt.Sprintf("A restart interrupted %d requests; what became of them is unknown.", len(b.Interrupted.GetAttempts()))
	case *messages.SessionEvent_Ending:
		return "The session shall end: " + wording.Because(b.Ending.GetReason()) + "."
	case *messages.SessionEvent_Ended:
		return fmt.Sprintf("Ended%s: %s.", wording.With(b.Ended.GetStatus()), wording.Because(b.Ended.GetReason()))
	}
	return "An event of a type that this release does not know."
}

func describeStarted(e *messages.SessionStarted) string {
	s := e.GetSpec()
	line := fmt.Sprintf("%s calls %s%s, Call-ID %s", wording.Quoted(s.GetAor()), wording.Quoted(s.GetPeer()), bridged(s), wording.Quoted(e.GetCallId()))
	if len(s.GetHeaders()) > 0 {
		line += ", with header " + wording.Clean(strings.Join(s.GetHeaders(), ", "))
	}
	return line + "."
}

func bridged(s *messages.SessionSpec) string {
	if s.GetBridge() == "" {
		return ""
	}
	return fmt.Sprintf(" over trunk %s, bridged to session %s", wording.Quoted(s.GetTrunk()), wording.Quoted(s.GetBridge()))
}

func describeRequest(e *messages.RequestStarted) string {
	line := fmt.Sprintf("Attempt %d: %s, CSeq %d", e.GetAttempt(), wording.Clean(e.GetMethod()), e.GetCseq())
	switch {
	case e.GetRefresh():
		line += ", refreshes the session"
	case e.GetRseq() > 0:
		line += fmt.Sprintf(", acknowledges response number %d", e.GetRseq())
	case e.GetMethod() == "BYE" && e.GetDialog() != nil:
		line += ", ends the other branch"
	}
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

func describeEstablished(e *messages.SessionEstablished) string {
	line := fmt.Sprintf("Established (%d)", e.GetStatus())
	if e.GetAttempt() > 0 {
		line = fmt.Sprintf("Attempt %d: established (%d)", e.GetAttempt(), e.GetStatus())
	}
	return line + timed(e.GetIntervalSeconds(), e.GetRefresher()) + "."
}

func timed(seconds uint32, ours bool) string {
	switch {
	case seconds == 0:
		return ""
	case ours:
		return fmt.Sprintf(", refreshed by us within %d seconds", seconds)
	}
	return fmt.Sprintf(", refreshed by the peer within %d seconds", seconds)
}
