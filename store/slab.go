package store

import (
	"sync"
	"sync/atomic"
)

const (
	slabRequests = 64
	slabBytes    = slabRequests * 320 // enough for most appends
	freeSlabs    = 16                 // are kept; more wait only while the disk is slow
)

// slab holds requests of appends in the order in which they come, and what they
// add behind one another. The writer goes through it in that order, so that the
// processor has the next one at hand.
type slab struct {
	requests [slabRequests]request
	room     [slabBytes]byte
	used     int // requests
	filled   int // bytes of the room
	// held counts the requests that somebody has, and one more while it is the slab
	// from which they are taken.
	held atomic.Int32
}

// slabs are used again when the last of their requests was given back.
type slabs struct {
	mu   sync.Mutex
	slab *slab // from which requests are taken
	free []*slab
}

// take gives a request and room for what it adds, until it is given back. One that
// never is leaves its slab to the garbage collector.
func (s *slabs) take(size int) (r *request, room []byte) {
	s.mu.Lock()
	b := s.slab
	if b != nil && b.held.Load() == 1 {
		b.used, b.filled = 0, 0
	}
	if b == nil || b.used == slabRequests || size <= slabBytes && b.filled+size > slabBytes {
		b = s.next()
	}
	b.held.Add(1)
	r = &b.requests[b.used]
	b.used++
	if size <= slabBytes-b.filled {
		room = b.room[b.filled : b.filled+size]
		b.filled += size
	}
	s.mu.Unlock()
	if room == nil {
		room = make([]byte, size)
	}
	r.payload.slab = b
	return r, room
}

// next goes on to a slab of which nobody has a request; the caller holds mu.
func (s *slabs) next() *slab {
	if s.slab != nil && s.slab.held.Add(-1) == 0 {
		s.keep(s.slab)
	}
	var b *slab
	if n := len(s.free); n > 0 {
		b, s.free[n-1] = s.free[n-1], nil
		s.free = s.free[:n-1]
	} else {
		b = &slab{}
	}
	b.held.Store(1)
	s.slab = b
	return b
}

// keep puts by a slab of which nobody has a request; the caller holds mu.
func (s *slabs) keep(b *slab) {
	b.used, b.filled = 0, 0
	if len(s.free) < freeSlabs {
		s.free = append(s.free, b)
	}
}

// give takes back a request that nobody has any more.
func (s *slabs) give(r *request) {
	b := r.payload.slab
	r.stream, r.payload, r.done, r.verdict = "", payload{}, nil, nil
	if b.held.Add(-1) == 0 {
		s.mu.Lock()
		s.keep(b)
		s.mu.Unlock()
	}
}
