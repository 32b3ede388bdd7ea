package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// rotten fills a store with some of everything and gives its file and what a
// replay of it must be.
func rotten(t *testing.T) (journal []byte, want map[string]storetest.Stream) {
	t.Helper()
	dir := memoryDir(t)
	opts := options(dir)
	opts.Retention = store.Retention{Count: 350, Age: -1}
	s := mustOpen(t, opts)
	const streams = 60
	for round := range uint64(9) {
		// Every third round is one commit, in blocks.
		var group sync.WaitGroup
		release := func() {}
		if round%3 == 1 {
			release = s.Hold(t)
		}
		for i := range uint64(streams) {
			stream, number := fmt.Sprintf("p/subscriber-%d", i), round
			if i%3 == 0 {
				stream = fmt.Sprintf("s/call-%d", i)
			}
			if (i == 7 || i == 9) && round == 5 {
				number = storetest.End
			}
			group.Go(func() {
				if err := storetest.Append(t.Context(), s, stream, round, storetest.At(int(round)), number); err != nil {
					t.Error(err)
				}
			})
			if round%3 != 1 {
				group.Wait()
			}
		}
		if round%3 == 1 {
			s.AwaitQueue(streams)
		}
		release()
		group.Wait()
		if round == 3 || round == 6 {
			checkpoint(t, s)
		}
	}
	for i := range 40 {
		if err := s.PutSecret(t.Context(), fmt.Sprintf("subscriber-%d", i), fmt.Appendf(nil, "secret %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	want = replay(t, s).Streams
	s.Close()
	verifyClean(t, journalFile(dir))
	journal, err := os.ReadFile(journalFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	return journal[:usedBytes(journal)], want
}

// usedBytes leaves out the end of the file, which was never written.
func usedBytes(journal []byte) int {
	for len(journal) > 0 && journal[len(journal)-1] == 0 {
		journal = journal[:len(journal)-1]
	}
	page := os.Getpagesize()
	return (len(journal) + page) / page * page
}

// One rotten byte, or a lost sector, is found or harmless: what can be read is
// right, whatever it was, and nothing panics.
func TestRotIsFoundOrHarmless(t *testing.T) {
	journal, want := rotten(t)
	rounds := roundsOf(t, "MUSTER_ROT_ROUNDS", 200, 40)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	found := 0
	for round := range rounds {
		damaged := slices.Clone(journal)
		at := random.IntN(len(damaged))
		what := fmt.Sprintf("seed %d, round %d: ", seed, round)
		switch round % 4 {
		case 0:
			sector := damaged[at&^511 : at&^511+512]
			clear(sector)
			what += fmt.Sprintf("zeroed sector at %d", at&^511)
		case 1:
			damaged[at] = byte(random.IntN(256))
			what += fmt.Sprintf("byte at %d", at)
		case 2: // where the structure of a page is
			at = at&^4095 + random.IntN(64)
			damaged[at] ^= 1 << random.IntN(8)
			what += fmt.Sprintf("bit in the header at %d", at)
		case 3:
			damaged[at] ^= 1 << random.IntN(8)
			what += fmt.Sprintf("bit at %d", at)
		}
		dir := memoryDir(t)
		if err := os.WriteFile(journalFile(dir), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := readRotten(t.Context(), dir, want); err != nil {
			var damage *store.DamageError
			if _, wrong := errors.AsType[*wrongAnswer](err); wrong {
				t.Fatalf("%s: %v", what, err)
			}
			found++
			if report, verifyErr := store.Verify(journalFile(dir)); errors.As(err, &damage) && (verifyErr != nil || report.OK()) {
				t.Errorf("%s: %v; Verify: %+v, %v", what, err, report, verifyErr)
			}
		}
		os.RemoveAll(dir)
	}
	t.Logf("%d of %d were found", found, rounds)
	if found < rounds/10 {
		t.Errorf("only %d of %d were found", found, rounds)
	}
}

// wrongAnswer is what must not happen.
type wrongAnswer struct{ text string }

func (w *wrongAnswer) Error() string { return w.text }

// readRotten reads everything; an error is as good as the right answer.
func readRotten(ctx context.Context, dir string, want map[string]storetest.Stream) error {
	opts := options(dir)
	s, err := store.Open(opts)
	if err != nil {
		return err
	}
	defer s.Close()
	r := storetest.NewReplayed()
	if err := s.Replay(ctx, r); err != nil {
		return err
	}
	if !maps.EqualFunc(want, r.Streams, storetest.Stream.Equal) {
		return &wrongAnswer{"replay (-want +got):\n" + cmp.Diff(want, r.Streams)}
	}
	var failed error
	for stream, w := range want {
		state, version, events, err := s.Load(ctx, stream)
		if err != nil {
			failed = err
			continue
		}
		state, _ = storetest.Fold(stream, state, events)
		if got := (storetest.Stream{Version: version + uint64(len(events)), State: state}); !got.Equal(w) {
			return &wrongAnswer{fmt.Sprintf("%s is %v, should be %v", stream, got, w)}
		}
		if !strings.HasSuffix(stream, "3") {
			continue // a sample is enough
		}
		next := w.Version
		err = s.History(ctx, stream, 0, func(e *messages.Envelope) bool {
			if e.Version != next || e.Stream != stream {
				failed = &wrongAnswer{fmt.Sprintf("history of %s has version %d of %s, should have %d", stream, e.Version, e.Stream, next)}
			}
			next--
			return true
		})
		failed = errors.Join(failed, err)
	}
	err = s.EachSecret(ctx, func(id string, secret []byte) error {
		var n int
		if _, err := fmt.Sscanf(id, "subscriber-%d", &n); err != nil || string(secret) != fmt.Sprintf("secret %d", n) {
			return &wrongAnswer{fmt.Sprintf("secret %q of %q", secret, id)}
		}
		return nil
	})
	// It must also be possible to go on writing, or fail with an error.
	appendErr := s.Append(ctx, "p/new", 0, storetest.At(0), storetest.Started(1))
	return errors.Join(failed, err, appendErr, s.Checkpoint(ctx))
}
