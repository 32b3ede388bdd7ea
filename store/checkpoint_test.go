package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// fromTheFuture is an event that this release does not know.
func fromTheFuture(t *testing.T) *messages.ProfileEvent {
	t.Helper()
	wire := protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), []byte("new"))
	event := &messages.ProfileEvent{}
	if err := event.UnmarshalVT(wire); err != nil || event.TypeName() != "" {
		t.Fatalf("%v decodes as %q, %v", wire, event.TypeName(), err)
	}
	return event
}

func checkpoint(t testing.TB, s *store.Store) {
	t.Helper()
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Fatalf("Checkpoint: %v", err)
	}
}

func replay(t testing.TB, s *store.Store) *storetest.Replayed {
	t.Helper()
	r := storetest.NewReplayed()
	if err := s.Replay(t.Context(), r); err != nil {
		t.Fatalf("Replay: %v", err)
	}
	return r
}

func verifyClean(t testing.TB, path string) store.Report {
	t.Helper()
	report, err := store.Verify(path)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	for _, f := range report.Findings {
		t.Errorf("Verify: %v", f)
	}
	return report
}

func TestAnUnknownEventStopsItsStreamOnly(t *testing.T) {
	dir := memoryDir(t)
	opts := options(dir)
	opts.Retention = store.Retention{Count: 1, Age: -1}
	s := mustOpen(t, opts)
	mustAppend(t, s, "p/before", 0, 1, 2, 3)
	mustAppend(t, s, "p/stuck", 0, 1)
	checkpoint(t, s)
	mustAppend(t, s, "p/before", 3, 4)
	if err := s.AppendUnchecked(t.Context(), "p/stuck", 1, storetest.At(0), fromTheFuture(t)); err != nil {
		t.Fatal(err)
	}
	first := stats(t, s).Last
	mustAppend(t, s, "p/stuck", 2, 3)
	mustAppend(t, s, "p/after", 0, 1, 2, 3)

	for round := range 3 {
		err := s.Checkpoint(t.Context())
		var stuck *store.StuckError
		if !errors.As(err, &stuck) || !errors.Is(err, messages.ErrUnknownEvent) {
			t.Fatalf("Checkpoint = %v, want a StuckError", err)
		}
		if stuck.Stream != "p/stuck" || stuck.Sequence != first || strings.Contains(err.Error(), "after") {
			t.Errorf("stuck: %v, want p/stuck from %d only", err, first)
		}
		st := stats(t, s)
		if st.StuckStreams != 1 || st.Checkpoint != first-1 || st.First != first {
			t.Errorf("%+v, want a checkpoint before record %d and nothing trimmed from there", st, first)
		}
		_, version, events, err := s.Load(t.Context(), "p/stuck")
		if err != nil || version != 1 || len(events) < 2 || events[0].Profile.TypeName() != "" {
			t.Errorf("Load = version %d, %v, %v: the unknown event must be delivered", version, events, err)
		}
		if _, version, _, _ := s.Load(t.Context(), "p/after"); version != uint64(3+round) {
			t.Errorf("p/after has a snapshot at version %d, want %d", version, 3+round)
		}
		if err := s.Replay(t.Context(), storetest.NewReplayed()); !errors.Is(err, messages.ErrUnknownEvent) {
			t.Errorf("Replay = %v, want the replayer to meet the unknown event", err)
		}
		mustAppend(t, s, "p/after", uint64(3+round), 9)
		mustAppend(t, s, "p/stuck", uint64(3+round), 9)
		if round == 1 {
			s.Close()
			s = mustOpen(t, opts)
		}
	}
	s.Close()

	// A later release knows the event: the stream goes on where it stopped.
	opts.Fold = func(string, []byte, []*messages.Envelope) ([]byte, error) { return []byte("folded"), nil }
	s = mustOpen(t, opts)
	checkpoint(t, s)
	state, version, events, err := s.Load(t.Context(), "p/stuck")
	if string(state) != "folded" || version != 6 || len(events) != 0 || err != nil {
		t.Errorf("Load = %q, %d, %v, %v", state, version, events, err)
	}
	if st := stats(t, s); st.StuckStreams != 0 || st.Checkpoint != st.Last || st.Events != 1 {
		t.Errorf("%+v, want no stream stuck and one event left", st)
	}
}

func TestAPanicOfFoldStopsItsStreamOnly(t *testing.T) {
	opts := options(memoryDir(t))
	opts.Fold = func(stream string, state []byte, events []*messages.Envelope) ([]byte, error) {
		if stream == "p/bad" {
			panic("no such transition")
		}
		return storetest.Fold(stream, state, events)
	}
	s := mustOpen(t, opts)
	mustAppend(t, s, "p/bad", 0, 1)
	mustAppend(t, s, "p/good", 0, 1)
	err := s.Checkpoint(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no such transition") || strings.Contains(err.Error(), "p/good") {
		t.Errorf("Checkpoint = %v", err)
	}
	if _, version, _, _ := s.Load(t.Context(), "p/good"); version != 1 {
		t.Errorf("the other stream has a snapshot at version %d, want 1", version)
	}
}

