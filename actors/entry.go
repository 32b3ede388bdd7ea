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
	// newest holds the newest durable state. The profile's actor writes it while
	// it runs, the shard packs it when the actor has ended, anyone may read it.
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

// busy is what an entry knows while, and shortly after, something happens; nil
// when it is idle and well.
type busy struct {
	// mu lets the child see, when it has nothing left to do, that no order is on
	// its way, so that none is lost when it stops.
	mu sync.Mutex
	// child runs while there is something to do; nil once it has decided to stop.
	child *actor.PID
	// sent counts the orders that the child was given.
	sent uint64

	crashes crashes // the shard's own
}

// leave is the child's word that it has handled so many orders and stops, unless
// there are more.
func (b *busy) leave(handled uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent != handled {
		return false
	}
	b.child = nil
	return true
}

// held is a state in one of two forms.
type held struct {
	packed string
	full   *versioned // nil when packed
}

// versioned is a state and the version of the stream that it is the fold of.
type versioned struct {
	state   profile.State
	version uint64
}

func newEntry(words *profile.Words, id string) *entry {
	e := &entry{id: id, words: words, index: -1}
	e.keep(&versioned{})
	return e
}

// load returns the newest durable state.
func (e *entry) load() (v versioned) {
	h := e.newest.Load()
	if h.full != nil {
		return *h.full
	}
	v.state, v.version = e.words.Unpack(e.id, h.packed)
	return v
}

func (e *entry) state() profile.State { return e.load().state }

// whole is load for whoever only looks while nobody packs: it copies nothing when
// the state is whole already.
func (e *entry) whole() *versioned {
	if h := e.newest.Load(); h.full != nil {
		return h.full
	}
	v := e.load()
	return &v
}

// keep holds a state as it is.
func (e *entry) keep(v *versioned) { e.newest.Store(&held{full: v}) }

// pack makes the state small.
func (e *entry) pack(v *versioned) {
	e.status = statusIndex(v.state.Status())
	e.newest.Store(&held{packed: e.words.Pack(e.id, v.version, v.state)})
}

// mayBe tells cheaply whether an entry can have a status.
func (e *entry) mayBe(status string) bool {
	return e.newest.Load().full != nil || e.status == statusIndex(status)
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

// occupied returns what a busy entry knows.
func (e *entry) occupied() *busy {
	if e.busy == nil {
		e.busy = new(busy)
	}
	return e.busy
}

// running is the profile's actor, nil when none runs.
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
