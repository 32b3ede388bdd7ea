package storetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/sipmuster/muster/messages"
)

func testRefused(t *testing.T, j Journal) {
	ctx, at := t.Context(), At(0)
	huge := string(make([]byte, 5<<20))
	for what, err := range map[string]error{
		"of an event without a type":           j.Append(ctx, "p/alice", 0, at, &messages.ProfileEvent{}),
		"of an event of a session without one": j.AppendSession(ctx, "s/alice", 0, at, &messages.SessionEvent{}),
		"of nil events":                        j.Append(ctx, "p/alice", 0, at, make([]*messages.ProfileEvent, 3)...),
		"of nil events of a session":           j.AppendSession(ctx, "s/alice", 0, at, make([]*messages.SessionEvent, 3)...),
	} {
		if !errors.Is(err, messages.ErrUnknownEvent) {
			t.Errorf("append %s = %v, want ErrUnknownEvent", what, err)
		}
	}
	for what, err := range map[string]error{
		"to a stream without a name":                j.Append(ctx, "", 0, at, Started(1)),
		"to a profile without an id":                j.Append(ctx, "p/", 0, at, Started(1)),
		"to a session without an id":                j.AppendSession(ctx, "s/", 0, at, Requested(1)),
		"of a profile's event to a session":         j.Append(ctx, "s/alice", 0, at, Started(1)),
		"of a session's event to a profile":         j.AppendSession(ctx, "p/alice", 0, at, Requested(1)),
		"of nothing to the other kind of stream":    j.AppendSession(ctx, "p/alice", 0, at),
		"to a stream with a very long name":         j.AppendSession(ctx, "s/"+huge, 0, at, Requested(1)),
		"of five megabytes":                         j.Append(ctx, "p/alice", 0, at, messages.NewProfileEvent(&messages.ProfileForgotten{Reason: huge})),
		"of five megabytes to a session":            j.AppendSession(ctx, "s/alice", 0, at, messages.NewSessionEvent(&messages.SessionEnded{Reason: huge})),
		"of five thousand events, which is a flood": Append(ctx, j, "s/alice", 0, at, make([]uint64, 5000)...),
	} {
		if err == nil {
			t.Errorf("append %s succeeded", what)
		}
	}
	for _, kind := range Kinds() {
		want(t, "version", LoadStream(t, j, kind+"alice").Version, 0)
	}
}

// testBothKinds: a profile and a session of the same id are two streams of one
// journal.
func testBothKinds(t *testing.T, j Journal) {
	mustAppend(t, j, "p/alice", 0, 1, 2)
	mustAppend(t, j, "s/alice", 0, 3)
	mustAppend(t, j, "p/alice", 2, 4)
	mustAppend(t, j, "s/alice", 1, 5, 6)
	for stream, expected := range map[string][]uint64{"p/alice": {1, 2, 4}, "s/alice": {3, 5, 6}} {
		_, _, events, err := j.Load(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		want(t, stream, numbers(events), expected)
		for _, e := range events {
			if (e.Profile != nil) == (e.Session != nil) || (e.Session != nil) != strings.HasPrefix(e.Stream, "s/") {
				t.Errorf("%v holds an event of another kind", e)
			}
		}
	}
	var order []uint64
	err := j.Replay(t.Context(), eventFunc(func(e *messages.Envelope) error {
		order = append(order, Number(e))
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "replayed", order, []uint64{1, 2, 3, 4, 5, 6})
	mustAppend(t, j, "s/alice", 3, End)
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "p/alice", 3, 7)
	r := NewReplayed()
	if err := j.Replay(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	want(t, "snapshots and events", []int{r.Snapshots, r.Events}, []int{1, 1})
	want(t, "the profile goes on", r.Streams["p/alice"].Version, 4)
	var history []uint64
	err = j.History(t.Context(), "s/alice", 0, func(e *messages.Envelope) bool {
		history = append(history, Number(e))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "the history of the session that is over", history, []uint64{End, 6, 5, 3})
}
