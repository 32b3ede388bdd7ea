package store

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

// Replayer receives what Replay reads. An error stops the walk.
type Replayer interface {
	// Snapshot is called for every stream that has one, in key order. The state
	// is the replayer's to keep.
	Snapshot(stream string, version uint64, state []byte) error
	// Event is called for every envelope that is not part of its stream's
	// snapshot, in journal order.
	Event(e *messages.Envelope) error
}

// Store is the journal in a file. All methods are safe for concurrent use.
type Store struct {
	opts  Options
	path  string
	owner *os.File // holds the lock on the folder

	queue *queue
	slabs slabs // the requests of appends

	// dbMu is held shared by every read transaction and exclusively while the
	// file is exchanged. The writer alone exchanges it, and reads db unlocked.
	dbMu   sync.RWMutex
	db     *bolt.DB
	closed bool

	// mu guards what the writer publishes after each commit.
	mu     sync.RWMutex
	index  index
	failed error
	aead   cipher.AEAD // nil without a key
	tally  tally

	// secretsMu is held exclusively while all secrets change their key.
	secretsMu sync.RWMutex

	// folding is held by whoever moves the snapshots or must not see them
	// move: Checkpoint, Replay, Reopen. It comes before all other locks.
	folding sync.Mutex
	stuck   map[string]uint64 // first event that a stream could not fold

	kick     chan struct{} // wakes the checkpointer
	stopFold context.CancelFunc
	running  sync.WaitGroup // writer and checkpointer
	writer   sync.WaitGroup
}

// tally is what Stats counts since Open.
type tally struct {
	batches, appended uint64
	largest           int
	failures          uint64
}

// Open opens the journal in opts.Dir, creating it if there is none.
func Open(opts Options) (*Store, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	s := &Store{
		opts:  opts,
		path:  filepath.Join(opts.Dir, fileName),
		queue: newQueue(),
		kick:  make(chan struct{}, 1),
		stuck: make(map[string]uint64),
	}
	var err error
	if s.aead, err = newAEAD(opts.Key); err != nil {
		return nil, err
	}
	if err := makeFolder(opts.Dir); err != nil {
		return nil, err
	}
	if s.owner, err = lockFolder(opts.Dir); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.owner.Close())
	}
	s.start()
	return s, nil
}

// makeFolder creates the data folder and makes its name durable.
func makeFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
}

// open brings the file and the index that belongs to it into place.
func (s *Store) open() error {
	if _, err := os.Stat(s.path); errors.Is(err, os.ErrNotExist) {
		if err := createFile(s.path, s.opts.Epoch); err != nil {
			return err
		}
	}
	db, ix, err := openFile(s.path, s.opts.AcceptOlderHead, s.Err() != nil)
	if err != nil {
		return err
	}
	if err := s.settle(db, &ix); err != nil {
		return errors.Join(err, db.Close())
	}
	s.dbMu.Lock()
	s.db = db
	s.dbMu.Unlock()
	s.mu.Lock()
	s.index, s.failed = ix, nil
	s.mu.Unlock()
	clear(s.stuck)
	return nil
}

// settle takes the epoch and commits once. The commit shows that the disk takes
// writes, and puts behind us whatever an earlier commit of unknown outcome has
// left: what we have read is durable from here on.
func (s *Store) settle(db *bolt.DB, ix *index) error {
	if ix.epoch > s.opts.Epoch {
		return fmt.Errorf("open journal with epoch %d: it has epoch %d: %w", s.opts.Epoch, ix.epoch, ErrConflict)
	}
	ix.epoch = s.opts.Epoch
	if err := guard(func() error {
		return db.Update(func(tx *bolt.Tx) error { return errors.Join(putFormat(tx), ix.put(tx)) })
	}); err != nil {
		return fmt.Errorf("open journal: first commit: %w", err)
	}
	return s.checkKey(db)
}

