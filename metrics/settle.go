package metrics

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// What every registration counts is kept here, side by side, and goes to its series
// when they are read: a series has its memory to itself, and a histogram four or
// five places, of which each call would touch one that the processor has forgotten.

// The counters of every registration: its events, its requests, and the responses to
// them.
const (
	usualStarted = iota
	usualChallenged
	usualGranted
	usualRegister
	usual200
	usual401
	usualCount
)

// tally is a counter that is moved to its series.
type tally struct{ n atomic.Uint64 }

func (t *tally) inc() { t.n.Add(1) }

// moveTo adds what was counted since the last time.
func (t *tally) moveTo(c prometheus.Counter) {
	if n := t.n.Swap(0); n > 0 {
		c.Add(float64(n))
	}
}

// observations keeps what is observed until there are many or somebody reads.
type observations struct {
	mu   sync.Mutex
	n    int
	kept [62]float64 // half a kilobyte with the rest
	to   prometheus.Observer
}

func (o *observations) observe(v float64) {
	o.mu.Lock()
	o.kept[o.n] = v
	o.n++
	if o.n == len(o.kept) {
		o.move()
	}
	o.mu.Unlock()
}

func (o *observations) settle() {
	o.mu.Lock()
	o.move()
	o.mu.Unlock()
}

// move gives the histogram what is kept; it needs the lock.
func (o *observations) move() {
	for _, v := range o.kept[:o.n] {
		o.to.Observe(v)
	}
	o.n = 0
}

// settled is a collector whose series are brought up to date when they are read.
type settled struct {
	prometheus.Collector
	metrics *Metrics
}

func (s settled) Collect(out chan<- prometheus.Metric) {
	s.metrics.settle()
	s.Collector.Collect(out)
}

// settle brings all series up to date.
func (m *Metrics) settle() {
	m.settling.Lock()
	defer m.settling.Unlock()
	if ask := m.askGates.Load(); ask != nil {
		(*ask)(m.Registrar)
	}
	for i := range m.usual {
		m.usual[i].moveTo(m.usualSeries[i])
	}
	m.appends.settle()
	for _, r := range *m.registrars.Load() {
		r.settle()
	}
	for _, h := range *m.handlers.Load() {
		h.answered.moveTo(h.outcomes[usualOutcome])
		h.duration.settle()
	}
}

func (r *registrar) settle() {
	for i := range r.states {
		r.profiles[i].Set(float64(r.states[i].Load()))
	}
	for i := range r.ended {
		r.ended[i].moveTo(r.outcomes[i])
	}
	r.duration.settle()
	r.margin.settle()
}

// WatchGates sets where the states of the registrars' gates are asked for at each
// scrape: ask tells them one by one, in the way of Registrar, and does not wait. A
// host that is asked need not call Registrar.
func (m *Metrics) WatchGates(ask func(tell func(name string, waiting, inFlight int, open bool))) {
	m.askGates.Store(&ask)
}
