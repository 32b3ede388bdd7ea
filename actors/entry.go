package actors

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/profile"
)

// entry is one profile of a shard. There are a million of them, so what only a
// profile needs that is busy stands aside.
type entry struct {
	id    string
	words *profile.Words
	// newest holds the newest durable state: packed, or with an actor. The shard
	// writes it, anyone may read it.
	newest atomic.Pointer[held]

	// The rest is the shard's own.

	// wakeAt is the entry's place in the heap, in Unix nanoseconds; index is -1
	// when it has none.
	wakeAt int64
	index  int32
	// status is the place of the packed state's status in States, so that a
	// listing need not unpack what it does not show.
	status uint8
	// waiting is true while the registrar's gate knows that the profile is due.
	waiting bool
	// reload is true after a failure: the next actor reads the journal.
	reload bool
	busy   *busy
}

// busy is a profile's time with an actor: from the order that needs one until
// there is nothing left to do. It goes to the actor when that time begins and
// comes back to the shard when it is over. The entry keeps it for a while if
// there were failures.
type busy struct {
	entry *entry
	shard *actor.PID
	actor *profileActor
	// first is the order that it began with; reload is entry.reload at that time.
	first  *order
	reload bool

	// mu lets the actor see, when it has nothing left to do, that no order is on
	// its way, so that none is lost. It guards what follows.
	mu sync.Mutex
	// child has the profile; nil once it has given it back.
	child *actor.PID
	// sent counts the orders that the child was given, and waiting are those of
	// them whose outcome somebody waits for.
	sent    uint64
	waiting []*order
	// now is the newest durable state. The child writes it, anyone may read it.
	now  versioned
	held held

	crashes crashes // the shard's own
}

// leave is the child's word that it has handled so many orders and gives the
// profile back, unless there are more.
func (b *busy) leave(handled uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent != handled {
		return false
	}
	b.child = nil
	return true
}

// take notes an order that the child is given; it needs the lock.
func (b *busy) take(o *order) {
	b.sent++
	if o.awaited() {
		b.waiting = append(b.waiting, o)
	}
}

// answered: the outcome of an order is about to be told.
func (b *busy) answered(o *order) {
	if !o.awaited() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = slices.DeleteFunc(b.waiting, func(w *order) bool { return w == o })
}

// failAll tells whoever waits for an order that nothing will come of it.
func (b *busy) failAll(err error) {
	b.mu.Lock()
	waiting := b.waiting
	b.waiting = nil
	b.mu.Unlock()
	for _, o := range waiting {
		o.fail(err)
	}
}

func (b *busy) load() versioned {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// keep replaces the newest state.
func (b *busy) keep(state *profile.State, version uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now.state, b.now.version = *state, version
}

// held is where a state is: packed, or with an actor, or, of a profile of which
// nothing is known, nowhere.
type held struct {
	packed string
	busy   *busy
}

var nothing = &held{}

// versioned is a state and the version of the stream that it is the fold of.
type versioned struct {
	state   profile.State
	version uint64
}

func newEntry(words *profile.Words, id string) *entry {
	e := &entry{id: id, words: words, index: -1, status: statusIndex("")}
	e.newest.Store(nothing)
	return e
}

// load returns the newest durable state.
func (e *entry) load() (v versioned) {
	switch h := e.newest.Load(); {
	case h.busy != nil:
		return h.busy.load()
	case h != nothing:
		v.version = e.words.UnpackInto(e.id, h.packed, &v.state)
	}
	return v
}

func (e *entry) state() profile.State { return e.load().state }

// pack makes the state small.
func (e *entry) pack(v *versioned) {
	e.status = statusIndex(v.state.Status())
	e.newest.Store(&held{packed: e.words.Pack(e.id, v.version, v.state)})
}

// mayBe tells cheaply whether an entry can have a status.
func (e *entry) mayBe(status string) bool {
	return e.newest.Load().busy != nil || e.status == statusIndex(status)
}

var statusIndexes = States()

// statusIndex is beyond States for the status of what does not exist.
func statusIndex(status string) uint8 {
	i := slices.Index(statusIndexes, status)
	if i < 0 {
		i = len(statusIndexes)
	}
	return uint8(i)
}

// engage gives the entry to an actor, with the state v, or the one it has.
func (e *entry) engage(shard *actor.PID, a *profileActor, first *order, v *versioned) *busy {
	b := &busy{entry: e, shard: shard, actor: a, first: first, reload: e.reload, child: a.self}
	b.take(first)
	if v == nil {
		b.now = e.load()
	} else {
		b.now = *v
	}
	if e.busy != nil {
		b.crashes = e.busy.crashes
	}
	b.held.busy = b
	e.reload, e.busy = false, b
	e.newest.Store(&b.held)
	return b
}

// occupied returns what is known of an entry that failed.
func (e *entry) occupied() *busy {
	if e.busy == nil {
		e.busy = new(busy)
	}
	return e.busy
}

// running is the actor that has the profile, nil when none has.
func (e *entry) running() *actor.PID {
	if e.busy == nil {
		return nil
	}
	e.busy.mu.Lock()
	defer e.busy.mu.Unlock()
	return e.busy.child
}

func (e *entry) parked() bool { return e.busy != nil && e.busy.crashes.parked }

// rest forgets what an idle entry need not know.
func (e *entry) rest() {
	if e.busy != nil && e.busy.crashes == (crashes{}) {
		e.busy = nil
	}
}
