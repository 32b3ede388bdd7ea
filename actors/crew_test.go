package actors

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/words"
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
		for _, a := range w.farm.crew.all {
			for _, late := range []any{
				late(a, true), late(a, false), &observed{number: 1 << 32, command: nil}, &consultation{from: a},
				&verdict{ref: "1", handler: messages.DigestHandler, outcome: outcomeAnswered, answer: &messages.AuthAnswer{}},
			} {
				a.tell(late)
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

// TestReadersOfABusyProfile: while one actor has one profile after the other,
// whoever reads one sees its own state, the newest or the one before.
func TestReadersOfABusyProfile(t *testing.T) {
	var known profile.Words
	known.Texts = new(words.Table)
	a := newProfileActor(nil)
	entries := []*entry{newEntry(&known, "a"), newEntry(&known, "b")}
	for _, e := range entries {
		e.pack(&versioned{state: profile.State{Spec: profile.Spec{AOR: "sip:" + e.id, Registrar: "r"}, Disabled: e.id == "a"}})
	}
	var done atomic.Bool
	var readers sync.WaitGroup
	for _, e := range entries {
		readers.Go(func() {
			for last := uint64(0); !done.Load(); {
				v := e.load()
				if v.state.Spec.AOR != "sip:"+e.id || v.state.Disabled != (e.id == "a") || v.version < last {
					t.Errorf("%s: read %q at version %d after %d", e.id, v.state.Spec.AOR, v.version, last)
					return
				}
				last = v.version
			}
		})
	}
	for i := range 4000 {
		e := entries[i%len(entries)]
		b := e.engage(nil, a, timerOrder, nil)
		state := b.now.state
		b.keep(&state, b.now.version+1)
		if !b.leave(1) {
			t.Fatal("more orders than were given")
		}
		e.pack(&b.now)
		e.rest(b.now.version)
	}
	done.Store(true)
	readers.Wait()
	if v := entries[0].load(); v.version != 2000 {
		t.Errorf("version %d, want 2000", v.version)
	}
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

// late is a request of an earlier time with a profile: one that was refused, or
// whose turn has come.
func late(a *profileActor, left bool) *sending {
	s := newSending(a)
	s.number, s.attempt, s.left = 1<<32, 2, left
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
			if a.dead.Load() {
				t.Error("an actor that failed is free for the next profile")
			}
		}
		w.registrar.check()
		w.stop()
	})
}

// An actor can fail by a message that came too late, when it is free and a shard has
// just taken it for a profile.
func TestActorFailsWhenItIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Concurrency: 1})
		w.start()
		w.declare(1)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 1})
		crew := w.farm.crew
		a := crew.take()
		a.tell((*verdict)(nil))
		synctest.Wait()
		if !a.dead.Load() {
			t.Fatal("the message did not fail it")
		}
		crew.idle = append(crew.idle, a) // what the shard takes next
		shard, done := w.farm.restored[Shard("p0")], make(chan struct{})
		w.farm.root.Send(shard.self, &visitOne{id: "p0", done: done, f: func(e *entry) { shard.give(e, timerOrder, nil) }})
		<-done
		time.Sleep(time.Minute)
		if _, err := w.farm.Do(t.Context(), "p0", profile.Refresh{}); err != nil {
			t.Errorf("refresh: %v", err)
		}
		time.Sleep(time.Minute)
		w.wantStates(map[string]int{StateRegistered: 1})
		if e := shard.entries["p0"]; e.busy == &a.busy || e.newest.Load().busy == &a.busy {
			t.Error("the profile holds on to an actor that failed")
		}
		w.stop()
	})
}
