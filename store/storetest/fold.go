package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

// Fold is a fold that forgets nothing: its state is a hash chained over every
// event of the stream since its beginning. It is the same however the events
// are cut into pieces. ProfileForgotten and SessionEnded end a stream.
func Fold(_ string, state []byte, events []*messages.Envelope) ([]byte, error) {
	for _, e := range events {
		switch e.TypeName() {
		case "":
			return nil, messages.ErrUnknownEvent
		case "ProfileForgotten", "SessionEnded":
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

// Kinds are what the name of a stream begins with.
func Kinds() []string { return []string{"p/", "s/"} }

// End is the number of the event that ends a stream.
const End = math.MaxUint64

// Started is an event of a profile with a number in it.
func Started(attempt uint64) *messages.ProfileEvent {
	return messages.NewProfileEvent(&messages.AttemptStarted{Attempt: attempt, Handler: "digest"})
}

// Forgotten is the event that ends the stream of a profile.
func Forgotten() *messages.ProfileEvent {
	return messages.NewProfileEvent(&messages.ProfileForgotten{Reason: "removed"})
}

// Requested is an event of a session with a number in it.
func Requested(attempt uint64) *messages.SessionEvent {
	return messages.NewSessionEvent(&messages.RequestStarted{Attempt: attempt, Method: "INVITE"})
}

// Ended is the event that ends the stream of a session.
func Ended() *messages.SessionEvent {
	return messages.NewSessionEvent(&messages.SessionEnded{Reason: "hangup"})
}

// Number is the number of an event, which may be End, or 0 for another one.
func Number(e *messages.Envelope) uint64 {
	switch e.TypeName() {
	case "ProfileForgotten", "SessionEnded":
		return End
	}
	return max(e.GetProfile().GetAttemptStarted().GetAttempt(), e.GetSession().GetRequestStarted().GetAttempt())
}

// Appender is the part of a journal that Append needs.
type Appender interface {
	Append(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.ProfileEvent) error
	AppendSession(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.SessionEvent) error
}

// Append appends events by their numbers to a stream of either kind.
func Append(ctx context.Context, j Appender, stream string, after uint64, at time.Time, numbers ...uint64) error {
	if strings.HasPrefix(stream, "s/") {
		return j.AppendSession(ctx, stream, after, at, eventsOf(numbers, Requested, Ended)...)
	}
	return j.Append(ctx, stream, after, at, eventsOf(numbers, Started, Forgotten)...)
}

func eventsOf[E any](numbers []uint64, numbered func(uint64) E, end func() E) []E {
	events := make([]E, len(numbers))
	for i, n := range numbers {
		if n == End {
			events[i] = end()
		} else {
			events[i] = numbered(n)
		}
	}
	return events
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
