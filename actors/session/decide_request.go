package session

import (
	"slices"
	"time"

	"github.com/sipmuster/muster/messages"
)

// request begins a chain: the next CSeq number, and credentials at once where
// a nonce is known that may go there (CHA-08).
func (st *step) request(r *messages.RequestStarted) {
	r.Attempt = st.state.Attempts + 1
	if r.Chain == 0 {
		r.Chain = r.Attempt
	}
	if st.mayAskEarly() {
		r.Answers = st.trusted(r, st.state.Challenge.ChainStarted().Answers(nil, nil))
	}
	st.begin(r, 0, false)
}

// again makes the next request of a chain: the same with the next CSeq number
// (RFC 3261 §8.1.3.5).
func (st *step) again(old Request, round uint32, answers []*messages.NonceCount, status uint32, rejected bool) {
	r := &messages.RequestStarted{
		Attempt: st.state.Attempts + 1, Chain: old.GetChain(), Method: old.GetMethod(), Round: round, Answers: answers,
		Dialog: old.GetDialog(), Rseq: old.GetRseq(), RackCseq: old.GetRackCseq(), Body: old.GetBody(), Refresh: old.GetRefresh(),
		SessionExpires: old.GetSessionExpires(), MinSe: old.GetMinSe(),
	}
	if old.GetMethod() == "INVITE" && !st.state.Established() {
		r.Target = st.state.Target
		// The early dialogs end here (RFC 3261 §13.2.2.3), and a PRACK in one of
		// them would keep the INVITE waiting.
		st.withdrawUnsent(func(r Request) bool { return r.GetMethod() == "PRACK" })
	}
	if r.MinSe < st.state.MinSE && r.GetSessionExpires() > 0 {
		r.MinSe, r.SessionExpires = st.state.MinSE, max(r.SessionExpires, st.state.MinSE)
	}
	st.begin(r, status, rejected)
}

// begin records RequestStarted: the CSeq number and the nonce counts are spent
// from here on. Without a question the request can leave.
func (st *step) begin(r *messages.RequestStarted, status uint32, rejected bool) {
	r.Cseq = st.state.CSeq + 1
	if r.GetMethod() == "INVITE" {
		r.Branch = st.in.Token
	}
	limit := st.policy.guard()
	if r.GetMethod() == "INVITE" && !st.state.Established() {
		limit = st.policy.ringLimit()
	}
	r.GuardAtMs = st.after(limit + st.askingTime(r))
	if len(r.GetAnswers()) > 0 {
		r.Handler = st.chain()[0]
		r.AnswerByMs = st.answerBy(r.Handler)
	}
	st.record(r)
	if len(r.GetAnswers()) == 0 {
		st.sendFrom(r.GetCseq())
		return
	}
	st.do(AskCredentials{Attempt: r.GetAttempt(), Handler: r.GetHandler(), Status: status, Rejected: rejected})
}

// sendFrom sends the open requests from a CSeq number on, which have not left:
// up to the first that waits for its authenticator.
func (st *step) sendFrom(cseq uint32) {
	for _, r := range st.state.Requests {
		if r.GetCseq() >= cseq && !st.state.unsent(r) {
			st.do(SendRequest{Attempt: r.GetAttempt()})
		}
	}
}

// send is a request that the owner wants inside the dialog.
func (st *step) send(cmd Send) {
	s := st.state
	offer := cmd.Method == "INVITE" || cmd.Method == "UPDATE"
	switch {
	case !s.Established() || s.Ending:
		st.drop(messages.DropUnwanted)
		return
	case s.asking(), len(s.Requests) >= maxOpen, offer && (s.busy() || !s.Retry.At.IsZero() || st.policy.Unacknowledged):
		st.drop(messages.DropBusy)
		return
	}
	r := &messages.RequestStarted{Method: cmd.Method, Body: cmd.Body}
	if offer {
		st.timed(r)
	}
	st.request(r)
	st.decision.Chain = r.GetChain()
}

// timed lets a request ask for the session interval that holds.
func (st *step) timed(r *messages.RequestStarted) {
	r.MinSe = st.state.MinSE
	if st.state.Interval > 0 {
		r.SessionExpires = max(seconds(st.state.Interval), r.MinSe, seconds(minInterval))
	}
}

// refresh keeps the session alive: UPDATE without an offer where the peer
// allows it, else a re-INVITE with the description unchanged (RFC 4028 §7.4).
func (st *step) refresh() {
	r := &messages.RequestStarted{Method: "UPDATE", Refresh: true}
	if !st.state.Timer.GetUpdate() {
		r.Method, r.Body = "INVITE", true
	}
	st.timed(r)
	st.request(r)
}

// repeat makes a request again that a glare stopped (DLG-14).
func (st *step) repeat() {
	retry := st.state.Retry
	r := &messages.RequestStarted{Method: retry.Method, Chain: retry.Chain, Body: retry.Body, Refresh: retry.Refresh}
	st.timed(r)
	st.request(r)
}

// unanswered: no final response came (RFC 3261 §8.1.3.1).
func (st *step) unanswered(cmd Failed) {
	r, ok := st.state.Request(cmd.Attempt)
	if !ok || st.state.unsent(r) {
		st.drop(messages.DropStale)
		return
	}
	st.over(r, 0, cmd.Failure)
}

