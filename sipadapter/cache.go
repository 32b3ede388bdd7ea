package sipadapter

import "sync"

// maxCached bounds a cache: a redirect may name any host.
const maxCached = 1_024

// cache remembers what follows from values that thousands of requests share. A
// full one begins again.
type cache[K comparable, V any] struct {
	mu    sync.RWMutex
	known map[K]V
}

func (c *cache[K, V]) get(k K) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := c.known[k]
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxCached {
		c.known = make(map[K]V)
	}
	c.known[k] = v
}
