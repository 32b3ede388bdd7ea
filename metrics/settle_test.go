package metrics_test

import (
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
)

// TestNothingIsLost: what is kept until somebody reads is all there when somebody
// does, and while many count and read at once.
func TestNothingIsLost(t *testing.T) {
	const counters, each = 4, 500
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	m.ProfileRestored("acme", "registering")
	before := samples(t, m)
	granted := []*messages.ProfileEvent{messages.NewProfileEvent(&messages.BindingGranted{})}
	var wg sync.WaitGroup
	for range counters {
		wg.Go(func() {
			for i := range each {
				m.Appended(2 * time.Second)
				m.ProfileEvents("acme", "registering", "registered", time.Now(), granted)
				m.ProfileEvents("acme", "registered", "registering", time.Time{}, nil)
				m.RefreshMargin("acme", time.Minute)
				m.ChallengeAnswered(messages.DigestHandler, "answered", time.Second)
				m.RequestSent("REGISTER")
				m.ResponseReceived("REGISTER", 401)
				if i%100 == 0 {
					m.SetRegistrars([]string{"acme", "umbrella"}[:1+i/100%2])
					m.SetXSPs(nil)
				}
			}
		})
	}
	for range 20 {
		samples(t, m)
	}
	wg.Wait()
	after := samples(t, m)
	for series, want := range map[string]float64{
		`muster_journal_append_duration_seconds_count`:                            counters * each,
		`muster_journal_append_duration_seconds_sum`:                              counters * each * 2,
		`muster_registration_duration_seconds_count{registrar="acme"}`:            counters * each,
		`muster_registrations_total{outcome="granted",registrar="acme"}`:          counters * each,
		`muster_journal_events_total{type="BindingGranted"}`:                      counters * each,
		`muster_refresh_margin_seconds_sum{registrar="acme"}`:                     counters * each * 60,
		`muster_challenges_total{handler="digest",outcome="answered"}`:            counters * each,
		`muster_challenge_answer_duration_seconds_count{handler="digest"}`:        counters * each,
		`muster_sip_requests_total{method="REGISTER"}`:                            counters * each,
		`muster_sip_responses_total{code="401",method="REGISTER"}`:                counters * each,
		`muster_profiles{registrar="acme",state="registering"}`:                   0,
		`muster_profiles{registrar="acme",state="registered"}`:                    0,
		`muster_registrar_up{registrar="acme"}`:                                   0,
		`muster_challenge_answer_duration_seconds_sum{handler="digest"}`:          counters * each,
		`muster_refresh_margin_seconds_bucket{registrar="acme",le="60"}`:          counters * each,
		`muster_journal_append_duration_seconds_bucket{le="1"}`:                   0,
		`muster_registration_duration_seconds_bucket{registrar="acme",le="+Inf"}`: counters * each,
	} {
		if _, exists := after[series]; !exists {
			t.Errorf("no %s", series)
		}
		if got := after[series] - before[series]; got != want {
			t.Errorf("%s rose by %v, want %v", series, got, want)
		}
	}
}

// TestGatesAreAskedAtEachScrape: the host's word at that moment counts, for
// registrars that have a gate.
func TestGatesAreAskedAtEachScrape(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme", "umbrella"}})
	waiting := 0
	m.WatchGates(func(tell func(name string, waiting, inFlight int, open bool)) {
		waiting++
		tell("acme", waiting, 7, false)
		tell("nobody", 1, 1, true)
	})
	for range 2 {
		got := samples(t, m)
		if at := got[`muster_registrar_waiting{registrar="acme"}`]; at == 0 || at > float64(waiting) {
			t.Errorf("%v profiles wait", at)
		}
		for series, want := range map[string]float64{
			`muster_registrar_in_flight{registrar="acme"}`:     7,
			`muster_registrar_up{registrar="acme"}`:            0,
			`muster_registrar_up{registrar="umbrella"}`:        1,
			`muster_registrar_in_flight{registrar="umbrella"}`: 0,
		} {
			if got[series] != want {
				t.Errorf("%s is %v, want %v", series, got[series], want)
			}
		}
		if _, exists := got[`muster_registrar_up{registrar="nobody"}`]; exists {
			t.Error("a registrar that is not configured has a gate")
		}
		if before := waiting; samples(t, m) == nil || waiting == before {
			t.Error("the gates were not asked")
		}
	}
}
