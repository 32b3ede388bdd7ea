package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

func stats(t testing.TB, s *store.Store) store.Stats {
	t.Helper()
	st, err := s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestQueuedAppendsShareOneCommit(t *testing.T) {
	var batches []int
	opts := options(memoryDir(t))
	opts.OnAppend = func(d time.Duration, batch int) { batches = append(batches, batch) }
	s := mustOpen(t, opts)
	mustAppend(t, s, "p/0", 0, 1)

	const n = 100
	errs := make([]error, n)
	release := s.Hold(t)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			// Stream 0 is at version 1 already: a conflict in the same batch.
			errs[i] = s.Append(t.Context(), fmt.Sprintf("p/%d", i), 0, storetest.At(i), storetest.Started(1), storetest.Started(2))
		})
	}
	s.AwaitQueue(n)
	release()
	group.Wait()
	for i, err := range errs {
		if conflict := errors.Is(err, store.ErrConflict); conflict != (i == 0) || (err != nil && !conflict) {
			t.Errorf("append %d: %v", i, err)
		}
	}
	s.Close()
	if len(batches) != 2 || batches[1] != 2*(n-1) {
		t.Errorf("batches of %v events, want 1 and %d", batches, 2*(n-1))
	}
}

func TestBatchesAreBounded(t *testing.T) {
	s := mustOpen(t, options(memoryDir(t)))
	release := s.Hold(t)
	var group sync.WaitGroup
	for i := range 10 {
		events := make([]*messages.ProfileEvent, 1000)
		for k := range events {
			events[k] = storetest.Started(uint64(k))
		}
		group.Go(func() {
			if err := s.Append(t.Context(), fmt.Sprintf("p/%d", i), 0, storetest.At(i), events...); err != nil {
				t.Error(err)
			}
		})
	}
	s.AwaitQueue(10)
	release()
	group.Wait()
	if st := stats(t, s); st.LargestBatch != 4000 || st.Batches != 3 || st.Appended != 10_000 {
		t.Errorf("%d batches of at most %d events, want 3 of at most 4000", st.Batches, st.LargestBatch)
	}
}

// Two appends of one stream in one batch: the second follows from the first.
func TestOneBatchMayHoldOneStreamTwice(t *testing.T) {
	s := mustOpen(t, options(memoryDir(t)))
	release := s.Hold(t)
	var group sync.WaitGroup
	for i := range uint64(3) {
		group.Go(func() {
			if err := s.Append(t.Context(), "p/alice", i, storetest.At(0), storetest.Started(i)); err != nil {
				t.Error(err)
			}
		})
		s.AwaitQueue(int(i) + 1)
	}
	release()
	group.Wait()
	if got := storetest.LoadStream(t, s, "p/alice").Version; got != 3 {
		t.Errorf("version %d, want 3", got)
	}
}

func TestCloseFinishesQueuedAppends(t *testing.T) {
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	release := s.Hold(t)
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			if err := s.Append(t.Context(), fmt.Sprintf("p/%d", i), 0, storetest.At(i), storetest.Started(1)); err != nil {
				t.Errorf("append %d: %v", i, err)
			}
		})
	}
	s.AwaitQueue(50)
	group.Go(func() { s.Close() })
	release()
	group.Wait()
	s = mustOpen(t, options(dir))
	if st := stats(t, s); st.Events != 50 {
		t.Errorf("%d events, want 50", st.Events)
	}
}

func TestAContextThatEndsInTheQueueDoesNotTakeTheAppendBack(t *testing.T) {
	s := mustOpen(t, options(memoryDir(t)))
	release := s.Hold(t)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- s.Append(ctx, "p/alice", 0, storetest.At(0), storetest.Started(1)) }()
	s.AwaitQueue(1)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Append = %v, want context.Canceled", err)
	}
	release()
	mustAppend(t, s, "p/bob", 0, 1) // behind it in the queue
	if got := storetest.LoadStream(t, s, "p/alice").Version; got != 1 {
		t.Errorf("version %d, want 1: the outcome was unknown and the event is there", got)
	}
}

func TestStats(t *testing.T) {
	s := mustOpen(t, options(memoryDir(t)))
	mustAppend(t, s, "p/alice", 0, 1, 2)
	mustAppend(t, s, "p/bob", 0, 1)
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := stats(t, s)
	if got.FileBytes == 0 || got.JournalBytes == 0 {
		t.Errorf("sizes are missing: %+v", got)
	}
	got.FileBytes, got.JournalBytes = 0, 0
	want := store.Stats{
		Events: 3, First: 1, Last: 3, Checkpoint: 3, Snapshots: 2, Streams: 2,
		Batches: 3, Appended: 3, LargestBatch: 1,
	}
	if got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}
