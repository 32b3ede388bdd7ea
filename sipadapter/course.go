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

// course is a request and the addresses that it may go to, for an exchange, an
// invitation or an ACK.
type course struct {
	a        *Adapter
	req      *messages.SIPRequest
	template template
	contact  uri
	left     []target // not tried yet, in the order of RFC 3263
	tries    int
	// refused is the best that a target that was left behind had to say.
	refused *messages.SIPResponse
}

// failure says why there is no response; the zero value is none.
type failure struct {
	reason messages.Reason
	detail string
}

// admit checks a request, counts it as pending and gives its next hop.
func (a *Adapter) admit(req *messages.SIPRequest, fits func(method string) error) (nextHop, failure) {
	if a.state.Load() != stateRunning {
		return nextHop{}, failure{messages.ReasonTransport, errClosed.Error()}
	}
	if err := fits(req.Method); err != nil {
		return nextHop{}, failure{messages.ReasonConfiguration, err.Error()}
	}
	if err := check(req); err != nil {
		return nextHop{}, misfit(err)
	}
	if err := mutation.Check(req.Mutations, req.MutableHeaders); err != nil {
		return nextHop{}, failure{messages.ReasonMutation, err.Error()}
	}
	hop, err := parseNextHop(req.NextHop)
	if err != nil {
		return nextHop{}, misfit(err)
	}
	if a.stats.pending.Add(1) > int64(a.opts.MaxPending) {
		a.stats.pending.Add(-1)
		return nextHop{}, failure{messages.ReasonTransport, errPending.Error()}
	}
	return hop, failure{}
}

// misfit tells what cannot travel here from what cannot travel anywhere.
func misfit(err error) failure {
	if errors.Is(err, errInsecure) {
		return failure{messages.ReasonTransport, err.Error()}
	}
	return failure{messages.ReasonConfiguration, err.Error()}
}

// chart takes the plan, for which DNS is asked once per request (ERR-11), and
// writes the request, whose header lines it returns.
func (c *course) chart(p plan, err error) ([]line, failure) {
	switch {
	case errors.Is(err, errClosed):
		return nil, failure{messages.ReasonTransport, err.Error()}
	case err != nil:
		return nil, failure{messages.ReasonResolve, err.Error()}
	}
	c.left = p.order(c.req.CallID)
	text := c.a.contactFor(c.req.ContactUser, c.left[0])
	if c.contact, err = parseURI(text); err != nil {
		return nil, failure{messages.ReasonConfiguration, "our Contact: " + err.Error()}
	}
	requestURI, lines := requestLines(c.req, text, c.a.opts.UserAgent)
	c.template = serialise(c.req, requestURI, lines)
	if len(c.template.head)+len(c.template.tail)+256 > maxMessage {
		return nil, failure{messages.ReasonTooLarge, "request over 65,535 bytes"}
	}
	return lines, failure{}
}

// next takes the next target off the list. Addresses that are avoided are
// passed over, except when nothing else was ever tried.
func (c *course) next() (target, bool) {
	if c.tries == maxTargets {
		return target{}, false
	}
	i := slices.IndexFunc(c.left, c.a.avoid.allows)
	if i < 0 && c.tries == 0 {
		i = 0
	}
	if i < 0 {
		return target{}, false
	}
	c.tries++
	t := c.left[i]
	c.left = slices.Delete(c.left, i, i+1)
	return t, true
}

// carrier is the transport to a target: TCP if the request is too large for a
// datagram (RFC 3261 §18.1.1).
func (c *course) carrier(t target) transport {
	if t.transport == transportUDP && c.template.size(c.a.reachedAt(c.a.listenerFor(t), t)) > maxDatagram {
		return transportTCP
	}
	return t.transport
}

// transaction makes the transaction of one attempt. Its machine and its report
// are the caller's. over differs from the target's transport when the size asks
// for TCP.
func (c *course) transaction(t target, over transport, k branchKey) (*transaction, error) {
	via := target{over, t.addr}
	w, err := c.a.wireTo(via)
	if err != nil {
		return nil, err
	}
	tx := &transaction{
		key:     k,
		method:  c.req.Method,
		cseq:    c.req.CSeq,
		callID:  c.req.CallID,
		fromTag: c.req.FromTag,
		sentBy:  c.a.reachedAt(c.a.listenerFor(via), via),
		wire:    w,
		resent:  c.req.Retransmitted,
	}
	tx.packet = c.template.packet(over, tx.sentBy, k)
	return tx, nil
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

// response translates a response to the request.
func (c *course) response(r result) *messages.SIPResponse {
	response := translate(r.response, c.contact)
	response.Source = r.from.String()
	if c.req.Method != "REGISTER" {
		response.Dialog = dialogInfo(r.response)
	}
	return response
}

// doubt closes a connection on which nothing was heard since a request that
// timed out left.
func doubt(w wire, r result, since time.Time) {
	if s, ok := w.(*stream); ok && r.timedOut() {
		s.suspect(since)
	}
}

// refused: the target wants no TCP, so that a request that only its size sent
// there goes by UDP after all (GEN-11).
func refused(w wire, err error) bool {
	s, ok := w.(*stream)
	return ok && s.refusedTCP(err)
}

func (a *Adapter) countRequest(method string) {
	a.stats.sent.Add(1)
	a.counters.RequestSent(method)
}
