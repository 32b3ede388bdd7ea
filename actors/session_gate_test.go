package actors

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// turns notes what a gate tells calls.
type turns struct{ list []string }

func (l *turns) call(g *gate, id string) {
	g.wantCall(waitingCall{id: id, turn: func(refused messages.Reason) {
		if refused != "" {
			id += " " + string(refused)
		}
		l.list = append(l.list, id)
	}})
}

// drive lets everything through that may go at a time, in order.
func (l *turns) drive(g *gate, now time.Time) (wake time.Time) {
	for {
		run, fresh, at := g.next(now)
		switch {
		case run != nil:
			run()
		case fresh != nil:
			l.list = append(l.list, fresh.id)
		default:
			return at
		}
	}
}

func (l *turns) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(l.list, want) {
		t.Errorf("let through %q, want %q", l.list, want)
	}
	l.list = nil
}

// TestGateCallsAndAttemptsTakeTurns: one to one while both wait, and nobody
// waits for nobody.
func TestGateCallsAndAttemptsTakeTurns(t *testing.T) {
	g, l := newGate(Registrar{Rate: 100, Concurrency: -1}), &turns{}
	for i := range 300 {
		g.want(fmt.Sprintf("p%03d", i), nil, epoch)
		if i < 150 {
			l.call(g, fmt.Sprintf("c%03d", i))
		}
	}
	now := epoch
	for len(l.list) < 200 {
		g.heard(now)
		if wake := l.drive(g, now); len(l.list) < 450 {
			now = now.Add(max(wake.Sub(now), time.Millisecond)) // as the actor does
		}
	}
	calls := 0
	for i, id := range l.list[:200] {
		if id[0] == 'c' {
			calls++
		}
		if diff := 2*calls - (i + 1); diff < -1 || diff > 1 {
			t.Fatalf("after %d turns %d went to calls", i+1, calls)
		}
	}
	if took := now.Sub(epoch); took < 1900*time.Millisecond {
		t.Errorf("200 requests in %v, the pace is 100 a second", took)
	}
	for len(l.list) < 450 {
		g.heard(now)
		if wake := l.drive(g, now); len(l.list) < 450 {
			now = now.Add(max(wake.Sub(now), time.Millisecond)) // as the actor does
		}
	}
	if n := now.Sub(epoch); n > 5*time.Second {
		t.Errorf("450 requests took %v", n)
	}
}

// TestGateCallsNeedNoSlot: they may ring for minutes.
func TestGateCallsNeedNoSlot(t *testing.T) {
	g, l := newGate(Registrar{Rate: -1, Concurrency: 1}), &turns{}
	g.want("a", nil, epoch)
	g.want("b", nil, epoch)
	l.call(g, "c")
	l.call(g, "d")
	l.drive(g, epoch)
	l.want(t, "a", "c", "d")
	g.unwantCall(epoch, "c")
	g.release(epoch, "d", true, false, 0)
	g.release(epoch, "a", true, false, 0)
	l.drive(g, epoch)
	l.want(t, "b")
	g.release(epoch, "b", true, false, 0)
	if !g.idle() || !g.unheard.IsZero() {
		t.Errorf("something is left: %v %v %v", g.slots, g.out, g.unheard)
	}
}

// TestGateCallsWait: held, and while a Retry-After lasts; a request inside a
// dialog goes all the same.
func TestGateCallsWait(t *testing.T) {
	g, l := newGate(Registrar{Rate: -1, Concurrency: -1}), &turns{}
	g.held = true
	l.call(g, "c")
	l.drive(g, epoch)
	l.want(t)
	g.held = false
	g.retryAfter(epoch.Add(time.Minute))
	g.paced = append(g.paced,
		pacedSend{call: "x", send: func() { l.list = append(l.list, "answer") }},
		pacedSend{dialog: true, send: func() { l.list = append(l.list, "bye") }})
	wake := l.drive(g, epoch)
	l.want(t, "bye")
	if !wake.Equal(epoch.Add(time.Minute)) {
		t.Errorf("asks again at %v", wake)
	}
	l.call(g, "gone")
	g.unwantCall(epoch, "gone")
	g.unwantCall(epoch, "x")
	l.drive(g, epoch.Add(time.Minute))
	l.want(t, "c")
}

