package session

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// State is all that is known of a session: the fold of its events. It is a
// value; what its fields point to is replaced and never written in place.
type State struct {
	// Spec is what the session is for; nil before the first event.
	Spec *messages.SessionSpec
	// Body is true when the caller's INVITE has a body.
	Body             bool
	CallID, LocalTag string
	// CSeq is the last number that a request of ours used, RemoteCSeq the
	// highest of the peer's (RFC 3261 §12.2.1.1, §12.2.2).
	CSeq, RemoteCSeq uint32
	// Attempts is the number of the last request of ours.
	Attempts uint64
	// Dialog is the confirmed one, or the early one of an inbound call; nil
	// before.
	Dialog *messages.Dialog
	// Early are the early dialogs of an INVITE of ours.
	Early []Early
	// Target is where the INVITE goes after a redirect; empty for Spec.Peer.
	Target string
	// Source is "address:port" from where the INVITE was answered, or came.
	Source string
	// Requests are the open requests of ours, PeerRequests the peer's that are
	// not answered yet, both oldest first.
	Requests     []Request
	PeerRequests []PeerRequest
	Challenge    challenge.State
	// EarlyHandler is the xSP that may be asked before anybody challenges.
	EarlyHandler string
	// Confirmed is the attempt of the INVITE that made the dialog, or that
	// changed it last, and ConfirmedCSeq its number: its ACK is owed for each
	// repeat of the 2xx. AnswerDueBy is set while the ACK waits for our answer.
	Confirmed     uint64
	ConfirmedCSeq uint32
	AnswerDueBy   time.Time
	// Forks are the peer tags of unwanted 2xx.
	Forks []string

	// Timer is what the peer said about the session interval, MinSE the largest
	// minimum seen, Intervals counts the 422s of the INVITE.
	Timer     *messages.PeerTimer
	MinSE     uint32
	Intervals uint32
	// Interval is the negotiated one, zero without; Refresher is true when the
	// refresh at RefreshAt is ours; ExpiresAt is when the session ends without.
	Interval             time.Duration
	Refresher            bool
	RefreshAt, ExpiresAt time.Time
	// Retry is a request that is made again after a 491.
	Retry Retry
	// Redirects counts the 3xx that were followed; Referred is true once we
	// sent REFER, so that its NOTIFYs are expected.
	Redirects uint32
	Referred  bool

	// Ending is true once the session shall end; EndingGuard is when it does in
	// any case.
	Ending      bool
	EndingGuard time.Time
	Ended       bool
	Reason      messages.Reason
	// LastStatus is the latest final status of the peer, or of ours to it.
	LastStatus uint32

	AdmitBy, RingUntil                time.Time
	StartedAt, EstablishedAt, EndedAt time.Time
}

// Early is one early dialog (RFC 3261 §12) and the number of the last reliable
// response in it (RFC 3262 §4).
type Early struct {
	Dialog *messages.Dialog
	RSeq   uint32
	Status uint32
}

// Request is an open request of ours.
type Request struct {
	*messages.RequestStarted
	// Status is the latest final response to an earlier request of its chain.
	Status uint32
	// Progressed is true after a provisional response, Cancelled once a CANCEL
	// was asked for.
	Progressed, Cancelled bool
	// Continues is true when its credentials are a step of a longer procedure.
	Continues bool
}

// PeerRequest is a request of the peer that waits for its owner's answer.
type PeerRequest struct {
	Method   string
	CSeq     uint32
	AnswerBy time.Time
	Timer    *messages.PeerTimer
	// Target is the remote target that our 2xx makes valid.
	Target string
}

// Retry is a request that is made again at At.
type Retry struct {
	At      time.Time
	Method  string
	Body    bool
	Refresh bool
	Chain   uint64
	// Count is how often that happened in a row.
	Count uint32
}

// Exists tells whether the session was begun.
func (s State) Exists() bool { return s.Spec != nil }

// Established tells whether there is a dialog with a 2xx, in which requests can
// be sent.
func (s State) Established() bool { return !s.EstablishedAt.IsZero() && !s.Ended }

// Inbound tells whether the peer placed the call.
func (s State) Inbound() bool { return s.Spec.GetInbound() }

// Request finds an open request.
func (s State) Request(attempt uint64) (Request, bool) {
	i := slices.IndexFunc(s.Requests, func(r Request) bool { return r.GetAttempt() == attempt })
	if i < 0 {
		return Request{}, false
	}
	return s.Requests[i], true
}

// Invite is the open INVITE of ours, if there is one: the first, or one inside
// the dialog (RFC 3261 §14.1 allows one at a time).
func (s State) Invite() (Request, bool) { return s.open("INVITE") }

func (s State) open(method string) (Request, bool) {
	i := slices.IndexFunc(s.Requests, func(r Request) bool { return r.GetMethod() == method })
	if i < 0 {
		return Request{}, false
	}
	return s.Requests[i], true
}

// Peer finds a request of the peer that waits for an answer.
func (s State) Peer(method string, cseq uint32) (PeerRequest, bool) {
	i := slices.IndexFunc(s.PeerRequests, func(r PeerRequest) bool { return r.Method == method && r.CSeq == cseq })
	if i < 0 {
		return PeerRequest{}, false
	}
	return s.PeerRequests[i], true
}

// Statuses lists what Status can return.
func Statuses() []string {
	return []string{"calling", "challenged", "early", "established", "ending"}
}

