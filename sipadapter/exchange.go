package sipadapter

import (
	"errors"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/messages"
)

// maxTargets bounds how many addresses one request tries (ERR-10). With 64*T1
// each, an outcome can take 96 seconds plus DNS.
const maxTargets = 3

// errPending says that MaxPending is reached.
var errPending = errors.New("too many requests are pending")

// exchange is one request until its outcome: one transaction after the other,
// at most one at a time, so its fields need no lock.
type exchange struct {
	a        *Adapter
	req      *messages.SIPRequest
	done     func(messages.SIPOutcome)
	template template
	contact  uri
	left     []target // not tried yet, in the order of RFC 3263
	tries    int
	sent     time.Time
	// refused is the best that a target that was left behind had to say.
	refused *messages.SIPResponse
}

// Send starts a client transaction and returns at once. done is called exactly
// once, from another goroutine or from this one, with no lock held, and must
// not block. The request must not be changed until then.
func (a *Adapter) Send(req *messages.SIPRequest, done func(messages.SIPOutcome)) {
	fail := func(reason messages.Reason, err error) {
		go done(messages.SIPOutcome{Failure: reason, Detail: err.Error()})
	}
	if a.state.Load() != stateRunning {
		fail(messages.ReasonTransport, errClosed)
		return
	}
	if err := check(req); err != nil {
		fail(messages.ReasonConfiguration, err)
		return
	}
	if err := mutation.Check(req.Mutations, req.MutableHeaders); err != nil {
		fail(messages.ReasonMutation, err)
		return
	}
	hop, err := parseNextHop(req.NextHop)
	if errors.Is(err, errInsecure) {
		fail(messages.ReasonTransport, err)
		return
	}
	if err != nil {
		fail(messages.ReasonConfiguration, err)
		return
	}
	if a.stats.pending.Add(1) > int64(a.opts.MaxPending) {
		a.stats.pending.Add(-1)
		fail(messages.ReasonTransport, errPending)
		return
	}
	e := &exchange{a: a, req: req, done: done}
	a.resolver.find(hop, e.begin)
}

// begin has the plan: DNS is asked once per request (ERR-11).
func (e *exchange) begin(p plan, err error) {
	if err != nil {
		reason := messages.ReasonResolve
		if errors.Is(err, errClosed) {
			reason = messages.ReasonTransport
		}
		e.end(messages.SIPOutcome{Failure: reason, Detail: err.Error()})
		return
	}
	e.left = p.order(e.req.CallID)
	text := e.a.contactFor(e.req.ContactUser, e.left[0])
	if e.contact, err = parseURI(text); err != nil {
		e.end(messages.SIPOutcome{Failure: messages.ReasonConfiguration, Detail: "our Contact: " + err.Error()})
		return
	}
	e.template = compose(e.req, text, e.a.opts.UserAgent)
	if len(e.template.head)+len(e.template.tail)+256 > maxMessage {
		e.end(messages.SIPOutcome{Failure: messages.ReasonTooLarge, Detail: "request over 65,535 bytes"})
		return
	}
	t, _ := e.next()
	e.try(t)
}

// next takes the next target off the list. Addresses that are avoided are
// passed over, except when nothing else was ever tried.
func (e *exchange) next() (target, bool) {
	if e.tries == maxTargets {
		return target{}, false
	}
	i := slices.IndexFunc(e.left, e.a.avoid.allows)
	if i < 0 && e.tries == 0 {
		i = 0
	}
	if i < 0 {
		return target{}, false
	}
	e.tries++
	t := e.left[i]
	e.left = slices.Delete(e.left, i, i+1)
	return t, true
}

// try sends the request to a target, by TCP if it is too large for a datagram
// (RFC 3261 §18.1.1).
func (e *exchange) try(t target) {
	over := t.transport
	if over == transportUDP && e.template.size(e.a.reachedAt(e.a.listenerFor(t), t)) > maxDatagram {
		over = transportTCP
	}
	e.attempt(t, over)
}

// attempt is one transaction. over differs from the target's transport when
// the size asks for TCP.
func (e *exchange) attempt(t target, over transport) {
	via := target{over, t.addr}
	w, err := e.a.wireTo(via)
	if err != nil {
		e.ended(t, over, nil, result{err: err})
		return
	}
	tx := &transaction{
		key:     e.a.entropy.branch(),
		method:  e.req.Method,
		cseq:    e.req.CSeq,
		callID:  e.req.CallID,
		fromTag: e.req.FromTag,
		sentBy:  e.a.reachedAt(e.a.listenerFor(via), via),
		wire:    w,
		resent:  e.req.Retransmitted,
		machine: newNonInvite(e.a.timers, w.reliable()),
	}
	tx.packet = e.template.packet(over, tx.sentBy, tx.key)
	before, now := e.sent, time.Now()
	if before.IsZero() {
		e.sent = now
	}
	tx.report = func(r result) {
		if r.unsent {
			e.sent = before
		}
		if s, ok := w.(*stream); ok && r.timedOut() {
			s.suspect(now)
		}
		e.ended(t, over, w, r)
	}
	e.a.stats.sent.Add(1)
	e.a.counters.RequestSent(e.req.Method)
	e.a.table.start(tx)
}

func (a *Adapter) wireTo(t target) (wire, error) {
	if t.transport == transportTCP {
		return a.streams.to(t.addr)
	}
	if u := a.socketFor(t.addr.Addr()); u != nil {
		return udpWire{u, t.addr}, nil
	}
	return nil, errors.New("no UDP listener can reach the target")
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

// refused: the target wants no TCP, so that a request that only its size sent
// there goes by UDP after all (GEN-11).
func refused(w wire, err error) bool {
	s, ok := w.(*stream)
	return ok && s.refusedTCP(err)
}

func (e *exchange) answered(t target, r result) {
	response := translate(r.response, e.contact)
	response.Source = r.from.String()
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
		e.try(next)
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
