package grpcxsp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// maxReply is the size of the largest reply (S-44).
const maxReply = 16 << 10

// maxReceive is a bit more, so that a reply that is slightly too large is
// measured here and only a gross one by gRPC.
const maxReceive = maxReply + 1<<10

// Options are what a Client is made of. Target is required.
type Options struct {
	// Target is host:port, or any other target of gRPC, for example
	// dns:///xsp.example.test:7443.
	Target string
	// TLS is the node's certificate and the authority of the server's; see
	// xsptls.Load. nil speaks plaintext, which is allowed only to a host:port
	// that is a loopback address or localhost.
	TLS *tls.Config
	// UserAgent stands in front of gRPC's own; empty means "muster".
	UserAgent string
}

// Client is the node's side: an Authenticator that asks a server. Its methods
// are safe for concurrent use.
type Client struct {
	conn *grpc.ClientConn
	stub AuthenticatorServiceClient
}

var _ xsp.Authenticator = (*Client)(nil)

// New prepares a client. It connects with the first question, so a server that
// is away is no error here.
func New(o Options) (*Client, error) {
	transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	if o.UserAgent == "" {
		o.UserAgent = "muster"
	}
	conn, err := grpc.NewClient(
		o.Target,
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent(o.UserAgent),
		grpc.WithDisableRetry(),
		// A resolver must not be able to change how long or how often we ask.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive)),
		// gRPC's own back-off grows to two minutes, in which every question
		// would fail although the server is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		// Without, a host that vanished is noticed by TCP, after minutes. Pings
		// leave only while a call is open: servers end a connection that is
		// pinged when idle.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	return &Client{conn: conn, stub: NewAuthenticatorServiceClient(conn)}, nil
}

func (o *Options) transport() (credentials.TransportCredentials, error) {
	switch {
	case o.Target == "":
		return nil, errors.New("target: it is required")
	case o.TLS != nil:
		return credentials.NewTLS(o.TLS), nil
	case !loopback(o.Target):
		return nil, fmt.Errorf("tls: %s is not a loopback address, so TLS is required", o.Target)
	}
	return insecure.NewCredentials(), nil
}

func loopback(target string) bool {
	host, _, err := net.SplitHostPort(target)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// Answer implements xsp.Authenticator.
func (c *Client) Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	r, err := c.stub.Answer(ctx, q)
	if err != nil {
		return nil, failure(ctx, err)
	}
	if proto.Size(r) > maxReply {
		return nil, errOversize
	}
	return xsp.Unpack(q, r)
}

var errOversize = fmt.Errorf("%w: it is larger than %d bytes", xsp.ErrMalformed, maxReply)

// failure keeps the code of a failed call and hides its message.
func failure(ctx context.Context, err error) error {
	s := status.Convert(err)
	// These two are found on our side. There is no other way to tell them from
	// a status of the server, which gains nothing by imitating them.
	switch {
	case s.Code() == codes.ResourceExhausted && strings.HasPrefix(s.Message(), "grpc: received message "):
		return errOversize
	case s.Code() == codes.Internal && strings.HasPrefix(s.Message(), "grpc: failed to unmarshal the received message"):
		return fmt.Errorf("%w: it is not an AuthReply", xsp.ErrMalformed)
	case ctx.Err() != nil:
		return fmt.Errorf("call the gRPC xSP: %w", ctx.Err())
	case s.Code() == codes.DeadlineExceeded:
		// The deadline travels with the call: the server's clock may see it
		// pass a little before ours.
		return fmt.Errorf("call the gRPC xSP: %w", context.DeadlineExceeded)
	}
	return fmt.Errorf("call the gRPC xSP: status %s", s.Code())
}

// Close implements io.Closer. Open calls fail.
func (c *Client) Close() error { return c.conn.Close() }
