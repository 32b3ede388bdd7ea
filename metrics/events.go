package metrics

import (
	"time"

	"github.com/sipmuster/muster/messages"
)

// ProfileEvents counts what one append recorded about a profile. before and
// after are its API states, empty while it does not exist; started is when its
// open attempt chain began, zero when none is open.
//
// A profile that moves to another registrar is reported twice: out of the old
// one (after is empty) and into the new one (before is empty).
func (m *Metrics) ProfileEvents(registrar, before, after string, started time.Time, events []*messages.ProfileEvent) {
	r := m.registrar(registrar)
	if before != after {
		r.move(stateIndex(before), stateIndex(after))
	}
	for _, e := range events {
		m.project(r, started, e)
	}
}

// ProfileRestored counts a profile that was loaded at start.
func (m *Metrics) ProfileRestored(registrar, state string) {
	m.registrar(registrar).move(-1, stateIndex(state))
}

// move counts a profile out of one state and into another; -1 is no state.
func (r *registrar) move(from, to int) {
	if from >= 0 {
		r.states[from].Add(-1)
	}
	if to >= 0 {
		r.states[to].Add(1)
	}
}

// project counts an event, by type and by what it says about registrations.
// Events that only prepare or explain another one are counted by type and nowhere
// else; of CredentialsRefused the reason comes again in the event that follows it.
func (m *Metrics) project(r *registrar, started time.Time, e *messages.ProfileEvent) {
	switch e.GetEvent().(type) {
	case *messages.ProfileEvent_AttemptStarted:
		m.usual[usualStarted].inc()
	case *messages.ProfileEvent_ChallengeReceived:
		m.usual[usualChallenged].inc()
	case *messages.ProfileEvent_BindingGranted:
		m.usual[usualGranted].inc()
		r.ended[granted].inc()
		if !started.IsZero() {
			r.duration.observe(max(0, time.Since(started).Seconds()))
		}
	default:
		m.events.inc(e.TypeName())
		m.projectOutcome(r, e)
	}
}

// projectOutcome counts what other events say about registrations.
func (m *Metrics) projectOutcome(r *registrar, e *messages.ProfileEvent) {
	switch b := e.GetEvent().(type) {
	case *messages.ProfileEvent_BindingRemoved:
		r.ended[removed].inc()
	case *messages.ProfileEvent_BindingsFetched:
		r.ended[fetched].inc()
	case *messages.ProfileEvent_BindingLapsed:
		r.ended[lapsed].inc()
	case *messages.ProfileEvent_AttemptFailed:
		r.ended[failed].inc()
		m.failures.inc(b.AttemptFailed.GetReason())
	case *messages.ProfileEvent_Halted:
		r.ended[rejected].inc()
		m.failures.inc(b.Halted.GetReason())
	case *messages.ProfileEvent_AttemptInterrupted:
		r.ended[interrupted].inc()
		m.failures.inc(string(messages.ReasonInterrupted))
	}
}

// Appended reports one append to the journal and how long it took until the
// events were durable.
func (m *Metrics) Appended(d time.Duration) {
	m.appends.observe(d.Seconds())
}

// Dropped counts an input that changed nothing.
func (m *Metrics) Dropped(reason messages.Reason) {
	m.inputs.inc(string(reason))
}

// ActorRestarted counts a profile actor that failed; parked when it failed so
// often that it is not restarted by itself.
func (m *Metrics) ActorRestarted(isParked bool) {
	if isParked {
		m.parked.Inc()
		return
	}
	m.restarts.Inc()
}

// Overdue sets how many profiles of a shard have passed their deadline without
// anything being done about it.
func (m *Metrics) Overdue(shard, profiles int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.overdueTotal += profiles - m.overdueOf[shard]
	m.overdueOf[shard] = profiles
	m.overdue.Set(float64(m.overdueTotal))
}

// Reloaded tells that the configuration was loaded, at start or later, and
// whether it was accepted.
func (m *Metrics) Reloaded(ok bool, at time.Time) {
	if !ok {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadAt.Set(float64(at.UnixMilli()) / 1000)
}

// WatchJournal sets where the size of the journal file is read at each scrape.
func (m *Metrics) WatchJournal(size func() int64) {
	m.journalSize.Store(&size)
}
