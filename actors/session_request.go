package actors

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// allowed are the methods that a session takes, as Allow says it (RFC 3261
// §20.5). INVITE and UPDATE say it, so that the peer knows how to change the
// session (RFC 3311 §5.1).
const allowed = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, REFER, MESSAGE, NOTIFY"

// addressed is the request of an open attempt without what it says: all that is
// asked of it before it leaves. toRegistrar tells that it goes to the registrar
// or its proxy.
func (a *sessionActor) addressed(r session.Request) (q *messages.SIPRequest, toRegistrar bool) {
	s := a.state
	q = &messages.SIPRequest{
		Method: r.GetMethod(), From: a.spec.GetAor(), FromTag: s.LocalTag, To: a.spec.GetPeer(),
		CallID: s.CallID, CSeq: r.GetCseq(), Branch: r.GetBranch(), Expires: -1,
		ContactUser: a.spec.GetContactUser(), NoContact: !hasContact(r.GetMethod()), Supported: []string{"timer"},
	}
	switch {
	case r.GetDialog() != nil:
		a.direct(q, r.GetDialog())
	case s.Dialog != nil:
		a.direct(q, s.Dialog)
	default:
		a.directFirst(q)
	}
	return q, a.leadsToRegistrar(q)
}

// request builds the request of an open attempt. fault is why it cannot be made:
// the registrar or trunk that it goes to is gone, or the body is with the
// process that had it.
func (a *sessionActor) request(r session.Request) (q *messages.SIPRequest, toRegistrar bool, fault messages.Reason) {
	q, toRegistrar = a.addressed(r)
	if toRegistrar {
		r, _ := a.farm.registrar(a.spec.GetRegistrar())
		q.Retransmitted = r.retransmitted
	}
	if !a.spec.GetTrunkLeg() {
		q.Mutations = a.memory.answers[r.GetAttempt()].mutations
		q.MutableHeaders = a.farm.xsps.Load().headers[r.GetHandler()]
	}
	q.Headers = a.headers(r)
	body, given := a.bodyOf(r)
	q.Headers = append(q.Headers, given...)
	q.ContentType, q.Body = body.contentType, body.body
	if q.Method == "INVITE" && len(q.Body) > 0 {
		// Without an offer of ours a reliable response would hold the peer's, and
		// its PRACK had to hold our answer (RFC 3262 §5), which comes in the ACK.
		q.Supported = append(q.Supported, "100rel")
	}
	switch {
	case q.NextHop == "":
		fault = messages.ReasonConfiguration
	case r.GetBody() && body.empty():
		fault = messages.ReasonInterrupted
	}
	return q, toRegistrar, fault
}

// hasContact: the requests that make a dialog or move its remote target (RFC
// 3261 §12.2.1.1, RFC 3311 §5.1, RFC 3515 §2.2, RFC 6665 §4.2.1).
func hasContact(method string) bool {
	return method == "INVITE" || method == "UPDATE" || method == "REFER" || method == "NOTIFY"
}

// directFirst addresses an INVITE outside a dialog: by way of the registrar's
// proxy, else of the Service-Route that came with the binding (RFC 3608 §5), else
// to the registrar. A redirected one goes the same way, so that its credentials
// do (S-06).
func (a *sessionActor) directFirst(q *messages.SIPRequest) {
	q.RequestURI = a.spec.GetPeer()
	if a.state.Target != "" {
		q.RequestURI = a.state.Target
	}
	if a.spec.GetTrunkLeg() {
		q.NextHop = a.farm.trunkURI(a.spec.GetTrunk())
		return
	}
	r, _ := a.farm.registrar(a.spec.GetRegistrar())
	binding := a.profile.state().Binding
	switch {
	case r.config.OutboundProxy != "":
		q.NextHop, q.Route = r.config.OutboundProxy, []string{r.config.OutboundProxy}
	case !binding.Until.IsZero() && len(binding.ServiceRoute) > 0:
		q.NextHop, q.Route = routeURI(binding.ServiceRoute[0]), slices.Clone(binding.ServiceRoute)
	default:
		q.NextHop = r.config.URI
	}
}

