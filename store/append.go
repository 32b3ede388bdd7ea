package store

import (
	"context"
	"time"

	"github.com/sipmuster/muster/messages"
)

// Append makes events durable as the versions after+1, after+2, ... of the
// stream of a profile, and returns when they are synced. After ErrConflict
// nothing was written. After any other error, the context's included, the
// outcome is unknown, and the stream must be loaded again. Appending nothing
// only checks the version. The events may be changed once Append has returned.
func (s *Store) Append(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.ProfileEvent) error {
	return s.append(ctx, stream, profileStream, after, at, added{profile: events})
}

// AppendSession is Append for the stream of a session.
func (s *Store) AppendSession(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.SessionEvent) error {
	return s.append(ctx, stream, sessionStream, after, at, added{session: events})
}

// AppendThen is Append for a caller that does not wait: it queues the events and
// returns, and calls done once with what Append would return. That is from any
// goroutine, mostly the one that writes all commits, so done must not block and
// not wait for the store; for events that are refused, and in a store that is
// closed, it is before AppendThen returns. The events may be changed once it has
// returned. What one goroutine queues is carried out, and answered, in that order.
func (s *Store) AppendThen(stream string, after uint64, at time.Time, events []*messages.ProfileEvent, done func(error)) {
	r, err := s.appendRequest(stream, profileStream, after, at, added{profile: events})
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

func (s *Store) append(ctx context.Context, stream, kind string, after uint64, at time.Time, a added) error {
	r, err := s.appendRequest(stream, kind, after, at, a)
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
func (s *Store) appendRequest(stream, kind string, after uint64, at time.Time, a added) (*request, error) {
	size, err := a.check(stream, kind)
	if err != nil {
		return nil, err
	}
	r, room := s.slabs.take(roomFor(stream, size))
	r.stream, r.after, r.at, r.size = stream, after, at.UnixNano(), size
	r.payload.encode(room, stream, a)
	return r, nil
}

// release gives back the request of an append that nobody has any more.
func (s *Store) release(r *request) { s.slabs.give(r) }
