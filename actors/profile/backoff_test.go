package profile

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestBackoffIsThatOfRFC5626 is the table of RFC 5626 §4.5: the interval from
// which the wait is taken, with the base for the case that all flows failed.
func TestBackoffIsThatOfRFC5626(t *testing.T) {
	for _, tt := range []struct {
		failures    uint32
		least, most time.Duration
	}{
		{0, 15 * time.Second, 30 * time.Second},
		{1, 30 * time.Second, 60 * time.Second},
		{2, 60 * time.Second, 120 * time.Second},
		{3, 2 * time.Minute, 4 * time.Minute},
		{4, 4 * time.Minute, 8 * time.Minute},
		{5, 8 * time.Minute, 16 * time.Minute},
		{6, 15 * time.Minute, 30 * time.Minute}, // 32 minutes, cut at 30
		{7, 15 * time.Minute, 30 * time.Minute},
		{100, 15 * time.Minute, 30 * time.Minute},
		{1<<32 - 1, 15 * time.Minute, 30 * time.Minute},
	} {
		for _, jitter := range []float64{0, 0.5, 0.999999} {
			got := backoff(30*time.Second, 30*time.Minute, tt.failures, jitter)
			want := tt.least + time.Duration(jitter*float64(tt.most-tt.least))
			if (got-want).Abs() > time.Microsecond || got < tt.least || got > tt.most {
				t.Errorf("after %d failures with jitter %v: %s, want %s", tt.failures, jitter, got, want)
			}
		}
	}
}

func TestBackoffStaysInItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := time.Duration(rapid.Int64Range(1, int64(1000*time.Hour)).Draw(t, "base"))
		ceiling := time.Duration(rapid.Int64Range(int64(base), int64(2000*time.Hour)).Draw(t, "ceiling"))
		failures := rapid.Uint32().Draw(t, "failures")
		jitter := rapid.Float64Range(0, 0.999999).Draw(t, "jitter")
		w := backoff(base, ceiling, failures, jitter)
		if w < base/2 || w > ceiling {
			t.Fatalf("backoff(%s, %s, %d, %v) = %s", base, ceiling, failures, jitter, w)
		}
		if later := backoff(base, ceiling, failures+min(1, ^failures), jitter); later < w {
			t.Fatalf("it shrinks: %s after %s", later, w)
		}
	})
}

// TestRefreshIsOverBeforeTheBinding is REG-15 and REG-17.
func TestRefreshIsOverBeforeTheBinding(t *testing.T) {
	const floor = 5 * time.Second
	for _, tt := range []struct {
		granted     time.Duration
		least, most time.Duration
	}{
		{time.Hour, 2854400 * time.Millisecond, 3568 * time.Second},
		{10 * time.Minute, 454400 * time.Millisecond, 568 * time.Second},
		{65 * time.Second, 26400 * time.Millisecond, 33 * time.Second},
		{64 * time.Second, 25600 * time.Millisecond, 32 * time.Second},
		{60 * time.Second, 24 * time.Second, 30 * time.Second},
		{20 * time.Second, 8 * time.Second, 10 * time.Second},
		{10 * time.Second, floor, floor}, // S-33: no faster, whatever is granted
		{time.Second, floor, floor},
	} {
		for _, jitter := range []float64{0, 0.25, 0.999999} {
			got := refreshAfter(tt.granted, floor, jitter)
			want := max(floor, tt.least+time.Duration(jitter*float64(tt.most-tt.least)))
			if (got - want).Abs() > time.Millisecond {
				t.Errorf("granted %s, jitter %v: refresh after %s, want %s", tt.granted, jitter, got, want)
			}
			if got > floor && got+min(refreshMargin, tt.granted/2) > tt.granted {
				t.Errorf("granted %s: a refresh after %s is not over in time", tt.granted, got)
			}
		}
	}
}

func TestJitterLengthensByATenthAtMost(t *testing.T) {
	if got := jittered(time.Hour, 0); got != time.Hour {
		t.Errorf("got %s", got)
	}
	if got := jittered(time.Hour, 0.999); got < time.Hour || got > 66*time.Minute {
		t.Errorf("got %s", got)
	}
}
