package actors

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// profileActor wraps the pure core of one profile at a time. For each message:
// decide, append and go on when that is durable, fold, tell the observer, run the
// effects; these steps are never reordered. While an append is out, other
// messages wait. It blocks on nothing, because it shares its goroutine.
type profileActor struct {
	farm *Farm
	self *actor.PID
	// appended gives the outcome of an append to the actor's mailbox.
	appended func(error)
	// spare is a request that is not out, to be used again.
	spare *sending
	// dead is true once it panicked, and the crew's.
	dead bool

	// decider is the memory of decision, which policy is for.
	decider  profile.Decider
	decision *profile.Decision
	policy   profile.Policy
	// writing is true while an append is out; decided and failure are since when,
	// and how it ended. stash is what came meanwhile.
	writing bool
	decided time.Time
	failure error
	stash   []any

	term
}

// term is what the actor knows while it has a profile.
type term struct {
	*busy
	id     string
	stream string
	// reloading: the state is yet to be read from the journal.
	reloading bool
	handled   uint64
	// slot is true while the registrar's gate counts an attempt of ours;
	// slotSpent is true once a request used it; started is
	// when that began. dark and heard tell the gate how it ended.
	slot, slotSpent bool
	// gate is the registrar of the chain, which a removed profile forgets.
	gate        string
	started     time.Time
	heard, dark bool
	retryAfter  time.Duration
	// paused is true while others use the slot, because an xSP is asked.
	paused bool
	// asked is the question that is out; its verdict is taken once.
	asked *question
	// mutations and proofs are the answer for the open attempt, in memory
	// only.
	mutations []*messages.HeaderMutation
	proofs    []*messages.ExpectedProof
	// fetched is told what a fetch brings.
	fetched func([]messages.ContactBinding, error)
	// order is the order in hand, dropped what came of it so far.
	order   *order
	dropped messages.Reason
}

// Messages to the actor of a profile; busy is the profile itself.
type (
	// sendNow is the gate's permission to send the paced request of an attempt.
	sendNow struct {
		busy    *busy
		attempt uint64
	}
	// observed is a command of the actor's own.
	observed struct {
		busy    *busy
		command profile.Command
	}
	// durable: the append that was out is not any more.
	durable struct{}
)

func newProfileActor(f *Farm) *profileActor {
	a := &profileActor{farm: f}
	a.appended = func(err error) {
		a.failure = err
		f.root.Send(a.self, &durable{})
	}
	return a
}

func (a *profileActor) Receive(ctx actor.Context) {
	defer a.answerOnPanic()
	switch m := ctx.Message().(type) {
	case *actor.Stopping:
		a.failOrders(ErrStopping)
		return
	case *durable:
		a.writing = false
		a.resume(ctx)
	case *busy, *order, *sending, *sendNow, *observed, *verdict:
		if a.writing {
			a.stash = append(a.stash, m)
			return
		}
		a.take(ctx, m)
	default:
		return
	}
	a.settle(ctx)
}

// take begins with a message.
func (a *profileActor) take(ctx actor.Context, m any) {
	switch m := m.(type) {
	case *busy:
		a.begin(m)
		if m.reload {
			a.reload()
			return
		}
		a.obey(ctx, m.first)
	case *order:
		a.obey(ctx, m)
	case *sending:
		a.reported(ctx, m)
	case *sendNow:
		if m.busy == a.busy && a.state().Attempt.Open && a.state().Attempt.Number == m.attempt {
			a.send()
		}
	case *observed:
		if m.busy == a.busy {
			a.handle(ctx, m.command)
		}
	case *verdict:
		a.judged(ctx, m)
	}
}

// settle goes on with what is there to do until an append is out, or nothing is
// left and the profile goes back to its shard.
func (a *profileActor) settle(ctx actor.Context) {
	for !a.writing && a.busy != nil {
		a.answerOrder()
		open := a.state().Attempt.Open
		if !open {
			a.chainEnded()
		}
		if len(a.stash) > 0 {
			m := a.stash[0]
			a.stash = slices.Delete(a.stash, 0, 1)
			a.take(ctx, m)
			continue
		}
		if !open && a.leave(a.handled) {
			b := a.busy
			a.term = term{}
			a.farm.root.Send(b.shard, b)
		}
		return
	}
}

