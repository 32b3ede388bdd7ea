package actors

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/words"
	"github.com/sipmuster/muster/messages"
)

// Shards is the number of shards, fixed for ever: it is part of the store's
// format.
const Shards = 1024

// FarmOptions are what a Farm is made of. What does not say otherwise is
// required.
type FarmOptions struct {
	Journal     Journal
	Sender      Sender
	Credentials Credentials
	Observer    Observer
	// Token returns 32 hexadecimal digits from a cryptographic source.
	Token func() string
	// Registrars are the targets at start; see SetRegistrars.
	Registrars []Registrar
	// Vaults keeps what xSPs must remember; nil refuses those that must.
	Vaults Vaults
	// Logger defaults to one that discards.
	Logger *slog.Logger
	// SecretGone is told the id of a profile that was forgotten, so that its
	// secret can go too; nil does nothing.
	SecretGone func(id string)
	// Trunks are the trusted peers at start; see SetTrunks.
	Trunks []Trunk
	// Here tells whether a host, in lower case and without brackets, is this
	// node: the peer of a trunk calls it instead of the profile's domain. nil
	// knows none.
	Here func(host string) bool
	// Bodies keeps the descriptions of sessions over a restart; nil keeps none.
	Bodies Bodies
	// OnInvite is told of an INVITE to a profile, and says who takes the call: the
	// owner is then told NoticeRequest, and answers. It runs on an actor and must
	// not block. nil as its result refuses the call with 480; without an OnInvite
	// none is taken.
	OnInvite func(IncomingCall) Owner
}

// Farm hosts the profiles of a node. Its methods are safe for concurrent use
// between Start and Stop.
type Farm struct {
	journal     Journal
	sender      Sender
	credentials Credentials
	observer    Observer
	token       func() string
	log         *slog.Logger
	secretGone  func(id string)
	bodies      Bodies
	onInvite    func(IncomingCall) Owner

	system     *actor.ActorSystem
	root       *actor.RootContext
	shards     [Shards]*actor.PID
	restored   [Shards]*shardActor
	digests    []*digestActor
	asked      atomic.Uint64 // questions to the DigestActors
	workers    workers       // for what may wait
	loops      *loops        // for what does not
	crew       *crew
	clock      *clock
	words      profile.Words
	population population
	registrars atomic.Pointer[map[string]*registrar]
	xsps       atomic.Pointer[xspTable]
	vaults     Vaults
	tallies    tallies
	nonces     nonces
	bridging   bridging
	changes    changes
	targets    targetSets
	contacts   contactIndex
	live       sync.Map // *sessionEntry by id: the sessions that are not forgotten
	early      sync.Map // id by earlyKey: the calls of peers that are not answered
	counts     sessionCounts
	ended      endedSessions
	late       lateAnswers
	changing   sync.Mutex  // serialises SetRegistrars and SetXSPs
	started    atomic.Bool // the shards run
	stopping   atomic.Bool
	stopped    chan struct{}
}

// NewFarm builds a farm; nothing runs before Start.
func NewFarm(o FarmOptions) *Farm {
	f := &Farm{
		journal: o.Journal, sender: o.Sender, credentials: o.Credentials, observer: o.Observer,
		token: o.Token, log: o.Logger, secretGone: o.SecretGone, stopped: make(chan struct{}), vaults: o.Vaults, loops: newLoops(o.Sender.Flush),
		bodies: o.Bodies, onInvite: o.OnInvite,
	}
	f.words.Texts = new(words.Table)
	f.contacts.seed = maphash.MakeSeed()
	f.contacts.on.Store(o.OnInvite != nil || len(o.Trunks) > 0)
	f.bridging.here = o.Here
	f.bridging.trunks.Store(newTrunkTable(o.Trunks))
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.log = f.log.With("component", "actors")
	if f.secretGone == nil {
		f.secretGone = func(string) {}
	}
	// The library logs messages and panic values, which can hold an answer to
	// a challenge (S-62). What matters is logged by us.
	f.system = actor.NewActorSystem(actor.WithLoggerFactory(quiet))
	f.root = f.system.Root
	f.crew = newCrew(f)
	f.registrars.Store(&map[string]*registrar{})
	f.xsps.Store(&xspTable{})
	f.clock = newClock(func(shard int) { f.restored[shard].tell(&shardTick{}) })
	f.digests = f.spawnDigests()
	f.setRegistrars(o.Registrars)
	for i := range f.restored {
		f.restored[i] = newShard(f, i)
	}
	return f
}

func quiet(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }

// props are those of every actor of a farm.
func (f *Farm) props(producer actor.Producer, options ...actor.PropsOption) *actor.Props {
	return actor.PropsFromProducer(producer, append(options, actor.WithDispatcher(&f.workers))...)
}

// quickProps are those of an actor that waits for nothing, and its mailbox.
func (f *Farm) quickProps(a quickActor, mailbox *slimMailbox) *actor.Props {
	return ownMailbox(a, mailbox, f.loops)
}

// quickActor is one that is given its messages without detours.
type quickActor interface {
	actor.Actor
	receiver
}

func ownMailbox(a quickActor, mailbox *slimMailbox, runs actor.Dispatcher) *actor.Props {
	mailbox.receiver = a
	return actor.PropsFromProducer(func() actor.Actor { return a }, actor.WithDispatcher(runs),
		actor.WithMailbox(func() actor.Mailbox { return mailbox }))
}

