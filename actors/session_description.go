package actors

import (
	"github.com/sipmuster/muster/messages"
)

// keepDescription seals our description before the events that make it the
// valid one are recorded: after a crash between the two the session has one that
// it need not use, and never lacks one that it needs.
func (a *sessionActor) keepDescription(events []*messages.SessionEvent) {
	ours := a.agreedDescription(events)
	if ours.empty() || ours.equal(a.memory.local) {
		return
	}
	a.memory.local = ours
	if a.farm.bodies == nil {
		return
	}
	if err := a.farm.bodies.KeepBody(a.id, ours.contentType, ours.body); err != nil {
		a.farm.log.Warn("a session description was not kept; after a restart the session cannot be refreshed by a re-INVITE",
			"session", a.id, "error", err)
	}
}

// agreedDescription is our description that a 2xx of either side makes valid.
func (a *sessionActor) agreedDescription(events []*messages.SessionEvent) description {
	for _, e := range events {
		switch e := e.GetEvent().(type) {
		case *messages.SessionEvent_Established:
			if e.Established.GetAttempt() == 0 {
				return a.replied("INVITE")
			}
			if !a.state.Ending {
				return a.memory.first.description
			}
		case *messages.SessionEvent_RequestSucceeded:
			r, _ := a.state.Request(e.RequestSucceeded.GetAttempt())
			if r.GetMethod() == "INVITE" || r.GetMethod() == "UPDATE" {
				return a.memory.chains[r.GetChain()].description
			}
		case *messages.SessionEvent_PeerRequestAnswered:
			if p := e.PeerRequestAnswered; p.GetStatus() < 300 {
				return a.replied(p.GetMethod())
			}
		case *messages.SessionEvent_OfferAnswered:
			return a.memory.answer
		}
	}
	return description{}
}

// replied is the body of the owner's answer in hand to an INVITE or UPDATE.
func (a *sessionActor) replied(method string) description {
	if o := a.hand.order; o != nil && (method == "INVITE" || method == "UPDATE") {
		return o.description
	}
	return description{}
}

// ourDescription is the latest that is agreed, also after a restart.
func (a *sessionActor) ourDescription() description {
	if a.memory.local.empty() && a.farm.bodies != nil {
		if contentType, body, ok := a.farm.bodies.Body(a.id); ok {
			a.memory.local = description{contentType, body}
		}
	}
	return a.memory.local
}

// learnDescription keeps the peer's description, to be shown and compared.
func (a *sessionActor) learnDescription(method string, info *messages.DialogInfo) {
	if len(info.Body) > 0 && (method == "INVITE" || method == "UPDATE" || method == "ACK") {
		d := describedBy(info)
		a.memory.remote.Store(&d)
	}
}