func (a *profileActor) begin(b *busy) {
	a.term = term{busy: b, id: b.entry.id, stream: stream(b.entry.id)}
}

// state is the newest durable state. Only the actor writes it, so it may read it
// as it likes.
func (a *profileActor) state() *profile.State { return &a.now.state }

// obey carries out an order.
func (a *profileActor) obey(ctx actor.Context, o *order) {
	a.order, a.dropped = o, ""
	a.handled++
	if _, ok := o.command.(profile.SlotGranted); ok {
		a.slot, a.slotSpent, a.started = true, false, time.Now()
		a.gate = a.state().Spec.Registrar
	}
	if o.contacts != nil && a.fetched != nil {
		a.answered(o)
		o.fail(ErrBusy)
		a.order = nil
		return
	}
	a.dropped = a.handle(ctx, o.command)
}

// answerOrder tells what became of the order in hand.
func (a *profileActor) answerOrder() {
	o := a.order
	if o == nil {
		return
	}
	a.order = nil
	a.answered(o)
	var err error
	if a.dropped == messages.DropBusy {
		err = ErrBusy
	}
	if o.contacts != nil {
		if err != nil || !a.state().Attempt.Open {
			o.fail(cmp.Or(err, ErrBusy))
			return
		}
		a.fetched = o.contacts
	}
	if o.done != nil {
		o.done(a.now, err)
	}
}

// note keeps what the registrar's gate must learn from a report.
func (a *profileActor) note(o *messages.SIPOutcome) {
	if r := o.Response; r != nil {
		a.heard, a.dark = true, false
		if len(a.state().Attempt.Targets) == 0 { // else it went where a 3xx led
			a.farm.targets.note(a.gate, r.Source)
		}
		if r.Status == 503 && r.RetryAfter > 0 {
			a.retryAfter = min(r.RetryAfter, maxRetryAfter)
		}
		return
	}
	// A name that does not resolve or a request that fits nowhere says
	// nothing about the target.
	a.heard, a.dark = false, o.Failure == messages.ReasonTimeout || o.Failure == messages.ReasonTransport
}

// maxRetryAfter caps what one 503 can ask of a whole farm (ERR-07).
const maxRetryAfter = time.Hour

// chainEnded gives the slot back and forgets what belonged to the chain.
func (a *profileActor) chainEnded() {
	if a.slot || a.heard || a.dark {
		a.farm.turnstile(a.gate).release(a.id, a.heard, a.dark, a.retryAfter)
	}
	a.slot, a.heard, a.dark, a.retryAfter, a.paused = false, false, false, 0, false
	a.dropQuestion()
	a.mutations, a.proofs = nil, nil
	if a.fetched != nil {
		a.fetched(nil, ErrBusy)
		a.fetched = nil
	}
}

// answerOnPanic answers the orders in hand before the panic goes on to the
// supervisor: the library would leave the callers waiting.
func (a *profileActor) answerOnPanic() {
	reason := recover()
	if reason == nil {
		return
	}
	err, ok := reason.(error)
	if !ok {
		err = errors.New(describePanic(reason))
	}
	a.failOrders(fmt.Errorf("profile failed: %w", err))
	panic(reason)
}

// failOrders answers whoever waits for the actor, which ends.
func (a *profileActor) failOrders(err error) {
	if a.fetched != nil {
		a.fetched(nil, err)
	}
	if a.busy != nil {
		a.failAll(err)
	}
	a.order, a.fetched, a.stash = nil, nil, nil
}

// describePanic is what may be said of a panic: the text of an error of ours,
// which holds no secret, else the type only.
func describePanic(reason any) string {
	if err, ok := reason.(error); ok {
		return err.Error()
	}
	return fmt.Sprintf("panic of type %T", reason)
}
