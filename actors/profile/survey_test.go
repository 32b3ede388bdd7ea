package profile_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/machinetest"
)

func TestSurvey(t *testing.T) {
	num := regexp.MustCompile(`\d+`)
	found := map[string]int{}
	example := map[string]string{}
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 1))
		policies := machinetest.Policies()
		m := machinetest.New(policies[rng.IntN(len(policies))])
		for step := range 500 {
			if err := m.Walk(rng.IntN); err != nil {
				text := err.Error()
				if i := strings.Index(text, "}: "); i > 0 {
					text = text[i+3:]
				}
				for _, l := range strings.Split(text, "\n") {
					l = num.ReplaceAllString(l, "N")
					if len(l) > 100 {
						l = l[:100]
					}
					found[l]++
					if example[l] == "" {
						example[l] = fmt.Sprintf("seed %d step %d %.200s", seed, step, err.Error())
					}
				}
			}
		}
	}
	var keys []string
	for k := range found {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		t.Logf("%6d %s    [%s]", found[k], k, example[k])
	}
}
