package sipadapter

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sipmuster/muster/messages"
)

// exchange is one request until its outcome: one transaction after the other,
// at most one at a time, so its fields need no lock. That of a usual REGISTER is
// used again after its outcome, because its transactions are in no table then.
type exchange struct {
	course
	done func(messages.SIPOutcome)
	sent time.Time
	// collect is set as long as Send has not returned, with Options.Collect.
	collect bool
	// first is the first attempt, and for most requests the only one.
	first attempt
}

var exchanges = sync.Pool{New: func() any { return &exchange{} }}

// attempt is one transaction of an exchange.
type attempt struct {
	transaction
	timers   nonInvite
	exchange *exchange
	target   target
	over     transport // TCP to a UDP target if the size asks for it
	began    time.Time
	first    bool // nothing left before it
}

// Send starts a client transaction for any request but INVITE, ACK and CANCEL,
// and returns at once. done is called exactly once, from another goroutine or
// from this one, with no lock held, and must not block. The request must not be
// changed until then.
func (a *Adapter) Send(req *messages.SIPRequest, done func(messages.SIPOutcome)) {
	e := exchanges.Get().(*exchange)
	e.a, e.req, e.done, e.collect = a, req, done, a.opts.Collect
	hop, fault := e.admit(nonInviteMethod)
	switch {
	case fault != (failure{}):
		go done(messages.SIPOutcome{Failure: fault.reason, Detail: fault.detail})
	case hop.numeric:
		e.left = hop.targets[:]
		e.depart()
	default:
		if p, err, known := a.resolver.known(hop.nextHop); known {
			e.begin(p, err)
			return
		}
		e.collect = false
		a.resolver.find(hop.nextHop, e.begin)
	}
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
	if fault := e.chart(p, err); fault != (failure{}) {
		e.end(messages.SIPOutcome{Failure: fault.reason, Detail: fault.detail})
		return
	}
	e.depart()
}

// depart goes to the first target.
func (e *exchange) depart() {
	if e.usual {
		e.host = e.reachOf(e.left[0]).contact
		e.usual = len(e.host) <= addressRoom // so that Via has room as well
	}
	if !e.usual {
		if _, fault := e.write(); fault != (failure{}) {
			e.end(messages.SIPOutcome{Failure: fault.reason, Detail: fault.detail})
			return
		}
	}
	t, _ := e.next()
	e.attempt(t, e.carrier(t))
}

// attempt is one transaction.
func (e *exchange) attempt(t target, over transport) {
	x := &e.first
	if x.exchange != nil {
		x = &attempt{}
	}
	x.exchange, x.target, x.over = e, t, over
	if err := e.transaction(&x.transaction, t, over, e.a.entropy.branch()); err != nil {
		e.ended(t, over, nil, result{err: err})
		return
	}
	x.timers = nonInvite{values: &e.a.timers, reliable: x.wire.reliable()}
	x.machine, x.report = &x.timers, x
	switch {
	case e.usual && !x.timers.reliable:
		x.text, x.collect = x, e.collect
	case e.usual:
		x.packet = x.appendTo(make([]byte, 0, maxDatagram))
	default:
		x.packet = e.template.packet(over, x.sentBy, x.key)
	}
	x.began, x.first = time.Now(), e.sent.IsZero()
	if x.first {
		e.sent = x.began
	}
	e.collect = false // for a next attempt, which nobody flushes
	e.a.countRequest(e.req.Method)
	e.a.table.start(&x.transaction, x.began)
}

// appendTo writes a usual REGISTER, each time the same.
func (x *attempt) appendTo(b []byte) []byte {
	e := x.exchange
	r := registration{SIPRequest: e.req, sent: e.reach.sent, route: e.route, host: e.host, userAgent: e.a.opts.UserAgent}
	return r.appendTo(b, x.over, x.key)
}

// told is the end of the transaction.
func (x *attempt) told(r result) {
	e := x.exchange
	if r.unsent && x.first {
		e.sent = time.Time{}
	}
	doubt(x.wire, r, x.began)
	e.ended(x.target, x.over, x.wire, r)
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
	response := e.response(t, r)
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

// end is the last that happens to an exchange.
func (e *exchange) end(o messages.SIPOutcome) {
	o.Sent = e.sent
	e.a.stats.pending.Add(-1)
	done := e.done
	if e.usual {
		*e = exchange{}
		exchanges.Put(e)
	}
	done(o)
}
