// Package aka computes the answers to Digest AKA challenges (RFC 3310 AKAv1,
// RFC 4169 AKAv2), as the USIM of a phone and its SIP stack do together. It is
// pure: keys, sequence numbers and the client nonce are passed in, and what has
// to be remembered is handed back.
//
// It owns three things: Milenage, the algorithm set of 3GPP TS 35.206
// (milenage.go); the decision of a USIM about RAND and AUTN (usim.go, 3GPP TS
// 33.102 §6.3.3 and annex C); and the choice and the spelling of the answer
// (choose.go, answer.go).
//
// What a USIM finds decides what is sent:
//
//	MAC wrong         an empty response, which proves nothing and tells the
//	                  network so (3GPP TS 24.229); no more than twice in a row
//	SQN out of range  auts, from which the network learns the USIM's SQN, and a
//	                  response made with an empty password
//	both right        a response made with RES (AKAv1) or with a password
//	                  derived from RES, IK and CK (AKAv2)
//
// After the first two the network is expected to challenge again, which
// AuthAnswer.continues says.
//
// What it promises:
//
//   - The state in an Outcome holds all that the answer beside it has used up.
//     Whoever makes it durable before the answer leaves never accepts one AUTN
//     twice, whatever crashes.
//   - AKAv2 is chosen where both versions are offered, then SHA-256 before MD5.
//   - Keys, RES, CK and IK are of a type that prints as a fixed word.
//
// What it refuses: plain Digest and every other scheme, so that nobody can talk
// a subscriber down to a password; AKAv1 for a subscriber that is set to AKAv2
// only; -sess algorithms, and any use of a RES in a later request, as it is a
// one-time password (RFC 3310 §3.1). An answer therefore never says that it can
// be asked for again before the next request.
//
// One chain of requests may carry the same answer's nonce again: a proxy's 407
// was answered, the registrar's 401 follows, and the next request answers both.
// That is no replayed AUTN, and the USIM is not asked again. Open remembers,
// in memory only, the vectors of the chains that are under way; a vector is used
// again only for the same chain, space, realm and nonce, with a higher nonce
// count, in a question that is not the first of its chain. After a restart
// nothing is remembered, the USIM sees a replay, and the network resynchronises.
//
// CK and IK do not leave the package: nothing here sets up IPsec, so the IK' and
// CK' of RFC 4169 §2.2 are not derived. The AMF's separation bit (3GPP TS 33.102
// annex H), which sorts vectors of EPS from others, is covered by the MAC and
// otherwise ignored: IMS uses vectors of either kind.
//
// Package actors/usim keeps the state and serves this as an xSP, and akatest is
// the network's side for tests.
package aka
