package bearer

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// Bounds of what is taken from others.
const (
	maxScopeBytes = 1 << 10 // the scope of a challenge
	maxTokenBytes = 8 << 10 // a token, which must fit a SIP message beside all else
)

// doubt is what a question says about the token that its profile has.
type doubt int

const (
	// accepted: the request has not left yet, and the last one was accepted.
	accepted doubt = iota
	// unknown: nothing was said.
	unknown
	// suspected: the challenge says that a token was not valid. It may be
	// left from an earlier round of the same request.
	suspected
	// rejected: credentials of this request were refused.
	rejected
)

// Answer implements xsp.Authenticator. Of each realm the first Bearer challenge
// that can be answered is (RFC 8898 §2.1.3, §2.1.4); other schemes are left
// alone (BEA-05). The realms that it can answer are answered, whatever becomes
// of the others.
func (p *Provider) Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	type want struct {
		challenge *messages.Challenge
		key       key
	}
	var (
		wants  []want
		doubts = make(map[key]doubt)
		first  error // refusal
	)
	for _, c := range q.GetChallenges() {
		if !strings.EqualFold(c.GetScheme(), "Bearer") {
			continue
		}
		k, err := p.keyOf(q, c)
		if err != nil {
			first = firstOf(first, err)
			continue
		}
		wants = append(wants, want{c, k})
		doubts[k] = max(doubts[k], doubtOf(q, c))
	}
	a := &messages.AuthAnswer{Ref: q.GetRef(), Preemptive: true} // RFC 8898 §2.1.3: a token may be used again
	tokens := make(map[key]string)
	done := make(map[realm]bool)
	for _, w := range wants {
		r := realm{w.challenge.GetSpace(), w.challenge.GetRealm()}
		if done[r] {
			continue
		}
		token, asked := tokens[w.key]
		if !asked {
			var err error
			token, err = p.token(ctx, w.key, q.GetProfileId(), doubts[w.key])
			if _, refused := errors.AsType[*xsp.Refusal](err); refused {
				first = firstOf(first, err)
			} else if err != nil {
				return nil, err
			}
			tokens[w.key] = token
		}
		if token == "" {
			continue // refused
		}
		done[r] = true
		a.AddCredentials(w.challenge, "Bearer "+token)
	}
	if len(a.Answered) == 0 {
		return nil, firstOf(first, xsp.Refuse("no Bearer challenge", 0))
	}
	return a, nil
}

type realm struct {
	space messages.Space
	name  string
}

func firstOf(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

// doubtOf judges only the challenges of the response at hand: a question also
// repeats those that the request has answered in an earlier round, as they
// stood then.
func doubtOf(q *messages.AuthChallenge, c *messages.Challenge) doubt {
	asked := messages.Space_ORIGIN
	if q.GetStatusCode() == http.StatusProxyAuthRequired {
		asked = messages.Space_PROXY
	}
	switch {
	case q.GetStatusCode() == 0:
		return accepted
	case c.GetSpace() != asked:
		return unknown
	case q.GetRejected():
		return rejected
	case c.GetParams()["error"] == "invalid_token": // RFC 6750 §3.1
		return suspected
	}
	return unknown
}

// keyOf says which token a challenge asks for, or refuses. An authorization
// server is contacted only when it is trusted (BEA-01).
func (p *Provider) keyOf(q *messages.AuthChallenge, c *messages.Challenge) (key, error) {
	s := p.only
	if named, ok := c.GetParams()["authz_server"]; ok {
		u, err := canonical(named)
		if err != nil {
			return key{}, xsp.Refuse("authz_server is not the URL of an authorization server", 0)
		}
		s = p.servers[u.String()]
		if s == nil {
			return key{}, xsp.Refuse("authz_server is not one of the trusted_servers", 0)
		}
	}
	if s == nil {
		return key{}, xsp.Refuse("the challenge names no authz_server and trusted_servers has several", 0)
	}
	k := key{server: s}
	scopes := p.options.Scopes
	if len(scopes) == 0 {
		offered := c.GetParams()["scope"]
		if !validScope(offered) {
			return key{}, xsp.Refuse("the scope of the challenge is not one", 0)
		}
		scopes = strings.Fields(offered)
	}
	k.scope = joinScopes(scopes)
	if p.refresh != nil {
		k.profile = q.GetProfileId()
	}
	return k, nil
}

// joinScopes puts scopes into one order, which has no meaning (RFC 6749 §3.3).
func joinScopes(scopes []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(scopes))), " ")
}

// validScope: printable ASCII but for the double quote and the backslash, in
// words (RFC 6749 §3.3). No scope is one.
func validScope(scope string) bool {
	return len(scope) <= maxScopeBytes && !strings.ContainsFunc(scope, func(r rune) bool {
		return r < ' ' || r > '~' || r == '"' || r == '\\'
	})
}

// validToken is token68 (RFC 6750 §2.1, RFC 9110 §11.2): nothing that ends a
// header line or begins a parameter.
func validToken(token string) bool {
	body := strings.TrimRight(token, "=")
	return body != "" && len(token) <= maxTokenBytes && !strings.ContainsFunc(body, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("-._~+/", r)
	})
}
