package actors

import (
	"sync"
	"time"

	"github.com/sipmuster/muster/messages"
)

// lateAnswers are the dialogs whose 2xx may still be repeated after their
// session is over (Timer M, RFC 6026 §7.2), each with the ACK that was sent.
type lateAnswers struct{ all sync.Map }

// lateLimit is Timer M and a little more.
const lateLimit = 40 * time.Second

// lateKey names a dialog of a session that is over.
type lateKey struct{ session, remoteTag string }

func (f *Farm) keepAcks(session string, acks map[ackKey]*messages.SIPRequest) {
	for key, ack := range acks {
		f.late.all.Store(lateKey{session, key.remoteTag}, ack)
		f.after(lateLimit, func() { f.late.all.Delete(lateKey{session, key.remoteTag}) })
	}
}

// answeredLate: a 2xx to the INVITE of a call that is over. Every one is
// acknowledged, by the same ACK as before where there was one, and a branch
// that was not heard of before is ended (RFC 3261 §13.2.2.4, INV-01, INV-02).
// Nothing of it is recorded: the stream of the session is closed, and no other
// request was ever sent in that dialog.
func (f *Farm) answeredLate(id string, m *inviteReported) {
	r := m.report.Response
	if r == nil || r.Status < 200 || r.Status > 299 || r.Dialog == nil || r.Dialog.RemoteTag == "" || r.Dialog.Target == "" {
		return
	}
	key := lateKey{id, r.Dialog.RemoteTag}
	ack := within(m.request, r.Dialog, "ACK", m.request.CSeq)
	if known, repeated := f.late.all.LoadOrStore(key, ack); repeated {
		f.sender.Ack(known.(*messages.SIPRequest))
		return
	}
	f.after(lateLimit, func() { f.late.all.Delete(key) })
	f.sender.Ack(ack)
	f.sender.Send(within(m.request, r.Dialog, "BYE", m.request.CSeq+1), func(messages.SIPOutcome) {})
}

// within is a request without credentials in a dialog that an INVITE of ours
// has made (RFC 3261 §12.2.1.1).
func within(invite *messages.SIPRequest, d *messages.DialogInfo, method string, cseq uint32) *messages.SIPRequest {
	q := &messages.SIPRequest{
		Method: method, From: invite.From, FromTag: invite.FromTag, To: invite.To, ToTag: d.RemoteTag,
		CallID: invite.CallID, CSeq: cseq, Expires: -1, NoContact: true,
		RequestURI: d.Target, Route: d.RouteSet, NextHop: d.Target,
	}
	if len(q.Route) > 0 {
		q.NextHop = routeURI(q.Route[0])
	}
	return q
}
