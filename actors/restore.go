package actors

import (
	"container/heap"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// restorer rebuilds the shards' entries from the journal. The shards are dealt
// out to one lane per processor, each with a goroutine: what belongs to one stream
// stays in order, and a million states are decoded by all processors.
type restorer struct {
	farm  *Farm
	lanes []*restoreLane
	// failed is set with the first fault, which ends the replay.
	failed atomic.Pointer[error]
	done   sync.WaitGroup
}

// restoreLane restores some of the shards. batch is not handed over yet.
type restoreLane struct {
	work      chan []restored
	batch     []restored
	snapshots profile.Snapshots
}

// restored is a snapshot or an event of one shard.
type restored struct {
	shard    *shardActor
	stream   string
	version  uint64
	snapshot []byte
	event    *messages.Envelope // nil for a snapshot
}

// restoreBatch is how much goes to a lane at a time.
const restoreBatch = 512

func newRestorer(f *Farm) *restorer {
	r := &restorer{farm: f}
	lanes := runtime.GOMAXPROCS(0)
	for i := range lanes {
		l := &restoreLane{work: make(chan []restored, 4)}
		r.lanes = append(r.lanes, l)
		r.done.Go(func() {
			for batch := range l.work {
				for k := range batch {
					if err := r.restore(&batch[k], l); err != nil {
						r.failed.CompareAndSwap(nil, &err)
					}
				}
			}
			now := time.Now()
			for n := i; n < Shards; n += lanes {
				r.finishProfiles(f.restored[n], now)
			}
		})
	}
	return r
}

// Snapshot implements Replayer.
func (r *restorer) Snapshot(stream string, version uint64, b []byte) error {
	return r.deal(restored{stream: stream, version: version, snapshot: b})
}

// Event implements Replayer.
func (r *restorer) Event(env *messages.Envelope) error {
	return r.deal(restored{stream: env.GetStream(), version: env.GetVersion(), event: env})
}

func (r *restorer) deal(item restored) error {
	if err := r.failed.Load(); err != nil {
		return *err
	}
	number, ok := streamShard(item.stream)
	if !ok {
		return nil
	}
	item.shard = r.farm.restored[number]
	l := r.lanes[number%len(r.lanes)]
	if l.batch = append(l.batch, item); len(l.batch) == restoreBatch {
		l.work <- l.batch
		l.batch = make([]restored, 0, restoreBatch)
	}
	return nil
}

// streamShard is the shard that a stream belongs to.
func streamShard(stream string) (int, bool) {
	if id, ok := strings.CutPrefix(stream, "p/"); ok {
		return Shard(id), true
	}
	if id, ok := strings.CutPrefix(stream, "s/"); ok {
		return sessionShard(id)
	}
	return 0, false
}

// wait ends the lanes and returns the first fault.
func (r *restorer) wait() error {
	for _, l := range r.lanes {
		l.work <- l.batch
		close(l.work)
	}
	r.done.Wait()
	if err := r.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// restore runs on the lane of the shard.
func (r *restorer) restore(item *restored, l *restoreLane) error {
	id := item.stream[len("p/"):]
	var err error
	switch profiles := item.stream[0] == 'p'; {
	case profiles && item.event == nil:
		err = r.profileSnapshot(item.shard, id, item, l)
	case profiles:
		r.profileEvent(item.shard, id, item.event)
	case item.event == nil:
		err = r.sessionSnapshot(item.shard, id, item)
	default:
		r.sessionEvent(item.shard, id, item.event)
	}
	if err != nil {
		return fmt.Errorf("snapshot of %s: %w", item.stream, err)
	}
	return nil
}

func (r *restorer) profileSnapshot(s *shardActor, id string, item *restored, l *restoreLane) error {
	state, err := l.snapshots.Unmarshal(item.snapshot)
	if err == nil {
		e := r.entry(s, id)
		e.pack(&versioned{state: state, version: item.version})
		r.replaced(e, &profile.State{}, &state)
	}
	return err
}

func (r *restorer) sessionSnapshot(s *shardActor, id string, item *restored) error {
	state, err := session.Unmarshal(item.snapshot)
	if err == nil {
		r.session(s, id).cell.Store(&sessionVersion{state: state, version: item.version})
	}
	return err
}

// profileEvent folds an event. A stream with one that this release does not know
// is parked: it does nothing, and says so.
func (r *restorer) profileEvent(s *shardActor, id string, env *messages.Envelope) {
	e := r.entry(s, id)
	if e.parked() {
		return
	}
	before := e.state()
	state, known := applyToProfile(before, env)
	if !known {
		r.park(e.failures(), env)
		return
	}
	e.pack(&versioned{state: state, version: env.GetVersion()})
	r.replaced(e, &before, &state)
}

// What entry.wakeAt is until finishProfiles, beside the time of a deadline.
const (
	wakeNever = math.MaxInt64
	wakeNow   = 0
	wakeEnded = -1 // nothing is left of the profile
)

// replaced counts a profile that an event or a snapshot led from one state to
// another, and notes in its entry when it wants to be woken, so that the states
// need not all be unpacked again.
func (r *restorer) replaced(e *entry, before, after *profile.State) {
	from, to, status := before.Spec.Registrar, after.Spec.Registrar, before.Status()
	if from != to && status != "" {
		r.farm.population.move(from, status, "")
		status = ""
	}
	r.farm.population.move(to, status, after.Status())
	switch at, wakes := after.WakeAt(); {
	case !after.Exists() && after.Source != "file":
		e.wakeAt = wakeEnded
	case after.Attempt.Open, wakes && at.IsZero():
		e.wakeAt = wakeNow
	case wakes:
		e.wakeAt = at.UnixNano()
	default:
		e.wakeAt = wakeNever
	}
}

// sessionEvent is profileEvent for a session.
func (r *restorer) sessionEvent(s *shardActor, id string, env *messages.Envelope) {
	e := r.session(s, id)
	if e.crashes.parked {
		return
	}
	state, known := applyToSession(e.cell.Load().state, env)
	if !known {
		r.park(&e.crashes, env)
		return
	}
	e.cell.Store(&sessionVersion{state: state, version: env.GetVersion()})
}

func (r *restorer) entry(s *shardActor, id string) *entry {
	e, known := s.entries[id]
	if !known {
		e = newEntry(&r.farm.words, id)
		e.wakeAt = wakeEnded
		s.entries[id] = e
	}
	return e
}

func (r *restorer) session(s *shardActor, id string) *sessionEntry {
	e, known := s.sessions[id]
	if !known {
		e = &sessionEntry{id: id, cell: &atomic.Pointer[sessionVersion]{}, memory: newSessionMemory(nil)}
		e.cell.Store(&sessionVersion{})
		s.sessions[id] = e
	}
	return e
}

func (r *restorer) park(c *crashes, env *messages.Envelope) {
	r.farm.log.Error("unknown event: the journal was written by a later release; the profile or session is parked",
		"stream", env.GetStream(), "version", env.GetVersion())
	c.parked = true
	r.farm.observer.ActorRestarted(true)
}

// Live gives the newest durable state of a profile's stream as a snapshot, for a
// checkpoint that would otherwise fold it from its events. ok is false when the
// farm has none. Another goroutine may append meanwhile: what counts is the
// version.
func (f *Farm) Live(stream string) (snapshot []byte, version uint64, ok bool) {
	id, isProfile := strings.CutPrefix(stream, "p/")
	if !isProfile || !f.started.Load() {
		return nil, 0, false
	}
	s := f.restored[Shard(id)]
	s.entering.RLock()
	e, known := s.entries[id]
	s.entering.RUnlock()
	if !known {
		return nil, 0, false
	}
	v := e.load()
	snapshot, err := profile.Snapshot(v.state)
	return snapshot, v.version, err == nil
}

// finish counts the profiles, drops the sessions that have ended, and lets the
// others be found.
func (r *restorer) finish() {
	r.farm.population.all.Range(func(registrar, counts any) bool {
		for i, state := range statusIndexes {
			for range (*counts.(*[]atomic.Int64))[i].Load() {
				r.farm.observer.ProfileRestored(registrar.(string), state)
			}
		}
		return true
	})
	for _, s := range r.farm.restored {
		for id, e := range s.sessions {
			state := e.cell.Load().state
			if state.Ended || !state.Exists() && !e.crashes.parked {
				delete(s.sessions, id)
				continue
			}
			r.finishSession(s, e, state)
		}
	}
	r.farm.rejoin()
}

// finishProfiles drops what has ended, and puts the rest where it is woken. It
// runs on the shard's lane.
func (r *restorer) finishProfiles(s *shardActor, now time.Time) {
	index := r.farm.contacts.on.Load()
	for id, e := range s.entries {
		if e.wakeAt == wakeEnded {
			delete(s.entries, id)
			continue
		}
		if index {
			r.farm.indexContact(e)
		}
		switch {
		case e.parked() || e.wakeAt == wakeNever:
			e.wakeAt = 0
		case e.wakeAt <= now.UnixNano():
			s.overdue = append(s.overdue, e)
		default:
			e.index = int32(len(s.wakes))
			s.wakes = append(s.wakes, e)
		}
	}
	heap.Init(&s.wakes)
}

// finishSession lets a session find its profile, and everybody the session.
func (r *restorer) finishSession(s *shardActor, e *sessionEntry, state session.State) {
	e.spec = state.Spec
	if owner, ok := s.entries[e.spec.GetProfile()]; ok {
		e.profile = owner
	} else if e.profile = s.formerEntry(e.spec.GetProfile()); e.profile == nil {
		e.profile = newEntry(&r.farm.words, "") // it was removed, and the session goes on
	}
	f := r.farm
	f.live.Store(e.id, e)
	if !state.Exists() {
		return // it is parked
	}
	f.observer.SessionRestored(state.Status())
	if e.counted = !e.spec.GetTrunkLeg(); e.counted {
		f.counts.restored(e.spec.GetRegistrar(), e.spec.GetProfile())
	}
	if !state.Inbound() && !e.spec.GetTrunkLeg() {
		f.targets.note(e.spec.GetRegistrar(), state.Source)
	}
}
