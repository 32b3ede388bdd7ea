package actors

import (
	"fmt"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// question is an AuthChallenge that is out.
type question struct {
	ref     string
	attempt uint64
	handler string
	asked   time.Time
	spaces  map[uint32]*messages.Challenge
}

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
	if a.slot && !a.slotSpent {
		a.slotSpent = true
		a.send()
		return
	}
	self, root := a.self, a.farm.root
	permit := &paceAnswer{heard: a.heard, send: func() { root.Send(self, &sendNow{attempt: attempt}) }}
	if !a.farm.toGate(a.state.Spec.Registrar, permit) {
		a.send() // the registrar was removed; the attempt ends by itself
	}
}

// send builds the open attempt's request and hands it to the adapter.
func (a *profileActor) send() {
	a.gate = a.state.Spec.Registrar
	request := a.request()
	attempt, proofs := a.state.Attempt.Number, a.proofs
	self, root := a.self, a.farm.root
	a.farm.sender.Send(request, func(o messages.SIPOutcome) {
		root.Send(self, &observed{command: outcome(attempt, o, proofs)})
	})
}

// outcome translates a report of the adapter.
func outcome(attempt uint64, o messages.SIPOutcome, proofs []*messages.ExpectedProof) profile.Command {
	if o.Response == nil {
		return profile.RequestFailed{Attempt: attempt, Failure: o.Failure}
	}
	c := profile.ResponseReceived{Attempt: attempt, Response: o.Response}
	if o.Response.Status < 300 {
		c.Proof = verdict(o.Response.AuthInfo, proofs)
	}
	return c
}

