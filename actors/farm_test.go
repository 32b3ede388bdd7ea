package actors

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/actors/profile"
)

func TestFarmRegistersAndRefreshesForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		const profiles = 50
		w.declare(profiles)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: profiles})
		first := w.registrar.seen()
		if first != 2*profiles {
			t.Errorf("%d requests to register %d profiles, want 2 each: a challenge and its answer", first, profiles)
		}
		time.Sleep(24 * time.Hour)
		w.wantStates(map[string]int{StateRegistered: profiles})
		refreshes := w.registrar.seen() - first
		// A grant of 3600 s is refreshed after 2854 to 3568 s: 24 to 31 times a
		// day, one request each because the nonce is known.
		if refreshes < 24*profiles || refreshes > 31*profiles {
			t.Errorf("%d requests in a day of %d profiles, want 24 to 31 each", refreshes, profiles)
		}
		w.registrar.check()
		w.stop()
	})
}

func TestFarmRestartIsQuietAndKeepsIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		w.declare(100)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 100})
		w.stop()

		before := w.registrar.seen()
		w.start()
		time.Sleep(time.Minute)
		if n := w.registrar.seen() - before; n != 0 {
			t.Errorf("%d requests in the first minute after a restart with live bindings, want 0", n)
		}
		w.wantStates(map[string]int{StateRegistered: 100})
		time.Sleep(2 * time.Hour)
		w.wantStates(map[string]int{StateRegistered: 100})
		if w.registrar.callIDs() != 100 {
			t.Errorf("%d Call-IDs seen for 100 profiles: a restart must keep them", w.registrar.callIDs())
		}
		w.registrar.check()
		w.stop()
	})
}

func TestFarmKilledInFlightRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", RetryBase: time.Second})
		w.registrar.set(func(r *fakeRegistrar) { r.delay = 300 * time.Millisecond })
		w.start()
		w.declare(200)
		for range 20 {
			time.Sleep(450 * time.Millisecond)
			w.kill()
			w.start()
		}
		time.Sleep(10 * time.Minute)
		w.wantStates(map[string]int{StateRegistered: 200})
		w.registrar.check()
		w.stop()
	})
}

func TestFarmWrongPasswordIsRejectedAfterOneAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		w.password("p0", "not it")
		w.declare(1)
		time.Sleep(20 * time.Minute)
		w.wantStates(map[string]int{StateRejected: 1})
		if w.registrar.seen() != 2 {
			t.Errorf("%d requests with a wrong password, want 2", w.registrar.seen())
		}
		// A crash loop must not turn into a guessing loop.
		for range 10 {
			w.kill()
			w.start()
			time.Sleep(30 * time.Second)
		}
		if w.registrar.seen() != 2 {
			t.Errorf("%d requests after restarts, want still 2", w.registrar.seen())
		}
		w.password("p0", "pw-p0")
		if _, err := w.farm.Do(t.Context(), "p0", profile.Refresh{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 1})
		w.stop()
	})
}

func TestFarmOutageNeverExceedsThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const profiles, pace = 2000, 200
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Rate: pace, Expires: 2 * time.Minute})
		w.start()
		w.declare(profiles)
		time.Sleep(time.Minute)
		w.wantStates(map[string]int{StateRegistered: profiles})
		w.registrar.set(func(r *fakeRegistrar) { r.silent = true })
		began := w.registrar.seen()
		time.Sleep(time.Minute)
		outage := w.registrar.seen() - began
		w.registrar.set(func(r *fakeRegistrar) { r.silent = false })
		time.Sleep(4 * time.Minute)
		w.wantStates(map[string]int{StateRegistered: profiles})
		if peak := w.registrar.peak(); peak > pace {
			t.Errorf("%d requests in a second, the pace is %d", peak, pace)
		}
		if outage > profiles {
			t.Errorf("%d requests into an outage of a minute, want fewer than profiles", outage)
		}
		t.Logf("requests into the outage: %d, peak in any second: %d", outage, w.registrar.peak())
		w.registrar.check()
		w.stop()
	})
}

