package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// owner is a stream as whoever owns it knows it.
type owner struct {
	state   []byte
	version uint64
}

func TestALiveStateSparesTheFold(t *testing.T) {
	var folds []string
	live := map[string]owner{
		"p/new":    {[]byte("new"), 2},
		"p/behind": {[]byte("wrong"), 1}, // misses an event
		"p/ahead":  {[]byte("wrong"), 9}, // cannot be
		"p/ended":  {nil, 2},             // leaves a tombstone
		"s/empty":  {[]byte{}, 2},        // is no end
	}
	opts := options(memoryDir(t))
	opts.Live = func(stream string) ([]byte, uint64, bool) {
		if stream == "p/panic" {
			panic("no such shard")
		}
		o, ok := live[stream]
		return o.state, o.version, ok
	}
	opts.Fold = func(stream string, state []byte, events []*messages.Envelope) ([]byte, error) {
		folds = append(folds, stream)
		return storetest.Fold(stream, state, events)
	}
	s := mustOpen(t, opts)
	for _, stream := range []string{"p/ahead", "p/behind", "p/ended", "p/new", "p/nobody", "p/panic", "s/empty"} {
		mustAppend(t, s, stream, 0, 1, 2)
	}
	folded := func(stream string) []byte { return storetest.LoadStream(t, s, stream).State }
	want := map[string][]byte{
		"p/new": []byte("new"), "s/empty": {}, "p/ended": nil,
		"p/nobody": folded("p/nobody"), "p/panic": folded("p/panic"), "p/behind": folded("p/behind"), "p/ahead": folded("p/ahead"),
	}
	checkpoint(t, s)
	if len(folds) < 4 || slices.Contains(folds, "p/new") || slices.Contains(folds, "p/ended") || slices.Contains(folds, "s/empty") {
		t.Errorf("folded %v, want those whose owner is not at version 2", folds)
	}
	for stream, state := range want {
		got, version, events, err := s.Load(t.Context(), stream)
		if version != 2 || len(events) != 0 || err != nil || !cmp.Equal(got, state) {
			t.Errorf("%s is %q at version %d, %d events, %v; want %q at 2", stream, got, version, len(events), err, state)
		}
	}
	if st := stats(t, s); st.Checkpoint != st.Last {
		t.Errorf("%+v, want a checkpoint at the end", st)
	}
}

// An owner that stopped at an event it does not know must not carry the
// checkpoint past it.
func TestALiveStateDoesNotHideAStuckStream(t *testing.T) {
	opts := options(memoryDir(t))
	opts.Live = func(string) ([]byte, uint64, bool) { return []byte("parked"), 1, true }
	s := mustOpen(t, opts)
	mustAppend(t, s, "p/stuck", 0, 1)
	if err := s.AppendUnchecked(t.Context(), "p/stuck", 1, storetest.At(0), fromTheFuture(t)); err != nil {
		t.Fatal(err)
	}
	var stuck *store.StuckError
	if err := s.Checkpoint(t.Context()); !errors.As(err, &stuck) || stats(t, s).Checkpoint != 0 {
		t.Errorf("Checkpoint = %v at %d, want a StuckError and none", err, stats(t, s).Checkpoint)
	}
}

// Owners go on while a checkpoint reads their states, so that snapshots cover
// more than the checkpoint: nothing is lost or told twice.
func TestLiveStatesOfBusyStreams(t *testing.T) {
	const streams, each = 40, 60
	var owners [streams]atomic.Pointer[owner]
	dir := memoryDir(t)
	opts := options(dir)
	opts.Fold = listFold
	opts.Retention = store.Retention{Count: 300, Age: -1}
	opts.Live = func(stream string) ([]byte, uint64, bool) {
		var id int
		if _, err := fmt.Sscanf(stream, "p/%d", &id); err != nil || id%5 == 0 {
			return nil, 0, false
		}
		o := owners[id].Load()
		return o.state, o.version, true
	}
	s := mustOpen(t, opts)
	var group sync.WaitGroup
	for id := range streams {
		owners[id].Store(&owner{})
		group.Go(func() {
			for o := (owner{}); o.version < each; {
				mustAppend(t, s, fmt.Sprintf("p/%d", id), o.version, o.version+1)
				o.version++
				o.state = fmt.Appendf(slices.Clip(o.state), "%d ", o.version)
				owners[id].Store(&owner{o.state, o.version})
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	check := func() {
		t.Helper()
		r := &listReplayer{states: make(map[string]string)}
		if err := s.Replay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		for stream, state := range r.states {
			want := ""
			for i := 1; len(want) < len(state); i++ {
				want += fmt.Sprintf("%d ", i)
			}
			if state != want {
				t.Fatalf("%s was replayed as %q", stream, state)
			}
		}
	}
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		default:
		}
		checkpoint(t, s)
		check()
	}
	s.Close()
	verifyClean(t, journalFile(dir))
	s = mustOpen(t, opts)
	check()
	for id := range streams {
		state, version, events, err := s.Load(t.Context(), fmt.Sprintf("p/%d", id))
		state, _ = listFold("", state, events)
		if want := owners[id].Load(); err != nil || version+uint64(len(events)) != each || string(state) != string(want.state) {
			t.Errorf("p/%d is %q at %d, %v; want %q", id, state, version, err, want.state)
		}
	}
}

// names remembers where the name of each stream is in memory.
type names struct{ seen map[string]*byte }

func (n *names) note(stream string) {
	at := unsafe.StringData(stream)
	if before, ok := n.seen[stream]; ok && before != at {
		panic(stream + " is another string")
	}
	n.seen[stream] = at
}

func (n *names) Snapshot(stream string, _ uint64, _ []byte) error { n.note(stream); return nil }

func (n *names) Event(e *messages.Envelope) error { n.note(e.Stream); return nil }

// A node keeps the names of all its profiles: one copy of each is enough.
func TestReplayGivesTheNamesOfTheIndex(t *testing.T) {
	opts := options(memoryDir(t))
	s := mustOpen(t, opts)
	for i := range 700 {
		mustAppend(t, s, fmt.Sprintf("p/%d", i), 0, 1)
	}
	checkpoint(t, s)
	for i := range 700 {
		mustAppend(t, s, fmt.Sprintf("p/%d", i), 1, 2)
	}
	for i := range 100 {
		mustAppend(t, s, fmt.Sprintf("p/late-%d", i), 0, 1)
	}
	s.Close()
	s = mustOpen(t, opts)
	n := &names{seen: make(map[string]*byte)}
	for range 2 {
		if err := s.Replay(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if len(n.seen) != 800 {
		t.Errorf("%d streams, want 800", len(n.seen))
	}
}
