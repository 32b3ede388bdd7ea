package sipadapter

import (
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// offer shows a request to Options.OnRequest: whatever belongs to a dialog, and
// each INVITE. handled means that nothing more is to be done; otherwise a status
// is what to answer, and 0 leaves that to the default.
func (a *Adapter) offer(m *message, o origin) (handled bool, status int) {
	to, _ := m.one("to")
	toTag, inDialog := tag(to)
	if a.opts.OnRequest == nil || m.method == "CANCEL" || !inDialog && m.method != "INVITE" {
		return false, 0
	}
	key, ok := serverKeyOf(m, m.method)
	if !ok { // as in RFC 2543
		return false, 0
	}
	in, ok := inboundOf(m, o)
	if !ok {
		return false, 400
	}
	back, _ := wayBack(m, o)
	tx := &serverTransaction{
		key: key, request: m.head(), initial: !inDialog, origin: o, wire: back, tag: toTag,
		machine: newServerMachine(m.method, a.timers, back.reliable()),
	}
	switch verdict, again := a.servers.admit(tx); {
	case verdict == merged:
		return false, 482
	case verdict == full:
		return false, 503
	case again != nil:
		_ = back.send(again)
		return true, 0
	case verdict == repeated:
		a.drop(dropRepeated)
		return true, 0
	case verdict == shutting:
		return true, 0
	}
	in.Respond = func(r messages.SIPReply) { a.respond(tx, r) }
	taken := a.opts.OnRequest(in) || !a.servers.withdraw(tx)
	return taken, 0
}

func newServerMachine(method string, v timerValues, reliable bool) serverMachine {
	if method == "INVITE" {
		return newInviteServer(v, reliable)
	}
	return newOtherServer(v, reliable)
}

// takeCancel answers a CANCEL for an INVITE that is known, tells the core if that
// has not decided yet, and fails for any other CANCEL (RFC 3261 §9.2).
func (a *Adapter) takeCancel(m *message, o origin) bool {
	key, ok := serverKeyOf(m, "INVITE")
	if !ok || a.opts.OnRequest == nil {
		return false
	}
	in, ok := inboundOf(m, o)
	if !ok {
		return false
	}
	tx, toTag, first := a.servers.cancel(key)
	if tx == nil {
		return false
	}
	a.reply(m, o, answer{status: 200, tag: toTag})
	in.RequestURI = tx.request.target // whoever took the INVITE knows it by that
	if first && !a.opts.OnRequest(in) {
		a.servers.decline(tx, 487)
	}
	return true
}

// takeACK takes an ACK, which is never answered (RFC 3261 §17). One that no
// transaction waits for may be for a 2xx of an earlier process.
func (a *Adapter) takeACK(m *message, o origin) {
	key, ok := serverKeyOf(m, "INVITE")
	if !ok || a.opts.OnRequest == nil {
		return
	}
	in, ok := inboundOf(m, o)
	if !ok {
		a.drop(dropMalformed)
		return
	}
	acked, found := a.servers.acknowledge(key, in.ToTag)
	switch {
	case acked != nil:
		acked(in)
	case !found && (in.ToTag == "" || !a.opts.OnRequest(in)):
		a.drop(dropUnmatched)
	}
}

// head is what the responses to a request are made of.
func (m *message) head() *message {
	h := &message{request: true, method: m.method, target: m.target, version: m.version}
	for _, f := range m.fields {
		switch f.name {
		case "via", "from", "to", "call-id", "cseq", "record-route", "timestamp":
			h.fields = append(h.fields, f)
		}
	}
	return h
}

// inboundOf reads a well-formed request. It fails when one of the values that
// the session echoes could not be written into a message.
func inboundOf(m *message, o origin) (*messages.SIPInbound, bool) {
	from, _ := m.one("from")
	to, _ := m.one("to")
	fromAddr, _ := parseNameAddr(from)
	toAddr, _ := parseNameAddr(to)
	fromTag, hasFromTag := tag(from)
	toTag, hasToTag := tag(to)
	callID, _ := m.one("call-id")
	switch {
	case !isBracketable(m.target), !isBracketable(fromAddr.uri), !isBracketable(toAddr.uri),
		hasFromTag && !challenge.IsToken(fromTag), hasToTag && !challenge.IsToken(toTag),
		!challenge.IsFieldValue(callID), strings.ContainsAny(callID, " \t,"):
		return nil, false
	}
	in := &messages.SIPInbound{
		Method: m.method, RequestURI: m.target,
		From: fromAddr.uri, FromDisplay: displayName(from), To: toAddr.uri, ToTag: toTag, CallID: callID,
		Dialog:    *dialogInfo(m),
		Transport: string(o.transport()), Source: o.from.String(),
	}
	in.CSeq, _, _ = m.cseq()
	if m.method != "PRACK" {
		return in, true
	}
	value, _ := m.one("rack")
	var ok bool
	in.RAckRSeq, in.RAckCSeq, ok = parseRAck(value)
	return in, ok
}

// parseRAck reads which response a PRACK is for (RFC 3262 §7.2).
func parseRAck(value string) (rseq, cseq uint32, ok bool) {
	parts := strings.Fields(value)
	if len(parts) != 3 || !challenge.IsToken(parts[2]) {
		return 0, 0, false
	}
	r, okR := parseDigits(parts[0], 1<<32-1)
	c, okC := parseDigits(parts[1], 1<<31-1)
	return uint32(r), uint32(c), okR && okC && r > 0
}

// displayName is what stands before the URI of a name-addr, unquoted; empty when
// it could not be written into a message.
func displayName(value string) string {
	i := indexOutside(value, "<;")
	if i < 0 || value[i] != '<' {
		return ""
	}
	name := unquote(trim(value[:i]))
	if !challenge.IsFieldValue(name) {
		return ""
	}
	return name
}

func (o origin) transport() transport {
	if o.stream != nil {
		return transportTCP
	}
	return transportUDP
}
