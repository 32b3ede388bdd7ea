package muster

import (
	"runtime"
	"testing"
)

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		what       string
		inUse      uint64
		rate, cost float64
		want       int
	}{
		{"nothing yet", 0, 0, 0, 800},
		{"ten profiles", 4 * mib, 1e3, 0.001, 600},
		{"10,000 profiles, busy", 8 * mib, 8e6, 0.008, 300},
		{"100,000 idle profiles", 48 * mib, 2e5, 0.05, 50},
		{"100,000 busy profiles", 48 * mib, 5e6, 0.05, 50},
		{"100,000 profiles after an outage", 48 * mib, 3e7, 0.05, 133},
		{"a million idle profiles", 400 * mib, 1e6, 0.5, 20},
		{"a million busy profiles", 400 * mib, 5e6, 0.5, 59},
		{"beyond measure", 1 << 50, 1e12, 100, 100},
	} {
		if got := gcPercent(test.inUse, test.rate, test.cost); got != test.want {
			t.Errorf("%s: %d %%, want %d %%", test.what, got, test.want)
		}
	}
}

func TestCollectorSpeaks(t *testing.T) {
	runtime.GC()
	if c := readCollector(); c.inUse < 100_000 || c.allocated < c.inUse/10 || c.cycles == 0 || c.seconds <= 0 {
		t.Errorf("%+v", c)
	}
}
