// Package sipadapter is the node's mouth and ear: bytes on one side, plain
// values of package messages on the other. It sends requests, reports what
// becomes of each, and answers what strangers ask.
//
// # What it owns
//
//   - The sockets. UDP: one reader per listener, in order, for datagrams of any
//     size, on Linux several per system call; requests may leave like that as well
//     (Options.Collect). TCP: one connection per target shared by all profiles, a
//     writer that coalesces, and bounded inbound connections.
//   - The client transactions (RFC 3261 §17.1, RFC 6026): a table of a few
//     shards keyed by our own random branch, one runtime timer per shard. What is taken out of it is its taker's alone, so that the
//     transactions of a usual REGISTER can be used again. Of one that has its
//     answer nothing is kept but the branch, until Timer K ends.
//   - Finding the server (RFC 3263) with a cache, failover and a memory for
//     silent addresses.
//   - Serialising requests, with a second check of what an authenticator wants
//     changed in them; translating responses.
//   - The server transactions (RFC 3261 §17.2, RFC 6026) of the requests that a
//     session takes, keyed by what the peer sends and bounded; stateless answers
//     to all other requests from outside.
//
// # What it promises
//
//   - Send never blocks on the network or on DNS, and its callback is called
//     once: with a final response that is well formed, answers this request and
//     came from where the request went, or with a reason why there is none.
//   - Invite keeps the same promises. Its callback is called for every response,
//     one at a time and in order, and never after the report that says it is the
//     last. A refusal is acknowledged here; a 2xx is acknowledged by the caller,
//     through Ack. A CANCEL leaves only when RFC 3261 §9.1 allows it.
//   - No lock is held while a callback runs.
//   - What a peer sends is bounded before it is kept (S-30 to S-36); what is
//     dropped is counted and never logged line by line.
//   - No error, log line or counter contains a header value (S-65).
//
// # What it refuses
//
// It takes no decision about a registration or a call: no retries beyond RFC
// 3263 failover, no back-off, no pacing, no credentials of its own, no answer to
// a challenge, no dialog that it remembers. TLS and WebSocket targets are
// refused, never replaced by something weaker (S-15). A call may ring for ever:
// when it has rung long enough is the caller's to say.
//
// # How a request travels
//
//	Send (exchange.go), Invite (invitation.go), Ack (ack.go)
//	  course.go             checks the request, asks resolve.go for targets
//	  reach.go              how a target is reached, and what it is told
//	  build.go, mutate.go   everything below the Via line, once
//	  table.go              one transaction per attempt: new branch, same request
//	    noninvite.go        timers E, F and K as a pure machine
//	    invite.go           timers A, B, D and M as another
//	    udp.go, stream.go   the bytes leave
//	receive.go              the answer is matched and checked
//	  translate.go          ... and becomes a messages.SIPResponse
//	exchange.go, invitation.go report it, or go to the next target
//
// A REGISTER that needs no care, as nearly all do, goes a shorter way: register.go
// writes it straight into a buffer, and writes it again to send it again; scan.go
// reads the response in one pass, and echo.go matches what the server copied. In
// any doubt they leave a message to the files above, and agree_test.go compares
// the two ways.
//
// How a request from outside travels:
//
//	inbound.go              judges its form, and answers what no session takes
//	  serverrequest.go      offers it to Options.OnRequest, as dialog.go reads it
//	  servertable.go        repeats, merged requests, CANCEL and ACK find theirs
//	    server.go           timers G to J and L as pure machines
//	  serverreply.go        what the session answers, and what is added
//	reply.go                the bytes of every response, and where they go
//
// # sipgo
//
// Message parsing is sipgo's (message.go), but for what scan.go reads. Its transports and transactions are
// not used: the UDP listener keeps every source address for ever, stops at the
// first read error and reads 32 KB; responses may overtake each other; requests
// over 1,300 bytes fail. Its stream parser is replaced by framing.go, because
// one bad header line should cost one message and not the connection with all
// that is pending on it.
package sipadapter
