package actors

import (
	"slices"
	"sync"
	"sync/atomic"

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
	// crashes is nil when there were none.
	crashes *crashes
}

// busy is a profile's time with an actor: from the order that needs one until
// there is nothing left to do. The shard gives it to the actor when that time
// begins, and gets it back when it is over. Each actor has one, which it uses
// again and again, and entry tells whose it is: whoever comes to it from
// entry.newest without being its owner must compare under the lock, because the
// profile may be idle again, and the actor with another.
type busy struct {
	// mu lets the actor see, when it has nothing left to do, that no order is on
	// its way, so that none is lost. It guards what follows.
	mu    sync.Mutex
	entry *entry
	// given is true until the actor gives the profile back, or the shard knows that it
	// failed.
	given bool
	// sent counts the orders that the actor was given, and waiting are those of
	// them whose outcome somebody waits for.
	sent    uint64
	waiting []*order
	// now is the newest durable state. The shard writes the first, then the actor
	// does, and anyone may read it.
	now versioned

	// What follows the shard writes, too, before it tells the actor; the actor
	// forgets first.

	// number tells this time from the others that the actor has had.
	number uint64
	shard  *shardActor
	// first is the order that it begins with; reload is entry.reload at that time.
	first  *order
	reload bool

	// These two stay the same.
	actor *profileActor
	held  held
}

// leave is the actor's word that it has handled so many orders and gives the
// profile back, unless there are more.
func (b *busy) leave(handled uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent != handled {
		return false
	}
	b.given, b.first = false, nil
	return true
}

// take notes an order that the actor is given; it needs the lock.
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

// load copies the newest state of a profile, unless it is another's.
func (b *busy) load(e *entry, v *versioned) (ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entry != e {
		return false
	}
	*v = b.now
	return true
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
	for {
		switch h := e.newest.Load(); {
		case h.busy != nil:
			if !h.busy.load(e, &v) {
				continue // it has become idle meanwhile
			}
		case h != nothing:
			v.version = e.words.UnpackInto(e.id, h.packed, &v.state)
		}
		return v
	}
}

func (e *entry) state() profile.State { return e.load().state }

// pack makes the state small.
func (e *entry) pack(v *versioned) {
	e.status = statusIndex(v.state.Status())
	e.newest.Store(&held{packed: e.words.Pack(e.id, v.version, &v.state)})
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

// engage gives the entry to a free actor, with the state v, or the one it has.
func (e *entry) engage(shard *shardActor, a *profileActor, first *order, v *versioned) *busy {
	b := &a.busy
	if v == nil {
		known := e.load()
		v = &known
	}
	b.mu.Lock()
	b.entry, b.given, b.sent, b.waiting, b.now = e, true, 0, nil, *v
	b.take(first)
	b.number++
	b.shard, b.first, b.reload = shard, first, e.reload
	b.mu.Unlock()
	e.reload, e.busy = false, b
	e.newest.Store(&b.held)
	return b
}

// failures is what is known of an entry that failed.
func (e *entry) failures() *crashes {
	if e.crashes == nil {
		e.crashes = new(crashes)
	}
	return e.crashes
}

// running tells whether an actor has the profile.
func (e *entry) running() bool {
	if e.busy == nil {
		return false
	}
	e.busy.mu.Lock()
	defer e.busy.mu.Unlock()
	return e.busy.given
}

func (e *entry) parked() bool { return e.crashes != nil && e.crashes.parked }

// rest forgets what an idle entry need not know. version is that of its state.
func (e *entry) rest(version uint64) {
	e.busy = nil
	if e.crashes == nil {
		return
	}
	if e.crashes.calm(version); *e.crashes == (crashes{}) {
		e.crashes = nil
	}
}