// Status is the state that the API and the metrics show; "ended" once it is
// over, "" before it exists.
func (s State) Status() string {
	switch {
	case !s.Exists():
		return ""
	case s.Ended:
		return "ended"
	case s.Ending:
		return "ending"
	case s.Established():
		return "established"
	case s.Inbound(), len(s.Early) > 0:
		return "early"
	}
	if r, ok := s.Invite(); ok && r.GetRound() > 0 {
		return "challenged"
	}
	return "calling"
}

// WakeAt is when the session must be woken if nothing happens before; ok is
// false when never.
func (s State) WakeAt() (at time.Time, ok bool) {
	if !s.Exists() || s.Ended {
		return time.Time{}, false
	}
	consider := func(t time.Time) {
		if !t.IsZero() && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	consider(s.AdmitBy)
	consider(s.RingUntil)
	consider(s.AnswerDueBy)
	consider(s.EndingGuard)
	for _, r := range s.Requests {
		consider(messages.FromMS(r.GetAnswerByMs()))
	}
	for _, r := range s.PeerRequests {
		consider(r.AnswerBy)
	}
	if s.Ending {
		return at, ok // the guard ends everything else
	}
	for _, r := range s.Requests {
		consider(messages.FromMS(r.GetGuardAtMs()))
	}
	consider(s.ExpiresAt)
	consider(s.HangupAt())
	consider(s.offerAt())
	return at, ok
}

// offerAt is when an offer of ours is to be made by itself: one that a glare
// stopped, or else the refresh. Zero for none, or while none can be made: what
// keeps the session busy ends, and then this is looked at again.
func (s State) offerAt() time.Time {
	switch {
	case !s.Established() || s.Ending || s.busy():
		return time.Time{}
	case !s.Retry.At.IsZero():
		return s.Retry.At
	}
	return s.RefreshAt
}

// HangupAt is when the session has lasted as long as it may; zero for no limit.
func (s State) HangupAt() time.Time {
	after := s.Spec.GetHangupAfterMs()
	if after == 0 || s.EstablishedAt.IsZero() {
		return time.Time{}
	}
	return s.EstablishedAt.Add(time.Duration(after) * time.Millisecond)
}

// busy tells whether no offer can be made now: an INVITE is open in either
// direction (RFC 3261 §14.1), an UPDATE holds an offer (RFC 3311 §5.1), the
// ACK waits for our answer, or an authenticator is asked about a request whose
// CSeq number must not be overtaken (RFC 3261 §12.2.2).
func (s State) busy() bool {
	return s.asking() || !s.AnswerDueBy.IsZero() ||
		slices.ContainsFunc(s.Requests, func(r Request) bool {
			return r.GetMethod() == "INVITE" || r.GetMethod() == "UPDATE"
		}) ||
		slices.ContainsFunc(s.PeerRequests, func(r PeerRequest) bool { return r.Method == "INVITE" || r.Method == "UPDATE" })
}

// asking tells whether a question to an authenticator is out.
func (s State) asking() bool { return slices.ContainsFunc(s.Requests, Request.asked) }

// asked tells whether the request waits for its authenticator.
func (r Request) asked() bool { return r.GetAnswerByMs() != 0 }

// owned tells whether the owner made the request and waits for its outcome.
func (r Request) owned() bool {
	return r.GetDialog() == nil && !r.GetRefresh() && r.GetMethod() != "BYE"
}

// held tells whether a request could leave, but for the question about one with
// a lower CSeq number: a peer takes them in order only (RFC 3261 §12.2.2).
func (s State) held(r Request) bool {
	return !r.asked() && slices.ContainsFunc(s.Requests, func(q Request) bool { return q.asked() && q.GetCseq() < r.GetCseq() })
}

// unsent tells whether a request was never given to the host to be sent.
func (s State) unsent(r Request) bool { return r.asked() || s.held(r) }

// challenges is what the chain of an open request knows of challenges. The state
// counts the answers of the chain that made the latest request. For another one
// it is enough to know which realms its request answers: each was answered at
// least once, and not more often than there were rounds.
func (s State) challenges(r Request) challenge.State {
	if r.GetAttempt() == s.Attempts {
		return s.Challenge
	}
	realms := slices.Clone(s.Challenge.Realms)
	for i := range realms {
		realms[i].Answered = 0
		if holds(r.GetAnswers(), realms[i].Space, realms[i].Name) {
			realms[i].Answered = max(1, r.GetRound())
		}
	}
	return challenge.State{Realms: realms}
}

// accepted is what is known after a 2xx to an open request. What the latest
// chain counts stays.
func (s State) accepted(r Request) challenge.State {
	c := s.challenges(r).Passed(r.GetAnswers(), true).Accepted(r.GetAnswers())
	if r.GetAttempt() == s.Attempts {
		return c
	}
	realms := slices.Clone(c.Realms)
	for i := range realms {
		realms[i].Answered = s.Challenge.Realms[i].Answered
	}
	return challenge.State{Realms: realms}
}

func holds(list []*messages.NonceCount, space messages.Space, realm string) bool {
	return slices.ContainsFunc(list, func(c *messages.NonceCount) bool { return c.GetSpace() == space && c.GetRealm() == realm })
}

// with returns the request with f applied to a copy of what was recorded.
func (r Request) with(f func(*messages.RequestStarted)) Request {
	r.RequestStarted = proto.CloneOf(r.RequestStarted)
	f(r.RequestStarted)
	return r
}
