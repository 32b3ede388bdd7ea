package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// twoStreams is a closed store: alice has records 1, 3, 5 and 6, bob has 2 and
// 4, the checkpoint is at 4.
func twoStreams(t *testing.T) string {
	t.Helper()
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	mustAppend(t, s, "p/alice", 0, 1)
	mustAppend(t, s, "p/bob", 0, 2)
	mustAppend(t, s, "p/alice", 1, 3)
	mustAppend(t, s, "p/bob", 1, 4)
	checkpoint(t, s)
	mustAppend(t, s, "p/alice", 2, 5, 6)
	putSecrets(t, s, map[string]string{"alice": "a"})
	s.Close()
	return dir
}

func TestVerifyReportsWhatIsThere(t *testing.T) {
	report := verifyClean(t, journalFile(twoStreams(t)))
	if report.FileBytes == 0 {
		t.Error("no size")
	}
	report.FileBytes = 0
	want := store.Report{Epoch: 1, First: 1, Last: 6, Checkpoint: 4, Events: 6, Streams: 2, Snapshots: 2, Secrets: 1}
	if got, _ := json.Marshal(report); string(got) != string(mustJSON(t, want)) {
		t.Errorf("report %s, want %s", got, mustJSON(t, want))
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// rewrite replaces one record of the journal by a changed one whose checksum
// is right.
func rewrite(tx *bolt.Tx, seq uint64, change func(e *messages.Envelope)) error {
	b, key := tx.Bucket([]byte("journal")), store.JournalKey(seq)
	e, err := store.DecodeRecord(key, b.Get(key))
	if err != nil {
		return err
	}
	change(e)
	text, err := e.MarshalVT()
	if err != nil {
		return err
	}
	record := append(make([]byte, 4), text...)
	store.SealRecord(key, record)
	return b.Put(key, record)
}

func TestVerifyFinds(t *testing.T) {
	inJournal := func(change func(b *bolt.Bucket) error) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error { return change(tx.Bucket([]byte("journal"))) }
	}
	for name, test := range map[string]struct {
		damage func(tx *bolt.Tx) error
		want   string // part of one finding
	}{
		"a missing record": {
			inJournal(func(b *bolt.Bucket) error { return b.Delete(store.JournalKey(3)) }),
			"records 3 to 3 are missing",
		},
		"a missing end": {
			inJournal(func(b *bolt.Bucket) error { return b.Delete(store.JournalKey(6)) }),
			"the journal goes from 1 to 5",
		},
		"a changed record": {
			inJournal(func(b *bolt.Bucket) error { return b.Put(store.JournalKey(4), []byte("four but not an envelope")) }),
			"record 4: its checksum does not match",
		},
		"a record under another key": {
			inJournal(func(b *bolt.Bucket) error {
				return b.Put(store.JournalKey(5), bytes.Clone(b.Get(store.JournalKey(6))))
			}),
			"record 5: its checksum does not match",
		},
		"a gap in the versions": {
			func(tx *bolt.Tx) error { return rewrite(tx, 5, func(e *messages.Envelope) { e.Version = 9 }) },
			`record 5, stream "p/alice": it is version 9`,
		},
		"a wrong back pointer": {
			func(tx *bolt.Tx) error { return rewrite(tx, 5, func(e *messages.Envelope) { e.Previous = 2 }) },
			`record 5, stream "p/alice": it is version 3 and points back to 2`,
		},
		"an older epoch": {
			func(tx *bolt.Tx) error { return rewrite(tx, 2, func(e *messages.Envelope) { e.Epoch = 8 }) },
			"epoch 1 comes after epoch 8",
		},
		"an unknown event": {
			func(tx *bolt.Tx) error {
				return rewrite(tx, 6, func(e *messages.Envelope) { e.Profile = &messages.ProfileEvent{} })
			},
			`record 6, stream "p/alice": unknown event type`,
		},
		"a missing snapshot": {
			func(tx *bolt.Tx) error {
				b := tx.Bucket([]byte("snapshots"))
				key, _ := b.Cursor().First()
				return b.Delete(key)
			},
			"should reach version 2",
		},
		"a changed snapshot": {
			func(tx *bolt.Tx) error {
				b := tx.Bucket([]byte("snapshots"))
				key, value := b.Cursor().First()
				value = bytes.Clone(value)
				value[len(value)-1] ^= 1
				return b.Put(key, value)
			},
			"its checksum does not match",
		},
		"a missing bucket": {
			func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("meta")) },
			"its meta bucket has no format",
		},
		"another missing bucket": {
			func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("secrets")) },
			"it has no bucket secrets",
		},
		"a short secret": {
			func(tx *bolt.Tx) error { return tx.Bucket([]byte("secrets")).Put([]byte("bob"), []byte("x")) },
			`the secret of "bob" is too short`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := twoStreams(t)
			edit(t, dir, test.damage)
			report, err := store.Verify(journalFile(dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				if strings.Contains(f.String(), test.want) {
					return
				}
			}
			t.Errorf("findings %v, want one with %q", report.Findings, test.want)
		})
	}
}

