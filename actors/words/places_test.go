package words

import (
	"fmt"
	"hash/maphash"
	"testing"
)

// Two texts that every profile shows, and that are remembered in the same place, do
// not displace each other for ever.
func TestTextsThatShareAPlace(t *testing.T) {
	table := &Table{seed: maphash.MakeSeed()}
	places := func(text string) (uint64, uint64) {
		h := maphash.String(table.seed, text)
		return h % candidates, h >> 32 % candidates
	}
	first, second := places("realm")
	other := ""
	for i := 0; other == ""; i++ {
		text := fmt.Sprint("registrar-", i)
		if a, b := places(text); a == first && b != second && b != first {
			other = text
		}
	}
	for _, owner := range []string{"alice", "bob", "carol"} {
		table.Number("realm", owner)
		table.Number(other, owner)
	}
	for _, text := range []string{"realm", other} {
		if _, ok := table.Number(text, "dave"); !ok {
			t.Errorf("%q has no number after four profiles", text)
		}
	}
}
