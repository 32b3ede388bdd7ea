package profile_test

import (
	"testing"

	"github.com/sipmuster/muster/actors/machinetest"
)

func TestScenarios(t *testing.T) {
	machinetest.Scripts(t, "testdata")
}
