package sipadapter

import (
	"errors"
	"slices"
	"time"

	"github.com/sipmuster/muster/messages"
)

// invitation is one INVITE until nothing more can be said about it: one
// transaction after the other, each to another address, as in an exchange, or
// several at once that an earlier process may have begun. All that happens to it
// goes through calls, so its fields need no lock.
type invitation struct {
	course
	calls  sequence
	report func(messages.InviteReport)
	lines  []line    // of the INVITE, for its ACK and its CANCEL
	branch branchKey // that of all its transactions follows from; see key
	plan   []target  // all that it may go to, in the order of RFC 3263

	ways []*way // the last attempt, or those that may be it after a restart

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
	hop, fault := i.admit(inviteMethod)
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
	a.resolver.find(hop.nextHop, func(p plan, err error) {
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
	fault := i.chart(p, err)
	if fault == (failure{}) {
		i.lines, fault = i.write()
	}
	if fault != (failure{}) {
		i.fail(fault.reason, fault.detail)
		return
	}
	i.plan = slices.Clone(i.left)
	if i.req.Resume {
		i.resume()
		return
	}
	t, _ := i.next()
	i.attempt(t, i.carrier(t))
}

// way is how an INVITE goes to an address.
type way struct {
	to   target
	over transport    // TCP to a UDP target if the size asks for it
	tx   *transaction // nil when there could be none
}

// key is the branch of a way. It follows from the branch that the caller knows
// and from where the address stands in the plan, so that a later process finds it
// without knowing which ways were tried before, or passed over.
func (i *invitation) key(w *way) branchKey {
	n := 2 * slices.Index(i.plan, w.to)
	if w.over != w.to.transport {
		n++
	}
	return i.branch.attempt(n)
}

// attempt is one transaction.
func (i *invitation) attempt(t target, over transport) {
	w := &way{to: t, over: over}
	if err := i.open(w); err != nil {
		i.told(w, result{err: err})
		return
	}
	i.ways = []*way{w}
	i.a.countRequest("INVITE")
	i.a.table.start(w.tx, time.Now())
}

// open makes the transaction of a way.
func (i *invitation) open(w *way) error {
	tx := &transaction{}
	if err := i.transaction(tx, w.to, w.over, i.key(w)); err != nil {
		return err
	}
	tx.packet = i.template.packet(w.over, tx.sentBy, tx.key)
	if s, ok := tx.wire.(*stream); ok && i.req.Resume {
		tx.wire = regained{s}
	}
	now := time.Now()
	tx.machine = newInvite(i.a.timers, tx.wire.reliable(), i.req.Resume)
	tx.inviting = &inviting{
		calls: &i.calls,
		acknowledge: func(to string) []byte {
			return ackFor(i.template, i.lines, to).packet(w.over, tx.sentBy, tx.key)
		},
	}
	tx.report = reportFunc(func(r result) {
		doubt(tx.wire, r, now)
		i.told(w, r)
	})
	w.tx = tx
	return nil
}

// told decides what the news of a transaction means for the invitation.
func (i *invitation) told(w *way, r result) {
	if i.req.Resume && !i.narrow(w, r) {
		return
	}
	switch {
	case r.response != nil && r.response.status < 200:
		i.provisional(w.to, r)
	case r.response != nil:
		i.final(w.to, r)
	case r.timedOut() && r.heard:
		i.fail(messages.ReasonTimeout, "no final response in time")
	case r.timedOut() && i.req.Resume: // it was asked nothing, so its silence means nothing
		i.giveUp(messages.ReasonTimeout, "no final response in time")
	case r.timedOut():
		i.failover(w.to, messages.ReasonTimeout, "no answer", 0)
	case errors.Is(r.err, errClosed):
		i.fail(messages.ReasonTransport, errClosed.Error())
	case errors.Is(r.err, errBranchInUse):
		i.fail(messages.ReasonConfiguration, errBranchInUse.Error())
	case w.over != w.to.transport && w.tx != nil && refused(w.tx.wire, r.err) && i.mayGoOn():
		i.attempt(w.to, transportUDP)
	default:
		i.failover(w.to, messages.ReasonTransport, r.err.Error(), 0)
	}
}

func (i *invitation) provisional(t target, r result) {
	i.a.avoid.answered(t)
	i.rang = i.rang || r.response.status > 100
	i.tell(messages.InviteReport{Response: i.response(t, r)})
	if i.cancelled {
		i.sendCancel()
	}
}

func (i *invitation) final(t target, r result) {
	response := i.response(t, r)
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
// there.
func (i *invitation) failover(t target, reason messages.Reason, detail string, retryAfter time.Duration) {
	i.a.avoid.failed(t, retryAfter)
	if i.mayGoOn() {
		if next, ok := i.next(); ok {
			i.attempt(next, i.carrier(next))
			return
		}
	}
	i.giveUp(reason, detail)
}

// giveUp ends an INVITE for which nothing is left to try. A response that arrived
// tells more than the silence of another target.
func (i *invitation) giveUp(reason messages.Reason, detail string) {
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
	case len(i.ways) > 0:
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
// went, or may have gone, unless no provisional response has come or a final one
// has. What is answered to it says nothing about the INVITE and is not looked at
// (RFC 3261 §9.1, §22.1).
func (i *invitation) sendCancel() {
	for _, w := range i.ways {
		invite := w.tx
		if !i.a.table.cancel(invite) {
			continue
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
			packet:  cancelFor(i.template, i.lines).packet(w.over, invite.sentBy, invite.key),
		}, time.Now())
	}
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
