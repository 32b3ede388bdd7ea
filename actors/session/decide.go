package session

import (
	"fmt"
	"slices"
	"time"

	"github.com/sipmuster/muster/messages"
)

// Decide says what to record, and then what to do, when something happens to a
// session. It is a function: the same arguments give the same result. It
// returns no error: what a peer or an operator can cause is an event or a
// drop, and an impossible command is a panic.
func Decide(p Policy, s State, in Input) Decision {
	st := &step{policy: p, state: s, in: in}
	switch cmd := in.Command.(type) {
	case Start:
		st.start(cmd)
	case Receive:
		st.receive(cmd)
	default:
		if !s.Exists() || s.Ended {
			st.drop(messages.DropIdle)
			break
		}
		st.dispatch(cmd)
	}
	if st.decision.Dropped == "" {
		st.settle()
	}
	return st.decision
}

func (st *step) dispatch(cmd Command) {
	switch cmd := cmd.(type) {
	case Admitted:
		st.admitted()
	case NotAdmitted:
		st.notAdmitted(cmd.Reason)
	case Provisional:
		st.provisional(cmd)
	case Answered:
		st.answered(cmd)
	case Failed:
		st.unanswered(cmd)
	case CredentialsOffered:
		st.offered(cmd)
	case CredentialsWithheld:
		st.withheld(cmd)
	case Send:
		st.send(cmd)
	case Answer:
		st.answer()
	case PeerRequested:
		st.peerRequested(cmd)
	case Reply:
		st.reply(cmd)
	case AckMissing:
		st.ackMissing()
	case End:
		st.end(cmd.Reason, cmd.Status)
	case TimerFired:
		st.timerFired()
	case Recovered:
		st.recovered()
	default:
		panic(fmt.Sprintf("session: decide: unknown command %T", cmd))
	}
}

// step is one decision in the making. State changes only through record, so
// effects are computed from the state that a replay will rebuild.
type step struct {
	policy   Policy
	state    State
	in       Input
	decision Decision
}

func (st *step) record(body any) {
	e := messages.NewSessionEvent(body)
	st.decision.Events = append(st.decision.Events, e)
	st.state = Apply(st.state, e, st.in.Now)
}

func (st *step) do(e Effect) { st.decision.Effects = append(st.decision.Effects, e) }

func (st *step) drop(r messages.Reason) { st.decision.Dropped = r }

func (st *step) after(d time.Duration) int64 { return messages.ToMS(st.in.Now.Add(d)) }

// settle begins what was due and had to wait until nothing else was open.
func (st *step) settle() {
	at := st.state.offerAt()
	switch {
	case at.IsZero() || at.After(st.in.Now) || st.policy.Unacknowledged:
	case st.state.Retry.At.IsZero():
		st.refresh()
	default:
		st.repeat()
	}
}

// start places a call: it waits for its registrar's gate.
func (st *step) start(cmd Start) {
	if st.state.Exists() {
		st.drop(messages.DropBusy)
		return
	}
	st.record(&messages.SessionStarted{
		Spec: cmd.Spec, CallId: cmd.CallID, LocalTag: cmd.LocalTag, Body: cmd.Body,
		AdmitByMs: st.after(st.policy.admitLimit()),
	})
	st.do(Admit{})
}

// waitsForGate tells whether the first INVITE was not made yet.
func (s State) waitsForGate() bool { return !s.Inbound() && s.Attempts == 0 }

func (st *step) admitted() {
	if !st.state.waitsForGate() || st.state.Ending {
		st.drop(messages.DropIdle)
		return
	}
	st.request(&messages.RequestStarted{
		Method: "INVITE", Body: st.state.Body,
		SessionExpires: seconds(st.policy.interval(st.state.MinSE)), MinSe: st.state.MinSE,
	})
}

func (st *step) notAdmitted(reason messages.Reason) {
	if !st.state.waitsForGate() {
		st.drop(messages.DropIdle)
		return
	}
	st.ended(0, reason)
}