func TestRetention(t *testing.T) {
	var eventBytes int64
	{
		s := mustOpen(t, options(memoryDir(t)))
		mustAppend(t, s, "p/alice", 0, 1)
		eventBytes = int64(stats(t, s).JournalBytes)
	}
	const block = 100 // more than a block of these events has: it stays as long as one of them
	for name, test := range map[string]struct {
		retention store.Retention
		least     uint64 // events that stay of 6,000
		most      uint64
	}{
		"nothing":       {store.Retention{Count: -1, Age: -1}, 6000, 6000},
		"default":       {store.Retention{Age: -1}, 6000, 6000},
		"count":         {store.Retention{Count: 100, Age: -1}, 100, 100 + block},
		"age":           {store.Retention{Count: -1, Age: time.Hour}, 2000, 2000 + block},
		"bytes":         {store.Retention{Count: -1, Age: -1, Bytes: 1000 * eventBytes}, 800, 1000 + block},
		"age and count": {store.Retention{Count: 3000, Age: time.Hour}, 2000, 2000 + block},
	} {
		t.Run(name, func(t *testing.T) {
			dir := memoryDir(t)
			opts := options(dir)
			opts.Retention = test.retention
			s := mustOpen(t, opts)
			for i := range 6 {
				events := make([]*messages.ProfileEvent, 1000)
				for k := range events {
					events[k] = storetest.Started(uint64(k))
				}
				at := time.Now().Add(-24 * time.Hour)
				if i >= 4 {
					at = time.Now()
				}
				if err := s.Append(t.Context(), "p/alice", uint64(i)*1000, at, events...); err != nil {
					t.Fatal(err)
				}
			}
			before := storetest.LoadStream(t, s, "p/alice")
			if st := stats(t, s); st.Events != 6000 {
				t.Fatalf("%d events before the checkpoint, want all 6000", st.Events)
			}
			checkpoint(t, s)
			st := stats(t, s)
			if st.Events < test.least || st.Events > test.most {
				t.Errorf("%d events are left, want %d to %d", st.Events, test.least, test.most)
			}
			if diff := cmp.Diff(before, storetest.LoadStream(t, s, "p/alice")); diff != "" {
				t.Errorf("the trim changed the state (-want +got):\n%s", diff)
			}
			n := uint64(0)
			if err := s.History(t.Context(), "p/alice", 0, func(*messages.Envelope) bool { n++; return true }); err != nil || n != st.Events {
				t.Errorf("history has %d events, %v; want the %d that are left", n, err, st.Events)
			}
			s.Close()
			verifyClean(t, journalFile(dir))
		})
	}
}

// What a trim frees is used again: the file of a busy store stops growing.
func TestRetentionBoundsTheFile(t *testing.T) {
	opts := options(memoryDir(t))
	opts.Retention = store.Retention{Count: 3000, Age: -1}
	s := mustOpen(t, opts)
	events := make([]*messages.ProfileEvent, 1000)
	for i := range events {
		events[i] = storetest.Started(uint64(i))
	}
	var early int64
	for round := range uint64(60) {
		if err := s.Append(t.Context(), "p/alice", 1000*round, storetest.At(0), events...); err != nil {
			t.Fatal(err)
		}
		checkpoint(t, s)
		if round == 10 {
			early = stats(t, s).FileBytes
		}
	}
	if late := stats(t, s).FileBytes; late > early {
		t.Errorf("the file grew from %d to %d bytes", early, late)
	}
}

func TestRetentionStopsAtTheCheckpoint(t *testing.T) {
	opts := options(memoryDir(t))
	opts.Retention = store.Retention{Count: 1, Age: -1}
	s := mustOpen(t, opts)
	mustAppend(t, s, "p/alice", 0, 1, 2, 3)
	checkpoint(t, s)
	mustAppend(t, s, "p/alice", 3, 4, 5, 6, 7)
	if st := stats(t, s); st.Events != 5 {
		t.Errorf("%d events, want 5: one kept, four after the checkpoint", st.Events)
	}
}

// A stream that ended keeps its version as long as the journal has an event of
// it, and is forgotten with the last one.
func TestTheLastTrimBuriesAStream(t *testing.T) {
	for _, kind := range storetest.Kinds() {
		t.Run(kind, func(t *testing.T) { testTheLastTrimBuriesAStream(t, kind+"alice") })
	}
}

