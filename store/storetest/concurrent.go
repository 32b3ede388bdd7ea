package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sipmuster/muster/messages"
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

// testAppendThen queues appends without waiting: they are carried out and
// answered in their order, each once.
func testAppendThen(t *testing.T, j Journal) {
	const n = 500
	var answers []string
	all := make(chan struct{})
	done := func(what string) func(error) {
		return func(err error) {
			switch {
			case errors.Is(err, store.ErrConflict):
				what += " conflicts"
			case err != nil:
				what += " fails"
			}
			if answers = append(answers, what); len(answers) == n+2 {
				close(all)
			}
		}
	}
	var expected []string
	version := map[string]uint64{}
	for i := range uint64(n) {
		stream := fmt.Sprint("p/", i%7)
		events := []*messages.ProfileEvent{Started(i)}
		if i%5 == 0 {
			events = append(events, Started(i))
		}
		j.AppendThen(stream, version[stream], At(0), events, done(fmt.Sprint(i)))
		expected = append(expected, fmt.Sprint(i))
		version[stream] += uint64(len(events))
		if i == n/2 {
			j.AppendThen(stream, 0, At(0), events, done("late"))
			expected = append(expected, "late conflicts")
		}
	}
	j.AppendThen("p/0", version["p/0"], At(0), nil, done("nothing"))
	expected = append(expected, "nothing")
	<-all
	want(t, "answers", answers, expected)
	for stream, expected := range version {
		want(t, stream, LoadStream(t, j, stream).Version, expected)
	}

	refused := errors.New("not called")
	j.AppendThen("p/0", version["p/0"], At(0), make([]*messages.ProfileEvent, 1), func(err error) { refused = err })
	if !errors.Is(refused, messages.ErrUnknownEvent) {
		t.Errorf("AppendThen of a nil event = %v, want ErrUnknownEvent before it returns", refused)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	late := errors.New("not called")
	j.AppendThen("p/0", version["p/0"], At(0), []*messages.ProfileEvent{Started(1)}, func(err error) { late = err })
	if !errors.Is(late, store.ErrClosed) {
		t.Errorf("AppendThen after Close = %v, want ErrClosed before it returns", late)
	}
}
