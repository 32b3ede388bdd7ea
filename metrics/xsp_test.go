package metrics_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/metrics"
)

// ofHandler are the samples with that handler, without buckets and zeros.
func ofHandler(t *testing.T, m *metrics.Metrics, name string) map[string]float64 {
	t.Helper()
	all := samples(t, m)
	maps.DeleteFunc(all, func(sample string, v float64) bool {
		return !strings.Contains(sample, `handler="`+name+`"`) || strings.Contains(sample, "_bucket{") || v == 0
	})
	return all
}

func TestAnswersAreCountedByHandler(t *testing.T) {
	m := metrics.New(metrics.Options{XSPs: []string{"tokens", "cards"}})
	m.ChallengeAnswered("tokens", "answered", 250*time.Millisecond)
	m.ChallengeAnswered("tokens", "refused", 500*time.Millisecond)
	// Only what was said on purpose has a time: silence always takes the
	// timeout, and an open breaker none.
	m.ChallengeAnswered("tokens", "timeout", 3*time.Second)
	m.ChallengeAnswered("tokens", "late", 0)
	m.ChallengeAnswered("tokens", "unavailable", time.Microsecond)
	m.ChallengeAnswered("tokens", "invalid", time.Second)
	m.ChallengeAnswered("tokens", "error", time.Second)
	m.XSP("tokens", 7, 3, false)
	want := map[string]float64{
		`muster_challenges_total{handler="tokens",outcome="answered"}`:     1,
		`muster_challenges_total{handler="tokens",outcome="refused"}`:      1,
		`muster_challenges_total{handler="tokens",outcome="timeout"}`:      1,
		`muster_challenges_total{handler="tokens",outcome="late"}`:         1,
		`muster_challenges_total{handler="tokens",outcome="unavailable"}`:  1,
		`muster_challenges_total{handler="tokens",outcome="invalid"}`:      1,
		`muster_challenges_total{handler="tokens",outcome="error"}`:        1,
		`muster_challenge_answer_duration_seconds_count{handler="tokens"}`: 2,
		`muster_challenge_answer_duration_seconds_sum{handler="tokens"}`:   0.75,
		`muster_xsp_waiting{handler="tokens"}`:                             7,
		`muster_xsp_in_flight{handler="tokens"}`:                           3,
	}
	if diff := cmp.Diff(want, ofHandler(t, m, "tokens")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]float64{`muster_xsp_up{handler="cards"}`: 1}, ofHandler(t, m, "cards")); diff != "" {
		t.Errorf("the other xSP (-want +got):\n%s", diff)
	}
}

// TestXSPsComeAndGo: a reload keeps the counts of those that stay, and leaves
// nothing of those that go, so that no alert on them fires for ever.
func TestXSPsComeAndGo(t *testing.T) {
	m := metrics.New(metrics.Options{XSPs: []string{"stays", "gone"}})
	for _, name := range []string{"stays", "gone", "digest"} {
		m.ChallengeAnswered(name, "answered", time.Second)
		m.XSP(name, 1, 2, false)
	}
	m.SetXSPs([]string{"stays", "new"})
	m.ChallengeAnswered("stays", "answered", time.Second)
	m.ChallengeAnswered("gone", "late", 0)
	m.XSP("gone", 9, 9, true)

	for name, want := range map[string]map[string]float64{
		"stays": {
			`muster_challenges_total{handler="stays",outcome="answered"}`:     2,
			`muster_challenge_answer_duration_seconds_count{handler="stays"}`: 2,
			`muster_challenge_answer_duration_seconds_sum{handler="stays"}`:   2,
			`muster_xsp_waiting{handler="stays"}`:                             1,
			`muster_xsp_in_flight{handler="stays"}`:                           2,
		},
		"new": {`muster_xsp_up{handler="new"}`: 1},
		"digest": {
			`muster_challenges_total{handler="digest",outcome="answered"}`:     1,
			`muster_challenge_answer_duration_seconds_count{handler="digest"}`: 1,
			`muster_challenge_answer_duration_seconds_sum{handler="digest"}`:   1,
		},
		"other": {`muster_challenges_total{handler="other",outcome="late"}`: 1},
	} {
		if diff := cmp.Diff(want, ofHandler(t, m, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name := range samples(t, m) {
		if strings.Contains(name, `handler="gone"`) {
			t.Errorf("%s is still there", name)
		}
	}

	m.SetXSPs([]string{"gone"})
	if diff := cmp.Diff(map[string]float64{`muster_xsp_up{handler="gone"}`: 1}, ofHandler(t, m, "gone")); diff != "" {
		t.Errorf("one that comes back begins anew (-want +got):\n%s", diff)
	}
}

// TestHandlersAreClosed: a name that is not configured has no series of its
// own, whatever it is (S-64).
func TestHandlersAreClosed(t *testing.T) {
	m := metrics.New(metrics.Options{XSPs: []string{"tokens"}})
	before := slices.Sorted(maps.Keys(samples(t, m)))
	for _, name := range []string{"", "Tokens", "tokens ", "evil\"} 1\n", "sip:alice@example.test"} {
		m.ChallengeAnswered(name, "answered", time.Second)
		m.XSP(name, 1, 1, true)
	}
	if diff := cmp.Diff(before, slices.Sorted(maps.Keys(samples(t, m)))); diff != "" {
		t.Errorf("series appeared (-want +got):\n%s", diff)
	}
}
