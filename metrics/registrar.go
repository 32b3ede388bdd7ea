package metrics

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// states is the closed set of a profile's API states (design §9).
var states = [...]string{
	"registered", "registering", "challenged", "backoff", "rejected",
	"disabled", "unregistered",
}

// stateIndex finds a state's place in states, or -1 for the empty state, in
// which a profile is before it exists and after it is gone.
func stateIndex(state string) int {
	switch state {
	case "registered":
		return 0
	case "registering":
		return 1
	case "challenged":
		return 2
	case "backoff":
		return 3
	case "rejected":
		return 4
	case "disabled":
		return 5
	case "unregistered":
		return 6
	}
	return -1
}

// outcome is what became of a registration.
type outcome int

const (
	granted outcome = iota
	removed
	fetched
	failed
	rejected
	interrupted
	lapsed
)

// outcomes are the label values, in the order of the constants.
var outcomes = [...]string{
	"granted", "removed", "fetched", "failed", "rejected", "interrupted",
	"lapsed",
}

// maxStrangers bounds how many registrars that are not configured get series of
// their own. Profiles of a registrar that left the configuration keep its name,
// so a few are normal; further ones share the name "other".
const maxStrangers = 64

// registrar holds the resolved series of one registrar.
type registrar struct {
	// states and ended are what profiles and outcomes will show.
	states   [len(states)]atomic.Int64
	ended    [len(outcomes)]tally
	duration observations
	margin   observations
	profiles [len(states)]prometheus.Gauge
	outcomes [len(outcomes)]prometheus.Counter
	shared   prometheus.Counter
	calls    [len(callOutcomes)]prometheus.Counter
	setup    prometheus.Observer
	withheld counters
	// gate is nil for a registrar that is not configured: it has no gate.
	gate atomic.Pointer[gate]
}

// gate holds the series of a registrar's or an xSP's gate.
type gate struct {
	waiting, inFlight, up prometheus.Gauge
	// told is what the gauges show, zero before they were set: the gate's one
	// actor speaks after every message, and seldom says something new.
	told atomic.Uint64
}

// SetRegistrars names the configured registrars, at start and after a reload.
// All series of a new one appear at zero. Of one that is gone the series of its
// gate disappear; the others stay until the node ends, because its profiles may
// still be there and their states must go on adding up.
func (m *Metrics) SetRegistrars(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := maps.Clone(*m.registrars.Load())
	configured := make(map[string]bool, len(names))
	for _, name := range names {
		configured[name] = true
		r := next[name]
		if r == nil {
			r = m.newRegistrar(name)
			next[name] = r
		}
		if r.gate.Load() == nil {
			r.gate.Store(m.newGate(name))
		}
	}
	for name, r := range next {
		if !configured[name] && r.gate.Swap(nil) != nil {
			m.waiting.DeleteLabelValues(name)
			m.inFlight.DeleteLabelValues(name)
			m.up.DeleteLabelValues(name)
		}
	}
	m.registrars.Store(&next)
}

// newRegistrar resolves the series of a registrar.
func (m *Metrics) newRegistrar(name string) *registrar {
	r := &registrar{
		shared:   m.sharedNonces.WithLabelValues(name),
		setup:    m.setup.WithLabelValues(name),
		withheld: newCounters(m.withheld.MustCurryWith(prometheus.Labels{"registrar": name}), withheldReasons),
	}
	r.duration.to = m.duration.WithLabelValues(name)
	r.margin.to = m.margin.WithLabelValues(name)
	for i, state := range states {
		r.profiles[i] = m.profiles.WithLabelValues(name, state)
	}
	for i, o := range outcomes {
		r.outcomes[i] = m.registrations.WithLabelValues(name, o)
	}
	for i, o := range callOutcomes {
		r.calls[i] = m.calls.WithLabelValues(name, o)
	}
	return r
}

// newGate resolves the series of a gate, which starts open.
func (m *Metrics) newGate(name string) *gate {
	g := &gate{
		waiting:  m.waiting.WithLabelValues(name),
		inFlight: m.inFlight.WithLabelValues(name),
		up:       m.up.WithLabelValues(name),
	}
	g.up.Set(1)
	return g
}

// registrar finds the series of a registrar, configured or not.
func (m *Metrics) registrar(name string) *registrar {
	if r := (*m.registrars.Load())[name]; r != nil {
		return r
	}
	return m.stranger(name)
}

func (m *Metrics) stranger(name string) *registrar {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := *m.registrars.Load()
	if r := known[name]; r != nil {
		return r
	}
	strangers := 0
	for _, r := range known {
		if r.gate.Load() == nil {
			strangers++
		}
	}
	if name == "" || strangers >= maxStrangers {
		name = other
		if r := known[name]; r != nil {
			return r
		}
	}
	next := maps.Clone(known)
	next[name] = m.newRegistrar(name)
	m.registrars.Store(&next)
	return next[name]
}

// RefreshMargin reports how long before its end a binding was refreshed;
// negative when it was late.
func (m *Metrics) RefreshMargin(registrar string, margin time.Duration) {
	m.registrar(registrar).margin.observe(margin.Seconds())
}

// NonceShared counts a nonce that a registrar gave to two profiles in a row.
func (m *Metrics) NonceShared(registrar string) { m.registrar(registrar).shared.Inc() }

// Registrar reports the state of a registrar's gate: how many profiles wait for
// a slot, how many attempts are open, and whether its breaker lets requests
// pass.
// A registrar that is not configured has no gate and is ignored.
func (m *Metrics) Registrar(name string, waiting, inFlight int, open bool) {
	r := (*m.registrars.Load())[name]
	if r == nil {
		return
	}
	if g := r.gate.Load(); g != nil {
		g.set(waiting, inFlight, open)
	}
}

func (g *gate) set(waiting, inFlight int, isUp bool) {
	const told, toldUp, bits = 1 << 63, 1 << 62, 31 // for each number
	up, now := 0.0, told|uint64(waiting)<<bits|uint64(inFlight)
	if isUp {
		up, now = 1, now|toldUp
	}
	if g.told.Load() == now {
		return
	}
	g.told.Store(now)
	g.waiting.Set(float64(waiting))
	g.inFlight.Set(float64(inFlight))
	g.up.Set(up)
}
