package store

import (
	"errors"
	"fmt"
)

// ErrConflict is returned by Append when the stream is not at the expected
// version or this store's epoch is older than the file's. Nothing was written.
var ErrConflict = errors.New("stream is owned by another writer")

// ErrFailed is wrapped by every error of a commit that did not succeed, and
// returned by every write after it until Reopen: what the failed commit left
// on disk is unknown.
var ErrFailed = errors.New("the store failed and must be reopened")

// ErrClosed is returned by everything after Close.
var ErrClosed = errors.New("the store is closed")

// ErrInUse is wrapped by Open when another process holds the data folder, and
// by Verify and Dump when a node is running on the file.
var ErrInUse = errors.New("in use by another process")

// ErrNoKey is returned by operations on secrets when Options.Key is missing.
var ErrNoKey = errors.New("the store has no key for secrets")

// ErrNoSecret is returned by Secret for an id without a secret.
var ErrNoSecret = errors.New("no such secret")

// DamageError says that something in the file is not what was written.
type DamageError struct {
	// Sequence is the journal record, 0 when the damage is elsewhere.
	Sequence uint64
	// Stream is empty when it is not known.
	Stream string
	// Reason says what is wrong.
	Reason string

	cause error
}

// Error implements error.
func (e *DamageError) Error() string {
	where := "the journal file"
	switch {
	case e.Sequence != 0 && e.Stream != "":
		where = fmt.Sprintf("journal record %d of stream %q", e.Sequence, e.Stream)
	case e.Sequence != 0:
		where = fmt.Sprintf("journal record %d", e.Sequence)
	case e.Stream != "":
		where = fmt.Sprintf("snapshot of stream %q", e.Stream)
	}
	return where + " is damaged: " + e.Reason +
		"; look with `muster journal verify`, then restore a backup"
}

// Unwrap gives the cause where there is one.
func (e *DamageError) Unwrap() error { return e.cause }

// StuckError says that the events of one stream could not be folded. The
// stream keeps its older snapshot and all events after it; others go on.
type StuckError struct {
	Stream string
	// Sequence is the first event that is not part of the stream's snapshot.
	Sequence uint64
	Err      error
}

// Error implements error.
func (e *StuckError) Error() string {
	return fmt.Sprintf("fold stream %q from record %d: %v", e.Stream, e.Sequence, e.Err)
}

// Unwrap gives the error of Options.Fold.
func (e *StuckError) Unwrap() error { return e.Err }
