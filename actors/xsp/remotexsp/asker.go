package remotexsp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// remembered is how many ended questions an asker knows, to tell a second
// answer and a late one from one that answers nothing.
const remembered = 1024

// asker is the Authenticator of one peer.
type asker struct {
	endpoint *Endpoint
	peer     Peer
	fault    error // of the configuration
	target   *actor.PID
	inbox    *actor.PID
	gone     chan struct{} // closed by Close

	mu      sync.Mutex
	closed  bool
	pending map[string]*question // by ref
	ended   [remembered]ended
	next    int
}

type ended struct {
	ref    string
	reason string // why another answer is dropped
}

// question is one that is open.
type question struct {
	reply chan *messages.AuthReply // holds one
	wire  *outgoing
}

// Answer implements xsp.Authenticator.
func (a *asker) Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	if a.fault != nil {
		return nil, a.fault
	}
	p, err := a.open(q)
	if err != nil {
		return nil, err
	}
	if err := a.endpoint.send(a.target, p.wire, a.inbox); err != nil {
		a.end(q.GetRef(), dropLate)
		return nil, err
	}
	select {
	case r := <-p.reply:
		return xsp.Unpack(q, r)
	case <-ctx.Done():
		err = fmt.Errorf("wait for the answer of %s: %w", a.peer.Actor, ctx.Err())
	case <-a.gone:
		err = errClosed
	case <-a.endpoint.ctx.Done():
		err = errClosed
	}
	if a.end(q.GetRef(), dropLate) {
		return nil, err
	}
	// It was answered in the same moment.
	return xsp.Unpack(q, <-p.reply)
}

// open makes a question pending, unless there are too many.
func (a *asker) open(q *messages.AuthChallenge) (*question, error) {
	if q.GetRef() == "" {
		return nil, errors.New("the question has no ref")
	}
	wire, err := a.endpoint.queue(a, q)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch _, open := a.pending[q.GetRef()]; {
	case a.closed:
		err = errClosed
	case open:
		err = errors.New("the question is open already")
	case len(a.pending) >= a.endpoint.maxPending:
		err = errTooMany
	}
	if err != nil {
		a.endpoint.unqueue(wire)
		return nil, err
	}
	p := &question{reply: make(chan *messages.AuthReply, 1), wire: wire}
	a.pending[q.GetRef()] = p
	return p, nil
}

var errTooMany = errors.New("too many questions are open")

// end forgets a question and remembers why no other answer counts; false when
// it had ended before.
func (a *asker) end(ref, reason string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.remove(ref, reason) != nil
}

func (a *asker) remove(ref, reason string) *question {
	p := a.pending[ref]
	if p == nil {
		return nil
	}
	delete(a.pending, ref)
	p.wire.question.Store(nil)
	a.ended[a.next] = ended{ref: ref, reason: reason}
	a.next = (a.next + 1) % remembered
	return p
}

// take gives an answer to the one who waits for it, or tells why it is
// dropped.
func (a *asker) take(r *messages.AuthReply) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.remove(r.GetRef(), dropSecond); p != nil {
		p.reply <- r
		return ""
	}
	for _, e := range a.ended {
		if e.ref == r.GetRef() && e.ref != "" {
			return e.reason
		}
	}
	return dropForeign
}

// Close implements io.Closer.
func (a *asker) Close() error {
	a.mu.Lock()
	was := a.closed
	a.closed = true
	a.mu.Unlock()
	if !was {
		close(a.gone)
		if a.fault == nil {
			a.endpoint.leave(a)
		}
	}
	return nil
}

// outgoing is a question on its way through remote's queue, which has no bound
// and cannot be searched. Remote asks it for its wire form when its turn has
// come, which tells that it left the queue, and keeps a question that has
// ended from being sent.
type outgoing struct {
	endpoint *Endpoint
	address  string
	era      int
	question atomic.Pointer[messages.AuthChallenge]
}

// Serialize implements remote.RootSerializable.
func (o *outgoing) Serialize() (remote.RootSerialized, error) {
	o.endpoint.unqueue(o)
	q := o.question.Load()
	if q == nil {
		return nil, errors.New("the question has ended")
	}
	return wire{q}, nil
}

// wire is the form that is sent. Remote wants it to be able to come back.
type wire struct{ *messages.AuthChallenge }

// Deserialize implements remote.RootSerialized.
func (wire) Deserialize() (remote.RootSerializable, error) {
	return nil, errors.New("a question is not received")
}

// queue counts a question that is about to be sent.
func (e *Endpoint) queue(a *asker, q *messages.AuthChallenge) (*outgoing, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.routes[a.peer.Address]
	switch {
	case r == nil:
		return nil, errClosed
	case r.identity() != a.peer.Identity:
		return nil, errors.New("its address is configured with another identity")
	case r.queued >= e.maxPending:
		return nil, errTooMany
	}
	r.queued++
	o := &outgoing{endpoint: e, address: a.peer.Address, era: r.era}
	o.question.Store(q)
	return o, nil
}

// unqueue is told that a question has left the queue.
func (e *Endpoint) unqueue(o *outgoing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.routes[o.address]; r != nil && r.era == o.era && r.queued > 0 {
		r.queued--
	}
}

// decodeReply reads the three messages that answer a question.
func decodeReply(m *envelope) (*messages.AuthReply, bool) {
	var reply proto.Message
	switch m.typeName {
	case "muster.v1.AuthAnswer":
		reply = &messages.AuthAnswer{}
	case "muster.v1.AuthRefusal":
		reply = &messages.AuthRefusal{}
	case "muster.v1.AuthReply":
		reply = &messages.AuthReply{}
	default:
		return nil, false
	}
	if !decode(m, reply) {
		return nil, false
	}
	return xsp.FromMessage(reply)
}

func decode(m *envelope, into proto.Message) bool {
	return proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(m.data, into) == nil
}
