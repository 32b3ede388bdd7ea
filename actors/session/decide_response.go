package session

import (
	"slices"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// provisional: of interest are a 100, which tells that the first hop has the
// INVITE, the first one of each early dialog, and those that must be
// acknowledged.
func (st *step) provisional(cmd Provisional) {
	r, ok := st.state.Request(cmd.Attempt)
	response, info := cmd.Response, cmd.Response.Dialog
	switch {
	case !ok || r.GetMethod() != "INVITE" || st.state.unsent(r):
		st.drop(messages.DropStale)
		return
	case response.Status == 100:
		if !r.Progressed && !st.state.Established() {
			st.record(&messages.ProgressReceived{Attempt: cmd.Attempt, Status: 100, Source: response.Source})
		}
		return
	}
	known := slices.IndexFunc(st.state.Early, func(e Early) bool { return e.Dialog.GetRemoteTag() == info.RemoteTag })
	var early Early
	if known >= 0 {
		early = st.state.Early[known]
	}
	d := st.earlyDialog(early.Dialog, info)
	reliable := info.RSeq > 0 && info.RemoteTag != "" && d.GetTarget() != ""
	switch {
	case reliable && early.RSeq > 0 && info.RSeq != early.RSeq+1:
		// A repeat, or one that came before its predecessor (RFC 3262 §4).
		st.drop(messages.DropStale)
		return
	case known < 0 && info.RemoteTag != "" && len(st.state.Early) >= maxEarly,
		// The peer repeats it until the PRACK comes.
		reliable && (st.state.asking() || len(st.state.Requests) >= maxOpen):
		st.drop(messages.DropBusy)
		return
	}
	e := &messages.ProgressReceived{Attempt: cmd.Attempt, Status: uint32(response.Status), Dialog: d, Source: response.Source}
	if reliable {
		e.Rseq = info.RSeq
	}
	if known < 0 && info.RemoteTag != "" || reliable || !r.Progressed {
		st.record(e)
	}
	if reliable {
		st.request(&messages.RequestStarted{Method: "PRACK", Dialog: d, Rseq: info.RSeq, RackCseq: r.GetCseq()})
	}
	if !st.state.Established() && !st.state.Ending {
		st.do(Tell{Notice: NoticeProgress, Chain: r.GetChain(), Status: uint32(response.Status)})
	}
}

// earlyDialog is where a PRACK goes. The first response with a Contact makes the
// early dialog and its route set for good; a re-INVITE has the dialog of the
// session (RFC 3261 §12.1.2, §12.2.1.1).
func (st *step) earlyDialog(known *messages.Dialog, info *messages.DialogInfo) *messages.Dialog {
	d := dialogOf(info)
	switch {
	case st.state.Established():
		return st.state.Dialog
	case known.GetTarget() == "":
		return d
	case d.Target == "":
		d.Target = known.GetTarget()
	}
	d.RouteSet = known.GetRouteSet()
	return d
}

func dialogOf(info *messages.DialogInfo) *messages.Dialog {
	return &messages.Dialog{RemoteTag: info.RemoteTag, Target: info.Target, RouteSet: info.RouteSet}
}

// dialogMade is that of a 2xx to an INVITE. RFC 3261 §12.1.2 wants a Contact:
// without one it can be acknowledged and ended only where the INVITE went.
func (st *step) dialogMade(info *messages.DialogInfo) *messages.Dialog {
	d := dialogOf(info)
	d.Target = or2(d.Target, or2(st.state.Target, st.state.Spec.GetPeer()))
	return d
}

// answered is a final response. One to an INVITE that is closed already is a
// repeated 2xx, or another branch of a fork.
func (st *step) answered(cmd Answered) {
	r, ok := st.state.Request(cmd.Attempt)
	switch status := cmd.Response.Status; {
	case !ok:
		st.answeredAgain(cmd)
	case st.state.unsent(r):
		st.drop(messages.DropStale)
	case status < 300:
		st.success(r, cmd)
	case status == 401 || status == 407:
		st.challenged(r, cmd.Response)
	case status == 422 && st.raise(r, cmd.Response):
	case status == 491 && st.glare(r):
	case status < 400 && st.redirected(r, cmd.Response):
	default:
		st.over(r, uint32(status), reasonOf(r, status))
	}
}

// answeredAgain: each 2xx to an INVITE gets its ACK (INV-01), and each dialog
// beside ours is ended (INV-02).
func (st *step) answeredAgain(cmd Answered) {
	s, info := st.state, cmd.Response.Dialog
	switch {
	case cmd.Response.Status >= 300 || s.Confirmed == 0 || cmd.Attempt != s.Confirmed || info == nil:
		st.drop(messages.DropStale)
	case info.RemoteTag == s.Dialog.GetRemoteTag():
		if s.AnswerDueBy.IsZero() {
			st.ack(s.Dialog, false)
		}
	case slices.Contains(s.Forks, info.RemoteTag):
		st.ack(st.dialogMade(info), false)
	case len(s.Forks) >= maxForks || s.asking():
		st.drop(messages.DropBusy) // the peer repeats it
	default:
		d := st.dialogMade(info)
		st.record(&messages.ForkAnswered{Attempt: cmd.Attempt, Dialog: d})
		st.ack(d, false)
		st.request(&messages.RequestStarted{Method: "BYE", Dialog: d})
	}
}

func (st *step) success(r Request, cmd Answered) {
	switch {
	case r.GetMethod() == "INVITE" && !st.state.Established():
		st.established(r, cmd)
		return
	case r.GetMethod() == "BYE" && r.GetDialog() == nil:
		st.ended(uint32(cmd.Response.Status), st.state.Reason)
		return
	}
	e := &messages.RequestSucceeded{Attempt: r.GetAttempt(), Status: uint32(cmd.Response.Status), Proof: cmd.Proof}
	if r.GetDialog() == nil && (r.GetMethod() == "INVITE" || r.GetMethod() == "UPDATE") {
		info := cmd.Response.Dialog
		e.Target, e.Timer = info.Target, timerOf(info.SessionExpires, info.MinSE, info.Refresher, info.Supported, info.Allow, st.state.Timer)
		t := st.agreed(e.Timer)
		e.IntervalSeconds, e.Refresher, e.RefreshAtMs, e.ExpiresAtMs = t.seconds, t.ours, t.refreshAt, t.expiresAt
		if r.GetMethod() == "INVITE" && !r.GetBody() && len(info.Body) > 0 && !st.state.Ending {
			e.AnswerDueByMs = st.after(answerDue)
		}
	}
	st.record(e)
	if r.GetMethod() == "INVITE" && e.AnswerDueByMs == 0 {
		st.ack(st.state.Dialog, false)
	}
	if r.owned() {
		st.do(Tell{Notice: NoticeSucceeded, Chain: r.GetChain(), Status: e.Status})
	}
}

// established: the first 2xx makes the dialog. A 2xx that crosses our CANCEL is
// acknowledged and ended (CAN-03).
func (st *step) established(r Request, cmd Answered) {
	info := cmd.Response.Dialog
	e := &messages.SessionEstablished{
		Attempt: r.GetAttempt(), Status: uint32(cmd.Response.Status), Dialog: st.dialogMade(info), Source: cmd.Response.Source,
		Timer: timerOf(info.SessionExpires, info.MinSE, info.Refresher, info.Supported, info.Allow, nil), Proof: cmd.Proof,
	}
	usable := info.Target != ""
	t := st.agreed(e.Timer)
	e.IntervalSeconds, e.Refresher, e.RefreshAtMs, e.ExpiresAtMs = t.seconds, t.ours, t.refreshAt, t.expiresAt
	late := !r.GetBody() && len(info.Body) > 0
	if late && !st.state.Ending && usable {
		e.AnswerDueByMs = st.after(answerDue)
	}
	st.record(e)
	if e.AnswerDueByMs == 0 {
		st.ack(st.state.Dialog, false)
	}
	switch {
	case st.state.Ending:
		st.withdrawUnsent(func(Request) bool { return true })
		st.bye()
	case !usable:
		st.end(messages.ReasonNoContact, 0)
	default:
		st.do(Tell{Notice: NoticeEstablished, Chain: r.GetChain(), Status: e.Status})
	}
}

func or2(v, otherwise string) string {
	if v == "" {
		return otherwise
	}
	return v
}

// challenged asks the handler, if the credentials may go to where the challenge
// came from.
func (st *step) challenged(r Request, response *messages.SIPResponse) {
	received, withheld := st.admissible(r, response)
	j := challenge.Judge(st.challengePolicy(), st.state.challenges(r), received, r.GetAnswers(), r.GetRound(), r.Continues)
	recorded := slices.Concat(j.Recorded, withheld)
	if len(recorded) > 0 {
		st.record(&messages.ChallengeReceived{Attempt: r.GetAttempt(), Status: uint32(response.Status), Challenges: recorded})
	}
	switch {
	case len(received) == 0 && len(withheld) > 0:
		st.over(r, uint32(response.Status), messages.ReasonUntrusted)
	case st.state.Ending && r.GetMethod() != "BYE":
		st.over(r, uint32(response.Status), st.state.Reason) // CAN-02
	case st.outlived(r):
		st.over(r, uint32(response.Status), messages.ReasonDialogGone)
	case j.Verdict != challenge.Ask:
		st.over(r, uint32(response.Status), j.Reason)
	default:
		answers := st.trusted(r.RequestStarted, st.state.challenges(r).Answers(r.GetAnswers(), j.Recorded))
		st.again(r, r.GetRound()+1, answers, uint32(response.Status), j.Rejected)
	}
}

// outlived tells a PRACK whose early dialog is no more.
func (st *step) outlived(r Request) bool {
	tag := r.GetDialog().GetRemoteTag()
	return r.GetMethod() == "PRACK" && tag != st.state.Dialog.GetRemoteTag() &&
		!slices.ContainsFunc(st.state.Early, func(e Early) bool { return e.Dialog.GetRemoteTag() == tag })
}

// challengePolicy holds the realms that the profile knew when the session
// began.
func (st *step) challengePolicy() challenge.Policy {
	p := st.policy.Challenge
	if realms := st.state.Spec.GetRealms(); len(realms) > 0 {
		p.Realms = realms
	}
	return p
}

// raise follows a 422 with the interval that it names (TMR-02).
func (st *step) raise(r Request, response *messages.SIPResponse) bool {
	least := response.Dialog.MinSE
	switch {
	case r.GetSessionExpires() == 0, st.state.Ending, // it asked for none
		least <= st.state.MinSE, st.state.Intervals >= maxIntervals:
		return false
	}
	st.record(&messages.SessionIntervalRaised{Attempt: r.GetAttempt(), MinSe: least})
	st.again(r, r.GetRound(), st.kept(r), 0, false)
	return true
}

// kept are the credentials that a chain gave so far, for a repetition that no
// challenge asked for.
func (st *step) kept(r Request) []*messages.NonceCount {
	return st.trusted(r.RequestStarted, st.state.challenges(r).Answers(r.GetAnswers(), []*messages.RecordedChallenge{}))
}

// glare: both sides re-negotiate at once (RFC 3261 §14.1, DLG-14).
func (st *step) glare(r Request) bool {
	offer := r.GetMethod() == "INVITE" || r.GetMethod() == "UPDATE"
	again := st.state.Retry.Chain == r.GetChain() && st.state.Retry.Count >= maxGlare
	if !offer || !st.state.Established() || st.state.Ending {
		return false
	}
	if again {
		st.over(r, 491, messages.ReasonGlare)
		return true
	}
	const step = 10 * time.Millisecond
	wait := time.Duration(st.in.Jitter * float64(2*time.Second)).Truncate(step)
	if !st.state.Inbound() { // we own the Call-ID
		wait = (2100*time.Millisecond + time.Duration(st.in.Jitter*float64(1900*time.Millisecond))).Truncate(step)
	}
	st.record(&messages.RequestFailed{
		Attempt: r.GetAttempt(), Status: 491, Reason: string(messages.ReasonGlare), RetryAtMs: max(st.after(wait), 1),
	})
	return true
}

// redirected follows a 3xx to a host that the policy allows. The request still
// goes by way of the registrar or its proxy, so no credentials reach a new host
// (S-06).
func (st *step) redirected(r Request, response *messages.SIPResponse) bool {
	if r.GetMethod() != "INVITE" || st.state.Established() || st.state.Ending ||
		st.state.Spec.GetTrunkLeg() || st.state.Redirects >= st.policy.redirects() {
		return false
	}
	i := slices.IndexFunc(response.Redirects, func(uri string) bool {
		return slices.Contains(st.policy.RedirectHosts, hostOf(uri)) && uri != or2(st.state.Target, st.state.Spec.GetPeer())
	})
	if i < 0 {
		return false
	}
	st.record(&messages.SessionRedirected{Attempt: r.GetAttempt(), Status: uint32(response.Status), Target: response.Redirects[i]})
	st.again(r, r.GetRound(), st.kept(r), 0, false)
	return true
}

// reasonOf names a final response of 300 and above.
func reasonOf(r Request, status int) messages.Reason {
	switch {
	case status < 400:
		return messages.ReasonRedirect
	case status == 486 || status == 600:
		return messages.ReasonPeerBusy
	case r.GetMethod() == "INVITE" && (status == 408 || status == 480 || status == 487):
		return messages.ReasonNoAnswer
	case status == 422:
		return messages.ReasonInterval
	case status == 491:
		return messages.ReasonGlare
	case status == 503:
		return messages.ReasonUnavailable
	case status >= 500 && status < 600:
		return messages.ReasonServer
	}
	return messages.ReasonDeclined
}