func TestReadersFindAChangedRecord(t *testing.T) {
	dir := twoStreams(t)
	edit(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("journal")).Put(store.JournalKey(1), []byte("not an envelope"))
	})
	s := mustOpen(t, options(dir)) // behind the checkpoint: no state depends on it
	err := s.History(t.Context(), "p/alice", 0, func(*messages.Envelope) bool { return true })
	var damage *store.DamageError
	if !errors.As(err, &damage) || damage.Sequence != 1 {
		t.Errorf("History = %v, want a DamageError of record 1", err)
	}
	s.Close()
	edit(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("journal")).Put(store.JournalKey(5), []byte("not an envelope"))
	})
	if _, err := store.Open(options(dir)); !errors.As(err, &damage) || damage.Sequence != 5 {
		t.Errorf("Open = %v, want a DamageError of record 5", err)
	}
}

func TestVerifyAndDumpSayThatANodeIsRunning(t *testing.T) {
	dir := memoryDir(t)
	mustOpen(t, options(dir))
	_, err := store.Verify(journalFile(dir))
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), "stop the node") {
		t.Errorf("Verify = %v, want ErrInUse", err)
	}
	if err := store.Dump(journalFile(dir), &bytes.Buffer{}, nil); !errors.Is(err, store.ErrInUse) {
		t.Errorf("Dump = %v, want ErrInUse", err)
	}
	if _, err := store.Verify(filepath.Join(dir, "none.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Verify without a file = %v", err)
	}
}

func dumpLines(t *testing.T, path string, keep func(uint64, *messages.Envelope) bool) ([]string, error) {
	t.Helper()
	var out bytes.Buffer
	err := store.Dump(path, &out, keep)
	return strings.Split(strings.TrimSpace(out.String()), "\n"), err
}

func TestDump(t *testing.T) {
	dir := twoStreams(t)
	lines, err := dumpLines(t, journalFile(dir), nil)
	if err != nil || len(lines) != 6 {
		t.Fatalf("%d lines, %v; want 6", len(lines), err)
	}
	var line struct {
		Seq      uint64
		Envelope json.RawMessage
	}
	if err := json.Unmarshal([]byte(lines[2]), &line); err != nil {
		t.Fatal(err)
	}
	var e messages.Envelope
	if err := protojson.Unmarshal(line.Envelope, &e); err != nil {
		t.Fatal(err)
	}
	if line.Seq != 3 || e.Stream != "p/alice" || e.Version != 2 || e.Profile.GetAttemptStarted().GetAttempt() != 3 {
		t.Errorf("line 3 is %s", lines[2])
	}
	lines, err = dumpLines(t, journalFile(dir), func(seq uint64, e *messages.Envelope) bool { return seq > 2 && e.Stream == "p/bob" })
	if err != nil || len(lines) != 1 || !strings.Contains(lines[0], `"seq":4`) {
		t.Errorf("filtered: %q, %v", lines, err)
	}
}

func TestDumpSavesWhatItCan(t *testing.T) {
	dir := twoStreams(t)
	edit(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("journal")).Put(store.JournalKey(3), []byte("not an envelope"))
	})
	lines, err := dumpLines(t, journalFile(dir), nil)
	var damage *store.DamageError
	if !errors.As(err, &damage) || damage.Sequence != 3 {
		t.Errorf("Dump = %v, want a DamageError of record 3", err)
	}
	if len(lines) != 6 || !strings.Contains(lines[2], `"damage":`) || !strings.Contains(lines[5], `"envelope":`) {
		t.Errorf("lines %q, want five events and the damage", lines)
	}
}

func TestBackup(t *testing.T) {
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	for i := range uint64(200) {
		mustAppend(t, s, "p/alice", i, i)
		if i == 120 {
			checkpoint(t, s)
		}
	}
	want := replay(t, s).Streams["p/alice"]
	restored := memoryDir(t)
	path := journalFile(restored)
	for range 2 { // the second time over the first one
		if err := s.BackupTo(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, s, "p/alice", 200, 1)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has %v, %v", info, err)
	}
	if err := s.BackupTo(t.Context(), journalFile(dir)); err == nil || s.Append(t.Context(), "p/alice", 201, storetest.At(0), storetest.Started(1)) != nil {
		t.Errorf("a backup over the journal itself: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.BackupTo(cancelled, filepath.Join(restored, "other.db")); !errors.Is(err, context.Canceled) {
		t.Errorf("BackupTo = %v, want context.Canceled", err)
	}
	if left, _ := filepath.Glob(filepath.Join(restored, "*.new")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	verifyClean(t, path)
	copied := mustOpen(t, options(restored))
	got := replay(t, copied).Streams["p/alice"]
	if got.Version != 200 || !bytes.Equal(got.State, want.State) {
		t.Errorf("the backup has %+v, want %+v", got, want)
	}
	mustAppend(t, copied, "p/alice", 200, 7)
}
