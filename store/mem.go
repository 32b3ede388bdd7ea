package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sipmuster/muster/messages"
)

// Memory is the journal without a file, for tests and for trying things out.
// It has no goroutine and no timer, so it works inside of testing/synctest.
// Nothing is ever trimmed, secrets are kept as they are and need no key, and
// Checkpoint runs only when it is called.
type Memory struct {
	opts Options

	mu        sync.Mutex
	journal   [][]byte // envelopes; the sequence is the index plus one
	heads     map[string]head
	snapshots map[string]snapshot
	secrets   map[string][]byte
	failed    error
	closed    bool
}

// NewMemory makes an empty journal. Of the options, Epoch, Fold and OnAppend
// count.
func NewMemory(opts Options) *Memory {
	return &Memory{
		opts:      opts.withDefaults(),
		heads:     make(map[string]head),
		snapshots: make(map[string]snapshot),
		secrets:   make(map[string][]byte),
	}
}

// usable is nil while writes are possible; the caller holds mu.
func (m *Memory) usable(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case m.closed:
		return ErrClosed
	}
	return m.failed
}

// Append is Store.Append.
func (m *Memory) Append(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.ProfileEvent) error {
	return m.append(ctx, stream, profileStream, after, at, added{profile: events})
}

// AppendSession is Store.AppendSession.
func (m *Memory) AppendSession(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.SessionEvent) error {
	return m.append(ctx, stream, sessionStream, after, at, added{session: events})
}

// AppendThen is Store.AppendThen. It calls done before it returns.
func (m *Memory) AppendThen(stream string, after uint64, at time.Time, events []*messages.ProfileEvent, done func(error)) {
	done(m.append(context.Background(), stream, profileStream, after, at, added{profile: events}))
}

func (m *Memory) append(ctx context.Context, stream, kind string, after uint64, at time.Time, a added) error {
	start := time.Now()
	if _, err := a.check(stream, kind); err != nil {
		return err
	}
	if err := m.write(ctx, stream, after, at, a); err != nil {
		return err
	}
	if m.opts.OnAppend != nil && a.len() > 0 {
		m.opts.OnAppend(time.Since(start), a.len())
	}
	return nil
}

func (m *Memory) write(ctx context.Context, stream string, after uint64, at time.Time, a added) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	h := m.heads[stream]
	if h.version != after {
		return fmt.Errorf("append %s after version %d: it is at version %d: %w", stream, after, h.version, ErrConflict)
	}
	for i := range a.len() {
		e := &messages.Envelope{
			Stream: stream, Version: h.version + 1, Epoch: m.opts.Epoch,
			Previous: h.last, AtUnixNano: at.UnixNano(),
		}
		a.put(e, i)
		record, err := e.MarshalVT()
		if err != nil {
			return fmt.Errorf("append %s: %w", stream, err)
		}
		m.journal = append(m.journal, record)
		h = head{version: e.Version, last: uint64(len(m.journal))}
	}
	if a.len() > 0 {
		m.heads[stream] = h
	}
	return nil
}

// at decodes one record; the caller holds mu.
func (m *Memory) at(seq uint64) *messages.Envelope {
	e := &messages.Envelope{}
	if err := e.UnmarshalVT(m.journal[seq-1]); err != nil {
		panic(fmt.Sprintf("store: record %d of Memory: %v", seq, err))
	}
	return e
}

// tail is the stream's events after a sequence, oldest first, and the sequence
// of the first; the caller holds mu.
func (m *Memory) tail(stream string, after uint64) (first uint64, events []*messages.Envelope) {
	for seq := m.heads[stream].last; seq > after; {
		e := m.at(seq)
		events = append(events, e)
		first, seq = seq, e.Previous
	}
	slices.Reverse(events)
	return first, events
}

// Load is Store.Load.
func (m *Memory) Load(ctx context.Context, stream string) (state []byte, version uint64, events []*messages.Envelope, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, 0, nil, err
	}
	snap := m.snapshots[stream]
	_, events = m.tail(stream, snap.last)
	return bytes.Clone(snap.state), snap.version, events, nil
}

// Replay is Store.Replay.
func (m *Memory) Replay(ctx context.Context, r Replayer) error {
	m.mu.Lock()
	err := m.usable(ctx)
	last, snapshots := uint64(len(m.journal)), maps.Clone(m.snapshots)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	for _, stream := range slices.SortedFunc(maps.Keys(snapshots), compareStreams) {
		snap := snapshots[stream]
		if snap.state == nil {
			continue
		}
		if err := r.Snapshot(stream, snap.version, bytes.Clone(snap.state)); err != nil {
			return err
		}
	}
	for seq := uint64(1); seq <= last; seq++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.mu.Lock()
		e := m.at(seq)
		m.mu.Unlock()
		if seq <= snapshots[e.Stream].last {
			continue
		}
		if err := r.Event(e); err != nil {
			return err
		}
	}
	return nil
}

// History is Store.History.
func (m *Memory) History(ctx context.Context, stream string, before uint64, yield func(*messages.Envelope) bool) error {
	m.mu.Lock()
	seq, closed := m.heads[stream].last, m.closed
	m.mu.Unlock()
	if closed {
		return ErrClosed
	}
	for seq > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.mu.Lock()
		e := m.at(seq)
		m.mu.Unlock()
		seq = e.Previous
		if before != 0 && e.Version >= before {
			continue
		}
		if !yield(e) {
			return nil
		}
	}
	return nil
}

// Checkpoint is Store.Checkpoint without the trim. Fold must not call back.
func (m *Memory) Checkpoint(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	if m.opts.Fold == nil {
		return errNoFold
	}
	var stuck []error
	for _, stream := range slices.SortedFunc(maps.Keys(m.heads), compareStreams) {
		snap := m.snapshots[stream]
		first, events := m.tail(stream, snap.last)
		if len(events) == 0 {
			continue
		}
		state, err := m.opts.Fold(stream, snap.state, events)
		if err != nil {
			stuck = append(stuck, &StuckError{Stream: stream, Sequence: first, Err: err})
			continue
		}
		h := m.heads[stream]
		m.snapshots[stream] = snapshot{version: h.version, last: h.last, state: bytes.Clone(state)}
	}
	return joinStuck(stuck)
}

// Fail makes every write fail as after a failed commit, until Reopen.
func (m *Memory) Fail(cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = errors.Join(ErrFailed, cause)
}

// Err is Store.Err.
func (m *Memory) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// Reopen is Store.Reopen.
func (m *Memory) Reopen(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = nil
	return m.usable(ctx)
}

// Close is Store.Close.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
