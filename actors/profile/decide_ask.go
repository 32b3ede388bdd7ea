package profile

import (
	"time"

	"github.com/sipmuster/muster/messages"
)

// chain is who answers for this profile's registrations.
func (st *step) chain() []string {
	if own := st.State.Spec.RegistrationHandler; own != "" {
		return messages.Handlers(own)
	}
	return messages.Handlers(st.policy.RegistrationHandler)
}

// next is the handler behind one that refused, or "".
func (st *step) next(handler string) string {
	chain := st.chain()
	for i := range len(chain) - 1 {
		if chain[i] == handler {
			return chain[i+1]
		}
	}
	return ""
}

// mayAskEarly tells whether the first request of a chain may be answered
// before anybody asks: the DigestActor can always do that, an xSP if it said
// so.
func (st *step) mayAskEarly() bool {
	first := st.chain()[0]
	return first == messages.DigestHandler || first == st.State.EarlyHandler
}

// answerBy is when a handler that is asked now counts as silent; 0 for the
// DigestActor.
func (st *step) answerBy(handler string) int64 {
	if handler == messages.DigestHandler {
		return 0
	}
	return messages.ToMS(st.in.Now.Add(st.policy.answerLimit(handler)))
}

// askingTime is how long asking the whole chain may take.
func (st *step) askingTime() time.Duration {
	var total time.Duration
	for _, handler := range st.chain() {
		if handler != messages.DigestHandler {
			total += st.policy.answerLimit(handler)
		}
	}
	return total
}

func (st *step) ask(status uint32, rejected bool) {
	a := &st.State.Attempt
	st.do(AskCredentials{Attempt: a.Number, Handler: a.Handler, Status: status, Rejected: rejected})
}

// waitsFor tells whether an answer of this handler is waited for. That an xSP
// is asked is part of the state; for the DigestActor, of which nothing is
// recorded, the host takes one answer per question.
func (st *step) waitsFor(handler string) bool {
	a := &st.State.Attempt
	return len(a.Answers) > 0 && handler == a.Handler && (handler == messages.DigestHandler || !a.AnswerBy.IsZero())
}

// offered: the authenticator answered, and the request can leave.
func (st *step) offered(cmd *CredentialsOffered) {
	if !st.waitsFor(cmd.Handler) {
		st.drop(messages.DropIdle)
		return
	}
	if !st.stillWanted() { // called off while the handler thought
		st.withheld(CredentialsWithheld{
			Attempt: cmd.Attempt, Handler: cmd.Handler, Reason: messages.ReasonInterrupted,
		})
		return
	}
	if cmd.Handler != messages.DigestHandler || len(cmd.Unanswered) > 0 {
		st.record(&messages.CredentialsSupplied{
			Attempt: cmd.Attempt, Handler: cmd.Handler, ElapsedMs: uint32(cmd.Elapsed.Milliseconds()),
			Unanswered: cmd.Unanswered, Headers: cmd.Headers, Preemptive: cmd.Preemptive, Continues: cmd.Continues,
		})
	}
	st.do(SendRequest{Attempt: cmd.Attempt})
}

// withheld: no answer. A refusal for good passes the question on to the next
// handler; with none left, or no refusal, the request does not leave.
func (st *step) withheld(cmd CredentialsWithheld) {
	if !st.waitsFor(cmd.Handler) {
		st.drop(messages.DropIdle)
		return
	}
	if cmd.RetryAfter < 0 && st.early() {
		st.unasked(cmd)
		return
	}
	if next := st.next(cmd.Handler); cmd.RetryAfter < 0 && next != "" {
		st.record(&messages.CredentialsDeclined{
			Attempt: cmd.Attempt, Handler: cmd.Handler, Reason: string(cmd.Reason), Detail: cmd.Detail,
			Next: next, AnswerByMs: st.answerBy(next),
		})
		st.ask(st.State.LastStatus, false)
		return
	}
	st.record(&messages.CredentialsRefused{
		Attempt: cmd.Attempt, Handler: cmd.Handler, Reason: string(cmd.Reason), Detail: cmd.Detail,
	})
	if cmd.RetryAfter < 0 {
		st.halted(0, cmd.Reason, -1)
		return
	}
	st.failed(0, cmd.Reason, cmd.RetryAfter)
}

// early tells whether the question that is out was asked before anybody
// challenged this request: at the start of a chain, or after a response that
// was no challenge.
func (st *step) early() bool {
	challenged := st.State.LastStatus == 401 || st.State.LastStatus == 407
	return st.State.Attempt.Round == 0 || !challenged
}

// unasked: a handler does not want to answer early. Nobody has asked for
// credentials, so the request leaves without.
func (st *step) unasked(cmd CredentialsWithheld) {
	st.record(&messages.CredentialsRefused{
		Attempt: cmd.Attempt, Handler: cmd.Handler, Reason: string(cmd.Reason), Detail: cmd.Detail,
	})
	st.again(st.State.Attempt.Round, nil)
	st.do(SendRequest{Attempt: st.State.Attempt.Number})
}