// spawnDigests starts the DigestActors: one per processor, which are asked in
// turn. One that is idle runs on the goroutine of whoever asks: it takes two
// microseconds and waits for nothing, so that waking another would cost more.
func (f *Farm) spawnDigests() []*digestActor {
	key := []byte(f.token())
	pool := make([]*digestActor, runtime.GOMAXPROCS(0))
	here := actor.NewSynchronizedDispatcher(f.workers.Throughput())
	for i := range pool {
		d := &digestActor{credentials: f.credentials, token: f.token, sessKey: key}
		d.self = f.root.Spawn(ownMailbox(d, &d.mailbox, here))
		pool[i] = d
	}
	return pool
}

// Start replays the journal and starts the shards. Profiles with a live
// binding cause no request.
func (f *Farm) Start(ctx context.Context) error {
	r := newRestorer(f)
	err := f.journal.Replay(ctx, r)
	if err = cmp.Or(err, r.wait()); err != nil {
		return fmt.Errorf("replay the journal: %w", err)
	}
	r.finish()
	for i, s := range f.restored {
		pid, err := f.root.SpawnNamed(f.quickProps(s, &s.mailbox), fmt.Sprintf("shard-%04d", i))
		if err != nil {
			return fmt.Errorf("start shard %d: %w", i, err)
		}
		f.shards[i] = pid
	}
	f.clock.start()
	f.started.Store(true)
	f.release()
	return nil
}

// Stop ends the farm: no fresh attempt begins, open ones finish or are left as
// they are recorded, until ctx ends. Calls that are being set up are ended;
// established sessions are left alone, because a restart is no outage. With
// withdraw every binding is removed first, at the registrars' pace.
func (f *Farm) Stop(ctx context.Context, withdraw bool) {
	if f.stopping.Swap(true) {
		return
	}
	f.Hold(true)
	if withdraw {
		const settle = 5 * time.Second
		short, cancel := context.WithTimeout(ctx, settle)
		f.drain(short)
		cancel()
		f.withdrawAll(ctx)
	}
	f.endEarly(ctx)
	f.drain(ctx)
	close(f.stopped)
	f.clock.stop()
	f.changes.end()
	f.eachGate(func(_ string, r *registrar) { r.turnstile.stop() })
	f.end(f.shards[:]) // first: they give profiles to the others
	f.end(f.crew.pids())
	for _, d := range f.digests {
		f.end([]*actor.PID{d.self})
	}
	f.end(slices.Collect(maps.Values(f.xsps.Load().pids)))
	f.workers.close()
	f.loops.close()
	f.system.Shutdown()
}

// end stops actors and waits for each, but not for ever: one that hangs in an
// append must not hold the exit.
func (f *Farm) end(pids []*actor.PID) {
	for _, pid := range pids {
		if pid != nil {
			_ = f.root.StopFuture(pid).Wait()
		}
	}
}

// Hold stops fresh attempts, or lets them go on: for a shutdown, and while the
// store has failed and nothing may leave.
func (f *Farm) Hold(on bool) {
	f.eachGate(func(_ string, r *registrar) { r.turnstile.hold(on) })
}

// drain waits until no attempt is open.
func (f *Farm) drain(ctx context.Context) {
	for {
		open := 0
		for _, v := range f.gateViews() {
			open += v.inFlight + v.paused
		}
		if open == 0 {
			return
		}
		select {
		case <-ctx.Done():
			f.log.Warn("attempts still open at shutdown; they are recorded and will be recovered", "open", open)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// withdrawAll removes every binding, and waits until that is done.
func (f *Farm) withdrawAll(ctx context.Context) {
	var bound []string
	err := f.visitAll(ctx, func(e *entry) {
		if state := e.state(); state.MayBeBound() {
			bound = append(bound, e.id)
		}
	})
	if err != nil {
		return
	}
	f.log.Info("removing all bindings", "bindings", len(bound))
	var wg sync.WaitGroup
	// Open attempts are bounded here instead of by the gates: a withdrawal
	// takes its turn at the pace, not at the concurrency.
	slots := make(chan struct{}, 256)
	for _, id := range bound {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			f.log.Warn("not all bindings were removed in time; the others end by themselves")
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			done := make(chan struct{})
			f.root.Send(f.shardOf(id), &order{id: id, command: profile.Withdraw{}, contacts: func([]messages.ContactBinding, error) { close(done) }})
			select {
			case <-done:
			case <-ctx.Done():
			}
		})
	}
	wg.Wait()
}

// handler finds an authenticator by name.
func (f *Farm) handler(name string) (*actor.PID, bool) {
	if name == messages.DigestHandler {
		return f.digest().self, true
	}
	pid, ok := f.xsps.Load().pids[name]
	return pid, ok
}

// digest is the DigestActor whose turn it is.
func (f *Farm) digest() *digestActor { return f.digests[f.asked.Add(1)%uint64(len(f.digests))] }

// Shard is the number of the shard of a profile.
func Shard(id string) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum64() % Shards)
}

func (f *Farm) shardOf(id string) *actor.PID { return f.shards[Shard(id)] }

// after runs do later unless the farm has stopped by then.
func (f *Farm) after(d time.Duration, do func()) {
	time.AfterFunc(d, func() {
		select {
		case <-f.stopped:
		default:
			do()
		}
	})
}

var errTimeout = fmt.Errorf("the profile did not answer in time: %w", context.DeadlineExceeded)
