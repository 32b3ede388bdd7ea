package remotexsp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
)

// identities are the DNS names of a verified certificate, in lower case.
type identities []string

func (ids identities) has(identity string) bool { return slices.Contains(ids, identity) }

func identitiesOf(state tls.ConnectionState) identities {
	if len(state.VerifiedChains) == 0 {
		return nil
	}
	ids := slices.Clone(state.VerifiedChains[0][0].DNSNames)
	for i, name := range ids {
		ids[i] = canonical(name)
	}
	return ids
}

// canonical is the form in which identities are compared.
func canonical(identity string) string { return strings.ToLower(strings.TrimSuffix(identity, ".")) }

func validIdentity(identity string) error {
	switch {
	case identity == "":
		return errors.New("identity: it is required")
	case strings.ContainsAny(identity, "* :/"):
		return fmt.Errorf("identity: %q is not a DNS name", identity)
	}
	return nil
}

// connectionOf is who is at the other end of a stream that came in.
func connectionOf(ctx context.Context) identities {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil
	}
	return identitiesOf(info.State)
}

// admitted are those of a certificate's names that may connect.
func (l *link) admitted(ids identities) identities {
	var may identities
	for _, id := range ids {
		if l.end.admits(id) {
			may = append(may, id)
		}
	}
	return may
}

var errNotListed = errors.New("no name of the certificate is on the list")

// verify adds a check to those that a TLS configuration has already.
func verify(config *tls.Config, check func(identities) error) *tls.Config {
	config = config.Clone()
	before := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if before != nil {
			if err := before(state); err != nil {
				return err
			}
		}
		return check(identitiesOf(state))
	}
	return config
}

// serverCredentials refuse who is not on the list in the handshake (S-40).
type serverCredentials struct {
	credentials.TransportCredentials
	link *link
}

func newServerCredentials(l *link) *serverCredentials {
	config := verify(l.tls, func(ids identities) error {
		if len(l.admitted(ids)) == 0 {
			l.drop(dropIdentity)
			return errNotListed
		}
		return nil
	})
	return &serverCredentials{TransportCredentials: credentials.NewTLS(config), link: l}
}

// ServerHandshake implements credentials.TransportCredentials.
func (c *serverCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if c.link.ownKnock(conn) {
		conn.Close()
		// The one error that gRPC neither logs nor handles.
		return nil, nil, credentials.ErrConnDispatched
	}
	return c.TransportCredentials.ServerHandshake(conn)
}

// Clone implements credentials.TransportCredentials.
func (c *serverCredentials) Clone() credentials.TransportCredentials { return c }

// clientCredentials demand of each address the identity that belongs to it:
// remote has one set of dial options for all.
type clientCredentials struct {
	credentials.TransportCredentials
	link *link
}

// ClientHandshake implements credentials.TransportCredentials. authority is the
// address as in the PID.
func (c *clientCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	identity, ok := c.link.end.expects(authority)
	if !ok {
		conn.Close()
		return nil, nil, errNotListed
	}
	config := verify(c.link.tls, func(ids identities) error {
		if !ids.has(identity) { // a wildcard has passed until here
			return errNotListed
		}
		return nil
	})
	config.ServerName = identity
	return credentials.NewTLS(config).ClientHandshake(ctx, identity, conn)
}

// Clone implements credentials.TransportCredentials.
func (c *clientCredentials) Clone() credentials.TransportCredentials { return c }

// pings are how both sides notice that a host is gone; TCP alone takes minutes.
const (
	pingEvery = 10 * time.Second
	pingWait  = 3 * time.Second
)

func (l *link) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(newServerCredentials(l)),
		grpc.ConnectionTimeout(patience),
		grpc.MaxRecvMsgSize(maxBatch),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxConcurrentStreams(4), // remote uses one
		grpc.StreamInterceptor(l.filterStream),
		grpc.UnaryInterceptor(refuseUnary),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2, PermitWithoutStream: true}),
	}
}

func (l *link) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(&clientCredentials{TransportCredentials: credentials.NewTLS(l.tls), link: l}),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithStreamInterceptor(l.boundStream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxGreeting)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: patience}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingWait, PermitWithoutStream: true}),
	}
}
