package grpcxsp_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/grpcxsp"
	"github.com/sipmuster/muster/actors/xsp/xsptls/xsptlstest"
	"github.com/sipmuster/muster/messages"
)

// start serves with config, nil for plaintext, and returns the address.
func start(t testing.TB, address string, config *tls.Config, register func(grpc.ServiceRegistrar)) (*grpc.Server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var opts []grpc.ServerOption
	if config != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
	}
	s := grpc.NewServer(opts...)
	register(s)
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(s.Stop)
	return s, listener.Addr().String()
}

func with(f xsp.Func) func(grpc.ServiceRegistrar) {
	return func(s grpc.ServiceRegistrar) { grpcxsp.Register(s, f) }
}

func dial(t testing.TB, o grpcxsp.Options) *grpcxsp.Client {
	t.Helper()
	c, err := grpcxsp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func questionOf(ref string) *messages.AuthChallenge {
	return &messages.AuthChallenge{Ref: ref, ProfileId: "alice", Method: "REGISTER", RequestUri: "sip:example.test"}
}

func answerTo(ref string) *messages.AuthAnswer {
	return &messages.AuthAnswer{
		Ref: ref, Answered: []uint32{0}, Preemptive: true, Continues: true,
		Mutations: []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: "Digest of " + ref}},
		Proofs:    []*messages.ExpectedProof{{Space: messages.Space_ORIGIN, Rspauth: "00"}},
	}
}

func echo(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	return answerTo(q.GetRef()), nil
}

