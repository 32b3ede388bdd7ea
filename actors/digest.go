package actors

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// digestActor answers challenges with the secrets of its credential source. It
// keeps no protocol state, so a pool of them shares the work.
type digestActor struct {
	mailbox     slimMailbox
	self        *actor.PID
	credentials Credentials
	token       func() string
	// sessKey makes the client nonce of a -sess algorithm a function of its
	// nonce, so that every request with that nonce has the same A1 (RFC 7616
	// §3.4.2). It lives as long as the process; after a restart the registrar
	// answers the old nonce with a new one.
	sessKey []byte
}

// consultation is a question of a profile's actor to the DigestActor, and the
// verdict that comes back. It is out with the one or with the other, so that it
// can be used again.
type consultation struct {
	from     *profileActor
	question messages.AuthChallenge
	verdict  verdict
}

func (d *digestActor) receive(message any) bool {
	c, ok := message.(*consultation)
	if ok {
		d.consult(&c.question, &c.verdict)
		c.from.tell(c)
	}
	return ok
}

// Receive takes the questions of sessions.
func (d *digestActor) Receive(ctx actor.Context) {
	switch q := ctx.Message().(type) {
	case *actor.Stopped:
		d.mailbox.end()
	case *messages.AuthChallenge:
		v := new(verdict)
		d.consult(q, v)
		v.ref = q.GetRef()
		ctx.Respond(v)
	}
}

// consult answers whatever happens: nothing watches over the time that the
// DigestActor takes.
func (d *digestActor) consult(q *messages.AuthChallenge, v *verdict) {
	defer func() {
		if recover() != nil {
			*v = verdict{failure: messages.ReasonHandler, outcome: outcomeError, detail: "it panicked"}
		}
		v.handler = messages.DigestHandler
	}()
	c, ok := d.credentials.Credential(q.GetProfileId())
	if !ok {
		v.refuse(messages.ReasonNoCredentials)
		return
	}
	username := c.Username
	if username == "" {
		username = messages.UserPart(q.GetAor())
	}
	answer, refusal := digest.Answer(q, digest.Credential{Username: username, Password: c.Password, HA1: c.HA1},
		func(_ int, sess bool, realm, nonce string) string {
			return d.cnonce(q.GetProfileId(), sess, realm, nonce)
		})
	if refusal != nil {
		v.refuse(messages.Reason(refusal.GetReason()))
		return
	}
	v.answer, v.checked.Unanswered, v.outcome = answer, unanswered(q, answer), outcomeAnswered
}

// refuse makes it the DigestActor's refusal, whose reason is one of ours.
func (v *verdict) refuse(reason messages.Reason) {
	v.refusal, v.outcome = &xsp.Refusal{Reason: string(reason)}, outcomeRefused
}

// unanswered are the challenges of realms that none of an answer's is for. The
// DigestActor answers each realm once, and what it writes needs no check.
func unanswered(q *messages.AuthChallenge, a *messages.AuthAnswer) []*messages.Challenge {
	var left []*messages.Challenge
	asked := q.GetChallenges()
	sameRealm := func(c, d *messages.Challenge) bool {
		return c.GetSpace() == d.GetSpace() && c.GetRealm() == d.GetRealm()
	}
	for i, c := range asked {
		if i > 0 && slices.ContainsFunc(asked[:i], func(d *messages.Challenge) bool { return sameRealm(c, d) }) {
			continue
		}
		if !slices.ContainsFunc(a.GetAnswered(), func(k uint32) bool { return int(k) < len(asked) && sameRealm(c, asked[k]) }) {
			left = append(left, c)
		}
	}
	return left
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
