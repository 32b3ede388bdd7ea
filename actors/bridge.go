package actors

import (
	"slices"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// A bridge joins two sessions: the call that was taken, from a trunk's peer or
// for a profile, and the one that is placed because of it. What each leg is told
// becomes orders to the other. This file holds the rules, which are functions of
// values; bridge_host.go gives them the notices and carries out the orders.
//
// Dialogs, tags, CSeq numbers, challenges, session timers and reliable responses
// belong to one leg and never cross. Bodies cross byte for byte.

// side is one of the two legs.
type side int

const (
	// taken is the leg whose INVITE came from outside, placed the other.
	taken side = iota
	placed
)

func (s side) other() side { return 1 - s }

func (s side) String() string { return [...]string{"taken", "placed"}[s] }

// phase is how far a leg is.
type phase int

const (
	// phaseNew: nothing was heard of it.
	phaseNew phase = iota
	// phaseSetup: its INVITE is not answered yet.
	phaseSetup
	// phaseUp: requests can be made in it.
	phaseUp
	// phaseOver: it has ended, or was told to.
	phaseOver
)

// bridge is what is known of a call that crosses. It is a value; what its
// fields point to is replaced and never written in place.
type bridge struct {
	legs [2]bridgeLeg
	// headers are the canonical names of the headers that cross.
	headers []string
}

type bridgeLeg struct {
	phase phase
	// trunk is true for the leg towards the trunk's peer.
	trunk bool
	// invite is the CSeq number of the INVITE that was taken, late that it had
	// no body, so that the answer to the offer comes in the ACK.
	invite uint32
	late   bool
	// owesAnswer is true while the leg's peer waits for our answer to the offer
	// in its 2xx: the ACK on the other leg brings it.
	owesAnswer bool
	// update is true when the leg's peer takes UPDATE.
	update bool
	// answers are the answers to our offer that came in reliable provisional
	// responses: the 2xx need not repeat them (RFC 3262 §5), but towards a caller
	// that got them unreliably it must (RFC 3261 §13.2.1).
	answers []earlyAnswer
}

// passedOn is a request of one leg's peer inside the dialog.
type passedOn struct {
	method string
	cseq   uint32
	// late is true for an INVITE without a body.
	late bool
}

func (p passedOn) offers() bool { return p.method == "INVITE" || p.method == "UPDATE" }

type earlyAnswer struct {
	tag         string
	headers     []messages.Header
	contentType string
	body        []byte
}

// maxAnswers bounds the early answers that are kept, as the core bounds early
// dialogs (S-31).
const maxAnswers = 16

// bridgeOrder is what a bridge wants done with a leg: one of the types below.
type bridgeOrder interface{ bridgeOrder() }

type (
	// placeOrder places the second leg.
	placeOrder struct {
		headers     []messages.Header
		contentType string
		body        []byte
	}
	// replyOrder answers a request of a leg's peer.
	replyOrder struct {
		to    side
		reply SessionReply
	}
	// sendOrder passes a request on; what becomes of it is told to returned.
	sendOrder struct {
		to      side
		from    passedOn
		request InDialog
	}
	// answerOrder gives a leg's peer the answer that it waits for.
	answerOrder struct {
		to          side
		contentType string
		body        []byte
	}
	// endOrder ends a leg by BYE or CANCEL.
	endOrder struct {
		to      side
		headers []messages.Header
	}
)

func (placeOrder) bridgeOrder()  {}
func (replyOrder) bridgeOrder()  {}
func (sendOrder) bridgeOrder()   {}
func (answerOrder) bridgeOrder() {}
func (endOrder) bridgeOrder()    {}

// newBridge joins a leg that is being taken with one to be placed. trunk tells
// which of them leads to the trunk's peer.
func newBridge(trunk side, headers []string) bridge {
	b := bridge{headers: canonicalNames(headers)}
	b.legs[trunk].trunk = true
	return b
}

// notified: the session of a leg says something.
func (b bridge) notified(from side, n SessionNotice) (bridge, []bridgeOrder) {
	if b.legs[from].phase == phaseOver {
		return b, nil
	}
	switch n.Kind {
	case session.NoticeRequest:
		if from == taken && b.legs[taken].phase == phaseNew && n.Request.Method == "INVITE" {
			return b.called(n.Request)
		}
		return b.requested(from, n.Request)
	case session.NoticeProgress:
		return b.progressed(from, n.Response)
	case session.NoticeEstablished:
		return b.established(from, n.Response)
	case session.NoticeReceived:
		return b.acknowledged(from, n.Request)
	case session.NoticeEnded:
		return b.ended(from, n)
	default: // NoticeSucceeded and NoticeFailed: see returned
		return b, nil
	}
}

// with returns the bridge with one leg changed.
func (b bridge) with(s side, change func(*bridgeLeg)) bridge {
	change(&b.legs[s])
	return b
}

// called: the INVITE that begins it all.
func (b bridge) called(q *messages.SIPInbound) (bridge, []bridgeOrder) {
	b = b.with(taken, func(l *bridgeLeg) {
		l.phase, l.invite, l.late, l.update = phaseSetup, q.CSeq, len(q.Dialog.Body) == 0, takesUpdate(q.Dialog)
	})
	b = b.with(placed, func(l *bridgeLeg) { l.phase = phaseSetup })
	return b, []bridgeOrder{placeOrder{
		headers: b.passing("INVITE", q.Dialog), contentType: q.Dialog.ContentType, body: q.Dialog.Body,
	}}
}

// takesUpdate: RFC 3311 §5.1 wants to see it in Allow.
func takesUpdate(info messages.DialogInfo) bool { return slices.Contains(info.Allow, "UPDATE") }

// progressed passes a provisional response on, unreliably: 100rel is agreed per
// leg. The tags of a forked call stay on its side.
func (b bridge) progressed(from side, r *messages.SIPResponse) (bridge, []bridgeOrder) {
	// A 199 is about one fork (RFC 6228), which the caller does not see.
	if from != placed || r == nil || r.Status == 199 || b.legs[taken].phase != phaseSetup {
		return b, nil
	}
	info := infoOf(r)
	if info.RSeq > 0 && len(info.Body) > 0 && len(b.legs[placed].answers) < maxAnswers {
		answer := earlyAnswer{info.RemoteTag, describing(info.Headers), info.ContentType, info.Body}
		b = b.with(placed, func(l *bridgeLeg) { l.answers = append(slices.Clone(l.answers), answer) })
	}
	return b, []bridgeOrder{b.reply(taken, "INVITE", b.legs[taken].invite, r.Status, r.Phrase, info)}
}

func infoOf(r *messages.SIPResponse) messages.DialogInfo {
	if r == nil || r.Dialog == nil {
		return messages.DialogInfo{}
	}
	return *r.Dialog
}

// reply is a response to pass on.
func (b bridge) reply(to side, method string, cseq uint32, status int, phrase string, info messages.DialogInfo) replyOrder {
	return replyOrder{to, SessionReply{
		Method: method, CSeq: cseq, Status: status, Phrase: phrase,
		Headers: b.passing(method, info), ContentType: info.ContentType, Body: info.Body,
	}}
}

// refusal is a response of the bridge itself.
func refusal(to side, method string, cseq uint32, status int, headers ...messages.Header) []bridgeOrder {
	return []bridgeOrder{replyOrder{to, SessionReply{Method: method, CSeq: cseq, Status: status, Headers: headers}}}
}

// established: the placed leg was answered, so the taken one is.
func (b bridge) established(from side, r *messages.SIPResponse) (bridge, []bridgeOrder) {
	if from != placed {
		return b, nil // it was us
	}
	info := infoOf(r)
	b = b.with(placed, func(l *bridgeLeg) { l.phase, l.update = phaseUp, takesUpdate(info) })
	caller := b.legs[taken]
	if caller.phase != phaseSetup {
		return b, nil // it has been told to end
	}
	answers := b.legs[placed].answers
	i := slices.IndexFunc(answers, func(a earlyAnswer) bool { return a.tag == info.RemoteTag })
	order := b.reply(taken, "INVITE", caller.invite, r.Status, r.Phrase, info)
	if len(info.Body) == 0 && i >= 0 {
		order.reply.ContentType, order.reply.Body = answers[i].contentType, answers[i].body
		order.reply.Headers = append(order.reply.Headers, answers[i].headers...)
	}
	b = b.with(placed, func(l *bridgeLeg) { l.answers, l.owesAnswer = nil, caller.late && len(info.Body) > 0 })
	b = b.with(taken, func(l *bridgeLeg) { l.phase = phaseUp })
	return b, []bridgeOrder{order}
}

// acknowledged: the ACK of our 2xx, which may hold the answer to an offer that
// the other leg's peer made.
func (b bridge) acknowledged(from side, q *messages.SIPInbound) (bridge, []bridgeOrder) {
	to := from.other()
	if q == nil || q.Method != "ACK" || !b.legs[to].owesAnswer || b.legs[to].phase != phaseUp {
		return b, nil
	}
	b = b.with(to, func(l *bridgeLeg) { l.owesAnswer = false })
	return b, []bridgeOrder{answerOrder{to, q.Dialog.ContentType, q.Dialog.Body}}
}

// requested passes a request inside the dialog on.
func (b bridge) requested(from side, q *messages.SIPInbound) (bridge, []bridgeOrder) {
	to := from.other()
	asked := passedOn{q.Method, q.CSeq, q.Method == "INVITE" && len(q.Dialog.Body) == 0}
	no := func(status int, headers ...messages.Header) (bridge, []bridgeOrder) {
		return b, refusal(from, q.Method, q.CSeq, status, headers...)
	}
	switch far := b.legs[to]; {
	case q.Method == "REFER":
		return no(603) // a Refer-To or Replaces means dialogs of this side only
	case q.Method == "NOTIFY":
		return no(481) // no REFER was passed, so there is no subscription
	case far.phase == phaseOver:
		return no(481)
	case far.phase != phaseUp || b.legs[from].phase != phaseUp:
		return no(500, retryLater)
	}
	request := InDialog{
		Method: q.Method, Headers: b.passing(q.Method, q.Dialog), ContentType: q.Dialog.ContentType, Body: q.Dialog.Body,
	}
	if q.Method == "UPDATE" && !b.legs[to].update {
		request.Method = "INVITE" // the same offer, in the way that every peer takes
	}
	return b, []bridgeOrder{sendOrder{to, asked, request}}
}

// retryLater is for a request that came while the other leg is being set up
// (RFC 3261 §14.2).
var retryLater = messages.Header{Name: "Retry-After", Value: "2"}

// passedResult is what became of a request that was passed on.
type passedResult struct {
	// response is nil when none came; reason then says why.
	response *messages.SIPResponse
	reason   messages.Reason
	// busy is true when the leg could not send it now.
	busy bool
}

// returned: a request that a leg sent for the other is over. The other may have
// answered it by itself meanwhile; then its core drops the reply.
func (b bridge) returned(to side, asked passedOn, o passedResult) (bridge, []bridgeOrder) {
	from := to.other()
	switch {
	case b.legs[from].phase == phaseOver:
		return b, nil
	case o.busy && asked.offers():
		return b, refusal(from, asked.method, asked.cseq, 491) // glare (RFC 3261 §14.2)
	case o.busy:
		return b, refusal(from, asked.method, asked.cseq, 500, retryLater)
	case o.response == nil:
		return b, refusal(from, asked.method, asked.cseq, insideStatus(asked.method, 0, o.reason, false))
	}
	info := infoOf(o.response)
	status := o.response.Status
	if status < 300 {
		b = b.with(to, func(l *bridgeLeg) {
			l.owesAnswer = asked.late && len(info.Body) > 0
			if len(info.Allow) > 0 {
				l.update = takesUpdate(info)
			}
		})
		return b, []bridgeOrder{b.reply(from, asked.method, asked.cseq, status, o.response.Phrase, info)}
	}
	return b, b.failed(from, asked.method, asked.cseq, insideStatus(asked.method, status, o.reason, b.legs[to].trunk), o.response)
}

// failed passes a final response of 300 and above on. One that is translated
// loses what was said about the original.
func (b bridge) failed(to side, method string, cseq uint32, status int, r *messages.SIPResponse) []bridgeOrder {
	if r == nil || r.Status != status {
		return refusal(to, method, cseq, status, reasonHeaders(infoOf(r).Headers)...)
	}
	order := b.reply(to, method, cseq, status, r.Phrase, infoOf(r))
	order.reply.Headers = append(order.reply.Headers, retryAfter(r)...)
	return []bridgeOrder{order}
}

// ended: a leg is over, so the other must be: by BYE, CANCEL, or the final
// response that the first one got.
func (b bridge) ended(from side, n SessionNotice) (bridge, []bridgeOrder) {
	to := from.other()
	before := b.legs[to].phase
	b = b.with(from, func(l *bridgeLeg) { l.phase = phaseOver })
	b = b.with(to, func(l *bridgeLeg) { l.phase = phaseOver })
	switch {
	case before == phaseOver || before == phaseNew:
		return b, nil
	case to == taken && before == phaseSetup:
		trunk := b.legs[placed].trunk
		return b, b.failed(taken, "INVITE", b.legs[taken].invite, callStatus(n.Status, n.Reason, trunk), n.Response)
	}
	return b, []bridgeOrder{endOrder{to, causeOf(n)}}
}

// notPlaced: the second leg could not be placed at all.
func (b bridge) notPlaced(status int, headers ...messages.Header) (bridge, []bridgeOrder) {
	waits := b.legs[taken].phase == phaseSetup
	b = b.with(placed, func(l *bridgeLeg) { l.phase = phaseOver })
	b = b.with(taken, func(l *bridgeLeg) { l.phase = phaseOver })
	if !waits {
		return b, nil
	}
	return b, refusal(taken, "INVITE", b.legs[taken].invite, status, headers...)
}

// restored: the node was restarted, and these are the sessions; one that is gone
// is the zero State. Two that are up go on, anything else is ended.
func (b bridge) restored(legs [2]session.State) (bridge, []bridgeOrder) {
	for s, state := range legs {
		b.legs[s].update = state.Timer.GetUpdate()
		switch {
		case !state.Exists() || state.Ended || state.Ending:
			b.legs[s].phase = phaseOver
		case state.Established():
			b.legs[s].phase = phaseUp
		default:
			b.legs[s].phase = phaseSetup // its core ends it
		}
	}
	if b.legs[taken].phase == phaseUp && b.legs[placed].phase == phaseUp {
		return b, nil
	}
	var orders []bridgeOrder
	for s := range b.legs {
		if b.legs[s].phase != phaseOver {
			orders = append(orders, endOrder{to: side(s)})
		}
		b.legs[s].phase = phaseOver
	}
	return b, orders
}
