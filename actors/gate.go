package actors

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"time"

	"github.com/sipmuster/muster/messages"
)

// gate decides what may go to one target, and when: pace, concurrency, shared
// Retry-After, and a breaker with one probe at a time. It is plain logic
// without a clock; a turnstile drives it.
//
// Every request costs a token: a fresh attempt, an answer to a challenge (unless
// the pace counts registrations), and a retransmission, so the pace holds for
// what the target sees. Answers go
// before fresh attempts, because nonces expire (CHA-16). Fresh attempts go by
// nearness to the end of their binding (earliest deadline first).
//
// Calls wait for a turn, first come first served, each until its session gives
// up. When fresh attempts wait as well, the two take turns. A call takes no
// concurrency: it may ring for minutes.
//
// A target from which nothing was heard for silentAfter is silent: one fresh
// attempt or call a second, so that one request that was lost in the dark does
// not stop the others, and an outage does not fill the concurrency. After
// breakerFailures attempts in a row without any answer it is down: one probe
// at a time until something is heard. A call is a probe only when no profile
// wants to be one, and is refused otherwise: nobody waits for a target that is
// down to hear a phone ring.
type gate struct {
	rate        float64 // requests a second; negative without a limit
	freeAnswers bool    // answers to challenges cost no token
	concurrency int     // open attempts; negative without a limit

	tokens   float64
	refilled time.Time

	queue wantQueue
	wants map[string]*want
	paced []pacedSend          // answers that wait for a token
	slots map[string]time.Time // open attempts by profile, since when
	// paused are the attempts whose slot others use meanwhile.
	paused map[string]bool
	held   bool
	// calls are those that wait, callsTurn tells whose turn it is when fresh
	// attempts wait as well, and out are the calls whose INVITE has left and of
	// which nothing was heard, since when.
	calls     []waitingCall
	callsTurn bool
	out       map[string]time.Time

	lastHeard  time.Time
	unheard    time.Time // the first request after lastHeard; zero when none is out
	trickled   time.Time // the latest fresh attempt or call while silent
	failures   int
	down       bool
	probe      string
	probeAt    time.Time
	probeWait  time.Duration
	retryUntil time.Time
}

const (
	// defaultRate and defaultConcurrency apply when the configuration is
	// silent.
	defaultRate        = 200
	defaultConcurrency = 500
	// burst is the share of a second's tokens that may be saved up: those of a
	// beat. The refill is that much smaller, so that no window of one second sees
	// more than the configured rate (I-9).
	burst = float64(tick) / float64(time.Second)
	// silentAfter is four T1: two retransmissions without an answer.
	silentAfter     = 2 * time.Second
	trickle         = time.Second
	breakerFailures = 5
	firstProbeWait  = time.Second
	maxProbeWait    = 30 * time.Second
	// slotLimit is when a slot is taken back from an attempt that was lost.
	slotLimit = 10 * time.Minute
)

// want is a profile that is due.
type want struct {
	id       string
	shard    *shardActor
	deadline time.Time
	index    int
}

func newGate(config Registrar) *gate {
	g := &gate{
		wants: map[string]*want{}, slots: map[string]time.Time{}, paused: map[string]bool{}, out: map[string]time.Time{},
		probeWait: firstProbeWait,
	}
	g.configure(config)
	g.tokens = g.depth()
	return g
}

func (g *gate) configure(r Registrar) {
	g.rate, g.concurrency = cmp.Or(r.Rate, defaultRate), cmp.Or(r.Concurrency, defaultConcurrency)
	g.freeAnswers = r.CountRegistrations
}

// depth is how many tokens can be saved up.
func (g *gate) depth() float64 { return max(1, g.rate*burst) }

func (g *gate) want(id string, shard *shardActor, deadline time.Time) {
	if w, ok := g.wants[id]; ok {
		w.deadline = deadline
		heap.Fix(&g.queue, w.index)
		return
	}
	w := &want{id: id, shard: shard, deadline: deadline}
	g.wants[id] = w
	heap.Push(&g.queue, w)
}

func (g *gate) unwant(id string) {
	if w, ok := g.wants[id]; ok {
		heap.Remove(&g.queue, w.index)
		delete(g.wants, id)
	}
}

// enter lets a profile through that finds nobody waiting and may go at once.
func (g *gate) enter(now time.Time, id string) bool {
	g.refill(now)
	if len(g.queue)+len(g.paced)+len(g.calls) > 0 || now.Before(g.retryUntil) || !g.hasToken() {
		return false
	}
	if _, may := g.mayBegin(now); !may {
		return false
	}
	g.begin(now, id)
	return true
}

