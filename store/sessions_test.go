package store_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

func history(t *testing.T, s *store.Store, stream string) []uint64 {
	t.Helper()
	var numbers []uint64
	err := s.History(t.Context(), stream, 0, func(e *messages.Envelope) bool {
		numbers = append(numbers, storetest.Number(e))
		return true
	})
	if err != nil {
		t.Fatalf("History(%s): %v", stream, err)
	}
	return numbers
}

// The history of a session that is over can be read for as long as retention
// keeps its events: after the snapshot is dropped, after a restart, and while
// the trim takes one event after the other.
func TestAppendSession_HistoryOutlivesTheSession(t *testing.T) {
	dir := memoryDir(t)
	opts := options(dir)
	opts.Retention = store.Retention{Count: 5, Age: -1}
	s := mustOpen(t, opts)
	mustAppend(t, s, "s/over", 0, 1, 2, 3, storetest.End)
	checkpoint(t, s)
	if r := replay(t, s); len(r.Streams) != 0 {
		t.Errorf("a session that is over was replayed: %v", r.Streams)
	}
	for version, want := range [][]uint64{
		{storetest.End, 3, 2, 1}, // together with one event of s/up that is all
		{storetest.End, 3, 2},
		{storetest.End, 3},
		{storetest.End},
		nil,
	} {
		mustAppend(t, s, "s/up", uint64(version), 9)
		checkpoint(t, s)
		if got := history(t, s, "s/over"); !slices.Equal(got, want) {
			t.Errorf("with %d events of another stream the history is %v, want %v", version+1, got, want)
		}
		s.Close()
		verifyClean(t, journalFile(dir))
		s = mustOpen(t, opts)
		if got := history(t, s, "s/over"); !slices.Equal(got, want) {
			t.Errorf("after a restart the history is %v, want %v", got, want)
		}
	}
	if st := stats(t, s); st.Streams != 1 || st.Snapshots != 1 {
		t.Errorf("%+v, want nothing left of the session", st)
	}
}

func TestAppendSession_AnUnknownEventStopsItsStreamOnly(t *testing.T) {
	unknown := &messages.SessionEvent{}
	if err := unknown.UnmarshalVT(protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), []byte("new"))); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, options(memoryDir(t)))
	mustAppend(t, s, "s/stuck", 0, 1)
	if err := s.AppendSessionUnchecked(t.Context(), "s/stuck", 1, storetest.At(0), unknown); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "p/stuck", 0, 1)
	mustAppend(t, s, "s/other", 0, 1, storetest.End)
	err := s.Checkpoint(t.Context())
	var stuck *store.StuckError
	if !errors.As(err, &stuck) || !errors.Is(err, messages.ErrUnknownEvent) || stuck.Stream != "s/stuck" {
		t.Fatalf("Checkpoint = %v, want a StuckError of s/stuck", err)
	}
	if st := stats(t, s); st.StuckStreams != 1 || st.Checkpoint != 0 || st.Snapshots != 2 {
		t.Errorf("%+v, want one stream stuck, and a snapshot and a tombstone", st)
	}
	_, _, events, err := s.Load(t.Context(), "s/stuck")
	if err != nil || len(events) != 2 || events[1].TypeName() != "" || events[1].Session == nil {
		t.Errorf("Load = %v, %v: the unknown event must be delivered", events, err)
	}
}

func TestAppendSession_RefusesAnOldEpoch(t *testing.T) {
	s := mustOpen(t, options(memoryDir(t)))
	mustAppend(t, s, "s/1", 0, 1)
	if err := s.Fence(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := storetest.Append(t.Context(), s, "s/1", 1, storetest.At(0), 2); !errors.Is(err, store.ErrConflict) {
		t.Errorf("append with an old epoch = %v, want ErrConflict", err)
	}
}

// bothKinds is a closed store with a profile, a session that is up and one that
// is over, some of it behind the checkpoint.
func bothKinds(t *testing.T) string {
	t.Helper()
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	mustAppend(t, s, "p/alice", 0, 1)
	mustAppend(t, s, "s/up", 0, 2)
	mustAppend(t, s, "s/over", 0, 3, storetest.End)
	checkpoint(t, s)
	mustAppend(t, s, "s/up", 1, 4)
	s.Close()
	return dir
}

func TestAppendSession_DumpNamesTheEvents(t *testing.T) {
	lines, err := dumpLines(t, journalFile(bothKinds(t)), func(_ uint64, e *messages.Envelope) bool {
		return strings.HasPrefix(e.Stream, "s/")
	})
	if err != nil || len(lines) != 4 {
		t.Fatalf("%d lines, %v; want 4", len(lines), err)
	}
	for i, want := range []string{
		`"stream":"s/up","version":"1",`, `"stream":"s/over","version":"1",`,
		`"session":{"ended":{"reason":"hangup"}}`, `"session":{"requestStarted":{"attempt":"4","method":"INVITE"}}`,
	} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %s, want %s in it", i, lines[i], want)
		}
	}
}

func TestAppendSession_BackupHoldsSessions(t *testing.T) {
	dir := bothKinds(t)
	s := mustOpen(t, options(dir))
	want := replay(t, s).Streams
	copied := memoryDir(t)
	if err := s.BackupTo(t.Context(), journalFile(copied)); err != nil {
		t.Fatal(err)
	}
	report := verifyClean(t, journalFile(copied))
	if report.Streams != 3 || report.Snapshots != 3 || report.Events != 5 {
		t.Errorf("%+v, want three streams", report)
	}
	s = mustOpen(t, options(copied))
	got := replay(t, s).Streams
	if len(got) != 2 || !got["p/alice"].Equal(want["p/alice"]) || !got["s/up"].Equal(want["s/up"]) {
		t.Errorf("the backup has %v, want %v", got, want)
	}
	if got := history(t, s, "s/over"); !slices.Equal(got, []uint64{storetest.End, 3}) {
		t.Errorf("the backup has the history %v", got)
	}
}

func TestAppendSession_VerifyFindsEventsOfAnotherKind(t *testing.T) {
	for name, test := range map[string]struct {
		seq    uint64
		change func(e *messages.Envelope)
		want   string
	}{
		"a profile's in a session": {2, func(e *messages.Envelope) { e.Profile, e.Session = storetest.Started(2), nil }, `record 2, stream "s/up": it is an event of another kind`},
		"both in a session":        {2, func(e *messages.Envelope) { e.Profile = storetest.Started(2) }, `record 2, stream "s/up": it is an event of another kind`},
		"a session's in a profile": {1, func(e *messages.Envelope) { e.Profile, e.Session = nil, storetest.Ended() }, `record 1, stream "p/alice": it is an event of another kind`},
		"none in a session":        {5, func(e *messages.Envelope) { e.Session = nil }, `record 5, stream "s/up": unknown event type`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := bothKinds(t)
			edit(t, dir, func(tx *bolt.Tx) error { return rewrite(tx, test.seq, test.change) })
			report, err := store.Verify(journalFile(dir))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(report.Findings, func(f store.Finding) bool { return strings.Contains(f.String(), test.want) }) {
				t.Errorf("findings %v, want one with %q", report.Findings, test.want)
			}
			// What is wrong with it is for the fold to say: a dump shows it.
			if err := store.Dump(journalFile(dir), &bytes.Buffer{}, nil); err != nil {
				t.Errorf("Dump = %v", err)
			}
		})
	}
}
