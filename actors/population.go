package actors

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// population counts the profiles of each registrar by state, so that nobody has
// to look at all of them to know.
type population struct{ all sync.Map } // *[]atomic.Int64 by registrar, in the order of States

func (p *population) of(registrar string) []atomic.Int64 {
	counts, ok := p.all.Load(registrar)
	if !ok {
		fresh := make([]atomic.Int64, len(statusIndexes))
		counts, _ = p.all.LoadOrStore(registrar, &fresh)
	}
	return *counts.(*[]atomic.Int64)
}

// move counts a profile out of one state and into another; "" is none.
func (p *population) move(registrar, before, after string) {
	if before != after {
		shift(p.of(registrar), before, after)
	}
}

func shift(counts []atomic.Int64, before, after string) {
	if before != "" {
		counts[statusIndex(before)].Add(-1)
	}
	if after != "" {
		counts[statusIndex(after)].Add(1)
	}
}

func (p *population) view(registrar string) map[string]int {
	counts := p.of(registrar)
	view := make(map[string]int, len(counts))
	for i, state := range statusIndexes {
		view[state] = int(counts[i].Load())
	}
	return view
}

// Populated tells whether any profile is with a registrar, configured or not.
func (f *Farm) Populated(registrar string) bool {
	counts := f.population.of(registrar)
	for i := range counts {
		if counts[i].Load() > 0 {
			return true
		}
	}
	return false
}

// standing is what moved must know of a state that was.
type standing struct {
	registrar, status string
	bound             time.Time
}

func standingOf(s *profile.State) standing {
	return standing{registrar: s.Spec.Registrar, status: s.Status(), bound: s.Binding.Until}
}

// moved tells the observer of events, and counts; r is the registrar of now. A
// profile that is declared for another registrar leaves the one and comes to the
// other.
func (f *Farm) moved(r *registrar, old standing, now *profile.State, started time.Time, events []*messages.ProfileEvent) {
	from, to := old.registrar, now.Spec.Registrar
	before, after := old.status, now.Status()
	if to == "" { // it is forgotten
		to = from
	}
	if from != to && before != "" {
		f.population.move(from, before, "")
		f.observer.ProfileEvents(from, before, "", started, nil)
		before = ""
	}
	switch {
	case before == after:
	case r.config.Name == to && r.population != nil:
		shift(r.population, before, after)
	default:
		f.population.move(to, before, after)
	}
	f.observer.ProfileEvents(to, before, after, started, events)
}
