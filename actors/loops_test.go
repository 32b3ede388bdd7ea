package actors

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestLoops: everything that is scheduled runs once, by any number of senders,
// on no more goroutines than there are processors.
func TestLoops(t *testing.T) {
	l := newLoops(func() {})
	const senders, each = 8, 5000
	var ran, inside, most atomic.Int64
	var sending sync.WaitGroup
	var done sync.WaitGroup
	done.Add(senders * each)
	for range senders {
		sending.Go(func() {
			for range each {
				l.Schedule(func() {
					defer done.Done()
					for now := inside.Add(1); ; {
						if old := most.Load(); now <= old || most.CompareAndSwap(old, now) {
							break
						}
					}
					ran.Add(1)
					inside.Add(-1)
				})
			}
		})
	}
	sending.Wait()
	done.Wait()
	if n := ran.Load(); n != senders*each {
		t.Errorf("%d runs, want %d", n, senders*each)
	}
	if n := most.Load(); n > int64(runtime.GOMAXPROCS(0)) {
		t.Errorf("%d ran at a time, want at most one for each of %d processors", n, runtime.GOMAXPROCS(0))
	}
}

// TestLoopsAfterClose: what is scheduled late still runs.
func TestLoopsAfterClose(t *testing.T) {
	l := newLoops(func() {})
	ran := make(chan struct{})
	l.Schedule(func() { ran <- struct{}{} })
	<-ran
	l.close()
	l.Schedule(func() { ran <- struct{}{} })
	<-ran
}
