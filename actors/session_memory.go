package actors

import (
	"bytes"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// sessionEntry is one session of a shard. A session is few beside profiles and
// busy while it is there, so its actor runs until it is over.
type sessionEntry struct {
	id string
	// cell holds the newest durable state. The session's actor writes it;
	// anyone may read it.
	cell    *atomic.Pointer[sessionVersion]
	profile *entry
	memory  *sessionMemory
	spec    *messages.SessionSpec

	// The rest is the shard's own.

	// child is nil while the actor that failed has no successor; sent counts the
	// messages that it was given.
	child *actor.PID
	sent  uint64
	// reload is true after a failure: the next actor reads the journal.
	reload  bool
	crashes crashes
	// backlog waits for the next actor.
	backlog []any
	// counted is true when the session counts against the limits.
	counted bool
}

// sessionVersion is a state and the version of the stream that it is the fold
// of.
type sessionVersion struct {
	state   session.State
	version uint64
}

// sessionMemory is what a session knows beside its journal: bodies, header
// values and credentials, which are never recorded, and what only means
// something in this process. It outlives an actor that fails. Its actor alone
// uses it, but for remote.
type sessionMemory struct {
	owner Owner
	// first is the caller's INVITE.
	first content
	// chains are the requests that the owner sent inside the dialog.
	chains map[uint64]chainMemory
	// answers are the credentials of attempts.
	answers map[uint64]credentials
	// unsent are the attempts that wait for their turn at the registrar's gate
	// or for an ACK.
	unsent map[uint64]bool
	// heldBye is the BYE that waits for the ACK of our 2xx.
	heldBye uint64
	// byeHeaders go with the BYE.
	byeHeaders  []messages.Header
	invitations map[uint64]messages.Invitation
	// told is true once the owner knows that the session is over.
	told bool
	// peers are the requests of the peer that are not answered.
	peers map[peerKey]*messages.SIPInbound
	// unacked are the CSeq numbers of the INVITEs that we accepted and whose
	// ACK has not come.
	unacked map[uint32]bool
	// acks are those that were sent, for the repeats of a 2xx.
	acks map[ackKey]*messages.SIPRequest
	// answer is what the next ACK carries.
	answer description
	// local is our description as agreed; it is sealed in Bodies as well.
	local description
	// remote is the peer's latest.
	remote atomic.Pointer[description]
	// early is set while a CANCEL of the peer's first INVITE may come.
	early earlyKey
	// waiting is true while the registrar's gate knows that the call wants its
	// turn, turn once it came and is not used; probing while the gate waits to
	// hear of an INVITE.
	waiting, turn, probing bool
}

func newSessionMemory(owner Owner) *sessionMemory {
	return &sessionMemory{
		owner: owner, chains: map[uint64]chainMemory{}, answers: map[uint64]credentials{}, unsent: map[uint64]bool{},
		invitations: map[uint64]messages.Invitation{}, peers: map[peerKey]*messages.SIPInbound{},
		unacked: map[uint32]bool{}, acks: map[ackKey]*messages.SIPRequest{},
	}
}

// content is what somebody else gives to a message of ours.
type content struct {
	phrase  string
	headers []messages.Header
	description
}

// description is a body, in most cases a session description.
type description struct {
	contentType string
	body        []byte
}

func (d description) empty() bool { return len(d.body) == 0 }

func (d description) equal(other description) bool {
	return d.contentType == other.contentType && bytes.Equal(d.body, other.body)
}

func describedBy(info *messages.DialogInfo) description {
	return description{contentType: info.ContentType, body: info.Body}
}

// chainMemory is a request of the owner inside the dialog; result is told what
// became of it, and may be nil.
type chainMemory struct {
	content
	result func(sent)
}

// sent is what became of a request inside the dialog: err when it could not be
// made, else response, or reason without one.
type sent struct {
	response *messages.SIPResponse
	reason   messages.Reason
	err      error
}

// credentials are the checked answer of an authenticator, for one attempt.
type credentials struct {
	mutations []*messages.HeaderMutation
	proofs    []*messages.ExpectedProof
}

type peerKey struct {
	method string
	cseq   uint32
}

type ackKey struct {
	attempt   uint64
	remoteTag string
}

// unheardBye takes out a BYE of the peer that could not be recorded: its sender
// gets any final response and is gone, so the session must hear of it.
func (m *sessionMemory) unheardBye(s session.State) *messages.SIPInbound {
	for key, in := range m.peers {
		if key.method == "BYE" && key.cseq > s.RemoteCSeq {
			delete(m.peers, key)
			return in
		}
	}
	return nil
}

// prune forgets what belongs to requests that are over. The credentials of the
// INVITE that was accepted last, or may still be, go into its ACKs (INV-01).
func (m *sessionMemory) prune(s session.State) {
	for attempt := range m.answers {
		if _, open := s.Request(attempt); !open && attempt != s.Confirmed {
			delete(m.answers, attempt)
		}
	}
	for attempt := range m.unsent {
		if _, open := s.Request(attempt); !open {
			delete(m.unsent, attempt)
		}
	}
	for attempt, invitation := range m.invitations {
		if _, open := s.Request(attempt); !open {
			invitation.Cancel() // one that rings would stay for ever; to others it does nothing
			delete(m.invitations, attempt)
		}
	}
	for key := range m.acks {
		if key.attempt != s.Confirmed {
			delete(m.acks, key)
		}
	}
}
