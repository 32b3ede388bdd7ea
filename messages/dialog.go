package messages

// Header is one header line as its sender wrote it.
type Header struct{ Name, Value string }

// DialogInfo is what a request or response says about the dialog that it makes
// or belongs to. The adapter has checked the syntax; the values are the peer's
// own and hostile.
type DialogInfo struct {
	// RemoteTag is the tag of the peer: To in a response, From in a request;
	// empty when absent.
	RemoteTag string
	// Target is the URI of the one Contact, empty when absent or ambiguous
	// (RFC 3261 §12.1).
	Target string
	// RouteSet is Record-Route in the order in which *we* use it: reversed from
	// a response, as written from a request (RFC 3261 §12.1.1, §12.1.2). At
	// most 16.
	RouteSet []string
	// RSeq is the number of a reliable provisional response, 0 when it is not
	// one (RFC 3262 §7.1).
	RSeq uint32
	// Allow are the methods that the peer takes, empty when it does not say.
	Allow []string
	// Supported and Require are option tags.
	Supported, Require []string
	// SessionExpires and MinSE are in seconds, 0 when absent or malformed (RFC
	// 4028 §4, §5). Refresher is "uac", "uas" or "".
	SessionExpires, MinSE uint32
	Refresher             string
	// Headers are all other lines that have a meaning end to end, in wire
	// order, at most 64: what a bridge may pass on.
	Headers     []Header
	ContentType string
	Body        []byte
}

// InviteReport is what an INVITE client transaction tells: every provisional
// response in order, then either one failure, one final response of 300 and
// above, or every 2xx, each repeat too (RFC 6026 §8.4).
type InviteReport struct {
	// Response is nil when no SIP message arrived; its Dialog is set.
	Response *SIPResponse
	// Failure and Detail are as in SIPOutcome.
	Failure Reason
	Detail  string
	// Last is true when no other report follows.
	Last bool
}

// Invitation is a running INVITE client transaction.
type Invitation interface {
	// Cancel sends a CANCEL (RFC 3261 §9.1): at once after a provisional
	// response, else as soon as one arrives, and never after a final one. When
	// no final response follows within 64*T1 the transaction ends with
	// ReasonTimeout.
	Cancel()
}

// SIPInbound is a request from outside that a session may take: any request
// with a To tag, an INVITE, its CANCEL, and its ACK.
type SIPInbound struct {
	Method, RequestURI string
	// From and To are URIs; FromDisplay is the display name, unquoted.
	From, FromDisplay, To string
	// ToTag is our tag, empty outside a dialog; the peer's is in Dialog.
	ToTag  string
	CallID string
	CSeq   uint32
	// RAckRSeq and RAckCSeq are those of a PRACK (RFC 3262 §7.2).
	RAckRSeq, RAckCSeq uint32
	Dialog             DialogInfo
	// Transport is "udp" or "tcp", Source "address:port".
	Transport, Source string
	// Respond answers; nil for ACK and CANCEL, which the adapter answers. It
	// may be called from any goroutine and does not block. For an INVITE: any
	// number of provisional responses, then one final one. Calls after the
	// final one do nothing. A final response is repeated for repeats of the
	// request; a 2xx to an INVITE is repeated until its ACK arrives (RFC 3261
	// §13.3.1.4).
	Respond func(SIPReply)
}

// SIPReply is a response of ours.
type SIPReply struct {
	Status int
	// Phrase is the reason phrase; empty takes the usual one.
	Phrase string
	// Tag is our To tag, for a request that had none; empty lets the adapter
	// make one.
	Tag string
	// ContactUser is the user part of our Contact, which the adapter adds to
	// 1xx above 100 and 2xx of INVITE, and to 2xx of UPDATE. Record-Route is
	// copied there as well (RFC 3261 §12.1.1).
	ContactUser string
	// Headers are added as they are; the adapter refuses those that it writes
	// itself.
	Headers     []Header
	ContentType string
	Body        []byte
	// Acked is called once after a 2xx to an INVITE: with the ACK, or with nil
	// when none came within 64*T1 (RFC 3261 §13.3.1.4). From any goroutine; it
	// must not block.
	Acked func(ack *SIPInbound)
}
