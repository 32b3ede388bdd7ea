package sipadapter

import (
	"net"
	"net/netip"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/messages"
)

const (
	// allowedMethods are those that a dialog takes.
	allowedMethods = outsideMethods + ", REFER, MESSAGE, NOTIFY"
	// outsideMethods are those that get another answer than 405 outside one.
	outsideMethods = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO"
	// supportedTags is the one extension that a request may require (RFC 4028).
	supportedTags = "timer"
)

// respond sends a response of the core. One that may not leave is counted and
// forgotten: a provisional one to another request than INVITE, and a 408 to such
// a one (RFC 4320 §4.1, §4.2).
func (a *Adapter) respond(tx *serverTransaction, r messages.SIPReply) {
	if r.Status < 100 || r.Status > 699 || !tx.isInvite() && (r.Status < 200 || r.Status == 408) {
		a.stats.refused.Add(1)
		return
	}
	a.servers.respond(tx, a.answerOf(tx, r), r.Acked)
}

// answerOf adds what the adapter writes and leaves out what may not be written.
func (a *Adapter) answerOf(tx *serverTransaction, r messages.SIPReply) answer {
	out := answer{status: r.Status, phrase: r.Phrase, tag: r.Tag}
	if !challenge.IsFieldValue(out.phrase) {
		out.phrase = ""
	}
	if !challenge.IsToken(out.tag) {
		out.tag = ""
	}
	if r.Status == 100 {
		out.lines = timestamp(tx.request)
	}
	if refreshes(tx.key.method, r.Status) {
		for value := range tx.request.all("record-route") {
			out.lines = append(out.lines, line{"Record-Route", value})
		}
		out.lines = append(out.lines, line{"Contact", "<" + a.contactTo(r.ContactUser, tx.origin) + ">"})
	}
	out.lines = append(out.lines, capabilities(tx.key.method, r.Status, true)...)
	for i, h := range r.Headers {
		name := mutation.Canonical(h.Name)
		if i >= maxHeaders || !writable(name, h, r.Status) {
			a.stats.refused.Add(1)
			continue
		}
		out.lines = append(out.lines, line{spelledOut(name, h.Name), trim(h.Value)})
	}
	switch {
	case len(r.Body) == 0 && r.ContentType == "":
	case r.ContentType == "" || !challenge.IsFieldValue(r.ContentType):
		a.stats.refused.Add(1)
	default:
		out.contentType, out.body = r.ContentType, r.Body
	}
	return out
}

// refreshes tells the responses that make a dialog or change where its peer
// sends to (RFC 3261 §12.1.1, §12.2.2; RFC 3311 §5.2).
func refreshes(method string, status int) bool {
	return method == "INVITE" && status > 100 && status < 300 ||
		method == "UPDATE" && status >= 200 && status < 300
}

// capabilities say what we take: in a 405 as it must be (RFC 3261 §21.4.6), in
// the 2xx that describe us as it should be (§11.2, §13.3.1.4; RFC 3311 §5.2).
func capabilities(method string, status int, inDialog bool) []line {
	if status == 405 {
		if inDialog {
			return []line{{"Allow", allowedMethods}}
		}
		return []line{{"Allow", outsideMethods}}
	}
	if status < 200 || status > 299 {
		return nil
	}
	switch method {
	case "INVITE", "UPDATE":
		return []line{{"Allow", allowedMethods}, {"Supported", supportedTags}}
	case "OPTIONS":
		return []line{{"Allow", allowedMethods}, {"Accept", "application/sdp"}, {"Supported", supportedTags}}
	}
	return nil
}

// timestamp is copied into a 100 (RFC 3261 §8.2.6.1).
func timestamp(m *message) []line {
	if value, ok := m.one("timestamp"); ok {
		return []line{{"Timestamp", value}}
	}
	return nil
}

// writable tells whether a header of the core may stand in a response. What the
// adapter writes itself may not, nor what only a request has, nor RSeq: no
// response of ours is reliable. A redirection has Contacts, and they are the
// core's. The name is canonical.
func writable(name string, h messages.Header, status int) bool {
	if !challenge.IsToken(h.Name) || !challenge.IsFieldValue(h.Value) || len(h.Name)+len(h.Value) > maxHeaderSize {
		return false
	}
	switch name {
	case "via", "from", "to", "call-id", "cseq", "record-route", "allow", "supported", "server", "timestamp",
		"content-length", "content-type", "rseq",
		"route", "max-forwards", "rack", "proxy-require", "authorization", "proxy-authorization":
		return false
	case "contact":
		return status >= 300 && status < 400
	}
	return true
}

// contactTo is our Contact URI for the sender of a request: the address of the
// listener that it came to.
func (a *Adapter) contactTo(user string, o origin) string {
	t := target{o.transport(), o.from}
	return a.contactAt(user, a.arrivedAt(o, t), t)
}

func (a *Adapter) arrivedAt(o origin, t target) listener {
	for _, l := range a.listeners {
		switch {
		case l.transport != t.transport:
		case o.socket != nil && l.local == o.socket.local:
			return l
		case o.stream != nil && !o.stream.dialled && l.accepts(o.stream.localAddr()):
			return l
		}
	}
	return a.listenerFor(t)
}

// accepts tells whether an accepted connection that has this local address came
// to the listener.
func (l listener) accepts(local netip.AddrPort) bool {
	return l.local.Port() == local.Port() && (l.local.Addr().IsUnspecified() || l.local.Addr() == local.Addr())
}

// localAddr is our end of a connection; invalid when there is none yet.
func (s *stream) localAddr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return netip.AddrPort{}
	}
	addr, ok := s.conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return unmap(addr.AddrPort())
}
