package sipadapter

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// avoidFor is how long a silent address is passed over (ERR-14).
	avoidFor = 30 * time.Second
	// maxAvoidFor caps what a Retry-After can ask for.
	maxAvoidFor = time.Hour
	// probeFor is how long one request may try an address again while all
	// others still pass it over: a little more than Timer F.
	probeFor = 40 * time.Second
	// maxAvoided bounds the memory.
	maxAvoided = 4_096
)

// avoidance remembers addresses that were silent, refused a connection or
// answered 503. They are passed over as long as there is another.
type avoidance struct {
	mu    sync.Mutex
	until map[target]time.Time
	// some is set while there are any, which is rare: otherwise nobody needs the
	// lock to know that an address is none of them.
	some atomic.Bool
}

func newAvoidance() *avoidance { return &avoidance{until: make(map[target]time.Time)} }

// allows tells whether a request may go there. When the time is up the first
// request that asks becomes the probe, and the others go on passing by.
func (v *avoidance) allows(t target) bool {
	if !v.some.Load() {
		return true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	until, ok := v.until[t]
	if !ok {
		return true
	}
	now := time.Now()
	if now.Before(until) {
		return false
	}
	v.until[t] = now.Add(probeFor)
	return true
}

// rank is 1 for an address that is passed over. Asking makes nobody the probe.
func (v *avoidance) rank(t target) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.until[t]; ok {
		return 1
	}
	return 0
}

// failed notes an address; retryAfter is what its 503 asked for, if anything
// (RFC 3261 §21.5.4).
func (v *avoidance) failed(t target, retryAfter time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if len(v.until) >= maxAvoided {
		for old, until := range v.until {
			if now.After(until) {
				delete(v.until, old)
			}
		}
	}
	if _, known := v.until[t]; known || len(v.until) < maxAvoided {
		v.until[t] = now.Add(min(max(retryAfter, avoidFor), maxAvoidFor))
		v.some.Store(true)
	}
}

// answered forgets what was held against an address.
func (v *avoidance) answered(t target) {
	if !v.some.Load() {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.until, t)
	v.some.Store(len(v.until) > 0)
}