// release ends an attempt, or the wait for the first word about a call. heard
// tells whether any response came, dark that the request got none; neither when
// it never left.
func (g *gate) release(now time.Time, id string, heard, dark bool, jitter float64) {
	delete(g.slots, id)
	delete(g.out, id)
	if g.paused[id] {
		delete(g.paused, id)
		// Its request will not leave any more, and must not take a slot.
		g.paced = slices.DeleteFunc(g.paced, func(p pacedSend) bool { return p.id == id })
	}
	probe := g.probe == id
	if probe {
		g.probe = ""
	}
	if g.idle() {
		g.unheard = time.Time{}
	}
	switch {
	case heard:
		g.heard(now)
	case dark:
		g.failures++
		if g.failures < breakerFailures {
			return
		}
		if probe {
			g.probeWait = min(2*g.probeWait, maxProbeWait)
		}
		g.down = true
		g.probeAt = now.Add(g.probeWait/2 + time.Duration(jitter*float64(g.probeWait/2)))
	case probe:
		g.probeAt = now.Add(firstProbeWait)
	}
}

// pause gives the slot of an attempt to others while an xSP is asked, so that a
// slow xSP does not use up the concurrency. The token stays spent, so that
// asking is paced as sending is, and a probe stays the probe.
func (g *gate) pause(id string) {
	if _, ok := g.slots[id]; !ok {
		return
	}
	delete(g.slots, id)
	g.paused[id] = true
	if g.idle() {
		g.unheard = time.Time{}
	}
}

// heard notes that the target is alive.
func (g *gate) heard(now time.Time) {
	g.lastHeard, g.failures, g.down, g.probe, g.probeWait = now, 0, false, "", firstProbeWait
	g.unheard, g.trickled = time.Time{}, time.Time{}
	if !g.idle() {
		g.unheard = now
	}
}

// idle tells that no answer is owed.
func (g *gate) idle() bool { return len(g.slots) == 0 && len(g.out) == 0 }

// retryAfter holds everything back (RFC 3261 §21.5.4): it belongs to the
// target, so it is shared by all its profiles. Retry-After never shortens.
func (g *gate) retryAfter(until time.Time) {
	if until.After(g.retryUntil) {
		g.retryUntil = until
	}
}

// spend takes a token for a retransmission. The debt is bounded, so that a
// storm of them does not stop the target for long.
func (g *gate) spend() {
	if g.rate > 0 {
		g.tokens = max(g.tokens-1, -2*g.rate)
	}
}

func (g *gate) refill(now time.Time) {
	if g.rate < 0 {
		return
	}
	if !g.refilled.IsZero() {
		g.tokens = min(g.depth(), g.tokens+now.Sub(g.refilled).Seconds()*g.rate*(1-burst))
	}
	g.refilled = now
}

func (g *gate) hasToken() bool { return g.rate <= 0 || g.tokens >= 1 }

// next returns the next thing that may go: an answer or the turn of a call, to
// be run, or a fresh attempt. When nothing may, wake is when to ask again; zero
// means after the next change.
func (g *gate) next(now time.Time) (run func(), fresh *want, wake time.Time) {
	g.refill(now)
	if len(g.paced) == 0 && len(g.queue) == 0 && len(g.calls) == 0 {
		return nil, nil, time.Time{}
	}
	wait := now.Before(g.retryUntil)
	if send, wake, ok := g.nextPaced(now, wait); ok || !wake.IsZero() {
		return send, nil, wake
	}
	if g.refusesCalls(now) {
		c := g.popCall()
		return func() { c.turn(messages.ReasonUnavailable) }, nil, time.Time{}
	}
	if wait {
		return nil, nil, g.retryUntil
	}
	if len(g.queue) == 0 && len(g.calls) == 0 {
		return nil, nil, time.Time{} // answers that wait for a slot
	}
	if !g.hasToken() {
		return nil, nil, g.tokenAt(now)
	}
	freshWake, freshMay := g.admitsFresh(now)
	callWake, callMay := g.admitsCall(now)
	switch {
	case callMay && (g.callsTurn || !freshMay):
		c := g.popCall()
		g.out[c.id], g.callsTurn = now, false
		g.admitted(now, c.id)
		return func() { c.turn("") }, nil, time.Time{}
	case freshMay:
		fresh = heap.Pop(&g.queue).(*want)
		delete(g.wants, fresh.id)
		g.begin(now, fresh.id)
		return nil, fresh, time.Time{}
	case freshWake.IsZero() || !callWake.IsZero() && callWake.Before(freshWake):
		return nil, nil, callWake
	}
	return nil, nil, freshWake
}

