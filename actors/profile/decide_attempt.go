package profile

import (
	"time"

	"github.com/sipmuster/muster/messages"
)

// start opens a new chain with its first attempt.
func (st *step) start(purpose messages.AttemptPurpose) {
	if st.State.CallID == "" {
		st.newCallID()
	}
	var answers []*messages.NonceCount
	if st.mayAskEarly() {
		answers = st.State.Challenge.Answers(nil, nil)
	}
	st.attempt(purpose, 0, answers)
	if len(st.State.Attempt.Answers) == 0 {
		st.do(SendRequest{Attempt: st.State.Attempt.Number})
		return
	}
	// A nonce is known: the first request carries credentials already, and a
	// refresh costs one round trip (RFC 7616 §3.4, CHA-08).
	st.ask(0, false)
}

// again opens the next attempt of the chain: the same request with another
// branch and the next CSeq (RFC 3261 §8.1.3.5).
func (st *step) again(round uint32, answers []*messages.NonceCount) {
	st.attempt(st.State.Attempt.Purpose, round, answers)
}

// attempt records AttemptStarted. The CSeq number and the nonce counts are
// spent from here on, whether or not the request leaves.
func (st *step) attempt(purpose messages.AttemptPurpose, round uint32, answers []*messages.NonceCount) {
	if st.State.CSeq >= maxCSeq {
		st.newCallID() // GEN-05: never a wrap
	}
	event, e := st.room.AttemptStarted()
	e.Attempt, e.Purpose, e.Round = st.State.Attempt.Number+1, purpose, round
	e.Cseq = st.State.CSeq + 1
	e.Answers = answers
	e.GuardAtMs = messages.ToMS(st.in.Now.Add(st.policy.guard()))
	if purpose == messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER {
		e.ExpiresSeconds = st.wantedSeconds()
	}
	if len(answers) > 0 {
		e.Handler = st.chain()[0]
		e.AnswerByMs = st.answerBy(e.Handler)
		e.GuardAtMs += st.askingTime().Milliseconds()
	}
	st.recordEvent(event)
}

// wantedSeconds is the expiry to ask for: the profile's, else the registrar's,
// and at least what a 423 demanded.
func (st *step) wantedSeconds() uint32 {
	want := or(st.State.Spec.Expires, st.policy.expires())
	return max(uint32(want/time.Second), st.State.MinSeconds)
}

func (st *step) newCallID() {
	token := st.in.Token
	const tag = 12 // 48 random bits for the tag, 80 for the Call-ID
	event, e := st.room.CallIDChosen()
	e.CallId, e.FromTag = token[:len(token)-tag], token[len(token)-tag:]
	st.recordEvent(event)
}

// failed ends the chain; the next attempt waits by RFC 5626 §4.5. retryAfter
// is negative when the peer named none.
func (st *step) failed(status uint32, reason messages.Reason, retryAfter time.Duration) {
	p := st.policy
	base := p.retryBase()
	if reason == messages.ReasonHandler && st.State.Bound() {
		base = min(base, handlerRetry)
	}
	wait := backoff(base, p.retryMax(), st.State.Failures+1, st.in.Jitter)
	switch {
	case retryAfter == 0 && st.State.Failures == 0:
		wait = 0 // ERR-05: at once, but no peer sets our rate by saying so again
	case retryAfter > 0: // ERR-21: longer, never shorter
		wait = max(wait, jittered(min(retryAfter, p.maxRetryAfter()), st.in.Jitter))
	}
	st.record(&messages.AttemptFailed{
		Attempt: st.State.Attempt.Number, Status: status, Reason: string(reason), RetryAtMs: st.retryAt(wait),
	})
}

// halted ends the chain with a long, growing wait: trying again soon could lock
// the account (CHA-15) or is pointless (REG-25). Retry-After may lengthen it
// (ERR-07). A fetch halts nothing but for wrong credentials: that a registrar
// lists no bindings says nothing about ours.
func (st *step) halted(status uint32, reason messages.Reason, retryAfter time.Duration) {
	p := st.policy
	if st.State.Attempt.Purpose == messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH && reason != messages.ReasonRejectedCredentials {
		st.failed(status, reason, retryAfter)
		return
	}
	wait := backoff(p.haltBase(), p.haltMax(), st.State.Halts, st.in.Jitter)
	if retryAfter > 0 {
		wait = max(wait, jittered(min(retryAfter, p.maxRetryAfter()), st.in.Jitter))
	}
	st.record(&messages.ProfileHalted{
		Attempt: st.State.Attempt.Number, Status: status, Reason: string(reason),
		RetryAtMs: messages.ToMS(st.in.Now.Add(wait)),
	})
}

// retryAt is what to record of a wait: nothing for a fetch, which is not
// repeated by itself.
func (st *step) retryAt(wait time.Duration) int64 {
	if st.State.Attempt.Purpose == messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH {
		return 0
	}
	return messages.ToMS(st.in.Now.Add(wait))
}

// jittered adds up to a tenth, so that many profiles told the same do not come
// back in one moment.
func jittered(d time.Duration, jitter float64) time.Duration {
	return d + time.Duration(jitter*float64(d/10))
}
