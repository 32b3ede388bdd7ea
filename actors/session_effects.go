package actors

import (
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// perform carries out one effect. Nothing here changes the state: what comes
// of it returns as a command.
func (a *sessionActor) perform(ctx actor.Context, e session.Effect) {
	switch e := e.(type) {
	case session.Admit:
		a.wantTurn()
	case session.SendRequest:
		a.sendInTurn(e.Attempt)
	case session.ResumeInvite:
		a.resume(e.Attempt)
	case session.Cancel:
		a.cancel(e.Attempt)
	case session.Acknowledge:
		a.acknowledge(e)
	case session.AskCredentials:
		a.ask(ctx, e)
	case session.Respond:
		a.respond(e)
	case session.Tell:
		a.tell(e)
	default:
		panic(fmt.Sprintf("actors: unknown effect %T", e))
	}
}

// transmit hands the request of an open attempt to the adapter.
func (a *sessionActor) transmit(r session.Request) {
	delete(a.memory.unsent, r.GetAttempt())
	q, toRegistrar, fault := a.request(r)
	if fault != "" {
		a.post(&sessionInput{session.Failed{Attempt: r.GetAttempt(), Failure: fault}})
		return
	}
	post, attempt := a.poster(), r.GetAttempt()
	if q.Method != "INVITE" {
		a.farm.sender.Send(q, func(o messages.SIPOutcome) {
			post(&sendReported{attempt: attempt, outcome: o, toRegistrar: toRegistrar})
		})
		return
	}
	a.memory.probing = a.memory.probing || toRegistrar && !a.state.Established()
	a.memory.invitations[attempt] = a.farm.sender.Invite(q, func(report messages.InviteReport) {
		post(&inviteReported{attempt: attempt, request: q, report: report, toRegistrar: toRegistrar})
	})
}

// resume takes up an INVITE of an earlier process. After a failure of the actor
// alone the transaction is still there, or the INVITE never left.
func (a *sessionActor) resume(attempt uint64) {
	r, open := a.state.Request(attempt)
	if !open || a.memory.invitations[attempt] != nil || a.memory.unsent[attempt] {
		return
	}
	q, toRegistrar, _ := a.request(r)
	q.Resume, q.Body, q.ContentType = true, nil, ""
	post := a.poster()
	a.memory.invitations[attempt] = a.farm.sender.Invite(q, func(report messages.InviteReport) {
		post(&inviteReported{attempt: attempt, request: q, report: report, toRegistrar: toRegistrar})
	})
}

// cancel ends an INVITE. One that waits for its turn never leaves (CAN-02).
func (a *sessionActor) cancel(attempt uint64) {
	if invitation := a.memory.invitations[attempt]; invitation != nil {
		invitation.Cancel()
		return
	}
	delete(a.memory.unsent, attempt)
	a.post(&sessionInput{session.Failed{Attempt: attempt, Failure: messages.ReasonInterrupted}})
}

// inviteReported takes what the adapter tells about an INVITE.
func (a *sessionActor) inviteReported(ctx actor.Context, m *inviteReported) {
	if m.report.Last {
		delete(a.memory.invitations, m.attempt)
	}
	response := m.report.Response
	a.heard(m.toRegistrar, response, m.report.Failure)
	if response == nil {
		a.handle(ctx, session.Failed{Attempt: m.attempt, Failure: m.report.Failure})
		return
	}
	a.holds(response, "INVITE")
	if response.Status < 200 {
		a.handle(ctx, session.Provisional{Attempt: m.attempt, Response: response})
		return
	}
	a.handle(ctx, a.answered(m.attempt, response))
}

// sendReported takes the outcome of any other request.
func (a *sessionActor) sendReported(ctx actor.Context, m *sendReported) {
	response := m.outcome.Response
	r, _ := a.state.Request(m.attempt)
	a.heard(m.toRegistrar, response, m.outcome.Failure)
	if response == nil {
		a.handle(ctx, session.Failed{Attempt: m.attempt, Failure: m.outcome.Failure})
		return
	}
	a.holds(response, r.GetMethod())
	a.handle(ctx, a.answered(m.attempt, response))
}

// holds puts a response into the actor's hand.
func (a *sessionActor) holds(response *messages.SIPResponse, method string) {
	if response.Dialog == nil {
		response.Dialog = &messages.DialogInfo{}
	}
	a.hand.response = response
	other := a.state.Dialog != nil && response.Dialog.RemoteTag != a.state.Dialog.GetRemoteTag() // another branch of a fork
	if response.Status < 300 && !other {
		a.learnDescription(method, response.Dialog)
	}
}

func (a *sessionActor) answered(attempt uint64, response *messages.SIPResponse) session.Answered {
	c := session.Answered{Attempt: attempt, Response: response}
	if response.Status < 300 {
		c.Proof = proofOf(response.AuthInfo, a.memory.answers[attempt].proofs)
	}
	return c
}

// acknowledge sends the ACK of a 2xx, or the same once more (INV-01).
func (a *sessionActor) acknowledge(e session.Acknowledge) {
	key := ackKey{e.Attempt, e.Dialog.GetRemoteTag()}
	q, sent := a.memory.acks[key]
	if !sent {
		q = a.ack(e)
		a.memory.acks[key] = q
	}
	a.farm.sender.Ack(q)
}

// asked takes a request of the peer inside the dialog, and the CANCEL and ACK
// of its INVITE.
func (a *sessionActor) asked(ctx actor.Context, in *messages.SIPInbound) {
	a.hand.request = in
	switch {
	case a.state.Ended || !a.state.Exists():
		refuseRequest(in, 481)
		return
	case in.Method == "ACK": // for a 2xx of an earlier process, or for nothing
		a.acknowledged(&acknowledged{cseq: in.CSeq, ack: in})
		return
	case in.Method == "CANCEL":
		a.handle(ctx, session.PeerRequested{Request: in})
		return
	}
	key := peerKey{in.Method, in.CSeq}
	if a.memory.peers[key] != nil {
		refuseRequest(in, 500) // the same number again, RFC 3261 §12.2.2
		return
	}
	a.memory.peers[key] = in
	body := describedBy(&in.Dialog)
	known := a.memory.remote.Load()
	a.handle(ctx, session.PeerRequested{Request: in, Unchanged: body.empty() || known != nil && body.equal(*known)})
}

// respond answers a request of the peer.
func (a *sessionActor) respond(e session.Respond) {
	key := peerKey{e.Method, e.CSeq}
	in, ok := a.memory.peers[key]
	if !ok {
		return // it came to an earlier process
	}
	reply := messages.SIPReply{Status: e.Status, Tag: a.id, ContactUser: a.spec.GetContactUser(), Headers: e.Headers}
	switch {
	case e.Owner && a.hand.order != nil:
		given := a.hand.order.content
		reply.Phrase, reply.ContentType, reply.Body = given.phrase, given.contentType, given.body
		reply.Headers = slices.Concat(e.Headers, given.headers)
	case e.Described:
		ours := a.ourDescription()
		reply.ContentType, reply.Body = ours.contentType, ours.body
	}
	if e.Status >= 200 {
		delete(a.memory.peers, key)
		if e.Method == "INVITE" && a.memory.early != (earlyKey{}) {
			a.farm.early.Delete(a.memory.early)
			a.memory.early = earlyKey{}
		}
	}
	if e.Status >= 200 && e.Status < 300 {
		a.learnDescription(e.Method, &in.Dialog)
		if e.Method == "INVITE" {
			a.memory.unacked[e.CSeq] = true
			post, cseq := a.poster(), e.CSeq
			reply.Acked = func(ack *messages.SIPInbound) { post(&acknowledged{cseq: cseq, ack: ack}) }
		}
	}
	in.Respond(reply)
}

// leaveNothingUnanswered answers what the core does not wait to answer.
func (a *sessionActor) leaveNothingUnanswered() {
	for key, in := range a.memory.peers {
		if _, waits := a.state.Peer(key.method, key.cseq); !waits {
			delete(a.memory.peers, key)
			in.Respond(messages.SIPReply{Status: 500, Tag: a.id})
		}
	}
}

// acknowledged: the ACK of our 2xx has come, or will not. A BYE had to wait for
// that (RFC 3261 §15).
func (a *sessionActor) acknowledged(m *acknowledged) {
	if !a.memory.unacked[m.cseq] {
		return
	}
	delete(a.memory.unacked, m.cseq)
	switch {
	case a.state.Ended:
	case m.ack == nil:
		a.post(&sessionInput{session.AckMissing{CSeq: m.cseq}})
	case len(m.ack.Dialog.Body) > 0:
		a.learnDescription("ACK", &m.ack.Dialog)
		a.hand.request = m.ack
		a.tell(session.Tell{Notice: session.NoticeReceived})
	}
	if len(a.memory.unacked) > 0 {
		return
	}
	if bye := a.memory.heldBye; bye != 0 {
		a.memory.heldBye = 0
		a.sendInTurn(bye)
	}
	if at, wakes := a.state.WakeAt(); wakes && !at.After(time.Now()) { // an offer of ours waited for this
		a.post(&sessionInput{session.TimerFired{}})
	}
}

// tell tells the owner, and whoever waits for a request inside the dialog.
func (a *sessionActor) tell(e session.Tell) {
	if e.Notice == session.NoticeSucceeded || e.Notice == session.NoticeFailed {
		c, waits := a.memory.chains[e.Chain]
		delete(a.memory.chains, e.Chain)
		if waits && c.result != nil {
			c.result(sent{response: a.hand.response, reason: e.Reason})
		}
	}
	if a.memory.owner == nil {
		return
	}
	a.memory.told = e.Notice == session.NoticeEnded
	a.notify(SessionNotice{
		Session: a.id, Kind: e.Notice, Chain: e.Chain, Response: a.hand.response, Request: shown(a.hand.request),
		Status: int(e.Status), Reason: e.Reason,
	})
}

// owned tells whether somebody answers the peer's requests.
func (a *sessionActor) owned() (answers bool) {
	defer func() { _ = recover() }() // it is somebody else's code
	return a.memory.owner != nil && a.memory.owner.Answers()
}

// notify calls somebody else's code. What it does must not end the call.
func (a *sessionActor) notify(n SessionNotice) {
	defer func() {
		if reason := recover(); reason != nil {
			a.farm.log.Error("the owner of a session panicked", "session", a.id, "notice", n.Kind.String(),
				"cause", fmt.Sprintf("panic of type %T", reason))
		}
	}()
	a.memory.owner.Notify(n)
}
