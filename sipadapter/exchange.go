package sipadapter

import (
	"errors"
	"fmt"
	"time"

	"github.com/sipmuster/muster/messages"
)

// exchange is one request until its outcome: one transaction after the other,
// at most one at a time, so its fields need no lock.
type exchange struct {
	course
	done func(messages.SIPOutcome)
	sent time.Time
}

// Send starts a client transaction for any request but INVITE, ACK and CANCEL,
// and returns at once. done is called exactly once, from another goroutine or
// from this one, with no lock held, and must not block. The request must not be
// changed until then.
func (a *Adapter) Send(req *messages.SIPRequest, done func(messages.SIPOutcome)) {
	hop, fault := a.admit(req, nonInviteMethod)
	if fault != (failure{}) {
		go done(messages.SIPOutcome{Failure: fault.reason, Detail: fault.detail})
		return
	}
	e := &exchange{course: course{a: a, req: req}, done: done}
	a.resolver.find(hop, e.begin)
}

// nonInviteMethod refuses the methods whose transactions follow other rules
// (RFC 3261 §17.1.1, §9.1).
func nonInviteMethod(method string) error {
	switch method {
	case "INVITE", "ACK", "CANCEL":
		return fmt.Errorf("request: method %s is not sent by a non-INVITE transaction", method)
	}
	return nil
}

func (e *exchange) begin(p plan, err error) {
	if _, fault := e.chart(p, err); fault != (failure{}) {
		e.end(messages.SIPOutcome{Failure: fault.reason, Detail: fault.detail})
		return
	}
	t, _ := e.next()
	e.attempt(t, e.carrier(t))
}

// attempt is one transaction.
func (e *exchange) attempt(t target, over transport) {
	tx, err := e.transaction(t, over, e.a.entropy.branch())
	if err != nil {
		e.ended(t, over, nil, result{err: err})
		return
	}
	w := tx.wire
	tx.machine = newNonInvite(e.a.timers, w.reliable())
	before, now := e.sent, time.Now()
	if before.IsZero() {
		e.sent = now
	}
	tx.report = func(r result) {
		if r.unsent {
			e.sent = before
		}
		doubt(w, r, now)
		e.ended(t, over, w, r)
	}
	e.a.countRequest(e.req.Method)
	e.a.table.start(tx)
}

// ended decides what the end of a transaction means for the request: failover
// only on 503, a transport error or total silence (ERR-10).
func (e *exchange) ended(t target, over transport, w wire, r result) {
	switch {
	case r.response != nil:
		e.answered(t, r)
	case r.timedOut() && r.heard:
		e.end(messages.SIPOutcome{Failure: messages.ReasonTimeout, Detail: "no final response in time"})
	case r.timedOut():
		e.failover(t, messages.ReasonTimeout, "no answer", 0)
	case errors.Is(r.err, errClosed):
		e.end(messages.SIPOutcome{Failure: messages.ReasonTransport, Detail: errClosed.Error()})
	case over != t.transport && refused(w, r.err):
		e.attempt(t, transportUDP)
	default:
		e.failover(t, messages.ReasonTransport, r.err.Error(), 0)
	}
}

func (e *exchange) answered(t target, r result) {
	response := e.response(r)
	if response.Status != 503 {
		e.a.avoid.answered(t)
		e.end(messages.SIPOutcome{Response: response})
		return
	}
	e.refused = response
	e.failover(t, messages.ReasonUnavailable, "", response.RetryAfter)
}

// failover goes to the next target, if there is one. Otherwise a response that
// arrived tells more than the silence of another target.
func (e *exchange) failover(t target, reason messages.Reason, detail string, retryAfter time.Duration) {
	e.a.avoid.failed(t, retryAfter)
	if next, ok := e.next(); ok {
		e.attempt(next, e.carrier(next))
		return
	}
	if e.refused != nil {
		e.end(messages.SIPOutcome{Response: e.refused})
		return
	}
	e.end(messages.SIPOutcome{Failure: reason, Detail: detail})
}

func (e *exchange) end(o messages.SIPOutcome) {
	o.Sent = e.sent
	e.a.stats.pending.Add(-1)
	e.done(o)
}
