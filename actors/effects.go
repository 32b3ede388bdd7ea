package actors

import (
	"fmt"
	"strings"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// perform carries out one effect. Nothing here changes the state: what comes
// of it returns as a command.
func (a *profileActor) perform(e profile.Effect) {
	switch e := e.(type) {
	case profile.SendRequest:
		a.sendInTurn(e.Attempt)
	case profile.AskCredentials:
		a.ask(e)
	case profile.Deliver:
		if a.fetched != nil {
			a.fetched(e.Contacts, nil)
			a.fetched = nil
		}
	default:
		panic(fmt.Sprintf("actors: unknown effect %T", e))
	}
}

// sendInTurn sends the request of an attempt. The slot that the gate granted
// covers the first request of a chain; every other one takes its turn there,
// before fresh attempts.
func (a *profileActor) sendInTurn(attempt uint64) {
	s := a.spare
	if a.spare = nil; s == nil {
		s = newSending(a)
	}
	s.number, s.attempt = a.current, attempt
	if a.slot && !a.slotSpent && !a.paused {
		a.slotSpent = true
		a.send(s)
		return
	}
	answer := pacedSend{send: s.turn}
	if a.paused {
		answer.id, answer.prepaid = a.id, !a.slotSpent
		a.slotSpent, a.paused = true, false
	}
	gate := a.registrar(a.state().Spec.Registrar).turnstile
	// Without a gate the registrar was removed; the attempt ends by itself.
	if gate == nil || gate.answer(answer, a.heard) {
		a.send(s)
	}
}

// sending is a request, and the message that it may leave or, once it has, what
// came of it. It is the actor's or on its way, so that it can be used again.
type sending struct {
	// number is that of the actor's time with the profile.
	number, attempt uint64
	left            bool
	proofs          []*messages.ExpectedProof
	request         messages.SIPRequest
	outcome         messages.SIPOutcome
	turn            func()
	report          func(messages.SIPOutcome)
	// received is outcome as a command.
	received profile.ResponseReceived
}

func newSending(a *profileActor) *sending {
	s := new(sending)
	s.turn = func() { a.tell(s) }
	s.report = func(o messages.SIPOutcome) {
		s.outcome = o
		a.tell(s)
	}
	return s
}

// send builds the open attempt's request and hands it to the adapter.
func (a *profileActor) send(s *sending) {
	a.gate = a.state().Spec.Registrar
	s.left, s.proofs = true, a.proofs
	a.fill(&s.request)
	a.farm.sender.Send(&s.request, s.report)
}

// returned takes a request that may leave, or the outcome of one.
func (a *profileActor) returned(s *sending) {
	if s.number == a.current {
		switch {
		case s.left:
			a.note(&s.outcome)
			a.handle(s.command())
		case a.state().Attempt.Open && a.state().Attempt.Number == s.attempt:
			a.send(s)
			return
		}
	}
	*s = sending{report: s.report, turn: s.turn}
	a.spare = s
}

// command is what the outcome means to the core.
func (s *sending) command() profile.Command {
	r := s.outcome.Response
	if r == nil {
		return profile.RequestFailed{Attempt: s.attempt, Failure: s.outcome.Failure}
	}
	s.received = profile.ResponseReceived{Attempt: s.attempt, Response: r}
	if r.Status < 300 {
		s.received.Proof = proofOf(r.AuthInfo, s.proofs)
	}
	return &s.received
}

// proofOf joins the verdicts on all (Proxy-)Authentication-Info headers: one
// wrong proof spoils the others.
func proofOf(infos []messages.AuthInfo, proofs []*messages.ExpectedProof) string {
	joined := ""
	for _, info := range infos {
		switch v := digest.VerifyInfo(info, proofs); v {
		case "wrong":
			return v
		case "verified":
			joined = v
		}
	}
	return joined
}

// fill makes q the REGISTER of the open attempt (RFC 3261 §10.2).
func (a *profileActor) fill(q *messages.SIPRequest) {
	s := a.state()
	r := a.registrar(s.Spec.Registrar)
	uri, requestURI := a.target(r)
	*q = messages.SIPRequest{
		NextHop: uri, Method: "REGISTER", RequestURI: requestURI,
		From: s.Spec.AOR, FromTag: s.FromTag, To: s.Spec.AOR,
		CallID: s.CallID, CSeq: s.CSeq,
		ContactUser: ContactUser(s.Spec), Expires: int64(s.Attempt.ExpiresSeconds),
		Supported: without(registerTags, s.Dropped),
		Mutations: a.mutations, MutableHeaders: a.farm.xsps.Load().headers[s.Attempt.Handler],
		Retransmitted: r.retransmitted,
	}
	if r.config.OutboundProxy != "" && len(s.Attempt.Targets) == 0 {
		q.NextHop, q.Route = r.config.OutboundProxy, r.route
	}
	switch s.Attempt.Purpose {
	case messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH:
		q.NoContact, q.Expires = true, -1
	case messages.AttemptPurpose_ATTEMPT_PURPOSE_UNREGISTER:
		q.Expires = 0
	}
}

// registerTags are the option tags of a REGISTER (RFC 3327 §5.1).
var registerTags = []string{"path"}

// target is where the attempt's request goes, and its Request-URI: the registrar,
// or where it was redirected to.
func (a *profileActor) target(r *registrar) (uri, asRequestURI string) {
	if n := len(a.state().Attempt.Targets); n > 0 {
		uri = a.state().Attempt.Targets[n-1]
		return uri, requestURI(uri)
	}
	return r.config.URI, r.requestURI
}

// requestURI is the URI without its parameters and headers: RFC 3261 §10.2
// wants the registrar's domain, and §19.1.1 allows transport in a Request-URI
// only as a hint that the next hop has served already.
func requestURI(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	uri, _, _ = strings.Cut(uri, ";")
	return uri
}

// ContactUser is the user part of a profile's Contact: its own, else that of
// its AOR.
func ContactUser(s profile.Spec) string {
	if s.ContactUser != "" {
		return s.ContactUser
	}
	return messages.UserPart(s.AOR)
}

func without(tags, dropped []string) []string {
	if len(dropped) == 0 {
		return tags
	}
	var kept []string
	for _, t := range tags {
		if !containsFold(dropped, t) {
			kept = append(kept, t)
		}
	}
	return kept
}

func containsFold(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}
