// Package storetest is what every journal must do, whether it has a file or
// not: the conformance suite of package store, and the small parts that other
// tests of journals need.
//
// A journal that passes Run keeps the order of each stream, refuses a writer
// with the wrong version and changes nothing then, gives back what was
// appended and nothing that shares memory with it, and goes on counting
// versions over a checkpoint and over the end of a stream. Durability is not
// tested here; that takes a file, and is tested beside it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

// Journal is what the suite tests; *store.Store and *store.Memory have it.
type Journal interface {
	Appender
	AppendThen(stream string, after uint64, at time.Time, added []*messages.ProfileEvent, done func(error))
	Load(ctx context.Context, stream string) (state []byte, version uint64, events []*messages.Envelope, err error)
	Replay(ctx context.Context, r store.Replayer) error
	History(ctx context.Context, stream string, before uint64, yield func(*messages.Envelope) bool) error
	Checkpoint(ctx context.Context) error
	PutSecret(ctx context.Context, id string, secret []byte) error
	PutSecrets(ctx context.Context, secrets map[string][]byte) error
	DeleteSecret(ctx context.Context, id string) error
	DeleteSecrets(ctx context.Context, ids ...string) error
	Secret(id string) ([]byte, error)
	EachSecret(ctx context.Context, fn func(id string, secret []byte) error) error
	Err() error
	Reopen(ctx context.Context) error
	Close() error
}

// Factory makes the journals under test.
type Factory struct {
	// Open gives an empty journal that folds with Fold and checkpoints only
	// when asked, and closes it at the end of the test.
	Open func(t *testing.T) Journal
	// Restart closes a journal and opens it again; nil for one without a file.
	Restart func(t *testing.T, j Journal) Journal
}

// Run runs the suite: what is about streams, for both kinds of them.
func Run(t *testing.T, f Factory) {
	for _, kind := range Kinds() {
		for name, test := range map[string]func(t *testing.T, j Journal, kind string){
			"append and load":          testAppendLoad,
			"conflict changes nothing": testConflict,
			"empty append":             testEmptyAppend,
			"history":                  testHistory,
			"replay in order":          testReplay,
			"checkpoint":               testCheckpoint,
			"end and new beginning":    testEnd,
			"concurrent streams":       testConcurrentStreams,
			"one stream, many writers": testManyWriters,
			"read while writing":       testReadWhileWriting,
			"nothing shared":           testNothingShared,
			"cancelled context":        testCancelled,
			"closed":                   testClosed,
		} {
			t.Run(kind+name, func(t *testing.T) { test(t, f.Open(t), kind) })
		}
	}
	for name, test := range map[string]func(*testing.T, Journal){
		"refused appends":           testRefused,
		"appends without waiting":   testAppendThen,
		"both kinds":                testBothKinds,
		"secrets":                   testSecrets,
		"reopen of a healthy store": testReopenHealthy,
	} {
		t.Run(name, func(t *testing.T) { test(t, f.Open(t)) })
	}
	if f.Restart != nil {
		t.Run("restart", func(t *testing.T) { testRestart(t, f.Open(t), f.Restart) })
	}
}

func mustAppend(t testing.TB, j Journal, stream string, after uint64, numbers ...uint64) {
	t.Helper()
	if err := Append(t.Context(), j, stream, after, At(int(after)), numbers...); err != nil {
		t.Fatalf("Append(%s after %d): %v", stream, after, err)
	}
}

