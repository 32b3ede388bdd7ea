package actors

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// question is an AuthChallenge that is out; without a handler none is.
type question struct {
	ref     string
	attempt uint64
	handler string
	asked   time.Time
	// limit is for the case that not even a verdict comes; nil for the
	// DigestActor.
	limit *time.Timer
	// digest is set for the DigestActor, instead of a ref.
	digest *consultation
}

// limitSlack is what a verdict may take after an xSP's deadline. Then the core
// counts the xSP as silent by itself.
const limitSlack = time.Second

// ask sends the question to the authenticator that the attempt names.
func (a *profileActor) ask(e profile.AskCredentials) {
	a.dropQuestion()
	a.asked = question{attempt: e.Attempt, handler: e.Handler, asked: a.at}
	if e.Handler == messages.DigestHandler {
		a.askDigest(e)
		return
	}
	pid, ok := a.farm.handler(e.Handler)
	if !ok {
		a.withheld(messages.ReasonHandler, "it is not configured", time.Second)
		return
	}
	s := a.state()
	deadline := s.Attempt.AnswerBy
	a.pause()
	late := &observed{number: a.current, command: profile.TimerFired{}}
	a.asked.limit = time.AfterFunc(deadline.Sub(a.at)+limitSlack, func() { a.tell(late) })
	q := new(messages.AuthChallenge)
	a.address(q, e)
	a.asked.ref = a.farm.token() // it leaves the process, or may, and cannot be guessed
	q.Ref, q.Deadline = a.asked.ref, timestamppb.New(deadline)
	q.Challenges = s.Challenge.Questions(s.Attempt.Answers)
	q.BodyHashes = bodyHashes(q.Challenges, nil)
	a.farm.root.RequestWithCustomSender(pid, q, a.self)
}

// askDigest asks the DigestActor, who reads the challenges himself and always
// answers.
func (a *profileActor) askDigest(e profile.AskCredentials) {
	c := a.consulted
	if a.consulted = nil; c == nil {
		c = &consultation{from: a}
	}
	a.address(&c.question, e)
	c.question.Challenges = a.state().Challenge.Unparsed(a.state().Attempt.Answers)
	a.asked.digest = c
	a.farm.digest().mailbox.PostUserMessage(c)
}

// address says what a question is about.
func (a *profileActor) address(q *messages.AuthChallenge, e profile.AskCredentials) {
	s := a.state()
	q.Purpose, q.ProfileId, q.Aor = messages.Purpose_REGISTRATION, a.id, s.Spec.AOR
	q.Method, q.StatusCode, q.Round, q.Rejected = "REGISTER", e.Status, s.Attempt.Round, e.Rejected
	_, q.RequestUri = a.target(a.registrar(s.Spec.Registrar))
}

// told takes the DigestActor's verdict, and with it the memory of the question.
func (a *profileActor) told(c *consultation) {
	v := c.verdict
	current := a.asked.digest == c
	c.question.Reset()
	c.verdict = verdict{}
	a.consulted = c
	a.weigh(&v, current)
}

// judged takes the verdict of an xSP.
func (a *profileActor) judged(v *verdict) { a.weigh(v, a.asked.ref != "" && a.asked.ref == v.ref) }

// pause lets others use the registrar's slot while an xSP thinks.
func (a *profileActor) pause() {
	if !a.slot || a.paused {
		return
	}
	a.paused = true
	a.registrar(a.gate).turnstile.pause(a.id, a.heard)
	a.heard = false // it knows; what was heard before the question is no news after it
}

// dropQuestion forgets the question that is out: its verdict will be late.
func (a *profileActor) dropQuestion() {
	if a.asked.handler == "" {
		return
	}
	if a.asked.limit != nil {
		a.asked.limit.Stop()
	}
	a.asked = question{}
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

// weigh takes the verdict on the question that is out. Any other is late.
func (a *profileActor) weigh(v *verdict, current bool) {
	q := a.asked
	if !current || !a.state().Attempt.Open || q.attempt != a.state().Attempt.Number {
		a.farm.observer.ChallengeAnswered(v.handler, outcomeLate, 0)
		return
	}
	elapsed := a.at.Sub(q.asked)
	if q.digest == nil { // the xSP's actor has told the observer
		a.farm.tallies.of(a.state().Spec.Registrar, q.handler).add(v.outcome, elapsed)
	} else {
		name := a.state().Spec.Registrar
		a.farm.digested(name, a.registrar(name)).add(v.outcome, elapsed)
		a.farm.observer.ChallengeAnswered(messages.DigestHandler, v.outcome, elapsed)
	}
	switch {
	case v.answer != nil:
		a.dropQuestion()
		a.mutations, a.proofs = v.answer.GetMutations(), v.answer.GetProofs()
		a.offered = profile.CredentialsOffered{
			Attempt: q.attempt, Handler: q.handler, Elapsed: elapsed,
			Unanswered: countsOf(a.state().Attempt.Answers, v.checked.Unanswered), Headers: v.checked.Headers,
			Preemptive: v.answer.GetPreemptive(), Continues: v.answer.GetContinues(),
		}
		a.handle(&a.offered)
	case v.refusal != nil:
		reason, wait := v.refused(q.handler)
		a.withheld(reason, v.detail, wait)
	default:
		level := slog.LevelDebug // the retry is logged, and the breaker
		if v.failure == messages.ReasonMutation {
			level = slog.LevelWarn
		}
		a.farm.log.Log(context.Background(), level, "no valid answer to a challenge",
			"profile", a.id, "handler", q.handler, "cause", v.detail)
		a.withheld(v.failure, v.detail, time.Second) // silence is not "at once"
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
func (a *profileActor) withheld(reason messages.Reason, detail string, retryAfter time.Duration) {
	q := a.asked
	a.dropQuestion()
	a.handle(profile.CredentialsWithheld{
		Attempt: q.attempt, Handler: q.handler, Reason: reason, Detail: xsp.Printable(detail), RetryAfter: retryAfter,
	})
}
