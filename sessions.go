package muster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// Call is a call to place. Profile and Target are required.
type Call struct {
	Profile string
	// Target is the SIP URI to call.
	Target string
	// Headers are added to the INVITE.
	Headers []messages.Header
	// Body passes byte for byte; ContentType is application/sdp when empty.
	// Without a body the callee makes the offer, see Session.Answer.
	ContentType string
	Body        []byte
	// HangupAfter ends the call so long after it is established.
	HangupAfter time.Duration
	// OnRequest is called for each request of the far end inside the dialog, in
	// order and one at a time; nil lets the node answer as it does for calls
	// that nobody owns.
	OnRequest func(*PeerRequest)
}

// SessionEvent is what happens to a session. The messages are shared and must
// not be changed.
type SessionEvent struct {
	// Kind is one of session.NoticeProgress, NoticeEstablished,
	// NoticeReceived and NoticeEnded.
	Kind session.Notice
	// Status and Reason say why a session ended.
	Status int
	Reason messages.Reason
	// Response or Request caused it, with the body; nil when nothing on the wire
	// did.
	Response *messages.SIPResponse
	Request  *messages.SIPInbound
}

// Session is a handle of one call. Its methods are safe for concurrent use.
type Session struct {
	node *Node
	id   string
	// answers gets what the far end asks; nil when nobody does.
	answers func(*PeerRequest)
	events  chan SessionEvent

	mu      sync.Mutex
	queue   []actors.SessionNotice
	pumping bool
}

// maxEvents bounds the events that nobody has read.
const maxEvents = 32

// maxQueued bounds what waits for a slow reader of Events or a slow OnRequest.
// What does not fit is lost, but for the end; a request of the peer is then
// answered by its time limit.
const maxQueued = 256

