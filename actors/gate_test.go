package actors

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// admit drives a gate from a time until it lets nothing more through, and
// returns the ids in order.
func admit(g *gate, now time.Time) (ids []string, wake time.Time) {
	for {
		answer, fresh, at := g.next(now)
		switch {
		case answer != nil:
			answer()
		case fresh != nil:
			ids = append(ids, fresh.id)
		default:
			return ids, at
		}
	}
}

func wantIDs(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("let through %v, want %v", got, want)
	}
}

func TestGateGoesByNearnessToTheEnd(t *testing.T) {
	g := newGate(Registrar{Rate: -1, Concurrency: -1})
	g.want("far", nil, epoch.Add(time.Hour))
	g.want("near", nil, epoch.Add(time.Minute))
	g.want("middle", nil, epoch.Add(2*time.Minute))
	g.want("far", nil, epoch.Add(time.Second)) // asked again with another deadline
	g.unwant("middle")
	got, _ := admit(g, epoch)
	wantIDs(t, got, "far", "near")
}

// A fast pace goes by the beat, and a slow one by its tokens; neither loses any.
func TestGateWakesOnBeats(t *testing.T) {
	for _, rate := range []float64{1, 49, 50, 51, 120, 200, 2_500, 20_000} {
		g := newGate(Registrar{Rate: rate, Concurrency: -1})
		const seconds = 10
		for i := range int(rate * seconds * 2) {
			g.want(fmt.Sprint(i), nil, epoch)
		}
		let, wakes, off := 0, 0, 0
		for now := epoch.Add(3 * time.Millisecond); now.Before(epoch.Add(seconds * time.Second)); wakes++ {
			ids, wake := admit(g, now)
			let += len(ids)
			g.heard(now)
			if wake.IsZero() {
				t.Fatalf("%v a second: at %v it does not want to wake", rate, now)
			}
			if least := now.Add(time.Millisecond); wake.Before(least) {
				wake = least // as turnstile.wakeAt
			}
			if now = wake; now.Truncate(tick) != now {
				off++
			}
		}
		if want := rate * (1 - burst) * seconds; float64(let) < 0.98*want || float64(let) > rate*seconds {
			t.Errorf("%v a second: let through %d in %d s, want %.0f", rate, let, seconds, want)
		}
		if rate >= 1_000 && off > 2 {
			t.Errorf("%v a second: %d of %d wake-ups are off the beat", rate, off, wakes)
		}
	}
}

func TestGateAnswersGoBeforeFreshAttempts(t *testing.T) {
	g := newGate(Registrar{Rate: 10, Concurrency: -1})
	g.tokens = 1
	order := []string{}
	g.want("fresh", nil, epoch)
	g.paced = append(g.paced, pacedSend{send: func() { order = append(order, "answer") }})
	ids, _ := admit(g, epoch)
	if len(order) != 1 || len(ids) != 0 {
		t.Errorf("CHA-16: answers %v, fresh %v; want the answer to take the only token", order, ids)
	}
	ids, _ = admit(g, epoch.Add(time.Second))
	wantIDs(t, ids, "fresh")
}

func TestGateConcurrency(t *testing.T) {
	g := newGate(Registrar{Rate: -1, Concurrency: 2})
	for _, id := range []string{"a", "b", "c"} {
		g.want(id, nil, epoch)
	}
	got, _ := admit(g, epoch)
	wantIDs(t, got, "a", "b")
	g.release(epoch, "a", true, false, 0)
	got, _ = admit(g, epoch)
	wantIDs(t, got, "c")
}

func TestGateRetransmissionsCostTokens(t *testing.T) {
	g := newGate(Registrar{Rate: 100, Concurrency: -1})
	for range 50 {
		g.spend()
	}
	g.want("a", nil, epoch)
	got, wake := admit(g, epoch)
	wantIDs(t, got)
	if wait := wake.Sub(epoch); wait < 400*time.Millisecond {
		t.Errorf("after 50 retransmissions at 100 a second the next goes in %v, want about half a second", wait)
	}
}

// TestGateSilentTarget: a target that does not answer gets one fresh attempt a
// second, and is down after five attempts in the dark; then one probe at a
// time, until anything is heard.
func TestGateSilentTarget(t *testing.T) {
	g := newGate(Registrar{Rate: -1, Concurrency: -1})
	g.want("a", nil, epoch)
	got, _ := admit(g, epoch)
	wantIDs(t, got, "a")
	for i := range 20 {
		g.want(fmt.Sprintf("b%02d", i), nil, epoch.Add(time.Hour))
	}
	now := epoch.Add(silentAfter + time.Millisecond)
	got, _ = admit(g, now)
	wantIDs(t, got, "b00")
	if g.state(now) != "silent" {
		t.Errorf("state %s, want silent", g.state(now))
	}
	got, _ = admit(g, now.Add(trickle/2))
	wantIDs(t, got)
	got, _ = admit(g, now.Add(trickle))
	wantIDs(t, got, "b01")

	now = now.Add(32 * time.Second)
	for range breakerFailures {
		g.release(now, "a", false, true, 1)
	}
	if g.state(now) != "down" {
		t.Fatalf("state %s after %d attempts in the dark, want down", g.state(now), breakerFailures)
	}
	got, wake := admit(g, now)
	wantIDs(t, got)
	got, _ = admit(g, wake)
	wantIDs(t, got, "b02")
	got, _ = admit(g, wake.Add(10*time.Second))
	wantIDs(t, got) // ERR-14: one probe at a time
	g.release(wake.Add(32*time.Second), "b02", false, true, 1)
	_, next := admit(g, wake.Add(32*time.Second))
	if wait := next.Sub(wake.Add(32 * time.Second)); wait != 2*firstProbeWait {
		t.Errorf("the second probe waits %v, want %v", wait, 2*firstProbeWait)
	}
	got, _ = admit(g, next)
	wantIDs(t, got, "b03")
	g.release(next, "b03", true, false, 0)
	got, _ = admit(g, next)
	if len(got) != 16 || g.state(next) != "up" {
		t.Errorf("%d let through when the target is heard again in state %s, want 16 and up", len(got), g.state(next))
	}
}

