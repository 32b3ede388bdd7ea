package digest

import (
	"crypto/subtle"
	"strconv"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Credential is the secret of one profile.
type Credential struct {
	Username string
	Password messages.Secret
	// HA1 is H(username:realm:password) in hex; used when Password is empty. It
	// works only for its realm and algorithm (DIG-15).
	HA1 messages.Secret
}

// CnonceSource gives the client nonce for one challenge: at least 64 bits from
// a strong source, fresh for each call, except that with sess the answers to
// one realm and nonce share one (DIG-02, DIG-14). It is not called for a
// challenge that is answered without a client nonce.
type CnonceSource = func(challengeIndex int, sess bool, realm, nonce string) string

// Answer answers every realm in the question that the credential can, or says
// why it can answer none. A refusal never asks for a retry: the same question
// would be refused again.
func Answer(q *messages.AuthChallenge, c Credential, cnonce CnonceSource) (*messages.AuthAnswer, *messages.Refusal) {
	if !challenge.IsFieldValue(q.GetRequestUri()) {
		return nil, refuse(messages.ReasonChallengeUnsupported)
	}
	var room [4]choice
	chosen, reason := choose(room[:0], q.GetChallenges(), c)
	if reason != "" {
		return nil, refuse(reason)
	}
	// The usual answer has one of each, in one piece of memory.
	first := new(struct {
		answer   messages.AuthAnswer
		answered [1]uint32
		mutation [1]*messages.HeaderMutation
		proof    [1]*messages.ExpectedProof
	})
	a := &first.answer
	a.Ref = q.GetRef()
	a.Answered, a.Mutations, a.Proofs = first.answered[:0], first.mutation[:0], first.proof[:0]
	for _, o := range chosen {
		answerOne(a, q, c, o, cnonce)
	}
	if len(a.Answered) == 0 {
		return nil, refuse(messages.ReasonChallengeUnsupported)
	}
	return a, nil
}

func refuse(r messages.Reason) *messages.Refusal { return &messages.Refusal{Reason: string(r)} }

// answerOne adds the answer to one challenge, unless the client nonce that it
// is given cannot be sent.
func answerOne(a *messages.AuthAnswer, q *messages.AuthChallenge, c Credential, o choice, cnonce CnonceSource) {
	ch, h := o.challenge, o.algorithm.hash
	x := Exchange{Method: q.GetMethod(), URI: q.GetRequestUri(), Nonce: o.nonce, QOP: o.qop}
	proof := &messages.ExpectedProof{Space: ch.GetSpace()}
	var count [8]byte
	if o.qop != qopNone {
		proof.NonceCount = max(1, ch.GetNonceCount())
		x.NC = string(appendCount(count[:0], proof.NonceCount))
		x.Cnonce = cnonce(int(ch.GetIndex()), o.algorithm.sess, ch.GetRealm(), o.nonce)
		if x.Cnonce == "" || !challenge.IsFieldValue(x.Cnonce) {
			return
		}
		proof.Cnonce = x.Cnonce
	}
	if o.qop == qopAuthInt {
		x.BodyHash = q.GetBodyHashes()[h.String()]
	}
	id := identify(o, c)
	x.HA1 = id.ha1
	if o.algorithm.sess {
		x.HA1 = h.sumOf(x.HA1, x.Nonce, x.Cnonce)
	}
	a.AddCredentials(ch, credentials(o, id, &x))
	// AIN-03: the server proves itself by the same formula without a method;
	// auth-int covers the body of its response, which is empty unless the
	// response says otherwise.
	x.Method, x.BodyHash = "", ""
	var room [64]byte
	proof.Rspauth = string(h.appendResponse(room[:0], &x))
	a.Proofs = append(a.Proofs, proof)
}

// credentials is the header value. What is quoted and what is not is DIG-07;
// realm, nonce, opaque and algorithm are echoed as received, each only if it
// was (DIG-08, DIG-10).
func credentials(o choice, id identity, x *Exchange) string {
	var room [640]byte
	b := append(room[:0], `Digest username=`...)
	b = challenge.AppendQuoted(b, id.sent)
	b = append(b, `, realm=`...)
	b = challenge.AppendQuoted(b, o.challenge.GetRealm())
	b = append(b, `, nonce=`...)
	b = challenge.AppendQuoted(b, x.Nonce)
	b = append(b, `, uri=`...)
	b = challenge.AppendQuoted(b, x.URI)
	b = append(b, `, response="`...)
	b = o.algorithm.hash.appendResponse(b, x)
	b = append(b, '"')
	params := o.challenge.GetParams()
	if algorithm, received := params["algorithm"]; received && algorithm != "" {
		b = append(b, `, algorithm=`...)
		b = append(b, algorithm...)
	}
	if o.qop != qopNone {
		b = append(b, `, cnonce=`...)
		b = challenge.AppendQuoted(b, x.Cnonce)
		b = append(b, `, qop=`...)
		b = append(b, x.QOP...)
		b = append(b, `, nc=`...)
		b = append(b, x.NC...)
	}
	if opaque, received := params["opaque"]; received {
		b = append(b, `, opaque=`...)
		b = challenge.AppendQuoted(b, opaque)
	}
	if id.userhash {
		b = append(b, `, userhash=true`...)
	}
	return string(b)
}

// appendCount appends a nonce count: exactly eight lower-case hex digits
// (DIG-05).
func appendCount(b []byte, n uint32) []byte {
	const digits = "0123456789abcdef"
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&0xf])
	}
	return b
}

// VerifyInfo compares an Authentication-Info with the proofs of the answers
// that its request carried (AIN-03). It returns "verified", "wrong", or ""
// when nothing can be said: no proof was given, none was expected from that
// side (AIN-06), or it covers a body that is not at hand.
func VerifyInfo(info messages.AuthInfo, proofs []*messages.ExpectedProof) string {
	if info.Rspauth == "" || info.QOP == qopAuthInt && info.HasBody {
		return ""
	}
	verdict := ""
	for _, p := range proofs {
		if p.GetSpace() != info.Space {
			continue
		}
		if proves(info, p) {
			return "verified"
		}
		verdict = "wrong"
	}
	return verdict
}

func proves(info messages.AuthInfo, p *messages.ExpectedProof) bool {
	count := uint64(0)
	if info.NC != "" {
		var err error
		if count, err = strconv.ParseUint(info.NC, 16, 32); err != nil {
			return false
		}
	}
	return count == uint64(p.GetNonceCount()) && info.Cnonce == p.GetCnonce() &&
		subtle.ConstantTimeCompare([]byte(info.Rspauth), []byte(p.GetRspauth())) == 1
}
