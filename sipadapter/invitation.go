package sipadapter

import (
	"errors"
	"time"

	"github.com/sipmuster/muster/messages"
)

// invitation is one INVITE until nothing more can be said about it: one
// transaction after the other, each to another address, as in an exchange. All
// that happens to it goes through calls, so its fields need no lock.
type invitation struct {
	course
	calls  sequence
	report func(messages.InviteReport)
	lines  []line    // of the INVITE, for its ACK and its CANCEL
	branch branchKey // of the first attempt
	tried  int       // attempts

	tx   *transaction // the last attempt, nil before the first
	over transport    // of tx

	rang      bool // a provisional response above 100 was reported
	settled   bool // a final response was reported, or there will be none
	cancelled bool // the caller wants no call
	ended     bool // nothing more is reported
}

// Invite starts an INVITE client transaction, or takes one up (see
// SIPRequest.Resume), and returns at once. report is called for each response
// as InviteReport says, one call at a time, from any goroutine, with no lock
// held, and must not block. The request must not be changed until the last
// report.
func (a *Adapter) Invite(req *messages.SIPRequest, report func(messages.InviteReport)) messages.Invitation {
	i := &invitation{course: course{a: a, req: req}, report: report}
	hop, fault := a.admit(req, inviteMethod)
	if fault != (failure{}) {
		i.settled = true // it does not count as pending
		i.calls.post(func() { i.fail(fault.reason, fault.detail) })
		go i.calls.run()
		return i
	}
	i.branch = a.entropy.branch()
	if req.Branch != "" {
		i.branch = seedBranch(req.Branch)
	}
	a.resolver.find(hop, func(p plan, err error) {
		i.calls.do(func() { i.begin(p, err) })
	})
	return i
}

func inviteMethod(method string) error {
	if method != "INVITE" {
		return errors.New("request: the method is not INVITE")
	}
	return nil
}

func (i *invitation) begin(p plan, err error) {
	if i.ended { // cancelled while DNS was asked
		return
	}
	lines, fault := i.chart(p, err)
	if fault != (failure{}) {
		i.fail(fault.reason, fault.detail)
		return
	}
	i.lines = lines
	if i.req.Resume {
		i.resume()
		return
	}
	t, _ := i.next()
	i.attempt(t, i.carrier(t))
}

// attempt is one transaction.
func (i *invitation) attempt(t target, over transport) {
	tx, err := i.open(t, over)
	if err != nil {
		i.told(t, over, nil, result{err: err})
		return
	}
	i.a.countRequest("INVITE")
	i.a.table.start(tx)
}

// resume takes up the transaction of an earlier process where that began, at
// the first target: the order of targets depends on nothing but the Call-ID. A
// provisional response may have come and be forgotten, so it counts as come,
// and a CANCEL may leave at once.
func (i *invitation) resume() {
	t := i.left[0]
	over := i.carrier(t)
	tx, err := i.open(t, over)
	if err != nil {
		i.fail(messages.ReasonTransport, err.Error())
		return
	}
	if i.a.table.enter(tx) && i.cancelled {
		i.sendCancel()
	}
}

// regained is a connection in the place of one that a process took with it. The
// server then sends its responses over a connection of its own (RFC 3261
// §18.2.2), so any from its address will do, and silence on this one means
// nothing.
type regained struct{ *stream }

func (w regained) answeredBy(o origin) bool {
	return o.stream != nil && o.stream.peer.Addr() == w.peer.Addr()
}

// open makes the transaction of one attempt.
func (i *invitation) open(t target, over transport) (*transaction, error) {
	key := i.branch.attempt(i.tried)
	i.tried++
	tx, err := i.transaction(t, over, key)
	if err != nil {
		return nil, err
	}
	if s, ok := tx.wire.(*stream); ok && i.req.Resume {
		tx.wire = regained{s}
	}
	now, w := time.Now(), tx.wire
	tx.machine = newInvite(i.a.timers, w.reliable(), i.req.Resume)
	tx.inviting = &inviting{
		calls: &i.calls,
		acknowledge: func(to string) []byte {
			return ackFor(i.template, i.lines, to).packet(over, tx.sentBy, tx.key)
		},
	}
	tx.report = func(r result) {
		doubt(w, r, now)
		i.told(t, over, w, r)
	}
	i.tx, i.over = tx, over
	return tx, nil
}

