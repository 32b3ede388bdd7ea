package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// TestTheNodeRegistersWithTickets: the registrar asks for a ticket and takes
// only the right one.
func TestTheNodeRegistersWithTickets(t *testing.T) {
	key := []byte("a key that both sides know")
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("n1"))
	want := fmt.Sprintf(`Ticket realm="example.test", ticket="%x"`, mac.Sum(nil))

	answers := make(chan string, 10)
	registrar, err := siptest.NewRegistrar(siptest.Options{Behaviour: func(r *siptest.Request) *siptest.Reply {
		h := r.Message.GetHeader("Authorization")
		if h == nil {
			return &siptest.Reply{Status: 401, Headers: []string{`WWW-Authenticate: Ticket realm="example.test", nonce="n1"`}}
		}
		answers <- h.Value()
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registrar.Close() })

	node, err := muster.New(options(t.TempDir(), registrar.URI("udp"), "sip:alice@example.test", key))
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Stop(context.Background()) })
	select {
	case got := <-answers:
		if got != want {
			t.Errorf("Authorization: %s\nwant           %s", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no answer came")
	}
}
