// Package session is the decision core of one call leg: placed in the name of a
// profile, or taken for one.
//
// It is pure, like package profile: Decide says what to record and then what to
// do, Apply folds what was recorded, and the host does the rest. A session
// holds protocol state and no secrets; bodies pass by it.
//
//	calling ──1xx──► early ──2xx──► established ──BYE──► ended
//	   │  ▲            │               ▲    │
//	  401,407 ─────────┘            inside: re-INVITE, UPDATE, INFO, ...
//	 challenged                     each with its own challenges
//
// Where to find what:
//
//   - decide.go: the calls that begin and end; decide_request.go: requests of
//     ours and the questions to authenticators; decide_response.go: what comes
//     back; decide_peer.go: requests of the peer; decide_timer.go: deadlines and
//     restarts.
//   - trust.go: where credentials may go (the digest leak, S-01 to S-03).
//   - timer.go: session timers (RFC 4028).
//
// A chain is one request with all its repetitions: for a challenge, for a
// longer session interval, for a redirect, after a glare. Each repetition is an
// attempt with a CSeq number of its own (RFC 3261 §8.1.3.5), recorded before it
// leaves. While an authenticator thinks about an attempt no other chain begins,
// but for the BYE, and an attempt of another one is held until the thinking is
// over: so the numbers leave in order.
package session
