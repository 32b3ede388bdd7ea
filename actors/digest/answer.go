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
	var room [1]choice
	chosen, reason := choose(room[:0], q.GetChallenges(), c)
	if reason != "" {
		return nil, refuse(reason)
	}
	// The usual answer has one of each, in one piece of memory.
	first := new(struct {
		answer    messages.AuthAnswer
		answered  [1]uint32
		mutations [1]*messages.HeaderMutation
		proofs    [1]*messages.ExpectedProof
		mutation  messages.HeaderMutation
		proof     messages.ExpectedProof
	})
	a := &first.answer
	a.Ref = q.GetRef()
	a.Answered, a.Mutations, a.Proofs = first.answered[:0], first.mutations[:0], first.proofs[:0]
	m, proof := &first.mutation, &first.proof
	for i := range chosen {
		if m == nil {
			m, proof = new(messages.HeaderMutation), new(messages.ExpectedProof)
		}
		if answerOne(m, proof, q, c, &chosen[i], cnonce) {
			a.AddMutation(chosen[i].challenge, m)
			a.Proofs = append(a.Proofs, proof)
			m, proof = nil, nil
		}
	}
	if len(a.Answered) == 0 {
		return nil, refuse(messages.ReasonChallengeUnsupported)
	}
	return a, nil
}

func refuse(r messages.Reason) *messages.Refusal { return &messages.Refusal{Reason: string(r)} }

// answerOne makes the header value that answers one challenge, and what proves
// the server. It is false when the client nonce that it is given cannot be sent.
func answerOne(m *messages.HeaderMutation, proof *messages.ExpectedProof, q *messages.AuthChallenge, c Credential, o *choice, cnonce CnonceSource) bool {
	ch, h := o.challenge, o.algorithm.hash
	x := Exchange{Method: q.GetMethod(), URI: q.GetRequestUri(), Nonce: o.nonce, QOP: o.qop}
	var count uint32
	var nc [8]byte
	if o.qop != qopNone {
		count = max(1, ch.GetNonceCount())
		putCount(&nc, count)
		x.Cnonce = cnonce(int(ch.GetIndex()), o.algorithm.sess, ch.GetRealm(), o.nonce)
		if x.Cnonce == "" || !challenge.IsFieldValue(x.Cnonce) {
			return false
		}
	}
	if o.qop == qopAuthInt {
		x.BodyHash = q.GetBodyHashes()[h.String()]
	}
	var secret [128]byte
	ha1, id := appendIdentity(secret[:0], o, c)
	if o.algorithm.sess {
		ha1 = h.intoSession(ha1, x.Nonce, x.Cnonce)
	}
	// The header value and the proof are parts of one string.
	var room [640]byte
	text := appendCredentials(room[:0], o, id, &x, ha1, nc[:])
	end := len(text)
	// AIN-03: the server proves itself by the same formula without a method;
	// auth-int covers the body of its response, which is empty unless the
	// response says otherwise.
	x.Method, x.BodyHash = "", ""
	text = h.appendResponse(text, &x, ha1, nc[:])
	made := string(text)
	m.Value = made[:end]
	proof.Space, proof.NonceCount, proof.Cnonce, proof.Rspauth = ch.GetSpace(), count, x.Cnonce, made[end:]
	return true
}

// appendCredentials appends the header value. What is quoted and what is not is
// DIG-07; realm, nonce, opaque and algorithm are echoed as received, each only
// if it was (DIG-08, DIG-10).
func appendCredentials(b []byte, o *choice, id identity, x *Exchange, ha1, nc []byte) []byte {
	b = append(b, `Digest username=`...)
	b = challenge.AppendQuoted(b, id.sent)
	b = append(b, `, realm=`...)
	b = challenge.AppendQuoted(b, o.challenge.GetRealm())
	b = append(b, `, nonce=`...)
	b = challenge.AppendQuoted(b, x.Nonce)
	b = append(b, `, uri=`...)
	b = challenge.AppendQuoted(b, x.URI)
	b = append(b, `, response="`...)
	b = o.algorithm.hash.appendResponse(b, x, ha1, nc)
	b = append(b, '"')
	if o.algorithmName != "" {
		b = append(b, `, algorithm=`...)
		b = append(b, o.algorithmName...)
	}
	if o.qop != qopNone {
		b = append(b, `, cnonce=`...)
		b = challenge.AppendQuoted(b, x.Cnonce)
		b = append(b, `, qop=`...)
		b = append(b, x.QOP...)
		b = append(b, `, nc=`...)
		b = append(b, nc...)
	}
	if o.opaqueReceived {
		b = append(b, `, opaque=`...)
		b = challenge.AppendQuoted(b, o.opaque)
	}
	if id.userhash {
		b = append(b, `, userhash=true`...)
	}
	return b
}

// putCount writes a nonce count: exactly eight lower-case hex digits (DIG-05).
func putCount(nc *[8]byte, n uint32) {
	const digits = "0123456789abcdef"
	for i := range nc {
		nc[i] = digits[n>>(28-4*i)&0xf]
	}
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
