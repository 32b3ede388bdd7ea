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
// function and must not keep events; it is called from any goroutine.
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
	// Retention says how much of the journal to keep behind the checkpoint.
	Retention Retention
	// CheckpointEvery is the number of events after which the store checkpoints
	// by itself. 0 means 50,000 or the number of streams, whichever is more:
	// the more streams share a checkpoint, the more snapshots share a page. A
	// negative value means only when Checkpoint is called.
	CheckpointEvery int
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
	defaultRetentionCount  = 1_000_000
	defaultRetentionAge    = 7 * 24 * time.Hour
	defaultCheckpointEvery = 50_000
	keySize                = 32 // AES-256
)

// withDefaults replaces what zero stands for.
func (o Options) withDefaults() Options {
	if o.Epoch == 0 {
		o.Epoch = 1
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
