package actors

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// verdict is what became of one question. Profile actors take nothing else for
// an answer, and only this package can make one: whoever holds a PID can send
// a message, but not this one (S-41).
type verdict struct {
	ref, handler string
	// Either answer, which was checked, or refusal, or failure is set.
	answer  *messages.AuthAnswer
	checked mutation.Checked
	refusal *xsp.Refusal
	failure messages.Reason
	// detail is why there is no answer, in words for people and without values.
	detail  string
	outcome string
}

// How a question ends: the label values of muster_challenges_total.
const (
	outcomeAnswered    = "answered"
	outcomeRefused     = "refused"
	outcomeTimeout     = "timeout"
	outcomeInvalid     = "invalid"
	outcomeError       = "error"
	outcomeUnavailable = "unavailable"
	outcomeLate        = "late"
)

// Outcomes lists how a question to an authenticator can end.
func Outcomes() []string {
	return []string{
		outcomeAnswered, outcomeRefused, outcomeTimeout, outcomeInvalid,
		outcomeError, outcomeUnavailable, outcomeLate,
	}
}

// xspActor stands between the profiles and one xSP. The xSP may hang, panic,
// flood and lie: this actor waits for nothing, and each profile gets exactly
// one verdict by its deadline.
type xspActor struct {
	farm   *Farm
	config XSP
	auth   xsp.Authenticator
	gate   *xspGate
	self   *actor.PID
	// pending are the questions that wait or are out, by reference.
	pending map[string]*asking
	// retired close the authenticators that were replaced.
	retired   []func()
	tally     tally
	lastAt    time.Time
	lastError string
}

// Messages to an xSP actor, besides *messages.AuthChallenge.
type (
	// questionEnded: the xSP's code has returned.
	questionEnded struct {
		ref     string
		verdict *verdict
	}
	// questionLate: its deadline has passed.
	questionLate   struct{ ref string }
	reconfigureXSP struct{ config XSP }
	xspStatus      struct{ reply chan<- XSPView }
)

func (x *xspActor) Receive(ctx actor.Context) {
	now := time.Now()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		x.self = ctx.Self()
		x.use(ctx, x.config)
		return
	case *actor.Stopping:
		x.end()
		return
	case *messages.AuthChallenge:
		x.question(now, m, ctx.Sender())
	case *questionEnded:
		x.ended(now, m)
	case *questionLate:
		x.late(now, m.ref)
	case *reconfigureXSP:
		if !same(x.auth, m.config.Authenticator) {
			x.retire()
		}
		x.lastError = "" // it was another one's
		x.use(ctx, m.config)
	case *xspStatus:
		m.reply <- x.view()
		return
	default:
		return
	}
	x.pump(now)
}

// use puts a configuration into force. What is out stays with the old one.
func (x *xspActor) use(ctx actor.Context, config XSP) {
	x.config, x.auth = config, config.Authenticator
	if config.Actor != nil {
		x.auth = newActorAuthenticator(x.farm.system, ctx.Spawn(config.Actor), x.farm.token())
	}
	x.gate.configure(config)
}

