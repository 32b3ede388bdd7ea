package session

import (
	"slices"
	"strconv"

	"github.com/sipmuster/muster/messages"
)

// receive takes the INVITE of a peer.
func (st *step) receive(cmd Receive) {
	if st.state.Exists() {
		st.drop(messages.DropBusy)
		return
	}
	q, info := cmd.Request, cmd.Request.Dialog
	st.record(&messages.SessionReceived{
		Spec: cmd.Spec, CallId: q.CallID, LocalTag: cmd.LocalTag, Dialog: dialogOf(&info), RemoteCseq: q.CSeq,
		Source: q.Source, RingUntilMs: st.after(st.policy.ringLimit()), Body: len(info.Body) > 0,
		Timer: timerOf(info.SessionExpires, info.MinSE, info.Refresher, info.Supported, info.Allow, nil),
	})
	switch {
	case info.Target == "" || info.RemoteTag == "":
		st.respondInvite(400) // RFC 3261 §8.1.1.8: an INVITE has one Contact
		st.ended(400, messages.ReasonNoContact)
	case st.tooShort(info):
		st.respond("INVITE", q.CSeq, 422, st.minSEHeader())
		st.ended(422, messages.ReasonInterval)
	default:
		st.do(Tell{Notice: NoticeRequest})
	}
}

// respondInvite gives the first INVITE of the peer its final response.
func (st *step) respondInvite(status int) {
	i := slices.IndexFunc(st.state.PeerRequests, func(r PeerRequest) bool { return r.Method == "INVITE" })
	if i >= 0 {
		st.respond("INVITE", st.state.PeerRequests[i].CSeq, status, nil)
	}
}

// respond answers a request of the peer that was recorded.
func (st *step) respond(method string, cseq uint32, status int, headers []messages.Header) {
	st.record(&messages.PeerRequestAnswered{Method: method, Cseq: cseq, Status: uint32(status)})
	st.do(Respond{Method: method, CSeq: cseq, Status: status, Headers: headers})
}

// refuse answers a request of the peer that changes nothing.
func (st *step) refuse(q *messages.SIPInbound, status int, headers ...messages.Header) {
	st.do(Respond{Method: q.Method, CSeq: q.CSeq, Status: status, Headers: headers})
}

// retryAfter is what a request that came too soon is told (RFC 3261 §14.2).
func (st *step) retryAfter() messages.Header {
	return messages.Header{Name: "Retry-After", Value: strconv.Itoa(int(st.in.Jitter * 11))}
}

// peerRequested is a request of the peer inside the dialog, or the CANCEL or
// ACK of its INVITE.
func (st *step) peerRequested(cmd PeerRequested) {
	q := cmd.Request
	switch q.Method {
	case "CANCEL":
		st.cancelled(q)
		return
	case "ACK":
		st.do(Tell{Notice: NoticeReceived})
		return
	}
	switch {
	case !st.belongs(q):
		st.refuse(q, 481)
	case st.disordered(q):
		st.refuse(q, 500) // RFC 3261 §12.2.2
	case q.Method == "BYE":
		st.hungUp(q)
	case st.state.Ending:
		st.refuse(q, 481)
	case len(st.state.PeerRequests) >= maxPeer:
		st.refuse(q, 500, st.retryAfter())
	case q.Method == "INVITE" || q.Method == "UPDATE":
		st.offeredByPeer(cmd)
	default:
		st.toldByPeer(q)
	}
}

// disordered tells whether a request has a lower CSeq number than one before.
// While there are several early dialogs each counts for itself.
func (st *step) disordered(q *messages.SIPInbound) bool {
	s := st.state
	return s.RemoteCSeq != 0 && q.CSeq <= s.RemoteCSeq && (s.Dialog != nil || len(s.Early) < 2)
}

// belongs tells whether a request names a dialog of this session (RFC 3261
// §12.2.2).
func (st *step) belongs(q *messages.SIPInbound) bool {
	s := st.state
	if q.CallID != s.CallID {
		return false
	}
	if s.Dialog != nil {
		return q.Dialog.RemoteTag == s.Dialog.GetRemoteTag()
	}
	return slices.ContainsFunc(s.Early, func(e Early) bool { return e.Dialog.GetRemoteTag() == q.Dialog.RemoteTag })
}

// cancelled: the peer gave up before we answered (RFC 3261 §9.2).
func (st *step) cancelled(q *messages.SIPInbound) {
	if _, ok := st.state.Peer("INVITE", q.CSeq); !ok {
		st.drop(messages.DropIdle) // answered already: the CANCEL has no effect
		return
	}
	st.respond("INVITE", q.CSeq, 487, nil)
	if !st.state.Established() {
		st.ended(487, messages.ReasonRemoteHangup)
	}
}

// hungUp: BYE (RFC 3261 §15.1.2). What waits for an answer gets 487.
func (st *step) hungUp(q *messages.SIPInbound) {
	if !st.state.Inbound() && !st.state.Established() {
		st.refuse(q, 481) // a callee ends an early dialog by its response
		return
	}
	st.record(&messages.PeerRequestReceived{Method: "BYE", Cseq: q.CSeq})
	st.respond("BYE", q.CSeq, 200, nil)
	st.ended(0, messages.ReasonRemoteHangup)
}

