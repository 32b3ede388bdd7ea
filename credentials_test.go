package muster

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// TestInForceForetellsSetFromFile makes changes at random, of files and through
// the API, and asks each time before a row is set.
func TestInForceForetellsSetFromFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	texts := [...]string{"", "a", "b"}
	text := func() string { return texts[rng.IntN(len(texts))] }
	c := newCredentials()
	same := 0
	for step := range 20000 {
		d := actors.Declaration{ID: fmt.Sprint("id", rng.IntN(4)), AOR: "sip:a@example.test", Username: text(), Password: messages.NewSecret(text())}
		if rng.IntN(4) == 0 {
			d.Password, d.HA1 = messages.Secret{}, messages.NewSecret(text())
		}
		switch rng.IntN(8) {
		case 0:
			c.replace(d.ID, credentialOf(d), fileRow{rowOf(d), actors.Credential{Username: d.Username, Password: messages.NewSecret(text())}})
		case 1:
			c.remove(d.ID)
		default:
			before, _ := c.Credential(d.ID)
			foretold := c.inForce(d)
			changed, ended := c.setFromFile(d)
			after, _ := c.Credential(d.ID)
			if foretold != (!changed && !ended) || foretold && !equal(before, after) {
				t.Fatalf("step %d: in force %t, and then changed %t, ended %t", step, foretold, changed, ended)
			}
			if foretold {
				same++
			}
		}
	}
	if same < 1000 {
		t.Errorf("only %d of the rows were in force", same)
	}
}
