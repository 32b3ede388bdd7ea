package store

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

// TestRecordsAreEnvelopes compares what the writer puts together with what
// MarshalVT gives, which is what Memory keeps. Whoever appended changes the events
// while they wait.
func TestRecordsAreEnvelopes(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	opts := Options{Dir: t.TempDir(), Epoch: 1 + random.Uint64N(math.MaxUint64), CheckpointEvery: -1, CommitInterval: -1}
	plain := NewMemory(opts)
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const appends = 1000
	answers := make(chan error, appends)
	versions := make(map[string]uint64)
	for range appends {
		name := strings.Repeat("x", 1+random.IntN(3)*random.IntN(150))
		at := time.Unix(0, []int64{0, 1, -1, math.MaxInt64, random.Int64()}[random.IntN(5)])
		n := random.IntN(5)
		if stream := sessionStream + name; random.IntN(3) == 0 {
			events := make([]*messages.SessionEvent, n)
			for i := range events {
				events[i] = messages.NewSessionEvent(&messages.SessionEnded{Status: random.Uint32N(700), Reason: someText(random)})
			}
			if err := plain.AppendSession(t.Context(), stream, versions[stream], at, events...); err != nil {
				t.Fatal(err)
			}
			answers <- s.AppendSession(t.Context(), stream, versions[stream], at, events...)
			versions[stream] += uint64(n)
			continue
		}
		stream, events := profileStream+name, make([]*messages.ProfileEvent, n)
		for i := range events {
			events[i] = messages.NewProfileEvent(&messages.ChallengeReceived{
				Attempt: random.Uint64(), Challenges: []*messages.RecordedChallenge{{Raw: someText(random)}},
			})
			if random.IntN(3) == 0 {
				events[i] = messages.NewProfileEvent(&messages.ProfileForgotten{})
			}
		}
		if err := plain.Append(t.Context(), stream, versions[stream], at, events...); err != nil {
			t.Fatal(err)
		}
		s.AppendThen(stream, versions[stream], at, events, func(err error) { answers <- err })
		versions[stream] += uint64(n)
		for i, e := range events {
			e.Reset()
			events[i] = nil
		}
	}
	for range appends {
		if err := <-answers; err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	compareRecords(t, s, plain.journal)
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

// someText is mostly short, and at times larger than a page.
func someText(random *rand.Rand) string {
	return strings.Repeat("y", random.IntN(1<<random.IntN(14)))
}

func compareRecords(t *testing.T, s *Store, want [][]byte) {
	t.Helper()
	var size uint64
	err := s.view(func(tx *bolt.Tx) error {
		c := newJournalCursor(tx)
		if err := c.seek(1); err != nil {
			return err
		}
		for i, envelope := range want {
			key, record, err := c.next()
			if err != nil {
				return err
			}
			size += uint64(len(record))
			if got, ok := unseal(journalCRC, key, record); !ok || !isJournalKey(key, uint64(i+1)) || !bytes.Equal(got, envelope) {
				t.Fatalf("record %d: %x under %x, checksum right: %v; want %x", i+1, got, key, ok, envelope)
			}
		}
		if key, _, err := c.next(); key != nil || err != nil {
			t.Errorf("%x, %v after the last", key, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := s.Stats(); err != nil || st.JournalBytes != size {
		t.Errorf("%d bytes, %v; want %d", st.JournalBytes, err, size)
	}
}
