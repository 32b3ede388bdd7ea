package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// scratchJournal is a bbolt file with an empty bucket for the journal.
func scratchJournal(t *testing.T) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "journal.db"), 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte(bucketJournal))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// Records are found by their sequence, whatever shares a block, with gaps.
func TestJournalCursorIsAMap(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 20 {
		db, want := scratchJournal(t), make(map[uint64][]byte)
		var w blockWriter
		seq := uint64(random.IntN(3))
		for range round * 5 {
			err := db.Update(func(tx *bolt.Tx) error {
				journal := tx.Bucket([]byte(bucketJournal))
				w.reset()
				for range random.IntN(40) {
					seq++
					record := make([]byte, random.IntN(200))
					if random.IntN(50) == 0 {
						record = make([]byte, random.IntN(9000))
					}
					for i := range record {
						record[i] = byte(seq)
					}
					want[seq] = record
					room, err := w.next(journal, seq, len(record))
					if err != nil {
						return err
					}
					copy(room, record)
				}
				if random.IntN(3) == 0 {
					seq += uint64(random.IntN(5))
				}
				return w.put(journal)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		err := db.View(func(tx *bolt.Tx) error {
			compareJournal(t, newJournalCursor(tx), want, seq+3)
			return nil
		})
		if err != nil || t.Failed() {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		db.Close()
	}
}

func compareJournal(t *testing.T, c *journalCursor, want map[uint64][]byte, end uint64) {
	t.Helper()
	for seq := range end {
		key, record, err := c.find(seq)
		wanted, known := want[seq]
		if err != nil || (record != nil) != known || !bytes.Equal(record, wanted) || known && !isJournalKey(key, seq) {
			t.Fatalf("record %d is %x under %x, %v; want %x", seq, record, key, err, wanted)
		}
		if seq%17 != 0 {
			continue
		}
		if err := c.seek(seq); err != nil {
			t.Fatal(err)
		}
		for next := seq; next < end; next++ {
			wanted, known := want[next]
			if !known {
				continue
			}
			key, record, err := c.next()
			if err != nil || !isJournalKey(key, next) || !bytes.Equal(record, wanted) {
				t.Fatalf("from %d: %x under %x, %v; want record %d, %x", seq, record, key, err, next, wanted)
			}
		}
		if key, _, err := c.next(); key != nil || err != nil {
			t.Fatalf("from %d: %x, %v after the last", seq, key, err)
		}
	}
}

// A block of anything is read to its end or to the first damage.
func FuzzBlock(f *testing.F) {
	key := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, 7), 3)
	f.Add(key, []byte("\x01a\x02bc\x00"))
	f.Add(key, []byte("\x01a\x02bc\x01"))
	f.Add(key, []byte("\x01a\x02bc\x00 more"))
	f.Add(key, []byte("\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add(key[:8], []byte("alone"))
	f.Add(key[:9], []byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 12), []byte("\x01a"))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var b block
		var damage *DamageError
		if err := b.open(key, value); err != nil {
			if !errors.As(err, &damage) {
				t.Fatal(err)
			}
			return
		}
		first, n, single := b.sequence, b.left, b.single
		var again []byte
		read := uint64(0)
		for ; b.left > 0; read++ {
			key, record, err := b.next()
			if err != nil {
				if !errors.As(err, &damage) || damage.Sequence != first+read || b.left != 0 {
					t.Fatalf("%v with %d left, want damage of record %d", err, b.left, first+read)
				}
				return
			}
			if !isJournalKey(key, first+read) {
				t.Fatalf("record %d under %x", first+read, key)
			}
			if single {
				if !bytes.Equal(record, value) || b.left != 0 {
					t.Fatalf("%x alone, want %x", record, value)
				}
				return
			}
			again = append(binary.AppendUvarint(again, uint64(len(record))), record...)
		}
		// A length may be written with more bytes than it needs.
		if read != n || len(again) > len(value) {
			t.Fatalf("%d records of %d, %x of %x", read, n, again, value)
		}
	})
}
