package actors

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// policy is what holds for this session now: the registrar's configuration, who
// answers for the profile, and where its credentials may go.
func (a *sessionActor) policy() session.Policy {
	r, _ := a.farm.registrar(a.spec.GetRegistrar())
	p := session.Policy{
		Challenge: r.policy.Challenge, AnswerLimits: a.farm.xsps.Load().limits, RedirectHosts: r.policy.Targets,
		Handlers:  messages.Handlers(sessionHandler(a.profile, r)),
		RingLimit: r.config.Sessions.Ring, Interval: r.config.Sessions.Expires,
		Owned: a.owned(), Unacknowledged: len(a.memory.unacked) > 0,
	}
	if !a.spec.GetTrunkLeg() {
		p.Targets = a.farm.targets.of(r.config)
	}
	return p
}

// ask sends the question to the authenticator that the attempt names.
func (a *sessionActor) ask(ctx actor.Context, e session.AskCredentials) {
	r, open := a.state.Request(e.Attempt)
	if !open {
		return
	}
	pid, known := a.farm.handler(e.Handler)
	if !known {
		a.post(&sessionInput{session.CredentialsWithheld{
			Attempt: e.Attempt, Handler: e.Handler, Reason: messages.ReasonHandler, Detail: "it is not configured",
			RetryAfter: time.Second,
		}})
		return
	}
	asked := &question{ref: a.farm.token(), attempt: e.Attempt, handler: e.Handler, asked: time.Now()}
	a.questions[asked.ref] = asked
	q, _ := a.addressed(r)
	body, _ := a.bodyOf(r)
	challenges := a.state.Challenge.Questions(r.GetAnswers())
	ctx.Request(pid, &messages.AuthChallenge{
		Ref: asked.ref, Purpose: messages.Purpose_SESSION, ProfileId: a.spec.GetProfile(), SessionId: a.id,
		Aor: a.spec.GetAor(), Method: q.Method, RequestUri: q.RequestURI, StatusCode: e.Status,
		Round: r.GetRound(), Rejected: e.Rejected,
		Deadline: timestamppb.New(time.UnixMilli(r.GetAnswerByMs())), Challenges: challenges,
		BodyHashes: bodyHashes(challenges, body.body),
	})
}

// expectsVerdict tells whether a deadline is that of a question that is out.
func (a *sessionActor) expectsVerdict(at time.Time) bool {
	for _, q := range a.questions {
		if r, open := a.state.Request(q.attempt); open && time.UnixMilli(r.GetAnswerByMs()).Equal(at) {
			return true
		}
	}
	return false
}

// dropQuestions forgets those that nobody waits for any more: their verdicts
// will be late.
func (a *sessionActor) dropQuestions() {
	for ref, q := range a.questions {
		if r, open := a.state.Request(q.attempt); !open || r.GetAnswerByMs() == 0 || r.GetHandler() != q.handler {
			delete(a.questions, ref)
		}
	}
}

// judged takes the verdict on a question that is out. Any other is late.
func (a *sessionActor) judged(ctx actor.Context, v *verdict) {
	q := a.questions[v.ref]
	if q == nil {
		a.farm.observer.ChallengeAnswered(v.handler, outcomeLate, 0)
		return
	}
	delete(a.questions, v.ref)
	elapsed := time.Since(q.asked)
	a.farm.tallies.of(a.spec.GetRegistrar(), q.handler).add(v.outcome, elapsed)
	if q.handler == messages.DigestHandler { // an xSP's actor has counted it
		a.farm.observer.ChallengeAnswered(messages.DigestHandler, v.outcome, elapsed)
	}
	withheld := session.CredentialsWithheld{Attempt: q.attempt, Handler: q.handler, Detail: xsp.Printable(v.detail)}
	switch {
	case v.answer != nil:
		a.memory.answers[q.attempt] = credentials{mutations: v.answer.GetMutations(), proofs: v.answer.GetProofs()}
		r, _ := a.state.Request(q.attempt)
		a.handle(ctx, session.CredentialsOffered{
			Attempt: q.attempt, Handler: q.handler, Elapsed: elapsed,
			Unanswered: countsOf(r.GetAnswers(), v.checked.Unanswered), Headers: v.checked.Headers,
			Preemptive: v.answer.GetPreemptive(), Continues: v.answer.GetContinues(),
		})
		return
	case v.refusal != nil:
		withheld.Reason, withheld.RetryAfter = v.refused(q.handler)
	default:
		level := slog.LevelDebug // the failed request is recorded, and the breaker is logged
		if v.failure == messages.ReasonMutation {
			level = slog.LevelWarn
		}
		a.farm.log.Log(context.Background(), level, "no valid answer to a challenge",
			"profile", a.spec.GetProfile(), "session", a.id, "handler", q.handler, "cause", v.detail)
		withheld.Reason, withheld.RetryAfter = v.failure, time.Second // silence is not a refusal
	}
	a.handle(ctx, withheld)
}

// sessionHandler is who answers the challenges of a profile's sessions, as a
// chain.
func sessionHandler(of *entry, r *registrar) string {
	return cmp.Or(of.state().Spec.SessionHandler, r.config.SessionHandler, messages.DigestHandler)
}