// start runs the writer and, if snapshots are wanted, the checkpointer.
func (s *Store) start() {
	s.writer.Go(s.write)
	ctx, cancel := context.WithCancel(context.Background())
	s.stopFold = cancel
	if s.opts.Fold != nil && s.opts.CheckpointEvery >= 0 {
		s.running.Go(func() { s.checkpointer(ctx) })
	}
}

// Err is nil while the store works. After a failed commit it is the error that
// every write gets until Reopen.
func (s *Store) Err() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.failed
}

// Reopen closes the file and opens it again, rebuilding what is in memory from
// what is on disk. It is the way out of ErrFailed, may be repeated until it
// returns nil, and does nothing on a store that works. Afterwards every owner
// of a stream whose append failed must Load: its events may be there.
func (s *Store) Reopen(ctx context.Context) error {
	s.folding.Lock()
	defer s.folding.Unlock()
	if s.Err() == nil {
		return ctx.Err()
	}
	return s.do(ctx, &request{reopen: true})
}

// reopen runs on the writer.
func (s *Store) reopen() error {
	s.dbMu.Lock()
	old := s.db
	s.db = nil
	s.dbMu.Unlock()
	if old != nil {
		if err := guard(old.Close); err != nil {
			s.opts.Logger.Warn("closing the failed journal", "reason", err)
		}
	}
	if err := s.open(); err != nil {
		return fmt.Errorf("reopen journal: %w", err)
	}
	s.opts.Logger.Info("journal reopened", "last", s.last())
	return nil
}

// Close finishes the queued appends and closes the file. It waits for a backup
// that is being written. Calling it again does nothing.
func (s *Store) Close() error {
	s.stopFold()
	s.running.Wait()
	s.queue.close()
	s.writer.Wait()

	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if s.db != nil {
		err = guard(s.db.Close)
		s.db = nil
	}
	if err = errors.Join(err, s.owner.Close()); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// view runs a short read transaction. What fn keeps it must copy, and it must
// not call anything outside of this package: its panics become errors.
func (s *Store) view(fn func(tx *bolt.Tx) error) error {
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		if err := s.Err(); err != nil {
			return err
		}
		return ErrClosed
	}
	return guard(func() error { return s.db.View(fn) })
}

// last is the sequence of the newest durable event.
func (s *Store) last() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.index.last
}

// Stats describes the store at one moment.
type Stats struct {
	FileBytes int64
	// Events, First, Last and JournalBytes describe the journal as retained.
	Events, First, Last, JournalBytes uint64
	// Checkpoint is the last event that is part of a snapshot.
	Checkpoint, Snapshots uint64
	Streams, StuckStreams int
	// Batches and Appended count commits of events since Open, and the events
	// in them; LargestBatch is the most events in one.
	Batches, Appended uint64
	LargestBatch      int
	// Failures counts commits that failed since Open.
	Failures uint64
}

// Stats is cheap enough for every scrape.
func (s *Store) Stats() (Stats, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return Stats{}, fmt.Errorf("journal size: %w", err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	ix := &s.index
	return Stats{
		FileBytes: info.Size(),
		Events:    ix.last + 1 - ix.first, First: ix.first, Last: ix.last, JournalBytes: ix.bytes,
		Checkpoint: ix.checkpoint, Snapshots: ix.snapshots,
		Streams: ix.heads.len(), StuckStreams: ix.stuck,
		Batches: s.tally.batches, Appended: s.tally.appended, LargestBatch: s.tally.largest,
		Failures: s.tally.failures,
	}, nil
}

// Fence records a higher epoch. From then on this store's own appends are
// refused with ErrConflict, and so is every Open with an older epoch: whoever
// opens with epoch is the owner.
func (s *Store) Fence(ctx context.Context, epoch uint64) error {
	var next counters
	return s.do(ctx, &request{
		job: func(tx *bolt.Tx) error {
			next = s.index.counters
			next.epoch = max(next.epoch, epoch)
			return next.put(tx)
		},
		publish: func() { s.index.counters = next },
	})
}
