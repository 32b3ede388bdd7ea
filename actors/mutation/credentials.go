package mutation

import (
	"errors"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Faults of a header's credentials; the name of the header goes before.
var (
	errNotCredentials = errors.New("has a value that is not credentials")
	errNotAsked       = errors.New("has credentials of a scheme and realm that no challenge asked for")
	errAlgorithm      = errors.New("has an algorithm that no challenge of the realm offered")
	errNonce          = errors.New("has a nonce that no challenge of the realm gave")
	errNotListed      = errors.New("has credentials without a realm, and no challenge of their scheme is listed as answered")
	errTwice          = errors.New("has second credentials for a realm")
)

// space is the protection space that a credentials header belongs to.
func space(name string) messages.Space {
	if name == proxyAuthorization {
		return messages.Space_PROXY
	}
	return messages.Space_ORIGIN
}

// parse reads the value of a credentials header. Credentials have the grammar
// of challenges, so that Digest credentials without a realm or nonce are none;
// only a token68 (RFC 7235 §2.1) has no place there. That is one text without
// parameters, such as a Bearer token.
func parse(value string) (challenge.Parsed, error) {
	scheme, rest, _ := strings.Cut(strings.Trim(value, " \t"), " ")
	if challenge.IsToken(scheme) && isToken68(strings.Trim(rest, " \t")) {
		c := challenge.Parsed{Scheme: scheme}
		if c.IsDigest() {
			return challenge.Parsed{}, errNotCredentials
		}
		return c, nil
	}
	c, err := challenge.Parse(value)
	if err != nil {
		return challenge.Parsed{}, errNotCredentials
	}
	// Which of two a server takes is a guess, so each stands once (RFC 7235
	// §2.1).
	for i, p := range c.Params {
		if slices.ContainsFunc(c.Params[:i], func(q challenge.Param) bool { return q.Name == p.Name }) {
			return challenge.Parsed{}, errNotCredentials
		}
	}
	return c, nil
}

// isToken68 tells a token68 of RFC 7235 §2.1.
func isToken68(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !isAlphanum(s[i]) && strings.IndexByte("-._~+/", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// belongs finds the challenges, all of one space, that credentials answer. With
// a realm they must be of its scheme (S-02), and Digest credentials also of its
// nonce and of an algorithm that was offered with it (S-13). Without a realm
// they answer what the authenticator says they do: the challenges of their
// scheme among those that it lists as answered.
func belongs(c challenge.Parsed, asked, listed []*messages.Challenge) ([]*messages.Challenge, error) {
	realm, bound := c.Get("realm")
	if !bound {
		asked = listed
	}
	found := only(asked, func(q *messages.Challenge) bool {
		return strings.EqualFold(q.GetScheme(), c.Scheme) && (!bound || q.GetRealm() == realm)
	})
	switch {
	case len(found) == 0 && !bound:
		return nil, errNotListed
	case len(found) == 0:
		return nil, errNotAsked
	case !c.IsDigest():
		return found, nil
	}
	if algorithm, named := c.Get("algorithm"); named {
		found = only(found, func(q *messages.Challenge) bool {
			return sameAlgorithm(algorithm, q.GetParams()["algorithm"])
		})
		if len(found) == 0 {
			return nil, errAlgorithm
		}
	}
	found = only(found, func(q *messages.Challenge) bool { return q.GetParams()["nonce"] == c.Nonce() })
	if len(found) == 0 {
		return nil, errNonce
	}
	return found, nil
}

// sameAlgorithm compares without case; a challenge without an algorithm offers
// MD5 (RFC 7616 §3.3).
func sameAlgorithm(named, offered string) bool {
	offered = challenge.CanonicalAlgorithm(offered)
	// Equal lengths rule out the letters outside ASCII that fold into it.
	return len(named) == len(offered) && strings.EqualFold(named, offered)
}

func only(list []*messages.Challenge, keep func(*messages.Challenge) bool) []*messages.Challenge {
	var out []*messages.Challenge
	for _, q := range list {
		if keep(q) {
			out = append(out, q)
		}
	}
	return out
}
