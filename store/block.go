package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// A value of the journal holds the record of one event, under its sequence (8
// bytes), or a block: the records of several that were committed together, each
// after its length (a varint), under the sequence of the first and their number
// (4 bytes). An entry of bbolt costs a search, five allocations and 28 bytes,
// whatever is in it. Every record keeps a checksum of its own that covers its own
// sequence, so that damage is found, and named, event by event.
const (
	recordKeySize = 8
	blockKeySize  = 12
	// blockBytes bounds a block, unless a single record is larger: four of them,
	// each with its key and the 16 bytes of its element, fill a page of 4 KiB
	// behind the header. Larger ones would be cheaper to put, but bbolt keeps up
	// to four values together on the last page of the journal, which every
	// commit writes again: a block for each commit writes four times as much.
	blockBytes = (4096-pageHeader)/4 - elementSize - blockKeySize
)

// block reads one value of the journal. It is used again for the next one.
type block struct {
	sequence uint64 // of the next record
	left     uint64 // records that were not read yet
	single   bool   // it is a record and no block
	rest     []byte // the bytes of what is left
	key      [recordKeySize]byte
}

// open begins with a value. The records will share its memory.
func (b *block) open(key, value []byte) error {
	first, n, err := parseEntryKey(key)
	if err != nil {
		return err
	}
	b.sequence, b.left, b.single, b.rest = first, n, len(key) == recordKeySize, value
	return nil
}

// parseEntryKey reads the key of a value: the sequence of the first record, and
// how many there are.
func parseEntryKey(key []byte) (first, n uint64, err error) {
	switch len(key) {
	case recordKeySize:
		return binary.BigEndian.Uint64(key), 1, nil
	case blockKeySize:
		first, n = binary.BigEndian.Uint64(key), uint64(binary.BigEndian.Uint32(key[recordKeySize:]))
		if n == 0 || first+n < first {
			return 0, 0, &DamageError{Sequence: first, Reason: fmt.Sprintf("it begins a block of %d records", n)}
		}
		return first, n, nil
	}
	return 0, 0, &DamageError{Reason: fmt.Sprintf("a journal key of %d bytes", len(key))}
}

// next gives the next record, not yet checked, and its journalKey, which is valid
// until the next call. After an error the rest of the block is lost.
func (b *block) next() (key, record []byte, err error) {
	record = b.rest
	if !b.single {
		size, n := binary.Uvarint(b.rest)
		if n <= 0 || size > uint64(len(b.rest)-n) || b.left == 1 && size != uint64(len(b.rest)-n) {
			b.left = 0
			return nil, nil, &DamageError{Sequence: b.sequence, Reason: "it does not end where its block says"}
		}
		record, b.rest = b.rest[n:n+int(size)], b.rest[n+int(size):]
	}
	binary.BigEndian.PutUint64(b.key[:], b.sequence)
	b.sequence++
	b.left--
	return b.key[:], record, nil
}

// blockWriter collects the records of one commit in blocks.
type blockWriter struct {
	values []byte // of the commit; bbolt keeps them until its end
	from   int    // where the block begins that is not put yet
	last   int    // where its last record begins
	first  uint64
	n      uint32
	key    [blockKeySize]byte
}

// reset begins a commit; what was not put belongs to one that failed.
func (w *blockWriter) reset() { w.values, w.from, w.n = w.values[:0], 0, 0 }

// next gives the place of a record, to be filled in before the next call. Its
// sequence follows that of the one before.
func (w *blockWriter) next(journal *bolt.Bucket, seq uint64, size int) (record []byte, err error) {
	if w.n > 0 && len(w.values)-w.from+size+2 > blockBytes {
		if err := w.put(journal); err != nil {
			return nil, err
		}
	}
	if w.n == 0 {
		w.first = seq
	}
	w.n++
	// If it must grow, what bbolt holds stays where it is, in the old array.
	w.values = binary.AppendUvarint(w.values, uint64(size))
	w.last = len(w.values)
	w.values = slices.Grow(w.values, size)[:w.last+size]
	return w.values[w.last:], nil
}

// put gives bbolt what was added since the last put.
func (w *blockWriter) put(journal *bolt.Bucket) error {
	if w.n == 0 {
		return nil
	}
	binary.BigEndian.PutUint64(w.key[:], w.first)
	binary.BigEndian.PutUint32(w.key[recordKeySize:], w.n)
	key, from := w.key[:], w.from
	if w.n == 1 {
		key, from = w.key[:recordKeySize], w.last
	}
	value := w.values[from:len(w.values):len(w.values)]
	w.from, w.n = len(w.values), 0
	return journal.Put(key, value) // which copies the key
}

// journalCursor goes through the records of the journal in a transaction.
type journalCursor struct {
	entries *bolt.Cursor
	block   block
	key     [recordKeySize]byte
}

func newJournalCursor(tx *bolt.Tx) *journalCursor {
	return &journalCursor{entries: tx.Bucket([]byte(bucketJournal)).Cursor()}
}

// seek goes to the record with a sequence, or to the one that comes after where
// it should be.
func (c *journalCursor) seek(seq uint64) error {
	binary.BigEndian.PutUint64(c.key[:], seq)
	key, value := c.entries.Seek(c.key[:])
	if key == nil {
		key, value = c.entries.Last()
	} else if first, _, err := parseEntryKey(key); err != nil {
		return err
	} else if first > seq {
		if k, v := c.entries.Prev(); k != nil {
			key, value = k, v
		} else { // before the oldest
			key, value = c.entries.First()
		}
	}
	c.block.left = 0
	if key == nil {
		return nil
	}
	if err := c.block.open(key, value); err != nil {
		return err
	}
	for c.block.left > 0 && c.block.sequence < seq {
		if _, _, err := c.block.next(); err != nil {
			return err
		}
	}
	return nil
}

// next gives a record, not yet checked, and its journalKey, nil after the last
// one.
func (c *journalCursor) next() (key, record []byte, err error) {
	if c.block.left == 0 {
		key, value := c.entries.Next()
		if key == nil {
			return nil, nil, nil
		}
		if err := c.block.open(key, value); err != nil {
			return nil, nil, err
		}
	}
	return c.block.next()
}

// find gives the record with a sequence and its journalKey, nil without one.
func (c *journalCursor) find(seq uint64) (key, record []byte, err error) {
	if err := c.seek(seq); err != nil {
		return nil, nil, err
	}
	if c.block.left == 0 || c.block.sequence != seq {
		return nil, nil, nil
	}
	return c.block.next()
}
