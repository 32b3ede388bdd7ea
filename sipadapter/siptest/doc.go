// Package siptest is the other side for tests, the demonstration and programs
// that embed a node: a registrar that challenges, remembers and misbehaves on
// request.
//
// # What it does
//
// A Registrar listens on UDP and TCP with one port number, challenges REGISTER
// requests (RFC 3261 §22, RFC 8760), checks the answers by itself, and keeps a
// location table with lazy expiry. It shares the hash formulas of package
// actors/digest, which have test vectors of their own, and nothing else with
// the client side: credentials are read here by a strict parser that refuses
// what a lenient registrar would let pass.
//
// # What it records
//
// Every request is accounted for, so that a test can ask afterwards whether the
// client kept its promises, across kills and restarts of the client:
//
//   - I-4: CSeq rises with every new request of a Call-ID.
//   - I-5: one REGISTER of an address-of-record is outstanding at a time.
//   - I-6: the nonce count rises with every use of a nonce.
//   - I-9: the request rate stays within Options.MaxRate in every second.
//   - Form: credentials are spelled as RFC 7616 §3.4 and RFC 3261 §22.4 ask
//     (DIG-04, DIG-05, DIG-07, DIG-08, CHA-31, GEN-10).
//
// Snapshot has the counters, Requests a bounded log, CheckInvariants the
// violations.
//
// # What can be scripted
//
// Options.Behaviour is asked about every request that has not been answered
// and may drop it, delay it, answer it with any status and headers or with raw
// bytes, several times or from another socket. SetDown makes the registrar
// silent, unreachable or overloaded at run time.
//
// A Callee is the far end of calls, on the same sockets: it rings, accepts and
// repeats its 200 until the ACK, gives way to CANCEL, ends on BYE, or does what
// its own Behaviour says.
//
// # How it is built
//
// One goroutine reads the UDP socket, one each accepted connection, and they
// answer on the spot; only delayed answers use timers. Requests are parsed by
// sipgo with a minimal set of header parsers; responses are assembled as bytes.
// Retransmissions (same branch) get the first answer again without a new look
// at counts and sequence numbers, as RFC 3261 §17.2.2 asks.
//
// It is a test double. It has no defence against hostile clients beyond bounds
// on sizes, and it keeps the sequence number of every Call-ID it has seen.
package siptest
