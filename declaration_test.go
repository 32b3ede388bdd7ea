package muster

import (
	"testing"

	"github.com/sipmuster/muster/actors"
)

// TestRowsKeepTheirHash: a journal of an earlier release knows the rows of a
// file by it; with another one every profile would count as changed.
func TestRowsKeepTheirHash(t *testing.T) {
	d := actors.Declaration{ID: "a", AOR: "sip:a@example.test", Registrar: "r", Username: "u"}
	const before = "be7abc178362f7c2"
	if got := rowOf(d); got != before {
		t.Errorf("hash %s, want %s", got, before)
	}
	hashes := map[string]string{}
	for _, handlers := range [][2]string{{"", ""}, {"digest", ""}, {"", "digest"}, {"digest", "digest"}, {"x", ""}, {"", "x"}} {
		d.RegistrationHandler, d.SessionHandler = handlers[0], handlers[1]
		h := rowOf(d)
		if other, taken := hashes[h]; taken {
			t.Errorf("%q has the hash of %q", handlers, other)
		}
		hashes[h] = handlers[0] + "," + handlers[1]
	}
}
