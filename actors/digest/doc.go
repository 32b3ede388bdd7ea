// Package digest computes the answer to Digest challenges (RFC 7616, RFC 8760,
// RFC 3261 §22.4) and checks the proof that a server gives in return.
//
// It owns two things: the choice, of all challenges in a 401 or 407, of those
// that are answered (choose.go), and the arithmetic (response.go). It is pure.
// The client nonce is passed in, the nonce count stands in the question, and
// nothing is remembered between two calls: the machine that asks owns the
// counts, so that they are durable before a request leaves.
//
// What it promises:
//
//   - One answer per protection space and realm, made from the topmost
//     challenge that it understands (RFC 8760 §2.4). All realms that it can
//     answer are answered. It has no opinion on which realms deserve an answer
//     and on whether an algorithm is strong enough: challenges that the
//     profile's policy refuses are not in the question.
//   - MD5, SHA-256 and SHA-512-256, each also with -sess; qop auth, auth-int
//     and the form of RFC 2617 without qop, which is what servers compute that
//     send none.
//   - What is echoed is echoed as received and quoted as RFC 7616 §3.4 asks.
//     A challenge with a control byte in something to be echoed is not answered.
//
// What it refuses: Basic, which sends the password (RFC 8760 §2.6), every other
// scheme, and -sess without qop, where the server cannot learn the client nonce
// that the hash depends on.
//
// A stored HA1 is H(username:realm:password) and works only for its realm and
// algorithm. The realm cannot be seen in it, the algorithm can by its length:
// 32 hex digits are MD5, 64 are SHA-256 or SHA-512-256.
//
// Answer is the entry. HA1, SessionHA1 and Response are exported for whatever
// verifies digests, first of all the test registrar.
package digest
