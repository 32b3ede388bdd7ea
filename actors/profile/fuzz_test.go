package profile_test

import (
	"math/rand/v2"
	"testing"

	"github.com/sipmuster/muster/actors/machinetest"
)

// TestRandomWalk makes many random steps, each with all invariants checked. A
// failure names the seed that repeats it.
func TestRandomWalk(t *testing.T) {
	steps, length := 200_000, 500
	if testing.Short() || raceEnabled {
		steps = 20_000
	}
	for part := range 2 {
		t.Run([]string{"first half", "second half"}[part], func(t *testing.T) {
			t.Parallel()
			for seed := uint64(part); seed < uint64(steps/length); seed += 2 {
				walk(t, seed, length)
			}
		})
	}
}

func walk(t *testing.T, seed uint64, length int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	policies := machinetest.Policies()
	m := machinetest.New(policies[rng.IntN(len(policies))])
	for step := range length {
		if err := m.Walk(rng.IntN); err != nil {
			t.Fatalf("seed %d, step %d: %v\nstate: %s", seed, step, err, machinetest.Summary(m.State, m.Now))
		}
	}
	if err := m.CheckReplay(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
}

// FuzzDecide turns bytes into a sequence of inputs, hostile responses included:
// no panic, and all invariants after each. Run it with -fuzzminimizetime 20x:
// the time that the tool takes to shorten inputs is better spent on new ones.
func FuzzDecide(f *testing.F) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		data := make([]byte, 400)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pick := func(n int) int {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return int(b) % n
		}
		policies := machinetest.Policies()
		m := machinetest.New(policies[pick(len(policies))])
		for range 500 {
			if len(data) == 0 {
				break
			}
			if err := m.Walk(pick); err != nil {
				t.Fatalf("%v\nstate: %s", err, machinetest.Summary(m.State, m.Now))
			}
		}
		if err := m.CheckReplay(); err != nil {
			t.Fatal(err)
		}
	})
}
