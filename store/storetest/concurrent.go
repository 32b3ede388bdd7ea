package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sipmuster/muster/store"
)

func testConcurrentStreams(t *testing.T, j Journal, kind string) {
	const writers, each = 32, 40
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range uint64(each) {
				if err := Append(t.Context(), j, fmt.Sprint(kind, w), i, At(int(i)), i); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	group.Wait()
	for w := range writers {
		if got := LoadStream(t, j, fmt.Sprint(kind, w)).Version; got != each {
			t.Errorf("stream %d has version %d, want %d", w, got, each)
		}
	}
}

func testManyWriters(t *testing.T, j Journal, kind string) {
	const writers, rounds = 8, 10
	for round := range uint64(rounds) {
		var group sync.WaitGroup
		var mu sync.Mutex
		won, lost := 0, 0
		for w := range uint64(writers) {
			group.Go(func() {
				err := Append(t.Context(), j, kind+"alice", round, At(0), w)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won++
				case errors.Is(err, store.ErrConflict):
					lost++
				default:
					t.Error(err)
				}
			})
		}
		group.Wait()
		want(t, "won, lost", []int{won, lost}, []int{1, writers - 1})
	}
	want(t, "version", LoadStream(t, j, kind+"alice").Version, rounds)
}

func testReadWhileWriting(t *testing.T, j Journal, kind string) {
	const n = 300
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range uint64(n) {
			if err := Append(context.Background(), j, kind+"alice", i, At(0), i); err != nil {
				t.Error(err)
				return
			}
			if i%100 == 50 {
				if err := j.Checkpoint(context.Background()); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for seen := uint64(0); seen < n && !t.Failed(); {
		got := LoadStream(t, j, kind+"alice").Version
		if got < seen {
			t.Fatalf("version %d after version %d", got, seen)
		}
		seen = got
		if err := j.Replay(t.Context(), NewReplayed()); err != nil {
			t.Fatal(err)
		}
	}
	<-done
}