// trunkURI is where the calls to a trunk's peer go, "" when it is gone.
func (f *Farm) trunkURI(name string) string {
	return f.trunks().named(name).URI
}

// direct addresses a request inside a dialog (RFC 3261 §12.2.1.1). The first
// route is the next hop behind a strict router as well: the adapter then writes
// it into the Request-URI.
func (a *sessionActor) direct(q *messages.SIPRequest, d *messages.Dialog) {
	q.ToTag = d.GetRemoteTag()
	if a.state.Reason == messages.ReasonNoContact && !a.state.Inbound() && len(d.GetRouteSet()) == 0 {
		// The peer did not say where it is: what remains is where the INVITE went.
		a.directFirst(q)
		return
	}
	q.RequestURI, q.Route, q.NextHop = d.GetTarget(), d.GetRouteSet(), d.GetTarget()
	if len(q.Route) > 0 {
		q.NextHop = routeURI(q.Route[0])
	}
}

// routeURI is the URI of a Route.
func routeURI(route string) string {
	if _, rest, bracketed := strings.Cut(route, "<"); bracketed {
		uri, _, _ := strings.Cut(rest, ">")
		return uri
	}
	return strings.TrimSpace(route)
}

// headers are the lines of a request that follow from what was recorded.
func (a *sessionActor) headers(r session.Request) []messages.Header {
	var headers []messages.Header
	add := func(name, value string) { headers = append(headers, messages.Header{Name: name, Value: value}) }
	if r.GetMethod() == "INVITE" || r.GetMethod() == "UPDATE" {
		add("Allow", allowed)
	}
	if n := r.GetSessionExpires(); n > 0 {
		value := strconv.FormatUint(uint64(n), 10)
		switch {
		case a.state.Interval == 0:
		case a.state.Refresher: // RFC 4028 §7.4: the roles stay
			value += ";refresher=uac"
		default:
			value += ";refresher=uas"
		}
		add("Session-Expires", value)
	}
	if n := r.GetMinSe(); n > 0 {
		add("Min-SE", strconv.FormatUint(uint64(n), 10))
	}
	if r.GetMethod() == "PRACK" {
		add("RAck", strconv.FormatUint(uint64(r.GetRseq()), 10)+" "+strconv.FormatUint(uint64(r.GetRackCseq()), 10)+" INVITE")
	}
	return headers
}

// bodyOf is the body of a request with the lines that its sender gave.
func (a *sessionActor) bodyOf(r session.Request) (body description, given []messages.Header) {
	of := content{}
	switch {
	case r.GetMethod() == "BYE" && r.GetDialog() == nil:
		return description{}, a.memory.byeHeaders
	case r.GetMethod() == "INVITE" && !a.state.Established():
		of = a.memory.first
	case r.GetRefresh():
		of.description = a.ourDescription()
	default:
		of = a.memory.chains[r.GetChain()].content
	}
	if !r.GetBody() {
		of.description = description{}
	}
	return of.description, of.headers
}

// ack is the ACK of a 2xx: it has the number and the credentials of its INVITE
// (RFC 3261 §13.2.2.4, §22.1; INV-01, CHA-07).
func (a *sessionActor) ack(e session.Acknowledge) *messages.SIPRequest {
	q := &messages.SIPRequest{
		Method: "ACK", From: a.spec.GetAor(), FromTag: a.state.LocalTag, To: a.spec.GetPeer(),
		CallID: a.state.CallID, CSeq: e.CSeq, Expires: -1, NoContact: true,
	}
	a.direct(q, e.Dialog)
	if e.Credentials && !a.spec.GetTrunkLeg() {
		for _, m := range a.memory.answers[e.Attempt].mutations {
			if name := mutation.Canonical(m.GetName()); name == "authorization" || name == "proxy-authorization" {
				q.Mutations = append(q.Mutations, m)
			}
		}
	}
	if e.Body {
		q.ContentType, q.Body = a.memory.answer.contentType, a.memory.answer.body
		a.memory.answer = description{}
	}
	return q
}
