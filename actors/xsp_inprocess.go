package actors

import (
	"context"
	"fmt"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// actorAuthenticator asks an actor of this process. Replies come to a process
// of its own, which knows the questions that are out by their unguessable
// references; what does not belong to one is dropped.
type actorAuthenticator struct {
	system  *actor.ActorSystem
	pid     *actor.PID
	replies *actor.PID

	mu  sync.Mutex
	out map[string]chan *messages.AuthReply
}

func newActorAuthenticator(system *actor.ActorSystem, pid *actor.PID, token string) *actorAuthenticator {
	a := &actorAuthenticator{system: system, pid: pid, out: map[string]chan *messages.AuthReply{}}
	a.replies, _ = system.ProcessRegistry.Add(a, "xsp-replies-"+token)
	return a
}

// Answer implements xsp.Authenticator.
func (a *actorAuthenticator) Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	reply := make(chan *messages.AuthReply, 1)
	a.mu.Lock()
	a.out[q.GetRef()] = reply
	a.mu.Unlock()
	defer a.take(q.GetRef())
	a.system.Root.RequestWithCustomSender(a.pid, q, a.replies)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-reply:
		return xsp.Unpack(q, r)
	}
}

// take removes a question, so that only the first reply finds it.
func (a *actorAuthenticator) take(ref string) (chan *messages.AuthReply, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	reply, ok := a.out[ref]
	delete(a.out, ref)
	return reply, ok
}

// SendUserMessage implements actor.Process.
func (a *actorAuthenticator) SendUserMessage(_ *actor.PID, message any) {
	m := actor.UnwrapEnvelopeMessage(message)
	r, ok := xsp.FromMessage(m)
	if _, forWires := m.(*messages.AuthReply); !ok || forWires {
		return
	}
	if reply, asked := a.take(r.GetRef()); asked {
		reply <- r
	}
}

// SendSystemMessage implements actor.Process.
func (*actorAuthenticator) SendSystemMessage(*actor.PID, any) {}

// Stop implements actor.Process.
func (*actorAuthenticator) Stop(*actor.PID) {}

// Close implements io.Closer.
func (a *actorAuthenticator) Close() error {
	a.system.ProcessRegistry.Remove(a.replies)
	a.system.Root.Stop(a.pid)
	return nil
}

// xspSupervision restarts an xSP's actor whenever it fails; the question that
// it was asked ends by its deadline. The reason is logged as a type only: a
// panic's text could hold anything.
type xspSupervision struct {
	farm *Farm
	name string
}

// HandleFailure implements actor.SupervisorStrategy.
func (s xspSupervision) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	s.farm.log.Warn("an xSP's actor failed; it is restarted", "xsp", s.name, "cause", fmt.Sprintf("panic of type %T", reason))
	supervisor.RestartChildren(child)
}
