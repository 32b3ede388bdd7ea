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
	const senders, each = 8, 2000
	var last [senders]int
	var inside atomic.Int32
	var done sync.WaitGroup
	done.Add(senders * each)
	pid := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		m, ok := ctx.Message().([2]int)
		if !ok {
			return
		}
		defer done.Done()
		if inside.Add(1) != 1 {
			t.Error("two messages at a time")
		}
		defer inside.Add(-1)
		if m[1] != last[m[0]]+1 {
			t.Errorf("sender %d: message %d after %d", m[0], m[1], last[m[0]])
		}
		last[m[0]] = m[1]
		if m[0] == 0 && m[1]%500 == 0 {
			panic("planted")
		}
	}, actor.WithMailbox(newSlimMailbox)))
	for s := range senders {
		go func() {
			for i := 1; i <= each; i++ {
				system.Root.Send(pid, [2]int{s, i})
			}
		}()
	}
	done.Wait()
	if err := system.Root.StopFuture(pid).Wait(); err != nil {
		t.Error(err)
	}
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
