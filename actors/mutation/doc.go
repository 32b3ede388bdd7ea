// Package mutation is the header policy of answers to challenges: which
// headers of a request an authenticator may change, and with which values.
//
// An xSP is code of somebody else that speaks for a profile. What it may write
// decides whether it can only authenticate, or also send the request to
// another target, make it part of another transaction, or claim to be another
// caller. So the policy is a list of what is allowed, and everything else is
// refused:
//
//   - Authorization and Proxy-Authorization, for a realm and scheme that stood
//     in the question (answer.go).
//   - The headers that the authenticator's configuration lists one by one, of
//     those that Listable accepts (names.go). Require, Proxy-Require and
//     Supported are among them only to add the option tag sec-agree (RFC 3329).
//
// CheckAnswer weighs an answer as a whole, for the host that asked: one fault
// refuses all of it (S-45). Check is the part that needs no question, and the
// second line of defence in sipadapter, which applies the mutations. Names
// count in their canonical form and are never trimmed (S-50); values cannot
// become another header line (S-51).
//
// No error quotes a value, and a name only as far as it is a token, because
// what follows in a name that is none may be a value (S-65).
//
// The package is pure: no clock, no randomness, no I/O.
package mutation
