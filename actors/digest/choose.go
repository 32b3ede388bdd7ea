package digest

import (
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Qualities of protection (RFC 7616 §3.4). qopNone is the form of RFC 2617
// §3.2.2.1 without qop, nc and cnonce.
const (
	qopNone    = ""
	qopAuth    = "auth"
	qopAuthInt = "auth-int"
)

// choice is a challenge that will be answered, and how.
type choice struct {
	challenge *messages.Challenge
	nonce     string
	algorithm algorithm
	qop       string
}

// choose appends to chosen, for each protection space and realm, the topmost
// challenge that can be answered (CHA-20, CHA-22). If there is none, it says
// why.
func choose(chosen []choice, challenges []*messages.Challenge, c Credential) ([]choice, messages.Reason) {
	if c.Username == "" || c.Password.Empty() && c.HA1.Empty() || !validUsername(c.Username) {
		return nil, messages.ReasonNoCredentials
	}
	reason := messages.ReasonChallengeUnsupported
	for _, ch := range challenges {
		if answersRealm(chosen, ch) {
			continue
		}
		o, ok := understand(ch)
		if !ok {
			continue // CHA-21: the others still count
		}
		// DIG-15: a stored hash serves only its own algorithm.
		if c.Password.Empty() && !isHA1(c.HA1.Reveal(), o.algorithm) {
			reason = messages.ReasonHA1Mismatch
			continue
		}
		chosen = append(chosen, o)
	}
	if len(chosen) == 0 {
		return nil, reason
	}
	return chosen, ""
}

func answersRealm(chosen []choice, ch *messages.Challenge) bool {
	for _, o := range chosen {
		if o.challenge.GetSpace() == ch.GetSpace() && o.challenge.GetRealm() == ch.GetRealm() {
			return true
		}
	}
	return false
}

// understand tells whether, and how, a challenge can be answered at all.
func understand(ch *messages.Challenge) (choice, bool) {
	if ch.GetSpace().CredentialsHeader() == "" || !strings.EqualFold(ch.GetScheme(), "Digest") {
		return choice{}, false // CHA-27: Basic is one of them
	}
	params := ch.GetParams()
	o := choice{challenge: ch, nonce: params["nonce"]}
	var ok bool
	if o.algorithm, ok = algorithmByName(params["algorithm"]); !ok {
		return choice{}, false
	}
	if o.qop, ok = ChooseQOP(params["qop"]); !ok {
		return choice{}, false
	}
	if o.algorithm.sess && o.qop == qopNone {
		return choice{}, false
	}
	if o.nonce == "" || !challenge.IsFieldValue(o.nonce) || !challenge.IsFieldValue(ch.GetRealm()) || !challenge.IsFieldValue(params["opaque"]) {
		return choice{}, false
	}
	return o, true
}

// ChooseQOP prefers auth, which needs no body hash, then auth-int. A list with
// unknown values only is not answerable (CHA-31); no list, or an empty one, is
// the form without qop (CHA-32).
func ChooseQOP(offered string) (string, bool) {
	if strings.Trim(offered, " \t,") == "" {
		return qopNone, true
	}
	integrity := false
	for v := range strings.SplitSeq(offered, ",") {
		switch v = strings.Trim(v, " \t"); {
		case strings.EqualFold(v, qopAuth):
			return qopAuth, true
		case strings.EqualFold(v, qopAuthInt):
			integrity = true
		}
	}
	return qopAuthInt, integrity
}

// isHA1 tells whether the value can be a hash of the algorithm: the right
// length, hex digits only.
func isHA1(value string, a algorithm) bool {
	if len(value) != a.hash.hexLen() {
		return false
	}
	for i := range len(value) {
		c := value[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
