package aka

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/messages"
)

// maxInvalid bounds the consecutive challenges with a wrong MAC that are
// answered (3GPP TS 24.229, AKA-04).
const maxInvalid = 2

// ReasonInvalid is the refusal of a third challenge in a row whose sender does
// not know K.
const ReasonInvalid = "the network does not know the subscriber's key"

// Subscriber is who answers.
type Subscriber struct {
	// IMPI is the private identity, the user name of the digest.
	IMPI string
	Keys Keys
	// V2Only never answers AKAv1, whatever else is offered or missing (RFC 4169
	// §4.1).
	V2Only bool
	// Delta is the largest jump of SEQ that is accepted; 0 means DefaultDelta,
	// and 1<<43 or more any.
	Delta uint64
}

// Outcome is the answer to one question, or a refusal, and what to remember.
type Outcome struct {
	// Either Answer or Refusal is set. A refusal never asks for a retry: the
	// same question would be refused again.
	Answer  *messages.AuthAnswer
	Refusal *messages.Refusal
	// State must be durable before Answer leaves.
	State State
	// Open goes into the next call, and nowhere else.
	Open Open
}

// Answer answers every realm in the question that it can. The cnonce function
// gives the client nonce for one challenge: at least 64 bits from a strong
// source, fresh for each call (DIG-14).
func Answer(q *messages.AuthChallenge, s Subscriber, state State, open Open, cnonce func() string) Outcome {
	out := Outcome{State: state, Open: open.asked(q)}
	refuse := func(reason string) Outcome {
		out.Answer, out.Refusal = nil, &messages.Refusal{Reason: reason}
		return out
	}
	if s.Keys.Empty() || !validIMPI(s.IMPI) {
		return refuse(string(messages.ReasonNoCredentials))
	}
	if !challenge.IsFieldValue(q.GetRequestUri()) {
		return refuse(string(messages.ReasonChallengeUnsupported))
	}
	chosen, reason := choose(q.GetChallenges(), s.V2Only)
	if reason != "" {
		return refuse(string(reason))
	}
	out.Answer = &messages.AuthAnswer{Ref: q.GetRef()}
	refusal := string(messages.ReasonChallengeUnsupported)
	for _, o := range chosen {
		c := credentials{q: q, o: o, impi: s.IMPI, count: max(1, o.challenge.GetNonceCount())}
		// The client nonce comes first: once the USIM has accepted a challenge,
		// it must be answered or lost.
		if o.qop != qopNone {
			if c.cnonce = cnonce(); c.cnonce == "" || !challenge.IsFieldValue(c.cnonce) {
				continue
			}
		}
		if !out.authenticate(s, &c) {
			refusal = ReasonInvalid
			continue
		}
		c.addTo(out.Answer)
	}
	if len(out.Answer.GetAnswered()) == 0 {
		return refuse(refusal)
	}
	return out
}

// authenticate asks the USIM, or its memory, what the credentials are made of.
// It reports false when the challenge must not be answered at all.
func (out *Outcome) authenticate(s Subscriber, c *credentials) bool {
	if v, ok := out.Open.reuse(c.q, c.o, c.count); ok {
		c.password, c.finding = v.password(c.o.algorithm), Accepted
		return true
	}
	before := out.State
	r := Authenticate(s.Keys, before, c.o.nonce, s.Delta)
	out.State = r.State
	c.finding = r.Finding
	switch r.Finding {
	case Accepted:
		c.password = r.Vector.password(c.o.algorithm)
		out.Open = out.Open.with(c.q, c.o, c.count, r.Vector)
	case SQNFailure:
		c.auts = base64.StdEncoding.EncodeToString(r.Auts[:])
	case MACFailure:
		return before.Invalid < maxInvalid
	}
	return true
}

// validIMPI refuses what would make H(user:realm:password) ambiguous (a colon,
// DIG-13) or break the header.
func validIMPI(name string) bool {
	return name != "" && challenge.IsFieldValue(name) && !strings.Contains(name, ":")
}

// credentials is one answer under way.
type credentials struct {
	q       *messages.AuthChallenge
	o       choice
	impi    string
	cnonce  string
	count   uint32
	finding Finding
	// password is empty unless the challenge was accepted (RFC 3310 §3.4).
	password string
	auts     string
}

// addTo adds the answer.
func (c *credentials) addTo(a *messages.AuthAnswer) {
	x := c.exchange()
	response := ""
	if c.finding != MACFailure {
		response = digest.Response(x)
	}
	a.AddCredentials(c.o.challenge, c.header(x, response))
	if c.finding != Accepted {
		// Nobody can prove a secret that was not used: there is no proof to
		// expect, and one made with the empty password must not count.
		a.Continues = true
		return
	}
	// RFC 3310 §3.5, AKA-07: the server proves itself by the same formula
	// without a method; auth-int covers the body of its response, which is empty
	// unless the response says otherwise.
	x.Method, x.BodyHash = "", ""
	proof := &messages.ExpectedProof{Space: c.o.challenge.GetSpace(), Rspauth: digest.Response(x), Cnonce: x.Cnonce}
	if c.o.qop != qopNone {
		proof.NonceCount = c.count
	}
	a.Proofs = append(a.Proofs, proof)
}

// exchange is what the response depends on.
func (c *credentials) exchange() digest.Exchange {
	x := digest.Exchange{
		Algorithm: c.o.algorithm.hash,
		HA1:       digest.HA1(c.o.algorithm.hash, c.impi, c.o.challenge.GetRealm(), c.password),
		Method:    c.q.GetMethod(), URI: c.q.GetRequestUri(), Nonce: c.o.rawNonce(), QOP: c.o.qop,
	}
	if c.o.qop != qopNone {
		x.NC, x.Cnonce = fmt.Sprintf("%08x", c.count), c.cnonce
	}
	if c.o.qop == qopAuthInt {
		x.BodyHash = c.q.GetBodyHashes()[c.o.algorithm.hash]
	}
	return x
}

// header is the header value. What is quoted and what is not is DIG-07; realm,
// nonce, opaque and algorithm are echoed as received.
func (c *credentials) header(x digest.Exchange, response string) string {
	var b strings.Builder
	b.WriteString(`Digest username=` + quote(c.impi))
	b.WriteString(`, realm=` + quote(c.o.challenge.GetRealm()))
	b.WriteString(`, nonce=` + quote(x.Nonce))
	b.WriteString(`, uri=` + quote(x.URI))
	b.WriteString(`, response=` + quote(response))
	params := c.o.challenge.GetParams()
	b.WriteString(`, algorithm=` + params["algorithm"])
	if x.QOP != qopNone {
		b.WriteString(`, cnonce=` + quote(x.Cnonce) + `, qop=` + x.QOP + `, nc=` + x.NC)
	}
	if opaque, received := params["opaque"]; received {
		b.WriteString(`, opaque=` + quote(opaque))
	}
	if c.auts != "" {
		b.WriteString(`, auts=` + quote(c.auts))
	}
	return b.String()
}

// quote makes a quoted string.
func quote(s string) string { return string(challenge.AppendQuoted(nil, s)) }
