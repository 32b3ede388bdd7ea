package remotexsp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/grpclog"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/xsptls/xsptlstest"
	"github.com/sipmuster/muster/messages"
)

func TestAnswerRefusalAndSilence(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	silent := make(chan struct{}, 3)
	s := serve(t, ServeOptions{TLS: ca.Config("xsp.test")}, func(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		switch q.GetRef() {
		case "refused":
			return nil, xsp.Refuse("unknown subscriber", 10*time.Minute)
		case "failed":
			defer func() { silent <- struct{}{} }()
			return nil, errors.New("no database")
		case "panicked":
			defer func() { silent <- struct{}{} }()
			panic("s3cret")
		case "too large":
			defer func() { silent <- struct{}{} }()
			a := answerTo(q.GetRef())
			a.Mutations[0].Value = strings.Repeat("x", maxAnswer)
			return a, nil
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a question without a deadline")
		}
		a := answerTo(q.GetRef())
		a.Ref = "" // an answer to q
		return a, nil
	})
	a := e.Authenticator(Peer{Address: s.Addr(), Actor: "answerer", Identity: "XSP.test."})
	wantAnswer(t, ask(t, a, "r1"), "r1")

	r := <-ask(t, a, "refused")
	var refusal *xsp.Refusal
	if !errors.As(r.err, &refusal) || refusal.Reason != "unknown subscriber" || refusal.RetryAfter != 10*time.Minute {
		t.Errorf("%v, want the refusal", r.err)
	}
	for _, ref := range []string{"failed", "panicked", "too large"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-silent
			cancel()
		}()
		if _, err := a.Answer(ctx, questionOf(ref)); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want silence until the context ends", ref, err)
		}
	}
	wantAnswer(t, ask(t, a, "r2"), "r2")
	wantDropped(t, e.Dropped(), nil)
	wantDropped(t, s.Dropped(), nil)
}

// TestAnswersInParallel has many questions under way, more than the other side
// works on at a time.
func TestAnswersInParallel(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	s := serve(t, ServeOptions{TLS: ca.Config("xsp.test"), Concurrency: 3}, echo)
	a := e.Authenticator(Peer{Address: s.Addr(), Actor: "answerer", Identity: "xsp.test"})
	var results []<-chan result
	for i := range 500 {
		results = append(results, ask(t, a, fmt.Sprint("r", i)))
	}
	for i, r := range results {
		wantAnswer(t, r, fmt.Sprint("r", i))
	}
}

// TestPlainActor: an actor of protoactor needs nothing of this package.
func TestPlainActor(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	// This Start restores no logger, which the test does not need.
	server, client := ca.Config("xsp.test"), ca.Config("xsp.test")
	client.ServerName = "node.test"
	system := actor.NewActorSystem(actor.WithLoggerFactory(quiet))
	r := remote.NewRemote(system, remote.Configure(
		"127.0.0.1", 0,
		remote.WithServerOptions(grpc.Creds(credentials.NewTLS(server))),
		remote.WithDialOptions(grpc.WithTransportCredentials(credentials.NewTLS(client))),
	))
	starting.Lock()
	r.Start()
	starting.Unlock()
	_, err := system.Root.SpawnNamed(actor.PropsFromFunc(func(ctx actor.Context) {
		if q, ok := ctx.Message().(*messages.AuthChallenge); ok {
			ctx.Respond(answerTo(q.GetRef()))
		}
	}), "plain")
	if err != nil {
		t.Fatal(err)
	}
	a := e.Authenticator(Peer{Address: system.Address(), Actor: "plain", Identity: "xsp.test"})
	for i := range 10 {
		ref := fmt.Sprint("r", i)
		wantAnswer(t, ask(t, a, ref), ref)
	}
}

