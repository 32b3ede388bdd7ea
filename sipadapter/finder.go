package sipadapter

import (
	"context"
	"sync"
	"time"
)

const (
	// minTTL and maxTTL bound what a DNS server may ask of us (S-36).
	minTTL = 5 * time.Second
	maxTTL = time.Hour
	// failTTL is how long a failure answers for the next requests.
	failTTL = 10 * time.Second
	// staleTTL is how long a plan outlives its time while no DNS server
	// answers (RFC 8767 §4).
	staleTTL = time.Hour
	// planTimeout bounds all questions of one plan.
	planTimeout = 15 * time.Second
	// maxPlans bounds the cache: a redirect may name any host.
	maxPlans = 4_096
)

// finder finds servers (RFC 3263) and remembers where. There is one set of
// questions per next hop at a time, whoever asks.
type finder struct {
	a        *Adapter
	resolver Resolver

	mu    sync.Mutex
	plans map[nextHop]*cachedPlan
}

type cachedPlan struct {
	plan    plan
	err     error
	made    bool // plan or err is set
	until   time.Time
	good    time.Time // until when plan may be used if nobody answers
	asking  bool
	waiting []func(plan, error)
}

func newFinder(a *Adapter, r Resolver) *finder {
	return &finder{a: a, resolver: r, plans: make(map[nextHop]*cachedPlan)}
}

// find calls ready with the plan for a next hop: at once when it is known,
// otherwise from another goroutine. It never blocks.
func (f *finder) find(h nextHop, ready func(plan, error)) {
	if t, ok := h.literal(); ok {
		ready(plan{groups: []group{{{targets: []target{t}}}}}, nil)
		return
	}
	f.mu.Lock()
	c := f.plans[h]
	if c == nil {
		f.makeRoom()
		c = &cachedPlan{}
		f.plans[h] = c
	}
	if c.made && time.Now().Before(c.until) {
		p, err := c.plan, c.err
		f.mu.Unlock()
		ready(p, err)
		return
	}
	c.waiting = append(c.waiting, ready)
	ask := !c.asking
	c.asking = true
	f.mu.Unlock()
	if ask && !f.a.spawn(func() { f.ask(h, c) }) {
		f.answer(c, plan{}, errClosed, 0, false)
	}
}

// known gives the plan for a next hop if nobody has to be asked.
func (f *finder) known(h nextHop) (p plan, err error, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.plans[h]; c != nil && c.made && time.Now().Before(c.until) {
		return c.plan, c.err, true
	}
	return plan{}, nil, false
}

// makeRoom needs the lock.
func (f *finder) makeRoom() {
	if len(f.plans) < maxPlans {
		return
	}
	now := time.Now()
	for h, c := range f.plans {
		if !c.asking && now.After(c.until) {
			delete(f.plans, h)
		}
	}
	for h, c := range f.plans {
		if len(f.plans) < maxPlans {
			return
		}
		if !c.asking {
			delete(f.plans, h)
		}
	}
}

func (f *finder) ask(h nextHop, c *cachedPlan) {
	ctx, cancel := context.WithTimeout(f.a.ctx, planTimeout)
	defer cancel()
	p := planner{ctx: ctx, resolver: f.resolver, usable: f.a.usable}
	found, err := p.plan(h)
	if err == nil && p.soft == nil {
		f.answer(c, found, nil, min(max(p.ttl, minTTL), maxTTL), true)
		return
	}
	// With a question unanswered the last plan is better than a guess.
	if old, ok := f.stale(c); ok && p.soft != nil {
		found, err = old, nil
	}
	f.answer(c, found, err, failTTL, false)
}

// stale is the last plan that was made with every question answered, if it is
// not too old.
func (f *finder) stale(c *cachedPlan) (plan, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.plan, c.err == nil && time.Now().Before(c.good)
}

// answer settles the plan and everybody who waits for it. complete: every
// question was answered.
func (f *finder) answer(c *cachedPlan, p plan, err error, ttl time.Duration, complete bool) {
	now := time.Now()
	f.mu.Lock()
	if complete {
		c.good = now.Add(ttl + staleTTL)
	}
	c.plan, c.err, c.made, c.until = p, err, true, now.Add(ttl)
	waiting := c.waiting
	c.waiting, c.asking = nil, false
	f.mu.Unlock()
	for _, ready := range waiting {
		ready(p, err)
	}
}

// usable tells whether there is a way to send there.
func (a *Adapter) usable(t target) bool {
	return t.transport == transportTCP || a.socketFor(t.addr.Addr()) != nil
}
