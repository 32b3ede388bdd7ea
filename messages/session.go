package messages

import "fmt"

// NewSessionEvent wraps one of the event messages; any other type panics.
func NewSessionEvent(body any) *SessionEvent {
	switch b := body.(type) {
	case *SessionStarted:
		return &SessionEvent{Event: &SessionEvent_Started{b}}
	case *SessionReceived:
		return &SessionEvent{Event: &SessionEvent_Received{b}}
	case *RequestStarted:
		return &SessionEvent{Event: &SessionEvent_RequestStarted{b}}
	case *ChallengeReceived:
		return &SessionEvent{Event: &SessionEvent_ChallengeReceived{b}}
	case *CredentialsSupplied:
		return &SessionEvent{Event: &SessionEvent_CredentialsSupplied{b}}
	case *CredentialsDeclined:
		return &SessionEvent{Event: &SessionEvent_CredentialsDeclined{b}}
	case *CredentialsRefused:
		return &SessionEvent{Event: &SessionEvent_CredentialsRefused{b}}
	case *ProgressReceived:
		return &SessionEvent{Event: &SessionEvent_ProgressReceived{b}}
	case *SessionEstablished:
		return &SessionEvent{Event: &SessionEvent_Established{b}}
	case *RequestSucceeded:
		return &SessionEvent{Event: &SessionEvent_RequestSucceeded{b}}
	case *RequestFailed:
		return &SessionEvent{Event: &SessionEvent_RequestFailed{b}}
	case *SessionIntervalRaised:
		return &SessionEvent{Event: &SessionEvent_IntervalRaised{b}}
	case *ForkAnswered:
		return &SessionEvent{Event: &SessionEvent_ForkAnswered{b}}
	case *PeerRequestReceived:
		return &SessionEvent{Event: &SessionEvent_PeerRequestReceived{b}}
	case *PeerRequestAnswered:
		return &SessionEvent{Event: &SessionEvent_PeerRequestAnswered{b}}
	case *SessionRedirected:
		return &SessionEvent{Event: &SessionEvent_Redirected{b}}
	case *SessionEnding:
		return &SessionEvent{Event: &SessionEvent_Ending{b}}
	case *SessionEnded:
		return &SessionEvent{Event: &SessionEvent_Ended{b}}
	case *RequestsInterrupted:
		return &SessionEvent{Event: &SessionEvent_Interrupted{b}}
	case *OfferAnswered:
		return &SessionEvent{Event: &SessionEvent_OfferAnswered{b}}
	}
	panic(fmt.Sprintf("messages: %T is not a session event", body))
}

// TypeName is the name of the event's type, such as "SessionEstablished", or
// "" when the type is unknown.
func (e *SessionEvent) TypeName() string {
	switch e.GetEvent().(type) {
	case *SessionEvent_Started:
		return "SessionStarted"
	case *SessionEvent_Received:
		return "SessionReceived"
	case *SessionEvent_RequestStarted:
		return "RequestStarted"
	case *SessionEvent_ChallengeReceived:
		return "ChallengeReceived"
	case *SessionEvent_CredentialsSupplied:
		return "CredentialsSupplied"
	case *SessionEvent_CredentialsDeclined:
		return "CredentialsDeclined"
	case *SessionEvent_CredentialsRefused:
		return "CredentialsRefused"
	case *SessionEvent_ProgressReceived:
		return "ProgressReceived"
	case *SessionEvent_Established:
		return "SessionEstablished"
	case *SessionEvent_RequestSucceeded:
		return "RequestSucceeded"
	case *SessionEvent_RequestFailed:
		return "RequestFailed"
	case *SessionEvent_IntervalRaised:
		return "SessionIntervalRaised"
	case *SessionEvent_ForkAnswered:
		return "ForkAnswered"
	case *SessionEvent_PeerRequestReceived:
		return "PeerRequestReceived"
	case *SessionEvent_PeerRequestAnswered:
		return "PeerRequestAnswered"
	case *SessionEvent_Redirected:
		return "SessionRedirected"
	case *SessionEvent_Ending:
		return "SessionEnding"
	case *SessionEvent_Ended:
		return "SessionEnded"
	case *SessionEvent_Interrupted:
		return "RequestsInterrupted"
	case *SessionEvent_OfferAnswered:
		return "OfferAnswered"
	}
	return ""
}

// TypeName is the name of the type of the event that the envelope holds, or ""
// when it is unknown.
func (e *Envelope) TypeName() string {
	if session := e.GetSession(); session != nil {
		return session.TypeName()
	}
	return e.GetProfile().TypeName()
}