func TestAnswerRefusalAndFailure(t *testing.T) {
	ca := xsptlstest.New(t)
	_, address := start(t, "127.0.0.1:0", ca.Config("xsp.test"), with(func(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
		switch q.GetRef() {
		case "refused":
			return nil, xsp.Refuse("unknown subscriber", 10*time.Minute)
		case "failed":
			return nil, errors.New("s3cret")
		case "panicked":
			panic("s3cret")
		case "server is first":
			return nil, fmt.Errorf("s3cret: %w", context.DeadlineExceeded)
		case "hangs":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return echo(ctx, q)
	}))
	c := dial(t, grpcxsp.Options{Target: address, TLS: ca.Config("node.test")})
	a, err := c.Answer(t.Context(), questionOf("r1"))
	if err != nil || !proto.Equal(a, answerTo("r1")) {
		t.Fatalf("%v, %v", a, err)
	}
	var refusal *xsp.Refusal
	if _, err := c.Answer(t.Context(), questionOf("refused")); !errors.As(err, &refusal) ||
		refusal.Reason != "unknown subscriber" || refusal.RetryAfter != 10*time.Minute {
		t.Errorf("%v, want the refusal", err)
	}
	for ref, want := range map[string]codes.Code{"failed": codes.Unavailable, "panicked": codes.Internal} {
		_, err := c.Answer(t.Context(), questionOf(ref))
		if err == nil || !strings.Contains(err.Error(), want.String()) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %s and no more", ref, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Answer(t.Context(), questionOf("server is first")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}
	if _, err := c.Answer(ctx, questionOf("hangs")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}
	if _, err := c.Answer(t.Context(), questionOf("r2")); err != nil {
		t.Errorf("after all that: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Answer(t.Context(), questionOf("closed")); err == nil {
		t.Error("a closed client has an answer")
	}
}

// crafted answers as a server in another language could.
type crafted struct {
	grpcxsp.UnimplementedAuthenticatorServiceServer
}

func (crafted) Answer(_ context.Context, q *messages.AuthChallenge) (*messages.AuthReply, error) {
	r := &messages.AuthReply{Ref: q.GetRef(), Mutations: []*messages.HeaderMutation{{Name: "Authorization"}}}
	switch q.GetRef() {
	case "another":
		r.Ref = "other"
	case "slightly too large":
		r.Mutations[0].Value = strings.Repeat("x", 16<<10)
	case "large":
		r.Mutations[0].Value = strings.Repeat("x", 16<<20)
	case "not UTF-8":
		r.Mutations[0].Value = "\xff"
	case "message":
		return nil, status.Error(codes.PermissionDenied, "s3cret")
	}
	return r, nil
}

func TestS44_MalformedReplies(t *testing.T) {
	_, address := start(t, "127.0.0.1:0", nil, func(s grpc.ServiceRegistrar) { grpcxsp.RegisterAuthenticatorServiceServer(s, crafted{}) })
	c := dial(t, grpcxsp.Options{Target: address})
	for _, ref := range []string{"another", "slightly too large", "large"} {
		if _, err := c.Answer(t.Context(), questionOf(ref)); !errors.Is(err, xsp.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", ref, err)
		}
	}
	_, err := c.Answer(t.Context(), questionOf("message"))
	if err == nil || errors.Is(err, xsp.ErrMalformed) || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "PermissionDenied") {
		t.Errorf("%v, want the code and not the message", err)
	}
	if _, err := c.Answer(t.Context(), questionOf("fine")); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// garbage is a codec whose messages are no protobuf.
type garbage struct{}

func (garbage) Name() string                    { return "proto" }
func (garbage) Marshal(any) ([]byte, error)     { return []byte{0xff, 0xff}, nil }
func (garbage) Unmarshal(_ []byte, _ any) error { return nil }

func TestS44_GarbageIsMalformed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodec(garbage{}))
	grpcxsp.Register(s, xsp.Func(echo))
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(s.Stop)
	c := dial(t, grpcxsp.Options{Target: listener.Addr().String()})
	if _, err := c.Answer(t.Context(), questionOf("q")); !errors.Is(err, xsp.ErrMalformed) {
		t.Errorf("%v, want ErrMalformed", err)
	}
}

func TestS40_BothSidesAreVerified(t *testing.T) {
	ca, other := xsptlstest.New(t), xsptlstest.New(t)
	_, address := start(t, "127.0.0.1:0", ca.Config("xsp.test"), with(echo))
	bare := ca.Config("node.test")
	bare.Certificates = nil
	foreign := other.Config("node.test")
	foreign.RootCAs = ca.Config("x").RootCAs
	misnamed := ca.Config("node.test")
	misnamed.ServerName = "another.test"
	for name, config := range map[string]*tls.Config{
		"no certificate": bare, "another authority": foreign,
		"a server of another authority": other.Config("node.test"), "a server of another name": misnamed,
	} {
		c := dial(t, grpcxsp.Options{Target: address, TLS: config})
		if _, err := c.Answer(t.Context(), questionOf("q")); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
}

func TestServerComesBack(t *testing.T) {
	ca := xsptlstest.New(t)
	s, address := start(t, "127.0.0.1:0", ca.Config("xsp.test"), with(echo))
	c := dial(t, grpcxsp.Options{Target: address, TLS: ca.Config("node.test")})
	if _, err := c.Answer(t.Context(), questionOf("before")); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if _, err := c.Answer(t.Context(), questionOf("away")); err == nil || !strings.Contains(err.Error(), codes.Unavailable.String()) {
		t.Errorf("%v, want Unavailable at once", err)
	}
	start(t, address, ca.Config("xsp.test"), with(echo))
	for {
		if _, err := c.Answer(t.Context(), questionOf("after")); err == nil {
			break
		}
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]struct {
		o    grpcxsp.Options
		want string
	}{
		"nothing":             {grpcxsp.Options{}, "target: "},
		"plaintext abroad":    {grpcxsp.Options{Target: "192.0.2.1:7443"}, "tls: "},
		"plaintext by name":   {grpcxsp.Options{Target: "xsp.test:7443"}, "tls: "},
		"plaintext by scheme": {grpcxsp.Options{Target: "dns:///localhost:7443"}, "tls: "},
		"a loopback address":  {grpcxsp.Options{Target: "[::1]:7443"}, ""},
		"localhost":           {grpcxsp.Options{Target: "localhost:7443"}, ""},
	} {
		c, err := grpcxsp.New(o.o)
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != (o.want == "") || err != nil && !strings.Contains(err.Error(), o.want) {
			t.Errorf("%s: %v, want %q", name, err, o.want)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	ca := xsptlstest.New(b)
	_, address := start(b, "127.0.0.1:0", ca.Config("xsp.test"), with(echo))
	c := dial(b, grpcxsp.Options{Target: address, TLS: ca.Config("node.test")})
	if _, err := c.Answer(b.Context(), questionOf("first")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := cpu(b)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Answer(b.Context(), questionOf(rand.Text())); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpu is the time that the process has used, of both sides.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
