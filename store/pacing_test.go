package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

const interval = 10 * time.Millisecond

// paced runs a test on a store that paces its commits, in virtual time: a commit
// takes none. began lists when each commit of appends was.
func paced(t *testing.T, test func(t *testing.T, s *store.Store, began *[]time.Time)) {
	synctest.Test(t, func(t *testing.T) {
		var began []time.Time
		opts := options(memoryDir(t))
		opts.CommitInterval = interval
		opts.OnAppend = func(time.Duration, int) { began = append(began, time.Now()) }
		s := mustOpen(t, opts)
		test(t, s, &began)
	})
}

// took is how long something takes in virtual time.
func took(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

// A commit begins on the grid, a fifth of an interval after its multiples, unless
// it is the first after a pause.
func TestCommitsBeginOnTheirGrid(t *testing.T) {
	paced(t, func(t *testing.T, s *store.Store, began *[]time.Time) {
		const callers, each = 50, 20
		var group sync.WaitGroup
		for c := range callers {
			group.Go(func() {
				for i := range uint64(each) {
					time.Sleep(rand.N(3 * interval))
					wait := took(func() { mustAppend(t, s, fmt.Sprintf("p/%d", c), i, i) })
					if wait > interval*9/8 {
						t.Errorf("an append took %v, want at most %v", wait, interval*9/8)
					}
				}
			})
		}
		group.Wait()
		for i, at := range (*began)[1:] {
			apart, phase := at.Sub((*began)[i]), time.Duration(at.UnixNano()%int64(interval))
			if apart < interval && (phase != interval/5 || apart < interval/8) {
				t.Fatalf("commit %d began %v after the one before it, %v after a multiple of %v", i+1, apart, phase, interval)
			}
		}
		if st := stats(t, s); st.Appended != callers*each || len(*began) > callers*each/5 {
			t.Errorf("%d events in %d commits: they hardly share any", st.Appended, len(*began))
		}
	})
}

func TestALoneAppendIsNotDelayed(t *testing.T) {
	paced(t, func(t *testing.T, s *store.Store, _ *[]time.Time) {
		for i := range uint64(3) {
			if d := took(func() { mustAppend(t, s, "p/alice", i, i) }); d != 0 {
				t.Errorf("append %d to an idle store took %v", i, d)
			}
			time.Sleep(interval)
		}
		if d := took(func() { mustAppend(t, s, "p/alice", 3, 3); mustAppend(t, s, "p/alice", 4, 4) }); d != interval/5 {
			t.Errorf("two appends at a multiple of the interval took %v, want %v", d, interval/5)
		}
	})
}

func TestAFullBatchIsNotDelayed(t *testing.T) {
	paced(t, func(t *testing.T, s *store.Store, _ *[]time.Time) {
		mustAppend(t, s, "p/alice", 0, 1)
		events := make([]*messages.ProfileEvent, 1024)
		for i := range events {
			events[i] = storetest.Started(uint64(i))
		}
		var group sync.WaitGroup
		d := took(func() {
			for i := range 4 { // 4,096 events
				group.Go(func() {
					if err := s.Append(t.Context(), fmt.Sprintf("p/%d", i), 0, storetest.At(0), events...); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
		})
		if d != 0 {
			t.Errorf("a burst took %v", d)
		}
	})
}

// What has a transaction of its own waits for no interval, and neither does Close.
func TestJobsAndCloseAreNotDelayed(t *testing.T) {
	paced(t, func(t *testing.T, s *store.Store, _ *[]time.Time) {
		mustAppend(t, s, "p/alice", 0, 1)
		var group sync.WaitGroup
		waiting := func(stream string) {
			group.Go(func() { mustAppend(t, s, stream, 0, 1) })
			s.AwaitQueue(1)
		}
		waiting("p/bob")
		for what, do := range map[string]func() error{
			"Checkpoint": func() error { return s.Checkpoint(t.Context()) },
			"Fence":      func() error { return s.Fence(t.Context(), 1) },
			"Reopen":     func() error { return s.Reopen(t.Context()) },
		} {
			if d := took(func() { _ = do() }); d != 0 {
				t.Errorf("%s took %v", what, d)
			}
		}
		group.Wait()
		waiting("p/carol")
		if d := took(func() { s.Close() }); d != 0 {
			t.Errorf("Close took %v", d)
		}
		group.Wait() // acknowledged all the same
	})
}

func TestAFailureAnswersWhatWaits(t *testing.T) {
	paced(t, func(t *testing.T, s *store.Store, _ *[]time.Time) {
		mustAppend(t, s, "p/alice", 0, 1)
		var group sync.WaitGroup
		for i := range 3 {
			group.Go(func() {
				if err := storetest.Append(t.Context(), s, fmt.Sprintf("p/%d", i), 0, storetest.At(0), 1); !errors.Is(err, store.ErrFailed) {
					t.Errorf("append = %v, want ErrFailed", err)
				}
			})
		}
		s.AwaitQueue(3)
		s.Break()
		group.Wait()
		if d := took(func() {
			if err := s.Reopen(t.Context()); err != nil {
				t.Error(err)
			}
		}); d != 0 {
			t.Errorf("Reopen took %v", d)
		}
		mustAppend(t, s, "p/alice", 1, 2)
	})
}
