package challenge

import "github.com/sipmuster/muster/messages"

// offer is a challenge that may be answered, and what is weighed of it.
type offer struct {
	space messages.Space
	realm string
	nonce string
	raw   string
	// strength is that of its algorithm; 0 for what is not Digest.
	strength uint32
	stale    bool
	// expired is true when a bearer token was no longer valid (RFC 6750 §3.1,
	// RFC 8898 §2.1.1): another one may be.
	expired bool
	// place is where it stands in its response.
	place int
}

// offerRoom is for the offers of the usual response.
type offerRoom [2]offer

func offerOf(space messages.Space, f *Fields, raw string, place int) offer {
	o := offer{space: space, realm: f.Realm(), nonce: f.Nonce(), raw: raw, stale: f.Stale(), place: place}
	if f.Digest {
		o.strength = uint32(Strength(f.Algorithm()))
	} else {
		o.expired = f.expired()
	}
	return o
}

// appendOffers takes apart the challenges of a response that no reason
// ignores. Those that do not parse are left out.
func appendOffers(offers []offer, received []*messages.RecordedChallenge) []offer {
	for i, c := range received {
		if c.GetIgnored() != "" {
			continue
		}
		var f Fields
		if f.Read(c.GetRaw()) == nil {
			offers = append(offers, offerOf(c.GetSpace(), &f, c.GetRaw(), i))
		}
	}
	return offers
}

func (o *offer) sameRealm(p *offer) bool { return o.space == p.space && o.realm == p.realm }

// leads tells whether offer i is the first of its realm: what is judged by
// realm is judged once.
func leads(offers []offer, i int) bool {
	for j := range i {
		if offers[j].sameRealm(&offers[i]) {
			return false
		}
	}
	return true
}

// ofRealm is what the offers of one realm say together.
type ofRealm struct {
	stale, expired bool
	strongest      uint32
	count          int
}

func sumUp(offers []offer, lead *offer) ofRealm {
	var sum ofRealm
	for i := range offers {
		if o := &offers[i]; o.sameRealm(lead) {
			sum.stale, sum.expired = sum.stale || o.stale, sum.expired || o.expired
			sum.strongest = max(sum.strongest, o.strength)
			sum.count++
		}
	}
	return sum
}

// sharesNonce tells whether a nonce of known challenges came back in the
// realm. It ignores schemes without a nonce: a Bearer token that was refused
// may just have run out.
func sharesNonce(known []string, offers []offer, lead *offer) bool {
	for _, raw := range known {
		nonce := NonceOf(raw)
		if nonce == "" {
			continue
		}
		for i := range offers {
			if o := &offers[i]; o.nonce == nonce && o.sameRealm(lead) {
				return true
			}
		}
	}
	return false
}
