package aka

import (
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/messages"
)

// Names of hash functions, as AuthChallenge.body_hashes and package digest
// spell them.
const (
	md5Name    = "MD5"
	sha256Name = "SHA-256"
)

const (
	qopNone    = ""
	qopAuth    = "auth"
	qopAuthInt = "auth-int"
)

// algorithm is a value of the algorithm parameter.
type algorithm struct {
	v2   bool
	hash string
}

// algorithmByName ignores case. There is no default: a challenge without an
// algorithm is plain MD5.
func algorithmByName(name string) (algorithm, bool) {
	for _, a := range []algorithm{{false, md5Name}, {true, md5Name}, {false, sha256Name}, {true, sha256Name}} {
		version := "AKAv1-"
		if a.v2 {
			version = "AKAv2-"
		}
		if strings.EqualFold(name, version+a.hash) {
			return a, true
		}
	}
	return algorithm{}, false
}

// rank orders what one realm offers: AKAv2 must be chosen before AKAv1 (RFC 4169
// §4.1, CHA-26), then the stronger hash.
func (a algorithm) rank() int {
	rank := 0
	if a.v2 {
		rank += 2
	}
	if a.hash == sha256Name {
		rank++
	}
	return rank
}

// choice is a challenge that will be answered, and how.
type choice struct {
	challenge *messages.Challenge
	nonce     Nonce
	algorithm algorithm
	qop       string
}

func (o choice) rawNonce() string { return o.challenge.GetParams()["nonce"] }

func (o choice) sameRealm(ch *messages.Challenge) bool {
	return o.challenge.GetSpace() == ch.GetSpace() && o.challenge.GetRealm() == ch.GetRealm()
}

// choose returns the best AKA challenge of each protection space and realm, in
// the order in which the realms appear, or says why there is none.
func choose(challenges []*messages.Challenge, v2Only bool) ([]choice, messages.Reason) {
	var chosen []choice
	reason := messages.ReasonChallengeUnsupported
next:
	for _, ch := range challenges {
		o, ok := understand(ch)
		if !ok {
			continue // CHA-21: the others still count
		}
		if v2Only && !o.algorithm.v2 {
			reason = messages.ReasonDowngrade // S-12
			continue
		}
		for i := range chosen {
			if chosen[i].sameRealm(ch) {
				if o.algorithm.rank() > chosen[i].algorithm.rank() {
					chosen[i] = o
				}
				continue next
			}
		}
		chosen = append(chosen, o)
	}
	if len(chosen) == 0 {
		return nil, reason
	}
	return chosen, ""
}

// understand tells whether, and how, a challenge can be answered at all. Plain
// Digest is not AKA (S-12).
func understand(ch *messages.Challenge) (choice, bool) {
	params := ch.GetParams()
	o := choice{challenge: ch}
	if ch.GetSpace().CredentialsHeader() == "" || !strings.EqualFold(ch.GetScheme(), "Digest") {
		return choice{}, false
	}
	if !challenge.IsFieldValue(params["nonce"]) || !challenge.IsFieldValue(ch.GetRealm()) || !challenge.IsFieldValue(params["opaque"]) {
		return choice{}, false
	}
	var ok bool
	if o.algorithm, ok = algorithmByName(params["algorithm"]); !ok {
		return choice{}, false
	}
	if o.qop, ok = digest.ChooseQOP(params["qop"]); !ok {
		return choice{}, false
	}
	var err error
	if o.nonce, err = ParseNonce(params["nonce"]); err != nil {
		return choice{}, false
	}
	return o, true
}
