package actors

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// TestSlimMailbox holds the mailbox to the library's contract: order per
// sender, one message at a time, nothing lost, also across a failure.
func TestSlimMailbox(t *testing.T) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(quiet))
	defer system.Shutdown()
	h := newHearer(t)
	pid := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) { h.receive(ctx.Message()) }, actor.WithMailbox(newSlimMailbox)))
	h.hearAll(func(message any) { system.Root.Send(pid, message) })
	if err := system.Root.StopFuture(pid).Wait(); err != nil {
		t.Error(err)
	}
}

// TestMessagesWithoutContext: the same holds for an actor on loops that takes them
// from its mailbox, and once it has stopped it is told nothing any more.
func TestMessagesWithoutContext(t *testing.T) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(quiet))
	defer system.Shutdown()
	l := newLoops(func() {})
	defer l.close()
	h := newHearer(t)
	pid := system.Root.Spawn(ownMailbox(h, &h.mailbox, l))
	h.hearAll(h.mailbox.PostUserMessage)
	if err := system.Root.StopFuture(pid).Wait(); err != nil {
		t.Error(err)
	}
	ended := h.heard.Load()
	h.mailbox.PostUserMessage([2]int{0, h.last[0] + 1})
	drained := make(chan struct{})
	l.Schedule(func() { close(drained) })
	<-drained
	if n := h.heard.Load(); n != ended {
		t.Errorf("%d messages were heard after the end", n-ended)
	}
}

// hearer checks what it hears of numbered messages by several senders, and panics
// now and then.
type hearer struct {
	mailbox slimMailbox
	t       *testing.T
	last    [8]int
	inside  atomic.Int32
	heard   atomic.Int64
	done    sync.WaitGroup
}

const hearerMessages = 2000

func newHearer(t *testing.T) *hearer {
	h := &hearer{t: t}
	h.done.Add(len(h.last) * hearerMessages)
	return h
}

func (h *hearer) hearAll(send func(any)) {
	for s := range h.last {
		go func() {
			for i := 1; i <= hearerMessages; i++ {
				send([2]int{s, i})
			}
		}()
	}
	h.done.Wait()
}

func (h *hearer) Receive(ctx actor.Context) {
	if _, ok := ctx.Message().(*actor.Stopped); ok {
		h.mailbox.end()
	}
}

func (h *hearer) receive(message any) bool {
	m, ok := message.([2]int)
	if !ok {
		return false
	}
	h.heard.Add(1)
	defer h.done.Done()
	if h.inside.Add(1) != 1 {
		h.t.Error("two messages at a time")
	}
	defer h.inside.Add(-1)
	if m[1] != h.last[m[0]]+1 {
		h.t.Errorf("sender %d: message %d after %d", m[0], m[1], h.last[m[0]])
	}
	h.last[m[0]] = m[1]
	if m[0] == 0 && m[1]%500 == 0 {
		panic("planted")
	}
	return true
}

func BenchmarkSlimMailbox(b *testing.B) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(quiet))
	defer system.Shutdown()
	var seen atomic.Int64
	const actors = 1000
	pids := make([]*actor.PID, actors)
	for i := range pids {
		pids[i] = system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
			if _, ok := ctx.Message().(int); ok {
				seen.Add(1)
			}
		}, actor.WithMailbox(newSlimMailbox)))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		system.Root.Send(pids[i%actors], 1)
	}
	for seen.Load() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
}
