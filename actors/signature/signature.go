// Package signature is the worked example of a procedure of one's own, and a
// useful one: requests are signed with a key that both sides know. To write
// another, copy this file, keep the steps of Answer and replace the rest;
// docs/xsp.md is the guide. Verify (verify.go) is the server's side.
//
// What is signed, with HMAC-SHA256, is the method, the Request-URI, the realm,
// the nonce and the time, joined by line feeds:
//
//	Authorization: HMAC-SHA256 keyid="k1", realm="a", nonce="n", ts="1795464000", signature="<hex>"
package signature

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// Options configure a Provider.
type Options struct {
	Key    messages.Secret
	KeyID  string           // tells the server which key it is
	Scheme string           // of the challenges; empty means HMAC-SHA256
	Header string           // also gets "t=<unix>,v1=<hex>"; the xSP's configuration must list it
	Now    func() time.Time // nil means time.Now
}

// Provider signs requests. It remembers nothing, so it is safe for concurrent
// use.
type Provider struct{ o Options }

// New checks the options once, so that Answer can rely on them.
func New(o Options) (*Provider, error) {
	if o.Scheme == "" {
		o.Scheme = "HMAC-SHA256"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Key.Empty():
		return nil, errors.New("key: is missing")
	case !echoable(o.KeyID):
		return nil, errors.New("keyid: has control characters")
	case !isToken(o.Scheme):
		return nil, errors.New("scheme: is not a token (RFC 3261 §25.1)")
	case o.Header != "" && !isToken(o.Header):
		return nil, errors.New("header: is not the name of a header")
	}
	return &Provider{o}, nil
}

// Answer implements xsp.Authenticator.
func (p *Provider) Answer(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	// Preemptive: without a nonce, nothing of the server's is in an answer, so
	// the next refresh can carry one at once.
	a := &messages.AuthAnswer{Ref: q.GetRef(), Preemptive: true}
	ops := map[messages.Space]messages.Op{} // SET replaces what is there, ADD adds a line of its own
	for _, c := range q.GetChallenges() {
		// Other schemes are somebody else's; so is what cannot be echoed.
		if !strings.EqualFold(c.GetScheme(), p.o.Scheme) || !echoable(c.GetRealm()) || !echoable(c.GetParams()["nonce"]) {
			continue
		}
		nonce, hasNonce := c.GetParams()["nonce"]
		ts := strconv.FormatInt(p.o.Now().Unix(), 10)
		sum := sign(p.o.Key, q.GetMethod(), q.GetRequestUri(), c.GetRealm(), nonce, ts)
		if p.o.Header != "" && len(a.Answered) == 0 { // one line, of the first challenge
			a.Mutations = append(a.Mutations, &messages.HeaderMutation{Op: messages.Op_SET, Name: p.o.Header, Value: "t=" + ts + ",v1=" + sum})
		}
		// 401 and 407 are answered by different headers (RFC 3261 §22.2, §22.3).
		name := "Authorization"
		if c.GetSpace() == messages.Space_PROXY {
			name = "Proxy-Authorization"
		}
		op := max(ops[c.GetSpace()], messages.Op_SET)
		ops[c.GetSpace()] = messages.Op_ADD
		value := fmt.Sprintf(`%s keyid=%s, realm=%s, nonce=%s, ts="%s", signature="%s"`,
			p.o.Scheme, quote(p.o.KeyID), quote(c.GetRealm()), quote(nonce), ts, sum)
		a.Mutations = append(a.Mutations, &messages.HeaderMutation{Op: op, Name: name, Value: value})
		a.Answered = append(a.Answered, c.GetIndex())
		a.Preemptive = a.Preemptive && !hasNonce
	}
	if len(a.Answered) == 0 { // on purpose, unlike an error: the next handler is asked
		return nil, xsp.Refuse("no challenge of the scheme "+p.o.Scheme, 0)
	}
	return a, nil
}

// sign needs parts without line feeds, or two requests could have one signature.
func sign(key messages.Secret, parts ...string) string {
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	mac.Write([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(mac.Sum(nil))
}

// echoable keeps header lines from being split.
func echoable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' })
}

// quote is a quoted-string (RFC 3261 §25.1).
func quote(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

func isToken(s string) bool {
	const token = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`'~" // RFC 3261 §25.1
	return s != "" && strings.Trim(s, token) == ""
}
