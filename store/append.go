package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sipmuster/muster/messages"
)

// The name of a stream begins with what it is a stream of. Envelope has one
// field for each kind.
const (
	profileStream = "p/"
	sessionStream = "s/"
)

// envelopeOverhead is more than a record adds to its event, apart from the
// stream's name: the checksum, four numbers, and three tags and lengths.
const envelopeOverhead = 64

// payload is what one append adds: events of a profile or of a session.
type payload struct {
	profile []*messages.ProfileEvent
	session []*messages.SessionEvent
}

func (p payload) len() int { return len(p.profile) + len(p.session) }

// put makes the event at index i that of the envelope.
func (p payload) put(e *messages.Envelope, i int) {
	e.Profile, e.Session = nil, nil
	if len(p.session) > 0 {
		e.Session = p.session[i]
	} else {
		e.Profile = p.profile[i]
	}
}

// check refuses what could never be read back, and gives an upper bound for the
// size of the records.
func (p payload) check(stream, kind string) (size int, err error) {
	if len(stream) > maxStreamName {
		return 0, fmt.Errorf("append: a stream name of %d bytes, want at most %d", len(stream), maxStreamName)
	}
	if len(stream) <= len(kind) || !strings.HasPrefix(stream, kind) {
		return 0, fmt.Errorf("append: stream %q, want %s and a name", stream, kind)
	}
	for _, e := range p.profile {
		if e.TypeName() == "" {
			return 0, fmt.Errorf("append %s: %w", stream, messages.ErrUnknownEvent)
		}
		size += e.SizeVT() + len(stream) + envelopeOverhead
	}
	for _, e := range p.session {
		if e.TypeName() == "" {
			return 0, fmt.Errorf("append %s: %w", stream, messages.ErrUnknownEvent)
		}
		size += e.SizeVT() + len(stream) + envelopeOverhead
	}
	if p.len() > maxBatchEvents || size > maxBatchBytes {
		return 0, fmt.Errorf("append %s: %d events of %d bytes are more than one append may hold", stream, p.len(), size)
	}
	return size, nil
}

// Append makes events durable as the versions after+1, after+2, ... of the
// stream of a profile, and returns when they are synced. After ErrConflict
// nothing was written. After any other error, the context's included, the
// outcome is unknown, and the stream must be loaded again. Appending nothing
// only checks the version. The events may be changed once Append has returned,
// but not after an error of the context: they are still waiting.
func (s *Store) Append(ctx context.Context, stream string, after uint64, at time.Time, added ...*messages.ProfileEvent) error {
	return s.append(ctx, stream, profileStream, after, at, payload{profile: added})
}

// AppendSession is Append for the stream of a session.
func (s *Store) AppendSession(ctx context.Context, stream string, after uint64, at time.Time, added ...*messages.SessionEvent) error {
	return s.append(ctx, stream, sessionStream, after, at, payload{session: added})
}

// AppendThen is Append for a caller that does not wait: it queues the events and
// returns, and calls done once with what Append would return. That is from any
// goroutine, mostly the one that writes all commits, so done must not block and
// not wait for the store; for events that are refused, and in a store that is
// closed, it is before AppendThen returns. Neither the events nor the slice may be changed until
// then. What one goroutine queues is carried out, and answered, in that order.
func (s *Store) AppendThen(stream string, after uint64, at time.Time, added []*messages.ProfileEvent, done func(error)) {
	r, err := s.appendRequest(stream, profileStream, after, at, payload{profile: added})
	if err != nil {
		done(err)
		return
	}
	r.done = done
	if err := s.queue.add(r); err != nil {
		s.release(r)
		done(err)
	}
}

func (s *Store) append(ctx context.Context, stream, kind string, after uint64, at time.Time, p payload) error {
	r, err := s.appendRequest(stream, kind, after, at, p)
	if err != nil {
		return err
	}
	answered, err := s.submit(ctx, r)
	if answered {
		// Nobody else has it; without an answer it is still in the queue.
		s.release(r)
	}
	return err
}

// appendRequest is a request that was checked and not queued.
func (s *Store) appendRequest(stream, kind string, after uint64, at time.Time, p payload) (*request, error) {
	size, err := p.check(stream, kind)
	if err != nil {
		return nil, err
	}
	r, _ := s.requests.Get().(*request)
	if r == nil {
		r = &request{}
	}
	r.stream, r.after, r.at, r.payload, r.size = stream, after, at.UnixNano(), p, size
	return r, nil
}

// release gives back the request of an append that nobody has any more.
func (s *Store) release(r *request) {
	r.stream, r.payload, r.done, r.verdict = "", payload{}, nil, nil
	s.requests.Put(r)
}

// misplaced tells whether an envelope holds an event of another kind than its
// stream.
func misplaced(e *messages.Envelope) bool {
	if strings.HasPrefix(e.Stream, sessionStream) {
		return e.Profile != nil
	}
	return e.Session != nil
}