// StartSession places a call in the name of a profile and returns once that is
// recorded. The call lives on when ctx ends; End ends it.
func (n *Node) StartSession(ctx context.Context, c Call) (*Session, error) {
	s := newSession(n, c.OnRequest)
	v, err := n.farm.StartSession(ctx, actors.SessionRequest{
		Profile: c.Profile, Target: c.Target, Headers: c.Headers, ContentType: c.ContentType, Body: c.Body,
		HangupAfter: c.HangupAfter, Owner: s,
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = v.ID
	return s, nil
}

// AdoptSession gives a handle for a session that exists: after a restart, or
// one that was placed through the API.
func (n *Node) AdoptSession(id string, onRequest func(*PeerRequest)) (*Session, error) {
	s := newSession(n, onRequest)
	s.id = id
	if err := n.farm.Own(id, s); err != nil {
		return nil, err
	}
	return s, nil
}

func newSession(n *Node, answers func(*PeerRequest)) *Session {
	return &Session{node: n, answers: answers, events: make(chan SessionEvent, maxEvents)}
}

// ID is the id that the API and the journal use.
func (s *Session) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Events tells what happens, in order. It is closed after NoticeEnded. Events
// that nobody reads are lost beyond the last 32.
func (s *Session) Events() <-chan SessionEvent { return s.events }

// View is the session as the API shows it.
func (s *Session) View(ctx context.Context) (actors.SessionView, error) {
	return s.node.farm.Session(ctx, s.ID())
}

// End hangs up: CANCEL, BYE or a refusal, as the state of the call demands. It
// returns once that is recorded; NoticeEnded follows when the far end knows.
func (s *Session) End(ctx context.Context) error {
	_, err := s.node.farm.EndSession(ctx, s.ID())
	return err
}

// Reinvite offers another session description and waits for the answer.
func (s *Session) Reinvite(ctx context.Context, contentType string, body []byte) (actors.InDialogResult, error) {
	return s.Request(ctx, actors.InDialog{Method: "INVITE", ContentType: contentType, Body: body})
}

// Request sends INFO, REFER, UPDATE, MESSAGE, NOTIFY or OPTIONS inside the
// dialog and waits for the outcome. A challenge is answered on the way.
func (s *Session) Request(ctx context.Context, r actors.InDialog) (actors.InDialogResult, error) {
	return s.node.farm.SendInSession(ctx, s.ID(), r)
}

// Answer supplies the answer to an offer in a 2xx, which travels in the ACK. It
// is due within 10 s.
func (s *Session) Answer(ctx context.Context, contentType string, body []byte) error {
	return s.node.farm.AnswerSession(ctx, s.ID(), contentType, body)
}

// PeerRequest is a request of the far end that waits for an answer: a re-INVITE
// or UPDATE with an offer, INFO, REFER, MESSAGE, NOTIFY.
type PeerRequest struct {
	*messages.SIPInbound
	session *Session
}

// Session is the handle of the session that it belongs to.
func (r *PeerRequest) Session() *Session { return r.session }

// Respond answers. It returns once the answer is recorded, and an error when
// the request is answered already or its time is over.
func (r *PeerRequest) Respond(ctx context.Context, reply actors.SessionReply) error {
	reply.Method, reply.CSeq = r.Method, r.CSeq
	return r.session.node.farm.ReplyInSession(ctx, r.session.ID(), reply)
}

// Invitation is a call to a registered contact of a profile that waits for an
// answer. It may be answered after the callback has returned.
type Invitation struct {
	*Session
	Profile string
	// Invite is what came, with its body and headers.
	Invite *messages.SIPInbound
	// OnRequest may be set before the call is answered; see Call.OnRequest.
	OnRequest func(*PeerRequest)
}

// Ring answers 180, or 183 with a body.
func (i *Invitation) Ring(ctx context.Context, contentType string, body []byte) error {
	status := 180
	if len(body) > 0 {
		status = 183
	}
	return i.reply(ctx, actors.SessionReply{Status: status, ContentType: contentType, Body: body})
}

// Accept takes the call: 200 with our session description.
func (i *Invitation) Accept(ctx context.Context, contentType string, body []byte) error {
	return i.reply(ctx, actors.SessionReply{Status: 200, ContentType: contentType, Body: body})
}

// Reject refuses the call with a status of 300 to 699, such as 486.
func (i *Invitation) Reject(ctx context.Context, status int, headers ...messages.Header) error {
	if status < 300 || status > 699 {
		return fmt.Errorf("%w: reject with status %d: want 300 to 699", actors.ErrInvalidSession, status)
	}
	return i.reply(ctx, actors.SessionReply{Status: status, Headers: headers})
}

func (i *Invitation) reply(ctx context.Context, r actors.SessionReply) error {
	r.Method, r.CSeq = "INVITE", i.Invite.CSeq
	return i.node.farm.ReplyInSession(ctx, i.ID(), r)
}

// invited makes the handle of a call that comes in. Its first request is the
// INVITE itself.
func (n *Node) invited(c actors.IncomingCall) actors.Owner {
	i := &Invitation{Profile: c.Profile, Invite: c.Request}
	i.Session = newSession(n, nil)
	i.id = c.Session
	first := true
	i.answers = func(r *PeerRequest) {
		if first {
			first = false
			n.options.OnInvite(i)
			return
		}
		if i.OnRequest != nil {
			i.OnRequest(r)
			return
		}
		// The embedder takes calls and nothing inside them.
		_ = r.Respond(n.ctx, actors.SessionReply{Status: 488})
	}
	return i.Session
}

// Notify implements actors.Owner.
func (s *Session) Notify(notice actors.SessionNotice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= maxQueued && notice.Kind != session.NoticeEnded {
		return
	}
	s.queue = append(s.queue, notice)
	if s.pumping {
		return
	}
	s.pumping = true
	go s.pump() // what an embedder does in it must not hold up the node's Stop
}

// Answers implements actors.Owner.
func (s *Session) Answers() bool { return s.answers != nil }

// pump hands out what is queued, and ends when nothing is: an idle session has
// no goroutine.
func (s *Session) pump() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.pumping = false
			s.mu.Unlock()
			return
		}
		notice := s.queue[0]
		s.queue = s.queue[1:]
		s.id = notice.Session
		s.mu.Unlock()
		s.deliver(notice)
	}
}

func (s *Session) deliver(notice actors.SessionNotice) {
	if notice.Kind == session.NoticeRequest {
		r := &PeerRequest{SIPInbound: notice.Request, session: s}
		if s.answers != nil {
			s.answers(r)
		}
		return
	}
	event := SessionEvent{Kind: notice.Kind, Status: notice.Status, Reason: notice.Reason, Response: notice.Response, Request: notice.Request}
	select {
	case s.events <- event:
	default: // nobody reads
		select { // the newest counts
		case <-s.events:
		default:
		}
		s.events <- event
	}
	if notice.Kind == session.NoticeEnded {
		close(s.events)
	}
}

// WaitEstablished returns nil once the call is up, and an error when it ends
// before or ctx does. It reads Events.
func (s *Session) WaitEstablished(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.node.ctx.Done():
			return actors.ErrStopping
		case e, open := <-s.events:
			switch {
			case !open:
				return errors.New("the session is over")
			case e.Kind == session.NoticeEstablished:
				return nil
			case e.Kind == session.NoticeEnded:
				return fmt.Errorf("the call failed: %s (%d)", e.Reason, e.Status)
			}
		}
	}
}