// TestGateCallsAndABrokenTarget: in silence one a second, as fresh attempts;
// down, they are refused at once, but for one that probes when nobody else does.
func TestGateCallsAndABrokenTarget(t *testing.T) {
	g, l := newGate(Registrar{Rate: -1, Concurrency: -1}), &turns{}
	for i := range 10 {
		l.call(g, fmt.Sprintf("c%d", i))
	}
	l.drive(g, epoch)
	l.list = nil
	now := epoch.Add(silentAfter + time.Millisecond)
	l.call(g, "d0")
	l.call(g, "d1")
	l.drive(g, now)
	l.want(t, "d0")
	l.drive(g, now.Add(trickle))
	l.want(t, "d1")

	now = epoch.Add(32 * time.Second)
	l.call(g, "waiting")
	for i := range breakerFailures {
		g.release(now, fmt.Sprintf("c%d", i), false, true, 1)
	}
	if g.state(now) != "down" {
		t.Fatalf("state %s after %d calls in the dark", g.state(now), breakerFailures)
	}
	l.call(g, "late")
	l.drive(g, now)
	l.want(t, "waiting registrar.unavailable", "late registrar.unavailable")

	now = g.probeAt
	l.call(g, "probe")
	l.call(g, "second")
	l.drive(g, now)
	l.want(t, "probe", "second registrar.unavailable")
	g.release(now, "probe", false, true, 1)
	now = g.probeAt
	g.want("a", nil, epoch)
	l.call(g, "third")
	l.drive(g, now)
	l.want(t, "third registrar.unavailable", "a") // a REGISTER disturbs nobody
	g.release(now, "a", true, false, 0)
	l.call(g, "fourth")
	l.drive(g, now)
	l.want(t, "fourth")
}

// TestGateSilenceInsideADialog: the far end of a call that is gone does not make
// the registrar a silent one.
func TestGateSilenceInsideADialog(t *testing.T) {
	g, l := newGate(Registrar{Rate: -1, Concurrency: -1}), &turns{}
	g.paced = append(g.paced, pacedSend{dialog: true, send: func() {}})
	l.drive(g, epoch)
	if now := epoch.Add(time.Minute); g.state(now) != "up" {
		t.Errorf("state %s a minute after a BYE that nobody answered", g.state(now))
	}
}

// TestGateSweepsCallsThatWereLost: a crash can lose the word that one is over.
func TestGateSweepsCallsThatWereLost(t *testing.T) {
	g, l := newGate(Registrar{Rate: -1, Concurrency: -1}), &turns{}
	l.call(g, "lost")
	l.drive(g, epoch)
	g.sweep(epoch.Add(slotLimit + time.Second))
	if !g.idle() || !g.unheard.IsZero() {
		t.Error("a lost call is still waited for")
	}
}

// TestCallsWaitForTheirTurn: those that the pace does not let through in time
// end, and tell why; a registration beside them is not held up.
func TestCallsWaitForTheirTurn(t *testing.T) {
	calls(t, Registrar{Rate: 2}, nil, func(w *world) {
		w.declareFor("q", 1, "")
		var ids []string
		for range 40 {
			ids = append(ids, w.call(nil))
		}
		time.Sleep(3 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 2})
		time.Sleep(20 * time.Second)
		up, refused := 0, 0
		for _, id := range ids {
			switch v := w.session(id); {
			case v.State == "established":
				up++
			case v.Reason == string(messages.ReasonNotAdmitted):
				refused++
			}
		}
		if up < 15 || up > 20 || up+refused != len(ids) {
			w.t.Errorf("%d calls are up and %d were not admitted, want about 18 at 2 a second for 10 s", up, refused)
		}
		if n := len(w.ua.all("INVITE")); n != up {
			w.t.Errorf("%d INVITEs for %d calls", n, up)
		}
		w.wantGateIdle()
	})
}

// TestCallsIntoAnOutage: the breaker opens by calls alone, refuses at once, and
// closes by a call.
func TestCallsIntoAnOutage(t *testing.T) {
	calls(t, Registrar{Rate: -1}, nil, func(w *world) {
		working := w.ua.invited
		w.ua.script(func(u *fakeUA) {
			u.invited = func(c *fakeCall) { time.Sleep(32 * time.Second); c.fail(messages.ReasonTimeout) }
		})
		for range 8 {
			w.call(nil)
			time.Sleep(1100 * time.Millisecond)
		}
		time.Sleep(45 * time.Second)
		id := w.call(nil)
		v := w.session(id)
		if v.State != "ended" || v.Reason != string(messages.ReasonUnavailable) {
			// It was the probe.
			v = w.session(w.call(nil))
		}
		if v.State != "ended" || v.Reason != string(messages.ReasonUnavailable) {
			w.t.Errorf("a call while the target is down is %s (%s)", v.State, v.Reason)
		}
		w.ua.script(func(u *fakeUA) { u.invited = working })
		time.Sleep(2 * maxProbeWait)
		w.call(nil)
		time.Sleep(time.Second)
		id = w.call(nil)
		time.Sleep(time.Second)
		w.wantSession(id, "established", "")
		w.wantGateIdle()
	})
}
