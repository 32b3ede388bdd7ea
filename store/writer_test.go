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

// A call costs a secret and appends; they must not wait for a commit each.
func TestSecretsShareTheCommitOfAppends(t *testing.T) {
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	const n = 50
	release := s.Hold(t)
	var group sync.WaitGroup
	try := func(do func() error) {
		group.Go(func() {
			if err := do(); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range n {
		stream, id := fmt.Sprintf("s/%d", i), fmt.Sprint(i)
		try(func() error { return storetest.Append(t.Context(), s, stream, 0, storetest.At(i), 1) })
		try(func() error { return s.PutSecret(t.Context(), id, []byte("secret "+id)) })
		try(func() error { return s.DeleteSecret(t.Context(), "none "+id) })
	}
	s.AwaitQueue(3 * n)
	release()
	group.Wait()
	if st := stats(t, s); st.Batches != 1 || st.Appended != n {
		t.Errorf("%d batches of %d events, want one of %d", st.Batches, st.Appended, n)
	}
	s.Close()
	verifyClean(t, journalFile(dir))
	s = mustOpen(t, options(dir))
	for i := range n {
		if secret, err := s.Secret(fmt.Sprint(i)); err != nil || string(secret) != fmt.Sprint("secret ", i) {
			t.Errorf("secret %d is %q, %v", i, secret, err)
		}
	}
}

// Without a key a secret is refused, and what shares its commit is not.
func TestARefusedSecretFailsAlone(t *testing.T) {
	opts := options(memoryDir(t))
	opts.Key = nil
	s := mustOpen(t, opts)
	release := s.Hold(t)
	var group sync.WaitGroup
	group.Go(func() {
		if err := s.PutSecret(t.Context(), "alice", []byte("a")); !errors.Is(err, store.ErrNoKey) {
			t.Errorf("PutSecret = %v, want ErrNoKey", err)
		}
	})
	group.Go(func() {
		if err := storetest.Append(t.Context(), s, "s/1", 0, storetest.At(0), 1); err != nil {
			t.Errorf("Append = %v", err)
		}
	})
	s.AwaitQueue(2)
	release()
	group.Wait()
	if s.Err() != nil {
		t.Errorf("a missing key is no failure of the store: %v", s.Err())
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

func TestAFailedStoreAnswersAppendsWithoutWaiting(t *testing.T) {
	s := mustOpen(t, options(memoryDir(t)))
	s.Break()
	answer := make(chan error, 1)
	added := []*messages.ProfileEvent{storetest.Started(1)}
	s.AppendThen("p/alice", 0, storetest.At(0), added, func(err error) { answer <- err })
	if err := <-answer; !errors.Is(err, store.ErrFailed) {
		t.Errorf("AppendThen = %v, want ErrFailed", err)
	}
	if err := s.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.AppendThen("p/alice", 0, storetest.At(0), added, func(err error) { answer <- err })
	if err := <-answer; err != nil {
		t.Errorf("AppendThen after Reopen = %v", err)
	}
}

// What done appends is carried out behind what is queued.
func TestAnAppendFromTheAnswerToAnother(t *testing.T) {
	s := mustOpen(t, options(memoryDir(t)))
	const n = 100
	all, version := make(chan error, 1), uint64(0)
	added := []*messages.ProfileEvent{storetest.Started(1)}
	var next func(error)
	next = func(err error) {
		if version++; err != nil || version == n {
			all <- err
			return
		}
		s.AppendThen("p/alice", version, storetest.At(0), added, next)
	}
	s.AppendThen("p/alice", 0, storetest.At(0), added, next)
	if err := <-all; err != nil {
		t.Fatal(err)
	}
	if got := storetest.LoadStream(t, s, "p/alice").Version; got != n {
		t.Errorf("version %d, want %d", got, n)
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
