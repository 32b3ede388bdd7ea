// Package sipadapter is the node's mouth and ear: bytes on one side, plain
// values of package messages on the other. It sends requests, reports exactly
// one outcome for each, and answers what strangers ask.
//
// # What it owns
//
//   - The sockets. UDP: one reader per listener, in order, 65,535-byte buffer.
//     TCP: one connection per target shared by all profiles, a writer that
//     coalesces, and bounded inbound connections.
//   - The client transactions (RFC 3261 §17.1): a table of 64 shards keyed by
//     our own random branch, one heap of deadlines and one runtime timer per
//     shard.
//   - Finding the server (RFC 3263) with a cache, failover and a memory for
//     silent addresses.
//   - Serialising requests, with a second check of what an authenticator wants
//     changed in them; translating responses.
//   - Stateless answers to requests from outside.
//
// # What it promises
//
//   - Send never blocks on the network or on DNS, and its callback is called
//     once: with a final response that is well formed, answers this request and
//     came from where the request went, or with a reason why there is none.
//   - No lock is held while a callback runs.
//   - What a peer sends is bounded before it is kept (S-30 to S-36); what is
//     dropped is counted and never logged line by line.
//   - No error, log line or counter contains a header value (S-65).
//
// # What it refuses
//
// It takes no decision about a registration: no retries beyond RFC 3263
// failover, no back-off, no pacing, no credentials of its own. TLS and
// WebSocket targets are refused, never replaced by something weaker (S-15).
// INVITE is refused: its transaction is another machine (RFC 3261 §17.1.1).
//
// # How a request travels
//
//	Send (exchange.go)      checks the request, asks resolve.go for targets
//	  build.go, mutate.go   everything below the Via line, once
//	  transaction.go        one entry per attempt: new branch, same request
//	    noninvite.go        timers E, F and K as a pure machine
//	    udp.go, stream.go   the bytes leave
//	receive.go              the answer is matched and checked
//	  translate.go          ... and becomes a messages.SIPResponse
//	exchange.go             reports it, or goes to the next target
//
// Requests from outside branch off in receive.go to inbound.go and reply.go.
//
// # sipgo
//
// Message parsing is sipgo's (message.go). Its transports and transactions are
// not used: the UDP listener keeps every source address for ever, stops at the
// first read error and reads 32 KB; responses may overtake each other; requests
// over 1,300 bytes fail. Its stream parser is replaced by framing.go, because
// one bad header line should cost one message and not the connection with all
// that is pending on it.
package sipadapter
