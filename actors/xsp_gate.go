package actors

import (
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/messages"
)

// xspGate decides which questions may go to one xSP, and when: concurrency, a
// bounded queue, one question per profile at a time, and a breaker. It is
// plain logic without a clock; the xSP actor drives it.
//
// The breaker opens after xspFailures questions in a row without a valid
// answer. While it is open one question goes as a probe whenever the wait is
// over and a place is free; the others are turned away at once, so that a dead
// xSP costs its profiles no time and nobody else anything. A refusal is a valid
// answer.
type xspGate struct {
	concurrency, waiting int

	queue []*asking
	// out counts the questions that are with the xSP, also those that nobody
	// waits for any more: code that hangs goes on using its place.
	out int
	// busy are the profiles with a question out.
	busy map[string]bool

	failures  int
	open      bool
	probing   bool
	probeAt   time.Time
	probeWait time.Duration
}

const (
	defaultXSPTimeout     = 3 * time.Second
	defaultXSPConcurrency = 100
	// waitingFactor is the queue for each question that may be out.
	waitingFactor     = 100
	xspFailures       = 5
	firstXSPProbeWait = time.Second
	maxXSPProbeWait   = 30 * time.Second
)

// asking is a question on its way through the gate.
type asking struct {
	question *messages.AuthChallenge
	from     *actor.PID
	asked    time.Time
	// limit fires at the deadline.
	limit *time.Timer
	// sent is true once it is with the xSP; told once its profile has a
	// verdict.
	sent, told, probe bool
}

func newXSPGate(x XSP) *xspGate {
	g := &xspGate{busy: map[string]bool{}, probeWait: firstXSPProbeWait}
	g.configure(x)
	return g
}

func (g *xspGate) configure(x XSP) {
	g.concurrency, g.waiting = x.Concurrency, x.Waiting
	if g.concurrency == 0 {
		g.concurrency = defaultXSPConcurrency
	}
	if g.waiting == 0 {
		g.waiting = waitingFactor * g.concurrency
	}
}

// take queues a question, or tells why it is turned away.
func (g *xspGate) take(now time.Time, a *asking) (refused string) {
	switch {
	case g.open && (g.probing || now.Before(g.probeAt) || g.out >= g.concurrency || len(g.queue) > 0):
		return "its breaker is open"
	case len(g.queue) >= g.waiting:
		return "too many questions wait for it"
	}
	g.queue = append(g.queue, a)
	return ""
}

// next returns the next question that may go out, or nil.
func (g *xspGate) next(now time.Time) *asking {
	if g.out >= g.concurrency || g.open && (g.probing || now.Before(g.probeAt)) {
		return nil
	}
	i := slices.IndexFunc(g.queue, func(a *asking) bool { return !g.busy[a.question.GetProfileId()] })
	if i < 0 {
		return nil
	}
	a := g.queue[i]
	g.queue = slices.Delete(g.queue, i, i+1)
	a.sent = true
	if g.open {
		g.probing, a.probe = true, true
	}
	g.out++
	g.busy[a.question.GetProfileId()] = true
	return a
}

// drop removes a question that waits no longer.
func (g *xspGate) drop(a *asking) {
	if i := slices.Index(g.queue, a); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	}
}

// shed empties the queue of an xSP whose breaker is open but for the one that
// may be its probe.
func (g *xspGate) shed() []*asking {
	if !g.open || len(g.queue) == 0 {
		return nil
	}
	shed := g.queue
	g.queue = nil
	return shed
}

// free gives back the place of a question.
func (g *xspGate) free(a *asking) {
	g.out--
	delete(g.busy, a.question.GetProfileId())
}

// succeeded notes a valid answer or a refusal.
func (g *xspGate) succeeded() {
	g.failures, g.open, g.probing, g.probeWait = 0, false, false, firstXSPProbeWait
}

// failed notes a question without a valid answer.
func (g *xspGate) failed(now time.Time, a *asking, jitter float64) {
	g.failures++
	switch {
	case a.probe && g.open && g.probing:
		g.probing = false
		g.probeWait = min(2*g.probeWait, maxXSPProbeWait)
	case g.open || g.failures < xspFailures:
		return
	}
	g.open = true
	g.probeAt = now.Add(g.probeWait/2 + time.Duration(jitter*float64(g.probeWait/2)))
}