func testTheLastTrimBuriesAStream(t *testing.T, ended string) {
	dir := memoryDir(t)
	opts := options(dir)
	opts.Retention = store.Retention{Count: 5, Age: -1}
	s := mustOpen(t, opts)
	mustAppend(t, s, ended, 0, 1, storetest.End)
	mustAppend(t, s, "p/bob", 0, 1, 2, 3, 4)
	checkpoint(t, s) // trims the first event of the stream
	if st := stats(t, s); st.Streams != 2 || st.Snapshots != 2 || st.Events != 5 {
		t.Fatalf("%+v, want a tombstone", st)
	}
	s.Close()
	s = mustOpen(t, opts)
	if got := storetest.LoadStream(t, s, ended).Version; got != 2 {
		t.Errorf("version %d after a restart, want 2", got)
	}
	mustAppend(t, s, "p/bob", 4, 5)
	checkpoint(t, s)
	if st := stats(t, s); st.Streams != 1 || st.Snapshots != 1 {
		t.Fatalf("%+v, want the tombstone gone", st)
	}
	if err := storetest.Append(t.Context(), s, ended, 2, storetest.At(0), 1); !errors.Is(err, store.ErrConflict) {
		t.Errorf("append with the version of its former life = %v, want ErrConflict", err)
	}
	mustAppend(t, s, ended, 0, 1, 2)
	s.Close()
	verifyClean(t, journalFile(dir))
	s = mustOpen(t, opts)
	if got := storetest.LoadStream(t, s, ended).Version; got != 2 {
		t.Errorf("version %d, want 2", got)
	}
}

// When a checkpoint stops between two slices, some snapshots are newer than
// the checkpoint: events that they cover must not be delivered again.
func TestAnInterruptedCheckpointLosesAndDoublesNothing(t *testing.T) {
	dir := memoryDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	calls, stopAt := 0, 0
	opts := options(dir)
	opts.Fold = func(stream string, state []byte, events []*messages.Envelope) ([]byte, error) {
		if calls++; calls == stopAt {
			cancel()
		}
		return storetest.Fold(stream, state, events)
	}
	s := mustOpen(t, opts)
	const streams = 1300
	appendAll := func(after uint64) {
		t.Helper()
		var group sync.WaitGroup
		for i := range streams {
			if i%2 == 0 && after > 0 {
				continue
			}
			group.Go(func() {
				events := []*messages.ProfileEvent{storetest.Started(after), storetest.Started(after + 1)}
				if err := s.Append(t.Context(), fmt.Sprintf("p/%d", i), after, storetest.At(0), events...); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	appendAll(0)
	checkpoint(t, s)
	appendAll(2)
	want := replay(t, s).Streams
	calls, stopAt = 0, 620 // after one slice of 500
	if err := s.Checkpoint(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Checkpoint = %v, want context.Canceled", err)
	}
	if st := stats(t, s); st.Checkpoint != 2*streams {
		t.Fatalf("the checkpoint moved to %d", st.Checkpoint)
	}
	for range 2 {
		got := replay(t, s)
		if diff := cmp.Diff(want, got.Streams); diff != "" {
			t.Fatalf("streams (-want +got):\n%s", diff)
		}
		if got.Events >= streams || got.Events == 0 {
			t.Fatalf("%d events were delivered, want fewer than %d: some are part of a snapshot", got.Events, streams)
		}
		s.Close()
		verifyClean(t, journalFile(dir))
		s = mustOpen(t, opts)
	}
	stopAt = 0
	checkpoint(t, s)
	got := replay(t, s)
	if diff := cmp.Diff(want, got.Streams); diff != "" || got.Events != 0 {
		t.Fatalf("%d events, streams (-want +got):\n%s", got.Events, diff)
	}
}

func TestTheStoreCheckpointsByItself(t *testing.T) {
	folded := make(chan struct{}, 100)
	opts := options(memoryDir(t))
	opts.CheckpointEvery = 50
	opts.Fold = func(stream string, state []byte, events []*messages.Envelope) ([]byte, error) {
		folded <- struct{}{}
		return storetest.Fold(stream, state, events)
	}
	s := mustOpen(t, opts)
	for i := range uint64(49) {
		mustAppend(t, s, "p/alice", i, i)
	}
	select {
	case <-folded:
		t.Fatal("a checkpoint after 49 events, want 50")
	default:
	}
	mustAppend(t, s, "p/alice", 49, 49)
	<-folded
}

func TestCheckpointNeedsAFold(t *testing.T) {
	opts := options(memoryDir(t))
	opts.Fold = nil
	s := mustOpen(t, opts)
	mustAppend(t, s, "p/alice", 0, 1)
	if err := s.Checkpoint(t.Context()); err == nil {
		t.Error("Checkpoint without Options.Fold succeeded")
	}
}
