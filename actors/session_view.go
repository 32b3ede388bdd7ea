package actors

import (
	"errors"
	"time"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// Errors about sessions.
var (
	// ErrNoSession: there is no such session, or it is over and forgotten.
	ErrNoSession = errors.New("no such session")
	// ErrSessionState: the session is not in a state for that.
	ErrSessionState = errors.New("the session is in another state")
	// ErrSessionLimit: the profile or its registrar has as many sessions as it
	// may.
	ErrSessionLimit = errors.New("session limit reached")
	// ErrInvalidSession wraps what is wrong with a request for a session.
	ErrInvalidSession = errors.New("invalid session request")
)

// SessionRequest asks for a call. Profile and Target are required.
type SessionRequest struct {
	Profile string
	// Target is the SIP URI to call.
	Target string
	// Headers are added to the INVITE; names that the stack writes are refused.
	Headers     []messages.Header
	ContentType string // empty with a body means application/sdp
	Body        []byte
	// HangupAfter ends the call so long after it is established; 0 does not.
	HangupAfter time.Duration
	// Owner is told what happens; nil for nobody.
	Owner Owner
}

// Owner is who a session belongs to: a handle of the embedder, or a bridge.
type Owner interface {
	// Notify is called in order, from the session's actor: it must not block
	// and must not wait for a method of the Farm.
	Notify(n SessionNotice)
	// Answers tells whether it answers NoticeRequest. If not, the peer's
	// requests are answered as if nobody were there.
	Answers() bool
}

// SessionNotice is what an Owner is told. What it points to is shared and must
// not be changed.
type SessionNotice struct {
	Session string
	Kind    session.Notice
	// Chain tells which request of ours NoticeSucceeded and NoticeFailed are
	// about, see Farm.SendInSession.
	Chain uint64
	// Response or Request is the message that caused it, when there is one.
	Response *messages.SIPResponse
	Request  *messages.SIPInbound
	// Status and Reason say why it failed or ended.
	Status int
	Reason messages.Reason
}

// InDialog is a request inside a session: INVITE (a re-INVITE), UPDATE, INFO,
// REFER, MESSAGE, NOTIFY or OPTIONS.
type InDialog struct {
	Method      string
	Headers     []messages.Header
	ContentType string
	Body        []byte
}

// InDialogResult is what became of it.
type InDialogResult struct {
	// Status is 0 when no SIP message arrived; Reason then says why.
	Status      int               `json:"status" doc:"SIP status of the final response, 0 when none came"`
	Phrase      string            `json:"phrase,omitempty"`
	Reason      string            `json:"reason,omitempty" doc:"why it failed, empty when it did not"`
	Headers     []messages.Header `json:"-"`
	ContentType string            `json:"content_type,omitempty"`
	Body        []byte            `json:"-"`
}

// SessionReply is an owner's answer to a request of the peer.
type SessionReply struct {
	Method string
	CSeq   uint32
	// Status is 180 to 699; a provisional one only for INVITE.
	Status      int
	Phrase      string
	Headers     []messages.Header
	ContentType string
	Body        []byte
}

// IncomingCall is an INVITE from outside to a contact of a profile, or from the
// peer of a trunk.
type IncomingCall struct {
	// Session is the id that the call has once it is taken.
	Session, Profile string
	Request          *messages.SIPInbound
}

// SessionView is a session as the API shows it.
type SessionView struct {
	ID        string `json:"id"`
	Profile   string `json:"profile"`
	Registrar string `json:"registrar"`
	Direction string `json:"direction" enum:"outbound,inbound"`
	// AOR is our side and Peer the other.
	AOR    string `json:"aor"`
	Peer   string `json:"peer"`
	State  string `json:"state" enum:"calling,challenged,early,established,ending,ended"`
	Reason string `json:"reason" doc:"why the session ended or shall end, empty before"`
	// LastStatus is the latest final response to the session's requests.
	LastStatus    int        `json:"last_status"`
	StartedAt     *time.Time `json:"started_at"`
	EstablishedAt *time.Time `json:"established_at"`
	EndedAt       *time.Time `json:"ended_at"`
	HangupAt      *time.Time `json:"hangup_at" doc:"when hangup_after ends it, null without"`
	// Bridge is the session at the other end of a bridge.
	Bridge string     `json:"bridge,omitempty"`
	Trunk  string     `json:"trunk,omitempty"`
	Dialog DialogView `json:"dialog"`
	Timer  *TimerView `json:"timer" doc:"the session timer (RFC 4028), null without"`
	// Attempts counts the requests of ours, with every repetition.
	Attempts uint64 `json:"attempts"`
	Handler  string `json:"session_handler"`
	// ContentType and Body are the peer's latest session description, in the
	// view of one session and while the node remembers it.
	ContentType string `json:"content_type,omitempty"`
	Body        string `json:"body,omitempty"`
}

// DialogView is the dialog of a session (RFC 3261 §12).
type DialogView struct {
	CallID       string   `json:"call_id"`
	LocalTag     string   `json:"local_tag"`
	RemoteTag    string   `json:"remote_tag,omitempty"`
	LocalCSeq    uint32   `json:"local_cseq"`
	RemoteCSeq   uint32   `json:"remote_cseq"`
	RemoteTarget string   `json:"remote_target,omitempty"`
	RouteSet     []string `json:"route_set,omitempty"`
}

// TimerView is a session timer.
type TimerView struct {
	IntervalSeconds int        `json:"interval_seconds"`
	Refresher       string     `json:"refresher" enum:"us,peer"`
	RefreshAt       *time.Time `json:"refresh_at"`
	ExpiresAt       *time.Time `json:"expires_at"`
}

// SessionQuery filters a listing. Zero fields do not filter.
type SessionQuery struct {
	Profile, Registrar, State string
	// After is the Next of the page before; Limit at most 1,000, 0 means 100.
	After string
	Limit int
}

// SessionPage is one page of a listing, in the order of the ids. Sessions that
// ended are not listed.
type SessionPage struct {
	Sessions []SessionView `json:"sessions"`
	Next     string        `json:"next,omitempty"`
}

// Change is one recorded event of a profile or session, for whoever watches.
type Change struct {
	// Kind is "profile" or "session".
	Kind    string    `json:"kind" enum:"profile,session"`
	ID      string    `json:"id"`
	Profile string    `json:"profile"`
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
	Type    string    `json:"type" doc:"the event type, such as SessionEstablished"`
	Text    string    `json:"text" doc:"the event as a sentence"`
	State   string    `json:"state" doc:"the state after the append that it was part of"`
}

// ChangeQuery selects changes. Zero fields select all.
type ChangeQuery struct {
	Kind, ID, Profile string
}
