package actors

import (
	"slices"
	"strconv"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// crew is the profile actors of a farm. Each has one profile at a time, and is
// then free for the next: spawning and stopping one per attempt costs more than
// the attempt's decisions, and the few that are busy stay in the processor's
// cache. The one that was free last is taken first.
type crew struct {
	farm *Farm
	root *actor.RootContext // with the crew as the supervisor of what it spawns

	mu      sync.Mutex
	idle    []*profileActor
	all     map[string]*profileActor // by PID id
	spawned uint64
}

var _ actor.SupervisorStrategy = (*crew)(nil)

// maxIdle is how many free actors are kept: a target's usual concurrency.
const maxIdle = 512

func newCrew(f *Farm) *crew {
	c := &crew{farm: f, all: map[string]*profileActor{}}
	c.root = f.system.Root.Copy().WithGuardian(c)
	return c
}

// take gives an actor that has no profile.
func (c *crew) take() *profileActor {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.idle); n > 0 {
		a := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return a
	}
	c.spawned++
	a := newProfileActor(c.farm)
	pid, err := c.root.SpawnNamed(c.farm.quickProps(a, &a.mailbox), "profile-"+strconv.FormatUint(c.spawned, 36))
	if err != nil {
		panic("actors: spawn: " + err.Error()) // names never repeat
	}
	a.self = pid
	c.all[pid.Id] = a
	return a
}

// put takes back an actor once its profile is packed, or with another.
func (c *crew) put(a *profileActor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.dead.Load() {
		return
	}
	if len(c.idle) < maxIdle {
		c.idle = append(c.idle, a)
		return
	}
	delete(c.all, a.self.Id)
	c.root.Stop(a.self)
}

// HandleFailure stops an actor that panicked, and tells the shard of its profile.
// It is called on the actor's goroutine. A message that came too late can fail an
// actor that has no profile.
func (c *crew) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason any, _ any) {
	supervisor.StopChildren(child)
	c.mu.Lock()
	a := c.all[child.Id]
	delete(c.all, child.Id)
	if a != nil {
		a.dead.Store(true)
		c.idle = slices.DeleteFunc(c.idle, func(idle *profileActor) bool { return idle == a })
	}
	c.mu.Unlock()
	if a == nil {
		return
	}
	b := &a.busy
	b.mu.Lock()
	given, shard := b.given, b.shard
	b.mu.Unlock()
	if given {
		shard.tell(&failed{busy: b, reason: reason})
	}
}

// failed: the actor of a profile panicked.
type failed struct {
	busy   *busy
	reason any
}

// pids are those of all actors.
func (c *crew) pids() []*actor.PID {
	c.mu.Lock()
	defer c.mu.Unlock()
	pids := make([]*actor.PID, 0, len(c.all))
	for _, a := range c.all {
		pids = append(pids, a.self)
	}
	return pids
}
