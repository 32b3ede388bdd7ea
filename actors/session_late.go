package actors

import (
	"sync"
	"time"

	"github.com/sipmuster/muster/messages"
)

// lateForks are the dialogs that were ended after their session was over, for
// as long as their 2xx can be repeated (Timer M, RFC 6026 §7.2).
type lateForks struct{ all sync.Map }

const lateForkLimit = 64 * time.Second

// answeredLate: a 2xx to the INVITE of a call that is over. Every one is
// acknowledged, and a branch that was not heard of before is ended (RFC 3261
// §13.2.2.4, INV-02). Nothing of it is recorded: the stream of the session is
// closed, and no other request was ever sent in that dialog.
func (f *Farm) answeredLate(id string, m *inviteReported) {
	r := m.report.Response
	if r == nil || r.Status < 200 || r.Status > 299 || r.Dialog == nil || r.Dialog.RemoteTag == "" || r.Dialog.Target == "" {
		return
	}
	f.sender.Ack(within(m.request, r.Dialog, "ACK", m.request.CSeq))
	if v, known := f.ended.find(id); known && v.Dialog.RemoteTag == r.Dialog.RemoteTag {
		return // our own dialog, whose BYE has left
	}
	key := id + " " + r.Dialog.RemoteTag
	if _, repeated := f.late.all.LoadOrStore(key, true); repeated {
		return
	}
	f.after(lateForkLimit, func() { f.late.all.Delete(key) })
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
