package actors

import (
	"context"
	"fmt"
	"time"

	"github.com/sipmuster/muster/messages"
)

// load folds a stream from the journal: its snapshot and the events after it.
// apply is false for an event of a type that this release does not know.
func load[S any](j Journal, stream string, unmarshal func([]byte) (S, error), apply func(S, *messages.Envelope) (S, bool)) (S, uint64, error) {
	var none S
	snapshot, version, events, err := j.Load(context.Background(), stream)
	if err != nil {
		return none, 0, err
	}
	state, err := unmarshal(snapshot)
	if err != nil {
		return none, 0, err
	}
	for _, e := range events {
		next, known := apply(state, e)
		if !known {
			return none, 0, fmt.Errorf("version %d: %w", e.GetVersion(), messages.ErrUnknownEvent)
		}
		state, version = next, e.GetVersion()
	}
	return state, version, nil
}

// history reads the newest events of a stream before a version, newest first.
// exists tells whether its owner is there, for a stream without events.
func (f *Farm) history(
	ctx context.Context, id, stream string, before uint64, limit int, describe func(*messages.Envelope) string, exists func() error,
) ([]HistoryEntry, error) {
	const defaultLimit, maxLimit = 50, 1000
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	entries := []HistoryEntry{}
	err := f.journal.History(ctx, stream, before, func(e *messages.Envelope) bool {
		entries = append(entries, HistoryEntry{
			Version: e.GetVersion(), At: time.Unix(0, e.GetAtUnixNano()).UTC(), Type: e.TypeName(), Text: describe(e),
		})
		return len(entries) < limit
	})
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", id, err)
	}
	if len(entries) == 0 && before == 0 {
		if err := exists(); err != nil {
			return nil, err
		}
	}
	return entries, nil
}
