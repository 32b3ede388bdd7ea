package store

import (
	"context"
	"runtime"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

// AppendUnchecked appends what Append would refuse: an event of a later
// release, as far as this one can tell.
func (s *Store) AppendUnchecked(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.ProfileEvent) error {
	return s.submit(ctx, &request{stream: stream, after: after, at: at, payload: payload{profile: events}})
}

// AppendSessionUnchecked is AppendUnchecked for the stream of a session.
func (s *Store) AppendSessionUnchecked(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.SessionEvent) error {
	return s.submit(ctx, &request{stream: stream, after: after, at: at, payload: payload{session: events}})
}

// Hold stops the writer until release is called.
func (s *Store) Hold(t *testing.T) (release func()) {
	held, free := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.submit(context.Background(), &request{job: func(*bolt.Tx) error {
			close(held)
			<-free
			return errNothing
		}})
	}()
	<-held
	return func() { close(free) }
}

// AwaitQueue waits until n requests are queued.
func (s *Store) AwaitQueue(n int) {
	for len(s.queue) < n {
		runtime.Gosched()
	}
}

// DecodeRecord decodes one record of the journal.
func DecodeRecord(key, record []byte) (*messages.Envelope, error) { return decodeEnvelope(key, record) }

// SealRecord makes the checksum of a journal record right.
func SealRecord(key, record []byte) { seal(bucketJournal, key, record) }

// JournalKey is the key of a sequence.
func JournalKey(seq uint64) []byte { return journalKey(seq) }

// PageRecords is the length of a page of reads.
const PageRecords = pageRecords
