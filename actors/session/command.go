package session

import (
	"time"

	"github.com/sipmuster/muster/messages"
)

// Input is one thing that happens to a session.
type Input struct {
	Now time.Time
	// Jitter is in [0,1).
	Jitter float64
	// Token is 32 random hexadecimal digits, for the branch of an INVITE.
	Token   string
	Command Command
}

// Command is one of the types below.
type Command interface{ command() }

type (
	// Start places a call. The host has chosen the identifiers from a
	// cryptographic source; LocalTag is the id of the session.
	Start struct {
		Spec             *messages.SessionSpec
		CallID, LocalTag string
		// Body is true when the INVITE has one.
		Body bool
	}
	// Receive takes the INVITE of a peer (method, tags and Contact were
	// checked).
	Receive struct {
		Spec     *messages.SessionSpec
		LocalTag string
		Request  *messages.SIPInbound
	}
	// Admitted is the registrar's gate: the first INVITE may leave.
	Admitted struct{}
	// NotAdmitted: there is no room.
	NotAdmitted struct{ Reason messages.Reason }
	// Provisional is a provisional response to an INVITE.
	Provisional struct {
		Attempt  uint64
		Response *messages.SIPResponse
	}
	// Answered is a final response: for an INVITE every 2xx, each repeat too.
	Answered struct {
		Attempt  uint64
		Response *messages.SIPResponse
		// Proof is "", "verified" or "wrong" (rspauth).
		Proof string
	}
	// Failed: no final response came.
	Failed struct {
		Attempt uint64
		Failure messages.Reason
	}
	// CredentialsOffered and CredentialsWithheld are as in package profile.
	CredentialsOffered struct {
		Attempt    uint64
		Handler    string
		Elapsed    time.Duration
		Unanswered []*messages.NonceCount
		Headers    []string
		Preemptive bool
		Continues  bool
	}
	// CredentialsWithheld: RetryAfter is negative when asking again is of no
	// use, so that the next handler of the chain is asked.
	CredentialsWithheld struct {
		Attempt    uint64
		Handler    string
		Reason     messages.Reason
		Detail     string
		RetryAfter time.Duration
	}
	// Send makes a request inside the dialog: INVITE, UPDATE, INFO, REFER,
	// MESSAGE, NOTIFY or OPTIONS. Body tells whether it has one.
	Send struct {
		Method string
		Body   bool
	}
	// Answer supplies our answer to an offer in a 2xx: the ACK can leave.
	Answer struct{}
	// PeerRequested is a request of the peer inside the dialog, or the CANCEL
	// of its INVITE.
	PeerRequested struct {
		Request *messages.SIPInbound
		// Unchanged is true when its body is the same as the peer's last one, or
		// empty: it asks for nothing new.
		Unchanged bool
	}
	// Reply is the owner's response to a request of the peer.
	Reply struct {
		Method string
		CSeq   uint32
		Status int
	}
	// AckMissing: our 2xx was not acknowledged within 64*T1.
	AckMissing struct{ CSeq uint32 }
	// End ends the session: CANCEL, BYE, or a final response, as its state
	// demands. Status is what an inbound call that rings is answered with; 0
	// means 480.
	End struct {
		Reason messages.Reason
		Status int
	}
	// TimerFired: State.WakeAt has come.
	TimerFired struct{}
	// Recovered: the node was restarted, or the actor failed.
	Recovered struct{}
)

func (Start) command()               {}
func (Receive) command()             {}
func (Admitted) command()            {}
func (NotAdmitted) command()         {}
func (Provisional) command()         {}
func (Answered) command()            {}
func (Failed) command()              {}
func (CredentialsOffered) command()  {}
func (CredentialsWithheld) command() {}
func (Send) command()                {}
func (Answer) command()              {}
func (PeerRequested) command()       {}
func (Reply) command()               {}
func (AckMissing) command()          {}
func (End) command()                 {}
func (TimerFired) command()          {}
func (Recovered) command()           {}

// Decision is what follows from an input. The host appends the events, folds
// them once they are durable, and then carries out the effects in order.
type Decision struct {
	Events  []*messages.SessionEvent
	Effects []Effect
	// Dropped is why nothing follows, if so.
	Dropped messages.Reason
	// Chain is the chain that a Send began, so that its outcome can be told.
	Chain uint64
}

// Effect is one of the types below.
type Effect interface{ effect() }

type (
	// Admit asks the registrar's gate for a turn; Admitted follows.
	Admit struct{}
	// SendRequest sends an open request.
	SendRequest struct{ Attempt uint64 }
	// ResumeInvite takes up an INVITE of an earlier process.
	ResumeInvite struct{ Attempt uint64 }
	// Cancel sends CANCEL for an open INVITE.
	Cancel struct{ Attempt uint64 }
	// Acknowledge sends the ACK of a 2xx in Dialog, with the CSeq number and the
	// credentials of that attempt (RFC 3261 §22.1) if Credentials says that they
	// may go there (S-01); Body adds our answer. An ACK that was sent for the
	// same attempt and peer tag before is repeated as it was.
	Acknowledge struct {
		Attempt     uint64
		CSeq        uint32
		Dialog      *messages.Dialog
		Credentials bool
		Body        bool
	}
	// AskCredentials asks the handler of an open request.
	AskCredentials struct {
		Attempt  uint64
		Handler  string
		Status   uint32
		Rejected bool
	}
	// Respond answers a request of the peer, the first INVITE included. Owner
	// is true for an answer of the owner: its body and headers go along.
	Respond struct {
		Method  string
		CSeq    uint32
		Status  int
		Headers []messages.Header
		// Described adds our latest body, for a refresh that nobody else
		// answers.
		Described bool
		Owner     bool
	}
	// Tell tells the owner (the handle, the bridge) what happened.
	Tell struct {
		Notice Notice
		// Chain says which of our requests, for the notices about one.
		Chain uint64
		// Reason and Status are set with NoticeFailed and NoticeEnded.
		Reason messages.Reason
		Status uint32
	}
)

func (Admit) effect()          {}
func (SendRequest) effect()    {}
func (ResumeInvite) effect()   {}
func (Cancel) effect()         {}
func (Acknowledge) effect()    {}
func (AskCredentials) effect() {}
func (Respond) effect()        {}
func (Tell) effect()           {}

// Notice is what an owner is told. The message that caused it goes along, with
// its body.
type Notice int

// The notices.
const (
	// NoticeProgress: a provisional response above 100 to the first INVITE.
	NoticeProgress Notice = iota + 1
	// NoticeEstablished: the call is up. For a call of ours the 2xx goes along.
	NoticeEstablished
	// NoticeSucceeded and NoticeFailed: what became of a request that the owner
	// sent inside the dialog, once for each; the response goes along if there was
	// one.
	NoticeSucceeded
	NoticeFailed
	// NoticeRequest: the peer asks something that the owner must answer with
	// Reply.
	NoticeRequest
	// NoticeReceived: the peer said something that is answered already.
	NoticeReceived
	// NoticeEnded: the session is over. For a call of ours that failed, the
	// final response goes along.
	NoticeEnded
)

// String is for tests and streams.
func (n Notice) String() string {
	return [...]string{"none", "progress", "established", "succeeded", "failed", "request", "received", "ended"}[n]
}