// over: a request ended without success. What that means for the session is
// RFC 3261 §12.2.1.2 and RFC 5057 §5.1.
func (st *step) over(r Request, status uint32, reason messages.Reason) {
	st.record(&messages.RequestFailed{
		Attempt: r.GetAttempt(), Status: status, Reason: string(reason), Refused: reason == messages.ReasonUntrusted,
	})
	st.consequences(r, status, reason)
}

func (st *step) consequences(r Request, status uint32, reason messages.Reason) {
	switch {
	case r.GetMethod() == "INVITE" && !st.state.Established():
		st.ended(status, reason)
		return
	case r.GetMethod() == "BYE" && r.GetDialog() == nil:
		st.ended(0, reason) // nothing more can be done (DLG-12)
		return
	case r.GetDialog() != nil, st.state.Ending:
		return // an early dialog or a fork, or it ends anyway
	}
	if r.owned() {
		st.do(Tell{Notice: NoticeFailed, Chain: r.GetChain(), Reason: reason, Status: status})
	}
	switch effectOf(r.GetMethod(), status, reason) {
	case dialogGone:
		st.ended(status, messages.ReasonDialogGone)
	case usageGone:
		if r.GetRefresh() {
			reason = messages.ReasonRefreshFailed // TMR-04
		} else {
			reason = messages.ReasonDialogGone
		}
		st.end(reason, 0)
	}
}

// damage is what a failure inside a dialog destroys.
type damage int

const (
	transactionOnly damage = iota
	// usageGone: the call is over, and BYE says so.
	usageGone
	// dialogGone: nothing can be sent in it any more.
	dialogGone
)

// effectOf is RFC 5057 table 1. After a timeout or a failed transport the dialog
// is ended as after a 408 (RFC 3261 §12.2.1.2); any other failure without a
// status is one of ours and says nothing about the peer. A 405, 480, 489 or 501
// to a request that the call does not need is no reason to end it.
func effectOf(method string, status uint32, reason messages.Reason) damage {
	switch status {
	case 404, 410, 416, 482, 483, 484, 485, 502, 604:
		return dialogGone
	case 408, 481:
		return usageGone
	case 0:
		switch reason {
		case messages.ReasonTimeout, messages.ReasonTransport, messages.ReasonResolve, messages.ReasonGuard:
			return usageGone
		}
	case 405, 480, 489, 501:
		if method == "INVITE" || method == "UPDATE" {
			return usageGone
		}
	}
	return transactionOnly
}

// chain is who answers for this profile's sessions.
func (st *step) chain() []string {
	if len(st.policy.Handlers) == 0 {
		return []string{messages.DigestHandler}
	}
	return st.policy.Handlers
}

func (st *step) mayAskEarly() bool {
	first := st.chain()[0]
	return first == messages.DigestHandler || first == st.state.EarlyHandler
}

func (st *step) answerBy(handler string) int64 { return st.after(st.policy.answerLimit(handler)) }

// askingTime is how long asking the whole chain may take.
func (st *step) askingTime(r *messages.RequestStarted) (total time.Duration) {
	if len(r.GetAnswers()) > 0 {
		for _, handler := range st.chain() {
			total += st.policy.answerLimit(handler)
		}
	}
	return total
}

// next is the handler behind one that refused, or "".
func (st *step) next(handler string) string {
	chain := st.chain()
	if i := slices.Index(chain, handler); i >= 0 && i < len(chain)-1 {
		return chain[i+1]
	}
	return ""
}

// offered: the authenticator answered, and the request can leave.
func (st *step) offered(cmd CredentialsOffered) {
	r, ok := st.state.Request(cmd.Attempt)
	if !ok || !r.asked() || cmd.Handler != r.GetHandler() {
		st.drop(messages.DropIdle)
		return
	}
	st.record(&messages.CredentialsSupplied{
		Attempt: cmd.Attempt, Handler: cmd.Handler, ElapsedMs: uint32(cmd.Elapsed.Milliseconds()),
		Unanswered: cmd.Unanswered, Headers: cmd.Headers, Preemptive: cmd.Preemptive, Continues: cmd.Continues,
	})
	st.sendFrom(r.GetCseq())
}

// withheld: no answer. A refusal for good passes the question on to the next
// handler; with none left the request is over. Where nobody has asked for
// credentials it leaves without.
func (st *step) withheld(cmd CredentialsWithheld) {
	r, ok := st.state.Request(cmd.Attempt)
	if !ok || !r.asked() || cmd.Handler != r.GetHandler() {
		st.drop(messages.DropIdle)
		return
	}
	refused := &messages.CredentialsRefused{
		Attempt: cmd.Attempt, Handler: cmd.Handler, Reason: string(cmd.Reason), Detail: cmd.Detail,
	}
	next := st.next(cmd.Handler)
	switch early := r.Status != 401 && r.Status != 407; {
	case early:
		st.record(refused)
		st.sendFrom(r.GetCseq() + 1)
		st.again(r, r.GetRound(), nil, 0, false)
	case cmd.RetryAfter < 0 && next != "":
		st.record(&messages.CredentialsDeclined{
			Attempt: cmd.Attempt, Handler: cmd.Handler, Reason: string(cmd.Reason), Detail: cmd.Detail,
			Next: next, AnswerByMs: st.answerBy(next),
		})
		st.do(AskCredentials{Attempt: cmd.Attempt, Handler: next, Status: r.Status})
	default:
		st.record(refused)
		st.over(r, r.Status, cmd.Reason)
		st.sendFrom(r.GetCseq() + 1)
	}
}
