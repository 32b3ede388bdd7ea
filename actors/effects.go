package actors

import (
	"fmt"
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// perform carries out one effect. Nothing here changes the state: what comes
// of it returns as a command.
func (a *profileActor) perform(ctx actor.Context, e profile.Effect) {
	switch e := e.(type) {
	case profile.SendRequest:
		a.sendInTurn(e.Attempt)
	case profile.AskCredentials:
		a.ask(ctx, e)
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
	if a.slot && !a.slotSpent && !a.paused {
		a.slotSpent = true
		a.send()
		return
	}
	self, root, b := a.self, a.farm.root, a.busy
	answer := pacedSend{send: func() { root.Send(self, &sendNow{busy: b, attempt: attempt}) }}
	if a.paused {
		answer.id, answer.prepaid = a.id, !a.slotSpent
		a.slotSpent, a.paused = true, false
	}
	gate := a.farm.turnstile(a.state().Spec.Registrar)
	// Without a gate the registrar was removed; the attempt ends by itself.
	if gate == nil || gate.answer(answer, a.heard) {
		a.send()
	}
}

// sending is a request that is out, and the message that brings its outcome.
type sending struct {
	busy    *busy
	attempt uint64
	proofs  []*messages.ExpectedProof
	request messages.SIPRequest
	outcome messages.SIPOutcome
	report  func(messages.SIPOutcome)
	// received is outcome as a command.
	received profile.ResponseReceived
}

func newSending(f *Farm, to *actor.PID) *sending {
	s := new(sending)
	s.report = func(o messages.SIPOutcome) {
		s.outcome = o
		f.root.Send(to, s)
	}
	return s
}

// send builds the open attempt's request and hands it to the adapter.
func (a *profileActor) send() {
	a.gate = a.state().Spec.Registrar
	s := a.spare
	if a.spare = nil; s == nil {
		s = newSending(a.farm, a.self)
	}
	s.busy, s.attempt, s.proofs = a.busy, a.state().Attempt.Number, a.proofs
	a.fill(&s.request)
	a.farm.sender.Send(&s.request, s.report)
}

// reported takes the outcome of a request.
func (a *profileActor) reported(ctx actor.Context, s *sending) {
	if s.busy == a.busy {
		a.note(&s.outcome)
		a.handle(ctx, s.command())
	}
	*s = sending{report: s.report}
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
	r, _ := a.farm.registrar(s.Spec.Registrar)
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