// A cold start of challenged profiles takes two requests each. An operator whose
// registrar limits registrations says so, and it takes half the time.
func TestFarmColdStartAtThePace(t *testing.T) {
	for _, c := range []struct {
		countRegistrations bool
		requests           int // that count, per profile
	}{{false, 2}, {true, 1}} {
		synctest.Test(t, func(t *testing.T) {
			const profiles, pace = 2000, 200
			w := newWorld(t, Registrar{
				Name: "r", URI: "sip:registrar.test", Rate: pace, Concurrency: -1, CountRegistrations: c.countRegistrations,
			})
			w.start()
			began := time.Now()
			w.declare(profiles)
			for w.registrar.held() < profiles {
				time.Sleep(100 * time.Millisecond)
			}
			took, want := time.Since(began), time.Duration(c.requests*profiles/pace)*time.Second
			if took < want-time.Second || took > want*11/10 {
				t.Errorf("counting registrations is %v: %s, want %s and at most a tenth more", c.countRegistrations, took, want)
			}
			w.stop()
		})
	}
}

func TestFarmRetryAfterIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Rate: 10})
		w.registrar.set(func(r *fakeRegistrar) { r.unavailable = 30 * time.Second })
		w.start()
		w.declare(100)
		time.Sleep(20 * time.Second)
		if n := w.registrar.seen(); n > 4 {
			t.Errorf("%d requests although the first answer said Retry-After: 30", n)
		}
		w.registrar.set(func(r *fakeRegistrar) { r.unavailable = 0 })
		time.Sleep(10 * time.Minute)
		w.wantStates(map[string]int{StateRegistered: 100})
		w.stop()
	})
}

func TestFarmDisableRemoveEnable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		w.declare(3)
		time.Sleep(5 * time.Second)
		do := func(id string, c profile.Command) {
			t.Helper()
			if _, err := w.farm.Do(t.Context(), id, c); err != nil {
				t.Fatal(err)
			}
		}
		do("p0", profile.Disable{})
		do("p1", profile.Remove{ByOperator: true})
		time.Sleep(5 * time.Second)
		if w.registrar.held() != 1 {
			t.Errorf("the registrar holds %d bindings, want 1: a disabled and a removed profile withdraw theirs", w.registrar.held())
		}
		w.wantStates(map[string]int{StateRegistered: 1, StateDisabled: 1})
		if _, err := w.farm.Profile(t.Context(), "p1"); err == nil {
			t.Error("a removed profile is still shown")
		}
		do("p0", profile.Enable{})
		time.Sleep(5 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 2})
		for name, g := range w.farm.gateViews() {
			if g.inFlight != 0 || g.waiting != 0 {
				t.Errorf("gate of %s: %d slots and %d waiting when nothing is open", name, g.inFlight, g.waiting)
			}
		}
		w.registrar.check()
		w.stop()
	})
}

func TestFarmStopWithdrawsWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		w.declare(300)
		time.Sleep(10 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 33*time.Second)
		defer cancel()
		w.farm.Stop(ctx, true)
		if w.registrar.held() != 0 {
			t.Errorf("the registrar holds %d bindings after a shutdown that withdraws", w.registrar.held())
		}
		if peak := w.registrar.peak(); peak > defaultRate {
			t.Errorf("%d requests in a second, the pace is %d", peak, defaultRate)
		}
		time.Sleep(2 * time.Second)
	})
}

func TestFarmStoreFailureStopsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Expires: 2 * time.Minute})
		w.start()
		w.declare(100)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 100})
		w.journal.fail(fmt.Errorf("%w: disk full", ErrStoreFailed))
		w.farm.Hold(true)
		before := w.registrar.seen()
		time.Sleep(10 * time.Minute)
		if n := w.registrar.seen() - before; n != 0 {
			t.Errorf("%d requests left although their events were not durable", n)
		}
		w.journal.fail(nil)
		w.farm.Hold(false)
		time.Sleep(2 * time.Minute)
		w.wantStates(map[string]int{StateRegistered: 100})
		w.registrar.check()
		w.stop()
	})
}

