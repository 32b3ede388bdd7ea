package metrics

import (
	"time"

	"github.com/sipmuster/muster/messages"
)

// sessionStates is the closed set of the states of a session that is not over
// (session.Statuses).
var sessionStates = [...]string{
	"calling", "challenged", "early", "established", "ending",
}

// sessionStateIndex finds a state's place in sessionStates, or -1 for "", in
// which a session is before it exists, and "ended".
func sessionStateIndex(state string) int {
	switch state {
	case "calling":
		return 0
	case "challenged":
		return 1
	case "early":
		return 2
	case "established":
		return 3
	case "ending":
		return 4
	}
	return -1
}

// callOutcome is what became of setting up a session. Each session has one: when
// it is established, or else when it ends.
type callOutcome int

const (
	callAnswered callOutcome = iota
	callDeclined
	callBusy
	callNoAnswer
	callCancelled
	callFailed
)

// callOutcomes are the label values, in the order of the constants.
var callOutcomes = [...]string{
	"answered", "declined", "busy", "no_answer", "cancelled", "failed",
}

// outcomeOf is the outcome of a session that ended without being established.
// What the called side said goes by the reason, and by the status where that
// says more: a refusal of ours has one reason only. Every reason that is not
// named here is of a call that did not come to be asked, or could not be made.
func outcomeOf(e *messages.SessionEnded) callOutcome {
	switch messages.Reason(e.GetReason()) {
	case messages.ReasonPeerBusy:
		return callBusy
	case messages.ReasonNoAnswer:
		return callNoAnswer
	case messages.ReasonHangup, messages.ReasonHangupAfter, messages.ReasonRemoteHangup:
		return callCancelled
	case messages.ReasonDeclined:
		switch e.GetStatus() {
		case 486, 600:
			return callBusy
		case 408, 480:
			return callNoAnswer
		}
		return callDeclined
	}
	return callFailed
}

// withheldReasons are why a challenge is withheld from whoever could answer it.
var withheldReasons = []string{string(messages.ReasonUntrusted)}

func (m *Metrics) registerSessions() {
	sessions := m.gaugeVec("sessions", "Sessions that are not over, by state.", "state")
	for i, state := range sessionStates {
		m.sessions[i] = sessions.WithLabelValues(state)
	}
	m.calls = m.counterVec("session_outcomes_total",
		"Sessions by how setting them up ended, each counted once. Of failed ones the history of the session has the reason.",
		"registrar", "outcome")
	m.setup = m.histogramVec("session_setup_seconds",
		"Time from asking for a session, or from its INVITE, until it was answered: pace, challenges and ringing included.",
		setupBuckets, "registrar")
	m.withheld = m.counterVec("challenges_withheld_total",
		"Challenges that were not answered because the profile's credentials must not go where they came from. Somebody at the far end of a call may be collecting digests; the log names the session.",
		"registrar", "reason")
}

// SessionEvents counts what one append recorded about a session. before and
// after are its API states, empty before it exists and "ended" once it is over;
// started and established are those of the session after the append, zero for
// what has not happened.
func (m *Metrics) SessionEvents(registrar, before, after string, started, established time.Time, events []*messages.SessionEvent) {
	if before != after {
		m.moveSession(sessionStateIndex(before), sessionStateIndex(after))
	}
	r := m.registrar(registrar)
	for _, e := range events {
		m.events.inc(e.TypeName())
		switch b := e.GetEvent().(type) {
		case *messages.SessionEvent_Established:
			r.calls[callAnswered].Inc()
			r.setup.Observe(max(0, established.Sub(started).Seconds()))
		case *messages.SessionEvent_Ended:
			if established.IsZero() {
				r.calls[outcomeOf(b.Ended)].Inc()
			}
		}
	}
}

// SessionRestored counts a session that was loaded at start.
func (m *Metrics) SessionRestored(state string) {
	m.moveSession(-1, sessionStateIndex(state))
}

// moveSession counts a session out of one state and into another; -1 is none.
func (m *Metrics) moveSession(from, to int) {
	if from >= 0 {
		m.sessions[from].Dec()
	}
	if to >= 0 {
		m.sessions[to].Inc()
	}
}

// ChallengeWithheld counts a challenge that was not answered because the
// credentials must not go where it came from (S-01, S-03).
func (m *Metrics) ChallengeWithheld(registrar string, reason messages.Reason) {
	m.registrar(registrar).withheld.inc(string(reason))
}
