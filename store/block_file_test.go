package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// inBlock appends six events of one stream to twoStreams, which share a block:
// records 7 to 12.
func inBlock(t *testing.T) string {
	t.Helper()
	dir := twoStreams(t)
	s := mustOpen(t, options(dir))
	if err := storetest.Append(t.Context(), s, "p/alice", 4, storetest.At(0), 7, 8, 9, 10, 11, 12); err != nil {
		t.Fatal(err)
	}
	s.Close()
	verifyClean(t, journalFile(dir))
	return dir
}

// Damage in a block is that of one record, unless it is that of a length, behind
// which nothing can be told apart.
func TestRotInsideABlock(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(value []byte, from, to int)
		lines  int // of the dump; one tells the damage
	}{
		"a byte of a record":    {func(value []byte, from, to int) { value[to-1] ^= 4 }, 12},
		"its checksum":          {func(value []byte, from, _ int) { value[from] ^= 4 }, 12},
		"a length beyond it":    {func(value []byte, from, _ int) { value[from-1] = 0x7f }, 9},
		"a length without end":  {func(value []byte, from, _ int) { value[from-1] = 0xff }, 9},
		"a length that is less": {func(value []byte, from, _ int) { value[from-1]-- }, 9},
	} {
		t.Run(name, func(t *testing.T) {
			dir := inBlock(t)
			edit(t, dir, func(tx *bolt.Tx) error {
				key, value, from, to := store.BlockOf(tx, 9)
				test.damage(value, from, to)
				return tx.Bucket([]byte("journal")).Put(key, value)
			})
			report, err := store.Verify(journalFile(dir))
			if err != nil || report.OK() || report.Findings[0].Sequence != 9 {
				t.Errorf("Verify: %+v, %v; want a finding about record 9", report.Findings, err)
			}
			if report.First != 1 || report.Last != 12 {
				t.Errorf("Verify: from %d to %d, want 1 to 12", report.First, report.Last)
			}
			lines, err := dumpLines(t, journalFile(dir), nil)
			var damage *store.DamageError
			if !errors.As(err, &damage) || damage.Sequence != 9 || len(lines) < test.lines || !strings.Contains(lines[8], `"damage":`) {
				t.Errorf("Dump = %v with %d lines, want %d and damage of record 9", err, len(lines), test.lines)
			}
			if _, err := store.Open(options(dir)); !errors.As(err, &damage) || damage.Sequence != 9 {
				t.Errorf("Open = %v, want a DamageError of record 9", err)
			}
		})
	}
}

// The key of a block is under no checksum; what it says must fit.
func TestAWrongKeyOfABlockIsFound(t *testing.T) {
	for at := range 12 {
		dir := inBlock(t)
		edit(t, dir, func(tx *bolt.Tx) error {
			journal := tx.Bucket([]byte("journal"))
			key, value, _, _ := store.BlockOf(tx, 9)
			if err := journal.Delete(key); err != nil {
				return err
			}
			key[at] ^= 1
			return journal.Put(key, value)
		})
		if report, err := store.Verify(journalFile(dir)); err != nil || report.OK() {
			t.Errorf("byte %d: Verify: %+v, %v", at, report, err)
		}
		var damage *store.DamageError
		if _, err := store.Open(options(dir)); !errors.As(err, &damage) {
			t.Errorf("byte %d: Open = %v, want a DamageError", at, err)
		}
	}
}

// A file of an earlier release is read, continued in blocks, trimmed and saved.
func TestAJournalWithoutBlocksGoesOn(t *testing.T) {
	dir := memoryDir(t)
	opts := options(dir)
	opts.Retention.Count = 500
	s := mustOpen(t, opts)
	write := func() {
		for i := range uint64(20) {
			stream := fmt.Sprintf("p/%d", i)
			for range 4 {
				version := storetest.LoadStream(t, s, stream).Version
				if err := storetest.Append(t.Context(), s, stream, version, storetest.At(0), version, version+1, version+2, version+3, version+4); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	write()
	want := replay(t, s).Streams
	s.Close()
	edit(t, dir, store.SplitBlocks)
	verifyClean(t, journalFile(dir))
	s = mustOpen(t, opts)
	if diff := cmp.Diff(want, replay(t, s).Streams); diff != "" {
		t.Fatalf("after the upgrade (-want +got):\n%s", diff)
	}
	n := 0
	if err := s.History(t.Context(), "p/7", 0, func(*messages.Envelope) bool { n++; return true }); err != nil || n != 20 {
		t.Errorf("%d events in the history, %v; want 20", n, err)
	}
	write()
	want = replay(t, s).Streams
	checkpoint(t, s)
	if st := stats(t, s); st.Events < 500 || st.Events > 540 {
		t.Errorf("%d events after the trim, want about 500", st.Events)
	}
	copied := memoryDir(t)
	if err := s.BackupTo(t.Context(), journalFile(copied)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	verifyClean(t, journalFile(dir))
	for _, dir := range []string{dir, copied} {
		if diff := cmp.Diff(want, replay(t, mustOpen(t, options(dir))).Streams); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dir, diff)
		}
	}
}
