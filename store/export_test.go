package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

// AppendUnchecked appends what Append would refuse: an event of a later
// release, as far as this one can tell.
func (s *Store) AppendUnchecked(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.ProfileEvent) error {
	return s.appendUnchecked(ctx, stream, after, at, added{profile: events})
}

// AppendSessionUnchecked is AppendUnchecked for the stream of a session.
func (s *Store) AppendSessionUnchecked(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.SessionEvent) error {
	return s.appendUnchecked(ctx, stream, after, at, added{session: events})
}

func (s *Store) appendUnchecked(ctx context.Context, stream string, after uint64, at time.Time, a added) error {
	r := &request{stream: stream, after: after, at: at.UnixNano(), size: a.size(stream)}
	r.payload.encode(make([]byte, roomFor(stream, r.size)), stream, a)
	return s.do(ctx, r)
}

// Hold stops the writer until release is called.
func (s *Store) Hold(t *testing.T) (release func()) {
	held, free := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.do(context.Background(), &request{job: func(*bolt.Tx) error {
			close(held)
			<-free
			return errNothing
		}})
	}()
	<-held
	return func() { close(free) }
}

// Break makes the store fail as after a failed commit.
func (s *Store) Break() {
	_ = s.do(context.Background(), &request{job: func(*bolt.Tx) error {
		_ = s.fail(errors.New("broken by a test"))
		return errNothing
	}})
}

// AwaitQueue waits until n requests are queued.
func (s *Store) AwaitQueue(n int) {
	for s.queued() < n {
		runtime.Gosched()
	}
}

func (s *Store) queued() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.shared) + len(s.queue.alone)
}

// DecodeRecord decodes one record of the journal.
func DecodeRecord(key, record []byte) (*messages.Envelope, error) { return decodeEnvelope(key, record) }

// SealRecord makes the checksum of a journal record right.
func SealRecord(key, record []byte) { seal(journalCRC, key, record) }

// JournalKey is the key of a sequence.
func JournalKey(seq uint64) []byte { return journalKey(seq) }

// SplitBlocks makes a journal one of format 1, which had no blocks.
func SplitBlocks(tx *bolt.Tx) error {
	journal := tx.Bucket([]byte(bucketJournal))
	var blocks [][]byte
	records := make(map[uint64][]byte)
	err := journal.ForEach(func(key, value []byte) error {
		if len(key) != blockKeySize {
			return nil
		}
		blocks = append(blocks, bytes.Clone(key))
		var b block
		for err := b.open(key, value); err != nil || b.left > 0; {
			seq := b.sequence
			var record []byte
			if _, record, err = b.next(); err != nil {
				return err
			}
			records[seq] = bytes.Clone(record)
		}
		return nil
	})
	for _, key := range blocks {
		err = errors.Join(err, journal.Delete(key))
	}
	for seq, record := range records {
		err = errors.Join(err, journal.Put(journalKey(seq), record))
	}
	return errors.Join(err, tx.Bucket([]byte(bucketMeta)).Put([]byte(metaFormat), binary.BigEndian.AppendUint64(nil, 1)))
}

// BlockOf gives the key and the value of the block that has a record, and where
// in the value its record is.
func BlockOf(tx *bolt.Tx, seq uint64) (key, value []byte, from, to int) {
	c := tx.Bucket([]byte(bucketJournal)).Cursor()
	for key, value = c.First(); key != nil; key, value = c.Next() {
		var b block
		if err := b.open(key, value); err != nil || b.single || seq < b.sequence || seq >= b.sequence+b.left {
			continue
		}
		for b.left > 0 {
			at := b.sequence
			_, record, err := b.next()
			if err != nil {
				break
			}
			if at == seq {
				to = len(value) - len(b.rest)
				return bytes.Clone(key), bytes.Clone(value), to - len(record), to
			}
		}
	}
	return nil, nil, 0, 0
}

// PageRecords is the length of a page of reads.
const PageRecords = pageRecords
