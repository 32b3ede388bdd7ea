package sipadapter

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxQueued bounds what waits to be written to one connection.
	maxQueued = 8 << 20
	// writeTimeout closes a connection whose peer does not read.
	writeTimeout = 10 * time.Second
	// messageTimeout closes a connection on which a message has begun and does
	// not end (S-32).
	messageTimeout = 10 * time.Second
)

var (
	errQueueFull = errors.New("the connection's write queue is full")
	errEnding    = errors.New("the connection is being closed")
	errSilent    = errors.New("the connection was silent")
)

// stream is one TCP connection, dialled or accepted. A dialled one exists, and
// takes requests, before it is connected.
type stream struct {
	a       *Adapter
	peer    netip.AddrPort
	dialled bool
	wake    chan struct{} // tells the writer that there is something
	gone    chan struct{} // closed with the connection

	mu      sync.Mutex
	conn    net.Conn // nil while dialling
	queue   [][]byte
	queued  int
	closing bool // the connection ends when the queue is written
	cause   error
	diedAt  time.Time

	heard  atomic.Int64 // when a byte last arrived, Unix nanoseconds; 0 never
	active atomic.Int64 // when one last moved in either direction
}

func newStream(a *Adapter, peer netip.AddrPort, dialled bool) *stream {
	return &stream{
		a: a, peer: peer, dialled: dialled,
		wake: make(chan struct{}, 1), gone: make(chan struct{}),
	}
}

// send queues a message; the writer sends all that is queued in one go.
func (s *stream) send(packet []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cause != nil:
		return s.cause
	case s.closing:
		return errEnding
	case s.queued+len(packet) > maxQueued:
		return errQueueFull
	}
	s.queue = append(s.queue, packet)
	s.queued += len(packet)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

func (s *stream) reliable() bool { return true }

// answeredBy: responses come over the connection of the request (S-04).
func (s *stream) answeredBy(o origin) bool { return o.stream == s }

// run serves a connection until it ends.
func (s *stream) run(conn net.Conn) {
	s.mu.Lock()
	if s.cause != nil {
		s.mu.Unlock()
		_ = conn.Close()
		return
	}
	s.conn = conn
	s.mu.Unlock()
	s.active.Store(time.Now().UnixNano())
	s.a.stats.connections.Add(1)
	defer s.a.stats.connections.Add(-1)
	s.a.spawn(func() { s.write(conn) })
	s.die(s.read(conn))
}

// die ends the connection and, at once, all that waits for an answer on it
// (TRX-10).
func (s *stream) die(err error) {
	s.mu.Lock()
	if s.cause != nil {
		s.mu.Unlock()
		return
	}
	s.cause, s.diedAt = err, time.Now()
	conn := s.conn
	s.queue, s.queued = nil, 0
	s.mu.Unlock()
	close(s.gone)
	if conn != nil {
		_ = conn.Close()
	}
	s.a.streams.forget(s, conn != nil)
	s.a.table.failWire(s, result{err: err, unsent: conn == nil})
}

// closeAfterFlush lets what is queued leave first.
func (s *stream) closeAfterFlush() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) write(conn net.Conn) {
	for {
		select {
		case <-s.gone:
			return
		case <-s.wake:
		}
		s.mu.Lock()
		batch, closing := net.Buffers(s.queue), s.closing
		s.queue, s.queued = nil, 0
		s.mu.Unlock()
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := batch.WriteTo(conn); err != nil {
			s.die(err)
			return
		}
		s.active.Store(time.Now().UnixNano())
		if closing {
			s.die(errEnding)
			return
		}
	}
}

// read is the connection's only reader.
func (s *stream) read(conn net.Conn) error {
	var f framer
	var since time.Time // when the unfinished message began
	for {
		if err := conn.SetReadDeadline(s.readDeadline(since)); err != nil {
			return err
		}
		n, err := conn.Read(f.space())
		if n > 0 {
			now := time.Now().UnixNano()
			s.heard.Store(now)
			s.active.Store(now)
			f.filled(n)
			if err := s.take(&f); err != nil {
				return err
			}
		}
		switch {
		case !f.partial():
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && s.mayWait(since) {
			continue
		}
		if err != nil {
			return err
		}
	}
}

func (s *stream) readDeadline(since time.Time) time.Time {
	if !since.IsZero() {
		return since.Add(messageTimeout)
	}
	return time.Unix(0, s.active.Load()).Add(s.a.opts.ConnectionIdle)
}

// mayWait: a deadline that passed on a connection that was written to
// meanwhile is not the end of it.
func (s *stream) mayWait(since time.Time) bool {
	return since.IsZero() && time.Now().Before(s.readDeadline(since))
}

// take handles all complete messages and answers keep-alives (RFC 5626
// §3.5.1).
func (s *stream) take(f *framer) error {
	for {
		raw, err := f.next()
		for ; f.pings > 0; f.pings-- {
			_ = s.send([]byte("\r\n"))
		}
		if err != nil {
			s.refuse(raw)
			return err
		}
		if raw == nil {
			return nil
		}
		s.a.receive(raw, origin{from: s.peer, stream: s})
	}
}

// refuse answers a request whose end cannot be found (RFC 3261 §18.3) before
// the connection is closed.
func (s *stream) refuse(header []byte) {
	if len(header) == 0 || isResponse(header) {
		s.a.drop(dropMalformed)
		return
	}
	s.a.receive(header, origin{from: s.peer, stream: s})
	s.closeAfterFlush()
	select {
	case <-s.gone:
	case <-time.After(writeTimeout):
	}
}

// refusedTCP tells whether nothing listens there, or something that wants no
// SIP over TCP: RFC 3261 §18.1.1 then falls back to UDP.
func (s *stream) refusedTCP(err error) bool {
	return isRefused(err) && s.heard.Load() == 0
}

// suspect closes a connection on which nothing has arrived since a request
// that timed out: its peer may be long gone.
func (s *stream) suspect(since time.Time) {
	if s.heard.Load() < since.UnixNano() {
		s.die(errSilent)
	}
}
