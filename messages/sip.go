package messages

import "time"

// SIPRequest is a request that a core wants to leave. It holds no secret until
// the host adds Mutations, and lives only inside one process.
type SIPRequest struct {
	// NextHop is the URI that is resolved (RFC 3263): the outbound proxy, a
	// redirect target or the registrar.
	NextHop string
	Method  string
	// RequestURI is written as it is; it is also the digest-uri.
	RequestURI string
	// Route is the pre-loaded route set, in order (RFC 3261 §8.1.2).
	Route []string
	// From and To are URIs; the adapter writes them in angle brackets.
	From, FromTag string
	To, ToTag     string
	CallID        string
	CSeq          uint32
	// ContactUser is the user part of our Contact URI; the adapter adds the
	// address. With NoContact no Contact is sent (fetch, RFC 3261 §10.2.3).
	ContactUser string
	NoContact   bool
	// Expires is written as the Contact's expires parameter and the Expires
	// header; negative writes neither.
	Expires int64
	// Supported are option tags.
	Supported []string
	// Headers are further lines, after ours and before the mutations. A name
	// that the adapter writes itself is refused.
	Headers []Header
	// Mutations are the checked answer of an authenticator.
	Mutations []*HeaderMutation
	// MutableHeaders are the headers that this request's authenticator may
	// change besides Authorization and Proxy-Authorization, as its
	// configuration lists them. The adapter checks Mutations against them once
	// more (S-50).
	MutableHeaders []string
	ContentType    string
	Body           []byte
	// Branch identifies the transaction of an INVITE: 24 to 64 hexadecimal digits from
	// a cryptographic source, chosen by the caller so that it can be recorded
	// before the request leaves. Another address, or TCP for the size, gets a
	// branch that is derived from it. Empty lets the adapter choose.
	Branch string
	// Resume takes up the INVITE transaction of Branch that an earlier process
	// began: nothing is sent, what still comes is reported, and it can be
	// cancelled.
	Resume bool
	// Retransmitted is called for each retransmission when not nil, from any
	// goroutine; it must not block.
	Retransmitted func()
}

// SIPOutcome is the one report per SIPRequest.
type SIPOutcome struct {
	// Response is nil when no SIP message arrived.
	Response *SIPResponse
	// Failure is set when Response is nil: ReasonTimeout, ReasonTransport,
	// ReasonResolve or ReasonTooLarge (RFC 3261 §8.1.3.1); ReasonMutation or
	// ReasonConfiguration for a request that could not be built.
	Failure Reason
	// Detail is an error text for logs, without any header value.
	Detail string
	// Sent is when the request first left (zero if it never did).
	Sent time.Time
}

// SIPResponse is what the cores need of a final response, as plain values. The
// adapter has checked that it is well formed, that it belongs to the request
// and that it came from where the request went.
type SIPResponse struct {
	// Status is 200 to 699, unknown codes unchanged; 100 to 199 only in an
	// InviteReport. Phrase is the reason phrase, for people.
	Status int
	Phrase string
	// Challenges are the values of WWW-Authenticate and Proxy-Authenticate,
	// split per challenge, in wire order, at most 64.
	Challenges []*RecordedChallenge
	// Contact says whether a 2xx lists our contact, found by URI comparison
	// (RFC 3261 §19.1.4); Contacts holds all of them, at most 64.
	Contact  ContactVerdict
	Contacts []ContactBinding
	// ContactExpires is our contact's expiry in seconds: its parameter, else
	// the Expires header, else 3600 (RFC 3261 §10.2.1.1, §20.19), at most
	// 2**32-1. Meaningful only with ContactOurs.
	ContactExpires uint32
	// MinExpires is 0 when absent or malformed (RFC 3261 §20.23).
	MinExpires uint32
	// RetryAfter is negative when absent or malformed (RFC 3261 §20.33).
	RetryAfter time.Duration
	// ServiceRoute is split by grammar, in order (RFC 3608), at most 16.
	ServiceRoute []string
	// Redirects are the Contact URIs of a 3xx, best q first, without their
	// header part.
	Redirects []string
	// Unsupported are the option tags of a 420.
	Unsupported []string
	// AuthInfo are parsed (Proxy-)Authentication-Info headers.
	AuthInfo []AuthInfo
	// Source is "address:port" of the sender.
	Source string
	// Dialog is nil in responses to REGISTER.
	Dialog *DialogInfo
}

// ContactBinding is one contact of a 2xx to REGISTER.
type ContactBinding struct {
	URI     string
	Expires uint32
}

// ContactVerdict tells whether a 2xx lists our contact.
type ContactVerdict int

// The verdicts on a 2xx's contact list.
const (
	// ContactMissing: contacts are listed or none is; ours is not there.
	ContactMissing ContactVerdict = iota
	// ContactOurs: ours is listed with ContactExpires.
	ContactOurs
)

// AuthInfo is one Authentication-Info or Proxy-Authentication-Info header (RFC
// 7615, RFC 7616 §3.5), unquoted.
type AuthInfo struct {
	Space     Space
	NextNonce string
	Rspauth   string
	QOP       string
	Cnonce    string
	NC        string
	// HasBody is true when the response carried a body, which an auth-int
	// proof covers.
	HasBody bool
}
