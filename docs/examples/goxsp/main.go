// Command goxsp is a node in a program of one's own, with an xSP that is a Go
// function. It keeps one profile registered at a registrar whose challenges are
// of a scheme that Muster knows nothing of:
//
//	WWW-Authenticate: Ticket realm="example.test", nonce="n1"
//	Authorization: Ticket realm="example.test", ticket="<hex HMAC-SHA256 of the nonce>"
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// tickets is the whole xSP. A question is answered by the headers to change, or
// refused; the node sends, repeats, waits and records.
func tickets(key []byte) xsp.Func {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace
	return func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		for _, c := range q.GetChallenges() {
			if !strings.EqualFold(c.GetScheme(), "Ticket") || c.GetSpace() != messages.Space_ORIGIN {
				continue
			}
			if q.GetRejected() { // the same again would be refused again
				return nil, xsp.Refuse("the registrar refuses our tickets", 0)
			}
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(c.GetParams()["nonce"]))
			value := fmt.Sprintf(`Ticket realm="%s", ticket="%x"`, quote(c.GetRealm()), mac.Sum(nil))
			return &messages.AuthAnswer{
				Answered:  []uint32{c.GetIndex()},
				Mutations: []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: value}},
			}, nil
		}
		return nil, xsp.Refuse("no Ticket challenge", 0) // the next of the chain is asked
	}
}

// options describe a node with one registrar, whose challenges go to the xSP.
func options(dir, registrar, aor string, key []byte) muster.Options {
	return muster.Options{
		DataDir: dir + "/data",
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Desired: muster.Desired{
			XSPs:       []actors.XSP{{Name: "tickets", Authenticator: tickets(key)}},
			Registrars: []actors.Registrar{{Name: "acme", URI: registrar, RegistrationHandler: "tickets"}},
			Profiles:   []actors.Declaration{{ID: "alice", AOR: aor, Registrar: "acme"}},
		},
	}
}

func main() {
	registrar := flag.String("registrar", "sip:127.0.0.1:5060;transport=udp", "where REGISTER goes")
	aor := flag.String("aor", "sip:alice@example.test", "who is registered")
	keyFile := flag.String("key-file", "ticket.key", "the key of the tickets")
	dir := flag.String("dir", ".", "where the journal and its key are kept")
	flag.Parse()
	if err := run(*dir, *registrar, *aor, *keyFile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir, registrar, aor, keyFile string) error {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	node, err := muster.New(options(dir, registrar, aor, key))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := node.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return node.Stop(context.Background())
}