// offeredByPeer is a re-INVITE or UPDATE: it may move the remote target, change
// the description, or only refresh the session.
func (st *step) offeredByPeer(cmd PeerRequested) {
	q, s := cmd.Request, st.state
	offer := q.Method == "INVITE" || len(q.Dialog.Body) > 0
	_, theirs := st.peerOffer()
	switch {
	case offer && st.ourOffer():
		st.refuse(q, 491) // DLG-15
		return
	case q.Method == "INVITE" && !s.Established(), offer && theirs:
		st.refuse(q, 500, st.retryAfter()) // DLG-15: one at a time
		return
	case st.tooShort(q.Dialog):
		st.refuse(q, 422, st.minSEHeader()...)
		return
	}
	limit := st.policy.ownerLimit()
	if q.Method == "INVITE" {
		limit = st.policy.ringLimit()
	}
	e := &messages.PeerRequestReceived{
		Method: q.Method, Cseq: q.CSeq, Target: q.Dialog.Target, AnswerByMs: st.after(limit),
		Timer: timerOf(q.Dialog.SessionExpires, q.Dialog.MinSE, q.Dialog.Refresher, q.Dialog.Supported, q.Dialog.Allow, s.Timer),
	}
	st.record(e)
	switch {
	case !offer:
		st.accept(q.Method, q.CSeq, 200, Respond{})
	case st.policy.Owned:
		st.do(Tell{Notice: NoticeRequest})
	case cmd.Unchanged:
		st.accept(q.Method, q.CSeq, 200, Respond{Described: true})
	default:
		st.respond(q.Method, q.CSeq, 488, nil) // nobody is there who could agree to it
	}
}

// peerOffer finds an offer of the peer that waits for our answer.
func (st *step) peerOffer() (PeerRequest, bool) {
	i := slices.IndexFunc(st.state.PeerRequests, func(r PeerRequest) bool { return r.Method == "INVITE" || r.Method == "UPDATE" })
	if i < 0 {
		return PeerRequest{}, false
	}
	return st.state.PeerRequests[i], true
}

// ourOffer tells whether an offer of ours is open.
func (st *step) ourOffer() bool {
	return !st.state.AnswerDueBy.IsZero() || slices.ContainsFunc(st.state.Requests, func(r Request) bool {
		return r.GetMethod() == "INVITE" || r.GetMethod() == "UPDATE" && r.GetBody()
	})
}

// toldByPeer is any other request. Without an owner it gets the answer of
// somebody who does not know what it is about.
func (st *step) toldByPeer(q *messages.SIPInbound) {
	var status int
	switch q.Method {
	case "OPTIONS":
		status = 200
	case "NOTIFY":
		status = 481 // RFC 6665 §4.1.3: no subscription
		if st.state.Referred {
			status = 200
		}
	case "INFO":
		status = 200 // RFC 6086 §4.2.2: an INFO of old without a body
		if len(q.Dialog.Body) > 0 {
			status = 415
		}
	case "REFER", "MESSAGE":
		status = 603
	default:
		st.refuse(q, 405)
		return
	}
	st.record(&messages.PeerRequestReceived{Method: q.Method, Cseq: q.CSeq, AnswerByMs: st.after(st.policy.ownerLimit())})
	if st.policy.Owned && q.Method != "OPTIONS" && !(q.Method == "NOTIFY" && status == 481) {
		st.do(Tell{Notice: NoticeRequest})
		return
	}
	st.respond(q.Method, q.CSeq, status, nil)
}

// reply is the owner's response.
func (st *step) reply(cmd Reply) {
	_, waits := st.state.Peer(cmd.Method, cmd.CSeq)
	switch {
	case !waits:
		st.drop(messages.DropIdle)
	case cmd.Status < 200 && cmd.Method != "INVITE":
		st.drop(messages.DropUnwanted) // RFC 4320 §4.1
	case cmd.Status < 200:
		st.do(Respond{Method: cmd.Method, CSeq: cmd.CSeq, Status: cmd.Status, Owner: true})
	case cmd.Status < 300:
		st.accept(cmd.Method, cmd.CSeq, cmd.Status, Respond{Owner: true})
	default:
		st.record(&messages.PeerRequestAnswered{Method: cmd.Method, Cseq: cmd.CSeq, Status: uint32(cmd.Status)})
		st.do(Respond{Method: cmd.Method, CSeq: cmd.CSeq, Status: cmd.Status, Owner: true})
		if st.state.Inbound() && !st.state.Established() && cmd.Method == "INVITE" {
			st.ended(uint32(cmd.Status), messages.ReasonDeclined)
		}
	}
}

// accept answers with a 2xx; of an INVITE or UPDATE it settles the session
// timer.
func (st *step) accept(method string, cseq uint32, status int, how Respond) {
	r, _ := st.state.Peer(method, cseq)
	how.Method, how.CSeq, how.Status = method, cseq, status
	if method != "INVITE" && method != "UPDATE" {
		st.record(&messages.PeerRequestAnswered{Method: method, Cseq: cseq, Status: uint32(status)})
		st.do(how)
		return
	}
	first := method == "INVITE" && !st.state.Established()
	var t negotiated
	if first || st.state.Established() { // the 2xx to the INVITE sets the timer
		t, how.Headers = st.granted(r.Timer, first)
	}
	if first {
		st.record(&messages.SessionEstablished{
			Status: uint32(status), Dialog: st.state.Dialog, Timer: r.Timer,
			IntervalSeconds: t.seconds, Refresher: t.ours, RefreshAtMs: t.refreshAt, ExpiresAtMs: t.expiresAt,
		})
		st.do(how)
		st.do(Tell{Notice: NoticeEstablished, Status: uint32(status)})
		return
	}
	st.record(&messages.PeerRequestAnswered{
		Method: method, Cseq: cseq, Status: uint32(status),
		IntervalSeconds: t.seconds, Refresher: t.ours, RefreshAtMs: t.refreshAt, ExpiresAtMs: t.expiresAt,
	})
	st.do(how)
}
