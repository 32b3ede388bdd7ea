// Package xsp is the contract of extensible Service Providers in Go: somebody's
// own procedure to answer the challenges of SIP registrars and proxies.
//
// An Authenticator gets an AuthChallenge and returns an AuthAnswer, which says
// how the headers of the request change, or a *Refusal. It sends nothing
// itself, sees no other profile and no stored secret (S-42, S-43), and its
// answer is checked as a whole before anything is written (S-45). It may be
// slow, hang, panic or send garbage: deadline, concurrency cap, size cap and
// breaker are the node's work.
//
// The packages below are the ways to reach one in another process, each with
// the node's side (an Authenticator) and what a Go program needs to serve it:
//
//   - webhook: HTTPS with signed JSON
//   - grpcxsp: gRPC with mutual TLS
//   - remotexsp: an actor on another node, by protoactor remote with mutual TLS
//
// docs/xsp.md is the guide, and messages/challenge.proto the contract for every
// language.
package xsp
