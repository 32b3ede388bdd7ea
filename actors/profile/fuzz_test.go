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
	if testing.Short() {
		steps = 20_000
	}
	for seed := range uint64(steps / length) {
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
}