func TestFarmPanicIsolationAndParking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		w.declare(5)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 5})
		w.journal.plant("p/p1")
		time.Sleep(2 * time.Hour)
		w.wantStates(map[string]int{StateRegistered: 5}) // p1 as it was last recorded
		if w.observer.failures() > parkAfter || w.observer.parkings() != 1 {
			t.Errorf("%d profiles parked after %d failures, want 1 after %d", w.observer.parkings(), w.observer.failures(), parkAfter)
		}
		w.journal.plant("")
		if _, err := w.farm.Do(t.Context(), "p1", profile.Refresh{}); err != nil { // wakes it
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s, _, err := w.farm.State(t.Context(), "p1")
		if err != nil || !s.Bound() || s.Binding.Until.Before(time.Now()) {
			t.Errorf("p1 is not registered again: %v %v", s.Binding, err)
		}
		w.registrar.check()
		w.stop()
	})
}

func TestFarmFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		w.declare(1)
		time.Sleep(5 * time.Second)
		contacts, err := w.farm.Fetch(t.Context(), "p0")
		if err != nil || len(contacts) != 1 {
			t.Errorf("REG-10: fetch: %v, %v; want one contact", contacts, err)
		}
		w.wantStates(map[string]int{StateRegistered: 1})
		w.registrar.check()
		w.stop()
	})
}

func TestFarmListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		w.declare(250)
		time.Sleep(10 * time.Second)
		seen, pages := map[string]bool{}, 0
		for q := (Query{Limit: 100}); ; pages++ {
			page, err := w.farm.Profiles(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range page.Profiles {
				if seen[p.ID] {
					t.Errorf("%s is listed twice", p.ID)
				}
				seen[p.ID] = true
			}
			if page.Next == "" {
				break
			}
			q.After = page.Next
		}
		if len(seen) != 250 || pages != 2 {
			t.Errorf("%d profiles on %d pages, want 250 on 3", len(seen), pages+1)
		}
		history, err := w.farm.History(t.Context(), "p7", 0, 10)
		if err != nil || len(history) == 0 || history[len(history)-1].Type != "ProfileAdded" {
			t.Errorf("history: %v, %v; want it to begin with ProfileAdded", history, err)
		}
		w.stop()
	})
}

// TestFarmBindingLapsesDuringAnOutage: a binding that ended is not shown as
// registered, also while an unanswered request leaves a doubt.
func TestFarmBindingLapsesDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Expires: 2 * time.Minute})
		w.start()
		w.declare(20)
		time.Sleep(10 * time.Second)
		w.wantStates(map[string]int{StateRegistered: 20})
		w.registrar.set(func(r *fakeRegistrar) { r.silent = true })
		time.Sleep(10 * time.Minute)
		_ = w.farm.visitAll(t.Context(), func(e *entry) {
			if s := e.state(); s.Bound() {
				t.Errorf("%s is shown as %s, bound until %v, at %v", e.id, s.Status(), s.Binding.Until, time.Now().UTC())
			}
		})
		w.registrar.set(func(r *fakeRegistrar) { r.silent = false })
		time.Sleep(time.Hour)
		w.wantStates(map[string]int{StateRegistered: 20})
		w.registrar.check()
		w.stop()
	})
}

// TestFarmKilledWithLiveBindingsIsQuiet: also the refreshes that a kill
// interrupted wait a minute, because their bindings are alive.
func TestFarmKilledWithLiveBindingsIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test", Rate: -1})
		w.start()
		w.declare(100)
		time.Sleep(10 * time.Second)
		w.registrar.set(func(r *fakeRegistrar) { r.delay = 300 * time.Millisecond })
		for i := range 50 {
			if _, err := w.farm.Do(t.Context(), fmt.Sprintf("p%d", i), profile.Refresh{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(150 * time.Millisecond)
		w.kill()
		before := w.registrar.seen()
		w.start()
		time.Sleep(time.Minute)
		if n := w.registrar.seen() - before; n != 0 {
			t.Errorf("%d requests in the first minute after a kill with live bindings, want 0", n)
		}
		w.wantStates(map[string]int{StateRegistered: 100})
		time.Sleep(time.Hour)
		w.wantStates(map[string]int{StateRegistered: 100})
		w.registrar.check()
		w.stop()
	})
}
