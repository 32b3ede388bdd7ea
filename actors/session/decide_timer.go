package session

import (
	"time"

	"github.com/sipmuster/muster/messages"
)

// timerFired attends to the first deadline that has passed; the host comes
// again for the next.
func (st *step) timerFired() {
	s := st.state
	passed := func(t time.Time) bool { return !t.IsZero() && !t.After(st.in.Now) }
	switch {
	case passed(s.AdmitBy):
		st.ended(0, messages.ReasonNotAdmitted)
		return
	case passed(s.EndingGuard):
		st.ended(0, s.Reason)
		return
	case passed(s.RingUntil):
		st.end(messages.ReasonNoAnswer, 480)
		return
	case passed(s.AnswerDueBy): // the peer must not wait for its ACK any longer
		st.acknowledge(false)
		st.end(messages.ReasonInterrupted, 0)
		return
	}
	for _, r := range s.Requests {
		switch {
		case passed(messages.FromMS(r.GetAnswerByMs())):
			st.withheld(CredentialsWithheld{Attempt: r.GetAttempt(), Handler: r.GetHandler(), Reason: messages.ReasonHandler})
			return
		case s.Ending || !passed(messages.FromMS(r.GetGuardAtMs())):
		case r.GetMethod() == "INVITE" && !s.Established():
			st.end(messages.ReasonNoAnswer, 0)
			return
		default:
			st.over(r, 0, messages.ReasonGuard)
			return
		}
	}
	for _, r := range s.PeerRequests {
		if passed(r.AnswerBy) {
			st.respond(r.Method, r.CSeq, 500, nil)
			return
		}
	}
	switch {
	case s.Ending:
		st.drop(messages.DropEarly)
	case passed(s.ExpiresAt):
		st.end(messages.ReasonSessionExpired, 0)
	case passed(s.HangupAt()):
		st.end(messages.ReasonHangupAfter, 0)
	case passed(s.offerAt()) && !st.policy.Unacknowledged: // see settle
	default:
		st.drop(messages.DropEarly)
	}
}

// recovered: the node was restarted. Established sessions go on; what was
// being set up is ended, because its caller is gone.
func (st *step) recovered() {
	s := st.state
	invite, inviting := s.Invite()
	switch {
	case !s.Established() && inviting && !s.unsent(invite):
		// It may be on its way, and the peer may ring: it is taken up again only
		// to be cancelled.
		if !s.Ending {
			st.ending(messages.ReasonInterrupted)
		}
		st.interrupted(invite.GetAttempt())
		st.do(ResumeInvite{Attempt: invite.GetAttempt()})
		st.do(Cancel{Attempt: invite.GetAttempt()})
	case !s.Established():
		st.ended(0, messages.ReasonInterrupted)
	default:
		st.interrupted(0)
		switch {
		case !s.AnswerDueBy.IsZero(): // who would have answered is gone
			st.end(messages.ReasonInterrupted, 0)
			return
		case st.in.Now.Sub(s.EstablishedAt) < transactionLimit && s.Confirmed != 0:
			// The crash may have swallowed the ACK, and the peer repeats its 2xx.
			st.ack(s.Dialog, false)
		}
		if s.Ending {
			st.bye()
		}
	}
}

// interrupted closes what was open, except one attempt: whether it left, and
// what became of it, is unknown. Its CSeq number stays spent.
func (st *step) interrupted(except uint64) {
	e := &messages.RequestsInterrupted{}
	var chains []uint64 // that an owner may still wait for, if only the actor failed
	for _, r := range st.state.Requests {
		if r.GetAttempt() == except {
			continue
		}
		e.Attempts = append(e.Attempts, r.GetAttempt())
		if r.owned() {
			chains = append(chains, r.GetChain())
		}
	}
	retry := st.state.Retry
	if !retry.At.IsZero() && !retry.Refresh {
		chains = append(chains, retry.Chain)
	}
	if len(e.Attempts) > 0 || len(st.state.PeerRequests) > 0 || len(chains) > 0 {
		st.record(e)
	}
	for _, chain := range chains {
		st.do(Tell{Notice: NoticeFailed, Chain: chain, Reason: messages.ReasonInterrupted})
	}
}