// begin notes that a fresh attempt begins.
func (g *gate) begin(now time.Time, id string) {
	g.slots[id], g.callsTurn = now, true
	g.admitted(now, id)
}

// admitted notes that a fresh attempt or a call begins.
func (g *gate) admitted(now time.Time, id string) {
	if g.down {
		g.probe = id
	}
	if g.silent(now) {
		g.trickled = now
	}
	g.take(now, pacedSend{})
}

// tokenAt is when to ask for a token again. A fast pace does not wake the farm for
// every single one: it is the last beat before the bucket is full, or when it is half
// full, if there is no beat between. A debt is paid before.
func (g *gate) tokenAt(now time.Time) time.Time {
	after := func(tokens float64) time.Time {
		wait := (tokens - g.tokens) / (g.rate * (1 - burst)) * float64(time.Second)
		return now.Add(time.Duration(math.Ceil(wait))) // a nanosecond less would be a millisecond more
	}
	least := 1.0
	if g.tokens >= 0 {
		least = max(least, g.depth()/2)
	}
	some, all := after(least), after(g.depth())
	if beat := all.Truncate(tick); beat.After(some) {
		return beat
	}
	return some
}

// take spends the token of a request that leaves.
func (g *gate) take(now time.Time, p pacedSend) {
	if g.rate > 0 && !p.prepaid {
		g.tokens--
	}
	if g.unheard.IsZero() && !p.dialog {
		g.unheard = now
	}
}

// admitsFresh tells whether one of the fresh attempts that wait may begin.
func (g *gate) admitsFresh(now time.Time) (wake time.Time, ok bool) {
	if len(g.queue) == 0 {
		return time.Time{}, false
	}
	return g.mayBegin(now)
}

// mayBegin tells whether a fresh attempt may begin.
func (g *gate) mayBegin(now time.Time) (wake time.Time, ok bool) {
	switch {
	case g.held:
		return time.Time{}, false
	case g.full():
		return time.Time{}, false // until a release, or the sweep of lost slots
	case g.down && g.probe != "":
		return time.Time{}, false
	case g.down && now.Before(g.probeAt):
		return g.probeAt, false
	}
	return g.trickles(now)
}

// trickles: a silent target gets one a second.
func (g *gate) trickles(now time.Time) (wake time.Time, ok bool) {
	if next := g.trickled.Add(trickle); !g.down && g.silent(now) && now.Before(next) {
		return next, false
	}
	return time.Time{}, true
}

func (g *gate) full() bool { return g.concurrency > 0 && len(g.slots) >= g.concurrency }

func (g *gate) silent(now time.Time) bool {
	return !g.unheard.IsZero() && now.Sub(g.unheard) > silentAfter
}

// sweep takes back slots whose attempt was lost, which a crash of a profile
// can cause. It returns how many.
func (g *gate) sweep(now time.Time) int {
	lost := 0
	for id, since := range g.slots {
		if now.Sub(since) > slotLimit {
			delete(g.slots, id)
			if g.probe == id {
				g.probe, g.probeAt = "", now
			}
			lost++
		}
	}
	for id, since := range g.out {
		if now.Sub(since) > slotLimit {
			g.release(now, id, false, false, 0)
		}
	}
	return lost
}

func (g *gate) state(now time.Time) string {
	switch {
	case now.Before(g.retryUntil):
		return "retry_after"
	case g.down:
		return "down"
	case g.silent(now):
		return "silent"
	}
	return "up"
}

// wantQueue orders by deadline, then by id so that the order is stable.
type wantQueue []*want

func (q wantQueue) Len() int { return len(q) }

func (q wantQueue) Less(i, j int) bool {
	if q[i].deadline.Equal(q[j].deadline) {
		return q[i].id < q[j].id
	}
	return q[i].deadline.Before(q[j].deadline)
}

func (q wantQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *wantQueue) Push(x any) {
	w := x.(*want)
	w.index = len(*q)
	*q = append(*q, w)
}

func (q *wantQueue) Pop() any {
	old := *q
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return w
}