// same tells whether an authenticator stays in force. Functions cannot be
// compared, and need no closing.
func same(a, b xsp.Authenticator) bool {
	return a != nil && b != nil && reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// retire closes the authenticator once nothing can be out with it.
func (x *xspActor) retire() {
	if c, ok := x.auth.(io.Closer); ok {
		once := sync.OnceFunc(func() { _ = c.Close() })
		x.retired = append(x.retired, once)
		x.farm.after(2*x.timeout(), once)
	}
}

func (x *xspActor) end() {
	for _, a := range x.pending {
		x.tell(a, x.failure(a, outcomeUnavailable, "the node stops or the xSP is not configured any more"))
	}
	for _, c := range x.retired {
		c()
	}
	_ = closeAuthenticator(x.auth)
}

func (x *xspActor) timeout() time.Duration {
	if x.config.Timeout > 0 {
		return x.config.Timeout
	}
	return defaultXSPTimeout
}

func (x *xspActor) question(now time.Time, q *messages.AuthChallenge, from *actor.PID) {
	a := &asking{question: q, from: from, asked: now}
	if why := x.gate.take(now, a); why != "" {
		x.tell(a, x.failure(a, outcomeUnavailable, why))
		return
	}
	x.pending[q.GetRef()] = a
	ref, self, root := q.GetRef(), x.self, x.farm.root
	a.limit = time.AfterFunc(q.GetDeadline().AsTime().Sub(now), func() { root.Send(self, &questionLate{ref: ref}) })
}

// pump sends what may go.
func (x *xspActor) pump(now time.Time) {
	for a := x.gate.next(now); a != nil; a = x.gate.next(now) {
		x.call(a)
	}
	x.farm.observer.XSP(x.config.Name, len(x.gate.queue), x.gate.out, !x.gate.open)
}

// call asks on a goroutine of its own, which the concurrency bounds.
func (x *xspActor) call(a *asking) {
	auth, headers, name, q := x.auth, x.config.Headers, x.config.Name, a.question
	self, root := x.self, x.farm.root
	ctx, cancel := context.WithDeadline(context.Background(), q.GetDeadline().AsTime())
	go func() {
		defer cancel()
		v := consult(ctx, auth, q, headers)
		v.ref, v.handler = q.GetRef(), name
		root.Send(self, &questionEnded{ref: q.GetRef(), verdict: v})
	}()
}

// consult calls somebody else's code and weighs what it says, as a whole,
// before anything of it is used (S-45).
func consult(ctx context.Context, auth xsp.Authenticator, q *messages.AuthChallenge, headers []string) (v *verdict) {
	defer func() {
		if reason := recover(); reason != nil {
			v = &verdict{failure: messages.ReasonHandler, outcome: outcomeError, detail: "it panicked"}
		}
	}()
	answer, err := auth.Answer(ctx, q)
	var refusal *xsp.Refusal
	switch {
	case errors.As(err, &refusal):
		return &verdict{refusal: refusal, outcome: outcomeRefused, detail: xsp.Printable(refusal.Reason)}
	case errors.Is(err, xsp.ErrMalformed):
		return &verdict{failure: messages.ReasonMutation, outcome: outcomeInvalid, detail: xsp.Printable(err.Error())}
	case ctx.Err() != nil:
		return &verdict{failure: messages.ReasonHandler, outcome: outcomeTimeout, detail: "no answer in time"}
	case err != nil:
		return &verdict{failure: messages.ReasonHandler, outcome: outcomeError, detail: xsp.Printable(err.Error())}
	case answer == nil:
		return &verdict{failure: messages.ReasonMutation, outcome: outcomeInvalid, detail: "no answer and no refusal"}
	case answer.GetRef() != "" && answer.GetRef() != q.GetRef():
		return &verdict{failure: messages.ReasonMutation, outcome: outcomeInvalid, detail: "it answers another question"}
	}
	checked, err := mutation.CheckAnswer(q, answer, headers)
	if err != nil {
		return &verdict{failure: messages.ReasonMutation, outcome: outcomeInvalid, detail: xsp.Printable(err.Error())}
	}
	return &verdict{answer: answer, checked: checked, outcome: outcomeAnswered}
}

// ended takes what the xSP said. After the deadline it counts as late and
// changes nothing but its place.
func (x *xspActor) ended(now time.Time, m *questionEnded) {
	a, ok := x.pending[m.ref]
	if !ok {
		return
	}
	delete(x.pending, m.ref)
	a.limit.Stop()
	x.gate.free(a)
	if a.told {
		x.farm.observer.ChallengeAnswered(x.config.Name, outcomeLate, 0)
		return
	}
	switch m.verdict.outcome {
	case outcomeAnswered, outcomeRefused:
		x.gate.succeeded()
		x.lastAt = now
	default:
		x.failed(now, a, m.verdict.detail)
	}
	x.tell(a, m.verdict)
}

// late gives the profile its verdict at the deadline, whatever the xSP does.
func (x *xspActor) late(now time.Time, ref string) {
	a, ok := x.pending[ref]
	if !ok || a.told {
		return
	}
	detail := "no answer in time"
	if !a.sent {
		delete(x.pending, ref)
		x.gate.drop(a)
		detail = "its turn did not come in time"
	} else {
		x.failed(now, a, detail)
	}
	x.tell(a, x.failure(a, outcomeTimeout, detail))
}

func (x *xspActor) failed(now time.Time, a *asking, why string) {
	wasOpen := x.gate.open
	x.gate.failed(now, a, rand.Float64())
	x.lastError = why
	if x.gate.open && !wasOpen {
		x.farm.log.Warn("xSP does not answer; its breaker is open", "xsp", x.config.Name, "cause", why)
	}
	for _, a := range x.gate.shed() {
		delete(x.pending, a.question.GetRef())
		a.limit.Stop()
		x.tell(a, x.failure(a, outcomeUnavailable, "its breaker is open"))
	}
}

func (x *xspActor) failure(a *asking, outcome, detail string) *verdict {
	return &verdict{ref: a.question.GetRef(), handler: x.config.Name, failure: messages.ReasonHandler, outcome: outcome, detail: detail}
}

// tell gives a question's profile its one verdict.
func (x *xspActor) tell(a *asking, v *verdict) {
	if a.told {
		return
	}
	a.told = true
	elapsed := time.Since(a.asked)
	x.tally.add(v.outcome, elapsed)
	x.farm.observer.ChallengeAnswered(x.config.Name, v.outcome, elapsed)
	x.farm.root.Send(a.from, v)
}

func (x *xspActor) view() XSPView {
	v := XSPView{
		Name: x.config.Name, Kind: x.config.Kind, State: "up", Waiting: len(x.gate.queue), InFlight: x.gate.out,
		Concurrency: x.gate.concurrency, LastError: x.lastError,
	}
	switch {
	case v.Kind != "":
	case x.config.Actor != nil:
		v.Kind = "actor"
	default:
		v.Kind = "go"
	}
	if x.gate.open {
		v.State = "down"
	}
	c := x.tally.view()
	v.Answered, v.Refused, v.Failed, v.MeanMS = c.Answered, c.Refused, c.Failed, c.MeanMS
	if !x.lastAt.IsZero() {
		v.LastAnswer = utc(x.lastAt)
	}
	return v
}