func TestGateRetryAfterNeverShortens(t *testing.T) {
	g := newGate(Registrar{Rate: -1, Concurrency: -1})
	g.want("a", nil, epoch)
	g.retryAfter(epoch.Add(30 * time.Second))
	g.retryAfter(epoch.Add(10 * time.Second))
	got, wake := admit(g, epoch.Add(29*time.Second))
	wantIDs(t, got)
	if !wake.Equal(epoch.Add(30 * time.Second)) {
		t.Errorf("ERR-05: wakes at %v", wake)
	}
	got, _ = admit(g, wake)
	wantIDs(t, got, "a")
}

func TestGateTakesBackLostSlots(t *testing.T) {
	g := newGate(Registrar{Rate: -1, Concurrency: 1})
	g.want("a", nil, epoch)
	g.want("b", nil, epoch.Add(time.Second))
	admit(g, epoch)
	now := epoch.Add(slotLimit + time.Second)
	if g.sweep(now) != 1 {
		t.Error("a slot that was never released is not taken back")
	}
	g.unheard = time.Time{}
	got, _ := admit(g, now)
	wantIDs(t, got, "b")
}

// TestGatePaceHoldsInEveryWindow: whatever is asked and whenever the gate is
// driven, no window of one second sees more requests than the rate (I-9).
func TestGatePaceHoldsInEveryWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.IntRange(1, 5000).Draw(t, "rate")
		g := newGate(Registrar{Rate: float64(rate), Concurrency: -1})
		var sent []time.Time
		now := epoch
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "ms")) * time.Millisecond)
			for j := range rapid.IntRange(0, 300).Draw(t, "wants") {
				g.want(fmt.Sprintf("%d-%d", i, j), nil, now)
			}
			for range rapid.IntRange(0, 20).Draw(t, "answers") {
				g.paced = append(g.paced, pacedSend{send: func() { sent = append(sent, now) }})
			}
			ids, _ := admit(g, now)
			for _, id := range ids {
				sent = append(sent, now)
				g.release(now, id, true, false, 0)
			}
		}
		from := 0
		for to := range sent {
			for sent[to].Sub(sent[from]) >= time.Second {
				from++
			}
			if n := to - from + 1; n > rate {
				t.Fatalf("%d requests within a second, the rate is %d", n, rate)
			}
		}
	})
}

// A paused attempt that waits for a slot does not hold up the answers of those
// that have one.
func TestGatePausedAttemptsDoNotBlockAnswers(t *testing.T) {
	g, now := newGate(Registrar{Rate: -1, Concurrency: 1}), epoch
	g.want("x", nil, now)
	admit(g, now)
	g.pause("x")
	g.want("d", nil, now)
	ids, _ := admit(g, now)
	wantIDs(t, ids, "d") // which has the only slot
	var sent []string
	g.paced = append(g.paced,
		pacedSend{id: "x", send: func() { sent = append(sent, "x") }},
		pacedSend{send: func() { sent = append(sent, "d") }})
	admit(g, now)
	g.release(now, "d", true, false, 0)
	admit(g, now)
	if len(sent) != 2 || sent[0] != "d" || sent[1] != "x" {
		t.Errorf("sent %v, want the answer of the slot's holder, and then the paused one", sent)
	}
	if len(g.slots) != 1 || len(g.paused) != 0 {
		t.Errorf("%d slots, %d paused, want the one of x", len(g.slots), len(g.paused))
	}
}

// A paused attempt that has ended takes no slot any more, and one that has sent
// nothing yet pays no second token.
func TestGatePausedAttemptsEndAndAreNotPaidTwice(t *testing.T) {
	g, now := newGate(Registrar{Rate: 1, Concurrency: 1}), epoch
	g.want("x", nil, now)
	admit(g, now) // the only token
	g.pause("x")
	sent := 0
	g.paced = append(g.paced, pacedSend{id: "x", prepaid: true, send: func() { sent++ }})
	admit(g, now)
	if sent != 1 || g.tokens >= 1 {
		t.Errorf("%d sent with %v tokens left", sent, g.tokens)
	}
	g.pause("x")
	g.paced = append(g.paced, pacedSend{id: "x", send: func() { sent++ }})
	g.release(now, "x", false, false, 0)
	admit(g, now.Add(time.Minute))
	if sent != 1 || len(g.slots) != 0 || len(g.paced) != 0 {
		t.Errorf("%d sent, %d slots, %d wait after the attempt has ended", sent, len(g.slots), len(g.paced))
	}
}