// verdict joins the verdicts on all (Proxy-)Authentication-Info headers: one
// wrong proof spoils the others.
func verdict(infos []messages.AuthInfo, proofs []*messages.ExpectedProof) string {
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

// request is the REGISTER of the open attempt (RFC 3261 §10.2).
func (a *profileActor) request() *messages.SIPRequest {
	s := a.state
	r, _ := a.farm.registrar(s.Spec.Registrar)
	uri := r.config.URI
	if n := len(s.Attempt.Targets); n > 0 {
		uri = s.Attempt.Targets[n-1]
	}
	q := &messages.SIPRequest{
		NextHop: uri, Method: "REGISTER", RequestURI: requestURI(uri),
		From: s.Spec.AOR, FromTag: s.FromTag, To: s.Spec.AOR,
		CallID: s.CallID, CSeq: s.CSeq,
		ContactUser: ContactUser(s.Spec), Expires: int64(s.Attempt.ExpiresSeconds),
		Supported: without([]string{"path"}, s.Dropped), Mutations: a.mutations,
	}
	if r.config.OutboundProxy != "" && len(s.Attempt.Targets) == 0 {
		q.NextHop = r.config.OutboundProxy
		q.Route = []string{r.config.OutboundProxy}
	}
	switch s.Attempt.Purpose {
	case messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH:
		q.NoContact, q.Expires = true, -1
	case messages.AttemptPurpose_ATTEMPT_PURPOSE_UNREGISTER:
		q.Expires = 0
	}
	name, farm := s.Spec.Registrar, a.farm
	q.Retransmitted = func() { farm.toGate(name, &retransmitted{}) }
	return q
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
	return userPart(s.AOR)
}

func userPart(aor string) string {
	_, rest, _ := strings.Cut(aor, ":")
	user, _, found := strings.Cut(rest, "@")
	if !found {
		return ""
	}
	return user
}

func without(tags, dropped []string) []string {
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

// ask sends the question to the authenticator that the attempt names.
func (a *profileActor) ask(ctx actor.Context, e profile.AskCredentials) {
	s, now := a.state, time.Now()
	challenges := s.Challenge.Questions(s.Attempt.Answers)
	a.mutations, a.proofs = nil, nil
	a.asked = &question{ref: a.farm.token(), attempt: e.Attempt, handler: e.Handler, asked: now, spaces: map[uint32]*messages.Challenge{}}
	for _, c := range challenges {
		a.asked.spaces[c.GetIndex()] = c
	}
	pid, ok := a.farm.handler(e.Handler)
	if !ok {
		a.withheld(ctx, messages.ReasonHandler, 0)
		return
	}
	r, _ := a.farm.registrar(s.Spec.Registrar)
	uri := r.config.URI
	if n := len(s.Attempt.Targets); n > 0 {
		uri = s.Attempt.Targets[n-1]
	}
	ctx.Request(pid, &messages.AuthChallenge{
		Ref: a.asked.ref, Purpose: messages.Purpose_REGISTRATION, ProfileId: a.id, Aor: s.Spec.AOR,
		Method: "REGISTER", RequestUri: requestURI(uri), StatusCode: e.Status,
		Round: s.Attempt.Round, Rejected: e.Rejected,
		Deadline: timestamppb.New(now.Add(answerDeadline)), Challenges: challenges,
		BodyHashes: bodyHashes(challenges, nil),
	})
}

// answerDeadline is how long an authenticator may take.
const answerDeadline = 5 * time.Second

// bodyHashes holds the hash of the body for each algorithm that an auth-int
// offer needs; nil when none does.
func bodyHashes(challenges []*messages.Challenge, body []byte) map[string]string {
	offered := false
	for _, c := range challenges {
		offered = offered || strings.Contains(strings.ToLower(c.GetParams()["qop"]), "auth-int")
	}
	if !offered {
		return nil
	}
	hashes := map[string]string{}
	for _, algorithm := range []string{"MD5", "SHA-256", "SHA-512-256"} {
		hashes[algorithm] = digest.BodyHash(algorithm, string(body))
	}
	return hashes
}

// answered takes the one answer that counts.
func (a *profileActor) answered(ctx actor.Context, m *messages.AuthAnswer) {
	q := a.asked
	if q == nil || q.ref != m.GetRef() || !a.state.Attempt.Open || q.attempt != a.state.Attempt.Number {
		a.farm.observer.ChallengeAnswered(handlerClass(""), "late")
		return
	}
	a.asked = nil
	if err := checkAnswer(m, q.spaces); err != nil {
		a.farm.observer.ChallengeAnswered(handlerClass(q.handler), "invalid")
		a.farm.log.Warn("authenticator's answer refused", "profile", a.id, "handler", q.handler, "error", err)
		a.asked = q
		a.withheld(ctx, messages.ReasonMutation, 0)
		return
	}
	a.mutations, a.proofs = m.GetMutations(), m.GetProofs()
	a.farm.observer.ChallengeAnswered(handlerClass(q.handler), "answered")
	a.handle(ctx, profile.CredentialsOffered{Attempt: q.attempt, Handler: q.handler, Elapsed: time.Since(q.asked)})
}

func (a *profileActor) refused(ctx actor.Context, m *messages.AuthRefusal) {
	q := a.asked
	if q == nil || q.ref != m.GetRef() || !a.state.Attempt.Open || q.attempt != a.state.Attempt.Number {
		a.farm.observer.ChallengeAnswered(handlerClass(""), "late")
		return
	}
	a.farm.observer.ChallengeAnswered(handlerClass(q.handler), "refused")
	reason, wait := messages.Reason(m.GetRefusal().GetReason()), time.Duration(-1)
	if q.handler != digestHandler {
		reason = messages.ReasonHandlerRefused // free text of a stranger is no reason of ours
	}
	if s := m.GetRefusal().GetRetryAfterSeconds(); s > 0 {
		wait = time.Duration(s) * time.Second
	}
	a.withheld(ctx, reason, wait)
}

func (a *profileActor) withheld(ctx actor.Context, reason messages.Reason, retryAfter time.Duration) {
	q := a.asked
	a.asked = nil
	if retryAfter == 0 {
		retryAfter = time.Second // no answer is not the peer's "at once"
	}
	a.handle(ctx, profile.CredentialsWithheld{Attempt: q.attempt, Handler: q.handler, Reason: reason, RetryAfter: retryAfter})
}

// digestHandler is the name of the DigestActor.
const digestHandler = "digest"

func handlerClass(name string) string {
	if name == digestHandler || name == "" {
		return "digest"
	}
	return "xsp"
}
