package actors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// TestWatch: what is recorded is told in order, to those who asked for it.
func TestWatch(t *testing.T) {
	calls(t, Registrar{}, nil, func(w *world) {
		ctx, cancel := context.WithCancel(w.t.Context())
		all, err := w.farm.Watch(ctx, ChangeQuery{})
		if err != nil {
			w.t.Fatal(err)
		}
		ofSessions, _ := w.farm.Watch(ctx, ChangeQuery{Kind: "session", Profile: "p0"})
		others, _ := w.farm.Watch(ctx, ChangeQuery{Profile: "somebody"})
		id := w.call(nil)
		time.Sleep(time.Second)
		if _, err := w.farm.EndSession(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		w.wantSession(id, "ended", messages.ReasonHangup)
		if _, err := w.farm.Do(w.t.Context(), "p0", profile.Disable{}); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		recorded := w.events(id)
		var n int
		for c := range ofSessions {
			if c.Kind != "session" || c.ID != id || c.Profile != "p0" || c.Type != recorded[n] || c.Version != uint64(n)+1 || c.Text == "" || c.State == "" {
				w.t.Errorf("change %d is %+v, want %s", n, c, recorded[n])
			}
			n++
		}
		if n != len(recorded) {
			w.t.Errorf("%d changes, %d events", n, len(recorded))
		}
		profiles := 0
		for c := range all {
			if c.Kind == "profile" && c.ID == "p0" {
				profiles++
			}
		}
		if profiles == 0 {
			w.t.Error("no change of the profile was told")
		}
		if _, more := <-others; more {
			w.t.Error("a watcher was told what it did not ask for")
		}
		if w.farm.changes.watched() {
			w.t.Error("somebody is still watching")
		}
	})
}

// TestWatchCutsOffWhoIsSlow: a reader that does not read loses its channel, and
// nobody waits for it.
func TestWatchCutsOffWhoIsSlow(t *testing.T) {
	calls(t, Registrar{Rate: -1, Concurrency: -1}, nil, func(w *world) {
		slow, _ := w.farm.Watch(w.t.Context(), ChangeQuery{})
		w.declareFor("q", watchBuffer, "")
		time.Sleep(time.Minute)
		w.wantStates(map[string]int{StateRegistered: watchBuffer + 1})
		n := 0
		for range slow {
			n++
		}
		if n != watchBuffer || w.farm.changes.watched() {
			w.t.Errorf("%d changes before the end, want %d; watched %t", n, watchBuffer, w.farm.changes.watched())
		}
	})
}

// TestWatchEndsWithTheFarm: and nobody can watch one that stops.
func TestWatchEndsWithTheFarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Registrar{Name: "r", URI: "sip:registrar.test"})
		w.start()
		c, _ := w.farm.Watch(t.Context(), ChangeQuery{})
		w.stop()
		if _, more := <-c; more {
			t.Error("a change of a farm that has stopped")
		}
		if _, err := w.farm.Watch(t.Context(), ChangeQuery{}); err == nil {
			t.Error("a farm that has stopped can be watched")
		}
	})
}