func TestTwoEndpointsInOneProcess(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	one, two := listen(t, Options{TLS: ca.Config("node.test")}), listen(t, Options{TLS: ca.Config("second.test")})
	s := serve(t, ServeOptions{TLS: ca.Config("xsp.test"), Nodes: []string{"node.test", "second.test"}}, echo)
	peer := Peer{Address: s.Addr(), Actor: "answerer", Identity: "xsp.test"}
	a, b := one.Authenticator(peer), two.Authenticator(peer)
	first, second := ask(t, a, "same"), ask(t, b, "same")
	wantAnswer(t, first, "same")
	wantAnswer(t, second, "same")
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Answer(t.Context(), questionOf("closed")); !errors.Is(err, errClosed) {
		t.Errorf("a question to a closed endpoint: %v", err)
	}
	wantAnswer(t, ask(t, b, "still"), "still")
}

// TestGRPCGetsItsLoggerBack: remote.Start takes it away.
func TestGRPCGetsItsLoggerBack(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	var warnings strings.Builder
	listen(t, Options{TLS: ca.Config("node.test"), GRPCLogger: grpclog.NewLoggerV2(io.Discard, &warnings, io.Discard)})
	grpclog.Warning("heard")
	if !strings.Contains(warnings.String(), "heard") {
		t.Errorf("the logger that was asked for has %q", warnings.String())
	}
}

// TestCloseEndsOpenQuestions and leaves no goroutine.
func TestCloseEndsOpenQuestions(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	r := newRogue(t, ca.Config("xsp.test"))
	p := Peer{Address: r.addr, Actor: "silent", Identity: "xsp.test"}
	a, b := e.Authenticator(p), e.Authenticator(p)
	first, second := ask(t, a, "first"), ask(t, b, "second")
	<-r.asked
	<-r.asked
	if err := a.(interface{ Close() error }).Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-first; !errors.Is(r.err, errClosed) {
		t.Errorf("a question of a closed authenticator: %v", r.err)
	}
	_ = e.Close()
	_ = e.Close()
	if r := <-second; !errors.Is(r.err, errClosed) {
		t.Errorf("a question of a closed endpoint: %v", r.err)
	}
	ours := regexp.MustCompile(`protoactor-go/remote\.|remotexsp\.\(\*(link|filter|bounded|asker|Endpoint)\)`)
	for ends := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		stacks := make([]byte, 1<<20)
		text := string(stacks[:runtime.Stack(stacks, true)])
		if !ours.MatchString(text) {
			break
		}
		if time.Now().After(ends) {
			t.Fatalf("goroutines are left:\n%s", text)
		}
	}
}

func TestOptionsTellEveryFault(t *testing.T) {
	ca := xsptlstest.New(t)
	good := ca.Config("node.test")
	blind := good.Clone()
	blind.InsecureSkipVerify = true
	for name, c := range map[string]struct {
		o    Options
		want []string
	}{
		"nothing":         {Options{}, []string{"listen: ", "tls: "}},
		"any address":     {Options{Listen: ":7100", TLS: good}, []string{"advertise: "}},
		"advertised zero": {Options{Listen: ":0", Advertise: "node.test:7100", TLS: good}, []string{"listen: "}},
		"no port":         {Options{Listen: ":7100", Advertise: "node.test", TLS: good}, []string{"advertise: "}},
		"blind":           {Options{Listen: "127.0.0.1:0", TLS: blind}, []string{"tls: "}},
		"busy":            {Options{Listen: "256.0.0.1:1", TLS: good}, []string{"listen on 256.0.0.1:1"}},
	} {
		e, err := Listen(c.o)
		if err == nil {
			t.Errorf("%s: no error", name)
			_ = e.Close()
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not name %q", name, err, want)
			}
		}
	}
	if _, err := Serve(ServeOptions{Nodes: []string{"*.test"}}, xsp.Func(echo)); err == nil ||
		!strings.Contains(err.Error(), "name: ") || !strings.Contains(err.Error(), "nodes: ") || !strings.Contains(err.Error(), "tls: ") {
		t.Errorf("Serve: %v", err)
	}
	if err := (Peer{Address: "unix:7100", Identity: "*.test"}).Validate(); err == nil ||
		!strings.Contains(err.Error(), "address: ") || !strings.Contains(err.Error(), "actor: ") || !strings.Contains(err.Error(), "identity: ") {
		t.Errorf("Peer: %v", err)
	}
}