// ended is the last event; the first reason to end is the one that counts.
func (st *step) ended(status uint32, reason messages.Reason) {
	if st.state.Ending {
		reason = st.state.Reason
	}
	st.terminatePeer()
	st.record(&messages.SessionEnded{Status: status, Reason: string(reason)})
	st.do(Tell{Notice: NoticeEnded, Reason: reason, Status: status})
}

// end ends the session in the way that its state demands (RFC 3261 §15).
func (st *step) end(reason messages.Reason, status int) {
	s := st.state
	if s.Ending {
		st.drop(messages.DropIdle)
		return
	}
	invite, inviting := s.Invite()
	switch {
	case s.Established():
		st.ending(reason)
		st.withdrawUnsent(func(r Request) bool { return r.GetMethod() != "BYE" })
		if !st.state.AnswerDueBy.IsZero() {
			st.acknowledge(false)
		}
		st.bye()
	case s.Inbound():
		if status < 300 {
			status = 480
		}
		st.respondInvite(status)
		st.ended(uint32(status), reason)
	case !inviting:
		st.ended(0, reason)
	case s.unsent(invite):
		// CAN-02: between a challenge and the retry no retry leaves.
		if invite.asked() {
			st.record(&messages.CredentialsRefused{Attempt: invite.GetAttempt(), Handler: invite.GetHandler(), Reason: string(reason)})
		}
		st.ended(invite.Status, reason)
	default:
		st.ending(reason)
		st.do(Cancel{Attempt: invite.GetAttempt()})
	}
}

func (st *step) ending(reason messages.Reason) {
	st.record(&messages.SessionEnding{Reason: string(reason), GuardAtMs: st.after(endingGuard)})
	st.terminatePeer()
}

// terminatePeer answers what the peer waits for: nobody will (RFC 3261 §15.1.2).
func (st *step) terminatePeer() {
	for _, r := range st.state.PeerRequests {
		st.respond(r.Method, r.CSeq, 487, nil)
	}
}

// withdrawUnsent takes back requests that have not left, the last first, so that
// their CSeq numbers are free again: the next request shall leave no gap.
func (st *step) withdrawUnsent(which func(Request) bool) {
	unsent := slices.DeleteFunc(slices.Clone(st.state.Requests), func(r Request) bool { return !st.state.unsent(r) || !which(r) })
	reason := st.state.Reason
	if reason == "" {
		reason = messages.ReasonDialogGone
	}
	for _, r := range slices.Backward(unsent) {
		if r.asked() {
			st.record(&messages.CredentialsRefused{Attempt: r.GetAttempt(), Handler: r.GetHandler(), Reason: string(reason)})
		}
		st.over(r, 0, reason)
	}
}

// bye ends the dialog.
func (st *step) bye() { st.request(&messages.RequestStarted{Method: "BYE"}) }

// answer: the owner has answered the offer of a 2xx.
func (st *step) answer() {
	if st.state.AnswerDueBy.IsZero() {
		st.drop(messages.DropIdle)
		return
	}
	st.acknowledge(true)
}

// acknowledge sends the ACK that waited for our answer.
func (st *step) acknowledge(body bool) {
	st.record(&messages.OfferAnswered{Attempt: st.state.Confirmed})
	st.ack(st.state.Dialog, body)
}

// ack sends the ACK of the INVITE that was confirmed last, in that dialog.
func (st *step) ack(d *messages.Dialog, body bool) {
	s := st.state
	st.do(Acknowledge{
		Attempt: s.Confirmed, CSeq: s.ConfirmedCSeq, Dialog: d, Body: body,
		Credentials: !s.Spec.GetTrunkLeg() && st.leadsHome(d),
	})
}

func (st *step) ackMissing() {
	if !st.state.Established() || st.state.Ending {
		st.drop(messages.DropIdle)
		return
	}
	st.end(messages.ReasonNoACK, 0)
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
