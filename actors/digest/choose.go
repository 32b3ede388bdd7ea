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
	// algorithmName and opaque are echoed.
	algorithmName, opaque string
	opaqueReceived        bool
	utf8, userhash        bool
	qop                   string
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
	for i := range chosen {
		o := &chosen[i]
		if o.challenge.GetSpace() == ch.GetSpace() && o.challenge.GetRealm() == ch.GetRealm() {
			return true
		}
	}
	return false
}

// offer is what counts of a challenge.
type offer struct {
	scheme                                           string
	nonce, algorithm, qop, opaque, charset, userhash string
	opaqueReceived                                   bool
}

// offerOf takes a challenge without parameters apart: so the DigestActor is
// asked, which needs no map of them.
func offerOf(ch *messages.Challenge) (o offer, ok bool) {
	if p := ch.GetParams(); p != nil || ch.GetScheme() != "" {
		o = offer{scheme: ch.GetScheme(), nonce: p["nonce"], algorithm: p["algorithm"], qop: p["qop"], charset: p["charset"], userhash: p["userhash"]}
		o.opaque, o.opaqueReceived = p["opaque"]
		return o, true
	}
	var f challenge.Fields
	if f.Read(ch.GetRaw()) != nil {
		return offer{}, false
	}
	o = offer{scheme: f.Scheme, nonce: f.Nonce(), algorithm: f.Algorithm(), qop: f.QOP(), charset: f.Charset(), userhash: f.Userhash()}
	o.opaque, o.opaqueReceived = f.Opaque()
	return o, true
}

// understand tells whether, and how, a challenge can be answered at all.
func understand(ch *messages.Challenge) (choice, bool) {
	offered, ok := offerOf(ch)
	if !ok || ch.GetSpace().CredentialsHeader() == "" || !strings.EqualFold(offered.scheme, "Digest") {
		return choice{}, false // CHA-27: Basic is one of them
	}
	o := choice{
		challenge: ch, nonce: offered.nonce, algorithmName: offered.algorithm,
		opaque: offered.opaque, opaqueReceived: offered.opaqueReceived,
		utf8: strings.EqualFold(offered.charset, "UTF-8"), userhash: strings.EqualFold(offered.userhash, "true"),
	}
	if o.algorithm, ok = algorithmByName(o.algorithmName); !ok {
		return choice{}, false
	}
	if o.qop, ok = ChooseQOP(offered.qop); !ok {
		return choice{}, false
	}
	if o.algorithm.sess && o.qop == qopNone {
		return choice{}, false
	}
	if o.nonce == "" || !challenge.IsFieldValue(o.nonce) || !challenge.IsFieldValue(ch.GetRealm()) || !challenge.IsFieldValue(o.opaque) {
		return choice{}, false
	}
	return o, true
}

// ChooseQOP prefers auth, which needs no body hash, then auth-int. A list with
// unknown values only is not answerable (CHA-31); no list, or an empty one, is
// the form without qop (CHA-32).
func ChooseQOP(offered string) (string, bool) {
	if offered == qopAuth {
		return qopAuth, true
	}
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
