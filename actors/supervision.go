package actors

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// crashes is a profile actor's record of failures. After parkAfter in a row
// without anything recorded the profile is parked: it does nothing until an operator
// gives it a command or the node restarts, and a metric says so.
type crashes struct {
	count  int
	parked bool
	// version is the stream's at the latest failure: only what is recorded
	// beyond it shows that the profile works again.
	version uint64
}

const (
	parkAfter    = 6
	firstRestart = 100 * time.Millisecond
	maxRestart   = 30 * time.Second
	storeRestart = 2 * time.Second
)

func (c *crashes) calm(version uint64) {
	if version > c.version {
		*c = crashes{}
	}
}

// failed notes one more and returns how long to wait before the next try. A
// store that failed is not the profile's fault; a stream that somebody else
// owns is nobody's to try again.
func (c *crashes) failed(reason any) time.Duration {
	err, _ := reason.(error)
	switch {
	case errors.Is(err, ErrStoreFailed):
		return storeRestart + rand.N(storeRestart)
	case errors.Is(err, ErrConflict):
		c.parked = true
	}
	c.count++
	if c.count >= parkAfter {
		c.parked = true
	}
	return min(firstRestart<<(c.count-1), maxRestart)
}

// HandleFailure makes the shard the supervisor of its sessions, as the crew is
// that of the profiles: one that panics is stopped, and started again from the
// journal with a growing wait. The reason is logged as a type only: a panic's text
// could hold anything.
func (s *shardActor) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason any, _ any) {
	supervisor.StopChildren(child)
	if e, ok := s.sessionsByPID[child.Id]; ok {
		delete(s.sessionsByPID, child.Id)
		s.sessionFailed(e, reason)
	}
}

var errFailed = errors.New("profile failed")

// failed: the actor of a profile panicked, and is stopped. It may be told twice. The
// entry lets go of the actor, with all that it had in hand.
func (s *shardActor) failed(b *busy, reason any) {
	e := b.entry
	b.mu.Lock()
	given := b.given
	b.given = false
	b.mu.Unlock()
	if !given {
		return
	}
	b.failAll(errFailed) // what was given to it after it panicked
	v, crashes := e.load(), e.failures()
	e.pack(&v)
	e.busy, e.reload = nil, true
	crashes.version = v.version
	wait := crashes.failed(reason)
	s.farm.observer.ActorRestarted(crashes.parked)
	s.farm.turnstile(v.state.Spec.Registrar).release(e.id, false, false, 0)
	log := s.farm.log.With("profile", e.id, "failures", crashes.count, "cause", describePanic(reason))
	if crashes.parked {
		log.Error("profile failed too often and is parked; refresh it or restart the node when the cause is mended")
		s.clearWake(e)
		return
	}
	log.Warn("profile failed; it restarts from the journal", "in", wait)
	s.setWake(e, time.Now().Add(wait))
}

// terminated is told of every session actor that has stopped. Those that failed
// are known already.
func (s *shardActor) terminated(who *actor.PID) {
	if e, ok := s.sessionsByPID[who.Id]; ok {
		delete(s.sessionsByPID, who.Id)
		e.child, e.reload = nil, true
		s.reviveLater(e, firstRestart)
	}
}
