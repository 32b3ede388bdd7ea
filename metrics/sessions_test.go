package metrics_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
)

// ended is the last event of a session.
func ended(reason messages.Reason, status uint32) []*messages.SessionEvent {
	return []*messages.SessionEvent{messages.NewSessionEvent(&messages.SessionEnded{Status: status, Reason: string(reason)})}
}

// callsOf are the outcomes of the sessions of a registrar, without zeros.
func callsOf(t *testing.T, m *metrics.Metrics, registrar string) map[string]float64 {
	t.Helper()
	outcomes := map[string]float64{}
	for name, v := range samples(t, m) {
		rest, ok := strings.CutPrefix(name, `muster_session_outcomes_total{outcome="`)
		if outcome, of, _ := strings.Cut(rest, `"`); ok && strings.Contains(of, `registrar="`+registrar+`"`) && v != 0 {
			outcomes[outcome] = v
		}
	}
	return outcomes
}

// TestSessionOutcomes names every reason that can end a session before it is
// established.
func TestSessionOutcomes(t *testing.T) {
	outcomes := map[string][]struct {
		reason messages.Reason
		status uint32
	}{
		"declined":  {{messages.ReasonDeclined, 603}, {messages.ReasonDeclined, 404}, {messages.ReasonDeclined, 0}},
		"busy":      {{messages.ReasonPeerBusy, 486}, {messages.ReasonPeerBusy, 600}, {messages.ReasonDeclined, 486}, {messages.ReasonDeclined, 600}},
		"no_answer": {{messages.ReasonNoAnswer, 480}, {messages.ReasonNoAnswer, 0}, {messages.ReasonDeclined, 480}, {messages.ReasonDeclined, 408}},
		"cancelled": {{messages.ReasonHangup, 487}, {messages.ReasonHangup, 486}, {messages.ReasonHangupAfter, 0}, {messages.ReasonRemoteHangup, 487}},
	}
	named := map[messages.Reason]bool{}
	for outcome, ends := range outcomes {
		m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
		for _, e := range ends {
			named[e.reason] = true
			m.SessionEvents("acme", "early", "ended", time.Now(), time.Time{}, ended(e.reason, e.status))
		}
		if diff := cmp.Diff(map[string]float64{outcome: float64(len(ends))}, callsOf(t, m, "acme")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", outcome, diff)
		}
	}
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	others := 0.0
	for _, reason := range append(messages.Reasons(), "", "something of a later release") {
		if !named[reason] {
			others++
			m.SessionEvents("acme", "calling", "ended", time.Now(), time.Time{}, ended(reason, 486))
		}
	}
	if diff := cmp.Diff(map[string]float64{"failed": others}, callsOf(t, m, "acme")); diff != "" {
		t.Errorf("every other reason (-want +got):\n%s", diff)
	}
}

// TestEachSessionHasOneOutcome: once established it is answered, whatever ends
// it, also by another process.
func TestEachSessionHasOneOutcome(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	start := time.Now()
	up := []*messages.SessionEvent{messages.NewSessionEvent(&messages.SessionEstablished{Status: 200})}
	for _, reason := range messages.Reasons() {
		m.SessionEvents("acme", "", "calling", start, time.Time{}, nil)
		m.SessionEvents("acme", "calling", "established", start, start.Add(time.Second), up)
		m.SessionEvents("acme", "established", "ending", start, start.Add(time.Second), nil)
		m.SessionEvents("acme", "ending", "ended", start, start.Add(time.Second), ended(reason, 0))
	}
	n := float64(len(messages.Reasons()))
	if diff := cmp.Diff(map[string]float64{"answered": n}, callsOf(t, m, "acme")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	page := samples(t, m)
	if sum, count := page[`muster_session_setup_seconds_sum{registrar="acme"}`], page[`muster_session_setup_seconds_count{registrar="acme"}`]; sum != n || count != n {
		t.Errorf("%v sessions took %v s, want %v of one second", count, sum, n)
	}

	// After a restart.
	m = metrics.New(metrics.Options{Registrars: []string{"acme"}})
	m.SessionRestored("established")
	m.SessionRestored("early")
	m.SessionEvents("acme", "established", "ended", start, start.Add(time.Second), ended(messages.ReasonRemoteHangup, 0))
	m.SessionEvents("acme", "early", "ended", start, time.Time{}, ended(messages.ReasonInterrupted, 0))
	if diff := cmp.Diff(map[string]float64{"failed": 1}, callsOf(t, m, "acme")); diff != "" {
		t.Errorf("restored sessions (-want +got):\n%s", diff)
	}
}

// TestSessionStatesSumToTheSessions moves many sessions at once and checks the
// promise of muster_sessions.
func TestSessionStatesSumToTheSessions(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	const sessions, over = 200, 80
	var wg sync.WaitGroup
	for s := range sessions {
		wg.Go(func() {
			at := ""
			if s%2 == 0 {
				at = session.Statuses()[s%len(session.Statuses())]
				m.SessionRestored(at)
			}
			for i := range 50 {
				next := session.Statuses()[(s+i)%len(session.Statuses())]
				m.SessionEvents("acme", at, next, time.Time{}, time.Time{}, nil)
				at = next
			}
			if s < over {
				m.SessionEvents("acme", at, "ended", time.Time{}, time.Time{}, nil)
			}
		})
	}
	wg.Wait()
	sum := 0.0
	for name, v := range samples(t, m) {
		if strings.HasPrefix(name, "muster_sessions{") {
			if v < 0 {
				t.Errorf("%s is %v", name, v)
			}
			sum += v
		}
	}
	if sum != sessions-over {
		t.Errorf("the states sum to %v, want %d", sum, sessions-over)
	}
}

// TestEverySessionStateIsCounted fails when sessions get a state that the
// metrics do not know.
func TestEverySessionStateIsCounted(t *testing.T) {
	for _, state := range session.Statuses() {
		m := metrics.New(metrics.Options{})
		name := fmt.Sprintf("muster_sessions{state=%q}", state)
		if got, ok := samples(t, m)[name]; !ok || got != 0 {
			t.Errorf("%s does not exist at zero", name)
		}
		m.SessionRestored(state)
		if got := samples(t, m)[name]; got != 1 {
			t.Errorf("%s is %v, want 1", name, got)
		}
	}
}

// TestSessionLabelsAreClosed: no text from the network becomes a label, and no
// session has series of its own (S-64).
func TestSessionLabelsAreClosed(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	m.SessionRestored("early")
	before := slices.Sorted(maps.Keys(samples(t, m)))
	for _, text := range []string{"evil\"} 1\n", "sip:alice@example.test", "f1d2d2f924e986ac", "ENDED"} {
		m.SessionRestored(text)
		m.SessionEvents("acme", text, text+"x", time.Now(), time.Time{}, ended(messages.Reason(text), 999))
		m.ChallengeWithheld("acme", messages.Reason(text))
	}
	if diff := cmp.Diff(before, slices.Sorted(maps.Keys(samples(t, m)))); diff != "" {
		t.Errorf("series appeared (-want +got):\n%s", diff)
	}
}
