package aka

import (
	"strings"
	"unicode/utf8"

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
	if headerName(ch.GetSpace()) == "" || !strings.EqualFold(ch.GetScheme(), "Digest") {
		return choice{}, false
	}
	if !echoable(params["nonce"]) || !echoable(ch.GetRealm()) || !echoable(params["opaque"]) {
		return choice{}, false
	}
	var ok bool
	if o.algorithm, ok = algorithmByName(params["algorithm"]); !ok {
		return choice{}, false
	}
	if o.qop, ok = chooseQOP(params["qop"]); !ok {
		return choice{}, false
	}
	var err error
	if o.nonce, err = ParseNonce(params["nonce"]); err != nil {
		return choice{}, false
	}
	return o, true
}

// chooseQOP prefers auth, which needs no body hash, then auth-int. A list with
// unknown values only is not answerable (CHA-31); no list, or an empty one, is
// the form without qop (CHA-32).
func chooseQOP(offered string) (string, bool) {
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

// headerName is the header that answers a challenge of the space (CHA-01).
func headerName(s messages.Space) string {
	switch s {
	case messages.Space_ORIGIN:
		return "Authorization"
	case messages.Space_PROXY:
		return "Proxy-Authorization"
	default:
		return ""
	}
}

// echoable tells whether text of the peer may go into a quoted string of ours:
// UTF-8 without control bytes but HTAB (S-51, S-52).
func echoable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}
