// Command grpc is an xSP behind gRPC: it answers Digest challenges for the
// users of a CSV file. README.md tells how to run it.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/grpcxsp"
	"github.com/sipmuster/muster/actors/xsp/xsptls"
	"github.com/sipmuster/muster/messages"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7443", "host:port to listen on")
	file := flag.String("users", "users.csv", "CSV file of profile-or-user,password")
	cert := flag.String("tls-cert", "", "our certificate (PEM)")
	key := flag.String("tls-key", "", "its key (PEM)")
	ca := flag.String("tls-ca", "", "the authority of the nodes' certificates (PEM)")
	plaintext := flag.Bool("plaintext", false, "speak without TLS; on a loopback address only")
	flag.Parse()
	if err := run(*listen, *file, *cert, *key, *ca, *plaintext); err != nil {
		log.Fatal(err)
	}
}

func run(listen, file, cert, key, ca string, plaintext bool) error {
	a, err := load(file)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	var opts []grpc.ServerOption
	if !plaintext {
		config, err := xsptls.Load(cert, key, ca)
		if err != nil {
			return fmt.Errorf("tls: %w", err)
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
	} else if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return errors.New("without TLS only a loopback address is served")
	}
	s := grpc.NewServer(opts...)
	grpcxsp.Register(s, a)
	fmt.Println("listening on", listener.Addr())
	return s.Serve(listener)
}

// answerer is the xSP. It may be asked many questions at a time.
type answerer struct {
	passwords map[string]messages.Secret // by profile id or user name
	key       []byte
}

func load(file string) (*answerer, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = 2
	lines, err := r.ReadAll()
	a := &answerer{passwords: map[string]messages.Secret{}, key: []byte(rand.Text())}
	for _, line := range lines {
		a.passwords[line[0]] = messages.NewSecret(line[1])
	}
	return a, err
}

// Answer implements xsp.Authenticator.
func (a *answerer) Answer(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	_, address, _ := strings.Cut(q.GetAor(), ":")
	user, _, _ := strings.Cut(address, "@")
	password, ok := a.passwords[q.GetProfileId()]
	if !ok {
		password, ok = a.passwords[user]
	}
	if !ok {
		return nil, xsp.Refuse("unknown subscriber", 0)
	}
	answer, refusal := digest.Answer(q, digest.Credential{Username: user, Password: password}, a.cnonce)
	if refusal != nil {
		return nil, xsp.Refuse(refusal.GetReason(), 0)
	}
	answer.Preemptive = true // ask again before the next refresh: saves a round trip
	return answer, nil
}

// cnonce is fresh for each answer, except that the -sess algorithms need one
// for all answers to a nonce (RFC 7616 §3.4.2).
func (a *answerer) cnonce(_ int, sess bool, realm, nonce string) string {
	if !sess {
		return rand.Text()
	}
	mac := hmac.New(sha256.New, a.key)
	fmt.Fprintf(mac, "%q %q", realm, nonce)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
