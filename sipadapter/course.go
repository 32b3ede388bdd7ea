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
	usual    bool     // a usual REGISTER, for which there is no template
	route    string   // of a usual REGISTER
	template template // everything but the Via
	host     string   // of our Contact URI, and what follows it; of a usual REGISTER
	contact  string   // our Contact URI; of all others
	reach    *reach   // of the last target
	left     []target // not tried yet, in the order of RFC 3263; shared when it is one
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
func (c *course) admit(fits func(method string) error) (*hop, failure) {
	a := c.a
	if a.state.Load() != stateRunning {
		return nil, failure{messages.ReasonTransport, errClosed.Error()}
	}
	if err := fits(c.req.Method); err != nil {
		return nil, failure{messages.ReasonConfiguration, err.Error()}
	}
	if !c.isUsual() {
		if fault := c.check(); fault != (failure{}) {
			return nil, fault
		}
	}
	h, err := a.hopOf(c.req.NextHop)
	if err != nil {
		return nil, misfit(err)
	}
	if a.stats.pending.Add(1) > int64(a.opts.MaxPending) {
		a.stats.pending.Add(-1)
		return nil, failure{messages.ReasonTransport, errPending.Error()}
	}
	return h, failure{}
}

func (c *course) isUsual() bool {
	if c.a.seams.plain || !isUsual(c.req, c.a.opts.UserAgent) {
		return false
	}
	c.usual = true
	if len(c.req.Route) > 0 {
		c.route, c.usual = c.a.looseRoute(c.req.Route[0])
	}
	return c.usual
}

func (c *course) check() failure {
	if err := check(c.req); err != nil {
		return misfit(err)
	}
	if err := mutation.Check(c.req.Mutations, c.req.MutableHeaders); err != nil {
		return failure{messages.ReasonMutation, err.Error()}
	}
	return failure{}
}

// misfit tells what cannot travel here from what cannot travel anywhere.
func misfit(err error) failure {
	if errors.Is(err, errInsecure) {
		return failure{messages.ReasonTransport, err.Error()}
	}
	return failure{messages.ReasonConfiguration, err.Error()}
}

// chart takes the plan, for which DNS is asked once per request (ERR-11).
func (c *course) chart(p plan, err error) failure {
	switch {
	case errors.Is(err, errClosed):
		return failure{messages.ReasonTransport, err.Error()}
	case err != nil:
		return failure{messages.ReasonResolve, err.Error()}
	}
	c.left = p.order(c.req.CallID)
	return failure{}
}

// write writes the request, whose header lines it returns.
func (c *course) write() ([]line, failure) {
	c.contact = c.a.contactFor(c.req.ContactUser, c.left[0])
	if _, err := parseURI(c.contact); err != nil {
		return nil, failure{messages.ReasonConfiguration, "our Contact: " + err.Error()}
	}
	requestURI, lines := requestLines(c.req, c.contact, c.a.opts.UserAgent)
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
	if i == 0 {
		c.left = c.left[1:]
	} else {
		c.left = slices.Delete(c.left, i, i+1)
	}
	return t, true
}

// carrier is the transport to a target: TCP if the request is too large for a
// datagram (RFC 3261 §18.1.1).
func (c *course) carrier(t target) transport {
	if t.transport == transportUDP && !c.usual && c.template.size(c.reachOf(t).sentBy) > maxDatagram {
		return transportTCP
	}
	return t.transport
}

// transaction fills in the transaction of one attempt, but for its packet. Its
// machine and its report are the caller's. over differs from the target's
// transport when the size asks for TCP.
func (c *course) transaction(tx *transaction, t target, over transport, k branchKey) error {
	via := target{over, t.addr}
	reach := c.reachOf(via)
	if tx.wire = reach.wire; tx.wire == nil {
		w, err := c.a.wireTo(via)
		if err != nil {
			return err
		}
		tx.wire = w
	}
	tx.key = k
	tx.method, tx.cseq = c.req.Method, c.req.CSeq
	tx.callID, tx.fromTag = c.req.CallID, c.req.FromTag
	tx.sentBy = reach.sentBy
	tx.resent = c.req.Retransmitted
	return nil
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

// response translates a response from a target to the request.
func (c *course) response(t target, r result) *messages.SIPResponse {
	ours := c.contact
	if m := r.response; c.usual && m.status >= 200 && m.status < 300 {
		ours = "sip:" + c.req.ContactUser + "@" + c.host
	}
	response := translate(r.response, ours)
	if response.Source = c.reachOf(t).source; r.from != t.addr {
		response.Source = r.from.String()
	}
	if !c.usual && c.req.Method != "REGISTER" {
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
