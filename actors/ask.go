package actors

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// question is an AuthChallenge that is out.
type question struct {
	ref     string
	attempt uint64
	handler string
	asked   time.Time
	// limit is for the case that not even a verdict comes; nil for the
	// DigestActor.
	limit *time.Timer
}

// digestLimit stands in a question to the DigestActor, for which nobody waits.
const digestLimit = 5 * time.Second

// limitSlack is what a verdict may take after an xSP's deadline. Then the core
// counts the xSP as silent by itself.
const limitSlack = time.Second

// ask sends the question to the authenticator that the attempt names.
func (a *profileActor) ask(ctx actor.Context, e profile.AskCredentials) {
	s, now := a.state(), time.Now()
	a.dropQuestion()
	a.asked = &question{ref: a.farm.reference(e.Handler), attempt: e.Attempt, handler: e.Handler, asked: now}
	pid, ok := a.farm.handler(e.Handler)
	if !ok {
		a.withheld(ctx, messages.ReasonHandler, "it is not configured", time.Second)
		return
	}
	deadline := now.Add(digestLimit)
	if e.Handler != messages.DigestHandler {
		deadline = s.Attempt.AnswerBy
		a.pause()
		self, root, late := a.self, a.farm.root, &observed{busy: a.busy, command: profile.TimerFired{}}
		a.asked.limit = time.AfterFunc(deadline.Sub(now)+limitSlack, func() { root.Send(self, late) })
	}
	r, _ := a.farm.registrar(s.Spec.Registrar)
	_, requestURI := a.target(r)
	q := &messages.AuthChallenge{
		Ref: a.asked.ref, Purpose: messages.Purpose_REGISTRATION, ProfileId: a.id, Aor: s.Spec.AOR,
		Method: "REGISTER", RequestUri: requestURI, StatusCode: e.Status,
		Round: s.Attempt.Round, Rejected: e.Rejected, Deadline: timestamppb.New(deadline),
	}
	if e.Handler == messages.DigestHandler {
		q.Challenges = s.Challenge.Unparsed(s.Attempt.Answers) // it reads them itself
	} else {
		q.Challenges = s.Challenge.Questions(s.Attempt.Answers)
		q.BodyHashes = bodyHashes(q.Challenges, nil)
	}
	ctx.Request(pid, q)
}

// pause lets others use the registrar's slot while an xSP thinks.
func (a *profileActor) pause() {
	if !a.slot || a.paused {
		return
	}
	a.paused = true
	a.farm.turnstile(a.gate).pause(a.id, a.heard)
	a.heard = false // it knows; what was heard before the question is no news after it
}

// dropQuestion forgets the question that is out: its verdict will be late.
func (a *profileActor) dropQuestion() {
	if a.asked != nil && a.asked.limit != nil {
		a.asked.limit.Stop()
	}
	a.asked = nil
}

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

// judged takes the verdict on the question that is out. Any other is late.
func (a *profileActor) judged(ctx actor.Context, v *verdict) {
	q := a.asked
	if q == nil || q.ref != v.ref || !a.state().Attempt.Open || q.attempt != a.state().Attempt.Number {
		a.farm.observer.ChallengeAnswered(v.handler, outcomeLate, 0)
		return
	}
	elapsed := time.Since(q.asked)
	a.farm.tallies.of(a.state().Spec.Registrar, q.handler).add(v.outcome, elapsed)
	if q.handler == messages.DigestHandler { // an xSP's actor has counted it
		a.farm.observer.ChallengeAnswered(messages.DigestHandler, v.outcome, elapsed)
	}
	switch {
	case v.answer != nil:
		a.dropQuestion()
		a.mutations, a.proofs = v.answer.GetMutations(), v.answer.GetProofs()
		a.handle(ctx, &profile.CredentialsOffered{
			Attempt: q.attempt, Handler: q.handler, Elapsed: elapsed,
			Unanswered: countsOf(a.state().Attempt.Answers, v.checked.Unanswered), Headers: v.checked.Headers,
			Preemptive: v.answer.GetPreemptive(), Continues: v.answer.GetContinues(),
		})
	case v.refusal != nil:
		reason, wait := v.refused(q.handler)
		a.withheld(ctx, reason, v.detail, wait)
	default:
		level := slog.LevelDebug // the retry is logged, and the breaker
		if v.failure == messages.ReasonMutation {
			level = slog.LevelWarn
		}
		a.farm.log.Log(context.Background(), level, "no valid answer to a challenge",
			"profile", a.id, "handler", q.handler, "cause", v.detail)
		a.withheld(ctx, v.failure, v.detail, time.Second) // silence is not "at once"
	}
}

// refused is what a refusal means to a core: why, and after how long asking
// again may help, negative when never.
func (v *verdict) refused(handler string) (messages.Reason, time.Duration) {
	reason, wait := messages.ReasonHandlerRefused, time.Duration(-1)
	if handler == messages.DigestHandler {
		reason = messages.Reason(v.refusal.Reason)
	}
	if v.refusal.RetryAfter > 0 {
		wait = v.refusal.RetryAfter
	}
	return reason, wait
}

// countsOf finds the nonce counts that stand for challenges.
func countsOf(answers []*messages.NonceCount, challenges []*messages.Challenge) []*messages.NonceCount {
	var counts []*messages.NonceCount
	for _, c := range challenges {
		for _, n := range answers {
			if n.GetSpace() == c.GetSpace() && n.GetRealm() == c.GetRealm() {
				counts = append(counts, n)
			}
		}
	}
	return counts
}

// withheld ends the question without an answer; retryAfter is negative when
// there is no use in trying again.
func (a *profileActor) withheld(ctx actor.Context, reason messages.Reason, detail string, retryAfter time.Duration) {
	q := a.asked
	a.dropQuestion()
	a.handle(ctx, profile.CredentialsWithheld{
		Attempt: q.attempt, Handler: q.handler, Reason: reason, Detail: xsp.Printable(detail), RetryAfter: retryAfter,
	})
}
