package sipadapter

import "sync"

// sequence runs calls one after the other, in the order in which they were
// posted, on whichever goroutine comes by. What is touched only inside it needs
// no lock. A call may post others, which run after it.
type sequence struct {
	mu      sync.Mutex
	calls   []func()
	running bool
}

// post adds a call and runs nothing, so that it can be used under a lock. The
// caller sees to it that run follows.
func (s *sequence) post(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, f)
}

// run runs what was posted, unless another goroutine is at it: that one then
// runs it as well.
func (s *sequence) run() {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return
	}
	s.running = true
	for len(s.calls) > 0 {
		f := s.calls[0]
		s.calls[0] = nil
		s.calls = s.calls[1:]
		s.mu.Unlock()
		f()
		s.mu.Lock()
	}
	s.calls, s.running = nil, false
	s.mu.Unlock()
}

func (s *sequence) do(f func()) {
	s.post(f)
	s.run()
}
