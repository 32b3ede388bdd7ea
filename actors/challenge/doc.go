// Package challenge holds what a SIP client knows about the challenges it was
// given, and judges the next one.
//
// It is a value used by the profile and the session machine, and it is pure:
// no clock, no randomness, no I/O. It answers three questions.
//
//   - Judge: may this 401 or 407 be answered, was the answer refused, or is
//     there nothing to answer? Per protection space and realm; the rules are in
//     judge.go, each with its source.
//   - Answers: which realms does the next request answer, and with which nonce
//     counts? The machine records the counts inside AttemptStarted before the
//     request leaves: a crash can leave a gap, which servers accept, and never
//     a repeat, which they take for a replay (RFC 7616 §3.4).
//   - Questions: what is the authenticator asked?
//
// The package understands just enough of a challenge to tell realms and nonces
// apart (parse.go). Whether a scheme can be answered is the authenticator's
// verdict: an xSP may speak what the DigestActor does not. Digest challenges
// with an algorithm that the policy does not accept never reach it.
//
// State changes only by the Apply functions, which take recorded values and
// know no policy, so that a replay rebuilds the same state.
package challenge
