package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// callTurn is the gate's word to a call that waits: its INVITE may leave, or why
// it may not.
type callTurn struct{ refused messages.Reason }

// callID is a session's name at its registrar's gate, which knows profiles by
// their ids.
func callID(session string) string { return "s/" + session }

// wantTurn asks the registrar's gate to let the call through. A leg towards a
// trunk's peer has nobody to wait for.
func (a *sessionActor) wantTurn() {
	if a.spec.GetTrunkLeg() {
		a.post(&callTurn{})
		return
	}
	gate := a.farm.turnstile(a.spec.GetRegistrar())
	if a.memory.waiting = gate != nil; !a.memory.waiting {
		a.post(&callTurn{refused: messages.ReasonUnavailable})
		return
	}
	post := a.poster()
	gate.wantCall(waitingCall{
		id: callID(a.id), turn: func(refused messages.Reason) { post(&callTurn{refused: refused}) },
	})
}

// unwantTurn takes back whatever the gate keeps for the call.
func (a *sessionActor) unwantTurn() {
	if a.memory.waiting || a.memory.turn || a.memory.probing {
		a.farm.turnstile(a.spec.GetRegistrar()).unwantCall(callID(a.id))
	}
	a.memory.waiting, a.memory.turn, a.memory.probing = false, false, false
}

// turned: the gate has decided.
func (a *sessionActor) turned(ctx actor.Context, m *callTurn) {
	asked := a.memory.waiting
	a.memory.waiting = false
	if m.refused != "" {
		a.handle(ctx, session.NotAdmitted{Reason: m.refused})
		return
	}
	a.memory.turn = asked
	a.handle(ctx, session.Admitted{})
	if a.memory.turn { // it is not wanted any more
		a.unwantTurn()
	}
}

// sendInTurn sends the request of an attempt. The turn that the call waited for
// covers its first INVITE; every other request to the registrar takes its turn
// there, before fresh attempts. A BYE waits for the ACK of our 2xx (RFC 3261
// §15).
func (a *sessionActor) sendInTurn(attempt uint64) {
	r, open := a.state.Request(attempt)
	if !open {
		return
	}
	if r.GetMethod() == "BYE" && r.GetDialog() == nil && len(a.memory.unacked) > 0 {
		a.memory.unsent[attempt], a.memory.heldBye = true, attempt
		return
	}
	first := r.GetMethod() == "INVITE" && !a.state.Established()
	if a.memory.turn && first {
		a.memory.turn = false
		a.transmit(r)
		return
	}
	q, toRegistrar := a.addressed(r)
	if !toRegistrar {
		a.transmit(r)
		return
	}
	post := a.poster()
	answer := pacedSend{send: func() { post(&sendNow{attempt: attempt}) }, dialog: q.ToTag != ""}
	if first {
		answer.call, a.memory.probing = callID(a.id), true
	}
	a.memory.unsent[attempt] = true
	gate := a.farm.turnstile(a.spec.GetRegistrar())
	if gate == nil {
		a.transmit(r) // the registrar was removed; the request ends by itself
		return
	}
	if gate.answer(answer, false) {
		a.sendUnsent(attempt)
	}
}

// sendNow is the gate's permission to send the paced request of an attempt.
type sendNow struct{ attempt uint64 }

// sendUnsent: the gate lets a request through that waited for it.
func (a *sessionActor) sendUnsent(attempt uint64) {
	if r, open := a.state.Request(attempt); open && a.memory.unsent[attempt] {
		a.transmit(r)
	}
}

// heard tells the registrar's gate what a report says about the registrar. Only
// an INVITE outside a dialog gets at least a 100 from a registrar that lives;
// any other request may just not have been answered by the far end.
func (a *sessionActor) heard(toRegistrar bool, response *messages.SIPResponse, failure messages.Reason) {
	if !toRegistrar {
		return
	}
	name := a.spec.GetRegistrar()
	if response != nil {
		a.farm.targets.note(name, response.Source)
	}
	dark := response == nil && a.memory.probing && (failure == messages.ReasonTimeout || failure == messages.ReasonTransport)
	if response == nil && !a.memory.probing {
		return
	}
	a.memory.probing = false
	a.farm.turnstile(name).release(callID(a.id), response != nil, dark, 0)
}
