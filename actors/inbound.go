package actors

import (
	"net/url"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// taker decides who owns a call from outside; nil refuses it with 480. It runs
// on the profile's shard, must not block, and may complete what is recorded of
// the call.
type taker func(call IncomingCall, spec *messages.SessionSpec) Owner

// incoming is an INVITE from outside on its way to the shard of its profile.
type incoming struct {
	id, profile string
	request     *messages.SIPInbound
	take        taker
	early       earlyKey
	spec        *messages.SessionSpec // set by the shard
}

// earlyKey names an INVITE of a peer and its CANCEL (RFC 3261 §9.1). A proxy
// may fork one call to two profiles, so the Request-URI belongs to it.
type earlyKey struct {
	callID, tag, uri string
	cseq             uint32
}

func earlyKeyOf(in *messages.SIPInbound) earlyKey {
	return earlyKey{callID: in.CallID, tag: in.Dialog.RemoteTag, uri: in.RequestURI, cseq: in.CSeq}
}

// Inbound takes a request from outside that belongs to a session or begins one,
// and tells whether it did. It does not block.
func (f *Farm) Inbound(in *messages.SIPInbound) bool {
	switch {
	case !f.started.Load():
		return false
	case in.ToTag != "":
		return f.inside(in)
	case in.Method == "CANCEL":
		id, ok := f.early.Load(earlyKeyOf(in))
		if ok { // its shard may not have seen the INVITE yet, and takes them in order
			f.mailAhead(id.(string), in)
		}
		return ok
	case in.Method == "INVITE" && !f.stopping.Load():
		return f.receive(in)
	}
	return false
}

// inside finds the session of a request in a dialog: our tag is its id.
func (f *Farm) inside(in *messages.SIPInbound) bool {
	e, ok := f.session(in.ToTag)
	if !ok {
		return false
	}
	state := e.cell.Load().state
	// A session that is about to begin has no Call-ID yet.
	if state.Ended || state.Exists() && state.CallID != in.CallID {
		return false
	}
	return f.mail(in.ToTag, in)
}

// receive begins a session for an INVITE from outside.
func (f *Farm) receive(in *messages.SIPInbound) bool {
	id, take, status := f.receiver(in)
	switch {
	case take == nil && status == 0:
		return false
	case take == nil:
		refuseRequest(in, status)
		return true
	}
	m := &incoming{id: f.newSessionID(id), profile: id, request: in, take: take, early: earlyKeyOf(in)}
	// Entered here, so that a CANCEL right behind it finds the call.
	if _, known := f.early.LoadOrStore(m.early, m.id); known {
		return false
	}
	f.root.Send(f.shardOf(id), m)
	return true
}

// receiver finds the profile that an INVITE is for and who may take it. Without
// a taker it is refused with the status, or left to the adapter's default answer
// when that is 0.
//
// This is the one place where trunks come in: a call of a trunk's peer before
// anything else, and a call to one of its profiles before OnInvite.
func (f *Farm) receiver(in *messages.SIPInbound) (profile string, take taker, status int) {
	if id, take, status, ours := f.fromTrunk(in); ours {
		return id, take, status
	}
	c, ok := f.called(in)
	if !ok {
		return "", nil, 0
	}
	if take, status := f.toTrunk(c, in); take != nil || status != 0 {
		return c.id, take, status
	}
	if f.onInvite == nil {
		return "", nil, 0
	}
	return c.id, func(call IncomingCall, _ *messages.SessionSpec) Owner { return f.onInvite(call) }, 0
}

// called finds the profile whose contact an INVITE is for. Of several with the
// same user it is the one whose AOR stands in To, else the one whose registrar
// sent it.
func (f *Farm) called(in *messages.SIPInbound) (*entry, bool) {
	user := messages.UserPart(in.RequestURI)
	if user == "" {
		return nil, false
	}
	found := f.contacts.find(user)
	if plain, err := url.PathUnescape(user); err == nil && plain != user {
		found = append(found, f.contacts.find(plain)...)
	}
	switch len(found) {
	case 0:
		return nil, false
	case 1:
		return found[0], true
	}
	for _, c := range found {
		if sameAddress(c.state().Spec.AOR, in.To) {
			return c, true
		}
	}
	var sent []*entry
	for _, c := range found {
		if f.sent(c.state().Spec.Registrar, in.Source) {
			sent = append(sent, c)
		}
	}
	if len(sent) != 1 {
		return nil, false
	}
	return sent[0], true
}

// sameAddress compares an AOR with the URI in a To: the user exactly, the host
// without case, and nothing else (RFC 3261 §10.3 step 5).
func sameAddress(aor, to string) bool {
	return messages.UserPart(aor) == messages.UserPart(to) && session.AddressOf(aor) != "" && session.AddressOf(aor) == session.AddressOf(to)
}

// shown is a request as an owner may see it: whoever answers does so through
// the session.
func shown(in *messages.SIPInbound) *messages.SIPInbound {
	if in == nil || in.Respond == nil {
		return in
	}
	copied := *in
	copied.Respond = nil
	return &copied
}

// refuseRequest answers a request that no session takes.
func refuseRequest(in *messages.SIPInbound, status int) {
	if in.Respond != nil {
		in.Respond(messages.SIPReply{Status: status})
	}
}
