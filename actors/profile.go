package actors

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
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
	mailbox slimMailbox

	farm *Farm
	self *actor.PID
	// appended gives the outcome of an append to the actor's mailbox.
	appended func(error)
	// spare and consulted are a request and a question to the DigestActor that are not
	// out, and are used again; offered is the command that a verdict becomes.
	spare     *sending
	consulted *consultation
	offered   profile.CredentialsOffered
	// at is when the message in hand came.
	at time.Time
	home
	// dead is true once it panicked. The crew writes it.
	dead atomic.Bool

	// decider is the memory of decision.
	decider  profile.Decider
	decision *profile.Decision
	// writing is true while an append is out; decided and failure are since when,
	// and how it ended. stash is what came meanwhile.
	writing bool
	decided time.Time
	failure error
	stash   []any

	busy
	term
}

// term is what the actor knows while it has a profile.
type term struct {
	// current is busy.number, which is 0 while it has none: then busy belongs to the
	// shards. What comes for another number is too late.
	current uint64
	id      string
	stream  string
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
	asked question
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

// Messages to the actor of a profile, besides its orders, busy, which is the
// profile itself, and what comes back: sending, consultation and verdict.
type (
	// observed is a command of the actor's own.
	observed struct {
		number  uint64
		command profile.Command
	}
	// durable: the append that was out is not any more.
	durable struct{}
)

func newProfileActor(f *Farm) *profileActor {
	a := &profileActor{farm: f}
	a.actor, a.held.busy = a, &a.busy
	a.appended = func(err error) {
		a.failure = err
		a.tell(&durable{})
	}
	return a
}

// tell gives the actor a message of ours.
func (a *profileActor) tell(message any) { a.mailbox.PostUserMessage(message) }

// Receive learns that the actor ends.
func (a *profileActor) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Stopping:
		a.failOrders(ErrStopping)
	case *actor.Stopped:
		a.mailbox.end()
	}
}

func (a *profileActor) receive(message any) bool {
	defer a.answerOnPanic()
	switch m := message.(type) {
	case *durable:
		a.at, a.writing = time.Now(), false
		a.resume()
	case *busy, *order, *sending, *observed, *consultation, *verdict:
		if a.writing {
			a.stash = append(a.stash, m)
			return true
		}
		a.at = time.Now()
		a.take(m)
	default:
		return false
	}
	a.settle()
	return true
}

// take begins with a message.
func (a *profileActor) take(m any) {
	switch m := m.(type) {
	case *busy:
		a.begin()
		if m.reload {
			a.reload()
			return
		}
		a.obey(m.first)
	case *order:
		a.obey(m)
	case *sending:
		a.returned(m)
	case *observed:
		if m.number == a.current {
			a.handle(m.command)
		}
	case *consultation:
		a.told(m)
	case *verdict:
		a.judged(m)
	}
}

// settle goes on with what is there to do until an append is out, or nothing is
// left and the profile goes back to its shard.
func (a *profileActor) settle() {
	for !a.writing && a.current != 0 {
		a.answerOrder()
		open := a.state().Attempt.Open
		if !open {
			a.chainEnded()
		}
		if len(a.stash) > 0 {
			m := a.stash[0]
			a.stash = slices.Delete(a.stash, 0, 1)
			a.take(m)
			continue
		}
		if !open && a.leave(a.handled) {
			a.term = term{}
			a.shard.tell(&a.busy)
		}
		return
	}
}

func (a *profileActor) begin() {
	id := a.entry.id
	a.term = term{current: a.number, id: id, stream: stream(id)}
}

// state is the newest durable state. Only the actor writes it, so it may read it
// as it likes.
func (a *profileActor) state() *profile.State { return &a.now.state }

// home is the registrar that was looked up last.
type home struct {
	known *map[string]*registrar
	last  *registrar
}

// registrar is that of a name, or without any an empty one.
func (a *profileActor) registrar(name string) *registrar {
	known := a.farm.registrars.Load()
	if a.known != known || a.last.config.Name != name {
		a.known, a.last = known, &unknownRegistrar
		if r, ok := (*known)[name]; ok {
			a.last = r
		}
	}
	return a.last
}

// obey carries out an order.
func (a *profileActor) obey(o *order) {
	a.order, a.dropped = o, ""
	a.handled++
	if _, ok := o.command.(profile.SlotGranted); ok {
		a.slot, a.slotSpent, a.started = true, false, a.at
		a.gate = a.state().Spec.Registrar
	}
	if o.contacts != nil && a.fetched != nil {
		a.answered(o)
		o.fail(ErrBusy)
		a.order = nil
		return
	}
	a.dropped = a.handle(o.command)
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
			a.registrar(a.gate).targets.note(r.Source)
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
		a.registrar(a.gate).turnstile.release(a.id, a.heard, a.dark, a.retryAfter)
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
	if a.current != 0 {
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
