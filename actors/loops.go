package actors

import (
	"runtime"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// loops runs the mailboxes of actors that wait for nothing, one after the other
// on a few goroutines. What falls due together, what arrives together and what
// becomes durable together is so worked off on one warm stack: a goroutine for
// each of them would cost a change of goroutines per message, often on the other
// processor (see ADR 33 for the figures).
type loops struct {
	mu    sync.Mutex
	queue []runner
	// running counts the loops that do not sleep, started all of them.
	running, started int
	wake             chan struct{}
	closed           bool
	// after runs when a loop has worked off what it took.
	after func()
}

var _ actor.Dispatcher = (*loops)(nil)

// runner is what a loop runs: a mailbox that has messages.
type runner interface{ run() }

type runFunc func()

func (f runFunc) run() { f() }

// crowd is how many mailboxes may wait for a loop before another one helps.
const crowd = 96

func newLoops(after func()) *loops {
	return &loops{wake: make(chan struct{}, runtime.GOMAXPROCS(0)), after: after}
}

// Schedule implements actor.Dispatcher.
func (l *loops) Schedule(run func()) { l.schedule(runFunc(run)) }

func (l *loops) schedule(r runner) {
	l.mu.Lock()
	l.queue = append(l.queue, r)
	l.callLocked()
	l.mu.Unlock()
}

// callLocked has one more loop run if those that do are none, or too few.
func (l *loops) callLocked() {
	if l.running > 0 && (len(l.queue) < crowd || l.running == cap(l.wake)) {
		return
	}
	l.running++
	if l.running <= l.started && !l.closed {
		l.wake <- struct{}{} // has room for each loop
		return
	}
	l.started = max(l.started, l.running)
	go l.loop()
}

// Throughput implements actor.Dispatcher: after so many messages a mailbox lets
// others run.
func (l *loops) Throughput() int { return 300 }

func (l *loops) loop() {
	var batch []runner
	for {
		clear(batch)
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.running--
			closed := l.closed
			l.mu.Unlock()
			if closed {
				return
			}
			if _, ok := <-l.wake; !ok {
				return
			}
			continue
		}
		batch = l.takeLocked(batch[:0])
		l.mu.Unlock()
		for _, r := range batch {
			r.run()
		}
		l.after()
	}
}

// takeLocked takes what waits, or when other loops run as well their share.
func (l *loops) takeLocked(batch []runner) []runner {
	n := (len(l.queue) + l.running - 1) / l.running
	batch = append(batch, l.queue[:n]...)
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	return batch
}

// close ends the loops; what is scheduled later still runs.
func (l *loops) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.wake)
}
