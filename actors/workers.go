package actors

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// workers runs the mailboxes of actors that may wait, those of sessions and xSPs,
// on goroutines that are used again. The library starts a new one for each mailbox
// that wakes, whose stack grows from nothing every time. A worker that an actor
// blocks, in an append, is not waited for: there are as many as there are mailboxes
// that run.
type workers struct {
	mu     sync.Mutex
	idle   []chan func() // the last one that became idle is used first: its stack is warm
	closed bool
}

var _ actor.Dispatcher = (*workers)(nil)

// maxIdleWorkers bounds the goroutines that wait for work.
const maxIdleWorkers = 512

// Schedule implements actor.Dispatcher.
func (w *workers) Schedule(run func()) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		work := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		work <- run
		return
	}
	w.mu.Unlock()
	go w.work(run)
}

// Throughput implements actor.Dispatcher: after so many messages a mailbox lets
// others run.
func (w *workers) Throughput() int { return 300 }

func (w *workers) work(run func()) {
	work := make(chan func(), 1) // Schedule never waits for the worker to arrive
	for {
		run()
		if !w.rest(work) {
			return
		}
		if run = <-work; run == nil {
			return
		}
	}
}

// rest makes a worker idle; false when it shall end.
func (w *workers) rest(work chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= maxIdleWorkers {
		return false
	}
	w.idle = append(w.idle, work)
	return true
}

// close ends the workers; what is scheduled later still runs.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, work := range w.idle {
		close(work)
	}
	w.idle = nil
}
