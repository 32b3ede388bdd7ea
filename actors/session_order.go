package actors

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// sessionOrder is something asked of one session. Nobody waits for it here: what
// comes of it is told to the functions, from the session's actor or its shard,
// and they must not block. A bridge, which must not wait for the farm, gives
// orders as the farm's own methods do.
type sessionOrder struct {
	// command is nil for an order that only changes the owner.
	command session.Command
	owner   Owner
	// content goes with a Send, a Reply, an Answer, and with the BYE of an End.
	content
	// done is told once what the order causes is durable; may be nil.
	done func(session.State, error)
	// result is told what became of a Send, also when it could not be made; may
	// be nil.
	result func(sent)
}

// fail answers an order that cannot be carried out.
func (o *sessionOrder) fail(err error) {
	if o.done != nil {
		o.done(session.State{}, err)
	}
	if o.result != nil {
		o.result(sent{err: err})
	}
}

// succeed answers one that was.
func (o *sessionOrder) succeed(s session.State) {
	if o.done != nil {
		o.done(s, nil)
	}
}

// order gives a session an order, also while the farm stops: what one leg of a
// bridge has to say to the other still matters then.
func (f *Farm) order(id string, o *sessionOrder) {
	if !f.mail(id, o) {
		o.fail(fmt.Errorf("%w: %s", ErrNoSession, id))
	}
}

// take carries out an order.
func (a *sessionActor) take(ctx actor.Context, o *sessionOrder) {
	a.hand.order = o
	if o.command == nil {
		a.memory.owner = o.owner
		o.succeed(a.state)
		return
	}
	switch o.command.(type) {
	case session.End:
		if !a.state.Ended && !a.state.Ending {
			a.memory.byeHeaders = o.headers
		}
	case session.Answer:
		a.memory.answer = o.description
	}
	dropped := a.handle(ctx, o.command).Dropped
	a.replying = nil
	if _, ends := o.command.(session.End); ends || dropped == "" {
		o.succeed(a.state)
		return
	}
	o.fail(a.stateError(o.command, dropped))
}

// stateError says why a session cannot do something now.
func (a *sessionActor) stateError(command session.Command, dropped messages.Reason) error {
	status := a.state.Status()
	switch command.(type) {
	case session.Reply:
		return fmt.Errorf("%w: it is %s, and no such request of the peer waits for an answer", ErrSessionState, status)
	case session.Answer:
		return fmt.Errorf("%w: it is %s, and no offer of the peer waits for an answer", ErrSessionState, status)
	}
	if dropped == messages.DropBusy {
		return fmt.Errorf("%w: another request is open, try again when it is answered", ErrSessionState)
	}
	return fmt.Errorf("%w: it is %s", ErrSessionState, status)
}
