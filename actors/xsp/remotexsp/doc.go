// Package remotexsp reaches an xSP that is an actor on another node, by
// protoactor's remote with mutual TLS.
//
// Listen opens the node's end, and Endpoint.Authenticator is the xsp.Authenticator
// for one actor of one peer. Serve is the other end for a program in Go that
// has an xsp.Authenticator.
//
// # Who may reach what
//
// Remote knows no authorization: whoever connects may send any message to any
// name, stop what runs there and end the process with a malformed batch. So
// both ends run remote in an ActorSystem of its own, in which there is no actor
// of ours, and take every batch of messages off the stream before remote sees
// it (filter.go). What remains for remote is to greet and to send.
//
//   - A connection needs a certificate of the common authority with a DNS name
//     that is configured: on the node the Identity of a peer, on the other side
//     one of Nodes. Names are compared whole; a wildcard matches nothing (S-40).
//   - The node connects to a peer's address only when the certificate there has
//     the peer's identity. The other side sends an answer only to an address
//     whose certificate has the name that asked.
//   - On the node an answer counts if it comes over a connection of the peer that
//     was asked, to the inbox of that peer, for a question that is open, and is
//     the first (S-41). Everything else is dropped and counted; see Dropped.
//   - The other side takes AuthChallenge for the name that it serves, and
//     nothing else.
//
// No message ends the link: an unknown type, which ends it in plain remote, is
// dropped like a Stop or a Watch (S-76).
//
// # Messages
//
// A question is muster.v1.AuthChallenge. The sender of it is the inbox to
// answer to, with muster.v1.AuthAnswer or AuthRefusal, or AuthReply, of at most
// 16 KiB (S-44) and with the question's ref. The deadline of a question is a
// time of day, so the clocks of both ends should agree.
//
// Any actor of protoactor can be an xSP without this package, in its own
// ActorSystem with its own remote:
//
//	func (a *answerer) Receive(ctx actor.Context) {
//		if q, ok := ctx.Message().(*messages.AuthChallenge); ok {
//			ctx.Respond(&messages.AuthAnswer{Ref: q.GetRef(), ...})
//		}
//	}
//
//	r := remote.NewRemote(system, remote.Configure("192.0.2.7", 7100,
//		remote.WithServerOptions(grpc.Creds(credentials.NewTLS(config))),
//		remote.WithDialOptions(grpc.WithTransportCredentials(credentials.NewTLS(config)))))
//	r.Start()
//	system.Root.SpawnNamed(actor.PropsFromProducer(newAnswerer), "answerer")
//
// with xsptls.Load for config. Such a program is open to every certificate of
// the authority, and it must reach the node by a host name that is in the
// node's certificate, because it has no other way to know the node.
//
// # What remote does to the process
//
// Remote replaces the process-wide logger of gRPC when it starts, without a
// lock, and gRPC cannot tell which one it had. Listen and Serve set it to
// GRPCLogger afterwards, or to gRPC's default. A program that uses gRPC
// elsewhere at that moment has a data race on that variable; it is harmless as
// long as all loggers are made by grpclog.NewLoggerV2, as the default one is.
// Start Endpoints before whatever else uses gRPC.
package remotexsp