func numbers(events []*messages.Envelope) []uint64 {
	var numbers []uint64
	for _, e := range events {
		numbers = append(numbers, Number(e))
	}
	return numbers
}

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func testAppendLoad(t *testing.T, j Journal, kind string) {
	mustAppend(t, j, kind+"alice", 0, 1, 2)
	mustAppend(t, j, kind+"bob", 0, 9)
	mustAppend(t, j, kind+"alice", 2, 3)
	state, version, events, err := j.Load(t.Context(), kind+"alice")
	if err != nil || state != nil || version != 0 {
		t.Fatalf("Load = %q, %d, %v", state, version, err)
	}
	want(t, "attempts", numbers(events), []uint64{1, 2, 3})
	third := events[2]
	want(t, "version", third.Version, 3)
	want(t, "epoch", third.Epoch, 1)
	want(t, "previous", third.Previous, 2)
	want(t, "time", third.AtUnixNano, At(2).UnixNano())
	_, version, events, err = j.Load(t.Context(), kind+"nobody")
	if err != nil || version != 0 || len(events) != 0 {
		t.Fatalf("Load of an unknown stream = %d, %v, %v", version, events, err)
	}
}

func testConflict(t *testing.T, j Journal, kind string) {
	mustAppend(t, j, kind+"alice", 0, 1)
	for _, after := range []uint64{0, 2, 100} {
		err := Append(t.Context(), j, kind+"alice", after, At(0), 7)
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("Append after %d = %v, want ErrConflict", after, err)
		}
	}
	want(t, "version", LoadStream(t, j, kind+"alice").Version, 1)
	mustAppend(t, j, kind+"alice", 1, 2)
}

func testEmptyAppend(t *testing.T, j Journal, kind string) {
	mustAppend(t, j, kind+"alice", 0)
	mustAppend(t, j, kind+"alice", 0, 1)
	mustAppend(t, j, kind+"alice", 1)
	if err := Append(t.Context(), j, kind+"alice", 0, At(0)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("empty append after the wrong version = %v, want ErrConflict", err)
	}
	want(t, "version", LoadStream(t, j, kind+"alice").Version, 1)
}

func testHistory(t *testing.T, j Journal, kind string) {
	const n = 1200 // more than two pages
	for i := range uint64(n / 2) {
		mustAppend(t, j, kind+"alice", 2*i, 2*i+1, 2*i+2)
		mustAppend(t, j, kind+"bob", i, i)
	}
	history := func(before uint64, limit int) []uint64 {
		t.Helper()
		var got []*messages.Envelope
		err := j.History(t.Context(), kind+"alice", before, func(e *messages.Envelope) bool {
			got = append(got, e)
			return len(got) < limit
		})
		if err != nil {
			t.Fatalf("History: %v", err)
		}
		return numbers(got)
	}
	want(t, "newest three", history(0, 3), []uint64{1200, 1199, 1198})
	want(t, "before 3", history(3, 10), []uint64{2, 1})
	want(t, "before 1", history(1, 10), nil)
	if got := history(0, n+1); len(got) != n || !slices.IsSortedFunc(got, func(a, b uint64) int { return int(b) - int(a) }) {
		t.Fatalf("the whole history has %d events, want %d, newest first", len(got), n)
	}
	if err := j.History(t.Context(), kind+"nobody", 0, func(*messages.Envelope) bool { t.Error("an event"); return true }); err != nil {
		t.Error(err)
	}
}

func testReplay(t *testing.T, j Journal, kind string) {
	for i := range uint64(600) {
		mustAppend(t, j, fmt.Sprint(kind, i%50), i/50, i)
	}
	next := uint64(0)
	err := j.Replay(t.Context(), eventFunc(func(e *messages.Envelope) error {
		if got := Number(e); got != next {
			return fmt.Errorf("event %d where %d should be", got, next)
		}
		next++
		return nil
	}))
	if err != nil || next != 600 {
		t.Fatalf("Replay ended after %d events: %v", next, err)
	}
	stop := errors.New("stop")
	if err := j.Replay(t.Context(), eventFunc(func(*messages.Envelope) error { return stop })); !errors.Is(err, stop) {
		t.Fatalf("Replay = %v, want the replayer's error", err)
	}
}

// eventFunc is a Replayer for a journal without snapshots.
type eventFunc func(*messages.Envelope) error

func (f eventFunc) Event(e *messages.Envelope) error { return f(e) }

