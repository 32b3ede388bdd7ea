// Package grpcxsp reaches an xSP by gRPC with mutual TLS.
//
// New gives the node's side, an xsp.Authenticator that calls
// AuthenticatorService.Answer (authenticator.proto) of a server in any
// language. Register gives the other side for a server in Go:
//
//	config, err := xsptls.Load("xsp.pem", "xsp-key.pem", "ca.pem")
//	...
//	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
//	grpcxsp.Register(s, authenticator)
//	s.Serve(listener)
//
// One question is one call, whose deadline is the question's. It is not
// repeated, and while no connection can be made it fails at once, so that the
// node's breaker learns of the outage. A status other than OK counts as no
// answer; the node tells its code and never its message, which a stranger
// wrote. A reply of more than 16 KiB is malformed (S-44).
//
// docs/examples/grpc is a whole server.
package grpcxsp
