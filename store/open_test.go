package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

func journalFile(dir string) string { return filepath.Join(dir, "journal.db") }

// edit changes a journal file behind the store's back.
func edit(t *testing.T, dir string, fn func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(journalFile(dir), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// mustAppend appends events one by one, by their numbers.
func mustAppend(t testing.TB, s *store.Store, stream string, after uint64, numbers ...uint64) {
	t.Helper()
	for i, n := range numbers {
		if err := storetest.Append(t.Context(), s, stream, after+uint64(i), storetest.At(i), n); err != nil {
			t.Fatalf("Append(%s after %d): %v", stream, after, err)
		}
	}
}

func TestOpenCreatesPrivateFiles(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "deep", "data")
	s := mustOpen(t, options(dir))
	mustAppend(t, s, "p/alice", 0, 1)
	for path, want := range map[string]os.FileMode{
		dir: 0o700, journalFile(dir): 0o600, filepath.Join(dir, "journal.owner"): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
}

func TestOpenStartsOverAfterAnInterruptedCreation(t *testing.T) {
	dir := memoryDir(t)
	stale := journalFile(dir) + ".new"
	if err := os.WriteFile(stale, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, options(dir))
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished file is still there: %v", err)
	}
}

func TestOpenSaysWhoHoldsTheFolder(t *testing.T) {
	dir := memoryDir(t)
	mustOpen(t, options(dir))
	_, err := store.Open(options(dir))
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "pid ") {
		t.Errorf("Open = %v, want ErrInUse with the folder and the process", err)
	}
}

func TestOpenRefusesAFormatFromTheFuture(t *testing.T) {
	dir := memoryDir(t)
	mustOpen(t, options(dir)).Close()
	edit(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("format"), binary.BigEndian.AppendUint64(nil, 7))
	})
	_, err := store.Open(options(dir))
	if err == nil || !strings.Contains(err.Error(), "format 7") || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("Open = %v, want an error that names both formats", err)
	}
}

func TestOpenRefusesForeignFiles(t *testing.T) {
	good := memoryDir(t)
	s := mustOpen(t, options(good))
	for i := range uint64(300) {
		mustAppend(t, s, "p/alice", i, i)
	}
	s.Close()
	journal, err := os.ReadFile(journalFile(good))
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 1<<16)
	if _, err := rand.NewChaCha8([32]byte{}).Read(random); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(memoryDir(t), "foreign.db")
	db, err := bolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	otherBolt, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty":             {},
		"short":             []byte("hello"),
		"random":            random,
		"random after head": append(journal[:8192:8192], random...),
		"truncated":         journal[:20000],
		"one page":          journal[:4096],
		"zeroes":            make([]byte, 1<<16),
		"another program's": otherBolt,
	} {
		t.Run(name, func(t *testing.T) {
			dir := memoryDir(t)
			if err := os.WriteFile(journalFile(dir), content, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time, to see that the first left nothing
				_, err := store.Open(options(dir))
				var damage *store.DamageError
				if !errors.As(err, &damage) || !strings.Contains(err.Error(), "muster journal verify") {
					t.Fatalf("Open = %v, want a DamageError that says what to do", err)
				}
			}
			if report, err := store.Verify(journalFile(dir)); err != nil || report.OK() {
				t.Errorf("Verify = %+v, %v, want findings", report, err)
			}
		})
	}
}

func TestOpenRefusesADamagedHeadUnlessTold(t *testing.T) {
	for head := range 2 {
		dir := memoryDir(t)
		s := mustOpen(t, options(dir))
		mustAppend(t, s, "p/alice", 0, 1, 2, 3)
		s.Close()
		f, err := os.OpenFile(journalFile(dir), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xff}, int64(head*os.Getpagesize()+16+50)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		var damage *store.DamageError
		if _, err := store.Open(options(dir)); !errors.As(err, &damage) {
			t.Errorf("head %d: Open = %v, want a DamageError", head, err)
		}
		opts := options(dir)
		opts.AcceptOlderHead = true
		s = mustOpen(t, opts)
		if got := storetest.LoadStream(t, s, "p/alice").Version; got < 2 || got > 3 {
			t.Errorf("head %d: version %d, want 3, or 2 without the last commit", head, got)
		}
	}
}

