package actors

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// TestActorsAreUsedAgain: one profile after the other has the same actor, when
// no two are busy at a time, and each answers its own challenges.
func TestActorsAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Concurrency: 1})
		w.start()
		w.declare(20)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 20})
		// Declaring gave many profiles to actors at once, registering did not.
		spawned := len(w.farm.crew.pids())
		time.Sleep(3 * time.Hour)
		w.wantStates(map[string]int{StateRegistered: 20})
		if n := len(w.farm.crew.pids()); n > spawned {
			t.Errorf("%d actors after three hours of refreshes with a concurrency of 1, want at most %d", n, spawned)
		}
		w.registrar.check()
		w.stop()
	})
}

// TestWordOfAnEarlierTerm: what comes for a profile that has left its actor
// changes nothing for the one that has it now.
func TestWordOfAnEarlierTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Concurrency: 1})
		w.start()
		w.declare(1)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 1})
		before := len(w.journal.streams["p/p0"])
		past := &busy{}
		for _, pid := range w.farm.crew.pids() {
			for _, late := range []any{
				lateReport(w.farm, pid, past),
				&sendNow{busy: past, attempt: 2},
				&observed{busy: past, command: nil},
				&verdict{ref: "1", handler: messages.DigestHandler, outcome: outcomeAnswered, answer: &messages.AuthAnswer{}},
			} {
				w.farm.root.Send(pid, late)
			}
		}
		synctest.Wait()
		w.wantStates(map[string]int{StateRegistered: 1})
		if n := len(w.journal.streams["p/p0"]); n != before {
			t.Errorf("%d events were recorded after word of an earlier term", n-before)
		}
		time.Sleep(time.Hour)
		w.wantStates(map[string]int{StateRegistered: 1})
		w.registrar.check()
		w.stop()
	})
}

// TestAnAppendThatIsOut: what a profile is told while its events are not durable
// yet waits, and is then done in order.
func TestAnAppendThatIsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		w.declare(1)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 1})
		results := w.ordersBehindAnAppend()
		if len(results) > 0 {
			t.Error("an order was answered before its events were durable")
		}
		seen := w.registrar.seen()
		time.Sleep(time.Second)
		if n := w.registrar.seen(); n != seen {
			t.Errorf("%d requests left before the events that explain them were durable", n-seen)
		}
		w.journal.letGo()
		for range 3 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 1})
		w.registrar.check()
		w.stop()
	})
}

// ordersBehindAnAppend gives p0 three orders, of which the first waits for its
// append, and returns what will become of them.
func (w *world) ordersBehindAnAppend() <-chan error {
	w.journal.hold()
	results := make(chan error, 3)
	for _, command := range []profile.Command{profile.Disable{}, profile.Enable{}, profile.Refresh{}} {
		go func() {
			_, err := w.farm.Do(w.t.Context(), "p0", command)
			results <- err
		}()
		synctest.Wait()
	}
	return results
}

func lateReport(f *Farm, to *actor.PID, past *busy) *sending {
	s := newSending(f, to)
	s.busy, s.attempt = past, 2
	s.outcome = messages.SIPOutcome{Response: &messages.SIPResponse{Status: 403}}
	return s
}

// TestWhoWaitsForAFailedActor: every order that a profile was given when its actor
// fails is answered then and there, and the actor is not used again.
func TestWhoWaitsForAFailedActor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		w.declare(1)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 1})
		results := w.ordersBehindAnAppend()
		w.journal.fail(errors.New("planted"))
		before := time.Now()
		w.journal.letGo()
		for range 3 {
			if err := <-results; err == nil {
				t.Error("an order succeeded whose append failed")
			}
		}
		if d := time.Since(before); d > time.Second {
			t.Errorf("the orders were answered after %v, want at once", d)
		}
		w.journal.fail(nil)
		time.Sleep(time.Minute)
		w.wantStates(map[string]int{StateRegistered: 1})
		for _, a := range w.farm.crew.idle {
			if a.dead {
				t.Error("an actor that failed is free for the next profile")
			}
		}
		w.registrar.check()
		w.stop()
	})
}
