package actors

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/messages"
)

// digestActor answers challenges with the secrets of its credential source. It
// keeps no protocol state, so a pool of them shares the work.
type digestActor struct {
	credentials Credentials
	token       func() string
	// sessKey makes the client nonce of a -sess algorithm a function of its
	// nonce, so that every request with that nonce has the same A1 (RFC 7616
	// §3.4.2). It lives as long as the process; after a restart the registrar
	// answers the old nonce with a new one.
	sessKey []byte
}

func (d *digestActor) Receive(ctx actor.Context) {
	q, ok := ctx.Message().(*messages.AuthChallenge)
	if !ok {
		return
	}
	c, ok := d.credentials.Credential(q.GetProfileId())
	if !ok {
		ctx.Respond(&messages.AuthRefusal{Ref: q.GetRef(), Refusal: &messages.Refusal{Reason: string(messages.ReasonNoCredentials)}})
		return
	}
	username := c.Username
	if username == "" {
		username = userPart(q.GetAor())
	}
	answer, refusal := digest.Answer(q, digest.Credential{Username: username, Password: c.Password, HA1: c.HA1},
		func(_ int, sess bool, realm, nonce string) string {
			return d.cnonce(q.GetProfileId(), sess, realm, nonce)
		})
	if refusal != nil {
		ctx.Respond(&messages.AuthRefusal{Ref: q.GetRef(), Refusal: refusal})
		return
	}
	answer.Ref = q.GetRef()
	ctx.Respond(answer)
}

func (d *digestActor) cnonce(id string, sess bool, realm, nonce string) string {
	if !sess {
		return d.token() // DIG-14: 128 bits, fresh per answer
	}
	mac := hmac.New(sha256.New, d.sessKey)
	for _, part := range []string{id, realm, nonce} {
		mac.Write([]byte(part))
		mac.Write([]byte{0})
	}
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
