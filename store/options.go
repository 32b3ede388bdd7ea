package store

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sipmuster/muster/messages"
)

// Fold adds events to the state of a stream; state is nil for a stream without
// one. A nil result means that the stream has ended and needs no snapshot. An
// error, such as messages.ErrUnknownEvent for an event whose TypeName is "",
// keeps the stream's old snapshot and every event after it. It must be a pure
// function and must keep neither state nor events; it is called from any
// goroutine.
type Fold func(stream string, state []byte, events []*messages.Envelope) ([]byte, error)

// Options configures a store. The zero value of every field but Dir works.
type Options struct {
	// Dir is the data folder. It is created, with mode 0700, when missing.
	Dir string
	// Epoch names this owner; 0 means 1. A file with a higher epoch is refused,
	// a lower one is raised.
	Epoch uint64
	// Key opens and seals secrets: 32 bytes, see LoadOrCreateKey. Nil means
	// that operations on secrets return ErrNoKey.
	Key []byte
	// Fold makes snapshots. Nil means none: the journal is never trimmed and
	// every start reads all of it.
	Fold Fold
	// Live gives the state of a stream as its owner has it in memory: what Fold
	// would make of all events up to a version that is durable. A checkpoint then
	// need not read, decode and fold those events, which is most of its cost.
	// false means that nobody has it, and Fold does the work; so does a nil Live.
	// It is called from any goroutine, and the store does not change the state.
	Live func(stream string) (state []byte, version uint64, ok bool)
	// Retention says how much of the journal to keep behind the checkpoint.
	Retention Retention
	// CheckpointEvery is the number of events after which the store checkpoints
	// by itself. 0 means ten for each stream, at least 200,000 and at most
	// 1,000,000: the more events of a stream share a fold, and the more snapshots
	// a page, the less each costs, and a start after a crash reads them all. A
	// negative value means only when Checkpoint is called.
	CheckpointEvery int
	// CommitInterval is how often commits of appends and secrets begin, while there
	// are any, a fifth of it after its multiples in Unix time; what arrives meanwhile
	// shares the next one. What comes after a pause is committed at once, and so
	// are 256 events. 0 means messages.Beat, a negative value no interval.
	CommitInterval time.Duration
	// Logger is where the store speaks. Nil means nowhere.
	Logger *slog.Logger
	// OnFailure is told, on a goroutine of its own, that a commit failed and
	// that Reopen is needed. Nil means nobody; see also Store.Err.
	OnFailure func(error)
	// OnAppend is told how long each commit of a batch took and how many events
	// it made durable. It runs on the writer and must not block. Nil is fine.
	OnAppend func(d time.Duration, batch int)
	// AcceptOlderHead opens a file of which one of the two heads is damaged.
	// The store is then at its state before the last commit if the newer head
	// is the damaged one, which nobody can tell. False refuses such a file.
	AcceptOlderHead bool
}

// Retention bounds the journal behind the checkpoint. An event is dropped as
// soon as one of the limits says so; events after the checkpoint always stay.
type Retention struct {
	// Count is the number of events to keep: 0 means 1,000,000, a negative
	// value no limit.
	Count int
	// Age is how old an event may get: 0 means 7 days, a negative value no
	// limit.
	Age time.Duration
	// Bytes is the size of all envelopes to keep: 0 or less means no limit.
	Bytes int64
}

const (
	defaultRetentionCount = 1_000_000
	defaultRetentionAge   = 7 * 24 * time.Hour
	// The default of CheckpointEvery.
	eventsPerFold        = 10
	leastCheckpointEvery = 200_000
	mostCheckpointEvery  = 1_000_000
	keySize              = 32 // AES-256
)

// withDefaults replaces what zero stands for.
func (o Options) withDefaults() Options {
	if o.Epoch == 0 {
		o.Epoch = 1
	}
	if o.CommitInterval == 0 {
		o.CommitInterval = messages.Beat
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "store")
	if o.Retention.Count == 0 {
		o.Retention.Count = defaultRetentionCount
	}
	if o.Retention.Age == 0 {
		o.Retention.Age = defaultRetentionAge
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("store: Dir is empty"))
	}
	if o.Key != nil && len(o.Key) != keySize {
		errs = append(errs, fmt.Errorf("store: Key has %d bytes, want %d", len(o.Key), keySize))
	}
	return errors.Join(errs...)
}
