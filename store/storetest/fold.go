package storetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

// Fold is a fold that forgets nothing: its state is a hash chained over every
// event of the stream since its beginning. It is the same however the events
// are cut into pieces. ProfileForgotten ends a stream.
func Fold(_ string, state []byte, events []*messages.Envelope) ([]byte, error) {
	for _, e := range events {
		switch e.Profile.TypeName() {
		case "":
			return nil, messages.ErrUnknownEvent
		case "ProfileForgotten":
			state = nil
			continue
		}
		text, err := e.MarshalVT()
		if err != nil {
			return nil, err
		}
		h := fnv.New64a()
		h.Write(state)
		h.Write(text)
		state = binary.BigEndian.AppendUint64(nil, h.Sum64())
	}
	return state, nil
}

// Started is an event with a number in it.
func Started(attempt uint64) *messages.ProfileEvent {
	return messages.NewProfileEvent(&messages.AttemptStarted{Attempt: attempt, Handler: "digest"})
}

// Forgotten is the event that ends a stream.
func Forgotten() *messages.ProfileEvent {
	return messages.NewProfileEvent(&messages.ProfileForgotten{Reason: "removed"})
}

// At is a time of recording, with nanoseconds, a number of seconds after the
// first.
func At(seconds int) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC).Add(time.Duration(seconds) * time.Second)
}

// Stream is what is known of one stream: the fold of its events.
type Stream struct {
	Version uint64
	State   []byte
}

// Equal makes comparing many of them cheap.
func (s Stream) Equal(o Stream) bool {
	return s.Version == o.Version && bytes.Equal(s.State, o.State)
}

// Replayed is a Replayer that folds what it is given and fails on a gap.
type Replayed struct {
	Streams map[string]Stream
	// Snapshots and Events count what was delivered.
	Snapshots, Events int

	last string
}

// NewReplayed makes an empty one.
func NewReplayed() *Replayed { return &Replayed{Streams: make(map[string]Stream)} }

// Snapshot implements store.Replayer.
func (r *Replayed) Snapshot(stream string, version uint64, state []byte) error {
	if r.Events > 0 {
		return fmt.Errorf("snapshot of %s after an event", stream)
	}
	if r.last != "" && (store.Shard(stream) < store.Shard(r.last) || (store.Shard(stream) == store.Shard(r.last) && stream <= r.last)) {
		return fmt.Errorf("snapshot of %s after that of %s", stream, r.last)
	}
	r.last = stream
	r.Snapshots++
	r.Streams[stream] = Stream{Version: version, State: state}
	return nil
}

// Event implements store.Replayer. The first event of a stream without a
// snapshot may have any version: the stream may have ended before.
func (r *Replayed) Event(e *messages.Envelope) error {
	s, ok := r.Streams[e.Stream]
	if ok && e.Version != s.Version+1 {
		return fmt.Errorf("version %d of %s after version %d", e.Version, e.Stream, s.Version)
	}
	state, err := Fold(e.Stream, s.State, []*messages.Envelope{e})
	if err != nil {
		return err
	}
	r.Events++
	r.Streams[e.Stream] = Stream{Version: e.Version, State: state}
	return nil
}

// LoadStream folds what Load gives, failing the test on a gap.
func LoadStream(t testing.TB, j Journal, stream string) Stream {
	t.Helper()
	state, version, events, err := j.Load(t.Context(), stream)
	if err != nil {
		t.Fatalf("Load(%s): %v", stream, err)
	}
	for _, e := range events {
		if version++; e.Version != version || e.Stream != stream {
			t.Fatalf("Load(%s) gave version %d of %s, want version %d", stream, e.Version, e.Stream, version)
		}
	}
	if state, err = Fold(stream, state, events); err != nil {
		t.Fatalf("Fold(%s): %v", stream, err)
	}
	return Stream{Version: version, State: state}
}