// told decides what the news of a transaction means for the invitation.
func (i *invitation) told(t target, over transport, w wire, r result) {
	switch {
	case r.response != nil && r.response.status < 200:
		i.provisional(t, r)
	case r.response != nil:
		i.final(t, r)
	case r.timedOut() && (r.heard || i.req.Resume):
		i.fail(messages.ReasonTimeout, "no final response in time")
	case r.timedOut():
		i.failover(t, messages.ReasonTimeout, "no answer", 0)
	case errors.Is(r.err, errClosed):
		i.fail(messages.ReasonTransport, errClosed.Error())
	case errors.Is(r.err, errBranchInUse):
		i.fail(messages.ReasonConfiguration, errBranchInUse.Error())
	case over != t.transport && refused(w, r.err) && i.mayGoOn():
		i.attempt(t, transportUDP)
	default:
		i.failover(t, messages.ReasonTransport, r.err.Error(), 0)
	}
}

func (i *invitation) provisional(t target, r result) {
	i.a.avoid.answered(t)
	i.rang = i.rang || r.response.status > 100
	i.tell(messages.InviteReport{Response: i.response(r)})
	if i.cancelled {
		i.sendCancel()
	}
}

func (i *invitation) final(t target, r result) {
	response := i.response(r)
	switch {
	case response.Status == 503:
		i.refused = response
		i.failover(t, messages.ReasonUnavailable, "", response.RetryAfter)
		return
	case response.Status < 300:
		i.settle()
	}
	i.a.avoid.answered(t)
	i.tell(messages.InviteReport{Response: response, Last: response.Status >= 300})
}

// failover goes to the next target, if there is one and if the INVITE may go
// there. Otherwise a response that arrived tells more than the silence of
// another target.
func (i *invitation) failover(t target, reason messages.Reason, detail string, retryAfter time.Duration) {
	i.a.avoid.failed(t, retryAfter)
	if i.mayGoOn() {
		if next, ok := i.next(); ok {
			i.attempt(next, i.carrier(next))
			return
		}
	}
	if i.refused != nil {
		i.tell(messages.InviteReport{Response: i.refused, Last: true})
		return
	}
	i.fail(reason, detail)
}

// mayGoOn: no other address is tried for a call that is not wanted, for one
// that rang, because it would ring twice, or on behalf of an earlier process,
// which may have tried them.
func (i *invitation) mayGoOn() bool {
	return !i.rang && !i.cancelled && !i.req.Resume
}

// Cancel sends the CANCEL when it may leave. It may be called again.
func (i *invitation) Cancel() { i.calls.do(i.cancel) }

func (i *invitation) cancel() {
	switch {
	case i.cancelled || i.settled:
	case i.tx != nil:
		i.cancelled = true
		i.sendCancel()
	case i.req.Resume:
		i.cancelled = true // DNS is being asked
	default:
		i.cancelled = true
		i.fail(messages.ReasonTransport, "cancelled before it was sent")
	}
}

// sendCancel sends the CANCEL in a transaction of its own, to where the INVITE
// went, unless no provisional response has come or a final one has. What is
// answered to it says nothing about the INVITE and is not looked at (RFC 3261
// §9.1, §22.1).
func (i *invitation) sendCancel() {
	invite := i.tx
	if !i.a.table.cancel(invite) {
		return
	}
	i.a.countRequest("CANCEL")
	i.a.table.start(&transaction{
		key:     invite.key,
		method:  "CANCEL",
		cseq:    invite.cseq,
		callID:  invite.callID,
		fromTag: invite.fromTag,
		sentBy:  invite.sentBy,
		wire:    invite.wire,
		machine: newNonInvite(i.a.timers, invite.wire.reliable()),
		packet:  cancelFor(i.template, i.lines).packet(i.over, invite.sentBy, invite.key),
	})
}

func (i *invitation) fail(reason messages.Reason, detail string) {
	i.tell(messages.InviteReport{Failure: reason, Detail: detail, Last: true})
}

func (i *invitation) tell(r messages.InviteReport) {
	if r.Last {
		i.ended = true
		i.settle()
	}
	i.report(r)
}

// settle ends the time in which the INVITE counts as pending.
func (i *invitation) settle() {
	if !i.settled {
		i.settled = true
		i.a.stats.pending.Add(-1)
	}
}
