package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipmuster/muster/messages"
)

// handler holds the resolved series of one authenticator.
type handler struct {
	// answered is what outcomes will show of the usual outcome.
	answered tally
	duration observations
	outcomes counters
	// gate is nil for the DigestActor, which has none.
	gate *gate
}

func (m *Metrics) registerHandlers() {
	m.challenges = m.counterVec("challenges_total",
		"Challenges by who was asked and how asking ended. Anything but answered leaves a binding or a session unmade.",
		"handler", "outcome")
	m.answers = m.histogramVec("challenge_answer_duration_seconds",
		"Time from a question to an authenticator until its answer or refusal. Compare with the timeout of the xSP.",
		answerBuckets, "handler")
	m.xspWaiting = m.gaugeVec("xsp_waiting",
		"Questions that wait for their turn with an xSP. A queue that grows means that its concurrency is too low or that it is slow.",
		"handler")
	m.xspOut = m.gaugeVec("xsp_in_flight", "Questions that an xSP has not answered yet.", "handler")
	m.xspUp = m.gaugeVec("xsp_up",
		"0 while the breaker of an xSP is open: it does not answer, and only a probe is sent at a time.",
		"handler")
}

// SetXSPs names the configured xSPs, at start and after a reload. The series of
// one that is gone disappear.
func (m *Metrics) SetXSPs(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := *m.handlers.Load()
	next := map[string]*handler{}
	for _, name := range []string{other, messages.DigestHandler} {
		if next[name] = known[name]; next[name] == nil {
			next[name] = m.newHandler(name)
		}
	}
	for _, name := range names {
		if next[name] = known[name]; next[name] == nil {
			next[name] = m.newHandler(name)
			next[name].gate = m.newXSPGate(name)
		}
	}
	for name := range known {
		if next[name] == nil {
			m.challenges.DeletePartialMatch(prometheus.Labels{"handler": name})
			m.answers.DeleteLabelValues(name)
			m.xspWaiting.DeleteLabelValues(name)
			m.xspOut.DeleteLabelValues(name)
			m.xspUp.DeleteLabelValues(name)
		}
	}
	m.handlers.Store(&next)
}

func (m *Metrics) newHandler(name string) *handler {
	h := &handler{outcomes: newCounters(m.challenges.MustCurryWith(prometheus.Labels{"handler": name}), challengeOutcomes)}
	h.duration.to = m.answers.WithLabelValues(name)
	return h
}

// newXSPGate resolves the series of an xSP's gate, which starts open.
func (m *Metrics) newXSPGate(name string) *gate {
	g := &gate{
		waiting:  m.xspWaiting.WithLabelValues(name),
		inFlight: m.xspOut.WithLabelValues(name),
		up:       m.xspUp.WithLabelValues(name),
	}
	g.up.Set(1)
	return g
}

// usualOutcome is how a question ends that every challenged registration has.
const usualOutcome = "answered"

// ChallengeAnswered counts a question to an authenticator by how it ended.
func (m *Metrics) ChallengeAnswered(name, outcome string, elapsed time.Duration) {
	h, ok := (*m.handlers.Load())[name]
	if !ok {
		h = (*m.handlers.Load())[other]
	}
	if outcome == usualOutcome {
		h.answered.inc()
	} else {
		h.outcomes.inc(outcome)
	}
	if outcome == usualOutcome || outcome == "refused" {
		h.duration.observe(elapsed.Seconds())
	}
}

// XSP reports the state of an xSP's gate: how many questions wait for their
// turn, how many are out, and whether its breaker lets them pass.
func (m *Metrics) XSP(name string, waiting, inFlight int, up bool) {
	h, ok := (*m.handlers.Load())[name]
	if !ok || h.gate == nil {
		return
	}
	h.gate.set(waiting, inFlight, up)
}