// An older snapshot whose checksum is right, as a lost write would leave it, is
// not taken for the newest one.
func TestOpenRefusesAnOutdatedSnapshot(t *testing.T) {
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	mustAppend(t, s, "p/alice", 0, 1)
	checkpoint(t, s)
	s.Close()
	var key, old []byte
	edit(t, dir, func(tx *bolt.Tx) error {
		k, v := tx.Bucket([]byte("snapshots")).Cursor().First()
		key, old = bytes.Clone(k), bytes.Clone(v)
		return nil
	})
	s = mustOpen(t, options(dir))
	mustAppend(t, s, "p/alice", 1, 2)
	checkpoint(t, s)
	s.Close()
	for name, damage := range map[string]func(b *bolt.Bucket) error{
		"outdated": func(b *bolt.Bucket) error { return b.Put(key, old) },
		"missing":  func(b *bolt.Bucket) error { return b.Delete(key) },
	} {
		edit(t, dir, func(tx *bolt.Tx) error { return damage(tx.Bucket([]byte("snapshots"))) })
		var damage *store.DamageError
		if _, err := store.Open(options(dir)); !errors.As(err, &damage) {
			t.Errorf("Open with the %s snapshot = %v, want a DamageError", name, err)
		}
		if report, err := store.Verify(journalFile(dir)); err != nil || report.OK() {
			t.Errorf("Verify with the %s snapshot = %+v, %v, want findings", name, report, err)
		}
	}
}

func TestEpochs(t *testing.T) {
	dir := memoryDir(t)
	open := func(epoch uint64) (*store.Store, error) {
		opts := options(dir)
		opts.Epoch = epoch
		return store.Open(opts)
	}
	s, err := open(3)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "p/alice", 0, 1)
	if err := s.Fence(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), "p/alice", 1, storetest.At(0), storetest.Started(2)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("append with an old epoch = %v, want ErrConflict", err)
	}
	if s.Err() != nil {
		t.Errorf("a fence is no failure: %v", s.Err())
	}
	s.Close()
	if _, err := open(3); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Open with an old epoch = %v, want ErrConflict", err)
	}
	if s, err = open(5); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "p/alice", 1, 2)
	_, _, events, err := s.Load(t.Context(), "p/alice")
	if err != nil || events[0].Epoch != 3 || events[1].Epoch != 5 {
		t.Errorf("epochs %v, %v, want 3 and 5", events, err)
	}
	s.Close()
	if _, err := open(4); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Open with an old epoch = %v, want ErrConflict", err)
	}
}

func TestOptionsAreValidatedTogether(t *testing.T) {
	_, err := store.Open(store.Options{Key: []byte("short")})
	if err == nil || !strings.Contains(err.Error(), "Dir") || !strings.Contains(err.Error(), "Key") {
		t.Errorf("Open = %v, want both faults", err)
	}
}

func TestShardIsForEver(t *testing.T) {
	seen := make(map[uint16]int)
	for i := range 100_000 {
		seen[store.Shard("p/user"+string(rune('a'+i%26))+strings.Repeat("x", i%7)+string(rune(i)))]++
	}
	if len(seen) != store.Shards {
		t.Errorf("100,000 streams hit %d shards of %d", len(seen), store.Shards)
	}
	for stream, want := range map[string]uint16{"p/alice": 896, "p/bob": 195, "s/1": 907, "": 961} {
		if got := store.Shard(stream); got != want {
			t.Errorf("Shard(%q) = %d, want %d", stream, got, want)
		}
	}
}