func (f eventFunc) Snapshot(stream string, _ uint64, _ []byte) error {
	return fmt.Errorf("a snapshot of %s", stream)
}

func testNothingShared(t *testing.T, j Journal, kind string) {
	started, requested := Started(1), Requested(1)
	var err error
	if kind == "s/" {
		err = j.AppendSession(t.Context(), kind+"alice", 0, At(0), requested)
	} else {
		err = j.Append(t.Context(), kind+"alice", 0, At(0), started)
	}
	if err != nil {
		t.Fatal(err)
	}
	started.GetAttemptStarted().Attempt, requested.GetRequestStarted().Attempt = 99, 99
	_, _, events, _ := j.Load(t.Context(), kind+"alice")
	want(t, "after the caller changed its event", numbers(events), []uint64{1})
	if events[0].Session != nil {
		events[0].Session.GetRequestStarted().Attempt = 98
	} else {
		events[0].Profile.GetAttemptStarted().Attempt = 98
	}
	_, _, events, _ = j.Load(t.Context(), kind+"alice")
	want(t, "after a reader changed its event", numbers(events), []uint64{1})
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	state, _, _, _ := j.Load(t.Context(), kind+"alice")
	kept := slices.Clone(state)
	clear(state)
	state, _, _, _ = j.Load(t.Context(), kind+"alice")
	want(t, "after a reader changed its state", state, kept)
}

func testCancelled(t *testing.T, j Journal, kind string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Append(ctx, j, kind+"alice", 0, At(0), 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("Append = %v, want context.Canceled", err)
	}
	mustAppend(t, j, kind+"alice", 0, 1)
}

func testClosed(t *testing.T, j Journal, kind string) {
	mustAppend(t, j, kind+"alice", 0, 1)
	for range 2 {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, _, _, loadErr := j.Load(t.Context(), kind+"alice")
	for what, err := range map[string]error{
		"Append":     Append(t.Context(), j, kind+"alice", 1, At(0), 2),
		"Load":       loadErr,
		"Replay":     j.Replay(t.Context(), NewReplayed()),
		"Checkpoint": j.Checkpoint(t.Context()),
		"History":    j.History(t.Context(), kind+"alice", 0, func(*messages.Envelope) bool { return true }),
		"PutSecret":  j.PutSecret(t.Context(), "alice", nil),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close = %v, want ErrClosed", what, err)
		}
	}
}

func testReopenHealthy(t *testing.T, j Journal) {
	mustAppend(t, j, "p/alice", 0, 1)
	if err := j.Reopen(t.Context()); err != nil || j.Err() != nil {
		t.Fatal(err, j.Err())
	}
	mustAppend(t, j, "p/alice", 1, 2)
}

func testRestart(t *testing.T, j Journal, restart func(*testing.T, Journal) Journal) {
	for i := range uint64(20) {
		mustAppend(t, j, fmt.Sprintf("p/%d", i), 0, i)
	}
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "p/3", 1, 100, 101)
	mustAppend(t, j, "p/new", 0, 102)
	mustAppend(t, j, "s/up", 0, 103, 104)
	mustAppend(t, j, "s/over", 0, 105, End)
	if err := j.PutSecret(t.Context(), "alice", []byte("wonderland")); err != nil {
		t.Fatal(err)
	}
	before := NewReplayed()
	if err := j.Replay(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	j = restart(t, j)
	after := NewReplayed()
	if err := j.Replay(t.Context(), after); err != nil {
		t.Fatal(err)
	}
	want(t, "streams", after.Streams, before.Streams)
	if secret, err := j.Secret("alice"); err != nil || string(secret) != "wonderland" {
		t.Fatalf("Secret = %q, %v", secret, err)
	}
	mustAppend(t, j, "p/3", 3, 106)
	mustAppend(t, j, "p/new", 1, 107)
	mustAppend(t, j, "s/up", 2, 108, End)
}
